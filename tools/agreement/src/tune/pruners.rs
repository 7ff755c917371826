//! Replays `pruners.json`, `wilcoxon_pvalues.json` and `hyperband_crc.json`.

use kiln_tune::pruner::{
    Alternative, HyperbandPruner, MedianPruner, NopPruner, PatientPruner, PercentilePruner, Pruner,
    SuccessiveHalvingPruner, ThresholdPruner, WilcoxonPruner, crc32, wilcoxon_p_value,
};
use kiln_tune::{Json, Outcome, RandomSampler, Study, StudyDirection, Trial};
use serde_json::Value;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{array, number, text};
use crate::{Checks, Report};

/// Replays every decision of every study.
pub fn replay(file: &Value, report: &mut Report) {
    for case in array(&file["cases"]) {
        report.case(text(&case["study_name"]), case, |checks| {
            replay_case(checks, case);
            Ok(())
        });
    }
}

/// Replays the p-values of the signed-rank test.
pub fn replay_wilcoxon(file: &Value, report: &mut Report) {
    for (i, case) in array(file).iter().enumerate() {
        report.case(format_args!("p-value {i}"), case, |checks| {
            let differences: Vec<f64> = array(&case["diff"]).iter().map(number).collect();
            let alternative = match text(&case["alternative"]) {
                "greater" => Alternative::Greater,
                "less" => Alternative::Less,
                other => panic!("{other:?} is not a one-sided alternative"),
            };
            let p = wilcoxon_p_value(&differences, alternative);
            checks.close("p", p, number(&case["p"]), 1e-12);
            Ok(())
        });
    }
}

/// Replays the checksums which choose Hyperband's brackets.
pub fn replay_crc(file: &Value, report: &mut Report) {
    for case in array(file) {
        let name = text(&case["study_name"]);
        report.case(name, case, |checks| {
            for (i, expected) in array(&case["crc32"]).iter().enumerate() {
                let crc = crc32(format!("{name}_{i}").as_bytes());
                checks.exact(
                    format!("{name} {i}"),
                    &Some(u64::from(crc)),
                    &expected.as_u64(),
                );
            }
            Ok(())
        });
    }
}

fn replay_case(checks: &mut Checks, case: &Value) {
    let name = text(&case["study_name"]);
    let direction: StudyDirection = text(&case["direction"]).parse().expect("a direction");
    let hyperband =
        (case["pruner"] == "HyperbandPruner").then(|| Arc::new(hyperband(&case["args"])));
    let pruner: Box<dyn Pruner> = match &hyperband {
        Some(hyperband) => Box::new(hyperband.clone()),
        None => pruner(text(&case["pruner"]), &case["args"]),
    };
    let study = Study::builder()
        .name(name)
        .direction(direction)
        .sampler(RandomSampler::new(0))
        .pruner(pruner)
        .create()
        .expect("the golden settings are valid");
    let mut running: BTreeMap<u64, Trial> = BTreeMap::new();
    for (i, event) in array(&case["events"]).iter().enumerate() {
        let number_of = |at: usize| event[at].as_u64().expect("a trial number");
        let trial = number_of(1);
        match text(&event[0]) {
            "start" => {
                let started = study.ask().expect("a trial");
                checks.exact(format!("{name} event {i}"), &started.number(), &trial);
                running.insert(trial, started);
            }
            "report" => {
                let step = event[2].as_i64().expect("a step");
                let trial = running.get_mut(&trial).expect("a running trial");
                trial.report(number(&event[3]), step).expect("a report");
            }
            "should_prune" => {
                let decision = running[&trial].should_prune().expect("a decision");
                let place = format!("{name} event {i}, trial {trial}");
                checks.exact(&place, &Some(decision), &event[2].as_bool());
            }
            "tell" => {
                let outcome = match text(&event[2]) {
                    "COMPLETE" => Outcome::from(number(&event[3])),
                    "PRUNED" => Outcome::Pruned,
                    "FAIL" => Outcome::Fail,
                    other => panic!("{other:?} is not a final state"),
                };
                let trial = running.remove(&trial).expect("a running trial");
                study
                    .tell(trial, outcome)
                    .expect("a trial that can be told");
            }
            other => panic!("{other:?} is not an event"),
        }
    }
    replay_final(checks, case, &study);
    if let Some(hyperband) = hyperband.filter(|_| case["budgets"].is_array()) {
        let budgets: Vec<Option<u64>> = hyperband.budgets().into_iter().map(Some).collect();
        let expected: Vec<_> = array(&case["budgets"]).iter().map(Value::as_u64).collect();
        checks.exact(format!("{name} budgets"), &budgets, &expected);
        for (n, expected) in (0_u64..).zip(array(&case["bracket_ids"])) {
            let bracket = hyperband.bracket_id(study.context(), n) as u64;
            checks.exact(
                format!("{name} bracket of {n}"),
                &Some(bracket),
                &expected.as_u64(),
            );
        }
    }
}

