//! Compares Kiln with numbers that the peers computed.
//!
//! A reference file is JSON; what it holds is told by its layout, not by its name. The layouts are those of the golden files
//! beside the crates' tests, where the scripts that write them are: normalization layers, gradient clipping, feature
//! scaling, networks, weight files and optimizers, made by PyTorch, torchvision and scikit-learn, and what Optuna decides,
//! draws and computes. Every case gives its worst error over its tolerance; more than 1 is a disagreement.
//!
//! The crate's tests run these comparisons on every backend; the program runs them on files of your own.

// Without Burn only the numbers of it are read.
#[cfg_attr(not(feature = "training"), allow(dead_code))]
mod json;
mod report;
pub mod tune;

#[cfg(feature = "training")]
mod clipping;
#[cfg(feature = "training")]
mod formula;
#[cfg(feature = "training")]
mod loader;
#[cfg(feature = "training")]
mod norms;
#[cfg(feature = "training")]
mod optimizers;
#[cfg(feature = "training")]
mod scaling;
#[cfg(feature = "training")]
mod zoo;

use serde_json::Value;

pub use report::{Case, Checks, Outcome, Problem, Report, Result};

#[cfg(feature = "training")]
pub use training::{Input, LAYOUTS, Layout, compare};

#[cfg(feature = "training")]
mod training {
    use std::path::Path;

    use burn::tensor::Device;

    use super::*;

    /// A reference file, and where to compute.
    pub struct Input<'a> {
        /// Where the file is: weight files are named relative to it.
        pub path: &'a Path,
        /// What is in it.
        pub json: &'a Value,
        /// Where Kiln's side is computed.
        pub device: &'a Device,
    }

    /// A kind of file: what it is called, how it is recognized, and what compares it.
    pub type Layout = (
        &'static str,
        fn(&Value) -> bool,
        fn(&Input<'_>, &mut Report) -> Result<()>,
    );

    /// The layouts beside those of [`tune::LAYOUTS`].
    #[rustfmt::skip]
    pub const LAYOUTS: &[Layout] = &[
        ("normalization layers", |file| has(&file["cases"][0], "layer"), norms::compare),
        ("gradient clipping", |file| has(&file["cases"][0], "fn"), clipping::compare),
        ("feature scaling", |file| has(&file["cases"][0], "scaler"), scaling::compare),
        ("optimizers", |file| has(&file["cases"][0], "optimizer"), optimizers::compare),
        ("the weight formula", |file| has(&file["cases"][0], "hash_hex"), formula::compare),
        ("weight files", |file| file["files"][0]["file"].is_string(), loader::compare),
        ("training steps of a model", |file| file["model"].is_string() && file["mode"] == "train", zoo::train),
        ("a model's output", |file| file["model"].is_string() && file["stages"].is_array(), zoo::evaluate),
        ("parameter counts", |file| first(file)["state_dict_entries"].is_u64(), zoo::parameter_counts),
        ("multiply-adds", |file| first(file)["macs_by_kind"].is_object(), zoo::macs),
        ("names and shapes", |file| first(file)[0].as_str().is_some_and(|entry| entry.contains(' ')), zoo::state_dicts),
    ];

    /// What the first of several models has.
    fn first(file: &Value) -> &Value {
        let entries = file.as_object().and_then(|models| models.values().next());
        entries.unwrap_or(&Value::Null)
    }

    /// Compares a file, whatever its layout; with the layout's name. `None` if no layout fits.
    pub fn compare(input: &Input<'_>) -> Option<(&'static str, Result<Report>)> {
        if let Some((name, report)) = tune::compare(input.json) {
            return Some((name, Ok(report)));
        }
        let (name, _, compare) = LAYOUTS.iter().find(|(_, fits, _)| fits(input.json))?;
        let mut report = Report::default();
        let result = compare(input, &mut report).map(|()| report);
        Some((name, result))
    }
}

fn has(value: &Value, key: &str) -> bool {
    value.get(key).is_some()
}
