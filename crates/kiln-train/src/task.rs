//! The model as burn-train takes it: its training step, its validation step and their metrics.

use std::sync::Arc;

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::TensorReadError;
use burn::tensor::activation::log_softmax;
use burn::tensor::{ExecutionError, Int, Tensor};
use burn::train::metric::{
    Adaptor, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes,
    NumericEntry, SerializedEntry,
};
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};
use kiln_data::Batch;
use kiln_zoo::Classifier;

use crate::clipping::{GradSums, Gradients, StepGradients};
use crate::recorder::{Entry, Recorder};

/// A classifier with its loss.
#[derive(Module, Debug)]
pub(crate) struct Task {
    pub(crate) model: Classifier,
    /// What is done with the gradients before the optimizer takes them.
    #[module(skip)]
    pub(crate) gradients: Gradients,
}

impl TrainStep for Task {
    type Input = Batch;
    type Output = Output;

    fn step(&self, batch: Batch) -> TrainOutput<Output> {
        let logits = self.model.forward(batch.images);
        let loss = cross_entropy(logits.clone(), batch.labels.clone());
        let grads = loss.backward();
        let output = Output::new(loss.inner(), logits.inner(), batch.labels.inner());
        TrainOutput::new(self, grads, output)
    }

    fn optimize(
        self,
        optim: &mut ModuleOptimizer,
        lr: ModuleLearningRate,
        grads: GradientsParams,
    ) -> Self {
        let gradients = self.gradients.clone();
        gradients.step(self, grads, |task, grads| optim.step(lr, task, grads))
    }
}

impl InferenceStep for Task {
    type Input = Batch;
    type Output = Output;

    fn step(&self, batch: Batch) -> Output {
        let logits = self.model.forward(batch.images);
        let loss = cross_entropy(logits.clone(), batch.labels.clone());
        Output::new(loss, logits, batch.labels)
    }
}

/// The mean cross-entropy, `[1]`, of logits `[batch, classes]` and labels `[batch]`
/// (`torch.nn.functional.cross_entropy`).
pub(crate) fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let [batch, _] = logits.dims();
    log_softmax(logits, 1)
        .gather(1, labels.reshape([batch, 1]))
        .mean()
        .neg()
}

/// Loss and accuracy of some steps. They stay on the device, where steps are added up, until
/// burn-train's worker asks for them.
#[derive(Clone)]
pub(crate) struct Output {
    sums: Sums,
    images: usize,
    gradients: GradSums,
    report: Option<(Arc<Recorder>, Entry)>,
}

// One of these lives for a moment; a box would only add an allocation to every step.
#[allow(clippy::large_enum_variant)]
#[derive(Clone)]
enum Sums {
    /// `[2]`: the sum of the losses of all images, the number of right answers.
    Device(Tensor<1>),
    Host {
        loss: f64,
        correct: f64,
    },
}

impl Output {
    fn new(loss: Tensor<1>, logits: Tensor<2>, labels: Tensor<1, Int>) -> Self {
        let [images] = labels.dims();
        let correct = logits
            .argmax(1)
            .reshape([images])
            .equal(labels)
            .float()
            .sum();
        Self {
            sums: Sums::Device(Tensor::cat(vec![loss * images as f32, correct], 0)),
            images,
            gradients: GradSums::default(),
            report: None,
        }
    }

    /// Both together.
    pub(crate) fn add(self, other: Self) -> Self {
        let sums = match (self.sums, other.sums) {
            (Sums::Device(a), Sums::Device(b)) => Sums::Device(a + b),
            _ => unreachable!("outputs are read only after they are added up"),
        };
        Self {
            sums,
            images: self.images + other.images,
            gradients: self.gradients.add(other.gradients),
            report: None,
        }
    }

    /// Adds what is known of the step's gradients. The numbers of a step that was skipped count for nothing.
    pub(crate) fn with_gradients(mut self, step: StepGradients) -> Self {
        if let Sums::Device(sums) = &mut self.sums
            && let Some(skipped) = step.skipped()
        {
            *sums = sums.clone().mask_fill(skipped.expand([2]), 0.0);
        }
        self.gradients = GradSums::of(step, self.images);
        self
    }

    /// Reports to the recorder when it is read.
    pub(crate) fn reporting(self, recorder: Arc<Recorder>, entry: Entry) -> Self {
        Self {
            report: Some((recorder, entry)),
            ..self
        }
    }

    /// Sum of the losses and number of right answers; reads the device.
    fn read(&self) -> Result<(f64, f64), TensorReadError> {
        match &self.sums {
            Sums::Host { loss, correct } => Ok((*loss, *correct)),
            Sums::Device(sums) => {
                let sums = sums.clone().try_into_vec_as::<f32>()?;
                Ok((f64::from(sums[0]), f64::from(sums[1])))
            }
        }
    }
}

impl ItemLazy for Output {
    fn sync(mut self) -> Result<Self, ExecutionError> {
        let failed = |error| match error {
            TensorReadError::Execution(error) => error,
            other => ExecutionError::with_context(other.to_string()),
        };
        let (loss, correct) = self.read().map_err(failed)?;
        let numbers = self.gradients.read().map_err(failed)?;
        // Images of skipped steps count as little as their numbers.
        self.images -= numbers.skipped_images;
        if let Some((recorder, entry)) = self.report.take() {
            for (step, health) in self.gradients.health().map_err(failed)? {
                recorder.record_health(entry.epoch, step, &health);
            }
            recorder.record_gradients(&numbers);
            recorder.record(&entry, loss, correct, self.images);
        }
        self.gradients = GradSums::from(numbers);
        Ok(Self {
            sums: Sums::Host { loss, correct },
            ..self
        })
    }
}

