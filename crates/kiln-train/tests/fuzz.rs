//! Damaged recipes, settings and run folders: read or refused, quickly and with little memory, never a panic.
//!
//! `KILN_FUZZ_CASES=1000000 cargo test -p kiln-train --test fuzz -- --nocapture` is a long round.

use std::path::Path;

use kiln_fuzz::{CountingAllocator, Mutator, Run, Verdict};
use kiln_train::{Recipe, RunDir, Schedule, Setting, TrainError, report_to};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// How many cases: a few in CI, as many as wanted otherwise.
fn cases(few: u64) -> u64 {
    let wanted = std::env::var("KILN_FUZZ_CASES").ok();
    wanted.map_or(few, |wanted| wanted.parse().expect("a number of cases"))
}

/// Memory is counted for the whole process, so that only one of these tests may run at a time.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn run(name: &str, few: u64) -> Run {
    Run::new(name).seed(20).cases(cases(few))
}

/// A recipe that was taken must be written and read again as the same, and make a schedule of numbers.
fn holds_together(recipe: &Recipe) -> Verdict {
    match Recipe::from_toml(&recipe.to_toml()) {
        Ok(again) if again == *recipe => {}
        Ok(_) => return Verdict::Wrong("it changes when it is written and read again".into()),
        Err(error) => {
            return Verdict::Wrong(format!("it is refused when it is read again: {error}"));
        }
    }
    let schedule = Schedule::new(&recipe.schedule, &recipe.optimizer, 7, 100);
    match (0..100).all(|step| schedule.at(step).is_finite()) {
        true => Verdict::Accepted,
        false => Verdict::Wrong("its learning rate is no number".into()),
    }
}

const RECIPES: [&str; 3] = [
    "epochs = 3\nbatch_size = 32\nclip = 'norm:1.0'\nscale = 'minmax:-1,1'\n[data]\nname = 'digits'\ntrain_len = 300\n\
     [optimizer]\nname = 'sgd'\nlr = 1e-2\nmomentum = 0.9\nnesterov = true\n[schedule]\nname = 'step'\ngamma = 0.5\n",
    "task = 'segmentation'\nepochs = 'auto'\n[data]\ndir = 'cells'\ncrop_size = [64, 64]\n[model]\nchannels = [8]\n\
     norm = 'group:4'\nbilinear = true\n[loss]\nname = 'bce'\ndice = 0.5\n[augment]\nelastic = 2.0\nhflip = 0.5\n",
    "seed = 9223372036854775807\n[model]\nname = 'mlp'\nhidden = [64, 32]\ndropout = [0.1, 0.2]\nactivation = 'leaky_relu:0.1'\n\
     weights = \"a \\\"b\\\".pth\"\n[early_stopping]\npatience = 3\nmin_delta = 1e-3\n[checkpoint]\nevery = 10\nkeep = 3\n",
];

#[test]
fn damaged_recipes_are_read_or_refused() {
    let _alone = alone();
    let whole = Recipe::default().to_toml();
    let seeds: Vec<&[u8]> = RECIPES
        .iter()
        .chain([&whole.as_str()])
        .map(|text| text.as_bytes())
        .collect();
    let report = run("recipes", 3_000).check(
        |mutator: &mut Mutator| String::from_utf8_lossy(&mutator.mutate_any(&seeds)).into_owned(),
        |text: &String| match Recipe::from_toml(text) {
            Ok(recipe) => holds_together(&recipe),
            Err(_) => Verdict::Refused,
        },
    );
    println!("{report}");
    report.assert_clean();
}

#[test]
fn damaged_settings_are_read_or_refused() {
    let _alone = alone();
    let report = run("settings", 3_000).check(
        |mutator: &mut Mutator| {
            let field = kiln_train::FIELDS[mutator.below(kiln_train::FIELDS.len())].key;
            let value = match mutator.below(3) {
                0 => mutator.numeral(),
                1 => mutator.mutate_text("[64, 32]"),
                _ => mutator.mutate_text("\"norm:1.0\" # auto"),
            };
            match mutator.one_in(4) {
                true => mutator.mutate_text(&format!("{field}={value}")),
                false => format!("{field}={value}"),
            }
        },
        |text: &String| {
            let mut recipe = Recipe::default();
            let applied = recipe.apply(&Setting::from(text.as_str()));
            match applied.and_then(|()| recipe.validate()) {
                Ok(()) => holds_together(&recipe),
                Err(_) => Verdict::Refused,
            }
        },
    );
    println!("{report}");
    report.assert_clean();
}

