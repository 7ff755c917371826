//! Segmentation: its loss, and the counts that IoU and Dice follow from.

use burn::tensor::activation::{log_softmax, sigmoid, softmax};
use burn::tensor::{Bool, DType, Int, Tensor};
use kiln_data::MaskedImages;

/// How a mask is judged: by cross-entropy, or binary cross-entropy for one output, and Dice.
///
/// `loss = cross-entropy + dice · mean over classes of (1 - 2 Σ p t / (Σ p + Σ t))`, where the cross-entropy is the mean
/// over all pixels, p are the probabilities and t the truths, and the sums are over all pixels of the batch. A class that
/// no mask of the batch shows counts as 0 (Milletari et al. 2016, <https://arxiv.org/abs/1606.04797>; as
/// `DiceLoss` of segmentation_models.pytorch).
///
/// ```
/// use burn::tensor::{Int, Tensor};
/// use kiln_train::SegmentationLoss;
/// # let device = kiln_testing::devices().remove(0);
/// let loss = SegmentationLoss { binary: false, dice: 1.0 };
/// // Two pixels, each sure of its class, and right.
/// let logits = Tensor::<4>::from_floats([[[[20.0, -20.0]], [[-20.0, 20.0]]]], &device);
/// let masks = Tensor::<3, Int>::from_ints([[[0, 1]]], &device);
/// assert!(loss.of(logits, masks).into_scalar::<f32>() < 1e-5);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SegmentationLoss {
    /// Whether the model has one output for the second of two classes, instead of one for each class.
    pub binary: bool,
    /// Weight of the Dice loss beside the cross-entropy.
    pub dice: f64,
}

/// Below this a class is not there.
const EPS: f64 = 1e-7;

impl SegmentationLoss {
    /// Outputs of a model for so many classes.
    pub fn outputs(&self, classes: usize) -> usize {
        if self.binary { 1 } else { classes }
    }

    /// The loss, `[1]`.
    ///
    /// # Shapes
    ///
    /// - `logits`: `[batch, outputs, height, width]`
    /// - `masks`: `[batch, height, width]`, the class of each pixel
    pub fn of(&self, logits: Tensor<4>, masks: Tensor<3, Int>) -> Tensor<1> {
        let entropy = match self.binary {
            true => binary_cross_entropy(logits.clone(), masks.clone()),
            false => pixel_cross_entropy(logits.clone(), masks.clone()),
        };
        match self.dice > 0.0 {
            true => entropy + self.dice_loss(logits, masks, None) * self.dice,
            false => entropy,
        }
    }

    /// As [`of`](Self::of), without the pixels whose mask is [`MaskedImages::IGNORED`]: as `ignore_index` of PyTorch's
    /// `cross_entropy` and of the `DiceLoss` of segmentation_models.pytorch. Where no pixel is left, it is 0.
    ///
    /// # Shapes
    ///
    /// As of [`of`](Self::of).
    pub fn ignoring(&self, logits: Tensor<4>, masks: Tensor<3, Int>) -> Tensor<1> {
        let ignored = is_ignored(masks.clone());
        let masks = masks.mask_fill(ignored.clone(), 0);
        let [batch, height, width] = masks.dims();
        let counted = ignored
            .bool_not()
            .float()
            .reshape([batch, 1, height, width]);
        let each = match self.binary {
            true => binary_entropies(logits.clone(), masks.clone()),
            false => pixel_entropies(logits.clone(), masks.clone()),
        };
        let entropy = (each * counted.clone()).sum() / counted.clone().sum().clamp_min(1.0);
        match self.dice > 0.0 {
            true => entropy + self.dice_loss(logits, masks, Some(counted)) * self.dice,
            false => entropy,
        }
    }

    /// The loss of a batch; `ignores` says whether some of its pixels are to be left out.
    pub(crate) fn of_batch(
        &self,
        logits: Tensor<4>,
        masks: Tensor<3, Int>,
        ignores: bool,
    ) -> Tensor<1> {
        match ignores {
            true => self.ignoring(logits, masks),
            false => self.of(logits, masks),
        }
    }

