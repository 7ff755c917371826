//! PyTorch takes what Kiln writes. Runs where PyTorch and safetensors are installed: the Python named by `KILN_PYTHON`,
//! otherwise `python3`. `tests/weights.rs` holds the same against files that PyTorch wrote.

use std::path::Path;
use std::process::Command;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Distribution, Tensor};
use kiln_testing::formula;
use kiln_zoo::weights::{self, save};
use kiln_zoo::{Settings, create, create_segmenter};

fn python() -> String {
    std::env::var("KILN_PYTHON").unwrap_or_else(|_| "python3".into())
}

fn has_pytorch() -> bool {
    let imports = Command::new(python())
        .args(["-c", "import torch, torchvision, safetensors"])
        .output();
    let there = imports.is_ok_and(|output| output.status.success());
    if !there {
        eprintln!(
            "not run: {} has no torch, torchvision and safetensors (KILN_PYTHON names another)",
            python()
        );
    }
    there
}

/// PyTorch's output for an image of ones, after a strict load.
fn pytorchs_output(file: &Path, model: &str, classes: usize, size: usize) -> Vec<f64> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch/load_strict.py");
    let output = Command::new(python())
        .arg(script)
        .arg(file)
        .args([model, &classes.to_string(), &size.to_string()])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[derive(Module, Debug)]
struct Tiny {
    conv: Conv2d,
    bn: BatchNorm,
    fc: Linear,
}

impl Tiny {
    fn new(classes: usize, device: &Device) -> Self {
        let conv = Conv2dConfig::new([3, 5], [3, 3]).with_stride([2, 2]);
        Self {
            conv: conv
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device),
            bn: BatchNormConfig::new(5).init(device),
            fc: LinearConfig::new(5, classes).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = burn::tensor::activation::relu(self.bn.forward(self.conv.forward(x)));
        self.fc.forward(x.mean_dim(3).mean_dim(2).flatten(1, 3))
    }
}

#[test]
fn pytorch_loads_strictly_what_kiln_saved_and_computes_the_same() {
    if !has_pytorch() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.safetensors");
    for device in kiln_testing::devices() {
        let mut model = Tiny::new(6, &device);
        // Running statistics and factors other than the initial ones, so that a mix-up shows.
        let drawn = || Tensor::<1>::random([5], Distribution::Uniform(0.5, 1.5), &device);
        model.bn.gamma = model.bn.gamma.map(|_| drawn());
        model.bn.beta = model.bn.beta.map(|_| drawn());
        model.bn.running_mean.update(drawn());
        model.bn.running_mean.value_sync();
        model.bn.running_var.update(drawn());
        model.bn.running_var.value_sync();
        save(&model, &path).unwrap();
        let output = model
            .forward(Tensor::ones([1, 3, 9, 9], &device))
            .into_data();
        let theirs = pytorchs_output(&path, "tiny", 6, 9);
        assert_eq!(theirs.len(), 6);
        for (ours, theirs) in output.iter::<f64>().zip(theirs) {
            assert!(
                (ours - theirs).abs() < 1e-5,
                "{ours} here, {theirs} in PyTorch"
            );
        }
    }
}

#[test]
fn pytorch_loads_kilns_networks_strictly_and_computes_the_same() {
    if !has_pytorch() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let device = kiln_testing::devices().remove(0);
    let settings = Settings {
        input: [3, 64, 64],
        num_classes: 6,
        ..Settings::default()
    };
    let formula = |name: &str, shape: &[usize]| Some(formula::values(name, shape, "p"));
    for name in [
        "resnet18",
        "densenet121",
        "unet",
        "unet-bilinear",
        "densenet-bc-40-12",
        "small-resnet",
    ] {
        let path = folder.path().join(format!("{name}.safetensors"));
        let size = if name.starts_with("densenet-bc") || name == "small-resnet" {
            32
        } else {
            64
        };
        let images = Tensor::ones([1, 3, size, size], &device);
        let ours: Vec<f64> = if name.starts_with("unet") {
            let model = create_segmenter(name, &settings, &device).unwrap();
            let model = weights::fill(model, formula);
            save(&model, &path).unwrap();
            model.forward(images).into_data().iter::<f64>().collect()
        } else {
            let model = create(name, &settings, &device).unwrap();
            let model = weights::fill(model, formula);
            save(&model, &path).unwrap();
            model.forward(images).into_data().iter::<f64>().collect()
        };
        let theirs = pytorchs_output(&path, name, 6, size);
        assert_eq!(ours.len(), theirs.len(), "{name}");
        let largest = theirs.iter().fold(1.0, |max: f64, x| max.max(x.abs()));
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!(
                (ours - theirs).abs() < 2e-5 * largest,
                "{name}: {ours} here, {theirs} in PyTorch"
            );
        }
    }
}
