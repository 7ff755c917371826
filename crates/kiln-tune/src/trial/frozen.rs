use std::collections::BTreeMap;

use super::{Attrs, Params, Timestamp, TrialId, TrialState};
use crate::error::{Error, Result};
use crate::json::Json;

/// A trial as a storage knows it: a plain record, not tied to a running objective.
#[derive(Debug, Clone, PartialEq)]
pub struct FrozenTrial {
    /// The id within the storage.
    pub id: TrialId,
    /// The number within the study, from 0.
    pub number: u64,
    /// The state.
    pub state: TrialState,
    /// The values of the objectives; none before the end and for failed trials. A pruned trial has its last report.
    pub values: Option<Vec<f64>>,
    /// When the objective started.
    pub datetime_start: Option<Timestamp>,
    /// When it finished.
    pub datetime_complete: Option<Timestamp>,
    /// The parameters in suggest order, with their distributions.
    pub params: Params,
    /// What the user noted.
    pub user_attrs: Attrs,
    /// What samplers, pruners and the study noted.
    pub system_attrs: Attrs,
    /// The reported values by step.
    pub intermediate_values: BTreeMap<i64, f64>,
}

/// The prefix of the system attributes which hold constraints.
pub(crate) const CONSTRAINT_PREFIX: &str = "constraints:";

/// The system attribute which holds the constraints of older releases, a list.
pub(crate) const CONSTRAINTS_KEY: &str = "constraints";

/// The system attribute with the parameters of an enqueued trial.
pub const FIXED_PARAMS_KEY: &str = "fixed_params";

/// The system attribute with the message of the error that failed the trial.
pub(crate) const FAIL_REASON_KEY: &str = "fail_reason";

impl FrozenTrial {
    /// The value of the only objective.
    ///
    /// None without a value or with several; [`values`](Self::values) has those.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        match self.values.as_deref() {
            Some([value]) => Some(*value),
            _ => None,
        }
    }

    /// The largest reported step.
    #[must_use]
    pub fn last_step(&self) -> Option<i64> {
        match self.intermediate_values.last_key_value() {
            Some((step, _)) => Some(*step),
            None => self.multi_reports().map(|(step, _)| step).max(),
        }
    }

    /// Time from start to end.
    #[must_use]
    pub fn duration(&self) -> Option<chrono::TimeDelta> {
        Some(self.datetime_complete? - self.datetime_start?)
    }

    /// The constraints by key: at most 0 is feasible. A list stored by an older release has the keys `0`, `1`, ...
    #[must_use]
    pub fn constraints(&self) -> BTreeMap<String, f64> {
        let mut constraints = BTreeMap::new();
        if let Some(items) = self
            .system_attrs
            .get(CONSTRAINTS_KEY)
            .and_then(Json::as_array)
        {
            for (i, item) in items.iter().enumerate() {
                constraints.extend(item.as_f64().map(|value| (i.to_string(), value)));
            }
        }
        for (key, value) in self.system_attrs.range(CONSTRAINT_PREFIX.to_owned()..) {
            let Some(key) = key.strip_prefix(CONSTRAINT_PREFIX) else {
                break;
            };
            constraints.extend(value.as_f64().map(|value| (key.to_owned(), value)));
        }
        constraints
    }

    /// The sum of the positive constraints, None when the trial has no constraint.
    #[must_use]
    pub fn violation(&self) -> Option<f64> {
        if self.system_attrs.is_empty() {
            return None;
        }
        let constraints = self.constraints();
        if constraints.is_empty() {
            return None;
        }
        Some(constraints.values().filter(|value| **value > 0.0).sum())
    }

    /// Whether no constraint is violated.
    #[must_use]
    pub fn is_feasible(&self) -> bool {
        self.system_attrs.is_empty() || self.constraints().values().all(|value| *value <= 0.0)
    }

    /// Why the trial failed, when the objective returned an error or panicked.
    #[must_use]
    pub fn fail_reason(&self) -> Option<&str> {
        self.system_attrs
            .get(FAIL_REASON_KEY)
            .and_then(Json::as_str)
    }

    /// Checks what every stored trial must fulfil: timestamps and values that suit the state, and parameters within
    /// their distributions.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] which names the rule that is broken.
    pub fn validate(&self) -> Result<()> {
        let refuse =
            |message: &str| Err(Error::invalid(format!("trial {}: {message}", self.number)));
        if self.state != TrialState::Waiting && self.datetime_start.is_none() {
            return refuse("datetime_start must be set unless the trial is waiting");
        }
        if self.state.is_finished() != self.datetime_complete.is_some() {
            return refuse("datetime_complete must be set if and only if the trial is finished");
        }
        match (self.state, &self.values) {
            (TrialState::Fail, Some(_)) => return refuse("a failed trial must not have values"),
            (TrialState::Complete, None) => return refuse("a complete trial must have values"),
            (TrialState::Complete, Some(values)) if values.iter().any(|value| value.is_nan()) => {
                return refuse("the values of a complete trial must not be NaN");
            }
            _ => {}
        }
        for param in &self.params {
            if !param.distribution.contains(param.internal) {
                return Err(Error::ValueNotInDistribution {
                    value: format!("{} = {}", param.name, param.value()),
                    distribution: param.distribution.to_string(),
                });
            }
        }
        Ok(())
    }
}
