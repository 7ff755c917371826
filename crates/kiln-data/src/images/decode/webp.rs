//! WebP: the first frame.

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::{MAX_PIXELS, Problem, Purpose, Raw, check_size, damaged};

pub(super) fn decode(bytes: &[u8], _: Purpose) -> Result<Raw, Problem> {
    // The decoder is content with less.
    let size = bytes.get(4..8).and_then(|size| size.try_into().ok());
    let size = u32::from_le_bytes(size.ok_or_else(|| damaged("it is cut off"))?);
    if (bytes.len() as u64) < 8 + u64::from(size) {
        return Err(damaged("it is cut off"));
    }
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    check_size(width, height)?;
    decoder.set_memory_limit(MAX_PIXELS * 8);
    let size = decoder.output_buffer_size();
    let mut data = vec![0; size.ok_or(Problem::TooLarge(width, height))?];
    decoder.read_image(&mut data).map_err(damaged)?;
    Ok(Raw {
        width,
        height,
        channels: if decoder.has_alpha() { 4 } else { 3 },
        data,
        lossy: decoder.is_lossy(),
    })
}
