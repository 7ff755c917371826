//! MySQL and MariaDB, by the `mysql` crate.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{Datelike, NaiveDate, Timelike};
use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder, Value};

use crate::connection::{Access, Connection, Dialect, Failure, Row, SqlError, SqlResult, SqlValue};
use crate::tls::TlsUrl;
use kiln_tune::trial::Timestamp;

/// A connection to a MySQL or MariaDB server.
pub(crate) struct Mysql {
    connection: Conn,
    in_transaction: bool,
}

impl Mysql {
    /// Connects by a URL with the scheme `mysql`.
    pub(crate) fn connect(url: &str) -> SqlResult<Self> {
        let TlsUrl {
            url,
            encrypted,
            roots,
        } = TlsUrl::parse(url)?;
        let opts = Opts::from_url(&url).map_err(|error| SqlError::new(Failure::Other, error))?;
        let opts = OptsBuilder::from_opts(opts)
            .tcp_connect_timeout(Some(Duration::from_secs(10)))
            .init(vec![
                // Names are quoted with `"` as in the other databases.
                "SET SESSION sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')",
                "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
            ]);
        let opts = if encrypted {
            encrypt(opts, roots)
        } else {
            opts
        };
        let connection = Conn::new(opts).map_err(classify)?;
        Ok(Self {
            connection,
            in_transaction: false,
        })
    }
}

#[cfg(feature = "tls")]
fn encrypt(opts: OptsBuilder, roots: Option<PathBuf>) -> OptsBuilder {
    // The driver takes the provider of the process; another one may be there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    opts.ssl_opts(mysql::SslOpts::default().with_root_cert_path(roots))
}

/// Not reached: reading the URL has refused it.
#[cfg(not(feature = "tls"))]
fn encrypt(opts: OptsBuilder, _roots: Option<PathBuf>) -> OptsBuilder {
    opts
}

impl Connection for Mysql {
    fn dialect(&self) -> Dialect {
        Dialect::Mysql
    }

    fn begin(&mut self, access: Access) -> SqlResult<()> {
        // A reader takes several tables and must see them at one moment.
        if access == Access::Read {
            self.batch("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")?;
        }
        self.batch(if access == Access::Read {
            "START TRANSACTION WITH CONSISTENT SNAPSHOT"
        } else {
            "START TRANSACTION"
        })?;
        self.in_transaction = true;
        Ok(())
    }

    fn commit(&mut self) -> SqlResult<()> {
        self.batch("COMMIT")?;
        self.in_transaction = false;
        Ok(())
    }

    fn rollback(&mut self) -> SqlResult<()> {
        if self.in_transaction {
            self.batch("ROLLBACK")?;
            self.in_transaction = false;
        }
        Ok(())
    }

    fn batch(&mut self, sql: &str) -> SqlResult<()> {
        // The protocol takes one statement at a time; the schema holds no `;` but between statements.
        for statement in sql.split(';').map(str::trim).filter(|s| !s.is_empty()) {
            self.connection.query_drop(statement).map_err(classify)?;
        }
        Ok(())
    }

    fn execute(&mut self, sql: &str, params: &[SqlValue]) -> SqlResult<u64> {
        self.connection
            .exec_drop(sql, values(params))
            .map_err(classify)?;
        Ok(self.connection.affected_rows())
    }

    fn insert(&mut self, sql: &str, params: &[SqlValue], _id_column: &str) -> SqlResult<i64> {
        self.execute(sql, params)?;
        i64::try_from(self.connection.last_insert_id())
            .map_err(|error| SqlError::new(Failure::Other, error))
    }

    fn query(&mut self, sql: &str, params: &[SqlValue]) -> SqlResult<Vec<Row>> {
        let rows: Vec<mysql::Row> = self
            .connection
            .exec(sql, values(params))
            .map_err(classify)?;
        rows.into_iter()
            .map(|row| {
                Ok(Row(row
                    .unwrap()
                    .into_iter()
                    .map(from_value)
                    .collect::<SqlResult<_>>()?))
            })
            .collect()
    }
}

fn values(params: &[SqlValue]) -> mysql::Params {
    if params.is_empty() {
        return mysql::Params::Empty;
    }
    mysql::Params::Positional(params.iter().map(to_value).collect())
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn to_value(value: &SqlValue) -> Value {
    match value {
        SqlValue::Null => Value::NULL,
        SqlValue::Int(value) => Value::Int(*value),
        SqlValue::Real(value) => Value::Double(*value),
        SqlValue::Text(value) => Value::Bytes(value.clone().into_bytes()),
        SqlValue::Bytes(value) => Value::Bytes(value.clone()),
        SqlValue::Time(time) => Value::Date(
            time.year() as u16,
            time.month() as u8,
            time.day() as u8,
            time.hour() as u8,
            time.minute() as u8,
            time.second() as u8,
            time.timestamp_subsec_micros(),
        ),
    }
}

fn from_value(value: Value) -> SqlResult<SqlValue> {
    Ok(match value {
        Value::NULL => SqlValue::Null,
        Value::Int(value) => SqlValue::Int(value),
        Value::UInt(value) => SqlValue::Int(
            i64::try_from(value).map_err(|error| SqlError::new(Failure::Other, error))?,
        ),
        Value::Float(value) => SqlValue::Real(value.into()),
        Value::Double(value) => SqlValue::Real(value),
        Value::Bytes(bytes) => String::from_utf8(bytes)
            .map_or_else(|error| SqlValue::Bytes(error.into_bytes()), SqlValue::Text),
        Value::Date(year, month, day, hour, minute, second, fraction) => {
            let date = NaiveDate::from_ymd_opt(year.into(), month.into(), day.into());
            let time = date.and_then(|date| {
                date.and_hms_micro_opt(hour.into(), minute.into(), second.into(), fraction)
            });
            let time = time.ok_or_else(|| {
                SqlError::new(
                    Failure::Other,
                    "the database holds a date that does not exist",
                )
            })?;
            SqlValue::Time(Timestamp::from_naive_utc_and_offset(time, chrono::Utc))
        }
        Value::Time(..) => {
            return Err(SqlError::new(
                Failure::Other,
                "a column of type TIME is not part of the schema",
            ));
        }
    })
}

fn classify(error: mysql::Error) -> SqlError {
    let kind = match &error {
        mysql::Error::MySqlError(server) => match server.code {
            1062 => Failure::Unique,
            // Lock wait timeout, deadlock, record changed since it was read.
            1205 | 1213 | 1020 => Failure::Busy,
            // Too many connections, shutdown, killed connection, gone away, lost.
            1040 | 1053 | 1927 | 2006 | 2013 => Failure::Disconnected,
            _ => Failure::Other,
        },
        mysql::Error::IoError(_) | mysql::Error::CodecError(_) => Failure::Disconnected,
        mysql::Error::DriverError(
            mysql::DriverError::ConnectTimeout | mysql::DriverError::CouldNotConnect(_),
        ) => Failure::Disconnected,
        _ => Failure::Other,
    };
    SqlError::new(kind, error)
}
