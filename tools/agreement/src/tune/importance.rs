//! Replays `importance.json` (PED-ANOVA exactly, the forests statistically) and `fanova_tree.json`.

use kiln_tune::importance::{
    FanovaEvaluator, FanovaTree, ImportanceEvaluator, MeanDecreaseImpurityEvaluator,
    PedAnovaEvaluator, Tree, get_param_importances, grid_density,
};
use kiln_tune::{Study, StudyDirection, TrialBuilder, TrialState};
use serde_json::Value;

use super::{array, distribution, external, number, numbers};
use crate::{Checks, Report};

const PED_TOLERANCE: f64 = 1e-9;
const DENSITY_TOLERANCE: f64 = 1e-10;
const TREE_TOLERANCE: f64 = 1e-10;

/// Replays a whole `importance.json`.
pub fn replay(file: &Value, report: &mut Report) {
    for case in array(file) {
        report.case("(no name)", case, |checks| {
            let study = study(case)?;
            replay_ped_anova(checks, case, &study)?;
            for (key, evaluator) in [
                ("fanova", &fanova as &Maker),
                ("mdi", &mean_decrease_impurity),
            ] {
                if !case[key].is_null() {
                    replay_forest(checks, case, key, &study, evaluator)?;
                }
            }
            Ok(())
        });
    }
}

/// Replays a whole `fanova_tree.json`.
pub fn replay_trees(file: &Value, report: &mut Report) {
    for (k, case) in array(file).iter().enumerate() {
        report.case(format_args!("tree {k}"), case, |checks| {
            let at = |what: &str| format!("tree {k} {what}");
            let bounds: Vec<[f64; 2]> = array(&case["bounds"])
                .iter()
                .map(|b| [number(&b[0]), number(&b[1])])
                .collect();
            let child = |key: &str| {
                numbers(&case[key])
                    .into_iter()
                    .map(|v| if v < 0.0 { 0 } else { v as usize })
                    .collect()
            };
            let tree = Tree {
                feature: numbers(&case["feature"])
                    .into_iter()
                    .map(|v| v as i64)
                    .collect(),
                threshold: numbers(&case["threshold"]),
                left: child("left"),
                right: child("right"),
                value: numbers(&case["value"]),
                ..Tree::default()
            };
            let tree = FanovaTree::new(&tree, &bounds);
            let want = number(&case["variance"]);
            checks.close_relative(at("variance"), tree.variance(), want, TREE_TOLERANCE);
            let tolerance = TREE_TOLERANCE * want;
            for key in ["marginal_variance", "joint_marginal_variance"] {
                for (columns, want) in case[key].as_object().into_iter().flatten() {
                    let names: Vec<usize> = columns
                        .split(',')
                        .map(|c| c.trim().parse().expect("a column"))
                        .collect();
                    let got = tree.marginal_variance(&names);
                    // Relative to the variance as well, because a marginal may vanish.
                    let tolerance = tolerance.max(TREE_TOLERANCE * number(want).abs());
                    checks.close(
                        at(&format!("{key} {columns}")),
                        got,
                        number(want),
                        tolerance,
                    );
                }
            }
            Ok(())
        });
    }
}

type Maker = dyn Fn(u64, usize, usize) -> Box<dyn ImportanceEvaluator>;

fn fanova(seed: u64, n_trees: usize, max_depth: usize) -> Box<dyn ImportanceEvaluator> {
    Box::new(
        FanovaEvaluator::new(seed)
            .n_trees(n_trees)
            .max_depth(max_depth),
    )
}

fn mean_decrease_impurity(
    seed: u64,
    n_trees: usize,
    max_depth: usize,
) -> Box<dyn ImportanceEvaluator> {
    Box::new(
        MeanDecreaseImpurityEvaluator::new(seed)
            .n_trees(n_trees)
            .max_depth(max_depth),
    )
}

fn study(case: &Value) -> kiln_tune::Result<Study> {
    let direction = |d: &Value| match d.as_str() {
        Some("maximize") => StudyDirection::Maximize,
        _ => StudyDirection::Minimize,
    };
    let directions: Vec<StudyDirection> = match case["directions"].as_array() {
        Some(directions) => directions.iter().map(direction).collect(),
        None => vec![direction(&case["direction"])],
    };
    let study = Study::builder().directions(directions).create()?;
    for row in array(&case["trials"]) {
        let state = match row[0].as_str() {
            Some("COMPLETE") => TrialState::Complete,
            Some("PRUNED") => TrialState::Pruned,
            Some("FAIL") => TrialState::Fail,
            other => panic!("unexpected state {other:?}"),
        };
        let mut builder = TrialBuilder::new().state(state);
        match (state, &row[1]) {
            (_, Value::Null) | (TrialState::Fail, _) => {}
            (TrialState::Pruned, value) => {
                builder = builder
                    .intermediate_value(0, number(value))
                    .value(number(value));
            }
            (_, Value::Array(values)) => {
                builder = builder.values(values.iter().map(number).collect::<Vec<_>>());
            }
            (_, value) => builder = builder.value(number(value)),
        }
        for (name, value) in row[2].as_object().into_iter().flatten() {
            builder = builder.param(name, external(value), distribution(&case["spaces"][name]));
        }
        study.add_trial(&builder.build()?)?;
    }
    Ok(study)
}

