//! Reading, with every claim of the header checked before it is believed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::{IdxError, Kind, MAX_BYTES, MAX_SIDE, file_name, find};
use crate::gzip::Members;
use crate::{LabeledImages, Split};

/// The content of an IDX file of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxImages {
    /// Number of images.
    pub count: usize,
    /// Height of each in pixels.
    pub height: usize,
    /// Width of each in pixels.
    pub width: usize,
    /// Pixels, `[count, height, width]`.
    pub pixels: Vec<u8>,
}

/// Reads a file of images, plain or gzip.
///
/// # Errors
/// [`IdxError`]: every variant that concerns a single file.
pub fn read_images(path: &Path) -> Result<IdxImages, IdxError> {
    let (dimensions, pixels) = read(path, Kind::Images)?;
    let [count, height, width] = dimensions;
    Ok(IdxImages {
        count,
        height,
        width,
        pixels,
    })
}

/// Reads a file of labels, plain or gzip. Their range is checked by [`read_pair`].
///
/// # Errors
/// [`IdxError`]: every variant that concerns a single file.
pub fn read_labels(path: &Path) -> Result<Vec<u8>, IdxError> {
    read(path, Kind::Labels).map(|(_, labels)| labels)
}

/// Reads images and labels that belong together.
///
/// # Errors
/// [`IdxError`] for either file; for different counts; for a label that names none of `classes`.
pub fn read_pair(
    images: &Path,
    labels: &Path,
    name: &str,
    classes: &[String],
) -> Result<LabeledImages, IdxError> {
    if classes.is_empty() || classes.len() > 256 {
        return Err(IdxError::ClassCount {
            path: labels.to_owned(),
            count: classes.len(),
        });
    }
    // The labels come first: they are small, so a wrong folder shows itself at once.
    let label_bytes = read_labels(labels)?;
    let image_data = read_images(images)?;
    if image_data.count != label_bytes.len() {
        return Err(IdxError::CountMismatch {
            images_path: images.to_owned(),
            images: image_data.count,
            labels_path: labels.to_owned(),
            labels: label_bytes.len(),
        });
    }
    let out_of_range = |&label: &u8| usize::from(label) >= classes.len();
    if let Some(index) = label_bytes.iter().position(out_of_range) {
        return Err(IdxError::LabelOutOfRange {
            path: labels.to_owned(),
            index,
            label: label_bytes[index],
            classes: classes.len(),
        });
    }
    let shape = [1, image_data.height, image_data.width];
    let labels = label_bytes.into_iter().map(u16::from).collect();
    let data = LabeledImages::new(name, classes.to_vec(), shape, image_data.pixels, labels);
    Ok(data.expect("the parts were checked above"))
}

/// Reads one split of a data set from a folder that holds MNIST's file names (see
/// [`find`](super::find)).
///
/// # Errors
/// [`IdxError`]; [`IdxError::Missing`] names the file that is not there.
pub fn read_split(
    dir: &Path,
    split: Split,
    name: &str,
    classes: &[String],
) -> Result<LabeledImages, IdxError> {
    let locate = |kind| {
        find(dir, split, kind).ok_or_else(|| IdxError::Missing {
            path: dir.join(file_name(split, kind)),
            kind,
        })
    };
    read_pair(
        &locate(Kind::Images)?,
        &locate(Kind::Labels)?,
        name,
        classes,
    )
}

