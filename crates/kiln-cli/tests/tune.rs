//! `kiln tune` and `kiln report`, as their users meet them.

mod common;

use std::process::{Command, Stdio};

use common::{Sandbox, fails, stderr, succeeds};
use serde_json::Value;

const RECIPE: &str = "
epochs = 2
batch_size = 32
steps_per_epoch = 4
[data]
name = 'digits'
train_len = 300
test_len = 60
valid_fraction = 0.2
[model]
name = 'mlp'
";
const SPACE: &str = "
n_layers = { int = [1, 2] }
units = { int = [4, 16], repeat = 'n_layers', sets = 'model.hidden' }
'optimizer.lr' = { log = [1e-4, 1e-1] }
";

impl Sandbox {
    /// A search of small runs, with a study in a file.
    fn tune(&self, recipe: &str, space: &str, more: &[&str]) -> Command {
        std::fs::write(self.path("recipe.toml"), recipe).unwrap();
        std::fs::write(self.path("space.toml"), space).unwrap();
        let mut args = vec!["tune", "--recipe", "recipe.toml", "--space", "space.toml"];
        args.extend(["--study", "a study", "--storage", "sqlite:///tune.db"]);
        args.extend(["--device", "flex", "--seed", "1", "--json"]);
        args.extend(more);
        self.command(&args)
    }
}

#[test]
fn a_study_of_recipes_is_continued_by_the_same_command_and_its_best_run_can_be_evaluated() {
    let sandbox = Sandbox::new();
    let tune = |trials: &str| {
        succeeds(
            &sandbox
                .tune(RECIPE, SPACE, &["--trials", trials])
                .output()
                .unwrap(),
        )
    };
    assert_eq!(tune("2")["trials"], 2);
    let result = tune("4");
    assert_eq!(
        (&result["trials"], &result["failed"]),
        (&4.into(), &0.into())
    );
    let layers = result["best_params"]["n_layers"].as_u64().unwrap();
    let params = result["best_params"].as_object().unwrap();
    assert_eq!(params.len() as u64, 2 + layers);
    let run = result["best_run"].as_str().unwrap();
    let evaluation = succeeds(&sandbox.run(&["eval", run, "--json", "--device", "flex"]));
    assert_eq!(evaluation["images"], 60);
    // What the run was trained with is what the trial was told.
    let recipe = std::fs::read_to_string(sandbox.path(run).join("recipe.toml")).unwrap();
    let recipe: toml::Table = toml::from_str(&recipe).unwrap();
    assert_eq!(
        recipe["optimizer"]["lr"].as_float(),
        params["optimizer.lr"].as_f64()
    );
    assert_eq!(
        recipe["model"]["hidden"].as_array().unwrap().len() as u64,
        layers
    );
    let report = result["report"].as_str().unwrap();
    let page = std::fs::read_to_string(sandbox.path(report)).unwrap();
    assert!(page.contains("Optimization history") && page.contains(run));
}

#[test]
fn the_same_seed_gives_the_same_trials() {
    let trials = |sandbox: &Sandbox| {
        succeeds(
            &sandbox
                .tune(RECIPE, SPACE, &["--trials", "3"])
                .output()
                .unwrap(),
        );
        let args = [
            "study",
            "trials",
            "--storage",
            "sqlite:///tune.db",
            "--format",
            "json",
        ];
        let list: Value = serde_json::from_slice(&sandbox.run(&args).stdout).unwrap();
        let trials = list.as_array().unwrap().iter();
        let both = trials.map(|trial| (trial["params"].to_string(), trial["values"].to_string()));
        both.collect::<Vec<_>>()
    };
    let (one, two) = (Sandbox::new(), Sandbox::new());
    assert_eq!(trials(&one), trials(&two));
}

