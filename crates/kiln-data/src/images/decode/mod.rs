//! Picture files to pixels, as Pillow reads them or not at all, with nothing absurd allocated.

mod bmp;
mod gif;
mod jpeg;
mod png;
mod tiff;
mod webp;

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::{ImageError, MAX_FILE_BYTES, MAX_PIXELS};
use crate::folder::Rules;

/// A gray picture; 0 is black.
pub(super) struct Gray {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) pixels: Vec<f32>,
}

/// Samples as the file has them, interleaved: gray, gray and alpha, RGB, or RGB and alpha.
pub(super) struct Raw {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) channels: usize,
    /// `[height, width, channels]`.
    pub(super) data: Vec<u8>,
    /// Whether the file's compression changes values.
    pub(super) lossy: bool,
}

/// What a file is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Colours, under these rules.
    Picture(Rules),
    /// The values of a mask: gray levels, or the indices of a palette instead of its colours.
    Mask,
}

/// Reads the file at `path` as gray pixels under the rules of a data set; its content, not its name, says what it is.
pub(super) fn read_under(path: &Path, rules: Rules) -> Result<Gray, ImageError> {
    let raw = read_raw(path, Purpose::Picture(rules))?;
    Ok(gray(raw.width, raw.height, raw.channels, &raw.data))
}

/// Reads the file at `path`.
pub(super) fn read_raw(path: &Path, purpose: Purpose) -> Result<Raw, ImageError> {
    let io = |source| ImageError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    let expected = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::with_capacity(expected.min(MAX_FILE_BYTES) as usize + 1);
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ImageError::FileTooLarge {
            path: path.to_owned(),
        });
    }
    let Some(decode) = decoder(&bytes) else {
        return Err(ImageError::UnknownFormat {
            path: path.to_owned(),
            found: describe(&bytes),
        });
    };
    // The decoders are others' code; a panic there is a damaged file, and its name must be told.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(&bytes, purpose)));
    let decoded = decoded.unwrap_or_else(|_| {
        Err(Problem::Damaged(
            "the decoder gave up on it (a mistake in the decoder, told above)".into(),
        ))
    });
    decoded.and_then(Raw::checked).map_err(|problem| {
        let path = path.to_owned();
        match problem {
            Problem::Damaged(reason) => ImageError::Damaged { path, reason },
            Problem::Unsupported(reason) => ImageError::Unsupported { path, reason },
            Problem::TooLarge(width, height) => ImageError::TooLarge {
                path,
                width,
                height,
            },
            Problem::MaskValue(value) => ImageError::MaskValue { path, value },
        }
    })
}

type Decode = fn(&[u8], Purpose) -> Result<Raw, Problem>;

/// The decoder for files that begin so.
fn decoder(bytes: &[u8]) -> Option<Decode> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(b"\x89PNG\r\n\x1a\n") {
        Some(png::decode)
    } else if starts(&[0xff, 0xd8, 0xff]) {
        Some(jpeg::decode)
    } else if starts(b"GIF87a") || starts(b"GIF89a") {
        Some(gif::decode)
    } else if starts(b"II*\0") || starts(b"MM\0*") {
        Some(tiff::decode)
    } else if starts(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Some(webp::decode)
    } else if starts(b"BM") {
        Some(bmp::decode)
    } else {
        None
    }
}

/// What a file that is none of the known kinds seems to be.
fn describe(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(8)]);
    match bytes {
        [] => "the file is empty".into(),
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', ..] => "it is an AVIF".into(),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "it is an HEIC, or a film".into(),
        [b'I', b'I', b'+', 0, ..] | [b'M', b'M', 0, b'+', ..] => "it is a BigTIFF".into(),
        [b'P', b'1'..=b'7', ..] => "it is a PBM, PGM or PPM".into(),
        [b'v', b'e', b'r', b's', ..] => "it is a Git LFS pointer; run `git lfs pull`".into(),
        [b'<', ..] => "it is an SVG or a web page".into(),
        _ => format!("it begins with {text:?}"),
    }
}

enum Problem {
    Damaged(String),
    /// Whole perhaps, but of a kind that is not read, or that Pillow would not read right.
    Unsupported(String),
    TooLarge(usize, usize),
    /// A value that a mask of bytes cannot hold.
    MaskValue(u16),
}

fn damaged(error: impl std::fmt::Display) -> Problem {
    Problem::Damaged(error.to_string())
}

fn check_size(width: usize, height: usize) -> Result<(), Problem> {
    match width.checked_mul(height) {
        Some(1..=MAX_PIXELS) => Ok(()),
        Some(0) => Err(Problem::Damaged("it has no pixels".into())),
        _ => Err(Problem::TooLarge(width, height)),
    }
}

