//! The golden files of the crates, on every backend. kiln-tune's are compared by its own tests, which build without Burn.

use std::path::{Path, PathBuf};

use agreement::{Input, Outcome, Report, compare};
use burn::tensor::Device;
use serde_json::Value;

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../crates")
        .join(file)
}

fn load(file: &str) -> Value {
    let path = path(file);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

fn report(file: &str, json: &Value, device: &Device) -> Report {
    let input = Input {
        path: &path(file),
        json,
        device,
    };
    let (_, report) = compare(&input).expect("a known layout");
    report.unwrap_or_else(|problem| panic!("{file}: {problem:?}"))
}

/// Compares the file's cases on these devices.
fn agrees_on(devices: &[Device], file: &str, cases: usize) {
    let json = load(file);
    for device in devices {
        let report = report(file, &json, device);
        assert_eq!(report.cases.len(), cases);
        for case in &report.cases {
            let compared = matches!(case.outcome, Outcome::Compared { .. });
            assert!(compared && !case.differs(), "{device:?}: {case}");
        }
    }
}

fn agrees(file: &str, cases: usize) {
    agrees_on(&kiln_testing::devices(), file, cases);
}

/// Networks are compared on the fastest device of those under test; their layers have tests on each.
fn network_agrees(file: &str, cases: usize) {
    agrees_on(
        &kiln_testing::devices()[..1],
        &format!("kiln-zoo/tests/golden/zoo/{file}"),
        cases,
    );
}

/// Changes what `pointer` names in every case that has it: all of these must differ then.
fn finds_changes(file: &str, pointer: &str, change: fn(f64) -> f64) -> usize {
    let mut json = load(file);
    let mut changed = Vec::new();
    for (i, case) in json["cases"].as_array_mut().unwrap().iter_mut().enumerate() {
        let number = case.pointer(pointer).and_then(Value::as_f64);
        if let Some(number) = number.filter(|&number| change(number) != number) {
            *case.pointer_mut(pointer).unwrap() = change(number).into();
            changed.push(i);
        }
    }
    let report = report(file, &json, &kiln_testing::devices()[0]);
    for &i in &changed {
        assert!(report.cases[i].differs(), "{}", report.cases[i]);
    }
    changed.len()
}

mod norms {
    use super::*;

    #[test]
    fn batch_norm_agrees_with_pytorch() {
        agrees("kiln-norm/tests/golden/batch_norm.json", 27);
    }

    #[test]
    fn layer_norm_agrees_with_pytorch() {
        agrees("kiln-norm/tests/golden/layer_norm.json", 14);
    }

    #[test]
    fn instance_norm_agrees_with_pytorch() {
        agrees("kiln-norm/tests/golden/instance_norm.json", 15);
    }

    #[test]
    fn group_norm_agrees_with_pytorch() {
        agrees("kiln-norm/tests/golden/group_norm.json", 15);
    }

    #[test]
    fn rms_norm_agrees_with_pytorch() {
        agrees("kiln-norm/tests/golden/rms_norm.json", 8);
    }

    #[test]
    fn local_response_norm_agrees_with_pytorch() {
        agrees("kiln-norm/tests/golden/local_response_norm.json", 7);
    }

    #[test]
    fn a_wrong_reference_is_found_out() {
        for file in ["batch_norm.json", "layer_norm.json", "rms_norm.json"] {
            let file = format!("kiln-norm/tests/golden/{file}");
            for key in ["y", "dx", "dweight"] {
                let pointer = format!("/steps/0/{key}/data/0");
                // What is compared with f64 values keeps its f32 ones unread.
                let mut json = load(&file);
                let case = &mut json["cases"][0];
                *case.pointer_mut(&pointer).unwrap() = 1e3.into();
                let report = report(&file, &json, &kiln_testing::devices()[0]);
                assert!(report.cases[0].differs(), "{key}: {}", report.cases[0]);
            }
        }
    }
}

mod clipping {
    use super::*;

    const FILE: &str = "kiln-clip/tests/golden/clipping.json";

    #[test]
    fn clipping_agrees_with_pytorch() {
        agrees(FILE, 38);
    }

    #[test]
    fn a_wrong_reference_is_found_out() {
        assert!(finds_changes(FILE, "/total_norm64", |norm| norm * 1.0001) > 15);
        assert!(finds_changes(FILE, "/clipped/0/data/0", |value| value + 1e-3) > 20);
    }
}

mod scaling {
    use super::*;

    const FILE: &str = "kiln-data/tests/golden/scaling.json";

    #[test]
    fn scaling_agrees_with_scikit_learn() {
        agrees(FILE, 35);
    }

    #[test]
    fn a_wrong_reference_is_found_out() {
        let pointer = "/test/transformed/data/0";
        assert_eq!(finds_changes(FILE, pointer, |value| value + 1e-3), 35);
    }
}

mod optimizers {
    use super::*;

    const FILE: &str = "kiln-train/tests/golden/optimizers.json";

    #[test]
    fn optimizers_agree_with_pytorch() {
        agrees(FILE, 15);
    }

    #[test]
    fn a_wrong_reference_is_found_out() {
        assert_eq!(
            finds_changes(FILE, "/steps/4/param/0", |value| value + 1e-4),
            15
        );
    }

    #[test]
    fn an_option_that_kiln_lacks_is_named_and_skipped() {
        let mut json = load(FILE);
        for (i, key, value) in [
            (0, "maximize", Value::Bool(true)),
            (1, "foreach", Value::Bool(true)),
            (2, "differentiable", Value::Bool(false)),
        ] {
            json["cases"][i]["config"][key] = value;
        }
        json["cases"][3]["optimizer"] = "Rprop".into();
        let cases = report(FILE, &json, &kiln_testing::devices()[0]).cases;
        let skipped = |i: usize| match &cases[i].outcome {
            Outcome::Skipped(reason) => reason.clone(),
            _ => String::new(),
        };
        assert!(skipped(0).contains("maximize"), "{}", cases[0]);
        assert!(skipped(3).contains("Rprop"), "{}", cases[3]);
        assert!((1..=2).all(|i| skipped(i).is_empty() && !cases[i].differs()));
        assert!(!cases[0].differs() && !cases[3].differs());
    }

    #[test]
    fn an_exotic_case_is_reported_but_is_no_disagreement() {
        let mut json = load(FILE);
        json["cases"][0]["exotic"] = true.into();
        json["cases"][0]["steps"][0]["param"][0] = 7.into();
        let report = report(FILE, &json, &kiln_testing::devices()[0]);
        assert!(report.cases[0].differs() && report.cases[0].exotic);
        assert_eq!(report.differing().count(), 0);
    }
}

mod zoo {
    use super::*;

    #[test]
    fn every_model_has_pytorchs_names_shapes_and_order() {
        network_agrees("state_dicts.json", 18);
    }

    #[test]
    fn every_model_has_pytorchs_number_of_parameters() {
        network_agrees("parameter_counts.json", 18);
    }

    #[test]
    fn multiply_adds_are_exact() {
        network_agrees("macs.json", 6);
    }

    #[test]
    fn resnet18_computes_pytorchs_logits() {
        network_agrees("resnet18.json", 1);
    }

    #[test]
    fn resnet50_computes_pytorchs_logits() {
        network_agrees("resnet50.json", 1);
    }

    #[test]
    fn densenet121_computes_pytorchs_logits() {
        network_agrees("densenet121.json", 1);
    }

    #[test]
    fn cifar_densenet_bc_computes_pytorchs_logits() {
        network_agrees("cifar_densenet_bc_40.json", 1);
    }

    #[test]
    fn small_resnet_computes_pytorchs_logits() {
        network_agrees("small_resnet_222.json", 1);
    }

    #[test]
    fn unet_computes_pytorchs_logits() {
        network_agrees("unet_transposed.json", 1);
    }

    #[test]
    fn unet_pads_odd_sizes_as_pytorch_does() {
        network_agrees("unet_transposed_odd_size.json", 1);
    }

    #[test]
    fn resnet18_takes_pytorchs_training_steps() {
        network_agrees("train_resnet18_64.json", 1);
    }

    #[test]
    fn resnet18_takes_pytorchs_training_step_with_few_values_in_each_channel() {
        network_agrees("train_resnet18_32.json", 1);
    }

    #[test]
    fn a_wrong_logit_is_found_out_with_the_stages() {
        let file = "kiln-zoo/tests/golden/zoo/small_resnet_222.json";
        let mut json = load(file);
        json["output64"]["data"][0] = 1e3.into();
        let report = report(file, &json, &kiln_testing::devices()[0]);
        let line = report.cases[0].to_string();
        assert!(
            report.cases[0].differs() && line.contains("stages agree"),
            "{line}"
        );
    }
}
