//! [`RecipeTrainer`]: from a recipe to a trained and tested model in a run's folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use kiln_data::scale::Scaler;
use kiln_data::{DeviceLoader, OnDevice as _};
use kiln_zoo::Settings;

use super::session::Session;
use super::{Options, Progress, TrainDevice, finish, more, options};
use crate::error::TrainError;
use crate::eval::evaluation::{EVAL_BATCH, Evaluation};
use crate::eval::masks::{eval_batch, write_overlays};
use crate::recipe::data::{Images, OnDevice, Prepared};
use crate::recipe::{Recipe, Setting, TaskName};
use crate::run::folder::{DataInfo, RunDir, RunInfo};
use crate::run::summary::Summary;
use crate::run::weights::save_weights;
use crate::tasks::loader::Loader;
use crate::tasks::network::Network;
use crate::tasks::segment::SegmentationLoss;
use crate::tasks::single;
use crate::tasks::step::Task;
use crate::training::data::Batches as _;
use crate::training::fit::{Ended, OnEpoch};
use crate::training::settings::TrainSettings;

/// How a run ended.
// A run has one; a box would only make it harder to take apart.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is finished and tested.
    Finished(Summary),
    /// It was stopped by request after a step. Its state is saved, unless checkpoints are off, and `--resume` continues it.
    Stopped {
        /// The folder of the run.
        run: PathBuf,
        /// Steps taken.
        step: usize,
        /// The epoch it was in.
        epoch: usize,
    },
    /// It is finished and its weights are written, but it was not tested, as asked for with [`RecipeTrainer::tested`].
    Untested {
        /// The folder of the run.
        run: PathBuf,
    },
}

/// Trains what a [`Recipe`] describes, in a new run directory or one to resume.
///
/// ```no_run
/// use kiln_train::{Outcome, Recipe, RecipeTrainer, TrainDevice};
/// # let device = kiln_testing::devices().remove(0);
/// let device = TrainDevice { device, name: "CPU".into(), backend: "flex".into() };
/// let recipe = Recipe::from_toml("epochs = 1\n[data]\nname = 'digits'\n")?;
/// match RecipeTrainer::new(recipe, device).run()? {
///     Outcome::Finished(summary) => println!("{:?}", summary.score("test_accuracy")),
///     Outcome::Stopped { run, .. } => println!("continue with --resume {}", run.display()),
///     Outcome::Untested { run } => println!("trained: {}", run.display()),
/// }
/// # Ok::<(), kiln_train::TrainError>(())
/// ```
pub struct RecipeTrainer {
    start: Start,
    device: TrainDevice,
    data: Option<Arc<Prepared>>,
    tested: bool,
    options: Options,
}

enum Start {
    New(Box<Recipe>),
    Resume {
        path: PathBuf,
        settings: Vec<Setting>,
    },
}

