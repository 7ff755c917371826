//! From a recipe's data to images on the device.

use std::sync::{Arc, Mutex};

use burn::tensor::Device;
use kiln_data::scale::Scaler;
use kiln_data::{DeviceDataset, LabeledImages, Load, holdout};

use crate::error::TrainError;
use crate::recipe::DataRecipe;
use crate::run_dir::DataInfo;

/// The data of a run in host memory: loaded, split and measured.
///
/// Loading and splitting depend on the recipe's `data` section alone, so the data can be shared by
/// many runs (see [`Trainer::data`](crate::Trainer::data)).
#[derive(Clone, Debug)]
pub struct Prepared {
    train: LabeledImages,
    valid: LabeledImages,
    test: LabeledImages,
    info: DataInfo,
    note: Option<String>,
    placed: Arc<Mutex<Vec<Placed>>>,
}

/// The data on one device, scaled in one way.
type Placed = (Device, Option<Scaler>, OnDevice);

impl Prepared {
    /// Loads the data of a recipe, holds out the validation images (the same ones for every run),
    /// and measures mean and standard deviation of what remains to train on.
    ///
    /// # Errors
    ///
    /// If the data cannot be found or fetched, are damaged, or too few to hold some out.
    pub fn load(recipe: &DataRecipe, progress: bool) -> Result<Self, TrainError> {
        let defaults = (kiln_data::Digits::TRAIN_LEN, kiln_data::Digits::TEST_LEN);
        let mut load = Load::new(&recipe.name)
            .seed(recipe.seed)
            .offline(!recipe.download)
            .progress(progress)
            .digits_len(
                recipe.train_len.unwrap_or(defaults.0),
                recipe.test_len.unwrap_or(defaults.1),
            );
        if let Some(dir) = &recipe.dir {
            load = load.data_dir(dir);
        }
        let loaded = load.run()?;
        let train = loaded
            .train
            .slice(0..recipe.train_len.unwrap_or(usize::MAX));
        let test = loaded.test.slice(0..recipe.test_len.unwrap_or(usize::MAX));
        let (train, valid) = match recipe.valid_fraction == 0.0 {
            true => (train, test.clone()),
            false => {
                // A fixed seed: what is held out must not depend on the run.
                let (rest, held) = holdout(&train, recipe.valid_fraction, 0);
                if rest.is_empty() || held.is_empty() {
                    return Err(TrainError::NothingLeft {
                        fraction: recipe.valid_fraction,
                        images: train.len(),
                    });
                }
                (rest, held)
            }
        };
        let stats = kiln_data::info::Summary::of(&train);
        let mut crc = crc32fast::Hasher::new();
        crc.update(train.images());
        crc.update(train.labels());
        let info = DataInfo {
            name: train.name().into(),
            origin: loaded.origin.to_string(),
            classes: train.classes().to_vec(),
            train_len: train.len(),
            valid_len: valid.len(),
            test_len: test.len(),
            fingerprint: format!("{:08x}", crc.finalize()),
            mean: stats.mean.iter().map(|&m| m as f32).collect(),
            // A channel that never changes carries nothing; it must not become NaN.
            std: stats
                .std
                .iter()
                .map(|&s| if s > 0.0 { s as f32 } else { 1.0 })
                .collect(),
        };
        Ok(Self {
            train,
            valid,
            test,
            info,
            note: loaded.note,
            placed: Arc::default(),
        })
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
        self.train.shape()
    }

    /// The images to test on.
    pub fn test(&self) -> &LabeledImages {
        &self.test
    }

    /// The scaler that a recipe names, fitted on the training images alone; none for `none`.
    pub(crate) fn fit_scaler(&self, name: &str) -> Result<Option<Scaler>, TrainError> {
        if name == "none" {
            return Ok(None);
        }
        let mut scaler: Scaler = name.parse()?;
        scaler.fit(&self.train)?;
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
        let put = |data: &LabeledImages| put(data, device, scaler);
        let data = OnDevice {
            train: put(&self.train)?,
            valid: put(&self.valid)?,
            test: put(&self.test)?,
        };
        placed.push((device.clone(), scaler.cloned(), data.clone()));
        Ok(data)
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

#[derive(Clone, Debug)]
pub(crate) struct OnDevice {
    pub(crate) train: DeviceDataset,
    pub(crate) valid: DeviceDataset,
    pub(crate) test: DeviceDataset,
}
