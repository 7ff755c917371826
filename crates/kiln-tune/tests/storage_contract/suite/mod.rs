//! The rules that every storage keeps. `contract!` runs them on one storage; kiln-tune-rdb's tests include this file, too.
#![allow(dead_code)] // Not every crate has storages of both kinds.

pub mod attrs;
pub mod studies;
pub mod trials;
pub mod workers;

use std::sync::Arc;

use kiln_tune::study::random_uuid;
use kiln_tune::{Distribution, FloatDistribution, Storage, StudyDirection, StudyId};

/// One storage and further handles to what it keeps.
pub struct Place {
    first: Arc<dyn Storage>,
    reopen: Box<dyn Fn() -> Arc<dyn Storage>>,
    /// Deleted at the end.
    _directory: Option<tempfile::TempDir>,
    prefix: String,
}

impl Place {
    /// A storage that only this process has.
    pub fn private(storage: Arc<dyn Storage>) -> Self {
        let again = storage.clone();
        Self {
            first: storage,
            reopen: Box::new(move || again.clone()),
            _directory: None,
            prefix: String::new(),
        }
    }

    /// A storage that others open, too: the first handle, and what gives further ones.
    pub fn shared_with_others(
        first: Arc<dyn Storage>,
        reopen: impl Fn() -> Arc<dyn Storage> + 'static,
        directory: Option<tempfile::TempDir>,
    ) -> Self {
        // Tests on a server share its database.
        Self {
            first,
            reopen: Box::new(reopen),
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

/// `contract!(NAME, PLACE)` runs every test on a storage, in a module of this name; attributes such as `#[ignore]` may
/// stand before it.
macro_rules! contract {
    ($(#[$meta:meta])* $name:ident, $place:expr) => {
        mod $name {
            contract! { @tests $place, [$(#[$meta])*],
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
        }
    };
    (@tests $place:expr, $metas:tt, $($module:ident :: $test:ident,)*) => {
        $(contract!(@test $place, $metas, $module::$test);)*
    };
    (@test $place:expr, [$(#[$meta:meta])*], $module:ident :: $test:ident) => {
        #[test]
        $(#[$meta])*
        fn $test() {
            crate::suite::$module::$test(&$place);
        }
    };
}
