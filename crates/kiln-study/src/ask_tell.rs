//! enqueue, ask, tell.

use std::io::Write;

use clap::Args;
use serde_json::json;

use super::output::{params_json, print_json, trial_json};
use super::search::SearchArgs;
use super::space::{ParamSpec, parse_param, parse_value, parse_value_of, space};
use super::{CliResult, Failure, StudyArgs, parse_pair};
use kiln_tune::distribution::{Distribution, ParamValue};
use kiln_tune::error::Error;
use kiln_tune::json::Json;
use kiln_tune::study::{MAX_DUPLICATES, Outcome, Study, StudyBuilder, TellOptions};
use kiln_tune::trial::{ParamSpace, TrialState};

/// Settings of `enqueue`.
#[derive(Debug, Args)]
pub struct Enqueue {
    #[command(flatten)]
    study: StudyArgs,
    /// A parameter of the trial; what is not given is sampled
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_pair)]
    set: Vec<(String, String)>,
    /// All parameters as a JSON object
    #[arg(long, value_name = "JSON", conflicts_with = "set")]
    params: Option<String>,
    /// A note on the trial (text or JSON)
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    user_attr: Vec<(String, String)>,
    /// Do nothing when a trial with these parameters exists
    #[arg(long)]
    skip_if_exists: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

impl Enqueue {
    pub(crate) fn execute(self, out: &mut dyn Write) -> CliResult {
        let mut given: Vec<(String, Given)> = Vec::new();
        for (name, text) in self.set {
            given.push((name, Given::Text(text)));
        }
        if let Some(text) = &self.params {
            let json =
                Json::parse(text).map_err(|error| Failure::Usage(format!("--params: {error}")))?;
            let object = json.as_object().ok_or_else(|| {
                Failure::Usage(format!("--params must be a JSON object, but got {json}"))
            })?;
            for (name, value) in object {
                let value = ParamValue::from_json(value)
                    .map_err(|error| Failure::Usage(format!("--params: {name}: {error}")))?;
                given.push((name.clone(), Given::Value(value)));
            }
        }
        if given.is_empty() {
            return Err(Failure::Usage(
                "no parameter is given; write --set NAME=VALUE".to_owned(),
            ));
        }
        let attr = |text: &str| Json::parse(text).unwrap_or_else(|_| text.into());
        let attrs = self
            .user_attr
            .iter()
            .map(|(name, value)| (name.clone(), attr(value)))
            .collect();
        let study = self.study.load()?;
        let params = given
            .into_iter()
            .map(|(name, given)| Ok((name.clone(), checked(&study, &name, given)?)))
            .collect::<CliResult<Vec<_>>>()?;
        let enqueued = study.enqueue(params, attrs, self.skip_if_exists)?;
        if self.json {
            print_json(out, &json!({ "enqueued": enqueued }))?;
        } else if !enqueued {
            writeln!(out, "a trial with these parameters exists already")?;
        }
        Ok(())
    }
}

/// A value as it was given.
enum Given {
    Text(String),
    Value(ParamValue),
}

/// The value for a parameter of the study. What earlier trials suggested it from says how text is read, and what is
/// refused; a value outside of the range is used nevertheless, as Optuna does.
fn checked(study: &Study, name: &str, given: Given) -> CliResult<ParamValue> {
    let Some(distribution) = study.known_distribution(name)? else {
        return Ok(match given {
            Given::Text(text) => parse_value(&text),
            Given::Value(value) => value,
        });
    };
    let value = match given {
        Given::Text(text) => parse_value_of(&text, &distribution),
        Given::Value(value) => value,
    };
    let internal = distribution
        .to_internal(&value)
        .map_err(|error| Failure::Usage(format!("{name}: {error}")))?;
    if matches!(*distribution, Distribution::Int(_))
        && matches!(value, ParamValue::Int(_))
        && distribution.to_external(internal) != value
    {
        return Err(Failure::Usage(format!(
            "{name}: {value} of {distribution} would be stored as {}, since values are stored as floats",
            distribution.to_external(internal)
        )));
    }
    if !distribution.contains(internal) {
        log::warn!("the value {value} of parameter {name:?} is outside of {distribution}");
    }
    Ok(value)
}

