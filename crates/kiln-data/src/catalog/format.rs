//! How the files of a data set are laid out, and how they are found and read.

use std::path::{Path, PathBuf};

use super::{DataError, DataSet, Load, Loaded, Origin};
use crate::cifar::{self, Cifar};
use crate::folder::{self, FolderOptions};
use crate::idx::{self, Kind};
use crate::{LabeledImages, MaskedImages, Split, holdout};

/// What a data set is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// MNIST's IDX files.
    Idx,
    /// CIFAR's binary files, or the archive that holds them.
    Cifar(Cifar),
    /// Drawn by [`Digits`](crate::Digits).
    Digits,
    /// Drawn by [`Shapes`](crate::Shapes).
    Shapes,
    /// A folder of pictures for each class.
    ImageFolder,
    /// Folders of images and of masks.
    MaskFolder,
}

/// How many of the set's files are in a folder.
fn found(set: &DataSet, dir: &Path) -> usize {
    match set.format {
        Format::Idx => [Split::Train, Split::Test]
            .into_iter()
            .flat_map(|split| [Kind::Images, Kind::Labels].map(|kind| idx::find(dir, split, kind)))
            .flatten()
            .count(),
        Format::Cifar(cifar) => cifar.found(dir),
        _ => 0,
    }
}

/// Whether a folder of the cache holds the set, ready to be read.
pub(super) fn holds_all(set: &DataSet, cache: &Path) -> bool {
    match set.format {
        Format::Cifar(cifar) => cifar.holds_all(&cache.join(cifar.folder())),
        _ => found(set, cache) == 4,
    }
}

/// The folder in or under `dir` that holds files of the set, or the archive that does.
pub(super) fn find(set: &DataSet, dir: &Path) -> Option<PathBuf> {
    let mut places = match set.format {
        Format::Cifar(cifar) => vec![
            dir.join(set.name).join(cifar.folder()),
            dir.join(set.name),
            dir.join(cifar.folder()),
            dir.to_owned(),
            dir.join(set.name).join(cifar.archive()),
            dir.join(cifar.archive()),
        ],
        _ => vec![
            dir.join(set.name),
            dir.join(set.torchvision).join("raw"),
            dir.join("raw"),
            dir.to_owned(),
        ],
    };
    places.retain(|place| found(set, place) > 0 || set.archive().is_some() && place.is_file());
    places.into_iter().next()
}

/// Makes what was downloaded ready to be read.
pub(super) fn unpack(set: &DataSet, cache: &Path) -> Result<(), DataError> {
    match set.format {
        Format::Cifar(cifar) => {
            let target = cache.join(cifar.folder());
            Ok(cifar::extract(
                &cache.join(cifar.archive()),
                cifar,
                &target,
            )?)
        }
        _ => Ok(()),
    }
}

/// Reads both splits from a folder that [`find`] or [`holds_all`] has seen files in.
pub(super) fn read(set: &DataSet, dir: &Path, origin: Origin) -> Result<Loaded, DataError> {
    let (train, test) = match set.format {
        Format::Cifar(cifar) if dir.is_file() => cifar::read_archive(dir, cifar)?,
        Format::Cifar(cifar) => {
            let inside = dir.join(cifar.folder());
            let dir = if inside.is_dir() { &inside } else { dir };
            let test = cifar::read_split(dir, cifar, Split::Test)?;
            (cifar::read_split(dir, cifar, Split::Train)?, test)
        }
        _ => {
            let classes: Vec<String> = set.classes.iter().map(|&class| class.into()).collect();
            let test = idx::read_split(dir, Split::Test, set.name, &classes)?;
            (
                idx::read_split(dir, Split::Train, set.name, &classes)?,
                test,
            )
        }
    };
    if train.shape() != test.shape() {
        return Err(DataError::ShapeMismatch {
            dir: dir.to_owned(),
            train: [train.height(), train.width()],
            test: [test.height(), test.width()],
        });
    }
    Ok(Loaded {
        train,
        test,
        origin,
        note: None,
    })
}

impl Load {
    /// A folder for each class, in `train` and `test` or split here.
    pub(super) fn class_folders(&self, dir: &Path) -> Result<Loaded, DataError> {
        let read = |dir: &Path, options: &FolderOptions| {
            folder::read_classes(dir, "image-folder", options)
        };
        let (train, test) = match both_splits(dir) {
            Some((train, test)) => {
                let train = read(&train, &self.folder)?;
                let options = FolderOptions {
                    resize: self.folder.resize,
                    size: self.folder.size.or(Some([train.height(), train.width()])),
                    channels: Some(train.channels()),
                    classes: Some(train.classes().to_vec()),
                    values: None,
                };
                let test = read(&test, &options)?;
                (train, test)
            }
            None => {
                let all = read(dir, &self.folder)?;
                let (train, test): (LabeledImages, LabeledImages) =
                    holdout(&all, self.test_fraction, self.split_seed);
                self.check_split(dir, train.len(), test.len())?;
                (train, test)
            }
        };
        Ok(Loaded {
            train,
            test,
            origin: Origin::Folder(dir.to_owned()),
            note: None,
        })
    }

    /// Images beside masks, in `train` and `test` or split here.
    pub(super) fn mask_folders(&self, dir: &Path) -> Result<Loaded<MaskedImages>, DataError> {
        let read = |dir: &Path, options: &FolderOptions| -> Result<MaskedImages, DataError> {
            let (images, masks) = folder::find_masks(dir)?;
            Ok(folder::read_masks(&images, &masks, "mask-folder", options)?)
        };
        let (train, test) = match both_splits(dir) {
            Some((train, test)) => {
                let train = read(&train, &self.folder)?;
                let options = FolderOptions {
                    resize: self.folder.resize,
                    size: self.folder.size,
                    channels: Some(train.shape()[0]),
                    classes: None,
                    values: Some(train.values().to_vec()),
                };
                let test = read(&test, &options)?;
                (train, test)
            }
            None => {
                let all = read(dir, &self.folder)?;
                let (train, test) = holdout(&all, self.test_fraction, self.split_seed);
                self.check_split(dir, train.len(), test.len())?;
                (train, test)
            }
        };
        Ok(Loaded {
            train,
            test,
            origin: Origin::Folder(dir.to_owned()),
            note: None,
        })
    }

    fn check_split(&self, dir: &Path, train: usize, test: usize) -> Result<(), DataError> {
        match train == 0 || test == 0 {
            false => Ok(()),
            true => Err(DataError::NothingToSplit {
                dir: dir.to_owned(),
                images: train + test,
                fraction: self.test_fraction,
            }),
        }
    }
}

/// `train` and `test` (or `val`, `valid`) in a folder.
fn both_splits(dir: &Path) -> Option<(PathBuf, PathBuf)> {
    let train = dir.join("train");
    let tests = ["test", "val", "valid"].map(|name| dir.join(name));
    let test = tests.into_iter().find(|dir| dir.is_dir())?;
    train.is_dir().then_some((train, test))
}
