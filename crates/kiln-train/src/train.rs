//! [`Trainer`]: from a recipe to a trained model in a run directory.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::tensor::Device;
use burn::train::metric::LearningRateMetric;
use burn::train::{Interrupter, Learner, LearningResult, SupervisedTraining, TrainingStrategy};
use kiln_data::scale::Scaler;
use kiln_data::{DeviceLoader, OnDevice as _};
use kiln_zoo::Settings;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, RunState, Writer};
use crate::clipping::Gradients;
use crate::error::TrainError;
use crate::evaluate::{EVAL_BATCH, Evaluation};
use crate::health::{self, HealthLog};
use crate::loader::Loader;
use crate::more;
use crate::network::Network;
use crate::panics;
use crate::prepare::{Images, OnDevice, Prepared};
use crate::recipe::{LossName, Recipe, Setting, TaskName};
use crate::recorder::Recorder;
use crate::renderer::Silent;
use crate::run_dir::{DataInfo, Place, RunDir, RunInfo};
use crate::schedule::Schedule;
use crate::segment::SegmentationLoss;
use crate::segmentation::{eval_batch, write_overlays};
use crate::single;
use crate::strategy::{Ended, Left, Loop, OnEpoch};
use crate::task::{Mean, OverlapMetric, Task};
use crate::weights::save_weights;

/// A device with the names that people know it by.
#[derive(Clone, Debug)]
pub struct TrainDevice {
    /// The device.
    pub device: Device,
    /// Its name: `NVIDIA GeForce RTX 4090`, `CPU`.
    pub name: String,
    /// Its backend: `wgpu`, `flex`.
    pub backend: String,
}

/// How a run shows where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// Not at all.
    #[default]
    Silent,
    /// Lines on stderr.
    Plain,
    /// Burn's dashboard, in a terminal.
    Dashboard,
}

/// The result of a finished run: `summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The folder of the run.
    pub run: PathBuf,
    /// The device.
    pub device: String,
    /// The device's backend.
    pub backend: String,
    /// The model's name.
    pub model: String,
    /// Trainable parameters.
    pub parameters: usize,
    /// The data set.
    pub data: String,
    /// Epochs trained.
    pub epochs: usize,
    /// Training steps taken.
    pub steps: usize,
    /// Whether early stopping ended the run.
    pub stopped_early: bool,
    /// The epoch whose weights were kept: the last one, or with early stopping the best one.
    pub kept_epoch: usize,
    /// Seconds spent in training steps.
    pub train_seconds: f64,
    /// Training images a second, over all training steps.
    pub samples_per_second: f64,
    /// Mean global norm of the gradients before clipping, over the last epoch; none unless the recipe clips, skips or
    /// measures gradients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f64>,
    /// Steps skipped because their gradients were not finite; none unless the recipe skips such steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped_steps: Option<u64>,
    /// What the gradients say; none unless the recipe measures them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_health: Option<kiln_clip::Diagnosis>,
    /// Mean cross-entropy on the test images.
    pub test_loss: f64,
    /// Share of right answers on the test images, 0 to 1; in segmentation, of right pixels.
    pub test_accuracy: f64,
    /// In segmentation, the mean intersection over union of the classes on the test images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_iou: Option<f64>,
    /// In segmentation, the mean Dice coefficient of the classes on the test images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_dice: Option<f64>,
    /// In segmentation, the share of wrong pixels on the test images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_pixel_error: Option<f64>,
}

/// How a run ended.
// A run has one; a box would only make it harder to take apart.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is finished and tested.
    Finished(Summary),
    /// It was stopped by request after a step; its state is saved and `--resume` continues it.
    Stopped {
        /// The folder of the run.
        run: PathBuf,
        /// Steps taken.
        step: usize,
        /// The epoch it was in.
        epoch: usize,
    },
    /// It is finished and its weights are written, but it was not tested, as asked for with [`Trainer::tested`].
    Untested {
        /// The folder of the run.
        run: PathBuf,
    },
}

