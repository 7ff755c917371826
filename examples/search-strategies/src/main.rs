//! Babysitting, grid, random and TPE search on one budget: sixteen short runs each.
//!
//! ```text
//! $ cargo run --release -p example-search-strategies -- 16 search-strategies.png
//! babysitting  best validation accuracy 0.8967
//! grid         best validation accuracy ...
//! random       ...
//! tpe          ...
//! ```
//!
//! An MLP on drawn digits; learning rate (log), units and dropout are searched. *Babysitting* changes one thing at a time
//! and keeps what helped. A grid spends the budget on few values of each parameter, so that most runs repeat a learning rate;
//! random search tries a new value of what matters in every run (Bergstra and Bengio 2012); TPE learns from the runs
//! before. One seed proves little: look at how soon each curve rises, and run it with other seeds.

use std::sync::Arc;

use kiln::prelude::*;
use kiln::train::{Objective, Prepared, RecipeSpace, Tuner};
use kiln::tune::plot::{Curve, curves};
use kiln::tune::{GridSampler, NopPruner, ParamValue, RandomSampler, Sampler, Study, TpeSampler};

const RECIPE: &str = "
epochs = 1
batch_size = 64
[data]
name = 'digits'
train_len = 3000
test_len = 500
valid_fraction = 0.2
[model]
name = 'mlp'
";
const SPACE: &str = "
lr = { log = [1e-5, 1.0], sets = 'optimizer.lr' }
units = { int = [4, 128], log = true, sets = 'model.hidden' }
dropout = { float = [0.0, 0.6], sets = 'model.dropout' }
";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let budget: usize = arguments.next().map_or(Ok(16), |n| n.parse())?;
    let path = arguments
        .next()
        .unwrap_or_else(|| "search-strategies.png".into());
    let recipe = Recipe::from_toml(RECIPE)?;
    let data = Arc::new(Prepared::load(&recipe.data, recipe.task, false)?);

    // Three values of the learning rate, as many as a small grid affords.
    let grid = GridSampler::new()
        .param("lr", [1e-4, 1e-2, 1.0])
        .param("units", [8, 32, 128])
        .param("dropout", [0.0, 0.5])
        .seed(3);
    let mut lines = vec![search("babysitting", budget, None, &recipe, &data)?];
    let samplers: [(&str, Arc<dyn Sampler>); 3] = [
        ("grid", Arc::new(grid)),
        ("random", Arc::new(RandomSampler::new(Some(3)))),
        (
            "tpe",
            Arc::new(TpeSampler::new().seed(3).n_startup_trials(budget / 3)),
        ),
    ];
    for (name, sampler) in samplers {
        lines.push(search(name, budget, Some(sampler), &recipe, &data)?);
    }
    for line in &lines {
        let best = line.points.last().map_or(0.0, |point| point.1);
        println!("{:12} best validation accuracy {best:.4}", line.name);
        if best < 0.5 {
            return Err(format!("{} found nothing in {budget} runs", line.name).into());
        }
    }
    let title = "Best validation accuracy so far";
    curves(title, "run", "accuracy", false, &lines).save(&path)?;
    println!("written: {path}");
    Ok(())
}

/// One search; the best accuracy after each run.
fn search(
    name: &str,
    budget: usize,
    sampler: Option<Arc<dyn Sampler>>,
    recipe: &Recipe,
    data: &Arc<Prepared>,
) -> Result<Curve> {
    let mut builder = Study::builder().name(name).maximize().pruner(NopPruner);
    if let Some(sampler) = sampler.clone() {
        builder = builder.sampler(sampler);
    }
    let study = builder.create()?;
    let runs = std::env::temp_dir().join(format!("kiln-search-{}", std::process::id()));
    let device = kiln::device::auto()?;
    let mut best: [(&'static str, f64); 3] = [("lr", 1e-5), ("units", 16.0), ("dropout", 0.3)];
    for trial in 0..budget {
        if sampler.is_none() {
            // A person turns one knob at a time, up or down by turns.
            let mut next = best;
            let (knob, up) = (trial % 3, trial / 3 % 2 == 0);
            next[knob].1 = match knob {
                0 => (best[0].1 * if up { 10.0 } else { 0.3 }).clamp(1e-5, 1.0),
                1 => (best[1].1 * if up { 2.0 } else { 0.5 })
                    .round()
                    .clamp(4.0, 128.0),
                _ => (best[2].1 + if up { -0.15 } else { 0.15 }).clamp(0.0, 0.6),
            };
            let value = |(name, value): (&'static str, f64)| match name {
                "units" => (name, ParamValue::from(value as i64)),
                _ => (name, ParamValue::from(value)),
            };
            study.enqueue_trial(next.map(value))?;
        }
        Tuner::new(
            recipe.clone(),
            RecipeSpace::from_toml(SPACE)?,
            device.clone().into(),
        )
        .metric(Objective::ValidAccuracy)
        .data(data.clone())
        .runs(&runs)
        .trials(trial as u64 + 1)
        .run(&study)?;
        if let Ok(found) = study.best_trial() {
            for knob in &mut best {
                knob.1 = found
                    .params
                    .value(knob.0)
                    .and_then(|v| v.as_f64())
                    .unwrap_or(knob.1);
            }
        }
    }
    let _ = std::fs::remove_dir_all(runs);
    let mut so_far = f64::NEG_INFINITY;
    let points = study.trials()?.into_iter().map(|trial| {
        so_far = so_far.max(trial.value().unwrap_or(so_far));
        (trial.number as f64 + 1.0, so_far)
    });
    let points = points.collect();
    Ok(Curve {
        name: name.into(),
        points,
    })
}
