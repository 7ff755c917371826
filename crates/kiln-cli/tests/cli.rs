//! The program as its users meet it: exit codes, what goes to stdout and what to stderr, and what is
//! left behind when it is killed.

mod common;

use std::process::{Command, Stdio};

use common::{Sandbox, fails, stderr, succeeds, wait_for_step};
use serde_json::Value;

#[test]
fn train_prints_one_json_object_and_leaves_a_complete_run() {
    let sandbox = Sandbox::new();
    let output = sandbox.train("run", &["--json"]).output().unwrap();
    let summary = succeeds(&output);
    for key in [
        "run",
        "device",
        "backend",
        "model",
        "parameters",
        "epochs",
        "train_seconds",
        "samples_per_second",
        "test_loss",
        "test_accuracy",
    ] {
        assert!(!summary[key].is_null(), "{key} is missing: {summary}");
    }
    assert_eq!(summary["backend"], "flex");
    assert_eq!(summary["steps"], 24);
    let accuracy = summary["test_accuracy"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&accuracy), "{summary}");
    for file in [
        "recipe.toml",
        "run.json",
        "metrics.jsonl",
        "model.safetensors",
        "summary.json",
        "evaluation.json",
        "confusion.png",
        "checkpoints",
    ] {
        assert!(sandbox.path("run").join(file).exists(), "{file} is missing");
    }

    let evaluated = succeeds(&sandbox.run(&["eval", "run", "--json", "--device", "flex"]));
    assert_eq!(evaluated["accuracy"], summary["test_accuracy"]);
    assert_eq!(evaluated["images"], 60);
    assert_eq!(evaluated["classes"].as_array().unwrap().len(), 10);
}

#[test]
fn the_same_seed_gives_the_same_weights_and_another_seed_others() {
    let sandbox = Sandbox::new();
    for (run, seed) in [("a", "1"), ("b", "1"), ("c", "2")] {
        succeeds(&sandbox.train(run, &["--seed", seed]).output().unwrap());
    }
    assert!(sandbox.weights("a") == sandbox.weights("b"));
    assert!(sandbox.weights("a") != sandbox.weights("c"));
    assert_eq!(sandbox.metrics("a"), sandbox.metrics("b"));
}

#[cfg(unix)]
#[test]
fn a_run_killed_again_and_again_ends_where_an_uninterrupted_one_does() {
    let sandbox = Sandbox::new();
    succeeds(&sandbox.train("whole", &[]).output().unwrap());
    let mut child = sandbox.train("killed", &[]).spawn().unwrap();
    // Before the first checkpoint, around some, and at the border of an epoch.
    for step in [1, 4, 6, 9, 16, 17, 23] {
        wait_for_step(&mut child, &sandbox.path("killed"), step);
        child.kill().unwrap();
        child.wait().unwrap();
        let resume = ["train", "--resume", "killed", "--progress", "none"];
        child = sandbox.command(&resume).spawn().unwrap();
    }
    assert!(child.wait().unwrap().success());
    assert!(sandbox.weights("killed") == sandbox.weights("whole"));
    assert_eq!(sandbox.metrics("killed"), sandbox.metrics("whole"));
    let leftovers = std::fs::read_dir(sandbox.path("killed").join("checkpoints")).unwrap();
    for entry in leftovers {
        let name = entry.unwrap().file_name();
        assert!(name.to_string_lossy().starts_with("step-"), "{name:?}");
    }
}

/// AutoClip's limit depends on every step before: its history must survive a kill as the weights do.
#[cfg(unix)]
#[test]
fn a_killed_run_clips_as_an_uninterrupted_one_does() {
    let sandbox = Sandbox::new();
    let clip = [
        "--set",
        "clip=auto:30",
        "--set",
        "skip_nonfinite=true",
        "--grad-health=5",
    ];
    succeeds(&sandbox.train("whole", &clip).output().unwrap());
    let mut child = sandbox.train("killed", &clip).spawn().unwrap();
    for step in [4, 11, 18] {
        wait_for_step(&mut child, &sandbox.path("killed"), step);
        child.kill().unwrap();
        child.wait().unwrap();
        let resume = ["train", "--resume", "killed", "--progress", "none"];
        child = sandbox.command(&resume).spawn().unwrap();
    }
    assert!(child.wait().unwrap().success());
    assert!(sandbox.weights("killed") == sandbox.weights("whole"));
    assert_eq!(sandbox.metrics("killed"), sandbox.metrics("whole"));
    let log =
        |run: &str| std::fs::read_to_string(sandbox.path(run).join("grad_health.jsonl")).unwrap();
    assert_eq!(log("whole").lines().count(), 5);
    assert_eq!(log("killed"), log("whole"));
}

