//! A short round of fuzzing with a fixed seed; `examples/fuzz_storage.rs` runs long ones.
#![cfg(feature = "sqlite")]

mod targets;

use kiln_fuzz::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn round(target: &str, cases: u64) {
    let report = targets::fuzz(target, 1, cases, None);
    report.assert_clean();
    // If all were refused at once, nothing behind would be tried.
    assert!(report.accepted > cases / 50, "{report}");
    println!("{report}");
}

#[test]
fn damaged_journals_are_read_or_refused() {
    round("journal", 1000);
}

#[test]
fn damaged_rows_of_a_database_are_read_or_refused() {
    round("rows", 120);
}

#[test]
fn damaged_pages_of_a_database_are_read_or_refused() {
    round("pages", 80);
}

#[test]
fn damaged_distributions_are_read_or_refused() {
    round("distributions", 10_000);
}