/// Settings of `ask`.
#[derive(Debug, Args)]
pub struct Ask {
    #[command(flatten)]
    study: StudyArgs,
    /// A parameter: NAME=float:LOW..HIGH[:log|:step=S], NAME=int:LOW..HIGH[:log|:step=S] or NAME=choice:A,B,C
    #[arg(long, short, value_name = "SPEC", value_parser = parse_param)]
    param: Vec<ParamSpec>,
    /// The search space as a JSON object of Optuna's distributions by name
    #[arg(long, value_name = "JSON", conflicts_with = "param")]
    search_space: Option<String>,
    #[command(flatten)]
    search: SearchArgs,
    /// Give parameters that a complete trial has its values at once, and start another trial
    #[arg(long)]
    skip_duplicates: bool,
    /// Print the result as one JSON object, which it always is
    #[arg(long)]
    json: bool,
}

impl Ask {
    pub(crate) fn execute(self, out: &mut dyn Write) -> CliResult {
        let mut space = space(&self.param).map_err(Failure::Usage)?;
        if let Some(text) = &self.search_space {
            space = read_space(text)?;
        }
        let study = self
            .study
            .load_with(self.search.apply(StudyBuilder::new(), &space)?)?;
        study.check_space(&space)?;
        for _ in 0..MAX_DUPLICATES {
            let mut trial = study.ask()?;
            for (name, distribution) in space.iter() {
                if let Err(error) = trial.suggest(name, (**distribution).clone()) {
                    // Nobody is told the number of this trial, so that it would run for ever.
                    study.tell(trial, Outcome::Fail)?;
                    return Err(error.into());
                }
            }
            if self.skip_duplicates {
                match trial.skip_duplicate() {
                    Ok(()) => {}
                    Err(Error::Duplicate(earlier)) => {
                        let record = study.tell(trial, earlier.values)?;
                        if study.is_exhausted(&record)? {
                            return Err(Failure::message(
                                "all combinations of the parameters are complete; leave --skip-duplicates out to try one again",
                            ));
                        }
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            return Ok(print_json(
                out,
                &json!({ "number": trial.number(), "params": params_json(trial.record()) }),
            )?);
        }
        Err(Failure::message(format!(
            "{MAX_DUPLICATES} trials in a row had the parameters of complete ones; the space has been searched, or leave --skip-duplicates out"
        )))
    }
}

fn read_space(text: &str) -> CliResult<ParamSpace> {
    let json =
        Json::parse(text).map_err(|error| Failure::Usage(format!("--search-space: {error}")))?;
    let object = json.as_object().ok_or_else(|| {
        Failure::Usage(format!(
            "--search-space must be a JSON object, but got {json}"
        ))
    })?;
    object
        .iter()
        .map(|(name, value)| {
            let distribution = Distribution::from_json(value)
                .map_err(|error| Failure::Usage(format!("--search-space: {name}: {error}")))?;
            Ok((name.as_str(), distribution))
        })
        .collect()
}

/// Settings of `tell`.
#[derive(Debug, Args)]
pub struct Tell {
    #[command(flatten)]
    study: StudyArgs,
    /// Number of the trial
    #[arg(long, alias = "trial-number", value_name = "NUMBER")]
    trial: u64,
    /// Value of the objective; once per objective
    #[arg(long, alias = "values", value_name = "VALUE", num_args = 1.., allow_negative_numbers = true)]
    value: Vec<f64>,
    /// State of the trial: complete, pruned or fail [default: complete if there is a usable value, otherwise fail]
    #[arg(long, value_name = "STATE")]
    state: Option<TrialState>,
    /// Succeed when the trial is finished already
    #[arg(long)]
    skip_if_finished: bool,
    /// Print the trial as one JSON object
    #[arg(long)]
    json: bool,
}

impl Tell {
    pub(crate) fn execute(self, out: &mut dyn Write) -> CliResult {
        if self.value.is_empty() && self.state.is_none() {
            return Err(Failure::Usage(
                "nothing is told; write --value VALUE, or --state pruned or fail".to_owned(),
            ));
        }
        let values = (!self.value.is_empty()).then_some(self.value);
        let options = TellOptions {
            values,
            state: self.state,
            skip_if_finished: self.skip_if_finished,
        };
        let trial = self.study.load()?.tell_with(self.trial, options)?;
        if self.json {
            print_json(out, &trial_json(&trial))?;
        }
        Ok(())
    }
}
