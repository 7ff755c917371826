//! What a study does with its trials: asking, telling, enqueueing, adding, and finding the best.

use std::sync::Arc;

use kiln_tune::study::TellOptions;
use kiln_tune::{
    Distribution, Error, FloatDistribution, InMemoryStorage, IntDistribution, Json, Outcome,
    ParamSpace, ParamValue, RandomSampler, Storage, Study, StudyDirection, TrialBuilder,
    TrialState, study,
};

fn random_study() -> Study {
    Study::builder()
        .sampler(RandomSampler::new(0))
        .create()
        .unwrap()
}

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
fn an_infinite_value_is_close_to_itself_alone() {
    const INF: f64 = f64::INFINITY;
    let repeats = |known: ParamValue, value: ParamValue| {
        let study = random_study();
        study.enqueue_trial([("c", known)]).unwrap();
        !study
            .enqueue(vec![("c".to_owned(), value)], Vec::new(), true)
            .unwrap()
    };
    // What Optuna 5 answers for the same values.
    for (value, known, expected) in [
        (1.5, INF, false),
        (INF, INF, true),
        (-INF, INF, false),
        (INF, 1.5, false),
        (1e308, -1e308, false),
        (f64::NAN, INF, false),
        (0.0, -0.0, true),
        (1.0, 1.00001, true),
        (0.0, 1e-300, false),
    ] {
        assert_eq!(
            repeats(known.into(), value.into()),
            expected,
            "{value} after {known}"
        );
    }
    assert!(repeats(1.into(), true.into()) && !repeats(true.into(), 1.into()));
}

#[test]
fn a_space_is_checked_against_what_the_trials_have() {
    let study = random_study();
    let space =
        |distribution: Distribution| -> ParamSpace { [("x", distribution)].into_iter().collect() };
    let float: Distribution = FloatDistribution::new(0.0, 1.0).unwrap().into();
    assert!(study.check_space(&space(float.clone())).is_ok());
    study.ask_space(&space(float)).unwrap();
    let wider = FloatDistribution::new(-9.0, 9.0).unwrap();
    assert!(study.check_space(&space(wider.into())).is_ok());
    for other in [
        FloatDistribution::with_log(0.1, 1.0).unwrap().into(),
        IntDistribution::new(0, 1).unwrap().into(),
    ] {
        let error = study.check_space(&space(other)).unwrap_err();
        assert!(
            matches!(error, Error::IncompatibleDistribution { .. }),
            "{error}"
        );
    }
    assert_eq!(study.trials().unwrap().len(), 1);
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
fn snapshots_do_not_change_after_they_were_given() {
    let study = random_study();
    let mut trial = study.ask().unwrap();
    let before = study.trials().unwrap();
    trial.suggest_float("x", 0.0, 1.0).unwrap();
    trial.report(1.0, 0).unwrap();
    assert!(before[0].params.is_empty() && before[0].intermediate_values.is_empty());
    assert_eq!(study.trials().unwrap()[0].params.len(), 1);
}
