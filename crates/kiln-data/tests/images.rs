//! Pictures as people have them: any size, colour, paper and format.

use std::fs;
use std::path::{Path, PathBuf};

use kiln_data::images::{self, Framing, ImageError, Invert};
use kiln_data::info::Picture;
use kiln_data::{Digits, Split};

fn gray(width: usize, height: usize, pixel: impl Fn(usize, usize) -> u8) -> Picture {
    let pixels = (0..width * height)
        .map(|i| pixel(i % width, i / width))
        .collect();
    Picture {
        width,
        height,
        channels: 1,
        pixels,
    }
}

fn write(dir: &Path, name: &str, picture: &Picture) -> PathBuf {
    let path = dir.join(name);
    picture.write_png(&path).unwrap();
    path
}

/// A drawn digit enlarged, off centre on paper of level `paper`, its ink `ink`.
fn on_paper(digit: &[u8], factor: usize, paper: u8, ink: u8) -> Picture {
    let (width, height) = (60 * factor, 45 * factor);
    gray(width, height, |x, y| {
        let (x, y) = ((x / factor) as i32 - 3, (y / factor) as i32 - 14);
        let dark = match (0..28).contains(&x) && (0..28).contains(&y) {
            true => f32::from(digit[(y * 28 + x) as usize]) / 255.0,
            false => 0.0,
        };
        (f32::from(paper) + dark * (f32::from(ink) - f32::from(paper))).round() as u8
    })
}

/// The [`difference`] when one picture may be moved by a pixel: rounding decides where the centre
/// of mass falls.
fn difference_moved(a: &[u8], b: &[u8]) -> f32 {
    let moved = |dx: usize, dy: usize| -> Vec<u8> {
        let at = |x: usize, y: usize| match (x + dx, y + dy) {
            (1..=28, 1..=28) => b[(y + dy - 1) * 28 + x + dx - 1],
            _ => 0,
        };
        (0..784).map(|i| at(i % 28, i / 28)).collect()
    };
    (0..9)
        .map(|i| difference(a, &moved(i % 3, i / 3)))
        .fold(f32::MAX, f32::min)
}

/// Mean absolute difference of two pictures, of 255.
fn difference(a: &[u8], b: &[u8]) -> f32 {
    let sum: u32 = a
        .iter()
        .zip(b)
        .map(|(a, b)| u32::from(a.abs_diff(*b)))
        .sum();
    sum as f32 / a.len() as f32
}

#[test]
fn a_normalised_digit_stays_as_it_is_also_when_inverted() {
    let dir = tempfile::tempdir().unwrap();
    for index in 0..30 {
        let (digit, _) = Digits::new(3).image(Split::Test, index);
        let same = write(dir.path(), "a.png", &gray(28, 28, |x, y| digit[y * 28 + x]));
        let read = images::read(&same, Framing::Ink, Invert::Auto).unwrap();
        assert_eq!((read.inverted, read.original), (false, (28, 28)));
        assert_eq!(read.pixels, digit);
        let dark = write(
            dir.path(),
            "b.png",
            &gray(28, 28, |x, y| 255 - digit[y * 28 + x]),
        );
        let read = images::read(&dark, Framing::Ink, Invert::Auto).unwrap();
        assert!(read.inverted);
        assert_eq!(read.pixels, digit);
    }
}

#[test]
fn large_off_centre_digits_on_any_paper_are_found_again() {
    let dir = tempfile::tempdir().unwrap();
    for index in 0..3 {
        let (digit, _) = Digits::new(3).image(Split::Test, index);
        for (factor, paper, ink) in [(1, 0, 255), (4, 255, 0), (7, 230, 40), (10, 30, 200)] {
            let path = write(dir.path(), "p.png", &on_paper(&digit, factor, paper, ink));
            let read = images::read(&path, Framing::Ink, Invert::Auto).unwrap();
            assert_eq!(read.inverted, paper > ink);
            // An empty picture differs by about 33.
            let off = difference_moved(&read.pixels, &digit);
            assert!(off < 9.0, "digit {index}, paper {paper}: {off}");
        }
    }
}

