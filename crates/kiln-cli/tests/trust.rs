//! Names and folders that need not be anybody's friend: links in a run's folder, names with control characters or none that
//! are text, leftovers of the dead.

mod common;

#[cfg(unix)]
use std::os::unix::fs::symlink;

use common::{Sandbox, fails, stderr, succeeds, words};

#[cfg(unix)]
#[test]
fn a_foreign_run_folder_makes_nothing_be_written_through_its_links() {
    let sandbox = Sandbox::new();
    let half = ["--epochs", "1000", "--set", "schedule.name=constant"];
    let mut child = sandbox.train("run", &half).spawn().unwrap();
    common::wait_for_step(&mut child, &sandbox.path("run"), 7);
    child.kill().unwrap();
    child.wait().unwrap();
    let victim = sandbox.path("victim");
    std::fs::write(&victim, "precious").unwrap();
    std::fs::create_dir(sandbox.path("elsewhere")).unwrap();
    let names = ["run.lock", "metrics.jsonl", "checkpoints"];
    for name in names {
        let file = sandbox.path("run").join(name);
        let kept = sandbox.path("kept");
        std::fs::rename(&file, &kept).unwrap();
        let target = if name == "checkpoints" {
            sandbox.path("elsewhere")
        } else {
            victim.clone()
        };
        symlink(target, &file).unwrap();
        let output = sandbox.run(&["train", "--resume", "run", "--progress", "none"]);
        fails(
            &output,
            &format!("{name} is damaged or not Kiln's: it is a symbolic link"),
        );
        std::fs::remove_file(&file).unwrap();
        std::fs::rename(&kept, &file).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(
        std::fs::read_dir(sandbox.path("elsewhere"))
            .unwrap()
            .count(),
        0
    );

    // What is written as a whole takes the place of a link.
    succeeds(&sandbox.train("done", &[]).output().unwrap());
    for name in ["evaluation.json", "confusion.png", "report.html"] {
        let file = sandbox.path("done").join(name);
        let _ = std::fs::remove_file(&file);
        symlink(&victim, &file).unwrap();
    }
    let evaluated = sandbox.run(&["eval", "done", "--device", "flex"]);
    assert!(evaluated.status.success(), "{}", stderr(&evaluated));
    // `exec` keeps the process id, so that the stranger guesses right.
    let mut shell = std::process::Command::new("sh");
    shell.args([
        "-c",
        "ln -s ../victim done/report.html.partial-$$; exec \"$0\" report done",
    ]);
    shell
        .arg(env!("CARGO_BIN_EXE_kiln"))
        .current_dir(sandbox.path(""));
    assert!(shell.output().unwrap().status.success());
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    let page = std::fs::symlink_metadata(sandbox.path("done/report.html")).unwrap();
    assert!(page.is_file() && page.len() > 1000);
}

/// A folder of two classes, with a sheet of digits four times in each.
fn copies(sandbox: &Sandbox, folder: &str, classes: [&str; 2]) {
    let sheet = sandbox.path("sheet.png");
    if !sheet.exists() {
        succeeds(&sandbox.run(&words("data info digits --sheet sheet.png --json")));
    }
    for class in classes {
        let folder = sandbox.path(folder).join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..4 {
            std::fs::copy(&sheet, folder.join(format!("{i}.png"))).unwrap();
        }
    }
}

/// `/sys` is a place where nobody makes a folder, root included.
#[cfg(target_os = "linux")]
#[test]
fn a_place_that_may_not_be_written_to_is_told_with_the_option_that_the_command_has() {
    let sandbox = Sandbox::new();
    let refused = sandbox.train("/sys/kiln-run", &[]).output().unwrap();
    fails(&refused, "write to with --run-dir");
    succeeds(&sandbox.train("run", &[]).output().unwrap());
    succeeds(&sandbox.run(&words(
        "train --run-dir masks --data shapes --task segmentation --set data.train_len=20 --set data.test_len=4 \
         --set model.channels=[2] --epochs 1 --device flex --progress none",
    )));
    for args in [
        &["eval", "run", "--device", "flex", "--out", "/sys/kiln"][..],
        &["report", "run", "--out", "/sys/kiln.html"],
        &[
            "predict",
            "masks",
            "run/confusion.png",
            "--out",
            "/sys/kiln",
        ],
    ] {
        // An evaluation prints its scores all the same.
        let refused = sandbox.run(args);
        let message = stderr(&refused);
        assert_eq!(refused.status.code(), Some(1), "{message}");
        assert!(
            message.contains("; name a place that you may write to with --out"),
            "{message}"
        );
        assert!(!message.contains("--run-dir"), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn leftovers_of_dead_processes_are_cleaned_up_and_those_of_living_ones_kept() {
    let sandbox = Sandbox::new();
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let (dead, alive) = (dead.id(), std::process::id());
    std::fs::create_dir_all(sandbox.path(&format!("runs/.new-run-{dead}-0/checkpoints"))).unwrap();
    std::fs::create_dir_all(sandbox.path(&format!("runs/.new-run-{alive}-0"))).unwrap();
    succeeds(&sandbox.train("runs/run", &[]).output().unwrap());
    let exists = |name: String| sandbox.path(&name).exists();
    assert!(!exists(format!("runs/.new-run-{dead}-0")));
    assert!(exists(format!("runs/.new-run-{alive}-0")));

    for process in [dead, alive] {
        std::fs::write(
            sandbox.path(&format!("runs/run/report.html.partial-{process}")),
            "x",
        )
        .unwrap();
    }
    assert!(sandbox.run(&["report", "runs/run"]).status.success());
    assert!(!exists(format!("runs/run/report.html.partial-{dead}")));
    assert!(exists(format!("runs/run/report.html.partial-{alive}")));
}

#[cfg(unix)]
#[test]
fn control_characters_of_names_are_escaped_in_the_terminal() {
    let sandbox = Sandbox::new();
    let evil = "a\u{1b}]0;owned\u{7}\u{9b}2J\nb";
    copies(&sandbox, "photos", [evil, "plain"]);
    let evil_picture = sandbox.path("p\u{1b}[31m\u{7}.png");
    std::fs::copy(sandbox.path("sheet.png"), &evil_picture).unwrap();
    let evil_picture = evil_picture.to_str().unwrap();
    let train = "train --data image-folder --data-dir photos --set data.size=[8,8] --set data.valid_fraction=0 --model mlp \
                 --set model.hidden=[4] --epochs 1 --device flex --run-dir run --progress none";
    let mut outputs = vec![
        sandbox.run(&words(train)),
        sandbox.run(&["eval", "run", "--device", "flex"]),
        sandbox.run(&["eval", "run", "--device", "flex", "--json"]),
        sandbox.run(&["predict", "run", evil_picture, "--device", "flex"]),
        sandbox.run(&["predict", "run", evil_picture, "--device", "flex", "--json"]),
        sandbox.run(&words(
            "data info image-folder --data-dir photos --size 8,8",
        )),
        sandbox.run(&words(
            "data info image-folder --data-dir photos --size 8,8 --json",
        )),
    ];
    for output in &outputs {
        assert!(output.status.success(), "{}", stderr(output));
    }
    std::fs::write(evil_picture, "no picture").unwrap();
    outputs.push(sandbox.run(&["predict", "run", evil_picture]));
    outputs.push(sandbox.run(&["train", "--resume", "no\u{1b}run\nhere"]));
    outputs.push(sandbox.run(&["train", "--set", "no\u{1b}key=1"]));
    outputs.push(sandbox.run(&["report", "no\u{1b}run"]));
    for output in &outputs {
        for stream in [&output.stdout, &output.stderr] {
            let text = String::from_utf8(stream.clone()).unwrap();
            let control = text.chars().find(|&c| c.is_control() && c != '\n');
            assert_eq!(control, None, "{text:?}");
        }
    }
    let scores = String::from_utf8(outputs[1].stdout.clone()).unwrap();
    assert!(scores.contains("2J\\nb"), "{scores}");
    let shown = String::from_utf8(outputs[5].stdout.clone()).unwrap();
    assert!(
        shown.contains("class a\\x1b]0;owned\\x07\\x9b2J\\nb"),
        "{shown}"
    );
    let json: serde_json::Value = serde_json::from_slice(&outputs[6].stdout).unwrap();
    assert!(
        json.to_string()
            .contains("a\\u001b]0;owned\\u0007\u{9b}2J\\nb"),
        "{json}"
    );
    assert!(
        stderr(&outputs[8]).contains("no\\x1brun\\nhere holds no run"),
        "{}",
        stderr(&outputs[8])
    );
}

#[test]
fn paths_travel_as_they_are_whatever_characters_they_hold() {
    let sandbox = Sandbox::new();
    let names = [
        "cafe\u{301}",
        "5 # b",
        "2024",
        "it's a \"folder\"",
        " space ",
        "a=b",
    ];
    for (i, name) in names.into_iter().enumerate() {
        copies(&sandbox, name, ["one", "two"]);
        let run = format!("runs of {name}/{i}");
        let train = "train --data image-folder --set data.size=[8,8] --set data.valid_fraction=0 --model mlp \
                     --set model.hidden=[4] --epochs 1 --device flex --progress none --json";
        let args = [&words(train)[..], &["--data-dir", name, "--run-dir", &run]].concat();
        let output = sandbox.run(&args);
        let summary = succeeds(&output);
        assert_eq!(summary["run"], run.as_str(), "{}", stderr(&output));
        let recipe = std::fs::read_to_string(sandbox.path(&run).join("recipe.toml")).unwrap();
        let recipe: toml::Table = toml::from_str(&recipe).unwrap();
        assert_eq!(recipe["data"]["dir"].as_str(), Some(name));
        succeeds(&sandbox.run(&["eval", &run, "--device", "flex", "--json"]));
        let weights = format!("{run}/model.safetensors");
        let more = ["--weights", &weights, "--run-dir", "next"];
        let output = sandbox.run(&[&args[..], &more].concat());
        succeeds(&output);
        assert!(stderr(&output).contains("weights: "), "{}", stderr(&output));
        std::fs::remove_dir_all(sandbox.path("next")).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_utf8_is_refused_with_a_clear_error_before_anything_is_trained() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let sandbox = Sandbox::new();
    let odd = OsStr::from_bytes(b"odd\xff");
    for flag in ["--data-dir", "--weights", "--run-dir", "--runs"] {
        let mut command = sandbox.command(&["train", "--data", "digits", "--device", "flex", flag]);
        fails(&command.arg(odd).output().unwrap(), "is not UTF-8");
    }
    assert!(!sandbox.path("runs").exists() && !sandbox.0.path().join(odd).exists());
    succeeds(&sandbox.train("run", &[]).output().unwrap());
    std::fs::remove_file(sandbox.path("run/summary.json")).unwrap();
    std::fs::rename(sandbox.path("run"), sandbox.0.path().join(odd)).unwrap();
    let resumed = sandbox
        .command(&["train", "--progress", "none", "--resume"])
        .arg(odd)
        .output();
    fails(&resumed.unwrap(), "is not UTF-8");
}

#[test]
fn nothing_is_made_for_settings_that_cannot_work() {
    let sandbox = Sandbox::new();
    for (setting, images) in [
        ("augment.shift=-1", "270"),
        (
            "data.size=[9223372036854775807, 9223372036854775807]",
            "270",
        ),
        // More images an epoch than can be numbered.
        ("data.crops_per_image=100000", "23000"),
        ("data.crops_per_image=9223372036854775807", "270"),
        ("data.test_len=9223372036854775807", "270"),
        ("model.hidden=[0]", "270"),
        ("model.norm=group:7", "270"),
        ("loss.name=bce", "270"),
        ("scale=minmax:5,1", "270"),
    ] {
        let images = format!("data.train_len={images}");
        let more = ["--set", &images, "--set", setting];
        let output = sandbox.train("runs/run", &more).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(1),
            "{setting}: {}",
            stderr(&output)
        );
        assert!(
            !stderr(&output).contains("panicked"),
            "{setting}: {}",
            stderr(&output)
        );
        assert!(!sandbox.path("runs").exists(), "{setting}");
    }
}
