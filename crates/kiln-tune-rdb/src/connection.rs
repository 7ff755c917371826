//! One thin layer over the database drivers: values, rows, errors by what can be done about them.

use chrono::NaiveDateTime;

use kiln_tune::error::BoxError;
use kiln_tune::trial::Timestamp;

/// A value that goes to or comes from a database.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SqlValue {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
    /// What should be text and is not UTF-8.
    Bytes(Vec<u8>),
    Time(Timestamp),
}

impl SqlValue {
    /// The value for a message, cut to a readable length.
    fn shown(&self) -> String {
        match self {
            Self::Null => "NULL".to_owned(),
            Self::Int(value) => value.to_string(),
            Self::Real(value) => value.to_string(),
            Self::Text(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
            Self::Bytes(bytes) => format!(
                "the bytes {}, which are not UTF-8",
                bytes[..bytes.len().min(60)].escape_ascii()
            ),
            Self::Time(time) => time.to_string(),
        }
    }
}

impl From<i64> for SqlValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for SqlValue {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<&str> for SqlValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<Option<Timestamp>> for SqlValue {
    fn from(value: Option<Timestamp>) -> Self {
        value.map_or(Self::Null, Self::Time)
    }
}

impl From<String> for SqlValue {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

/// What can be done about a failed statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Somebody else holds a lock, or a deadlock was resolved against us: roll back and try again.
    Busy,
    /// The connection is gone or the server does not take one now: connect again.
    Disconnected,
    /// A uniqueness rule was broken.
    Unique,
    /// Trying again will not help.
    Other,
}

/// An error of a driver, sorted by what can be done about it.
#[derive(Debug)]
pub(crate) struct SqlError {
    pub(crate) kind: Failure,
    pub(crate) source: BoxError,
}

impl SqlError {
    pub(crate) fn new(kind: Failure, source: impl Into<BoxError>) -> Self {
        Self {
            kind,
            source: source.into(),
        }
    }

    /// What was read is not what the schema promises.
    pub(crate) fn unexpected(what: &str, found: &SqlValue) -> Self {
        Self::new(
            Failure::Other,
            format!("expected {what}, found {}", found.shown()),
        )
    }
}

impl std::fmt::Display for SqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.source.fmt(f)
    }
}

pub(crate) type SqlResult<T> = Result<T, SqlError>;

/// One row of a result.
#[derive(Debug, Clone)]
pub(crate) struct Row(pub(crate) Vec<SqlValue>);

impl Row {
    /// Says which row an error is about: the one of `table` whose column `key` has the value of `column`.
    pub(crate) fn in_table(
        &self,
        table: &str,
        key: &str,
        column: usize,
        error: impl std::fmt::Display,
    ) -> SqlError {
        SqlError::new(
            Failure::Other,
            format!(
                "table {table}, row with {key} {}: {error}; the database is damaged: correct the row or delete it, or \
                 restore a copy",
                self.0[column].shown()
            ),
        )
    }

    pub(crate) fn is_null(&self, column: usize) -> bool {
        self.0[column] == SqlValue::Null
    }

    pub(crate) fn int(&self, column: usize) -> SqlResult<i64> {
        match &self.0[column] {
            SqlValue::Int(value) => Ok(*value),
            other => Err(SqlError::unexpected("an integer", other)),
        }
    }

    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn real(&self, column: usize) -> SqlResult<f64> {
        match &self.0[column] {
            SqlValue::Real(value) => Ok(*value),
            SqlValue::Int(value) => Ok(*value as f64),
            other => Err(SqlError::unexpected("a number", other)),
        }
    }

    pub(crate) fn text(&self, column: usize) -> SqlResult<&str> {
        match &self.0[column] {
            SqlValue::Text(value) => Ok(value),
            other => Err(SqlError::unexpected("text", other)),
        }
    }

    /// A moment, or `None` for NULL.
    pub(crate) fn time(&self, column: usize) -> SqlResult<Option<Timestamp>> {
        match &self.0[column] {
            SqlValue::Null => Ok(None),
            SqlValue::Time(value) => Ok(Some(*value)),
            SqlValue::Text(text) => parse_datetime(text)
                .map(Some)
                .ok_or_else(|| SqlError::unexpected("a date and time", &self.0[column])),
            other => Err(SqlError::unexpected("a date and time", other)),
        }
    }
}

/// Whether a transaction will write. SQLite takes the write lock at once then, so that it never has to upgrade one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// The databases, for the few places where their SQL differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code))]
    Sqlite,
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    Postgres,
    #[cfg_attr(not(feature = "mysql"), allow(dead_code))]
    Mysql,
}

