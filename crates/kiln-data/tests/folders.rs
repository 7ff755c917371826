//! Folders of pictures: for classes, and of images with masks.

use std::fs::{self, File};
use std::path::Path;

use kiln_data::folder::{self, FolderError, FolderOptions, Rules};
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

/// The options of data read under some rules.
fn under(rules: Rules) -> FolderOptions {
    FolderOptions {
        rules,
        ..FolderOptions::default()
    }
}

fn ignoring_255() -> FolderOptions {
    FolderOptions {
        ignore_value: Some(255),
        ..FolderOptions::default()
    }
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
    // 1.png, 10.png, 2.png.
    let first = |i: usize| data.image(i)[0];
    assert_eq!([0, 1, 2, 3].map(first), [21, 30, 22, 11]);
}

#[test]
fn classes_and_files_are_in_torchvisions_order_and_old_runs_keep_theirs() {
    let dir = tempfile::tempdir().unwrap();
    for (value, class) in (0..12).map(|c| (c, c.to_string())).chain([
        (12, "B".into()),
        (13, "a".into()),
        (14, "\u{e9}".into()),
    ]) {
        gray(
            &dir.path().join(format!("{class}/x.png")),
            [1, 1],
            |_, _| value,
        );
    }
    let read = |rules| folder::read_classes(dir.path(), "t", &under(rules)).unwrap();
    // sorted(os.listdir(...))
    let new = read(Rules::V2);
    assert_eq!(
        new.classes(),
        [
            "0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9", "B", "a", "\u{e9}"
        ]
    );
    assert_eq!(
        new.images(),
        [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14]
    );
    let old = read(Rules::V1);
    assert_eq!(old.images(), (0..15).collect::<Vec<u8>>());
}

#[test]
fn nested_pictures_belong_to_their_class_and_what_is_passed_over_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, value: u8| gray(&dir.path().join(name), [1, 1], move |_, _| value);
    put("a/2.png", 2);
    put("a/b/1.png", 3);
    put("a/b/c/1.png", 4);
    // The folders are sorted by their whole names: "a/b b" comes before "a/b/c".
    put("a/b b/1.png", 5);
    put("a/1.PNG", 1);
    put("z/1.png", 6);
    put("z/.hidden/1.png", 7);
    put("z/._1.png", 8);
    put("__MACOSX/a/1.png", 9);
    put("outside.png", 10);
    for name in ["a/notes.txt", "a/b/more.TXT", "z/README", ".DS_Store"] {
        fs::write(dir.path().join(name), "no picture").unwrap();
    }
    let load = |rules| {
        let load = Load::new("image-folder")
            .data_dir(dir.path())
            .folder(under(rules));
        load.test_split(0.2, 0).run().unwrap()
    };
    let data = folder::read_classes(dir.path(), "t", &FolderOptions::default()).unwrap();
    assert_eq!(data.classes(), ["a", "z"]);
    assert_eq!(data.images(), [1, 2, 3, 5, 4, 6]);
    assert_eq!(data.labels(), [0, 0, 0, 0, 0, 1]);
    let note = load(Rules::V2).note.unwrap();
    assert_eq!(
        note,
        "passed over: 3 files of a kind that is not read (1 without an ending, 2 .txt); 2 hidden files; 1 picture in no folder of a class; the folders .hidden, __MACOSX"
    );
}

