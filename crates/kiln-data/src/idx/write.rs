//! Writing, mainly for tests and to hand drawn digits to other programs.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{IdxError, IdxImages, Kind, file_name};
use crate::{LabeledImages, Split};

/// How a file is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// The bytes themselves.
    Plain,
    /// Gzip, as MNIST is distributed; the same input gives the same bytes.
    Gzip,
}

/// Writes a file of images.
///
/// # Errors
/// [`IdxError::Io`] if the file cannot be written; [`IdxError::AbsurdDimension`] or
/// [`IdxError::ZeroDimension`] if a dimension has no place in the header;
/// [`IdxError::SizeMismatch`] if `pixels` does not hold `count * height * width` bytes.
pub fn write_images(path: &Path, images: &IdxImages, encoding: Encoding) -> Result<(), IdxError> {
    let dimensions = [images.count, images.height, images.width];
    write(path, Kind::Images, &dimensions, &images.pixels, encoding)
}

/// Writes a file of labels.
///
/// # Errors
/// [`IdxError::Io`] if the file cannot be written; [`IdxError::ZeroDimension`] if there is no label.
pub fn write_labels(path: &Path, labels: &[u8], encoding: Encoding) -> Result<(), IdxError> {
    write(path, Kind::Labels, &[labels.len()], labels, encoding)
}

/// Writes the two files of one split into `dir`, which is created if need be, under MNIST's names
/// (with `.gz` for [`Encoding::Gzip`]).
///
/// # Errors
/// [`IdxError::Channels`] if the images have more than one channel, [`IdxError::ManyClasses`] if a label is above 255;
/// otherwise as
/// [`write_images`].
pub fn write_split(
    dir: &Path,
    split: Split,
    data: &LabeledImages,
    encoding: Encoding,
) -> Result<(), IdxError> {
    let path = |kind| {
        let name = file_name(split, kind);
        match encoding {
            Encoding::Plain => dir.join(name),
            Encoding::Gzip => dir.join(format!("{name}.gz")),
        }
    };
    let images_path = path(Kind::Images);
    if data.channels() != 1 {
        return Err(IdxError::Channels {
            path: images_path,
            channels: data.channels(),
        });
    }
    let bytes = data.labels().iter().map(|&label| u8::try_from(label));
    let labels: Vec<u8> = bytes
        .collect::<Result<_, _>>()
        .map_err(|_| IdxError::ManyClasses {
            path: path(Kind::Labels),
            classes: data.num_classes(),
        })?;
    fs::create_dir_all(dir).map_err(|source| IdxError::Io {
        path: dir.to_owned(),
        action: "create",
        source,
    })?;
    let dimensions = [data.len(), data.height(), data.width()];
    write(
        &images_path,
        Kind::Images,
        &dimensions,
        data.images(),
        encoding,
    )?;
    write_labels(&path(Kind::Labels), &labels, encoding)
}

fn write(
    path: &Path,
    kind: Kind,
    dimensions: &[usize],
    items: &[u8],
    encoding: Encoding,
) -> Result<(), IdxError> {
    let shown = || {
        let parts: Vec<String> = dimensions.iter().map(usize::to_string).collect();
        parts.join(" x ")
    };
    let mut header = kind.magic().to_be_bytes().to_vec();
    for (&dimension, which) in dimensions.iter().zip(["count", "height", "width"]) {
        if dimension == 0 {
            return Err(IdxError::ZeroDimension {
                path: path.to_owned(),
                dimensions: shown(),
                which,
            });
        }
        let value = u32::try_from(dimension).map_err(|_| IdxError::AbsurdDimension {
            path: path.to_owned(),
            dimensions: shown(),
            which,
            found: dimension as u64,
            limit: u64::from(u32::MAX),
        })?;
        header.extend(value.to_be_bytes());
    }
    let expected = dimensions.iter().map(|&d| d as u128).product::<u128>();
    if expected != items.len() as u128 {
        return Err(IdxError::SizeMismatch {
            path: path.to_owned(),
            dimensions: shown(),
            expected,
            found: items.len(),
        });
    }
    write_file(path, &header, items, encoding).map_err(|source| IdxError::Io {
        path: path.to_owned(),
        action: "write",
        source,
    })
}

fn write_file(path: &Path, header: &[u8], items: &[u8], encoding: Encoding) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    match encoding {
        Encoding::Plain => {
            file.write_all(header)?;
            file.write_all(items)?;
        }
        Encoding::Gzip => {
            let mut encoder = GzEncoder::new(&mut file, Compression::default());
            encoder.write_all(header)?;
            encoder.write_all(items)?;
            encoder.finish()?;
        }
    }
    file.flush()
}