impl Dialect {
    /// The ending of a SELECT that locks the rows it returns. SQLite locks the whole file instead.
    pub(crate) fn for_update(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres | Self::Mysql => " FOR UPDATE",
        }
    }

    /// The ending of an INSERT that overwrites `columns` where `unique` exists already.
    pub(crate) fn on_conflict_update(self, unique: &str, columns: &[&str]) -> String {
        let assignments: Vec<String> = columns
            .iter()
            .map(|c| match self {
                Self::Mysql => format!("{c} = VALUES({c})"),
                Self::Sqlite | Self::Postgres => format!("{c} = excluded.{c}"),
            })
            .collect();
        let assignments = assignments.join(", ");
        match self {
            Self::Mysql => format!(" ON DUPLICATE KEY UPDATE {assignments}"),
            Self::Sqlite | Self::Postgres => {
                format!(" ON CONFLICT ({unique}) DO UPDATE SET {assignments}")
            }
        }
    }

    /// True when column `heartbeat` lies more than `?` seconds in the past by the clock of the database.
    pub(crate) fn heartbeat_older_than(self) -> &'static str {
        match self {
            Self::Sqlite => "(julianday(CURRENT_TIMESTAMP) - julianday(h.heartbeat)) * 86400.0 > ?",
            Self::Postgres => "LOCALTIMESTAMP - h.heartbeat > ? * INTERVAL '1 second'",
            Self::Mysql => {
                "TIMESTAMPDIFF(MICROSECOND, h.heartbeat, CURRENT_TIMESTAMP) / 1000000.0 > ?"
            }
        }
    }
}

/// One connection to a database. Placeholders are `?` and identifiers may be quoted with `"` in every dialect.
pub(crate) trait Connection: Send {
    fn dialect(&self) -> Dialect;
    fn begin(&mut self, access: Access) -> SqlResult<()>;
    fn commit(&mut self) -> SqlResult<()>;
    fn rollback(&mut self) -> SqlResult<()>;
    /// Runs statements without parameters, such as the schema.
    fn batch(&mut self, sql: &str) -> SqlResult<()>;
    /// Runs one statement and returns the number of rows it changed.
    fn execute(&mut self, sql: &str, params: &[SqlValue]) -> SqlResult<u64>;
    /// Runs an INSERT and returns the id that the database gave to `id_column`.
    fn insert(&mut self, sql: &str, params: &[SqlValue], id_column: &str) -> SqlResult<i64>;
    fn query(&mut self, sql: &str, params: &[SqlValue]) -> SqlResult<Vec<Row>>;

    fn query_one(&mut self, sql: &str, params: &[SqlValue]) -> SqlResult<Option<Row>> {
        Ok(self.query(sql, params)?.into_iter().next())
    }
}

/// Reads `YYYY-MM-DD HH:MM:SS[.f]`, also with a `T`, fewer or more digits, or an offset, which is ignored as Optuna does.
pub(crate) fn parse_datetime(text: &str) -> Option<Timestamp> {
    let text = text.trim().trim_end_matches('Z');
    let (date, time) = text.split_at_checked(10)?;
    let time = &time[..time.find(['+', '-']).unwrap_or(time.len())];
    let naive = NaiveDateTime::parse_from_str(
        &format!("{date}T{}", time.get(1..)?),
        "%Y-%m-%dT%H:%M:%S%.f",
    )
    .ok()?;
    Timestamp::from_timestamp_micros(naive.and_utc().timestamp_micros())
}

/// Writes `YYYY-MM-DD HH:MM:SS.ffffff`.
pub(crate) fn format_datetime(time: Timestamp) -> String {
    time.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_survive_a_round_trip() {
        for text in [
            "1970-01-01 00:00:00.000000",
            "2000-02-29 23:59:59.999999",
            "2026-11-22 11:43:21.233221",
            "1969-12-31 23:59:59.000001",
        ] {
            assert_eq!(format_datetime(parse_datetime(text).unwrap()), text);
        }
        assert_eq!(
            parse_datetime("2026-11-22 11:43:21").unwrap().timestamp(),
            1_795_347_801
        );
    }

    #[test]
    fn every_date_form_that_other_writers_use_is_read() {
        let expected = parse_datetime("2026-11-22 11:43:21.233000").unwrap();
        for text in [
            "2026-11-22T11:43:21.233",
            "2026-11-22 11:43:21.233000+00:00",
            "2026-11-22T11:43:21.233000Z",
            "2026-11-22 11:43:21.233000000",
        ] {
            assert_eq!(parse_datetime(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2026-13-01 00:00:00",
            "2026-11-22 25:00:00",
            "2026-11-22",
            "2026-11-22 11:43:21.2x",
        ] {
            assert_eq!(parse_datetime(text), None, "{text}");
        }
    }
}
