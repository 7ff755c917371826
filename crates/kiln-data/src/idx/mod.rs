//! MNIST's file format, IDX: a big-endian header, then one byte per pixel or label.
//!
//! | file | header (big-endian `u32`) | then |
//! |---|---|---|
//! | images | `0x00000803`, n, height, width | n · height · width pixels |
//! | labels | `0x00000801`, n | n labels |
//!
//! Files may be plain or gzip, of one member or several; the content decides, and a `.gz` name over other content is refused.
//! The reader trusts nothing: a header may lie, a gzip stream may be a bomb, the two files may not
//! belong together. Every such case is a variant of [`IdxError`]; memory grows only with bytes that
//! really are in the file and never beyond [`MAX_BYTES`].
//!
//! ```
//! use kiln_data::{Digits, Split, idx};
//!
//! let folder = tempfile::tempdir()?;
//! let drawn = Digits::new(1).generate(Split::Test, 20);
//! idx::write_split(folder.path(), Split::Test, &drawn, idx::Encoding::Gzip)?;
//! let read = idx::read_split(folder.path(), Split::Test, drawn.name(), drawn.classes())?;
//! assert_eq!(read, drawn);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod read;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};

pub use error::IdxError;
pub use read::{IdxImages, read_images, read_labels, read_pair, read_split};
pub use write::{Encoding, write_images, write_labels, write_split};

use crate::Split;

/// The largest file that is read, uncompressed: 1 GiB, twice EMNIST's largest.
pub const MAX_BYTES: u64 = 1 << 30;

/// The largest height or width that is read.
pub const MAX_SIDE: u32 = 8192;

/// What an IDX file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Unsigned bytes in three dimensions: n, height, width.
    Images,
    /// Unsigned bytes in one dimension.
    Labels,
}

impl Kind {
    /// The first four bytes: two zeros, the type (8, unsigned byte), the number of dimensions.
    pub const fn magic(self) -> u32 {
        match self {
            Kind::Images => 0x0803,
            Kind::Labels => 0x0801,
        }
    }

    /// Bytes before the first item: the magic number and one `u32` per dimension.
    pub(crate) const fn header_len(self) -> usize {
        match self {
            Kind::Images => 16,
            Kind::Labels => 8,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Images => "images",
            Kind::Labels => "labels",
        })
    }
}

/// MNIST's own file name, without `.gz`, such as `train-images-idx3-ubyte`.
pub fn file_name(split: Split, kind: Kind) -> &'static str {
    match (split, kind) {
        (Split::Train, Kind::Images) => "train-images-idx3-ubyte",
        (Split::Train, Kind::Labels) => "train-labels-idx1-ubyte",
        (Split::Test, Kind::Images) => "t10k-images-idx3-ubyte",
        (Split::Test, Kind::Labels) => "t10k-labels-idx1-ubyte",
    }
}

/// The file of `kind` for `split` in `dir`, if there is one.
///
/// Looks for MNIST's name, plain and then with `.gz`, and for the spelling with a dot
/// (`train-images.idx3-ubyte`) that some archives unpack to.
pub fn find(dir: &Path, split: Split, kind: Kind) -> Option<PathBuf> {
    find_named(dir, file_name(split, kind))
}

/// The file of a name such as `train-images-idx3-ubyte` in its usual spellings.
pub(crate) fn find_named(dir: &Path, name: &str) -> Option<PathBuf> {
    let dotted = name.replace("-idx", ".idx");
    [
        name.to_owned(),
        format!("{name}.gz"),
        dotted.clone(),
        format!("{dotted}.gz"),
    ]
    .into_iter()
    .map(|name| dir.join(name))
    .find(|path| path.is_file())
}
