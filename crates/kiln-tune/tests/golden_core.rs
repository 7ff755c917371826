//! The golden numbers of Optuna 5.0.0 for pruners, search spaces, random numbers and TPE, replayed with the same code
//! as the `agreement` example.

#[path = "../examples/agreement/grid.rs"]
mod grid;
#[path = "../examples/agreement/parzen.rs"]
mod parzen;
#[path = "../examples/agreement/pruners.rs"]
mod pruners;
#[path = "../examples/agreement/replay.rs"]
mod replay;
#[path = "../examples/agreement/space.rs"]
mod space;
#[path = "../examples/agreement/tpe.rs"]
mod tpe;

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
fn every_pruning_decision_equals_optuna() {
    assert_agrees(&pruners::replay(&load(include_str!("golden/pruners.json"))));
}

#[test]
fn signed_rank_p_values_equal_scipy() {
    assert_agrees(&pruners::replay_wilcoxon(&load(include_str!(
        "golden/wilcoxon_pvalues.json"
    ))));
}

#[test]
fn hyperband_checksums_equal_zlib() {
    assert_agrees(&pruners::replay_crc(&load(include_str!(
        "golden/hyperband_crc.json"
    ))));
}

#[test]
fn parzen_estimators_equal_optuna() {
    assert_agrees(&parzen::replay(&load(include_str!("golden/parzen.json"))));
}

#[test]
fn truncated_normals_equal_scipy() {
    assert_agrees(&parzen::replay_truncnorm(&load(include_str!(
        "golden/truncnorm.json"
    ))));
}

#[test]
fn tpe_splits_and_densities_equal_optuna() {
    assert_agrees(&tpe::replay(&load(include_str!(
        "golden/tpe_acquisition.json"
    ))));
}

#[test]
fn the_box_transform_equals_optuna() {
    assert_agrees(&space::replay_transform(&load(include_str!(
        "golden/transform.json"
    ))));
}

#[test]
fn search_spaces_equal_optuna() {
    assert_agrees(&space::replay_search_space(&load(include_str!(
        "golden/search_space.json"
    ))));
}

#[test]
fn random_draws_equal_numpy_and_optuna() {
    assert_agrees(&space::replay_random(&load(include_str!(
        "golden/random_sampler.json"
    ))));
}

#[test]
fn the_shuffled_grid_equals_optuna() {
    assert_agrees(&grid::replay(&load(include_str!("golden/grid.json"))));
}
