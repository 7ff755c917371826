//! Babysitting, grid, random and TPE search on one budget: sixteen short runs each.
//!
//! ```text
//! $ cargo run --release -p example-search-strategies -- 16 search-strategies.png
//! babysitting  best validation accuracy 0.802 with  6 learning rates
//! grid         best validation accuracy 0.827 with  3 learning rates
//! random       best validation accuracy 0.740 with 16 learning rates
//! tpe          best validation accuracy 0.823 with 16 learning rates
//! ```
//!
//! An MLP on drawn digits; learning rate (log), units and dropout are searched. *Babysitting* changes one thing at a time
//! and keeps what helped. A grid spends the budget on few values of each parameter, so that most runs repeat a learning rate;
//! random search tries a new value of what matters in every run (Bergstra and Bengio 2012); TPE learns from the runs
//! before. One seed proves little: look at how soon each curve rises, and run it with other seeds.

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln::plot::{Curve, curves};
use kiln::prelude::*;
use kiln::train::{Prepared, RecipeSpace, Tuner};
use kiln::tune::{GridSampler, NopPruner, ParamValue, RandomSampler, Sampler, Study, TpeSampler};

const RECIPE: &str = "
epochs = 1
batch_size = 64
data = { name = 'digits', train_len = 3000, test_len = 500, valid_fraction = 0.2 }
model = { name = 'mlp' }
";
const SPACE: &str = "
lr = { log = [1e-5, 1.0], sets = 'optimizer.lr' }
units = { int = [4, 128], log = true, sets = 'model.hidden' }
dropout = { float = [0.0, 0.6], sets = 'model.dropout' }
";
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let budget: usize = args.next().map_or(Ok(16), |n| n.parse())?;
    let path = args.next().unwrap_or("search-strategies.png".into());

    // Three values of the learning rate, as many as a small grid affords.
    let grid = GridSampler::new()
        .param("lr", [1e-4, 1e-2, 1.0])
        .param("units", [8, 32, 128])
        .param("dropout", [0.0, 0.5])
        .seed(3);
    let tpe = TpeSampler::new().seed(3).n_startup_trials(budget / 3);
    let strategies: [(&str, Option<Arc<dyn Sampler>>); 4] = [
        ("babysitting", None),
        ("grid", Some(Arc::new(grid))),
        ("random", Some(Arc::new(RandomSampler::new(Some(3))))),
        ("tpe", Some(Arc::new(tpe))),
    ];
    let (mut lines, mut rates, mut bests) = (Vec::new(), Vec::new(), Vec::new());
    for (name, sampler) in strategies {
        let study = search(name, sampler, budget)?;
        let (mut best, mut points, mut tried) = (0f64, Vec::new(), BTreeSet::new());
        for trial in study.trials()? {
            best = best.max(trial.value().unwrap_or(0.0));
            points.push((trial.number as f64 + 1.0, best));
            tried.extend(trial.params.value("lr").map(|lr| lr.to_string()));
        }
        let n = tried.len();
        println!("{name:12} best validation accuracy {best:.3} with {n:2} learning rates");
        let name = name.into();
        lines.push(Curve { name, points });
        rates.push(n);
        bests.push(best);
    }
    let title = "Best validation accuracy so far";
    curves(title, "run", "accuracy", false, &lines).save(&path)?;
    println!("written: {path}");
    // A guess is right in one of ten; which search comes first is luck at this budget.
    let learned = bests.iter().all(|&best| best > 0.2) && bests.iter().any(|&best| best > 0.5);
    if learned && rates[1] <= 3 && rates[2..] == [budget; 2] {
        return Ok(());
    }
    Err("the searches did not find, or not try, what they must".into())
}

/// One search; without a sampler it is a person's.
fn search(name: &str, sampler: Option<Arc<dyn Sampler>>, budget: usize) -> Result<Study> {
    let recipe = Recipe::from_toml(RECIPE)?;
    // One tuner for each run, since a person looks at each before the next; all share the data.
    let data = Arc::new(Prepared::load(&recipe.data, recipe.task, false)?);
    let by_hand = sampler.is_none();
    let sampler = sampler.unwrap_or_else(|| Arc::new(RandomSampler::new(None)));
    let builder = Study::builder().name(name).maximize().pruner(NopPruner);
    let study = builder.sampler(sampler).create()?;
    let runs = std::env::temp_dir().join(format!("kiln-search-{}", std::process::id()));
    let device = kiln::device::auto()?;
    for run in 0..budget {
        if by_hand {
            let best = study.best_params().unwrap_or_default();
            let value = |(name, start)| best.value(name).and_then(|v| v.as_f64()).unwrap_or(start);
            let best = [("lr", 1e-5), ("units", 16.0), ("dropout", 0.3)].map(value);
            study.enqueue_trial(turn_one_knob(run, best))?;
        }
        let space = RecipeSpace::from_toml(SPACE)?;
        let tuner = Tuner::new(recipe.clone(), space, device.clone().into());
        let tuner = tuner.data(data.clone()).runs(&runs);
        tuner.trials(run as u64 + 1).run(&study)?;
    }
    std::fs::remove_dir_all(runs)?;
    Ok(study)
}

/// The best values so far with one of them changed, each in its turn, up or down by turns.
fn turn_one_knob(run: usize, mut knobs: [f64; 3]) -> [(&'static str, ParamValue); 3] {
    let factors = [[10.0, 0.3], [2.0, 0.5], [0.5, 1.5]];
    knobs[run % 3] *= factors[run % 3][run / 3 % 2];
    let lr = knobs[0].clamp(1e-5, 1.0).into();
    let units = (knobs[1].round() as i64).clamp(4, 128).into();
    let dropout = knobs[2].clamp(0.0, 0.6).into();
    [("lr", lr), ("units", units), ("dropout", dropout)]
}
