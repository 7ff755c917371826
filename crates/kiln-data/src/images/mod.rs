//! Pictures from files, brought into the form that a model was trained on.

mod decode;
mod frame;
mod preprocess;
mod raster;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::folder::Rules;
use decode::Gray;
pub(crate) use decode::luma_byte;
pub use preprocess::{Preprocess, Resize};
pub(crate) use raster::read_all;
pub use raster::{Mask, Raster};

/// Endings of the files that are read: PNG, JPEG, WebP, GIF (the first frame), TIFF (the first page) and BMP.
pub const ENDINGS: &[&str] = &["png", "jpg", "jpeg", "webp", "gif", "tif", "tiff", "bmp"];

/// The largest file that is read: 64 MiB.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// The largest number of pixels that is decoded.
pub const MAX_PIXELS: usize = 40_000_000;

/// Height and width of the result, as in MNIST.
pub const SIDE: usize = 28;

/// Whether dark and light change places, so that ink is light on black as in MNIST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Invert {
    /// If the border is lighter than the whole, as with dark ink on light paper.
    #[default]
    Auto,
    /// Always.
    Yes,
    /// Never.
    No,
}

/// How a picture is brought to 28×28.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// As MNIST: cut out the ink, fit it into 20×20 with its aspect kept, centre its mass. Specks are
    /// dropped and the contrast is stretched. A picture that is so already stays as it is.
    #[default]
    Ink,
    /// The whole picture fitted into 28×28 with its aspect kept, for data that are not strokes.
    Whole,
}

/// A picture ready for a model, and what was done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prepared {
    /// `[28, 28]`, 0 is black (paper) and 255 full ink.
    pub pixels: Vec<u8>,
    /// Whether dark and light changed places.
    pub inverted: bool,
    /// Width and height of the picture in the file.
    pub original: (usize, usize),
}

/// Reads a picture file of any size and colour as a model trained on MNIST-like data wants it.
///
/// Colour becomes luma; transparent pixels become paper. The content of the file, not its name, says
/// what it is. The orientation that a camera may note in a JPEG is not applied.
///
/// ```
/// use kiln_data::images::{self, Framing, Invert};
/// use kiln_data::{Digits, Split, info};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("digit.png");
/// let (pixels, _) = Digits::new(1).image(Split::Test, 0);
/// let picture = info::Picture { width: 28, height: 28, channels: 1, pixels: pixels.clone() };
/// picture.write_png(&path)?;
/// assert_eq!(images::read(&path, Framing::Ink, Invert::Auto)?.pixels, pixels);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ImageError`], which names the file.
pub fn read(path: &Path, framing: Framing, invert: Invert) -> Result<Prepared, ImageError> {
    read_under(path, framing, invert, Rules::default())
}

/// As [`read`], under the rules of a data set.
///
/// # Errors
/// [`ImageError`], which names the file.
pub fn read_under(
    path: &Path,
    framing: Framing,
    invert: Invert,
    rules: Rules,
) -> Result<Prepared, ImageError> {
    frame_gray(decode::read_under(path, rules)?, framing, invert, path)
}

fn frame_gray(
    mut gray: Gray,
    framing: Framing,
    invert: Invert,
    path: &Path,
) -> Result<Prepared, ImageError> {
    let original = (gray.width, gray.height);
    let inverted = match invert {
        Invert::Yes => true,
        Invert::No => false,
        Invert::Auto => border(&gray) > mean(&gray),
    };
    if inverted {
        gray.pixels.iter_mut().for_each(|p| *p = 255.0 - *p);
    }
    let pixels = match framing {
        Framing::Whole => frame::whole(&gray),
        Framing::Ink => frame::ink(&gray, border(&gray)).ok_or_else(|| ImageError::NoInk {
            path: path.to_owned(),
        })?,
    };
    Ok(Prepared {
        pixels,
        inverted,
        original,
    })
}

/// Median of the outermost pixels.
fn border(gray: &Gray) -> f32 {
    let (w, h) = (gray.width, gray.height);
    let mut values: Vec<f32> = (0..w)
        .flat_map(|x| [x, (h - 1) * w + x])
        .chain((0..h).flat_map(|y| [y * w, y * w + w - 1]))
        .map(|i| gray.pixels[i])
        .collect();
    values.sort_by(f32::total_cmp);
    values[values.len() / 2]
}

fn mean(gray: &Gray) -> f32 {
    let sum: f64 = gray.pixels.iter().map(|&p| f64::from(p)).sum();
    (sum / gray.pixels.len() as f64) as f32
}

/// Why a picture cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// None of the formats that are read.
    #[error("{} is neither PNG, JPEG, WebP, GIF, TIFF nor BMP: {found}; convert it to one of them", .path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What it seems to be, or how it begins.
        found: String,
    },
    /// The decoder refuses it.
    #[error("{} is damaged: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        reason: String,
    },
    /// Of a kind of its format that is not read, or not as Pillow reads it.
    #[error("{} cannot be read right: {reason}; save it as a PNG with 8 bits", .path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is unusual in it.
        reason: String,
    },
    /// More pixels than are decoded.
    #[error("{} has {width} x {height} pixels; at most {MAX_PIXELS} in all are read, so make it smaller", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its width.
        width: usize,
        /// Its height.
        height: usize,
    },
    /// More bytes than are read.
    #[error("{} is larger than {} MiB; make it smaller", .path.display(), MAX_FILE_BYTES >> 20)]
    FileTooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A mask with colours, which name no class.
    #[error(
        "the mask {} has a colour at row {row}, column {column}; a mask holds one gray level, or one palette index, for each class", .path.display()
    )]
    ColourMask {
        /// The file.
        path: PathBuf,
        /// Row of the pixel.
        row: usize,
        /// Column of the pixel.
        column: usize,
    },
    /// A mask with more than 8 bits.
    #[error("the mask {} holds the value {value}; classes are told apart by values from 0 to 255", .path.display())]
    MaskValue {
        /// The file.
        path: PathBuf,
        /// The value.
        value: u16,
    },
    /// A mask that lossy compression has blurred.
    #[error(
        "the mask {} is compressed with loss (as JPEG is), and {percent} % of its pixels are neither black nor white; save masks as PNG", .path.display()
    )]
    BlurredMask {
        /// The file.
        path: PathBuf,
        /// Share of such pixels.
        percent: usize,
    },
    /// Every pixel is nearly the same.
    #[error(
        "{} shows nothing: no pixel differs enough from its border", .path.display()
    )]
    NoInk {
        /// The file.
        path: PathBuf,
    },
}

/// Not one of `auto`, `yes` and `no`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a way to invert; expected auto, yes or no")]
pub struct ParseInvertError {
    given: String,
}

impl FromStr for Invert {
    type Err = ParseInvertError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Invert::Auto),
            "yes" => Ok(Invert::Yes),
            "no" => Ok(Invert::No),
            _ => Err(ParseInvertError { given: text.into() }),
        }
    }
}

impl fmt::Display for Invert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Invert::Auto => "auto",
            Invert::Yes => "yes",
            Invert::No => "no",
        })
    }
}
