//! TIFF: the first page.

use std::io::Cursor;

use ::tiff::decoder::{Decoder, DecodingResult, Limits};
use ::tiff::tags::Tag;
use ::tiff::{ColorType, TiffError};

use super::{MAX_PIXELS, Problem, Purpose, Raw, check_size, cmyk_to_rgb, damaged, gray_16, unpack};

pub(super) fn decode(bytes: &[u8], purpose: Purpose) -> Result<Raw, Problem> {
    let problem = |error: TiffError| match error {
        TiffError::UnsupportedError(error) => Problem::Unsupported(error.to_string()),
        error => damaged(error),
    };
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_PIXELS * 8;
    limits.intermediate_buffer_size = MAX_PIXELS * 8;
    let mut decoder = Decoder::new(Cursor::new(bytes))
        .map_err(problem)?
        .with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(problem)?;
    let (width, height) = (width as usize, height as usize);
    check_size(width, height)?;
    let color = decoder.colortype().map_err(problem)?;
    let mut tag = |tag, usual: u32| -> Result<u32, Problem> {
        let found = decoder.find_tag_unsigned::<u32>(tag).map_err(problem)?;
        Ok(found.unwrap_or(usual))
    };
    if tag(Tag::PlanarConfiguration, 1)? != 1 && color.num_samples() > 1 {
        return Err(Problem::Unsupported(
            "it keeps its channels in planes".into(),
        ));
    }
    // Pillow turns these.
    if tag(Tag::Orientation, 1)? != 1 {
        return Err(Problem::Unsupported(
            "it is to be turned before it is shown".into(),
        ));
    }
    let lossy = matches!(tag(Tag::Compression, 1)?, 6 | 7 | 34712 | 50001);
    let unsupported = || Problem::Unsupported(format!("its samples are of the kind {color:?}"));
    let read = decoder.read_image().map_err(problem)?;
    let (channels, data) = match (color, read) {
        (ColorType::Gray(depth @ (1 | 2 | 4)), DecodingResult::U8(data)) => {
            let depth = usize::from(depth);
            let line = (width * depth).div_ceil(8);
            // As in a PNG: one bit is black and white, more are classes if it is a mask.
            let factor = match purpose {
                Purpose::Mask if depth > 1 => 1,
                _ => 255 / ((1 << depth) - 1) as u8,
            };
            (1, unpack(&data, width, depth, line, factor))
        }
        (ColorType::Gray(16), DecodingResult::U16(data)) => {
            (1, gray_16(data.into_iter(), purpose)?)
        }
        (ColorType::Gray(8), DecodingResult::U8(data)) => (1, data),
        (ColorType::GrayA(8), DecodingResult::U8(data)) => (2, data),
        (ColorType::RGB(8), DecodingResult::U8(data)) => (3, data),
        (ColorType::RGBA(8), DecodingResult::U8(data)) => (4, data),
        (ColorType::CMYK(8), DecodingResult::U8(data)) => (3, cmyk_to_rgb(&data)),
        (ColorType::RGB(16), DecodingResult::U16(data)) => (3, high_bytes(&data)),
        (ColorType::RGBA(16), DecodingResult::U16(data)) => (4, high_bytes(&data)),
        _ => return Err(unsupported()),
    };
    Ok(Raw {
        width,
        height,
        channels,
        data,
        lossy,
    })
}

/// Colours of 16 bits lose their lower byte, as in Pillow.
fn high_bytes(samples: &[u16]) -> Vec<u8> {
    samples.iter().map(|&sample| (sample >> 8) as u8).collect()
}
