//! Pictures of every kind are read as Pillow reads them, or refused; `golden/pictures/make.py` made them and says how.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kiln_data::images::{ImageError, Mask, Raster};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    height: usize,
    width: usize,
    rgb: String,
    luma: String,
    mask: Option<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures")
}

fn expected() -> BTreeMap<String, Expected> {
    let text = fs::read_to_string(folder().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

/// The largest and the mean difference.
fn difference(a: &[u8], b: &[u8]) -> (u8, f64) {
    assert_eq!(a.len(), b.len());
    let each = || a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
    let sum: f64 = each().map(f64::from).sum();
    (each().max().unwrap(), sum / a.len() as f64)
}

/// Read by Pillow, but as nobody wants it: white, or with colours that the decoder here does not know.
const REFUSED: &[&str] = &["gray-16-large.png", "gray-16-large.tif", "palette.tif"];

#[test]
fn pictures_of_every_kind_have_pillows_pixels() {
    for (name, expected) in expected() {
        let path = folder().join(&name);
        if REFUSED.contains(&&name[..]) {
            let error = Raster::read(&path, None).unwrap_err();
            assert!(matches!(error, ImageError::Unsupported { .. }), "{error}");
            assert!(error.to_string().contains(&name), "{error}");
            continue;
        }
        // A JPEG's cosines and its coarser colours are rounded by each decoder in its own way.
        let (most, mean) = match name.rsplit('.').next() {
            Some("jpg") => (11, 0.4),
            _ => (0, 0.0),
        };
        for (channels, pixels) in [(3, &expected.rgb), (1, &expected.luma)] {
            let read = Raster::read(&path, Some(channels)).unwrap();
            assert_eq!(
                read.shape,
                [channels, expected.height, expected.width],
                "{name}"
            );
            let (largest, average) = difference(&read.pixels, &bytes(pixels));
            assert!(
                largest <= most && average <= mean,
                "{name} with {channels} channels: {largest}, {average}"
            );
        }
    }
}

#[test]
fn masks_of_every_kind_hold_pillows_values() {
    let mut seen = 0;
    for (name, expected) in expected() {
        let lossy = name.ends_with(".jpg") || name == "lossy.webp";
        let Some(mask) = expected
            .mask
            .filter(|_| !lossy && !REFUSED.contains(&&name[..]))
        else {
            continue;
        };
        match Mask::read(&folder().join(&name)) {
            Ok(read) => {
                assert_eq!([read.height, read.width], [expected.height, expected.width]);
                assert_eq!(read.values, bytes(&mask), "{name}");
                seen += 1;
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
    assert!(seen >= 12, "{seen}");
}

#[test]
fn a_picture_that_is_cut_off_is_refused_wherever_the_cut_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut");
    for (name, _) in expected() {
        // Pillow reads a TIFF or WebP whose end lacks what the first picture does not need.
        if REFUSED.contains(&&name[..]) || name.ends_with(".tif") || name == "several.gif" {
            continue;
        }
        let whole = fs::read(folder().join(&name)).unwrap();
        // The very end of a PNG or GIF says only that it is the end; there Pillow is content without it.
        let needed = match name.rsplit('.').next() {
            Some("png") => whole.len() - 16,
            Some("gif") => whole.len() - 4,
            _ => whole.len() - 1,
        };
        for end in (0..=needed).rev().step_by(1 + needed / 40) {
            fs::write(&path, &whole[..end]).unwrap();
            let read = Raster::read(&path, None);
            assert!(
                read.is_err(),
                "{name} cut to {end} of {} bytes",
                whole.len()
            );
        }
    }
}

/// A PNG whose chunks are these, with their check sums.
fn png(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in chunks {
        file.extend((data.len() as u32).to_be_bytes());
        let checked = [&kind[..], data].concat();
        file.extend(&checked);
        let mut crc = flate2::Crc::new();
        crc.update(&checked);
        file.extend(crc.sum().to_be_bytes());
    }
    file
}

#[test]
fn a_damaged_palette_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("odd.png");
    // Two pixels of a palette with 8 bits, stored without compression.
    let header = [0, 0, 0, 2, 0, 0, 0, 1, 8, 3, 0, 0, 0];
    let rows = |indices: [u8; 2]| {
        let row = [0, indices[0], indices[1]];
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::none());
        std::io::Write::write_all(&mut zlib, &row).unwrap();
        zlib.finish().unwrap()
    };
    let read = |palette: &[u8], indices| {
        let file = png(&[
            (b"IHDR", &header),
            (b"PLTE", palette),
            (b"IDAT", &rows(indices)),
            (b"IEND", &[]),
        ]);
        fs::write(&path, file).unwrap();
        (Raster::read(&path, None), Mask::read(&path))
    };
    for bytes in [0, 1, 2, 4, 5, 7, 769, 900] {
        let (picture, mask) = read(&vec![9; bytes], [0, 0]);
        for error in [picture.unwrap_err(), mask.unwrap_err()] {
            let text = error.to_string();
            assert!(
                text.contains("odd.png") && text.contains("palette"),
                "{text}"
            );
        }
    }
    let (picture, mask) = read(&[1, 2, 3, 4, 5, 6], [1, 0]);
    assert_eq!(picture.unwrap().pixels, [4, 1, 5, 2, 6, 3]);
    assert_eq!(mask.unwrap().values, [1, 0]);
    let error = read(&[1, 2, 3, 4, 5, 6], [2, 0]).0.unwrap_err().to_string();
    assert!(
        error.contains("palette index 2, but the palette has 2 colours"),
        "{error}"
    );
}

#[test]
fn what_is_no_picture_is_named_for_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("what.png");
    for (content, says) in [
        (&b"\0\0\0\x1cftypheic"[..], "HEIC"),
        (b"\0\0\0\x1cftypavif", "AVIF"),
        (b"P6 1 1 255 abc", "PPM"),
        (b"<svg>", "SVG"),
        (b"version https://git-lfs", "git lfs pull"),
        (b"", "empty"),
    ] {
        fs::write(&path, content).unwrap();
        let error = Raster::read(&path, None).unwrap_err();
        assert!(
            matches!(error, ImageError::UnknownFormat { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains(says), "{error}");
    }
}
