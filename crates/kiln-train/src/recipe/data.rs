//! From a recipe's data to images on the device.

use std::sync::{Arc, Mutex};

use burn::tensor::Device;
use kiln_data::folder::{FolderOptions, Rules};
use kiln_data::images::{Preprocess, Resize, SIDE};
use kiln_data::scale::Scaler;
use kiln_data::{
    DeviceDataset, DeviceMasks, LabeledImages, Load, Loaded, MaskedImages, Pick, holdout,
    stratified_holdout, subset,
};
use kiln_zoo::machine_memory;

use super::{DataRecipe, LossName, Recipe, TaskName};
use crate::error::TrainError;
use crate::run::folder::DataInfo;
use crate::tasks::segment::SegmentationLoss;

/// The data of a run in host memory: loaded, split and measured.
///
/// Loading and splitting depend on the recipe's `data` section alone, so the data can be shared by
/// many runs (see [`Trainer::data`](crate::RecipeTrainer::data)).
#[derive(Clone, Debug)]
pub struct Prepared {
    images: Images,
    info: DataInfo,
    note: Option<String>,
    placed: Arc<Mutex<Vec<Placed>>>,
}

/// Three parts of a data set.
#[derive(Clone, Debug)]
pub(crate) struct Splits<T> {
    pub(crate) train: T,
    pub(crate) valid: T,
    pub(crate) test: T,
}

/// The images of either task.
#[derive(Clone, Debug)]
pub(crate) enum Images {
    Labels(Splits<LabeledImages>),
    Masks(Splits<MaskedImages>),
}

/// The data on one device, scaled in one way.
type Placed = (Device, Option<Scaler>, OnDevice);

impl Prepared {
    /// Loads the data of a recipe for a task, holds out the validation images (the same ones for every run),
    /// and measures mean and standard deviation of what remains to train on.
    ///
    /// # Errors
    ///
    /// If the data cannot be found or fetched, are damaged, too few to hold some out, or for another task.
    pub fn load(recipe: &DataRecipe, task: TaskName, progress: bool) -> Result<Self, TrainError> {
        Self::load_with(recipe, task, None, progress)
    }

    /// As [`load`](Self::load), with the mask values that a model was trained on.
    pub(crate) fn load_with(
        recipe: &DataRecipe,
        task: TaskName,
        mask_values: Option<Vec<u8>>,
        progress: bool,
    ) -> Result<Self, TrainError> {
        let load = loader(
            recipe,
            FolderOptions {
                size: recipe.size,
                channels: recipe.channels,
                values: mask_values,
                ignore_value: recipe.ignore_value,
                rules: recipe.rules(),
                ..FolderOptions::default()
            },
            progress,
        );
        match task {
            TaskName::Classification => {
                let (splits, from) = split(load.run()?, recipe)?;
                let train = &splits.train;
                let stats = kiln_data::info::Summary::of(train);
                let test = &splits.test;
                let mut info = info(
                    &splits,
                    &stats,
                    &from.0,
                    [train.images(), &label_bytes(train)],
                    [test.images(), &label_bytes(test)],
                );
                info.classes = train.classes().to_vec();
                info.preprocess = Some(labels_preprocess(&info.name, train.shape()));
                Ok(Self::new(Images::Labels(splits), info, from.1))
            }
            TaskName::Segmentation => {
                let (splits, from) = split(load.run_masks()?, recipe)?;
                let train = &splits.train;
                let stats = kiln_data::info::Summary::of_masks(train);
                let test = &splits.test;
                let mut info = info(
                    &splits,
                    &stats,
                    &from.0,
                    [train.images(), train.masks()],
                    [test.images(), test.masks()],
                );
                info.classes = train.classes().to_vec();
                info.mask_values = Some(train.values().to_vec());
                info.preprocess = Some(masks_preprocess(train.shape()[0], recipe.size));
                Ok(Self::new(Images::Masks(splits), info, from.1))
            }
        }
    }

    fn new(images: Images, info: DataInfo, note: Option<String>) -> Self {
        Self {
            images,
            info,
            note,
            placed: Arc::default(),
        }
    }

    /// What the run's folder records of the data.
    pub fn info(&self) -> &DataInfo {
        &self.info
    }

    /// Why other data than MNIST were taken, if `auto` had to choose.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Channels, height and width of an image.
    pub fn shape(&self) -> [usize; 3] {
        match &self.images {
            Images::Labels(splits) => splits.train.shape(),
            Images::Masks(splits) => splits.train.shape(),
        }
    }

