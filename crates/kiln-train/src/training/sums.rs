//! What a step measures: sums that stay on the device and add up over steps, and the metrics that follow from them.

use std::ops::AddAssign;

use burn::tensor::{Bool, ExecutionError, Int, Tensor, TensorReadError};
use burn::train::{ClassificationOutput, ItemLazy, RegressionOutput};
use serde::{Deserialize, Deserializer, Serialize};

use super::gradients::{GradNumbers, GradSums, StepGradients};

/// Metrics by name, in the order in which they are shown.
pub type Metrics = Vec<(&'static str, f64)>;

/// The loss and the metrics of some items.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// The mean loss.
    pub loss: f64,
    /// The other metrics by name, in the order in which they are shown.
    pub metrics: Vec<(String, f64)>,
}

impl Scores {
    /// A metric by name; `loss` is one.
    pub fn get(&self, name: &str) -> Option<f64> {
        if name == "loss" {
            return Some(self.loss);
        }
        let mut metrics = self.metrics.iter();
        metrics
            .find(|(known, _)| known == name)
            .map(|&(_, value)| value)
    }
}

/// Turns sums into metrics.
type OfSums = fn(&[f64]) -> Metrics;
/// Turns counts into metrics.
type OfCounts = fn(&[i64]) -> Metrics;

/// What one step measured: the loss and named metrics, as sums on the device.
///
/// Nothing is read from the device when it is made. The trainer adds the sums of several steps up there, and reads them
/// together every `log_every` steps, so that the device need not wait for the host.
///
/// ```
/// use burn::tensor::Tensor;
/// use kiln_train::StepSums;
/// # let device = kiln_testing::devices().remove(0);
/// let (predicted, truth) = (Tensor::<1>::from_floats([1.0, 4.0], &device), Tensor::from_floats([1.0, 2.0], &device));
/// let error: Tensor<1> = predicted - truth;
/// let sums = StepSums::new(error.clone().powi_scalar(2).mean(), 2).mean("mae", error.abs().mean());
/// let read = sums.read()?;
/// assert_eq!((read.loss, read.get("mae")), (2.0, Some(1.0)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct StepSums {
    items: usize,
    /// `[1 + names]`: the sum of the losses of all items, then of each mean.
    sums: Tensor<1>,
    names: Vec<&'static str>,
    derived: Option<(Tensor<1>, OfSums)>,
    counts: Option<(Tensor<1, Int>, OfCounts)>,
    /// How much is counted in `counts`, at most.
    counted: usize,
    gradients: GradSums,
}

/// More than this is not counted before it is read: counts are `i32` on the device.
const FULL: usize = 1 << 30;

impl StepSums {
    /// The mean loss, `[1]`, of so many items: images, rows, sequences.
    pub fn new(loss: Tensor<1>, items: usize) -> Self {
        Self {
            items,
            sums: loss.without_autodiff() * items as f32,
            names: Vec::new(),
            derived: None,
            counts: None,
            counted: 0,
            gradients: GradSums::default(),
        }
    }

    /// Adds a metric whose mean over the items of this step is `[1]`. Over several steps it is the mean over all items.
    pub fn mean(self, name: &'static str, mean: Tensor<1>) -> Self {
        let items = self.items as f32;
        self.total(name, mean * items)
    }

    /// Adds a metric by its sum over the items of this step, `[1]`, such as the number of right answers. It is shown as the
    /// mean over the items.
    pub fn total(mut self, name: &'static str, sum: Tensor<1>) -> Self {
        self.sums = Tensor::cat(vec![self.sums, sum.without_autodiff()], 0);
        self.names.push(name);
        self
    }

    /// Adds metrics that are no means: `metrics` turns the sums, `[n]`, of all steps into them. R², for one, follows from
    /// four sums.
    pub fn derived(mut self, sums: Tensor<1>, metrics: fn(&[f64]) -> Metrics) -> Self {
        self.derived = Some((sums.without_autodiff(), metrics));
        self
    }

