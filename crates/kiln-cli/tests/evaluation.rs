//! `kiln eval` on data that are not the run's own, and what it leaves behind.

mod common;
#[path = "common/textures.rs"]
mod textures;

use std::path::Path;
use std::process::Output;

use common::{Sandbox, fails, stderr, succeeds};
use serde_json::Value;
use textures::Look;

const LOOK: Look = Look {
    height: 12,
    width: 12,
    channels: 1,
};
const ABC: &[(&str, usize)] = &[("a", 0), ("b", 1), ("c", 2)];

impl Sandbox {
    /// Trains a small network that learns textures without a mistake.
    fn train_folder(&self, run: &str, dir: &str, more: &[&str]) -> Output {
        let small = [
            "train",
            "--data",
            "image-folder",
            "--data-dir",
            dir,
            "--run-dir",
            run,
            "--device",
            "flex",
            "--model",
            "mlp",
            "--set",
            "model.hidden=[24]",
            "--set",
            "model.dropout=[0.0]",
            "--epochs",
            "30",
            "--batch-size",
            "16",
            "--lr",
            "0.01",
            "--progress",
            "none",
            "--json",
        ];
        self.run(&[&small[..], more].concat())
    }

    fn eval(&self, run: &str, more: &[&str]) -> Output {
        self.run(&[&["eval", run, "--device", "flex", "--json"], more].concat())
    }

    fn evaluate(&self, run: &str, more: &[&str]) -> Value {
        succeeds(&self.eval(run, more))
    }

    /// A run on three classes that knows every texture of them.
    fn trained(&self) -> Value {
        LOOK.classes(&self.path("abc/train"), ABC, 0..24);
        LOOK.classes(&self.path("abc/test"), ABC, 24..32);
        let summary = succeeds(&self.train_folder("run", "abc", &[]));
        assert_eq!(summary["test_accuracy"], 1.0, "{summary}");
        summary
    }
}

