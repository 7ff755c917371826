//! Data sets by name: where their files are, what their classes are called, how to get them.

mod sets;

use std::fmt;
use std::path::{Path, PathBuf};

pub use sets::{DATA_SETS, DataSet};

use crate::fetch::FetchError;
use crate::idx::{self, IdxError, Kind};
use crate::{Digits, LabeledImages, Split};

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
    /// data set's name (which is tried first), or in torchvision's layout (`MNIST/raw`). Default: none.
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

    /// Brings the files of the data set into the cache, verified, and gives their folder; `None` if
    /// the data set is drawn and needs none. Files that are there and right are left alone.
    ///
    /// # Errors
    /// [`DataError::UnknownName`], [`DataError::NoCache`], [`DataError::NotFound`].
    pub fn fetch(&self) -> Result<Option<PathBuf>, DataError> {
        let set = DataSet::find(&self.name)?;
        if set.is_drawn() {
            return Ok(None);
        }
        let cache = self.cache(set)?;
        self.download(set, &cache)?;
        Ok(Some(cache))
    }

    /// The folder in the cache that holds all four files, if they are there; nothing is fetched and
    /// their content is not looked at.
    ///
    /// # Errors
    /// [`DataError::UnknownName`], [`DataError::NoCache`].
    pub fn cached(&self) -> Result<Option<PathBuf>, DataError> {
        let cache = self.cache(DataSet::find(&self.name)?)?;
        Ok(holds_all(&cache).then_some(cache))
    }

    fn auto(&self) -> Result<Loaded, DataError> {
        let mnist = DataSet::find("mnist")?;
        let reason = match self.files(mnist) {
            // A folder that the user named must hold the data: other data would be a surprise.
            Err(error) if self.data_dir.is_some() => return Err(error),
            Err(DataError::NotFound { reason, .. }) => reason,
            Err(DataError::NoCache) => "no cache folder".to_owned(),
            other => return other,
        };
        Ok(self.drawn(Some(format!(
            "MNIST is not at hand ({reason}), so these are Kiln's own drawn digits"
        ))))
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

    fn files(&self, set: &'static DataSet) -> Result<Loaded, DataError> {
        if let Some(dir) = &self.data_dir {
            let found = find_folder(set, dir).ok_or_else(|| DataError::NotFound {
                name: set.name,
                reason: match dir.is_dir() {
                    true => format!("its files are not in {}", dir.display()),
                    false => format!("there is no folder {}", dir.display()),
                },
                steps: manual_steps(set, dir),
            })?;
            return read(set, &found, Origin::Folder(found.clone()));
        }
        let cache = self.cache(set)?;
        if !holds_all(&cache) {
            self.download(set, &cache)?;
            return read(set, &cache, Origin::Downloaded(cache.clone()));
        }
        match read(set, &cache, Origin::Cache(cache.clone())) {
            // Damage in the cache is ours to mend: what is not as published is fetched again.
            Err(damage) if self.download(set, &cache).is_ok() => {
                read(set, &cache, Origin::Downloaded(cache.clone())).map_err(|_| damage)
            }
            result => result,
        }
    }

    fn cache(&self, set: &DataSet) -> Result<PathBuf, DataError> {
        let cache = self.cache_dir.clone().or_else(cache_dir);
        Ok(cache.ok_or(DataError::NoCache)?.join(set.name))
    }

    fn download(&self, set: &'static DataSet, cache: &Path) -> Result<(), DataError> {
        let not_found = |reason| DataError::NotFound {
            name: set.name,
            reason,
            steps: manual_steps(set, cache),
        };
        if self.offline {
            return Err(not_found("not in the cache, and downloads are off".into()));
        }
        #[cfg(not(feature = "download"))]
        return Err(not_found(
            "not in the cache, and this build cannot download: its feature `download` is off"
                .into(),
        ));
        #[cfg(feature = "download")]
        crate::fetch::Fetcher::new()
            .progress(self.progress)
            .fetch_all(&set.files(), cache)
            .map_err(|error| not_found(why(&error)))
    }
}

/// One line on why a download failed.
#[cfg_attr(not(feature = "download"), expect(dead_code))]
fn why(error: &FetchError) -> String {
    match error {
        error if error.is_offline() => "not in the cache, and no network".into(),
        FetchError::AllFailed { name, failures, .. } => {
            let failures: Vec<String> = failures
                .iter()
                .map(|(url, failure)| format!("{url}: {failure}"))
                .collect();
            format!("cannot fetch {name}: {}", failures.join("; "))
        }
        FetchError::Io { source, .. } => format!("{error}: {source}"),
        other => other.to_string(),
    }
}

/// The folder in or under `dir` that holds files of the set.
fn find_folder(set: &DataSet, dir: &Path) -> Option<PathBuf> {
    [
        dir.join(set.name),
        dir.join(set.torchvision).join("raw"),
        dir.join("raw"),
        dir.to_owned(),
    ]
    .into_iter()
    .find(|dir| found_files(dir) > 0)
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
    /// Training and test images differ in size.
    #[error(
        "{} holds training images of {} x {} pixels but test images of {} x {}; they must be alike",
        .dir.display(), .train[0], .train[1], .test[0], .test[1]
    )]
    ShapeMismatch {
        /// The folder.
        dir: PathBuf,
        /// Height and width of the training images.
        train: [usize; 2],
        /// Height and width of the test images.
        test: [usize; 2],
    },
    /// A file is there but unusable.
    #[error(transparent)]
    Idx(#[from] IdxError),
}

fn found_files(dir: &Path) -> usize {
    [Split::Train, Split::Test]
        .into_iter()
        .flat_map(|split| [Kind::Images, Kind::Labels].map(|kind| idx::find(dir, split, kind)))
        .flatten()
        .count()
}

fn holds_all(dir: &Path) -> bool {
    found_files(dir) == 4
}

fn read(set: &DataSet, dir: &Path, origin: Origin) -> Result<Loaded, DataError> {
    let classes: Vec<String> = set.classes.iter().map(|&class| class.into()).collect();
    let test = idx::read_split(dir, Split::Test, set.name, &classes)?;
    let train = idx::read_split(dir, Split::Train, set.name, &classes)?;
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

/// What a person can do without this program.
fn manual_steps(set: &DataSet, dir: &Path) -> String {
    let files: Vec<String> = set.files().into_iter().map(|file| file.name).collect();
    format!(
        "by hand: fetch {} from {} into {}, or name a folder that has them with --data-dir",
        files.join(", "),
        set.mirrors.join(" or "),
        dir.display()
    )
}
