//! importance.

use std::io::Write;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::output::{number, print_json, print_table, share_text};
use super::{CliResult, Failure, StudyArgs};
use kiln_tune::importance::{
    FanovaEvaluator, ImportanceEvaluator, MeanDecreaseImpurityEvaluator, PedAnovaEvaluator,
    for_objective,
};
use kiln_tune::study::StudyDirection;

/// Settings of `importance`.
#[derive(Debug, Args)]
pub struct Importance {
    #[command(flatten)]
    study: StudyArgs,
    /// How importance is assessed
    #[arg(long, value_enum, default_value_t = Evaluator::PedAnova)]
    evaluator: Evaluator,
    /// Which objective of several, from 0. As in Optuna, PED-ANOVA then tells what matters for low values of it
    #[arg(long, value_name = "N")]
    objective: Option<usize>,
    /// Only these parameters
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    params: Vec<String>,
    /// Print the result as one JSON object, most important first
    #[arg(long)]
    json: bool,
}

/// An evaluator by its name.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Evaluator {
    /// How the best trials differ from all (also with conditional parameters)
    PedAnova,
    /// Variance explained in a random forest
    Fanova,
    /// Mean decrease of impurity in a random forest
    Mdi,
}

impl Importance {
    pub(crate) fn execute(self, out: &mut dyn Write) -> CliResult {
        let study = self.study.load()?;
        let n = study.directions().len();
        if let Some(objective) = self.objective.filter(|objective| *objective >= n) {
            return Err(Failure::Usage(format!(
                "--objective must be less than {n}, the number of objectives, but got {objective}"
            )));
        }
        // A fixed seed: the same question gets the same answer.
        let evaluator: Box<dyn ImportanceEvaluator> = match self.evaluator {
            Evaluator::PedAnova => Box::new(PedAnovaEvaluator::default()),
            Evaluator::Fanova => Box::new(FanovaEvaluator::new(0)),
            Evaluator::Mdi => Box::new(MeanDecreaseImpurityEvaluator::new(0)),
        };
        if let Some(objective) = self.objective
            && n > 1
            && study.directions()[objective] == StudyDirection::Maximize
            && matches!(self.evaluator, Evaluator::PedAnova)
        {
            log::warn!(
                "objective {objective} is maximized, but PED-ANOVA tells, as in Optuna, what matters for low values of it; \
                 --evaluator fanova knows no direction"
            );
        }
        let params = (!self.params.is_empty()).then_some(&self.params[..]);
        let importances = for_objective(&study, &*evaluator, params, self.objective)?;
        if importances.is_empty() {
            return Err(Failure::message(
                "no parameter can be assessed; at least two complete trials with parameters are needed",
            ));
        }
        if self.json {
            let object = importances
                .into_iter()
                .map(|(name, share)| (name, number(share)))
                .collect();
            return Ok(print_json(out, &Value::Object(object))?);
        }
        let rows: Vec<Vec<String>> = importances
            .into_iter()
            .map(|(name, share)| vec![name, share_text(share)])
            .collect();
        Ok(print_table(
            out,
            &["parameter", "importance"].map(str::to_owned),
            &rows,
        )?)
    }
}
