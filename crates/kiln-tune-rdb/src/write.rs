//! The statements behind each write, all within the transaction of the caller.

use std::collections::BTreeMap;

use crate::connection::{Row, SqlError, SqlResult, SqlValue};
use crate::pool::{Abort, Transaction};
use crate::read::{self, number_columns};
use crate::storage::check_length;
use kiln_tune::StudyId;
use kiln_tune::error::{Error, Result};
use kiln_tune::json::Json;
use kiln_tune::study::StudyDirection;
use kiln_tune::trial::{Attrs, FrozenTrial, Params, Timestamp, TrialId, TrialState};

/// What is known of a trial that may be written to.
pub(crate) struct Updatable {
    pub(crate) study_id: StudyId,
    pub(crate) state: TrialState,
}

pub(crate) fn no_trial(trial_id: TrialId) -> Error {
    Error::TrialNotFound {
        trial: format!("with id {trial_id}"),
    }
}

/// The name of a study, which tells that it exists.
pub(crate) fn study_name(
    tx: &mut Transaction<'_>,
    study_id: StudyId,
    lock: bool,
) -> Result<String, Abort> {
    let lock = if lock {
        tx.connection.dialect().for_update()
    } else {
        ""
    };
    let sql = format!("SELECT study_id, study_name FROM studies WHERE study_id = ?{lock}");
    match tx.connection.query_one(&sql, &[in_range(study_id)])? {
        Some(row) => match row.text(1) {
            Ok(name) => Ok(name.to_owned()),
            Err(error) => Err(row.in_table("studies", "study_id", 0, error).into()),
        },
        None => Err(Error::StudyNotFound {
            name: format!("id {study_id}"),
            hint: String::new(),
        }
        .into()),
    }
}

/// Locks a trial and refuses it when it is finished.
pub(crate) fn updatable(tx: &mut Transaction<'_>, trial_id: TrialId) -> Result<Updatable, Abort> {
    let (trial, number) = locked(tx, trial_id)?;
    if trial.state.is_finished() {
        return Err(Error::UpdateFinishedTrial {
            number,
            state: trial.state,
        }
        .into());
    }
    Ok(trial)
}

fn locked(tx: &mut Transaction<'_>, trial_id: TrialId) -> Result<(Updatable, u64), Abort> {
    let sql = format!(
        "SELECT trial_id, study_id, state, number FROM trials WHERE trial_id = ?{}",
        tx.connection.dialect().for_update()
    );
    let Some(row) = tx.connection.query_one(&sql, &[in_range(trial_id)])? else {
        return Err(no_trial(trial_id).into());
    };
    let read = || -> SqlResult<_> {
        let (study_id, state) = (row.int(1)?, read::state(row.text(2)?)?);
        let number = u64::try_from(row.int(3)?).unwrap_or(0);
        Ok((Updatable { study_id, state }, number))
    };
    Ok(read().map_err(|error| row.in_table("trials", "trial_id", 0, error))?)
}

/// Ids are 32 bits wide in PostgreSQL and MySQL; a wider one exists in no database.
pub(crate) fn in_range(id: i64) -> SqlValue {
    SqlValue::Int(i64::from(i32::try_from(id).unwrap_or(-1)))
}

pub(crate) fn study(
    tx: &mut Transaction<'_>,
    name: &str,
    directions: &[StudyDirection],
) -> Result<StudyId, Abort> {
    let taken = tx.connection.query_one(
        "SELECT study_name FROM studies WHERE study_name = ?",
        &[name.into()],
    )?;
    if taken.is_some() {
        return Err(Error::DuplicatedStudy {
            name: name.to_owned(),
        }
        .into());
    }
    let id = match tx.connection.insert(
        "INSERT INTO studies (study_name) VALUES (?)",
        &[name.into()],
        "study_id",
    ) {
        Ok(id) => id,
        // Another worker was faster by a moment.
        Err(error) if error.kind == crate::connection::Failure::Unique => {
            return Err(Error::DuplicatedStudy {
                name: name.to_owned(),
            }
            .into());
        }
        Err(error) => return Err(error.into()),
    };
    for (objective, direction) in (0_i64..).zip(directions) {
        tx.connection.execute(
            "INSERT INTO study_directions (direction, study_id, objective) VALUES (?, ?, ?)",
            &[
                direction.name().to_uppercase().into(),
                id.into(),
                objective.into(),
            ],
        )?;
    }
    Ok(id)
}

pub(crate) fn delete_study(tx: &mut Transaction<'_>, study_id: StudyId) -> Result<(), Abort> {
    study_name(tx, study_id, true)?;
    let trial_tables = [
        "trial_user_attributes",
        "trial_system_attributes",
        "trial_params",
        "trial_values",
        "trial_intermediate_values",
        "trial_heartbeats",
    ];
    for table in trial_tables {
        let sql = format!(
            "DELETE FROM {table} WHERE trial_id IN (SELECT trial_id FROM trials WHERE study_id = ?)"
        );
        tx.connection.execute(&sql, &[study_id.into()])?;
    }
    for table in [
        "trials",
        "study_directions",
        "study_user_attributes",
        "study_system_attributes",
        "studies",
    ] {
        tx.connection.execute(
            &format!("DELETE FROM {table} WHERE study_id = ?"),
            &[study_id.into()],
        )?;
    }
    Ok(())
}