    /// Adds metrics that follow from whole numbers, `[n]`, which are added up exactly; none of them may grow by more than
    /// `most` in this step. IoU and Dice are such metrics.
    pub fn counts(
        mut self,
        counts: Tensor<1, Int>,
        most: usize,
        metrics: fn(&[i64]) -> Metrics,
    ) -> Self {
        self.counts = Some((counts.without_autodiff(), metrics));
        self.counted = most;
        self
    }

    /// The loss and all metrics; reads the device.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn read(&self) -> Result<Scores, TensorReadError> {
        let read = self.read_sums()?;
        Ok(read.totals.scores(read.scorer))
    }

    /// Whether it must be read before more is added to it.
    pub(crate) fn is_full(&self) -> bool {
        self.counted >= FULL
    }

    /// Adds what is known of the step's gradients. The numbers of a step that was skipped count for nothing.
    pub(crate) fn with_gradients(mut self, step: StepGradients) -> Self {
        if let Some(skipped) = step.skipped() {
            let [n] = self.sums.dims();
            self.sums = self.sums.mask_fill(skipped.clone().expand([n]), 0.0);
            if let Some((sums, _)) = &mut self.derived {
                let skipped: Tensor<1, Bool> = skipped.clone().expand(sums.dims());
                *sums = sums.clone().mask_fill(skipped, 0.0);
            }
            if let Some((counts, _)) = &mut self.counts {
                *counts = counts.clone().mask_fill(skipped.expand(counts.dims()), 0);
            }
        }
        self.gradients = GradSums::of(step, self.items);
        self
    }

    /// The sums, read from the device.
    pub(crate) fn read_sums(&self) -> Result<ReadSums, TensorReadError> {
        let sums = self.sums.clone().try_into_vec_as::<f32>()?;
        let gradients = self.gradients.read()?;
        let named = self.names.iter().zip(&sums[1..]);
        let totals = Totals {
            loss: f64::from(sums[0]),
            // Items of skipped steps count as little as their numbers.
            items: self.items - gradients.skipped_items,
            means: named
                .map(|(name, &sum)| ((*name).into(), f64::from(sum)))
                .collect(),
            derived: match &self.derived {
                Some((sums, _)) => sums.clone().try_into_vec_as::<f64>()?,
                None => Vec::new(),
            },
            counts: match &self.counts {
                Some((counts, _)) => counts.clone().try_into_vec_as::<i64>()?,
                None => Vec::new(),
            },
            grad_norm: gradients.norm,
            grad_steps: gradients.steps,
        };
        Ok(ReadSums {
            totals,
            scorer: Scorer {
                derived: self.derived.as_ref().map(|(_, metrics)| *metrics),
                counts: self.counts.as_ref().map(|(_, metrics)| *metrics),
            },
            gradients,
        })
    }

    /// What was measured of gradient health, with the steps taken.
    pub(crate) fn gradients(&self) -> &GradSums {
        &self.gradients
    }
}

impl AddAssign for StepSums {
    /// # Panics
    ///
    /// If the two have other metrics.
    fn add_assign(&mut self, other: Self) {
        assert_eq!(
            self.names, other.names,
            "every step of a run has the same metrics"
        );
        self.items += other.items;
        self.sums = self.sums.clone() + other.sums;
        if let (Some((a, _)), Some((b, _))) = (&mut self.derived, other.derived) {
            *a = a.clone() + b;
        }
        if let (Some((a, _)), Some((b, _))) = (&mut self.counts, other.counts) {
            *a = a.clone() + b;
        }
        self.counted += other.counted;
        self.gradients = std::mem::take(&mut self.gradients).add(other.gradients);
    }
}

