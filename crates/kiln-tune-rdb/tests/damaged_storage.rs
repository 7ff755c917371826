//! Records that other programs write and Kiln does not, and damaged ones: what is read nevertheless, and what is said.
#![cfg(feature = "sqlite")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once};

use kiln_tune::storage::JournalStorage;
use kiln_tune::study::get_all_study_summaries;
use kiln_tune::{
    CategoricalDistribution, Distribution, Json, ParamValue, Storage, Study, StudyDirection,
};
use kiln_tune_rdb::{RdbOptions, open, write_ahead_log};

/// What was logged, so that a test can look for the file that it made.
static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() == log::Level::Warn {
            LOGGED.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

fn warnings_with(part: &str) -> Vec<String> {
    let logged = LOGGED.lock().unwrap();
    logged
        .iter()
        .filter(|text| text.contains(part))
        .cloned()
        .collect()
}

/// Which file a storage is in, and how to change what it holds.
struct Place {
    directory: tempfile::TempDir,
    journal: bool,
}

impl Place {
    fn new(journal: bool) -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            log::set_logger(&Logger).unwrap();
            log::set_max_level(log::LevelFilter::Warn);
        });
        let directory = tempfile::tempdir().unwrap();
        Self { directory, journal }
    }

    fn path(&self) -> PathBuf {
        self.directory
            .path()
            .join(if self.journal { "s.log" } else { "s.db" })
    }

    fn open(&self) -> Arc<dyn Storage> {
        let path = self.path();
        open(&if self.journal {
            format!("journal:{}", path.display())
        } else {
            format!("sqlite:///{}", path.display())
        })
        .unwrap()
    }

    /// Replaces text wherever it stands, in the journal or in one column of a table.
    fn replace(&self, table: &str, column: &str, from: &str, to: &str) {
        if self.journal {
            let text = std::fs::read_to_string(self.path()).unwrap();
            // Within a line, the text of a distribution is a JSON string.
            let quoted = |text: &str| text.replace('"', "\\\"");
            let (from, to) = if table == "trial_params" {
                (quoted(from), quoted(to))
            } else {
                (from.to_owned(), to.to_owned())
            };
            assert!(text.contains(&from), "{from} is not in {text}");
            std::fs::write(self.path(), text.replace(&from, &to)).unwrap();
        } else {
            let sql = format!(
                "UPDATE {table} SET {column} = replace({column}, ?1, ?2) WHERE instr({column}, ?1)"
            );
            let changed = self.database().execute(&sql, [from, to]).unwrap();
            assert!(changed > 0, "{from} is not in {table}");
        }
    }

    fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).unwrap()
    }
}

const SCALARS: &str = r#"["a", "b"]"#;
const COMPOSITES: &str = r#"[[3, 3], {"k": [5, null]}]"#;

/// Two studies of three trials, "odd" and "plain"; those of the first have a parameter "k" and an attribute "note".
fn two_studies(storage: &Arc<dyn Storage>) {
    for name in ["odd", "plain"] {
        let study = Study::builder()
            .name(name)
            .shared_storage(storage.clone())
            .create()
            .unwrap();
        for index in 0..3 {
            study.enqueue_trial([("k", ["a", "b"][index % 2])]).unwrap();
            let mut trial = study.ask().unwrap();
            let x = trial.suggest_float("x", 0.0, 1.0).unwrap();
            if name == "odd" {
                trial.suggest_categorical("k", &["a", "b"]).unwrap();
                trial
                    .set_user_attr("note", format!("note {index}"))
                    .unwrap();
            }
            trial.report(x, 1).unwrap();
            study.tell(trial, x).unwrap();
        }
    }
}

fn load(storage: &Arc<dyn Storage>, name: &str) -> kiln_tune::Result<Study> {
    Study::builder()
        .name(name)
        .shared_storage(storage.clone())
        .load()
}