#[test]
fn clipping_changes_the_weights_and_the_norm_is_in_the_metrics_and_the_report() {
    let sandbox = Sandbox::new();
    let train = |run: &str, more: &[&str]| {
        let more: Vec<&str> = more.iter().copied().chain(["--json"]).collect();
        succeeds(&sandbox.train(run, &more).output().unwrap())
    };
    let plain = train("plain", &[]);
    assert!(plain["grad_norm"].is_null(), "{plain}");
    let settings = [
        "norm:0.1",
        "value:0.001",
        "agc:0.001",
        "auto:10",
        "param-norm:0.05",
    ];
    for (i, clip) in settings.into_iter().enumerate() {
        let run = format!("run{i}");
        // Adam does not see the length of a gradient.
        let set = format!("clip={clip}");
        let summary = train(
            &run,
            &["--set", &set, "--set", "optimizer.name=sgd", "--lr", "0.1"],
        );
        assert!(
            summary["grad_norm"].as_f64().unwrap() > 0.1,
            "{clip}: {summary}"
        );
        assert!(sandbox.weights(&run) != sandbox.weights("plain"), "{clip}");
        let text = std::fs::read_to_string(sandbox.path(&run).join("metrics.jsonl")).unwrap();
        let norms = text
            .lines()
            .filter(|line| line.contains("\"grad_norm\":"))
            .count();
        assert_eq!(norms, 24, "{clip}: {text}");
    }
    // Different settings give different weights, so each of them does something.
    for (i, j) in (0..settings.len()).flat_map(|i| (0..i).map(move |j| (i, j))) {
        let weights = |i: usize| sandbox.weights(&format!("run{i}"));
        assert!(
            weights(i) != weights(j),
            "{} and {}",
            settings[i],
            settings[j]
        );
    }
    let wrong = sandbox
        .train("wrong", &["--set", "clip=norm:-1"])
        .output()
        .unwrap();
    fails(
        &wrong,
        "clip = \"norm:-1\" is not allowed; none, norm:MAX or norm:MAX,P",
    );
}

