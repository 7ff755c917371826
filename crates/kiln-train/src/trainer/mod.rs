//! [`Trainer`]: from a model, data and settings to a trained model in a run's folder; [`recipe`] makes the three from a recipe.

mod more;
pub(crate) mod recipe;
mod session;

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::tensor::Device;
use burn::train::Interrupter;
use kiln_clip::GradClip;
use kiln_zoo::weights::{self, Load};

use crate::error::TrainError;
use crate::recipe::{Recipe, RecipeError};
use crate::run::files::write_atomically;
use crate::run::folder::{DataInfo, Place, RunDir, RunInfo};
use crate::run::summary::Summary;
use crate::training::data::Batches;
use crate::training::fit::{
    Ended, EpochReport, OnEpoch, TrainInput, Trainable, ValidInput, evaluate,
};
use crate::training::settings::{
    CheckpointRecipe, EarlyStoppingRecipe, OptimizerRecipe, ScheduleRecipe, TrainSettings,
};
use session::{Fitted, Session};

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

impl TrainDevice {
    /// Its name and its backend's.
    fn names(&self) -> [&str; 2] {
        [&self.name, &self.backend]
    }
}

/// Named as Burn's debug form names it, which for a GPU says less than the name that the facade's device selection gives.
impl From<Device> for TrainDevice {
    fn from(device: Device) -> Self {
        // `Device<Flex(..)>`, `Device<Cube(Wgpu(..))>`.
        let text = format!("{:?}", device.clone().inner());
        let name = text.trim_start_matches("Device<").trim_end_matches('>');
        let name = name.trim_start_matches("Cube(");
        let backend = name.chars().take_while(|c| c.is_alphanumeric());
        Self {
            backend: backend.collect::<String>().to_lowercase(),
            name: name.into(),
            device,
        }
    }
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

impl Summary {
    fn new<M>(run: &RunDir, info: &RunInfo, fitted: &Fitted<M>, settings: &TrainSettings) -> Self {
        let state = &fitted.state;
        Self {
            run: run.path().into(),
            device: info.device.clone(),
            backend: info.backend.clone(),
            model: info.model_name.clone(),
            parameters: info.parameters,
            data: info.data.name.clone(),
            epochs: state.epoch - 1,
            steps: state.step,
            stopped_early: fitted.ended == Ended::Early,
            kept_epoch: fitted.kept_epoch,
            train_seconds: state.train_seconds,
            samples_per_second: fitted.samples_per_second,
            grad_norm: fitted.grad_norm,
            skipped_steps: settings.skip_nonfinite.then_some(state.clip.skipped),
            grad_health: fitted.health.clone(),
            scores: BTreeMap::new(),
        }
    }
}

/// What a trained model of your own has come to.
// A run has one; a box would only make it harder to take apart.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum Trained<M> {
    /// It is trained. The model has the weights that are kept, and is outside training.
    Finished {
        /// The model.
        model: M,
        /// What it came to.
        summary: Summary,
    },
    /// It was stopped by request after a step. Its state is saved, unless [`checkpoints`](Trainer::checkpoints) are off, and the
    /// same trainer with [`resume`](Trainer::resume) continues it.
    Stopped {
        /// The folder of the run.
        run: PathBuf,
        /// Steps taken.
        step: usize,
        /// The epoch it was in.
        epoch: usize,
    },
}