    /// `counted` is 1 for each pixel that counts and 0 for the others; without it, all do.
    fn dice_loss(
        &self,
        logits: Tensor<4>,
        masks: Tensor<3, Int>,
        counted: Option<Tensor<4>>,
    ) -> Tensor<1> {
        let [batch, outputs, height, width] = logits.dims();
        let shares = match self.binary {
            true => sigmoid(logits),
            false => softmax(logits, 1),
        };
        let masks = masks.reshape([batch, 1, height, width]);
        let truths = match self.binary {
            true => masks.float(),
            // One plane for each class.
            false => {
                let planes = (0..outputs).map(|class| masks.clone().equal_elem(class as i64));
                Tensor::cat(planes.map(|plane| plane.float()).collect(), 1)
            }
        };
        let (shares, truths) = match counted {
            Some(counted) => (shares * counted.clone(), truths * counted),
            None => (shares, truths),
        };
        let sum = |x: Tensor<4>| -> Tensor<1> {
            x.swap_dims(0, 1)
                .reshape([outputs, batch * height * width])
                .sum_dim(1)
                .reshape([outputs])
        };
        let both = sum(shares.clone() * truths.clone());
        let truth = sum(truths);
        let all = sum(shares) + truth.clone();
        let there = truth.greater_elem(0.0).float();
        let loss = (both * 2.0 / all.clamp_min(EPS)).neg().add_scalar(1.0);
        (loss * there).mean()
    }

    /// The answers `[batch, height, width]` that logits `[batch, outputs, height, width]` give.
    pub fn answers(&self, logits: Tensor<4>) -> Tensor<3, Int> {
        let [batch, _, height, width] = logits.dims();
        let answers = match self.binary {
            true => logits.greater_elem(0.0).int(),
            false => logits.argmax(1),
        };
        answers.reshape([batch, height, width])
    }
}

/// `torch.nn.functional.cross_entropy` of `[batch, classes, height, width]`.
fn pixel_cross_entropy(logits: Tensor<4>, masks: Tensor<3, Int>) -> Tensor<1> {
    let [batch, _, height, width] = logits.dims();
    log_softmax(logits, 1)
        .gather(1, masks.reshape([batch, 1, height, width]))
        .mean()
        .neg()
}

/// The same of each pixel, `[batch, 1, height, width]`.
fn pixel_entropies(logits: Tensor<4>, masks: Tensor<3, Int>) -> Tensor<4> {
    let [batch, _, height, width] = logits.dims();
    let masks = masks.reshape([batch, 1, height, width]);
    log_softmax(logits, 1).gather(1, masks).neg()
}

/// `torch.nn.functional.binary_cross_entropy_with_logits`.
fn binary_cross_entropy(logits: Tensor<4>, masks: Tensor<3, Int>) -> Tensor<1> {
    binary_entropies(logits, masks).mean()
}

/// The same of each pixel, `[batch, 1, height, width]`.
fn binary_entropies(logits: Tensor<4>, masks: Tensor<3, Int>) -> Tensor<4> {
    let truths = masks.reshape(logits.dims()).float();
    // max(x, 0) - x t + ln(1 + exp(-|x|)), which overflows for no x.
    let tail = logits.clone().abs().neg().exp().log1p();
    logits.clone().clamp_min(0.0) - logits * truths + tail
}

/// For each class in turn: pixels that are and are taken for it, pixels that are taken for it, pixels that are it. If
/// the masks have pixels to ignore, these are taken for nothing.
pub(crate) fn count(
    answers: Tensor<3, Int>,
    masks: Tensor<3, Int>,
    classes: usize,
    ignores: bool,
) -> Tensor<1, Int> {
    let answers = match ignores {
        true => answers.mask_fill(is_ignored(masks.clone()), i64::from(MaskedImages::IGNORED)),
        false => answers,
    };
    let each = (0..classes as i64).flat_map(|class| {
        let answer = answers.clone().equal_elem(class);
        let truth = masks.clone().equal_elem(class);
        // Sums of i32, not of f32: those are exact to 16 million only.
        let sum = |x: Tensor<3, Bool>| -> Tensor<1, Int> { x.int().cast(DType::I32).sum() };
        [
            sum(answer.clone().bool_and(truth.clone())),
            sum(answer),
            sum(truth),
        ]
    });
    Tensor::cat(each.collect(), 0)
}

/// Which pixels of masks are left out.
fn is_ignored(masks: Tensor<3, Int>) -> Tensor<3, Bool> {
    masks.equal_elem(i64::from(MaskedImages::IGNORED))
}

