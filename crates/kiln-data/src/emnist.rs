//! EMNIST's files: MNIST's format, but with names of their own, with pictures whose rows and columns have changed
//! places, and with letters numbered from 1 (Cohen et al. 2017, <https://arxiv.org/abs/1702.05373>).
//!
//! What is read here is upright, and its labels begin at 0. (torchvision's `EMNIST` gives the pictures as the files have
//! them, and `letters` a class `N/A` before the others.)

use std::path::{Path, PathBuf};

use crate::idx::{self, IdxError, Kind};
use crate::{LabeledImages, Split};

/// Where the archive of all six is.
pub const ARCHIVE: &str = "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip";

/// One of EMNIST's six data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Emnist {
    /// 62 classes: digits, capital and small letters, as unevenly as they are written.
    ByClass,
    /// 47 classes: capital and small letters that look alike are one.
    ByMerge,
    /// The 47 classes of `ByMerge`, as many pictures of each.
    Balanced,
    /// 26 classes: capital and small letters together.
    Letters,
    /// 10 digits.
    Digits,
    /// 10 digits, as many pictures as MNIST.
    Mnist,
}

const DIGITS: &[&str] = &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
const LETTERS: &[&str] = &[
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s",
    "t", "u", "v", "w", "x", "y", "z",
];
const BY_CLASS: &[&str] = &[
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "A", "B", "C", "D", "E", "F", "G", "H", "I",
    "J", "K", "L", "M", "N", "O", "P", "Q", "R", "S", "T", "U", "V", "W", "X", "Y", "Z", "a", "b",
    "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u",
    "v", "w", "x", "y", "z",
];
/// As in the mapping files of the publisher.
const BY_MERGE: &[&str] = &[
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "A", "B", "C", "D", "E", "F", "G", "H", "I",
    "J", "K", "L", "M", "N", "O", "P", "Q", "R", "S", "T", "U", "V", "W", "X", "Y", "Z", "a", "b",
    "d", "e", "f", "g", "h", "n", "q", "r", "t",
];

impl Emnist {
    /// All six.
    pub const ALL: [Self; 6] = [
        Self::ByClass,
        Self::ByMerge,
        Self::Balanced,
        Self::Letters,
        Self::Digits,
        Self::Mnist,
    ];

    /// Name in the catalogue, and in the names of the files: `emnist-letters`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ByClass => "emnist-byclass",
            Self::ByMerge => "emnist-bymerge",
            Self::Balanced => "emnist-balanced",
            Self::Letters => "emnist-letters",
            Self::Digits => "emnist-digits",
            Self::Mnist => "emnist-mnist",
        }
    }

    /// Names of the classes, in the order of the labels.
    pub const fn classes(self) -> &'static [&'static str] {
        match self {
            Self::ByClass => BY_CLASS,
            Self::ByMerge | Self::Balanced => BY_MERGE,
            Self::Letters => LETTERS,
            Self::Digits | Self::Mnist => DIGITS,
        }
    }

    /// Number of training and of test images, as published.
    pub(crate) const fn len(self) -> (usize, usize) {
        match self {
            Self::ByClass | Self::ByMerge => (697_932, 116_323),
            Self::Balanced => (112_800, 18_800),
            Self::Letters => (124_800, 20_800),
            Self::Digits => (240_000, 40_000),
            Self::Mnist => (60_000, 10_000),
        }
    }

    fn file_name(self, split: Split, kind: Kind) -> String {
        let kind = match kind {
            Kind::Images => "images-idx3-ubyte",
            Kind::Labels => "labels-idx1-ubyte",
        };
        format!("{}-{split}-{kind}", self.name())
    }

    /// The file of `kind` for `split` in `dir`, plain or with `.gz`, if there is one.
    pub fn find(self, dir: &Path, split: Split, kind: Kind) -> Option<PathBuf> {
        idx::find_named(dir, &self.file_name(split, kind))
    }

    /// Reads one split from a folder that holds the files.
    ///
    /// # Errors
    /// [`IdxError`], which names the file.
    pub fn read_split(self, dir: &Path, split: Split) -> Result<LabeledImages, IdxError> {
        let locate = |kind| {
            self.find(dir, split, kind)
                .ok_or_else(|| IdxError::Missing {
                    path: dir.join(self.file_name(split, kind)),
                    kind,
                })
        };
        let (images, labels) = (locate(Kind::Images)?, locate(Kind::Labels)?);
        let first = u8::from(self == Self::Letters);
        let mut classes: Vec<String> = self.classes().iter().map(|&name| name.into()).collect();
        // A name for the number that no letter has, so that it is not taken for one.
        (0..first).for_each(|_| classes.insert(0, String::new()));
        let data = idx::read_pair(&images, &labels, self.name(), &classes)?;
        let names = classes.split_off(usize::from(first));
        let [_, height, width] = data.shape();
        let (mut pixels, mut numbers) = data.into_images_and_labels();
        for (index, number) in numbers.iter_mut().enumerate() {
            *number = number
                .checked_sub(u16::from(first))
                .ok_or_else(|| IdxError::NoLetter {
                    path: labels.clone(),
                    index,
                })?;
        }
        let mut upright = vec![0; height * width];
        for image in pixels.chunks_exact_mut(height * width) {
            for (at, pixel) in upright.iter_mut().enumerate() {
                let (y, x) = (at / height, at % height);
                *pixel = image[x * width + y];
            }
            image.copy_from_slice(&upright);
        }
        let shape = [1, width, height];
        Ok(
            LabeledImages::new(self.name(), names, shape, pixels, numbers)
                .expect("whole images, and labels that were checked"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_classes_as_the_paper_says() {
        let counts = Emnist::ALL.map(|set| set.classes().len());
        assert_eq!(counts, [62, 47, 47, 26, 10, 10]);
    }
}
