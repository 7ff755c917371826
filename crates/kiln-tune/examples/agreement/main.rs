//! Replays golden files of Optuna and fails on a difference beyond the tolerance of their layout.
//!
//! ```text
//! cargo run --release -p kiln-tune --example agreement -- crates/kiln-tune/tests/golden/*.json
//! ```
//!
//! Each file is recognized by its layout, not by its name.

mod cmaes;
mod gp;
mod grid;
mod importance;
mod multi_objective;
mod parzen;
mod pruners;
mod qmc;
mod replay;
mod space;
mod tpe;

use std::process::ExitCode;

use replay::Replay;
use serde_json::Value;

/// A layout: what it is called, how a file of it is recognized, and what replays it.
type Layout = (&'static str, fn(&Value) -> bool, fn(&Value) -> Replay);

/// One layout per line: several people add to this list.
const LAYOUTS: &[Layout] = &[
    (
        "pruners",
        |file| has(&file["cases"][0], "events"),
        pruners::replay,
    ),
    (
        "wilcoxon_pvalues",
        |file| has(&file[0], "diff"),
        pruners::replay_wilcoxon,
    ),
    (
        "hyperband_crc",
        |file| has(&file[0], "crc32"),
        pruners::replay_crc,
    ),
    (
        "parzen",
        |file| has(&file["cases"][0], "observations_internal"),
        parzen::replay,
    ),
    ("grid", |file| has(file, "orders"), grid::replay),
    (
        "truncnorm",
        |file| has(file, "ndtri_exp"),
        parzen::replay_truncnorm,
    ),
    (
        "tpe_acquisition",
        |file| has(&file[0], "log_l"),
        tpe::replay,
    ),
    (
        "transform",
        |file| has(file, "adjusted") || has(&file["cases"][0], "untransformed"),
        space::replay_transform,
    ),
    (
        "search_space",
        |file| has(&file[0], "intersection"),
        space::replay_search_space,
    ),
    (
        "random_sampler",
        |file| has(file, "mt19937_random_sample"),
        space::replay_random,
    ),
    (
        "multi_objective",
        |file| has(file, "sets"),
        multi_objective::replay,
    ),
    (
        "qmc",
        |file| has(file, "sobol") || has(file, "halton"),
        qmc::replay,
    ),
    ("cmaes", |file| has(file, "runs"), cmaes::replay),
    ("gp", |file| has(&file[0], "X_normalized"), gp::replay),
    (
        "gp_running",
        |file| has(file, "running_cases"),
        gp::replay_running,
    ),
    (
        "importance",
        |file| has(&file[0], "ped_anova"),
        importance::replay,
    ),
    (
        "fanova_tree",
        |file| has(&file[0], "marginal_variance"),
        importance::replay_trees,
    ),
];

fn has(value: &Value, key: &str) -> bool {
    value.get(key).is_some()
}

fn main() -> ExitCode {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() {
        eprintln!("usage: agreement FILE.json...");
        return ExitCode::from(2);
    }
    let mut failed = 0;
    for path in &paths {
        if let Err(message) = check(path) {
            failed += 1;
            println!("FAIL {path}: {message}");
        }
    }
    println!("{} of {} files agree", paths.len() - failed, paths.len());
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn check(path: &str) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let file: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let (layout, _, replay) = LAYOUTS
        .iter()
        .find(|(_, matches, _)| matches(&file))
        .ok_or_else(|| {
            let known: Vec<_> = LAYOUTS.iter().map(|(name, _, _)| *name).collect();
            format!("its layout is none of {}", known.join(", "))
        })?;
    // A file of a known layout with a missing or strange field must not stop the files after it.
    let replay = std::panic::catch_unwind(|| replay(&file))
        .map_err(|_| format!("not a complete {layout} file"))?;
    if replay.checks == 0 {
        return Err(format!(
            "a {layout} file without a single number to compare"
        ));
    }
    if replay.worst > 1.0 {
        return Err(format!(
            "{layout}: {} times the tolerance at {}",
            replay.worst, replay.place
        ));
    }
    println!(
        "ok   {path}: {layout}, {} comparisons, worst {:.2e} of the tolerance",
        replay.checks, replay.worst
    );
    Ok(())
}
