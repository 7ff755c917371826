//! Trials from rows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use super::connection::{Connection, Failure, Row, SqlError, SqlResult, SqlValue};
use super::pool::Abort;
use super::write::in_range;
use crate::distribution::Distribution;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::storage::StudyId;
use crate::sync::lock;
use crate::trial::{Attrs, FrozenTrial, Params, TrialId, TrialState};

/// How many ids one statement asks for; SQLite allows 999 parameters in its older releases.
const IDS_PER_STATEMENT: usize = 512;

/// Names and distributions that were read before, so that the trials of a study share them.
#[derive(Default)]
pub(crate) struct Interner {
    names: Mutex<HashSet<Arc<str>>>,
    distributions: Mutex<HashMap<String, Arc<Distribution>>>,
}

impl Interner {
    pub(crate) fn name(&self, name: &str) -> Arc<str> {
        let mut names = lock(&self.names);
        if let Some(known) = names.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        names.insert(name.clone());
        name
    }

    pub(crate) fn distribution(&self, text: &str) -> Result<Arc<Distribution>> {
        let mut distributions = lock(&self.distributions);
        if let Some(known) = distributions.get(text) {
            return Ok(known.clone());
        }
        let distribution = Arc::new(Distribution::from_json_text(text)?);
        distributions.insert(text.to_owned(), distribution.clone());
        Ok(distribution)
    }
}

const TRIAL_COLUMNS: &str = "trial_id, number, state, datetime_start, datetime_complete";

/// One trial, or None when there is no such id.
pub(crate) fn trial(
    connection: &mut dyn Connection,
    interner: &Interner,
    trial_id: TrialId,
) -> Result<Option<FrozenTrial>, Abort> {
    let sql = format!("SELECT {TRIAL_COLUMNS} FROM trials WHERE trial_id = ?");
    let mut trials = HashMap::new();
    for row in connection.query(&sql, &[in_range(trial_id)])? {
        let trial = bare_trial(&row)?;
        trials.insert(trial.id, trial);
    }
    fill(connection, interner, &mut trials)?;
    Ok(trials.remove(&trial_id))
}

/// The trials of a study with these ids or with an id greater than `after`, ordered by id.
pub(crate) fn trials(
    connection: &mut dyn Connection,
    interner: &Interner,
    study_id: StudyId,
    ids: &[TrialId],
    after: TrialId,
) -> Result<Vec<Arc<FrozenTrial>>, Abort> {
    let mut trials = HashMap::new();
    // Ids are positive and 32 bits wide.
    let after = after.clamp(0, i64::from(i32::MAX));
    let sql = format!("SELECT {TRIAL_COLUMNS} FROM trials WHERE study_id = ? AND trial_id > ?");
    for row in connection.query(&sql, &[study_id.into(), after.into()])? {
        let trial = bare_trial(&row)?;
        trials.insert(trial.id, trial);
    }
    let ids: Vec<TrialId> = ids
        .iter()
        .copied()
        .filter(|id| (0..=after).contains(id))
        .collect();
    for_ids(&ids, |list, ids| {
        let sql = format!(
            "SELECT {TRIAL_COLUMNS} FROM trials WHERE study_id = ? AND trial_id IN ({list})"
        );
        let params: Vec<SqlValue> = std::iter::once(study_id)
            .chain(ids.iter().copied())
            .map(SqlValue::Int)
            .collect();
        for row in connection.query(&sql, &params)? {
            let trial = bare_trial(&row)?;
            trials.insert(trial.id, trial);
        }
        Ok(())
    })?;
    fill(connection, interner, &mut trials)?;
    let mut trials: Vec<_> = trials.into_values().map(Arc::new).collect();
    trials.sort_unstable_by_key(|trial| trial.id);
    Ok(trials)
}

/// Ids and states of the trials of a study with these ids or with an id greater than `after`, ordered by id.
pub(crate) fn states(
    connection: &mut dyn Connection,
    study_id: StudyId,
    ids: &[TrialId],
    after: TrialId,
) -> Result<Vec<(TrialId, TrialState)>, Abort> {
    let mut rows = Vec::new();
    for_ids(ids, |list, ids| {
        let sql = format!(
            "SELECT trial_id, state FROM trials WHERE study_id = ? AND trial_id IN ({list})"
        );
        let params: Vec<SqlValue> = std::iter::once(study_id)
            .chain(ids.iter().copied())
            .map(SqlValue::Int)
            .collect();
        rows.extend(connection.query(&sql, &params)?);
        Ok(())
    })?;
    rows.extend(connection.query(
        "SELECT trial_id, state FROM trials WHERE study_id = ? AND trial_id > ?",
        &[study_id.into(), after.into()],
    )?);
    let mut states: Vec<(TrialId, TrialState)> = rows
        .iter()
        .map(|row| Ok((row.int(0)?, state(row.text(1)?)?)))
        .collect::<SqlResult<_>>()?;
    states.sort_unstable_by_key(|(id, _)| *id);
    states.dedup_by_key(|(id, _)| *id);
    Ok(states)
}

/// The attributes in `table` of one study.
pub(crate) fn study_attrs(
    connection: &mut dyn Connection,
    table: &str,
    study_id: StudyId,
) -> Result<Attrs, Abort> {
    let rows = connection.query(
        &format!("SELECT \"key\", value_json FROM {table} WHERE study_id = ?"),
        &[study_id.into()],
    )?;
    rows.iter()
        .map(|row| Ok((row.text(0)?.to_owned(), attr(row.text(1)?)?)))
        .collect()
}

