//! What a step of the two tasks is.

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};
use burn::train::{InferenceStep, TrainOutput, TrainStep};
use kiln_data::{Batch, Mixed};

use kiln_zoo::Classifier;

use super::loader::Input;
use super::network::Network;
use super::segment::{self, Overlap, SegmentationLoss};
use crate::training::sums::{Metrics, StepSums};

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
    /// Whether a classifier's activations are computed again instead of kept.
    #[module(skip)]
    pub(crate) memory_efficient: bool,
}

impl Task {
    /// The loss, which keeps its graph, and what is measured, which does not need it.
    fn judge(&self, input: Input) -> (Tensor<1>, StepSums) {
        match (&self.model, input) {
            (Network::Classifier(model), Input::Labels(batch)) => {
                let logits = model.forward(batch.images);
                let loss = label_loss(logits.clone(), batch.labels.clone(), batch.mixed);
                (loss.clone(), label_sums(loss, logits, batch.labels))
            }
            (Network::Segmenter(model), Input::Masks(batch)) => {
                let (masks, ignores) = (batch.masks, batch.ignores);
                let logits = model.forward(batch.images);
                let loss = self.loss.of_batch(logits.clone(), masks.clone(), ignores);
                let answers = self.loss.answers(logits.without_autodiff());
                let sums = mask_sums(loss.clone(), answers, masks, self.classes, ignores);
                (loss, sums)
            }
            _ => unreachable!("the model and the data of a run are for one task"),
        }
    }
}

impl TrainStep for Task {
    type Input = Input;
    type Output = StepSums;

    fn step(&self, batch: Input) -> TrainOutput<StepSums> {
        if self.memory_efficient
            && let (Network::Classifier(model), Input::Labels(batch)) = (&self.model, &batch)
        {
            return saving_memory(model, batch.clone());
        }
        let (loss, sums) = self.judge(batch);
        TrainOutput::new(self, loss.backward(), sums)
    }
}

impl InferenceStep for Task {
    type Input = Input;
    type Output = StepSums;

    fn step(&self, batch: Input) -> StepSums {
        self.judge(batch).1
    }
}

/// A step of a classifier with less memory.
fn saving_memory(model: &Classifier, batch: Batch) -> TrainOutput<StepSums> {
    let Batch {
        images,
        labels,
        mixed,
    } = batch;
    let mut answers = None;
    let (loss, grads) = model.backward_saving_memory(images, |logits| {
        answers = Some(logits.clone());
        label_loss(logits, labels.clone(), mixed)
    });
    let answers = answers.expect("the loss was computed");
    let item = label_sums(loss, answers, labels);
    TrainOutput { grads, item }
}

/// Loss and accuracy of logits `[batch, classes]` and labels `[batch]`.
fn label_sums(loss: Tensor<1>, logits: Tensor<2>, labels: Tensor<1, Int>) -> StepSums {
    let [images] = labels.dims();
    let answers = logits.without_autodiff().argmax(1).reshape([images]);
    let right = answers.equal(labels.without_autodiff()).float().sum();
    StepSums::new(loss, images).total("accuracy", right)
}

/// Loss, accuracy, pixel error, IoU and Dice of answers and masks `[batch, height, width]`.
fn mask_sums(
    loss: Tensor<1>,
    answers: Tensor<3, Int>,
    masks: Tensor<3, Int>,
    classes: usize,
    ignores: bool,
) -> StepSums {
    let (answers, masks) = (answers.without_autodiff(), masks.without_autodiff());
    let [images, height, width] = masks.dims();
    // The mean is of at most one batch, so it is exact enough.
    let right = segment::share_right(answers.clone(), masks.clone(), ignores);
    let counts = segment::count(answers, masks, classes, ignores);
    StepSums::new(loss, images)
        .mean("accuracy", right.clone())
        .mean("pixel_error", right.neg().add_scalar(1.0))
        .counts(counts, images * height * width, overlap)
}

fn overlap(counts: &[i64]) -> Metrics {
    let overlap = Overlap::new(counts);
    vec![("iou", overlap.iou()), ("dice", overlap.dice())]
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
