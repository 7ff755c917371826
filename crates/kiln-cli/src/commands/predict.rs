//! `kiln predict`

use std::path::PathBuf;

use kiln::data::images::Invert;
use kiln::train::{MaskPrediction, Prediction, TrainedModel};
use serde::Serialize;

use super::{Result, make_folder};
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

#[derive(Serialize)]
struct MaskJson {
    run: PathBuf,
    predictions: Vec<MaskLine>,
}

#[derive(Serialize)]
struct MaskLine {
    image: PathBuf,
    mask: PathBuf,
    overlay: PathBuf,
    #[serde(flatten)]
    prediction: MaskPrediction,
}

pub fn run(args: Predict) -> Result<()> {
    if args.top == 0 {
        return Err("--top 0 shows nothing; give at least 1".into());
    }
    let device = kiln::device::select(&args.device)?;
    let mut model = super::trained(&args.run, &device, args.classes.as_deref())?;
    if args.frame {
        model = model.with_framing()?;
    }
    if model.predicts_masks() {
        return masks(args, &model);
    }
    if args.out.is_some() {
        return Err("--out is for masks, but the model predicts a class for each picture".into());
    }
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

/// Writes the mask and the overlay of each picture.
fn masks(args: Predict, model: &TrainedModel) -> Result<()> {
    let out = match args.out {
        Some(out) => {
            make_folder(&out)?;
            out
        }
        None => model.predictions_folder()?,
    };
    let mut lines: Vec<MaskLine> = Vec::new();
    for image in args.images {
        let stem = image.file_stem().unwrap_or_default().to_string_lossy();
        // Pictures of different folders may have the same name.
        let taken = |name: &str| {
            let file = out.join(format!("{name}.mask.png"));
            lines.iter().any(|line| line.mask == file)
        };
        let numbered = (2..).map(|number| format!("{stem}-{number}"));
        let name = std::iter::once(stem.to_string())
            .chain(numbered)
            .find(|name| !taken(name))
            .expect("there is always another number");
        let prediction = model.predict_mask(&image)?;
        let [mask, overlay] = prediction.write(&out, &name)?;
        lines.push(MaskLine {
            image,
            mask,
            overlay,
            prediction,
        });
    }
    if args.json {
        output::json(&MaskJson {
            run: args.run,
            predictions: lines,
        })?;
        return Ok(());
    }
    let row = |line: &MaskLine| {
        let mut row = vec![line.image.display().to_string()];
        let shares = line.prediction.shares.iter();
        row.extend(shares.map(|(class, share)| format!("{class} {:.2} %", share * 100.0)));
        row.push(line.overlay.display().to_string());
        row
    };
    let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
    output::text(&output::table(&rows))?;
    Ok(())
}
