//! Why weights could not be read, written or taken.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::file::shape_text;

/// Why weights could not be read, written or taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file cannot be opened, read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The file is damaged, or says things about itself that cannot be true.
    #[error("{} is not a usable weight file: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The pickle in the file asks for something other than tensors and plain values. Kiln never
    /// runs code that a file names, so such a file is refused as a whole.
    #[error(
        "{} asks to load the Python object {global}, which Kiln refuses: a weight file may hold only tensors and plain \
         values; if you trust the file, write its state_dict() alone with PyTorch", path.display()
    )]
    ForeignGlobal {
        /// The file.
        path: PathBuf,
        /// Module and name of the object.
        global: String,
    },
    /// The file holds values of a kind that Kiln does not read.
    #[error("{}: {problem}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it holds and what to do.
        problem: String,
    },
    /// The file has no entry of this name.
    #[error("{} has no entry '{name}'", path.display())]
    NoEntry {
        /// The file.
        path: PathBuf,
        /// The name asked for.
        name: String,
    },
    /// The file's entries are not those of the model.
    #[error("{} does not fit the model{mismatch}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What differs.
        mismatch: Box<Mismatch>,
    },
}

/// How the entries of a file differ from those of a model. Shapes are PyTorch's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Entries that the model needs and the file lacks, with the nearest unused entry of the file.
    pub missing: Vec<Missing>,
    /// Entries of the file that the model has no place for.
    pub unexpected: Vec<Unexpected>,
    /// Entries that both have, in different shapes.
    pub misshapen: Vec<Misshapen>,
    /// The layer that would be left out with `allow_head_mismatch`, if that alone would make the file fit.
    pub head: Option<String>,
}

/// An entry that the model needs and the file lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The model's entry.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The unused entry of the file that is most like it.
    pub nearest: Option<String>,
}

/// An entry of the file that the model has no place for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexpected {
    /// The file's entry, as the file spells it.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// An entry that model and file have in different shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misshapen {
    /// The model's entry.
    pub name: String,
    /// The shape in the file.
    pub file: Vec<usize>,
    /// The shape in the model.
    pub model: Vec<usize>,
}

impl Mismatch {
    pub(super) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty()
    }
}

/// Entries that a message lists of each kind; the fields have them all.
const LISTED: usize = 8;

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        section(f, "the file lacks", &self.missing, |entry| {
            let near = entry.nearest.as_ref();
            let near = near.map_or(String::new(), |n| format!(" (nearest in the file: {n})"));
            format!("{} [{}]{near}", entry.name, shape_text(&entry.shape))
        })?;
        section(f, "the model has no place for", &self.unexpected, |entry| {
            format!("{} [{}]", entry.name, shape_text(&entry.shape))
        })?;
        section(f, "of another shape", &self.misshapen, |entry| {
            let (file, model) = (shape_text(&entry.file), shape_text(&entry.model));
            format!(
                "{}: [{file}] in the file, [{model}] in the model",
                entry.name
            )
        })?;
        match &self.head {
            Some(head) => write!(
                f,
                "\n  only the head '{head}' differs: --allow-head-mismatch takes all the rest and starts the head anew"
            ),
            None => Ok(()),
        }
    }
}

fn section<T>(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    entries: &[T],
    line: impl Fn(&T) -> String,
) -> fmt::Result {
    if entries.is_empty() {
        return Ok(());
    }
    write!(f, "\n  {title} ({}):", entries.len())?;
    for entry in entries.iter().take(LISTED) {
        write!(f, "\n    {}", line(entry))?;
    }
    match entries.len().saturating_sub(LISTED) {
        0 => Ok(()),
        more => write!(f, "\n    and {more} more"),
    }
}
