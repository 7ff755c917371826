//! The networks against reference values of PyTorch (`golden/zoo`, made by the scripts there). The comparisons are those
//! of the example `agreement`, which reads any other files of these layouts.

#[path = "../examples/agreement/check.rs"]
mod check;
#[path = "../examples/agreement/zoo.rs"]
mod zoo;

use std::path::Path;

use burn::tensor::Device;
use serde_json::Value;

use check::{Check, Result, numbers, shape, worst};

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/zoo")
        .join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

type Compare = fn(&Path, &Value, &Device) -> Result<Vec<Check>>;

/// The networks are compared on the fastest device of those under test; their layers have tests on each.
fn agrees(name: &str, compare: Compare) {
    let device = kiln_testing::devices().remove(0);
    let checks = compare(Path::new(name), &golden(name), &device).unwrap();
    assert!(!checks.is_empty());
    for check in &checks {
        println!("{:8.4} {}", check.ratio, check.what);
    }
    for check in checks {
        assert!(
            check.agrees(),
            "{}: {} of the tolerance\n{}",
            check.what,
            check.ratio,
            check.detail.join("\n")
        );
    }
}

#[test]
fn every_model_has_pytorchs_names_shapes_and_order() {
    agrees("state_dicts.json", zoo::state_dicts);
}

#[test]
fn every_model_has_pytorchs_number_of_parameters() {
    agrees("parameter_counts.json", zoo::parameter_counts);
}

#[test]
fn multiply_adds_are_exact() {
    agrees("macs.json", zoo::macs);
}

#[test]
fn resnet18_computes_pytorchs_logits() {
    agrees("resnet18.json", zoo::evaluate);
}

#[test]
fn resnet50_computes_pytorchs_logits() {
    agrees("resnet50.json", zoo::evaluate);
}

#[test]
fn densenet121_computes_pytorchs_logits() {
    agrees("densenet121.json", zoo::evaluate);
}

#[test]
fn cifar_densenet_bc_computes_pytorchs_logits() {
    agrees("cifar_densenet_bc_40.json", zoo::evaluate);
}

#[test]
fn small_resnet_computes_pytorchs_logits() {
    agrees("small_resnet_222.json", zoo::evaluate);
}

#[test]
fn unet_computes_pytorchs_logits() {
    agrees("unet_transposed.json", zoo::evaluate);
}

#[test]
fn unet_pads_odd_sizes_as_pytorch_does() {
    agrees("unet_transposed_odd_size.json", zoo::evaluate);
}

#[test]
fn resnet18_takes_pytorchs_training_steps() {
    agrees("train_resnet18_64.json", zoo::train);
}

#[test]
fn resnet18_takes_pytorchs_training_step_with_few_values_in_each_channel() {
    agrees("train_resnet18_32.json", zoo::train);
}