    /// Channels, height and width of the images to validate and to test on.
    pub(crate) fn evaluated_shapes(&self) -> [[usize; 3]; 2] {
        match &self.images {
            Images::Labels(splits) => [splits.valid.shape(), splits.test.shape()],
            Images::Masks(splits) => [splits.valid.shape(), splits.test.shape()],
        }
    }

    pub(crate) fn images(&self) -> &Images {
        &self.images
    }

    /// The scaler that a recipe names, fitted on the training images alone; none for `none`.
    pub(crate) fn fit_scaler(&self, name: &str) -> Result<Option<Scaler>, TrainError> {
        if name == "none" {
            return Ok(None);
        }
        let mut scaler: Scaler = name.parse()?;
        match &self.images {
            Images::Labels(splits) => scaler.fit(&splits.train)?,
            Images::Masks(splits) => scaler.fit(&splits.train)?,
        };
        Ok(Some(scaler))
    }

    /// The data on a device; they are put there once for all runs that scale them in the same way.
    pub(crate) fn on_device(
        &self,
        device: &Device,
        scaler: Option<&Scaler>,
    ) -> Result<OnDevice, TrainError> {
        let mut placed = self
            .placed
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let known = |(d, s, _): &&Placed| d == device && s.as_ref() == scaler;
        if let Some((_, _, data)) = placed.iter().find(known) {
            return Ok(data.clone());
        }
        let data = match &self.images {
            Images::Labels(splits) => {
                OnDevice::Labels(splits.place(|data| put(data, device, scaler))?)
            }
            Images::Masks(splits) => {
                OnDevice::Masks(splits.place(|data| put_masks(data, device, scaler))?)
            }
        };
        placed.push((device.clone(), scaler.cloned(), data.clone()));
        Ok(data)
    }
}

/// What loads the data of a recipe.
pub(crate) fn loader(recipe: &DataRecipe, folder: FolderOptions, progress: bool) -> Load {
    let lens = |train: usize, test: usize| {
        (
            recipe.train_len.unwrap_or(train),
            recipe.test_len.unwrap_or(test),
        )
    };
    let digits = lens(kiln_data::Digits::TRAIN_LEN, kiln_data::Digits::TEST_LEN);
    let shapes = lens(kiln_data::Shapes::TRAIN_LEN, kiln_data::Shapes::TEST_LEN);
    let load = Load::new(&recipe.name)
        .seed(recipe.seed)
        .offline(!recipe.download)
        .progress(progress)
        .digits_len(digits.0, digits.1)
        .shapes_len(shapes.0, shapes.1)
        .test_split(recipe.test_fraction, recipe.split_seed)
        .folder(FolderOptions {
            memory: machine_memory(),
            ..folder
        });
    match &recipe.dir {
        Some(dir) => load.data_dir(dir),
        None => load,
    }
}

/// How a picture becomes an image as those of a data set, whose images have this shape.
///
/// Photographed or drawn digits are framed as the makers of MNIST framed theirs. The images of Fashion-MNIST and KMNIST
/// are whole pictures on black. Whatever else there is, a folder above all, has its pictures cut to the size.
pub(crate) fn labels_preprocess(
    data_set: &str,
    [channels, height, width]: [usize; 3],
) -> Preprocess {
    let resize = match ([channels, height, width], data_set) {
        ([1, SIDE, SIDE], "mnist" | "digits") => Resize::Ink,
        ([1, SIDE, SIDE], emnist) if emnist.starts_with("emnist") => Resize::Ink,
        ([1, SIDE, SIDE], "fashion-mnist" | "kmnist") => Resize::Whole,
        _ => Resize::Cover,
    };
    Preprocess {
        channels: Some(channels),
        size: Some([height, width]),
        resize,
        ..Preprocess::default()
    }
}

/// How a picture becomes an image as those with masks, which a recipe may have had stretched to one size.
pub(crate) fn masks_preprocess(channels: usize, size: Option<[usize; 2]>) -> Preprocess {
    Preprocess {
        channels: Some(channels),
        size,
        resize: Resize::Stretch,
        ..Preprocess::default()
    }
}

