use std::sync::Arc;
use std::time::Duration;

use crate::context::Context;
use crate::error::Result;
use crate::json::Json;
use crate::trial::{FrozenTrial, TrialId, TrialState};

/// What is called for each stale trial that this worker marked as failed.
pub type StaleTrialCallback = Arc<dyn Fn(&Context, &FrozenTrial) -> Result<()> + Send + Sync>;

/// Signs of life of running trials, so that those of a killed worker are found.
pub trait Heartbeat: Send + Sync {
    /// How often a running trial is marked alive.
    fn interval(&self) -> Duration;

    /// Marks a trial alive.
    ///
    /// # Errors
    /// When the storage fails.
    fn record(&self, trial_id: TrialId) -> Result<()>;

    /// The running trials of a study whose last mark is older than the grace period, by the storage's clock.
    ///
    /// # Errors
    /// When the storage fails.
    fn stale_trial_ids(&self, study_id: super::StudyId) -> Result<Vec<TrialId>>;

    /// What to do with a trial that was found stale and marked as failed.
    fn on_stale(&self) -> Option<StaleTrialCallback> {
        None
    }
}

/// A callback which enqueues a copy of each stale trial (Optuna's `RetryHeartbeatStaleTrialCallback`).
///
/// The copy has the parameters, the user and the system attributes of the failed trial, and the system attributes
/// `failed_trial` (the number of the first of them) and `retry_history`. After `max_retry` copies (`None`: without
/// limit) the trial stays failed.
#[must_use]
pub fn retry_stale_trial(
    max_retry: Option<usize>,
    inherit_intermediate_values: bool,
) -> StaleTrialCallback {
    Arc::new(move |study, trial| {
        let mut copy = trial.clone();
        let number = Json::Int(i64::try_from(trial.number).unwrap_or(i64::MAX));
        let mut history = match trial.system_attrs.get("retry_history") {
            Some(Json::Array(items)) => items.clone(),
            _ => Vec::new(),
        };
        history.push(number.clone());
        if max_retry.is_some_and(|max| history.len() > max) {
            return Ok(());
        }
        copy.system_attrs
            .entry("failed_trial".to_owned())
            .or_insert(number);
        copy.system_attrs
            .insert("retry_history".to_owned(), Json::Array(history));
        copy.system_attrs.remove(crate::trial::FAIL_REASON_KEY);
        copy.state = TrialState::Waiting;
        copy.values = None;
        copy.datetime_start = None;
        copy.datetime_complete = None;
        copy.system_attrs.remove(crate::trial::DUPLICATE_OF_KEY);
        if !inherit_intermediate_values {
            copy.intermediate_values.clear();
            // Those of several objectives.
            let is_report = |key: &str| key.starts_with(crate::trial::REPORT_PREFIX);
            copy.system_attrs.retain(|key, _| !is_report(key));
        }
        study.add_trial(&copy)
    })
}
