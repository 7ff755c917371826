//! PNG and JPEG files to gray pixels, with nothing absurd allocated.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{ImageError, MAX_FILE_BYTES, MAX_PIXELS};

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
    pub(super) jpeg: bool,
}

/// Reads the file at `path` as gray pixels; its content, not its name, says what it is.
pub(super) fn read(path: &Path) -> Result<Gray, ImageError> {
    let raw = read_raw(path)?;
    Ok(gray(raw.width, raw.height, raw.channels, &raw.data))
}

/// Reads the file at `path`, colours and all.
pub(super) fn read_raw(path: &Path) -> Result<Raw, ImageError> {
    read_with(path, decode_png)
}

/// Reads the file at `path` as a mask: the indices of a palette are not turned into its colours.
pub(super) fn read_indices(path: &Path) -> Result<Raw, ImageError> {
    read_with(path, decode_png_indices)
}

fn read_with(
    path: &Path,
    decode_png: fn(&[u8]) -> Result<Raw, Problem>,
) -> Result<Raw, ImageError> {
    let io = |source| ImageError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ImageError::FileTooLarge {
            path: path.to_owned(),
        });
    }
    let decoded = if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        decode_png(&bytes)
    } else if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        decode_jpeg(&bytes)
    } else {
        let shown = &bytes[..bytes.len().min(8)];
        return Err(ImageError::UnknownFormat {
            path: path.to_owned(),
            found: match shown {
                [] => "the file is empty".into(),
                shown => format!("it begins with {:?}", String::from_utf8_lossy(shown)),
            },
        });
    };
    decoded.map_err(|problem| match problem {
        Problem::Damaged(reason) => ImageError::Damaged {
            path: path.to_owned(),
            reason,
        },
        Problem::TooLarge(width, height) => ImageError::TooLarge {
            path: path.to_owned(),
            width,
            height,
        },
        Problem::MaskValue(value) => ImageError::MaskValue {
            path: path.to_owned(),
            value,
        },
    })
}

enum Problem {
    Damaged(String),
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

fn decode_png(bytes: &[u8]) -> Result<Raw, Problem> {
    let (raw, _) = png_frame(
        bytes,
        png::Transformations::EXPAND | png::Transformations::STRIP_16,
    )?;
    Ok(raw)
}

fn png_frame(
    bytes: &[u8],
    transformations: png::Transformations,
) -> Result<(Raw, png::OutputInfo), Problem> {
    let limits = png::Limits {
        bytes: MAX_PIXELS * 8,
    };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(transformations);
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    check_size(width, height)?;
    let size = reader.output_buffer_size();
    let mut data = vec![0; size.ok_or(Problem::TooLarge(width, height))?];
    let frame = reader.next_frame(&mut data).map_err(damaged)?;
    data.truncate(frame.buffer_size());
    let raw = Raw {
        width,
        height,
        channels: frame.color_type.samples(),
        data,
        jpeg: false,
    };
    Ok((raw, frame))
}

/// Gray levels and palette indices of any depth as one byte each.
fn decode_png_indices(bytes: &[u8]) -> Result<Raw, Problem> {
    let (mut raw, frame) = png_frame(bytes, png::Transformations::IDENTITY)?;
    let depth = frame.bit_depth as usize;
    match depth {
        8 => (),
        16 => {
            let mut samples = Vec::with_capacity(raw.data.len() / 2);
            for pair in raw.data.chunks_exact(2) {
                if pair[0] != 0 {
                    let value = u16::from_be_bytes([pair[0], pair[1]]);
                    return Err(Problem::MaskValue(value));
                }
                samples.push(pair[1]);
            }
            raw.data = samples;
        }
        _ => {
            // Black and white is written with one bit; what has more is a palette or has few classes.
            let white = if depth == 1 && frame.color_type == png::ColorType::Grayscale {
                255
            } else {
                1
            };
            let per_byte = 8 / depth;
            let mask = (1u8 << depth) - 1;
            let rows = raw.data.chunks_exact(frame.line_size);
            raw.data = rows
                .flat_map(|row| {
                    (0..raw.width).map(move |x| {
                        let shift = 8 - depth * (x % per_byte + 1);
                        (row[x / per_byte] >> shift & mask) * white
                    })
                })
                .collect();
        }
    }
    Ok(raw)
}

fn decode_jpeg(bytes: &[u8]) -> Result<Raw, Problem> {
    let options = DecoderOptions::default()
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(damaged)?;
    let (width, height) = decoder
        .dimensions()
        .ok_or_else(|| damaged("it has no size"))?;
    check_size(width, height)?;
    let channels = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => 1,
        _ => 3,
    };
    let space = match channels {
        1 => ColorSpace::Luma,
        _ => ColorSpace::RGB,
    };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let data = decoder.decode().map_err(damaged)?;
    if data.len() != width * height * channels {
        return Err(damaged("it has fewer pixels than it says"));
    }
    Ok(Raw {
        width,
        height,
        channels,
        data,
        jpeg: true,
    })
}

/// Luma (ITU-R BT.601) of one pixel.
pub(super) fn luma(pixel: &[u8]) -> f32 {
    match pixel {
        [r, g, b, ..] => 0.299 * f32::from(*r) + 0.587 * f32::from(*g) + 0.114 * f32::from(*b),
        _ => f32::from(pixel[0]),
    }
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
