//! `kiln predict` sees a picture as training and evaluation did.

mod common;
#[path = "common/textures.rs"]
mod textures;

use std::path::{Path, PathBuf};

use common::{Sandbox, fails, succeeds, words};
use kiln::data::images::Mask;
use kiln::data::info::Picture;
use kiln::data::{Digits, LabeledImages, Load, Split, idx};
use serde_json::Value;
use textures::Look;

const ABC: &[(&str, usize)] = &[("a", 0), ("b", 1), ("c", 2)];

/// Small networks and short trainings: what counts is that two commands agree on them.
const SMALL: &str = "train --run-dir run --device flex --model mlp --set model.hidden=[16] --epochs 6 --batch-size 16 \
                     --lr 0.01 --progress none";
const MASKS: &str = "train --run-dir run --device flex --task segmentation --data-dir cells --set model.channels=[4] \
                     --progress none";

impl Sandbox {
    fn train_small(&self, args: &[&str]) {
        succeeds(&self.run(&[&words(SMALL)[..], args].concat()));
    }

    fn train_masks(&self, args: &[&str]) {
        succeeds(&self.run(&[&words(MASKS)[..], args].concat()));
    }

    /// The most probable class of each picture.
    fn predict(&self, files: &[PathBuf], more: &[&str]) -> Vec<String> {
        let mut command =
            self.command(&["predict", "run", "--device", "flex", "--top", "1", "--json"]);
        let output = command.args(more).args(files).output().unwrap();
        let seen = succeeds(&output);
        let lines = seen["predictions"].as_array().unwrap();
        lines
            .iter()
            .map(|line| line["top"][0]["class"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Checks that predictions of the pictures, counted by their true and predicted classes, are the confusion matrix
    /// that an evaluation finds.
    fn agree(&self, pictures: &[(PathBuf, String)], eval: &[&str]) {
        let seen =
            succeeds(&self.run(&[&["eval", "run", "--device", "flex", "--json"], eval].concat()));
        let classes = seen["classes"].as_array().unwrap().iter();
        let classes: Vec<&str> = classes
            .map(|class| class["name"].as_str().unwrap())
            .collect();
        let at = |name: &str| classes.iter().position(|class| *class == name).unwrap();
        let files: Vec<PathBuf> = pictures.iter().map(|(file, _)| file.clone()).collect();
        let mut counted = vec![vec![0u64; classes.len()]; classes.len()];
        for (answer, (_, truth)) in self.predict(&files, &[]).iter().zip(pictures) {
            counted[at(truth)][at(answer)] += 1;
        }
        assert_eq!(seen["confusion"], serde_json::json!(counted));
        // A model that gives every picture one class would agree with itself in any case.
        let answers = (0..classes.len()).filter(|&class| counted.iter().any(|row| row[class] > 0));
        assert!(answers.count() > 1, "{counted:?}");
    }

    /// Makes the run one of a Kiln that did not record how pictures are prepared.
    fn forget_preprocess(&self) -> Value {
        let file = self.path("run/run.json");
        let mut info: Value =
            serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let forgotten = info["data"]
            .as_object_mut()
            .unwrap()
            .remove("preprocess")
            .unwrap();
        std::fs::write(&file, info.to_string()).unwrap();
        forgotten
    }
}

#[test]
fn every_test_picture_of_a_folder_is_predicted_as_it_is_evaluated() {
    for (look, more) in [
        (Look::gray(16, 16), &[][..]),
        // What the images of MNIST measure, and yet no digits.
        (Look::gray(28, 28), &[]),
        (Look::rgb(28, 28), &[]),
        (Look::rgb(13, 21), &[]),
        // Scaled and cut out.
        (Look::gray(40, 31), &["--set", "data.size=[28,28]"]),
        (Look::rgb(20, 33), &["--set", "data.size=[16,12]"]),
    ] {
        let sandbox = Sandbox::new();
        look.classes(&sandbox.path("tex/train"), ABC, 0..20);
        let pictures = look.classes(&sandbox.path("tex/test"), ABC, 20..32);
        sandbox.train_small(&[&["--data", "image-folder", "--data-dir", "tex"], more].concat());
        sandbox.agree(&pictures, &[]);
        // Pictures of another size are prepared in one way too.
        let others = Look {
            height: 37,
            width: 29,
            ..look
        }
        .classes(&sandbox.path("other"), ABC, 40..46);
        sandbox.agree(&others, &["--data-dir", "other"]);
        assert_eq!(sandbox.forget_preprocess()["resize"], "cover");
        sandbox.agree(&pictures, &[]);
        sandbox.agree(&others, &["--data-dir", "other"]);
    }
}

/// Writes some images as pictures of their own, with their classes' names.
fn pictures(data: &LabeledImages, dir: &Path) -> Vec<(PathBuf, String)> {
    std::fs::create_dir_all(dir).unwrap();
    let write = |at: usize| {
        let file = dir.join(format!("{at}.png"));
        let [channels, height, width] = data.shape();
        let plane = height * width;
        let planes = data.image(at);
        let pixels = (0..plane * channels).map(|i| planes[i % channels * plane + i / channels]);
        let picture = Picture {
            width,
            height,
            channels,
            pixels: pixels.collect(),
        };
        picture.write_png(&file).unwrap();
        (file, data.classes()[data.labels()[at] as usize].clone())
    };
    (0..data.len()).map(write).collect()
}

#[test]
fn images_of_a_data_set_are_predicted_as_they_are_evaluated() {
    // Kuzushiji reach the border and are no digits; of the digits some are off their centre or small.
    for name in ["kmnist", "mnist", "fashion-mnist"] {
        let sandbox = Sandbox::new();
        let dir = sandbox.path("files");
        for (split, count) in [(Split::Train, 60), (Split::Test, 40)] {
            let image = |number: usize| {
                let mut image = match name {
                    "mnist" => Digits::new(0).image(split, number).0,
                    _ => Look::gray(28, 28).texture(number % 10, number).pixels,
                };
                if number.is_multiple_of(3) {
                    image.rotate_left(28 * 5 + 6);
                }
                image
            };
            let classes = (0..10).map(|class| class.to_string()).collect();
            let labels = (0..count).map(|number| (number % 10).try_into().unwrap());
            let pixels = (0..count).flat_map(image).collect();
            let data = LabeledImages::new(name, classes, [1, 28, 28], pixels, labels.collect());
            idx::write_split(&dir, split, &data.unwrap(), idx::Encoding::Plain).unwrap();
        }
        sandbox.train_small(&["--data", name, "--data-dir", "files"]);
        let data = Load::new(name).data_dir(&dir).run().unwrap();
        let pictures = pictures(&data.test, &sandbox.path("pictures"));
        sandbox.agree(&pictures, &[]);
        let resize = if name == "mnist" { "ink" } else { "whole" };
        assert_eq!(sandbox.forget_preprocess()["resize"], resize);
        sandbox.agree(&pictures, &[]);
    }
}

#[test]
fn digits_on_paper_are_framed_by_a_run_on_digits_and_on_request() {
    let sandbox = Sandbox::new();
    let digits = |split, count| (0..count).map(move |at| Digits::new(0).image(split, at));
    for (split, name, count) in [(Split::Train, "train", 400), (Split::Test, "test", 20)] {
        for (at, (pixels, label)) in digits(split, count).enumerate() {
            let dir = sandbox.path("folder").join(name).join(label.to_string());
            std::fs::create_dir_all(&dir).unwrap();
            let picture = Picture {
                width: 28,
                height: 28,
                channels: 1,
                pixels,
            };
            picture.write_png(&dir.join(format!("{at}.png"))).unwrap();
        }
    }
    // Dark ink on light paper, larger, in a corner.
    let photos: Vec<(PathBuf, String)> = digits(Split::Test, 20)
        .enumerate()
        .map(|(at, (digit, label))| {
            let (width, height) = (150, 120);
            let pixels = (0..width * height).map(|i| {
                let (x, y) = (i % width / 2, i / width / 2);
                let ink = if x < 28 && y < 28 {
                    digit[y * 28 + x]
                } else {
                    0
                };
                230 - (f32::from(ink) * 0.8) as u8
            });
            let file = sandbox.path(&format!("photo-{at}.png"));
            Picture {
                width,
                height,
                channels: 1,
                pixels: pixels.collect(),
            }
            .write_png(&file)
            .unwrap();
            (file, label.to_string())
        })
        .collect();
    let files: Vec<PathBuf> = photos.iter().map(|(file, _)| file.clone()).collect();
    let right = |answers: &[String]| {
        answers
            .iter()
            .zip(&photos)
            .filter(|(answer, (_, truth))| *answer == truth)
            .count()
    };

    sandbox.train_small(&words(
        "--data digits --set data.train_len=3000 --lr 0.003 --epochs 12 --set data.test_len=20",
    ));
    let by_default = sandbox.predict(&files, &[]);
    assert!(right(&by_default) >= 14, "{by_default:?}");
    assert_eq!(sandbox.predict(&files, &["--frame"]), by_default);
    std::fs::rename(sandbox.path("run"), sandbox.path("digits-run")).unwrap();

    // The same pictures in folders: nothing says that they are digits.
    sandbox.train_small(&words("--data image-folder --data-dir folder --epochs 30"));
    let framed = sandbox.predict(&files, &["--frame"]);
    assert!(
        right(&framed) > right(&sandbox.predict(&files, &[])),
        "{framed:?}"
    );
    let output = sandbox.run(&words(
        "predict run photo-0.png --frame --json --device flex",
    ));
    assert_eq!(succeeds(&output)["predictions"][0]["inverted"], true);
    let output = sandbox.run(&words("predict run photo-0.png --json --device flex"));
    assert_eq!(succeeds(&output)["predictions"][0]["inverted"], false);
}

#[test]
fn framing_is_refused_where_images_are_of_another_size() {
    let sandbox = Sandbox::new();
    Look::gray(16, 16).classes(&sandbox.path("tex/train"), ABC, 0..4);
    let files = Look::gray(16, 16).classes(&sandbox.path("tex/test"), ABC, 4..5);
    sandbox.train_small(&["--data", "image-folder", "--data-dir", "tex"]);
    let file = files[0].0.to_str().unwrap();
    let output = sandbox.run(&["predict", "run", file, "--frame", "--device", "flex"]);
    fails(
        &output,
        "the model takes images of 1x16x16; leave --frame out",
    );
    // A run from elsewhere cannot ask for images that its model does not take.
    let path = sandbox.path("run/run.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (key, wrong) in [
        ("size", serde_json::json!([1_000_000, 1_000_000])),
        ("channels", 3.into()),
        ("resize", "ink".into()),
    ] {
        let mut info: Value = serde_json::from_str(&text).unwrap();
        info["data"]["preprocess"][key] = wrong;
        std::fs::write(&path, info.to_string()).unwrap();
        let output = sandbox.run(&["predict", "run", file, "--device", "flex"]);
        fails(
            &output,
            "run.json is damaged or not Kiln's: data.preprocess",
        );
    }
}

#[test]
fn every_mask_is_predicted_as_it_is_evaluated() {
    for (look, size) in [
        (Look::gray(16, 16), None),
        (Look::rgb(20, 24), None),
        (Look::gray(24, 32), Some("[16,16]")),
    ] {
        let sandbox = Sandbox::new();
        look.squares(&sandbox.path("cells/train"), 0..12);
        let files = look.squares(&sandbox.path("cells/test"), 20..25);
        let setting = size.map(|size| format!("data.size={size}"));
        let mut args = words("--epochs 4 --lr 0.01");
        if let Some(setting) = &setting {
            args.extend(["--set", setting]);
        }
        sandbox.train_masks(&args);
        let seen = succeeds(&sandbox.run(&["eval", "run", "--device", "flex", "--json"]));
        let agree = || {
            let mut command = sandbox.command(&["predict", "run", "--device", "flex", "--json"]);
            let told = succeeds(&command.args(&files).output().unwrap());
            let mut counted = [[0u64; 2]; 2];
            for (file, line) in files.iter().zip(told["predictions"].as_array().unwrap()) {
                let mask = file
                    .parent()
                    .unwrap()
                    .with_file_name("masks")
                    .join(file.file_name().unwrap());
                let mut truth = Mask::read(&mask).unwrap();
                let written = sandbox.path(line["mask"].as_str().unwrap());
                let mut answer = Mask::read(&written).unwrap();
                assert_eq!((answer.height, answer.width), (look.height, look.width));
                // An evaluation compares at the size that images are scaled to.
                if size.is_some() {
                    (truth, answer) = (truth.resize(16, 16), answer.resize(16, 16));
                }
                for (truth, answer) in truth.values.iter().zip(&answer.values) {
                    counted[usize::from(*truth == 255)][usize::from(*answer == 255)] += 1;
                }
            }
            assert_eq!(seen["confusion"], serde_json::json!(counted), "{size:?}");
        };
        agree();
        assert_eq!(sandbox.forget_preprocess()["resize"], "stretch");
        agree();
    }
}

#[cfg(unix)]
#[test]
fn masks_are_not_written_into_a_folder_that_a_run_links_to() {
    let sandbox = Sandbox::new();
    let look = Look::gray(16, 16);
    let files = look.squares(&sandbox.path("cells"), 0..10);
    sandbox.train_masks(&words("--epochs 1 --set data.valid_fraction=0.2"));
    std::fs::create_dir(sandbox.path("precious")).unwrap();
    std::os::unix::fs::symlink(sandbox.path("precious"), sandbox.path("run/predictions")).unwrap();
    let predict = [
        "predict",
        "run",
        files[0].to_str().unwrap(),
        "--device",
        "flex",
        "--json",
    ];
    fails(
        &sandbox.run(&predict),
        "something else than a folder has this name",
    );
    assert_eq!(
        std::fs::read_dir(sandbox.path("precious")).unwrap().count(),
        0
    );
    let told = succeeds(&sandbox.run(&[&predict[..], &["--out", "masks"]].concat()));
    assert_eq!(told["predictions"][0]["mask"], "masks/0.mask.png");
}
