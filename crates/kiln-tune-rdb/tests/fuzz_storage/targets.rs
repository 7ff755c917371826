//! What is damaged, and how it is read: shared by the short round of the tests and the long one of
//! `examples/fuzz_storage.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_fuzz::{Mutator, Report, Run, Verdict};
use kiln_tune::sampler::RandomSampler;
use kiln_tune::study::get_all_study_summaries;
use kiln_tune::{Distribution, Error, FrozenTrial, Storage, Study, TpeSampler, Trial};
use kiln_tune_rdb::open_existing;

const JOURNAL: &str = include_str!("../../../kiln-tune/tests/golden/storages/journal-example.log");
const DATABASE: &str = include_str!("../golden/storages/example-db.sql");

/// The names of the rounds, for a command line.
#[allow(dead_code)] // The example's.
pub const TARGETS: [&str; 4] = ["journal", "rows", "pages", "distributions"];

/// One round.
pub fn fuzz(target: &str, seed: u64, cases: u64, only: Option<u64>) -> Report {
    let mut run = Run::new(target).seed(seed).cases(cases);
    if let Some(case) = only {
        run = run.only(case);
    }
    // Where there is one, a disk of memory: nothing is learnt from waiting for a real one.
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let directory = directory.unwrap();
    match target {
        "journal" => journal(&run, directory.path()),
        "rows" => rows(&run, directory.path()),
        "pages" => pages(&run, directory.path()),
        "distributions" => distributions(&run),
        other => panic!("there is no target {other:?}"),
    }
}

/// A study of every kind of record, made by Kiln.
fn make_studies(storage: &Arc<dyn Storage>) {
    let study = Study::builder()
        .name("made")
        .shared_storage(storage.clone())
        .sampler(RandomSampler::new(1))
        .create()
        .unwrap();
    study.set_user_attr("note", "of the study").unwrap();
    study.set_metric_names(&["loss"]).unwrap();
    study.enqueue_trial([("x", 0.25)]).unwrap();
    let objective = |trial: &mut Trial| {
        let x = trial.suggest_float("x", 0.0, 1.0)?;
        trial.suggest_float_log("l", 1e-3, 1.0)?;
        trial.suggest_float_step("s", 0.0, 1.0, 0.25)?;
        trial.suggest_int("i", 1, 9)?;
        trial.suggest_int_step("j", 0, 8, 2)?;
        trial.suggest_categorical("c", &["a", "b"])?;
        trial.report(x, 0)?;
        trial.report(x / 2.0, 5)?;
        trial.set_user_attr("who", 7)?;
        Ok::<_, Error>(x)
    };
    study.optimize(objective, 4).unwrap();
    study.enqueue_trial([("x", 0.5)]).unwrap();
    study.ask().unwrap();
    let two = Study::builder()
        .name("two")
        .shared_storage(storage.clone())
        .directions([
            kiln_tune::StudyDirection::Minimize,
            kiln_tune::StudyDirection::Maximize,
        ])
        .sampler(RandomSampler::new(2))
        .create()
        .unwrap();
    two.optimize(
        |trial: &mut Trial| {
            let x = trial.suggest_float("x", 0.0, 1.0)?;
            Ok::<_, Error>([x, 1.0 - x])
        },
        3,
    )
    .unwrap();
}

fn journal(run: &Run, directory: &Path) -> Report {
    let made = directory.join("made.log");
    make_studies(&kiln_tune_rdb::open(&format!("journal:{}", made.display())).unwrap());
    let made = std::fs::read(&made).unwrap();
    let golden: String = JOURNAL
        .lines()
        .rev()
        .skip(1)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .map(|line| format!("{line}\n"))
        .collect();
    let seeds = [golden.as_bytes(), &made];
    let path = directory.join("damaged.log");
    let url = format!("journal:{}", path.display());
    run.check(
        |mutator| mutator.mutate_any(&seeds),
        |input: &Vec<u8>| {
            std::fs::write(&path, input).unwrap();
            let verdict = read(&url, "damaged.log", input);
            // A last line without its end may be blanked; whole ones stay.
            let whole = input
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
            if std::fs::read(&path).unwrap().starts_with(&input[..whole]) {
                verdict
            } else {
                Verdict::Wrong("lines that were there have changed".to_owned())
            }
        },
    )
}

