//! What becomes of the trials of workers that died.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::parse_time;
use kiln_tune::error::{Error, Result};
use kiln_tune::storage::{Storage, retry_stale_trial};
use kiln_tune_rdb::RdbOptions;

/// Flags of a command that works on trials.
#[derive(Debug, Clone, Args)]
pub struct HeartbeatArgs {
    /// Mark running trials alive this often, and fail those of workers that stopped doing so (databases only)
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    heartbeat: Option<Duration>,
    /// Try the trial of a dead worker again, at most this often (with --heartbeat)
    #[arg(long, value_name = "N", requires = "heartbeat")]
    retry: Option<usize>,
}

impl HeartbeatArgs {
    /// Opens a storage, with a heartbeat if one is asked for.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a heartbeat in a journal, and as [`kiln_tune_rdb::open`].
    pub fn open(&self, url: &str) -> Result<Arc<dyn Storage>> {
        let Some(interval) = self.heartbeat else {
            return kiln_tune_rdb::open(url);
        };
        if url.starts_with("journal:") {
            return Err(Error::invalid(
                "a journal keeps no heartbeat; leave --heartbeat out, or use a database",
            ));
        }
        let mut options = RdbOptions::new().heartbeat_interval(interval);
        if let Some(retry) = self.retry {
            options = options.on_stale_trial(retry_stale_trial(Some(retry), false));
        }
        Ok(Arc::new(options.open(url)?))
    }
}