/// One epoch of a run, as [`Trainer::on_epoch`] tells it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochReport {
    /// The epoch, from 1.
    pub epoch: usize,
    /// Mean loss on the training images, over the steps of the epoch.
    pub train_loss: f64,
    /// Share of right answers on them, 0 to 1.
    pub train_accuracy: f64,
    /// Mean loss on the validation images after the epoch.
    pub valid_loss: f64,
    /// Share of right answers on them, 0 to 1.
    pub valid_accuracy: f64,
    /// In segmentation, their mean intersection over union.
    pub valid_iou: Option<f64>,
    /// In segmentation, their mean Dice coefficient.
    pub valid_dice: Option<f64>,
    /// Whether the weights of this epoch would be kept if the run ended here: with early stopping those of the epoch
    /// with the lowest validation loss are, otherwise always the last.
    pub kept: bool,
}

/// Trains what a [`Recipe`] describes, in a new run directory or one to resume.
///
/// ```no_run
/// use kiln_train::{Outcome, Recipe, TrainDevice, Trainer};
/// # let device = kiln_testing::devices().remove(0);
/// let device = TrainDevice { device, name: "CPU".into(), backend: "flex".into() };
/// let recipe = Recipe::from_toml("epochs = 1\n[data]\nname = 'digits'\n")?;
/// match Trainer::new(recipe, device).run()? {
///     Outcome::Finished(summary) => println!("{:.2} %", summary.test_accuracy * 100.0),
///     Outcome::Stopped { run, .. } => println!("continue with --resume {}", run.display()),
///     Outcome::Untested { run } => println!("trained: {}", run.display()),
/// }
/// # Ok::<(), kiln_train::TrainError>(())
/// ```
pub struct Trainer {
    start: Start,
    device: TrainDevice,
    run_dir: Option<PathBuf>,
    runs: PathBuf,
    progress: Progress,
    data: Option<Arc<Prepared>>,
    checkpoints: bool,
    tested: bool,
    on_epoch: Option<OnEpoch>,
    interrupter: Interrupter,
    notice: Box<dyn Fn(&str) + Send>,
}

enum Start {
    New(Box<Recipe>),
    Resume {
        path: PathBuf,
        settings: Vec<Setting>,
    },
}

impl Trainer {
    /// Will train a recipe on a device, in a new folder under `runs`.
    pub fn new(recipe: Recipe, device: TrainDevice) -> Self {
        Self::start(Start::New(Box::new(recipe)), device)
    }

    /// Will continue a run from its last complete checkpoint, or from the beginning if it has none.
    pub fn resume(run: impl Into<PathBuf>, device: TrainDevice) -> Self {
        let start = Start::Resume {
            path: run.into(),
            settings: Vec::new(),
        };
        Self::start(start, device)
    }

    fn start(start: Start, device: TrainDevice) -> Self {
        Self {
            start,
            device,
            run_dir: None,
            runs: "runs".into(),
            progress: Progress::default(),
            data: None,
            checkpoints: true,
            tested: true,
            on_epoch: None,
            interrupter: Interrupter::new(),
            notice: Box::new(|_| ()),
        }
    }