/// Reads a file of `kind`: its dimensions (1 where the kind has fewer than three) and its items.
fn read(path: &Path, kind: Kind) -> Result<([usize; 3], Vec<u8>), IdxError> {
    let mut source = Source::open(path, kind)?;
    let mut header = Vec::with_capacity(kind.header_len());
    source.read_up_to(kind.header_len() as u64, &mut header)?;

    // The magic number is judged before the length: a short file of the wrong kind is, above all,
    // of the wrong kind.
    if let Some(found) = header.first_chunk().map(|b| u32::from_be_bytes(*b))
        && found != kind.magic()
    {
        return Err(IdxError::WrongMagic {
            path: path.to_owned(),
            kind,
            found,
            hint: magic_hint(kind, &header),
        });
    }
    if header.len() < kind.header_len() {
        return Err(source.truncated(kind.header_len() as u64, header.len() as u64));
    }
    let declared: Vec<u32> = header[4..]
        .chunks_exact(4)
        .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    let items = check_dimensions(path, &declared)?;

    let expected = kind.header_len() as u64 + items;
    source.refuse_early(expected)?;
    let mut data = Vec::new();
    source.read_up_to(items, &mut data)?;
    if (data.len() as u64) < items {
        return Err(source.truncated(expected, (header.len() + data.len()) as u64));
    }
    source.expect_end(expected)?;
    data.shrink_to_fit();

    let dimension = |i: usize| declared.get(i).map_or(1, |&d| d as usize);
    Ok(([dimension(0), dimension(1), dimension(2)], data))
}

/// The number of bytes the header announces, if it is one that can be.
fn check_dimensions(path: &Path, declared: &[u32]) -> Result<u64, IdxError> {
    const NAMES: [&str; 3] = ["count", "height", "width"];
    let dimensions = || {
        let parts: Vec<String> = declared.iter().map(u32::to_string).collect();
        parts.join(" x ")
    };
    let absurd = |which, found, limit| IdxError::AbsurdDimension {
        path: path.to_owned(),
        dimensions: dimensions(),
        which,
        found,
        limit,
    };
    if let Some(i) = declared.iter().position(|&d| d == 0) {
        return Err(IdxError::ZeroDimension {
            path: path.to_owned(),
            dimensions: dimensions(),
            which: NAMES[i],
        });
    }
    if let Some(i) = (1..declared.len()).find(|&i| declared[i] > MAX_SIDE) {
        return Err(absurd(
            NAMES[i],
            u64::from(declared[i]),
            u64::from(MAX_SIDE),
        ));
    }
    // Sides are at most 2^13 and the count below 2^32, so the product fits 64 bits.
    let bytes: u64 = declared.iter().map(|&d| u64::from(d)).product();
    if bytes > MAX_BYTES {
        return Err(absurd("size in bytes", bytes, MAX_BYTES));
    }
    Ok(bytes)
}

/// What a file with the wrong magic number seems to be.
fn magic_hint(wanted: Kind, start: &[u8]) -> String {
    let found = u32::from_be_bytes([start[0], start[1], start[2], start[3]]);
    let other = match wanted {
        Kind::Images => Kind::Labels,
        Kind::Labels => Kind::Images,
    };
    if found == other.magic() {
        return format!(", an IDX file of {other}: the images and labels files are swapped");
    }
    if found.swap_bytes() == wanted.magic() {
        return ": the header is little-endian, IDX is big-endian".into();
    }
    if start[..2] == [0, 0] && (1..=4).contains(&start[3]) {
        let kind = match start[2] {
            0x08 => "unsigned bytes",
            0x09 => "signed bytes",
            0x0b => "16-bit integers",
            0x0c => "32-bit integers",
            0x0d => "32-bit floats",
            0x0e => "64-bit floats",
            _ => return String::new(),
        };
        return format!(", an IDX file of {kind} in {} dimensions", start[3]);
    }
    content_hint(start)
}

/// What content that is neither IDX nor gzip seems to be.
fn content_hint(start: &[u8]) -> String {
    let text = String::from_utf8_lossy(start).to_ascii_lowercase();
    if text.trim_start().starts_with("<!do") || text.trim_start().starts_with("<htm") {
        ": this is a web page, probably the error page of a failed download; delete it and fetch the file again".into()
    } else if start.starts_with(b"PK") {
        ": this is a zip archive; unpack it".into()
    } else if start.starts_with(b"vers") {
        ": this is a Git LFS pointer; run `git lfs pull`".into()
    } else {
        String::new()
    }
}

/// The uncompressed bytes of a file.
struct Source<'a> {
    path: &'a Path,
    kind: Kind,
    /// Length of the file itself.
    file_len: u64,
    bytes: Bytes,
}

enum Bytes {
    Plain(BufReader<File>),
    Gzip(Members<BufReader<File>>),
}