/// Trains a model of your own on data of your own.
///
/// The model is a burn `Module` that says what one step is, as burn-train has it: `TrainStep` and `InferenceStep`, whose
/// output is [`StepSums`](crate::StepSums), or burn-train's `ClassificationOutput` or `RegressionOutput`. The data are
/// [`Batches`] to train on and to validate on. Everything that Kiln has works with both: checkpoints after any step, resume to
/// the same bits, early stopping with the best weights, clipping and gradient health, `metrics.jsonl`, the report, weights as
/// safetensors, errors as values.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Distribution, Tensor};
/// use burn::train::{InferenceStep, TrainOutput, TrainStep};
/// use kiln_train::{StepSums, TensorBatch, TensorBatches, Trained, Trainer};
///
/// #[derive(Module, Debug)]
/// struct Line {
///     linear: Linear,
/// }
///
/// impl Line {
///     fn loss(&self, batch: TensorBatch<2, 2>) -> (Tensor<1>, StepSums) {
///         let items = batch.targets.dims()[0];
///         let loss = (self.linear.forward(batch.features) - batch.targets).powi_scalar(2).mean();
///         (loss.clone(), StepSums::new(loss, items))
///     }
/// }
///
/// impl TrainStep for Line {
///     type Input = TensorBatch<2, 2>;
///     type Output = StepSums;
///     fn step(&self, batch: TensorBatch<2, 2>) -> TrainOutput<StepSums> {
///         let (loss, sums) = self.loss(batch);
///         TrainOutput::new(self, loss.backward(), sums)
///     }
/// }
///
/// impl InferenceStep for Line {
///     type Input = TensorBatch<2, 2>;
///     type Output = StepSums;
///     fn step(&self, batch: TensorBatch<2, 2>) -> StepSums {
///         self.loss(batch).1
///     }
/// }
///
/// # let device = kiln_testing::devices().remove(0);
/// # let folder = tempfile::tempdir().unwrap();
/// let x = Tensor::random([64, 1], Distribution::Uniform(-1.0, 1.0), &device);
/// let y = x.clone() * 3.0 + 1.0;
/// let train = TensorBatches::new(x.clone(), y.clone(), 16).shuffled(7);
/// let valid = TensorBatches::new(x, y, 64);
/// let model = Line { linear: LinearConfig::new(1, 1).init(&device.clone().autodiff()) };
/// let trainer = Trainer::new(model, train, valid, device).lr(0.1).epochs(50).run_dir(folder.path().join("line"));
/// let Trained::Finished { model, summary } = trainer.run()? else { panic!("nobody stopped it") };
/// assert!(summary.score("valid_loss").unwrap() < 0.05);
/// assert!((model.linear.weight.val().into_scalar::<f32>() - 3.0).abs() < 0.2);
/// # Ok::<(), kiln_train::TrainError>(())
/// ```
pub struct Trainer<M: Trainable> {
    model: M,
    train: Box<dyn Batches<TrainInput<M>>>,
    valid: Box<dyn Batches<ValidInput<M>>>,
    device: TrainDevice,
    settings: TrainSettings,
    names: [String; 2],
    options: Options,
    resume: bool,
}

/// What trainers of both kinds can be told.
pub(crate) struct Options {
    run_dir: Option<PathBuf>,
    runs: PathBuf,
    progress: Progress,
    checkpoints: bool,
    on_epoch: Box<dyn FnMut(&EpochReport) -> bool + Send>,
    interrupter: Interrupter,
    notice: Box<dyn Fn(&str) + Send>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            run_dir: None,
            runs: "runs".into(),
            progress: Progress::default(),
            checkpoints: true,
            on_epoch: Box::new(|_| true),
            interrupter: Interrupter::new(),
            notice: Box::new(|_| ()),
        }
    }
}

impl Options {
    /// Where a new run goes, under this name if its folder is not given.
    fn place(&self, name: String) -> Place {
        match &self.run_dir {
            Some(folder) => Place::Folder(folder.clone()),
            None => Place::Under {
                runs: self.runs.clone(),
                name,
            },
        }
    }

    /// Refuses a place that cannot be one, before anything is made.
    fn check_place(&self) -> Result<(), TrainError> {
        if let Some(path) = &self.run_dir
            && path.exists()
        {
            return Err(TrainError::RunExists(path.clone()));
        }
        self.place(String::new()).check()
    }
}

/// The options that both trainers have, as methods.
macro_rules! options {
    () => {
        /// The folder of the new run, which must not exist. Default: a new one under [`runs`](Self::runs).
        pub fn run_dir(mut self, folder: impl Into<std::path::PathBuf>) -> Self {
            self.options.run_dir = Some(folder.into());
            self
        }

        /// The folder of all runs; a new run is named by time, model and data. Default: `runs`.
        pub fn runs(mut self, folder: impl Into<std::path::PathBuf>) -> Self {
            self.options.runs = folder.into();
            self
        }

        /// How to show progress. Default: silent.
        pub fn progress(mut self, progress: $crate::Progress) -> Self {
            self.options.progress = progress;
            self
        }

        /// Whether the state is saved on the way, to be resumed. Default: true. Without, a run that is stopped is lost.
        pub fn checkpoints(mut self, saved: bool) -> Self {
            self.options.checkpoints = saved;
            self
        }

        /// Called after each epoch with its metrics; false ends the run there, as a request to stop would.
        pub fn on_epoch(
            mut self,
            told: impl FnMut(&$crate::EpochReport) -> bool + Send + 'static,
        ) -> Self {
            self.options.on_epoch = Box::new(told);
            self
        }

        /// Called with each line that a person should read: which data were taken, where a run resumes.
        pub fn on_notice(mut self, notice: impl Fn(&str) + Send + 'static) -> Self {
            self.options.notice = Box::new(notice);
            self
        }

        /// The handle that stops the run after its current step: call `stop` on it.
        pub fn interrupter(&self) -> burn::train::Interrupter {
            self.options.interrupter.clone()
        }
    };
}
pub(crate) use options;

