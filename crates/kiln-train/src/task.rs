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
use kiln_data::{Batch, Mixed};

use kiln_zoo::Classifier;

use crate::clipping::{GradSums, Gradients, StepGradients};
use crate::loader::Input;
use crate::network::Network;
use crate::recorder::{Entry, Recorder};
use crate::segment::{self, Overlap, SegmentationLoss};

/// A model with its loss.
#[derive(Module, Debug)]
pub(crate) struct Task {
    pub(crate) model: Network,
    /// How masks are judged, in segmentation.
    #[module(skip)]
    pub(crate) loss: SegmentationLoss,
    /// Classes of the data.
    #[module(skip)]
    pub(crate) classes: usize,
    /// What is done with the gradients before the optimizer takes them.
    #[module(skip)]
    pub(crate) gradients: Gradients,
    /// Whether a classifier's activations are computed again instead of kept.
    #[module(skip)]
    pub(crate) memory_efficient: bool,
}

impl Task {
    /// The loss, which keeps its graph, and what is counted, which does not need it.
    fn judge(&self, input: Input) -> (Tensor<1>, Counted) {
        match (&self.model, input) {
            (Network::Classifier(model), Input::Labels(batch)) => {
                let logits = model.forward(batch.images);
                let loss = label_loss(logits.clone(), batch.labels.clone(), batch.mixed);
                (loss, Counted::Labels(logits, batch.labels))
            }
            (Network::Segmenter(model), Input::Masks(batch)) => {
                let (masks, ignores) = (batch.masks, batch.ignores);
                let logits = model.forward(batch.images);
                let loss = self.loss.of_batch(logits.clone(), masks.clone(), ignores);
                let answers = self.loss.answers(logits);
                (
                    loss,
                    Counted::Masks {
                        answers,
                        masks,
                        classes: self.classes,
                        ignores,
                    },
                )
            }
            _ => unreachable!("the model and the data of a run are for one task"),
        }
    }
}

/// What the metrics of a step are counted from.
enum Counted {
    /// Logits `[batch, classes]` and labels `[batch]`.
    Labels(Tensor<2>, Tensor<1, Int>),
    /// Answers and masks `[batch, height, width]`, the number of classes, and whether some pixels are to be ignored.
    Masks {
        answers: Tensor<3, Int>,
        masks: Tensor<3, Int>,
        classes: usize,
        ignores: bool,
    },
}

impl Counted {
    fn inner(self) -> Self {
        match self {
            Self::Labels(logits, labels) => Self::Labels(logits.inner(), labels.inner()),
            Self::Masks {
                answers,
                masks,
                classes,
                ignores,
            } => Self::Masks {
                answers: answers.inner(),
                masks: masks.inner(),
                classes,
                ignores,
            },
        }
    }
}

impl TrainStep for Task {
    type Input = Input;
    type Output = Output;

