//! Damaged recipes, settings, search spaces and run folders: read or refused, quickly and with little memory, never a panic.
//!
//! `KILN_FUZZ_CASES=1000000 cargo test -p kiln-train --test fuzz -- --nocapture` is a long round.

use std::path::Path;

use kiln_fuzz::{CountingAllocator, Mutator, Run, Verdict};
use kiln_train::tune::SuggestError;
use kiln_train::{Recipe, RecipeSpace, RunDir, Schedule, Setting, TrainError, report_to};
use kiln_tune::{RandomSampler, Study};

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

const SPACES: [&str; 4] = [
    "n_layers = { int = [1, 3] }\nn_units_l = { int = [4, 128], log = true, repeat = 'n_layers', sets = 'model.hidden' }\n\
     dropout_l = { float = [0.2, 0.5], repeat = 'n_layers', sets = 'model.dropout' }\n\
     optimizer = { choice = ['adam', 'rmsprop', 'sgd'], sets = 'optimizer.name' }\nlr = { log = [1e-5, 1e-1], sets = 'optimizer.lr' }\n\
     momentum = { float = [0.0, 0.9], sets = 'optimizer.momentum', when = { optimizer = 'sgd' } }\n",
    "'optimizer.lr' = { float = [0.01, 0.1], step = 0.03 }\nbatch_size = { int = [16, 128], step = 16 }\nepochs = { int = [1, 100], log = true }\n",
    "'model.hidden' = { choice = [[64], [128, 32]] }\n'schedule.name' = { choice = ['constant', 'cosine'] }\nseed = { choice = [1, 2, 3] }\n\
     skip_nonfinite = { choice = [true, false] }\n['augment.shift']\nfloat = [0.0, 3.0]\nwhen = { seed = [1, 2], 'schedule.name' = 'cosine' }\n",
    "n = { choice = [0, 2, 1000] }\na = { float = [-1e300, 1e300], repeat = 'n', sets = 'model.dropout' }\nb = { int = [-9223372036854775808, 9223372036854775807], sets = 'seed' }\n",
];

/// Entries of a space, each `#` a number to be put in.
const FORMS: [&str; 10] = [
    "n = { int = [#, #], repeat = 'm', sets = 'model.hidden' }\nm = { int = [#, #] }\n",
    "'optimizer.lr' = { log = [#, #] }\n",
    "d = { float = [0.#, 0.#], repeat = 'k', sets = 'model.dropout' }\nk = { choice = [#, #, #] }\n",
    "'optimizer.weight_decay' = { float = [#, #], step = # }\n",
    "batch_size = { int = [#, #], step = # }\n",
    "epochs = { int = [#, #], log = true }\n",
    "'early_stopping.min_delta' = { float = [#, #] }\n",
    "log_every = { int = [#, #], when = { seed = [#, #] } }\nseed = { choice = [#, #, #] }\n",
    "'augment.crop' = { int = [#, #], when = { 'schedule.step_size' = # } }\n'schedule.step_size' = { int = [#, #] }\n",
    "'schedule.gamma' = { float = [0.#, 0.#], when = { 'schedule.name' = 'step' } }\n'schedule.name' = { choice = ['step', 'cosine'] }\n",
];

/// What a trial was given must lie in the parameter's distribution, and the recipe that follows must hold together.
fn trials_of(space: &RecipeSpace, recipe: &Recipe, study: &Study) -> Verdict {
    let params = space.param_space();
    if let Err(error) = study.check_space(&params) {
        return Verdict::Wrong(format!("the study refuses a space that was taken: {error}"));
    }
    let mut taken = false;
    for _ in 0..3 {
        let mut trial = match study.ask() {
            Ok(trial) => trial,
            Err(error) => return Verdict::Wrong(format!("no trial: {error}")),
        };
        match space.suggest(&mut trial, recipe) {
            Ok(recipe) => {
                taken = true;
                match holds_together(&recipe) {
                    Verdict::Wrong(what) => return Verdict::Wrong(what),
                    Verdict::Accepted | Verdict::Refused => {}
                }
            }
            // The values may not fit together, or not fit the rest of the recipe.
            Err(SuggestError::Recipe(_)) => {}
            Err(SuggestError::Trial(error)) => {
                return Verdict::Wrong(format!("a value cannot be suggested: {error}"));
            }
        }
        for param in trial.params() {
            let known = params.get(&param.name);
            if !known.is_some_and(|distribution| distribution.contains(param.internal)) {
                let (name, value) = (&param.name, param.value());
                return Verdict::Wrong(format!("{name} = {value} is not of the space"));
            }
        }
    }
    if taken {
        Verdict::Accepted
    } else {
        Verdict::Refused
    }
}

#[test]
fn damaged_search_spaces_are_read_and_their_trials_become_recipes_or_they_are_refused() {
    let _alone = alone();
    let recipe = Recipe::from_toml("[model]\nname = 'mlp'").unwrap();
    let seeds = SPACES.map(str::as_bytes);
    let report = run("search spaces", 3_000).check(
        |mutator: &mut Mutator| {
            if mutator.one_in(3) {
                return String::from_utf8_lossy(&mutator.mutate_any(&seeds)).into_owned();
            }
            // Spaces whose text is right and whose numbers may be anything.
            let first = mutator.below(FORMS.len());
            let mut text = String::new();
            for form in FORMS.iter().cycle().skip(first).take(1 + first % 3) {
                // Mostly a range from low to high.
                let mut low = 0;
                for piece in form.split_inclusive('#') {
                    text += piece.trim_end_matches('#');
                    if piece.ends_with('#') {
                        low += 1 + mutator.below(9);
                        text += &match mutator.below(12) {
                            0 => mutator.numeral(),
                            1 => format!("{low}.5"),
                            _ => low.to_string(),
                        };
                    }
                }
            }
            text
        },
        |text: &String| {
            let Ok(space) = RecipeSpace::from_toml(text) else {
                return Verdict::Refused;
            };
            // A space that does not fit this recipe may fit another: its trials are asked all the same.
            let fits = space.check(&recipe).is_ok();
            let study = Study::builder().sampler(RandomSampler::new(0)).create();
            match trials_of(&space, &recipe, &study.unwrap()) {
                Verdict::Accepted if !fits => Verdict::Refused,
                verdict => verdict,
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
