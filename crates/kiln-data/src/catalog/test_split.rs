//! Only the images to be judged on: what an evaluation of a finished model needs of a data set.

use std::path::{Path, PathBuf};

use super::{DataError, DataSet, Format, Load, Loaded, Origin};
use crate::folder::PassedOver;
use crate::{Digits, LabeledImages, MaskedImages, Shapes, Split, folder};

/// The folders that hold images to be judged on, the first that is there counts.
const TEST_FOLDERS: [&str; 4] = ["test", "val", "valid", "validation"];

/// The images of a data set to be judged on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadedTest<T = LabeledImages> {
    /// The images.
    pub images: T,
    /// Where they came from.
    pub origin: Origin,
    /// What a person should know of the choice, in one line.
    pub note: Option<String>,
}

impl<T> LoadedTest<T> {
    fn of(loaded: Loaded<T>) -> Self {
        Self {
            images: loaded.test,
            origin: loaded.origin,
            note: loaded.note,
        }
    }
}

/// A model is of one task: it is the data that must change, not a recipe.
fn of_another_task(error: DataError) -> DataError {
    match error {
        DataError::OtherTask { name, kind, .. } => DataError::OtherTask {
            name,
            kind,
            advice: "the model is for the other task; name data of its own",
        },
        other => other,
    }
}

impl Load {
    /// Finds and reads, or draws, the images to be judged on.
    ///
    /// Of a folder of yours these are the pictures in its folder `test`, `val`, `valid` or `validation`, whichever is
    /// there first in this order, and all of its pictures if it has none of these: nothing is split off as
    /// [`run`](Self::run) does. `classes` are those that the model knows, so that a class called `test` is not taken for
    /// a split.
    ///
    /// ```
    /// use kiln_data::Load;
    ///
    /// let data = Load::new("digits").digits_len(0, 50).run_test(&[])?;
    /// assert_eq!(data.images.len(), 50);
    /// # Ok::<(), kiln_data::DataError>(())
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run); [`DataError::NoTest`] for a folder with nothing but `train` in it;
    /// [`DataError::ReadsNoFolder`] if a folder is given for data that are drawn.
    pub fn run_test(&self, classes: &[String]) -> Result<LoadedTest, DataError> {
        if self.name.eq_ignore_ascii_case("auto") {
            return self.run().map(LoadedTest::of);
        }
        let set = self.set(&self.name)?;
        match set.format {
            Format::Digits => {
                let images = Digits::new(self.seed).generate(Split::Test, self.digits_len.1);
                Ok(self.drawn_test(match self.folder.channels {
                    Some(channels) => images.with_channels(channels),
                    None => images,
                }))
            }
            Format::ImageFolder => {
                let dir = self.needed_dir(set)?;
                let place = test_folder(dir, classes)?;
                let mut passed = PassedOver::default();
                let images =
                    folder::read_classes_noting(&place, "image-folder", &self.folder, &mut passed)?;
                let len = images.len();
                Ok(in_folder(images, len, place, dir, &passed))
            }
            _ => self.run().map(LoadedTest::of).map_err(of_another_task),
        }
    }

    /// Finds and reads, or draws, the images to be judged on in segmentation, as [`run_test`](Self::run_test) does for
    /// classes.
    ///
    /// # Errors
    /// As [`run_masks`](Self::run_masks) and [`run_test`](Self::run_test).
    pub fn run_test_masks(&self) -> Result<LoadedTest<MaskedImages>, DataError> {
        let set = self.set(self.masks_name())?;
        match set.format {
            Format::Shapes => {
                let images = Shapes::new(self.seed).generate(Split::Test, self.shapes_len.1);
                Ok(self.drawn_test(match self.folder.channels {
                    Some(channels) => images.with_channels(channels),
                    None => images,
                }))
            }
            Format::MaskFolder => {
                let dir = self.needed_dir(set)?;
                let place = test_folder(dir, &[])?;
                let (images, masks) = folder::find_masks(&place)?;
                let mut passed = PassedOver::default();
                let images = folder::read_masks_noting(
                    &images,
                    &masks,
                    "mask-folder",
                    &self.folder,
                    &mut passed,
                )?;
                let len = images.len();
                Ok(in_folder(images, len, place, dir, &passed))
            }
            _ => self
                .run_masks()
                .map(LoadedTest::of)
                .map_err(of_another_task),
        }
    }

    /// The data set of a name. Drawn data are in no folder.
    fn set(&self, name: &str) -> Result<&'static DataSet, DataError> {
        let set = DataSet::find(name)?;
        let drawn = matches!(set.format, Format::Digits | Format::Shapes);
        match &self.data_dir {
            Some(dir) if drawn => Err(DataError::ReadsNoFolder {
                name: set.name,
                dir: dir.clone(),
                other: match set.format {
                    Format::Shapes => "mask-folder",
                    _ => "image-folder",
                },
            }),
            _ => Ok(set),
        }
    }

    fn drawn_test<T>(&self, images: T) -> LoadedTest<T> {
        LoadedTest {
            images,
            origin: Origin::Drawn { seed: self.seed },
            note: None,
        }
    }
}

fn in_folder<T>(
    images: T,
    len: usize,
    place: PathBuf,
    dir: &Path,
    passed: &PassedOver,
) -> LoadedTest<T> {
    let whole = (place == dir).then(|| {
        format!(
            "{} has no folder test in it, so all of its {len} images are evaluated",
            dir.display()
        )
    });
    let notes: Vec<String> = whole.into_iter().chain(passed.note()).collect();
    LoadedTest {
        images,
        origin: Origin::Folder(place),
        note: (!notes.is_empty()).then(|| notes.join("; ")),
    }
}

/// The folder in `dir` to be judged on, or `dir` itself.
fn test_folder(dir: &Path, classes: &[String]) -> Result<PathBuf, DataError> {
    let is_split = |name: &str| dir.join(name).is_dir() && !classes.iter().any(|c| c == name);
    match TEST_FOLDERS.into_iter().find(|name| is_split(name)) {
        Some(name) => Ok(dir.join(name)),
        None if is_split("train") => Err(DataError::NoTest { dir: dir.into() }),
        None => Ok(dir.into()),
    }
}
