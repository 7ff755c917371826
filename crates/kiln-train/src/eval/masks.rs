//! Measuring a model for segmentation, and predicting masks with it.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Int, Tensor};
use kiln_data::images::{Invert, Preprocess, Raster};
use kiln_data::info::{Picture, colour};
use kiln_data::{DeviceMasks, MaskedImages, OnDevice};
use kiln_zoo::Segmenter;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::eval::evaluation::{Evaluation, TrainedModel};
use crate::recipe::data::put_masks;
use crate::run::files::write_atomically;
use crate::tasks::network::Network;
use crate::tasks::segment::{Overlap, SegmentationLoss};
use crate::tasks::single::check_input;

/// Pixels evaluated at once: one image of 512×512, many small ones.
const EVAL_PIXELS: usize = 512 * 512;
/// Test images shown on the sheet of overlays.
pub(crate) const SHOWN: usize = 4;

/// How many images are evaluated at once.
pub(crate) fn eval_batch([_, height, width]: [usize; 3]) -> usize {
    (EVAL_PIXELS / (height * width)).clamp(1, crate::eval::evaluation::EVAL_BATCH)
}

/// How well masks are predicted, beside what [`Evaluation`] tells: its confusion matrix counts pixels, and the F1 score
/// of a class is its Dice coefficient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentationScores {
    /// Intersection over union (Jaccard index), the mean over the classes, of the pixels of all images together.
    pub iou: f64,
    /// Dice coefficient (F1 score), the mean over the classes.
    pub dice: f64,
    /// Share of pixels that are taken for a wrong class.
    pub pixel_error: f64,
    /// Intersection over union of each class; 0 for one that is neither there nor seen, which the mean leaves out.
    pub class_iou: Vec<f64>,
}

impl Evaluation {
    /// Evaluates a model on images and masks on its device.
    pub(crate) fn of_masks(
        model: &Segmenter,
        loss: &SegmentationLoss,
        data: &DeviceMasks,
        classes: &[String],
    ) -> Result<Self, TrainError> {
        let backend = |error: &dyn std::fmt::Display| TrainError::Backend(error.to_string());
        let device = data.device();
        let (len, step) = (data.len(), eval_batch(data.shape()));
        let mut total = Tensor::<1>::zeros([1], &device);
        let mut confusion = vec![vec![0; classes.len()]; classes.len()];
        for start in (0..len).step_by(step) {
            let end = len.min(start + step);
            let indices = Tensor::<1, Int>::arange(start as i64..end as i64, (&device, DType::I32));
            let batch = data.form(indices, None);
            let logits = model.forward(batch.images);
            total = total
                + loss.of_batch(logits.clone(), batch.masks.clone(), batch.ignores)
                    * (end - start) as f32;
            let read = |x: Tensor<3, Int>| x.try_into_vec_as::<i64>().map_err(|e| backend(&e));
            let (answers, truths) = (read(loss.answers(logits))?, read(batch.masks)?);
            for (truth, answer) in std::iter::zip(truths, answers) {
                // A pixel to ignore is no class.
                if let Some(row) = confusion.get_mut(truth as usize) {
                    row[answer as usize] += 1;
                }
            }
        }
        let total = total.try_into_scalar::<f32>().map_err(|e| backend(&e))?;
        let overlap = Overlap(
            (0..classes.len())
                .map(|class| {
                    let taken: usize = confusion.iter().map(|row: &Vec<usize>| row[class]).sum();
                    let truth: usize = confusion[class].iter().sum();
                    [confusion[class][class] as u64, taken as u64, truth as u64]
                })
                .collect(),
        );
        let seen = Self::from_confusion(confusion, f64::from(total) / len as f64, classes);
        let class_iou = (0..classes.len()).map(|class| overlap.class_iou(class).unwrap_or(0.0));
        let segmentation = SegmentationScores {
            iou: overlap.iou(),
            dice: overlap.dice(),
            pixel_error: 1.0 - seen.accuracy,
            class_iou: class_iou.collect(),
        };
        Ok(Self {
            images: len,
            segmentation: Some(segmentation),
            ..seen
        })
    }
}

/// Writes `overlays.png`: of the first test images the image, the truth and the answer.
pub(crate) fn write_overlays(
    model: &Segmenter,
    loss: &SegmentationLoss,
    on_device: &DeviceMasks,
    data: &MaskedImages,
    folder: &Path,
) -> Result<(), TrainError> {
    let [channels, height, width] = data.shape();
    let (cell_height, cell_width) = (height + 2, width + 2);
    let count = data.len().min(SHOWN);
    let mut sheet = Picture {
        width: 3 * cell_width - 2,
        height: count * cell_height - 2,
        channels: 3,
        pixels: Vec::new(),
    };
    sheet.pixels = vec![255; sheet.width * sheet.height * 3];
    for index in 0..count {
        let at = Tensor::<1, Int>::from_ints([index as i32], &on_device.device());
        let answers = loss.answers(model.forward(on_device.form(at, None).images));
        let answers = read_mask(answers)?;
        let image = Raster::from_planes([channels, height, width], data.image(index).to_vec());
        let plain = vec![0; height * width];
        for (column, mask) in [&plain[..], data.mask(index), &answers]
            .into_iter()
            .enumerate()
        {
            let part = overlay(&image, mask);
            for y in 0..height {
                let start = ((index * cell_height + y) * sheet.width + column * cell_width) * 3;
                let row = &part.pixels[y * width * 3..][..width * 3];
                sheet.pixels[start..start + width * 3].copy_from_slice(row);
            }
        }
    }
    write_atomically(&folder.join("overlays.png"), &sheet.to_png()?)
}

