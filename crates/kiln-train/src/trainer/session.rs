//! One training in a run's folder: from its last checkpoint, or from the beginning, to the weights that are kept.

use std::panic::AssertUnwindSafe;

use burn::train::Interrupter;
use kiln_clip::{Diagnosis, GradHealth};

use super::{Progress, TrainDevice};
use crate::error::TrainError;
use crate::report::plot_health;
use crate::run::checkpoint::{self, Found};
use crate::run::folder::RunDir;
use crate::run::health;
use crate::run::log::Log;
use crate::training::data::Batches;
use crate::training::fit::{Ended, Loop, OnEpoch, Running, TrainInput, Trainable, ValidInput};
use crate::training::gradients::Gradients;
use crate::training::panics;
use crate::training::recorder::Recorder;
use crate::training::renderer::Dashboard;
use crate::training::schedule::Schedule;
use crate::training::settings::TrainSettings;
use crate::training::state::RunState;

/// What a training needs beside its model.
pub(crate) struct Session<'a, M: Trainable> {
    pub(crate) run: &'a RunDir,
    pub(crate) settings: &'a TrainSettings,
    pub(crate) device: &'a TrainDevice,
    pub(crate) train: &'a dyn Batches<TrainInput<M>>,
    pub(crate) valid: &'a dyn Batches<ValidInput<M>>,
    pub(crate) progress: Progress,
    /// What the dashboard calls it.
    pub(crate) label: String,
    /// What the progress lines call what is trained on.
    pub(crate) items: &'static str,
    /// Whether the state is saved on the way.
    pub(crate) checkpoints: bool,
    pub(crate) interrupter: &'a Interrupter,
    pub(crate) notice: &'a dyn Fn(&str),
}

/// What came of a training.
pub(crate) struct Fitted<M> {
    /// With the weights that are kept, outside training.
    pub(crate) model: M,
    pub(crate) kept_epoch: usize,
    pub(crate) state: RunState,
    pub(crate) ended: Ended,
    /// The mean norm of the gradients over the last epoch.
    pub(crate) grad_norm: Option<f64>,
    pub(crate) health: Option<Diagnosis>,
    pub(crate) samples_per_second: f64,
}

