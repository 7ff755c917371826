//! SQLite files as Optuna has and makes them, damaged and foreign files, and killed workers.
#![cfg(feature = "sqlite")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_tune::storage::retry_stale_trial;
use kiln_tune::{Budget, FrozenTrial, Json, Storage, Study, StudyDirection, Trial, TrialState};
use kiln_tune_rdb::{RdbOptions, RdbStorage, open, open_existing};
use serde_json::{Value, json};

const GOLDEN_SQL: &str = include_str!("golden/storages/example-db.sql");
const GOLDEN_JSON: &str = include_str!("golden/storages/example-db.json");

fn url(path: &Path) -> String {
    format!("sqlite:///{}", path.display())
}

/// A database in `directory` as Optuna 5.0.0 wrote it.
fn example(directory: &Path) -> PathBuf {
    let path = directory.join("example.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    // The dump fills tables before those they refer to.
    connection
        .pragma_update(None, "foreign_keys", false)
        .unwrap();
    connection.execute_batch(GOLDEN_SQL).unwrap();
    path
}

/// A trial in the layout of example-db.json.
fn as_golden(trial: &FrozenTrial) -> Value {
    let attrs = |attrs: &kiln_tune::Attrs| -> Value {
        // The pickles of the CMA-ES sampler are left out there.
        attrs
            .iter()
            .filter(|(key, _)| !key.starts_with("cma:optimizer"))
            .map(|(key, value)| (key.clone(), value.to_strict()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let number = |value: f64| Json::Float(value).to_strict();
    json!({
        "trial_id": trial.id,
        "number": trial.number,
        "state": trial.state.name(),
        "values": trial.values.as_ref().map(|values| values.iter().map(|v| number(*v)).collect::<Vec<_>>()),
        "params": trial.params.iter().map(|p| json!([&*p.name, p.value().to_json().to_strict()])).collect::<Vec<_>>(),
        "distributions": trial.params.iter().map(|p| (p.name.to_string(), p.distribution.to_json().to_strict())).collect::<serde_json::Map<_, _>>(),
        "user_attrs": attrs(&trial.user_attrs),
        "system_attrs": attrs(&trial.system_attrs),
        "constraints": trial.constraints().into_iter().map(|(key, value)| (key, number(value))).collect::<serde_json::Map<_, _>>(),
        "intermediate_values": trial.intermediate_values.iter().map(|(step, value)| json!([step, number(*value)])).collect::<Vec<_>>(),
        "last_step": trial.intermediate_values.keys().last(),
    })
}

#[test]
fn everything_optuna_wrote_is_read_exactly() {
    let directory = tempfile::tempdir().unwrap();
    let storage = open(&url(&example(directory.path()))).unwrap();
    // serde_json alone reads some numbers one unit in the last place off.
    let golden = Json::parse(GOLDEN_JSON).unwrap().to_strict();
    let golden = golden["studies"].as_array().unwrap();
    let studies = storage.get_all_studies().unwrap();
    assert_eq!(studies.len(), golden.len());
    let mut compared = 0;
    for (study, expected) in studies.iter().zip(golden) {
        assert_eq!(
            (json!(study.id), json!(study.name)),
            (expected["study_id"].clone(), expected["name"].clone())
        );
        let directions: Vec<String> = study
            .directions
            .iter()
            .map(|d| d.name().to_uppercase())
            .collect();
        assert_eq!(json!(directions), expected["directions"]);
        let attrs = |attrs: &kiln_tune::Attrs| {
            Value::from(
                attrs
                    .iter()
                    .map(|(k, v)| (k.clone(), v.to_strict()))
                    .collect::<serde_json::Map<_, _>>(),
            )
        };
        assert_eq!(attrs(&study.user_attrs), expected["user_attrs"]);
        assert_eq!(attrs(&study.system_attrs), expected["system_attrs"]);
        let trials = storage.get_all_trials(study.id, None).unwrap();
        let expected_trials = expected["trials"].as_array().unwrap();
        assert_eq!(trials.len(), expected_trials.len());
        for (trial, expected) in trials.iter().zip(expected_trials) {
            assert_eq!(as_golden(trial), *expected);
            compared += 1;
        }
        let study = Study::builder()
            .name(&study.name)
            .shared_storage(storage.clone())
            .load()
            .unwrap();
        assert_eq!(
            study
                .best_trial()
                .ok()
                .map(|trial| json!(trial.number))
                .unwrap_or_default(),
            expected["best_trial_number"],
            "{}",
            study.name()
        );
        let best: Vec<u64> = study
            .best_trials()
            .unwrap()
            .iter()
            .map(|trial| trial.number)
            .collect();
        assert_eq!(json!(best), expected["best_trials"]);
    }
    assert_eq!(compared, 41);
}

#[test]
fn the_times_of_optuna_are_read_as_utc() {
    let directory = tempfile::tempdir().unwrap();
    let storage = open(&url(&example(directory.path()))).unwrap();
    let trial = storage.get_trial(1).unwrap();
    let time = |text: &str| Some(text.parse::<kiln_tune::Timestamp>().unwrap());
    assert_eq!(trial.datetime_start, time("2026-11-22T11:43:21.233221Z"));
    assert_eq!(trial.datetime_complete, time("2026-11-22T11:43:21.311311Z"));
}

#[test]
fn tables_and_version_rows_are_those_of_optuna() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ours.db");
    open(&url(&path)).unwrap();
    let normalized = |path: &Path| -> BTreeMap<String, String> {
        let connection = rusqlite::Connection::open(path).unwrap();
        let mut statement = connection
            .prepare("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
            .unwrap();
        let rows = statement
            .query_map([], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })
            .unwrap();
        rows.map(|row| {
            row.map(|(name, sql)| {
                (
                    name,
                    sql.split_whitespace()
                        .collect::<Vec<_>>()
                        .join(" ")
                        .replace("( ", "(")
                        .replace(" )", ")"),
                )
            })
            .unwrap()
        })
        .collect()
    };
    assert_eq!(normalized(&path), normalized(&example(directory.path())));
    let connection = rusqlite::Connection::open(&path).unwrap();
    let info: (i64, i64, String) = connection
        .query_row(
            "SELECT version_info_id, schema_version, library_version FROM version_info",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    assert_eq!(info, (1, 12, "5.0.0".to_owned()));
    let revision: String = connection
        .query_row("SELECT version_num FROM alembic_version", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(revision, "v3.2.0.a");
}

#[test]
fn rows_are_written_as_optuna_writes_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ours.db");
    let study = Study::builder()
        .name("demo")
        .shared_storage(open(&url(&path)).unwrap())
        .create()
        .unwrap();
    study.set_metric_names(&["loss"]).unwrap();
    study.enqueue_trial([("f", 0.25)]).unwrap();
    let mut trial = study.ask().unwrap();
    trial.suggest_float("f", -1.5, 2.0).unwrap();
    trial.suggest_categorical("c", &["a", "é\"x"]).unwrap();
    trial.report(0.5, 0).unwrap();
    trial.report(f64::NAN, 1).unwrap();
    trial.set_user_attr("u", "x").unwrap();
    trial.set_constraint("c1", -0.5).unwrap();
    study.tell(trial, f64::INFINITY).unwrap();

    let connection = rusqlite::Connection::open(&path).unwrap();
    let rows = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        let rows = statement
            .query_map([], |row| {
                Ok((0..columns)
                    .map(|i| format!("{:?}", row.get::<_, rusqlite::types::Value>(i).unwrap()))
                    .collect::<Vec<_>>()
                    .join(" "))
            })
            .unwrap();
        rows.map(Result::unwrap).collect()
    };
    assert_eq!(
        rows("SELECT direction, study_id, objective FROM study_directions"),
        [r#"Text("MINIMIZE") Integer(1) Integer(0)"#]
    );
    assert_eq!(
        rows("SELECT key, value_json FROM study_system_attributes"),
        [r#"Text("study:metric_names") Text("[\"loss\"]")"#]
    );
    assert_eq!(
        rows("SELECT trial_id, number, study_id, state FROM trials"),
        [r#"Integer(1) Integer(0) Integer(1) Text("COMPLETE")"#]
    );
    assert_eq!(
        rows("SELECT length(datetime_start), length(datetime_complete) FROM trials"),
        ["Integer(26) Integer(26)"]
    );
    assert_eq!(
        rows("SELECT value, value_type FROM trial_values"),
        [r#"Null Text("INF_POS")"#]
    );
    assert_eq!(
        rows(
            "SELECT step, intermediate_value, intermediate_value_type FROM trial_intermediate_values"
        ),
        [
            r#"Integer(0) Real(0.5) Text("FINITE")"#,
            r#"Integer(1) Null Text("NAN")"#
        ]
    );
    assert_eq!(
        rows("SELECT param_name, param_value FROM trial_params LIMIT 1"),
        [r#"Text("f") Real(0.25)"#]
    );
    let distributions: Vec<String> = connection
        .prepare("SELECT distribution_json FROM trial_params ORDER BY param_id")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        distributions[0],
        r#"{"name": "FloatDistribution", "attributes": {"step": null, "low": -1.5, "high": 2.0, "log": false}}"#
    );
    assert_eq!(
        distributions[1],
        r#"{"name": "CategoricalDistribution", "attributes": {"choices": ["a", "\u00e9\"x"]}}"#
    );
    assert_eq!(
        rows("SELECT key, value_json FROM trial_system_attributes ORDER BY key"),
        [
            r#"Text("constraints:c1") Text("-0.5")"#,
            r#"Text("fixed_params") Text("{\"f\": 0.25}")"#
        ]
    );
    assert_eq!(
        rows("SELECT key, value_json FROM trial_user_attributes"),
        [r#"Text("u") Text("\"x\"")"#]
    );
}

#[test]
fn a_study_of_optuna_is_continued() {
    let directory = tempfile::tempdir().unwrap();
    let path = example(directory.path());
    let study = Study::builder()
        .name("tpe")
        .shared_storage(open_existing(&url(&path)).unwrap())
        .load()
        .unwrap();
    let objective = |trial: &mut Trial| {
        Ok::<_, kiln_tune::Error>(
            trial.suggest_float("a", 0.0, 1.0)? + trial.suggest_float("b", 0.0, 1.0)?,
        )
    };
    study.optimize(objective, 3).unwrap();
    let numbers: Vec<u64> = study
        .trials()
        .unwrap()
        .iter()
        .map(|trial| trial.number)
        .collect();
    assert_eq!(numbers, (0..7).collect::<Vec<_>>());
    // The file keeps the mode that Optuna gave it.
    let mode: String = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "delete");
}

#[test]
fn foreign_and_damaged_files_are_refused_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(
        at("text.db"),
        "not a database at all, just some text that is long enough".repeat(20),
    )
    .unwrap();
    rusqlite::Connection::open(at("other.db"))
        .unwrap()
        .execute_batch("CREATE TABLE customers (id INTEGER); INSERT INTO customers VALUES (7)")
        .unwrap();
    let old = example(directory.path());
    std::fs::rename(&old, at("old.db")).unwrap();
    rusqlite::Connection::open(at("old.db")).unwrap().execute_batch("UPDATE alembic_version SET version_num = 'v2.6.0.a'; UPDATE version_info SET library_version = '2.10.1'").unwrap();
    let mut bytes = std::fs::read(example(directory.path())).unwrap();
    let half = bytes.len() / 2;
    bytes[200..half].fill(0x5a);
    std::fs::write(at("damaged.db"), bytes).unwrap();
    std::fs::create_dir(at("directory.db")).unwrap();
    for (name, reason) in [
        ("text.db", "not an SQLite database"),
        ("other.db", "customers"),
        ("old.db", "optuna storage upgrade"),
        ("damaged.db", "damaged"),
        ("directory.db", "cannot be opened"),
        ("missing/dir.db", "cannot be opened"),
    ] {
        let before = std::fs::read(at(name)).ok();
        let error = RdbStorage::open(&url(&at(name))).unwrap_err();
        let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(text.contains(reason) && text.contains(name), "{text}");
        assert_eq!(
            std::fs::read(at(name)).ok(),
            before,
            "{name} must stay as it is"
        );
    }
    let error = open_existing(&url(&at("absent.db"))).err().unwrap();
    assert!(
        format!("{error}: {}", std::error::Error::source(&error).unwrap())
            .contains("cannot be opened")
    );
    assert!(!at("absent.db").exists());
}

#[test]
fn too_long_names_are_refused_before_anything_is_written() {
    let storage = open("sqlite:///:memory:").unwrap();
    let long = "x".repeat(513);
    assert!(
        storage
            .create_study(&[StudyDirection::Minimize], Some(&long))
            .unwrap_err()
            .to_string()
            .contains("513")
    );
    let study = storage
        .create_study(&[StudyDirection::Minimize], Some("short"))
        .unwrap();
    assert!(
        storage
            .set_study_user_attr(study, &long, &Json::Null)
            .is_err()
    );
    let trial = storage.create_new_trial(study, None).unwrap().id;
    assert!(
        storage
            .set_trial_intermediate_value(trial, i64::from(i32::MAX) + 1, 0.0)
            .unwrap_err()
            .to_string()
            .contains("32 bits")
    );
}

#[test]
fn a_locked_file_is_waited_for_and_then_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("study.db");
    let storage = RdbOptions::new()
        .patience(Duration::from_millis(300))
        .open(&url(&path))
        .unwrap();
    let study = storage
        .create_study(&[StudyDirection::Minimize], None)
        .unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = storage.create_new_trial(study, None).unwrap_err();
    assert!(error.to_string().contains("locked by others"), "{error}");
    // Readers do not wait for a writer.
    assert_eq!(storage.get_n_trials(study, None).unwrap(), 0);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| storage.create_new_trial(study, None));
        std::thread::sleep(Duration::from_millis(50));
        other.execute_batch("COMMIT").unwrap();
        assert_eq!(waiting.join().unwrap().unwrap().number, 0);
    });
}

#[test]
fn a_trial_is_marked_alive_before_its_objective_begins() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("study.db");
    let options = RdbOptions::new().heartbeat_interval(Duration::from_secs(60));
    let storage = options.open(&url(&path)).unwrap();
    let study = Study::builder().storage(storage).create().unwrap();
    let marks = || {
        let db = rusqlite::Connection::open(&path).unwrap();
        let count = "SELECT COUNT(*) FROM trial_heartbeats";
        db.query_row(count, [], |row| row.get::<_, f64>(0)).unwrap()
    };
    // Otherwise a worker killed at once would leave a trial that nobody finds.
    study
        .optimize(|_: &mut Trial| Ok::<_, kiln_tune::Error>(marks()), 3)
        .unwrap();
    let values: Vec<_> = study
        .trials()
        .unwrap()
        .iter()
        .map(|trial| trial.value())
        .collect();
    assert_eq!(values, [Some(1.0), Some(2.0), Some(3.0)]);
}

#[test]
fn a_stale_trial_is_failed_and_retried() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("study.db");
    let storage = || {
        let options = RdbOptions::new()
            .heartbeat_interval(Duration::from_secs(1))
            .grace_period(Duration::from_secs(60));
        options
            .on_stale_trial(retry_stale_trial(Some(1), false))
            .open(&url(&path))
            .unwrap()
    };
    let study = Study::builder()
        .name("s")
        .storage(storage())
        .create()
        .unwrap();
    let dead = |study: &Study| {
        let mut trial = study.ask().unwrap();
        trial.suggest_float("x", 0.0, 1.0).unwrap();
        trial.set_user_attr("who", "me").unwrap();
        study
            .storage()
            .heartbeat()
            .unwrap()
            .record(trial.id())
            .unwrap();
        // As if the worker had been killed an hour ago.
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute_batch("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')")
            .unwrap();
        trial.number()
    };
    // A trial without a heartbeat was started by ask and is left alone.
    let asked = study.ask().unwrap();
    assert_eq!(dead(&study), 1);
    assert_eq!(
        study
            .storage()
            .heartbeat()
            .unwrap()
            .stale_trial_ids(study.id())
            .unwrap(),
        [2]
    );
    let other = Study::builder()
        .name("s")
        .storage(storage())
        .load()
        .unwrap();
    other.fail_stale_trials().unwrap();
    let trials = other.trials().unwrap();
    assert_eq!(
        (trials[0].number, trials[0].state),
        (asked.number(), TrialState::Running)
    );
    assert_eq!(trials[1].state, TrialState::Fail);
    let retry = &trials[2];
    assert_eq!(
        (retry.state, retry.params.internal("x"), &retry.user_attrs),
        (
            TrialState::Waiting,
            trials[1].params.internal("x"),
            &trials[1].user_attrs
        )
    );
    assert_eq!(
        (
            retry.system_attrs["failed_trial"].to_string(),
            retry.system_attrs["retry_history"].to_string()
        ),
        ("1".to_owned(), "[1]".to_owned())
    );
    // The copy is retried no further than asked for.
    assert_eq!(dead(&other), 2);
    other.fail_stale_trials().unwrap();
    assert_eq!(other.trials().unwrap().len(), 3);
}