#[test]
fn gradient_health_is_measured_plotted_and_said_in_plain_words() {
    let sandbox = Sandbox::new();
    let output = sandbox
        .train("run", &["--grad-health", "--json"])
        .output()
        .unwrap();
    let summary = succeeds(&output);
    assert_eq!(summary["grad_health"]["verdict"], "fine", "{summary}");
    assert!(
        stderr(&output)
            .contains("gradient health: fine: the gradient norm of the 4 layers lies between")
    );
    assert!(
        sandbox
            .path("run/grad_health.png")
            .metadata()
            .unwrap()
            .len()
            > 5000
    );

    // A run that diverges is judged too.
    let more = [
        "--grad-health=1",
        "--set",
        "optimizer.name=sgd",
        "--set",
        "optimizer.weight_decay=1000",
        "--lr",
        "1000",
    ];
    let output = sandbox.train("diverged", &more).output().unwrap();
    fails(&output, "training diverged");
    assert!(
        stderr(&output).contains("gradient health: not finite: "),
        "{}",
        stderr(&output)
    );
    assert!(sandbox.path("diverged/grad_health.png").exists());
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_after_the_step_and_the_run_goes_on_from_there() {
    let sandbox = Sandbox::new();
    succeeds(&sandbox.train("whole", &[]).output().unwrap());
    // No checkpoints within an epoch but the one that the signal causes.
    let more = ["--set", "checkpoint.every=0"];
    let mut child = sandbox
        .train("stopped", &more)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_step(&mut child, &sandbox.path("stopped"), 4);
    let kill = format!("kill -INT {}", child.id());
    assert!(
        Command::new("sh")
            .args(["-c", &kill])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("continue with: kiln train --resume stopped"));
    assert!(!sandbox.path("stopped").join("model.safetensors").exists());

    let resumed = sandbox.run(&["train", "--resume", "stopped", "--progress", "none"]);
    succeeds(&resumed);
    assert!(
        stderr(&resumed).contains("resuming after step"),
        "{}",
        stderr(&resumed)
    );
    assert!(sandbox.weights("stopped") == sandbox.weights("whole"));
}

#[test]
fn a_run_in_use_is_refused() {
    let sandbox = Sandbox::new();
    let mut child = sandbox.train("run", &["--epochs", "1000"]).spawn().unwrap();
    wait_for_step(&mut child, &sandbox.path("run"), 1);
    let output = sandbox.run(&["train", "--resume", "run"]);
    child.kill().unwrap();
    child.wait().unwrap();
    fails(&output, "run is in use by another process");
}

#[test]
fn a_run_is_not_resumed_with_other_settings_nor_written_over() {
    let sandbox = Sandbox::new();
    succeeds(&sandbox.train("run", &[]).output().unwrap());
    let other = sandbox.run(&["train", "--resume", "run", "--lr", "0.5"]);
    fails(&other, "optimizer.lr was (default), now 0.5");
    let again = sandbox.train("run", &[]).output().unwrap();
    fails(&again, "run exists already");
    // Finished: the summary again, nothing trained.
    let finished = sandbox.run(&["train", "--resume", "run", "--json"]);
    assert_eq!(succeeds(&finished)["steps"], 24);
    assert!(stderr(&finished).contains("finished already"));
}

#[test]
fn training_begins_with_weights_of_other_classes_where_that_is_allowed() {
    let sandbox = Sandbox::new();
    let sheet = ["data", "info", "digits", "--sheet", "sheet.png", "--json"];
    succeeds(&sandbox.run(&sheet));
    for class in ["two/a", "two/b", "three/a", "three/b", "three/c"] {
        std::fs::create_dir_all(sandbox.path(class)).unwrap();
        for i in 0..4 {
            let copy = sandbox.path(&format!("{class}/{i}.png"));
            std::fs::copy(sandbox.path("sheet.png"), copy).unwrap();
        }
    }
    let train = |folder: &str, more: &[&str]| {
        let data = "train --data image-folder --set data.size=[8,8] --set data.test_fraction=0.25";
        let rest = "--set data.valid_fraction=0 --model mlp --set model.hidden=[4] --epochs 1 --device flex --json";
        let args = data.split(' ').chain(rest.split(' '));
        let args = args.chain(["--data-dir", folder, "--run-dir"]);
        sandbox.run(&args.chain(more.iter().copied()).collect::<Vec<_>>())
    };
    succeeds(&train("three", &["first"]));
    let weights = ["second", "--weights", "first/model.safetensors"];
    fails(
        &train("two", &weights),
        "only the head 'output' differs: --allow-head-mismatch",
    );
    let allowed = [&weights[..], &["--allow-head-mismatch"]].concat();
    let output = train("two", &allowed);
    let told = "weights: 2 of first/model.safetensors; output.weight, output.bias drawn anew";
    assert!(stderr(&output).contains(told), "{}", stderr(&output));
    succeeds(&output);
}

#[test]
fn weights_are_named_as_torchvision_names_them() {
    let sandbox = Sandbox::new();
    let train = |weights| {
        let args = [
            "train",
            "--data",
            "digits",
            "--model",
            "resnet18",
            "--offline",
            "--weights",
            weights,
        ];
        sandbox.run(&args)
    };
    let hint = "kiln models fetch resnet18 --weights IMAGENET1K_V1 brings it";
    fails(&train("imagenet1k_v1"), hint);
    fails(
        &train("V9"),
        "resnet18 has no weights named 'V9'; there are IMAGENET1K_V1",
    );
}

#[test]
fn a_loss_that_explodes_ends_the_run_with_advice() {
    let sandbox = Sandbox::new();
    // Each step multiplies the weights by about a million.
    let more = [
        "--set",
        "optimizer.name=sgd",
        "--set",
        "optimizer.weight_decay=1000",
        "--lr",
        "1000",
    ];
    let output = sandbox.train("run", &more).output().unwrap();
    fails(
        &output,
        "training diverged; try a lower learning rate, such as optimizer.lr=100",
    );
    assert!(!sandbox.path("run").join("model.safetensors").exists());
}

#[test]
fn mistakes_are_answered_with_what_is_allowed() {
    let sandbox = Sandbox::new();
    let train = |args: &[&str]| sandbox.run(&[&["train"], args].concat());
    fails(
        &train(&["--set", "optimizer.rate=1"]),
        "the recipe has no key 'optimizer.rate'",
    );
    fails(
        &train(&["--batch-size", "0"]),
        "batch_size = 0 is not allowed; a whole number from 1",
    );
    fails(&train(&["--data", "minst"]), "mnist");
    fails(
        &train(&["--data-dir", "nowhere"]),
        "there is no folder nowhere",
    );
    fails(
        &train(&["--model", "cnnn", "--data", "digits"]),
        "did you mean 'cnn'?",
    );
    fails(&train(&["--device", "gpu"]), "no device is named 'gpu'");
    fails(&train(&["--device", "cuda"]), "--features cuda");
    fails(
        &train(&["--recipe", "nothing.toml"]),
        "cannot read the recipe nothing.toml",
    );
    fails(
        &train(&["--resume", "nothing"]),
        "nothing holds no run: recipe.toml is missing",
    );
    fails(&sandbox.run(&["eval", "nothing"]), "nothing holds no run");
    let usage = sandbox.run(&["train", "--epoch"]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(stderr(&usage).contains("--epochs"), "{}", stderr(&usage));
    assert!(
        !sandbox.path("runs").exists(),
        "a refused run leaves nothing behind"
    );
}

#[cfg(unix)]
#[test]
fn a_place_that_cannot_be_written_is_an_error_that_names_it() {
    let sandbox = Sandbox::new();
    let output = sandbox.train("/dev/null/run", &[]).output().unwrap();
    fails(&output, "cannot create /dev/null");
}

/// Runs a shell script in which `$disk` is an empty file system with these mount options and `$kiln` the program; None
/// where a user may not mount one.
#[cfg(target_os = "linux")]
fn on_a_disk(sandbox: &Sandbox, options: &str, script: &str) -> Option<std::process::Output> {
    let disk = sandbox.path("disk");
    std::fs::create_dir_all(&disk).unwrap();
    let script = format!("mount -t tmpfs -o {options} none \"$disk\" || exit 77; {script}");
    let program = env!("CARGO_BIN_EXE_kiln");
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &script]);
    command.env("disk", disk).env("kiln", program);
    command.env("KILN_DATA_DIR", sandbox.path("cache"));
    let output = command.stdin(Stdio::null()).output().ok()?;
    let denied = output.status.code() == Some(77) || stderr(&output).contains("unshare failed");
    if denied {
        eprintln!("skipped: {}", stderr(&output));
    }
    (!denied).then_some(output)
}

