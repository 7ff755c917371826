//! One way from a picture's file to an image, and which part of a folder is judged on.

use std::fs;
use std::path::{Path, PathBuf};

use kiln_data::folder::{self, FolderOptions};
use kiln_data::images::{self, Framing, ImageError, Invert, Preprocess, Raster, Resize};
use kiln_data::info::Picture;
use kiln_data::{DataError, Digits, Load, Origin, Split};

fn write(
    path: PathBuf,
    [height, width]: [usize; 2],
    channels: usize,
    value: impl Fn(usize) -> u8,
) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let pixels = (0..height * width * channels).map(value).collect();
    let picture = Picture {
        width,
        height,
        channels,
        pixels,
    };
    picture.write_png(&path).unwrap();
    path
}

fn with(channels: usize, size: [usize; 2], resize: Resize) -> Preprocess {
    Preprocess {
        channels: Some(channels),
        size: Some(size),
        resize,
        ..Preprocess::default()
    }
}

#[test]
fn a_picture_of_a_folder_is_read_in_one_way_whoever_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path().join("a/1.png"), [31, 20], 3, |i| {
        (i * 37 % 251) as u8
    });
    for (channels, size, resize) in [
        (1, [28, 28], Resize::Cover),
        (3, [16, 9], Resize::Cover),
        (3, [31, 20], Resize::Cover),
        (3, [40, 7], Resize::Stretch),
        (1, [28, 28], Resize::Ink),
        (1, [28, 28], Resize::Whole),
    ] {
        let options = FolderOptions {
            size: Some(size),
            channels: Some(channels),
            resize,
            ..FolderOptions::default()
        };
        let data = folder::read_classes(dir.path(), "t", &options).unwrap();
        let (image, _) = with(channels, size, resize)
            .read(&file, Invert::Auto)
            .unwrap();
        assert_eq!(
            (data.image(0), data.shape()),
            (&image.pixels[..], image.shape),
            "{resize:?}"
        );
    }
    // Without a size a picture stays as it is.
    let (image, _) = Preprocess::default().read(&file, Invert::Auto).unwrap();
    assert_eq!(image, Raster::read(&file, None).unwrap());
}

#[test]
fn a_picture_of_the_images_size_is_taken_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    // Lighter along the border than inside: what would be paper, were it a drawing.
    let light_border = |i: usize| {
        if (4..24).contains(&(i / 28)) && (4..24).contains(&(i % 28)) {
            (i % 90) as u8
        } else {
            200
        }
    };
    let texture = write(dir.path().join("texture.png"), [28, 28], 1, light_border);
    let expected: Vec<u8> = (0..784).map(light_border).collect();
    for resize in [Resize::Cover, Resize::Stretch, Resize::Whole] {
        let (image, inverted) = with(1, [28, 28], resize)
            .read(&texture, Invert::Auto)
            .unwrap();
        assert_eq!(
            (image.pixels, inverted),
            (expected.clone(), false),
            "{resize:?}"
        );
    }
    // A digit in a corner is no worse for a run on digits; on light paper it is in another form.
    let (mut digit, _) = Digits::new(0).image(Split::Test, 3);
    digit.rotate_left(28 * 6 + 5);
    let file = write(dir.path().join("digit.png"), [28, 28], 1, |i| digit[i]);
    let ink = with(1, [28, 28], Resize::Ink);
    assert_eq!(ink.read(&file, Invert::Auto).unwrap().0.pixels, digit);
    let framed = images::read(&file, Framing::Ink, Invert::Auto).unwrap();
    assert_ne!(framed.pixels, digit);
    let paper = write(dir.path().join("paper.png"), [28, 28], 1, |i| {
        255 - digit[i]
    });
    let (image, inverted) = ink.read(&paper, Invert::Auto).unwrap();
    assert_eq!((image.pixels, inverted), (framed.pixels, true));
    let blank = write(dir.path().join("blank.png"), [28, 28], 1, |_| 7);
    assert!(matches!(
        ink.read(&blank, Invert::Auto),
        Err(ImageError::NoInk { .. })
    ));
}

#[test]
fn inversion_on_request_is_of_every_picture() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path().join("ramp.png"), [28, 28], 1, |i| (i / 4) as u8);
    for resize in [Resize::Cover, Resize::Stretch, Resize::Whole] {
        let (image, inverted) = with(1, [28, 28], resize).read(&file, Invert::Yes).unwrap();
        assert_eq!(
            (image.pixels[0], image.pixels[783], inverted),
            (255, 60, true),
            "{resize:?}"
        );
        assert!(!with(1, [28, 28], resize).read(&file, Invert::No).unwrap().1);
    }
}

fn class_folders(dir: &Path, count: usize) {
    for (class, value) in [("a", 10), ("b", 200)] {
        for i in 0..count {
            write(dir.join(format!("{class}/{i}.png")), [4, 4], 1, |_| value);
        }
    }
}

#[test]
fn only_the_test_part_of_a_folder_is_judged_on_and_all_of_one_without() {
    let dir = tempfile::tempdir().unwrap();
    let load =
        |dir: &Path, known: &[String]| Load::new("image-folder").data_dir(dir).run_test(known);
    let whole = dir.path().join("whole");
    class_folders(&whole, 5);
    let test = load(&whole, &[]).unwrap();
    assert_eq!((test.images.len(), test.images.classes().len()), (10, 2));
    assert_eq!(test.origin, Origin::Folder(whole.clone()));
    assert!(
        test.note
            .unwrap()
            .contains("all of its 10 images are evaluated")
    );
    class_folders(&whole.join("train"), 1);
    // A class may be called so.
    let known = ["a", "b", "train"].map(String::from);
    assert!(!matches!(
        load(&whole, &known),
        Err(DataError::NoTest { .. })
    ));
    let error = load(&whole, &[]).unwrap_err();
    assert!(matches!(error, DataError::NoTest { .. }), "{error}");
    for (folder, count) in [("validation", 1), ("valid", 2), ("val", 3), ("test", 4)] {
        class_folders(&whole.join(folder), count);
        let test = load(&whole, &[]).unwrap();
        assert_eq!(
            (test.images.len(), test.note),
            (2 * count, None),
            "{folder}"
        );
    }
}

#[test]
fn data_that_are_drawn_read_no_folder() {
    for (load, other) in [
        (
            Load::new("digits").data_dir("x").run_test(&[]).map(drop),
            "image-folder",
        ),
        (
            Load::new("shapes").data_dir("x").run_test_masks().map(drop),
            "mask-folder",
        ),
    ] {
        let error = load.unwrap_err().to_string();
        assert!(error.contains(&format!("give --data {other}")), "{error}");
    }
    let shapes = Load::new("shapes")
        .shapes_len(0, 3)
        .run_test_masks()
        .unwrap();
    assert_eq!(shapes.images.len(), 3);
    assert!(Load::new("digits").run_test_masks().is_err());
    assert!(Load::new("shapes").run_test(&[]).is_err());
}
