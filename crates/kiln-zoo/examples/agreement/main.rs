//! Compares Kiln's networks and weight files with reference values of PyTorch and fails on a difference beyond the tolerance.
//!
//! ```text
//! cargo run --release -p kiln-zoo --example agreement -- PATH... [--device D]
//! ```
//!
//! A PATH is a JSON file of a reference layout, or a folder of such files. Each file is recognized by its layout, not by its
//! name; `--device` takes what `kiln devices` lists.

mod check;
mod loader;
mod zoo;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use burn::tensor::Device;
use serde_json::Value;

use check::{Check, Result, numbers, shape, worst};

/// A layout: what it is called, how a file of it is recognized, and what compares it.
type Layout = (
    &'static str,
    fn(&Value) -> bool,
    fn(&Path, &Value, &Device) -> Result<Vec<Check>>,
);

/// One layout per line: several people add to this list.
#[rustfmt::skip]
const LAYOUTS: &[Layout] = &[
    ("weight files", |file| file["files"][0]["file"].is_string(), loader::compare),
    ("training steps of a model", |file| file["model"].is_string() && file["mode"] == "train", zoo::train),
    ("a model's output", |file| file["model"].is_string() && file["stages"].is_array(), zoo::evaluate),
    ("names and shapes", |file| first(file)[0].is_string(), zoo::state_dicts),
    ("parameter counts", |file| first(file)["state_dict_entries"].is_u64(), zoo::parameter_counts),
    ("multiply-adds", |file| first(file)["macs_by_kind"].is_object(), zoo::macs),
];

/// What the first of several models has.
fn first(file: &Value) -> &Value {
    let entries = file.as_object().and_then(|models| models.values().next());
    entries.unwrap_or(&Value::Null)
}

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

fn run() -> Result<bool> {
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
            path => paths.extend(json_files(path.as_ref())?),
        }
    }
    if paths.is_empty() {
        return Err("name JSON files of reference values, or folders of them".into());
    }
    let device = kiln::device::select(&device)?;
    println!("device: {}", device.reason);

    let (mut files, mut wrong) = (0, 0);
    for path in &paths {
        let text = std::fs::read(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let file: Value = serde_json::from_slice(&text)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let Some((layout, _, compare)) =
            LAYOUTS.iter().find(|(_, recognizes, _)| recognizes(&file))
        else {
            return Err(format!(
                "{} has none of the layouts that this example knows",
                path.display()
            )
            .into());
        };
        println!("\n{} ({layout})", path.display());
        let checks = compare(path, &file, &device.device)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        if checks.is_empty() {
            return Err(format!("{} has nothing to compare", path.display()).into());
        }
        for check in &checks {
            let verdict = if check.agrees() { "ok" } else { "DIFFERS" };
            println!(
                "  {verdict:8}{:10.4} of the tolerance  {}",
                check.ratio, check.what
            );
            for line in check.detail.iter().filter(|_| !check.agrees()) {
                println!("            {line}");
            }
        }
        files += 1;
        wrong += usize::from(!checks.iter().all(Check::agrees));
    }
    println!("\n{files} files compared, {wrong} differ");
    Ok(wrong == 0)
}

/// The file itself, or the JSON files below a folder in the order of their names.
fn json_files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let entries = std::fs::read_dir(path)?.collect::<std::io::Result<Vec<_>>>()?;
    let mut entries: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        if entry.is_dir() {
            files.extend(json_files(&entry)?);
        } else if entry
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            files.push(entry);
        }
    }
    Ok(files)
}