/// The files of a run that are read as values, and what each is like.
const FILES: [(&str, &str); 8] = [
    ("recipe.toml", RECIPES[0]),
    (
        "run.json",
        r#"{"created": "2026-11-22T13:15:02Z", "kiln": "0.1.0", "burn": "0.22.1", "device": "CPU", "backend": "flex",
            "model": {"input": [1, 28, 28], "num_classes": 2, "hidden": [4], "channels": null, "dropout": null},
            "model_name": "mlp", "parameters": 3148, "data": {"name": "digits", "origin": "drawn", "classes": ["a", "b"],
            "train_len": 60, "valid_len": 4, "test_len": 10, "fingerprint": "0a1b2c3d", "mean": [0.13], "std": [0.3]}}"#,
    ),
    (
        "scaler.json",
        r#"{"scaler": "StandardScaler", "with_mean": true, "with_std": true, "state": {"mean": [0.1361002213385354], "var": [0.09827067435150046], "n_samples_seen": [200704]}}"#,
    ),
    (
        "summary.json",
        r#"{"run": "runs/a", "device": "CPU", "backend": "flex", "model": "mlp", "parameters": 3148, "data": "digits",
            "epochs": 3, "steps": 24, "stopped_early": false, "kept_epoch": 3, "train_seconds": 1.5,
            "samples_per_second": 1234.5, "test_loss": 0.5, "test_accuracy": 0.9}"#,
    ),
    (
        "evaluation.json",
        r#"{"images": 10, "loss": 0.5, "accuracy": 0.9, "classes": [
            {"name": "a", "precision": 0.9, "recall": 0.9, "f1": 0.9, "support": 5},
            {"name": "b", "precision": 0.9, "recall": 0.9, "f1": 0.9, "support": 5}], "confusion": [[5, 0], [1, 4]]}"#,
    ),
    (
        "samples.json",
        r#"[{"png": "iVBORw0KGgo=", "truth": "a", "answer": "b", "probability": 0.75}]"#,
    ),
    (
        "metrics.jsonl",
        "{\"step\":10,\"epoch\":1,\"split\":\"train\",\"images\":320,\"loss\":2.3,\"accuracy\":0.1,\"lr\":0.001,\"grad_norm\":1.5}\n\
         {\"step\":20,\"epoch\":1,\"split\":\"train\",\"images\":320,\"loss\":1e-9,\"accuracy\":0.5,\"lr\":0.001,\"grad_norm\":1e308}\n\
         {\"step\":20,\"epoch\":1,\"split\":\"valid\",\"images\":64,\"loss\":null,\"accuracy\":0.5}\n",
    ),
    ("grad_health.png", "\u{89}PNG"),
];

#[test]
fn damaged_run_folders_are_read_or_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let run_dir = folder.path().join("run");
    std::fs::create_dir(&run_dir).unwrap();
    for (name, contents) in FILES {
        std::fs::write(run_dir.join(name), contents).unwrap();
    }
    read(&run_dir, &folder.path().join("whole.html")).unwrap();
    let report = run("run folders", 1_000).check(
        |mutator: &mut Mutator| {
            // Which file it is goes first.
            let at = mutator.below(FILES.len());
            let mut input = vec![at as u8];
            input.extend(mutator.mutate(FILES[at].1.as_bytes()));
            input
        },
        |input: &Vec<u8>| {
            let (name, whole) = FILES[usize::from(input[0])];
            let file = run_dir.join(name);
            std::fs::write(&file, &input[1..]).unwrap();
            let result = read(&run_dir, &folder.path().join("report.html"));
            std::fs::write(&file, whole).unwrap();
            match result {
                Ok(()) => Verdict::Accepted,
                Err(TrainError::Damaged { path, .. }) if path != file => {
                    Verdict::Wrong(format!("{} is blamed for {name}", path.display()))
                }
                Err(_) => Verdict::Refused,
            }
        },
    );
    println!("{report}");
    report.assert_clean();
}

fn read(run: &Path, page: &Path) -> Result<(), TrainError> {
    let opened = RunDir::open(run)?;
    opened.info()?;
    opened.recipe()?;
    opened.scaler()?;
    opened.summary()?;
    report_to(run, page)
}
