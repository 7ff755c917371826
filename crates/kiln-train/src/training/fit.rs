//! The training loop.
//!
//! It adds the metrics of several steps up on the device and reads them every `log_every` steps, can save and stop after any
//! step, and makes every step a function of the seed and its number, so that a resumed run ends where an uninterrupted one
//! would. What it knows of a model is burn-train's `TrainStep` and `InferenceStep`, and [`StepOutput`].

use std::path::PathBuf;

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use burn::train::{InferenceStep, Interrupter, TrainStep};

use super::data::Batches;
use super::gradients::Gradients;
use super::panics::{self, WhileTraining};
use super::reader::Reader;
use super::recorder::{Entry, Part, Recorder};
use super::schedule::Schedule;
use super::settings::TrainSettings;
use super::state::{Best, RunState};
use super::sums::{ReadSums, Scores, StepOutput, StepSums};
use crate::error::TrainError;
use crate::run::checkpoint::{self, Records};

/// A model that the trainer takes: a burn `Module` that says what one step is, in training and in evaluation, as burn-train
/// has it, and whose steps give a [`StepOutput`].
pub trait Trainable:
    TrainStep<Output: StepOutput + Send> + InferenceStep<Output: StepOutput> + Module + 'static
{
}

impl<M> Trainable for M where
    M: TrainStep<Output: StepOutput + Send> + InferenceStep<Output: StepOutput> + Module + 'static
{
}

/// What a model's training step takes.
pub(crate) type TrainInput<M> = <M as TrainStep>::Input;
/// What its step in evaluation takes.
pub(crate) type ValidInput<M> = <M as InferenceStep>::Input;

/// One epoch of a run, as it is told when it ends.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochReport {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Loss and metrics on the training items, over the steps of the epoch.
    pub train: Scores,
    /// Loss and metrics on the validation items after the epoch.
    pub valid: Scores,
    /// Whether the weights of this epoch would be kept if the run ended here: with early stopping those of the epoch with the
    /// lowest validation loss are, otherwise always the last.
    pub kept: bool,
}

/// Called after each epoch; false ends the run.
pub(crate) type OnEpoch<'a> = &'a mut dyn FnMut(&EpochReport) -> bool;

/// How the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// After its last epoch.
    Finished,
    /// Because the validation loss stopped falling.
    Early,
    /// By request, after a step; the state is saved.
    Stopped,
}

/// What the loop is given beside a model.
pub(crate) struct Loop<'a, M: Trainable> {
    pub(crate) settings: &'a TrainSettings,
    pub(crate) schedule: Schedule,
    /// With autodiff.
    pub(crate) device: Device,
    pub(crate) train: &'a dyn Batches<TrainInput<M>>,
    pub(crate) valid: &'a dyn Batches<ValidInput<M>>,
    pub(crate) interrupter: &'a Interrupter,
    pub(crate) recorder: &'a Recorder,
    /// Where checkpoints are written, if at all.
    pub(crate) checkpoints: Option<PathBuf>,
}

/// What changes during a run.
pub(crate) struct Running<M> {
    pub(crate) model: M,
    pub(crate) optimizer: ModuleOptimizer,
    pub(crate) gradients: Gradients<M>,
    pub(crate) state: RunState,
    /// The model of the best validated epoch, if early stopping looks for it.
    pub(crate) best: Option<M>,
}

