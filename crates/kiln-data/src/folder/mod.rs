//! Data sets that are folders of pictures: a folder for each class, or images beside masks.
//!
//! PNG, JPEG, WebP, GIF, TIFF and BMP files are read. Hidden files, files with other endings and the folder `__MACOSX`
//! are passed over, which [`Loaded::note`](crate::Loaded) says in one line. Names are in the order of their code points,
//! as torchvision sorts them: `10` before `2`.

mod classes;
mod error;
mod files;
mod masks;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

pub use classes::read_classes;
pub(crate) use classes::read_classes_noting;
pub use error::FolderError;
pub(crate) use files::PassedOver;
pub use masks::{find_masks, read_masks};
pub(crate) use masks::{note, read_masks_noting};

use crate::images::{Raster, Resize, read_all};

/// The rules by which a folder's files become a data set. A run goes on under those it was started with, since its
/// images and the order of its classes must not change.
///
/// | | `V1` | `V2` |
/// |---|---|---|
/// | order of classes and files | numbers by their value (`2` before `10`) | code points (`10` before `2`), as torchvision |
/// | pictures in folders of a class's folder | passed over | the class's |
/// | files read | `.png`, `.jpg`, `.jpeg` | [`ENDINGS`](crate::images::ENDINGS) |
/// | `val` beside `train` and `test` | passed over | validates |
/// | fewer images than there are | the first | drawn, as many of each class as is its share |
/// | JPEG | another decoder, which takes files that are cut off | as Pillow |
/// | gray levels of 16 bits | lose their lower byte | read if below 256, otherwise refused |
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rules {
    /// Those of runs that were started before there were others.
    V1,
    /// Those of new runs.
    #[default]
    V2,
}

/// How the pictures of a folder become images of one shape.
///
/// | setting | default | purpose |
/// |---|---|---|
/// | `size` | as the files are, which must agree | height and width of all images |
/// | `resize` | [`Resize::Cover`] | for a class folder: how a picture of another size is brought to `size` |
/// | `channels` | 1 if every file is gray, else 3 | gray or RGB |
/// | `classes` | the folders found, sorted | for a class folder: exactly these classes |
/// | `values` | those found, ascending | for masks: the value of each class |
/// | `ignore_value` | none | for masks: the value of pixels to leave out of loss and scores |
/// | `rules` | `V2` | which files, in which order |
/// | `memory` | no bound | bytes that the pictures and masks of a folder may take |
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
    /// The value in a mask file of pixels that count for nothing, as 255 in the masks of PASCAL VOC.
    pub ignore_value: Option<u8>,
    /// Which files are read, and in which order.
    pub rules: Rules,
    /// The most bytes that the pictures and masks of a folder may take together. More are refused when the first one is
    /// read, if they are of its size.
    pub memory: Option<u64>,
}

/// Counts the memory of pictures while they are read, so that too many are refused before they fill the machine.
struct Room {
    files: usize,
    most: u64,
    used: AtomicU64,
}

impl Room {
    fn new(files: usize, options: &FolderOptions) -> Self {
        Self {
            files,
            most: options.memory.unwrap_or(u64::MAX),
            used: AtomicU64::new(0),
        }
    }

    /// Refuses, with what all files need, once it is clear that they take too much.
    fn check(&self, bytes: u64) -> Result<(), FolderError> {
        if bytes <= self.most {
            return Ok(());
        }
        Err(FolderError::Memory {
            images: self.files,
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
        })
    }

    /// Reads all files at once; the first one tells what the others will take, since all become images of one size.
    fn read_all<T: Send>(
        &self,
        bytes: impl Fn(&T) -> usize + Sync,
        read: impl Fn(usize) -> Result<T, FolderError> + Sync + Send,
    ) -> Result<Vec<T>, FolderError> {
        let first = read(0)?;
        self.check((bytes(&first) as u64).saturating_mul(self.files as u64))?;
        drop(first);
        read_all(self.files, |i| {
            self.check(self.used.load(Ordering::Relaxed))?;
            let one = read(i)?;
            let bytes = bytes(&one) as u64;
            self.check(self.used.fetch_add(bytes, Ordering::Relaxed) + bytes)?;
            Ok(one)
        })
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
    let mut pixels = Vec::new();
    let bytes = pictures.len().saturating_mul(channels * height * width);
    pixels
        .try_reserve_exact(bytes)
        .map_err(|_| FolderError::Memory {
            images: pictures.len(),
            bytes,
        })?;
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
