//! SQLite, by rusqlite.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{ErrorCode, OpenFlags, ToSql};

use super::connection::{
    Access, Connection, Dialect, Failure, Row, SqlError, SqlResult, SqlValue, format_datetime,
};

/// A connection to one SQLite file.
pub(crate) struct Sqlite {
    connection: rusqlite::Connection,
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
        busy_timeout: Duration,
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
        connection.busy_timeout(busy_timeout).map_err(classify)?;
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
        if mode.eq_ignore_ascii_case("wal") {
            // With a write-ahead log this is safe against a killed process, and against power loss up to the last commits.
            connection
                .pragma_update(None, "synchronous", "NORMAL")
                .map_err(classify)?;
        }
        Ok(Self { connection })
    }
}

impl Connection for Sqlite {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn begin(&mut self, access: Access) -> SqlResult<()> {
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
        self.execute("COMMIT", &[]).map(drop)
    }

    fn rollback(&mut self) -> SqlResult<()> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.execute("ROLLBACK", &[]).map(drop)
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
            let values =
                (0..columns).map(|column| row.get_ref(column).map_err(classify).and_then(from_ref));
            result.push(Row(values.collect::<SqlResult<_>>()?));
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
            Self::Time(value) => ToSqlOutput::from(format_datetime(*value)),
        })
    }
}

fn from_ref(value: ValueRef<'_>) -> SqlResult<SqlValue> {
    Ok(match value {
        ValueRef::Null => SqlValue::Null,
        ValueRef::Integer(value) => SqlValue::Int(value),
        ValueRef::Real(value) => SqlValue::Real(value),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => SqlValue::Text(
            std::str::from_utf8(bytes)
                .map_err(|error| SqlError::new(Failure::Other, error))?
                .to_owned(),
        ),
    })
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