    /// The folder of the new run, which must not exist. Default: a new one under [`runs`](Self::runs).
    pub fn run_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.run_dir = Some(folder.into());
        self
    }

    /// The folder of all runs; a new run is named by time, model and data. Default: `runs`.
    pub fn runs(mut self, folder: impl Into<PathBuf>) -> Self {
        self.runs = folder.into();
        self
    }

    /// Settings given along with a run to resume. They must be those it was started with, but for more `epochs`: these are
    /// trained too, also by a run that was finished, where the learning rate of the epochs before does not depend on them.
    pub fn expect_settings<S: Into<Setting>>(mut self, given: impl IntoIterator<Item = S>) -> Self {
        if let Start::Resume { settings, .. } = &mut self.start {
            *settings = given.into_iter().map(Into::into).collect();
        }
        self
    }

    /// How to show progress. Default: silent.
    pub fn progress(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }

    /// Data loaded before, for many runs with the same `data` section.
    pub fn data(mut self, data: Arc<Prepared>) -> Self {
        self.data = Some(data);
        self
    }

    /// Whether the state is saved on the way, for `--resume`. Default: true. Without, a run that is stopped is lost.
    pub fn checkpoints(mut self, saved: bool) -> Self {
        self.checkpoints = saved;
        self
    }

    /// Whether the test images are evaluated in the end. Default: true. Without, the run has no summary; its model is
    /// there for [`TrainedModel`](crate::TrainedModel) all the same.
    pub fn tested(mut self, tested: bool) -> Self {
        self.tested = tested;
        self
    }

    /// Called after each epoch with its metrics; false ends the run there, as a request to stop would.
    pub fn on_epoch(mut self, told: impl FnMut(&EpochReport) -> bool + Send + 'static) -> Self {
        self.on_epoch = Some(Box::new(told));
        self
    }

    /// Called with each line that a person should read: which data were taken, where a run resumes.
    pub fn on_notice(mut self, notice: impl Fn(&str) + Send + 'static) -> Self {
        self.notice = Box::new(notice);
        self
    }

    /// The handle that stops the run after its current step: call `stop` on it.
    pub fn interrupter(&self) -> Interrupter {
        self.interrupter.clone()
    }

    /// Trains, tests and writes the result.
    ///
    /// # Errors
    ///
    /// Every way of [`TrainError`]: an unusable recipe, data that cannot be had, a folder that
    /// cannot be written, a run in use or started otherwise, a loss that is not finite. What was
    /// saved before stays as it was.
    pub fn run(mut self) -> Result<Outcome, TrainError> {
        match std::mem::replace(&mut self.start, Start::New(Box::default())) {
            Start::New(recipe) => self.run_new(*recipe),
            Start::Resume { path, settings } => self.run_resumed(&path, &settings),
        }
    }

    fn run_new(self, recipe: Recipe) -> Result<Outcome, TrainError> {
        recipe.validate()?;
        // What cannot work should be said before data are loaded, and before anything is made.
        if let Some(path) = &self.run_dir
            && path.exists()
        {
            return Err(TrainError::RunExists(path.clone()));
        }
        let place = |name: String| match &self.run_dir {
            Some(folder) => Place::Folder(folder.clone()),
            None => Place::Under {
                runs: self.runs.clone(),
                name,
            },
        };
        place(String::new()).check()?;
        let data = self.load(&recipe)?;
        recipe.augment().validate(data.shape())?;
        let loss = loss(&recipe, data.info())?;
        let settings = settings(&recipe, &data, &loss);
        let model = self.create(&recipe, &settings, data.info())?;
        let scaler = data.fit_scaler(&recipe.scale)?;
        let batches = self.batches(&recipe, &data, scaler.as_ref(), &model)?;
        single::check_evaluated(&model.model, data.shape())?;
        for [channels, height, width] in data.evaluated_shapes() {
            single::check_input(&model.model, [1, channels, height, width])?;
        }
        let info = RunInfo {
            created: now(),
            kiln: env!("CARGO_PKG_VERSION").into(),
            burn: BURN.into(),
            device: self.device.name.clone(),
            backend: self.device.backend.clone(),
            parameters: kiln_zoo::num_params(&model),
            model: settings,
            model_name: recipe.model.name.clone(),
            data: data.info().clone(),
        };
        let place = place(run_name(&info));
        let run = RunDir::create(&place, &recipe, &info, scaler.as_ref())?;
        self.train(run, &recipe, &info, &data, model, batches)
    }

    fn run_resumed(self, path: &Path, settings: &[Setting]) -> Result<Outcome, TrainError> {
        let run = RunDir::open_locked(path)?;
        let (mut recipe, info) = (run.recipe()?, run.info()?);
        let mut wanted = recipe.clone();
        for setting in settings {
            wanted.apply(setting)?;
        }
        wanted.validate()?;
        let mut other = wanted.clone();
        other.epochs = recipe.epochs;
        if recipe != other {
            return Err(TrainError::OtherRecipe {
                path: path.into(),
                differences: recipe.differences(&wanted),
            });
        }
        let summary = run.summary()?;
        if let Some(summary) = &summary
            && wanted.epochs == recipe.epochs
        {
            (self.notice)("the run is finished already; nothing is left to train");
            return Ok(Outcome::Finished(summary.clone()));
        }
        let data = self.load(&recipe)?;
        if data.info().fingerprint != info.data.fingerprint {
            let describe = |data: &DataInfo| {
                format!(
                    "{} images of {}, CRC-32 {}",
                    data.train_len, data.name, data.fingerprint
                )
            };
            return Err(TrainError::OtherData {
                path: path.into(),
                started: describe(&info.data),
                now: describe(data.info()),
            });
        }
        if (&self.device.name, &self.device.backend) != (&info.device, &info.backend) {
            (self.notice)(&format!(
                "the run was started on {} ({}); the result may differ in the last digits",
                info.device, info.backend
            ));
        }
        let model = self.create(&recipe, &info.model, &info.data)?;
        let batches = self.batches(&recipe, &data, run.scaler()?.as_ref(), &model)?;
        if wanted.epochs != recipe.epochs {
            let (steps, images) = (batches.train.num_batches(), batches.train.num_items());
            if more::check(&run, &recipe, &wanted, summary.as_ref(), steps, images)? {
                recipe = wanted;
                run.reopen(&recipe)?;
            } else if let Some(summary) = summary {
                (self.notice)("the run is finished already; nothing is left to train");
                return Ok(Outcome::Finished(summary));
            }
        }
        self.train(run, &recipe, &info, &data, model, batches)
    }

    /// The data on the device and the loaders of their batches, which the model can all take.
    fn batches(
        &self,
        recipe: &Recipe,
        data: &Prepared,
        scaler: Option<&Scaler>,
        task: &Task,
    ) -> Result<Batches, TrainError> {
        let (times, images) = (recipe.data.crops_per_image, data.info().train_len);
        if times
            .checked_mul(images)
            .is_none_or(|all| i32::try_from(all).is_err())
        {
            return Err(TrainError::LongEpoch { times, images });
        }
        let device = self.device.device.clone().autodiff();
        let on_device = data.on_device(&device, scaler)?;
        let (mut train, valid) = loaders(&on_device, recipe);
        let [channels, height, width] = data.shape();
        let [height, width] = recipe.data.crop_size.unwrap_or([height, width]);
        let image = [channels, height, width];
        if let Some(single) = single::check_trained(&task.model, image, recipe, &train)? {
            (self.notice)(&format!(
                "the last batch of an epoch would be a single image, too few for {single}; it joins the batch before it, which \
                 has {} images",
                recipe.batch_size + 1
            ));
            train = train.single_last_merged();
        }
        Ok(Batches {
            on_device,
            train,
            valid,
        })
    }

    fn load(&self, recipe: &Recipe) -> Result<Arc<Prepared>, TrainError> {
        if let Some(data) = &self.data {
            return Ok(data.clone());
        }
        let data = Prepared::load(&recipe.data, recipe.task, self.progress != Progress::Silent)?;
        if let Some(note) = data.note() {
            (self.notice)(note);
        }
        Ok(Arc::new(data))
    }

    /// The model with its first weights, which depend on the seed (and the file to begin with) alone.
    fn create(
        &self,
        recipe: &Recipe,
        settings: &Settings,
        data: &DataInfo,
    ) -> Result<Task, TrainError> {
        let device = self.device.device.clone().autodiff();
        device.seed(recipe.seed);
        let model = Network::create(recipe.task, &recipe.model.name, settings, &device)?;
        let images = data.train_len.saturating_mul(recipe.data.crops_per_image);
        let batch = recipe.batch_size.min(images);
        self.check_memory(recipe, batch, &model.summary(settings.input))?;
        // Burn draws weights when they are first used; here, the order must be the layers'.
        let model = model.materialize();
        let (model, note) = model.prepared(&recipe.model, &data.classes)?;
        if let Some(note) = note {
            (self.notice)(&note);
        }
        Ok(Task {
            model,
            loss: loss(recipe, data)?,
            classes: data.classes.len(),
            gradients: Gradients::new(recipe)?,
            memory_efficient: recipe.model.memory_efficient,
        })
    }

    /// That what a training step must have in memory at the least fits there. How much a GPU has is not known.
    fn check_memory(
        &self,
        recipe: &Recipe,
        batch: usize,
        summary: &kiln_zoo::Summary,
    ) -> Result<(), TrainError> {
        let on_cpu = matches!(self.device.backend.as_str(), "flex" | "ndarray" | "cpu");
        let Some(memory) = kiln_zoo::machine_memory().filter(|_| on_cpu) else {
            return Ok(());
        };
        let values = |n: usize| (n as u64).saturating_mul(4);
        let weights = values(summary.parameters());
        // Each trained weight has a gradient, and what the optimizer remembers of it.
        let state = match recipe.model.freeze {
            true => 0,
            false => weights.saturating_mul(1 + recipe.optimizer.state_per_weight()),
        };
        let maps = values(summary.largest_output()).saturating_mul(batch as u64);
        let needed = weights.saturating_add(state).saturating_add(maps);
        if needed <= memory {
            return Ok(());
        }
        Err(TrainError::TooLarge {
            model: recipe.model.name.clone(),
            parameters: summary.parameters(),
            needed: kiln_zoo::bytes_text(needed),
            memory: kiln_zoo::bytes_text(memory),
            maps: kiln_zoo::bytes_text(maps),
            batch,
        })
    }

    fn train(
        mut self,
        run: RunDir,
        recipe: &Recipe,
        info: &RunInfo,
        data: &Prepared,
        task: Task,
        batches: Batches,
    ) -> Result<Outcome, TrainError> {
        let _running = panics::Running::new(run.path());
        let device = self.device.device.clone().autodiff();
        let Batches {
            on_device,
            train,
            valid,
        } = batches;
        let epoch_len = train.num_items();
        let epochs = recipe.epochs.resolve(epoch_len);
        let steps_per_epoch = train.num_batches();

        let (found, skipped) = checkpoint::newest(&run.checkpoints());
        skipped.iter().for_each(|line| (self.notice)(line));
        let start = found.as_ref().map_or_else(
            || RunState {
                epoch: 1,
                ..Default::default()
            },
            |found| found.state.clone(),
        );
        if let Some(found) = &found {
            found.check(epochs, steps_per_epoch)?;
            (self.notice)(&format!(
                "resuming after step {} of {} (epoch {})",
                found.state.step,
                epochs * steps_per_epoch,
                found.state.epoch,
            ));
        }
        let best = match &found {
            Some(found) => checkpoint::best_weights(&found.path)?
                .map(|record| task.clone().load_record(record).valid()),
            None => None,
        };
        let writer = Writer::new(
            run.checkpoints(),
            recipe.checkpoint.keep,
            found.as_ref().map(|found| found.path.clone()),
        );
        let recorder = Arc::new(Recorder::open(
            &run.metrics_file(),
            start.step,
            start.totals,
            start.train_seconds,
            self.interrupter.clone(),
        )?);
        if recipe.grad_health > 0 {
            recorder.keep_health(HealthLog::open(&run.health_file(), start.step)?);
        }
        if self.progress == Progress::Plain {
            recorder.print(epochs, steps_per_epoch, start.step);
        }
        task.gradients.resume(start.clip.clone());
        recorder.continue_overlap(start.overlap.clone());
        let left = Arc::new(Mutex::new(Left {
            state: start.clone(),
            ended: Ended::Finished,
            best,
        }));
        let strategy = Loop {
            seed: recipe.seed,
            device,
            log_every: recipe.log_every,
            checkpoint_every: recipe.checkpoint.every,
            early_stopping: recipe.early_stopping.clone(),
            save: self.checkpoints,
            on_epoch: self.on_epoch.take().map(Mutex::new),
            loader: train.clone(),
            recorder: recorder.clone(),
            writer: writer.clone(),
            gradients: task.gradients.clone(),
            left: left.clone(),
        };
        let (train, valid): (Arc<dyn DataLoader<_>>, _) = (train.shared(), valid.shared());
        let mut training = writer
            .install(SupervisedTraining::new(run.path(), train, valid))
            .with_training_strategy(TrainingStrategy::Custom(Arc::new(strategy)))
            .with_application_logger(None)
            .with_metric_logger(burn::train::logger::InMemoryMetricLogger::new())
            .with_interrupter(self.interrupter.clone())
            .metrics((Mean::loss(), Mean::accuracy()))
            .metric_train_numeric(LearningRateMetric::new())
            .label(&format!("{} on {}", info.model_name, info.data.name))
            .num_epochs(epochs);
        if task.gradients.watched() {
            training = training.metric_train_numeric(Mean::grad_norm());
        }
        if recipe.task == TaskName::Segmentation {
            training = training.metrics((OverlapMetric::iou(), OverlapMetric::dice()));
        }
        if found.is_some() {
            training = training.checkpoint(start.epoch - 1);
        }
        training = self.render(training, start.epoch);
        let schedule = Schedule::new(recipe, steps_per_epoch, epochs * steps_per_epoch);
        let learner = Learner::new(task, crate::optimizer(&recipe.optimizer), schedule);
        let result = launch(training, learner, run.path())?;
        drop(result.renderer);
        // Also of a run that failed: then it is wanted most.
        let health = health::conclude(&run, recipe)?;
        if let Some(diagnosis) = &health {
            (self.notice)(&format!("gradient health: {diagnosis}"));
        }

        if let Some(error) = writer.take_error().or_else(|| recorder.take_error()) {
            return Err(error);
        }
        if let Some(skipped) = recorder.only_skips() {
            return Err(TrainError::OnlySkips { skipped });
        }
        if let Some(divergence) = recorder.divergence() {
            return Err(TrainError::Diverged {
                loss: divergence.loss,
                step: divergence.step,
                epoch: divergence.epoch,
                advice: advice(recipe),
            });
        }
        if let Some(error) = result.error {
            return Err(TrainError::Backend(error.to_string()));
        }
        let left = left
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone();
        let state = left.state;
        match left.ended {
            Ended::Stopped => {
                return Ok(Outcome::Stopped {
                    run: run.path().into(),
                    step: state.step,
                    epoch: state.epoch,
                });
            }
            Ended::Failed => {
                let message = self.interrupter.get_message().unwrap_or_default();
                return Err(TrainError::Backend(message));
            }
            Ended::Finished | Ended::Early => (),
        }
        let (model, kept_epoch) = match (left.best, state.best) {
            (Some(best), Some(at)) => (best, at.epoch),
            _ => (result.model, state.epoch - 1),
        };
        save_weights(&model.model, &info.data.classes, &run.model_file())?;
        if !self.tested {
            return Ok(Outcome::Untested {
                run: run.path().into(),
            });
        }
        let tested = test(&model, &on_device, data, &info.data.classes, run.path())?;
        let images = images_trained(&state, steps_per_epoch, epoch_len, recipe.batch_size);
        let summary = Summary {
            grad_norm: recorder.last_grad_norm(),
            skipped_steps: recipe.skip_nonfinite.then_some(state.clip.skipped),
            grad_health: health,
            run: run.path().into(),
            device: self.device.name.clone(),
            backend: self.device.backend.clone(),
            model: info.model_name.clone(),
            parameters: info.parameters,
            data: info.data.name.clone(),
            epochs: state.epoch - 1,
            steps: state.step,
            stopped_early: left.ended == Ended::Early,
            kept_epoch,
            train_seconds: state.train_seconds,
            samples_per_second: images as f64 / state.train_seconds.max(1e-9),
            test_loss: tested.loss,
            test_accuracy: tested.accuracy,
            test_iou: tested.segmentation.as_ref().map(|scores| scores.iou),
            test_dice: tested.segmentation.as_ref().map(|scores| scores.dice),
            test_pixel_error: tested
                .segmentation
                .as_ref()
                .map(|scores| scores.pixel_error),
        };
        run.write_summary(&summary)?;
        // The run is finished without its page, too.
        if let Err(error) = crate::report(run.path()) {
            (self.notice)(&format!("no report was written: {error}"));
        }
        Ok(Outcome::Finished(summary))
    }

    fn render(
        &self,
        training: SupervisedTraining<Task>,
        _epoch: usize,
    ) -> SupervisedTraining<Task> {
        match self.progress {
            #[cfg(feature = "dashboard")]
            Progress::Dashboard => training.renderer(crate::renderer::dashboard(
                self.interrupter.clone(),
                _epoch - 1,
            )),
            _ => training.renderer(Box::new(Silent)),
        }
    }
}

