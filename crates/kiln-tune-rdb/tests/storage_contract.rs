//! The rules that every storage keeps, kiln-tune's `tests/storage_contract/suite`, run over databases, and over a journal that
//! is opened by its URL.
//!
//! The servers take part when their URL is given, which `interop/run.sh` does:
//! `KILN_TUNE_POSTGRES_URL=postgresql://... cargo test -p kiln-tune-rdb --features postgres -- --ignored`, and `KILN_TUNE_MYSQL_URL`.

#[macro_use]
#[path = "../../kiln-tune/tests/storage_contract/suite/mod.rs"]
mod suite;

use suite::Place;

fn url(url: String, directory: Option<tempfile::TempDir>) -> Place {
    let first = kiln_tune_rdb::open(&url).unwrap();
    let reopen = move || kiln_tune_rdb::open_existing(&url).unwrap();
    Place::shared_with_others(first, reopen, directory)
}

fn journal() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.log");
    url(format!("journal:{}", path.display()), Some(directory))
}

contract!(journal, crate::journal());

#[cfg(feature = "sqlite")]
fn sqlite() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("study.db");
    url(format!("sqlite:///{}", path.display()), Some(directory))
}

#[cfg(feature = "sqlite")]
contract!(sqlite, crate::sqlite());

/// A file in the mode which Optuna's files have.
#[cfg(feature = "sqlite")]
fn sqlite_rollback_journal() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let path = format!("sqlite:///{}", directory.path().join("study.db").display());
    let options = kiln_tune_rdb::RdbOptions::new().wal(false);
    options.open(&path).unwrap();
    url(path, Some(directory))
}

#[cfg(feature = "sqlite")]
contract!(sqlite_rollback_journal, crate::sqlite_rollback_journal());

#[cfg(feature = "sqlite")]
contract!(
    sqlite_in_memory,
    crate::Place::private(kiln_tune_rdb::open("sqlite:///:memory:").unwrap())
);

#[cfg(any(feature = "postgres", feature = "mysql"))]
fn server(variable: &str) -> Place {
    let of_server = std::env::var(variable)
        .unwrap_or_else(|_| panic!("set {variable} to the URL of an empty database"));
    url(of_server, None)
}

#[cfg(feature = "postgres")]
contract!(
    #[ignore = "needs a server"]
    postgres,
    crate::server("KILN_TUNE_POSTGRES_URL")
);

#[cfg(feature = "mysql")]
contract!(
    #[ignore = "needs a server"]
    mysql,
    crate::server("KILN_TUNE_MYSQL_URL")
);
