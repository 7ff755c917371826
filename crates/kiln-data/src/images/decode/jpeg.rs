//! JPEG.

use std::io::{Cursor, ErrorKind};

use jpeg_decoder::{Decoder, Error, PixelFormat};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{MAX_PIXELS, Problem, Purpose, Raw, check_size, cmyk_to_rgb, damaged};
use crate::folder::Rules;

pub(super) fn decode(bytes: &[u8], purpose: Purpose) -> Result<Raw, Problem> {
    if purpose == Purpose::Picture(Rules::V1) {
        return decode_v1(bytes);
    }
    let problem = |error: Error| match error {
        Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
            damaged("it is cut off; fetch or save it again")
        }
        Error::Unsupported(feature) => {
            Problem::Unsupported(format!("it is a JPEG of a rare kind ({feature:?})"))
        }
        error => damaged(error),
    };
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.set_max_decoding_buffer_size(MAX_PIXELS * 4);
    decoder.read_info().map_err(problem)?;
    let info = decoder.info().ok_or_else(|| damaged("it has no size"))?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    check_size(width, height)?;
    let data = decoder.decode().map_err(problem)?;
    let (channels, data) = match info.pixel_format {
        PixelFormat::L8 => (1, data),
        PixelFormat::RGB24 => (3, data),
        PixelFormat::CMYK32 => (3, cmyk_to_rgb(&data)),
        PixelFormat::L16 => {
            return Err(Problem::Unsupported(
                "it has more than 8 bits for a sample".into(),
            ));
        }
    };
    Ok(Raw {
        width,
        height,
        channels,
        data,
        lossy: true,
    })
}

/// As it was read before: other roundings, a file that is cut off is gray below the cut, and scans that are not
/// interleaved give garbage. A run that saw such pixels goes on with them.
fn decode_v1(bytes: &[u8]) -> Result<Raw, Problem> {
    let options = DecoderOptions::default()
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(damaged)?;
    let (width, height) = decoder
        .dimensions()
        .ok_or_else(|| damaged("it has no size"))?;
    check_size(width, height)?;
    let (channels, space) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (1, ColorSpace::Luma),
        _ => (3, ColorSpace::RGB),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let data = decoder.decode().map_err(damaged)?;
    Ok(Raw {
        width,
        height,
        channels,
        data,
        lossy: true,
    })
}
