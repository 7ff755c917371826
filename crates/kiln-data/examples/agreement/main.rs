//! Compares Kiln's scalers with scikit-learn's on reference files.
//!
//! ```text
//! cargo run --release -p kiln-data --example agreement -- scaling.json [MORE.json ...]
//! ```
//!
//! Prints, for every case, the worst error over its tolerance, and fails when one exceeds 1. The files are laid
//! out as `tests/golden/scaling.json`, which `tests/golden/gen_scaling.py` writes. f32 cases run on host matrices
//! and on tensors.
//!
//! An error is absolute, its tolerance relative to the largest value of its column: 1e-9 in f64 and 1e-5 in f32.
//! In a column whose mean is over a million times its deviation, where one rounding of the mean is as large,
//! 1e-6 is allowed in f64.

mod case;

use std::process::ExitCode;

fn main() -> ExitCode {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() {
        eprintln!("usage: agreement FILE.json ...");
        return ExitCode::from(2);
    }
    let (mut cases, mut failed) = (0, 0);
    for path in &paths {
        println!("{path}");
        match case::read(path) {
            Err(problem) => {
                println!("  FAILED  {problem}");
                failed += 1;
            }
            Ok(list) => {
                for value in &list {
                    let (line, passed) = case::run(value);
                    println!("  {line}");
                    cases += 1;
                    failed += usize::from(!passed);
                }
            }
        }
    }
    println!("{cases} cases, {failed} failed");
    match failed == 0 && cases > 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