impl<T> Splits<T> {
    fn place<D>(&self, put: impl Fn(&T) -> Result<D, TrainError>) -> Result<Splits<D>, TrainError> {
        Ok(Splits {
            train: put(&self.train)?,
            valid: put(&self.valid)?,
            test: put(&self.test)?,
        })
    }
}

/// Where data came from, and the note on it.
type Origin = (String, Option<String>);

/// Shortens the data as the recipe says and holds some out; with where they came from, and the note.
fn split<T: Pick + Clone>(
    loaded: Loaded<T>,
    recipe: &DataRecipe,
) -> Result<(Splits<T>, Origin), TrainError> {
    let rules = recipe.rules();
    let part = |data: T, len: Option<usize>| match len {
        Some(len) if len < data.count() => match rules {
            Rules::V1 => data.pick(&(0..len).collect::<Vec<usize>>()),
            Rules::V2 => subset(&data, len, recipe.split_seed),
        },
        _ => data,
    };
    let train = part(loaded.train, recipe.train_len);
    let test = part(loaded.test, recipe.test_len);
    let (train, valid) = match loaded.valid {
        Some(valid) => (train, valid),
        None if recipe.valid_fraction == 0.0 => (train, test.clone()),
        None => {
            let split: fn(&T, f64, u64) -> (T, T) = match rules {
                Rules::V1 => holdout,
                Rules::V2 => stratified_holdout,
            };
            // A fixed seed: what is held out must not depend on the run.
            let (rest, held) = split(&train, recipe.valid_fraction, 0);
            if rest.count() == 0 || held.count() == 0 {
                return Err(TrainError::NothingLeft {
                    fraction: recipe.valid_fraction,
                    images: train.count(),
                });
            }
            (rest, held)
        }
    };
    let splits = Splits { train, valid, test };
    Ok((splits, (loaded.origin.to_string(), loaded.note)))
}

/// The labels as bytes, for a check sum: one each where that is enough.
fn label_bytes(data: &LabeledImages) -> Vec<u8> {
    let wide = data.num_classes() > 256;
    let labels = data.labels().iter();
    labels
        .flat_map(|label| {
            label
                .to_le_bytes()
                .into_iter()
                .take(if wide { 2 } else { 1 })
        })
        .collect()
}

/// What is recorded of the data, but for their classes.
fn info<T: Pick>(
    splits: &Splits<T>,
    stats: &kiln_data::info::Summary,
    origin: &str,
    train: [&[u8]; 2],
    test: [&[u8]; 2],
) -> DataInfo {
    let fingerprint = |parts: [&[u8]; 2]| {
        let mut crc = crc32fast::Hasher::new();
        parts.iter().for_each(|bytes| crc.update(bytes));
        format!("{:08x}", crc.finalize())
    };
    DataInfo {
        name: stats.name.clone(),
        origin: origin.into(),
        classes: Vec::new(),
        mask_values: None,
        preprocess: None,
        train_len: splits.train.count(),
        valid_len: splits.valid.count(),
        test_len: splits.test.count(),
        fingerprint: fingerprint(train),
        test_fingerprint: Some(fingerprint(test)),
        mean: stats.mean.iter().map(|&m| m as f32).collect(),
        // A channel that never changes carries nothing; it must not become NaN.
        std: stats
            .std
            .iter()
            .map(|&s| if s > 0.0 { s as f32 } else { 1.0 })
            .collect(),
    }
}

/// Images on a device, scaled as in training.
pub(crate) fn put(
    data: &LabeledImages,
    device: &Device,
    scaler: Option<&Scaler>,
) -> Result<DeviceDataset, TrainError> {
    let data = DeviceDataset::new(data, device)?;
    Ok(match scaler {
        Some(scaler) => data.scaled(scaler)?,
        None => data,
    })
}

/// Images and masks on a device, scaled as in training.
pub(crate) fn put_masks(
    data: &MaskedImages,
    device: &Device,
    scaler: Option<&Scaler>,
) -> Result<DeviceMasks, TrainError> {
    let data = DeviceMasks::new(data, device)?;
    Ok(match scaler {
        Some(scaler) => data.scaled(scaler)?,
        None => data,
    })
}

impl SegmentationLoss {
    /// How masks are judged; without meaning in classification.
    pub(crate) fn of_recipe(recipe: &Recipe, data: &DataInfo) -> Result<Self, TrainError> {
        let classes = data.classes.len();
        let binary = match recipe.loss.name {
            LossName::Auto => classes == 2,
            LossName::CrossEntropy => false,
            LossName::Bce if classes == 2 => true,
            LossName::Bce => return Err(TrainError::BinaryLoss { classes }),
        };
        Ok(Self {
            binary,
            dice: recipe.loss.dice,
        })
    }
}

