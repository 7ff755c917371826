//! The classic first study: layers, units, dropout, optimizer and learning rate of an MLP on MNIST.
//!
//! ```text
//! $ cargo run --release -p example-tune-mnist -- sqlite:///tune.db 60 data.dir=mnist-8k    # the digits' folder
//! 23 complete, 37 pruned, 0 failed
//! best: trial 50 with 0.9429
//!   lr = 0.09904626426129293
//!   n_layers = 1
//!   dropout_l0 = 0.24163244083097313
//!   n_units_l0 = 43
//!   optimizer = sgd
//! importance:
//!   lr           0.526
//!   dropout_l1   0.197
//!   n_units_l1   0.128
//! ```
//!
//! which is the same as
//!
//! ```text
//! kiln tune --recipe examples/tune-mnist/mnist.toml --space examples/tune-mnist/space.toml \
//!     --study mnist-fc --storage sqlite:///tune.db --trials 60 --timeout 600 --jobs 2 --data-dir mnist-8k
//! ```
//!
//! Run it again and it continues; run it twice at once and both work on the same study, as would an Optuna worker in Python.
//! It writes `mnist-fc.html` with every plot, and the contours n_units_l0 × dropout_l0 and n_layers × lr beside it.
//! Expect the learning rate to matter most.

use std::time::Duration;

use kiln::prelude::*;
use kiln::train::tune::study_report;
use kiln::train::{Objective, RecipeSpace, Tuner};
use kiln::tune::importance::get_param_importances;
use kiln::tune::{MedianPruner, Study, TpeSampler, TrialState, plot, storage};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or("sqlite:///tune.db".into());
    let trials = arguments.next().map_or(Ok(100), |n| n.parse())?;

    let mut recipe = Recipe::from_toml(include_str!("../mnist.toml"))?;
    for setting in arguments {
        recipe.set(&setting)?;
    }
    let space = RecipeSpace::from_toml(include_str!("../space.toml"))?;
    let study = Study::builder()
        .name("mnist-fc")
        .shared_storage(storage::open(&url)?)
        .direction(Objective::ValidAccuracy.direction())
        .sampler(TpeSampler::new().seed(0))
        .pruner(MedianPruner::new())
        .load_if_exists(true)
        .create()?;

    let device = kiln::device::auto()?;
    eprintln!("device: {}", device.reason);
    Tuner::new(recipe, space, device.into())
        .trials(trials)
        .timeout(Duration::from_secs(600))
        .jobs(2)
        .on_notice(|line| eprintln!("{line}"))
        .run(&study)?;

    let count = |state| Ok::<_, kiln::tune::Error>(study.trials_in(&[state])?.len());
    println!(
        "{} complete, {} pruned, {} failed",
        count(TrialState::Complete)?,
        count(TrialState::Pruned)?,
        count(TrialState::Fail)?
    );
    let best = study.best_trial()?;
    println!(
        "best: trial {} with {:.4}",
        best.number,
        study.best_value()?
    );
    for param in best.params.iter() {
        println!("  {} = {}", param.name, param.value());
    }
    println!("importance:");
    for (name, share) in get_param_importances(&study)? {
        println!("  {name:12} {share:.3}");
    }
    study_report(&study, "mnist-fc.html")?;
    plot::contour(&study, 0, &["n_units_l0", "dropout_l0"])?.save("contour-units-dropout.png")?;
    plot::contour(&study, 0, &["n_layers", "lr"])?.save("contour-layers-lr.png")?;
    println!("written: mnist-fc.html, contour-units-dropout.png, contour-layers-lr.png");
    // A guess is right in one of ten. A few trials, which two threads draw in any order, may all be unlucky.
    match trials < 20 || study.best_value()? > 0.4 {
        true => Ok(()),
        false => Err("the study found nothing that learns".into()),
    }
}
