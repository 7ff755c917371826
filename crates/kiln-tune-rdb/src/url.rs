use std::sync::Arc;

use crate::RdbOptions;
use kiln_tune::Storage;
use kiln_tune::error::{Error, Result};
use kiln_tune::storage::JournalStorage;

/// The forms of a storage's URL that this build knows, for help texts.
pub const STORAGE_URLS: &str = match (cfg!(feature = "postgres"), cfg!(feature = "mysql")) {
    (true, true) => "sqlite:///PATH, postgresql://..., mysql://... or journal:PATH",
    (true, false) => "sqlite:///PATH, postgresql://... or journal:PATH (built without mysql)",
    (false, true) => "sqlite:///PATH, mysql://... or journal:PATH (built without postgres)",
    (false, false) => "sqlite:///PATH or journal:PATH (built without postgres and mysql)",
};

/// Opens the storage that a URL names, and makes it when it is missing.
///
/// `sqlite:///PATH`, `postgresql://USER:PASSWORD@HOST/DATABASE`, `mysql://USER:PASSWORD@HOST/DATABASE` as in
/// [`RdbStorage::open`](crate::RdbStorage::open), and `journal:PATH` or `journal:///PATH` for a
/// [`JournalStorage`].
///
/// ```
/// # #[cfg(feature = "sqlite")] {
/// use kiln_tune::Study;
///
/// let storage = kiln_tune_rdb::open("sqlite:///:memory:")?;
/// let study = Study::builder().name("first").shared_storage(storage).create()?;
/// # }
/// # Ok::<(), kiln_tune::Error>(())
/// ```
///
/// # Errors
/// [`Error::InvalidArgument`] for a URL that cannot be read or whose feature is off, [`Error::Storage`] when the storage
/// cannot be opened, is damaged or belongs to another program.
pub fn open(url: &str) -> Result<Arc<dyn Storage>> {
    open_with(url, true)
}

/// Opens the storage that a URL names, which must exist already; otherwise as [`open`].
///
/// # Errors
/// As [`open`], and [`Error::Storage`] when there is no such file, database or study table.
pub fn open_existing(url: &str) -> Result<Arc<dyn Storage>> {
    open_with(url, false)
}

fn open_with(url: &str, create: bool) -> Result<Arc<dyn Storage>> {
    if let Some(path) = journal_path(url)? {
        return Ok(Arc::new(if create {
            JournalStorage::open(path)?
        } else {
            JournalStorage::open_existing(path)?
        }));
    }
    Ok(Arc::new(RdbOptions::new().create(create).open(url)?))
}

/// The path of `journal:PATH`, `journal:///RELATIVE` or `journal:////ABSOLUTE`, as SQLite's URLs are read.
fn journal_path(url: &str) -> Result<Option<&str>> {
    let Some(rest) = url.strip_prefix("journal:") else {
        return Ok(None);
    };
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.strip_prefix('/').ok_or_else(|| {
            Error::invalid(format!(
                "{url:?} has a host where none can be; write journal:{rest} for a file of that name"
            ))
        })?,
        None => rest,
    };
    if path.is_empty() {
        return Err(Error::invalid("a journal needs a path; write journal:PATH"));
    }
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journal_urls_name_a_file() {
        for (url, path) in [
            ("journal:study.log", Some("study.log")),
            ("journal:/tmp/study.log", Some("/tmp/study.log")),
            ("journal:///study.log", Some("study.log")),
            ("journal:////tmp/study.log", Some("/tmp/study.log")),
            ("sqlite:///study.db", None),
        ] {
            assert_eq!(journal_path(url).unwrap(), path, "{url}");
        }
        assert!(journal_path("journal:").is_err());
        assert!(
            journal_path("journal://study.log")
                .unwrap_err()
                .to_string()
                .contains("journal:study.log")
        );
    }
}
