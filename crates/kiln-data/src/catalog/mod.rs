//! Data sets by name: where their files are, what their classes are called, how to get them.

mod format;
mod sets;
mod test_split;

use std::fmt;
use std::path::{Path, PathBuf};

pub use format::Format;
pub use sets::{DATA_SETS, DataSet};
pub use test_split::LoadedTest;

use crate::cifar::CifarError;
use crate::fetch::FetchError;
use crate::folder::{FolderError, FolderOptions};
use crate::idx::IdxError;
use crate::{Digits, LabeledImages, MaskedImages, Shapes, Split};

/// Where loaded data came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Files in a folder the user named.
    Folder(PathBuf),
    /// Files in Kiln's cache.
    Cache(PathBuf),
    /// Files just downloaded into Kiln's cache.
    Downloaded(PathBuf),
    /// Drawn by [`Digits`] or [`Shapes`] from this seed.
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

/// The splits of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaded<T = LabeledImages> {
    /// Images to learn from.
    pub train: T,
    /// Images to validate on, where a folder has them (`val`, `valid` or `validation` beside `train` and `test`).
    pub valid: Option<T>,
    /// Images to be judged on.
    pub test: T,
    /// Where they came from.
    pub origin: Origin,
    /// One line that a person should read: with `auto`, why these data were taken when they are not MNIST; of a folder,
    /// what was passed over in it and why.
    pub note: Option<String>,
}

impl<T> Loaded<T> {
    fn map(self, change: impl Fn(T) -> T) -> Self {
        Self {
            train: change(self.train),
            valid: self.valid.map(&change),
            test: change(self.test),
            ..self
        }
    }
}

