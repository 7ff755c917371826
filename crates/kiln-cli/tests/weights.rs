//! `kiln train --weights`, frozen backbones, and models that fit no machine, as their users meet them.

mod common;

use common::{Sandbox, fails, stderr, succeeds};
use kiln::zoo::weights::{StateDict, save};
use kiln::zoo::{Settings, create};
use serde_json::Value;

const TRAIN: [&str; 17] = [
    "train",
    "--data",
    "digits",
    "--device",
    "flex",
    "--epochs",
    "1",
    "--batch-size",
    "16",
    "--progress",
    "none",
    "--json",
    "--set",
    "data.train_len=64",
    "--set",
    "data.test_len=20",
    "--set=data.valid_fraction=0",
];

/// Weights of a model for images of 1×28×28.
fn weights(sandbox: &Sandbox, model: &str, num_classes: usize) -> String {
    let device = kiln::device::select("flex").unwrap().device;
    let settings = Settings {
        num_classes,
        ..Settings::default()
    };
    let model = create(model, &settings, &device).unwrap();
    let path = sandbox.path("weights.safetensors");
    save(&model, &path).unwrap();
    path.display().to_string()
}

/// The entries of two files, by their names, that differ.
fn changed(sandbox: &Sandbox, before: &str, run: &str) -> Vec<String> {
    let before = StateDict::open(before).unwrap();
    let after = StateDict::open(sandbox.path(run).join("model.safetensors")).unwrap();
    let names = after.entries().iter().map(|entry| entry.name());
    let differs = |name: &&str| before.read(name).unwrap() != after.read(name).unwrap();
    names.filter(differs).map(String::from).collect()
}

#[test]
fn a_frozen_backbone_learns_the_head_that_every_classifier_was_created_with() {
    let sandbox = Sandbox::new();
    for (model, head) in [
        ("cnn", "fc2"),
        ("mlp", "output"),
        ("densenet-bc-10-4", "fc"),
    ] {
        // Without weights: nothing but the head can learn.
        let args = ["--model", model, "--set", "model.freeze=true"];
        succeeds(&sandbox.run(&[&TRAIN[..], &args].concat()));
        // With weights for another number of classes, so that the head is drawn anew.
        let file = weights(&sandbox, model, 3);
        let args = [
            "--model",
            model,
            "--set",
            "model.freeze=true",
            "--weights",
            &file,
        ];
        let refused = sandbox.run(&[&TRAIN[..], &args].concat());
        fails(&refused, "--allow-head-mismatch");
        assert!(stderr(&refused).contains("does not fit the model\n  "));
        let args = [
            &args[..],
            &[
                "--allow-head-mismatch",
                "--run-dir",
                model,
                "--set",
                "clip=norm:1.0",
                "--grad-health",
            ],
        ]
        .concat();
        let output = sandbox.run(&[&TRAIN[..], &args].concat());
        succeeds(&output);
        assert!(stderr(&output).contains(&format!("{head}.weight, {head}.bias drawn anew")));
        let expected = ["weight", "bias"].map(|name| format!("{head}.{name}"));
        assert_eq!(changed(&sandbox, &file, model), expected, "{model}");
    }
}

#[test]
fn weights_that_name_their_classes_are_put_in_the_order_of_the_data() {
    let sandbox = Sandbox::new();
    let file = weights(&sandbox, "mlp", 10);
    // The classes of Digits from 9 down to 0.
    let mut bytes = std::fs::read(&file).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    let names: Vec<String> = (0..10).rev().map(|digit| digit.to_string()).collect();
    header["__metadata__"]["classes"] = serde_json::to_string(&names).unwrap().into();
    let header = header.to_string();
    let numbers = bytes.split_off(8 + len);
    let named = sandbox.path("named.safetensors").display().to_string();
    let len = (header.len() as u64).to_le_bytes();
    std::fs::write(&named, [&len[..], header.as_bytes(), &numbers].concat()).unwrap();

    // A learning rate that moves nothing.
    let args = [
        "--model",
        "mlp",
        "--weights",
        &named,
        "--run-dir",
        "run",
        "--set",
        "optimizer.lr=1e-30",
    ];
    let output = sandbox.run(&[&TRAIN[..], &args].concat());
    succeeds(&output);
    let said = stderr(&output);
    assert!(
        said.contains("in the order of these data's classes"),
        "{said}"
    );
    let rows = |path: String| {
        let bias = StateDict::open(path).unwrap().read("output.bias").unwrap();
        bias.iter::<f32>().collect::<Vec<_>>()
    };
    let after = rows(sandbox.path("run/model.safetensors").display().to_string());
    let before: Vec<f32> = rows(named).into_iter().rev().collect();
    for (before, after) in before.iter().zip(after) {
        assert!((before - after).abs() < 1e-6, "{before} {after}");
    }
}