pub(crate) fn study_attr(
    tx: &mut Transaction<'_>,
    table: &str,
    study_id: StudyId,
    key: &str,
    value: &Json,
) -> Result<(), Abort> {
    study_name(tx, study_id, false)?;
    attr(tx, table, "study_id", study_id, key, value)
}

pub(crate) fn trial_attr(
    tx: &mut Transaction<'_>,
    table: &str,
    trial_id: TrialId,
    key: &str,
    value: &Json,
) -> Result<(), Abort> {
    attr(tx, table, "trial_id", trial_id, key, value)
}

fn attr(
    tx: &mut Transaction<'_>,
    table: &str,
    owner: &str,
    id: i64,
    key: &str,
    value: &Json,
) -> Result<(), Abort> {
    let conflict = tx
        .connection
        .dialect()
        .on_conflict_update(&format!("{owner}, \"key\""), &["value_json"]);
    let sql =
        format!("INSERT INTO {table} ({owner}, \"key\", value_json) VALUES (?, ?, ?){conflict}");
    tx.connection
        .execute(&sql, &[id.into(), key.into(), value.to_string().into()])?;
    Ok(())
}

/// A trial that starts now.
pub(crate) fn running_trial() -> FrozenTrial {
    FrozenTrial {
        id: 0,
        number: 0,
        state: TrialState::Running,
        values: None,
        datetime_start: Some(kiln_tune::trial::now()),
        datetime_complete: None,
        params: Params::new(),
        user_attrs: Attrs::new(),
        system_attrs: Attrs::new(),
        intermediate_values: BTreeMap::new(),
    }
}

/// What no database could take, found before anything is written.
pub(crate) fn check_trial(trial: &FrozenTrial) -> Result<()> {
    for param in &trial.params {
        check_length("parameter name", &param.name)?;
    }
    for key in trial.user_attrs.keys().chain(trial.system_attrs.keys()) {
        check_length("attribute key", key)?;
    }
    trial
        .intermediate_values
        .keys()
        .try_for_each(|step| check_step(*step))
}

/// Steps are 32 bits wide in PostgreSQL and MySQL, and a study should fit into each of them.
pub(crate) fn check_step(step: i64) -> Result<()> {
    if i32::try_from(step).is_err() {
        return Err(Error::invalid(format!(
            "a step must fit into 32 bits (at most {}), but got {step}",
            i32::MAX
        )));
    }
    Ok(())
}

/// Locks the study, so that no other worker takes the same number, and returns that number.
pub(crate) fn lock_study_and_next_number(
    tx: &mut Transaction<'_>,
    study_id: StudyId,
) -> Result<u64, Abort> {
    study_name(tx, study_id, true)?;
    // Trials are never deleted one by one, so the count of trials is one more than the last number.
    let sql =
        "SELECT trial_id, number FROM trials WHERE study_id = ? ORDER BY trial_id DESC LIMIT 1";
    let Some(row) = tx.connection.query_one(sql, &[study_id.into()])? else {
        return Ok(0);
    };
    // Numbers are 32 bits wide in PostgreSQL and MySQL.
    let next = match row.int(1) {
        Ok(number @ 0..0x7fff_ffff) => Ok(number.unsigned_abs() + 1),
        Ok(_) => Err(SqlError::unexpected(
            "a number from 0 to 2147483646",
            &row.0[1],
        )),
        Err(error) => Err(error),
    };
    Ok(next.map_err(|error| row.in_table("trials", "trial_id", 0, error))?)
}

pub(crate) fn trial(
    tx: &mut Transaction<'_>,
    study_id: StudyId,
    number: u64,
    trial: &FrozenTrial,
) -> Result<TrialId, Abort> {
    let number = i64::try_from(number)
        .map_err(|_| Error::invalid("a study cannot have more than 2^63 trials"))?;
    let id = tx.connection.insert(
        "INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete) VALUES (?, ?, ?, ?, ?)",
        &[number.into(), study_id.into(), trial.state.name().into(), trial.datetime_start.into(), trial.datetime_complete.into()],
        "trial_id",
    )?;
    for param in &trial.params {
        self::param(
            tx,
            id,
            &param.name,
            param.internal,
            &param.distribution.to_json_text(),
        )?;
    }
    values(tx, id, trial.values.as_deref().unwrap_or_default())?;
    for (step, value) in &trial.intermediate_values {
        intermediate_value(tx, id, *step, *value)?;
    }
    for (key, value) in &trial.user_attrs {
        trial_attr(tx, "trial_user_attributes", id, key, value)?;
    }
    for (key, value) in &trial.system_attrs {
        trial_attr(tx, "trial_system_attributes", id, key, value)?;
    }
    Ok(id)
}

