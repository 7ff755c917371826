//! The training loop, as burn-train's strategy.
//!
//! burn-train's own loop reads the metrics of every step and saves only after an epoch. This one adds
//! the metrics up on the device and reads them every `log_every` steps, can save and stop after any
//! step, and makes every step a function of the seed and its number, so that a resumed run ends
//! where an uninterrupted one would.

use std::sync::{Arc, Mutex};

use burn::data::dataloader::Progress;
use burn::module::Module;
use burn::tensor::Device;
use burn::train::{
    EventProcessorTraining, InferenceStep, Interrupter, Learner, LearnerEvent,
    SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents,
    TrainingItem, ValidLoader,
};

use crate::checkpoint::{Best, RunState, Writer};
use crate::clipping::Gradients;
use crate::loader::Loader;
use crate::panics::{self, WhileTraining};
use crate::recipe::EarlyStoppingRecipe;
use crate::recorder::{Entry, EpochTotals, Part, Recorder, Totals};
use crate::task::{Output, Task};
use crate::train::EpochReport;

/// How the loop ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ended {
    /// After its last epoch.
    Finished,
    /// Because the validation loss stopped falling.
    Early,
    /// By request, after a step; the state is saved.
    Stopped,
    /// By an error or a loss that is not finite; nothing was saved after it.
    Failed,
}

/// What the loop leaves behind beside the model.
#[derive(Clone)]
pub(crate) struct Left {
    pub(crate) state: RunState,
    pub(crate) ended: Ended,
    /// The model of the best validated epoch, if early stopping looks for it.
    pub(crate) best: Option<Task>,
}

pub(crate) struct Loop {
    pub(crate) seed: u64,
    pub(crate) device: Device,
    pub(crate) log_every: usize,
    pub(crate) checkpoint_every: usize,
    pub(crate) early_stopping: EarlyStoppingRecipe,
    /// Whether states are saved at all.
    pub(crate) save: bool,
    pub(crate) on_epoch: Option<Mutex<OnEpoch>>,
    pub(crate) loader: Loader,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) writer: Writer,
    /// What the model does with its gradients.
    pub(crate) gradients: Gradients,
    /// Where the run starts, and in the end where it is.
    pub(crate) left: Arc<Mutex<Left>>,
}

/// Called after each epoch; false ends the run.
pub(crate) type OnEpoch = Box<dyn FnMut(&EpochReport) -> bool + Send>;

/// What changes during a run.
struct Running<'a> {
    state: RunState,
    learner: Learner<Task>,
    processor: SupervisedTrainingEventProcessor<Task>,
    components: Rest,
    best: Option<Task>,
    context: &'a Loop,
}

/// What of burn-train's components the loop uses beside the processor.
struct Rest {
    interrupter: Interrupter,
    checkpointer: Option<burn::train::LearningCheckpointer<Task>>,
    event_store: Arc<burn::train::metric::store::EventStoreClient>,
}

impl SupervisedLearningStrategy<Task> for Loop {
    fn fit(
        &self,
        components: TrainingComponents<Task>,
        mut learner: Learner<Task>,
        train: TrainLoader<Task>,
        valid: ValidLoader<Task>,
        starting_epoch: usize,
    ) -> (Task, SupervisedTrainingEventProcessor<Task>) {
        let train = train.to_device(&self.device);
        let valid = valid.to_device(&self.device.clone().inner());
        learner.fork(&self.device);
        let left = self.lock().clone();
        let mut run = Running {
            state: left.state,
            learner,
            processor: components.event_processor,
            components: Rest {
                interrupter: components.interrupter,
                checkpointer: components.checkpointer,
                event_store: components.event_store,
            },
            best: left.best,
            context: self,
        };
        let _panics = WhileTraining;
        let mut ended = Ended::Finished;
        for epoch in starting_epoch..=components.num_epochs {
            if let Some(end) = run.epoch(epoch, &train, &valid) {
                ended = end;
                break;
            }
        }
        // Joins the threads that write, so that every error is known and every file is there.
        drop(run.components.checkpointer.take());
        *self.lock() = Left {
            state: run.state,
            ended,
            best: run.best,
        };
        (run.learner.model(), run.processor)
    }
}