/// A model may give them as they are as the output of its step.
impl ItemLazy for StepSums {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

/// The output of a model's step, from which the trainer takes loss and metrics.
///
/// [`StepSums`] is one itself. burn-train's `ClassificationOutput` (accuracy) and `RegressionOutput` (MAE, R²) are too, so
/// that a model written for burn-train trains as it is.
pub trait StepOutput {
    /// What the step measured. Nothing should be read from the device.
    fn sums(self) -> StepSums;
}

impl StepOutput for StepSums {
    fn sums(self) -> StepSums {
        self
    }
}

impl StepOutput for ClassificationOutput {
    fn sums(self) -> StepSums {
        let [items] = self.targets.dims();
        let targets = self.targets.without_autodiff();
        let answers = self.output.without_autodiff().argmax(1).reshape([items]);
        let right = answers.equal(targets).float().sum();
        StepSums::new(self.loss, items).total("accuracy", right)
    }
}

impl StepOutput for RegressionOutput {
    fn sums(self) -> StepSums {
        let (output, targets) = (
            self.output.without_autodiff(),
            self.targets.without_autodiff(),
        );
        let [items, _] = targets.dims();
        let sums = regression_sums(output.clone(), targets.clone());
        StepSums::new(self.loss, items)
            .mean("mae", (output - targets).abs().mean())
            .derived(sums, r2)
    }
}

/// For [`r2`]: the numbers of values, then the sums over items of the targets, their squares and the squared errors, each of
/// every output.
fn regression_sums(output: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    let [items, outputs] = targets.dims();
    let sum = |x: Tensor<2>| -> Tensor<1> { x.sum_dim(0).reshape([outputs]) };
    let n = Tensor::ones_like(&sum(targets.clone())) * items as f32;
    let error = targets.clone() - output;
    Tensor::cat(
        vec![
            n,
            sum(targets.clone()),
            sum(targets.powi_scalar(2)),
            sum(error.powi_scalar(2)),
        ],
        0,
    )
}

/// The coefficient of determination, the mean over the outputs (`sklearn.metrics.r2_score`): 0 for an output whose targets
/// never change, 1 if they are met too.
fn r2(sums: &[f64]) -> Metrics {
    let outputs = sums.len() / 4;
    let each = (0..outputs).map(|i| {
        let [n, sum, squares, errors] = [0, 1, 2, 3].map(|row| sums[row * outputs + i]);
        let spread = squares - sum * sum / n;
        match (spread > 0.0, errors > 0.0) {
            (true, _) => 1.0 - errors / spread,
            (false, true) => 0.0,
            (false, false) => 1.0,
        }
    });
    vec![("r2", each.sum::<f64>() / outputs as f64)]
}

/// How metrics follow from sums that are no means.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scorer {
    derived: Option<OfSums>,
    counts: Option<OfCounts>,
}

impl Scorer {
    pub(crate) fn is_empty(&self) -> bool {
        self.derived.is_none() && self.counts.is_none()
    }
}

/// [`StepSums`] that were read.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadSums {
    pub(crate) totals: Totals,
    pub(crate) scorer: Scorer,
    pub(crate) gradients: GradNumbers,
}

/// Sums over the items of a part of an epoch, on the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) loss: f64,
    #[serde(rename = "images")]
    pub(crate) items: usize,
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "named"
    )]
    pub(crate) means: Vec<(String, f64)>,
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "listed"
    )]
    pub(crate) derived: Vec<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) counts: Vec<i64>,
    /// Sum of the gradients' norms, and of how many steps.
    #[serde(default)]
    pub(crate) grad_norm: f64,
    #[serde(default)]
    pub(crate) grad_steps: usize,
}

/// A number that JSON does not have is null there.
fn named<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, f64)>, D::Error> {
    let read = Vec::<(String, Option<f64>)>::deserialize(from)?.into_iter();
    Ok(read
        .map(|(name, sum)| (name, sum.unwrap_or(f64::NAN)))
        .collect())
}

fn listed<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    let read = Vec::<Option<f64>>::deserialize(from)?.into_iter();
    Ok(read.map(|sum| sum.unwrap_or(f64::NAN)).collect())
}

impl Totals {
    pub(crate) fn mean_loss(&self) -> f64 {
        self.loss / self.items.max(1) as f64
    }

