//! Batches of a single image, which some normalizations cannot take: known before the first step.

mod common;

use std::process::{Command, Output};

use common::{Sandbox, fails, stderr, succeeds, wait_for_step};

impl Sandbox {
    /// A run on some drawn digits, all of them trained on.
    fn digits(&self, run: &str, images: usize, batch: usize, more: &[&str]) -> Command {
        let mut args = vec![
            "train", "--data", "digits", "--device", "flex", "--epochs", "2",
        ];
        let images = format!("data.train_len={images}");
        let batch = batch.to_string();
        args.extend(["--run-dir", run, "--progress", "none", "--json"]);
        args.extend(["--set", &images, "--batch-size", &batch]);
        args.extend(["--set", "data.test_len=5", "--set", "data.valid_fraction=0"]);
        args.extend(["--set", "checkpoint.every=1", "--set", "log_every=1"]);
        args.extend(more);
        self.command(&args)
    }
}

const MERGED: &str = "the last batch of an epoch would be a single image, too few for";

fn steps(output: &Output) -> u64 {
    succeeds(output)["steps"].as_u64().unwrap()
}

#[test]
fn a_single_last_image_joins_the_batch_before_it_where_maps_reach_1x1() {
    let sandbox = Sandbox::new();
    let resnet = ["--model", "resnet18", "--set", "augment.mixup=0.4"];
    let output = sandbox.digits("resnet", 7, 3, &resnet).output().unwrap();
    // Of 3 and 4 images, in each of two epochs.
    assert_eq!(steps(&output), 4);
    let told = stderr(&output);
    assert!(
        told.contains(MERGED) && told.contains("(BatchNorm), whose maps are 1x1 there"),
        "{told}"
    );
    assert!(told.contains("which has 4 images"), "{told}");
    let images = |run: &str| -> u64 {
        let text = std::fs::read_to_string(sandbox.path(run).join("metrics.jsonl")).unwrap();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let train = lines.filter(|line| line["split"] == "train");
        train.map(|line| line["images"].as_u64().unwrap()).sum()
    };
    assert_eq!(images("resnet"), 14);

    // Nothing changes where a single image does no harm: no such maps, a limit before it, no remainder of one.
    for (run, batch, model, steps_taken) in [
        ("cnn", 3, vec!["--model", "cnn"], 6),
        ("mlp", 6, vec!["--model", "mlp"], 4),
        (
            "limited",
            3,
            vec!["--model", "resnet18", "--set", "steps_per_epoch=2"],
            4,
        ),
        ("even", 4, vec!["--model", "resnet18"], 4),
        (
            "layer",
            6,
            vec!["--model", "resnet18", "--set", "model.norm=layer"],
            4,
        ),
    ] {
        let output = sandbox.digits(run, 7, batch, &model).output().unwrap();
        assert_eq!(steps(&output), steps_taken, "{run}");
        assert!(
            !stderr(&output).contains(MERGED),
            "{run}: {}",
            stderr(&output)
        );
    }
    // A frozen backbone takes its running statistics.
    let frozen = [
        "--weights",
        "resnet/model.safetensors",
        "--set",
        "model.freeze=true",
        "--model",
        "resnet18",
    ];
    let output = sandbox.digits("frozen", 7, 3, &frozen).output().unwrap();
    assert_eq!(steps(&output), 6);
}

#[cfg(unix)]
#[test]
fn a_run_with_a_merged_batch_is_resumed_to_the_same_bits() {
    let sandbox = Sandbox::new();
    let model = ["--model", "resnet18", "--set", "augment.shift=2"];
    succeeds(&sandbox.digits("whole", 7, 3, &model).output().unwrap());
    for step in [1, 2, 3] {
        let run = format!("killed{step}");
        let mut child = sandbox.digits(&run, 7, 3, &model).spawn().unwrap();
        wait_for_step(&mut child, &sandbox.path(&run), step);
        child.kill().unwrap();
        child.wait().unwrap();
        succeeds(&sandbox.run(&["train", "--resume", &run, "--progress", "none"]));
        assert!(sandbox.weights(&run) == sandbox.weights("whole"), "{step}");
    }
}

#[test]
fn what_no_batch_can_be_is_refused_with_what_to_change() {
    let sandbox = Sandbox::new();
    let refused = |images, batch, more: &[&str], message: &str| {
        let output = sandbox.digits("run", images, batch, more).output().unwrap();
        fails(&output, message);
        assert!(!sandbox.path("run").exists());
    };
    let resnet = ["--model", "resnet18"];
    refused(
        7,
        1,
        &resnet,
        "give batch_size=2 or more, or another normalization, such as model.norm=layer",
    );
    let instance = ["--model", "resnet18", "--set", "model.norm=instance"];
    refused(
        8,
        4,
        &instance,
        "images of 28x28 are too small for the model: they leave a single value to normalize",
    );
    // Two images could be trained on, but one could not be evaluated.
    let group = ["--model", "resnet18", "--set", "model.norm=group-size:1"];
    refused(8, 4, &group, "(GroupNorm)");
    // The advice works.
    for more in [["--set", "batch_size=2"], ["--set", "model.norm=layer"]] {
        let more = [&resnet[..], &more].concat();
        let output = sandbox.digits("run", 8, 1, &more).output().unwrap();
        succeeds(&output);
        std::fs::remove_dir_all(sandbox.path("run")).unwrap();
    }
}

#[test]
fn crops_of_a_unet_are_batches_too() {
    let sandbox = Sandbox::new();
    let train = |run: &str, more: &[&str]| {
        let args = "train --task segmentation --data shapes --device flex --epochs 1 --batch-size 2 --progress none --json \
                    --set data.train_len=3 --set data.test_len=1 --set data.valid_fraction=0 --set model.channels=[2] \
                    --set data.crop_size=[16,16] --run-dir";
        let args = args.split(' ').filter(|arg| !arg.is_empty()).chain([run]);
        sandbox.run(&args.chain(more.iter().copied()).collect::<Vec<_>>())
    };
    // Sixteen pixels are one after four halvings.
    let output = train("unet", &[]);
    assert_eq!(steps(&output), 1);
    assert!(stderr(&output).contains(MERGED), "{}", stderr(&output));
    // Nine crops of three images.
    let output = train("crops", &["--set", "data.crops_per_image=3"]);
    assert_eq!(steps(&output), 4);
    let instance = train("instance", &["--set", "model.norm=instance"]);
    fails(&instance, "images of 16x16 are too small for the model");
    assert!(!sandbox.path("instance").exists());
    let larger = [
        "--set",
        "model.norm=instance",
        "--set",
        "data.crop_size=[32,32]",
    ];
    assert_eq!(steps(&train("larger", &larger)), 2);
}
