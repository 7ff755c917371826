//! Measuring a trained classifier: accuracy, loss, per-class scores, confusion matrix.

use std::fmt::Write as _;
use std::path::Path;

use burn::tensor::{DType, Device, Int, Tensor};
use kiln_data::DeviceDataset;
use kiln_data::scale::Scaler;
use kiln_zoo::Classifier;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::files::write_json;
use crate::network::Network;
use crate::plot;
use crate::prepare::{Images, Prepared, put, put_masks};
use crate::recipe::{DataRecipe, TaskName};
use crate::run_dir::{RunDir, RunInfo};
use crate::segment::SegmentationLoss;
use crate::segmentation::{SegmentationScores, write_overlays};
use crate::task::cross_entropy;
use crate::weights::load_weights;

/// Images evaluated at once.
pub(crate) const EVAL_BATCH: usize = 250;

/// How well a classifier does on labelled images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Number of images.
    pub images: usize,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Share of right answers, 0 to 1.
    pub accuracy: f64,
    /// Scores of each class.
    pub classes: Vec<ClassScore>,
    /// `confusion[truth][answer]`: how many images of class `truth` were taken for `answer`; in segmentation, how many
    /// pixels.
    pub confusion: Vec<Vec<usize>>,
    /// Scores of segmentation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segmentation: Option<SegmentationScores>,
}

/// Scores of one class. What would divide by zero is 0, as in scikit-learn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// The class.
    pub name: String,
    /// Of the images taken for this class, the share that are.
    pub precision: f64,
    /// Of the images of this class, the share that were found.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Images of this class.
    pub support: usize,
}

impl Evaluation {
    /// Evaluates a model on data on its device. What is read from the device is read once, at the end.
    pub(crate) fn of(
        model: &Classifier,
        data: &DeviceDataset,
        classes: &[String],
    ) -> Result<Self, TrainError> {
        let device = data.device();
        let len = data.len();
        let mut loss = Tensor::<1>::zeros([1], &device);
        let (mut answers, mut truths) = (Vec::new(), Vec::new());
        for start in (0..len).step_by(EVAL_BATCH) {
            let end = len.min(start + EVAL_BATCH);
            let indices = Tensor::<1, Int>::arange(start as i64..end as i64, (&device, DType::I32));
            let batch = data.batch(indices, None);
            let logits = model.forward(batch.images);
            answers.push(logits.clone().argmax(1).reshape([end - start]));
            loss = loss + cross_entropy(logits, batch.labels.clone()) * (end - start) as f32;
            truths.push(batch.labels);
        }
        let backend = |error: &dyn std::fmt::Display| TrainError::Backend(error.to_string());
        let read = |parts: Vec<Tensor<1, Int>>| {
            let all = Tensor::cat(parts, 0).try_into_vec_as::<i64>();
            all.map_err(|error| backend(&error))
        };
        let (answers, truths) = (read(answers)?, read(truths)?);
        let loss = loss
            .try_into_scalar::<f32>()
            .map_err(|error| backend(&error))?;
        let mut confusion = vec![vec![0; classes.len()]; classes.len()];
        for (truth, answer) in std::iter::zip(truths, answers) {
            confusion[truth as usize][answer as usize] += 1;
        }
        Ok(Self::from_confusion(
            confusion,
            f64::from(loss) / len as f64,
            classes,
        ))
    }

    /// The scores that follow from a confusion matrix, `confusion[truth][answer]`.
    ///
    /// ```
    /// let classes = ["cat".into(), "dog".into()];
    /// let seen = kiln_train::Evaluation::from_confusion(vec![vec![3, 1], vec![0, 4]], 0.2, &classes);
    /// assert_eq!(seen.accuracy, 7.0 / 8.0);
    /// assert_eq!((seen.classes[1].precision, seen.classes[1].recall), (0.8, 1.0));
    /// ```
    pub fn from_confusion(confusion: Vec<Vec<usize>>, loss: f64, classes: &[String]) -> Self {
        let share = |part: usize, whole: usize| match whole {
            0 => 0.0,
            whole => part as f64 / whole as f64,
        };
        let images: usize = confusion.iter().flatten().sum();
        let right: usize = (0..confusion.len()).map(|i| confusion[i][i]).sum();
        let scores = classes.iter().enumerate().map(|(i, name)| {
            let support: usize = confusion[i].iter().sum();
            let taken: usize = confusion.iter().map(|row| row[i]).sum();
            let hit = confusion[i][i];
            ClassScore {
                name: name.clone(),
                precision: share(hit, taken),
                recall: share(hit, support),
                f1: share(2 * hit, taken + support),
                support,
            }
        });
        Self {
            images,
            loss,
            accuracy: share(right, images),
            classes: scores.collect(),
            confusion,
            segmentation: None,
        }
    }

