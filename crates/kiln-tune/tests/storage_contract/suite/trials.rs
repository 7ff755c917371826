use std::sync::Arc;

use kiln_tune::{
    CategoricalDistribution, Distribution, Error, FloatDistribution, IntDistribution, Json,
    ParamValue, Storage, StudyDirection, TrialBuilder, TrialId, TrialState,
};

use super::{Place, float};

fn finished(storage: &dyn Storage, study: i64, value: f64) -> TrialId {
    let trial = storage.create_new_trial(study, None).unwrap().id;
    assert!(
        storage
            .set_trial_state_values(trial, TrialState::Complete, Some(&[value]))
            .unwrap()
    );
    trial
}

pub fn numbers_count_from_zero_in_each_study(place: &Place) {
    let (storage, studies) = (place.storage(), [place.study(), place.study()]);
    for number in 0..3 {
        for study in studies {
            let trial = storage.create_new_trial(study, None).unwrap();
            assert_eq!((trial.number, trial.state), (number, TrialState::Running));
            assert!(trial.datetime_start.is_some() && trial.datetime_complete.is_none());
            assert_eq!(
                storage
                    .get_trial_id_from_study_id_trial_number(study, number)
                    .unwrap(),
                trial.id
            );
        }
    }
    for study in studies {
        let numbers: Vec<u64> = place
            .again()
            .get_all_trials(study, None)
            .unwrap()
            .iter()
            .map(|trial| trial.number)
            .collect();
        assert_eq!(numbers, [0, 1, 2]);
        for number in [3, u64::MAX] {
            let missing = storage.get_trial_id_from_study_id_trial_number(study, number);
            assert!(matches!(missing, Err(Error::TrialNotFound { .. })));
        }
    }
}

pub fn unknown_trials_are_an_error_in_every_call(place: &Place) {
    let storage = place.storage();
    place.study();
    for id in [-1, 2_000_000_000, i64::MAX] {
        let results = [
            storage.get_trial(id).map(drop),
            storage.set_trial_param(id, &"x".into(), 0.5, &float(0.0, 1.0)),
            storage
                .set_trial_state_values(id, TrialState::Complete, Some(&[1.0]))
                .map(drop),
            storage.set_trial_intermediate_value(id, 0, 1.0),
            storage.set_trial_user_attr(id, "k", &Json::Null),
            storage.set_trial_system_attr(id, "k", &Json::Null),
        ];
        for (call, result) in results.iter().enumerate() {
            assert!(
                matches!(result, Err(Error::TrialNotFound { .. })),
                "call {call} with id {id}: {result:?}"
            );
        }
    }
}

pub fn a_finished_trial_never_changes(place: &Place) {
    let (storage, study) = (place.storage(), place.study());
    for state in [TrialState::Complete, TrialState::Pruned, TrialState::Fail] {
        let trial = storage.create_new_trial(study, None).unwrap();
        let values = (state == TrialState::Complete).then_some(&[1.0][..]);
        assert!(
            storage
                .set_trial_state_values(trial.id, state, values)
                .unwrap()
        );
        let before = storage.get_trial(trial.id).unwrap();
        let results = [
            storage.set_trial_param(trial.id, &"x".into(), 0.5, &float(0.0, 1.0)),
            storage
                .set_trial_state_values(trial.id, TrialState::Complete, Some(&[2.0]))
                .map(drop),
            storage
                .set_trial_state_values(trial.id, TrialState::Running, None)
                .map(drop),
            storage.set_trial_intermediate_value(trial.id, 0, 1.0),
            storage.set_trial_user_attr(trial.id, "k", &Json::Null),
            storage.set_trial_system_attr(trial.id, "k", &Json::Null),
        ];
        for (call, result) in results.iter().enumerate() {
            let refused = matches!(result, Err(Error::UpdateFinishedTrial { number, state: old }) if (*number, *old) == (trial.number, state));
            assert!(refused, "call {call}: {result:?}");
        }
        assert_eq!(place.again().get_trial(trial.id).unwrap(), before);
    }
}