/// Not a test of its own: a worker that the next test starts as a process and kills.
#[test]
#[ignore = "a worker of the test below"]
fn worker() {
    let path = std::env::var("KILN_TUNE_WORKER_DB").expect("only the test below starts this");
    let study = Study::builder()
        .name("shared")
        .shared_storage(open(&url(Path::new(&path))).unwrap())
        .load_if_exists(true)
        .create()
        .unwrap();
    let objective = |trial: &mut Trial| -> kiln_tune::Result<f64> {
        let mut sum = 0.0;
        for i in 0..5 {
            sum += trial.suggest_float(&format!("x{i}"), -1.0, 1.0)?.powi(2);
            trial.report(sum, i)?;
        }
        trial.set_user_attr("sum", sum)?;
        Ok(sum)
    };
    let enough = kiln_tune::max_trials_callback(200, Some(&[TrialState::Complete]));
    study
        .optimize(objective, Budget::unlimited().callback(enough))
        .unwrap();
}

#[test]
fn killed_workers_lose_at_most_their_running_trial() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shared.db");
    let spawn = || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "worker", "--ignored", "--quiet"])
            .env("KILN_TUNE_WORKER_DB", &path)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut killed = 0;
    for round in 0..6_u64 {
        let mut doomed = spawn();
        // Spread over opening the file, making the tables and writing trials.
        std::thread::sleep(Duration::from_millis(15 + 23 * round));
        if doomed.try_wait().unwrap().is_none() {
            doomed.kill().unwrap();
            killed += 1;
        }
        doomed.wait().unwrap();
    }
    assert!(killed > 0);
    let mut workers = [spawn(), spawn(), spawn()];
    for worker in &mut workers {
        assert!(worker.wait().unwrap().success());
    }
    let storage = open_existing(&url(&path)).unwrap();
    let study = Study::builder()
        .name("shared")
        .shared_storage(storage)
        .load()
        .unwrap();
    let trials = study.trials().unwrap();
    let numbers: Vec<u64> = trials.iter().map(|trial| trial.number).collect();
    assert_eq!(numbers, (0..trials.len() as u64).collect::<Vec<_>>());
    let running = trials
        .iter()
        .filter(|trial| trial.state == TrialState::Running)
        .count();
    assert!(
        running <= killed,
        "{running} running trials after {killed} kills"
    );
    let complete: Vec<_> = trials
        .iter()
        .filter(|trial| trial.state == TrialState::Complete)
        .collect();
    assert_eq!(complete.len() + running, trials.len());
    assert!(complete.len() >= 200);
    for trial in complete {
        assert_eq!(
            (
                trial.params.len(),
                trial.intermediate_values.len(),
                trial.user_attrs["sum"].as_f64()
            ),
            (5, 5, trial.value())
        );
    }
    let check: String = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
}