impl Raw {
    /// Every decoder must have given what it promised.
    fn checked(self) -> Result<Self, Problem> {
        if self.data.len() == self.width * self.height * self.channels {
            Ok(self)
        } else {
            Err(damaged("it has fewer pixels than it says"))
        }
    }
}

/// Gray levels of 16 bits as bytes: as they are if all fit. Pillow cuts larger ones off at 255, which leaves a white
/// picture, so these are refused.
fn gray_16(samples: impl Iterator<Item = u16>, purpose: Purpose) -> Result<Vec<u8>, Problem> {
    let byte = |value: u16| {
        u8::try_from(value).map_err(|_| match purpose {
            Purpose::Mask => Problem::MaskValue(value),
            Purpose::Picture(_) => Problem::Unsupported(format!(
                "its gray levels have 16 bits (one is {value}), and how they become 8 bits is not for a reader to guess"
            )),
        })
    };
    samples.map(byte).collect()
}

/// Unpacks samples of 1, 2 or 4 bits, whose rows begin at a byte, and multiplies each by `factor`.
fn unpack(data: &[u8], width: usize, depth: usize, line: usize, factor: u8) -> Vec<u8> {
    let per_byte = 8 / depth;
    let mask = (1u8 << depth) - 1;
    let rows = data.chunks_exact(line);
    rows.flat_map(|row| {
        (0..width).map(move |x| {
            let shift = 8 - depth * (x % per_byte + 1);
            (row[x / per_byte] >> shift & mask) * factor
        })
    })
    .collect()
}

/// The colours of palette indices, as gray levels if all that are used are gray; an index without a colour is damage.
fn colours(indices: &[u8], palette: &[u8]) -> Result<(usize, Vec<u8>), Problem> {
    let colour = |index: u8| palette.get(3 * usize::from(index)..3 * usize::from(index) + 3);
    let mut used = [false; 256];
    indices.iter().for_each(|&i| used[usize::from(i)] = true);
    let mut gray = true;
    for index in (0..=255).filter(|&i: &u8| used[usize::from(i)]) {
        let Some(rgb) = colour(index) else {
            let colours = palette.len() / 3;
            return Err(Problem::Damaged(format!(
                "a pixel has the palette index {index}, but the palette has {colours} colours"
            )));
        };
        gray &= rgb[0] == rgb[1] && rgb[1] == rgb[2];
    }
    let at = |&index: &u8| &palette[3 * usize::from(index)..][..if gray { 1 } else { 3 }];
    let data = indices.iter().flat_map(at).copied().collect();
    Ok((if gray { 1 } else { 3 }, data))
}

/// Pillow's way from inks to light.
fn cmyk_to_rgb(samples: &[u8]) -> Vec<u8> {
    let rgb = |cmyk: &[u8]| {
        let white = 255 - u32::from(cmyk[3]);
        [0, 1, 2].map(|i| {
            let product = u32::from(cmyk[i]) * white + 128;
            white.saturating_sub((product + (product >> 8)) >> 8) as u8
        })
    };
    samples.chunks_exact(4).flat_map(rgb).collect()
}

/// Luma (ITU-R BT.601) of one pixel.
pub(super) fn luma(pixel: &[u8]) -> f32 {
    match pixel {
        [r, g, b, ..] => 0.299 * f32::from(*r) + 0.587 * f32::from(*g) + 0.114 * f32::from(*b),
        _ => f32::from(pixel[0]),
    }
}

/// Luma of red, green and blue as Pillow's `convert("L")` computes and rounds it.
pub(crate) fn luma_byte([r, g, b]: [u8; 3]) -> u8 {
    let [r, g, b] = [r, g, b].map(u32::from);
    ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
}

/// Luma of interleaved samples: gray, gray and alpha, RGB, or RGB and alpha.
///
/// Transparent pixels get the paper that the ink shows on: white under dark ink, black under light.
fn gray(width: usize, height: usize, channels: usize, data: &[u8]) -> Gray {
    let has_alpha = channels.is_multiple_of(2);
    let pixels = data.chunks_exact(channels);
    if !has_alpha {
        return Gray {
            width,
            height,
            pixels: pixels.map(luma).collect(),
        };
    }
    let opacity = |pixel: &[u8]| f32::from(pixel[channels - 1]) / 255.0;
    let (mut ink, mut weight) = (0.0f64, 0.0f64);
    for pixel in pixels.clone() {
        ink += f64::from(luma(pixel) * opacity(pixel));
        weight += f64::from(opacity(pixel));
    }
    let paper = if ink > 127.5 * weight { 0.0 } else { 255.0 };
    Gray {
        width,
        height,
        pixels: pixels
            .map(|pixel| paper + opacity(pixel) * (luma(pixel) - paper))
            .collect(),
    }
}
