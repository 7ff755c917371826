//! Studies in a relational database, in Optuna's own tables: SQLite, PostgreSQL, MySQL and MariaDB.
//!
//! [`open`] takes the URL of any storage, that of a journal file included; [`RdbOptions`] has the settings of a database,
//! such as the heartbeat that finds the trials of dead workers.
//!
//! ```
//! # #[cfg(feature = "sqlite")] {
//! use kiln_tune::{Study, Trial};
//!
//! # let directory = std::env::temp_dir().join(format!("kiln-tune-rdb-{}", std::process::id()));
//! # std::fs::create_dir_all(&directory).unwrap();
//! # let url = format!("sqlite:///{}", directory.join("study.db").display());
//! // Such as sqlite:///study.db; another process, or Optuna, may work on the same study at the same time.
//! let study = Study::builder()
//!     .name("parabola")
//!     .shared_storage(kiln_tune_rdb::open(&url)?)
//!     .load_if_exists(true)
//!     .create()?;
//! study.optimize(|trial: &mut Trial| trial.suggest_float("x", -1.0, 1.0).map(|x| x * x), 5)?;
//! assert_eq!(study.trials()?.len(), 5);
//! # drop(study);
//! # std::fs::remove_dir_all(&directory).unwrap();
//! # }
//! # Ok::<(), kiln_tune::Error>(())
//! ```
//!
//! The features `sqlite` (default), `postgres` and `mysql` bring the drivers, `tls` encrypts connections to servers.

#[cfg_attr(
    not(all(feature = "sqlite", feature = "postgres", feature = "mysql")),
    allow(dead_code)
)]
mod connection;
#[cfg(feature = "mysql")]
mod mysql;
mod options;
mod pool;
#[cfg(feature = "postgres")]
mod postgres;
mod read;
mod schema;
#[cfg(feature = "sqlite")]
mod sqlite;
mod storage;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod tls;
mod url;
mod write;

pub use options::RdbOptions;
#[cfg(feature = "sqlite")]
pub use options::write_ahead_log;
pub use storage::RdbStorage;
pub use url::{STORAGE_URLS, open, open_existing};

/// The examples of the README, compiled.
#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../README.md")]
struct Readme;
