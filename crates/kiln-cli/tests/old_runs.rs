//! What an earlier version of the program left behind is used by this one: its runs end in the same weights, evaluate and
//! predict the same, and its studies are continued. `old_runs/README.md` says what there is and how it was made.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Sandbox, stderr, succeeds};
use kiln::data::images::Raster;
use serde_json::Value;

/// The old files, copied to where they may change.
fn old_files() -> Sandbox {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let sandbox = Sandbox::new();
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/old_runs");
    copy(&old, sandbox.0.path());
    sandbox
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// The tensors of a safetensors file: shape and values of each name.
fn tensors(file: &Path) -> BTreeMap<String, (Value, Vec<f32>)> {
    let bytes = std::fs::read(file).unwrap();
    let (len, rest) = bytes.split_at(8);
    let len = u64::from_le_bytes(len.try_into().unwrap()) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&rest[..len]).unwrap();
    let values = |tensor: &Value| {
        let at = |i: usize| len + tensor["data_offsets"][i].as_u64().unwrap() as usize;
        let bytes = &rest[at(0)..at(1)];
        match tensor["dtype"].as_str().unwrap() {
            "F32" => bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                .collect(),
            // How many batches a normalization has seen.
            "I64" => bytes
                .chunks_exact(8)
                .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f32)
                .collect(),
            dtype => panic!("{dtype}"),
        }
    };
    let tensors = header.iter().filter(|(name, _)| *name != "__metadata__");
    tensors
        .map(|(name, tensor)| (name.clone(), (tensor["shape"].clone(), values(tensor))))
        .collect()
}

/// How far values may lie from those of the machine that made the files: not at all where sums are computed alike.
fn tolerance() -> f32 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && !is_x86_feature_detected!("avx512f")
    {
        return 0.0;
    }
    1e-3
}

#[track_caller]
fn close(a: &Value, b: &Value) {
    let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
    assert!(
        (a - b).abs() <= f64::from(tolerance().max(1e-6)),
        "{a} and {b}"
    );
}

#[test]
fn a_run_that_was_killed_under_an_earlier_version_ends_in_the_weights_that_version_would_have_given()
 {
    let sandbox = old_files();
    for name in ["digits", "classes", "masks"] {
        let run = format!("{name}/killed");
        let resume = ["train", "--resume", &run, "--progress", "none", "--json"];
        let summary = succeeds(&sandbox.run(&resume));
        let old = json(&sandbox.path(name).join("whole/summary.json"));
        for count in ["steps", "epochs", "kept_epoch", "parameters"] {
            assert_eq!(summary[count], old[count], "{name}: {count}");
        }
        let ended = tensors(&sandbox.path(&run).join("model.safetensors"));
        let whole = tensors(&sandbox.path(name).join("whole/model.safetensors"));
        assert!(whole.len() >= 4, "{name}: {:?}", whole.keys());
        assert!(ended.keys().eq(whole.keys()), "{name}: {:?}", ended.keys());
        for (tensor, (shape, values)) in &whole {
            assert_eq!(ended[tensor].0, *shape, "{name}: {tensor}");
            let pairs = values.iter().zip(&ended[tensor].1);
            let most = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(most <= tolerance(), "{name}: {tensor} differs by {most}");
        }
    }
}

