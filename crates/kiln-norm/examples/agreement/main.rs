//! Compares Kiln's normalization layers with PyTorch's on reference files.
//!
//! ```text
//! cargo run --release -p kiln-norm --example agreement -- PATH... [--device D]
//! ```
//!
//! A path is a file laid out as those in `tests/golden`, which `tests/golden/gen_norms.py` writes, or a folder of such
//! files. Prints, for every case, the worst error over its tolerance of each quantity (output, gradients, running
//! statistics), and fails when one exceeds 1. `--device` takes what `kiln devices` lists, by default `flex`.

mod case;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use burn::tensor::Device;

fn main() -> ExitCode {
    let (mut paths, mut device) = (Vec::new(), String::from("flex"));
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match (arg.as_str(), arg.strip_prefix("--device=")) {
            ("--device", _) => match args.next() {
                Some(name) => device = name,
                None => return usage(),
            },
            (_, Some(name)) => device = name.into(),
            (flag, _) if flag.starts_with('-') => return usage(),
            _ => paths.push(PathBuf::from(arg)),
        }
    }
    if paths.is_empty() {
        return usage();
    }
    let device = match kiln::device::select(&device) {
        Ok(chosen) => chosen.device,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    // Where PyTorch raises an error the layer panics; that is not news.
    std::panic::set_hook(Box::new(|_| {}));
    let (mut cases, mut failed) = (0, 0);
    for path in paths {
        match files(&path) {
            Err(problem) => {
                println!("{}\n  FAILED  {problem}", path.display());
                failed += 1;
            }
            Ok(files) => {
                for file in files {
                    let (ran, bad) = compare(&file, &device);
                    cases += ran;
                    failed += bad;
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

fn usage() -> ExitCode {
    eprintln!("usage: agreement PATH... [--device D]");
    ExitCode::from(2)
}

/// How many cases of a file ran, and how many failed.
fn compare(path: &Path, device: &Device) -> (usize, usize) {
    println!("{}", path.display());
    match case::read(path) {
        Err(problem) => {
            println!("  FAILED  {problem}");
            (0, 1)
        }
        Ok(list) => {
            let run = |value| {
                let run = || case::run(value, device);
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
                    .unwrap_or_else(|_| (format!("FAILED  {} panicked", value["id"]), false))
            };
            let results = list.iter().map(run);
            let failed = results.filter(|(line, passed)| {
                println!("  {line}");
                !passed
            });
            (list.len(), failed.count())
        }
    }
}

/// The file itself, or the JSON files of a folder by name.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    let text = |error: std::io::Error| error.to_string();
    if !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let entries = std::fs::read_dir(path).map_err(text)?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(text)?.path();
        if file.extension().is_some_and(|e| e == "json") {
            files.push(file);
        }
    }
    files.sort();
    match files.is_empty() {
        true => Err("the folder has no .json file".into()),
        false => Ok(files),
    }
}
