//! What Optuna decides, draws and computes. The functions panic where a file lacks something; [`Report::case`] reports it.

mod cmaes;
mod gp;
mod grid;
mod importance;
mod multi_objective;
mod parzen;
mod pruners;
mod qmc;
mod space;
mod tpe;

use serde_json::Value;

use crate::{Report, has};

/// A kind of file: what it is called, how it is recognized, and what compares it.
pub type Layout = (&'static str, fn(&Value) -> bool, fn(&Value, &mut Report));

/// The layouts of kiln-tune's golden files.
#[rustfmt::skip]
pub const LAYOUTS: &[Layout] = &[
    ("pruners", |file| has(&file["cases"][0], "events"), pruners::replay),
    ("p-values of the Wilcoxon test", |file| has(&file[0], "diff"), pruners::replay_wilcoxon),
    ("Hyperband's check sums", |file| has(&file[0], "crc32"), pruners::replay_crc),
    ("Parzen estimators", |file| has(&file["cases"][0], "observations_internal"), parzen::replay),
    ("grid", |file| has(file, "orders"), grid::replay),
    ("truncated normals", |file| has(file, "ndtri_exp"), parzen::replay_truncnorm),
    ("TPE's acquisition", |file| has(&file[0], "log_l"), tpe::replay),
    ("box transform", |file| has(file, "adjusted") || has(&file["cases"][0], "untransformed"), space::replay_transform),
    ("search spaces", |file| has(&file[0], "intersection"), space::replay_search_space),
    ("random sampler", |file| has(file, "mt19937_random_sample"), space::replay_random),
    ("several objectives", |file| has(file, "sets"), multi_objective::replay),
    ("quasi-random points", |file| has(file, "sobol") || has(file, "halton"), qmc::replay),
    ("CMA-ES", |file| has(file, "runs"), cmaes::replay),
    ("Gaussian process", |file| has(&file[0], "X_normalized"), gp::replay),
    ("Gaussian process beside running trials", |file| has(file, "running_cases"), gp::replay_running),
    ("importances", |file| has(&file[0], "ped_anova"), importance::replay),
    ("fANOVA's trees", |file| has(&file[0], "marginal_variance"), importance::replay_trees),
];

/// Compares a file of one of these layouts, with the layout's name; `None` if it has another.
pub fn compare(file: &Value) -> Option<(&'static str, Report)> {
    let (name, _, replay) = LAYOUTS.iter().find(|(_, fits, _)| fits(file))?;
    let mut report = Report::default();
    replay(file, &mut report);
    Some((name, report))
}

/// Reads a number, or the word for one that JSON lacks.
fn number(value: &Value) -> f64 {
    crate::json::number(value).unwrap_or_else(|problem| panic!("{}", problem.into_message()))
}

fn numbers(value: &Value) -> Vec<f64> {
    array(value).iter().map(number).collect()
}

fn matrix(value: &Value) -> Vec<Vec<f64>> {
    array(value).iter().map(numbers).collect()
}

fn indices(value: &Value) -> Vec<usize> {
    numbers(value).into_iter().map(|v| v as usize).collect()
}

fn array(value: &Value) -> &Vec<Value> {
    value
        .as_array()
        .unwrap_or_else(|| panic!("{value} is not a list"))
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is not a text"))
}

/// Reads a search space, in the order of the file.
fn space(value: &Value) -> kiln_tune::ParamSpace {
    let object = value.as_object().expect("a search space is an object");
    object
        .iter()
        .map(|(name, d)| (name.as_str(), distribution(d)))
        .collect()
}

/// Reads a distribution, whose bounds may be the strings of non-finite numbers.
fn distribution(value: &Value) -> kiln_tune::Distribution {
    kiln_tune::Distribution::from_json(&json(value)).expect("a distribution")
}

/// Reads a parameter value as the user sees it.
fn external(value: &Value) -> kiln_tune::ParamValue {
    kiln_tune::ParamValue::from_json(&json(value)).expect("a parameter value is a scalar")
}

fn json(value: &Value) -> kiln_tune::Json {
    kiln_tune::Json::parse(&value.to_string()).expect("serde_json writes JSON")
}
