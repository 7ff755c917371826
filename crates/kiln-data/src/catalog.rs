//! Data sets by name: where their files are, what their classes are called, how to get them.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::idx::{self, IdxError, Kind};
use crate::{Digits, LabeledImages, Split};

/// A data set that [`Load`] knows by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DataSet {
    /// The name to give to [`Load::new`] and to `--data`.
    pub name: &'static str,
    /// One line that says what it is.
    pub summary: &'static str,
    /// Names of the classes.
    pub classes: &'static [&'static str],
    /// Number of training and of test images.
    pub len: (usize, usize),
    /// Name of its folder as torchvision lays it out (`MNIST/raw`).
    torchvision: &'static str,
}

/// Every data set known by name.
pub const DATA_SETS: &[DataSet] = &[
    DataSet {
        name: "mnist",
        summary: "handwritten digits (LeCun, Cortes and Burges, 1998)",
        classes: &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
        len: (60_000, 10_000),
        torchvision: "MNIST",
    },
    DataSet {
        name: "fashion-mnist",
        summary: "articles of clothing (Xiao, Rasul and Vollgraf, 2017)",
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
        torchvision: "FashionMNIST",
    },
    DataSet {
        name: "kmnist",
        summary: "cursive Japanese characters (Clanuwat et al., 2018)",
        classes: &["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"],
        len: (60_000, 10_000),
        torchvision: "KMNIST",
    },
    DataSet {
        name: "digits",
        summary: "handwritten-like digits that Kiln draws itself; needs no files",
        classes: &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
        len: (Digits::TRAIN_LEN, Digits::TEST_LEN),
        torchvision: "",
    },
];

impl DataSet {
    /// The data set called `name`; `_` and spaces count as `-`, and case does not count.
    ///
    /// # Errors
    /// [`DataError::UnknownName`], which suggests names that are close.
    pub fn find(name: &str) -> Result<&'static DataSet, DataError> {
        let plain = name.to_ascii_lowercase().replace(['_', ' '], "-");
        DATA_SETS
            .iter()
            .find(|set| set.name == plain)
            .ok_or_else(|| DataError::UnknownName {
                name: name.to_owned(),
                suggestion: suggest(&plain),
            })
    }

    fn is_drawn(&self) -> bool {
        self.torchvision.is_empty()
    }
}

/// Where loaded data came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Files in a folder the user named.
    Folder(PathBuf),
    /// Files in Kiln's cache.
    Cache(PathBuf),
    /// Files just downloaded into Kiln's cache.
    Downloaded(PathBuf),
    /// Drawn by [`Digits`] from this seed.
    Drawn {
        /// The seed.
        seed: u64,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Folder(path) => write!(f, "{}", path.display()),
            Origin::Cache(path) => write!(f, "cache, {}", path.display()),
            Origin::Downloaded(path) => write!(f, "downloaded to {}", path.display()),
            Origin::Drawn { seed } => write!(f, "drawn, seed {seed}"),
        }
    }
}

/// Both splits of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaded {
    /// Images to learn from.
    pub train: LabeledImages,
    /// Images to be judged on.
    pub test: LabeledImages,
    /// Where they came from.
    pub origin: Origin,
    /// With `auto`: one line that says why these data were taken when they are not MNIST.
    pub note: Option<String>,
}

/// Finds a data set by name and loads both splits.
///
/// The places are tried in order: the folder given with [`data_dir`](Self::data_dir) (only that
/// one, if it is given), Kiln's cache, a download. `digits` needs none of them. `auto` stands for
/// MNIST where it is found or can be fetched, otherwise Digits, with a [`note`](Loaded::note).
///
/// ```
/// use kiln_data::{Load, Origin};
///
/// let data = Load::new("digits").seed(3).digits_len(200, 50).run()?;
/// assert_eq!((data.train.len(), data.test.len()), (200, 50));
/// assert_eq!(data.origin, Origin::Drawn { seed: 3 });
/// # Ok::<(), kiln_data::DataError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Load {
    name: String,
    data_dir: Option<PathBuf>,
    cache_dir: Option<PathBuf>,
    offline: bool,
    progress: bool,
    seed: u64,
    digits_len: (usize, usize),
}

