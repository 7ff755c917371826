//! Connections to lend, and the retrying of what a lock or a dropped connection broke.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::connection::{Access, Connection, Failure, SqlError, SqlResult};
use kiln_tune::error::{Error, Result};

/// Opens one more connection.
pub(crate) type Connect = Box<dyn Fn() -> SqlResult<Box<dyn Connection>> + Send + Sync>;

/// Why a transaction did not happen.
pub(crate) enum Abort {
    /// The database failed.
    Sql(SqlError),
    /// The rules of the storage forbid it.
    Refused(Error),
}

impl From<SqlError> for Abort {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for Abort {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// A running transaction.
pub(crate) struct Transaction<'a> {
    pub(crate) connection: &'a mut dyn Connection,
    /// An earlier try lost its connection while it committed, so it may have happened already.
    pub(crate) maybe_done: bool,
}

/// A bounded number of connections that are opened when needed and kept.
pub(crate) struct Pool {
    connect: Connect,
    idle: Mutex<Idle>,
    returned: Condvar,
    limit: usize,
    patience: Duration,
    name: String,
}

struct Idle {
    connections: Vec<Box<dyn Connection>>,
    open: usize,
}

impl Pool {
    /// `patience` bounds the time for which a blocked operation is tried again. `name` is for error messages.
    pub(crate) fn new(connect: Connect, limit: usize, patience: Duration, name: String) -> Self {
        Self {
            connect,
            idle: Mutex::new(Idle {
                connections: Vec::new(),
                open: 0,
            }),
            returned: Condvar::new(),
            limit,
            patience,
            name,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` in one transaction, again from the start when a lock or the connection was lost. `what` completes
    /// the sentence "cannot ... in URL".
    pub(crate) fn transaction<T>(
        &self,
        access: Access,
        what: &str,
        mut work: impl FnMut(&mut Transaction<'_>) -> Result<T, Abort>,
    ) -> Result<T> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(5);
        let mut maybe_done = false;
        loop {
            let error = match self.attempt(access, &mut maybe_done, &mut work) {
                Ok(value) => return Ok(value),
                Err(Abort::Refused(error)) => return Err(error),
                Err(Abort::Sql(error)) => error,
            };
            let retry = matches!(error.kind, Failure::Busy | Failure::Disconnected);
            if !retry || start.elapsed() + pause > self.patience {
                return Err(self.failure(what, error, start.elapsed()));
            }
            std::thread::sleep(jitter(pause));
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    fn failure(&self, what: &str, error: SqlError, waited: Duration) -> Error {
        let reason = match error.kind {
            Failure::Busy => format!(", which stayed locked by others for {} s", waited.as_secs()),
            Failure::Disconnected => {
                format!(", which could not be reached for {} s", waited.as_secs())
            }
            Failure::Unique | Failure::Other => String::new(),
        };
        Error::storage(
            format!("cannot {what} in {}{reason}", self.name),
            error.source,
        )
    }

    fn attempt<T>(
        &self,
        access: Access,
        maybe_done: &mut bool,
        work: &mut impl FnMut(&mut Transaction<'_>) -> Result<T, Abort>,
    ) -> Result<T, Abort> {
        let mut lent = self.lend()?;
        let connection = lent
            .connection
            .as_deref_mut()
            .expect("a lent connection is there until it is returned");
        let result = (|| {
            connection.begin(access)?;
            let value = work(&mut Transaction {
                connection: &mut *connection,
                maybe_done: *maybe_done,
            })?;
            if let Err(error) = connection.commit() {
                *maybe_done |= error.kind == Failure::Disconnected && access == Access::Write;
                return Err(error.into());
            }
            Ok(value)
        })();
        let lost = matches!(&result, Err(Abort::Sql(error)) if error.kind == Failure::Disconnected);
        if lost || (result.is_err() && connection.rollback().is_err()) {
            lent.connection = None;
        }
        result
    }

    fn lend(&self) -> SqlResult<Lent<'_>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(connection) = idle.connections.pop() {
                return Ok(Lent {
                    pool: self,
                    connection: Some(connection),
                });
            }
            if idle.open < self.limit {
                break;
            }
            idle = self
                .returned
                .wait(idle)
                .unwrap_or_else(PoisonError::into_inner);
        }
        idle.open += 1;
        drop(idle);
        // Dropped unopened, it gives its place back.
        let mut lent = Lent {
            pool: self,
            connection: None,
        };
        lent.connection = Some((self.connect)()?);
        Ok(lent)
    }
}

struct Lent<'a> {
    pool: &'a Pool,
    connection: Option<Box<dyn Connection>>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut idle = self
            .pool
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match self.connection.take() {
            // After a panic inside the transaction the connection is in an unknown state.
            Some(connection) if !std::thread::panicking() => idle.connections.push(connection),
            _ => idle.open -= 1,
        }
        drop(idle);
        self.pool.returned.notify_one();
    }
}

/// Half to all of `pause`, so that workers that were blocked together do not come back together.
pub(crate) fn jitter(pause: Duration) -> Duration {
    // A fresh RandomState hashes differently each time, which is all the randomness that is needed here.
    let random = RandomState::new().build_hasher().finish();
    #[allow(clippy::cast_precision_loss)]
    let share = 0.5 + 0.5 * (random as f64 / u64::MAX as f64);
    pause.mul_f64(share)
}
