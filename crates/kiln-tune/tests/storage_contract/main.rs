//! The rules that every storage keeps, run over all of them.
//!
//! The servers take part when their URL is given, which `interop/run.sh` does:
//! `KILN_TUNE_POSTGRES_URL=postgresql://... cargo test --features postgres -- --ignored`, and `KILN_TUNE_MYSQL_URL`.

mod attrs;
mod studies;
mod trials;
mod workers;

use std::sync::Arc;

use kiln_tune::study::random_uuid;
use kiln_tune::{
    Distribution, FloatDistribution, InMemoryStorage, Storage, StudyDirection, StudyId,
};

/// One storage and further handles to what it keeps.
pub struct Place {
    first: Arc<dyn Storage>,
    reopen: Box<dyn Fn() -> Arc<dyn Storage>>,
    /// Deleted at the end.
    _directory: Option<tempfile::TempDir>,
    prefix: String,
}

impl Place {
    fn in_memory() -> Self {
        let storage: Arc<dyn Storage> = Arc::new(InMemoryStorage::new());
        let again = storage.clone();
        Self {
            first: storage,
            reopen: Box::new(move || again.clone()),
            _directory: None,
            prefix: String::new(),
        }
    }

    fn journal() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("journal:{}", directory.path().join("journal.log").display());
        Self::url(url, Some(directory))
    }

    #[cfg(feature = "sqlite")]
    fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:///{}", directory.path().join("study.db").display());
        Self::url(url, Some(directory))
    }

    /// A file in the mode which Optuna's files have.
    #[cfg(feature = "sqlite")]
    fn sqlite_rollback_journal() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:///{}", directory.path().join("study.db").display());
        kiln_tune::storage::RdbOptions::new()
            .wal(false)
            .open(&url)
            .unwrap();
        Self::url(url, Some(directory))
    }

    #[cfg(feature = "sqlite")]
    fn sqlite_in_memory() -> Self {
        let storage = kiln_tune::storage::open("sqlite:///:memory:").unwrap();
        let again = storage.clone();
        Self {
            first: storage,
            reopen: Box::new(move || again.clone()),
            _directory: None,
            prefix: String::new(),
        }
    }

    #[cfg(any(feature = "postgres", feature = "mysql"))]
    fn server(variable: &str) -> Self {
        let url = std::env::var(variable)
            .unwrap_or_else(|_| panic!("set {variable} to the URL of an empty database"));
        Self::url(url, None)
    }

    fn url(url: String, directory: Option<tempfile::TempDir>) -> Self {
        let first = kiln_tune::storage::open(&url).unwrap();
        let reopen = Box::new(move || kiln_tune::storage::open_existing(&url).unwrap());
        // Tests on a server share its database.
        Self {
            first,
            reopen,
            _directory: directory,
            prefix: format!("{}-", random_uuid()),
        }
    }

    /// The storage.
    pub fn storage(&self) -> &dyn Storage {
        &*self.first
    }

    /// The storage, to be given away.
    pub fn shared(&self) -> Arc<dyn Storage> {
        self.first.clone()
    }

    /// Another handle, as another process would have.
    pub fn again(&self) -> Arc<dyn Storage> {
        (self.reopen)()
    }

    /// A study name that no other test uses.
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A new study with one objective that is minimized.
    pub fn study(&self) -> StudyId {
        self.storage()
            .create_study(&[StudyDirection::Minimize], None)
            .unwrap()
    }
}

/// A uniform distribution.
pub fn float(low: f64, high: f64) -> Arc<Distribution> {
    Arc::new(FloatDistribution::new(low, high).unwrap().into())
}

macro_rules! contract {
    ($($module:ident :: $test:ident,)*) => {
        contract!(@storage in_memory, Place::in_memory(), #[cfg(all())], { $($module::$test,)* });
        contract!(@storage journal, Place::journal(), #[cfg(all())], { $($module::$test,)* });
        contract!(@storage sqlite, Place::sqlite(), #[cfg(feature = "sqlite")], { $($module::$test,)* });
        contract!(@storage sqlite_rollback_journal, Place::sqlite_rollback_journal(), #[cfg(feature = "sqlite")], { $($module::$test,)* });
        contract!(@storage sqlite_in_memory, Place::sqlite_in_memory(), #[cfg(feature = "sqlite")], { $($module::$test,)* });
        contract!(@storage postgres, Place::server("KILN_TUNE_POSTGRES_URL"), #[cfg(feature = "postgres")] #[ignore = "needs a server"], { $($module::$test,)* });
        contract!(@storage mysql, Place::server("KILN_TUNE_MYSQL_URL"), #[cfg(feature = "mysql")] #[ignore = "needs a server"], { $($module::$test,)* });
    };
    (@storage $name:ident, $place:expr, #[$cfg:meta] $(#[$ignore:meta])?, { $($module:ident :: $test:ident,)* }) => {
        #[$cfg]
        mod $name {
            use super::Place;
            contract!(@tests $place, [$(#[$ignore])?], $($module::$test,)*);
        }
    };
    (@tests $place:expr, $ignore:tt, $($module:ident :: $test:ident,)*) => {
        $(contract!(@test $place, $ignore, $module::$test);)*
    };
    (@test $place:expr, [$(#[$ignore:meta])?], $module:ident :: $test:ident) => {
        #[test]
        $(#[$ignore])?
        fn $test() {
            super::$module::$test(&$place);
        }
    };
}

contract! {
    studies::a_study_is_found_listed_and_deleted,
    studies::a_name_is_taken_only_once,
    studies::a_study_without_a_name_gets_a_unique_one,
    studies::unknown_studies_are_an_error_in_every_call,
    studies::names_with_quotes_unicode_and_512_characters_survive,
    studies::a_deleted_study_leaves_nothing_to_the_next_one,
    attrs::attributes_keep_every_kind_of_json_and_are_replaced,
    attrs::keys_and_values_are_never_taken_for_sql,
    trials::numbers_count_from_zero_in_each_study,
    trials::unknown_trials_are_an_error_in_every_call,
    trials::a_finished_trial_never_changes,
    trials::parameters_keep_their_order_value_and_distribution,
    trials::an_incompatible_distribution_is_refused,
    trials::a_template_is_copied_whole,
    trials::reports_keep_nan_and_infinities_and_are_replaced,
    trials::final_values_may_be_infinite_but_not_nan,
    trials::starting_and_finishing_set_the_times,
    trials::only_named_and_newer_trials_are_read,
    trials::a_snapshot_does_not_change,
    trials::trials_are_counted_by_state,
    trials::the_best_trial_orders_infinities_and_ties,
    trials::waiting_trials_are_listed_until_they_start,
    workers::what_one_handle_writes_another_reads,
    workers::a_waiting_trial_starts_only_once,
    workers::threads_never_share_a_number,
    workers::a_study_runs_on_it_from_two_handles,
}
