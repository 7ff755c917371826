//! The rules that every storage keeps, run over memory and journal; kiln-tune-rdb runs them over databases.

#[macro_use]
mod suite;

use std::sync::Arc;

use kiln_tune::InMemoryStorage;
use kiln_tune::storage::JournalStorage;
use suite::Place;

fn in_memory() -> Place {
    Place::private(Arc::new(InMemoryStorage::new()))
}

fn journal() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.log");
    let first = Arc::new(JournalStorage::open(&path).unwrap());
    let reopen = move || -> Arc<dyn kiln_tune::Storage> {
        Arc::new(JournalStorage::open_existing(&path).unwrap())
    };
    Place::shared_with_others(first, reopen, Some(directory))
}

contract!(in_memory, crate::in_memory());
contract!(journal, crate::journal());
