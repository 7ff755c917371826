//! `kiln predict`

use std::path::PathBuf;

use kiln::data::images::Invert;
use kiln::train::{Prediction, TrainedModel};
use serde::Serialize;

use super::Result;
use crate::args::{InvertChoice, Predict};
use crate::output;

#[derive(Serialize)]
struct Json {
    run: PathBuf,
    predictions: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    image: PathBuf,
    #[serde(flatten)]
    prediction: Prediction,
}

pub fn run(args: Predict) -> Result<()> {
    if args.top == 0 {
        return Err("--top 0 shows nothing; give at least 1".into());
    }
    let device = kiln::device::select(&args.device)?;
    let model = TrainedModel::load(&args.run, &device.device)?;
    let invert = match args.invert {
        InvertChoice::Auto => Invert::Auto,
        InvertChoice::Yes => Invert::Yes,
        InvertChoice::No => Invert::No,
    };
    let predict = |image: PathBuf| -> Result<Line> {
        let prediction = model.predict(&image, invert, args.top)?;
        Ok(Line { image, prediction })
    };
    let lines: Vec<Line> = args
        .images
        .into_iter()
        .map(predict)
        .collect::<Result<_>>()?;
    if args.json {
        output::json(&Json {
            run: args.run,
            predictions: lines,
        })?;
        return Ok(());
    }
    let row = |line: &Line| {
        let mut row = vec![line.image.display().to_string()];
        let top = line.prediction.top.iter();
        row.extend(top.map(|c| format!("{} {:.2} %", c.class, c.probability * 100.0)));
        if line.prediction.inverted {
            row.push("(inverted)".into());
        }
        row
    };
    let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
    output::text(&output::table(&rows))?;
    Ok(())
}
