//! Fuzzes what reads storages, for as long as you like.
//!
//! `cargo run --release -p kiln-tune-rdb --example fuzz_storage -- journal 1000000` (or `rows`, `pages`, `distributions`) makes
//! that many damaged inputs and prints
//!
//! ```text
//! journal: 1000000 cases of seed 1, 290231 read, 709769 refused, 0 faults; slowest 0.021 s, at most 0.4 MiB; 1312 s in all
//! ```
//!
//! with every fault and its input. A third argument is another seed, a fourth the number of the one case to repeat.

#[path = "../tests/fuzz_storage/targets.rs"]
mod targets;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: kiln_fuzz::CountingAllocator = kiln_fuzz::CountingAllocator;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).map(|text| text.parse::<u64>());
    let (target, cases, seed, only) = match (arguments.first(), number(1), number(2), number(3)) {
        (Some(target), Some(Ok(cases)), seed, only)
            if targets::TARGETS.contains(&target.as_str()) =>
        {
            (
                target,
                cases,
                seed.and_then(Result::ok).unwrap_or(1),
                only.and_then(Result::ok),
            )
        }
        _ => {
            eprintln!(
                "usage: fuzz_storage {} CASES [SEED [CASE]]",
                targets::TARGETS.join("|")
            );
            return ExitCode::from(2);
        }
    };
    let report = targets::fuzz(target, seed, cases, only);
    println!("{report}");
    if report.n_faults == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
