//! Compares Kiln with reference files and fails on a difference beyond the tolerance.
//!
//! ```text
//! cargo run --release -p agreement -- crates/kiln-norm/tests/golden crates/kiln-tune/tests/golden/gp.json --device flex
//! ```

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agreement::{Input, Outcome, Problem, compare};
use burn::tensor::Device;
use clap::Parser;

/// Compares Kiln with numbers that PyTorch, torchvision, scikit-learn and Optuna computed.
///
/// Prints the worst error over its tolerance of every case and ends with status 1 if one exceeds 1. Cases that a file calls
/// exotic are reported only. What a file holds is told by its layout.
#[derive(Parser)]
#[command(name = "agreement", max_term_width = 100)]
struct Args {
    /// Reference files (JSON), or folders in which all of them are compared
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Where to compute, as `kiln devices` lists
    #[arg(long, default_value = "flex", value_name = "D")]
    device: String,
}

/// How many cases there were.
#[derive(Default)]
struct Totals {
    agree: usize,
    differ: usize,
    exotic: usize,
    skipped: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let device = match kiln::device::select(&args.device) {
        Ok(selected) => selected,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    println!("device: {}", device.reason);
    // Where the peer raises an error a layer may panic; a case that fails so is reported with the message.
    std::panic::set_hook(Box::new(|_| {}));
    let mut totals = Totals::default();
    for path in &args.paths {
        let named = !path.is_dir();
        let files = match files(path) {
            Ok(files) => files,
            Err(error) => {
                eprintln!("error: cannot read {}: {error}", path.display());
                return ExitCode::from(2);
            }
        };
        if files.is_empty() {
            eprintln!("error: {} has no .json file", path.display());
            return ExitCode::from(2);
        }
        for file in files {
            if let Err(problem) = one(&file, named, &device.device, &mut totals) {
                println!("\n{}\n  FAILED   {problem}", file.display());
                totals.differ += 1;
            }
        }
    }
    let Totals {
        agree,
        differ,
        exotic,
        skipped,
    } = totals;
    println!("\n{agree} agree, {differ} differ, {exotic} exotic ones differ, {skipped} skipped");
    if differ == 0 && agree > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Compares a file and prints its cases. A file of another layout is an error only if it was named.
fn one(path: &Path, named: bool, device: &Device, totals: &mut Totals) -> Result<(), String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let json = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let input = Input {
        path,
        json: &json,
        device,
    };
    let Some((layout, report)) = compare(&input) else {
        if named {
            let known = agreement::tune::LAYOUTS.iter().map(|layout| layout.0);
            let known = known.chain(agreement::LAYOUTS.iter().map(|layout| layout.0));
            let known: Vec<&str> = known.collect();
            return Err(format!("its layout is none of: {}", known.join(", ")));
        }
        println!("\n{}\n  skipped  an unknown layout", path.display());
        totals.skipped += 1;
        return Ok(());
    };
    println!("\n{} ({layout})", path.display());
    let report = report.map_err(Problem::into_message)?;
    if report.cases.is_empty() {
        return Err("the file has no cases".into());
    }
    for case in &report.cases {
        println!("  {case}");
        let counter = match (&case.outcome, case.differs()) {
            (Outcome::Skipped(_), _) => &mut totals.skipped,
            (_, false) => &mut totals.agree,
            (_, true) if case.exotic => &mut totals.exotic,
            (_, true) => &mut totals.differ,
        };
        *counter += 1;
    }
    Ok(())
}

/// The file itself, or the JSON files below a folder in the order of their names.
fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let entries = std::fs::read_dir(path)?.collect::<std::io::Result<Vec<_>>>()?;
    let mut entries: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    entries.sort();
    let mut found = Vec::new();
    for entry in entries {
        if entry.is_dir() {
            found.extend(files(&entry)?);
        } else if entry.extension().is_some_and(|ending| ending == "json") {
            found.push(entry);
        }
    }
    Ok(found)
}
