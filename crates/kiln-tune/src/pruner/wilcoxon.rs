use super::Pruner;
use crate::context::Context;
use crate::direction::StudyDirection;
use crate::error::{Error, Result};
use crate::trial::FrozenTrial;

/// Prunes a trial which the Wilcoxon signed-rank test finds worse than the best trial, comparing the reports step by
/// step. Meant for objectives that are means over instances, such as the folds of a cross-validation: report every
/// instance as a step, and return the mean.
///
/// | setting | default | meaning |
/// |---|---|---|
/// | `p_threshold` | 0.1 | prune below this p-value, 0 to 1; larger prunes more |
/// | `n_startup_steps` | 2 | common steps before anything is pruned |
///
/// A trial whose mean so far is at least as good as the best trial's is kept whatever the test says, and so is one
/// with NaN or infinite reports.
#[derive(Debug, Clone)]
pub struct WilcoxonPruner {
    p_threshold: f64,
    n_startup_steps: usize,
}

impl Default for WilcoxonPruner {
    fn default() -> Self {
        Self::new()
    }
}

impl WilcoxonPruner {
    /// With the defaults of the table above.
    #[must_use]
    pub fn new() -> Self {
        Self {
            p_threshold: 0.1,
            n_startup_steps: 2,
        }
    }

    /// The p-value below which a trial is pruned.
    #[must_use]
    pub fn p_threshold(mut self, p: f64) -> Self {
        self.p_threshold = p;
        self
    }

    /// Common steps before anything is pruned.
    #[must_use]
    pub fn n_startup_steps(mut self, n: usize) -> Self {
        self.n_startup_steps = n;
        self
    }
}

impl Pruner for WilcoxonPruner {
    fn prune(&self, study: &Context, trial: &FrozenTrial) -> Result<bool> {
        let own = &trial.intermediate_values;
        if own.is_empty() || own.values().any(|value| !value.is_finite()) {
            return Ok(false);
        }
        let best = match study.best_trial() {
            Ok(best) => best,
            Err(Error::NoTrials(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        let other = &best.intermediate_values;
        if other.is_empty() {
            log::warn!(
                "the best trial ({}) has no intermediate values, so the Wilcoxon pruner prunes nothing",
                best.number
            );
            return Ok(false);
        }
        if other.values().any(|value| !value.is_finite()) {
            return Ok(false);
        }
        let differences: Vec<f64> = own
            .iter()
            .filter_map(|(step, value)| Some(value - other.get(step)?))
            .collect();
        if differences.len() < self.n_startup_steps.max(2) {
            return Ok(false);
        }
        let (alternative, at_least_as_good) = match study.direction() {
            StudyDirection::Minimize => (
                Alternative::Greater,
                mean(own.values()) <= mean(other.values()),
            ),
            StudyDirection::Maximize => (
                Alternative::Less,
                mean(own.values()) >= mean(other.values()),
            ),
        };
        Ok(wilcoxon_p_value(&differences, alternative) < self.p_threshold && !at_least_as_good)
    }

    fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.p_threshold) {
            return Err(Error::invalid(format!(
                "p_threshold must be between 0 and 1, but got {}",
                self.p_threshold
            )));
        }
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss)]
fn mean<'a>(values: impl ExactSizeIterator<Item = &'a f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}

/// Which side of zero the differences are tested for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alternative {
    /// The differences tend to be positive.
    Greater,
    /// The differences tend to be negative.
    Less,
}

/// The p-value of the one-sided Wilcoxon signed-rank test; the ranks of zero differences are split between both sides.
///
/// Exact for up to 50 differences without ties and zeros, and for up to 13 with them; otherwise by the normal
/// approximation with a correction for ties. The same as `scipy.stats.wilcoxon(d, zero_method="zsplit")`.
///
/// ```
/// use kiln_tune::pruner::{Alternative, wilcoxon_p_value};
///
/// assert_eq!(wilcoxon_p_value(&[1.0, 2.0, 3.0], Alternative::Greater), 0.125);
/// ```
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn wilcoxon_p_value(differences: &[f64], alternative: Alternative) -> f64 {
    let n = differences.len();
    // Doubled ranks are integers even where ties share a mean rank.
    let ranks = doubled_ranks(differences);
    let zeros: u64 = differences
        .iter()
        .zip(&ranks.doubled)
        .filter(|(d, _)| **d == 0.0)
        .map(|(_, r)| r)
        .sum();
    let positive: u64 = differences
        .iter()
        .zip(&ranks.doubled)
        .filter(|(d, _)| **d > 0.0)
        .map(|(_, r)| r)
        .sum();
    let total: u64 = ranks.doubled.iter().sum();
    // The null distribution is symmetric, so that "less" is "greater" of the negative sum.
    let plus = match alternative {
        Alternative::Greater => positive,
        Alternative::Less => total - zeros - positive,
    };
    let plain = ranks.tie_term == 0.0 && zeros == 0;
    if (plain && n <= 50) || (!plain && n <= 13) {
        let signed: Vec<u64> = differences
            .iter()
            .zip(&ranks.doubled)
            .filter(|(d, _)| **d != 0.0)
            .map(|(_, r)| *r)
            .collect();
        return exact_tail(&signed, plus);
    }
    let n = n as f64;
    let mean = n * (n + 1.0) * 0.25;
    let variance = (n * (n + 1.0) * (2.0 * n + 1.0) - 0.5 * ranks.tie_term) / 24.0;
    let sum = plus as f64 / 2.0 + zeros as f64 / 4.0;
    0.5 * libm::erfc((sum - mean) / variance.sqrt() * std::f64::consts::FRAC_1_SQRT_2)
}

struct Ranks {
    doubled: Vec<u64>,
    /// Sum of t^3 - t over groups of t ties.
    tie_term: f64,
}

#[allow(clippy::cast_precision_loss)]
fn doubled_ranks(differences: &[f64]) -> Ranks {
    let mut order: Vec<usize> = (0..differences.len()).collect();
    order.sort_by(|a, b| differences[*a].abs().total_cmp(&differences[*b].abs()));
    let mut ranks = Ranks {
        doubled: vec![0; differences.len()],
        tie_term: 0.0,
    };
    let mut start = 0;
    while start < order.len() {
        let value = differences[order[start]].abs();
        let ties = order[start..]
            .iter()
            .take_while(|i| differences[**i].abs() == value)
            .count();
        for i in &order[start..start + ties] {
            // The mean of the ranks start + 1 ..= start + ties, doubled.
            ranks.doubled[*i] = (2 * start + ties + 1) as u64;
        }
        let t = ties as f64;
        ranks.tie_term += t * (t * t - 1.0);
        start += ties;
    }
    ranks
}

/// The probability of a sum of at least `plus` when every rank is counted with probability one half.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn exact_tail(ranks: &[u64], plus: u64) -> f64 {
    let total: u64 = ranks.iter().sum();
    // Counts of up to 2^50 are exact as floats.
    let mut counts = vec![0.0; total as usize + 1];
    counts[0] = 1.0;
    for rank in ranks {
        let rank = *rank as usize;
        for sum in (rank..counts.len()).rev() {
            counts[sum] += counts[sum - rank];
        }
    }
    let tail: f64 = counts[plus as usize..].iter().sum();
    tail / 2.0_f64.powi(ranks.len() as i32)
}
