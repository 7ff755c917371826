//! GIF: the first frame.

use std::num::NonZeroU64;

use ::gif::{ColorOutput, DecodeOptions, MemoryLimit};

use super::{MAX_PIXELS, Problem, Purpose, Raw, check_size, colours, damaged};

pub(super) fn decode(bytes: &[u8], purpose: Purpose) -> Result<Raw, Problem> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    let limit = NonZeroU64::new(MAX_PIXELS as u64).expect("not zero");
    options.set_memory_limit(MemoryLimit::Bytes(limit));
    options.check_frame_consistency(true);
    let mut decoder = options.read_info(bytes).map_err(damaged)?;
    let (width, height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    check_size(width, height)?;
    let background = decoder.bg_color().unwrap_or(0) as u8;
    let frame = decoder
        .read_next_frame()
        .map_err(damaged)?
        .ok_or_else(|| damaged("it has no frame"))?;
    // Around a frame that is smaller than the screen, Pillow puts what is transparent, or the background.
    let around = frame.transparent.unwrap_or(background);
    let (w, h) = (usize::from(frame.width), usize::from(frame.height));
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let indices = if (left, top, w, h) == (0, 0, width, height) {
        frame.buffer.to_vec()
    } else {
        let mut screen = vec![around; width * height];
        for (y, row) in frame.buffer.chunks_exact(w.max(1)).take(h).enumerate() {
            screen[(top + y) * width + left..][..w].copy_from_slice(row);
        }
        screen
    };
    let (channels, data) = match purpose {
        Purpose::Mask => (1, indices),
        Purpose::Picture(_) => {
            let palette = match &frame.palette {
                Some(own) => own.clone(),
                None => decoder.palette().map_err(damaged)?.to_vec(),
            };
            colours(&indices, &palette)?
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