/// The JSON of an attribute.
pub(crate) fn attr(text: &str) -> Result<Json, Abort> {
    Ok(Json::parse(text)?)
}

fn bare_trial(row: &Row) -> SqlResult<FrozenTrial> {
    let state = state(row.text(2)?)?;
    let number =
        u64::try_from(row.int(1)?).map_err(|error| SqlError::new(Failure::Other, error))?;
    Ok(FrozenTrial {
        id: row.int(0)?,
        number,
        state,
        values: None,
        datetime_start: row.time(3)?,
        datetime_complete: row.time(4)?,
        params: Params::new(),
        user_attrs: Attrs::new(),
        system_attrs: Attrs::new(),
        intermediate_values: BTreeMap::new(),
    })
}

/// A state by its name in the database.
pub(crate) fn state(text: &str) -> SqlResult<TrialState> {
    text.parse()
        .map_err(|error: Error| SqlError::new(Failure::Other, error))
}

/// Calls `read` with the placeholders and the ids of one statement after another.
///
/// The lists are padded to a power of two with their last id, so that few different statements are prepared.
fn for_ids(
    ids: &[TrialId],
    mut read: impl FnMut(&str, &[TrialId]) -> Result<(), Abort>,
) -> Result<(), Abort> {
    for chunk in ids.chunks(IDS_PER_STATEMENT) {
        let mut padded = chunk.to_vec();
        padded.resize(chunk.len().next_power_of_two(), chunk[chunk.len() - 1]);
        let list = vec!["?"; padded.len()].join(", ");
        read(&list, &padded)?;
    }
    Ok(())
}

/// Reads what belongs to the trials from the other tables.
fn fill(
    connection: &mut dyn Connection,
    interner: &Interner,
    trials: &mut HashMap<TrialId, FrozenTrial>,
) -> Result<(), Abort> {
    let mut ids: Vec<TrialId> = trials.keys().copied().collect();
    ids.sort_unstable();
    for_ids(&ids, |list, ids| {
        let ids: Vec<SqlValue> = ids.iter().map(|id| SqlValue::Int(*id)).collect();
        let mut each = |sql: String,
                        store: &mut dyn FnMut(&mut FrozenTrial, &Row) -> Result<(), Abort>|
         -> Result<(), Abort> {
            for row in connection.query(&sql, &ids)? {
                if let Some(trial) = trials.get_mut(&row.int(0)?) {
                    store(trial, &row)?;
                }
            }
            Ok(())
        };
        // In the order in which they were suggested.
        each(
            format!(
                "SELECT trial_id, param_name, param_value, distribution_json FROM trial_params WHERE trial_id IN ({list}) ORDER BY param_id"
            ),
            &mut |trial, row| {
                let distribution = interner.distribution(row.text(3)?)?;
                trial
                    .params
                    .insert(interner.name(row.text(1)?), row.real(2)?, distribution);
                Ok(())
            },
        )?;
        each(
            format!(
                "SELECT trial_id, objective, value, value_type FROM trial_values WHERE trial_id IN ({list}) ORDER BY objective"
            ),
            &mut |trial, row| {
                trial
                    .values
                    .get_or_insert_with(Vec::new)
                    .push(number(row, 2, 3)?);
                Ok(())
            },
        )?;
        each(
            format!(
                "SELECT trial_id, step, intermediate_value, intermediate_value_type FROM trial_intermediate_values WHERE trial_id IN ({list})"
            ),
            &mut |trial, row| {
                trial
                    .intermediate_values
                    .insert(row.int(1)?, number(row, 2, 3)?);
                Ok(())
            },
        )?;
        each(
            format!(
                "SELECT trial_id, \"key\", value_json FROM trial_user_attributes WHERE trial_id IN ({list})"
            ),
            &mut |trial, row| {
                trial
                    .user_attrs
                    .insert(row.text(1)?.to_owned(), attr(row.text(2)?)?);
                Ok(())
            },
        )?;
        each(
            format!(
                "SELECT trial_id, \"key\", value_json FROM trial_system_attributes WHERE trial_id IN ({list})"
            ),
            &mut |trial, row| {
                trial
                    .system_attrs
                    .insert(row.text(1)?.to_owned(), attr(row.text(2)?)?);
                Ok(())
            },
        )
    })
}

/// A number from its column and the column that says whether it is finite.
fn number(row: &Row, value: usize, kind: usize) -> SqlResult<f64> {
    match row.text(kind)? {
        "FINITE" => row.real(value),
        "INF_POS" => Ok(f64::INFINITY),
        "INF_NEG" => Ok(f64::NEG_INFINITY),
        "NAN" => Ok(f64::NAN),
        _ => Err(SqlError::unexpected(
            "FINITE, INF_POS, INF_NEG or NAN",
            &row.0[kind],
        )),
    }
}

/// The columns for a number: the finite value or NULL, and its kind.
pub(crate) fn number_columns(value: f64) -> (SqlValue, SqlValue) {
    if value.is_finite() {
        return (value.into(), "FINITE".into());
    }
    let kind = if value.is_nan() {
        "NAN"
    } else if value > 0.0 {
        "INF_POS"
    } else {
        "INF_NEG"
    };
    (SqlValue::Null, kind.into())
}
