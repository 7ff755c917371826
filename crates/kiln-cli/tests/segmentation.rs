//! Segmentation, and the settings of larger models, as their users meet them.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A folder of its own for each test, and the program run in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        let cache = self.path("cache");
        command.args(args).current_dir(self.0.path());
        command.env("KILN_DATA_DIR", cache).stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let output = self.command(args).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    #[track_caller]
    fn refuses(&self, args: &[&str], message: &str) {
        let output = self.command(args).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(message), "{message} not in: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A run of 12 steps in two epochs on Shapes.
const TRAIN: &[&str] = &[
    "train",
    "--task",
    "segmentation",
    "--data",
    "shapes",
    "--device",
    "flex",
    "--epochs",
    "2",
    "--set",
    "data.train_len=16",
    "--set",
    "data.test_len=6",
    "--set",
    "data.valid_fraction=0.25",
    "--set",
    "data.crops_per_image=2",
    "--set",
    "data.crop_size=[32, 32]",
    "--set",
    "model.channels=[4]",
    "--set",
    "augment.hflip=0.5",
    "--set",
    "augment.rotate=20",
    "--set",
    "augment.elastic=2",
    "--set",
    "model.dropout=[0.1]",
    "--set",
    "log_every=1",
    "--set",
    "checkpoint.every=2",
    "--progress",
    "none",
    "--json",
];

fn train<'a>(run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [TRAIN, &["--run-dir", run], more].concat()
}

#[test]
fn a_segmentation_run_is_trained_evaluated_and_predicts_masks() {
    let place = Place::new();
    let summary = place.json(&train("run", &[]));
    assert_eq!(
        (&summary["model"], &summary["steps"]),
        (&"unet".into(), &12.into())
    );
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    for key in ["test_iou", "test_dice", "test_pixel_error", "test_loss"] {
        assert!(number(&summary[key]) >= 0.0, "{key}: {summary}");
    }
    let (iou, dice) = (number(&summary["test_iou"]), number(&summary["test_dice"]));
    assert!(iou < dice && dice < 1.0, "{summary}");
    let text = std::fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 14);
    for line in &lines {
        for key in ["loss", "iou", "dice", "pixel_error", "accuracy"] {
            assert!(line[key].is_f64(), "{key}: {line}");
        }
        assert!((number(&line["pixel_error"]) + number(&line["accuracy"]) - 1.0).abs() < 1e-9);
    }

    let seen = place.json(&["eval", "run", "--device", "flex", "--json", "--out", "seen"]);
    assert!(
        (number(&seen["segmentation"]["dice"]) - dice).abs() < 1e-9,
        "{seen}"
    );
    assert_eq!(seen["images"], 6);
    let pixels: u64 = seen["classes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["support"].as_u64().unwrap())
        .sum();
    assert_eq!(pixels, 6 * 64 * 64);
    for file in ["evaluation.json", "confusion.png", "overlays.png"] {
        assert!(place.path("seen").join(file).is_file(), "{file}");
        assert!(place.path("run").join(file).is_file(), "{file}");
    }

    // A picture of another size than those it was trained on.
    let pixels = (0..50 * 70 * 3).map(|i| (i * 7 % 251) as u8).collect();
    let picture = kiln::data::info::Picture {
        width: 70,
        height: 50,
        channels: 3,
        pixels,
    };
    for folder in ["a", "b"] {
        std::fs::create_dir(place.path(folder)).unwrap();
        picture
            .write_png(&place.path(folder).join("odd.png"))
            .unwrap();
    }
    let told = place.json(&[
        "predict",
        "run",
        "a/odd.png",
        "b/odd.png",
        "--device",
        "flex",
        "--json",
        "--out",
        "masks",
    ]);
    let first = &told["predictions"][0];
    assert_eq!(
        (&first["height"], &first["width"]),
        (&50.into(), &70.into())
    );
    let shares: f64 = first["shares"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| number(&s[1]))
        .sum();
    assert!((shares - 1.0).abs() < 1e-9, "{first}");
    let mask = kiln::data::images::Mask::read(&place.path("masks/odd.mask.png")).unwrap();
    assert_eq!((mask.height, mask.width), (50, 70));
    assert!(mask.values.iter().all(|&v| v < 4));
    for file in ["odd.overlay.png", "odd-2.mask.png", "odd-2.overlay.png"] {
        assert!(place.path("masks").join(file).is_file(), "{file}");
    }
}

