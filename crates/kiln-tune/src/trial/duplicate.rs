use std::sync::Arc;

use super::frozen::CONSTRAINTS_KEY;
use super::{CONSTRAINT_PREFIX, FrozenTrial, Trial, TrialState};
use crate::error::{Error, Result};
use crate::json::Json;
use crate::terminator::CROSS_VALIDATION_SCORES_KEY;

/// The system attribute with the number of the trial whose values a duplicate was given.
pub(crate) const DUPLICATE_OF_KEY: &str = "kiln:duplicate_of";

/// Says that a complete trial has the parameters of this one already. [`Study::optimize`](crate::Study::optimize) gives
/// this one its values; see [`Trial::skip_duplicate`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("trial {of} has the same parameters, with values {values:?}")]
pub struct TrialDuplicate {
    /// The number of the complete trial.
    pub of: u64,
    /// Its values.
    pub values: Vec<f64>,
}

impl Trial {
    /// The first complete trial that has exactly the parameters which were suggested so far, or `None`.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn find_duplicate(&self) -> Result<Option<Arc<FrozenTrial>>> {
        let own = self.params();
        self.study().with_trials(|trials| {
            let mut complete = trials
                .iter()
                .filter(|trial| trial.state == TrialState::Complete && trial.values.is_some());
            let found = complete.find(|trial| {
                trial.params.len() == own.len()
                    && own.iter().all(|param| {
                        let other = trial.params.get(&param.name);
                        other.is_some_and(|other| other.value() == param.value())
                    })
            });
            found.cloned()
        })
    }

    /// Ends this trial when a complete one has the same parameters: call it with `?` when all parameters are suggested, and
    /// no parameters are evaluated twice.
    ///
    /// [`Study::optimize`](crate::Study::optimize) completes the trial at once with the values of the earlier one, whose
    /// constraints and cross-validation scores it gets, too; the system attribute `kiln:duplicate_of` is the earlier one's
    /// number. Such a trial does not count for the number of trials in the budget.
    /// [`Budget::max_duplicates`](crate::Budget::max_duplicates) bounds how many there are in a row. Parameters that are
    /// being evaluated by another worker, failed, or were pruned are no duplicates.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    /// use kiln_tune::Study;
    ///
    /// let runs = AtomicUsize::new(0);
    /// let study = Study::builder().create()?;
    /// study.optimize(
    ///     |trial| {
    ///         let n = trial.suggest_int("n", 1, 3)?;
    ///         trial.skip_duplicate()?;
    ///         runs.fetch_add(1, Ordering::SeqCst);
    ///         Ok::<_, kiln_tune::Error>((n * n) as f64)
    ///     },
    ///     100,
    /// )?;
    /// // Ended when all were tried, each once.
    /// assert_eq!(runs.into_inner(), 3);
    /// # Ok::<(), kiln_tune::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Duplicate`] for a duplicate, which the objective hands on; errors of the storage.
    pub fn skip_duplicate(&self) -> Result<()> {
        let Some(original) = self.find_duplicate()? else {
            return Ok(());
        };
        let storage = self.study().storage();
        for (key, value) in &original.system_attrs {
            let is_of_the_values = key.starts_with(CONSTRAINT_PREFIX)
                || key == CONSTRAINTS_KEY
                || key == CROSS_VALIDATION_SCORES_KEY;
            if is_of_the_values {
                storage.set_trial_system_attr(self.id(), key, value)?;
            }
        }
        let number = i64::try_from(original.number).unwrap_or(i64::MAX);
        storage.set_trial_system_attr(self.id(), DUPLICATE_OF_KEY, &Json::Int(number))?;
        Err(Error::Duplicate(TrialDuplicate {
            of: original.number,
            values: original.values.clone().unwrap_or_default(),
        }))
    }
}

impl FrozenTrial {
    /// The number of the trial whose values this one was given, if it was not evaluated itself.
    #[must_use]
    pub fn duplicate_of(&self) -> Option<u64> {
        let number = self.system_attrs.get(DUPLICATE_OF_KEY)?.as_i64()?;
        u64::try_from(number).ok()
    }
}
