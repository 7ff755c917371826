//! Whether a run can be trained for more epochs than it was started for.

use crate::error::TrainError;
use crate::recipe::{Recipe, ScheduleName};
use crate::run::checkpoint;
use crate::run::folder::RunDir;
use crate::run::summary::Summary;
use crate::text::shell_word;
use crate::training::schedule::Schedule;
use crate::training::state::RunState;

/// Whether `wanted`, which differs from the run's recipe by its epochs alone, has more of them in an epoch of `steps` and
/// `images`; an error if it has fewer, or if the run would not be what it had been with that many from the beginning.
pub(crate) fn check(
    run: &RunDir,
    recipe: &Recipe,
    wanted: &Recipe,
    summary: Option<&Summary>,
    steps: usize,
    images: usize,
) -> Result<bool, TrainError> {
    let [now, epochs] = [recipe, wanted].map(|recipe| recipe.epochs.resolve(images));
    if now == epochs {
        return Ok(false);
    }
    let refuse = |reason: String| {
        Err(TrainError::NoMoreEpochs {
            path: run.path().into(),
            epochs,
            reason,
        })
    };
    if epochs < now {
        return refuse(format!(
            "it is a run of {now}, and epochs can only be added; start a new run"
        ));
    }
    // What to do instead: the weights are there if the run is finished.
    let recipe_file = shell_word(&run.path().join("recipe.toml"));
    let again = match run.model_file().is_file() {
        true => format!(
            "kiln train --recipe {recipe_file} --weights {} --epochs {}",
            shell_word(&run.model_file()),
            epochs - now
        ),
        false => format!("kiln train --recipe {recipe_file} --epochs {epochs}"),
    };
    if recipe.schedule.name == ScheduleName::Cosine {
        return refuse(format!(
            "its schedule, cosine, lowers the learning rate over exactly the {now} epochs that it was started for (constant and \
             step can go on); start a new run: {again}"
        ));
    }
    let [before, after] = [(recipe, now), (wanted, epochs)]
        .map(|(recipe, n)| Schedule::new(&recipe.schedule, &recipe.optimizer, steps, n * steps));
    if before.warmup() != after.warmup() {
        return refuse(format!(
            "its warm-up of {} epochs is longer than the {now} that it was started for; start a new run: {again}",
            recipe.schedule.warmup_epochs
        ));
    }
    if summary.is_some_and(|summary| summary.stopped_early) {
        return refuse(format!(
            "early stopping ended it, not the number of its epochs; start a new run: {again}"
        ));
    }
    if summary.is_some()
        && checkpoint::newest::<RunState>(&run.checkpoints())
            .0
            .is_none()
    {
        return refuse(format!(
            "it has no checkpoint to go on from; start a new run: {again}"
        ));
    }
    Ok(true)
}