impl<M: Trainable> Loop<'_, M> {
    /// Trains until the last epoch, or until something ends it before. What went wrong is said by the error; nothing is saved
    /// after it.
    pub(crate) fn fit(
        &self,
        run: &mut Running<M>,
        on_epoch: OnEpoch<'_>,
    ) -> Result<Ended, TrainError> {
        run.model = run.model.clone().fork(&self.device);
        std::thread::scope(|scope| {
            let reader = Reader::start(scope, self.recorder);
            let _panics = WhileTraining;
            for epoch in run.state.epoch..=self.settings.epochs {
                if let Some(ended) = self.epoch(run, &reader, epoch, on_epoch)? {
                    return Ok(ended);
                }
            }
            Ok(Ended::Finished)
        })
    }

    /// One epoch, or what is left of it. Returns how the run ended, if it did.
    fn epoch(
        &self,
        run: &mut Running<M>,
        reader: &Reader,
        epoch: usize,
        on_epoch: OnEpoch<'_>,
    ) -> Result<Option<Ended>, TrainError> {
        run.state.epoch = epoch;
        self.train(run, reader, epoch)?;
        self.flush(reader)?;
        if self.interrupter.should_stop() {
            self.checkpoint(run, reader)?;
            return Ok(Some(Ended::Stopped));
        }
        if !self.validate(run, reader, epoch)? {
            self.checkpoint(run, reader)?;
            return Ok(Some(Ended::Stopped));
        }
        let (train, valid) = self.recorder.end_epoch(epoch, run.state.step);
        run.state.batch = 0;
        run.state.epoch = epoch + 1;
        run.state.totals = Default::default();
        let hopeless = self.is_hopeless(run, epoch, valid.loss);
        self.checkpoint(run, reader)?;
        let report = EpochReport {
            epoch,
            train,
            valid,
            kept: run.state.best.is_none_or(|best| best.epoch == epoch),
        };
        let told = on_epoch(&report);
        Ok(match (hopeless, told) {
            (true, _) => Some(Ended::Early),
            (false, false) => Some(Ended::Stopped),
            (false, true) => None,
        })
    }

    fn train(&self, run: &mut Running<M>, reader: &Reader, epoch: usize) -> Result<(), TrainError> {
        let settings = self.settings;
        let batches = self.train.num_batches();
        let save_every = settings.checkpoint.every;
        self.recorder.start_clock();
        let mut pending: Option<StepSums> = None;
        let mut taken = self.train.epoch(epoch, run.state.batch, &self.device);
        // Dropped before what is on the device.
        let _panics = WhileTraining;
        for batch in taken.by_ref() {
            let batch = batch.map_err(|error| TrainError::Batch(error.to_string()))?;
            if run.state.batch == batches {
                return Err(wrong_number(batches + 1, batches));
            }
            // Dropout depends on the step alone, not on what ran before it in this process.
            let step = run.state.step;
            self.device.seed(mix(settings.seed, step as u64));
            run.gradients.remember(&run.model);
            let output = TrainStep::step(&run.model, batch);
            let mut sums = output.item.sums();
            let lr = self.schedule.at(step);
            let optimizer = &mut run.optimizer;
            let (model, gradients) =
                run.gradients
                    .step(step, run.model.clone(), output.grads, |model, grads| {
                        model.optimize(optimizer, lr.into(), grads)
                    });
            run.model = model;
            panics::progress();
            run.state.step += 1;
            run.state.batch += 1;
            if let Some(gradients) = gradients {
                sums = sums.with_gradients(gradients);
            }
            add(&mut pending, sums);
            let last = run.state.batch == batches;
            let stop = self.interrupter.should_stop();
            let save = save_every > 0 && run.state.step.is_multiple_of(save_every) && !last;
            let log = run.state.step.is_multiple_of(settings.log_every)
                || pending.as_ref().is_some_and(StepSums::is_full);
            if (log || last || stop || save)
                && let Some(sums) = pending.take()
            {
                reader.read(self.entry(Part::Train, run, lr), sums);
            }
            if stop {
                break;
            }
            if save {
                self.flush(reader)?;
                self.checkpoint(run, reader)?;
            }
        }
        if run.state.batch < batches && !self.interrupter.should_stop() {
            return Err(wrong_number(run.state.batch, batches));
        }
        Ok(())
    }

    /// Whether the validation came to its end, instead of being stopped on the way.
    fn validate(
        &self,
        run: &Running<M>,
        reader: &Reader,
        epoch: usize,
    ) -> Result<bool, TrainError> {
        let model = run.model.valid();
        let device = self.device.clone().inner();
        let (mut pending, mut taken): (Option<StepSums>, usize) = (None, 0);
        let mut batches = self.valid.epoch(epoch, 0, &device);
        let _panics = WhileTraining;
        for batch in batches.by_ref() {
            let batch = batch.map_err(|error| TrainError::Batch(error.to_string()))?;
            let sums = InferenceStep::step(&model, batch).sums();
            panics::progress();
            taken += 1;
            add(&mut pending, sums);
            if pending.as_ref().is_some_and(StepSums::is_full)
                && let Some(sums) = pending.take()
            {
                reader.read(self.entry(Part::Valid, run, 0.0), sums);
            }
            if self.interrupter.should_stop() {
                break;
            }
        }
        let (complete, stopped) = (
            taken == self.valid.num_batches(),
            self.interrupter.should_stop(),
        );
        if !complete && !stopped {
            return Err(wrong_number(taken, self.valid.num_batches()));
        }
        if complete && let Some(sums) = pending {
            reader.read(self.entry(Part::Valid, run, 0.0), sums);
        }
        self.flush(reader)?;
        Ok(complete)
    }

    fn entry(&self, part: Part, run: &Running<M>, lr: f64) -> Entry {
        Entry {
            part,
            epoch: run.state.epoch,
            step: run.state.step,
            lr,
        }
    }

    /// Remembers the best epoch; whether its loss has not been beaten for too long.
    fn is_hopeless(&self, run: &mut Running<M>, epoch: usize, loss: f64) -> bool {
        let early_stopping = &self.settings.early_stopping;
        if early_stopping.patience == 0 {
            return false;
        }
        match run.state.best {
            Some(best) if loss >= best.loss - early_stopping.min_delta => {
                epoch - best.epoch >= early_stopping.patience
            }
            _ => {
                run.state.best = Some(Best { epoch, loss });
                run.best = Some(run.model.valid());
                false
            }
        }
    }

    /// Saves the state, in the background.
    fn checkpoint(&self, run: &mut Running<M>, reader: &Reader) -> Result<(), TrainError> {
        let (totals, seconds) = self.recorder.pause();
        run.state.train_seconds = seconds;
        run.state.totals = totals;
        run.state.clip = run.gradients.state()?;
        // Running statistics hold back their last update until they are asked for.
        let _ = run.model.valid();
        if let Some(folder) = self.checkpoints.clone() {
            let records = Records {
                model: run.model.clone().into_record(),
                optimizer: run.optimizer.to_record(),
                best: run.best.clone().map(Module::into_record),
            };
            let (state, keep) = (run.state.clone(), self.settings.checkpoint.keep);
            reader.write(move || checkpoint::write(&folder, keep, state.step, &state, records));
        }
        self.recorder.start_clock();
        Ok(())
    }

    /// Waits until every number sent is read, and stops the clock with the device idle. An error if the run cannot go on.
    fn flush(&self, reader: &Reader) -> Result<(), TrainError> {
        reader.flush();
        self.recorder.stop_clock();
        self.recorder.check()
    }
}