    pub(crate) fn mean_grad_norm(&self) -> Option<f64> {
        (self.grad_steps > 0).then(|| self.grad_norm / self.grad_steps as f64)
    }

    pub(crate) fn scores(&self, scorer: Scorer) -> Scores {
        let items = self.items.max(1) as f64;
        let means = self.means.iter();
        let mut metrics: Vec<(String, f64)> = means
            .map(|(name, sum)| (name.clone(), sum / items))
            .collect();
        let named = |(name, value): (&str, f64)| (name.to_owned(), value);
        if let Some(derived) = scorer.derived.filter(|_| !self.derived.is_empty()) {
            metrics.extend(derived(&self.derived).into_iter().map(named));
        }
        if let Some(counts) = scorer.counts.filter(|_| !self.counts.is_empty()) {
            metrics.extend(counts(&self.counts).into_iter().map(named));
        }
        Scores {
            loss: self.mean_loss(),
            metrics,
        }
    }
}

impl AddAssign<&Totals> for Totals {
    fn add_assign(&mut self, other: &Self) {
        fn add<T: Copy + AddAssign>(ours: &mut Vec<T>, theirs: &[T]) {
            if ours.is_empty() {
                ours.extend_from_slice(theirs);
            } else {
                ours.iter_mut().zip(theirs).for_each(|(a, b)| *a += *b);
            }
        }
        self.loss += other.loss;
        self.items += other.items;
        if self.means.is_empty() {
            self.means.clone_from(&other.means);
        } else {
            let theirs = other.means.iter();
            let pairs = self.means.iter_mut().zip(theirs);
            pairs.for_each(|((_, a), (_, b))| *a += b);
        }
        add(&mut self.derived, &other.derived);
        add(&mut self.counts, &other.counts);
        self.grad_norm += other.grad_norm;
        self.grad_steps += other.grad_steps;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target of two values, and what was predicted.
    type Row = ([f32; 2], [f32; 2]);

    /// sklearn.metrics.r2_score([[1, 10], [2, 20], [4, 10], [9, 30]], [[1.5, 12], [2, 16], [3, 11], [8, 29]])
    /// and mean_absolute_error of the same.
    #[test]
    fn the_scores_of_a_regression_equal_scikit_learns_whatever_the_batches() {
        for device in kiln_testing::devices() {
            let rows = [
                ([1.0, 10.0], [1.5, 12.0]),
                ([2.0, 20.0], [2.0, 16.0]),
                ([4.0, 10.0], [3.0, 11.0]),
                ([9.0, 30.0], [8.0, 29.0]),
            ];
            let output = |rows: &[Row]| {
                let tensor = |of: fn(&Row) -> [f32; 2]| {
                    let values: Vec<f32> = rows.iter().flat_map(of).collect();
                    Tensor::<1>::from_floats(values.as_slice(), &device).reshape([rows.len(), 2])
                };
                let loss = Tensor::from_floats([0.25], &device);
                RegressionOutput::new(loss, tensor(|row| row.1), tensor(|row| row.0)).sums()
            };
            let mut parts = output(&rows[..3]);
            parts += output(&rows[3..]);
            for sums in [output(&rows), parts] {
                let scores = sums.read().unwrap();
                assert_eq!((scores.loss, scores.get("loss")), (0.25, Some(0.25)));
                assert_eq!(scores.get("mae"), Some(1.3125));
                let r2 = scores.get("r2").unwrap();
                assert!((r2 - R2).abs() < 1e-6, "{device:?}: {r2}");
            }
        }
    }

    const R2: f64 = 0.930_394_736_842_105_3;

    #[test]
    fn targets_that_never_change_score_one_if_they_are_met_and_zero_if_not() {
        assert_eq!(r2(&[3.0, 6.0, 12.0, 0.0]), [("r2", 1.0)]);
        assert_eq!(r2(&[3.0, 6.0, 12.0, 0.5]), [("r2", 0.0)]);
    }
}