impl<M: Trainable> Trainer<M> {
    /// Will train a model on batches, validate it on others after each epoch, and do both on a device.
    pub fn new(
        model: M,
        train: impl Batches<TrainInput<M>> + 'static,
        valid: impl Batches<ValidInput<M>> + 'static,
        device: impl Into<TrainDevice>,
    ) -> Self {
        let recipe = Recipe::default();
        let model_name = std::any::type_name::<M>();
        let model_name = model_name.split('<').next().unwrap_or(model_name);
        let model_name = model_name.rsplit("::").next().unwrap_or(model_name);
        Self {
            model,
            train: Box::new(train),
            valid: Box::new(valid),
            device: device.into(),
            settings: TrainSettings::of(&recipe, 10),
            names: [model_name.to_lowercase(), "own".into()],
            options: Options::default(),
            resume: false,
        }
    }

    options!();

    /// Continues the run in [`run_dir`](Self::run_dir) if there is one, from its last checkpoint; a finished one is loaded.
    /// The model, the data and the settings must be those it was started with. Default: false.
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Passes over the training data. Default: 10.
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.settings.epochs = epochs;
        self
    }

    /// The learning rate at the top of the schedule. Default: the optimizer's in PyTorch.
    pub fn lr(mut self, lr: f64) -> Self {
        self.settings.optimizer.lr = Some(lr);
        self
    }

    /// The optimizer. Default: Adam, as PyTorch has it.
    pub fn optimizer(mut self, optimizer: OptimizerRecipe) -> Self {
        self.settings.optimizer = optimizer;
        self
    }

    /// The learning rate over time. Default: half a cosine to zero.
    pub fn schedule(mut self, schedule: ScheduleRecipe) -> Self {
        self.settings.schedule = schedule;
        self
    }

    /// How gradients are clipped. Default: not at all.
    pub fn clip(mut self, clip: GradClip) -> Self {
        self.settings.clip = clip;
        self
    }

    /// Whether a step whose gradients are not finite changes nothing and is counted, instead of ending the run. Default:
    /// false.
    pub fn skip_nonfinite(mut self, skip: bool) -> Self {
        self.settings.skip_nonfinite = skip;
        self
    }

    /// Steps between two measurements of gradient health; 0, the default, measures none.
    pub fn grad_health(mut self, every: usize) -> Self {
        self.settings.grad_health = every;
        self
    }

    /// When to stop before the last epoch. Default: never.
    pub fn early_stopping(mut self, early_stopping: EarlyStoppingRecipe) -> Self {
        self.settings.early_stopping = early_stopping;
        self
    }

    /// When the state is saved beside after each epoch, and how many states are kept. Default: not, and 2.
    pub fn checkpoint(mut self, checkpoint: CheckpointRecipe) -> Self {
        self.settings.checkpoint = checkpoint;
        self
    }

    /// Steps between two entries of metrics. Default: 10.
    pub fn log_every(mut self, steps: usize) -> Self {
        self.settings.log_every = steps;
        self
    }

    /// Seed of dropout, and of whatever else draws from the device in a step. Default: 42. The first weights are the model's
    /// own, and the order of the data is that of its batches.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// What the model and the data are called in the run's name, summary and report. Default: the model's type, and `own`.
    pub fn named(mut self, model: impl Into<String>, data: impl Into<String>) -> Self {
        self.names = [model.into(), data.into()];
        self
    }

    /// Trains, and writes the run's folder.
    ///
    /// # Errors
    ///
    /// A setting out of its range, a folder that cannot be written, a run in use or started otherwise, a loss that is not
    /// finite, a batch that cannot be had. What was saved before stays as it was.
    pub fn run(mut self) -> Result<Trained<M>, TrainError> {
        let mut on_epoch = self.take_on_epoch();
        self.run_watched(&mut *on_epoch)
    }

    pub(crate) fn take_on_epoch(&mut self) -> Box<dyn FnMut(&EpochReport) -> bool + Send> {
        std::mem::replace(&mut self.options.on_epoch, Box::new(|_| true))
    }

    pub(crate) fn runs_folder(&self) -> PathBuf {
        self.options.runs.clone()
    }

    /// As [`run`](Self::run), with what is called after each epoch, which may borrow.
    pub(crate) fn run_watched(self, on_epoch: OnEpoch<'_>) -> Result<Trained<M>, TrainError> {
        self.settings.as_recipe()?;
        let there = self.options.run_dir.as_ref().filter(|dir| dir.exists());
        let run = match there.filter(|_| self.resume) {
            Some(path) => RunDir::open_locked(path)?,
            None => {
                self.options.check_place()?;
                self.create()?
            }
        };
        let info = run.info()?;
        self.check(&run, &info)?;
        if let Some(summary) = run.summary()? {
            (self.options.notice)("the run is finished already; nothing is left to train");
            let model = self.model.valid();
            let (model, _) = Load::new().into_model(model, run.model_file())?;
            return Ok(Trained::Finished { model, summary });
        }
        self.fit(run, info, on_epoch)
    }

    fn info(&self) -> RunInfo {
        let [model_name, data] = self.names.clone();
        RunInfo {
            parameters: kiln_zoo::num_params(&self.model),
            ..RunInfo::new(self.device.names(), model_name, self.data_info(data))
        }
    }

    fn data_info(&self, name: String) -> DataInfo {
        let (items, batches) = (self.train.num_items(), self.train.num_batches());
        DataInfo {
            name,
            origin: "the program".into(),
            train_len: items,
            valid_len: self.valid.num_items(),
            fingerprint: format!("{items} items in {batches} batches"),
            ..DataInfo::default()
        }
    }

    fn create(&self) -> Result<RunDir, TrainError> {
        let info = self.info();
        let place = self.options.place(info.run_name());
        RunDir::create(&place, &self.settings.to_toml(), &info, None)
    }

    /// That a run is of these settings and of this data.
    fn check(&self, run: &RunDir, info: &RunInfo) -> Result<(), TrainError> {
        let (ours, mut theirs) = (self.settings.as_recipe()?, run.recipe()?);
        // Of a recipe's data nothing is said here.
        theirs.data = ours.data.clone();
        if ours != theirs {
            return Err(TrainError::OtherRecipe {
                path: run.path().into(),
                differences: theirs.differences(&ours),
            });
        }
        let now = self.info();
        if now.data.fingerprint != info.data.fingerprint {
            return Err(TrainError::OtherData {
                path: run.path().into(),
                started: info.data.fingerprint.clone(),
                now: now.data.fingerprint,
            });
        }
        if now.parameters != info.parameters {
            return Err(TrainError::OtherModel {
                path: run.path().into(),
                problem: format!(
                    "it has {} parameters, and this model {}",
                    info.parameters, now.parameters
                ),
            });
        }
        Ok(())
    }

    fn fit(
        self,
        run: RunDir,
        info: RunInfo,
        on_epoch: OnEpoch<'_>,
    ) -> Result<Trained<M>, TrainError> {
        let session = Session {
            run: &run,
            settings: &self.settings,
            device: &self.device,
            train: &*self.train,
            valid: &*self.valid,
            progress: self.options.progress,
            label: format!("{} on {}", info.model_name, info.data.name),
            items: "items",
            checkpoints: self.options.checkpoints,
            interrupter: &self.options.interrupter,
            notice: &*self.options.notice,
        };
        let mut last: Option<EpochReport> = None;
        let fitted = session.fit(self.model, &mut |report| {
            if report.kept {
                last = Some(report.clone());
            }
            on_epoch(report)
        })?;
        if fitted.ended == Ended::Stopped {
            return Ok(Trained::Stopped {
                run: run.path().into(),
                step: fitted.state.step,
                epoch: fitted.state.epoch,
            });
        }
        let mut bytes = Vec::new();
        weights::write(&fitted.model, &mut bytes)
            .map_err(|error| TrainError::io("write", run.model_file(), error))?;
        write_atomically(&run.model_file(), &bytes)?;
        let mut summary = Summary::new(&run, &info, &fitted, &self.settings);
        let valid = match last.filter(|last| last.epoch == fitted.kept_epoch) {
            Some(last) => last.valid,
            // It was validated before the run was resumed.
            None => evaluate(&fitted.model, &*self.valid, &self.device.device)?,
        };
        let named = valid
            .metrics
            .into_iter()
            .chain([("loss".into(), valid.loss)]);
        summary.scores = named
            .filter(|(_, value)| value.is_finite())
            .map(|(name, value)| (format!("valid_{name}"), value))
            .collect();
        finish(&run, &summary, &*self.options.notice)?;
        Ok(Trained::Finished {
            model: fitted.model,
            summary,
        })
    }
}

/// Writes the summary and the report. The run is finished without its page, too.
fn finish(run: &RunDir, summary: &Summary, notice: &dyn Fn(&str)) -> Result<(), TrainError> {
    run.write_summary(summary)?;
    if let Err(error) = crate::report(run.path()) {
        notice(&format!("no report was written: {error}"));
    }
    Ok(())
}

impl TrainSettings {
    /// Those of a recipe.
    pub(crate) fn of(recipe: &Recipe, epochs: usize) -> Self {
        Self {
            seed: recipe.seed,
            epochs,
            log_every: recipe.log_every,
            clip: recipe.clip,
            skip_nonfinite: recipe.skip_nonfinite,
            grad_health: recipe.grad_health,
            optimizer: recipe.optimizer.clone(),
            schedule: recipe.schedule.clone(),
            early_stopping: recipe.early_stopping.clone(),
            checkpoint: recipe.checkpoint.clone(),
        }
    }

    /// A recipe with these settings, which are checked.
    fn as_recipe(&self) -> Result<Recipe, RecipeError> {
        Recipe::from_toml(&self.to_toml())
    }

    fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings have a TOML form")
    }
}
