//! PNG.

use std::io::Cursor;

use ::png::{BitDepth, ColorType, Decoder, Limits, Transformations};

use super::{MAX_PIXELS, Problem, Purpose, Raw, check_size, colours, damaged, gray_16, unpack};
use crate::folder::Rules;

pub(super) fn decode(bytes: &[u8], purpose: Purpose) -> Result<Raw, Problem> {
    check_palette(bytes)?;
    let limits = Limits {
        bytes: MAX_PIXELS * 8,
    };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(Transformations::IDENTITY);
    let header = decoder.read_header_info().map_err(damaged)?;
    let (width, height) = (header.width as usize, header.height as usize);
    check_size(width, height)?;
    let (color, depth) = (header.color_type, header.bit_depth);
    let gray_16_bit = (color, depth) == (ColorType::Grayscale, BitDepth::Sixteen);
    // Gray levels of 16 bits and palettes are looked at here, as are values of a mask.
    let raw_samples = purpose == Purpose::Mask
        || color == ColorType::Indexed
        || gray_16_bit && purpose == Purpose::Picture(Rules::V2);
    if !raw_samples {
        decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    }
    let mut reader = decoder.read_info().map_err(damaged)?;
    let size = reader.output_buffer_size();
    let mut data = vec![0; size.ok_or(Problem::TooLarge(width, height))?];
    let frame = reader.next_frame(&mut data).map_err(damaged)?;
    data.truncate(frame.buffer_size());
    let channels = frame.color_type.samples();
    let raw = |channels, data| Raw {
        width,
        height,
        channels,
        data,
        lossy: false,
    };
    if !raw_samples {
        return Ok(raw(channels, data));
    }
    let data = match depth {
        BitDepth::Eight => data,
        BitDepth::Sixteen => {
            let pairs = data.chunks_exact(2);
            gray_16(pairs.map(|p| u16::from_be_bytes([p[0], p[1]])), purpose)?
        }
        // Black and white is written with one bit; what has more is a palette or has few classes.
        BitDepth::One if color == ColorType::Grayscale => {
            unpack(&data, width, 1, frame.line_size, 255)
        }
        _ => unpack(&data, width, depth as usize, frame.line_size, 1),
    };
    if purpose == Purpose::Mask || color != ColorType::Indexed {
        return Ok(raw(channels, data));
    }
    let info = reader.info();
    let palette = info.palette.as_deref().unwrap_or_default();
    // A palette is taken for colours, whatever they are.
    let rgb = match colours(&data, palette)? {
        (1, gray) => gray.iter().flat_map(|&v| [v; 3]).collect(),
        (_, rgb) => rgb,
    };
    let Some(opacity) = info.trns.as_deref() else {
        return Ok(raw(3, rgb));
    };
    let pixels = rgb.chunks_exact(3).zip(&data);
    let with_alpha = pixels.flat_map(|(rgb, &index)| {
        let alpha = opacity.get(usize::from(index)).copied().unwrap_or(255);
        [rgb[0], rgb[1], rgb[2], alpha]
    });
    Ok(raw(4, with_alpha.collect()))
}

/// The decoder believes that a palette is whole colours.
fn check_palette(bytes: &[u8]) -> Result<(), Problem> {
    let mut rest = &bytes[8..];
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        match &head[4..] {
            b"PLTE" if !length.is_multiple_of(3) || !(3..=768).contains(&length) => {
                return Err(Problem::Damaged(format!(
                    "its palette has {length} bytes, which are not 1 to 256 colours of 3"
                )));
            }
            b"IDAT" => return Ok(()),
            _ => (),
        }
        // The check sum follows.
        let Some(next) = length
            .checked_add(4)
            .and_then(|skipped| after.get(skipped..))
        else {
            return Ok(());
        };
        rest = next;
    }
    Ok(())
}