fn database(directory: &Path) -> PathBuf {
    let path = directory.join("seed.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .pragma_update(None, "foreign_keys", false)
        .unwrap();
    connection.execute_batch(DATABASE).unwrap();
    drop(connection);
    make_studies(&kiln_tune_rdb::open(&format!("sqlite:///{}", path.display())).unwrap());
    path
}

/// The cells of a database: table, column, row, and the value as an SQL literal.
fn cells(path: &Path) -> Vec<(String, String, i64, String)> {
    let connection = rusqlite::Connection::open(path).unwrap();
    let names = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).unwrap();
        let names = statement.query_map([], |row| row.get(0)).unwrap();
        names.map(Result::unwrap).collect()
    };
    let mut cells = Vec::new();
    for table in names("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name") {
        for column in names(&format!("SELECT name FROM pragma_table_info('{table}')")) {
            let sql = format!("SELECT rowid, quote(\"{column}\") FROM {table}");
            let mut statement = connection.prepare(&sql).unwrap();
            let rows = statement
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap();
            for (row, value) in rows.map(Result::unwrap) {
                cells.push((table.clone(), column.clone(), row, value));
            }
        }
    }
    cells
}

/// A statement that changes one cell, or removes or doubles its row.
fn damage(mutator: &mut Mutator, cells: &[(String, String, i64, String)]) -> String {
    let (table, column, row, value) = &cells[mutator.below(cells.len())];
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''").replace('\0', ""));
    let new = match mutator.below(10) {
        0 => return format!("DELETE FROM {table} WHERE rowid = {row};"),
        1 => "NULL".to_owned(),
        2 => mutator.number().to_string(),
        3 => {
            let numeral = mutator.numeral();
            // A numeral that SQL reads as one, or text.
            if numeral.parse::<f64>().is_ok_and(f64::is_finite) {
                numeral
            } else {
                quoted(&numeral)
            }
        }
        4 => {
            let bytes: Vec<String> = (0..mutator.below(12))
                .map(|_| format!("{:02x}", mutator.below(256)))
                .collect();
            format!("x'{}'", bytes.concat())
        }
        5 => cells[mutator.below(cells.len())].3.clone(),
        _ => {
            let text = value.trim_matches('\'').replace("''", "'");
            quoted(&mutator.mutate_text(&text))
        }
    };
    format!("UPDATE OR REPLACE {table} SET \"{column}\" = {new} WHERE rowid = {row};")
}

fn rows(run: &Run, directory: &Path) -> Report {
    let seed = std::fs::read(database(directory)).unwrap();
    let cells = cells(&directory.join("seed.db"));
    let path = directory.join("damaged.db");
    let url = format!("sqlite:///{}", path.display());
    run.check(
        |mutator| {
            let n = 1 + mutator.below(3);
            (0..n).map(|_| damage(mutator, &cells)).collect::<String>()
        },
        |statements: &String| {
            write_database(&path, &seed);
            let connection = rusqlite::Connection::open(&path).unwrap();
            connection
                .pragma_update(None, "synchronous", false)
                .unwrap();
            connection
                .pragma_update(None, "foreign_keys", false)
                .unwrap();
            connection
                .pragma_update(None, "ignore_check_constraints", true)
                .unwrap();
            // A statement that breaks a rule of the schema cannot be the state of a file.
            if connection.execute_batch(statements).is_err() {
                return Verdict::Refused;
            }
            drop(connection);
            read(&url, "damaged.db", statements.as_bytes())
        },
    )
}

fn pages(run: &Run, directory: &Path) -> Report {
    let seed = std::fs::read(database(directory)).unwrap();
    let path = directory.join("damaged.db");
    let url = format!("sqlite:///{}", path.display());
    run.check(
        |mutator| {
            let mut bytes = seed.clone();
            if mutator.one_in(10) {
                bytes.truncate(mutator.below(bytes.len()));
            } else {
                mutator.overwrite(&mut bytes);
            }
            bytes
        },
        |bytes: &Vec<u8>| {
            write_database(&path, bytes);
            read(&url, "damaged.db", bytes)
        },
    )
}

fn write_database(path: &Path, bytes: &[u8]) {
    for ending in ["-wal", "-shm", "-journal"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(ending);
        let _ = std::fs::remove_file(beside);
    }
    std::fs::write(path, bytes).unwrap();
}