#[test]
fn two_processes_share_a_study() {
    let sandbox = Sandbox::new();
    let start = || {
        let mut command = sandbox.tune(RECIPE, SPACE, &["--trials", "6", "--quiet"]);
        command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let workers = [start(), start()];
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let args = ["study", "show", "--storage", "sqlite:///tune.db", "--json"];
    let shown = succeeds(&sandbox.run(&args));
    let trials = shown["n_trials"].as_u64().unwrap_or_default();
    // Each may have one trial running when the other finishes the sixth.
    assert!((6..=7).contains(&trials), "{shown}");
}

#[cfg(unix)]
#[test]
fn the_trial_of_a_killed_worker_is_tried_again() {
    let sandbox = Sandbox::new();
    let long = RECIPE.replace("epochs = 2", "epochs = 100000");
    let heartbeat = ["--heartbeat", "1s", "--retry", "1", "--trials"];
    let args = |trials| [&heartbeat[..], &[trials]].concat();
    let mut command = sandbox.tune(&long, SPACE, &args("9"));
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut worker = command.spawn().unwrap();
    let metrics = sandbox.path("runs/a_study-0/metrics.jsonl");
    while std::fs::metadata(&metrics).map_or(0, |data| data.len()) == 0 {
        assert!(worker.try_wait().unwrap().is_none(), "the worker ended");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    worker.kill().unwrap();
    worker.wait().unwrap();
    // It is stale two seconds after its last mark.
    std::thread::sleep(std::time::Duration::from_millis(3200));
    let result = succeeds(&sandbox.tune(RECIPE, SPACE, &args("2")).output().unwrap());
    assert_eq!(
        (&result["failed"], &result["complete"]),
        (&1.into(), &1.into())
    );
    let trials = [
        "study",
        "trials",
        "--storage",
        "sqlite:///tune.db",
        "--json",
    ];
    let trials: Value = serde_json::from_slice(&sandbox.run(&trials).stdout).unwrap();
    assert_eq!(trials[0]["params"], trials[1]["params"]);
}

#[test]
fn a_run_that_diverges_is_a_failed_trial_or_the_worst_one() {
    for (choice, failed) in [("fail", 2), ("worst", 0)] {
        let sandbox = Sandbox::new();
        let recipe = format!("{RECIPE}\n[optimizer]\nname = 'sgd'\nweight_decay = 1000.0");
        let space = "'optimizer.lr' = { choice = [900.0, 1000.0] }";
        let args = [
            "--trials",
            "2",
            "--on-diverged",
            choice,
            "--metric",
            "valid_loss",
        ];
        let result = succeeds(&sandbox.tune(&recipe, space, &args).output().unwrap());
        assert_eq!(result["failed"], failed, "{result}");
        assert_eq!(result["complete"], 2 - failed, "{result}");
    }
}

#[test]
fn masks_are_searched_by_their_dice_or_iou() {
    let sandbox = Sandbox::new();
    let recipe = "
        task = 'segmentation'
        epochs = 2
        batch_size = 8
        data = { name = 'shapes', train_len = 20, test_len = 4, valid_fraction = 0.2 }
        model = { name = 'unet', channels = [4] }
    ";
    let space = "'optimizer.lr' = { choice = [0.01] }";
    for metric in ["dice", "iou"] {
        let (name, study) = (format!("valid_{metric}"), format!("by {metric}"));
        let more = ["--metric", &name, "--trials", "1", "--study", &study];
        let result = succeeds(&sandbox.tune(recipe, space, &more).output().unwrap());
        assert_eq!(result["metric"], name);
        let metrics = sandbox.path(result["best_run"].as_str().unwrap());
        let metrics = std::fs::read_to_string(metrics.join("metrics.jsonl")).unwrap();
        let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
        assert_eq!(
            (&last["split"], &last["epoch"]),
            (&"valid".into(), &2.into())
        );
        assert_eq!(last[metric], result["best_value"]);
    }
}

#[test]
fn the_pruner_stops_a_hopeless_run() {
    let sandbox = Sandbox::new();
    let recipe = RECIPE.replace("epochs = 2", "epochs = 4");
    let space = "'optimizer.lr' = { choice = [1e-7, 1e-2] }";
    let pruner = [
        "--pruner",
        "threshold",
        "--pruner-kwargs",
        "{\"lower\": 0.35, \"n_warmup_steps\": 2}",
    ];
    let more = [
        "--trials",
        "4",
        "--sampler",
        "grid",
        "--grid",
        "optimizer.lr=1e-7,1e-2",
    ];
    let args: Vec<&str> = pruner.into_iter().chain(more).collect();
    let result = succeeds(&sandbox.tune(&recipe, space, &args).output().unwrap());
    assert_eq!(
        (&result["complete"], &result["pruned"]),
        (&1.into(), &1.into()),
        "{result}"
    );
    assert_eq!(result["best_params"]["optimizer.lr"], 0.01);
}

#[test]
fn mistakes_are_told_before_anything_is_trained() {
    let sandbox = Sandbox::new();
    let tune = |space: &str, more: &[&str]| sandbox.tune(RECIPE, space, more).output().unwrap();
    fails(&tune(SPACE, &[]), "--trials N or --timeout TIME");
    fails(
        &tune("lr = { log = [1e-4, 1e-1] }", &["--trials", "1"]),
        "it sets nothing",
    );
    fails(
        &tune("'optimizer.lr' = { log = [1e-4, 1e9] }", &["--trials", "1"]),
        "optimizer.lr",
    );
    fails(
        &tune(SPACE, &["--trials", "1", "--metric", "valid_dice"]),
        "valid_dice is measured in segmentation, but the recipe's task is classification",
    );
    assert!(!sandbox.path("tune.db").exists());
    succeeds(&tune(SPACE, &["--trials", "1"]));
    fails(
        &tune(SPACE, &["--trials", "2", "--metric", "valid_loss"]),
        "directions",
    );
    fails(
        &sandbox.run(&["report", "nowhere"]),
        "nowhere is no folder of a run",
    );
    let args = ["report", "other", "--storage", "sqlite:///tune.db"];
    fails(&sandbox.run(&args), "\"other\" does not exist");
}

#[test]
fn a_study_is_where_the_environment_says_and_its_commands_are_those_of_this_program() {
    let sandbox = Sandbox::new();
    let with_storage = |mut command: Command| {
        command.env("OPTUNA_STORAGE", "sqlite:///named.db");
        succeeds(&command.output().unwrap())
    };
    std::fs::write(sandbox.path("recipe.toml"), RECIPE).unwrap();
    std::fs::write(sandbox.path("space.toml"), SPACE).unwrap();
    let tune =
        "tune --recipe recipe.toml --space space.toml --study s --trials 1 --device flex --json";
    let tuned = with_storage(sandbox.command(&tune.split(' ').collect::<Vec<_>>()));
    assert_eq!(tuned["storage"], "sqlite:///named.db");
    let report = ["report", "s", "--out", "s.html", "--json"];
    assert_eq!(with_storage(sandbox.command(&report))["report"], "s.html");
    let best = with_storage(sandbox.command(&["study", "best", "--json"]));
    assert_eq!(best["value"], tuned["best_value"]);

    let help = sandbox.run(&["study", "best", "--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("kiln study best --storage") && !help.contains("kiln-study"));
    fails(
        &sandbox.run(&["study", "list", "--storage", "sqlite:///none.db"]),
        "error: ",
    );
}

#[test]
fn the_report_of_a_run_is_one_page_with_everything_in_it() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("recipe.toml"), RECIPE).unwrap();
    let train = [
        "train",
        "--recipe",
        "recipe.toml",
        "--device",
        "flex",
        "--run-dir",
        "run",
        "--json",
    ];
    succeeds(&sandbox.run(&train));
    let shown = succeeds(&sandbox.run(&["report", "run", "--out", "page.html", "--json"]));
    assert_eq!(shown["report"], "page.html");
    let page = std::fs::read_to_string(sandbox.path("page.html")).unwrap();
    for part in [
        "Curves",
        "Confusion matrix",
        "Test images",
        "Recipe",
        "Environment",
        "data:image/png",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // It works offline.
    assert!(!page.contains("src=\"http") && !page.contains("href="));
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_a_study_that_the_same_command_continues() {
    let sandbox = Sandbox::new();
    let long = RECIPE.replace("epochs = 2", "epochs = 100000");
    let mut command = sandbox.tune(&long, SPACE, &["--trials", "2"]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let metrics = sandbox.path("runs/a_study-0/metrics.jsonl");
    let start = std::time::Instant::now();
    while std::fs::metadata(&metrics).map_or(0, |data| data.len()) == 0 {
        assert!(
            start.elapsed().as_secs() < 120,
            "no trial trains after two minutes"
        );
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let stopped: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&stopped["interrupted"], &stopped["failed"]),
        (&true.into(), &1.into())
    );
    let args = [
        "study",
        "trials",
        "--storage",
        "sqlite:///tune.db",
        "--format",
        "json",
    ];
    let trials: Value = serde_json::from_slice(&sandbox.run(&args).stdout).unwrap();
    // The parameters of the interrupted trial wait to be tried again.
    assert_eq!(trials.as_array().unwrap().len(), 2, "{trials}");
    let result = succeeds(
        &sandbox
            .tune(RECIPE, SPACE, &["--trials", "3"])
            .output()
            .unwrap(),
    );
    assert_eq!(
        (&result["complete"], &result["failed"]),
        (&2.into(), &1.into()),
        "{result}"
    );
}
