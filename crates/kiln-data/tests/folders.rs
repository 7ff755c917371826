//! Folders of pictures: for classes, and of images with masks.

use std::fs::{self, File};
use std::path::Path;

use kiln_data::folder::{self, FolderError, FolderOptions};
use kiln_data::info::Picture;
use kiln_data::{DataError, Load};

fn gray(path: &Path, [height, width]: [usize; 2], value: impl Fn(usize, usize) -> u8) {
    picture(path, [height, width], 1, |y, x, _| value(y, x));
}

fn picture(
    path: &Path,
    [height, width]: [usize; 2],
    channels: usize,
    value: impl Fn(usize, usize, usize) -> u8,
) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let at = |i: usize| (i / channels / width, i / channels % width, i % channels);
    let pixels = (0..height * width * channels).map(|i| {
        let (y, x, c) = at(i);
        value(y, x, c)
    });
    let picture = Picture {
        width,
        height,
        channels,
        pixels: pixels.collect(),
    };
    picture.write_png(path).unwrap();
}

/// A PNG of another kind than [`Picture`] writes.
fn png(path: &Path, width: u32, color: png::ColorType, depth: png::BitDepth, data: &[u8]) {
    let mut encoder = png::Encoder::new(File::create(path).unwrap(), width, 1);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if color == png::ColorType::Indexed {
        encoder.set_palette((0..=255).flat_map(|i| [i, 255 - i, 7]).collect::<Vec<u8>>());
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(data).unwrap();
    writer.finish().unwrap();
}

#[test]
fn folders_are_classes_in_sorted_order() {
    let dir = tempfile::tempdir().unwrap();
    for (class, value) in [("dog", 10), ("cat", 20)] {
        for i in [10, 2, 1] {
            let path = dir.path().join(format!("{class}/{i}.png"));
            gray(&path, [3, 4], |_, _| value + i as u8);
        }
    }
    fs::write(dir.path().join("cat/notes.txt"), "not a picture").unwrap();
    fs::write(dir.path().join("cat/.hidden.png"), "not a picture either").unwrap();
    let data = folder::read_classes(dir.path(), "pets", &FolderOptions::default()).unwrap();
    assert_eq!(data.classes(), ["cat", "dog"]);
    assert_eq!(data.labels(), [0, 0, 0, 1, 1, 1]);
    assert_eq!(data.shape(), [1, 3, 4]);
    let first = |i: usize| data.image(i)[0];
    assert_eq!([0, 1, 2, 3].map(first), [21, 22, 30, 11]);
}

#[test]
fn one_colour_picture_makes_all_of_them_rgb() {
    let dir = tempfile::tempdir().unwrap();
    gray(&dir.path().join("a/1.png"), [1, 2], |_, x| x as u8);
    picture(&dir.path().join("b/1.png"), [1, 2], 3, |_, x, c| {
        (10 * c + x) as u8
    });
    let data = folder::read_classes(dir.path(), "t", &FolderOptions::default()).unwrap();
    assert_eq!(data.shape(), [3, 1, 2]);
    assert_eq!(data.image(0), [0, 1, 0, 1, 0, 1]);
    assert_eq!(data.image(1), [0, 1, 10, 11, 20, 21]);
}

#[test]
fn pictures_of_several_sizes_need_a_size_and_keep_their_aspect() {
    let dir = tempfile::tempdir().unwrap();
    // Left half dark, right half light; the middle third is cut out.
    gray(&dir.path().join("a/1.png"), [8, 24], |_, x| {
        if x < 12 { 0 } else { 200 }
    });
    gray(&dir.path().join("a/2.png"), [4, 4], |_, _| 50);
    let read = |options: &FolderOptions| folder::read_classes(dir.path(), "t", options);
    let error = read(&FolderOptions::default()).unwrap_err();
    assert!(matches!(error, FolderError::Sizes { .. }));
    assert!(
        error.to_string().contains("8 x 24") && error.to_string().contains("data.size"),
        "{error}"
    );
    let data = read(&FolderOptions {
        size: Some([4, 4]),
        ..Default::default()
    })
    .unwrap();
    assert_eq!(data.image(0)[..4], [0, 0, 200, 200]);
    assert_eq!(data.image(1), [50; 16]);
}

#[test]
fn train_and_test_folders_are_taken_as_they_are_and_others_are_split_by_seed() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..10 {
        gray(&dir.path().join(format!("all/a/{i}.png")), [2, 2], |_, _| i);
        gray(
            &dir.path().join(format!("all/b/{i}.png")),
            [2, 2],
            |_, _| 100 + i,
        );
        gray(
            &dir.path().join(format!("both/train/a/{i}.png")),
            [2, 2],
            |_, _| i,
        );
        gray(
            &dir.path().join(format!("both/train/b/{i}.png")),
            [2, 2],
            |_, _| i,
        );
    }
    gray(&dir.path().join("both/test/b/0.png"), [2, 2], |_, _| 7);
    let load = |name: &str| Load::new("image-folder").data_dir(dir.path().join(name));
    let data = load("both").run().unwrap();
    assert_eq!((data.train.len(), data.test.len()), (20, 1));
    assert_eq!(data.test.class_name(data.test.labels()[0]), "b");
    let split = |seed| load("all").test_split(0.2, seed).run().unwrap();
    assert_eq!((split(0).train.len(), split(0).test.len()), (16, 4));
    assert_eq!(split(1).test, split(1).test);
    assert_ne!(split(0).test, split(1).test);
    let error = load("all").test_split(0.01, 0).run().unwrap_err();
    assert!(
        matches!(error, DataError::NothingToSplit { .. }),
        "{error:?}"
    );
    // A class that was not trained on.
    gray(&dir.path().join("both/test/c/0.png"), [2, 2], |_, _| 7);
    let error = load("both").run().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("c is a class that is not among a, b"),
        "{error}"
    );
    assert!(matches!(
        Load::new("image-folder").run(),
        Err(DataError::NeedsFolder { .. })
    ));
}

