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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::TaskName;
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
            (output.item.read_sums().unwrap().totals, values.0)
        };
        let ((plain, expected), (saving, ours)) = (step(false), step(true));
        assert!((plain.loss - saving.loss).abs() < 1e-5 * plain.loss);
        assert_eq!((&plain.means, expected.len()), (&saving.means, ours.len()));
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
    fn sums_of_labels_add_up_weighted_by_their_images() {
        let device = kiln_testing::devices().remove(0);
        let sums = |loss: f32, logits: Tensor<2>, labels: Vec<i32>| {
            let n = labels.len();
            let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [n]), &device);
            label_sums(Tensor::from_floats([loss], &device), logits, labels)
        };
        let right_right_wrong = Tensor::from_floats([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], &device);
        let wrong = Tensor::from_floats([[0.0, 1.0]], &device);
        let mut both = sums(2.0, right_right_wrong, vec![1, 0, 0]);
        both += sums(6.0, wrong, vec![0]);
        let read = both.read_sums().unwrap().totals;
        assert_eq!((read.loss, read.items), (12.0, 4));
        assert_eq!(read.means, [("accuracy".to_owned(), 2.0)]);
    }

    #[test]
    fn sums_of_masks_add_up_their_counts() {
        for device in kiln_testing::devices() {
            let sums = |answers: [i32; 4], masks: [i32; 4]| {
                let tensor = |values: [i32; 4]| {
                    Tensor::<1, Int>::from_ints(values, &device).reshape([2, 1, 2])
                };
                let loss = Tensor::from_floats([0.5], &device);
                mask_sums(loss, tensor(answers), tensor(masks), 2, false)
            };
            let mut both = sums([0, 1, 1, 1], [0, 1, 0, 1]);
            both += sums([0; 4], [1; 4]);
            let read = both.read_sums().unwrap().totals;
            // Three of four pixels are right in the first two images, none in the others.
            assert_eq!((read.loss, read.items), (2.0, 4));
            let [accuracy, error] = &read.means[..] else {
                panic!("{:?}", read.means)
            };
            assert_eq!((accuracy.1, error.1), (1.5, 2.5));
            assert_eq!(read.counts, [1, 5, 2, 2, 3, 6]);
            assert!(!both.is_full());
            let scores = both.read().unwrap();
            assert_eq!(scores.get("pixel_error"), Some(0.625));
            assert_eq!(scores.get("dice"), Some((2.0 / 7.0 + 4.0 / 9.0) / 2.0));
        }
    }
}
