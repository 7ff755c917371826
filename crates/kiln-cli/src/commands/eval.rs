//! `kiln eval`

use kiln::train::{Evaluation, TrainedModel};
use serde::Serialize;

use super::Result;
use crate::args::Eval;
use crate::output;

#[derive(Serialize)]
struct Json<'a> {
    run: &'a std::path::Path,
    device: &'a str,
    backend: &'a str,
    model: &'a str,
    data: &'a str,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
}

pub fn run(args: Eval) -> Result<()> {
    let device = kiln::device::select(&args.device)?;
    let model = TrainedModel::load(&args.run, &device.device)?;
    output::note(&format!("device: {}", device.reason));
    let mut recipe = model.data().clone();
    if let Some(name) = args.data {
        // Another data set is not in the folder that the run was trained from.
        recipe.dir = None;
        recipe.train_len = None;
        recipe.test_len = None;
        recipe.name = name;
    } else if recipe.name == "auto" {
        recipe.name = model.info().data.name.clone();
    }
    if args.data_dir.is_some() {
        recipe.dir = args.data_dir;
    }
    recipe.download &= !args.offline;
    let data = model.load_data(&recipe, true)?;
    if let Some(note) = data.note() {
        output::note(note);
    }
    let evaluation = model.evaluate(&data)?;
    let out = args.out.as_deref().unwrap_or(&args.run);
    std::fs::create_dir_all(out)
        .map_err(|error| format!("cannot create {}: {error}", out.display()))?;
    evaluation.write(out)?;
    let mut written = vec!["evaluation.json", "confusion.png"];
    if model.write_overlays(&data, out)? {
        written.push("overlays.png");
    }
    output::note(&format!(
        "written: {} in {}",
        written.join(", "),
        out.display()
    ));
    match args.json {
        true => output::json(&Json {
            run: &args.run,
            device: &device.name,
            backend: device.backend,
            model: &model.info().model_name,
            data: &data.info().name,
            evaluation: &evaluation,
        })?,
        false => output::text(&evaluation.to_text())?,
    }
    Ok(())
}