#[test]
fn specks_do_not_move_the_digit() {
    let dir = tempfile::tempdir().unwrap();
    let (digit, _) = Digits::new(3).image(Split::Test, 1);
    let mut picture = on_paper(&digit, 6, 255, 0);
    let clean = images::read(
        &write(dir.path(), "c.png", &picture),
        Framing::Ink,
        Invert::Auto,
    );
    for (x, y) in [(2, 2), (350, 5), (340, 260)] {
        picture.pixels[y * picture.width + x] = 0;
        picture.pixels[y * picture.width + x + 1] = 60;
    }
    let specked = images::read(
        &write(dir.path(), "s.png", &picture),
        Framing::Ink,
        Invert::Auto,
    );
    assert_eq!(specked.unwrap().pixels, clean.unwrap().pixels);
}

#[test]
fn invert_can_be_forced_either_way() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(
        dir.path(),
        "x.png",
        &gray(40, 40, |x, _| if x == 20 { 255 } else { 10 }),
    );
    let read = |invert| images::read(&path, Framing::Whole, invert).unwrap();
    assert_eq!(read(Invert::Auto), read(Invert::No));
    let (no, yes) = (read(Invert::No), read(Invert::Yes));
    assert!(yes.inverted && !no.inverted);
    assert!(difference(&no.pixels, &yes.pixels) > 100.0);
    assert_eq!("auto".parse(), Ok(Invert::Auto));
    assert!(
        "maybe"
            .parse::<Invert>()
            .unwrap_err()
            .to_string()
            .contains("auto, yes or no")
    );
}

#[test]
fn the_whole_picture_keeps_its_aspect() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "w.png", &gray(280, 140, |_, _| 200));
    let read = images::read(&path, Framing::Whole, Invert::No).unwrap();
    for (y, row) in read.pixels.chunks(28).enumerate() {
        let expected = if (7..21).contains(&y) { 200 } else { 0 };
        assert!(row.iter().all(|&p| p == expected), "row {y}: {row:?}");
    }
}

#[test]
fn colours_and_transparency_become_luma_on_paper() {
    let dir = tempfile::tempdir().unwrap();
    let (digit, _) = Digits::new(3).image(Split::Test, 2);
    // Dark blue ink on white, then black and white ink on nothing.
    let rgb: Vec<u8> = digit
        .iter()
        .flat_map(|&d| [255 - d, 255 - d, 255 - d / 2])
        .collect();
    let black: Vec<u8> = digit.iter().flat_map(|&d| [0, 0, 0, d]).collect();
    let white: Vec<u8> = digit.iter().flat_map(|&d| [255, 255, 255, d]).collect();
    for (color, pixels, inverted) in [
        (png::ColorType::Rgb, rgb, true),
        (png::ColorType::Rgba, black, true),
        (png::ColorType::Rgba, white, false),
    ] {
        let path = dir.path().join("c.png");
        let mut encoder = png::Encoder::new(fs::File::create(&path).unwrap(), 28, 28);
        encoder.set_color(color);
        encoder
            .write_header()
            .unwrap()
            .write_image_data(&pixels)
            .unwrap();
        let read = images::read(&path, Framing::Ink, Invert::Auto).unwrap();
        assert_eq!(read.inverted, inverted, "{color:?}");
        assert!(difference(&read.pixels, &digit) < 5.0, "{color:?}");
    }
}

#[test]
fn jpeg_gray_and_colour_are_read() {
    let dir = tempfile::tempdir().unwrap();
    // tests/data/README.md says how these were made.
    for (name, bytes) in [
        ("gray.jpg", &include_bytes!("data/seven-gray.jpg")[..]),
        ("colour.jpg", &include_bytes!("data/seven-colour.jpg")[..]),
        (
            "progressive.jpg",
            &include_bytes!("data/seven-progressive.jpg")[..],
        ),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let read = images::read(&path, Framing::Ink, Invert::Auto).unwrap();
        assert_eq!((read.inverted, read.original), (true, (160, 120)), "{name}");
        let lit = |x: usize, y: usize| read.pixels[y * 28 + x] > 128;
        // A bar at the top and a slope to the lower left.
        assert!(
            (5..10).any(|y| (4..24).filter(|&x| lit(x, y)).count() > 6),
            "{name}"
        );
        assert!(
            (4..14).any(|x| lit(x, 22)) && !(16..28).any(|x| lit(x, 22)),
            "{name}"
        );
    }
}