/// States, stored values and rungs at the end.
fn replay_final(checks: &mut Checks, case: &Value, study: &Study) {
    let trials = study.trials().expect("trials");
    for (trial, expected) in trials.iter().zip(array(&case["final"])) {
        let place = format!("{} trial {}", study.name(), trial.number);
        checks.exact(&place, trial.state.name(), text(&expected[1]));
        let value = (!expected[2].is_null()).then(|| number(&expected[2]));
        checks.exact(format!("{place} value"), &trial.value(), &value);
        let rungs: BTreeMap<_, _> = trial.system_attrs.clone();
        let rungs: Vec<(String, Option<f64>)> = rungs
            .into_iter()
            .map(|(key, value)| (key, Json::as_f64(&value)))
            .collect();
        let mut wanted: Vec<(String, Option<f64>)> = expected[3]
            .as_object()
            .expect("rungs")
            .iter()
            .map(|(key, value)| (key.clone(), Some(number(value))))
            .collect();
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
        checks.exact(format!("{place} rungs"), &rungs, &wanted);
    }
}

fn hyperband(args: &Value) -> HyperbandPruner {
    let mut pruner = HyperbandPruner::new();
    if let Some(steps) = args["min_resource"].as_u64() {
        pruner = pruner.min_resource(steps);
    }
    if let Some(steps) = args["max_resource"].as_u64() {
        pruner = pruner.max_resource(steps);
    }
    if let Some(factor) = args["reduction_factor"].as_u64() {
        pruner = pruner.reduction_factor(factor);
    }
    if let Some(n) = args["bootstrap_count"].as_u64() {
        pruner = pruner.bootstrap_count(n as usize);
    }
    pruner
}

fn pruner(name: &str, args: &Value) -> Box<dyn Pruner> {
    let integer = |key: &str, default: u64| args[key].as_u64().unwrap_or(default);
    match name {
        "NopPruner" => Box::new(NopPruner),
        "MedianPruner" => Box::new(
            MedianPruner::new()
                .n_startup_trials(integer("n_startup_trials", 5) as usize)
                .n_warmup_steps(integer("n_warmup_steps", 0) as u32)
                .interval_steps(integer("interval_steps", 1) as u32)
                .n_min_trials(integer("n_min_trials", 1) as usize),
        ),
        "PercentilePruner" => Box::new(
            PercentilePruner::new(number(&args["percentile"]))
                .n_startup_trials(integer("n_startup_trials", 5) as usize)
                .n_warmup_steps(integer("n_warmup_steps", 0) as u32)
                .interval_steps(integer("interval_steps", 1) as u32)
                .n_min_trials(integer("n_min_trials", 1) as usize),
        ),
        "SuccessiveHalvingPruner" => {
            let mut pruner = SuccessiveHalvingPruner::new()
                .reduction_factor(integer("reduction_factor", 4))
                .min_early_stopping_rate(integer("min_early_stopping_rate", 0) as u32)
                .bootstrap_count(integer("bootstrap_count", 0) as usize);
            if let Some(steps) = args["min_resource"].as_u64() {
                pruner = pruner.min_resource(steps);
            }
            Box::new(pruner)
        }
        "ThresholdPruner" => {
            let mut pruner = ThresholdPruner::new()
                .n_warmup_steps(integer("n_warmup_steps", 0) as u32)
                .interval_steps(integer("interval_steps", 1) as u32);
            if !args["lower"].is_null() {
                pruner = pruner.lower(number(&args["lower"]));
            }
            if !args["upper"].is_null() {
                pruner = pruner.upper(number(&args["upper"]));
            }
            Box::new(pruner)
        }
        "PatientPruner" => {
            let patience = integer("patience", 0) as usize;
            let delta = if args["min_delta"].is_null() {
                0.0
            } else {
                number(&args["min_delta"])
            };
            Box::new(match args["wrapped"].as_array() {
                Some(wrapped) => {
                    PatientPruner::new(self::pruner(text(&wrapped[0]), &wrapped[1]), patience)
                        .min_delta(delta)
                }
                None => PatientPruner::alone(patience).min_delta(delta),
            })
        }
        "WilcoxonPruner" => {
            let mut pruner =
                WilcoxonPruner::new().n_startup_steps(integer("n_startup_steps", 2) as usize);
            if !args["p_threshold"].is_null() {
                pruner = pruner.p_threshold(number(&args["p_threshold"]));
            }
            Box::new(pruner)
        }
        "HyperbandPruner" => Box::new(hyperband(args)),
        other => panic!("{other:?} is not a pruner"),
    }
}
