//! What a trained model is evaluated on: its own test images, or any others whose classes it knows.

use std::path::{Path, PathBuf};

use kiln_data::folder::FolderOptions;
use kiln_data::{LabeledImages, MaskedImages, Origin};

use crate::error::TrainError;
use crate::eval::class_names::{ClassesError, find_classes};
use crate::eval::evaluation::TrainedModel;
use crate::recipe::data::{Images, Prepared, loader};
use crate::recipe::{DataRecipe, TaskName};
use crate::run::folder::DataInfo;

/// Images to evaluate a model on. Their labels are indices of the model's classes, found by name.
#[derive(Clone, Debug)]
pub struct TestData {
    pub(crate) images: TestImages,
    name: String,
    origin: String,
    /// The folder that the data were read from, as given.
    folder: Option<PathBuf>,
    notes: Vec<String>,
    own: bool,
}

/// The images of either task.
#[derive(Clone, Debug)]
pub(crate) enum TestImages {
    Labels(LabeledImages),
    Masks(MaskedImages),
}

impl TestImages {
    pub(crate) fn shape(&self) -> [usize; 3] {
        match self {
            Self::Labels(images) => images.shape(),
            Self::Masks(images) => images.shape(),
        }
    }
}

impl TestData {
    /// Name of the data set.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it was found.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What a person should know of the choice of the images, a line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// A name for a folder that keeps what is found out about these data: the data set's, and its folder's.
    pub(crate) fn file_name(&self) -> String {
        let folder = self.folder.as_deref().map(|dir| {
            let dir = dir.canonicalize().unwrap_or_else(|_| dir.into());
            dir.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        });
        let name = match folder {
            Some(folder) if !folder.is_empty() => format!("{}-{folder}", self.name),
            _ => self.name.clone(),
        };
        let plain = |c: char| match c {
            c if c.is_alphanumeric() || "-_.".contains(c) => c,
            _ => '_',
        };
        name.chars().take(60).map(plain).collect()
    }

    /// Whether these are the run's own test images, under the names that it was trained with.
    pub fn is_own(&self) -> bool {
        self.own
    }
}

impl TrainedModel {
    /// Loads the images that the run itself is tested on: its data are found and split as they were for training.
    ///
    /// `offline` forbids downloads whatever the recipe says; `progress` shows a bar for them on stderr. If the data are
    /// no longer those of the run, they are loaded all the same, a [note](TestData::notes) says so, and they do not
    /// count as [its own](TestData::is_own).
    ///
    /// # Errors
    ///
    /// As [`Prepared::load`]; [`ClassesError::Unknown`] if the data have got classes that the model does not know.
    pub fn own_test_data(&self, offline: bool, progress: bool) -> Result<TestData, TrainError> {
        let mut recipe = self.data().clone();
        if recipe.name == "auto" {
            recipe.name.clone_from(&self.info().data.name);
        }
        recipe.download &= !offline;
        let trained = &self.info().data;
        let data = Prepared::load_with(&recipe, self.task, trained.mask_values.clone(), progress)?;
        let now = data.info();
        let tested_alike =
            trained.test_fingerprint.is_none() || trained.test_fingerprint == now.test_fingerprint;
        let same = tested_alike
            && (&now.fingerprint, now.test_len) == (&trained.fingerprint, trained.test_len);
        let mut notes: Vec<String> = data.note().into_iter().map(str::to_owned).collect();
        if !same {
            let describe = |data: &DataInfo| {
                let DataInfo {
                    train_len,
                    test_len,
                    fingerprint,
                    ..
                } = data;
                format!(
                    "{train_len} images to train on with CRC-32 {fingerprint}, {test_len} to test on"
                )
            };
            notes.push(format!(
                "{} is not as it was when the run was trained ({}; now {}), so what is tested now may have been trained on",
                now.origin,
                describe(trained),
                describe(now)
            ));
        }
        let images = match data.images() {
            Images::Labels(splits) => TestImages::Labels(splits.test.clone()),
            Images::Masks(splits) => TestImages::Masks(splits.test.clone()),
        };
        self.matched(TestData {
            images,
            name: now.name.clone(),
            origin: now.origin.clone(),
            folder: recipe.dir,
            notes,
            own: same && self.classes == trained.classes,
        })
    }