fn replay_ped_anova(checks: &mut Checks, case: &Value, study: &Study) -> kiln_tune::Result<()> {
    let name = case["name"].as_str().unwrap_or("?");
    for (variant, expected) in case["ped_anova"].as_object().into_iter().flatten() {
        let args = &expected["args"];
        let quantile = |key: &str, default: f64| args[key].as_f64().unwrap_or(default);
        let evaluator = PedAnovaEvaluator::new(
            quantile("target_quantile", 0.1),
            quantile("region_quantile", 1.0),
            args["evaluate_on_local"].as_bool().unwrap_or(true),
        )?;
        let raw = evaluator.evaluate(study, None, None)?;
        compare(
            checks,
            &format!("{name} {variant} raw"),
            &raw,
            &expected["raw"],
        );
        let normalized =
            kiln_tune::importance::get_param_importances_with(study, &evaluator, None, None, true)?;
        let place = format!("{name} {variant} normalized");
        compare(checks, &place, &normalized, &expected["normalized"]);
    }
    let default = get_param_importances(study)?;
    let place = format!("{name} default");
    compare(
        checks,
        &place,
        &default,
        &case["get_param_importances_default"],
    );
    let densities = &case["ped_anova_grid_pdf_all_finite_complete_trials"];
    for (param, expected) in densities.as_object().into_iter().flatten() {
        let values: Vec<f64> = study
            .trials()?
            .iter()
            .filter(|t| t.state == TrialState::Complete)
            .filter(|t| t.values.iter().flatten().all(|v| v.is_finite()))
            .filter_map(|t| t.params.internal(param))
            .collect();
        let density = grid_density(&distribution(&case["spaces"][param]), &values);
        let place = format!("{name} density of {param}");
        checks.all_close(
            &place,
            &density,
            &numbers(&expected["pdf"]),
            DENSITY_TOLERANCE,
        );
    }
    Ok(())
}

fn compare(checks: &mut Checks, place: &str, got: &[(String, f64)], want: &Value) {
    let want: Vec<(&String, f64)> = want
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, v)| (name, number(v)))
        .collect();
    checks.exact(format!("{place} length"), &got.len(), &want.len());
    for (name, value) in &want {
        let found = got.iter().find(|(n, _)| n == *name);
        let got = found.map_or(f64::NAN, |(_, v)| *v);
        checks.close(format!("{place} {name}"), got, *value, PED_TOLERANCE);
    }
    // The order of parameters with equal importance means nothing.
    let descending = got.windows(2).all(|pair| pair[0].1 >= pair[1].1);
    checks.exact(
        format!("{place} is in descending order"),
        &descending,
        &true,
    );
}

fn replay_forest(
    checks: &mut Checks,
    case: &Value,
    key: &str,
    study: &Study,
    make: &Maker,
) -> kiln_tune::Result<()> {
    let expected = &case[key];
    let size = |key: &str, default: usize| expected[key].as_u64().map_or(default, |v| v as usize);
    let n_seeds = size("n_seeds", 12);
    let runs: Vec<Vec<(String, f64)>> = (0..n_seeds as u64)
        .map(|seed| {
            make(seed, size("n_trees", 64), size("max_depth", 64)).evaluate(study, None, None)
        })
        .collect::<kiln_tune::Result<_>>()?;
    for (param, statistics) in expected["per_param_raw"].as_object().into_iter().flatten() {
        let values: Vec<f64> = runs
            .iter()
            .map(|run| {
                run.iter()
                    .find(|(n, _)| n == param)
                    .map_or(f64::NAN, |(_, v)| *v)
            })
            .collect();
        let (mean, std) = (number(&statistics["mean"]), number(&statistics["std"]));
        let own = values.iter().sum::<f64>() / values.len() as f64;
        let place = format!("{} {key} {param}", case["name"]);
        let of_mean = 6.0 * std / (n_seeds as f64).sqrt() + 0.01;
        checks.close(format!("{place} mean"), own, mean, of_mean);
        for value in values {
            checks.close(format!("{place} run"), value, mean, 5.0 * std + 0.01);
        }
    }
    Ok(())
}
