//! `kiln train`

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use kiln::train::{FIELDS, Outcome, Progress, Recipe, RecipeTrainer, Setting, Summary, shell_word};

use super::{Result, models};
use crate::args::{ProgressStyle, RecipeArgs, Train};
use crate::{output, signals};

pub fn run(args: Train) -> Result<ExitCode> {
    if args.keys {
        return keys();
    }
    let of_a_run = [
        ("seed", args.seed.clone()),
        ("grad_health", args.grad_health.clone()),
    ];
    let settings = settings(&args.recipe_args, of_a_run)?;
    let progress = progress(&args)?;
    let trainer = match &args.resume {
        Some(run) => {
            let saved = kiln::train::RunDir::open(run)?.recipe()?;
            let device =
                kiln::device::select(args.recipe_args.device.as_deref().unwrap_or(&saved.device))?;
            output::note(&format!("device: {}", device.reason));
            // Another device may continue a run; anything else would make it another run.
            let settings = settings.into_iter().filter(|s| s.key() != "device");
            RecipeTrainer::resume(run, device.into()).expect_settings(settings)
        }
        None => {
            let recipe = recipe(args.recipe_args.recipe.as_deref(), &settings)?;
            let device = kiln::device::select(&recipe.device)?;
            output::note(&format!("device: {}", device.reason));
            let trainer = RecipeTrainer::new(recipe, device.into());
            match &args.run_dir {
                Some(folder) => trainer.run_dir(folder),
                None => trainer.runs(&args.runs),
            }
        }
    };
    let trainer = trainer.progress(progress).on_notice(output::note);
    let interrupter = trainer.interrupter();
    signals::on_request("stopping after this step", move || {
        interrupter.stop(Some("stopped by a signal"))
    })?;
    match trainer.run()? {
        Outcome::Finished(summary) => {
            match args.json {
                true => output::json(&summary)?,
                false => output::text(&report(&summary))?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Untested { run } => {
            output::note(&format!("trained, not tested: {}", run.display()));
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Stopped { run, step, epoch } => {
            output::note(&format!(
                "stopped after step {step} (epoch {epoch}); continue with: kiln train --resume {}",
                shell_word(&run)
            ));
            Ok(ExitCode::from(signals::exit_code()))
        }
    }
}

/// A recipe from its file or the defaults, with settings over it.
pub(super) fn recipe(file: Option<&std::path::Path>, settings: &[Setting]) -> Result<Recipe> {
    let mut recipe = match file {
        Some(file) => {
            let mut recipe = Recipe::from_file(file)?;
            settings
                .iter()
                .try_for_each(|setting| recipe.apply(setting))?;
            recipe
        }
        // What is not given follows the task.
        None => Recipe::from_settings(settings)?,
    };
    if let Some(file) = named_weights(&recipe)? {
        recipe.model.weights = Some(file);
    }
    recipe.validate()?;
    Ok(recipe)
}

/// The file of weights that the recipe names, as `IMAGENET1K_V1`, instead of a file; it is fetched if it is not here.
fn named_weights(recipe: &Recipe) -> Result<Option<PathBuf>> {
    let Some(path) = &recipe.model.weights else {
        return Ok(None);
    };
    let (path, key) = kiln::zoo::weights::split_key(path);
    let is_file = key.is_some()
        || path.extension().is_some()
        || path.components().count() > 1
        || path.exists();
    if is_file {
        return Ok(None);
    }
    let name = path.display().to_string();
    let weights = models::pretrained(&recipe.model.name, Some(&name))?;
    let fetched = models::fetch_file(weights, None, None, !recipe.data.download)?;
    Ok(Some(fetched))
}

/// The flags as settings of the recipe, in the order in which they take effect.
pub(super) fn settings(
    args: &RecipeArgs,
    more: impl IntoIterator<Item = (&'static str, Option<String>)>,
) -> Result<Vec<Setting>> {
    let text = |key, value: &Option<String>| value.as_ref().map(|value| Setting::text(key, value));
    let typed =
        |key, value: &Option<String>| value.as_ref().map(|value| Setting::typed(key, value));
    let path = |key, value: &Option<PathBuf>| {
        let path = value.as_ref().map(|value| Setting::path(key, value));
        path.transpose()
    };
    let yes = |key, given: bool, value| given.then(|| Setting::typed(key, value));
    let flags = [
        text("task", &args.task),
        text("data.name", &args.data),
        path("data.dir", &args.data_dir)?,
        yes("data.download", args.offline, "false"),
        text("model.name", &args.model),
        path("model.weights", &args.weights)?,
        yes(
            "model.allow_head_mismatch",
            args.allow_head_mismatch,
            "true",
        ),
        text("device", &args.device),
        typed("epochs", &args.epochs),
        typed("batch_size", &args.batch_size),
        typed("optimizer.lr", &args.lr),
    ];
    let more = more.into_iter().map(|(key, value)| typed(key, &value));
    let given = flags.into_iter().chain(more).flatten();
    Ok(given
        .chain(args.settings.iter().map(|text| text.as_str().into()))
        .collect())
}

fn progress(args: &Train) -> Result<Progress> {
    let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
    Ok(match args.progress {
        ProgressStyle::Auto if terminal && !args.json => Progress::Dashboard,
        ProgressStyle::Auto | ProgressStyle::Plain => Progress::Plain,
        ProgressStyle::None => Progress::Silent,
        ProgressStyle::Dashboard if !terminal => {
            return Err("--progress dashboard needs a terminal; use --progress plain".into());
        }
        ProgressStyle::Dashboard if args.json => {
            return Err(
                "--progress dashboard and --json both want stdout; use --progress plain".into(),
            );
        }
        ProgressStyle::Dashboard => Progress::Dashboard,
    })
}

fn report(summary: &Summary) -> String {
    let epochs = match summary.stopped_early {
        true => format!(
            "{} (stopped early; weights of epoch {})",
            summary.epochs, summary.kept_epoch
        ),
        false => summary.epochs.to_string(),
    };
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let mut rows = vec![
        (
            "device",
            format!("{} ({})", summary.device, summary.backend),
        ),
        ("data", summary.data.clone()),
        ("model", summary.model.clone()),
        ("parameters", grouped(summary.parameters)),
        ("epochs", epochs),
    ];
    let score = |name: &str| summary.score(name).unwrap_or(f64::NAN);
    match summary.scores.contains_key("test_iou") {
        true => rows.extend([
            ("test IoU", format!("{:.4}", score("test_iou"))),
            ("test Dice", format!("{:.4}", score("test_dice"))),
            ("test pixel error", percent(score("test_pixel_error"))),
        ]),
        false => rows.push(("test accuracy", percent(score("test_accuracy")))),
    }
    let speed = summary.samples_per_second;
    rows.extend([
        ("test loss", format!("{:.4}", score("test_loss"))),
        ("training time", format!("{:.1} s", summary.train_seconds)),
        (
            "samples per second",
            // Large images are few.
            if speed < 20.0 {
                format!("{speed:.1}")
            } else {
                format!("{speed:.0}")
            },
        ),
        ("run", summary.run.display().to_string()),
        (
            "report",
            summary.run.join("report.html").display().to_string(),
        ),
    ]);
    let mut rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(name, value)| vec![name.into(), value])
        .collect();
    let gradients = [
        (
            "gradient norm",
            summary
                .grad_norm
                .map(|norm| format!("{norm:.4} (mean of the last epoch, before clipping)")),
        ),
        (
            "skipped steps",
            summary.skipped_steps.map(|n| n.to_string()),
        ),
        (
            "gradient health",
            summary.grad_health.as_ref().map(|d| d.verdict.to_string()),
        ),
    ];
    let known = gradients
        .into_iter()
        .filter_map(|(name, value)| Some(vec![name.into(), value?]));
    // Above where to find it all.
    let place = rows.len() - 2;
    rows.splice(place..place, known);
    output::table(&rows)
}

/// `421834` as `421,834`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits are ASCII"))
        .collect();
    groups.join(",")
}

fn keys() -> Result<ExitCode> {
    let defaults = Recipe::default().to_toml();
    let mut rows = vec![vec!["key".into(), "meaning".into(), "allowed".into()]];
    for field in FIELDS {
        rows.push(vec![
            field.key.into(),
            field.meaning.into(),
            field.allowed.into(),
        ]);
    }
    output::text(&format!(
        "{}\ndefaults:\n\n{defaults}",
        output::table(&rows)
    ))?;
    Ok(ExitCode::SUCCESS)
}
