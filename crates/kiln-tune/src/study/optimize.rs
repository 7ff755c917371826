use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Outcome, Study, duplicates};
use crate::error::{BoxError, Error, Result, SAID_BY_COMMANDS, TrialPruned};
use crate::json::Json;
use crate::storage::Heartbeat;
use crate::sync::lock;
use crate::trial::{FAIL_REASON_KEY, FrozenTrial, Trial, TrialId, TrialState};

type Callback = Box<dyn Fn(&Study, &FrozenTrial) -> Result<()> + Send + Sync>;
type Catch = Box<dyn Fn(&(dyn std::error::Error + 'static)) -> bool + Send + Sync>;

/// How long [`Study::optimize`] goes on, and how.
///
/// A number is a budget of that many trials, a [`Duration`] one of that much time.
///
/// | setting | default |
/// |---|---|
/// | `trials` | unlimited |
/// | `timeout` | none; a running trial is never interrupted |
/// | `n_jobs` | 1; 0 means one thread per core. Samplers are reseeded when there are several, so that only one job gives the same trials for the same seed |
/// | `catch` | nothing: an error of the objective fails its trial and ends the study with it |
/// | `max_duplicates` | 100 trials in a row that [`Trial::skip_duplicate`] skipped end the study |
#[derive(Default)]
pub struct Budget {
    n_trials: Option<u64>,
    timeout: Option<Duration>,
    n_jobs: Option<usize>,
    callbacks: Vec<Callback>,
    catch: Vec<Catch>,
    max_duplicates: Option<u64>,
    #[cfg(feature = "progress")]
    progress: bool,
}

impl Budget {
    /// Until [`Study::stop`] is called.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::default()
    }

    /// This many trials.
    #[must_use]
    pub fn trials(n: u64) -> Self {
        Self {
            n_trials: Some(n),
            ..Self::default()
        }
    }

    /// No trial starts after this time.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Evaluates this many trials at once, each on a thread; 0 is one per core.
    #[must_use]
    pub fn n_jobs(mut self, n_jobs: usize) -> Self {
        self.n_jobs = Some(n_jobs);
        self
    }

    /// Called after each trial, in the order in which callbacks were added. An error ends the study.
    #[must_use]
    pub fn callback(
        mut self,
        callback: impl Fn(&Study, &FrozenTrial) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Goes on when the objective fails with an error of type `E`, also as the cause of another error.
    #[must_use]
    pub fn catch<E: std::error::Error + 'static>(self) -> Self {
        self.catch_if(|error| error.is::<E>())
    }

    /// Goes on whatever error the objective returns.
    #[must_use]
    pub fn catch_all(self) -> Self {
        self.catch_if(|_| true)
    }

    /// Goes on when `accept` holds for the error of the objective or one of its causes.
    #[must_use]
    pub fn catch_if(
        mut self,
        accept: impl Fn(&(dyn std::error::Error + 'static)) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.catch.push(Box::new(accept));
        self
    }

    /// Ends the study after so many trials in a row that [`Trial::skip_duplicate`] skipped, at least 1. It ends before
    /// that when all combinations of the parameters are complete, if that can be known.
    #[must_use]
    pub fn max_duplicates(mut self, n: u64) -> Self {
        self.max_duplicates = Some(n);
        self
    }

    /// Shows a progress bar on stderr.
    #[cfg(feature = "progress")]
    #[must_use]
    pub fn progress_bar(mut self) -> Self {
        self.progress = true;
        self
    }

    fn catches(&self, error: &BoxError) -> bool {
        chain(&**error).any(|cause| self.catch.iter().any(|accept| accept(cause)))
    }
}

macro_rules! budget_from {
    ($($type:ty),*) => {$(
        /// That many trials; a negative number is none.
        impl From<$type> for Budget {
            fn from(n: $type) -> Self {
                Self::trials(u64::try_from(n).unwrap_or(0))
            }
        }
    )*};
}

budget_from!(i32, i64, u32, usize);

impl From<u64> for Budget {
    fn from(n: u64) -> Self {
        Self::trials(n)
    }
}

impl From<Duration> for Budget {
    fn from(timeout: Duration) -> Self {
        Self::unlimited().timeout(timeout)
    }
}

/// A callback which stops the study when it has `n_trials` trials in these states (in any, when `None`).
///
/// With several workers on one study this counts the trials of all of them.
///
/// ```
/// use kiln_tune::{Budget, Study, TrialState, max_trials_callback};
///
/// let study = Study::builder().create()?;
/// let budget = Budget::unlimited().callback(max_trials_callback(5, Some(&[TrialState::Complete])));
/// study.optimize(|trial| trial.suggest_float("x", 0.0, 1.0), budget)?;
/// assert_eq!(study.trials()?.len(), 5);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
pub fn max_trials_callback(
    n_trials: usize,
    states: Option<&[TrialState]>,
) -> impl Fn(&Study, &FrozenTrial) -> Result<()> + Send + Sync + use<> {
    let states = states.map(<[_]>::to_vec);
    move |study, _| {
        if study
            .storage()
            .get_n_trials(study.id(), states.as_deref())?
            >= n_trials
        {
            study.stop()?;
        }
        Ok(())
    }
}

thread_local! {
    /// The studies whose objective or callback runs on this thread.
    static OPTIMIZING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

impl Study {
    /// Evaluates the objective, trial by trial, within a budget.
    ///
    /// A trial completes with what the objective returns: a number, an array of numbers (one per objective), or an
    /// [`Outcome`]. [`TrialPruned`] as the error, or anywhere in its chain of causes, marks the trial as pruned. Any
    /// other error fails the trial, is kept as its reason, and is returned from here unless the budget catches it.
    /// [`TrialDuplicate`](crate::TrialDuplicate), which comes from [`Trial::skip_duplicate`], completes it.
    /// NaN and a wrong number of values fail the trial, and so does a panic; the study goes on.
    ///
    /// ```
    /// use std::time::Duration;
    /// use kiln_tune::{Budget, Study};
    ///
    /// let study = Study::builder().create()?;
    /// let budget = Budget::trials(50).timeout(Duration::from_secs(60)).n_jobs(2);
    /// study.optimize(|trial| trial.suggest_float("x", 0.0, 1.0), budget)?;
    /// # Ok::<(), kiln_tune::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Objective`] with an uncaught error of the objective, [`Error::InvalidArgument`] when this is called
    /// from an objective or callback of the same study, and errors of storage, sampler and callbacks.
    pub fn optimize<F, V, E>(&self, objective: F, budget: impl Into<Budget>) -> Result<()>
    where
        F: Fn(&mut Trial) -> Result<V, E> + Sync,
        V: Into<Outcome>,
        E: Into<BoxError>,
    {
        let budget = budget.into();
        if self.is_inside() {
            return Err(Error::invalid(
                "optimize cannot be called from an objective or a callback of the same study",
            ));
        }
        let n_jobs = match budget.n_jobs {
            None => 1,
            Some(0) => std::thread::available_parallelism().map_or(1, usize::from),
            Some(n) => n,
        };
        let _optimizing = Optimizing::enter(self);
        let call = |trial: &mut Trial| -> Result<Outcome, BoxError> {
            objective(trial).map(Into::into).map_err(Into::into)
        };
        let run = Run::new(self, &call, &budget, n_jobs);
        if n_jobs == 1 {
            run.work();
        } else {
            // A thread without a trial has nothing to do.
            let most = budget.n_trials.and_then(|n| usize::try_from(n).ok());
            std::thread::scope(|scope| {
                for _ in 0..n_jobs.min(most.unwrap_or(usize::MAX)) {
                    scope.spawn(|| run.work());
                }
            });
        }
        run.end()
    }

    /// Ends [`optimize`](Self::optimize) after the running trials; callable from objectives and callbacks.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the study is not being optimized.
    pub fn stop(&self) -> Result<()> {
        if !self.context().is_optimizing() {
            return Err(Error::invalid(
                "stop can be called only inside of an objective or a callback of optimize",
            ));
        }
        self.context().stop();
        Ok(())
    }

    fn key(&self) -> usize {
        Arc::as_ptr(&self.inner).addr()
    }

    fn is_inside(&self) -> bool {
        OPTIMIZING.with_borrow(|inside| inside.contains(&self.key()))
    }

    /// Marks running trials of dead workers as failed, and calls the storage's callback for those.
    ///
    /// # Errors
    /// When the storage or the callback fails.
    pub fn fail_stale_trials(&self) -> Result<()> {
        let Some(heartbeat) = self.storage().heartbeat() else {
            return Ok(());
        };
        let mut failed = Vec::new();
        for id in heartbeat.stale_trial_ids(self.id())? {
            match self
                .storage()
                .set_trial_state_values(id, TrialState::Fail, None)
            {
                Ok(true) => failed.push(id),
                // Another worker was faster, or the trial ended after all.
                Ok(false) | Err(Error::UpdateFinishedTrial { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(callback) = heartbeat.on_stale() {
            for id in failed {
                let trial = self.storage().get_trial(id)?;
                callback(self.context(), &trial)?;
            }
        }
        Ok(())
    }
}

type Objective<'a> = &'a (dyn Fn(&mut Trial) -> Result<Outcome, BoxError> + Sync);

/// What the threads of one `optimize` share.
struct Run<'a> {
    study: &'a Study,
    objective: Objective<'a>,
    budget: &'a Budget,
    reseed: bool,
    started: AtomicU64,
    /// Duplicates since the last trial that was evaluated.
    duplicates: AtomicU64,
    since: Instant,
    error: Mutex<Option<Error>>,
    #[cfg(feature = "progress")]
    bar: Option<indicatif::ProgressBar>,
}

impl<'a> Run<'a> {
    fn new(study: &'a Study, objective: Objective<'a>, budget: &'a Budget, n_jobs: usize) -> Self {
        Self {
            study,
            objective,
            budget,
            reseed: n_jobs > 1,
            started: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            since: Instant::now(),
            error: Mutex::new(None),
            #[cfg(feature = "progress")]
            bar: budget
                .progress
                .then(|| super::progress::bar(budget.n_trials)),
        }
    }

    fn work(&self) {
        let _inside = Inside::enter(self.study.key());
        while self.may_start() {
            if self.reseed {
                self.study.sampler().reseed();
            }
            if let Err(error) = self.one_trial() {
                self.study.context().stop();
                lock(&self.error).get_or_insert(error);
            }
        }
    }

    fn may_start(&self) -> bool {
        if self.study.context().is_stopped()
            || self
                .budget
                .timeout
                .is_some_and(|timeout| self.since.elapsed() >= timeout)
        {
            return false;
        }
        match self.budget.n_trials {
            None => true,
            // A refusal must not count: a duplicate gives its place back.
            Some(n) => self
                .started
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |started| {
                    (started < n).then_some(started + 1)
                })
                .is_ok(),
        }
    }

    fn end(self) -> Result<()> {
        #[cfg(feature = "progress")]
        if let Some(bar) = &self.bar {
            bar.finish();
        }
        match self
            .error
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
        {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn one_trial(&self) -> Result<()> {
        let study = self.study;
        study.fail_stale_trials()?;
        let mut trial = study.ask()?;
        let number = trial.number();
        let ended = with_heartbeat(study.storage().heartbeat(), trial.id(), || {
            catch_unwind(AssertUnwindSafe(|| (self.objective)(&mut trial)))
        });
        let duplicate = match &ended {
            Ok(Err(error)) => duplicates::duplicate(chain(&**error)),
            _ => None,
        };
        let is_duplicate = duplicate.is_some();
        let mut uncaught = None;
        let outcome = match ended {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) if is_duplicate => {
                Outcome::Values(duplicate.map(|earlier| earlier.values).unwrap_or_default())
            }
            Ok(Err(error)) if is_pruned(&*error) => Outcome::Pruned,
            Ok(Err(error)) => {
                self.fail_reason(&trial, &describe(&*error));
                if !self.budget.catches(&error) {
                    uncaught = Some(error);
                }
                Outcome::Fail
            }
            Err(panic) => {
                let message = panic_message(&*panic);
                self.fail_reason(&trial, &format!("the objective panicked: {message}"));
                Outcome::Fail
            }
        };
        let state = outcome.state();
        match study.finish(trial.record(), outcome.into_values(), state) {
            // Another worker took this one for dead. Its verdict stands, and the study goes on.
            Err(Error::UpdateFinishedTrial { state, .. }) => {
                log::warn!(
                    "Trial {number} was marked as {state} by another worker before it ended here"
                );
                // Writing to that trial is likely what failed.
                uncaught = None;
            }
            told => {
                let (state, refusal) = told?;
                if let Some(reason) = refusal {
                    // The trial is finished, so that only the log can tell why.
                    log::warn!(
                        target: SAID_BY_COMMANDS,
                        "Trial {number} ended as {state}: {reason}"
                    );
                }
            }
        }
        if let Some(source) = uncaught {
            return Err(Error::Objective { number, source });
        }
        let record = study.storage().get_trial(trial.id())?;
        self.log(&record);
        self.count(&record, is_duplicate)?;
        #[cfg(feature = "progress")]
        if let Some(bar) = &self.bar {
            super::progress::update(bar, study);
        }
        self.budget
            .callbacks
            .iter()
            .try_for_each(|callback| callback(study, &record))
    }

    /// Counts duplicates in a row, and ends the study that brings nothing else.
    fn count(&self, record: &FrozenTrial, is_duplicate: bool) -> Result<()> {
        if !is_duplicate {
            self.duplicates.store(0, Ordering::SeqCst);
            return Ok(());
        }
        if self.budget.n_trials.is_some() {
            self.started.fetch_sub(1, Ordering::SeqCst);
        }
        let n = self.duplicates.fetch_add(1, Ordering::SeqCst) + 1;
        let most = self
            .budget
            .max_duplicates
            .unwrap_or(duplicates::MAX_DUPLICATES);
        let reason = if self.study.is_exhausted(record)? {
            "all combinations of the parameters are complete".to_owned()
        } else if n >= most {
            format!("{n} trials in a row had the parameters of earlier ones")
        } else {
            return Ok(());
        };
        if self.study.context().stop() {
            log::warn!("the study ends: {reason}");
        }
        Ok(())
    }

    /// Keeps the reason of a failure with the trial. It is only a note: losing it is no reason to lose the study.
    fn fail_reason(&self, trial: &Trial, reason: &str) {
        log::warn!(
            target: SAID_BY_COMMANDS,
            "Trial {} failed with parameters: {} because of the following error: {reason}.",
            trial.number(),
            params_text(trial.record())
        );
        // MySQL keeps 2,048 characters of an attribute.
        let reason: String = reason.chars().take(1_000).collect();
        let noted = self.study.storage().set_trial_system_attr(
            trial.id(),
            FAIL_REASON_KEY,
            &Json::Str(reason),
        );
        if let Err(error) = noted {
            log::warn!(
                "Trial {}: the reason of the failure was not stored: {error}",
                trial.number()
            );
        }
    }

    fn log(&self, record: &FrozenTrial) {
        if !log::log_enabled!(log::Level::Info) {
            return;
        }
        let number = record.number;
        match record.state {
            TrialState::Complete => {
                let params = params_text(record);
                let values = record.values.as_deref().unwrap_or_default();
                if let [value] = values {
                    let best = self.study.best_trial().ok().and_then(|best| {
                        Some(format!(
                            " Best is trial {} with value: {}.",
                            best.number,
                            best.value()?
                        ))
                    });
                    let best = best.unwrap_or_default();
                    log::info!(
                        "Trial {number} finished with value: {value} and parameters: {params}.{best}"
                    );
                } else {
                    log::info!(
                        "Trial {number} finished with values: {values:?} and parameters: {params}."
                    );
                }
            }
            TrialState::Pruned => log::info!("Trial {number} pruned."),
            _ => {}
        }
    }
}

fn params_text(record: &FrozenTrial) -> String {
    let params: Vec<String> = record
        .params
        .iter()
        .map(|param| format!("{}: {}", param.name, param.value()))
        .collect();
    format!("{{{}}}", params.join(", "))
}

/// Counts a call of `optimize`, until dropped.
struct Optimizing<'a>(&'a Study);

impl<'a> Optimizing<'a> {
    fn enter(study: &'a Study) -> Self {
        study.context().begin_optimizing();
        Self(study)
    }
}

impl Drop for Optimizing<'_> {
    fn drop(&mut self) {
        self.0.context().end_optimizing();
    }
}

/// Notes that this thread works for a study, until dropped.
struct Inside;

impl Inside {
    fn enter(key: usize) -> Self {
        OPTIMIZING.with_borrow_mut(|inside| inside.push(key));
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        OPTIMIZING.with_borrow_mut(|inside| {
            inside.pop();
        });
    }
}

/// Runs `body` while a thread marks the trial alive.
fn with_heartbeat<T>(
    heartbeat: Option<&dyn Heartbeat>,
    trial_id: TrialId,
    body: impl FnOnce() -> T,
) -> T {
    let Some(heartbeat) = heartbeat else {
        return body();
    };
    let mark = || {
        if let Err(error) = heartbeat.record(trial_id) {
            log::warn!("the heartbeat of the trial with id {trial_id} was not written: {error}");
        }
    };
    // Before anything else: a trial without a mark is never found stale, whatever becomes of its worker.
    mark();
    let done = (Mutex::new(false), Condvar::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut finished = lock(&done.0);
            loop {
                let waited =
                    done.1
                        .wait_timeout_while(finished, heartbeat.interval(), |finished| !*finished);
                finished = waited.unwrap_or_else(PoisonError::into_inner).0;
                if *finished {
                    return;
                }
                mark();
            }
        });
        let result = body();
        *lock(&done.0) = true;
        done.1.notify_all();
        result
    })
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

fn is_pruned(error: &(dyn std::error::Error + 'static)) -> bool {
    chain(error).any(|cause| {
        cause.is::<TrialPruned>() || matches!(cause.downcast_ref(), Some(Error::Pruned(_)))
    })
}

/// The message of an error with those of its causes.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in chain(error).skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}