pub(crate) fn param(
    tx: &mut Transaction<'_>,
    trial_id: TrialId,
    name: &str,
    internal: f64,
    distribution: &str,
) -> Result<(), Abort> {
    let conflict = tx.connection.dialect().on_conflict_update(
        "trial_id, param_name",
        &["param_value", "distribution_json"],
    );
    let sql = format!(
        "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (?, ?, ?, ?){conflict}"
    );
    tx.connection.execute(
        &sql,
        &[
            trial_id.into(),
            name.into(),
            internal.into(),
            distribution.into(),
        ],
    )?;
    Ok(())
}

/// The row of `trial_params` with the distribution that some other trial of the study has for a name: its id and the text.
pub(crate) fn some_distribution(
    tx: &mut Transaction<'_>,
    study_id: StudyId,
    but: TrialId,
    name: &str,
) -> SqlResult<Option<Row>> {
    let sql = "SELECT p.param_id, p.distribution_json FROM trial_params p JOIN trials t ON t.trial_id = p.trial_id \
               WHERE t.study_id = ? AND p.param_name = ? AND p.trial_id <> ? LIMIT 1";
    tx.connection
        .query_one(sql, &[study_id.into(), name.into(), but.into()])
}

fn values(tx: &mut Transaction<'_>, trial_id: TrialId, values: &[f64]) -> Result<(), Abort> {
    let conflict = tx
        .connection
        .dialect()
        .on_conflict_update("trial_id, objective", &["value", "value_type"]);
    let sql = format!(
        "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (?, ?, ?, ?){conflict}"
    );
    for (objective, value) in (0_i64..).zip(values) {
        if value.is_nan() {
            return Err(Error::invalid("the value of a trial must not be NaN").into());
        }
        let (value, kind) = number_columns(*value);
        tx.connection
            .execute(&sql, &[trial_id.into(), objective.into(), value, kind])?;
    }
    Ok(())
}

pub(crate) fn intermediate_value(
    tx: &mut Transaction<'_>,
    trial_id: TrialId,
    step: i64,
    value: f64,
) -> Result<(), Abort> {
    let conflict = tx.connection.dialect().on_conflict_update(
        "trial_id, step",
        &["intermediate_value", "intermediate_value_type"],
    );
    let sql = format!(
        "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) VALUES (?, ?, ?, ?){conflict}"
    );
    let (value, kind) = number_columns(value);
    tx.connection
        .execute(&sql, &[trial_id.into(), step.into(), value, kind])?;
    Ok(())
}

pub(crate) fn state_values(
    tx: &mut Transaction<'_>,
    trial_id: TrialId,
    state: TrialState,
    values: Option<&[f64]>,
    now: Timestamp,
) -> Result<bool, Abort> {
    let (trial, number) = locked(tx, trial_id)?;
    if tx.maybe_done && trial.state == state && written_at(tx, trial_id, state, now)? {
        return Ok(true);
    }
    if trial.state.is_finished() {
        return Err(Error::UpdateFinishedTrial {
            number,
            state: trial.state,
        }
        .into());
    }
    if state == TrialState::Running && trial.state != TrialState::Waiting {
        return Ok(false);
    }
    self::values(tx, trial_id, values.unwrap_or_default())?;
    let time = match state {
        TrialState::Running => ", datetime_start = ?",
        TrialState::Complete | TrialState::Pruned | TrialState::Fail => ", datetime_complete = ?",
        TrialState::Waiting => "",
    };
    let mut params = vec![SqlValue::from(state.name())];
    if !time.is_empty() {
        params.push(SqlValue::Time(now));
    }
    params.push(trial_id.into());
    tx.connection.execute(
        &format!("UPDATE trials SET state = ?{time} WHERE trial_id = ?"),
        &params,
    )?;
    Ok(true)
}

/// Whether the state was written at `now`, which is how an interrupted writer knows its own work again. MySQL keeps
/// whole seconds.
fn written_at(
    tx: &mut Transaction<'_>,
    trial_id: TrialId,
    state: TrialState,
    now: Timestamp,
) -> Result<bool, Abort> {
    let column = if state == TrialState::Running {
        "datetime_start"
    } else {
        "datetime_complete"
    };
    let row = tx.connection.query_one(
        &format!("SELECT {column} FROM trials WHERE trial_id = ?"),
        &[trial_id.into()],
    )?;
    let time = row.map_or(Ok(None), |row| row.time(0))?;
    Ok(time.is_some_and(|time| {
        time == now
            || (time.timestamp_subsec_micros() == 0 && (now - time).num_seconds().abs() <= 1)
    }))
}

/// Marks a trial alive by the clock of the database.
pub(crate) fn heartbeat(tx: &mut Transaction<'_>, trial_id: TrialId) -> Result<(), Abort> {
    let conflict = tx
        .connection
        .dialect()
        .on_conflict_update("trial_id", &["heartbeat"]);
    let sql = format!(
        "INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES (?, CURRENT_TIMESTAMP){conflict}"
    );
    tx.connection.execute(&sql, &[trial_id.into()])?;
    Ok(())
}
