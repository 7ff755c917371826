use kiln_tune::Json;

use super::Place;

fn values() -> Vec<Json> {
    [
        r#"{"a": [1, 1.0, null, true, {"b": "é\"x🔥"}], "empty": []}"#,
        "NaN",
        "[Infinity, -Infinity, 1e-05, 1e+16, -0.0]",
        r#""quote ' \" backslash \\ zero \u0000""#,
        "9223372036854775807",
    ]
    .iter()
    .map(|text| Json::parse(text).unwrap())
    .collect()
}

pub fn attributes_keep_every_kind_of_json_and_are_replaced(place: &Place) {
    let storage = place.storage();
    let study = place.study();
    let trial = storage.create_new_trial(study, None).unwrap().id;
    for value in values() {
        storage.set_study_user_attr(study, "user", &value).unwrap();
        storage
            .set_study_system_attr(study, "system", &value)
            .unwrap();
        storage.set_trial_user_attr(trial, "user", &value).unwrap();
        storage
            .set_trial_system_attr(trial, "system", &value)
            .unwrap();
        let again = place.again();
        let text = value.to_string();
        let (user, system) = (
            again.get_study_user_attrs(study).unwrap(),
            again.get_study_system_attrs(study).unwrap(),
        );
        assert_eq!((user.len(), user["user"].to_string()), (1, text.clone()));
        assert_eq!(
            (system.len(), system["system"].to_string()),
            (1, text.clone())
        );
        let frozen = again.get_trial(trial).unwrap();
        assert_eq!(
            (
                frozen.user_attrs.len(),
                frozen.user_attrs["user"].to_string()
            ),
            (1, text.clone())
        );
        assert_eq!(
            (
                frozen.system_attrs.len(),
                frozen.system_attrs["system"].to_string()
            ),
            (1, text.clone())
        );
        let listed = again.get_all_studies().unwrap();
        let listed = listed.iter().find(|listed| listed.id == study).unwrap();
        assert_eq!(
            (
                listed.user_attrs["user"].to_string(),
                listed.system_attrs["system"].to_string()
            ),
            (text.clone(), text)
        );
    }
}

pub fn keys_and_values_are_never_taken_for_sql(place: &Place) {
    let storage = place.storage();
    let study = place.study();
    let trial = storage.create_new_trial(study, None).unwrap().id;
    let keys = [
        "'; DELETE FROM trials; --",
        "\"key\"",
        "a?b",
        "$1",
        "%",
        "ключ",
        &"k".repeat(512),
    ];
    for key in keys {
        storage
            .set_study_user_attr(study, key, &key.into())
            .unwrap();
        storage
            .set_trial_user_attr(trial, key, &key.into())
            .unwrap();
    }
    let attrs = place.again().get_study_user_attrs(study).unwrap();
    assert_eq!(attrs.len(), keys.len());
    assert!(attrs.iter().all(|(key, value)| value.as_str() == Some(key)));
    assert_eq!(place.again().get_trial(trial).unwrap().user_attrs, attrs);
}
