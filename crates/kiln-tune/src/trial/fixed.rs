use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Attrs, Params, Suggest};
use crate::distribution::{Distribution, ParamValue};
use crate::error::{Error, Result};
use crate::json::Json;

/// A trial which suggests given values, to evaluate an objective at known parameters.
///
/// ```
/// use kiln_tune::{FixedTrial, Suggest};
///
/// fn objective(trial: &mut impl Suggest) -> kiln_tune::Result<f64> {
///     let x = trial.suggest_float("x", -10.0, 10.0)?;
///     Ok((x - 2.0).powi(2))
/// }
///
/// let mut trial = FixedTrial::new([("x", 3.0)]);
/// assert_eq!(objective(&mut trial)?, 1.0);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct FixedTrial {
    values: BTreeMap<String, ParamValue>,
    params: Params,
    intermediate_values: BTreeMap<i64, f64>,
    user_attrs: Attrs,
    constraints: BTreeMap<String, f64>,
}

impl FixedTrial {
    /// A trial which suggests these values.
    #[must_use]
    pub fn new<N: Into<String>, V: Into<ParamValue>>(
        values: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        Self {
            values: values
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            ..Self::default()
        }
    }

    /// What was suggested so far.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Records an intermediate value; the first report of a step counts.
    pub fn report(&mut self, value: f64, step: i64) {
        self.intermediate_values.entry(step).or_insert(value);
    }

    /// The reported values by step.
    #[must_use]
    pub fn intermediate_values(&self) -> &BTreeMap<i64, f64> {
        &self.intermediate_values
    }

    /// Never: a fixed trial runs to its end.
    #[must_use]
    pub fn should_prune(&self) -> bool {
        false
    }

    /// Notes a user attribute.
    pub fn set_user_attr(&mut self, key: impl Into<String>, value: impl Into<Json>) {
        self.user_attrs.insert(key.into(), value.into());
    }

    /// The user attributes.
    #[must_use]
    pub fn user_attrs(&self) -> &Attrs {
        &self.user_attrs
    }

    /// Notes a constraint: at most 0 is feasible.
    pub fn set_constraint(&mut self, key: impl Into<String>, value: f64) {
        self.constraints.insert(key.into(), value);
    }

    /// The constraints.
    #[must_use]
    pub fn constraints(&self) -> &BTreeMap<String, f64> {
        &self.constraints
    }
}

impl Suggest for FixedTrial {
    fn suggest_internal(&mut self, name: &str, distribution: Distribution) -> Result<f64> {
        let value = self.values.get(name).ok_or_else(|| {
            Error::invalid(format!(
                "the fixed trial has no value for parameter {name:?}; it has {:?}",
                self.values.keys().collect::<Vec<_>>()
            ))
        })?;
        let internal = distribution.to_internal(value)?;
        if !distribution.contains(internal) {
            log::warn!(
                "the fixed value {value} of parameter {name:?} is outside of {distribution}"
            );
        }
        if let Some(old) = self.params.get(name) {
            old.distribution.check_compatible(name, &distribution)?;
        }
        self.params
            .insert(name.into(), internal, Arc::new(distribution));
        Ok(internal)
    }
}