#[test]
fn weights_that_kiln_wrote_name_their_classes() {
    let sandbox = Sandbox::new();
    let args = ["--model", "mlp", "--run-dir", "run"];
    succeeds(&sandbox.run(&[&TRAIN[..], &args].concat()));
    let file = StateDict::open(sandbox.path("run/model.safetensors")).unwrap();
    let names: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
    assert_eq!(file.classes(), Some(&names[..]));
}

#[test]
fn weights_below_a_key_of_a_file_are_taken_by_it() {
    let sandbox = Sandbox::new();
    let file = weights(&sandbox, "mlp", 10);
    let args = ["--model", "mlp", "--weights", &format!("{file}#encoder")];
    fails(
        &sandbox.run(&[&TRAIN[..], &args].concat()),
        "no name in it begins with 'encoder.'",
    );
    let missing = ["--model", "mlp", "--weights", "missing.pth#model_ema"];
    fails(
        &sandbox.run(&[&TRAIN[..], &missing].concat()),
        "cannot read missing.pth",
    );
}

#[test]
fn a_model_that_fits_no_machine_is_refused_with_its_size_before_there_is_a_run() {
    let sandbox = Sandbox::new();
    for (setting, message) in [
        ("model.hidden=[1000000000]", "3.2 TB|2.9 TiB"),
        (
            "model.hidden=[9223372036854775807,9223372036854775807]",
            "at most 2147483647 units",
        ),
        ("model.hidden=[2147483647,2147483647]", "EiB"),
        (
            "model.hidden=[2147483647,2147483647,2147483647,2147483647]",
            "EiB",
        ),
    ] {
        let args = ["--model", "mlp", "--run-dir", "run", "--set", setting];
        let output = sandbox.run(&[&TRAIN[..], &args].concat());
        let said = stderr(&output);
        assert!(
            message.split('|').any(|part| said.contains(part)),
            "{setting}: {said}"
        );
        fails(&output, "mlp");
        assert!(
            !sandbox.path("run").exists() && !sandbox.path("runs").exists(),
            "{setting}"
        );
    }
    for (model, setting) in [
        ("cnn", "model.channels=[2147483647,2147483647]"),
        ("cnn", "model.hidden=[2147483647]"),
    ] {
        let args = ["--model", model, "--run-dir", "run", "--set", setting];
        fails(&sandbox.run(&[&TRAIN[..], &args].concat()), "is too large");
        assert!(!sandbox.path("run").exists());
    }
    // A step needs more than the weights alone.
    let args = ["--model", "mlp", "--run-dir", "run", "--set"];
    let memory = kiln::zoo::machine_memory().unwrap();
    let units = memory / 2 / 4 / 795;
    let hidden = format!("model.hidden=[{units}]");
    let output = sandbox.run(&[&TRAIN[..], &args, &[hidden.as_str()]].concat());
    fails(&output, "mlp is too large to train here");
    assert!(!sandbox.path("run").exists());
}

#[test]
fn sizes_without_end_are_refused_where_a_model_is_only_shown() {
    let sandbox = Sandbox::new();
    for (args, message) in [
        (
            ["mlp", "--input", "4294967296x4294967296x4294967296"],
            "at most 2147483647",
        ),
        (
            ["mlp", "--input", "2147483647x2147483647x2147483647"],
            "is too large",
        ),
        (
            ["cnn", "--input", "1x2147483647x2147483647"],
            "is too large",
        ),
        (
            ["resnet18", "--input", "3x2147483647x2147483647"],
            "is too large",
        ),
        (
            ["unet", "--input", "3x2147483647x2147483647"],
            "is too large",
        ),
        (
            ["resnet18", "--classes", "9223372036854775807"],
            "at most 2147483647",
        ),
        (["unet", "--classes", "2147483647"], "is too large"),
    ] {
        let output = sandbox.run(&[&["models"][..], &args].concat());
        fails(&output, message);
    }
}
