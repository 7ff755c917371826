//! The layers against PyTorch's numbers.

#[path = "../examples/agreement/case.rs"]
mod case;

use std::path::Path;

fn cases(file: &str) -> Vec<serde_json::Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    case::read(&Path::new(folder).join(file)).unwrap()
}

fn every_case_agrees(file: &str, count: usize) {
    let cases = cases(file);
    assert_eq!(cases.len(), count);
    for device in kiln_testing::devices() {
        for value in &cases {
            let (line, passed) = case::run(value, &device);
            assert!(passed, "{device:?}: {line}");
        }
    }
}

#[test]
fn batch_norm_agrees_with_pytorch() {
    every_case_agrees("batch_norm.json", 27);
}

#[test]
fn layer_norm_agrees_with_pytorch() {
    every_case_agrees("layer_norm.json", 14);
}

#[test]
fn instance_norm_agrees_with_pytorch() {
    every_case_agrees("instance_norm.json", 15);
}

#[test]
fn group_norm_agrees_with_pytorch() {
    every_case_agrees("group_norm.json", 15);
}

#[test]
fn rms_norm_agrees_with_pytorch() {
    every_case_agrees("rms_norm.json", 8);
}

#[test]
fn local_response_norm_agrees_with_pytorch() {
    every_case_agrees("local_response_norm.json", 7);
}

#[test]
fn a_wrong_reference_is_found_out() {
    for file in ["batch_norm.json", "layer_norm.json", "rms_norm.json"] {
        for key in ["y", "dx", "dweight"] {
            let mut value = cases(file).remove(0);
            let entry = &mut value["steps"][0][key]["data"][0];
            *entry = (entry.as_f64().unwrap() + 1e-3).into();
            let device = kiln_testing::devices().remove(0);
            let (line, passed) = case::run(&value, &device);
            assert!(!passed, "{key}: {line}");
        }
    }
}