#[cfg(unix)]
#[test]
fn links_to_folders_are_followed_and_those_that_lead_back_are_not() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    gray(&elsewhere.path().join("1.png"), [1, 1], |_, _| 9);
    gray(&dir.path().join("a/1.png"), [1, 1], |_, _| 1);
    gray(&dir.path().join("b/1.png"), [1, 1], |_, _| 2);
    symlink(elsewhere.path(), dir.path().join("a/linked")).unwrap();
    symlink(elsewhere.path(), dir.path().join("b/once")).unwrap();
    symlink(elsewhere.path(), dir.path().join("b/twice")).unwrap();
    symlink(dir.path().join("b"), dir.path().join("b/itself")).unwrap();
    symlink(dir.path(), elsewhere.path().join("all")).unwrap();
    let data = Load::new("image-folder").data_dir(dir.path()).run();
    // `all` leads to the folder of the classes, and from there into each class again.
    let data = data.unwrap();
    assert!(data.note.unwrap().contains("back to a folder around"));
    let read = |class: &str| {
        fs::remove_file(elsewhere.path().join("all")).ok();
        let data = folder::read_classes(dir.path(), "t", &FolderOptions::default()).unwrap();
        let label = data
            .classes()
            .iter()
            .position(|name| name == class)
            .unwrap();
        let of_class = (0..data.len()).filter(|&i| usize::from(data.labels()[i]) == label);
        of_class.map(|i| data.image(i)[0]).collect::<Vec<u8>>()
    };
    assert_eq!(read("a"), [1, 9]);
    assert_eq!(read("b"), [2, 9, 9]);
}

#[test]
fn a_folder_to_validate_on_beside_train_and_test_is_used() {
    for name in ["val", "valid", "validation"] {
        let dir = tempfile::tempdir().unwrap();
        for (split, count) in [("train", 4), ("test", 2), (name, 3)] {
            for i in 0..count {
                gray(
                    &dir.path().join(format!("{split}/a/{i}.png")),
                    [1, 1],
                    |_, _| i,
                );
            }
        }
        let load = |rules| {
            let load = Load::new("image-folder")
                .data_dir(dir.path())
                .folder(under(rules));
            load.run().unwrap()
        };
        let data = load(Rules::V2);
        let lens = (
            data.train.len(),
            data.valid.as_ref().unwrap().len(),
            data.test.len(),
        );
        assert_eq!((lens, &data.note), ((4, 3, 2), &None));
        assert!(load(Rules::V1).valid.is_none());
        // Without a folder to test on, it tests, as in ImageNet's layout.
        fs::remove_dir_all(dir.path().join("test")).unwrap();
        let data = load(Rules::V2);
        assert_eq!((data.valid, data.test.len()), (None, 3));
        gray(&dir.path().join("extra/a/1.png"), [1, 1], |_, _| 0);
        assert!(load(Rules::V2).note.unwrap().ends_with("the folder extra"));
    }
}

#[test]
fn pictures_of_every_kind_are_classes_pictures() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures");
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a")).unwrap();
    for name in ["rgb.png", "rgb.bmp", "rgb-lzw.tif", "lossless.webp"] {
        fs::copy(golden.join(name), dir.path().join("a").join(name)).unwrap();
    }
    let options = FolderOptions::default();
    let data = folder::read_classes(dir.path(), "t", &options).unwrap();
    assert_eq!((data.len(), data.shape()), (4, [3, 5, 9]));
    assert!((1..4).all(|i| data.image(i) == data.image(0)));
    // Runs from before they were read go on without them.
    let options = FolderOptions {
        rules: Rules::V1,
        ..options
    };
    assert_eq!(
        folder::read_classes(dir.path(), "t", &options)
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_run_from_before_goes_on_with_the_pixels_it_was_started_with() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures");
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a")).unwrap();
    let read = |rules| folder::read_classes(dir.path(), "t", &under(rules));
    let path = dir.path().join("a/1.jpg");
    let whole = fs::read(golden.join("colour-444.jpg")).unwrap();
    fs::write(&path, &whole[..whole.len() - 40]).unwrap();
    assert_eq!(read(Rules::V1).unwrap().len(), 1);
    let error = read(Rules::V2).unwrap_err().to_string();
    assert!(error.contains("1.jpg is damaged: it is cut off"), "{error}");
    fs::remove_file(&path).unwrap();
    fs::copy(golden.join("gray-16-large.png"), dir.path().join("a/1.png")).unwrap();
    assert_eq!(read(Rules::V1).unwrap().shape(), [1, 5, 9]);
    assert!(read(Rules::V2).unwrap_err().to_string().contains("16 bits"));
}

