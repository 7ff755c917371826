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
