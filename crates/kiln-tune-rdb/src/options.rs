use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use crate::connection::{Connection, Failure, SqlError, SqlResult};
use crate::pool::{Connect, Pool, jitter};
use crate::read::Interner;
use crate::schema;
use crate::storage::{HeartbeatSettings, RdbStorage};
use kiln_tune::error::{Error, Result};
use kiln_tune::storage::StaleTrialCallback;

/// How a database is opened.
///
/// | setting | default | meaning |
/// |---|---|---|
/// | [`create`](Self::create) | true | makes the file and the tables when they are missing |
/// | [`wal`](Self::wal) | true | write-ahead logging for new SQLite files |
/// | [`patience`](Self::patience) | 60 s | how long a locked or unreachable database is tried again |
/// | [`max_connections`](Self::max_connections) | 16 | connections of this process at most |
/// | [`heartbeat_interval`](Self::heartbeat_interval) | none | how often running trials are marked alive |
/// | [`grace_period`](Self::grace_period) | twice the interval | after which a trial without a mark is failed |
/// | [`on_stale_trial`](Self::on_stale_trial) | none | what happens to such a trial |
///
/// ```
/// # #[cfg(feature = "sqlite")] {
/// use std::time::Duration;
/// use kiln_tune::storage::retry_stale_trial;
/// use kiln_tune_rdb::RdbOptions;
///
/// let storage = RdbOptions::new()
///     .heartbeat_interval(Duration::from_secs(30))
///     .on_stale_trial(retry_stale_trial(Some(3), false))
///     .open("sqlite:///:memory:")?;
/// # }
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Clone)]
pub struct RdbOptions {
    create: bool,
    wal: bool,
    patience: Duration,
    max_connections: usize,
    heartbeat_interval: Option<Duration>,
    grace_period: Option<Duration>,
    on_stale: Option<StaleTrialCallback>,
}

impl Default for RdbOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl RdbOptions {
    /// The defaults of the table above.
    #[must_use]
    pub fn new() -> Self {
        Self {
            create: true,
            wal: true,
            patience: Duration::from_secs(60),
            max_connections: 16,
            heartbeat_interval: None,
            grace_period: None,
            on_stale: None,
        }
    }

    /// Whether the file and the tables are made when they are missing; otherwise that is an error.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Whether a new SQLite file uses write-ahead logging.
    #[must_use]
    pub fn wal(mut self, wal: bool) -> Self {
        self.wal = wal;
        self
    }

    /// For how long an operation is tried again while the database is locked or cannot be reached.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How many connections this process keeps at most.
    #[must_use]
    pub fn max_connections(mut self, max_connections: usize) -> Self {
        self.max_connections = max_connections;
        self
    }

