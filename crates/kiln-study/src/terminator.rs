//! What ends a run besides its number of trials and its time.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, ValueEnum};

use super::search::Settings;
use super::{CliResult, Failure};
use kiln_tune::error::{Error, Result};
use kiln_tune::printable;
use kiln_tune::study::{Study, StudyDirection};
use kiln_tune::terminator::{
    BaseTerminator, BestValueStagnationEvaluator, CrossValidationErrorEvaluator,
    DEFAULT_MIN_N_TRIALS, EmmrEvaluator, ErrorEvaluator, ImprovementEvaluator,
    MedianErrorEvaluator, NoBetterTerminator, RegretBoundEvaluator, StaticErrorEvaluator,
    TargetTerminator, Terminator,
};
use kiln_tune::trial::FrozenTrial;

/// A terminator with its settings.
#[derive(Debug, Args)]
pub(crate) struct TerminatorArgs {
    /// End when less is left to gain than the values are exact, as judged by
    #[arg(long, value_enum)]
    pub(crate) terminator: Option<TerminatorName>,
    /// Settings of the terminator, such as '{"min_n_trials": 30, "error": 0.01}'; `error` is how exact the values are
    #[arg(long, value_name = "JSON", requires = "terminator")]
    terminator_kwargs: Option<String>,
}

/// What a terminator takes for the possible improvement.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum TerminatorName {
    /// An upper bound of the regret; the error is that of the best trial's cross-validation scores, or `error`
    #[value(alias = "RegretBoundEvaluator")]
    RegretBound,
    /// The expected minimum model regret; the error is a hundredth of its first median, or `error`
    #[value(alias = "EMMREvaluator")]
    Emmr,
    /// How long the best value may still stand, `max_stagnation_trials` at most
    #[value(alias = "BestValueStagnationEvaluator")]
    Stagnation,
}

/// The two numbers that a terminator compares, and from when on.
pub(crate) struct Evaluators {
    pub(crate) improvement: Arc<dyn ImprovementEvaluator>,
    pub(crate) error: Arc<dyn ErrorEvaluator>,
    pub(crate) min_n_trials: usize,
}

impl TerminatorArgs {
    /// The evaluators of the terminator that is named, or of the default one.
    pub(crate) fn evaluators(&self, seed: Option<u64>) -> CliResult<Evaluators> {
        let name = self.terminator.unwrap_or(TerminatorName::RegretBound);
        let mut s = Settings::new("--terminator-kwargs", self.terminator_kwargs.as_deref())?;
        let min_n_trials = s.get("min_n_trials")?.unwrap_or(DEFAULT_MIN_N_TRIALS);
        let constant: Option<f64> = s.get("error")?;
        let seed = s.get("seed")?.or(seed);
        let (improvement, error): (Arc<dyn ImprovementEvaluator>, Arc<dyn ErrorEvaluator>) =
            match name {
                TerminatorName::RegretBound => {
                    let r = RegretBoundEvaluator::new();
                    let r = seed.into_iter().fold(r, RegretBoundEvaluator::seed);
                    let ratio = RegretBoundEvaluator::top_trials_ratio;
                    let r = s.try_set(r, "top_trials_ratio", ratio)?;
                    (Arc::new(r), Arc::new(PrintedScores))
                }
                TerminatorName::Emmr => {
                    let e = EmmrEvaluator::new();
                    let e = seed.into_iter().fold(e, EmmrEvaluator::seed);
                    let deterministic = EmmrEvaluator::deterministic_objective;
                    let e = s.set(e, "deterministic_objective", deterministic)?;
                    let e = Arc::new(s.try_set(e, "delta", EmmrEvaluator::delta)?);
                    let m = MedianErrorEvaluator::new(e.clone());
                    let m = s.set(m, "warm_up_trials", MedianErrorEvaluator::warm_up_trials)?;
                    let initial = MedianErrorEvaluator::n_initial_trials;
                    let m = s.try_set(m, "n_initial_trials", initial)?;
                    let ratio = MedianErrorEvaluator::threshold_ratio;
                    (e, Arc::new(s.try_set(m, "threshold_ratio", ratio)?))
                }
                TerminatorName::Stagnation => {
                    let most = s.get("max_stagnation_trials")?.unwrap_or(30);
                    let stagnation = BestValueStagnationEvaluator::new(most);
                    (
                        Arc::new(stagnation),
                        Arc::new(StaticErrorEvaluator::new(0.0)),
                    )
                }
            };
        s.finish("the terminator")?;
        let error = match constant {
            Some(constant) => Arc::new(StaticErrorEvaluator::new(constant)),
            None => error,
        };
        Ok(Evaluators {
            improvement,
            error,
            min_n_trials,
        })
    }
}

