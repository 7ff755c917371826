//! What can be suggested, and which ranges and settings are refused.

use std::sync::Arc;

use kiln_tune::{
    CategoricalDistribution, Error, FixedTrial, FloatDistribution, FrozenTrial, InMemoryStorage,
    IntDistribution, MedianPruner, NopPruner, ParamValue, RandomSampler, Sampler, Storage, Study,
    Suggest, pruner, study,
};

fn random_study() -> Study {
    Study::builder()
        .sampler(RandomSampler::new(0))
        .create()
        .unwrap()
}

#[test]
fn suggesting_a_name_again_gives_the_same_value() {
    let study = random_study();
    let mut trial = study.ask().unwrap();
    let x = trial.suggest_float("x", 0.0, 1.0).unwrap();
    assert_eq!(trial.suggest_float("x", 0.0, 1.0).unwrap(), x);
    // A changed range only warns, a changed kind, scale or list of choices is an error.
    assert_eq!(trial.suggest_float("x", 0.0, 2.0).unwrap(), x);
    assert!(matches!(
        trial.suggest_float_log("x", 0.1, 1.0),
        Err(Error::IncompatibleDistribution { .. })
    ));
    assert!(matches!(
        trial.suggest_int("x", 0, 1),
        Err(Error::IncompatibleDistribution { .. })
    ));
    trial.suggest_categorical("c", &["a", "b"]).unwrap();
    let error = trial.suggest_categorical("c", &["b", "a"]).unwrap_err();
    assert!(error.to_string().contains("keeps its choices"), "{error}");
}

#[test]
fn a_later_trial_cannot_contradict_an_earlier_one() {
    let study = random_study();
    study.ask().unwrap().suggest_float("x", 0.0, 1.0).unwrap();
    let mut trial = study.ask().unwrap();
    assert!(matches!(
        trial.suggest_int("x", 0, 1),
        Err(Error::IncompatibleDistribution { .. })
    ));
    trial.suggest_float("x", 5.0, 6.0).unwrap();
}