    /// Marks running trials alive this often, and fails those of workers that stopped doing so.
    #[must_use]
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = Some(interval);
        self
    }

    /// The age of the last mark after which a running trial is failed.
    #[must_use]
    pub fn grace_period(mut self, grace_period: Duration) -> Self {
        self.grace_period = Some(grace_period);
        self
    }

    /// What is called for each trial that this process failed because it was stale, such as
    /// [`retry_stale_trial`](kiln_tune::storage::retry_stale_trial).
    #[must_use]
    pub fn on_stale_trial(mut self, callback: StaleTrialCallback) -> Self {
        self.on_stale = Some(callback);
        self
    }

    /// Opens the database; see [`RdbStorage::open`] for the URLs.
    ///
    /// # Errors
    /// As [`RdbStorage::open`], and [`Error::InvalidArgument`] for a setting of zero.
    pub fn open(self, url: &str) -> Result<RdbStorage> {
        if self.max_connections == 0 {
            return Err(Error::invalid(
                "max_connections must be at least 1, but got 0",
            ));
        }
        for (name, value) in [
            ("heartbeat_interval", self.heartbeat_interval),
            ("grace_period", self.grace_period),
        ] {
            if value.is_some_and(|value| value.is_zero()) {
                return Err(Error::invalid(format!(
                    "{name} must be positive, but got 0 s"
                )));
            }
        }
        let target = Target::parse(url)?;
        let (name, limit) = (
            target.name(),
            if target.is_private() {
                1
            } else {
                self.max_connections
            },
        );
        let heartbeat = self.heartbeat_interval.map(|interval| HeartbeatSettings {
            interval,
            grace_period: self.grace_period.unwrap_or(interval * 2),
            on_stale: self.on_stale.clone(),
        });
        // The tables are made over the first connection; a private database keeps it, for it is gone without it.
        let failed = |error: SqlError| Error::storage(format!("cannot open {name}"), error.source);
        let first = self.first_connection(&target).map_err(failed)?;
        let first = Mutex::new(Some(first));
        let (wal, patience) = (self.wal, self.patience);
        let connect: Connect = Box::new(move || match kiln_tune::sync::lock(&first).take() {
            Some(connection) => Ok(connection),
            None => target.connect(false, wal, patience),
        });
        Ok(RdbStorage {
            pool: Pool::new(connect, limit, patience, name),
            interner: Interner::default(),
            known: Mutex::new(HashMap::new()),
            frontiers: Mutex::new(HashMap::new()),
            heartbeat,
        })
    }

    /// Connects and makes or checks the tables, again when others are doing the same or a server is starting.
    fn first_connection(&self, target: &Target) -> SqlResult<Box<dyn Connection>> {
        let start = std::time::Instant::now();
        let mut pause = Duration::from_millis(5);
        // A server that cannot be reached when the program starts is mostly a wrong address.
        let patience = self.patience.min(Duration::from_secs(10));
        let mut clashes = 0;
        loop {
            let result = target
                .connect(self.create, self.wal, self.patience)
                .and_then(|mut connection| {
                    schema::prepare(connection.as_mut(), self.create)?;
                    Ok(connection)
                });
            match result {
                // Optuna makes its tables without a lock, so both may try to make the same one.
                Err(error) if error.kind == Failure::Unique && clashes < 5 => clashes += 1,
                Err(error)
                    if matches!(error.kind, Failure::Busy | Failure::Disconnected)
                        && start.elapsed() + pause < patience => {}
                other => return other,
            }
            std::thread::sleep(jitter(pause));
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

/// Turns the write-ahead log of an SQLite file on or off, or only looks (`None`), and says whether it is on then.
///
/// Optuna makes its files with a rollback journal: whoever writes keeps everybody else from reading and writing, and
/// waits for the disk two or three times. With a write-ahead log readers never wait, writers follow each other quickly,
/// and a killed process loses nothing that was committed; after a power failure the last commits may be missing, but the
/// file is whole. Optuna reads and writes such a file as before, and the setting stays with the file. In return, all
/// processes must be on one machine (no network file system), and while the file is open there are two more beside it,
/// `-wal` and `-shm`, that belong to it: copy the three together, or when nobody has it open.
///
/// ```
/// # let directory = std::env::temp_dir().join(format!("kiln-tune-rdb-wal-{}", std::process::id()));
/// # std::fs::create_dir_all(&directory).unwrap();
/// # let url = format!("sqlite:///{}", directory.join("study.db").display());
/// use kiln_tune_rdb::{RdbOptions, write_ahead_log};
///
/// drop(RdbOptions::new().wal(false).open(&url)?);
/// assert!(!write_ahead_log(&url, None)?);
/// assert!(write_ahead_log(&url, Some(true))?);
/// # std::fs::remove_dir_all(&directory).unwrap();
/// # Ok::<(), kiln_tune::Error>(())
/// ```
///
/// # Errors
/// [`Error::InvalidArgument`] for a URL that is not of an SQLite file, [`Error::Storage`] when it holds no studies, and
/// when others have it open (to turn the log off) or write right now: it stays as it was then.
#[cfg(feature = "sqlite")]
pub fn write_ahead_log(url: &str, on: Option<bool>) -> Result<bool> {
    let target = match Target::parse(url) {
        Ok(target) => target,
        Err(_) if url.starts_with("journal:") => Target::Sqlite(None),
        Err(error) => return Err(error),
    };
    let Target::Sqlite(Some(path)) = &target else {
        return Err(Error::invalid(format!(
            "only an SQLite file has a write-ahead log to turn on or off, but got {}",
            without_password(url)
        )));
    };
    let patience = Duration::from_secs(5);
    let switch = || {
        let mut connection = crate::sqlite::Sqlite::open(Some(path), false, false, patience)?;
        schema::prepare(&mut connection, false)?;
        connection.write_ahead_log(on)
    };
    let failed = |source: kiln_tune::error::BoxError| {
        let what = if on.is_none() { "look at" } else { "switch" };
        Error::storage(
            format!("cannot {what} the write-ahead log of {}", target.name()),
            source,
        )
    };
    let is_on = match switch() {
        Ok(is_on) => is_on,
        Err(error) if error.kind == Failure::Busy => {
            return Err(failed(
                "others have the file open; stop the workers that use it and try again".into(),
            ));
        }
        Err(error) => return Err(failed(error.source)),
    };
    if on.is_some_and(|on| on != is_on) {
        return Err(failed(
            "SQLite kept it as it was, which it does on file systems that cannot share memory between processes".into(),
        ));
    }
    Ok(is_on)
}

/// The database that a URL names.
#[derive(Debug, PartialEq)]
enum Target {
    /// None: in memory.
    Sqlite(Option<PathBuf>),
    /// A URL with the scheme that the driver expects.
    Postgres(String),
    Mysql(String),
}

impl Target {
    fn parse(url: &str) -> Result<Self> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(Error::invalid(format!(
                "{url:?} is not a storage URL; write sqlite:///PATH, postgresql://USER:PASSWORD@HOST/DATABASE, \
                 mysql://USER:PASSWORD@HOST/DATABASE or journal:PATH"
            )));
        };
        // SQLAlchemy names its driver after a plus sign.
        let database = scheme.split('+').next().unwrap_or(scheme);
        let target = match database {
            "sqlite" => Self::Sqlite(sqlite_path(url, rest)?),
            "postgresql" | "postgres" => Self::Postgres(format!("postgresql://{rest}")),
            "mysql" | "mariadb" => Self::Mysql(format!("mysql://{rest}")),
            other => {
                return Err(Error::invalid(format!(
                    "a storage URL starts with sqlite, postgresql, mysql or journal, but got {other:?}"
                )));
            }
        };
        let (name, feature, compiled_in) = match target {
            Self::Sqlite(_) => ("SQLite", "sqlite", cfg!(feature = "sqlite")),
            Self::Postgres(_) => ("PostgreSQL", "postgres", cfg!(feature = "postgres")),
            Self::Mysql(_) => ("MySQL", "mysql", cfg!(feature = "mysql")),
        };
        if !compiled_in && matches!(target, Self::Sqlite(_)) {
            return Err(Error::invalid(
                "this program was built without SQLite; build it with the feature `sqlite` of kiln-tune-rdb or kiln",
            ));
        }
        if !compiled_in {
            return Err(Error::invalid(format!(
                "this program was built without {name}; build it with the feature `{feature}`, as in `cargo install --path \
                 crates/kiln-cli --features {feature}` for `kiln`, or `cargo install --path crates/kiln-study --features \
                 {feature}` for `kiln-study` (and `tls` for encrypted connections)"
            )));
        }
        Ok(target)
    }

    fn is_private(&self) -> bool {
        *self == Self::Sqlite(None)
    }

    /// The URL for messages, without the password.
    fn name(&self) -> String {
        match self {
            Self::Sqlite(None) => "sqlite:///:memory:".to_owned(),
            Self::Sqlite(Some(path)) => format!("sqlite:///{}", path.display()),
            Self::Postgres(url) | Self::Mysql(url) => without_password(url),
        }
    }

    #[cfg_attr(not(feature = "sqlite"), allow(unused_variables))]
    fn connect(
        &self,
        create: bool,
        wal: bool,
        patience: Duration,
    ) -> SqlResult<Box<dyn Connection>> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => Ok(Box::new(crate::sqlite::Sqlite::open(
                path.as_deref(),
                create,
                wal,
                patience,
            )?)),
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => Ok(Box::new(crate::postgres::Postgres::connect(url)?)),
            #[cfg(feature = "mysql")]
            Self::Mysql(url) => Ok(Box::new(crate::mysql::Mysql::connect(url)?)),
            #[allow(unreachable_patterns)]
            other => Err(SqlError::new(
                Failure::Other,
                format!("{} was not built in", other.name()),
            )),
        }
    }
}

