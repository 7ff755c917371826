//! Searching the fields of a recipe: each trial of a study is a run.

mod report;
mod space;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use burn::train::Interrupter;
use kiln_tune::{
    BoxError, Budget, FrozenTrial, Study, StudyDirection, Trial, TrialPruned, TrialState,
    max_trials_callback,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use report::study_report;
pub use space::{RecipeSpace, SpaceError, SuggestError};

use crate::error::TrainError;
use crate::recipe::data::Prepared;
use crate::recipe::{Recipe, TaskName};
use crate::trainer::recipe::{Outcome, RecipeTrainer};
use crate::trainer::{TrainDevice, Trained, Trainer};
use crate::training::fit::{EpochReport, Trainable};

/// The user attribute of a trial that holds the folder of its run.
pub const RUN_ATTR: &str = "run";

/// What a study of recipes optimizes, measured on the validation images after every epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// The share of right answers, to be maximized.
    #[default]
    ValidAccuracy,
    /// The mean loss, to be minimized.
    ValidLoss,
    /// The mean Dice coefficient of the classes, to be maximized; in segmentation.
    ValidDice,
    /// The mean intersection over union of the classes, to be maximized; in segmentation.
    ValidIou,
}

impl Objective {
    /// Its name, as in `--metric` and in the study.
    pub fn name(self) -> &'static str {
        match self {
            Self::ValidAccuracy => "valid_accuracy",
            Self::ValidLoss => "valid_loss",
            Self::ValidDice => "valid_dice",
            Self::ValidIou => "valid_iou",
        }
    }

    /// Whether it is minimized or maximized.
    pub fn direction(self) -> StudyDirection {
        match self {
            Self::ValidAccuracy | Self::ValidDice | Self::ValidIou => StudyDirection::Maximize,
            Self::ValidLoss => StudyDirection::Minimize,
        }
    }

    /// None for a metric of segmentation in another task.
    fn of(self, epoch: &EpochReport) -> Option<f64> {
        epoch.valid.get(self.name().strip_prefix("valid_")?)
    }

    /// Refuses a metric that the recipe's task does not have.
    ///
    /// # Errors
    ///
    /// [`TuneError::Metric`].
    pub fn check(self, recipe: &Recipe) -> Result<(), TuneError> {
        let of_masks = matches!(self, Self::ValidDice | Self::ValidIou);
        match of_masks && recipe.task != TaskName::Segmentation {
            true => Err(TuneError::Metric(self.name())),
            false => Ok(()),
        }
    }

    /// What no run can be worse than.
    fn worst(self) -> f64 {
        match self {
            Self::ValidAccuracy | Self::ValidDice | Self::ValidIou => 0.0,
            Self::ValidLoss => f64::INFINITY,
        }
    }
}

/// What becomes of a trial whose loss turned NaN or infinite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDiverged {
    /// It failed; samplers learn nothing from it.
    #[default]
    Fail,
    /// It is complete with the worst value, so that samplers avoid its neighbourhood.
    Worst,
}

/// Why a search could not start or go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TuneError {
    /// The search space is not usable.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// The study or its storage refused.
    #[error(transparent)]
    Study(#[from] kiln_tune::Error),
    /// The data could not be loaded, or the recipe is not usable.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The metric is of another task.
    #[error(
        "{0} is measured in segmentation, but the recipe's task is classification; use valid_accuracy or valid_loss"
    )]
    Metric(&'static str),
    /// The model's steps do not measure the metric.
    #[error("the model measures no {metric:?}, but {known}")]
    NoMetric {
        /// The metric asked for.
        metric: String,
        /// What is measured.
        known: String,
    },
    /// A trial's run was stopped by request.
    #[error("the run was stopped by request")]
    Stopped,
    /// The study optimizes something else.
    #[error(
        "study {study:?} is one that {theirs}, but {metric} is to be {ours}; use another study, or another --metric"
    )]
    Direction {
        /// The study.
        study: String,
        /// The metric asked for.
        metric: &'static str,
        /// How the metric is optimized.
        ours: String,
        /// What the study does.
        theirs: String,
    },
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TuneEnd {
    /// The trials or the time asked for are used up, or the sampler has nothing left to try.
    Finished,
    /// By request; running trials were stopped, and their parameters wait in the study's queue.
    Interrupted,
}