    fn step(&self, batch: Input) -> TrainOutput<Output> {
        self.gradients.remember(&self.model);
        if self.memory_efficient
            && let (Network::Classifier(model), Input::Labels(batch)) = (&self.model, &batch)
        {
            return saving_memory(model, batch.clone());
        }
        let (loss, counted) = self.judge(batch);
        let grads = loss.backward();
        let output = Output::new(loss.inner(), counted.inner());
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
    type Input = Input;
    type Output = Output;

    fn step(&self, batch: Input) -> Output {
        let (loss, counted) = self.judge(batch);
        Output::new(loss, counted)
    }
}

/// A step of a classifier with less memory.
fn saving_memory(model: &Classifier, batch: Batch) -> TrainOutput<Output> {
    let Batch {
        images,
        labels,
        mixed,
    } = batch;
    let mut answers = None;
    let (loss, grads) = model.backward_saving_memory(images, |logits| {
        answers = Some(logits.clone().inner());
        label_loss(logits, labels.clone(), mixed)
    });
    let answers = answers.expect("the loss was computed");
    let item = Output::new(loss.inner(), Counted::Labels(answers, labels.inner()));
    TrainOutput { grads, item }
}

/// The cross-entropy of a batch, of mixed images by their shares.
fn label_loss(logits: Tensor<2>, labels: Tensor<1, Int>, mixed: Option<Mixed>) -> Tensor<1> {
    let loss = cross_entropy(logits.clone(), labels);
    let Some(Mixed { labels, share }) = mixed else {
        return loss;
    };
    let other = cross_entropy(logits, labels);
    other.clone() + (loss - other) * share
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
    /// In segmentation, how many pixels are counted in `overlap`.
    pixels: usize,
    report: Option<(Arc<Recorder>, Entry)>,
}

// One of these lives for a moment; a box would only add an allocation to every step.
#[allow(clippy::large_enum_variant)]
#[derive(Clone)]
enum Sums {
    /// `[2]`: the sum of the losses of all images, the number of right answers (in segmentation, the sum of the
    /// shares of right pixels); and in segmentation the counts of [`segment::count`].
    Device(Tensor<1>, Option<Tensor<1, Int>>),
    Host(Read),
}

/// Sums that were read from the device.
#[derive(Clone, Default)]
struct Read {
    loss: f64,
    correct: f64,
    overlap: Overlap,
}

/// More pixels than this are not added up before they are read: counts are `i32` on the device.
const FULL: usize = 1 << 30;

impl Output {
    fn new(loss: Tensor<1>, counted: Counted) -> Self {
        let (images, pixels, correct, overlap) = match counted {
            Counted::Labels(logits, labels) => {
                let [images] = labels.dims();
                let answers = logits.argmax(1).reshape([images]);
                (images, 0, answers.equal(labels).float().sum(), None)
            }
            Counted::Masks {
                answers,
                masks,
                classes,
                ignores,
            } => {
                let [images, height, width] = masks.dims();
                // The mean is of at most one batch, so it is exact enough.
                let share = segment::share_right(answers.clone(), masks.clone(), ignores);
                let share = share * images as f32;
                let overlap = segment::count(answers, masks, classes, ignores);
                (images, images * height * width, share, Some(overlap))
            }
        };
        Self {
            sums: Sums::Device(Tensor::cat(vec![loss * images as f32, correct], 0), overlap),
            images,
            gradients: GradSums::default(),
            pixels,
            report: None,
        }
    }

    /// Whether it must be read before more is added to it.
    pub(crate) fn is_full(&self) -> bool {
        self.pixels >= FULL
    }

    /// Both together.
    pub(crate) fn add(self, other: Self) -> Self {
        let sums = match (self.sums, other.sums) {
            (Sums::Device(a, x), Sums::Device(b, y)) => {
                let overlap = x.zip(y).map(|(x, y)| x + y);
                Sums::Device(a + b, overlap)
            }
            _ => unreachable!("outputs are read only after they are added up"),
        };
        Self {
            sums,
            images: self.images + other.images,
            gradients: self.gradients.add(other.gradients),
            pixels: self.pixels + other.pixels,
            report: None,
        }
    }