impl Load {
    /// Will load the data set called `name`, or `auto`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            data_dir: None,
            cache_dir: None,
            offline: false,
            progress: false,
            seed: 0,
            digits_len: (Digits::TRAIN_LEN, Digits::TEST_LEN),
        }
    }

    /// Looks for the files in this folder and nowhere else: directly in it, in a subfolder with the
    /// data set's name, or in torchvision's layout (`MNIST/raw`). Default: none.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }

    /// Keeps downloads here instead of in [`cache_dir`].
    pub fn cache_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(dir.into());
        self
    }

    /// Never uses the network. Default: false.
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Shows a progress bar on stderr while downloading. Default: false.
    pub fn progress(mut self, progress: bool) -> Self {
        self.progress = progress;
        self
    }

    /// Seed of [`Digits`]. Default: 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many training and test digits to draw. Default: 60,000 and 10,000.
    pub fn digits_len(mut self, train: usize, test: usize) -> Self {
        self.digits_len = (train, test);
        self
    }

    /// Finds and reads, or draws, the data.
    ///
    /// # Errors
    /// [`DataError::UnknownName`]; [`DataError::NotFound`] with the places that were tried and the
    /// manual steps; [`DataError::Idx`] if files are there but damaged, which is never papered over
    /// by taking other data instead.
    pub fn run(&self) -> Result<Loaded, DataError> {
        if self.name.eq_ignore_ascii_case("auto") {
            return self.auto();
        }
        let set = DataSet::find(&self.name)?;
        if set.is_drawn() {
            return Ok(self.drawn(None));
        }
        self.files(set)
    }

    fn auto(&self) -> Result<Loaded, DataError> {
        match self.files(DataSet::find("mnist")?) {
            // A folder that the user named must hold the data: other data would be a surprise.
            Err(DataError::NotFound { reason, .. }) if self.data_dir.is_none() => {
                Ok(self.drawn(Some(format!(
                    "MNIST is not here ({reason}), so Kiln draws its own digits"
                ))))
            }
            other => other,
        }
    }

    fn drawn(&self, note: Option<String>) -> Loaded {
        let digits = Digits::new(self.seed);
        Loaded {
            train: digits.generate(Split::Train, self.digits_len.0),
            test: digits.generate(Split::Test, self.digits_len.1),
            origin: Origin::Drawn { seed: self.seed },
            note,
        }
    }

    fn files(&self, set: &DataSet) -> Result<Loaded, DataError> {
        if let Some(dir) = &self.data_dir {
            let candidates = [
                dir.clone(),
                dir.join(set.name),
                dir.join(set.torchvision).join("raw"),
                dir.join(set.torchvision),
            ];
            let Some(found) = candidates.iter().find(|dir| holds_any(dir)) else {
                return Err(DataError::NotFound {
                    name: set.name,
                    reason: format!("no such files in {}", dir.display()),
                    steps: manual_steps(set, dir),
                });
            };
            return read(set, found, Origin::Folder(found.clone()));
        }
        let cache = self.cache_dir.clone().or_else(cache_dir);
        let Some(cache) = cache.map(|cache| cache.join(set.name)) else {
            return Err(DataError::NoCache);
        };
        if holds_any(&cache) {
            return read(set, &cache, Origin::Cache(cache.clone()));
        }
        let reason = match self.offline {
            true => "not in the cache, and offline".to_owned(),
            false => "not in the cache".to_owned(),
        };
        Err(DataError::NotFound {
            name: set.name,
            reason,
            steps: manual_steps(set, &cache),
        })
    }
}

/// Kiln's folder for downloads: `KILN_DATA_DIR` if set and not empty, otherwise `kiln` in the
/// platform's cache folder (`~/.cache` on Linux); `None` if there is neither.
pub fn cache_dir() -> Option<PathBuf> {
    match std::env::var_os("KILN_DATA_DIR") {
        Some(dir) if !dir.is_empty() => Some(PathBuf::from(dir)),
        _ => dirs::cache_dir().map(|dir| dir.join("kiln")),
    }
}

/// Why a data set could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// No data set has this name.
    #[error("there is no data set {name:?}; {suggestion}")]
    UnknownName {
        /// The name given.
        name: String,
        /// Names that are close, or all of them.
        suggestion: String,
    },
    /// The files are neither where they were looked for nor to be fetched.
    #[error("{name} was not found: {reason}\n{steps}")]
    NotFound {
        /// The data set.
        name: &'static str,
        /// Where was looked, and what went wrong.
        reason: String,
        /// What to do by hand.
        steps: String,
    },
    /// There is no folder for downloads.
    #[error(
        "there is no cache folder on this system; set KILN_DATA_DIR to a folder for downloads, or give --data-dir"
    )]
    NoCache,
    /// A file is there but unusable.
    #[error(transparent)]
    Idx(#[from] IdxError),
}

fn holds_any(dir: &Path) -> bool {
    [Split::Train, Split::Test].into_iter().any(|split| {
        [Kind::Images, Kind::Labels]
            .into_iter()
            .any(|kind| idx::find(dir, split, kind).is_some())
    })
}

fn read(set: &DataSet, dir: &Path, origin: Origin) -> Result<Loaded, DataError> {
    let classes: Vec<String> = set.classes.iter().map(|&class| class.into()).collect();
    let test = idx::read_split(dir, Split::Test, set.name, &classes)?;
    let train = idx::read_split(dir, Split::Train, set.name, &classes)?;
    Ok(Loaded {
        train,
        test,
        origin,
        note: None,
    })
}

fn manual_steps(_set: &DataSet, dir: &Path) -> String {
    let files: Vec<String> = [Split::Train, Split::Test]
        .into_iter()
        .flat_map(|split| [Kind::Images, Kind::Labels].map(|kind| idx::file_name(split, kind)))
        .map(|name| format!("{name}.gz"))
        .collect();
    format!("put {} into {}", files.join(", "), dir.display())
}

/// What to say after an unknown name.
fn suggest(name: &str) -> String {
    let near: Vec<&str> = DATA_SETS
        .iter()
        .map(|set| set.name)
        .filter(|known| known.contains(name) && name.len() > 2 || edits(name, known) <= 2)
        .collect();
    if let [first, ..] = near[..] {
        return format!("did you mean {first:?}?");
    }
    let all: Vec<&str> = DATA_SETS.iter().map(|set| set.name).collect();
    format!("known are auto, {}", all.join(", "))
}

/// Levenshtein distance.
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