impl<M: Trainable> Session<'_, M> {
    pub(crate) fn fit(self, model: M, on_epoch: OnEpoch<'_>) -> Result<Fitted<M>, TrainError> {
        let _running = panics::Running::new(self.run.path());
        let (settings, steps) = (self.settings, self.train.num_batches());
        let (found, skipped) = checkpoint::newest::<RunState>(&self.run.checkpoints());
        skipped.iter().for_each(|line| (self.notice)(line));
        let mut running = self.start(model, found.as_ref(), steps)?;
        let recorder = self.recorder(&running.state, steps)?;
        let training = Loop {
            settings,
            schedule: Schedule::new(
                &settings.schedule,
                &settings.optimizer,
                steps,
                settings.epochs * steps,
            ),
            device: self.device.device.clone().autodiff(),
            train: self.train,
            valid: self.valid,
            interrupter: self.interrupter,
            recorder: &recorder,
            checkpoints: self.checkpoints.then(|| self.run.checkpoints()),
        };
        let fit = AssertUnwindSafe(|| training.fit(&mut running, on_epoch));
        let fitted = std::panic::catch_unwind(fit).unwrap_or_else(|payload| {
            panics::cleared_up();
            recorder.panicked(panics::of_payload(&*payload));
            recorder.check().map(|()| Ended::Stopped)
        });
        let grad_norm = recorder.last_grad_norm();
        // A dashboard that was told to end at once panics once more when it is closed.
        if let Err(payload) = std::panic::catch_unwind(AssertUnwindSafe(|| recorder.close())) {
            recorder.panicked(panics::of_payload(&*payload));
        }
        // What the threads beside the loop could not write in the end.
        let fitted = fitted.and_then(|ended| recorder.check().map(|()| ended));
        // Also of a run that failed: then it is wanted most.
        let health = self.conclude()?;
        let ended = fitted?;
        let state = running.state;
        let (model, kept_epoch) = match (running.best, state.best) {
            (Some(best), Some(at)) => (best, at.epoch),
            _ => (running.model.valid(), state.epoch.saturating_sub(1)),
        };
        let items = state.step as f64 * self.train.num_items() as f64 / steps as f64;
        Ok(Fitted {
            model,
            kept_epoch,
            ended,
            grad_norm,
            health,
            samples_per_second: items / state.train_seconds.max(1e-9),
            state,
        })
    }

    /// The model at the beginning, or as a checkpoint has it.
    fn start(
        &self,
        model: M,
        found: Option<&Found<RunState>>,
        steps: usize,
    ) -> Result<Running<M>, TrainError> {
        let settings = self.settings;
        let optimizer = crate::optimizer(&settings.optimizer);
        let Some(found) = found else {
            return Ok(Running {
                gradients: Gradients::new(settings, Default::default())?,
                model,
                optimizer,
                state: RunState {
                    epoch: 1,
                    ..RunState::default()
                },
                best: None,
            });
        };
        let state = found.state.clone();
        let checked = state.check(settings.epochs, steps);
        checked.map_err(|problem| found.refused(problem))?;
        let records = found.records()?;
        let load = |record| {
            let loaded = model.clone().try_load_record(record);
            loaded.map_err(|error| TrainError::OtherModel {
                path: found.path.clone(),
                problem: error.to_string(),
            })
        };
        let best = match records.best {
            Some(record) => Some(load(record)?.valid()),
            None => None,
        };
        (self.notice)(&format!(
            "resuming after step {} of {} (epoch {})",
            state.step,
            settings.epochs * steps,
            state.epoch,
        ));
        Ok(Running {
            gradients: Gradients::new(settings, state.clip.clone())?,
            model: load(records.model)?,
            optimizer: optimizer.load_record(records.optimizer),
            state,
            best,
        })
    }

    fn recorder(&self, state: &RunState, steps: usize) -> Result<Recorder, TrainError> {
        let settings = self.settings;
        let recorder = Recorder::open(
            &self.run.metrics_file(),
            self.run.path(),
            state,
            self.interrupter.clone(),
            advice(settings),
        )?;
        if settings.grad_health > 0 {
            recorder.keep_health(Log::open(&self.run.health_file(), state.step)?);
        }
        match self.progress {
            Progress::Plain => {
                let items = (self.train.num_items(), self.items);
                recorder.print(settings.epochs, steps, items, state.step);
            }
            #[cfg(feature = "dashboard")]
            Progress::Dashboard => recorder.show(Dashboard::open(
                self.interrupter.clone(),
                &self.label,
                settings.epochs,
                state.epoch - 1,
                steps,
            )),
            _ => {}
        }
        Ok(recorder)
    }

    /// Draws the plot of gradient health and judges the whole run; none if it measures nothing.
    fn conclude(&self) -> Result<Option<Diagnosis>, TrainError> {
        if self.settings.grad_health == 0 {
            return Ok(None);
        }
        let measurements = health::read(&self.run.health_file())?;
        let healths: Vec<GradHealth> = measurements.iter().map(|m| m.health.clone()).collect();
        let diagnosis = Diagnosis::of(&healths);
        plot_health::grad_norms(&measurements, &diagnosis, &self.run.health_plot())?;
        (self.notice)(&format!("gradient health: {diagnosis}"));
        Ok(Some(diagnosis))
    }
}

/// What to try if the loss is not finite.
fn advice(settings: &TrainSettings) -> String {
    let lr = settings.optimizer.learning_rate();
    let mut advice = format!(
        "try a lower learning rate, such as optimizer.lr={}",
        lr / 10.0
    );
    if settings.schedule.warmup_epochs == 0.0 {
        advice.push_str(", or a warm-up, such as schedule.warmup_epochs=1");
    }
    if settings.clip.is_none() {
        advice.push_str(", or clip the gradients, such as clip=norm:1.0");
    }
    if !settings.skip_nonfinite {
        advice.push_str("; skip_nonfinite=true goes on past a few bad batches");
    }
    advice.push_str("; the last checkpoint is from before");
    advice
}