const BURN: &str = "0.22.1";

/// The data on the device, and how batches are formed of them.
struct Batches {
    on_device: OnDevice,
    train: Loader,
    valid: Loader,
}

/// Trains. A panic is an error; burn-train makes one where the user chooses to end at once in the dashboard.
fn launch(
    training: SupervisedTraining<Task>,
    learner: Learner<Task>,
    run: &Path,
) -> Result<LearningResult<Task>, TrainError> {
    let train = AssertUnwindSafe(|| training.launch(learner));
    std::panic::catch_unwind(train).map_err(|payload| {
        panics::cleared_up();
        let message = panics::of_payload(&*payload);
        match message.contains("from user input") {
            true => TrainError::Killed(run.into()),
            false => TrainError::Panicked {
                run: run.into(),
                message,
            },
        }
    })
}

/// The model's settings for these data.
fn settings(recipe: &Recipe, data: &Prepared, loss: &SegmentationLoss) -> Settings {
    let model = &recipe.model;
    let [channels, height, width] = data.shape();
    let [height, width] = recipe.data.crop_size.unwrap_or([height, width]);
    let classes = data.info().classes.len();
    Settings {
        input: [channels, height, width],
        num_classes: match recipe.task {
            TaskName::Classification => classes,
            TaskName::Segmentation => loss.outputs(classes),
        },
        hidden: model.hidden.clone(),
        channels: model.channels.clone(),
        dropout: model.dropout.clone(),
        norm: model.norm,
        activation: model.activation,
        stem: model.stem,
        zero_init: model.zero_init,
        bilinear: model.bilinear,
    }
}

