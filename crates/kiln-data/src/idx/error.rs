//! What can be wrong with an IDX file.

use std::io;
use std::path::PathBuf;

use super::Kind;

/// Why an IDX file, or a pair of them, was refused. Each variant names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdxError {
    /// The file does not exist.
    #[error(
        "{} does not exist; expected an IDX file of {kind}, plain or .gz", .path.display()
    )]
    Missing {
        /// The file looked for.
        path: PathBuf,
        /// What it should hold.
        kind: Kind,
    },
    /// The file is there but the operating system would not read or write it.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read`, `write` and so on.
        action: &'static str,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// The name says gzip but the content is something else.
    #[error(
        "{} is not gzip: expected it to begin with 1f 8b because of its name, found {found}{hint}", .path.display()
    )]
    NotGzip {
        /// The file.
        path: PathBuf,
        /// Its first bytes, in hexadecimal.
        found: String,
        /// What it seems to be instead and what to do; empty if unknown.
        hint: String,
    },
    /// The gzip stream is damaged: bad deflate data or a wrong check sum.
    #[error(
        "{} is corrupt: its gzip data does not decompress to what was compressed; delete it and fetch it again", .path.display()
    )]
    CorruptGzip {
        /// The file.
        path: PathBuf,
        /// What the decompressor said.
        #[source]
        source: io::Error,
    },
    /// The first four bytes are not those of the wanted kind of IDX file.
    #[error(
        "{} is not an IDX file of {kind}: expected magic number {expected:#010x}, found {found:#010x}{hint}", .path.display(), expected = .kind.magic()
    )]
    WrongMagic {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        kind: Kind,
        /// The magic number found.
        found: u32,
        /// What it seems to be instead, such as the other file of the pair; empty if unknown.
        hint: String,
    },
    /// The file ends early.
    #[error(
        "{} is truncated: expected {expected} bytes of {kind}, found {found}; delete it and fetch it again", .path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        kind: Kind,
        /// Bytes expected (uncompressed), header included.
        expected: u64,
        /// Bytes found (uncompressed).
        found: u64,
    },
    /// The file goes on after the last item.
    #[error(
        "{} has trailing bytes: its header announces {expected} bytes of {kind}, but more follow{after}", .path.display()
    )]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        kind: Kind,
        /// Bytes expected (uncompressed), header included.
        expected: u64,
        /// Where they follow, if that is not in the data itself.
        after: &'static str,
    },
    /// A dimension in the header is zero.
    #[error("{} declares {dimensions}: the {which} is zero, expected at least 1", .path.display())]
    ZeroDimension {
        /// The file.
        path: PathBuf,
        /// The header's dimensions, as `n x height x width`.
        dimensions: String,
        /// The dimension that is zero.
        which: &'static str,
    },
    /// The header declares more than any file of this kind holds.
    #[error(
        "{} declares {dimensions}: the {which} is {found}, at most {limit} is read; the header is damaged or this is no such file", .path.display()
    )]
    AbsurdDimension {
        /// The file.
        path: PathBuf,
        /// The header's dimensions, as `n x height x width`.
        dimensions: String,
        /// What is too large.
        which: &'static str,
        /// Its value.
        found: u64,
        /// The largest value that is read.
        limit: u64,
    },
    /// The two files of a pair hold different numbers of items.
    #[error(
        "{} holds {images} images but {} holds {labels} labels; the two files must come from the same split of the same data set", .images_path.display(), .labels_path.display()
    )]
    CountMismatch {
        /// The images file.
        images_path: PathBuf,
        /// Images in it.
        images: usize,
        /// The labels file.
        labels_path: PathBuf,
        /// Labels in it.
        labels: usize,
    },
    /// A label names no class.
    #[error(
        "{}: label {label} at index {index} is out of range; {classes} classes allow 0 to {}", .path.display(), .classes - 1
    )]
    LabelOutOfRange {
        /// The labels file.
        path: PathBuf,
        /// Which label.
        index: usize,
        /// The label found.
        label: u8,
        /// Number of classes of the data set.
        classes: usize,
    },
    /// A label of EMNIST's letters is 0.
    #[error("{}: the label at index {index} is 0; EMNIST numbers its letters from 1 to 26", .path.display())]
    NoLetter {
        /// The labels file.
        path: PathBuf,
        /// Which label.
        index: usize,
    },
    /// The list of class names is empty or longer than a one-byte label can index.
    #[error("{count} class names given to read {}; 1 to 256 are allowed", .path.display())]
    ClassCount {
        /// The labels file.
        path: PathBuf,
        /// Number of class names given.
        count: usize,
    },
    /// The pixels to be written are not what the dimensions say.
    #[error(
        "cannot write {}: {dimensions} need {expected} bytes, {found} given", .path.display()
    )]
    SizeMismatch {
        /// The file to be written.
        path: PathBuf,
        /// The dimensions, as `n x height x width`.
        dimensions: String,
        /// Bytes that the dimensions need.
        expected: u128,
        /// Bytes given.
        found: usize,
    },
    /// A label that is larger than a byte.
    #[error(
        "cannot write {}: an IDX label is one byte, from 0 to 255, but the images have {classes} classes", .path.display()
    )]
    ManyClasses {
        /// The file to be written.
        path: PathBuf,
        /// Classes of the images.
        classes: usize,
    },
    /// Images with several channels have no IDX form that other programs read.
    #[error(
        "cannot write {}: an IDX image file holds one channel, the images have {channels}", .path.display()
    )]
    Channels {
        /// The file to be written.
        path: PathBuf,
        /// Channels of the images.
        channels: usize,
    },
}