#[test]
fn more_classes_than_a_byte_counts_are_read() {
    let dir = tempfile::tempdir().unwrap();
    for class in 0..300 {
        gray(
            &dir.path().join(format!("{class:03}/1.png")),
            [1, 1],
            |_, _| (class % 256) as u8,
        );
    }
    let data = folder::read_classes(dir.path(), "t", &FolderOptions::default()).unwrap();
    assert_eq!(data.labels(), (0..300).collect::<Vec<u16>>());
    assert_eq!(data.class_name(data.labels()[299]), "299");
}

#[test]
fn channels_can_be_asked_for_whatever_the_files_are() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..5 {
        gray(&dir.path().join(format!("a/{i}.png")), [1, 2], |_, x| {
            7 + x as u8
        });
        gray(
            &dir.path().join(format!("images/{i}.png")),
            [1, 2],
            |_, x| x as u8,
        );
        gray(
            &dir.path().join(format!("masks/{i}.png")),
            [1, 2],
            |_, x| x as u8,
        );
    }
    let options = FolderOptions {
        channels: Some(3),
        ..Default::default()
    };
    let data = folder::read_classes(dir.path(), "t", &options).unwrap();
    assert_eq!(data.image(0), [7, 8, 7, 8, 7, 8]);
    let load = |name: &str| Load::new(name).data_dir(dir.path()).folder(options.clone());
    let masks = load("mask-folder").run_masks().unwrap();
    assert_eq!(masks.train.shape(), [3, 1, 2]);
    let digits = Load::new("digits")
        .digits_len(10, 10)
        .folder(options.clone())
        .run()
        .unwrap();
    assert_eq!(
        (digits.train.shape(), digits.test.shape()),
        ([3, 28, 28], [3, 28, 28])
    );
    let gray = FolderOptions {
        channels: Some(1),
        ..Default::default()
    };
    let shapes = Load::new("shapes")
        .shapes_len(2, 2)
        .folder(gray)
        .run_masks()
        .unwrap();
    assert_eq!(shapes.train.shape()[0], 1);
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
        &|dir| fs::write(dir.join("label/2.png"), b"%PDF-1.7").unwrap(),
        &["2.png is neither PNG, JPEG"],
    );
    check(
        &|dir| {
            fs::remove_dir_all(dir.join("image")).unwrap();
            fs::create_dir(dir.join("image")).unwrap();
            fs::write(dir.join("image/1.nii"), b"II").unwrap();
        },
        &[
            "holds no picture (but .nii files)",
            "PNG, JPEG, WebP, GIF, TIFF and BMP are read",
        ],
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

/// Reads one mask of these values, each `run` times in a row.
fn values(
    values: &[u8],
    run: usize,
    options: &FolderOptions,
) -> Result<kiln_data::MaskedImages, FolderError> {
    let dir = tempfile::tempdir().unwrap();
    let size = [3, values.len() * run];
    gray(&dir.path().join("image/1.png"), size, |_, x| x as u8);
    gray(&dir.path().join("label/1.png"), size, |_, x| {
        values[x / run]
    });
    let (images, masks) = folder::find_masks(dir.path()).unwrap();
    folder::read_masks(&images, &masks, "t", options)
}

#[test]
fn values_are_classes_if_they_can_be_and_photographs_are_not() {
    let plain = FolderOptions::default();
    let count = |all: &[u8], run| values(all, run, &plain).map(|data| data.num_classes());
    let numbers = |n: u8| (0..n).collect::<Vec<u8>>();
    let with_255 = |n: u8| [numbers(n), vec![255]].concat();
    for (all, run) in [
        (vec![0, 255], 1),
        (vec![0, 1], 1),
        (vec![0, 128, 255], 1),
        (with_255(21), 1),                                // PASCAL VOC
        (with_255(19), 1),                                // Cityscapes
        (vec![0, 2, 3, 7, 8, 9, 12, 15, 17, 20, 255], 1), // some of VOC's
        (numbers(34), 8),
        (numbers(151), 8),  // ADE20K
        (with_255(182), 8), // COCO-Stuff
    ] {
        assert_eq!(count(&all, run).unwrap(), all.len(), "{all:?}");
    }
    let all: Vec<u8> = (0..=255).collect();
    let scaled: Vec<u8> = (0..=16).map(|i| (i * 255 / 16) as u8).collect();
    let compressed = [numbers(9), (240..=255).collect()].concat();
    for (gray, run) in [
        (all.clone(), 1),
        // A mask that was scaled smoothly is flat.
        (all, 8),
        (numbers(200), 1),
        (scaled, 8),
        (compressed, 8),
        ((0..120).map(|i| i * 2).collect(), 1),
    ] {
        let error = count(&gray, run).unwrap_err().to_string();
        assert!(
            error.contains(&format!("hold {} values (", gray.len())) && error.contains("no masks"),
            "{error}"
        );
    }
}

#[test]
fn a_value_to_ignore_is_no_class_in_any_split() {
    let options = ignoring_255();
    let data = values(&[0, 7, 255, 20], 1, &options).unwrap();
    assert_eq!(
        (data.values(), data.ignore_value()),
        (&[0, 7, 20][..], Some(255))
    );
    assert_eq!(
        data.mask(0)[..4],
        [0, 1, kiln_data::MaskedImages::IGNORED, 2]
    );
    let error = values(&[5, 255], 1, &options).unwrap_err().to_string();
    assert!(error.contains("nothing but 5"), "{error}");
    // Where it is 255 and was not asked for, a note says what to do.
    let dir = tempfile::tempdir().unwrap();
    for (split, i) in [("train", 1), ("train", 2), ("test", 3)] {
        gray(
            &dir.path().join(format!("{split}/images/{i}.png")),
            [1, 4],
            |_, _| 1,
        );
        gray(
            &dir.path().join(format!("{split}/masks/{i}.png")),
            [1, 4],
            |_, x| [0, 1, 2, 255][x],
        );
    }
    let load = Load::new("mask-folder").data_dir(dir.path());
    let data = load.clone().run_masks().unwrap();
    assert_eq!(data.train.num_classes(), 4);
    assert!(data.note.unwrap().contains("data.ignore_value = 255"));
    let data = load.folder(options).run_masks().unwrap();
    assert_eq!((data.test.num_classes(), data.test.mask(0)[3]), (3, 255));
    assert_eq!(data.note, None);
}

#[test]
fn a_mask_with_the_palette_of_pascal_voc_is_read_as_its_indices() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures");
    let dir = tempfile::tempdir().unwrap();
    for name in ["JPEGImages", "images", "masks"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    gray(&dir.path().join("images/1.png"), [5, 9], |_, _| 1);
    fs::copy(golden.join("voc-mask.png"), dir.path().join("masks/1.png")).unwrap();
    let (images, masks) = folder::find_masks(dir.path()).unwrap();
    let options = ignoring_255();
    let data = folder::read_masks(&images, &masks, "voc", &options).unwrap();
    assert_eq!(data.classes(), ["0", "1", "7", "15", "20"]);
    // The other formats that people keep masks in.
    fs::copy(golden.join("mask.gif"), dir.path().join("masks/1_mask.gif")).unwrap();
    fs::remove_file(dir.path().join("masks/1.png")).unwrap();
    let data = folder::read_masks(&images, &masks, "carvana", &FolderOptions::default()).unwrap();
    assert_eq!(data.num_classes(), 2);
}

#[test]
fn values_that_scaling_left_along_the_edges_of_masks_are_counted_in_a_note_and_real_classes_are_not()
 {
    // The note on masks of 32x32 whose values are a function of the distance from the middle.
    let note = |value: &dyn Fn(usize) -> u8| {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..4 {
            gray(
                &dir.path().join(format!("images/{i}.png")),
                [32, 32],
                |_, _| i,
            );
            gray(
                &dir.path().join(format!("masks/{i}.png")),
                [32, 32],
                |y, x| value(y.abs_diff(16).max(x.abs_diff(16 + usize::from(i)))),
            );
        }
        let data = Load::new("auto").data_dir(dir.path()).run_masks();
        data.unwrap().note.unwrap_or_default()
    };
    // A mask of 0 and 255 that was scaled: values between stand in the one or two pixels of its edge.
    let scaled = note(&|distance| match distance {
        0..=8 => 255,
        9 => 128,
        10 => 127,
        _ => 0,
    });
    assert!(
        scaled.contains("4 values (pixels of each: 0: ")
            && scaled.contains("and 127, 128 almost only along edges"),
        "{scaled}"
    );
    assert!(
        scaled.contains("scale the masks by the nearest neighbour"),
        "{scaled}"
    );
    let blurred = note(&|distance| {
        [255, 255, 255, 255, 191, 128, 64]
            .get(distance)
            .copied()
            .unwrap_or(0)
    });
    assert!(blurred.contains("64, 128, 191 almost only"), "{blurred}");
    // Classes with an inside of their own, and indices, are nobody's leftovers.
    for value in [
        &|distance: usize| [0, 85, 170, 255][distance / 5 % 4],
        &|distance: usize| usize::from(distance < 9) * 255,
        &|distance: usize| [2, 2, 2, 2, 1][distance.min(4)] * usize::from(distance < 5),
    ] as [&dyn Fn(usize) -> usize; 3]
    {
        assert_eq!(note(&|distance| value(distance) as u8), "");
    }
}

#[test]
fn pictures_that_take_more_memory_than_allowed_are_refused_when_the_first_is_read() {
    let dir = tempfile::tempdir().unwrap();
    for class in ["a", "b"] {
        for i in 0..10 {
            let file = dir.path().join(format!("classes/{class}/{i}.png"));
            gray(&file, [10, 10], |_, _| i);
        }
    }
    let classes = dir.path().join("classes");
    let read = |memory: u64, size: Option<[usize; 2]>| {
        let options = FolderOptions {
            memory: Some(memory),
            size,
            ..FolderOptions::default()
        };
        folder::read_classes(&classes, "t", &options)
    };
    assert_eq!(read(2000, None).unwrap().len(), 20);
    assert!(matches!(
        read(1999, None),
        Err(FolderError::Memory {
            images: 20,
            bytes: 2000
        })
    ));
    // It is the images that are kept, not the files, which count.
    assert_eq!(read(20 * 9, Some([3, 3])).unwrap().len(), 20);
    // One that cannot be read is not reached.
    fs::write(classes.join("b/5.png"), "no picture").unwrap();
    assert!(matches!(read(1999, None), Err(FolderError::Memory { .. })));
    assert!(matches!(read(2000, None), Err(FolderError::Image(_))));
    // Pictures that are larger than the first one are noticed on the way.
    for i in 0..10 {
        picture(
            &classes.join(format!("b/{i}.png")),
            [10, 10],
            3,
            |_, _, c| c as u8,
        );
    }
    let error = read(2500, None).unwrap_err().to_string();
    assert!(error.contains("20 images need"), "{error}");

    masks(dir.path());
    let (images, of_images) = folder::find_masks(dir.path()).unwrap();
    let read = |memory| {
        let options = FolderOptions {
            memory: Some(memory),
            ..FolderOptions::default()
        };
        folder::read_masks(&images, &of_images, "t", &options)
    };
    // Two images of 2x3 pixels with three channels, and their masks twice.
    assert!(read(60).is_ok());
    assert!(matches!(
        read(59),
        Err(FolderError::Memory {
            images: 2,
            bytes: 60
        })
    ));
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
    // What a model is evaluated on is not for a recipe to change.
    let error = Load::new("shapes").run_test(&[]).unwrap_err().to_string();
    let other = Load::new("digits")
        .run_test_masks()
        .unwrap_err()
        .to_string();
    for error in [error, other] {
        assert!(
            error.contains("the model is for the other task") && !error.contains("--task"),
            "{error}"
        );
    }
}