/// The error of the scores that a program printed.
struct PrintedScores;

impl ErrorEvaluator for PrintedScores {
    fn evaluate(&self, trials: &[Arc<FrozenTrial>], direction: StudyDirection) -> Result<f64> {
        let error = CrossValidationErrorEvaluator.evaluate(trials, direction);
        error.map_err(|error| match error {
            Error::InvalidArgument(_) => Error::invalid(
                "--terminator regret-bound needs the cross-validation scores of the best trial, which has none: let the program print {\"value\": 0.25, \"cv_scores\": [0.2, 0.3]}, or write --terminator-kwargs '{\"error\": 0.01}'",
            ),
            other => other,
        })
    }
}

/// What ends a run by what its trials have brought.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    terminator: TerminatorArgs,
    /// End when N trials, one after the other, brought nothing better
    #[arg(long, value_name = "N")]
    stop_when_no_better: Option<usize>,
    /// End when a trial reaches this value; once per objective
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true)]
    target: Vec<f64>,
}

/// A rule with what it says when it ends a run.
pub(crate) type Rule = (Arc<dyn BaseTerminator>, String);

impl StopArgs {
    /// Whether anything here ends a run.
    pub(crate) fn is_given(&self) -> bool {
        self.terminator.terminator.is_some()
            || self.stop_when_no_better.is_some()
            || !self.target.is_empty()
    }

    /// The rules that are given, for this study.
    pub(crate) fn rules(&self, study: &Study, seed: Option<u64>) -> CliResult<Vec<Rule>> {
        let usage = |error: Error| Failure::Usage(error.to_string());
        let n_objectives = study.directions().len();
        let mut rules: Vec<Rule> = Vec::new();
        if self.terminator.terminator.is_some() {
            if n_objectives > 1 {
                return Err(Failure::Usage(format!(
                    "--terminator needs a study with one objective, but this one has {n_objectives}; write --stop-when-no-better N"
                )));
            }
            let evaluators = self.terminator.evaluators(seed)?;
            let terminator = Terminator::new(evaluators.improvement, evaluators.error);
            let terminator = terminator.min_n_trials(evaluators.min_n_trials);
            rules.push((
                Arc::new(terminator.map_err(usage)?),
                "less is left to gain than the values are exact".to_owned(),
            ));
        }
        if let Some(n) = self.stop_when_no_better {
            let rule = NoBetterTerminator::new(n)
                .map_err(|error| Failure::Usage(format!("--stop-when-no-better: {error}")))?;
            let trials = if n == 1 { "trial" } else { "trials" };
            rules.push((
                Arc::new(rule),
                format!("the last {n} {trials} brought nothing better"),
            ));
        }
        if !self.target.is_empty() {
            if self.target.len() != n_objectives {
                return Err(Failure::Usage(format!(
                    "{} targets are given for {n_objectives} objectives; write --target VALUE once per objective",
                    self.target.len()
                )));
            }
            let rule = TargetTerminator::new(self.target.clone())
                .map_err(|error| Failure::Usage(format!("--target: {error}")))?;
            rules.push((Arc::new(rule), "the target is reached".to_owned()));
        }
        Ok(rules)
    }
}

/// What the first rule says that ends the study now.
pub(crate) fn reason_to_end<'a>(rules: &'a [Rule], study: &Study) -> Result<Option<&'a str>> {
    for (rule, says) in rules {
        if rule.should_terminate(study)? {
            return Ok(Some(says));
        }
    }
    Ok(None)
}

/// Stops the study when a rule says so, and tells it once.
pub(crate) fn callback(
    rules: Vec<Rule>,
) -> impl Fn(&Study, &FrozenTrial) -> Result<()> + Send + Sync {
    let told = AtomicBool::new(false);
    move |study, _| {
        // One job that has found it is enough; the others come here with the trials that were running.
        if told.load(Ordering::SeqCst) {
            return Ok(());
        }
        if let Some(says) = reason_to_end(&rules, study)? {
            if !told.swap(true, Ordering::SeqCst) {
                let _ = writeln!(std::io::stderr(), "ended: {}", printable(says));
            }
            study.stop()?;
        }
        Ok(())
    }
}