/// `sqlite:///relative`, `sqlite:////absolute`, `sqlite://` or `:memory:` for a private database.
fn sqlite_path(url: &str, rest: &str) -> Result<Option<PathBuf>> {
    let path = rest.split_once('?').map_or(rest, |(path, _)| path);
    if path.is_empty() || path == "/" || path == "/:memory:" {
        return Ok(None);
    }
    match path.strip_prefix('/') {
        Some(path) => Ok(Some(PathBuf::from(path))),
        None => Err(Error::invalid(format!(
            "{url:?} has a host where none can be; write sqlite:///{path} for a file in this directory, or sqlite:////{path} for an absolute path"
        ))),
    }
}

fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let Some((user, host)) = rest.rsplit_once('@') else {
        return url.to_owned();
    };
    let user = user.split_once(':').map_or(user, |(name, _)| name);
    let host = host.split_once('?').map_or(host, |(host, _)| host);
    format!("{scheme}://{user}@{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "sqlite")]
    fn sqlite_urls_name_a_file_as_sqlalchemy_reads_them() {
        let file = |path: &str| Target::Sqlite(Some(path.into()));
        for (url, target) in [
            ("sqlite:///study.db", file("study.db")),
            ("sqlite:///a dir/s%20.db", file("a dir/s%20.db")),
            ("sqlite:////tmp/study.db", file("/tmp/study.db")),
            ("sqlite+pysqlite:///study.db?timeout=10", file("study.db")),
            ("sqlite://", Target::Sqlite(None)),
            ("sqlite:///:memory:", Target::Sqlite(None)),
        ] {
            assert_eq!(Target::parse(url).unwrap(), target, "{url}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_read_says_what_to_write() {
        for (url, hint) in [
            ("study.db", "sqlite:///PATH"),
            ("oracle://host/db", "sqlite, postgresql, mysql or journal"),
            ("sqlite://study.db", "sqlite:///study.db"),
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    #[cfg(not(all(feature = "postgres", feature = "mysql")))]
    fn a_database_that_was_not_built_in_names_its_feature_of_each_program() {
        for (built_in, url, feature) in [
            (
                cfg!(feature = "postgres"),
                "postgresql://localhost/db",
                "postgres",
            ),
            (cfg!(feature = "mysql"), "mysql://localhost/db", "mysql"),
        ] {
            if built_in {
                continue;
            }
            let error = Target::parse(url).unwrap_err().to_string();
            for advice in [
                format!("feature `{feature}`"),
                format!("crates/kiln-cli --features {feature}`"),
                format!("crates/kiln-study --features {feature}`"),
            ] {
                assert!(error.contains(&advice), "{error}");
            }
        }
    }

    #[test]
    fn messages_do_not_show_the_password() {
        assert_eq!(
            without_password("postgresql://me:p%40ss@db.example:5432/x?sslmode=disable"),
            "postgresql://me@db.example:5432/x"
        );
        assert_eq!(without_password("mysql://me@db/x"), "mysql://me@db/x");
    }
}