/// Two images with masks of two values.
fn masks(dir: &Path) {
    for i in [1, 2] {
        picture(&dir.join(format!("image/{i}.png")), [2, 3], 3, |_, _, c| {
            (i * 10 + c) as u8
        });
        gray(&dir.join(format!("label/{i}.png")), [2, 3], |y, _| {
            if y == 0 { 0 } else { 255 }
        });
    }
}

fn read(dir: &Path) -> Result<kiln_data::MaskedImages, FolderError> {
    let (images, masks) = folder::find_masks(dir)?;
    folder::read_masks(&images, &masks, "t", &FolderOptions::default())
}

#[test]
fn masks_are_matched_by_name_and_their_values_are_classes() {
    let dir = tempfile::tempdir().unwrap();
    masks(dir.path());
    let data = read(dir.path()).unwrap();
    assert_eq!((data.len(), data.shape()), (2, [3, 2, 3]));
    assert_eq!(
        (data.classes(), data.values()),
        (&["0".into(), "255".into()][..], &[0, 255][..])
    );
    assert_eq!(data.mask(0), [0, 0, 0, 1, 1, 1]);
    assert_eq!(data.image(1)[..7], [20, 20, 20, 20, 20, 20, 21]);
    // Other usual names, and `NAME_mask`.
    let other = dir.path().join("other");
    gray(&other.join("images/x.png"), [1, 4], |_, x| x as u8);
    gray(&other.join("masks/x_mask.png"), [1, 4], |_, x| x as u8);
    assert_eq!(read(&other).unwrap().mask(0), [0, 1, 2, 3]);
}

#[test]
fn folders_of_masks_that_are_wrong_are_refused_by_name() {
    let check = |spoil: &dyn Fn(&Path), expected: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        masks(dir.path());
        spoil(dir.path());
        let error = read(dir.path()).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{part} not in: {error}");
        }
    };
    check(
        &|dir| fs::remove_file(dir.join("label/2.png")).unwrap(),
        &["2.png has no mask"],
    );
    check(
        &|dir| fs::remove_file(dir.join("image/1.png")).unwrap(),
        &["1.png has no image"],
    );
    check(
        &|dir| fs::remove_dir_all(dir.join("label")).unwrap(),
        &["no folder of masks", "label"],
    );
    check(
        &|dir| fs::remove_dir_all(dir.join("image")).unwrap(),
        &["no folder of images"],
    );
    check(
        &|dir| fs::write(dir.join("image/1.jpg"), b"the content does not matter").unwrap(),
        &["1.jpg", "1.png", "the same name"],
    );
    check(
        &|dir| gray(&dir.join("label/2.png"), [3, 2], |_, _| 0),
        &["2.png has 3 x 2 pixels but its image", "has 2 x 3"],
    );
    check(
        &|dir| {
            for name in ["image", "label"] {
                gray(&dir.join(name).join("2.png"), [4, 4], |_, _| 0);
            }
        },
        &["1.png has 2 x 3 pixels but", "2.png has 4 x 4"],
    );
    check(
        &|dir| picture(&dir.join("label/2.png"), [2, 3], 3, |_, _, c| c as u8),
        &["2.png has a colour at row 0, column 0"],
    );
    check(
        &|dir| {
            for i in [1, 2] {
                gray(&dir.join(format!("label/{i}.png")), [2, 3], |_, _| 255);
            }
        },
        &["nothing but 255"],
    );
    check(
        &|dir| {
            for name in ["image", "label"] {
                gray(&dir.join(name).join("2.png"), [2, 3], |y, x| {
                    (37 * (3 * y + x)) as u8
                });
            }
            for name in ["image", "label"] {
                gray(&dir.join(name).join("1.png"), [2, 3], |y, x| {
                    (41 * (3 * y + x)) as u8
                });
            }
        },
        &["hold 11 values (0, 37, 41", "scaled or blurred"],
    );
    check(
        &|dir| fs::write(dir.join("label/2.png"), b"GIF89a").unwrap(),
        &["2.png is neither"],
    );
    check(
        &|dir| {
            fs::remove_dir_all(dir.join("image")).unwrap();
            fs::create_dir(dir.join("image")).unwrap();
            fs::write(dir.join("image/1.tif"), b"II").unwrap();
        },
        &["holds no PNG or JPEG (but 1.tif"],
    );
}