fn add(pending: &mut Option<StepSums>, sums: StepSums) {
    match pending {
        Some(pending) => *pending += sums,
        None => *pending = Some(sums),
    }
}

fn wrong_number(given: usize, said: usize) -> TrainError {
    TrainError::Batch(format!(
        "the epoch gave {given} batches, but num_batches says {said}"
    ))
}

/// The loss and the metrics of a model, outside training, on all items of some data.
///
/// # Errors
///
/// If a batch cannot be had, or the device fails.
pub fn evaluate<M: Trainable>(
    model: &M,
    data: &dyn Batches<<M as InferenceStep>::Input>,
    device: &Device,
) -> Result<Scores, TrainError> {
    let mut all = ReadSums::default();
    for batch in data.epoch(1, 0, &device.clone().inner()) {
        let batch = batch.map_err(|error| TrainError::Batch(error.to_string()))?;
        let seen = InferenceStep::step(model, batch).sums().read_sums();
        let seen = seen.map_err(|error| TrainError::Backend(error.to_string()))?;
        panics::progress();
        all.totals += &seen.totals;
        all.scorer = seen.scorer;
    }
    Ok(all.totals.scores(all.scorer))
}

/// A seed for one step.
fn mix(seed: u64, step: u64) -> u64 {
    let mut z = seed ^ step.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
