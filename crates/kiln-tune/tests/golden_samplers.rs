//! The golden numbers of Optuna 5.0.0 for samplers, importance and several objectives, replayed with
//! the same code as the `agreement` example.

#[path = "../examples/agreement/multi_objective.rs"]
mod multi_objective;
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
