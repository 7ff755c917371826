use std::collections::BTreeMap;

use super::frozen::CONSTRAINT_PREFIX;
use super::{Attrs, FrozenTrial, Params, Timestamp, TrialState, now};
use crate::distribution::{Distribution, ParamValue};
use crate::error::{Error, Result};
use crate::json::Json;

/// Builds a [`FrozenTrial`] by hand, to add the results of earlier experiments to a study.
///
/// ```
/// use kiln_tune::{FloatDistribution, Study, TrialBuilder};
///
/// let study = Study::builder().create()?;
/// let known = TrialBuilder::new()
///     .param("x", 2.0, FloatDistribution::new(-10.0, 10.0)?)
///     .value(4.0)
///     .build()?;
/// study.add_trial(&known)?;
/// assert_eq!(study.best_value()?, 4.0);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TrialBuilder {
    state: TrialState,
    values: Option<Vec<f64>>,
    start: Option<Timestamp>,
    complete: Option<Timestamp>,
    params: Vec<(String, ParamValue, Distribution)>,
    user_attrs: Attrs,
    system_attrs: Attrs,
    intermediate_values: BTreeMap<i64, f64>,
}

impl Default for TrialBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl TrialBuilder {
    /// A complete trial; its timestamps are now unless they are given.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: TrialState::Complete,
            values: None,
            start: None,
            complete: None,
            params: Vec::new(),
            user_attrs: Attrs::new(),
            system_attrs: Attrs::new(),
            intermediate_values: BTreeMap::new(),
        }
    }

    /// Another state than complete.
    #[must_use]
    pub fn state(mut self, state: TrialState) -> Self {
        self.state = state;
        self
    }

    /// The value of the only objective.
    #[must_use]
    pub fn value(self, value: f64) -> Self {
        self.values([value])
    }

    /// The values of all objectives.
    #[must_use]
    pub fn values(mut self, values: impl Into<Vec<f64>>) -> Self {
        self.values = Some(values.into());
        self
    }

    /// A parameter by its external value.
    #[must_use]
    pub fn param(
        mut self,
        name: impl Into<String>,
        value: impl Into<ParamValue>,
        distribution: impl Into<Distribution>,
    ) -> Self {
        self.params
            .push((name.into(), value.into(), distribution.into()));
        self
    }

    /// A reported value.
    #[must_use]
    pub fn intermediate_value(mut self, step: i64, value: f64) -> Self {
        self.intermediate_values.insert(step, value);
        self
    }

    /// A user attribute.
    #[must_use]
    pub fn user_attr(mut self, key: impl Into<String>, value: impl Into<Json>) -> Self {
        self.user_attrs.insert(key.into(), value.into());
        self
    }

    /// A system attribute.
    #[must_use]
    pub fn system_attr(mut self, key: impl Into<String>, value: impl Into<Json>) -> Self {
        self.system_attrs.insert(key.into(), value.into());
        self
    }

    /// A constraint: at most 0 is feasible.
    #[must_use]
    pub fn constraint(self, key: &str, value: f64) -> Self {
        self.system_attr(format!("{CONSTRAINT_PREFIX}{key}"), value)
    }

    /// When the trial started.
    #[must_use]
    pub fn datetime_start(mut self, at: Timestamp) -> Self {
        self.start = Some(at);
        self
    }

    /// When it finished.
    #[must_use]
    pub fn datetime_complete(mut self, at: Timestamp) -> Self {
        self.complete = Some(at);
        self
    }

    /// The trial, with id and number 0 until a study takes it.
    ///
    /// # Errors
    /// [`Error::ValueNotInDistribution`] for a parameter out of its distribution, [`Error::InvalidArgument`] when the
    /// values do not suit the state or a constraint is NaN.
    pub fn build(self) -> Result<FrozenTrial> {
        let mut params = Params::new();
        for (name, value, distribution) in self.params {
            let internal = distribution.to_internal(&value)?;
            if params.contains(&name) {
                return Err(Error::invalid(format!("parameter {name:?} is given twice")));
            }
            params.insert(name.into(), internal, distribution.into());
        }
        for (key, value) in &self.system_attrs {
            if key.starts_with(CONSTRAINT_PREFIX) && value.as_f64().is_none_or(f64::is_nan) {
                return Err(Error::invalid(format!(
                    "{key} must be a number, but got {value}"
                )));
            }
        }
        let finished = self.state.is_finished();
        let waiting = self.state == TrialState::Waiting;
        let trial = FrozenTrial {
            id: 0,
            number: 0,
            state: self.state,
            values: self.values,
            datetime_start: self.start.or_else(|| (!waiting).then(now)),
            datetime_complete: self.complete.or_else(|| finished.then(now)),
            params,
            user_attrs: self.user_attrs,
            system_attrs: self.system_attrs,
            intermediate_values: self.intermediate_values,
        };
        trial.validate()?;
        Ok(trial)
    }
}
