//! How the files of a data set are laid out, and how they are found and read.

use std::path::{Path, PathBuf};

use super::{DataError, DataSet, Load, Loaded, Origin};
use crate::cifar::{self, Cifar};
use crate::emnist::Emnist;
use crate::folder::{self, FolderError, FolderOptions, PassedOver, Rules};
use crate::idx::{self, Kind};
use crate::{LabeledImages, MaskedImages, Pick, Split, holdout, stratified_holdout};

/// What a data set is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// MNIST's IDX files.
    Idx,
    /// CIFAR's binary files, or the archive that holds them.
    Cifar(Cifar),
    /// EMNIST's files.
    Emnist(Emnist),
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
    let files = |find: &dyn Fn(Split, Kind) -> Option<PathBuf>| {
        [Split::Train, Split::Test]
            .into_iter()
            .flat_map(|split| [Kind::Images, Kind::Labels].map(|kind| find(split, kind)))
            .flatten()
            .count()
    };
    match set.format {
        Format::Idx => files(&|split, kind| idx::find(dir, split, kind)),
        Format::Emnist(emnist) => files(&|split, kind| emnist.find(dir, split, kind)),
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
        Format::Emnist(_) => vec![
            dir.join(set.name),
            dir.join(set.torchvision).join("raw"),
            dir.join("gzip"),
            dir.join("raw"),
            dir.to_owned(),
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

/// What else a folder holds that lacks the files of a set, and what to do with it; empty if nothing is known.
pub(super) fn instead(set: &DataSet, dir: &Path) -> String {
    if let Format::Cifar(cifar) = set.format {
        let python = [cifar.python_folder(), cifar.python_archive()].map(|name| dir.join(name));
        let inside = dir.join(cifar.python_file());
        if let Some(path) = python.iter().chain([&inside]).find(|path| path.exists()) {
            return format!(
                ", but {} is: that is the version of CIFAR for Python; the binary version is read, {}{}",
                path.display(),
                set.mirrors[0],
                cifar.archive()
            );
        }
    }
    let others = super::DATA_SETS.iter().filter(|other| {
        other.format != set.format && other.format != Format::Idx && find(other, dir).is_some()
    });
    let names: Vec<String> = others
        .map(|other| format!("--data {}", other.name))
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!(
            ", but those of other data sets are: give {}",
            names.join(" or ")
        )
    }
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
        Format::Emnist(emnist) => {
            let test = emnist.read_split(dir, Split::Test)?;
            (emnist.read_split(dir, Split::Train)?, test)
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
        valid: None,
        test,
        origin,
        note: None,
    })
}

/// Reads one folder, with what a person should know of it.
type ReadFolder<'a, T> =
    dyn Fn(&Path, &FolderOptions, &mut PassedOver) -> Result<(T, Option<String>), FolderError> + 'a;

impl Load {
    /// A folder for each class, in `train` and `test` or split here.
    pub(super) fn class_folders(&self, dir: &Path) -> Result<Loaded, DataError> {
        self.folders(
            dir,
            &|dir, options, passed| {
                let data = folder::read_classes_noting(dir, "image-folder", options, passed)?;
                Ok((data, None))
            },
            &|train: &LabeledImages| FolderOptions {
                size: self.folder.size.or(Some([train.height(), train.width()])),
                channels: Some(train.channels()),
                classes: Some(train.classes().to_vec()),
                ..self.folder.clone()
            },
        )
    }

    /// Images beside masks, in `train` and `test` or split here.
    pub(super) fn mask_folders(&self, dir: &Path) -> Result<Loaded<MaskedImages>, DataError> {
        self.folders(
            dir,
            &|dir, options, passed| {
                let (images, masks) = folder::find_masks(dir)?;
                let data =
                    folder::read_masks_noting(&images, &masks, "mask-folder", options, passed)?;
                let note = folder::note(&data);
                Ok((data, note))
            },
            &|train: &MaskedImages| FolderOptions {
                channels: Some(train.shape()[0]),
                values: Some(train.values().to_vec()),
                ..self.folder.clone()
            },
        )
    }

    /// Reads the splits of a folder, or makes them; `like` gives the options that make others like the training images.
    fn folders<T: Pick>(
        &self,
        dir: &Path,
        read: &ReadFolder<'_, T>,
        like: &dyn Fn(&T) -> FolderOptions,
    ) -> Result<Loaded<T>, DataError> {
        let rules = self.folder.rules;
        let mut passed = PassedOver::default();
        let (train, valid, test, note) = match Splits::find(dir, rules) {
            Some(splits) => {
                let (train, note) = read(&splits.train, &self.folder, &mut passed)?;
                let options = like(&train);
                let mut other =
                    |dir: &Path| Ok::<T, FolderError>(read(dir, &options, &mut passed)?.0);
                let valid = splits.valid.as_deref().map(&mut other).transpose()?;
                let test = other(&splits.test)?;
                if rules != Rules::V1 {
                    passed.beside(dir, &splits.all())?;
                }
                (train, valid, test, note)
            }
            None => {
                let (all, note) = read(dir, &self.folder, &mut passed)?;
                let split: fn(&T, f64, u64) -> (T, T) = match rules {
                    Rules::V1 => holdout,
                    Rules::V2 => stratified_holdout,
                };
                let (train, test) = split(&all, self.test_fraction, self.split_seed);
                if train.count() == 0 || test.count() == 0 {
                    return Err(DataError::NothingToSplit {
                        dir: dir.to_owned(),
                        images: all.count(),
                        fraction: self.test_fraction,
                    });
                }
                (train, None, test, note)
            }
        };
        let notes: Vec<String> = passed.note().into_iter().chain(note).collect();
        Ok(Loaded {
            train,
            valid,
            test,
            origin: Origin::Folder(dir.to_owned()),
            note: (!notes.is_empty()).then(|| notes.join("; ")),
        })
    }
}

/// The folders of the splits in a folder.
struct Splits {
    train: PathBuf,
    valid: Option<PathBuf>,
    test: PathBuf,
}

impl Splits {
    /// `train` and `test`, and `val`, `valid` or `validation` to validate on; without `test`, one of these tests.
    fn find(dir: &Path, rules: Rules) -> Option<Self> {
        let folder = |name: &&str| Some(dir.join(name)).filter(|dir| dir.is_dir());
        let train = folder(&"train")?;
        let mut names = ["val", "valid", "validation"].iter();
        if rules == Rules::V1 {
            let test = ["test", "val", "valid"].iter().find_map(folder)?;
            let valid = None;
            return Some(Self { train, valid, test });
        }
        let valid = names.find_map(folder);
        let (valid, test) = match (valid, folder(&"test")) {
            (valid, Some(test)) => (valid, test),
            (Some(test), None) => (None, test),
            (None, None) => return None,
        };
        Some(Self { train, valid, test })
    }

    fn all(&self) -> Vec<&Path> {
        let valid = self.valid.iter();
        [&self.train, &self.test]
            .into_iter()
            .chain(valid)
            .map(|path| path.as_path())
            .collect()
    }
}