    /// Loads other images to evaluate on. Of a folder, these are all pictures in its `test`, `val`, `valid` or
    /// `validation`, or all there are if it has none of these; no part is held out, and `train_len` and `test_len` shorten
    /// only data that Kiln draws. Pictures are prepared as the run prepares them, and the values of masks stand for the
    /// classes that they stood for in training.
    ///
    /// # Errors
    ///
    /// As [`kiln_data::Load::run_test`]; [`ClassesError::Unknown`] for classes that the model does not know.
    pub fn other_test_data(
        &self,
        recipe: &DataRecipe,
        progress: bool,
    ) -> Result<TestData, TrainError> {
        let preprocess = self.preprocess;
        let folder = FolderOptions {
            size: preprocess.size,
            resize: preprocess.resize,
            channels: preprocess.channels,
            rules: preprocess.rules,
            ignore_value: recipe.ignore_value,
            values: self.info().data.mask_values.clone(),
            ..FolderOptions::default()
        };
        let load = loader(recipe, folder, progress);
        let (images, name, origin, note) = match self.task {
            TaskName::Classification => {
                let test = load.run_test(&self.classes)?;
                let name = test.images.name().to_owned();
                (
                    TestImages::Labels(test.images),
                    name,
                    test.origin,
                    test.note,
                )
            }
            TaskName::Segmentation => {
                let test = load.run_test_masks()?;
                let name = test.images.name().to_owned();
                (TestImages::Masks(test.images), name, test.origin, test.note)
            }
        };
        let mut notes: Vec<String> = note.into_iter().collect();
        if let Origin::Folder(place) = &origin
            && self.was_trained_on(place)
        {
            notes.push(format!(
                "the run was trained on pictures in {}: what it scores on them says little of others; leave --data-dir out to test it on those held out",
                place.display()
            ));
        }
        // Another working folder must not make other data of the same ones.
        let origin = match origin {
            Origin::Folder(place) => Origin::Folder(place.canonicalize().unwrap_or(place)),
            other => other,
        };
        self.matched(TestData {
            images,
            name,
            origin: origin.to_string(),
            folder: recipe.dir.clone(),
            notes,
            own: false,
        })
    }

    /// Whether pictures of a folder were trained on: it is the folder of the run's data, or its `train`.
    fn was_trained_on(&self, place: &Path) -> bool {
        let (Some(own), Ok(place)) = (&self.data().dir, place.canonicalize()) else {
            return false;
        };
        [own.clone(), own.join("train")]
            .iter()
            .any(|dir| dir.canonicalize().is_ok_and(|dir| dir == place))
    }

    /// Gives the images the model's classes.
    fn matched(&self, data: TestData) -> Result<TestData, TrainError> {
        let images = match data.images {
            TestImages::Labels(images) => TestImages::Labels(relabel(images, &self.classes)?),
            // The masks of a folder are read with the values of the run's classes.
            TestImages::Masks(images) if images.name() == "mask-folder" && self.has_values() => {
                TestImages::Masks(images)
            }
            TestImages::Masks(images) => TestImages::Masks(remask(images, &self.classes)?),
        };
        Ok(TestData { images, ..data })
    }

    fn has_values(&self) -> bool {
        self.info().data.mask_values.is_some()
    }
}

/// Images with labels that index the classes of a model.
fn relabel(images: LabeledImages, classes: &[String]) -> Result<LabeledImages, ClassesError> {
    if images.classes() == classes {
        return Ok(images);
    }
    let found = find_classes(classes, images.classes())?;
    let (name, shape) = (images.name().to_owned(), images.shape());
    let (pixels, mut labels) = images.into_images_and_labels();
    for label in &mut labels {
        let index = found[*label as usize];
        *label = index
            .try_into()
            .expect("a label counts the classes of a model");
    }
    let images = LabeledImages::new(name, classes.to_vec(), shape, pixels, labels);
    Ok(images.expect("whole images with labels below the number of classes"))
}

/// Masks whose values index the classes of a model.
fn remask(images: MaskedImages, classes: &[String]) -> Result<MaskedImages, ClassesError> {
    if images.classes() == classes {
        return Ok(images);
    }
    let found = find_classes(classes, images.classes())?;
    let masks = images.masks().iter().map(|&value| {
        let index = found[value as usize];
        index
            .try_into()
            .expect("a mask counts the classes of a model")
    });
    let (name, shape, pixels) = (images.name(), images.shape(), images.images().to_vec());
    let images = MaskedImages::new(name, classes.to_vec(), shape, pixels, masks.collect());
    Ok(images.expect("whole images with masks of a model's classes"))
}