impl Loop {
    fn lock(&self) -> std::sync::MutexGuard<'_, Left> {
        self.left
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Running<'_> {
    /// One epoch, or what is left of it. Returns how the run ended, if it did.
    fn epoch(
        &mut self,
        epoch: usize,
        train: &TrainLoader<Task>,
        valid: &ValidLoader<Task>,
    ) -> Option<Ended> {
        self.state.epoch = epoch;
        self.train(epoch, train);
        self.flush();
        if self.failed() {
            return Some(Ended::Failed);
        }
        if self.components.interrupter.should_stop() {
            self.checkpoint();
            return Some(Ended::Stopped);
        }
        let validated = self.validate(epoch, valid);
        if self.failed() {
            return Some(Ended::Failed);
        }
        let Some(totals) = validated else {
            self.checkpoint();
            return Some(Ended::Stopped);
        };
        self.state.batch = 0;
        self.state.epoch = epoch + 1;
        self.state.totals = Totals::default();
        self.state.overlap = Default::default();
        let hopeless = self.is_hopeless(epoch, totals.valid);
        self.checkpoint();
        let go_on = self.tell(epoch, &totals);
        match hopeless {
            true => Some(Ended::Early),
            false if !go_on => Some(Ended::Stopped),
            false => None,
        }
    }

    /// Whether whoever watches the epochs wants another one.
    fn tell(&self, epoch: usize, totals: &EpochTotals) -> bool {
        let Some(on_epoch) = &self.context.on_epoch else {
            return true;
        };
        let best = self.state.best.map_or(epoch, |best| best.epoch);
        let overlap = &totals.valid_overlap;
        let report = EpochReport {
            epoch,
            train_loss: totals.train.mean_loss(),
            train_accuracy: totals.train.accuracy(),
            valid_loss: totals.valid.mean_loss(),
            valid_accuracy: totals.valid.accuracy(),
            valid_iou: (!overlap.is_empty()).then(|| overlap.iou()),
            valid_dice: (!overlap.is_empty()).then(|| overlap.dice()),
            kept: best == epoch,
        };
        let mut on_epoch = on_epoch
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        on_epoch(&report)
    }

