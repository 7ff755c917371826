//! The progress bar of `Study::optimize`.

use indicatif::{ProgressBar, ProgressStyle};

use super::Study;

pub(super) fn bar(n_trials: Option<u64>) -> ProgressBar {
    let bar = n_trials.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = if n_trials.is_some() {
        "{wide_bar} {pos}/{len} trials, {elapsed} elapsed, {eta} left{msg}"
    } else {
        "{spinner} {pos} trials, {elapsed} elapsed{msg}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

pub(super) fn update(bar: &ProgressBar, study: &Study) {
    bar.inc(1);
    if let Ok(best) = study.best_trial()
        && let Some(value) = best.value()
    {
        bar.set_message(format!(", best {value:.6} in trial {}", best.number));
    }
}