#[cfg(target_os = "linux")]
const SMALL_RUN: &str = "\"$kiln\" train --data digits --device flex --epochs 2 --batch-size 32 --progress none \
    --set data.train_len=270 --set data.test_len=60 --set 'model.channels=[4, 8]' --set 'model.hidden=[16]' --run-dir \"$disk/run\"";

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_and_the_run_goes_on_when_there_is_space() {
    let sandbox = Sandbox::new();
    let script = format!(
        "{SMALL_RUN}; echo first $?; mount -o remount,size=50m \"$disk\"; \"$kiln\" train --resume \"$disk/run\" \
         --progress none && test -s \"$disk/run/model.safetensors\"; echo second $?"
    );
    let Some(output) = on_a_disk(&sandbox, "size=100k", &script) else {
        return;
    };
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), stderr(&output));
    assert!(
        stdout.contains("first 1\n") && stdout.contains("second 0\n"),
        "{stdout}{stderr}"
    );
    assert!(stderr.contains("No space left on device"), "{stderr}");
    assert!(
        stderr.contains("cannot write") && !stderr.contains("panicked"),
        "{stderr}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_cannot_be_written_is_an_error_before_anything_is_trained() {
    let sandbox = Sandbox::new();
    let Some(output) = on_a_disk(&sandbox, "ro", SMALL_RUN) else {
        return;
    };
    fails(&output, "Read-only file system");
    assert!(stderr(&output).contains("--run-dir"), "{}", stderr(&output));
}