pub fn parameters_keep_their_order_value_and_distribution(place: &Place) {
    let (storage, study) = (place.storage(), place.study());
    let trial = storage.create_new_trial(study, None).unwrap().id;
    let choices: Vec<ParamValue> = vec![
        "é\"x".into(),
        ParamValue::Null,
        true.into(),
        1_i64.into(),
        2.5.into(),
        f64::INFINITY.into(),
    ];
    let params: Vec<(&str, f64, Distribution)> = vec![
        ("z", -0.1, FloatDistribution::new(-1.5, 2.0).unwrap().into()),
        (
            "log",
            1e-5,
            FloatDistribution::with_log(1e-5, 1.0).unwrap().into(),
        ),
        (
            "a",
            7.0,
            IntDistribution::with_step(1, 9, 2).unwrap().into(),
        ),
        (
            "c",
            4.0,
            CategoricalDistribution::new(choices).unwrap().into(),
        ),
        (
            "tiny",
            f64::MIN_POSITIVE,
            FloatDistribution::new(0.0, 1.0).unwrap().into(),
        ),
        (
            "third",
            1.0 / 3.0,
            FloatDistribution::new(0.0, 1.0).unwrap().into(),
        ),
    ];
    for (name, internal, distribution) in &params {
        storage
            .set_trial_param(
                trial,
                &(*name).into(),
                *internal,
                &Arc::new(distribution.clone()),
            )
            .unwrap();
    }
    let check = |expected: &[(&str, f64, Distribution)]| {
        let frozen = place.again().get_trial(trial).unwrap();
        let found: Vec<_> = frozen
            .params
            .iter()
            .map(|p| (&*p.name, p.internal, (*p.distribution).clone()))
            .collect();
        assert_eq!(found, expected);
    };
    check(&params);
    // The range may change.
    let mut changed = params.clone();
    changed[0] = ("z", 4.0, FloatDistribution::new(0.0, 5.0).unwrap().into());
    storage
        .set_trial_param(trial, &"z".into(), 4.0, &float(0.0, 5.0))
        .unwrap();
    check(&changed);
}

pub fn an_incompatible_distribution_is_refused(place: &Place) {
    let (storage, study) = (place.storage(), place.study());
    let first = storage.create_new_trial(study, None).unwrap().id;
    storage
        .set_trial_param(first, &"x".into(), 0.5, &float(0.0, 1.0))
        .unwrap();
    let again = place.again();
    let second = again.create_new_trial(study, None).unwrap().id;
    let ints: Arc<Distribution> = Arc::new(IntDistribution::new(0, 3).unwrap().into());
    for handle in [storage, &*again] {
        let refused = handle.set_trial_param(second, &"x".into(), 2.0, &ints);
        assert!(
            matches!(refused, Err(Error::IncompatibleDistribution { .. })),
            "{refused:?}"
        );
    }
    again
        .set_trial_param(second, &"x".into(), 2.0, &float(0.0, 3.0))
        .unwrap();
    // The same name in another study is another parameter.
    let other = storage.create_new_trial(place.study(), None).unwrap().id;
    storage
        .set_trial_param(other, &"x".into(), 2.0, &ints)
        .unwrap();
    let template = TrialBuilder::new()
        .param("x", 2_i64, IntDistribution::new(0, 3).unwrap())
        .value(1.0)
        .build()
        .unwrap();
    let refused = storage.create_new_trial(study, Some(&template));
    assert!(
        matches!(refused, Err(Error::IncompatibleDistribution { .. })),
        "{refused:?}"
    );
    assert_eq!(storage.get_n_trials(study, None).unwrap(), 2);
}

pub fn a_template_is_copied_whole(place: &Place) {
    let storage = place.storage();
    let study = storage
        .create_study(&[StudyDirection::Minimize, StudyDirection::Maximize], None)
        .unwrap();
    let second = |text: &str| text.parse::<kiln_tune::Timestamp>().unwrap();
    let (start, complete) = (
        second("2026-02-28T23:59:59Z"),
        second("2026-03-01T00:00:01Z"),
    );
    let template = TrialBuilder::new()
        .param("b", 0.5, FloatDistribution::new(0.0, 1.0).unwrap())
        .param(
            "a",
            "two",
            CategoricalDistribution::new(["one", "two"]).unwrap(),
        )
        .values([1.5, f64::NEG_INFINITY])
        .intermediate_value(7, f64::NAN)
        .intermediate_value(3, 0.25)
        .user_attr("note", "it's")
        .system_attr("s", 1)
        .constraint("c", -0.5)
        .datetime_start(start)
        .datetime_complete(complete)
        .build()
        .unwrap();
    let created = storage.create_new_trial(study, Some(&template)).unwrap();
    let read = place.again().get_trial(created.id).unwrap();
    for trial in [created, read] {
        assert_eq!(
            (trial.number, trial.state, trial.values.as_deref()),
            (0, TrialState::Complete, Some(&[1.5, f64::NEG_INFINITY][..]))
        );
        assert_eq!(
            (trial.datetime_start, trial.datetime_complete),
            (Some(start), Some(complete))
        );
        assert_eq!(trial.params, template.params);
        assert_eq!(
            (&trial.user_attrs, &trial.system_attrs),
            (&template.user_attrs, &template.system_attrs)
        );
        let reports: Vec<_> = trial
            .intermediate_values
            .iter()
            .map(|(step, value)| format!("{step} {value}"))
            .collect();
        assert_eq!(reports, ["3 0.25", "7 NaN"]);
    }
    let waiting = TrialBuilder::new()
        .state(TrialState::Waiting)
        .build()
        .unwrap();
    let read = place
        .again()
        .get_trial(storage.create_new_trial(study, Some(&waiting)).unwrap().id)
        .unwrap();
    assert_eq!(
        (
            read.number,
            read.state,
            read.datetime_start,
            read.datetime_complete
        ),
        (1, TrialState::Waiting, None, None)
    );
}

