//! The data sets known by name.

use super::{DataError, Format};
use crate::cifar::Cifar;
use crate::emnist::{self, Emnist};
use crate::fetch::FileSpec;
use crate::{Digits, Shapes, shapes};

/// A data set that [`Load`](super::Load) knows by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DataSet {
    /// The name to give to [`Load::new`](super::Load::new) and to `--data`.
    pub name: &'static str,
    /// One line that says what it is.
    pub summary: &'static str,
    /// What its files are.
    pub format: Format,
    /// Licence of the data.
    pub license: &'static str,
    /// Names of the classes; a label indexes this list. Empty if only the folder tells.
    pub classes: &'static [&'static str],
    /// Number of training and of test images; zeros if only the folder tells.
    pub len: (usize, usize),
    /// Folders that hold copies of the files, with a final slash; empty if the set is drawn.
    pub mirrors: &'static [&'static str],
    /// The files: name, size in bytes, SHA-256.
    files: &'static [(&'static str, u64, &'static str)],
    /// Name of its folder as torchvision lays it out.
    pub(super) torchvision: &'static str,
}

const DIGIT_NAMES: &[&str] = &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// Every data set known by name.
///
/// The check sums were compared with those of independent public projects, the sizes with the
/// publishers' own.
pub const DATA_SETS: &[DataSet] = &[
    DataSet {
        name: "mnist",
        summary: "handwritten digits (LeCun, Cortes and Burges, 1998)",
        format: Format::Idx,
        license: "CC BY-SA 3.0",
        classes: DIGIT_NAMES,
        len: (60_000, 10_000),
        mirrors: &[
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ],
        files: &[
            (
                "train-images-idx3-ubyte.gz",
                9_912_422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            (
                "train-labels-idx1-ubyte.gz",
                28_881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            (
                "t10k-images-idx3-ubyte.gz",
                1_648_877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            (
                "t10k-labels-idx1-ubyte.gz",
                4_542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ],
        torchvision: "MNIST",
    },
    DataSet {
        name: "fashion-mnist",
        summary: "articles of clothing (Xiao, Rasul and Vollgraf, 2017)",
        format: Format::Idx,
        license: "MIT",
        classes: &[
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ],
        len: (60_000, 10_000),
        mirrors: &[
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ],
        files: &[
            (
                "train-images-idx3-ubyte.gz",
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            (
                "train-labels-idx1-ubyte.gz",
                29_515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            (
                "t10k-images-idx3-ubyte.gz",
                4_422_102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            (
                "t10k-labels-idx1-ubyte.gz",
                5_148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ],
        torchvision: "FashionMNIST",
    },
    DataSet {
        name: "kmnist",
        summary: "cursive Japanese characters (Clanuwat et al., 2018)",
        format: Format::Idx,
        license: "CC BY-SA 4.0",
        classes: &["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"],
        len: (60_000, 10_000),
        mirrors: &[
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            // The publisher has no mirror; the Internet Archive keeps the files as they were.
            "https://web.archive.org/web/2020id_/http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        ],
        files: &[
            (
                "train-images-idx3-ubyte.gz",
                18_165_135,
                "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            ),
            (
                "train-labels-idx1-ubyte.gz",
                29_497,
                "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            ),
            (
                "t10k-images-idx3-ubyte.gz",
                3_041_136,
                "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            ),
            (
                "t10k-labels-idx1-ubyte.gz",
                5_120,
                "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
            ),
        ],
        torchvision: "KMNIST",
    },
    DataSet {
        name: "cifar10",
        summary: "small colour photographs in ten classes (Krizhevsky, 2009)",
        format: Format::Cifar(Cifar::Cifar10),
        license: "none stated; cite the report",
        classes: Cifar::Cifar10.classes(),
        len: (50_000, 10_000),
        mirrors: TORONTO,
        files: &[(
            Cifar::Cifar10.archive(),
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        )],
        torchvision: "",
    },
    DataSet {
        name: "cifar100",
        summary: "small colour photographs in a hundred classes (Krizhevsky, 2009)",
        format: Format::Cifar(Cifar::Cifar100),
        license: "none stated; cite the report",
        classes: Cifar::Cifar100.classes(),
        len: (50_000, 10_000),
        mirrors: TORONTO,
        files: &[(
            Cifar::Cifar100.archive(),
            168_513_733,
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        )],
        torchvision: "",
    },
    DataSet {
        name: "digits",
        summary: "handwritten-like digits that Kiln draws itself; needs no files",
        format: Format::Digits,
        license: "none needed: made on your machine",
        classes: DIGIT_NAMES,
        len: (Digits::TRAIN_LEN, Digits::TEST_LEN),
        mirrors: &[],
        files: &[],
        torchvision: "",
    },
    DataSet {
        name: "shapes",
        summary: "for segmentation: figures that Kiln draws itself; needs no files",
        format: Format::Shapes,
        license: "none needed: made on your machine",
        classes: shapes::CLASSES,
        len: (Shapes::TRAIN_LEN, Shapes::TEST_LEN),
        mirrors: &[],
        files: &[],
        torchvision: "",
    },
    DataSet {
        name: "image-folder",
        summary: "your own pictures, a folder for each class (--data-dir)",
        format: Format::ImageFolder,
        license: "yours",
        classes: &[],
        len: (0, 0),
        mirrors: &[],
        files: &[],
        torchvision: "",
    },
    DataSet {
        name: "mask-folder",
        summary: "for segmentation: your own images and masks (--data-dir)",
        format: Format::MaskFolder,
        license: "yours",
        classes: &[],
        len: (0, 0),
        mirrors: &[],
        files: &[],
        torchvision: "",
    },
    emnist_set(
        Emnist::Balanced,
        "letters and digits, as many of each (Cohen et al., 2017)",
    ),
    emnist_set(Emnist::ByClass, "EMNIST by its 62 classes"),
    emnist_set(
        Emnist::ByMerge,
        "EMNIST with letters that look alike as one",
    ),
    emnist_set(
        Emnist::Letters,
        "EMNIST's letters, capital and small as one",
    ),
    emnist_set(Emnist::Digits, "EMNIST's digits"),
    emnist_set(Emnist::Mnist, "EMNIST's digits, as many as MNIST's"),
];

/// A part of EMNIST, which is published as one large archive and not fetched.
const fn emnist_set(emnist: Emnist, summary: &'static str) -> DataSet {
    DataSet {
        name: emnist.name(),
        summary,
        format: Format::Emnist(emnist),
        license: "public domain (NIST)",
        classes: emnist.classes(),
        len: emnist.len(),
        mirrors: &[],
        files: &[],
        torchvision: "EMNIST",
    }
}

/// The publisher's folder; it has no mirror.
const TORONTO: &[&str] = &[
    "https://www.cs.toronto.edu/~kriz/",
    "http://www.cs.toronto.edu/~kriz/",
];

impl DataSet {
    /// The data set called `name`; case, `-`, `_` and spaces do not count.
    ///
    /// ```
    /// use kiln_data::catalog::DataSet;
    ///
    /// assert_eq!(DataSet::find("Fashion_MNIST")?.classes[8], "Bag");
    /// let error = DataSet::find("mnits").unwrap_err();
    /// assert_eq!(error.to_string(), "no data set is named 'mnits'; did you mean 'mnist'?");
    /// # Ok::<(), kiln_data::DataError>(())
    /// ```
    ///
    /// # Errors
    /// [`DataError::UnknownName`], which suggests names that are close.
    pub fn find(name: &str) -> Result<&'static DataSet, DataError> {
        let plain = name.trim().to_ascii_lowercase().replace(['_', ' '], "-");
        DATA_SETS
            .iter()
            .find(|set| set.name.replace('-', "") == plain.replace('-', ""))
            .ok_or_else(|| DataError::UnknownName {
                name: name.to_owned(),
                suggestion: suggest(&plain),
            })
    }

    /// Whether Kiln draws the images itself, so that there is nothing to fetch.
    pub fn is_drawn(&self) -> bool {
        matches!(self.format, Format::Digits | Format::Shapes)
    }

    /// Whether it is a folder of the user's own.
    pub fn is_folder(&self) -> bool {
        matches!(self.format, Format::ImageFolder | Format::MaskFolder)
    }

    /// Whether it has masks, for segmentation, instead of labels.
    pub fn has_masks(&self) -> bool {
        matches!(self.format, Format::Shapes | Format::MaskFolder)
    }

    /// Whether its files can be fetched.
    pub fn is_fetched(&self) -> bool {
        !self.files.is_empty()
    }

    /// What a person can do to have its files, if they are not fetched.
    pub fn by_hand(&self) -> Option<String> {
        matches!(self.format, Format::Emnist(_)).then(|| {
            format!(
                "fetch {}, unpack it, and name the folder of its files with --data-dir",
                emnist::ARCHIVE
            )
        })
    }

    /// Name of the archive that holds the files, if one does.
    pub(super) fn archive(&self) -> Option<&'static str> {
        match self.format {
            Format::Cifar(cifar) => Some(cifar.archive()),
            _ => None,
        }
    }

    /// The files to fetch, each with all its addresses; empty if the set is drawn.
    pub fn files(&self) -> Vec<FileSpec> {
        let spec = |&(name, size, sha256): &(&str, u64, &str)| FileSpec {
            name: name.into(),
            urls: self.mirrors.iter().map(|m| format!("{m}{name}")).collect(),
            size,
            sha256: sha256.into(),
        };
        self.files.iter().map(spec).collect()
    }
}

/// What to say after an unknown name.
fn suggest(name: &str) -> String {
    if name == "emnist" {
        let parts = Emnist::ALL.map(Emnist::name);
        return format!("it has six parts: {}", parts.join(", "));
    }
    let names = || DATA_SETS.iter().map(|set| set.name).chain(["auto"]);
    let near = names()
        .map(|known| (edits(name, known), known))
        .filter(|&(edits, known)| edits <= 2 || name.len() > 2 && known.contains(name))
        .min();
    match near {
        Some((_, near)) => format!("did you mean '{near}'?"),
        None => {
            let names: Vec<&str> = names().collect();
            format!("known are {}", names.join(", "))
        }
    }
}

/// Levenshtein distance: insertions, deletions and substitutions.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_however_they_are_spelled() {
        for name in [
            "fashion-mnist",
            "Fashion_MNIST",
            " fashion mnist ",
            "FashionMNIST",
        ] {
            assert_eq!(DataSet::find(name).unwrap().name, "fashion-mnist");
        }
        assert_eq!(DataSet::find("CIFAR-10").unwrap().name, "cifar10");
    }

    #[test]
    fn an_unknown_name_is_answered_with_near_names_or_all_of_them() {
        let message = |name| DataSet::find(name).unwrap_err().to_string();
        assert!(message("digit").ends_with("did you mean 'digits'?"));
        assert!(message("kmnits").ends_with("did you mean 'kmnist'?"));
        assert!(message("fashion").ends_with("did you mean 'fashion-mnist'?"));
        assert!(
            message("imagenet").contains(
                "known are mnist, fashion-mnist, kmnist, cifar10, cifar100, digits, shapes"
            )
        );
    }

    #[test]
    fn every_file_has_two_addresses_and_a_whole_check_sum() {
        for set in DATA_SETS.iter().filter(|set| !set.files.is_empty()) {
            let files = set.files();
            let archive = set.archive().is_some();
            assert_eq!(files.len(), if archive { 1 } else { 4 }, "{}", set.name);
            for file in files {
                assert!(file.urls.len() >= 2, "{}", file.name);
                let hex = file.sha256;
                assert!(hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
                let ending = if archive {
                    "-binary.tar.gz"
                } else {
                    "-ubyte.gz"
                };
                assert!(file.name.ends_with(ending) && file.size > 4000);
            }
        }
    }
}
