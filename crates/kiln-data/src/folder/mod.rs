//! Data sets that are folders of pictures: a folder for each class, or images beside masks.
//!
//! PNG and JPEG files are read; hidden files and files with other endings are passed over. Names are sorted as a
//! person would (`2.png` before `10.png`), so that the order is the same on every machine.

mod classes;
mod error;
mod masks;

use std::fs;
use std::path::{Path, PathBuf};

pub use classes::read_classes;
pub use error::FolderError;
pub use masks::{find_masks, read_masks};

use crate::images::{Raster, Resize};

/// How the pictures of a folder become images of one shape.
///
/// | setting | default | purpose |
/// |---|---|---|
/// | `size` | as the files are, which must agree | height and width of all images |
/// | `resize` | [`Resize::Cover`] | for a class folder: how a picture of another size is brought to `size` |
/// | `channels` | 1 if every file is gray, else 3 | gray or RGB |
/// | `classes` | the folders found, sorted | for a class folder: exactly these classes |
/// | `values` | those found, ascending | for masks: the value of each class |
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderOptions {
    /// Height and width of all images.
    pub size: Option<[usize; 2]>,
    /// How a class's picture of another size is brought to it; the images of masks are stretched.
    pub resize: Resize,
    /// 1 or 3.
    pub channels: Option<usize>,
    /// Names of the classes, in the order of the labels.
    pub classes: Option<Vec<String>>,
    /// The value that stands for each class in a mask file.
    pub values: Option<Vec<u8>>,
}

/// The names in a folder that are not hidden, sorted; `folders` or files.
fn list(dir: &Path, folders: bool) -> Result<Vec<PathBuf>, FolderError> {
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => FolderError::Missing { dir: dir.into() },
        _ => FolderError::Io {
            dir: dir.into(),
            source,
        },
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let hidden = name(&path).starts_with('.');
        // Links are followed.
        if !hidden && path.is_dir() == folders {
            names.push(path);
        }
    }
    names.sort_by(|a, b| natural(&name(a), &name(b)));
    Ok(names)
}

/// The PNG and JPEG files of a folder, sorted.
fn pictures(dir: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let (pictures, others): (Vec<_>, Vec<_>) = list(dir, false)?.into_iter().partition(|path| {
        let ending = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        ["png", "jpg", "jpeg"]
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
    });
    match pictures.is_empty() {
        false => Ok(pictures),
        true => Err(FolderError::NoPictures {
            dir: dir.into(),
            other: others.first().map(|path| name(path)),
        }),
    }
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Numbers within names by their value, the rest by letters.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let digits =
            |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        match (digits(left), digits(right)) {
            (m, n) if m > 0 && n > 0 => {
                let number =
                    |text: &str, end: usize| text[..end].trim_start_matches('0').to_owned();
                let (x, y) = (number(left, m), number(right, n));
                let order = x.len().cmp(&y.len()).then(x.cmp(&y));
                if order.is_ne() {
                    return order;
                }
                (left, right) = (&left[m..], &right[n..]);
            }
            _ => {
                let (mut l, mut r) = (left.chars(), right.chars());
                match (l.next(), r.next()) {
                    // Names that differ in leading zeros alone still have an order.
                    (None, None) => return a.cmp(b),
                    (x, y) if x != y => return x.cmp(&y),
                    _ => (left, right) = (l.as_str(), r.as_str()),
                }
            }
        }
    }
}

/// Brings pictures to one number of channels, and checks that they are of one size.
fn unite(
    files: &[PathBuf],
    pictures: Vec<Raster>,
    options: &FolderOptions,
) -> Result<([usize; 3], Vec<u8>), FolderError> {
    let gray = pictures.iter().all(|picture| picture.gray);
    let channels = options.channels.unwrap_or(if gray { 1 } else { 3 });
    let [_, height, width] = pictures[0].shape;
    let mut pixels = Vec::with_capacity(pictures.len() * channels * height * width);
    for (file, picture) in files.iter().zip(pictures) {
        let [own, h, w] = picture.shape;
        if (h, w) != (height, width) {
            return Err(FolderError::Sizes {
                first: files[0].clone(),
                first_size: [height, width],
                other: file.clone(),
                other_size: [h, w],
            });
        }
        for _ in 0..channels / own {
            pixels.extend_from_slice(&picture.pixels);
        }
    }
    Ok(([channels, height, width], pixels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_as_a_person_would() {
        let mut names = [
            "10.png", "b", "2.png", "a10b2", "a2b10", "02.png", "a2b9", "1.png",
        ];
        names.sort_by(|a, b| natural(a, b));
        let expected = [
            "1.png", "02.png", "2.png", "10.png", "a2b9", "a2b10", "a10b2", "b",
        ];
        assert_eq!(names, expected);
    }
}