#[test]
fn masks_of_every_png_kind_are_read_as_indices() {
    use png::{BitDepth as Depth, ColorType as Color};
    let dir = tempfile::tempdir().unwrap();
    gray(&dir.path().join("image/1.png"), [1, 5], |_, x| x as u8);
    fs::create_dir(dir.path().join("label")).unwrap();
    let mask = dir.path().join("label/1.png");
    let values = || kiln_data::images::Mask::read(&mask).unwrap().values;
    png(&mask, 5, Color::Grayscale, Depth::One, &[0b0110_1000]);
    assert_eq!(values(), [0, 255, 255, 0, 255]);
    png(
        &mask,
        5,
        Color::Grayscale,
        Depth::Two,
        &[0b0001_1011, 0b0100_0000],
    );
    assert_eq!(values(), [0, 1, 2, 3, 1]);
    png(&mask, 5, Color::Indexed, Depth::Four, &[0x01, 0x2f, 0x30]);
    assert_eq!(values(), [0, 1, 2, 15, 3]);
    png(&mask, 5, Color::Indexed, Depth::Eight, &[0, 21, 2, 200, 3]);
    assert_eq!(values(), [0, 21, 2, 200, 3]);
    png(
        &mask,
        5,
        Color::Grayscale,
        Depth::Sixteen,
        &[0, 1, 0, 2, 0, 3, 0, 255, 0, 0],
    );
    assert_eq!(values(), [1, 2, 3, 255, 0]);
    png(
        &mask,
        5,
        Color::Grayscale,
        Depth::Sixteen,
        &[0, 1, 1, 44, 0, 3, 0, 255, 0, 0],
    );
    let error = read(dir.path()).unwrap_err().to_string();
    assert!(error.contains("holds the value 300"), "{error}");
    png(
        &mask,
        2,
        Color::GrayscaleAlpha,
        Depth::Eight,
        &[5, 255, 6, 0],
    );
    assert_eq!(values(), [5, 6]);
}

#[test]
fn the_test_masks_have_the_training_masks_classes() {
    let dir = tempfile::tempdir().unwrap();
    for (split, high) in [("train", 255), ("test", 255)] {
        for i in [1, 2] {
            gray(
                &dir.path().join(format!("{split}/images/{i}.png")),
                [2, 2],
                |_, _| i,
            );
            // The test masks hold one value only.
            let low = if split == "train" { 0 } else { 255 };
            gray(
                &dir.path().join(format!("{split}/masks/{i}.png")),
                [2, 2],
                move |y, _| {
                    if y == 0 { low } else { high }
                },
            );
        }
    }
    let load = || Load::new("auto").data_dir(dir.path()).run_masks();
    let data = load().unwrap();
    assert_eq!(data.test.values(), [0, 255]);
    assert_eq!(data.test.mask(0), [1, 1, 1, 1]);
    gray(&dir.path().join("test/masks/2.png"), [2, 2], |_, _| 9);
    let error = load().unwrap_err().to_string();
    assert!(
        error.contains("holds 9, which is none of the classes' values [0, 255]"),
        "{error}"
    );
}

#[test]
fn data_of_the_other_task_are_refused_with_advice() {
    let error = Load::new("shapes").run().unwrap_err().to_string();
    assert!(error.contains("--task segmentation"), "{error}");
    let error = Load::new("digits").run_masks().unwrap_err().to_string();
    assert!(error.contains("digits has labels"), "{error}");
}