#[test]
fn predict_reads_pictures_and_names_those_it_cannot() {
    use kiln::data::info::Picture;
    use kiln::data::{Digits, Split};
    let sandbox = Sandbox::new();
    succeeds(&sandbox.train("run", &[]).output().unwrap());
    let (pixels, _) = Digits::new(0).image(Split::Test, 7);
    let picture = Picture {
        width: 28,
        height: 28,
        channels: 1,
        pixels,
    };
    picture
        .enlarge(3)
        .write_png(&sandbox.path("digit.png"))
        .unwrap();
    let output = sandbox.run(&["predict", "run", "digit.png", "--json", "--top", "2"]);
    let predicted = succeeds(&output);
    let top = predicted["predictions"][0]["top"].as_array().unwrap();
    assert_eq!(top.len(), 2);
    assert!(top[0]["probability"].as_f64().unwrap() >= top[1]["probability"].as_f64().unwrap());

    std::fs::write(sandbox.path("broken.png"), b"not a picture").unwrap();
    fails(
        &sandbox.run(&["predict", "run", "broken.png"]),
        "broken.png",
    );
    fails(
        &sandbox.run(&["predict", "run", "missing.png"]),
        "missing.png",
    );
}

#[test]
fn damaged_runs_are_refused_with_the_file_that_is_damaged() {
    let sandbox = Sandbox::new();
    succeeds(&sandbox.train("run", &[]).output().unwrap());
    let weights = sandbox.path("run").join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    fails(
        &sandbox.run(&["eval", "run", "--device", "flex"]),
        "model.safetensors is not a usable weight file",
    );
    std::fs::write(sandbox.path("run").join("run.json"), "{").unwrap();
    fails(&sandbox.run(&["eval", "run"]), "run.json is damaged");
}

#[test]
fn devices_and_data_are_listed_for_people_and_for_scripts() {
    let sandbox = Sandbox::new();
    let devices = succeeds(&sandbox.run(&["devices", "--json"]));
    let chosen: Vec<&Value> = devices["devices"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|device| device["chosen"] == true)
        .collect();
    assert_eq!(chosen.len(), 1);
    let text = sandbox.run(&["devices"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("taken by --device auto"));

    let info = sandbox.run(&["data", "info", "digits", "--json", "--sheet", "sheet.png"]);
    let info = succeeds(&info);
    assert_eq!(info["train"]["len"], 60000);
    assert!(sandbox.path("sheet.png").exists());
    let list = sandbox.run(&["data", "list"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains("fashion-mnist"));
}

#[test]
fn pixels_are_scaled_in_evaluation_exactly_as_in_training() {
    let sandbox = Sandbox::new();
    for (run, scale) in [
        ("a", "standard"),
        ("b", "minmax:-1,1"),
        ("c", "normalize-l2"),
        ("d", "none"),
    ] {
        let setting = format!("scale={scale}");
        let output = sandbox.train(run, &["--json", "--set", &setting]).output();
        let summary = succeeds(&output.unwrap());
        let file = sandbox.path(run).join("scaler.json");
        assert_eq!(file.exists(), scale != "none");
        let seen = succeeds(&sandbox.run(&["eval", run, "--json", "--device", "flex"]));
        assert_eq!(seen["loss"], summary["test_loss"], "{scale}");
    }
    assert!(sandbox.weights("a") != sandbox.weights("d"));
    // The file is what counts: another mean gives another loss.
    let file = sandbox.path("a").join("scaler.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut scaler: Value = serde_json::from_str(&text).unwrap();
    let before = succeeds(&sandbox.run(&["eval", "a", "--json", "--device", "flex"]));
    scaler["state"]["mean"][0] = 0.9.into();
    std::fs::write(&file, scaler.to_string()).unwrap();
    let after = succeeds(&sandbox.run(&["eval", "a", "--json", "--device", "flex"]));
    assert_ne!(before["loss"], after["loss"]);
    std::fs::write(&file, "mean = 3").unwrap();
    fails(&sandbox.run(&["eval", "a"]), "scaler.json holds no scaler");
    let wrong = sandbox.train("e", &["--set", "scale=standart"]).output();
    fails(&wrong.unwrap(), "scale = \"standart\" is not allowed");
}

#[test]
fn without_mnist_and_network_auto_takes_digits_and_says_so() {
    let sandbox = Sandbox::new();
    let output = sandbox
        .train("run", &["--data", "auto", "--offline"])
        .output();
    // --data is given twice: the last one counts.
    let output = match output {
        Ok(output) if output.status.success() => output,
        other => panic!("{other:?}"),
    };
    let notes = stderr(&output);
    assert!(notes.contains("MNIST is not at hand"), "{notes}");
}
