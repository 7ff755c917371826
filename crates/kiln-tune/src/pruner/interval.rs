//! Which steps a pruner looks at.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Warm-up and interval, shared by the percentile and the threshold pruner.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interval {
    pub n_warmup_steps: u32,
    pub interval_steps: u32,
}

impl Default for Interval {
    fn default() -> Self {
        Self {
            n_warmup_steps: 0,
            interval_steps: 1,
        }
    }
}

impl Interval {
    pub fn check(self) -> Result<()> {
        if self.interval_steps == 0 {
            return Err(Error::invalid(
                "interval_steps must be at least 1, but got 0",
            ));
        }
        Ok(())
    }

    /// The last step and its value when the pruner should look at it: after the warm-up, and at the first report
    /// within its interval.
    pub fn step_to_judge<V: Clone>(self, reports: &BTreeMap<i64, V>) -> Option<(i64, V)> {
        let mut latest = reports.iter().rev();
        let (step, value) = latest.next().map(|(step, value)| (*step, value.clone()))?;
        let previous = latest.next().map_or(-1, |(step, _)| *step);
        let warmup = i64::from(self.n_warmup_steps);
        if step < warmup {
            return None;
        }
        let interval = i64::from(self.interval_steps);
        let start_of_interval = (step - warmup) / interval * interval + warmup;
        (previous < start_of_interval).then_some((step, value))
    }
}

/// The best value, None when all are NaN.
pub(super) fn best(values: impl Iterator<Item = f64>, maximize: bool) -> Option<f64> {
    let values = values.filter(|value| !value.is_nan());
    if maximize {
        values.reduce(f64::max)
    } else {
        values.reduce(f64::min)
    }
}