/// Searches a [`RecipeSpace`] with a [`Study`].
///
/// The data are loaded and put on the device once for all trials. Each trial trains one run in a folder of its own, named
/// in the trial's user attribute `run`; after each epoch its metric is reported and the study's pruner may stop it. The
/// value of a trial is the metric of its last epoch (with early stopping, of the best one, whose weights are kept).
/// Test images are not looked at.
///
/// ```no_run
/// use kiln_train::{Objective, Recipe, RecipeSpace, TrainDevice, Tuner};
/// use kiln_tune::Study;
/// # let device = kiln_testing::devices().remove(0);
/// let device = TrainDevice { device, name: "CPU".into(), backend: "flex".into() };
/// let recipe = Recipe::from_toml("epochs = 2\n[data]\nname = 'digits'\ntrain_len = 4000")?;
/// let space = RecipeSpace::from_toml("\"optimizer.lr\" = { log = [1e-4, 1e-1] }")?;
/// let study = Study::builder().direction(Objective::ValidAccuracy.direction()).create()?;
/// Tuner::new(recipe, space, device).trials(10).run(&study)?;
/// println!("{} at {:?}", study.best_value()?, study.best_params()?.value("optimizer.lr"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Tuner {
    recipe: Recipe,
    space: RecipeSpace,
    device: TrainDevice,
    runs: PathBuf,
    metric: Objective,
    on_diverged: OnDiverged,
    trials: Option<u64>,
    timeout: Option<Duration>,
    jobs: usize,
    data: Option<Arc<Prepared>>,
    stop: TuneStop,
    notice: Arc<dyn Fn(&str) + Send + Sync>,
    /// What trials said, so that what all of them say is said once.
    said: Arc<Mutex<HashSet<String>>>,
}

/// Stops a search from another thread: see [`Tuner::stop_handle`].
#[derive(Clone, Default)]
pub struct TuneStop {
    asked: Arc<AtomicBool>,
    running: Arc<Mutex<Vec<Interrupter>>>,
}

impl TuneStop {
    /// Ends every running trial after its step, and the search.
    pub fn stop(&self) {
        self.asked.store(true, Ordering::SeqCst);
        for interrupter in lock(&self.running).iter() {
            interrupter.stop(Some("the search was stopped"));
        }
    }

    fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Registers a run; one that starts after the request is stopped at once.
    fn add(&self, interrupter: Interrupter) {
        let mut running = lock(&self.running);
        if self.asked() {
            interrupter.stop(Some("the search was stopped"));
        }
        running.push(interrupter);
    }
}

/// The running trial was stopped by request.
#[derive(Debug, Error)]
#[error("stopped by request; the parameters wait in the queue")]
struct Interrupted;

impl Tuner {
    /// Will search a space around a recipe, on a device.
    pub fn new(recipe: Recipe, space: RecipeSpace, device: TrainDevice) -> Self {
        Self {
            recipe,
            space,
            device,
            runs: "runs".into(),
            metric: Objective::default(),
            on_diverged: OnDiverged::default(),
            trials: None,
            timeout: None,
            jobs: 1,
            data: None,
            stop: TuneStop::default(),
            notice: Arc::new(|_| ()),
            said: Arc::default(),
        }
    }

    /// The folder of the runs: trial 3 trains in `STUDY-3` there. Default: `runs`.
    pub fn runs(mut self, folder: impl Into<PathBuf>) -> Self {
        self.runs = folder.into();
        self
    }

    /// What is optimized. Default: the accuracy on the validation images.
    pub fn metric(mut self, metric: Objective) -> Self {
        self.metric = metric;
        self
    }

    /// What becomes of a trial that diverges. Default: it fails.
    pub fn on_diverged(mut self, choice: OnDiverged) -> Self {
        self.on_diverged = choice;
        self
    }

    /// Ends when the study has this many finished trials, those of earlier calls and of other workers included.
    pub fn trials(mut self, trials: u64) -> Self {
        self.trials = Some(trials);
        self
    }