    /// The scores and the confusion matrix as text.
    pub fn to_text(&self) -> String {
        let names = self.classes.iter().map(|class| class.name.as_str());
        let width = names
            .clone()
            .map(|name| name.chars().count())
            .max()
            .unwrap_or(0)
            .max(5);
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{} images  accuracy {:.2} %  loss {:.4}\n",
            self.images,
            self.accuracy * 100.0,
            self.loss
        );
        match &self.segmentation {
            None => self.classes_text(&mut text, width),
            Some(scores) => self.masks_text(&mut text, width, scores),
        }
        let largest = self.confusion.iter().flatten().max().copied().unwrap_or(0);
        let cell = largest.to_string().len().max(3);
        let _ = write!(text, "\ntruth \\ answer\n{:width$} ", "");
        for name in names.clone() {
            let short: String = name.chars().take(cell).collect();
            let _ = write!(text, " {short:>cell$}");
        }
        text.push('\n');
        for (name, row) in names.zip(&self.confusion) {
            let _ = write!(text, "{name:width$} ");
            for count in row {
                match count {
                    0 => drop(write!(text, " {:>cell$}", "·")),
                    count => drop(write!(text, " {count:>cell$}")),
                }
            }
            text.push('\n');
        }
        text
    }

    fn classes_text(&self, text: &mut String, width: usize) {
        let _ = writeln!(
            text,
            "{:width$}  precision  recall      f1  images",
            "class"
        );
        for class in &self.classes {
            let _ = writeln!(
                text,
                "{:width$}  {:9.4}  {:6.4}  {:6.4}  {:6}",
                class.name, class.precision, class.recall, class.f1, class.support
            );
        }
    }

    fn masks_text(&self, text: &mut String, width: usize, scores: &SegmentationScores) {
        let _ = writeln!(
            text,
            "IoU {:.4}  Dice {:.4}  pixel error {:.2} %\n\n{:width$}  precision  recall    dice     iou  pixels",
            scores.iou,
            scores.dice,
            scores.pixel_error * 100.0,
            "class"
        );
        for (class, iou) in self.classes.iter().zip(&scores.class_iou) {
            let _ = writeln!(
                text,
                "{:width$}  {:9.4}  {:6.4}  {:6.4}  {:6.4}  {:6}",
                class.name, class.precision, class.recall, class.f1, iou, class.support
            );
        }
    }

    /// Writes `evaluation.json` and `confusion.png` into a folder.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), TrainError> {
        write_json(&folder.join("evaluation.json"), self)?;
        plot::confusion_matrix(self, &folder.join("confusion.png"))
    }
}

/// A finished run, ready to evaluate or predict with.
pub struct TrainedModel {
    pub(crate) model: Network,
    /// How masks are judged, in segmentation.
    pub(crate) loss: SegmentationLoss,
    pub(crate) device: Device,
    /// As fitted on the training images.
    pub(crate) scaler: Option<Scaler>,
    info: RunInfo,
    task: TaskName,
    data: DataRecipe,
}

impl TrainedModel {
    /// Loads the trained weights of a run onto a device.
    ///
    /// # Errors
    ///
    /// If the folder holds no run, the run is not finished, or a file is damaged.
    pub fn load(run: impl AsRef<Path>, device: &Device) -> Result<Self, TrainError> {
        let run = RunDir::open(run)?;
        let info = run.info()?;
        if !run.model_file().is_file() {
            return Err(TrainError::NotARun {
                path: run.path().into(),
                missing: "model.safetensors (an unfinished run is continued with `kiln train --resume`)",
            });
        }
        let device = device.clone().without_autodiff();
        let recipe = run.recipe()?;
        let model = Network::create(recipe.task, &info.model_name, &info.model, &device)?;
        let model = load_weights(model, &run.model_file())?;
        Ok(Self {
            model,
            loss: crate::train::loss(&recipe, &info.data)?,
            device,
            scaler: run.scaler()?,
            task: recipe.task,
            data: recipe.data,
            info,
        })
    }