#[test]
fn impossible_ranges_are_errors_that_say_why() {
    let mut trial = random_study().ask().unwrap();
    for (error, part) in [
        (
            trial.suggest_float("a", 1.0, 0.0).unwrap_err(),
            "low must not be above high, but got low=1, high=0",
        ),
        (
            trial.suggest_float_log("a", 0.0, 1.0).unwrap_err(),
            "low must be positive on a log scale",
        ),
        (
            trial.suggest_float("a", f64::NAN, 1.0).unwrap_err(),
            "must be finite",
        ),
        (
            trial.suggest_float_step("a", 0.0, 1.0, 0.0).unwrap_err(),
            "step must be positive",
        ),
        (trial.suggest_int("a", 2, 1).unwrap_err(), "low=2, high=1"),
        (
            trial.suggest_int_log("a", 0, 1).unwrap_err(),
            "at least 1 on a log scale",
        ),
        (
            trial.suggest_int_step("a", 0, 1, 0).unwrap_err(),
            "step must be positive",
        ),
        (
            FloatDistribution::build(1.0, 2.0, true, Some(0.1)).unwrap_err(),
            "step cannot be used together with log",
        ),
        (
            IntDistribution::build(1, 2, true, 2).unwrap_err(),
            "step must be 1 on a log scale",
        ),
        (
            trial.suggest_categorical::<i32>("a", &[]).unwrap_err(),
            "at least one element",
        ),
        (
            trial.suggest_categorical("a", &[vec![1]]).unwrap_err(),
            "a sequence",
        ),
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(trial.params().is_empty(), "nothing was stored");
}

#[test]
fn categories_can_be_strings_numbers_bools_options_and_enums() {
    #[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
    enum Norm {
        #[serde(rename = "batch norm")]
        Batch,
    }
    let mut trial = random_study().ask().unwrap();
    assert_eq!(
        trial.suggest_categorical("norm", &[Norm::Batch]).unwrap(),
        Norm::Batch
    );
    assert!([16, 32].contains(&trial.suggest_categorical("width", &[16, 32]).unwrap()));
    trial.suggest_categorical("flag", &[true, false]).unwrap();
    trial
        .suggest_categorical("rate", &[0.5, f64::INFINITY])
        .unwrap();
    trial
        .suggest_categorical("name", &["a".to_owned()])
        .unwrap();
    trial
        .suggest_categorical("maybe", &[Some("x"), None])
        .unwrap();
    assert_eq!(trial.params().value("norm"), Some("batch norm".into()));
    let stored = trial
        .params()
        .get("maybe")
        .unwrap()
        .distribution
        .to_json_text();
    assert_eq!(
        stored,
        r#"{"name": "CategoricalDistribution", "attributes": {"choices": ["x", null]}}"#
    );
}

#[test]
fn a_single_valued_parameter_never_reaches_the_sampler() {
    struct Refuses;
    impl Sampler for Refuses {
        fn sample_independent(
            &self,
            _: &kiln_tune::Context,
            _: &FrozenTrial,
            name: &str,
            _: &kiln_tune::Distribution,
        ) -> kiln_tune::Result<f64> {
            panic!("{name} reached the sampler")
        }
    }
    let mut trial = Study::builder()
        .sampler(Refuses)
        .create()
        .unwrap()
        .ask()
        .unwrap();
    assert_eq!(trial.suggest_float("a", 2.0, 2.0).unwrap(), 2.0);
    assert_eq!(trial.suggest_float_step("b", 0.0, 0.9, 1.0).unwrap(), 0.0);
    assert_eq!(trial.suggest_int("c", 3, 3).unwrap(), 3);
    assert_eq!(trial.suggest_categorical("d", &["only"]).unwrap(), "only");
}

#[test]
fn wrong_settings_are_refused_before_anything_is_written() {
    let storage: Arc<dyn Storage> = Arc::new(InMemoryStorage::new());
    let builder = || Study::builder().shared_storage(storage.clone());
    let refused: Vec<(study::StudyBuilder, &str)> = vec![
        (
            builder().pruner(pruner::PercentilePruner::new(101.0)),
            "between 0 and 100",
        ),
        (
            builder().pruner(MedianPruner::new().interval_steps(0)),
            "interval_steps must be at least 1",
        ),
        (
            builder().pruner(MedianPruner::new().n_min_trials(0)),
            "n_min_trials",
        ),
        (
            builder().pruner(pruner::ThresholdPruner::new()),
            "lower or upper",
        ),
        (
            builder().pruner(pruner::ThresholdPruner::new().lower(1.0).upper(0.0)),
            "lower=1, upper=0",
        ),
        (
            builder().pruner(pruner::SuccessiveHalvingPruner::new().reduction_factor(1)),
            "at least 2, but got 1",
        ),
        (
            builder().pruner(pruner::SuccessiveHalvingPruner::new().min_resource(0)),
            "min_resource",
        ),
        (
            builder().pruner(pruner::SuccessiveHalvingPruner::new().bootstrap_count(1)),
            "explicit min_resource",
        ),
        (
            builder().pruner(pruner::HyperbandPruner::new().bootstrap_count(1)),
            "explicit max_resource",
        ),
        (
            builder().pruner(
                pruner::HyperbandPruner::new()
                    .min_resource(9)
                    .max_resource(3),
            ),
            "below min_resource",
        ),
        (
            builder().pruner(pruner::WilcoxonPruner::new().p_threshold(2.0)),
            "between 0 and 1",
        ),
        (
            builder().pruner(pruner::PatientPruner::new(NopPruner, 1).min_delta(-1.0)),
            "must not be negative",
        ),
        (
            builder().sampler(kiln_tune::TpeSampler::new().n_ei_candidates(0)),
            "n_ei_candidates",
        ),
        (
            builder().sampler(kiln_tune::TpeSampler::new().prior_weight(-1.0)),
            "prior_weight",
        ),
        (
            builder().sampler(kiln_tune::GridSampler::new()),
            "at least one parameter",
        ),
        (
            builder().sampler(kiln_tune::GridSampler::new().param("x", [0.0; 0])),
            "at least one value",
        ),
    ];
    for (builder, part) in refused {
        let error = builder.create().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert!(storage.get_all_studies().unwrap().is_empty());
}

#[test]
fn a_fixed_trial_suggests_its_values_and_misses_none_silently() {
    let mut trial = FixedTrial::new([("x", ParamValue::Float(0.5)), ("c", "b".into())]);
    assert_eq!(trial.suggest_float("x", 0.0, 1.0).unwrap(), 0.5);
    assert_eq!(trial.suggest_categorical("c", &["a", "b"]).unwrap(), "b");
    let error = trial.suggest_int("n", 0, 1).unwrap_err().to_string();
    assert!(error.contains("no value for parameter \"n\""), "{error}");
    assert!(trial.suggest_int("x", 0, 1).is_err());
}

#[test]
fn legacy_distributions_are_read_and_bad_ones_refused() {
    use kiln_tune::Distribution;
    for (text, distribution) in [
        (
            r#"{"name": "UniformDistribution", "attributes": {"low": 0, "high": 1}}"#,
            FloatDistribution::new(0.0, 1.0).unwrap().into(),
        ),
        (
            r#"{"attributes": {"high": 10.0, "low": 0.1}, "name": "LogUniformDistribution"}"#,
            FloatDistribution::with_log(0.1, 10.0).unwrap().into(),
        ),
        (
            r#"{"name": "DiscreteUniformDistribution", "attributes": {"low": 0.0, "high": 1.0, "q": 0.1}}"#,
            FloatDistribution::with_step(0.0, 1.0, 0.1).unwrap().into(),
        ),
        (
            r#"{"name": "IntUniformDistribution", "attributes": {"low": 1, "high": 9, "step": 2}}"#,
            IntDistribution::with_step(1, 9, 2).unwrap().into(),
        ),
        (
            r#"{"name": "IntLogUniformDistribution", "attributes": {"low": 1, "high": 9, "step": 1}}"#,
            Distribution::from(IntDistribution::with_log(1, 9).unwrap()),
        ),
        (
            r#"{"type": "float", "low": 1e-3, "high": 1, "log": true}"#,
            FloatDistribution::with_log(1e-3, 1.0).unwrap().into(),
        ),
        (
            r#"{"type": "int", "low": 1, "high": 5}"#,
            IntDistribution::new(1, 5).unwrap().into(),
        ),
        (
            r#"{"type": "categorical", "choices": ["a", 1, null]}"#,
            CategoricalDistribution::new([ParamValue::from("a"), 1.into(), ParamValue::Null])
                .unwrap()
                .into(),
        ),
    ] {
        assert_eq!(
            Distribution::from_json_text(text).unwrap(),
            distribution,
            "{text}"
        );
    }
    for text in [
        "3",
        "{}",
        r#"{"name": "Nonsense", "attributes": {}}"#,
        r#"{"name": "FloatDistribution"}"#,
        r#"{"type": "int", "low": 1.5, "high": 5}"#,
        r#"{"type": "int", "low": 1}"#,
        r#"{"type": "categorical", "choices": [18446744073709551616]}"#,
        r#"{"type": "float", "low": 0, "high": 1, "log": "yes"}"#,
    ] {
        assert!(Distribution::from_json_text(text).is_err(), "{text}");
    }
}
