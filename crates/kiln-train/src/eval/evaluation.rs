//! Measuring a trained classifier: accuracy, loss, per-class scores, confusion matrix.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Int, Tensor};
use kiln_data::DeviceDataset;
use kiln_data::images::{Preprocess, Resize, SIDE};
use kiln_data::scale::Scaler;
use kiln_tune::printable;
use kiln_zoo::Classifier;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::eval::class_names::{ClassesError, listed};
use crate::eval::masks::{SHOWN, SegmentationScores, write_overlays};
use crate::eval::test_data::{TestData, TestImages};
use crate::recipe::data::{labels_preprocess, masks_preprocess, put, put_masks};
use crate::recipe::{DataRecipe, Recipe, TaskName};
use crate::report::plot;
use crate::run::files::{read_json, write_json};
use crate::run::folder::{RunDir, RunInfo};
use crate::run::weights::load_weights;
use crate::tasks::network::Network;
use crate::tasks::segment::SegmentationLoss;
use crate::tasks::single::check_input;
use crate::tasks::step::cross_entropy;
use crate::training::panics;

/// The file that an evaluation is written to.
pub(crate) const EVALUATION: &str = "evaluation.json";
/// Classes of the largest confusion matrix that is shown whole; of more, the most frequent mistakes are.
pub(crate) const MAX_MATRIX: usize = 256;
/// How many mistakes are shown then.
pub(crate) const MISTAKES: usize = 50;
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
    /// Names of the classes that the data do not show. Their recall cannot be said, nor any score of one that is not
    /// predicted either; means leave those out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<String>,
    /// `confusion[truth][answer]`: how many images of class `truth` were taken for `answer`; in segmentation, how many
    /// pixels. In a file, the matrix of more than 1,000 classes is `{"classes": N, "counts": [[truth, answer, count], ...]}`
    /// with the counts that are not 0.
    #[serde(with = "super::confusion")]
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
            panics::progress();
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
            absent: scores
                .clone()
                .filter(|class| class.support == 0)
                .map(|class| class.name)
                .collect(),
            classes: scores.collect(),
            confusion,
            segmentation: None,
        }
    }

    /// The scores on test images by name, as a summary has them.
    pub(crate) fn scores(&self) -> BTreeMap<String, f64> {
        let mut scores = vec![("test_loss", self.loss), ("test_accuracy", self.accuracy)];
        if let Some(masks) = &self.segmentation {
            scores.extend([
                ("test_iou", masks.iou),
                ("test_dice", masks.dice),
                ("test_pixel_error", masks.pixel_error),
            ]);
        }
        let named = scores.into_iter();
        named.map(|(name, value)| (name.into(), value)).collect()
    }

    /// The scores and the confusion matrix as text.
    pub fn to_text(&self) -> String {
        let names = self.printable_names();
        let width = names
            .iter()
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
            None => self.classes_text(&mut text, &names, width),
            Some(scores) => self.masks_text(&mut text, &names, width, scores),
        }
        if !self.absent.is_empty() {
            let _ = writeln!(text, "\nnot in these data: {}", listed(&self.absent));
        }
        match self.classes.len() {
            0..=MAX_MATRIX => self.matrix_text(&mut text, &names, width),
            _ => {
                let _ = writeln!(text, "\nmost frequent mistakes (truth, answer, count)");
                for (truth, answer, count) in self.mistakes(MISTAKES) {
                    let (truth, answer) = (&names[truth], &names[answer]);
                    let _ = writeln!(text, "{truth:width$}  {answer:width$}  {count:6}");
                }
            }
        }
        text
    }

    fn printable_names(&self) -> Vec<Cow<'_, str>> {
        let names = self.classes.iter().map(|class| &class.name);
        names.map(|name| printable(name)).collect()
    }

    /// The most frequent mistakes: the true class, the one that was predicted, and how often.
    pub(crate) fn mistakes(&self, most: usize) -> Vec<(usize, usize, usize)> {
        let rows = self.confusion.iter().enumerate();
        let mut mistakes: Vec<_> = rows
            .flat_map(|(truth, row)| {
                let counts = row.iter().enumerate();
                counts.map(move |(answer, &count)| (truth, answer, count))
            })
            .filter(|&(truth, answer, count)| truth != answer && count > 0)
            .collect();
        mistakes.sort_by_key(|&(.., count)| std::cmp::Reverse(count));
        mistakes.truncate(most);
        mistakes
    }

    fn matrix_text(&self, text: &mut String, names: &[Cow<'_, str>], width: usize) {
        let largest = self.confusion.iter().flatten().max().copied().unwrap_or(0);
        let cell = largest.to_string().len().max(3);
        let _ = write!(text, "\ntruth \\ answer\n{:width$} ", "");
        for name in names {
            let short: String = name.chars().take(cell).collect();
            let _ = write!(text, " {short:>cell$}");
        }
        text.push('\n');
        for (name, row) in names.iter().zip(&self.confusion) {
            let _ = write!(text, "{name:width$} ");
            for count in row {
                match count {
                    0 => drop(write!(text, " {:>cell$}", "·")),
                    count => drop(write!(text, " {count:>cell$}")),
                }
            }
            text.push('\n');
        }
    }

    /// Precision, recall and F1 score of a class for a person: `-` for what cannot be said of a class that the data do
    /// not show.
    pub(crate) fn shown(&self, class: usize) -> [String; 3] {
        let seen = self.confusion.iter().any(|row| row[class] > 0);
        let ClassScore {
            precision,
            recall,
            f1,
            support,
            ..
        } = self.classes[class];
        let there = support > 0;
        [
            (precision, there || seen),
            (recall, there),
            (f1, there || seen),
        ]
        .map(|(score, known)| match known {
            true => format!("{score:.4}"),
            false => "-".into(),
        })
    }

    fn classes_text(&self, text: &mut String, names: &[Cow<'_, str>], width: usize) {
        let _ = writeln!(
            text,
            "{:width$}  precision  recall      f1  images",
            "class"
        );
        for (at, class) in self.classes.iter().enumerate() {
            let [precision, recall, f1] = self.shown(at);
            let _ = writeln!(
                text,
                "{:width$}  {precision:>9}  {recall:>6}  {f1:>6}  {:6}",
                names[at], class.support
            );
        }
    }

    fn masks_text(
        &self,
        text: &mut String,
        names: &[Cow<'_, str>],
        width: usize,
        scores: &SegmentationScores,
    ) {
        let _ = writeln!(
            text,
            "IoU {:.4}  Dice {:.4}  pixel error {:.2} %\n\n{:width$}  precision  recall    dice     iou  pixels",
            scores.iou,
            scores.dice,
            scores.pixel_error * 100.0,
            "class"
        );
        for (at, (class, iou)) in self.classes.iter().zip(&scores.class_iou).enumerate() {
            let [precision, recall, dice] = self.shown(at);
            let iou = match dice.as_str() {
                "-" => dice.clone(),
                _ => format!("{iou:.4}"),
            };
            let _ = writeln!(
                text,
                "{:width$}  {precision:>9}  {recall:>6}  {dice:>6}  {iou:>6}  {:6}",
                names[at], class.support
            );
        }
    }

    /// Reads an evaluation from a file, whose lists must fit together.
    pub(crate) fn read(path: &Path) -> Result<Self, TrainError> {
        let seen: Self = read_json(path)?;
        seen.checked(path)
    }

    pub(crate) fn checked(self, path: &Path) -> Result<Self, TrainError> {
        let classes = self.classes.len();
        let ious = self
            .segmentation
            .as_ref()
            .map(|scores| scores.class_iou.len());
        let square = self.confusion.len() == classes
            && self.confusion.iter().all(|row| row.len() == classes);
        match square && ious.is_none_or(|ious| ious == classes) {
            true => Ok(self),
            false => Err(TrainError::Damaged {
                path: path.into(),
                problem: format!("it has no confusion matrix of its {classes} classes"),
            }),
        }
    }

    /// Writes `evaluation.json` and `confusion.png` into a folder.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), TrainError> {
        write_json(&folder.join(EVALUATION), self)?;
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
    /// How a picture's file becomes an image as those trained on.
    pub(crate) preprocess: Preprocess,
    /// Whether pictures are framed as photographed digits, whatever the data set was.
    pub(crate) framed: bool,
    /// Names of the classes, in the order of the outputs.
    pub(crate) classes: Vec<String>,
    pub(crate) task: TaskName,
    /// The folder of the run.
    pub(crate) run: PathBuf,
    /// Channels, height and width of what the model takes.
    pub(crate) input: [usize; 3],
    info: RunInfo,
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
        let settings = run.settings(&info)?;
        let model = Network::create(recipe.task, &info.model_name, settings, &device)?;
        let model = load_weights(model, &info.data.classes, &run.model_file())?;
        Ok(Self {
            model,
            preprocess: preprocess(&run, &recipe, &info, settings.input)?,
            input: settings.input,
            framed: false,
            run: run.path().into(),
            classes: info.data.classes.clone(),
            loss: SegmentationLoss::of_recipe(&recipe, &info.data)?,
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

    /// The names of the model's classes, in the order of its outputs.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Names the model's classes otherwise than its run does, in the order of its outputs: for weights that were trained
    /// elsewhere, on classes in another order. [`read_class_names`](crate::read_class_names) reads such names.
    ///
    /// # Errors
    ///
    /// [`ClassesError::Count`] if there is not one name for each class.
    pub fn with_classes(mut self, classes: Vec<String>) -> Result<Self, ClassesError> {
        let (given, expected) = (classes.len(), self.classes.len());
        if given != expected {
            return Err(ClassesError::Count { given, expected });
        }
        self.classes = classes;
        Ok(self)
    }

    /// Evaluates on the images of [`own_test_data`](Self::own_test_data) or
    /// [`other_test_data`](Self::other_test_data), scaled as the training data were.
    ///
    /// # Errors
    ///
    /// If the images have another shape, or are for another task.
    pub fn evaluate(&self, data: &TestData) -> Result<Evaluation, TrainError> {
        let input = self.input;
        let shape = data.images.shape();
        let scaler = self.scaler.as_ref();
        let [channels, height, width] = shape;
        if channels == input[0] {
            check_input(&self.model, [1, channels, height, width])?;
        }
        match (&self.model, &data.images) {
            (Network::Classifier(model), TestImages::Labels(images)) if shape == input => {
                let test = put(images, &self.device, scaler)?;
                Evaluation::of(model, &test, &self.classes)
            }
            // A network of convolutions takes any size.
            (Network::Segmenter(model), TestImages::Masks(images)) if shape[0] == input[0] => {
                let test = put_masks(images, &self.device, scaler)?;
                Evaluation::of_masks(model, &self.loss, &test, &self.classes)
            }
            _ => {
                let describe = |[channels, height, width]: [usize; 3]| {
                    format!("images of {channels}x{height}x{width}")
                };
                Err(TrainError::OtherShape {
                    model: describe(input),
                    data: describe(shape),
                })
            }
        }
    }

    /// In segmentation, writes `overlays.png` into a folder: of the first test images the image, the truth and the
    /// answer. Whether there is such a picture.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write_overlays(&self, data: &TestData, folder: &Path) -> Result<bool, TrainError> {
        let (Network::Segmenter(model), TestImages::Masks(images)) = (&self.model, &data.images)
        else {
            return Ok(false);
        };
        let shown = images.slice(0..SHOWN);
        let test = put_masks(&shown, &self.device, self.scaler.as_ref())?;
        write_overlays(model, &self.loss, &test, &shown, folder)?;
        Ok(true)
    }
}

/// How a run prepares a picture: as it has recorded, or as follows from its data set where it has not.
fn preprocess(
    run: &RunDir,
    recipe: &Recipe,
    info: &RunInfo,
    input: [usize; 3],
) -> Result<Preprocess, TrainError> {
    let follows = match recipe.task {
        TaskName::Classification => labels_preprocess(&info.data.name, input),
        TaskName::Segmentation => masks_preprocess(input[0], recipe.data.size),
    };
    let rules = recipe.data.rules();
    let Some(recorded) = info.data.preprocess else {
        return Ok(Preprocess { rules, ..follows });
    };
    // Only a picture of the model's form can be framed, and nothing else says how large an image may become.
    let framed = matches!(recorded.resize, Resize::Ink | Resize::Whole);
    let form = (recorded.channels, recorded.size);
    if form == (follows.channels, follows.size) && (!framed || input == [1, SIDE, SIDE]) {
        return Ok(Preprocess { rules, ..recorded });
    }
    Err(TrainError::Damaged {
        path: run.info_file(),
        problem: format!(
            "data.preprocess makes images that are not those of {}x{}x{} which the model takes",
            input[0], input[1], input[2]
        ),
    })
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
    fn classes_that_are_absent_have_no_scores_for_a_person() {
        let classes = ["a", "b", "c", "d"].map(String::from);
        let rows = vec![vec![3, 0, 1, 0], vec![0; 4], vec![0; 4], vec![0, 0, 0, 2]];
        let seen = Evaluation::from_confusion(rows, 0.5, &classes);
        assert_eq!(seen.absent, ["b", "c"]);
        // Nothing was taken for b; what was taken for c was wrong, which is a fact.
        assert_eq!(seen.shown(1), ["-", "-", "-"]);
        assert_eq!(seen.shown(2), ["0.0000", "-", "0.0000"]);
        assert_eq!(seen.shown(3), ["1.0000", "1.0000", "1.0000"]);
        assert!(seen.to_text().contains("not in these data: \"b\", \"c\""));
    }

    #[test]
    fn a_matrix_of_very_many_classes_is_told_by_its_largest_mistakes() {
        let classes: Vec<String> = (0..300).map(|class| format!("class {class}")).collect();
        let mut rows = vec![vec![0; 300]; 300];
        (0..300).for_each(|class| rows[class][class] = 5);
        (rows[7][290], rows[290][3], rows[4][9]) = (40, 60, 1);
        let seen = Evaluation::from_confusion(rows, 0.5, &classes);
        assert_eq!(seen.mistakes(2), [(290, 3, 60), (7, 290, 40)]);
        let text = seen.to_text();
        assert!(text.contains("class 7    class 290      40"), "{text}");
        assert!(text.len() < 40_000, "{}", text.len());
    }

    #[test]
    fn an_evaluation_whose_lists_do_not_fit_together_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(EVALUATION);
        let mut seen = seen();
        write_json(&path, &seen).unwrap();
        assert_eq!(Evaluation::read(&path).unwrap(), seen);
        seen.confusion[1].pop();
        write_json(&path, &seen).unwrap();
        let error = Evaluation::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("no confusion matrix of its 3 classes"),
            "{error}"
        );
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