/// How masks are judged; without meaning in classification.
pub(crate) fn loss(recipe: &Recipe, data: &DataInfo) -> Result<SegmentationLoss, TrainError> {
    let classes = data.classes.len();
    let binary = match recipe.loss.name {
        LossName::Auto => classes == 2,
        LossName::CrossEntropy => false,
        LossName::Bce if classes == 2 => true,
        LossName::Bce => return Err(TrainError::BinaryLoss { classes }),
    };
    Ok(SegmentationLoss {
        binary,
        dice: recipe.loss.dice,
    })
}

/// The loaders of the training and of the validation images.
fn loaders(data: &OnDevice, recipe: &Recipe) -> (Loader, Loader) {
    fn train<D: kiln_data::OnDevice>(data: &D, recipe: &Recipe) -> DeviceLoader<D> {
        DeviceLoader::new(data.clone(), recipe.batch_size)
            .shuffled(recipe.seed)
            .repeated(recipe.data.crops_per_image)
            .limited(recipe.steps_per_epoch.unwrap_or(usize::MAX))
            .augmented(recipe.augment())
    }
    match data {
        OnDevice::Labels(splits) => (
            Loader::Labels(train(&splits.train, recipe)),
            Loader::Labels(DeviceLoader::new(splits.valid.clone(), EVAL_BATCH)),
        ),
        OnDevice::Masks(splits) => {
            let batch = eval_batch(splits.valid.shape());
            let valid = DeviceLoader::new(splits.valid.clone(), batch);
            (
                Loader::Masks(train(&splits.train, recipe)),
                Loader::Masks(valid),
            )
        }
    }
}

