//! Compares Kiln's gradient clipping with PyTorch's on reference files and fails on a difference beyond the tolerance.
//!
//! ```text
//! cargo run --release -p kiln-clip --example agreement -- PATH... [--device D]
//! ```
//!
//! Prints, for every case, the worst error over its tolerance, and fails when one exceeds 1. The files are laid out as
//! `tests/golden/clipping.json`, which `tests/golden/gen_clipping.py` writes; a PATH may be a folder of them. `--device` takes
//! what `kiln devices` lists; the default is `flex`.
//!
//! Allowed are: a total norm, relative 2e-6 (1e-5 for orders other than 1, 2 and inf); clipped gradients, relative
//! 1e-5 plus 1e-12. `clip_grad_value_`, and gradients that are multiplied by 1, must be exact.

mod case;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, Box<dyn std::error::Error>> {
    let (mut paths, mut device) = (Vec::new(), String::from("flex"));
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--device" => {
                device = args
                    .next()
                    .ok_or("--device needs a name, such as flex or wgpu")?
            }
            flag if flag.starts_with('-') => {
                return Err(format!("unknown flag {flag}; usage: PATH... [--device D]").into());
            }
            path => paths.extend(files(path.into())?),
        }
    }
    if paths.is_empty() {
        return Err("usage: agreement PATH... [--device D]".into());
    }
    let device = kiln::device::select(&device)?;
    println!("device: {}", device.reason);
    let (mut cases, mut failed) = (0, 0);
    for path in &paths {
        println!("{}", path.display());
        match case::read(path) {
            Err(problem) => {
                println!("  FAILED  {problem}");
                failed += 1;
            }
            Ok(list) => {
                for value in &list {
                    let (line, passed) = case::run(value, &device.device);
                    println!("  {line}");
                    cases += 1;
                    failed += usize::from(!passed);
                }
            }
        }
    }
    println!("{cases} cases, {failed} failed");
    Ok(failed == 0 && cases > 0)
}

/// The file itself, or the JSON files of a folder in the order of their names.
fn files(path: PathBuf) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path]);
    }
    let entries = std::fs::read_dir(path)?.collect::<std::io::Result<Vec<_>>>()?;
    let paths = entries.into_iter().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    files.sort();
    Ok(files)
}
