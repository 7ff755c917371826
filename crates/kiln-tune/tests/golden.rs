//! The golden numbers of Optuna 5.0.0, compared by the code of the program `agreement`, and whole studies from the same seed.

use serde_json::Value;

fn load(text: &str) -> Value {
    serde_json::from_str(text).expect("the golden file is JSON")
}

fn agrees(text: &str) {
    let (layout, report) = agreement::tune::compare(&load(text)).expect("a known layout");
    assert!(!report.cases.is_empty(), "{layout}: nothing was compared");
    for case in &report.cases {
        assert!(!case.differs(), "{layout}: {case}");
    }
}

#[test]
fn every_pruning_decision_equals_optuna() {
    agrees(include_str!("golden/pruners.json"));
}

#[test]
fn signed_rank_p_values_equal_scipy() {
    agrees(include_str!("golden/wilcoxon_pvalues.json"));
}

#[test]
fn hyperband_checksums_equal_zlib() {
    agrees(include_str!("golden/hyperband_crc.json"));
}

#[test]
fn parzen_estimators_equal_optuna() {
    agrees(include_str!("golden/parzen.json"));
}

#[test]
fn truncated_normals_equal_scipy() {
    agrees(include_str!("golden/truncnorm.json"));
}

#[test]
fn tpe_splits_and_densities_equal_optuna() {
    agrees(include_str!("golden/tpe_acquisition.json"));
}

#[test]
fn the_box_transform_equals_optuna() {
    agrees(include_str!("golden/transform.json"));
}

#[test]
fn search_spaces_equal_optuna() {
    agrees(include_str!("golden/search_space.json"));
}

#[test]
fn random_draws_equal_numpy_and_optuna() {
    agrees(include_str!("golden/random_sampler.json"));
}

#[test]
fn the_shuffled_grid_equals_optuna() {
    agrees(include_str!("golden/grid.json"));
}

#[test]
fn multi_objective_mathematics_equals_optuna() {
    agrees(include_str!("golden/multi_objective.json"));
}

#[test]
fn cma_es_updates_equal_optuna() {
    agrees(include_str!("golden/cmaes.json"));
}

#[test]
fn quasi_random_sequences_equal_optuna() {
    agrees(include_str!("golden/qmc.json"));
}

#[test]
fn acquisition_functions_of_running_trials_equal_optuna() {
    agrees(include_str!("golden/gp_running.json"));
}

#[test]
fn importances_equal_optuna() {
    agrees(include_str!("golden/importance.json"));
}

#[test]
fn marginal_variances_of_trees_equal_optuna() {
    agrees(include_str!("golden/fanova_tree.json"));
}

#[test]
fn gaussian_processes_equal_optuna() {
    agrees(include_str!("golden/gp.json"));
}

#[test]
fn a_wrong_reference_is_found_out() {
    let mut file = load(include_str!("golden/truncnorm.json"));
    let entry = &mut file["log_ndtr"][0][1];
    *entry = (entry.as_f64().expect("a number") * (1.0 + 1e-9)).into();
    let (_, report) = agreement::tune::compare(&file).expect("a known layout");
    assert!(report.differing().count() == 1);
}

#[test]
fn a_case_that_lacks_something_fails_alone() {
    let mut file = load(include_str!("golden/hyperband_crc.json"));
    file[0]["crc32"] = Value::Null;
    let (_, report) = agreement::tune::compare(&file).expect("a known layout");
    let failed: Vec<bool> = report.cases.iter().map(agreement::Case::differs).collect();
    assert!(failed[0] && failed.len() > 1 && !failed[1..].contains(&true));
}

/// Studies of NSGA-II and NSGA-III from the same seed have the same trials, draw by draw (`scripts/nsga_trials.py`).
#[test]
fn nsga_makes_the_trials_of_optuna() {
    use kiln_tune::sampler::ga::crossover::{
        BlxAlphaCrossover, SbxCrossover, SpxCrossover, UniformCrossover, VsbxCrossover,
    };
    use kiln_tune::sampler::ga::mutation::PolynomialMutation;
    use kiln_tune::sampler::{NsgaIiSampler, NsgaIiiSampler};
    use kiln_tune::{Error, Study, StudyDirection::Minimize, Trial};

    let cases = load(include_str!("golden/studies/nsga_trials.json"));
    for case in cases.as_array().expect("cases") {
        let name = case["crossover"].as_str().expect("a name");
        let sampler = NsgaIiSampler::new(5).population_size(8).unwrap();
        let sampler = match name {
            "blxalpha" => sampler.crossover(BlxAlphaCrossover::default()),
            "sbx" => sampler.crossover(SbxCrossover::default()),
            "vsbx" => sampler.crossover(VsbxCrossover::default()),
            "spx" => sampler.crossover(SpxCrossover::default()),
            "polynomial" => Ok(sampler.mutation(PolynomialMutation::default())),
            _ => sampler.crossover(UniformCrossover::default()),
        };
        let builder = Study::builder().directions([Minimize; 2]);
        let builder = if name == "nsga3" {
            builder.sampler(NsgaIiiSampler::new(5).population_size(8).unwrap())
        } else {
            builder.sampler(sampler.unwrap())
        };
        let study = builder.create().unwrap();
        let constrained = case["constrained"] == true;
        let objective = |trial: &mut Trial| {
            let x = trial.suggest_float("x", 0.0, 1.0)?;
            let lr = trial.suggest_float_log("lr", 1e-3, 1.0)?;
            let n = trial.suggest_int("n", 1, 20)? as f64;
            let kind = trial.suggest_categorical("kind", &["a", "b", "c"])?;
            let kind = f64::from(kind.as_bytes()[0] - b'a');
            let s = trial.suggest_float_step("s", 0.0, 1.0, 0.25)?;
            if constrained {
                trial.set_constraint("c", x + s - 1.2)?;
            }
            Ok::<_, Error>([x + 0.05 * n, (1.0 - x).powi(2) + lr + kind + s])
        };
        let expected: Vec<Vec<f64>> = serde_json::from_value(case["params"].clone()).expect("rows");
        study.optimize(objective, expected.len() as u64).unwrap();
        for (trial, want) in study.trials().unwrap().iter().zip(&expected) {
            let got: Vec<f64> = trial.params.iter().map(|p| p.internal).collect();
            let close = |(g, w): (&f64, &f64)| (g - w).abs() <= 1e-9 * w.abs().max(1e-3);
            assert!(
                got.len() == want.len() && got.iter().zip(want).all(close),
                "{name}, trial {}: got {got:?}, expected {want:?}",
                trial.number
            );
        }
    }
}