/// The parts of the data on a device.
#[derive(Clone, Debug)]
pub(crate) enum OnDevice {
    Labels(Splits<DeviceDataset>),
    Masks(Splits<DeviceMasks>),
}

#[cfg(test)]
mod tests {
    use kiln_data::info::Picture;

    use super::*;

    /// A folder of ten pictures for each class, whose pixel is its number within the class.
    fn folder(splits: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for split in splits {
            for class in ["2", "9", "10"] {
                let folder = dir.path().join(split).join(class);
                std::fs::create_dir_all(&folder).unwrap();
                for i in 0..10 {
                    let picture = Picture {
                        width: 1,
                        height: 1,
                        channels: 1,
                        pixels: vec![i],
                    };
                    picture.write_png(&folder.join(format!("{i}.png"))).unwrap();
                }
            }
        }
        dir
    }

    fn load(dir: &tempfile::TempDir, change: impl Fn(&mut DataRecipe)) -> Prepared {
        let mut recipe = DataRecipe {
            name: "image-folder".into(),
            dir: Some(dir.path().into()),
            ..DataRecipe::default()
        };
        change(&mut recipe);
        Prepared::load(&recipe, TaskName::Classification, false).unwrap()
    }

    fn labels(data: &Prepared) -> &Splits<LabeledImages> {
        match data.images() {
            Images::Labels(splits) => splits,
            Images::Masks(_) => unreachable!("it was loaded for classification"),
        }
    }

    fn counts(data: &LabeledImages) -> Vec<usize> {
        let count = |class| data.labels().iter().filter(|&&l| l == class).count();
        (0..3).map(count).collect()
    }

    #[test]
    fn a_part_of_a_folder_of_classes_has_all_of_them_and_another_seed_another_part() {
        let dir = folder(&["train", "test"]);
        let part = |seed| {
            load(&dir, |recipe| {
                recipe.train_len = Some(15);
                recipe.test_len = Some(6);
                recipe.valid_fraction = 0.2;
                recipe.split_seed = seed;
            })
        };
        let data = part(0);
        let splits = labels(&data);
        assert_eq!(counts(&splits.test), [2, 2, 2]);
        assert_eq!(counts(&splits.train), [4, 4, 4]);
        assert_eq!(counts(&splits.valid), [1, 1, 1]);
        assert_eq!(data.info().classes, ["10", "2", "9"]);
        assert_eq!(data.info().fingerprint, part(0).info().fingerprint);
        assert_ne!(data.info().fingerprint, part(1).info().fingerprint);
    }

    #[test]
    fn a_run_from_before_takes_the_first_images_in_its_own_order_and_passes_over_val() {
        let dir = folder(&["train", "val", "test"]);
        let old = load(&dir, |recipe| {
            recipe.version = 1;
            recipe.train_len = Some(12);
            recipe.test_len = Some(7);
            recipe.valid_fraction = 0.25;
        });
        assert_eq!(old.info().classes, ["2", "9", "10"]);
        let splits = labels(&old);
        assert_eq!(counts(&splits.test), [7, 0, 0]);
        assert_eq!(splits.test.images(), [0, 1, 2, 3, 4, 5, 6]);
        let lens = (splits.train.len(), splits.valid.len());
        assert_eq!(lens, (9, 3));
        let all = counts(&splits.train).into_iter().zip(counts(&splits.valid));
        assert_eq!(all.map(|(a, b)| a + b).collect::<Vec<_>>(), [10, 2, 0]);
        let new = load(&dir, |_| ());
        let splits = labels(&new);
        assert_eq!((splits.train.len(), splits.valid.len()), (30, 30));
    }

    #[test]
    fn the_check_sum_of_few_classes_is_that_of_bytes() {
        let data = |classes: usize, labels: Vec<u16>| {
            let classes = (0..classes).map(|c| c.to_string()).collect();
            LabeledImages::new("t", classes, [1, 1, 1], vec![0; 2], labels).unwrap()
        };
        assert_eq!(label_bytes(&data(256, vec![3, 255])), [3, 255]);
        assert_eq!(label_bytes(&data(257, vec![3, 256])), [3, 0, 0, 1]);
    }
}