/// Finds a data set by name and loads both splits.
///
/// The places are tried in order: the folder given with [`data_dir`](Self::data_dir) (only that
/// one, if it is given), Kiln's cache, a download. `digits` and `shapes` need none of them, `image-folder` and
/// `mask-folder` need the folder. `auto` stands for MNIST where it is found or can be fetched, otherwise Digits,
/// with a [`note`](Loaded::note); for segmentation ([`run_masks`](Self::run_masks)) it stands for `mask-folder` where
/// a folder is given, otherwise Shapes.
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
    shapes_len: (usize, usize),
    folder: FolderOptions,
    test_fraction: f64,
    split_seed: u64,
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
            shapes_len: (Shapes::TRAIN_LEN, Shapes::TEST_LEN),
            folder: FolderOptions::default(),
            test_fraction: 0.2,
            split_seed: 0,
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

    /// Seed of [`Digits`] and [`Shapes`]. Default: 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many training and test digits to draw. Default: 60,000 and 10,000.
    pub fn digits_len(mut self, train: usize, test: usize) -> Self {
        self.digits_len = (train, test);
        self
    }

    /// How many training and test pictures of [`Shapes`] to draw. Default: 4,000 and 1,000.
    pub fn shapes_len(mut self, train: usize, test: usize) -> Self {
        self.shapes_len = (train, test);
        self
    }

    /// How pictures of `image-folder` and `mask-folder` become images of one shape.
    /// [`channels`](FolderOptions::channels) holds for every data set.
    pub fn folder(mut self, options: FolderOptions) -> Self {
        self.folder = options;
        self
    }

    /// The share of the pictures that is held out for testing where a folder has no `train` and `test` in it, and the
    /// seed that chooses them: of each class its share. Default: 0.2 and 0.
    pub fn test_split(mut self, fraction: f64, seed: u64) -> Self {
        self.test_fraction = fraction;
        self.split_seed = seed;
        self
    }

    /// Finds and reads, or draws, the data.
    ///
    /// # Errors
    /// [`DataError::UnknownName`]; [`DataError::NotFound`] with the places that were tried and the
    /// manual steps; [`DataError::Idx`], [`DataError::Cifar`] or [`DataError::Folder`] if files are there but damaged,
    /// which is never papered over by taking other data instead; [`DataError::OtherTask`] if the data have masks.
    pub fn run(&self) -> Result<Loaded, DataError> {
        let loaded = if self.name.eq_ignore_ascii_case("auto") {
            self.auto()?
        } else {
            let set = DataSet::find(&self.name)?;
            match set.format {
                Format::Digits => self.drawn(None),
                Format::Shapes | Format::MaskFolder => {
                    return Err(DataError::OtherTask {
                        name: set.name,
                        kind: "masks, for segmentation",
                        advice: "give --task segmentation",
                    });
                }
                Format::ImageFolder => self.class_folders(self.needed_dir(set)?)?,
                Format::Idx | Format::Cifar(_) | Format::Emnist(_) => self.files(set)?,
            }
        };
        Ok(match self.folder.channels {
            Some(channels) => loaded.map(|data| data.with_channels(channels)),
            None => loaded,
        })
    }

    /// Finds and reads, or draws, data for segmentation.
    ///
    /// ```
    /// use kiln_data::Load;
    ///
    /// let data = Load::new("shapes").seed(3).shapes_len(20, 5).run_masks()?;
    /// assert_eq!((data.train.len(), data.test.len()), (20, 5));
    /// # Ok::<(), kiln_data::DataError>(())
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run); [`DataError::OtherTask`] if the data have labels instead of masks.
    pub fn run_masks(&self) -> Result<Loaded<MaskedImages>, DataError> {
        let set = DataSet::find(self.masks_name())?;
        match set.format {
            Format::Shapes => {
                let shapes = Shapes::new(self.seed);
                Ok(Loaded {
                    train: shapes.generate(Split::Train, self.shapes_len.0),
                    valid: None,
                    test: shapes.generate(Split::Test, self.shapes_len.1),
                    origin: Origin::Drawn { seed: self.seed },
                    note: None,
                })
            }
            Format::MaskFolder => self.mask_folders(self.needed_dir(set)?),
            _ => Err(DataError::OtherTask {
                name: set.name,
                kind: "labels, for classification",
                advice: "leave --task segmentation out, or take --data shapes or a folder of images and masks",
            }),
        }
        .map(|loaded| match self.folder.channels {
            Some(channels) => loaded.map(|data| data.with_channels(channels)),
            None => loaded,
        })
    }

    /// The name of data for segmentation that the name given stands for.
    fn masks_name(&self) -> &str {
        match (self.name.eq_ignore_ascii_case("auto"), &self.data_dir) {
            (true, Some(_)) => "mask-folder",
            (true, None) => "shapes",
            (false, _) => &self.name,
        }
    }

    fn needed_dir(&self, set: &'static DataSet) -> Result<&Path, DataError> {
        self.data_dir
            .as_deref()
            .ok_or(DataError::NeedsFolder { name: set.name })
    }

    /// Brings the files of the data set into the cache, verified, and gives their folder; `None` if
    /// the data set is drawn, or a folder of yours, and needs none. Files that are there and right are left alone.
    ///
    /// # Errors
    /// [`DataError::UnknownName`], [`DataError::NoCache`], [`DataError::NotFound`].
    pub fn fetch(&self) -> Result<Option<PathBuf>, DataError> {
        let set = DataSet::find(&self.name)?;
        if set.files().is_empty() {
            return Ok(None);
        }
        let cache = self.cache(set)?;
        self.download(set, &cache)?;
        Ok(Some(cache))
    }

    /// The folder in the cache that holds all files, if they are there; nothing is fetched and
    /// their content is not looked at.
    ///
    /// # Errors
    /// [`DataError::UnknownName`], [`DataError::NoCache`].
    pub fn cached(&self) -> Result<Option<PathBuf>, DataError> {
        let set = DataSet::find(&self.name)?;
        let cache = self.cache(set)?;
        Ok(format::holds_all(set, &cache).then_some(cache))
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
            valid: None,
            test: digits.generate(Split::Test, self.digits_len.1),
            origin: Origin::Drawn { seed: self.seed },
            note,
        }
    }

    fn files(&self, set: &'static DataSet) -> Result<Loaded, DataError> {
        if let Some(dir) = &self.data_dir {
            let found = format::find(set, dir).ok_or_else(|| DataError::NotFound {
                name: set.name,
                reason: match dir.is_dir() {
                    true => format!(
                        "its files are not in {}{}",
                        dir.display(),
                        format::instead(set, dir)
                    ),
                    false => format!("there is no folder {}", dir.display()),
                },
                steps: manual_steps(set, dir),
            })?;
            return format::read(set, &found, Origin::Folder(found.clone()));
        }
        let cache = self.cache(set)?;
        if !format::holds_all(set, &cache) {
            self.download(set, &cache)?;
            return format::read(set, &cache, Origin::Downloaded(cache.clone()));
        }
        match format::read(set, &cache, Origin::Cache(cache.clone())) {
            // Damage in the cache is ours to mend: what is not as published is fetched again.
            Err(damage) if self.download(set, &cache).is_ok() => {
                format::read(set, &cache, Origin::Downloaded(cache.clone())).map_err(|_| damage)
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
        if let Some(steps) = set.by_hand() {
            return Err(DataError::NotFound {
                name: set.name,
                reason: "its files are not fetched".into(),
                steps: format!("by hand: {steps}"),
            });
        }
        if self.offline && set.archive().is_some_and(|name| cache.join(name).is_file()) {
            return format::unpack(set, cache);
        }
        if self.offline {
            return Err(not_found("not in the cache, and downloads are off".into()));
        }
        #[cfg(not(feature = "download"))]
        return Err(not_found(
            "not in the cache, and this build cannot download: its feature `download` is off"
                .into(),
        ));
        #[cfg(feature = "download")]
        {
            crate::fetch::Fetcher::new()
                .progress(self.progress)
                .fetch_all(&set.files(), cache)
                .map_err(|error| not_found(why(&error)))?;
            format::unpack(set, cache)
        }
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
    #[error("no data set is named '{name}'; {suggestion}")]
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
    /// A folder without splits has too few pictures to make them.
    #[error(
        "{} holds {images} images, of which a test share of {fraction} leaves nothing to train on or to test on; give more images, or folders train and test in it", .dir.display()
    )]
    NothingToSplit {
        /// The folder.
        dir: PathBuf,
        /// Images in it.
        images: usize,
        /// The share asked for.
        fraction: f64,
    },
    /// A folder with images to learn from and none to be judged on.
    #[error(
        "{} has a folder train in it, but no test, val, valid or validation; name the folder to evaluate, such as {}",
        .dir.display(), .dir.join("train").display()
    )]
    NoTest {
        /// The folder.
        dir: PathBuf,
    },
    /// A folder was named for data that are drawn.
    #[error(
        "{name} are drawn and read no folder; to evaluate on the pictures in {}, give --data {other} beside it", .dir.display()
    )]
    ReadsNoFolder {
        /// The data set.
        name: &'static str,
        /// The folder.
        dir: PathBuf,
        /// The name that reads a folder of pictures.
        other: &'static str,
    },
    /// The data are the user's own folder, and none was named.
    #[error("{name} is a folder of yours; name it with --data-dir")]
    NeedsFolder {
        /// The data set.
        name: &'static str,
    },
    /// Labels where masks are needed, or the reverse.
    #[error("{name} has {kind}; {advice}")]
    OtherTask {
        /// The data set.
        name: &'static str,
        /// What it has.
        kind: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// A file is there but unusable.
    #[error(transparent)]
    Idx(#[from] IdxError),
    /// A file of CIFAR is there but unusable.
    #[error(transparent)]
    Cifar(#[from] CifarError),
    /// A folder of pictures is no data set.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// What a person can do without this program.
fn manual_steps(set: &DataSet, dir: &Path) -> String {
    if let Some(steps) = set.by_hand() {
        return format!("by hand: {steps}");
    }
    let files: Vec<String> = set.files().into_iter().map(|file| file.name).collect();
    format!(
        "by hand: fetch {} from {} into {}, or name a folder that has them with --data-dir",
        files.join(", "),
        set.mirrors.join(" or "),
        dir.display()
    )
}
