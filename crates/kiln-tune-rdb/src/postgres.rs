//! PostgreSQL, by the `postgres` crate.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use postgres::error::SqlState;
use postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Config, NoTls, Statement};

use crate::connection::{Access, Connection, Dialect, Failure, Row, SqlError, SqlResult, SqlValue};
use crate::tls::TlsUrl;
use kiln_tune::trial::Timestamp;

/// 2000-01-01, where PostgreSQL counts its microseconds from.
const EPOCH: i64 = 946_684_800_000_000;

/// A connection to a PostgreSQL server.
pub(crate) struct Postgres {
    client: Client,
    statements: HashMap<String, Statement>,
    in_transaction: bool,
}

impl Postgres {
    /// Connects by a URL with the scheme `postgresql`.
    pub(crate) fn connect(url: &str) -> SqlResult<Self> {
        let TlsUrl {
            url,
            encrypted,
            roots,
        } = TlsUrl::parse(url)?;
        let mut config: Config = url
            .parse()
            .map_err(|error| SqlError::new(Failure::Other, describe(error)))?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(10));
        }
        config.keepalives_idle(Duration::from_secs(30));
        if config.get_application_name().is_none() {
            config.application_name("kiln-tune");
        }
        let client = if encrypted {
            connect_encrypted(&mut config, roots.as_deref())?
        } else {
            config.connect(NoTls)
        };
        let client = client.map_err(|error| {
            // A refused or reset connection may be a server that restarts; a wrong password is not.
            let kind = if error.as_db_error().is_none() && is_io(&error) {
                Failure::Disconnected
            } else {
                classify_kind(&error)
            };
            SqlError::new(kind, describe(error))
        })?;
        Ok(Self {
            client,
            statements: HashMap::new(),
            in_transaction: false,
        })
    }

    fn statement(&mut self, sql: &str) -> SqlResult<Statement> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self
            .client
            .prepare(&number_placeholders(sql))
            .map_err(classify)?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

impl Connection for Postgres {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn begin(&mut self, access: Access) -> SqlResult<()> {
        // A reader takes several tables and must see them at one moment.
        let sql = match access {
            Access::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Access::Write => "BEGIN",
        };
        self.client.batch_execute(sql).map_err(classify)?;
        self.in_transaction = true;
        Ok(())
    }

    fn commit(&mut self) -> SqlResult<()> {
        self.client.batch_execute("COMMIT").map_err(classify)?;
        self.in_transaction = false;
        Ok(())
    }

    fn rollback(&mut self) -> SqlResult<()> {
        if self.in_transaction {
            self.client.batch_execute("ROLLBACK").map_err(classify)?;
            self.in_transaction = false;
        }
        Ok(())
    }

    fn batch(&mut self, sql: &str) -> SqlResult<()> {
        self.client.batch_execute(sql).map_err(classify)
    }

    fn execute(&mut self, sql: &str, params: &[SqlValue]) -> SqlResult<u64> {
        let statement = self.statement(sql)?;
        self.client
            .execute(&statement, &references(params))
            .map_err(classify)
    }

    fn insert(&mut self, sql: &str, params: &[SqlValue], id_column: &str) -> SqlResult<i64> {
        let row = self.query_one(&format!("{sql} RETURNING {id_column}"), params)?;
        row.ok_or_else(|| SqlError::new(Failure::Other, "INSERT returned no id"))?
            .int(0)
    }

    fn query(&mut self, sql: &str, params: &[SqlValue]) -> SqlResult<Vec<Row>> {
        let statement = self.statement(sql)?;
        let rows = self
            .client
            .query(&statement, &references(params))
            .map_err(classify)?;
        rows.iter()
            .map(|row| {
                let values = (0..row.len())
                    .map(|column| row.try_get::<_, SqlValue>(column).map_err(classify));
                Ok(Row(values.collect::<SqlResult<_>>()?))
            })
            .collect()
    }
}