/// The share of pixels whose answers are right, `[1]`, of those that count; 0 if none does.
pub(crate) fn share_right(
    answers: Tensor<3, Int>,
    masks: Tensor<3, Int>,
    ignores: bool,
) -> Tensor<1> {
    // An ignored pixel is no class, so that no answer is right there.
    let right = answers.equal(masks.clone()).float();
    match ignores {
        true => {
            let counted = is_ignored(masks).bool_not().float().sum();
            right.sum() / counted.clamp_min(1.0)
        }
        false => right.mean(),
    }
}

/// Pixels of each class: `[right, taken for it, of it]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Overlap(pub(crate) Vec<[u64; 3]>);

impl Overlap {
    pub(crate) fn new(counts: &[i64]) -> Self {
        let class = |c: &[i64]| [c[0] as u64, c[1] as u64, c[2] as u64];
        Self(counts.chunks_exact(3).map(class).collect())
    }

    /// Intersection over union (Jaccard index) of a class; none if it is neither there nor seen.
    pub(crate) fn class_iou(&self, class: usize) -> Option<f64> {
        let [right, taken, truth] = self.0[class];
        let union = taken + truth - right;
        (union > 0).then(|| right as f64 / union as f64)
    }

    /// Dice coefficient (F1 score) of a class; none if it is neither there nor seen.
    pub(crate) fn class_dice(&self, class: usize) -> Option<f64> {
        let [right, taken, truth] = self.0[class];
        (taken + truth > 0).then(|| 2.0 * right as f64 / (taken + truth) as f64)
    }

    /// The mean over the classes that are there or seen.
    pub(crate) fn iou(&self) -> f64 {
        mean((0..self.0.len()).filter_map(|class| self.class_iou(class)))
    }