/// What a folder holds, by name.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.is_file())
        .map(|path| (path.display().to_string(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn classes_are_matched_by_name_where_a_folder_lacks_some() {
    let sandbox = Sandbox::new();
    sandbox.trained();
    // By position, c would be taken for b.
    LOOK.classes(&sandbox.path("some"), &[("a", 0), ("c", 2)], 40..50);
    let output = sandbox.eval("run", &["--data-dir", "some"]);
    let seen = succeeds(&output);
    assert_eq!(
        (&seen["accuracy"], &seen["images"]),
        (&1.0.into(), &20.into()),
        "{seen}"
    );
    assert_eq!(seen["absent"], serde_json::json!(["b"]));
    let said = stderr(&output);
    assert!(
        said.contains("1 of the 3 classes that the model knows are not in these data"),
        "{said}"
    );
    let text = sandbox.run(&["eval", "run", "--device", "flex", "--data-dir", "some"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("not in these data: \"b\""), "{text}");
    let row: Vec<&str> = text
        .lines()
        .find(|l| l.starts_with("b "))
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(row, ["b", "-", "-", "-", "0"]);

    // The order of the folders is the computer's, that of the classes the run's.
    LOOK.classes(&sandbox.path("one"), &[("c", 2)], 40..45);
    let seen = sandbox.evaluate("run", &["--data-dir", "one"]);
    assert_eq!(
        (&seen["accuracy"], &seen["confusion"][2][2]),
        (&1.0.into(), &5.into()),
        "{seen}"
    );
}

#[test]
fn classes_that_the_model_does_not_know_are_refused_by_name() {
    let sandbox = Sandbox::new();
    sandbox.trained();
    LOOK.classes(
        &sandbox.path("fruit"),
        &[("apple", 0), ("a", 0), ("pear", 1)],
        0..3,
    );
    let before = contents(&sandbox.path("run"));
    let output = sandbox.eval("run", &["--data-dir", "fruit"]);
    fails(
        &output,
        "does not know \"apple\", \"pear\" of the data; it knows \"a\", \"b\", \"c\"",
    );
    // Digits have ten classes, which are no more alphabet for their number.
    fails(
        &sandbox.eval("run", &["--data", "digits"]),
        "does not know \"0\", \"1\"",
    );
    assert_eq!(contents(&sandbox.path("run")), before);
    assert!(!sandbox.path("run/evaluations").exists());
}

#[test]
fn a_folder_is_evaluated_whole_unless_it_has_a_test_in_it() {
    let sandbox = Sandbox::new();
    sandbox.trained();
    let images = |dir: &str| {
        let output = sandbox.eval("run", &["--data-dir", dir]);
        (
            succeeds(&output)["images"].as_u64().unwrap(),
            stderr(&output),
        )
    };
    LOOK.classes(&sandbox.path("whole"), ABC, 40..50);
    let (count, said) = images("whole");
    assert_eq!(count, 30);
    assert!(
        said.contains("whole has no folder test in it, so all of its 30 images are evaluated"),
        "{said}"
    );
    for (split, count) in [("validation", 2), ("valid", 3), ("val", 4), ("test", 5)] {
        // Each goes before those that are there already.
        LOOK.classes(&sandbox.path("splits").join(split), ABC, 40..40 + count);
        assert_eq!(images("splits").0, 3 * count as u64, "{split}");
    }
    LOOK.classes(&sandbox.path("splits/train"), ABC, 0..9);
    assert_eq!(images("splits").0, 15);
    LOOK.classes(&sandbox.path("only/train"), ABC, 0..2);
    let output = sandbox.eval("run", &["--data-dir", "only"]);
    fails(&output, "name the folder to evaluate, such as only/train");
    assert_eq!(images("only/train").0, 6);
    // Pictures of another size are prepared as for a prediction.
    Look::rgb(30, 20).classes(&sandbox.path("large"), ABC, 0..2);
    assert_eq!(images("large").0, 6);
}

#[test]
fn a_folder_of_masks_is_evaluated_whole_unless_it_has_a_test_in_it() {
    let sandbox = Sandbox::new();
    let look = Look::gray(16, 16);
    look.squares(&sandbox.path("own"), 0..10);
    let train = [
        "train",
        "--task",
        "segmentation",
        "--data-dir",
        "own",
        "--run-dir",
        "run",
        "--device",
        "flex",
        "--set",
        "model.channels=[4]",
        "--set",
        "data.valid_fraction=0.2",
        "--epochs",
        "2",
        "--progress",
        "none",
        "--json",
    ];
    let summary = succeeds(&sandbox.run(&train));
    let own = sandbox.evaluate("run", &[]);
    assert_eq!(
        (&own["images"], &own["loss"]),
        (&2.into(), &summary["test_loss"])
    );
    look.squares(&sandbox.path("other"), 20..27);
    let seen = sandbox.evaluate("run", &["--data-dir", "other"]);
    assert_eq!(seen["images"], 7);
    assert!(
        sandbox
            .path("run/evaluations/mask-folder-other/overlays.png")
            .is_file()
    );
    look.squares(&sandbox.path("other/val"), 20..23);
    assert_eq!(
        sandbox.evaluate("run", &["--data-dir", "other"])["images"],
        3
    );
    // Shapes have four classes with names; the run knows the values 0 and 255.
    fails(&sandbox.eval("run", &["--data", "shapes"]), "does not know");
    // What the folder that was trained on says is of little worth, and that is said.
    let output = sandbox.eval("run", &["--data-dir", "own"]);
    assert_eq!(succeeds(&output)["images"], 10);
    assert!(
        stderr(&output).contains("the run was trained on pictures in"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn an_evaluation_on_other_data_has_its_own_folder_and_is_listed() {
    let sandbox = Sandbox::new();
    let summary = sandbox.trained();
    let before = contents(&sandbox.path("run"));
    // Half of these are of another class than their folder says.
    LOOK.classes(&sandbox.path("x/wrong"), &[("a", 0), ("b", 2)], 0..4);
    LOOK.classes(&sandbox.path("y/wrong"), ABC, 0..3);
    let output = sandbox.eval("run", &["--data-dir", "x/wrong"]);
    let first = succeeds(&output);
    assert_eq!(first["accuracy"], 0.5, "{first}");
    let folder = sandbox.path("run/evaluations/image-folder-wrong");
    assert!(
        stderr(&output).contains("in run/evaluations/image-folder-wrong"),
        "{}",
        stderr(&output)
    );
    for file in ["evaluation.json", "confusion.png"] {
        assert!(folder.join(file).is_file(), "{file}");
    }
    sandbox.evaluate("run", &["--data-dir", "y/wrong"]);
    // The same data again, from another place: the same folder.
    let from_x = sandbox.command(&["eval", "../run", "--device", "flex", "--data-dir", "wrong"]);
    let mut from_x = from_x;
    assert!(
        from_x
            .current_dir(sandbox.path("x"))
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(contents(&sandbox.path("run")), before);

    let list = succeeds(&sandbox.run(&["eval", "run", "--list", "--json"]));
    let list = list["evaluations"].as_array().unwrap();
    let told: Vec<_> = list
        .iter()
        .map(|one| {
            (
                one["folder"].as_str().unwrap(),
                one["images"].as_u64().unwrap(),
                one["accuracy"].as_f64().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("run", 24, summary["test_accuracy"].as_f64().unwrap()),
        ("run/evaluations/image-folder-wrong", 8, 0.5),
        ("run/evaluations/image-folder-wrong-2", 9, 1.0),
    ];
    assert_eq!(told, expected);
    let text = sandbox.run(&["eval", "run", "--list"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(
        text.contains("its own test") && text.contains("50.00 %"),
        "{text}"
    );

    // Its own test images once more give what training found.
    let own = sandbox.evaluate("run", &[]);
    assert_eq!(own["accuracy"], summary["test_accuracy"]);
    assert!(own.get("absent").is_none());
    sandbox.evaluate("run", &["--data-dir", "x/wrong", "--out", "elsewhere"]);
    assert!(sandbox.path("elsewhere/evaluation.json").is_file());
    assert!(sandbox.run(&["report", "run"]).status.success());
    let report = std::fs::read_to_string(sandbox.path("run/report.html")).unwrap();
    assert!(report.contains("100.00 %") && !report.contains("50.00 %"));
}

#[test]
fn the_runs_own_evaluation_stays_when_its_data_have_changed() {
    let sandbox = Sandbox::new();
    sandbox.trained();
    let before = contents(&sandbox.path("run"));
    LOOK.classes(&sandbox.path("abc/test"), &[("a", 1)], 90..99);
    let output = sandbox.eval("run", &[]);
    assert_eq!(succeeds(&output)["images"], 33);
    let said = stderr(&output);
    assert!(
        said.contains("abc is not as it was when the run was trained"),
        "{said}"
    );
    assert!(said.contains("run/evaluations/image-folder-abc"), "{said}");
    assert_eq!(contents(&sandbox.path("run")), before);
}

#[test]
fn scores_are_printed_where_they_cannot_be_written() {
    let sandbox = Sandbox::new();
    sandbox.trained();
    LOOK.classes(&sandbox.path("other"), ABC, 40..42);
    // A file in the folder's place stands for a disk that cannot be written.
    std::fs::write(sandbox.path("run/evaluations"), "").unwrap();
    let output = sandbox.eval("run", &["--data-dir", "other"]);
    assert_eq!(succeeds(&output)["images"], 6);
    assert!(
        stderr(&output).contains("warning: the evaluation was not written"),
        "{}",
        stderr(&output)
    );
    std::fs::remove_file(sandbox.path("run/evaluation.json")).unwrap();
    std::fs::create_dir(sandbox.path("run/evaluation.json")).unwrap();
    let output = sandbox.eval("run", &[]);
    assert_eq!(succeeds(&output)["images"], 24);
    assert!(
        stderr(&output).contains("warning: the evaluation was not written"),
        "{}",
        stderr(&output)
    );
    // Files that were asked for are missed, but the scores are there.
    std::fs::write(sandbox.path("out"), "").unwrap();
    let output = sandbox.eval("run", &["--out", "out"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["images"],
        24
    );
}

#[cfg(unix)]
#[test]
fn an_evaluation_is_not_written_through_a_link_in_the_run() {
    let sandbox = Sandbox::new();
    sandbox.trained();
    LOOK.classes(&sandbox.path("other"), ABC, 40..42);
    std::fs::create_dir_all(sandbox.path("precious/image-folder-other")).unwrap();
    let precious = sandbox.path("precious/image-folder-other/confusion.png");
    std::fs::write(&precious, "keep me").unwrap();
    std::os::unix::fs::symlink(sandbox.path("precious"), sandbox.path("run/evaluations")).unwrap();
    let output = sandbox.eval("run", &["--data-dir", "other"]);
    assert_eq!(succeeds(&output)["images"], 6);
    assert!(
        stderr(&output).contains("something else than a folder"),
        "{}",
        stderr(&output)
    );
    assert_eq!(std::fs::read(&precious).unwrap(), b"keep me");
}

/// Takes the names of the classes out of a file of weights, as one that another program wrote.
fn forget_classes(path: impl AsRef<std::path::Path>) {
    let bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let metadata = header["__metadata__"].as_object_mut().unwrap();
    assert!(metadata.remove("classes").is_some(), "{header}");
    let mut header = header.to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut written = (header.len() as u64).to_le_bytes().to_vec();
    written.extend(header.as_bytes());
    written.extend(&bytes[8 + length..]);
    std::fs::write(&path, written).unwrap();
}

#[test]
fn class_names_from_a_file_say_what_each_output_means() {
    let sandbox = Sandbox::new();
    let twelve: Vec<String> = (0..12).map(|i| i.to_string()).collect();
    let classes: Vec<(&str, usize)> = twelve
        .iter()
        .enumerate()
        .map(|(i, name)| (name.as_str(), i))
        .collect();
    LOOK.classes(&sandbox.path("twelve/train"), &classes, 0..20);
    LOOK.classes(&sandbox.path("twelve/test"), &classes, 20..24);
    let summary = succeeds(&sandbox.train_folder("run", "twelve", &["--epochs", "60"]));
    let accuracy = summary["test_accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.9, "{summary}");
    // As if the weights were trained elsewhere: the run has another order of the names.
    let file = sandbox.path("run/run.json");
    let mut info: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let mut names: Vec<Value> = info["data"]["classes"].as_array().unwrap().clone();
    let right: Vec<String> = names
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    names.rotate_left(5);
    info["data"]["classes"] = names.into();
    std::fs::write(&file, info.to_string()).unwrap();
    // The weights name their classes, and that is believed.
    assert_eq!(sandbox.evaluate("run", &[])["accuracy"], accuracy);
    forget_classes(sandbox.path("run/model.safetensors"));
    assert!(sandbox.evaluate("run", &[])["accuracy"].as_f64().unwrap() < 0.2);

    std::fs::write(sandbox.path("names.txt"), right.join("\n")).unwrap();
    let indices: serde_json::Map<String, Value> = right
        .iter()
        .enumerate()
        .map(|(i, name)| (name.clone(), i.into()))
        .collect();
    std::fs::write(
        sandbox.path("class_to_idx.json"),
        Value::from(indices).to_string(),
    )
    .unwrap();
    for file in ["names.txt", "class_to_idx.json"] {
        let output = sandbox.eval("run", &["--classes", file]);
        assert_eq!(succeeds(&output)["accuracy"], accuracy, "{file}");
        assert!(stderr(&output).contains(&format!("the classes have the names of {file}")));
    }
    let picture = [
        "predict",
        "run",
        "twelve/test/10/20.png",
        "--device",
        "flex",
        "--top",
        "1",
        "--json",
    ];
    let answer = |more: &[&str]| {
        let seen = succeeds(&sandbox.run(&[&picture, more].concat()));
        seen["predictions"][0]["top"][0]["class"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(answer(&["--classes", "names.txt"]), "10");
    assert_ne!(answer(&[]), "10");

    std::fs::write(sandbox.path("few.txt"), "a\nb\n").unwrap();
    let output = sandbox.eval("run", &["--classes", "few.txt"]);
    fails(
        &output,
        "2 class names are given, but the model tells 12 classes apart",
    );
    std::fs::write(sandbox.path("bad.json"), "{\"a\": 1}").unwrap();
    fails(
        &sandbox.eval("run", &["--classes", "bad.json"]),
        "bad.json holds no class names",
    );
    fails(&sandbox.eval("run", &["--classes", "none.txt"]), "none.txt");
}

#[test]
fn a_folder_given_for_data_that_are_drawn_is_not_passed_over() {
    let sandbox = Sandbox::new();
    let digits = [
        "train",
        "--data",
        "digits",
        "--run-dir",
        "run",
        "--device",
        "flex",
        "--model",
        "mlp",
        "--epochs",
        "1",
        "--set",
        "data.train_len=64",
        "--set",
        "data.test_len=10",
        "--progress",
        "none",
    ];
    assert!(sandbox.run(&digits).status.success());
    let output = sandbox.eval("run", &["--data-dir", "photos"]);
    fails(&output, "digits are drawn and read no folder");
    fails(&output, "give --data image-folder beside it");
    Look::gray(28, 28).classes(&sandbox.path("photos"), &[("3", 0), ("7", 1)], 0..2);
    let seen = sandbox.evaluate("run", &["--data", "image-folder", "--data-dir", "photos"]);
    assert_eq!(seen["images"], 4);
    assert_eq!(seen["absent"].as_array().unwrap().len(), 8);
}