    fn train(&mut self, epoch: usize, loader: &TrainLoader<Task>) {
        let context = self.context;
        let total = loader.num_items();
        let batches = context.loader.num_batches();
        self.send_train(LearnerEvent::StartSplit {
            epoch_number: epoch,
            total_items: total,
        });
        context.loader.set_position(epoch, self.state.batch);
        context.recorder.start_clock();
        let mut pending: Option<Output> = None;
        let mut batch_iter = loader.iter();
        // Dropped before what is on the device.
        let _panics = WhileTraining;
        while let Some(batch) = batch_iter.next() {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    self.components.interrupter.fail(error);
                    break;
                }
            };
            // Dropout depends on the step alone, not on what ran before it in this process.
            let step = self.state.step as u64;
            context.device.seed(mix(context.seed, step));
            let output = self.learner.train_step(batch);
            self.learner.lr_step();
            context.gradients.begin(self.state.step);
            self.learner.optimizer_step(output.grads);
            panics::progress();
            self.state.step += 1;
            self.state.batch += 1;
            let item = match context.gradients.take() {
                Some(gradients) => output.item.with_gradients(gradients),
                None => output.item,
            };
            pending = Some(match pending.take() {
                Some(sum) => sum.add(item),
                None => item,
            });
            let last = self.state.batch == batches;
            let stop = self.components.interrupter.should_stop();
            let save = context.checkpoint_every > 0
                && self.state.step.is_multiple_of(context.checkpoint_every)
                && !last;
            let log = self.state.step.is_multiple_of(context.log_every)
                || pending.as_ref().is_some_and(Output::is_full);
            if (log || last || stop || save)
                && let Some(sum) = pending.take()
            {
                self.report(Part::Train, epoch, sum, batch_iter.progress());
            }
            if stop {
                break;
            }
            if save {
                self.flush();
                if self.failed() {
                    break;
                }
                self.checkpoint();
            }
        }
        self.send_train(LearnerEvent::EndSplit(epoch));
    }

    /// Training and validation totals; none if the run was stopped on the way.
    fn validate(&mut self, epoch: usize, loader: &ValidLoader<Task>) -> Option<EpochTotals> {
        self.send_valid(LearnerEvent::StartSplit {
            epoch_number: epoch,
            total_items: loader.num_items(),
        });
        let model = self.learner.model().valid();
        let mut sum: Option<Output> = None;
        let mut batches = loader.iter();
        let _panics = WhileTraining;
        while let Some(batch) = batches.next() {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    self.components.interrupter.fail(error);
                    break;
                }
            };
            let output = InferenceStep::step(&model, batch);
            panics::progress();
            sum = Some(match sum.take() {
                Some(sum) => sum.add(output),
                None => output,
            });
            if sum.as_ref().is_some_and(Output::is_full)
                && !batches.progress().is_completed()
                && let Some(sum) = sum.take()
            {
                self.report(Part::Valid, epoch, sum, batches.progress());
            }
            if self.components.interrupter.should_stop() {
                break;
            }
        }
        let complete = batches.progress().is_completed();
        if complete && let Some(sum) = sum {
            self.report(Part::Valid, epoch, sum, batches.progress());
        }
        self.send_valid(LearnerEvent::EndSplit(epoch));
        self.send_train(LearnerEvent::EndEpoch(epoch));
        self.flush();
        complete.then(|| self.context.recorder.end_epoch(epoch, self.state.step))
    }

    fn report(&mut self, part: Part, epoch: usize, sum: Output, progress: Progress) {
        let lr = self.learner.lr_current();
        let entry = Entry {
            part,
            epoch,
            step: self.state.step,
            lr: lr.base(),
            progress: (progress.items_processed, progress.items_total),
        };
        let output = sum.reporting(self.context.recorder.clone(), entry);
        let item = TrainingItem::new(output, progress, Some(self.state.step), Some(lr));
        match part {
            Part::Train => self.send_train(LearnerEvent::ProcessedItem(item)),
            Part::Valid => self.send_valid(LearnerEvent::ProcessedItem(item)),
        }
    }

    /// Remembers the best epoch; whether its loss has not been beaten for too long.
    fn is_hopeless(&mut self, epoch: usize, validated: Totals) -> bool {
        let early_stopping = &self.context.early_stopping;
        if early_stopping.patience == 0 {
            return false;
        }
        let loss = validated.mean_loss();
        match self.state.best {
            Some(best) if loss >= best.loss - early_stopping.min_delta => {
                epoch - best.epoch >= early_stopping.patience
            }
            _ => {
                self.state.best = Some(Best { epoch, loss });
                self.best = Some(self.learner.model().valid());
                false
            }
        }
    }

    /// Saves the state, in the background.
    fn checkpoint(&mut self) {
        self.context.recorder.sync();
        self.state.train_seconds = self.context.recorder.stop_clock();
        self.state.totals = self.context.recorder.train_totals();
        match self.context.gradients.state() {
            Ok(clip) => self.state.clip = clip,
            Err(error) => {
                self.components.interrupter.stop(Some(&error.to_string()));
                return;
            }
        }
        self.state.overlap = self.context.recorder.train_overlap();
        // Running statistics hold back their last update until they are asked for.
        let _ = self.learner.model().valid();
        if self.context.save
            && let Some(checkpointer) = &mut self.components.checkpointer
        {
            let best = self.best.clone().map(Module::into_record);
            self.context.writer.begin(self.state.clone(), best);
            let store = &self.components.event_store;
            checkpointer.checkpoint(&self.learner, self.state.step, store);
        }
        self.context.recorder.start_clock();
    }

    /// Waits until every number sent is read, and stops the clock with the device idle.
    fn flush(&mut self) {
        let flushed = self.processor.flush();
        self.components.interrupter.fail_on_error(flushed);
        self.context.recorder.stop_clock();
    }

    fn failed(&self) -> bool {
        self.components.interrupter.error().is_some()
            || self.context.recorder.divergence().is_some()
    }

    fn send_train(&mut self, event: LearnerEvent<Output>) {
        let sent = self.processor.process_train(event);
        self.components.interrupter.fail_on_error(sent);
    }

    fn send_valid(&mut self, event: LearnerEvent<Output>) {
        let sent = self.processor.process_valid(event);
        self.components.interrupter.fail_on_error(sent);
    }
}

/// A seed for one step.
fn mix(seed: u64, step: u64) -> u64 {
    let mut z = seed ^ step.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