impl<'a> Source<'a> {
    fn open(path: &'a Path, kind: Kind) -> Result<Self, IdxError> {
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => IdxError::Missing {
                path: path.to_owned(),
                kind,
            },
            _ => IdxError::Io {
                path: path.to_owned(),
                action: "read",
                source,
            },
        };
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.is_dir() {
            return Err(io(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let mut file = BufReader::with_capacity(1 << 16, file);
        let start = file.fill_buf().map_err(io)?;
        let named_gz = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
        let is_gzip = start.starts_with(&[0x1f, 0x8b]);
        if named_gz && !is_gzip {
            let start = &start[..start.len().min(16)];
            let shown = &start[..start.len().min(4)];
            return Err(IdxError::NotGzip {
                path: path.to_owned(),
                found: if shown.is_empty() {
                    "an empty file".into()
                } else {
                    let hex: Vec<String> = shown.iter().map(|b| format!("{b:02x}")).collect();
                    hex.join(" ")
                },
                hint: if start.starts_with(&kind.magic().to_be_bytes()) {
                    ": it is already decompressed; rename it without .gz".into()
                } else {
                    content_hint(start)
                },
            });
        }
        Ok(Self {
            path,
            kind,
            file_len: metadata.len(),
            bytes: if is_gzip {
                Bytes::Gzip(Members::new(file))
            } else {
                Bytes::Plain(file)
            },
        })
    }

    /// Appends at most `n` bytes to `out`; fewer only at the end. `out` grows as bytes arrive.
    fn read_up_to(&mut self, n: u64, out: &mut Vec<u8>) -> Result<(), IdxError> {
        let result = match &mut self.bytes {
            Bytes::Plain(reader) => reader.take(n).read_to_end(out),
            Bytes::Gzip(reader) => reader.take(n).read_to_end(out),
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) => self.refuse(error),
        }
    }

    /// Turns what the reader said into an error, except for a stream that simply ends too early:
    /// that is seen, and better described, by the number of bytes.
    fn refuse(&self, source: io::Error) -> Result<(), IdxError> {
        match (&self.bytes, source.kind()) {
            (Bytes::Gzip(_), io::ErrorKind::UnexpectedEof) => Ok(()),
            (Bytes::Gzip(_), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
                Err(IdxError::CorruptGzip {
                    path: self.path.to_owned(),
                    source,
                })
            }
            _ => Err(IdxError::Io {
                path: self.path.to_owned(),
                action: "read",
                source,
            }),
        }
    }

    /// Refuses a file that cannot hold `expected` bytes, before any memory is taken for them.
    fn refuse_early(&self, expected: u64) -> Result<(), IdxError> {
        match self.bytes {
            // A pipe or device has no length; only what it delivers counts.
            Bytes::Plain(_) if self.file_len > 0 && self.file_len < expected => {
                Err(self.truncated(expected, self.file_len))
            }
            _ => Ok(()),
        }
    }

    /// Checks that nothing follows and, for gzip, that the check sum holds.
    fn expect_end(&mut self, expected: u64) -> Result<(), IdxError> {
        let mut one_more = Vec::new();
        let end = match &mut self.bytes {
            Bytes::Plain(reader) => reader.take(1).read_to_end(&mut one_more),
            Bytes::Gzip(reader) => reader.take(1).read_to_end(&mut one_more),
        };
        match end {
            Ok(_) => {}
            // All the data has come, but the check sum after it is cut off.
            Err(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(IdxError::CorruptGzip {
                    path: self.path.to_owned(),
                    source,
                });
            }
            Err(source) => return self.refuse(source),
        }
        let (trailing, after) = match &self.bytes {
            Bytes::Gzip(members) if members.trailing() => (true, " after the gzip data"),
            _ => (!one_more.is_empty(), ""),
        };
        if trailing {
            return Err(IdxError::TrailingBytes {
                path: self.path.to_owned(),
                kind: self.kind,
                expected,
                after,
            });
        }
        Ok(())
    }

    fn truncated(&self, expected: u64, found: u64) -> IdxError {
        IdxError::Truncated {
            path: self.path.to_owned(),
            kind: self.kind,
            expected,
            found,
        }
    }
}