    /// No trial starts after this time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Trials that train at once, each on a thread. Default: 1; 0 is one for each core. Only with one job the same seeds
    /// give the same trials, since a device has one generator for dropout.
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs;
        self
    }

    /// Data loaded before, of the recipe's `data` section.
    pub fn data(mut self, data: Arc<Prepared>) -> Self {
        self.data = Some(data);
        self
    }

    /// Called with each line that a person should read: one for each trial among them.
    pub fn on_notice(mut self, notice: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.notice = Arc::new(notice);
        self
    }

    /// What stops the search from another thread, or from a signal.
    pub fn stop_handle(&self) -> TuneStop {
        self.stop.clone()
    }

    /// Searches until the trials or the time are used up.
    ///
    /// # Errors
    ///
    /// If the space or the metric does not fit the recipe, the data cannot be had, the study has another direction, or a run
    /// cannot be written. A run that diverges is no error (see [`on_diverged`](Self::on_diverged)).
    pub fn run(self, study: &Study) -> Result<TuneEnd, TuneError> {
        self.recipe.validate().map_err(TrainError::from)?;
        self.space.check(&self.recipe)?;
        self.metric.check(&self.recipe)?;
        self.check_direction(study)?;
        study.check_space(&self.space.param_space())?;
        let _ = study.set_metric_names(&[self.metric.name()]);
        let data = match &self.data {
            Some(data) => data.clone(),
            None => {
                let data = Prepared::load(&self.recipe.data, self.recipe.task, true)?;
                if let Some(note) = data.note() {
                    (self.notice)(note);
                }
                Arc::new(data)
            }
        };
        let mut budget = Budget::unlimited()
            .n_jobs(self.jobs)
            .catch::<Interrupted>()
            .catch_if(fails_one_trial);
        if let Some(trials) = self.trials {
            let done = study.storage().get_n_trials(study.id(), Some(FINISHED))? as u64;
            if done >= trials {
                (self.notice)(&format!(
                    "study {:?} has {done} finished trials already; ask for more with --trials",
                    study.name()
                ));
                return Ok(TuneEnd::Finished);
            }
            let left = Budget::trials(trials - done).n_jobs(self.jobs);
            budget = left
                .catch::<Interrupted>()
                .catch_if(fails_one_trial)
                .callback(max_trials_callback(trials as usize, Some(FINISHED)));
        }
        if let Some(timeout) = self.timeout {
            budget = budget.timeout(timeout);
        }
        let tuner = Arc::new(self);
        let (teller, stop) = (tuner.clone(), tuner.stop.clone());
        budget = budget.callback(move |study, trial| {
            (teller.notice)(&line(study, trial));
            match stop.asked() {
                true => study.stop(),
                false => Ok(()),
            }
        });
        let result = study.optimize(|trial: &mut Trial| tuner.evaluate(trial, &data), budget);
        match result {
            Err(kiln_tune::Error::Objective { source, .. }) => {
                match source.downcast::<TrainError>() {
                    Ok(error) => return Err((*error).into()),
                    Err(source) => return Err(unwrapped(source)),
                }
            }
            other => other?,
        }
        Ok(match tuner.stop.asked() {
            true => TuneEnd::Interrupted,
            false => TuneEnd::Finished,
        })
    }

    fn check_direction(&self, study: &Study) -> Result<(), TuneError> {
        let ours = self.metric.direction();
        if study.directions() == [ours] {
            return Ok(());
        }
        let named = |direction: &StudyDirection| format!("{}s", direction.name().to_lowercase());
        let theirs: Vec<String> = study.directions().iter().map(named).collect();
        Err(TuneError::Direction {
            study: study.name().into(),
            metric: self.metric.name(),
            ours: format!("{}d", ours.name().to_lowercase()),
            theirs: theirs.join(" and "),
        })
    }

    /// Passes on what a run says, each line once for all trials.
    fn trial_notice(&self) -> impl Fn(&str) + Send + 'static {
        let (notice, said) = (self.notice.clone(), self.said.clone());
        move |line| {
            let mut said = said.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if said.insert(line.to_owned()) {
                notice(line);
            }
        }
    }

    /// Trains the run of one trial.
    fn evaluate(&self, trial: &mut Trial, data: &Arc<Prepared>) -> Result<f64, BoxError> {
        let recipe = self.space.suggest(trial, &self.recipe)?;
        let folder = run_folder(trial, &self.runs);
        trial.set_user_attr(RUN_ATTR, folder.display().to_string())?;
        let trainer = RecipeTrainer::new(recipe, self.device.clone())
            .run_dir(&folder)
            .data(data.clone())
            .checkpoints(false)
            .tested(false)
            .on_notice(self.trial_notice());
        self.stop.add(trainer.interrupter());
        let mut watch = Watch::new(trial);
        let outcome = trainer.run_watched(&mut |epoch| watch.told(epoch, self.metric.of(epoch)));
        let last = watch.last()?;
        match outcome {
            Ok(Outcome::Stopped { .. }) => {
                let params = trial
                    .params()
                    .iter()
                    .map(|p| (p.name.to_string(), p.value()));
                let params: Vec<_> = params.collect();
                trial.study().enqueue_trial(params)?;
                Err(Interrupted.into())
            }
            Ok(Outcome::Finished(_) | Outcome::Untested { .. }) => {
                Ok(last.ok_or("the run ended without an epoch")?)
            }
            Err(TrainError::Diverged { .. }) if self.on_diverged == OnDiverged::Worst => {
                Ok(self.metric.worst())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Reports each epoch of a trial's run as it ends.
struct Watch<'a> {
    trial: &'a mut Trial,
    last: Option<f64>,
    pruned: kiln_tune::Result<bool>,
}

impl<'a> Watch<'a> {
    fn new(trial: &'a mut Trial) -> Self {
        Self {
            trial,
            last: None,
            pruned: Ok(false),
        }
    }

    /// Reports an epoch's value; whether the run goes on.
    fn told(&mut self, epoch: &EpochReport, value: Option<f64>) -> bool {
        let value = value.unwrap_or(f64::NAN);
        if epoch.kept {
            self.last = Some(value);
        }
        let reported = self.trial.report(value, epoch.epoch as i64);
        self.pruned = reported.and_then(|()| self.trial.should_prune());
        matches!(self.pruned, Ok(false))
    }

    /// The value of the epoch whose weights are kept; an error if the trial was pruned.
    fn last(self) -> Result<Option<f64>, BoxError> {
        if self.pruned? {
            return Err(TrialPruned.into());
        }
        Ok(self.last)
    }
}

impl<M: Trainable> Trainer<M> {
    /// Trains for a trial of a study: reports a metric of the validation data (`loss`, or one of the model's steps) after
    /// each epoch, ends if the pruner says so, and returns the metric of the weights that are kept. The run's folder is
    /// `STUDY-NUMBER` under [`runs`](Self::runs), and the trial's user attribute `run`; no state is saved on the way.
    ///
    /// ```no_run
    /// # use kiln_train::{Trainer, Trainable};
    /// use kiln_tune::{Study, Trial};
    /// # fn tune<M: Trainable>(trainer: impl Fn(i64) -> Trainer<M> + Sync) -> Result<(), Box<dyn std::error::Error>> {
    /// let study = Study::builder().create()?;
    /// let objective = |trial: &mut Trial| {
    ///     let width = trial.suggest_int("width", 8, 64)?;
    ///     let lr = trial.suggest_float_log("lr", 1e-4, 1e-1)?;
    ///     trainer(width).lr(lr).run_trial(trial, "loss")
    /// };
    /// study.optimize(objective, 20)?;
    /// println!("{:?}", study.best_params()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TrialPruned`], those of [`run`](Self::run), and a metric that the model does not have.
    pub fn run_trial(mut self, trial: &mut Trial, metric: &str) -> Result<f64, BoxError> {
        let folder = run_folder(trial, &self.runs_folder());
        trial.set_user_attr(RUN_ATTR, folder.display().to_string())?;
        let mut missing = None;
        let mut on_epoch = self.take_on_epoch();
        let mut watch = Watch::new(trial);
        let trained = self
            .run_dir(folder)
            .checkpoints(false)
            .run_watched(&mut |epoch| {
                let value = epoch.valid.get(metric);
                if value.is_none() {
                    let names = epoch.valid.metrics.iter().map(|(name, _)| name.as_str());
                    missing = Some(
                        ["loss"]
                            .into_iter()
                            .chain(names)
                            .collect::<Vec<_>>()
                            .join(", "),
                    );
                    return false;
                }
                let told = on_epoch(epoch);
                watch.told(epoch, value) && told
            });
        let last = watch.last()?;
        let trained = trained?;
        if let Some(known) = missing {
            let metric = metric.into();
            return Err(TuneError::NoMetric { metric, known }.into());
        }
        match trained {
            Trained::Finished { .. } => Ok(last.ok_or("the run ended without an epoch")?),
            Trained::Stopped { .. } => Err(TuneError::Stopped.into()),
        }
    }
}

/// Where the run of a trial goes: an earlier study of the same name may have left its runs.
fn run_folder(trial: &Trial, runs: &Path) -> PathBuf {
    let base = format!("{}-{}", file_name(trial.study().name()), trial.number());
    let candidates = std::iter::once(base.clone()).chain((2..).map(|i| format!("{base}-{i}")));
    let mut paths = candidates.map(|name| runs.join(name));
    paths
        .find(|path| !path.exists())
        .expect("numbers do not run out")
}

/// A study's name without what no file or folder can be called, as the folders of its runs begin. Other studies may have
/// the same; [`kiln_tune::study::file_name`] is each study's own.
///
/// ```
/// assert_eq!(kiln_train::tune::file_name("../a study"), "_a_study");
/// ```
pub fn file_name(study: &str) -> String {
    let name: String = study.chars().take(80).collect();
    let name = name.replace(|c: char| !(c.is_alphanumeric() || "-_.".contains(c)), "_");
    name.trim_start_matches('.').to_owned()
}

const FINISHED: &[TrialState] = &[TrialState::Complete, TrialState::Pruned, TrialState::Fail];

/// Whether an error lies in the parameters of one trial, so that the search goes on.
fn fails_one_trial(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(
        error.downcast_ref(),
        Some(
            TrainError::Diverged { .. }
                | TrainError::SingleValue { .. }
                | TrainError::TooLarge { .. }
        )
    )
}

/// The error of an objective, which is one of this module's.
fn unwrapped(source: BoxError) -> TuneError {
    match source.downcast::<SuggestError>() {
        Ok(error) => match *error {
            SuggestError::Trial(error) => error.into(),
            SuggestError::Recipe(error) => TrainError::from(error).into(),
        },
        Err(source) => match source.downcast::<kiln_tune::Error>() {
            Ok(error) => (*error).into(),
            Err(source) => TrainError::Backend(source.to_string()).into(),
        },
    }
}

/// One line about a finished trial: number, value, parameters, best so far.
fn line(study: &Study, trial: &FrozenTrial) -> String {
    let value = |value: Option<f64>| value.map_or("none".into(), |value| format!("{value:.4}"));
    let outcome = match trial.state {
        TrialState::Complete => format!("value {}", value(trial.value())),
        TrialState::Pruned => format!(
            "pruned after epoch {} at {}",
            trial.last_step().unwrap_or(0),
            value(trial.value())
        ),
        _ => format!("failed: {}", trial.fail_reason().unwrap_or("no value")),
    };
    let params: Vec<String> = trial
        .params
        .iter()
        .map(|param| match param.value() {
            kiln_tune::ParamValue::Float(value) => format!("{}={value:.3e}", param.name),
            value => format!("{}={value}", param.name),
        })
        .collect();
    let best = study.best_trial().map_or(String::new(), |best| {
        format!("; best {} (trial {})", value(best.value()), best.number)
    });
    let line = format!(
        "trial {}: {outcome}  {}{best}",
        trial.number,
        params.join(" ")
    );
    // Names, choices and reasons may hold anything.
    kiln_tune::printable(&line).into_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