    /// What the run was started with.
    pub fn info(&self) -> &RunInfo {
        &self.info
    }

    /// The data that the run was trained on, to evaluate on its test images.
    pub fn data(&self) -> &DataRecipe {
        &self.data
    }

    /// Loads data to evaluate on, for the model's task; their masks must hold the values that it was trained on.
    ///
    /// # Errors
    ///
    /// As [`Prepared::load`].
    pub fn load_data(&self, recipe: &DataRecipe, progress: bool) -> Result<Prepared, TrainError> {
        let values = self.info.data.mask_values.clone();
        Prepared::load_with(recipe, self.task, values, progress)
    }

    /// Evaluates on the test images of some data, scaled as the training data were.
    ///
    /// # Errors
    ///
    /// If the images have another shape, or the data have more classes than the model.
    pub fn evaluate(&self, data: &Prepared) -> Result<Evaluation, TrainError> {
        let (ours, theirs) = (&self.info, data.info());
        let describe = |shape: [usize; 3], classes: usize| {
            let [channels, height, width] = shape;
            format!("images of {channels}x{height}x{width} in {classes} classes")
        };
        let classes = ours.data.classes.len();
        let scaler = self.scaler.as_ref();
        match (&self.model, data.images()) {
            (Network::Classifier(model), Images::Labels(splits))
                if data.shape() == ours.model.input && theirs.classes.len() <= classes =>
            {
                let test = put(&splits.test, &self.device, scaler)?;
                Evaluation::of(model, &test, &ours.data.classes)
            }
            // A network of convolutions takes any size.
            (Network::Segmenter(model), Images::Masks(splits))
                if data.shape()[0] == ours.model.input[0]
                    && theirs.classes == ours.data.classes =>
            {
                let test = put_masks(&splits.test, &self.device, scaler)?;
                Evaluation::of_masks(model, &self.loss, &test, &ours.data.classes)
            }
            _ => Err(TrainError::OtherShape {
                model: describe(ours.model.input, classes),
                data: describe(data.shape(), theirs.classes.len()),
            }),
        }
    }

    /// In segmentation, writes `overlays.png` into a folder: of the first test images the image, the truth and the
    /// answer. Whether there is such a picture.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write_overlays(&self, data: &Prepared, folder: &Path) -> Result<bool, TrainError> {
        let (Network::Segmenter(model), Images::Masks(splits)) = (&self.model, data.images())
        else {
            return Ok(false);
        };
        let test = put_masks(&splits.test, &self.device, self.scaler.as_ref())?;
        write_overlays(model, &self.loss, &test, &splits.test, folder)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Evaluation {
        let classes = ["a", "b", "c"].map(String::from);
        Evaluation::from_confusion(
            vec![vec![5, 1, 0], vec![2, 2, 0], vec![0, 0, 0]],
            0.5,
            &classes,
        )
    }

    #[test]
    fn scores_are_scikit_learns() {
        // sklearn.metrics.precision_recall_fscore_support(y, p, labels=[0, 1, 2], zero_division=0)
        let seen = seen();
        let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-12, "{got}");
        close(seen.accuracy, 0.7);
        let expected = [
            (5.0 / 7.0, 5.0 / 6.0, 10.0 / 13.0, 6),
            (2.0 / 3.0, 0.5, 4.0 / 7.0, 4),
            (0.0, 0.0, 0.0, 0),
        ];
        for (class, (precision, recall, f1, support)) in seen.classes.iter().zip(expected) {
            close(class.precision, precision);
            close(class.recall, recall);
            close(class.f1, f1);
            assert_eq!(class.support, support);
        }
    }

    #[test]
    fn the_text_lines_up_its_columns() {
        let text = seen().to_text();
        let matrix: Vec<&str> = text
            .lines()
            .skip_while(|l| !l.starts_with("truth"))
            .collect();
        assert_eq!(matrix[1], "         a   b   c");
        assert_eq!(matrix[2], "a        5   1   ·");
    }
}