fn read_mask(answers: Tensor<3, Int>) -> Result<Vec<u8>, TrainError> {
    let answers = answers.try_into_vec_as::<i64>();
    let answers = answers.map_err(|error| TrainError::Backend(error.to_string()))?;
    Ok(answers.into_iter().map(|class| class as u8).collect())
}

/// The image with the colour of each class but the first laid over it, and with the border of each region drawn.
fn overlay(image: &Raster, mask: &[u8]) -> Picture {
    let [channels, height, width] = image.shape;
    let plane = height * width;
    let mut pixels = Vec::with_capacity(plane * 3);
    for (i, &class) in mask.iter().enumerate() {
        let (y, x) = (i / width, i % width);
        let border = class > 0
            && ((x + 1 < width && mask[i + 1] != class)
                || (y + 1 < height && mask[i + width] != class)
                || (x > 0 && mask[i - 1] != class)
                || (y > 0 && mask[i - width] != class));
        let share = match (class, border) {
            (0, _) => 0.0,
            (_, false) => 0.3,
            (_, true) => 0.9,
        };
        for (c, ink) in colour(class).into_iter().enumerate() {
            // The colours of the classes are dark; over a picture they must shine.
            let ink = f32::from(ink) * 255.0 / 192.0;
            let value = f32::from(image.pixels[(c % channels) * plane + i]);
            pixels.push((value + share * (ink.min(255.0) - value) + 0.5) as u8);
        }
    }
    Picture {
        width,
        height,
        channels: 3,
        pixels,
    }
}

/// What a model says of each pixel of a picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MaskPrediction {
    /// Height of the picture and of the mask.
    pub height: usize,
    /// Width of the picture and of the mask.
    pub width: usize,
    /// For each class its name and the share of the pixels that are taken for it.
    pub shares: Vec<(String, f64)>,
    /// The class of each pixel, `[height, width]`.
    #[serde(skip)]
    pub mask: Vec<u8>,
    #[serde(skip)]
    values: Vec<u8>,
    #[serde(skip)]
    picture: Raster,
}

impl MaskPrediction {
    /// Writes `NAME.mask.png`, whose values are those of the training masks, and `NAME.overlay.png`, the picture with
    /// the classes' colours over it, into a folder; returns both paths.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> Result<[PathBuf; 2], TrainError> {
        let mask = Picture {
            width: self.width,
            height: self.height,
            channels: 1,
            pixels: self
                .mask
                .iter()
                .map(|&c| self.values[usize::from(c)])
                .collect(),
        };
        let paths = [
            folder.join(format!("{name}.mask.png")),
            folder.join(format!("{name}.overlay.png")),
        ];
        write_atomically(&paths[0], &mask.to_png()?)?;
        let overlay = overlay(&self.picture, &self.mask);
        write_atomically(&paths[1], &overlay.to_png()?)?;
        Ok(paths)
    }
}

impl TrainedModel {
    /// Whether the model predicts masks, so that [`predict_mask`](Self::predict_mask) is for it.
    pub fn predicts_masks(&self) -> bool {
        matches!(self.model, Network::Segmenter(_))
    }

    /// Predicts the mask of a picture of any size. Where the training images were scaled to one size (`data.size`), the
    /// picture is too, and its mask is brought back to the picture's own.
    ///
    /// # Errors
    ///
    /// If the picture cannot be read, or the model predicts classes instead.
    pub fn predict_mask(&self, picture: impl AsRef<Path>) -> Result<MaskPrediction, TrainError> {
        let Network::Segmenter(model) = &self.model else {
            return Err(TrainError::NoMasks);
        };
        let info = self.info();
        let whole = Preprocess {
            size: None,
            ..self.preprocess
        };
        let (picture, _) = whole.read(picture.as_ref(), Invert::No)?;
        let [_, height, width] = picture.shape;
        let seen = self.preprocess.apply(picture.clone());
        let [_, h, w] = seen.shape;
        let [channels, _, _] = self.input;
        check_input(&self.model, [1, channels, h, w])?;
        let classes = self.classes.clone();
        let one = MaskedImages::new("picture", classes, seen.shape, seen.pixels, vec![0; h * w]);
        let one = one.expect("one picture with an empty mask, for the classes of a run");
        let one = put_masks(&one, &self.device, self.scaler.as_ref())?;
        let batch = one.form(Tensor::<1, Int>::zeros([1], &self.device), None);
        let answers = read_mask(self.loss.answers(model.forward(batch.images)))?;
        let mask = kiln_data::images::Mask::new([h, w], answers)
            .resize(height, width)
            .values;
        let share = |class: usize| {
            let pixels = mask.iter().filter(|&&c| usize::from(c) == class).count();
            pixels as f64 / mask.len() as f64
        };
        let names = self.classes.iter().enumerate();
        let values = info.data.mask_values.clone();
        Ok(MaskPrediction {
            height,
            width,
            shares: names
                .map(|(class, name)| (name.clone(), share(class)))
                .collect(),
            values: values.unwrap_or_else(|| (0..=u8::MAX).collect()),
            mask,
            picture,
        })
    }
}
