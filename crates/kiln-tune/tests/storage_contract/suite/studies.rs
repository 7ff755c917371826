use kiln_tune::{Error, Json, StudyDirection, TrialState};

use super::{Place, float};

pub fn a_study_is_found_listed_and_deleted(place: &Place) {
    let (storage, name) = (place.storage(), place.name("first"));
    let directions = [StudyDirection::Minimize, StudyDirection::Maximize];
    let id = storage.create_study(&directions, Some(&name)).unwrap();
    assert_eq!(storage.get_study_id_from_name(&name).unwrap(), id);
    assert_eq!(storage.get_study_name_from_id(id).unwrap(), name);
    assert_eq!(storage.get_study_directions(id).unwrap(), directions);
    let listed = storage.get_all_studies().unwrap();
    let study = listed.iter().find(|study| study.id == id).unwrap();
    assert_eq!(
        (study.name.as_str(), study.directions.as_slice()),
        (name.as_str(), &directions[..])
    );
    let other = place.study();

    storage.delete_study(id).unwrap();
    assert!(matches!(
        storage.get_study_id_from_name(&name),
        Err(Error::StudyNotFound { .. })
    ));
    let listed: Vec<_> = storage
        .get_all_studies()
        .unwrap()
        .iter()
        .map(|study| study.id)
        .collect();
    assert!(!listed.contains(&id) && listed.contains(&other));
}

pub fn a_name_is_taken_only_once(place: &Place) {
    let name = place.name("taken");
    place
        .storage()
        .create_study(&[StudyDirection::Minimize], Some(&name))
        .unwrap();
    let again = place
        .again()
        .create_study(&[StudyDirection::Maximize], Some(&name));
    assert!(matches!(again, Err(Error::DuplicatedStudy { name: given }) if given == name));
}

pub fn a_study_without_a_name_gets_a_unique_one(place: &Place) {
    let names = [place.study(), place.study()]
        .map(|id| place.storage().get_study_name_from_id(id).unwrap());
    assert!(
        names.iter().all(|name| name.starts_with("no-name-")),
        "{names:?}"
    );
    assert_ne!(names[0], names[1]);
}

pub fn unknown_studies_are_an_error_in_every_call(place: &Place) {
    let storage = place.storage();
    for id in [-1, 2_000_000_000, i64::MAX] {
        let results = [
            storage.delete_study(id),
            storage.set_study_user_attr(id, "k", &Json::Null),
            storage.set_study_system_attr(id, "k", &Json::Null),
            storage.get_study_name_from_id(id).map(drop),
            storage.get_study_directions(id).map(drop),
            storage.get_study_user_attrs(id).map(drop),
            storage.get_study_system_attrs(id).map(drop),
            storage.create_new_trial(id, None).map(drop),
            storage
                .get_trial_id_from_study_id_trial_number(id, 0)
                .map(drop),
            storage.read_trials(id, &[], i64::MIN).map(drop),
            storage.get_all_trials(id, None).map(drop),
            storage
                .get_n_trials(id, Some(&[TrialState::Complete]))
                .map(drop),
            storage.get_best_trial(id).map(drop),
            storage.get_waiting_trial_ids(id).map(drop),
        ];
        for (call, result) in results.iter().enumerate() {
            assert!(
                matches!(result, Err(Error::StudyNotFound { .. })),
                "call {call} with id {id}: {result:?}"
            );
        }
    }
    assert!(matches!(
        storage.get_study_id_from_name("no such study"),
        Err(Error::StudyNotFound { .. })
    ));
}

pub fn names_with_quotes_unicode_and_512_characters_survive(place: &Place) {
    let storage = place.storage();
    let longest = place.name(&"ü".repeat(512 - place.name("").chars().count()));
    assert_eq!(longest.chars().count(), 512);
    let names = [
        "it's \"quoted\"; DROP TABLE studies; --",
        "学習 🔥\n\ttab\\",
        "%s ? $1 {}",
    ]
    .map(|name| place.name(name));
    for name in names.iter().chain([&longest]) {
        let id = storage
            .create_study(&[StudyDirection::Minimize], Some(name))
            .unwrap();
        assert_eq!(place.again().get_study_id_from_name(name).unwrap(), id);
        assert_eq!(place.again().get_study_name_from_id(id).unwrap(), *name);
        let trial = storage.create_new_trial(id, None).unwrap().id;
        let param = &name.as_str()[place.name("").len()..];
        storage
            .set_trial_param(trial, &param.into(), 0.25, &float(0.0, 1.0))
            .unwrap();
        assert_eq!(
            place
                .again()
                .get_trial(trial)
                .unwrap()
                .params
                .internal(param),
            Some(0.25)
        );
    }
}

pub fn a_deleted_study_leaves_nothing_to_the_next_one(place: &Place) {
    let storage = place.storage();
    let old = place.study();
    storage
        .set_study_user_attr(old, "k", &Json::Int(1))
        .unwrap();
    let trial = storage.create_new_trial(old, None).unwrap().id;
    storage
        .set_trial_param(trial, &"x".into(), 0.5, &float(0.0, 1.0))
        .unwrap();
    storage
        .set_trial_user_attr(trial, "k", &Json::Int(1))
        .unwrap();
    storage.get_waiting_trial_ids(old).unwrap();
    storage.delete_study(old).unwrap();
    assert!(matches!(
        storage.get_trial(trial),
        Err(Error::TrialNotFound { .. })
    ));

    // SQLite gives the ids of deleted rows to new ones.
    let new = place.study();
    assert_eq!(storage.get_all_trials(new, None).unwrap().len(), 0);
    assert!(storage.get_study_user_attrs(new).unwrap().is_empty());
    let trial = storage.create_new_trial(new, None).unwrap();
    assert_eq!(
        (trial.number, trial.params.len(), trial.user_attrs.len()),
        (0, 0, 0)
    );
    // Another kind of parameter is fine in another study.
    let ints = std::sync::Arc::new(kiln_tune::IntDistribution::new(0, 3).unwrap().into());
    storage
        .set_trial_param(trial.id, &"x".into(), 2.0, &ints)
        .unwrap();
    let template = kiln_tune::TrialBuilder::new()
        .state(TrialState::Waiting)
        .build()
        .unwrap();
    let waiting = storage.create_new_trial(new, Some(&template)).unwrap().id;
    assert_eq!(storage.get_waiting_trial_ids(new).unwrap(), [waiting]);
}
