//! What can be wrong with a folder of pictures.

use std::io;
use std::path::PathBuf;

use crate::images::ImageError;

/// Why a folder of pictures is no data set. Each variant names the folder or the files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The folder does not exist.
    #[error("there is no folder {}", .dir.display())]
    Missing {
        /// The folder.
        dir: PathBuf,
    },
    /// The operating system would not list it.
    #[error("cannot list the folder {}", .dir.display())]
    Io {
        /// The folder.
        dir: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// No picture in it.
    #[error("{} holds no picture{}; PNG, JPEG, WebP, GIF, TIFF and BMP are read", .dir.display(), .other.as_ref().map_or_else(String::new, |ending| format!(" (but {ending} files)")))]
    NoPictures {
        /// The folder.
        dir: PathBuf,
        /// The ending of files that are there.
        other: Option<String>,
    },
    /// No folder for a class.
    #[error("{} holds no folders; it needs one for each class, with that class's pictures in it", .dir.display())]
    NoClasses {
        /// The folder.
        dir: PathBuf,
    },
    /// More classes than a label counts.
    #[error("{} holds {count} class folders; at most {}", .dir.display(), crate::MAX_CLASSES)]
    TooManyClasses {
        /// The folder.
        dir: PathBuf,
        /// Folders in it.
        count: usize,
    },
    /// A class that the training images do not have.
    #[error("{} is a class that is not among {}", .dir.display(), .classes.join(", "))]
    OtherClass {
        /// The class's folder.
        dir: PathBuf,
        /// The classes known.
        classes: Vec<String>,
    },
    /// No folder of images, or none of masks.
    #[error("{} holds no folder of {kind}; it must be called {names}", .dir.display())]
    NoMasks {
        /// The folder.
        dir: PathBuf,
        /// `images` or `masks`.
        kind: &'static str,
        /// The names it may have.
        names: String,
    },
    /// A picture cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Pictures of several sizes.
    #[error(
        "{} has {} x {} pixels but {} has {} x {}; make them alike, or have all scaled with data.size = [HEIGHT, WIDTH]",
        .first.display(), .first_size[0], .first_size[1], .other.display(), .other_size[0], .other_size[1]
    )]
    Sizes {
        /// The first picture.
        first: PathBuf,
        /// Its height and width.
        first_size: [usize; 2],
        /// One of another size.
        other: PathBuf,
        /// Its height and width.
        other_size: [usize; 2],
    },
    /// A mask of another size than its image.
    #[error(
        "the mask {} has {} x {} pixels but its image {} has {} x {}; they must be alike",
        .mask.display(), .mask_size[0], .mask_size[1], .image.display(), .size[0], .size[1]
    )]
    MaskSize {
        /// The image.
        image: PathBuf,
        /// Its height and width.
        size: [usize; 2],
        /// The mask.
        mask: PathBuf,
        /// Its height and width.
        mask_size: [usize; 2],
    },
    /// An image without a mask.
    #[error("{} has no mask of its name in {}", .image.display(), .masks.display())]
    NoMask {
        /// The image.
        image: PathBuf,
        /// The folder of masks.
        masks: PathBuf,
    },
    /// A mask without an image.
    #[error("{} has no image of its name in {}", .mask.display(), .images.display())]
    NoImage {
        /// The mask.
        mask: PathBuf,
        /// The folder of images.
        images: PathBuf,
    },
    /// Two files that differ in their ending alone.
    #[error("{} and {} have the same name; keep one", .first.display(), .second.display())]
    Twice {
        /// One.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Every pixel of every mask is alike.
    #[error("every mask in {} holds nothing but {value}; segmentation needs two classes or more", .dir.display())]
    OneValue {
        /// The folder of masks.
        dir: PathBuf,
        /// The value.
        value: u8,
    },
    /// Too many values to be classes.
    #[error(
        "the masks in {} hold {count} values ({values}, ...): they seem to be scaled or blurred, or no masks; a mask holds one value for each class, such as 0 and 255, or 0, 1, 2 (a value of pixels without a class is left out with data.ignore_value)", .dir.display()
    )]
    TooManyValues {
        /// The folder of masks.
        dir: PathBuf,
        /// Number of values.
        count: usize,
        /// The first of them.
        values: String,
    },
    /// Too many pixels for this machine.
    #[error(
        "{images} images need {} MiB of memory, more than there is; have them scaled down with data.size = [HEIGHT, WIDTH], or give fewer", .bytes >> 20
    )]
    Memory {
        /// Images to be read.
        images: usize,
        /// Bytes of their pixels.
        bytes: usize,
    },
    /// A value that stands for no class.
    #[error("the mask {} holds {value}, which is none of the classes' values {values:?}", .mask.display())]
    OtherValue {
        /// The mask.
        mask: PathBuf,
        /// The value.
        value: u8,
        /// The values known.
        values: Vec<u8>,
    },
}