/// Evaluates on the test images and writes what a person may want to see of it.
fn test(
    task: &Task,
    on_device: &OnDevice,
    data: &Prepared,
    classes: &[String],
    folder: &Path,
) -> Result<Evaluation, TrainError> {
    match (&task.model, on_device, data.images()) {
        (Network::Classifier(model), OnDevice::Labels(device), Images::Labels(host)) => {
            let tested = Evaluation::of(model, &device.test, classes)?;
            tested.write(folder)?;
            crate::samples::write(model, &device.test, &host.test, classes, folder)?;
            Ok(tested)
        }
        (Network::Segmenter(model), OnDevice::Masks(device), Images::Masks(host)) => {
            let tested = Evaluation::of_masks(model, &task.loss, &device.test, classes)?;
            tested.write(folder)?;
            write_overlays(model, &task.loss, &device.test, &host.test, folder)?;
            Ok(tested)
        }
        _ => unreachable!("the model and the data of a run are for one task"),
    }
}

fn images_trained(state: &RunState, steps_per_epoch: usize, len: usize, batch: usize) -> usize {
    let (epochs, steps) = (state.step / steps_per_epoch, state.step % steps_per_epoch);
    epochs * len + steps * batch
}

fn advice(recipe: &Recipe) -> String {
    let lr = recipe.optimizer.learning_rate();
    let mut advice = format!(
        "try a lower learning rate, such as optimizer.lr={}",
        lr / 10.0
    );
    if recipe.schedule.warmup_epochs == 0.0 {
        advice.push_str(", or a warm-up, such as schedule.warmup_epochs=1");
    }
    if recipe.clip.is_none() {
        advice.push_str(", or clip the gradients, such as clip=norm:1.0");
    }
    if !recipe.skip_nonfinite {
        advice.push_str("; skip_nonfinite=true goes on past a few bad batches");
    }
    advice.push_str("; the last checkpoint is from before");
    advice
}

pub(crate) fn now() -> String {
    let now = time::OffsetDateTime::now_utc();
    let format = time::format_description::well_known::Rfc3339;
    let now = now.replace_nanosecond(0).unwrap_or(now);
    now.format(&format).unwrap_or_else(|_| now.to_string())
}

/// `2026-11-22_131502-cnn-digits`, the time in UTC.
fn run_name(info: &RunInfo) -> String {
    let time = info.created.replace('T', "_").replace([':', 'Z'], "");
    format!("{time}-{}-{}", info.model_name, info.data.name)
}