    /// Adds what is known of the step's gradients. The numbers of a step that was skipped count for nothing.
    pub(crate) fn with_gradients(mut self, step: StepGradients) -> Self {
        if let Sums::Device(sums, overlap) = &mut self.sums
            && let Some(skipped) = step.skipped()
        {
            *sums = sums.clone().mask_fill(skipped.clone().expand([2]), 0.0);
            if let Some(counts) = overlap {
                let skipped = skipped.expand(counts.dims());
                *counts = counts.clone().mask_fill(skipped, 0);
            }
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

    /// Sum of the losses, number of right answers and counts of pixels; reads the device.
    fn read(&self) -> Result<Read, TensorReadError> {
        match &self.sums {
            Sums::Host(read) => Ok(read.clone()),
            Sums::Device(sums, overlap) => {
                let sums = sums.clone().try_into_vec_as::<f32>()?;
                let overlap = match overlap {
                    Some(counts) => Overlap::new(&counts.clone().try_into_vec_as::<i64>()?),
                    None => Overlap::default(),
                };
                Ok(Read {
                    loss: f64::from(sums[0]),
                    correct: f64::from(sums[1]),
                    overlap,
                })
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
        let read = self.read().map_err(failed)?;
        let numbers = self.gradients.read().map_err(failed)?;
        // Images of skipped steps count as little as their numbers.
        self.images -= numbers.skipped_images;
        if let Some((recorder, entry)) = self.report.take() {
            for (step, health) in self.gradients.health().map_err(failed)? {
                recorder.record_health(entry.epoch, step, &health);
            }
            recorder.record_gradients(&numbers);
            recorder.record_overlap(entry.part, &read.overlap);
            recorder.record(&entry, read.loss, read.correct, self.images);
        }
        self.gradients = GradSums::from(numbers);
        Ok(Self {
            sums: Sums::Host(read),
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

/// The input of the metrics of segmentation: pixels of each class.
#[derive(Clone)]
pub(crate) struct OverlapSum(Overlap);

/// IoU or Dice, of the pixels of all images together, for burn-train's dashboard.
#[derive(Clone)]
pub(crate) struct OverlapMetric {
    name: Arc<String>,
    score: fn(&Overlap) -> f64,
    last: Overlap,
    total: Overlap,
}

impl OverlapMetric {
    pub(crate) fn iou() -> Self {
        Self::new("IoU", Overlap::iou)
    }

    pub(crate) fn dice() -> Self {
        Self::new("Dice", Overlap::dice)
    }

    fn new(name: &str, score: fn(&Overlap) -> f64) -> Self {
        Self {
            name: Arc::new(name.into()),
            score,
            last: Overlap::default(),
            total: Overlap::default(),
        }
    }

    fn formatted(&self) -> SerializedEntry {
        let (epoch, batch) = ((self.score)(&self.total), (self.score)(&self.last));
        SerializedEntry::new(
            format!("epoch {epoch:.4} - batch {batch:.4}"),
            NumericEntry::Value(batch).serialize(),
        )
    }
}

impl Metric for OverlapMetric {
    type Input = OverlapSum;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes {
            unit: None,
            higher_is_better: true,
        }
        .into()
    }

    fn update(
        &mut self,
        input: &OverlapSum,
        _: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        self.last = input.0.clone();
        self.total.add(&self.last);
        Ok(self.formatted())
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.formatted())
    }

    fn clear(&mut self) {
        (self.last, self.total) = Default::default();
    }
}

impl Numeric for OverlapMetric {
    fn value(&self) -> Option<NumericEntry> {
        Some(NumericEntry::Value((self.score)(&self.last)))
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(NumericEntry::Value((self.score)(&self.total)))
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Final((self.score)(&self.total))
    }
}

/// The input of the accuracy metric: right answers in percent, summed, and the number of images.
#[derive(Clone)]
pub(crate) struct CorrectSum(f64, usize);

impl Adaptor<LossSum> for Output {
    fn adapt(&self) -> LossSum {
        LossSum(self.read().map_or(f64::NAN, |read| read.loss), self.images)
    }
}

impl Adaptor<CorrectSum> for Output {
    fn adapt(&self) -> CorrectSum {
        let correct = self.read().map_or(f64::NAN, |read| read.correct);
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

impl Adaptor<OverlapSum> for Output {
    fn adapt(&self) -> OverlapSum {
        OverlapSum(
            self.read()
                .map_or_else(|_| Overlap::default(), |read| read.overlap),
        )
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
    use crate::recipe::{Recipe, TaskName};
    use burn::optim::SgdConfig;
    use burn::tensor::{Distribution, TensorData};
    use kiln_data::Batch;
    use kiln_zoo::Settings;

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
    fn the_loss_of_mixed_images_is_that_of_soft_labels() {
        // torch.nn.functional.cross_entropy(torch.tensor([[1., 2., 3.], [0., 1., 0.]]),
        //     torch.tensor([[0., 0.3, 0.7], [0.7, 0., 0.3]]))
        let expected = 1.129_525_4;
        for device in kiln_testing::devices() {
            let logits = Tensor::<2>::from_floats([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]], &device);
            let ints = |labels: [i32; 2]| Tensor::<1, Int>::from_ints(labels, &device);
            let mixed = Mixed {
                labels: ints([1, 2]),
                share: Tensor::from_floats([0.7], &device),
            };
            let loss = label_loss(logits, ints([2, 0]), Some(mixed)).into_scalar::<f32>();
            assert!((loss - expected).abs() < 1e-6, "{device:?}: {loss}");
        }
    }

    #[test]
    fn a_step_that_saves_memory_leaves_the_weights_that_a_plain_one_does() {
        let device = kiln_testing::devices().remove(0).autodiff();
        device.seed(5);
        let settings = Settings {
            input: [1, 16, 16],
            num_classes: 3,
            ..Settings::default()
        };
        let task = TaskName::Classification;
        let model = Network::create(task, "densenet-22-4", &settings, &device).unwrap();
        let model = model.materialize();
        let images = Tensor::random([6, 1, 16, 16], Distribution::Normal(0.0, 1.0), &device);
        let labels = Tensor::from_ints([0, 1, 2, 0, 1, 2], &device);
        let step = |memory_efficient| {
            let task = Task {
                model: model.clone(),
                loss: SegmentationLoss::default(),
                classes: 3,
                gradients: Gradients::new(&Recipe::default()).unwrap(),
                memory_efficient,
            };
            let (images, labels) = (images.clone(), labels.clone());
            let output = TrainStep::step(
                &task,
                Input::Labels(Batch {
                    images,
                    labels,
                    mixed: None,
                }),
            );
            let task = SgdConfig::new().init().step(0.1, task, output.grads);
            // Weights and running statistics.
            let mut values = Values::default();
            task.visit(&mut values);
            (output.item.read().unwrap(), values.0)
        };
        let ((plain, expected), (saving, ours)) = (step(false), step(true));
        assert!((plain.loss - saving.loss).abs() < 1e-5 * plain.loss);
        assert_eq!(
            (plain.correct, expected.len()),
            (saving.correct, ours.len())
        );
        let differences = expected.iter().zip(&ours).map(|(a, b)| (a - b).abs());
        let worst = differences.fold(0.0, f32::max);
        assert!(worst < 1e-5, "{worst}");
        let mut before = Values::default();
        model.visit(&mut before);
        let moved = before
            .0
            .iter()
            .zip(&ours)
            .any(|(a, b)| (a - b).abs() > 1e-3);
        assert!(moved, "nothing was learned");
    }

    #[derive(Default)]
    struct Values(Vec<f32>);

    impl burn::module::ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            self.0.extend(param.val().try_into_vec_as::<f32>().unwrap());
        }
    }

    #[test]
    fn outputs_add_up_weighted_by_their_images() {
        let device = kiln_testing::devices().remove(0);
        let output = |loss: f32, logits: Tensor<2>, labels: Vec<i32>| {
            let n = labels.len();
            let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [n]), &device);
            let loss = Tensor::from_floats([loss], &device);
            Output::new(loss, Counted::Labels(logits, labels))
        };
        let right_right_wrong = Tensor::from_floats([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], &device);
        let wrong = Tensor::from_floats([[0.0, 1.0]], &device);
        let both = output(2.0, right_right_wrong, vec![1, 0, 0]).add(output(6.0, wrong, vec![0]));
        let read = both.read().unwrap();
        assert_eq!((read.loss, read.correct, both.images), (12.0, 2.0, 4));
    }

    #[test]
    fn outputs_of_masks_add_up_their_counts() {
        for device in kiln_testing::devices() {
            let output = |answers: [i32; 4], masks: [i32; 4]| {
                let tensor = |values: [i32; 4]| {
                    Tensor::<1, Int>::from_ints(values, &device).reshape([2, 1, 2])
                };
                let counted = Counted::Masks {
                    answers: tensor(answers),
                    masks: tensor(masks),
                    classes: 2,
                    ignores: false,
                };
                Output::new(Tensor::from_floats([0.5], &device), counted)
            };
            let both = output([0, 1, 1, 1], [0, 1, 0, 1]).add(output([0; 4], [1; 4]));
            let read = both.read().unwrap();
            // Three of four pixels are right in the first two images, none in the others.
            assert_eq!((read.loss, read.correct, both.images), (2.0, 1.5, 4));
            assert_eq!(read.overlap, Overlap(vec![[1, 5, 2], [2, 3, 6]]));
            assert!(!both.is_full());
        }
    }
}
