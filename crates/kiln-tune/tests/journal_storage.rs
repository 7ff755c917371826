//! Journal files as Optuna writes them, cut and foreign ones, and dead lock holders.

use std::path::Path;
use std::sync::Arc;

use kiln_tune::storage::JournalStorage;
use kiln_tune::{Storage, Study, Trial, TrialState};

const GOLDEN: &str = include_str!("golden/storages/journal-example.log");

fn golden_without_the_last_line() -> String {
    let lines: Vec<&str> = GOLDEN.lines().collect();
    lines[..lines.len() - 1]
        .iter()
        .map(|line| format!("{line}\n"))
        .collect()
}

fn write(directory: &Path, text: &str) -> std::path::PathBuf {
    let path = directory.join("journal.log");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn everything_optuna_wrote_is_replayed() {
    let directory = tempfile::tempdir().unwrap();
    let storage =
        JournalStorage::open(write(directory.path(), &golden_without_the_last_line())).unwrap();
    let studies = storage.get_all_studies().unwrap();
    assert_eq!(
        (studies.len(), studies[0].id, studies[0].name.as_str()),
        (1, 0, "demo")
    );
    assert_eq!(studies[0].user_attrs["k"].to_string(), r#"{"a": 1}"#);
    assert_eq!(
        studies[0].system_attrs["study:metric_names"].to_string(),
        r#"["loss"]"#
    );
    let trials = storage.get_all_trials(0, None).unwrap();
    let states: Vec<TrialState> = trials.iter().map(|trial| trial.state).collect();
    assert_eq!(
        states,
        [
            TrialState::Complete,
            TrialState::Complete,
            TrialState::Complete,
            TrialState::Fail
        ]
    );
    let first = &trials[0];
    let params: Vec<String> = first
        .params
        .iter()
        .map(|p| format!("{}={}", p.name, p.value().to_json()))
        .collect();
    assert_eq!(params, ["f=0.6818787821224215", "c=null"]);
    assert_eq!(
        format!("{:?}", first.intermediate_values),
        "{0: NaN, 1: inf}"
    );
    assert_eq!(
        (
            first.user_attrs["u"].as_str(),
            first.constraints()["q"],
            first.value()
        ),
        (Some("é"), 0.5, Some(1.5))
    );
    assert_eq!(
        first.datetime_start,
        Some("2026-11-22T11:51:43.941905Z".parse().unwrap())
    );
    assert_eq!(trials[1].value(), Some(f64::INFINITY));
    assert_eq!(
        trials[1].system_attrs["fixed_params"].to_string(),
        r#"{"f": 0.1}"#
    );
    assert_eq!(
        (
            trials[2].params.value("x").unwrap().as_i64(),
            trials[2].value(),
            trials[2].intermediate_values[&3]
        ),
        (Some(1), Some(2.0), 1.0)
    );
    assert_eq!(storage.get_best_trial(0).unwrap().number, 0);

    let whole = JournalStorage::open(write(directory.path(), GOLDEN)).unwrap();
    assert!(whole.get_all_studies().unwrap().is_empty());
    // Deleted studies and trials keep their ids.
    let study = whole
        .create_study(&[kiln_tune::StudyDirection::Maximize], Some("demo"))
        .unwrap();
    assert_eq!(
        (study, whole.create_new_trial(study, None).unwrap().id),
        (1, 4)
    );
}

#[test]
fn lines_are_written_as_optuna_writes_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.log");
    let study = Study::builder()
        .name("demo")
        .storage(JournalStorage::open(&path).unwrap())
        .create()
        .unwrap();
    study.enqueue_trial([("f", 0.1)]).unwrap();
    let mut trial: Trial = study.ask().unwrap();
    trial.suggest_float("f", 0.0, 1.0).unwrap();
    trial.report(f64::NAN, 0).unwrap();
    study.tell(trial, f64::INFINITY).unwrap();
    // What differs from run to run is cut out of both.
    let stable = |text: &str| -> Vec<String> {
        let blank = |line: &str, key: &str| match line.split_once(&format!("\"{key}\":\"")) {
            Some((before, after)) => {
                format!("{before}\"{key}\":\"{}", &after[after.find('"').unwrap()..])
            }
            None => line.to_owned(),
        };
        text.lines()
            .map(|line| {
                ["worker_id", "datetime_start", "datetime_complete"]
                    .iter()
                    .fold(line.to_owned(), |line, key| blank(&line, key))
            })
            .collect()
    };
    let golden: Vec<&str> = GOLDEN.lines().collect();
    let expected = [
        golden[0], golden[11], golden[12], golden[13], golden[6], golden[14],
    ]
    .join("\n")
    .replace("\"trial_id\":1", "\"trial_id\":0");
    assert_eq!(
        stable(&std::fs::read_to_string(&path).unwrap()),
        stable(&expected)
    );
}

#[test]
fn a_line_that_a_killed_worker_left_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let whole = golden_without_the_last_line();
    let path = write(
        directory.path(),
        &format!("{whole}{{\"op_code\":4,\"worker_id\":\"x\",\"stu"),
    );
    let storage = JournalStorage::open(&path).unwrap();
    assert_eq!(storage.get_n_trials(0, None).unwrap(), 4);
    assert_eq!(storage.create_new_trial(0, None).unwrap().number, 4);
    let again = JournalStorage::open(&path).unwrap();
    assert_eq!(again.get_n_trials(0, None).unwrap(), 5);
    assert!(std::fs::read_to_string(&path).unwrap().starts_with(&whole));
}

