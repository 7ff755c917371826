//! `kiln eval`

use std::path::{Path, PathBuf};

use kiln::train::{DataRecipe, Evaluation, TrainedModel, evaluations, own_evaluation};
use serde::Serialize;

use super::Result;
use crate::args::Eval;
use crate::output;

#[derive(Serialize)]
struct Json<'a> {
    run: &'a Path,
    device: &'a str,
    backend: &'a str,
    model: &'a str,
    data: &'a str,
    origin: &'a str,
    /// Where the evaluation was written; none where that failed.
    written: &'a [PathBuf],
    #[serde(flatten)]
    evaluation: &'a Evaluation,
}

pub fn run(args: Eval) -> Result<()> {
    if args.list {
        return list(&args);
    }
    let device = kiln::device::select(&args.device)?;
    let model = super::trained(&args.run, &device, args.classes.as_deref())?;
    output::note(&format!("device: {}", device.reason));
    let data = match other_data(&args, &model) {
        Some(recipe) => model.other_test_data(&recipe, true)?,
        None => model.own_test_data(args.offline, true)?,
    };
    data.notes().iter().for_each(|note| output::note(note));
    let evaluation = model.evaluate(&data)?;
    if !evaluation.absent.is_empty() {
        let count = evaluation.absent.len();
        let classes = evaluation.classes.len();
        output::note(&format!(
            "{count} of the {classes} classes that the model knows are not in these data"
        ));
    }
    let written = model.write_evaluation(&evaluation, &data, args.out.as_deref());
    let files = match &written {
        Ok(files) => {
            output::note(&format!("written: {}", paths(files)));
            files.as_slice()
        }
        Err(_) => &[],
    };
    match args.json {
        true => output::json(&Json {
            run: &args.run,
            device: &device.name,
            backend: device.backend,
            model: &model.info().model_name,
            data: data.name(),
            origin: data.origin(),
            written: files,
            evaluation: &evaluation,
        })?,
        false => output::text(&evaluation.to_text())?,
    }
    match written {
        // The scores are what was asked for; files were only if a folder was named.
        Err(error) if args.out.is_none() => {
            output::warn("the evaluation was not written", &error);
            Ok(())
        }
        other => Ok(other.map(drop)?),
    }
}

/// The data to evaluate on where they are not the run's own.
fn other_data(args: &Eval, model: &TrainedModel) -> Option<DataRecipe> {
    if args.data.is_none() && args.data_dir.is_none() {
        return None;
    }
    let own = model.data();
    let name = match &args.data {
        Some(name) => name.clone(),
        None if own.name == "auto" => model.info().data.name.clone(),
        None => own.name.clone(),
    };
    Some(DataRecipe {
        name,
        dir: args.data_dir.clone(),
        train_len: None,
        test_len: None,
        download: own.download && !args.offline,
        ..own.clone()
    })
}

/// Files of one folder, with the folder once.
fn paths(files: &[PathBuf]) -> String {
    let name = |file: &PathBuf| file.file_name().map(|name| name.display().to_string());
    let names: Vec<String> = files.iter().filter_map(name).collect();
    let folder = files.first().and_then(|file| file.parent());
    format!(
        "{} in {}",
        names.join(", "),
        folder.unwrap_or(Path::new(".")).display()
    )
}

#[derive(Serialize)]
struct Listed {
    folder: PathBuf,
    data: String,
    origin: String,
    /// None for the run's own test images, which training evaluates.
    evaluated: Option<String>,
    #[serde(flatten)]
    evaluation: Evaluation,
}

#[derive(Serialize)]
struct List<'a> {
    run: &'a Path,
    evaluations: Vec<Listed>,
}

/// Prints the evaluations that a run's folder holds: that on its own test images first.
fn list(args: &Eval) -> Result<()> {
    let data = kiln::train::RunDir::open(&args.run)?.info()?.data;
    let own = own_evaluation(&args.run)?.map(|evaluation| Listed {
        folder: args.run.clone(),
        data: data.name,
        origin: data.origin,
        evaluated: None,
        evaluation,
    });
    let others = evaluations(&args.run)?.into_iter();
    let others = others.map(|(folder, record)| Listed {
        folder,
        data: record.data,
        origin: record.origin,
        evaluated: Some(record.evaluated),
        evaluation: record.evaluation,
    });
    let all: Vec<Listed> = own.into_iter().chain(others).collect();
    if args.json {
        output::json(&List {
            run: &args.run,
            evaluations: all,
        })?;
        return Ok(());
    }
    if all.is_empty() {
        output::note("the run has not been evaluated; kiln eval without --list does it");
        return Ok(());
    }
    let masks = all.iter().any(|one| one.evaluation.segmentation.is_some());
    let mut head = vec!["data", "origin", "images", "accuracy", "loss"];
    if masks {
        head.extend(["iou", "dice"]);
    }
    head.extend(["evaluated", "folder"]);
    let row = |one: &Listed| {
        let seen = &one.evaluation;
        let mut row = vec![
            one.data.clone(),
            one.origin.clone(),
            seen.images.to_string(),
            format!("{:.2} %", seen.accuracy * 100.0),
            format!("{:.4}", seen.loss),
        ];
        if masks {
            let scores = seen.segmentation.as_ref();
            let score = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.4}"));
            row.push(score(scores.map(|s| s.iou)));
            row.push(score(scores.map(|s| s.dice)));
        }
        row.push(
            one.evaluated
                .clone()
                .unwrap_or_else(|| "its own test".into()),
        );
        row.push(one.folder.display().to_string());
        row
    };
    let mut rows = vec![head.into_iter().map(String::from).collect()];
    rows.extend(all.iter().map(row));
    output::text(&output::table(&rows))?;
    Ok(())
}
