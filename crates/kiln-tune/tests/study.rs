//! What a study does with its trials: asking, telling, optimizing, and everything that can go wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kiln_tune::study::TellOptions;
use kiln_tune::{
    Budget, CategoricalDistribution, Error, FixedTrial, FloatDistribution, FrozenTrial,
    InMemoryStorage, IntDistribution, Json, MedianPruner, NopPruner, Outcome, ParamSpace,
    ParamValue, RandomSampler, Sampler, Storage, Study, StudyDirection, Suggest, Trial,
    TrialBuilder, TrialPruned, TrialState, pruner, study,
};

fn random_study() -> Study {
    Study::builder()
        .sampler(RandomSampler::new(0))
        .create()
        .unwrap()
}

#[derive(Debug, thiserror::Error)]
#[error("disk full")]
struct DiskFull;

#[derive(Debug, thiserror::Error)]
#[error("training failed")]
struct Wrapped(#[source] Box<dyn std::error::Error + Send + Sync>);

#[test]
fn ask_and_tell_records_values_params_and_times() {
    let study = random_study();
    let mut trial = study.ask().unwrap();
    let x = trial.suggest_float("x", -1.0, 1.0).unwrap();
    let told = study.tell(trial, x).unwrap();
    assert_eq!(told.state, TrialState::Complete);
    assert_eq!(told.value(), Some(x));
    assert_eq!(told.params.value("x"), Some(ParamValue::Float(x)));
    assert!(told.duration().unwrap() >= chrono_zero());
    assert_eq!(study.best_value().unwrap(), x);
}

fn chrono_zero() -> chrono::TimeDelta {
    chrono::TimeDelta::zero()
}

#[test]
fn ask_with_a_space_suggests_all_of_it() {
    let study = random_study();
    let space = ParamSpace::from_iter([
        (
            "a",
            kiln_tune::Distribution::from(FloatDistribution::new(0.0, 1.0).unwrap()),
        ),
        ("b", IntDistribution::new(1, 3).unwrap().into()),
    ]);
    let trial = study.ask_space(&space).unwrap();
    assert_eq!(
        trial
            .params()
            .iter()
            .map(|param| &*param.name)
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
}

#[test]
fn only_a_running_trial_can_be_told() {
    let study = random_study();
    let number = study.ask().unwrap().number();
    study.tell(number, 1.0).unwrap();
    assert!(matches!(
        study.tell(number, 2.0),
        Err(Error::InvalidTell(_))
    ));
    let options = TellOptions {
        values: Some(vec![2.0]),
        skip_if_finished: true,
        ..TellOptions::default()
    };
    assert_eq!(study.tell_with(number, options).unwrap().value(), Some(1.0));
    assert!(matches!(
        study.tell(7, 1.0),
        Err(Error::TrialNotFound { .. })
    ));
    study.enqueue_trial([("x", 1.0)]).unwrap();
    assert!(
        matches!(study.tell(1, 1.0), Err(Error::InvalidTell(_))),
        "waiting"
    );
}

#[test]
fn tell_refuses_states_and_values_that_do_not_suit() {
    let study = random_study();
    let number = study.ask().unwrap().number();
    let tell = |values: Option<Vec<f64>>, state| {
        study.tell_with(
            number,
            TellOptions {
                values,
                state: Some(state),
                skip_if_finished: false,
            },
        )
    };
    for (values, state) in [
        (None, TrialState::Complete),
        (Some(vec![1.0]), TrialState::Pruned),
        (Some(vec![1.0]), TrialState::Fail),
        (None, TrialState::Running),
        (None, TrialState::Waiting),
        (Some(vec![f64::NAN]), TrialState::Complete),
        (Some(vec![1.0, 2.0]), TrialState::Complete),
    ] {
        assert!(
            matches!(tell(values.clone(), state), Err(Error::InvalidTell(_))),
            "{values:?} {state}"
        );
    }
    // None of that has touched the trial.
    assert_eq!(study.trials().unwrap()[0].state, TrialState::Running);
    study.tell(number, f64::INFINITY).unwrap();
}

#[test]
fn nan_and_a_wrong_number_of_values_fail_the_trial() {
    let study = random_study();
    for outcome in [
        Outcome::from(f64::NAN),
        Outcome::from([1.0, 2.0]),
        Outcome::Values(Vec::new()),
    ] {
        let told = study.tell(study.ask().unwrap(), outcome).unwrap();
        assert_eq!((told.state, told.values.clone()), (TrialState::Fail, None));
    }
    assert!(matches!(study.best_trial(), Err(Error::NoTrials(_))));
}

#[test]
fn a_pruned_trial_has_its_last_report_as_value_unless_that_is_nan() {
    let study = random_study();
    let mut trial = study.ask().unwrap();
    trial.report(0.5, 3).unwrap();
    trial.report(0.7, 1).unwrap();
    assert_eq!(
        study.tell(trial, Outcome::Pruned).unwrap().value(),
        Some(0.5)
    );
    let mut trial = study.ask().unwrap();
    trial.report(f64::NAN, 0).unwrap();
    assert_eq!(study.tell(trial, Outcome::Pruned).unwrap().values, None);
    assert_eq!(
        study
            .tell(study.ask().unwrap(), Outcome::Pruned)
            .unwrap()
            .values,
        None
    );
}

#[test]
fn a_second_report_of_a_step_is_ignored_and_negative_steps_are_refused() {
    let study = random_study();
    let mut trial = study.ask().unwrap();
    trial.report(1.0, 0).unwrap();
    trial.report(2.0, 0).unwrap();
    assert_eq!(trial.record().intermediate_values[&0], 1.0);
    assert!(matches!(
        trial.report(1.0, -1),
        Err(Error::InvalidArgument(_))
    ));
    trial.report(f64::INFINITY, 7_u32).unwrap();
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
            _: &Study,
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
fn enqueued_parameters_are_used_even_out_of_range() {
    let study = random_study();
    study
        .enqueue(
            vec![("x".to_owned(), 99.0.into()), ("c".to_owned(), "b".into())],
            vec![("note".to_owned(), "by hand".into())],
            false,
        )
        .unwrap();
    let mut trial = study.ask().unwrap();
    assert_eq!(trial.suggest_float("x", 0.0, 1.0).unwrap(), 99.0);
    assert_eq!(trial.suggest_categorical("c", &["a", "b"]).unwrap(), "b");
    trial.suggest_float("free", 0.0, 1.0).unwrap();
    assert_eq!(trial.user_attrs()["note"], Json::from("by hand"));
    assert_eq!(
        study.trials().unwrap().len(),
        1,
        "the queue is served before new trials"
    );

    study.enqueue_trial([("c", "unknown")]).unwrap();
    let error = study
        .ask()
        .unwrap()
        .suggest_categorical("c", &["a", "b"])
        .unwrap_err();
    assert!(matches!(error, Error::ValueNotInDistribution { .. }));
}

#[test]
fn the_queue_is_served_in_order() {
    let study = random_study();
    for x in [1.0, 2.0, 3.0] {
        study.enqueue_trial([("x", x)]).unwrap();
    }
    for (number, x) in [1.0, 2.0, 3.0].into_iter().enumerate() {
        let mut trial = study.ask().unwrap();
        assert_eq!(
            (trial.number(), trial.suggest_float("x", 0.0, 9.0).unwrap()),
            (number as u64, x)
        );
    }
}

#[test]
fn skip_if_exists_compares_with_relative_tolerance_and_type() {
    let study = random_study();
    let enqueue = |value: ParamValue| {
        study
            .enqueue(vec![("x".to_owned(), value)], Vec::new(), true)
            .unwrap()
    };
    assert!(enqueue(1.0.into()));
    assert!(!enqueue((1.0 + 5e-6).into()), "equal within 1e-5");
    assert!(enqueue(1.1.into()));
    assert!(enqueue(1.into()), "another type");
    assert!(enqueue(f64::NAN.into()));
    assert!(!enqueue(f64::NAN.into()));
    assert!(
        study
            .enqueue(vec![("y".to_owned(), 1.0.into())], Vec::new(), true)
            .unwrap(),
        "other names"
    );
}

#[test]
fn added_trials_are_validated() {
    let study = random_study();
    let unit = FloatDistribution::new(0.0, 1.0).unwrap();
    assert!(
        TrialBuilder::new().build().is_err(),
        "complete without a value"
    );
    assert!(TrialBuilder::new().value(f64::NAN).build().is_err());
    assert!(
        TrialBuilder::new()
            .state(TrialState::Fail)
            .value(1.0)
            .build()
            .is_err()
    );
    assert!(
        TrialBuilder::new()
            .value(0.0)
            .param("x", 2.0, unit)
            .build()
            .is_err()
    );
    assert!(
        TrialBuilder::new()
            .value(0.0)
            .constraint("c", f64::NAN)
            .build()
            .is_err()
    );
    let two = TrialBuilder::new().values([1.0, 2.0]).build().unwrap();
    assert!(study.add_trial(&two).is_err(), "one objective");
    let mut trial = TrialBuilder::new()
        .value(0.0)
        .param("x", 0.5, unit)
        .build()
        .unwrap();
    trial.datetime_complete = None;
    assert!(study.add_trial(&trial).is_err());
    assert!(study.trials().unwrap().is_empty());
    let waiting = TrialBuilder::new()
        .state(TrialState::Waiting)
        .build()
        .unwrap();
    assert_eq!(
        (waiting.datetime_start, waiting.datetime_complete),
        (None, None)
    );
    study.add_trial(&waiting).unwrap();
}

#[test]
fn infinite_values_are_ordered_and_constraints_decide_the_best() {
    let study = random_study();
    for value in [f64::INFINITY, 3.0, f64::NEG_INFINITY] {
        study.tell(study.ask().unwrap(), value).unwrap();
    }
    assert_eq!(study.best_value().unwrap(), f64::NEG_INFINITY);

    let study = random_study();
    for (value, constraint) in [(1.0, 0.5), (2.0, 0.0), (3.0, -1.0)] {
        let mut trial = study.ask().unwrap();
        trial.set_constraint("c", constraint).unwrap();
        trial.set_constraint("c", -9.0).unwrap();
        study.tell(trial, value).unwrap();
    }
    assert_eq!(
        study.best_value().unwrap(),
        2.0,
        "the first one is infeasible, and a constraint is set once"
    );
    assert_eq!(study.best_trials().unwrap().len(), 1);
    let mut trial = study.ask().unwrap();
    assert!(trial.set_constraint("c", f64::NAN).is_err());
}

#[test]
fn the_pareto_front_keeps_duplicates() {
    let study = Study::builder()
        .directions([StudyDirection::Minimize, StudyDirection::Maximize])
        .sampler(RandomSampler::new(0))
        .create()
        .unwrap();
    for values in [[1.0, 1.0], [2.0, 2.0], [2.0, 2.0], [2.0, 1.0], [0.0, 0.0]] {
        study.tell(study.ask().unwrap(), values).unwrap();
    }
    let front: Vec<u64> = study
        .best_trials()
        .unwrap()
        .iter()
        .map(|trial| trial.number)
        .collect();
    assert_eq!(front, [0, 1, 2, 4]);
    assert!(matches!(
        study.best_trial(),
        Err(Error::MultiObjective { .. })
    ));
    let mut trial = study.ask().unwrap();
    assert!(matches!(
        trial.report(1.0, 0),
        Err(Error::MultiObjective { .. })
    ));
    assert!(matches!(
        trial.should_prune(),
        Err(Error::MultiObjective { .. })
    ));
}

#[test]
fn an_uncaught_error_fails_its_trial_and_ends_the_study_with_it() {
    let study = random_study();
    let error = study
        .optimize(
            |trial| {
                if trial.number() == 2 {
                    Err(Wrapped(Box::new(DiskFull)))
                } else {
                    Ok(1.0)
                }
            },
            10,
        )
        .unwrap_err();
    assert_eq!(error.to_string(), "trial 2 failed: training failed");
    let Error::Objective { number: 2, source } = &error else {
        panic!("{error:?}")
    };
    assert!(source.is::<Wrapped>());
    let trials = study.trials().unwrap();
    assert_eq!(trials.len(), 3);
    assert_eq!(trials[2].state, TrialState::Fail);
    assert_eq!(trials[2].fail_reason(), Some("training failed: disk full"));
}

#[test]
fn a_caught_error_fails_only_its_trial() {
    let study = random_study();
    let objective = |trial: &mut Trial| {
        if trial.number() == 2 {
            Err(Wrapped(Box::new(DiskFull)))
        } else {
            Ok(1.0)
        }
    };
    study
        .optimize(objective, Budget::trials(5).catch::<DiskFull>())
        .unwrap();
    study
        .optimize(
            |_| Err::<f64, _>("no".to_owned()),
            Budget::trials(1).catch_all(),
        )
        .unwrap();
    let states: Vec<TrialState> = study
        .trials()
        .unwrap()
        .iter()
        .map(|trial| trial.state)
        .collect();
    assert_eq!(
        states
            .iter()
            .filter(|state| **state == TrialState::Fail)
            .count(),
        2
    );
    assert_eq!(states.len(), 6);
    let error = study
        .optimize(
            |_| Err::<f64, _>(DiskFull),
            Budget::trials(5).catch::<std::fmt::Error>(),
        )
        .unwrap_err();
    assert!(matches!(error, Error::Objective { .. }));
}

#[test]
fn a_panic_fails_its_trial_only() {
    let study = random_study();
    study
        .optimize(
            |trial| {
                let x = trial.suggest_float("x", 0.0, 1.0)?;
                assert!(trial.number() != 1, "index out of bounds");
                Ok::<_, Error>(x)
            },
            Budget::trials(4).n_jobs(2),
        )
        .unwrap();
    let trials = study.trials().unwrap();
    assert_eq!(trials.len(), 4);
    assert_eq!(trials[1].state, TrialState::Fail);
    assert!(
        trials[1]
            .fail_reason()
            .unwrap()
            .contains("index out of bounds")
    );
}

#[test]
fn pruning_is_found_in_any_error() {
    let study = random_study();
    study.optimize(|_| Err::<f64, _>(TrialPruned), 1).unwrap();
    study
        .optimize(|_| Err::<f64, _>(Error::from(TrialPruned)), 1)
        .unwrap();
    study
        .optimize(
            |_| {
                Err::<f64, _>(Box::<dyn std::error::Error + Send + Sync>::from(
                    TrialPruned,
                ))
            },
            1,
        )
        .unwrap();
    study
        .optimize(|_| Err::<f64, _>(Wrapped(Box::new(TrialPruned))), 1)
        .unwrap();
    study
        .optimize(|_| Ok::<_, Error>(Outcome::Pruned), 1)
        .unwrap();
    assert!(
        study
            .trials()
            .unwrap()
            .iter()
            .all(|trial| trial.state == TrialState::Pruned)
    );
}

#[test]
fn nan_fails_the_trial_and_the_loop_goes_on() {
    let study = random_study();
    study
        .optimize(
            |trial| Ok::<_, Error>(if trial.number() == 0 { f64::NAN } else { 1.0 }),
            3,
        )
        .unwrap();
    let states: Vec<TrialState> = study
        .trials()
        .unwrap()
        .iter()
        .map(|trial| trial.state)
        .collect();
    assert_eq!(
        states,
        [TrialState::Fail, TrialState::Complete, TrialState::Complete]
    );
}

#[test]
fn timeout_stop_and_callbacks_end_the_loop() {
    let study = random_study();
    let start = Instant::now();
    let objective = |_: &mut Trial| {
        std::thread::sleep(Duration::from_millis(5));
        Ok::<_, Error>(1.0)
    };
    study
        .optimize(objective, Duration::from_millis(30))
        .unwrap();
    assert!(start.elapsed() >= Duration::from_millis(30) && !study.trials().unwrap().is_empty());

    let study = random_study();
    let stopping = study.clone();
    study
        .optimize(
            move |trial| {
                if trial.number() == 3 {
                    stopping.stop()?;
                }
                Ok::<_, Error>(1.0)
            },
            Budget::unlimited(),
        )
        .unwrap();
    assert_eq!(
        study.trials().unwrap().len(),
        4,
        "the trial that stops is finished"
    );
    assert!(
        matches!(study.stop(), Err(Error::InvalidArgument(_))),
        "outside of optimize"
    );

    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    let budget = Budget::trials(3).callback(move |_, trial| {
        assert!(trial.state.is_finished());
        seen.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    study.optimize(|_| Ok::<_, Error>(1.0), budget).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    let failing = Budget::trials(9).callback(|_, _| Err(Error::invalid("enough")));
    assert_eq!(
        study
            .optimize(|_| Ok::<_, Error>(1.0), failing)
            .unwrap_err()
            .to_string(),
        "enough"
    );
}

#[test]
fn optimize_cannot_be_nested_in_its_own_study() {
    let study = random_study();
    let inner = study.clone();
    let error = study
        .optimize(
            move |_| {
                inner.optimize(|_| Ok::<_, Error>(1.0), 1)?;
                Ok::<_, Error>(1.0)
            },
            1,
        )
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("cannot be called from an objective"),
        "{error}"
    );
    // Another study may well be optimized inside.
    study
        .optimize(
            |_| {
                let other = random_study();
                other.optimize(|trial| trial.suggest_float("x", 0.0, 1.0), 3)?;
                other.best_value()
            },
            2,
        )
        .unwrap();
}

#[test]
fn several_jobs_share_the_trials() {
    let study = random_study();
    let running = AtomicUsize::new(0);
    let most = AtomicUsize::new(0);
    let objective = |trial: &mut Trial| {
        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(3));
        running.fetch_sub(1, Ordering::SeqCst);
        trial.suggest_float("x", 0.0, 1.0)
    };
    study
        .optimize(objective, Budget::trials(40).n_jobs(4))
        .unwrap();
    let trials = study.trials().unwrap();
    assert_eq!(
        trials.iter().map(|trial| trial.number).collect::<Vec<_>>(),
        (0..40).collect::<Vec<_>>()
    );
    assert!(
        trials
            .iter()
            .all(|trial| trial.state == TrialState::Complete)
    );
    assert!((2..=4).contains(&most.load(Ordering::SeqCst)));
}

#[test]
fn the_same_seed_and_one_job_give_the_same_trials() {
    let run = || {
        let study = Study::builder()
            .sampler(kiln_tune::TpeSampler::new().seed(5))
            .create()
            .unwrap();
        study
            .optimize(
                |trial| {
                    let x = trial.suggest_float("x", -1.0, 1.0)?;
                    Ok::<_, Error>(x * x + trial.suggest_int("n", 1, 9)? as f64)
                },
                40,
            )
            .unwrap();
        study
            .trials()
            .unwrap()
            .iter()
            .map(|trial| trial.params.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn studies_are_found_loaded_copied_and_deleted() {
    let storage: Arc<dyn Storage> = Arc::new(InMemoryStorage::new());
    let builder = || {
        Study::builder()
            .shared_storage(storage.clone())
            .sampler(RandomSampler::new(0))
    };
    let name = "naïve \"quotes\" '; DROP TABLE studies; -- 試行";
    let study = builder().name(name).maximize().create().unwrap();
    study
        .optimize(|trial| trial.suggest_float("x", 0.0, 1.0), 3)
        .unwrap();
    study.set_user_attr("team", "vision").unwrap();
    study.set_metric_names(&["accuracy"]).unwrap();
    assert!(study.set_metric_names(&["a", "b"]).is_err());

    assert!(matches!(
        builder().name(name).create(),
        Err(Error::DuplicatedStudy { .. })
    ));
    let again = builder().name(name).load_if_exists(true).create().unwrap();
    assert_eq!(
        (again.id(), again.direction()),
        (study.id(), StudyDirection::Maximize)
    );
    let wrong = builder()
        .name(name)
        .direction(StudyDirection::Minimize)
        .load_if_exists(true)
        .create();
    assert!(matches!(wrong, Err(Error::DirectionMismatch { .. })));
    assert!(matches!(
        study::load_study("other", storage.clone()),
        Err(Error::StudyNotFound { .. })
    ));
    assert_eq!(
        builder().load().unwrap().name(),
        name,
        "the only study needs no name"
    );

    study::copy_study(name, &*storage, &*storage, Some("copy")).unwrap();
    assert!(builder().load().is_err(), "two studies need a name");
    let copy = study::load_study("copy", storage.clone()).unwrap();
    assert_eq!(copy.trials().unwrap().len(), 3);
    assert_eq!(copy.best_value().unwrap(), study.best_value().unwrap());
    assert_eq!(
        copy.metric_names().unwrap(),
        Some(vec!["accuracy".to_owned()])
    );
    assert_eq!(copy.user_attrs().unwrap()["team"], Json::from("vision"));

    study::delete_study(name, &*storage).unwrap();
    assert_eq!(study::get_all_study_names(&*storage).unwrap(), ["copy"]);
    assert!(matches!(study.ask(), Err(Error::StudyNotFound { .. })));
    assert!(study::delete_study(name, &*storage).is_err());
    assert!(builder().directions([]).create().is_err());
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
fn snapshots_do_not_change_after_they_were_given() {
    let study = random_study();
    let mut trial = study.ask().unwrap();
    let before = study.trials().unwrap();
    trial.suggest_float("x", 0.0, 1.0).unwrap();
    trial.report(1.0, 0).unwrap();
    assert!(before[0].params.is_empty() && before[0].intermediate_values.is_empty());
    assert_eq!(study.trials().unwrap()[0].params.len(), 1);
}

#[test]
fn brute_force_tries_every_combination_once_and_refuses_changed_ranges() {
    let study = Study::builder()
        .sampler(kiln_tune::BruteForceSampler::new().seed(1))
        .create()
        .unwrap();
    study
        .optimize(
            |trial| {
                let kind = trial.suggest_categorical("kind", &["float", "int"])?;
                if kind == "float" {
                    return trial.suggest_float_step("x", 1.0, 3.0, 0.5);
                }
                let a = trial.suggest_int("a", 1, 3)?;
                let b = trial.suggest_int("b", 0, 1)?;
                Ok::<_, Error>((a + b) as f64)
            },
            100,
        )
        .unwrap();
    let trials = study.trials().unwrap();
    assert_eq!(trials.len(), 5 + 6);
    for (i, trial) in trials.iter().enumerate() {
        assert!(
            trials[..i].iter().all(|other| other.params != trial.params),
            "trial {i} repeats an earlier one"
        );
    }
    let mut trial = study.ask().unwrap();
    let error = trial
        .suggest_categorical("kind", &["float", "int", "more"])
        .unwrap_err();
    assert!(matches!(
        error,
        Error::InvalidArgument(_) | Error::IncompatibleDistribution { .. }
    ));

    let study = Study::builder()
        .sampler(kiln_tune::BruteForceSampler::new())
        .create()
        .unwrap();
    let error = study
        .ask()
        .unwrap()
        .suggest_float("x", 0.0, 1.0)
        .unwrap_err();
    assert!(error.to_string().contains("needs a step"), "{error}");
}

#[test]
fn a_grid_is_tried_once_even_by_several_jobs_and_says_what_it_lacks() {
    let grid = || {
        kiln_tune::GridSampler::new()
            .param("x", [0.0, 0.5, 1.0])
            .param("c", [Some("a"), None])
    };
    let study = Study::builder().sampler(grid()).create().unwrap();
    let objective = |trial: &mut Trial| {
        trial.suggest_categorical("c", &[Some("a"), None])?;
        trial.suggest_float("x", 0.0, 1.0)
    };
    study
        .optimize(objective, Budget::trials(50).n_jobs(3))
        .unwrap();
    let trials = study.trials().unwrap();
    assert!(trials.len() >= 6);
    let mut points: Vec<String> = trials
        .iter()
        .map(|trial| format!("{:?}", trial.params))
        .collect();
    points.sort();
    points.dedup();
    assert_eq!(points.len(), 6, "every point was tried");

    let study = Study::builder().sampler(grid()).create().unwrap();
    let error = study
        .ask()
        .unwrap()
        .suggest_float("unknown", 0.0, 1.0)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no values for parameter \"unknown\""),
        "{error}"
    );
    let study = Study::builder().sampler(grid()).create().unwrap();
    study.enqueue_trial([("x", 0.5)]).unwrap();
    let mut trial = study.ask().unwrap();
    assert_eq!(trial.suggest_float("x", 0.0, 1.0).unwrap(), 0.5);
    assert!(trial.suggest_categorical("c", &[Some("a"), None]).is_err());
}

#[test]
fn partially_fixed_parameters_stay_fixed_and_the_others_vary() {
    let sampler =
        kiln_tune::PartialFixedSampler::new([("x", 0.25)], kiln_tune::TpeSampler::new().seed(0));
    let study = Study::builder().sampler(sampler).create().unwrap();
    study
        .optimize(
            |trial| {
                Ok::<_, Error>(
                    trial.suggest_float("x", 0.0, 1.0)? + trial.suggest_float("y", 0.0, 1.0)?,
                )
            },
            20,
        )
        .unwrap();
    let trials = study.trials().unwrap();
    assert!(
        trials
            .iter()
            .all(|trial| trial.params.internal("x") == Some(0.25))
    );
    assert!(trials[19].params.internal("y") != trials[18].params.internal("y"));
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
        r#"{"type": "categorical", "choices": [[1]]}"#,
        r#"{"type": "float", "low": 0, "high": 1, "log": "yes"}"#,
    ] {
        assert!(Distribution::from_json_text(text).is_err(), "{text}");
    }
}