fn distributions(run: &Run) -> Report {
    let seeds: [&[u8]; 6] = [
        br#"{"name": "FloatDistribution", "attributes": {"step": null, "low": -1.5, "high": 2.0, "log": false}}"#,
        br#"{"name": "FloatDistribution", "attributes": {"step": 0.25, "low": 0.0, "high": 1.0, "log": false}}"#,
        br#"{"name": "IntDistribution", "attributes": {"log": false, "step": 2, "low": 0, "high": 8}}"#,
        br#"{"name": "CategoricalDistribution", "attributes": {"choices": ["a", null, true, 1, 2.5, [3, {"k": "\u00e9"}]]}}"#,
        br#"{"name": "LogUniformDistribution", "attributes": {"low": 1e-3, "high": 1.0}}"#,
        br#"{"type": "int", "low": 1, "high": 1000, "log": true}"#,
    ];
    run.check(
        |mutator| {
            let bytes = mutator.mutate_any(&seeds);
            String::from_utf8_lossy(&bytes).into_owned()
        },
        |text: &String| {
            let Ok(distribution) = Distribution::from_json_text(text) else {
                return Verdict::Refused;
            };
            let again = Distribution::from_json_text(&distribution.to_json_text());
            // The end of a grid is rounded, so the next reader may cut it once more: Optuna's, too.
            let has_step =
                matches!(&distribution, Distribution::Float(float) if float.step().is_some());
            if again.as_ref().ok() != Some(&distribution) && !(has_step && again.is_ok()) {
                return Verdict::Wrong(format!("{distribution} is written as {again:?}"));
            }
            let value = distribution.to_external(distribution.single_value());
            let internal = distribution.to_internal(&value);
            if !internal.is_ok_and(|internal| distribution.contains(internal)) {
                return Verdict::Wrong(format!(
                    "{distribution} does not contain its first value {value}"
                ));
            }
            let study = Study::builder()
                .sampler(RandomSampler::new(1))
                .create()
                .unwrap();
            let mut trial = study.ask().unwrap();
            match trial.suggest("p", distribution.clone()) {
                Ok(_) => Verdict::Accepted,
                Err(error) => Verdict::Wrong(format!("{distribution}: {error}")),
            }
        },
    )
}

/// Reads everything as the commands do, and goes on with one of the studies, which the damage picks: most of a case's time
/// is the writing.
fn read(url: &str, file: &str, damage: &[u8]) -> Verdict {
    match read_all(url, damage) {
        Ok(()) => Verdict::Accepted,
        Err(error @ Error::Storage { .. }) if !error.with_causes().contains(file) => {
            Verdict::Wrong(format!("{} does not name the file", error.with_causes()))
        }
        Err(_) => Verdict::Refused,
    }
}

fn read_all(url: &str, damage: &[u8]) -> kiln_tune::Result<()> {
    let storage = open_existing(url)?;
    let summaries = get_all_study_summaries(&storage)?;
    let sum: usize = damage.iter().map(|byte| usize::from(*byte)).sum();
    let mut failed = None;
    for (at, summary) in summaries.iter().enumerate() {
        let goes_on = at == sum % summaries.len();
        if let Err(error) = read_study(&storage, &summary.name, goes_on) {
            failed = Some(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

fn read_study(storage: &Arc<dyn Storage>, name: &str, goes_on: bool) -> kiln_tune::Result<()> {
    let study = Study::builder()
        .name(name)
        .shared_storage(storage.clone())
        .sampler(TpeSampler::new().seed(1))
        .load()?;
    let trials = study.trials()?;
    for trial in &trials {
        for param in &trial.params {
            std::hint::black_box(param.value().to_string());
        }
        std::hint::black_box((trial.constraints(), trial.duration()));
    }
    study.best_trials()?;
    std::hint::black_box(study.table()?.to_csv());
    study.metric_names()?;
    if goes_on {
        go_on(&study, &trials)?;
    }
    Ok(())
}

/// The next trial, with the parameters of the last one that has any.
fn go_on(study: &Study, trials: &[Arc<FrozenTrial>]) -> kiln_tune::Result<()> {
    let mut trial = study.ask()?;
    if let Some(last) = trials.iter().rev().find(|trial| !trial.params.is_empty()) {
        for param in &last.params {
            match trial.suggest(&param.name, (*param.distribution).clone()) {
                // Of a grid or a study whose trials contradict each other.
                Ok(_) | Err(Error::IncompatibleDistribution { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    if !study.is_multi_objective() {
        trial.report(0.5, 1)?;
        trial.should_prune()?;
    }
    let values = vec![0.5; study.directions().len()];
    study.tell(trial, values)?;
    Ok(())
}
