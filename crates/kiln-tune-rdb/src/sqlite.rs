//! SQLite, by rusqlite.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{ErrorCode, OpenFlags, ToSql};

use crate::connection::{
    Access, Connection, Dialect, Failure, Row, SqlError, SqlResult, SqlValue, format_datetime,
};
use crate::pool::jitter;

/// A connection to one SQLite file.
pub(crate) struct Sqlite {
    connection: rusqlite::Connection,
    patience: Duration,
    /// For a file with a rollback journal, which one process at a time may use while it is written.
    turns: Option<Turns>,
}

/// How others get their turn at a file with a rollback journal.
///
/// SQLite has no queue for its lock: who waits looks at it again and again, ever more seldom, and Python gives up after
/// 5 s. Many writers that come back at once leave it free so rarely that somebody never meets it free. So a writer that
/// finds the file locked leaves twice the gap between its own writes, and at least twice as long as it has waited, and a
/// little less when it finds it free. Up and down balance when a third of the first looks find it locked; where others do not back off,
/// `LONGEST` bounds the gap.
struct Turns {
    gap: Duration,
    next: Instant,
}

impl Turns {
    const SHORTEST: Duration = Duration::from_millis(2);
    const LONGEST: Duration = Duration::from_secs(1);

    fn new() -> Self {
        Self {
            gap: Duration::ZERO,
            next: Instant::now(),
        }
    }

    /// The lock was taken after a wait, of no time if it was free.
    fn learn(&mut self, waited: Duration) {
        self.gap = if waited.is_zero() {
            self.gap.mul_f64(0.7)
        } else {
            (self.gap.max(waited) * 2).clamp(Self::SHORTEST, Self::LONGEST)
        };
    }

    /// A write is done.
    fn pass(&mut self) {
        self.next = Instant::now() + jitter(self.gap);
    }
}

impl Sqlite {
    /// Opens the file at `path`, or a private database in memory for `None`.
    ///
    /// `wal` turns write-ahead logging on when the file is new: readers and the writer do not wait for each other then,
    /// and a commit costs no `fsync`. Files made by others keep the mode they have.
    pub(crate) fn open(
        path: Option<&Path>,
        create: bool,
        wal: bool,
        patience: Duration,
    ) -> SqlResult<Self> {
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if create {
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
        }
        let connection = match path {
            Some(path) => rusqlite::Connection::open_with_flags(path, flags),
            None => rusqlite::Connection::open_in_memory(),
        }
        .map_err(classify)?;
        connection.busy_timeout(patience).map_err(classify)?;
        connection.set_prepared_statement_cache_capacity(128);
        // The bundled SQLite enforces foreign keys, Optuna's does not; one file should follow one rule.
        connection
            .pragma_update(None, "foreign_keys", false)
            .map_err(classify)?;
        // This is the first read of the file, so a file of another kind is found out here.
        let pages: i64 = connection
            .query_row("PRAGMA page_count", [], |row| row.get(0))
            .map_err(classify)?;
        if wal && pages == 0 && path.is_some() {
            // Another process may be doing the same: whoever comes first sets the mode for all.
            match connection.query_row("PRAGMA journal_mode = WAL", [], |row| {
                row.get::<_, String>(0)
            }) {
                Ok(_) => {}
                Err(error) if classify_kind(&error) == Failure::Busy => {}
                Err(error) => return Err(classify(error)),
            }
        }
        let mode: String = connection
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .map_err(classify)?;
        let is_wal = mode.eq_ignore_ascii_case("wal");
        if is_wal {
            // With a write-ahead log this is safe against a killed process, and against power loss up to the last commits.
            connection
                .pragma_update(None, "synchronous", "NORMAL")
                .map_err(classify)?;
        }
        Ok(Self {
            connection,
            patience,
            turns: (!is_wal && path.is_some()).then(Turns::new),
        })
    }