#[test]
fn tuples_lists_and_dicts_of_a_python_study_are_read_shown_and_suggested_again() {
    for journal in [false, true] {
        let place = Place::new(journal);
        two_studies(&place.open());
        place.replace("trial_params", "distribution_json", SCALARS, COMPOSITES);
        let storage = place.open();
        let study = load(&storage, "odd").unwrap();
        let trials = study.trials().unwrap();
        let shown: Vec<String> = trials
            .iter()
            .map(|trial| trial.params.value("k").unwrap().to_string())
            .collect();
        assert_eq!(shown, ["[3, 3]", r#"{"k": [5, null]}"#, "[3, 3]"]);
        assert_eq!(
            serde_json::to_string(&trials[1].params.value("k").unwrap()).unwrap(),
            r#"{"k":[5,null]}"#
        );
        let distribution = (*trials[0].params.get("k").unwrap().distribution).clone();
        assert_eq!(
            distribution.to_string(),
            "CategoricalDistribution(choices=([3, 3], {'k': [5, None]}))"
        );
        // As the sampler chooses it, as JSON, and as text from a command line; 3.0 is Python's 3.
        let list = Json::parse("[3.0, 3]").unwrap();
        for (given, expected) in [
            (ParamValue::Json(list), "[3, 3]"),
            ("{\"k\": [5, null]}".into(), r#"{"k": [5, null]}"#),
        ] {
            study.enqueue_trial([("k", given)]).unwrap();
            let mut trial = study.ask().unwrap();
            let value = trial.suggest("k", distribution.clone()).unwrap();
            assert_eq!(value.to_string(), expected);
            study.tell(trial, 0.5).unwrap();
        }
        study
            .optimize(
                |trial| {
                    let x = trial.suggest_float("x", 0.0, 1.0)?;
                    let k = trial.suggest("k", distribution.clone())?;
                    Ok::<_, kiln_tune::Error>(if k.to_string() == "[3, 3]" {
                        x
                    } else {
                        x + 1.0
                    })
                },
                15,
            )
            .unwrap();
        let trials = load(&place.open(), "odd").unwrap().trials().unwrap();
        assert_eq!(trials.len(), 20);
        assert!(trials.iter().all(
            |trial| trial.params.get("k").unwrap().distribution.to_json_text()
                == distribution.to_json_text()
        ));
    }
}

#[test]
fn a_list_is_no_choice_of_another_kind_and_another_list_is_another_choice() {
    let of = |text: &str| ParamValue::from_json(&Json::parse(text).unwrap()).unwrap();
    let distribution: Distribution =
        CategoricalDistribution::new([of("[3, 3]"), of("{\"a\": 1, \"b\": 2}"), of("\"x\"")])
            .unwrap()
            .into();
    for (text, index) in [
        ("[3, 3]", Some(0.0)),
        ("[3.0, 3]", Some(0.0)),
        ("{\"b\": 2, \"a\": true}", Some(1.0)),
        ("[3]", None),
        ("[3, 3, 3]", None),
        ("[[3, 3]]", None),
        ("{\"a\": 1}", None),
        ("{\"a\": 1, \"c\": 2}", None),
        ("3", None),
        ("null", None),
        ("\"x\"", Some(2.0)),
    ] {
        assert_eq!(distribution.to_internal(&of(text)).ok(), index, "{text}");
    }
    let text = distribution.to_json_text();
    assert_eq!(Distribution::from_json_text(&text).unwrap(), distribution);
}

#[test]
fn what_cannot_be_read_is_left_out_with_a_warning_that_names_it_and_the_rest_works() {
    let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
    for journal in [false, true] {
        let place = Place::new(journal);
        two_studies(&place.open());
        place.replace("trial_user_attributes", "value_json", "\"note 1\"", &deep);
        place.replace(
            "trial_params",
            "distribution_json",
            SCALARS,
            "{\"of\": \"another release\"}",
        );
        let storage = place.open();
        for name in ["odd", "plain"] {
            let study = load(&storage, name).unwrap();
            let trials = study.trials().unwrap();
            assert_eq!(trials.len(), 3, "{name}");
            assert!(trials.iter().all(|trial| trial.params.contains("x")));
            assert!(trials.iter().all(|trial| !trial.params.contains("k")));
            let notes = trials
                .iter()
                .filter(|trial| trial.user_attrs.contains_key("note"))
                .count();
            assert_eq!(notes, if name == "odd" { 2 } else { 0 });
            study.best_trial().unwrap();
            let mut trial = study.ask().unwrap();
            trial.suggest_float("x", 0.0, 1.0).unwrap();
            study.tell(trial, 0.0).unwrap();
        }
        assert_eq!(get_all_study_summaries(&storage).unwrap().len(), 2);
        let wanted: [&[&str]; 2] = if journal {
            let file = place.path().display().to_string();
            let warned = warnings_with(&file);
            assert!(
                warned.iter().all(|text| text.contains("line ")),
                "{warned:?}"
            );
            [&["note", "200 levels"], &["\"k\"", "left out"]]
        } else {
            [
                &[
                    "trial_user_attributes",
                    "trial_user_attribute_id 2",
                    "200 levels",
                ],
                &["trial_params", "param_id", "choices must be"],
            ]
        };
        for parts in wanted {
            let found = warnings_with(parts[0]);
            assert!(
                found
                    .iter()
                    .any(|text| parts.iter().all(|part| text.contains(part))),
                "{parts:?} in {found:?}"
            );
        }
    }
}

#[test]
fn a_damaged_row_is_an_error_that_names_table_and_row_and_other_studies_work() {
    let first = "(SELECT min(trial_id) FROM trials)";
    for (statement, named) in [
        (
            "UPDATE trials SET state = 'RUNING' WHERE trial_id = FIRST",
            "table trials, row with trial_id 1: state: ",
        ),
        (
            "UPDATE trials SET number = -1 WHERE trial_id = FIRST",
            "table trials, row with trial_id 1: number: ",
        ),
        (
            "UPDATE trials SET number = 'x' WHERE trial_id = FIRST",
            "table trials, row with trial_id 1: number: expected an integer, found \"x\"",
        ),
        (
            "UPDATE trials SET datetime_start = 'soon' WHERE trial_id = FIRST",
            "row with trial_id 1: datetime_start: ",
        ),
        (
            "UPDATE trials SET datetime_complete = x'ff' WHERE trial_id = FIRST",
            "datetime_complete: expected a date and time, found the bytes \\xff",
        ),
        (
            "UPDATE trial_params SET param_value = 7 WHERE trial_id = FIRST AND param_name = 'k'",
            "table trial_params, row with param_id 2: 7.0 is not a value of CategoricalDistribution",
        ),
        (
            "UPDATE trial_params SET param_value = NULL WHERE trial_id = FIRST AND param_name = 'x'",
            "table trial_params, row with param_id 1: expected a number, found NULL",
        ),
        (
            "UPDATE trial_params SET distribution_json = '{' WHERE trial_id = FIRST AND param_name = 'x'",
            "row with param_id 1: invalid JSON",
        ),
        (
            "UPDATE trial_params SET param_name = x'00ff' WHERE trial_id = FIRST AND param_name = 'x'",
            "row with param_id 1: expected text, found the bytes",
        ),
        (
            "UPDATE trial_values SET value_type = 'HUGE' WHERE trial_id = FIRST",
            "table trial_values, row with trial_value_id 1: expected FINITE",
        ),
        (
            "UPDATE trial_values SET objective = 3 WHERE trial_id = FIRST",
            "row with trial_value_id 1: expected 0 in objective, found 3",
        ),
        (
            "UPDATE trial_values SET value = 'much' WHERE trial_id = FIRST",
            "row with trial_value_id 1: expected a number",
        ),
        (
            "UPDATE trial_intermediate_values SET step = 'last' WHERE trial_id = FIRST",
            "table trial_intermediate_values, row with trial_intermediate_value_id 1: expected an integer",
        ),
        (
            "DELETE FROM study_directions WHERE study_id = 1",
            "table study_directions has no row with study_id 1",
        ),
        (
            "UPDATE study_directions SET direction = 'UP' WHERE study_id = 1",
            "table study_directions, row with study_direction_id 1: expected MINIMIZE or MAXIMIZE",
        ),
        (
            "UPDATE study_directions SET objective = 1 WHERE study_id = 1",
            "row with study_direction_id 1: objective must be 0, found 1",
        ),
    ] {
        let place = Place::new(false);
        two_studies(&place.open());
        place
            .database()
            .execute_batch(&statement.replace("FIRST", first))
            .unwrap();
        let storage = place.open();
        let error = load(&storage, "odd")
            .and_then(|study| study.trials())
            .unwrap_err()
            .with_causes();
        assert!(error.contains(named), "{statement}: {error}");
        assert!(
            error.contains("s.db") && error.contains("damaged"),
            "{statement}: {error}"
        );
        // The other study, and what lists both.
        let plain = load(&storage, "plain").unwrap();
        assert_eq!(plain.trials().unwrap().len(), 3);
        plain.ask().unwrap();
        let summaries = get_all_study_summaries(&storage).unwrap();
        let unreadable: Vec<_> = summaries
            .iter()
            .map(|summary| summary.unreadable.as_deref())
            .collect();
        assert!(
            unreadable[0].is_some_and(|why| why.contains(named)),
            "{unreadable:?}"
        );
        assert_eq!(unreadable[1], None);
        storage.delete_study(1).unwrap();
        assert_eq!(storage.get_all_studies().unwrap().len(), 1);
    }
}

#[test]
fn the_last_number_that_a_trial_can_have_is_followed_by_an_error_and_no_overflow() {
    for number in ["9223372036854775807", "2147483647", "-5", "NULL"] {
        let place = Place::new(false);
        two_studies(&place.open());
        place
            .database()
            .execute_batch(&format!(
                "UPDATE trials SET number = {number} WHERE trial_id = 3"
            ))
            .unwrap();
        let error = place
            .open()
            .create_new_trial(1, None)
            .unwrap_err()
            .with_causes();
        assert!(
            error.contains("table trials, row with trial_id 3"),
            "{error}"
        );
    }
}

#[test]
fn a_value_that_its_distribution_cannot_have_makes_one_study_of_a_journal_unreadable() {
    for (from, to, reason) in [
        (
            r#""param_value_internal":1,"#,
            r#""param_value_internal":2,"#,
            "2.0 is not a value of CategoricalDistribution",
        ),
        (
            r#"\"choices\": [\"a\", \"b\"]"#,
            r#"\"choices\": "#,
            "invalid JSON",
        ),
    ] {
        let place = Place::new(true);
        two_studies(&place.open());
        place.replace("", "", from, to);
        let storage = place.open();
        let error = load(&storage, "odd")
            .and_then(|study| study.trials())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(reason) && error.contains("line ") && error.contains("s.log"),
            "{error}"
        );
        assert!(storage.get_trial(0).is_err() && storage.create_new_trial(0, None).is_err());
        assert_eq!(load(&storage, "plain").unwrap().trials().unwrap().len(), 3);
        let summaries = get_all_study_summaries(&storage).unwrap();
        assert!(summaries[0].unreadable.is_some() && summaries[1].unreadable.is_none());
        storage.delete_study(0).unwrap();
        assert_eq!(
            JournalStorage::open(place.path())
                .unwrap()
                .get_all_studies()
                .unwrap()
                .len(),
            1
        );
    }
}

#[test]
fn the_write_ahead_log_of_a_file_is_switched_and_its_studies_stay() {
    let place = Place::new(false);
    let url = format!("sqlite:///{}", place.path().display());
    let storage = RdbOptions::new().wal(false).open(&url).unwrap();
    let id = storage
        .create_study(&[StudyDirection::Minimize], Some("first"))
        .unwrap();
    assert!(!write_ahead_log(&url, None).unwrap());
    // Workers that go on need not be stopped for this.
    assert!(write_ahead_log(&url, Some(true)).unwrap());
    storage.create_new_trial(id, None).unwrap();
    assert!(write_ahead_log(&url, None).unwrap() && write_ahead_log(&url, Some(true)).unwrap());
    let error = write_ahead_log(&url, Some(false))
        .unwrap_err()
        .with_causes();
    assert!(error.contains("stop the workers"), "{error}");
    drop(storage);
    assert!(!write_ahead_log(&url, Some(false)).unwrap());
    assert_eq!(place.open().get_n_trials(id, None).unwrap(), 1);
    for other in ["sqlite:///:memory:", "journal:s.log"] {
        let error = write_ahead_log(other, None).unwrap_err().to_string();
        assert!(error.contains("only an SQLite file"), "{error}");
    }
    let absent = format!("{url}.absent");
    assert!(write_ahead_log(&absent, Some(true)).is_err());
    assert!(!Path::new(absent.trim_start_matches("sqlite:///")).exists());
}
