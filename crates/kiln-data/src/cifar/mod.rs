//! CIFAR-10 and CIFAR-100 in their binary form, and in the archives that they are published in.
//!
//! A file is records and nothing else: for CIFAR-10 a label and 3072 pixels, for CIFAR-100 a coarse label, a
//! fine label and 3072 pixels; pixels are red, green and blue planes of 32×32, row by row
//! (<https://www.cs.toronto.edu/~kriz/cifar.html>). Every byte that can be wrong is checked.

mod archive;
mod classes;
mod error;
mod read;

use std::path::Path;

pub use archive::extract;
pub use error::CifarError;
pub use read::{read_archive, read_records, read_split};

use crate::Split;

/// Channels, height and width of an image.
pub const SHAPE: [usize; 3] = [3, 32, 32];

/// Bytes of an image.
const PIXELS: usize = 3 * 32 * 32;

/// Which of the two data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cifar {
    /// Ten classes.
    Cifar10,
    /// A hundred classes (the fine labels) in twenty groups (the coarse labels, which are checked and dropped).
    Cifar100,
}

impl Cifar {
    /// Name in the catalogue: `cifar10` or `cifar100`.
    pub fn name(self) -> &'static str {
        match self {
            Cifar::Cifar10 => "cifar10",
            Cifar::Cifar100 => "cifar100",
        }
    }

    /// Names of the classes, in the order of the labels.
    pub const fn classes(self) -> &'static [&'static str] {
        match self {
            Cifar::Cifar10 => classes::CIFAR10,
            Cifar::Cifar100 => classes::CIFAR100,
        }
    }

    /// Name of the published archive.
    pub const fn archive(self) -> &'static str {
        match self {
            Cifar::Cifar10 => "cifar-10-binary.tar.gz",
            Cifar::Cifar100 => "cifar-100-binary.tar.gz",
        }
    }

    /// Name of the archive for Python, which is not read.
    pub(crate) fn python_archive(self) -> &'static str {
        match self {
            Cifar::Cifar10 => "cifar-10-python.tar.gz",
            Cifar::Cifar100 => "cifar-100-python.tar.gz",
        }
    }

    /// Name of the folder inside it.
    pub(crate) fn python_folder(self) -> &'static str {
        match self {
            Cifar::Cifar10 => "cifar-10-batches-py",
            Cifar::Cifar100 => "cifar-100-python",
        }
    }

    /// Name of a file that it has and the binary version has not.
    pub(crate) fn python_file(self) -> &'static str {
        match self {
            Cifar::Cifar10 => "data_batch_1",
            Cifar::Cifar100 => "meta",
        }
    }

    /// Name of the folder inside the archive.
    pub fn folder(self) -> &'static str {
        match self {
            Cifar::Cifar10 => "cifar-10-batches-bin",
            Cifar::Cifar100 => "cifar-100-binary",
        }
    }

    /// Names of the files of a split.
    pub fn files(self, split: Split) -> &'static [&'static str] {
        match (self, split) {
            (Cifar::Cifar10, Split::Train) => &[
                "data_batch_1.bin",
                "data_batch_2.bin",
                "data_batch_3.bin",
                "data_batch_4.bin",
                "data_batch_5.bin",
            ],
            (Cifar::Cifar10, Split::Test) => &["test_batch.bin"],
            (Cifar::Cifar100, Split::Train) => &["train.bin"],
            (Cifar::Cifar100, Split::Test) => &["test.bin"],
        }
    }

    /// Images in each file of a split, as published.
    pub fn records_per_file(self, split: Split) -> usize {
        match (self, split) {
            (Cifar::Cifar100, Split::Train) => 50_000,
            _ => 10_000,
        }
    }

    /// Bytes of one record.
    pub fn record_len(self) -> usize {
        self.labels() + PIXELS
    }

    /// Labels before the pixels of a record.
    fn labels(self) -> usize {
        match self {
            Cifar::Cifar10 => 1,
            Cifar::Cifar100 => 2,
        }
    }

    fn all_files(self) -> impl Iterator<Item = (&'static str, u64)> {
        [Split::Train, Split::Test]
            .into_iter()
            .flat_map(move |split| {
                let bytes = (self.records_per_file(split) * self.record_len()) as u64;
                self.files(split).iter().map(move |&name| (name, bytes))
            })
    }

    /// How many of the files are in a folder.
    pub(crate) fn found(self, dir: &Path) -> usize {
        self.all_files()
            .filter(|(name, _)| dir.join(name).is_file())
            .count()
    }

    /// Whether all files are in a folder.
    pub(crate) fn holds_all(self, dir: &Path) -> bool {
        self.found(dir) == self.all_files().count()
    }
}