#[test]
fn damaged_and_foreign_files_are_refused_with_the_line_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let whole = golden_without_the_last_line();
    for (text, line) in [
        (
            whole.replacen("\"op_code\":5", "\"op_code\":?", 1),
            "line 5",
        ),
        (
            whole.replacen("\"op_code\":5", "\"op_code\":99", 1),
            "line 5",
        ),
        (whole.replacen("\"step\":0", "\"stop\":0", 1), "line 7"),
        ("some notes\nof mine\n".to_owned(), "line 1"),
        ("some notes without an end".to_owned(), "line 1"),
        ("\u{0}\u{0}\u{0}\n".to_owned(), "line 1"),
    ] {
        let path = write(directory.path(), &text);
        let error = JournalStorage::open(&path).unwrap_err().to_string();
        assert!(
            error.contains(line) && error.contains("journal.log"),
            "{error}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
    let error = JournalStorage::open(directory.path())
        .unwrap_err()
        .to_string();
    assert!(error.contains("is a directory"), "{error}");
    assert!(JournalStorage::open_existing(directory.path().join("absent.log")).is_err());
    assert!(!directory.path().join("absent.log").exists());
}

#[test]
fn a_study_without_a_direction_is_named_with_its_line_and_the_others_work() {
    let directory = tempfile::tempdir().unwrap();
    let whole = golden_without_the_last_line();
    let first = whole
        .lines()
        .next()
        .unwrap()
        .replace("\"demo\"", "\"other\"");
    let (start, rest) = first.split_once("\"directions\":[").unwrap();
    let none = format!(
        "{start}\"directions\":[{}",
        &rest[rest.find(']').unwrap()..]
    );
    let path = write(directory.path(), &format!("{whole}{none}\n"));
    let storage: Arc<dyn Storage> = Arc::new(JournalStorage::open(&path).unwrap());
    let load = |name: &str| {
        let study = Study::builder().name(name).shared_storage(storage.clone());
        study.load()
    };
    load("demo").unwrap().trials().unwrap();
    let error = load("other").unwrap_err().to_string();
    let line = format!("line {}", whole.lines().count() + 1);
    assert!(
        error.contains(&line) && error.contains("journal.log"),
        "{error}"
    );
}

#[test]
fn a_journal_that_was_cut_under_us_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), &golden_without_the_last_line());
    let storage = JournalStorage::open(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    assert!(
        storage
            .get_all_studies()
            .unwrap_err()
            .to_string()
            .contains("shorter")
    );
    assert!(storage.create_new_trial(0, None).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
}

#[test]
fn writers_wait_for_the_lock_and_leave_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), &golden_without_the_last_line());
    let storage = JournalStorage::open(&path).unwrap();
    let lock = directory.path().join("journal.log.lock");
    std::fs::write(&lock, "").unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| storage.create_new_trial(0, None).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(60));
        assert!(!writer.is_finished());
        std::fs::remove_file(&lock).unwrap();
        assert_eq!(writer.join().unwrap().number, 4);
    });
    let names: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["journal.log"]);
}