#[test]
fn files_that_are_no_picture_say_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let refuse = |content: &[u8]| {
        let path = dir.path().join("bad.png");
        fs::write(&path, content).unwrap();
        let error = images::read(&path, Framing::Ink, Invert::Auto).unwrap_err();
        assert!(error.to_string().contains("bad.png"), "{error}");
        error
    };
    assert!(refuse(b"").to_string().contains("empty"));
    assert!(matches!(
        refuse(b"%PDF-1.4"),
        ImageError::UnknownFormat { .. }
    ));
    assert!(matches!(
        refuse(b"\x89PNG\r\n\x1a\n"),
        ImageError::Damaged { .. }
    ));
    assert!(matches!(
        refuse(&[0xff, 0xd8, 0xff, 0xe0, 0, 3]),
        ImageError::Damaged { .. }
    ));
    let error = images::read(&dir.path().join("none.png"), Framing::Ink, Invert::Auto);
    assert!(matches!(error, Err(ImageError::Io { .. })));
}

#[test]
fn cut_and_flipped_files_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let (digit, _) = Digits::new(3).image(Split::Test, 4);
    let png = write(
        dir.path(),
        "ok.png",
        &gray(28, 28, |x, y| digit[y * 28 + x]),
    );
    let png = fs::read(png).unwrap();
    let jpeg = include_bytes!("data/seven-colour.jpg");
    let path = dir.path().join("bad");
    for whole in [&png[..], &jpeg[..]] {
        for i in (0..whole.len()).step_by(29) {
            fs::write(&path, &whole[..i]).unwrap();
            let _ = images::read(&path, Framing::Ink, Invert::Auto);
            let mut flipped = whole.to_vec();
            flipped[i] ^= 0x55;
            fs::write(&path, &flipped).unwrap();
            let _ = images::read(&path, Framing::Whole, Invert::Auto);
        }
    }
}

#[test]
fn huge_dimensions_are_refused_before_memory_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("huge.png");
    // A header and the beginning of the data, for 100,000 by 100,000 pixels.
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 100_000, 100_000);
    encoder.set_color(png::ColorType::Rgba);
    let mut writer = encoder.write_header().unwrap();
    writer.write_chunk(png::chunk::IDAT, &[0x78, 0x9c]).unwrap();
    drop(writer);
    fs::write(&path, &bytes).unwrap();
    let error = images::read(&path, Framing::Ink, Invert::Auto).unwrap_err();
    assert!(
        matches!(
            error,
            ImageError::TooLarge {
                width: 100_000,
                height: 100_000,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn a_blank_page_shows_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for level in [0, 128, 255] {
        let path = write(dir.path(), "blank.png", &gray(50, 30, |_, _| level));
        for invert in [Invert::Auto, Invert::Yes, Invert::No] {
            let error = images::read(&path, Framing::Ink, invert).unwrap_err();
            assert!(matches!(error, ImageError::NoInk { .. }), "{error:?}");
        }
    }
}

#[test]
fn tiny_pictures_are_no_problem() {
    let dir = tempfile::tempdir().unwrap();
    for (w, h) in [(1, 1), (1, 40), (40, 1), (2, 3)] {
        let path = write(
            dir.path(),
            "t.png",
            &gray(w, h, |x, y| if x == 0 && y == 0 { 250 } else { 0 }),
        );
        let _ = images::read(&path, Framing::Ink, Invert::No);
        let whole = images::read(&path, Framing::Whole, Invert::No).unwrap();
        assert_eq!(whole.pixels.len(), 784);
    }
}