    /// Turns the write-ahead log on or off if that is asked for, and says whether it is on.
    pub(crate) fn write_ahead_log(&self, on: Option<bool>) -> SqlResult<bool> {
        let sql = match on {
            None => "PRAGMA journal_mode",
            Some(true) => "PRAGMA journal_mode = WAL",
            Some(false) => "PRAGMA journal_mode = DELETE",
        };
        let mode: String = self
            .connection
            .query_row(sql, [], |row| row.get(0))
            .map_err(classify)?;
        Ok(mode.eq_ignore_ascii_case("wal"))
    }

    /// Takes the write lock of a file with a rollback journal when it is our turn.
    fn begin_in_turn(&mut self, mut turns: Turns) -> SqlResult<()> {
        std::thread::sleep(turns.next.saturating_duration_since(Instant::now()));
        let (start, mut pause) = (Instant::now(), Duration::from_millis(1));
        let mut waited = Duration::ZERO;
        // SQLite's own waiting does not tell how long it was.
        self.connection
            .busy_timeout(Duration::ZERO)
            .map_err(classify)?;
        let result = loop {
            match self.execute("BEGIN IMMEDIATE", &[]) {
                Err(error)
                    if error.kind == Failure::Busy && start.elapsed() + pause < self.patience =>
                {
                    std::thread::sleep(jitter(pause));
                    // As seldom as SQLite looks itself, so that others are not outrun.
                    pause = (pause * 2).min(Duration::from_millis(128));
                    waited = start.elapsed();
                }
                result => break result.map(drop),
            }
        };
        self.connection
            .busy_timeout(self.patience)
            .map_err(classify)?;
        turns.learn(waited);
        self.turns = Some(turns);
        let file = self.connection.path().unwrap_or("FILE").to_owned();
        result.map_err(|error| match error.kind {
            Failure::Busy => SqlError::new(
                Failure::Busy,
                format!(
                    "{error}; the file has a rollback journal, so that readers and writers wait for each other: \
                     `kiln study write-ahead-log on --storage 'sqlite:///{file}'` (or kiln-study) ends that"
                ),
            ),
            _ => error,
        })
    }

    fn pass_turn(&mut self) {
        if let Some(turns) = &mut self.turns {
            turns.pass();
        }
    }
}

impl Connection for Sqlite {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn begin(&mut self, access: Access) -> SqlResult<()> {
        if access == Access::Write
            && let Some(turns) = self.turns.take()
        {
            return self.begin_in_turn(turns);
        }
        self.execute(
            if access == Access::Write {
                "BEGIN IMMEDIATE"
            } else {
                "BEGIN"
            },
            &[],
        )
        .map(drop)
    }

    fn commit(&mut self) -> SqlResult<()> {
        let result = self.execute("COMMIT", &[]).map(drop);
        self.pass_turn();
        result
    }

    fn rollback(&mut self) -> SqlResult<()> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        let result = self.execute("ROLLBACK", &[]).map(drop);
        self.pass_turn();
        result
    }

    fn batch(&mut self, sql: &str) -> SqlResult<()> {
        self.connection.execute_batch(sql).map_err(classify)
    }

    fn execute(&mut self, sql: &str, params: &[SqlValue]) -> SqlResult<u64> {
        let mut statement = self.connection.prepare_cached(sql).map_err(classify)?;
        statement
            .execute(rusqlite::params_from_iter(params))
            .map(|n| n as u64)
            .map_err(classify)
    }

    fn insert(&mut self, sql: &str, params: &[SqlValue], _id_column: &str) -> SqlResult<i64> {
        self.execute(sql, params)?;
        Ok(self.connection.last_insert_rowid())
    }

    fn query(&mut self, sql: &str, params: &[SqlValue]) -> SqlResult<Vec<Row>> {
        let mut statement = self.connection.prepare_cached(sql).map_err(classify)?;
        let columns = statement.column_count();
        let mut rows = statement
            .query(rusqlite::params_from_iter(params))
            .map_err(classify)?;
        let mut result = Vec::new();
        while let Some(row) = rows.next().map_err(classify)? {
            let values = (0..columns).map(|column| row.get_ref(column).map(from_ref));
            result.push(Row(values
                .collect::<rusqlite::Result<_>>()
                .map_err(classify)?));
        }
        Ok(result)
    }
}