#[cfg(feature = "tls")]
fn connect_encrypted(
    config: &mut Config,
    roots: Option<&Path>,
) -> SqlResult<Result<Client, postgres::Error>> {
    let tls = crate::tls::client_config(roots)
        .map_err(|error| SqlError::new(Failure::Other, error.to_string()))?;
    config.ssl_mode(postgres::config::SslMode::Require);
    Ok(config.connect(tokio_postgres_rustls::MakeRustlsConnect::new(tls)))
}

/// Not reached: reading the URL has refused it.
#[cfg(not(feature = "tls"))]
fn connect_encrypted(
    config: &mut Config,
    _roots: Option<&Path>,
) -> SqlResult<Result<Client, postgres::Error>> {
    Ok(config.connect(NoTls))
}

fn references(params: &[SqlValue]) -> Vec<&(dyn ToSql + Sync)> {
    params
        .iter()
        .map(|value| value as &(dyn ToSql + Sync))
        .collect()
}

/// `?` becomes `$1`, `$2`, ... Our statements hold no question mark in a literal.
fn number_placeholders(sql: &str) -> String {
    let mut parts = sql.split('?');
    let mut numbered = parts.next().unwrap_or_default().to_owned();
    for (i, part) in parts.enumerate() {
        numbered.push_str(&format!("${}{part}", i + 1));
    }
    numbered
}

impl ToSql for SqlValue {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(value) => match *ty {
                Type::INT4 => i32::try_from(*value)
                    .map_err(|_| format!("{value} is outside of the 32-bit range of this column"))?
                    .to_sql(ty, out),
                Type::FLOAT8 => {
                    #[allow(clippy::cast_precision_loss)]
                    let value = *value as f64;
                    value.to_sql(ty, out)
                }
                _ => value.to_sql(ty, out),
            },
            Self::Real(value) => value.to_sql(ty, out),
            // The binary form of an enum is its label, as for text.
            Self::Text(value) => value.as_str().to_sql(ty, out),
            Self::Bytes(value) => value.to_sql(ty, out),
            Self::Time(value) => (value.timestamp_micros() - EPOCH).to_sql(&Type::INT8, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for SqlValue {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(match *ty {
            Type::INT2 => Self::Int(i16::from_sql(ty, raw)?.into()),
            Type::INT4 => Self::Int(i32::from_sql(ty, raw)?.into()),
            Type::INT8 => Self::Int(i64::from_sql(ty, raw)?),
            Type::BOOL => Self::Int(bool::from_sql(ty, raw)?.into()),
            Type::FLOAT4 => Self::Real(f32::from_sql(ty, raw)?.into()),
            Type::FLOAT8 => Self::Real(f64::from_sql(ty, raw)?),
            Type::TIMESTAMP | Type::TIMESTAMPTZ => {
                let micros = i64::from_sql(&Type::INT8, raw)?.saturating_add(EPOCH);
                Self::Time(
                    Timestamp::from_timestamp_micros(micros)
                        .ok_or("a date outside of the years that can be shown")?,
                )
            }
            _ => Self::Text(std::str::from_utf8(raw)?.to_owned()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn is_io(error: &postgres::Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<std::io::Error>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

fn classify_kind(error: &postgres::Error) -> Failure {
    if error.is_closed() || is_io(error) {
        return Failure::Disconnected;
    }
    match error.code() {
        Some(code) if *code == SqlState::UNIQUE_VIOLATION => Failure::Unique,
        Some(code)
            if *code == SqlState::T_R_SERIALIZATION_FAILURE
                || *code == SqlState::T_R_DEADLOCK_DETECTED
                || *code == SqlState::LOCK_NOT_AVAILABLE =>
        {
            Failure::Busy
        }
        // Shutting down, starting up, or out of connection slots.
        Some(code)
            if code.code().starts_with("08")
                || code.code().starts_with("57P")
                || *code == SqlState::TOO_MANY_CONNECTIONS =>
        {
            Failure::Disconnected
        }
        _ => Failure::Other,
    }
}

fn classify(error: postgres::Error) -> SqlError {
    SqlError::new(classify_kind(&error), describe(error))
}

/// The driver's own text says only "db error" or "error connecting to server"; the reason is in its causes.
fn describe(error: postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