/// A mean over images or steps, weighted exactly by how many each entry holds, for burn-train's dashboard.
#[derive(Clone)]
pub(crate) struct Mean<I> {
    name: Arc<String>,
    unit: Option<&'static str>,
    higher_is_better: bool,
    last: (f64, usize),
    total: (f64, usize),
    _input: std::marker::PhantomData<fn() -> I>,
}

/// The input of the loss metric: the sum and the number of images.
#[derive(Clone)]
pub(crate) struct LossSum(f64, usize);

/// The input of the accuracy metric: right answers in percent, summed, and the number of images.
#[derive(Clone)]
pub(crate) struct CorrectSum(f64, usize);

impl Adaptor<LossSum> for Output {
    fn adapt(&self) -> LossSum {
        LossSum(self.read().map_or(f64::NAN, |(loss, _)| loss), self.images)
    }
}

impl Adaptor<CorrectSum> for Output {
    fn adapt(&self) -> CorrectSum {
        let correct = self.read().map_or(f64::NAN, |(_, correct)| correct);
        CorrectSum(correct * 100.0, self.images)
    }
}

/// The input of the gradient norm's metric: the sum of the norms and the number of steps.
#[derive(Clone)]
pub(crate) struct GradNormSum(f64, usize);

impl Adaptor<GradNormSum> for Output {
    fn adapt(&self) -> GradNormSum {
        let numbers = self.gradients.read().unwrap_or_default();
        GradNormSum(numbers.norm, numbers.steps)
    }
}

pub(crate) trait Weighted {
    fn sum(&self) -> (f64, usize);
}

impl Weighted for LossSum {
    fn sum(&self) -> (f64, usize) {
        (self.0, self.1)
    }
}

impl Weighted for CorrectSum {
    fn sum(&self) -> (f64, usize) {
        (self.0, self.1)
    }
}

impl Weighted for GradNormSum {
    fn sum(&self) -> (f64, usize) {
        (self.0, self.1)
    }
}

impl<I> Mean<I> {
    fn new(name: &str, unit: Option<&'static str>, higher_is_better: bool) -> Self {
        Self {
            name: Arc::new(name.into()),
            unit,
            higher_is_better,
            last: (0.0, 0),
            total: (0.0, 0),
            _input: std::marker::PhantomData,
        }
    }

    fn formatted(&self) -> SerializedEntry {
        let unit = self.unit.unwrap_or_default();
        let (epoch, batch) = (mean(self.total), mean(self.last));
        SerializedEntry::new(
            format!("epoch {epoch:.4}{unit} - batch {batch:.4}{unit}"),
            entry(self.last).serialize(),
        )
    }
}

impl Mean<LossSum> {
    pub(crate) fn loss() -> Self {
        Self::new("Loss", None, false)
    }
}

impl Mean<CorrectSum> {
    pub(crate) fn accuracy() -> Self {
        Self::new("Accuracy", Some(" %"), true)
    }
}

impl Mean<GradNormSum> {
    pub(crate) fn grad_norm() -> Self {
        Self::new("Gradient norm", None, false)
    }
}

impl<I: Weighted + Send + Sync + Clone> Metric for Mean<I> {
    type Input = I;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes {
            unit: self.unit.map(|unit| unit.trim().into()),
            higher_is_better: self.higher_is_better,
        }
        .into()
    }

    fn update(
        &mut self,
        input: &I,
        _: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        self.last = input.sum();
        self.total.0 += self.last.0;
        self.total.1 += self.last.1;
        Ok(self.formatted())
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.formatted())
    }

    fn clear(&mut self) {
        (self.last, self.total) = ((0.0, 0), (0.0, 0));
    }
}

impl<I> Numeric for Mean<I> {
    fn value(&self) -> Option<NumericEntry> {
        Some(entry(self.last))
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(entry(self.total))
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Final(mean(self.total))
    }
}

fn mean((sum, count): (f64, usize)) -> f64 {
    sum / count.max(1) as f64
}

fn entry(sum: (f64, usize)) -> NumericEntry {
    NumericEntry::Aggregated {
        aggregated_value: mean(sum),
        count: sum.1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    #[test]
    fn the_cross_entropy_equals_pytorchs() {
        // torch.nn.functional.cross_entropy(
        //     torch.tensor([[1., 2., 3.], [1000., 0., -1000.], [0., 0., 0.]]), torch.tensor([2, 0, 1]))
        let expected = 0.502_072_7;
        for device in kiln_testing::devices() {
            let logits = TensorData::from([[1.0, 2.0, 3.0f32], [1000.0, 0.0, -1000.0], [0.0; 3]]);
            let logits = Tensor::<2>::from_data(logits, &device);
            let labels = Tensor::<1, Int>::from_ints([2, 0, 1], &device);
            let loss = cross_entropy(logits, labels)
                .try_into_vec_as::<f32>()
                .unwrap()[0];
            assert!((loss - expected).abs() < 1e-6, "{device:?}: {loss}");
        }
    }

    #[test]
    fn outputs_add_up_weighted_by_their_images() {
        let device = kiln_testing::devices().remove(0);
        let output = |loss: f32, logits: Tensor<2>, labels: Vec<i32>| {
            let n = labels.len();
            let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [n]), &device);
            Output::new(Tensor::from_floats([loss], &device), logits, labels)
        };
        let right_right_wrong = Tensor::from_floats([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], &device);
        let wrong = Tensor::from_floats([[0.0, 1.0]], &device);
        let both = output(2.0, right_right_wrong, vec![1, 0, 0]).add(output(6.0, wrong, vec![0]));
        let (loss, correct) = both.read().unwrap();
        assert_eq!((loss, correct, both.images), (12.0, 2.0, 4));
    }
}
