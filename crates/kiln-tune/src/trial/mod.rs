//! One evaluation of the objective: its state, its parameters and what it reported.

mod create;
mod duplicate;
mod fixed;
mod frozen;
mod live;
mod params;
mod reports;
mod state;
mod suggest;

pub use create::TrialBuilder;
pub(crate) use duplicate::DUPLICATE_OF_KEY;
pub use duplicate::TrialDuplicate;
pub use fixed::FixedTrial;
pub(crate) use frozen::{CONSTRAINT_PREFIX, FAIL_REASON_KEY};
pub use frozen::{FIXED_PARAMS_KEY, FrozenTrial};
pub use live::Trial;
pub(crate) use params::same;
pub use params::{Param, ParamSpace, Params};
pub(crate) use reports::{REPORT_PREFIX, numbers};
pub use state::TrialState;
pub use suggest::Suggest;
pub(crate) use suggest::suggest_integer;

use crate::json::Json;

/// Identifies a trial within its storage, over all studies.
pub type TrialId = i64;

/// A moment in UTC with microseconds, as the storages keep it.
pub type Timestamp = chrono::DateTime<chrono::Utc>;

/// Attributes of a study or a trial, by key.
pub type Attrs = std::collections::BTreeMap<String, Json>;

/// The present, cut to the microseconds which a storage keeps.
#[must_use]
pub fn now() -> Timestamp {
    let now = chrono::Utc::now();
    Timestamp::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
}