pub fn reports_keep_nan_and_infinities_and_are_replaced(place: &Place) {
    let (storage, study) = (place.storage(), place.study());
    let trial = storage.create_new_trial(study, None).unwrap().id;
    for (step, value) in [
        (5, 0.1),
        (0, f64::NAN),
        (2, f64::INFINITY),
        (3, f64::NEG_INFINITY),
        (5, 0.2),
    ] {
        storage
            .set_trial_intermediate_value(trial, step, value)
            .unwrap();
    }
    let reports: Vec<_> = place
        .again()
        .get_trial(trial)
        .unwrap()
        .intermediate_values
        .iter()
        .map(|(step, value)| format!("{step} {value}"))
        .collect();
    assert_eq!(reports, ["0 NaN", "2 inf", "3 -inf", "5 0.2"]);
}

pub fn final_values_may_be_infinite_but_not_nan(place: &Place) {
    let storage = place.storage();
    let study = storage
        .create_study(&[StudyDirection::Minimize; 3], None)
        .unwrap();
    let trial = storage.create_new_trial(study, None).unwrap().id;
    let values = [f64::INFINITY, 1e-300, f64::NEG_INFINITY];
    assert!(
        storage
            .set_trial_state_values(trial, TrialState::Complete, Some(&values))
            .unwrap()
    );
    assert_eq!(
        place.again().get_trial(trial).unwrap().values.as_deref(),
        Some(&values[..])
    );
}

pub fn starting_and_finishing_set_the_times(place: &Place) {
    let (storage, study) = (place.storage(), place.study());
    // MySQL keeps whole seconds.
    let before = kiln_tune::trial::now() - std::time::Duration::from_secs(1);
    let template = TrialBuilder::new()
        .state(TrialState::Waiting)
        .build()
        .unwrap();
    let trial = storage.create_new_trial(study, Some(&template)).unwrap().id;
    assert!(
        storage
            .set_trial_state_values(trial, TrialState::Running, None)
            .unwrap()
    );
    let running = storage.get_trial(trial).unwrap();
    assert!(running.datetime_start.unwrap() >= before && running.datetime_complete.is_none());
    assert!(
        storage
            .set_trial_state_values(trial, TrialState::Fail, None)
            .unwrap()
    );
    let failed = storage.get_trial(trial).unwrap();
    assert_eq!(
        (failed.state, &failed.values, failed.datetime_start),
        (TrialState::Fail, &None, running.datetime_start)
    );
    assert!(
        failed.datetime_complete.unwrap()
            >= running.datetime_start.unwrap() - std::time::Duration::from_secs(1)
    );
}

pub fn only_named_and_newer_trials_are_read(place: &Place) {
    let (storage, study, other) = (place.storage(), place.study(), place.study());
    let foreign = storage.create_new_trial(other, None).unwrap().id;
    let ids: Vec<TrialId> = (0..6)
        .map(|i| finished(storage, study, f64::from(i)))
        .collect();
    let read = |wanted: &[TrialId], after| -> Vec<TrialId> {
        place
            .again()
            .read_trials(study, wanted, after)
            .unwrap()
            .iter()
            .map(|trial| trial.id)
            .collect()
    };
    assert_eq!(read(&[], TrialId::MIN), ids);
    assert_eq!(read(&[], ids[3]), ids[4..]);
    assert_eq!(
        read(&[ids[2], ids[0]], ids[3]),
        [ids[0], ids[2], ids[4], ids[5]]
    );
    // What is newer is not given twice; what is unknown or of another study is left out.
    assert_eq!(
        read(&[ids[5], 1_999_999_999, -3, foreign], ids[4]),
        [ids[5]]
    );
    assert!(read(&[], ids[5]).is_empty());
    assert_eq!(read(&[ids[1]], TrialId::MAX), [ids[1]]);
}

