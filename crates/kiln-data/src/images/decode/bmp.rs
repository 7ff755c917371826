//! BMP without compression: palettes of 1, 4 and 8 bits, and colours of 24 and 32.
//!
//! The crates for it that are small read palettes of one bit wrong, and none gives a palette's indices.

use super::{Problem, Purpose, Raw, check_size, colours, damaged, unpack};

pub(super) fn decode(bytes: &[u8], purpose: Purpose) -> Result<Raw, Problem> {
    let short = || damaged("it is cut off");
    let field = |at: usize, len: usize| -> Result<u32, Problem> {
        let bytes = bytes.get(at..at + len).ok_or_else(short)?;
        let mut word = [0; 4];
        word[..len].copy_from_slice(bytes);
        Ok(u32::from_le_bytes(word))
    };
    let (pixels_at, header) = (field(10, 4)? as usize, field(14, 4)? as usize);
    // The oldest header has sizes of two bytes and palettes of three.
    let old = header == 12;
    if !old && header < 40 {
        return Err(damaged(format!("a header of {header} bytes is unknown")));
    }
    let (width, height, depth, compression) = if old {
        (field(18, 2)? as i32, field(20, 2)? as i32, field(24, 2)?, 0)
    } else {
        let (width, height) = (field(18, 4)? as i32, field(22, 4)? as i32);
        (width, height, field(28, 2)?, field(30, 4)?)
    };
    // Rows go upwards unless the height is negative.
    let (upwards, height) = (height > 0, height.unsigned_abs() as usize);
    let width = usize::try_from(width).map_err(|_| damaged("its width is negative"))?;
    check_size(width, height)?;
    let plain = compression == 0 || compression == 3 && depth == 32 && bgr_masks(bytes);
    if !plain || !matches!(depth, 1 | 4 | 8 | 24 | 32) {
        return Err(Problem::Unsupported(format!(
            "it is a BMP of {depth} bits with compression {compression}"
        )));
    }
    let depth = depth as usize;
    let line = (width * depth).div_ceil(32) * 4;
    let data = bytes
        .get(pixels_at..)
        .and_then(|rest| rest.get(..line * height))
        .ok_or_else(short)?;
    let rows = (0..height).map(|y| {
        let y = if upwards { height - 1 - y } else { y };
        &data[y * line..][..line]
    });
    let (channels, data) = if depth >= 24 {
        let each = depth / 8;
        let pixels = rows.flat_map(|row| row.chunks_exact(each).take(width));
        (3, pixels.flat_map(|p| [p[2], p[1], p[0]]).collect())
    } else {
        let rows: Vec<u8> = rows.flatten().copied().collect();
        let indices = match depth {
            8 => rows
                .chunks_exact(line)
                .flat_map(|row| &row[..width])
                .copied()
                .collect(),
            _ => unpack(&rows, width, depth, line, 1),
        };
        let count = match if old { 0 } else { field(46, 4)? } {
            0 => 1 << depth,
            count => (count as usize).min(1 << depth),
        };
        let each = if old { 3 } else { 4 };
        let stored = bytes
            .get(14 + header..)
            .and_then(|rest| rest.get(..count * each))
            .ok_or_else(short)?;
        let stored = stored.chunks_exact(each);
        let palette: Vec<u8> = stored.flat_map(|c| [c[2], c[1], c[0]]).collect();
        match purpose {
            // Black and white, as the other formats give it.
            Purpose::Mask if palette == [0, 0, 0, 255, 255, 255] => {
                (1, indices.iter().map(|&i: &u8| i.min(1) * 255).collect())
            }
            Purpose::Mask => (1, indices),
            Purpose::Picture(_) => colours(&indices, &palette)?,
        }
    };
    Ok(Raw {
        width,
        height,
        channels,
        data,
        lossy: false,
    })
}

/// Whether the fields of a pixel of 32 bits are where they are without fields: blue, green, red.
fn bgr_masks(bytes: &[u8]) -> bool {
    bytes.get(54..66) == Some(&[0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 0])
}