impl RecipeTrainer {
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
            data: None,
            tested: true,
            options: Options::default(),
        }
    }

    options!();

    /// Settings given along with a run to resume. They must be those it was started with, but for more `epochs`: these are
    /// trained too, also by a run that was finished, where the learning rate of the epochs before does not depend on them.
    pub fn expect_settings<S: Into<Setting>>(mut self, given: impl IntoIterator<Item = S>) -> Self {
        if let Start::Resume { settings, .. } = &mut self.start {
            *settings = given.into_iter().map(Into::into).collect();
        }
        self
    }

    /// Data loaded before, for many runs with the same `data` section.
    pub fn data(mut self, data: Arc<Prepared>) -> Self {
        self.data = Some(data);
        self
    }

    /// Whether the test images are evaluated in the end. Default: true. Without, the run has no summary; its model is
    /// there for [`TrainedModel`](crate::TrainedModel) all the same.
    pub fn tested(mut self, tested: bool) -> Self {
        self.tested = tested;
        self
    }

    /// Trains, tests and writes the result.
    ///
    /// # Errors
    ///
    /// Every way of [`TrainError`]: an unusable recipe, data that cannot be had, a folder that
    /// cannot be written, a run in use or started otherwise, a loss that is not finite. What was
    /// saved before stays as it was.
    pub fn run(mut self) -> Result<Outcome, TrainError> {
        let mut on_epoch = std::mem::replace(&mut self.options.on_epoch, Box::new(|_| true));
        self.run_watched(&mut *on_epoch)
    }

    /// As [`run`](Self::run), with what is called after each epoch, which may borrow.
    pub(crate) fn run_watched(mut self, on_epoch: OnEpoch<'_>) -> Result<Outcome, TrainError> {
        match std::mem::replace(&mut self.start, Start::New(Box::default())) {
            Start::New(recipe) => self.run_new(*recipe, on_epoch),
            Start::Resume { path, settings } => self.run_resumed(&path, &settings, on_epoch),
        }
    }

    fn run_new(self, recipe: Recipe, on_epoch: OnEpoch<'_>) -> Result<Outcome, TrainError> {
        recipe.validate()?;
        // What cannot work should be said before data are loaded, and before anything is made.
        self.options.check_place()?;
        let data = self.load(&recipe)?;
        recipe.augment().validate(data.shape())?;
        let loss = SegmentationLoss::of_recipe(&recipe, data.info())?;
        let settings = settings(&recipe, &data, &loss);
        let model = self.create(&recipe, &settings, data.info())?;
        let scaler = data.fit_scaler(&recipe.scale)?;
        let batches = self.batches(&recipe, &data, scaler.as_ref(), &model)?;
        single::check_evaluated(&model.model, data.shape())?;
        for [channels, height, width] in data.evaluated_shapes() {
            single::check_input(&model.model, [1, channels, height, width])?;
        }
        let info = RunInfo {
            parameters: kiln_zoo::num_params(&model),
            model: Some(settings),
            ..RunInfo::new(
                self.device.names(),
                recipe.model.name.clone(),
                data.info().clone(),
            )
        };
        let place = self.options.place(info.run_name());
        let run = RunDir::create(&place, &recipe.to_toml(), &info, scaler.as_ref())?;
        self.train(run, &recipe, &data, model, batches, on_epoch)
    }

    fn run_resumed(
        self,
        path: &Path,
        settings: &[Setting],
        on_epoch: OnEpoch<'_>,
    ) -> Result<Outcome, TrainError> {
        let run = RunDir::open_locked(path)?;
        let (mut recipe, info) = (run.recipe()?, run.info()?);
        let model_settings = run.settings(&info)?;
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
            (self.options.notice)("the run is finished already; nothing is left to train");
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
            (self.options.notice)(&format!(
                "the run was started on {} ({}); the result may differ in the last digits",
                info.device, info.backend
            ));
        }
        let model = self.create(&recipe, model_settings, &info.data)?;
        let batches = self.batches(&recipe, &data, run.scaler()?.as_ref(), &model)?;
        if wanted.epochs != recipe.epochs {
            let (steps, images) = (batches.train.num_batches(), batches.train.num_items());
            if more::check(&run, &recipe, &wanted, summary.as_ref(), steps, images)? {
                recipe = wanted;
                run.reopen(&recipe.to_toml())?;
            } else if let Some(summary) = summary {
                (self.options.notice)("the run is finished already; nothing is left to train");
                return Ok(Outcome::Finished(summary));
            }
        }
        self.train(run, &recipe, &data, model, batches, on_epoch)
    }

    /// The data on the device and the loaders of their batches, which the model can all take.
    fn batches(
        &self,
        recipe: &Recipe,
        data: &Prepared,
        scaler: Option<&Scaler>,
        task: &Task,
    ) -> Result<Loaders, TrainError> {
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
            (self.options.notice)(&format!(
                "the last batch of an epoch would be a single image, too few for {single}; it joins the batch before it, which \
                 has {} images",
                recipe.batch_size + 1
            ));
            train = train.single_last_merged();
        }
        Ok(Loaders {
            on_device,
            train,
            valid,
        })
    }

    fn load(&self, recipe: &Recipe) -> Result<Arc<Prepared>, TrainError> {
        if let Some(data) = &self.data {
            return Ok(data.clone());
        }
        let data = Prepared::load(
            &recipe.data,
            recipe.task,
            self.options.progress != Progress::Silent,
        )?;
        if let Some(note) = data.note() {
            (self.options.notice)(note);
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
            (self.options.notice)(&note);
        }
        Ok(Task {
            model,
            loss: SegmentationLoss::of_recipe(recipe, data)?,
            classes: data.classes.len(),
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
        self,
        run: RunDir,
        recipe: &Recipe,
        data: &Prepared,
        task: Task,
        batches: Loaders,
        on_epoch: OnEpoch<'_>,
    ) -> Result<Outcome, TrainError> {
        let info = run.info()?;
        let epochs = recipe.epochs.resolve(batches.train.num_items());
        let settings = TrainSettings::of(recipe, epochs);
        let session = Session {
            run: &run,
            settings: &settings,
            device: &self.device,
            train: &batches.train,
            valid: &batches.valid,
            progress: self.options.progress,
            label: format!("{} on {}", info.model_name, info.data.name),
            items: "images",
            checkpoints: self.options.checkpoints,
            interrupter: &self.options.interrupter,
            notice: &*self.options.notice,
        };
        let fitted = session.fit(task, on_epoch)?;
        let path = run.path().to_owned();
        if fitted.ended == Ended::Stopped {
            return Ok(Outcome::Stopped {
                run: path,
                step: fitted.state.step,
                epoch: fitted.state.epoch,
            });
        }
        save_weights(&fitted.model.model, &info.data.classes, &run.model_file())?;
        if !self.tested {
            return Ok(Outcome::Untested { run: path });
        }
        let classes = &info.data.classes;
        let tested = test(&fitted.model, &batches.on_device, data, classes, &path)?;
        let mut summary = Summary::new(&run, &info, &fitted, &settings);
        summary.scores = tested.scores();
        finish(&run, &summary, &*self.options.notice)?;
        Ok(Outcome::Finished(summary))
    }
}

/// The data on the device, and how batches are formed of them.
struct Loaders {
    on_device: OnDevice,
    train: Loader,
    valid: Loader,
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
            crate::eval::samples::write(model, &device.test, &host.test, classes, folder)?;
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
