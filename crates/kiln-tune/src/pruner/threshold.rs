use super::Pruner;
use super::interval::Interval;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::trial::FrozenTrial;

/// Prunes a trial whose latest report is below `lower`, above `upper`, or NaN.
///
/// | setting | default | meaning |
/// |---|---|---|
/// | `lower`, `upper` | none | at least one of them, `lower <= upper`, not NaN |
/// | `n_warmup_steps` | 0 | nothing is pruned before this step |
/// | `interval_steps` | 1 | steps between two looks, counted from the warm-up; at least 1 |
///
/// ```
/// use kiln_tune::{Study, pruner::ThresholdPruner};
///
/// let study = Study::builder().pruner(ThresholdPruner::new().upper(1e3)).create()?;
/// let mut trial = study.ask()?;
/// trial.report(f64::NAN, 0)?;
/// assert!(trial.should_prune()?);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ThresholdPruner {
    lower: Option<f64>,
    upper: Option<f64>,
    interval: Interval,
}

impl ThresholdPruner {
    /// Without a bound yet; at least one must be set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The smallest report that is kept.
    #[must_use]
    pub fn lower(mut self, lower: f64) -> Self {
        self.lower = Some(lower);
        self
    }

    /// The largest report that is kept.
    #[must_use]
    pub fn upper(mut self, upper: f64) -> Self {
        self.upper = Some(upper);
        self
    }

    /// The first step at which a trial may be pruned.
    #[must_use]
    pub fn n_warmup_steps(mut self, n: u32) -> Self {
        self.interval.n_warmup_steps = n;
        self
    }

    /// Steps between two looks.
    #[must_use]
    pub fn interval_steps(mut self, n: u32) -> Self {
        self.interval.interval_steps = n;
        self
    }
}

impl Pruner for ThresholdPruner {
    fn prune(&self, _study: &Context, trial: &FrozenTrial) -> Result<bool> {
        let Some((_, value)) = self.interval.step_to_judge(&trial.intermediate_values) else {
            return Ok(false);
        };
        Ok(value.is_nan()
            || self.lower.is_some_and(|lower| value < lower)
            || self.upper.is_some_and(|upper| value > upper))
    }

    fn check(&self) -> Result<()> {
        match (self.lower, self.upper) {
            (None, None) => {
                return Err(Error::invalid("lower or upper must be set, but neither is"));
            }
            (Some(bound), _) | (_, Some(bound)) if bound.is_nan() => {
                return Err(Error::invalid(
                    "lower and upper must be numbers, but got NaN",
                ));
            }
            (Some(lower), Some(upper)) if lower > upper || upper.is_nan() => {
                return Err(Error::invalid(format!(
                    "lower must not be above upper, but got lower={lower}, upper={upper}"
                )));
            }
            _ => {}
        }
        self.interval.check()
    }
}