    /// The mean over the classes that are there or seen.
    pub(crate) fn dice(&self) -> f64 {
        mean((0..self.0.len()).filter_map(|class| self.class_dice(class)))
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), v| (sum + v, count + 1));
    sum / f64::from(count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    fn tensors(device: &burn::tensor::Device) -> (Tensor<4>, Tensor<3, Int>) {
        let logits: Vec<f32> = (0..24).map(|i| ((i * 7 % 11) as f32 - 5.0) / 2.0).collect();
        let masks = vec![0, 1, 1, 0, 1, 1, 0, 0];
        (
            Tensor::from_data(TensorData::new(logits, [2, 3, 2, 2]), device),
            Tensor::from_data(TensorData::new(masks, [2, 2, 2]), (device, DType::I32)),
        )
    }

    /// tests/golden/segmentation_loss.py prints the numbers.
    #[test]
    fn the_losses_equal_pytorchs_and_those_of_segmentation_models() {
        for device in kiln_testing::devices() {
            let (logits, masks) = tensors(&device);
            let read = |loss: Tensor<1>| loss.try_into_vec_as::<f32>().unwrap()[0];
            let close = |got: f32, expected: f32| {
                assert!(
                    (got - expected).abs() < 1e-5,
                    "{device:?}: {got} != {expected}"
                );
            };
            let multi = SegmentationLoss {
                binary: false,
                dice: 0.0,
            };
            close(read(multi.of(logits.clone(), masks.clone())), CROSS_ENTROPY);
            let both = SegmentationLoss { dice: 0.5, ..multi };
            // The third class is in no mask, so it counts as 0.
            close(
                read(both.of(logits.clone(), masks.clone())),
                CROSS_ENTROPY + 0.5 * DICE,
            );
            let one = logits.slice([0..2, 1..2, 0..2, 0..2]);
            let binary = SegmentationLoss {
                binary: true,
                dice: 0.0,
            };
            close(read(binary.of(one.clone(), masks.clone())), BINARY);
            let both = SegmentationLoss {
                dice: 1.0,
                ..binary
            };
            close(
                read(both.of(one.clone(), masks.clone())),
                BINARY + BINARY_DICE,
            );
            // No overflow where the model is sure.
            let sure = read(both.of(one * 1e4, masks));
            assert!(sure.is_finite(), "{sure}");
        }
    }
    const CROSS_ENTROPY: f32 = 1.444_450_5;
    const DICE: f32 = 0.277_953_54;
    const BINARY: f32 = 0.767_997_74;
    const BINARY_DICE: f32 = 0.459_477_3;

    /// Ignored pixels must give what PyTorch gives for the other pixels alone: cross-entropy is a mean over pixels, and
    /// Dice is of sums over pixels, so these can be cut out of the tensors.
    #[test]
    fn ignored_pixels_count_neither_in_the_losses_nor_in_the_counts() {
        for device in kiln_testing::devices() {
            let (logits, masks) = tensors(&device);
            // The right column of each image is ignored.
            let left = logits.clone().slice([0..2, 0..3, 0..2, 0..1]);
            let left_masks = masks.clone().slice([0..2, 0..2, 0..1]);
            let ignored = Tensor::<3, Int>::full([2, 2, 1], 255, (&device, DType::I32));
            let partly = Tensor::cat(vec![left_masks.clone(), ignored], 2);
            let read = |loss: Tensor<1>| loss.try_into_vec_as::<f32>().unwrap()[0];
            for dice in [0.0, 0.7] {
                let multi = SegmentationLoss {
                    binary: false,
                    dice,
                };
                let binary = SegmentationLoss { binary: true, dice };
                let one = |x: &Tensor<4>| x.clone().narrow(1, 1, 1);
                for (got, expected, whole, plain) in [
                    (
                        multi.ignoring(logits.clone(), partly.clone()),
                        multi.of(left.clone(), left_masks.clone()),
                        multi.ignoring(logits.clone(), masks.clone()),
                        multi.of(logits.clone(), masks.clone()),
                    ),
                    (
                        binary.ignoring(one(&logits), partly.clone()),
                        binary.of(one(&left), left_masks.clone()),
                        binary.ignoring(one(&logits), masks.clone()),
                        binary.of(one(&logits), masks.clone()),
                    ),
                ] {
                    let (got, expected) = (read(got), read(expected));
                    assert!(
                        (got - expected).abs() < 1e-5,
                        "{device:?}: {got} != {expected}"
                    );
                    assert!((read(whole) - read(plain)).abs() < 1e-5);
                }
            }
            let loss = SegmentationLoss {
                binary: false,
                dice: 1.0,
            };
            let none = Tensor::<3, Int>::full([2, 2, 2], 255, (&device, DType::I32));
            assert_eq!(read(loss.ignoring(logits.clone(), none.clone())), 0.0);
            let answers = loss.answers(logits).cast(DType::I32);
            let part = answers.clone().slice([0..2, 0..2, 0..1]);
            let counts = |answers, masks, ignores| {
                count(answers, masks, 3, ignores)
                    .try_into_vec_as::<i64>()
                    .unwrap()
            };
            assert_eq!(
                counts(answers.clone(), partly.clone(), true),
                counts(part.clone(), left_masks.clone(), false)
            );
            let right = read(share_right(answers.clone(), partly, true));
            assert_eq!(right, read(share_right(part, left_masks, false)));
            assert_eq!(read(share_right(answers, none, true)), 0.0);
        }
    }

    #[test]
    fn counts_give_iou_and_dice() {
        for device in kiln_testing::devices() {
            let (logits, masks) = tensors(&device);
            let answers = SegmentationLoss::default().answers(logits);
            let answers_read = answers.clone().try_into_vec_as::<i64>().unwrap();
            let truths = masks.clone().try_into_vec_as::<i64>().unwrap();
            let counts = count(answers, masks, 3, false)
                .try_into_vec_as::<i64>()
                .unwrap();
            let overlap = Overlap::new(&counts);
            for class in 0..3 {
                let both = |a: &&(&i64, &i64)| *a.0 == class && *a.1 == class;
                let pairs: Vec<_> = answers_read.iter().zip(&truths).collect();
                let right = pairs.iter().filter(both).count() as u64;
                let taken = answers_read.iter().filter(|&&a| a == class).count() as u64;
                let truth = truths.iter().filter(|&&t| t == class).count() as u64;
                assert_eq!(
                    overlap.0[class as usize],
                    [right, taken, truth],
                    "{device:?}"
                );
            }
        }
        let overlap = Overlap(vec![[6, 8, 8], [2, 4, 4], [0, 0, 0]]);
        assert_eq!(
            (overlap.class_iou(0), overlap.class_dice(0)),
            (Some(0.6), Some(0.75))
        );
        // A class that is nowhere does not count.
        assert_eq!(overlap.class_iou(2), None);
        assert!((overlap.iou() - (0.6 + 1.0 / 3.0) / 2.0).abs() < 1e-12);
        assert_eq!(overlap.dice(), (0.75 + 0.5) / 2.0);
    }
}