#[test]
fn a_killed_segmentation_run_ends_with_the_weights_of_one_that_was_not() {
    let place = Place::new();
    place.json(&train("whole", &[]));
    let mut child = place
        .command(&train("killed", &[]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let metrics = place.path("killed/metrics.jsonl");
    let start = Instant::now();
    while std::fs::read_to_string(&metrics)
        .unwrap_or_default()
        .lines()
        .count()
        < 5
        && child.try_wait().unwrap().is_none()
    {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "no five steps in two minutes"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        !place.path("killed/summary.json").exists(),
        "it was finished before it was killed"
    );
    place.json(&[
        "train",
        "--resume",
        "killed",
        "--progress",
        "none",
        "--json",
    ]);
    let weights = |run: &str| std::fs::read(place.path(run).join("model.safetensors")).unwrap();
    assert!(weights("whole") == weights("killed"), "the weights differ");
}

#[test]
fn what_does_not_fit_the_task_is_said_before_training() {
    let place = Place::new();
    let small = [
        "--set",
        "data.valid_fraction=0",
        "--set",
        "data.train_len=8",
        "--set",
        "data.test_len=4",
        "--device",
        "flex",
    ];
    let with = |args: &[&'static str]| [args, &small].concat();
    place.refuses(
        &with(&["train", "--data", "shapes"]),
        "give --task segmentation",
    );
    place.refuses(
        &with(&["train", "--data", "digits", "--model", "unet"]),
        "unet is a model for segmentation",
    );
    let segment = ["train", "--task", "segmentation"];
    let with = |args: &[&'static str]| [&segment[..], args, &small].concat();
    place.refuses(&with(&["--data", "digits"]), "digits has labels");
    place.refuses(
        &with(&["--model", "resnet18"]),
        "is a model for classification",
    );
    place.refuses(
        &with(&["--set", "data.crop_size=[65, 64]"]),
        "crop_size = 65 is not allowed",
    );
    place.refuses(
        &with(&["--set", "loss.name=bce"]),
        "bce is for two classes, but the masks have 4",
    );
    place.refuses(
        &with(&["--set", "model.channels=[3]"]),
        "give one even number",
    );
    place.refuses(
        &["train", "--task", "detection"],
        "classification or segmentation",
    );
    place.refuses(
        &["train", "--set", "loss.dice=0.5"],
        "it is a setting of task = \"segmentation\"",
    );
    std::fs::create_dir(place.path("empty")).unwrap();
    place.refuses(
        &[&segment[..], &["--data-dir", "empty"]].concat(),
        "holds no folder of images",
    );
}

#[test]
fn a_frozen_backbone_from_a_file_keeps_its_weights_and_learns_a_new_head() {
    let place = Place::new();
    let digits = [
        "train",
        "--data",
        "digits",
        "--device",
        "flex",
        "--epochs",
        "1",
        "--progress",
        "none",
        "--json",
        "--set",
        "data.train_len=96",
        "--set",
        "data.test_len=20",
        "--batch-size",
        "16",
    ];
    let first = [
        "--model",
        "resnet20",
        "--set",
        "model.norm=group:4",
        "--run-dir",
        "first",
    ];
    let summary = place.json(&[&digits[..], &first].concat());
    assert_eq!(summary["model"], "resnet20");
    let second = [
        "--model",
        "resnet20",
        "--set",
        "model.norm=group:4",
        "--run-dir",
        "second",
        "--set",
        "model.weights=first/model.safetensors",
        "--set",
        "model.freeze=true",
        "--set",
        "augment.crop=2",
        "--set",
        "augment.hflip=0.5",
        "--set",
        "augment.cutout=6",
    ];
    place.json(&[&digits[..], &second].concat());
    let read = |run: &str| {
        let file = place.path(run).join("model.safetensors");
        let state = kiln::zoo::weights::StateDict::open(file).unwrap();
        let names = state.entries().iter().map(|entry| entry.name().to_owned());
        names
            .map(|name| (name.clone(), state.read(&name).unwrap()))
            .collect::<Vec<_>>()
    };
    for ((name, before), (_, after)) in read("first").iter().zip(&read("second")) {
        assert_eq!(before == after, !name.starts_with("fc"), "{name}");
    }
}

#[test]
fn pixels_to_ignore_count_neither_in_training_nor_in_scores() {
    let place = Place::new();
    // A dark and a light half; the middle columns belong to neither.
    for i in 0..6u8 {
        for (folder, column) in [
            ("images", [20 + i, 20, 90, 120, 200, 200 + i]),
            ("masks", [0, 0, 255, 255, 1, 1]),
        ] {
            let dir = place.path("data").join(folder);
            std::fs::create_dir_all(&dir).unwrap();
            let pixels = (0..16 * 24).map(|at| column[at % 24 / 4]).collect();
            let picture = kiln::data::info::Picture {
                width: 24,
                height: 16,
                channels: 1,
                pixels,
            };
            picture.write_png(&dir.join(format!("{i}.png"))).unwrap();
        }
    }
    let mut args = vec![
        "train",
        "--task",
        "segmentation",
        "--data-dir",
        "data",
        "--device",
        "flex",
    ];
    let settings = [
        "data.ignore_value=255",
        "data.test_fraction=0.34",
        "data.valid_fraction=0.5",
        "model.channels=[4]",
        "epochs=1",
    ];
    args.extend(settings.iter().flat_map(|setting| ["--set", *setting]));
    args.extend(["--run-dir", "run", "--progress", "none", "--json"]);
    let summary = place.json(&args);
    assert!(
        summary["test_loss"].as_f64().unwrap().is_finite(),
        "{summary}"
    );
    let text = std::fs::read_to_string(place.path("run/evaluation.json")).unwrap();
    let seen: Value = serde_json::from_str(&text).unwrap();
    let counted = |class: usize| seen["classes"][class]["support"].as_u64();
    // Two test images, of each class a third of the pixels; the last third is left out.
    assert_eq!(
        (
            counted(0),
            counted(1),
            seen["classes"].as_array().unwrap().len()
        ),
        (Some(256), Some(256), 2)
    );
    let pixels: u64 = seen["confusion"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(pixels, 512);
}