#[test]
fn an_evaluation_of_a_run_of_an_earlier_version_gives_the_scores_of_then() {
    let sandbox = old_files();
    for (name, scores) in [
        ("digits", &["/loss", "/accuracy"][..]),
        ("classes", &["/loss", "/accuracy"]),
        (
            "masks",
            &[
                "/loss",
                "/accuracy",
                "/segmentation/dice",
                "/segmentation/iou",
            ],
        ),
    ] {
        let run = format!("{name}/whole");
        let old = json(&sandbox.path(&run).join("evaluation.json"));
        let new = succeeds(&sandbox.run(&["eval", &run, "--device", "flex", "--json"]));
        assert_eq!(new["images"], old["images"], "{name}");
        assert_eq!(new["confusion"], old["confusion"], "{name}");
        let names = |evaluation: &Value| {
            let classes = evaluation["classes"].as_array().unwrap().iter();
            classes
                .map(|class| class["name"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&new), names(&old), "{name}");
        for score in scores {
            close(new.pointer(score).unwrap(), old.pointer(score).unwrap());
        }
    }
}

#[test]
fn a_run_of_an_earlier_version_predicts_what_it_did_then() {
    let sandbox = old_files();
    let pictures = ["10", "2", "9"].map(|class| format!("pictures/test/{class}/0.png"));
    for (name, pictures) in [("digits", &pictures[..1]), ("classes", &pictures[..])] {
        let run = format!("{name}/whole");
        let mut args = vec!["predict", &run, "--device", "flex", "--json"];
        args.extend(pictures.iter().map(String::as_str));
        let new = succeeds(&sandbox.run(&args));
        let old = json(&sandbox.path(name).join("predicted.json"));
        let predictions = |all: &Value| all["predictions"].as_array().unwrap().clone();
        assert_eq!(predictions(&new).len(), pictures.len());
        for (new, old) in predictions(&new).iter().zip(predictions(&old)) {
            for rank in 0..3 {
                assert_eq!(
                    new["top"][rank]["class"], old["top"][rank]["class"],
                    "{name}"
                );
                close(
                    &new["top"][rank]["probability"],
                    &old["top"][rank]["probability"],
                );
            }
        }
    }
    let args = [
        "predict",
        "masks/whole",
        "cells/image/11.png",
        "--device",
        "flex",
        "--out",
        "new",
    ];
    let output = sandbox.run(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    let mask =
        |folder: &str| Raster::read(&sandbox.path(folder).join("11.mask.png"), Some(1)).unwrap();
    assert_eq!(mask("new"), mask("masks/predicted"));
}

#[test]
fn a_report_is_written_of_runs_of_an_earlier_version_finished_or_not() {
    let sandbox = old_files();
    for name in ["digits", "classes", "masks"] {
        for state in ["whole", "killed"] {
            let run = format!("{name}/{state}");
            let output = sandbox.run(&["report", &run]);
            assert!(output.status.success(), "{run}: {}", stderr(&output));
            let page = std::fs::read_to_string(sandbox.path(&run).join("report.html")).unwrap();
            assert!(page.contains("<svg") && page.contains("flex"), "{run}");
            let tested = page.contains("Confusion");
            assert_eq!(tested, state == "whole", "{run}");
        }
    }
}

/// What a study's trials are, without what a later version may add.
fn trials(list: &Value) -> Vec<[String; 4]> {
    let trials = list.as_array().unwrap().iter();
    trials
        .map(|trial| ["number", "state", "params", "values"].map(|key| trial[key].to_string()))
        .collect()
}

#[test]
fn a_study_of_an_earlier_version_is_listed_continued_and_plotted_with_its_recipe_and_space() {
    let sandbox = old_files();
    let old = trials(&json(&sandbox.path("study/trials.json")));
    assert_eq!(old.len(), 4);
    for storage in ["sqlite:///study/tune.db", "journal:study/tune.log"] {
        let of_study = ["--storage", storage, "--study", "old"];
        let study = |args: &[&str]| {
            let output = sandbox.run(&[&["study"], args, &of_study[..]].concat());
            assert!(output.status.success(), "{storage}: {}", stderr(&output));
            output.stdout
        };
        let list =
            || trials(&serde_json::from_slice(&study(&["trials", "--format", "json"])).unwrap());
        let listed = sandbox.run(&["study", "list", "--storage", storage]);
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains("old") && listed.contains('4'), "{listed}");
        assert_eq!(list(), old, "{storage}");

        let mut tune = vec![
            "tune",
            "--recipe",
            "study/recipe.toml",
            "--space",
            "study/space.toml",
        ];
        tune.extend(of_study);
        tune.extend([
            "--trials", "6", "--device", "flex", "--runs", "runs", "--quiet", "--json",
        ]);
        let result = succeeds(&sandbox.run(&tune));
        assert_eq!(
            (&result["trials"], &result["failed"]),
            (&6.into(), &0.into())
        );
        let continued = list();
        assert_eq!(continued[..4], old, "{storage}");
        assert_eq!(continued.len(), 6, "{storage}");

        study(&["plot", "--out", "plots.html"]);
        let page = std::fs::read_to_string(sandbox.path("plots.html")).unwrap();
        assert!(
            page.contains("Optimization history") && page.contains("momentum"),
            "{storage}"
        );
    }
}

#[test]
fn a_recipe_of_an_earlier_version_trains_by_the_rules_of_today() {
    let sandbox = old_files();
    let args = [
        "train",
        "--recipe",
        "study/recipe.toml",
        "--device",
        "flex",
        "--run-dir",
        "new",
    ];
    let output = sandbox.run(&[&args[..], &["--progress", "none", "--json"]].concat());
    assert_eq!(succeeds(&output)["epochs"], 2);
    let recipe = std::fs::read_to_string(sandbox.path("new/recipe.toml")).unwrap();
    let recipe: toml::Table = toml::from_str(&recipe).unwrap();
    assert_eq!(recipe["data"]["version"].as_integer(), Some(2));
    assert_eq!(recipe["data"]["train_len"].as_integer(), Some(100));
}
