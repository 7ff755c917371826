//! The golden numbers of Optuna 5.0.0 for samplers, importance and several objectives, replayed with
//! the same code as the `agreement` example.

#[path = "../examples/agreement/cmaes.rs"]
mod cmaes;
#[path = "../examples/agreement/gp.rs"]
mod gp;
#[path = "../examples/agreement/importance.rs"]
mod importance;
#[path = "../examples/agreement/multi_objective.rs"]
mod multi_objective;
#[path = "../examples/agreement/qmc.rs"]
mod qmc;
#[path = "../examples/agreement/replay.rs"]
mod replay;

fn load(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("the golden file is JSON")
}

fn assert_agrees(replay: &replay::Replay) {
    assert!(replay.checks > 0, "nothing was compared");
    assert!(
        replay.worst <= 1.0,
        "{} times the tolerance at {}",
        replay.worst,
        replay.place
    );
}

#[test]
fn multi_objective_mathematics_equals_optuna() {
    let file = load(include_str!("golden/multi_objective.json"));
    assert_agrees(&multi_objective::replay(&file));
}

#[test]
fn cma_es_updates_equal_optuna() {
    let file = load(include_str!("golden/cmaes.json"));
    assert_agrees(&cmaes::replay(&file));
}

#[test]
fn quasi_random_sequences_equal_optuna() {
    let file = load(include_str!("golden/qmc.json"));
    assert_agrees(&qmc::replay(&file));
}

#[test]
fn acquisition_functions_of_running_trials_equal_optuna() {
    let file = load(include_str!("golden/gp_running.json"));
    assert_agrees(&gp::replay_running(&file));
}

#[test]
fn importances_equal_optuna() {
    let file = load(include_str!("golden/importance.json"));
    assert_agrees(&importance::replay(&file));
}

#[test]
fn marginal_variances_of_trees_equal_optuna() {
    let file = load(include_str!("golden/fanova_tree.json"));
    assert_agrees(&importance::replay_trees(&file));
}

#[test]
fn gaussian_processes_equal_optuna() {
    let file = load(include_str!("golden/gp.json"));
    assert_agrees(&gp::replay(&file));
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

    for case in replay::array(&load(include_str!("golden/studies/nsga_trials.json"))) {
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
        let expected = replay::matrix(&case["params"]);
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