pub fn a_snapshot_does_not_change(place: &Place) {
    let (storage, study) = (place.storage(), place.study());
    let trial = storage.create_new_trial(study, None).unwrap().id;
    let snapshot = storage.read_trials(study, &[], TrialId::MIN).unwrap();
    storage
        .set_trial_param(trial, &"x".into(), 0.5, &float(0.0, 1.0))
        .unwrap();
    storage
        .set_trial_state_values(trial, TrialState::Complete, Some(&[1.0]))
        .unwrap();
    assert_eq!(
        (snapshot[0].state, snapshot[0].params.len()),
        (TrialState::Running, 0)
    );
    assert_eq!(
        storage.read_trials(study, &[], TrialId::MIN).unwrap()[0].state,
        TrialState::Complete
    );
}

pub fn trials_are_counted_by_state(place: &Place) {
    let (storage, study) = (place.storage(), place.study());
    finished(storage, study, 1.0);
    finished(storage, study, 2.0);
    let running = storage.create_new_trial(study, None).unwrap().id;
    let count = |states: Option<&[TrialState]>| storage.get_n_trials(study, states).unwrap();
    assert_eq!(count(None), 3);
    assert_eq!(count(Some(&[TrialState::Complete])), 2);
    assert_eq!(count(Some(&[TrialState::Complete, TrialState::Running])), 3);
    assert_eq!(count(Some(&[])), 0);
    let found = storage
        .get_all_trials(study, Some(&[TrialState::Running]))
        .unwrap();
    assert_eq!(
        found.iter().map(|trial| trial.id).collect::<Vec<_>>(),
        [running]
    );
}

pub fn the_best_trial_orders_infinities_and_ties(place: &Place) {
    let storage = place.storage();
    for (direction, values, best) in [
        (
            StudyDirection::Minimize,
            vec![f64::INFINITY, 2.0, 1.0, 1.0, 3.0],
            2,
        ),
        (
            StudyDirection::Maximize,
            vec![f64::NEG_INFINITY, 2.0, 3.0, 3.0],
            2,
        ),
        (StudyDirection::Minimize, vec![-5.0, f64::NEG_INFINITY], 1),
        (StudyDirection::Maximize, vec![5.0, f64::INFINITY], 1),
        (StudyDirection::Minimize, vec![f64::INFINITY], 0),
    ] {
        let study = storage.create_study(&[direction], None).unwrap();
        assert!(matches!(
            storage.get_best_trial(study),
            Err(Error::NoTrials(_))
        ));
        // A pruned trial has a value but does not count.
        let pruned = TrialBuilder::new()
            .state(TrialState::Pruned)
            .value(direction.loss(-1e9))
            .build()
            .unwrap();
        for value in &values {
            finished(storage, study, *value);
        }
        storage.create_new_trial(study, Some(&pruned)).unwrap();
        assert_eq!(
            storage.get_best_trial(study).unwrap().number,
            best,
            "{direction} {values:?}"
        );
        assert_eq!(place.again().get_best_trial(study).unwrap().number, best);
    }
    let several = storage
        .create_study(&[StudyDirection::Minimize; 2], None)
        .unwrap();
    assert!(matches!(
        storage.get_best_trial(several),
        Err(Error::MultiObjective { .. })
    ));
}

pub fn waiting_trials_are_listed_until_they_start(place: &Place) {
    let (storage, study) = (place.storage(), place.study());
    let template = TrialBuilder::new()
        .state(TrialState::Waiting)
        .build()
        .unwrap();
    let add = || storage.create_new_trial(study, Some(&template)).unwrap().id;
    let waiting = |handle: &dyn Storage| handle.get_waiting_trial_ids(study).unwrap();
    assert!(waiting(storage).is_empty());
    let (first, _, second) = (add(), storage.create_new_trial(study, None).unwrap(), add());
    let again = place.again();
    for handle in [storage, &*again] {
        assert_eq!(waiting(handle), [first, second]);
    }
    assert!(
        storage
            .set_trial_state_values(first, TrialState::Running, None)
            .unwrap()
    );
    let third = add();
    for handle in [storage, &*again] {
        assert_eq!(waiting(handle), [second, third]);
    }
}