impl ToSql for SqlValue {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Self::Int(value) => ToSqlOutput::Borrowed(ValueRef::Integer(*value)),
            Self::Real(value) => ToSqlOutput::Borrowed(ValueRef::Real(*value)),
            Self::Text(value) => ToSqlOutput::Borrowed(ValueRef::Text(value.as_bytes())),
            Self::Bytes(value) => ToSqlOutput::Borrowed(ValueRef::Blob(value)),
            Self::Time(value) => ToSqlOutput::from(format_datetime(*value)),
        })
    }
}

fn from_ref(value: ValueRef<'_>) -> SqlValue {
    match value {
        ValueRef::Null => SqlValue::Null,
        ValueRef::Integer(value) => SqlValue::Int(value),
        ValueRef::Real(value) => SqlValue::Real(value),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => SqlValue::Text(text.to_owned()),
            Err(_) => SqlValue::Bytes(bytes.to_owned()),
        },
    }
}

fn classify_kind(error: &rusqlite::Error) -> Failure {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Failure::Busy,
        Some(ErrorCode::ConstraintViolation) => Failure::Unique,
        _ => Failure::Other,
    }
}

fn classify(error: rusqlite::Error) -> SqlError {
    let kind = classify_kind(&error);
    let advice = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => "the file is not an SQLite database; check the path",
        Some(ErrorCode::DatabaseCorrupt) => {
            "the SQLite file is damaged; restore a copy, or save what is left with `sqlite3 FILE .recover`"
        }
        Some(ErrorCode::CannotOpen) => {
            "the file cannot be opened; check that it exists, or that its directory does and may be written"
        }
        Some(ErrorCode::ReadOnly) => "the file or its directory may not be written",
        Some(ErrorCode::DiskFull) => "the disk is full",
        _ => return SqlError::new(kind, error),
    };
    SqlError::new(kind, format!("{advice} ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_finds_the_file_locked_leaves_longer_gaps_and_shorter_ones_when_it_is_free() {
        let waited = Duration::from_millis(40);
        let mut turns = Turns::new();
        turns.learn(Duration::ZERO);
        assert_eq!(turns.gap, Duration::ZERO, "alone it leaves none");
        turns.learn(waited);
        assert_eq!(turns.gap, waited * 2);
        turns.learn(Duration::from_micros(1));
        assert_eq!(turns.gap, waited * 4);
        for _ in 0..20 {
            turns.learn(waited);
        }
        assert_eq!(turns.gap, Turns::LONGEST);
        for _ in 0..100 {
            turns.learn(Duration::ZERO);
        }
        assert!(turns.gap < Duration::from_millis(1), "{:?}", turns.gap);
        // One look in three that finds it locked keeps the gap about as long as it is.
        turns.gap = Duration::from_millis(100);
        for look in 0..48 {
            turns.learn(if look % 3 == 0 {
                waited
            } else {
                Duration::ZERO
            });
        }
        let balance = turns.gap.as_secs_f64() / 0.1;
        assert!((0.5..3.0).contains(&balance), "{balance}");
    }

    #[test]
    fn a_file_with_a_write_ahead_log_needs_no_turns() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.db");
        let patience = Duration::from_secs(1);
        assert!(
            Sqlite::open(Some(&path), true, true, patience)
                .unwrap()
                .turns
                .is_none()
        );
        let path = directory.path().join("rollback.db");
        assert!(
            Sqlite::open(Some(&path), true, false, patience)
                .unwrap()
                .turns
                .is_some()
        );
        assert!(
            Sqlite::open(None, true, false, patience)
                .unwrap()
                .turns
                .is_none()
        );
    }
}
