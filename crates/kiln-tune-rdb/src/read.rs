//! Trials from rows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use crate::connection::{Connection, Failure, Row, SqlError, SqlResult, SqlValue};
use crate::pool::Abort;
use crate::write::in_range;
use kiln_tune::StudyId;
use kiln_tune::distribution::{Distribution, Unusable};
use kiln_tune::error::{Error, Result};
use kiln_tune::json::Json;
use kiln_tune::study::{FrozenStudy, StudyDirection};
use kiln_tune::sync::lock;
use kiln_tune::trial::{Attrs, FrozenTrial, Params, TrialId, TrialState};

/// How many ids one statement asks for; SQLite allows 999 parameters in its older releases.
const IDS_PER_STATEMENT: usize = 512;

/// Names and distributions that were read before, so that the trials of a study share them.
#[derive(Default)]
pub(crate) struct Interner {
    names: Mutex<HashSet<Arc<str>>>,
    distributions: Mutex<HashMap<String, Arc<Distribution>>>,
    /// The rows that were left out, each of which is named once.
    left_out: Mutex<HashSet<String>>,
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

    pub(crate) fn distribution(&self, text: &str) -> Result<Arc<Distribution>, Unusable> {
        let mut distributions = lock(&self.distributions);
        if let Some(known) = distributions.get(text) {
            return Ok(known.clone());
        }
        let distribution = Arc::new(Distribution::from_stored(text)?);
        distributions.insert(text.to_owned(), distribution.clone());
        Ok(distribution)
    }

    /// Says that a row is left out of what is read.
    pub(crate) fn leave_out(&self, error: &SqlError) {
        let what = error.to_string();
        let mut named = lock(&self.left_out);
        if named.len() < MOST_NAMED && named.insert(what.clone()) {
            let last = named.len() == MOST_NAMED;
            let rest = if last {
                " (further rows are not named)"
            } else {
                ""
            };
            log::warn!("left out: {what}{rest}");
        }
    }
}

/// How many rows that are left out are named.
const MOST_NAMED: usize = 20;

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
        .map(|row| {
            let state = row.text(1).and_then(state);
            Ok((row.int(0)?, state.map_err(|e| in_trials(row, "state", e))?))
        })
        .collect::<SqlResult<_>>()?;
    states.sort_unstable_by_key(|(id, _)| *id);
    states.dedup_by_key(|(id, _)| *id);
    Ok(states)
}

/// The directions of a study, one for each objective.
pub(crate) fn directions(
    connection: &mut dyn Connection,
    study_id: StudyId,
) -> SqlResult<Vec<StudyDirection>> {
    let rows = connection.query(
        "SELECT study_direction_id, direction, objective FROM study_directions WHERE study_id = ? ORDER BY objective",
        &[in_range(study_id)],
    )?;
    directions_of(study_id, &rows)
}

/// The directions of a study from its rows of id, direction and objective, in the order of the objectives.
fn directions_of(study_id: StudyId, rows: &[Row]) -> SqlResult<Vec<StudyDirection>> {
    if rows.is_empty() {
        return Err(SqlError::new(
            Failure::Other,
            format!(
                "table study_directions has no row with study_id {study_id}; the database is damaged: delete the study, or \
                 add the row by INSERT INTO study_directions (study_id, objective, direction) VALUES ({study_id}, 0, 'MINIMIZE')"
            ),
        ));
    }
    let of_row = |(objective, row): (i64, &Row)| {
        let found = row.int(2)?;
        if found != objective {
            return Err(SqlError::new(
                Failure::Other,
                format!("objective must be {objective}, found {found}"),
            ));
        }
        match row.text(1)? {
            // What very old releases wrote for the default.
            "MINIMIZE" | "NOT_SET" => Ok(StudyDirection::Minimize),
            "MAXIMIZE" => Ok(StudyDirection::Maximize),
            _ => Err(SqlError::unexpected(
                "MINIMIZE or MAXIMIZE in direction",
                &row.0[1],
            )),
        }
    };
    (0..)
        .zip(rows)
        .map(|(objective, row)| {
            of_row((objective, row))
                .map_err(|e| row.in_table("study_directions", "study_direction_id", 0, e))
        })
        .collect()
}

/// The attributes in `table` of one study. One that cannot be read is left out and named.
pub(crate) fn study_attrs(
    connection: &mut dyn Connection,
    interner: &Interner,
    table: &'static str,
    study_id: StudyId,
) -> SqlResult<Attrs> {
    let id = id_column(table);
    let rows = connection.query(
        &format!("SELECT {id}, \"key\", value_json FROM {table} WHERE study_id = ?"),
        &[in_range(study_id)],
    )?;
    Ok(attrs_of(interner, table, &rows))
}

/// The attributes in the rows of id, key and JSON.
fn attrs_of(interner: &Interner, table: &'static str, rows: &[Row]) -> Attrs {
    let mut attrs = Attrs::new();
    for row in rows {
        match attr(row, 1, 2) {
            Ok((key, value)) => {
                attrs.insert(key, value);
            }
            Err(error) => interner.leave_out(&row.in_table(table, id_column(table), 0, error)),
        }
    }
    attrs
}

/// All studies, by four queries however many there are. A study whose directions cannot be read has none, so that it does not hide
/// the others.
pub(crate) fn studies(
    connection: &mut dyn Connection,
    interner: &Interner,
) -> SqlResult<Vec<FrozenStudy>> {
    let mut by_study = |columns: &str, table: &str, order: &str| {
        let sql = format!("SELECT {columns}, study_id FROM {table} ORDER BY study_id, {order}");
        let mut rows: HashMap<i64, Vec<Row>> = HashMap::new();
        for row in connection.query(&sql, &[])? {
            // A row of no study belongs to none.
            if let Ok(study_id) = row.int(3) {
                rows.entry(study_id).or_default().push(row);
            }
        }
        Ok::<_, SqlError>(rows)
    };
    let directions = by_study(
        "study_direction_id, direction, objective",
        "study_directions",
        "objective",
    )?;
    let tables = ["study_user_attributes", "study_system_attributes"];
    let mut attrs = Vec::new();
    for table in tables {
        let id = id_column(table);
        attrs.push(by_study(&format!("{id}, \"key\", value_json"), table, id)?);
    }
    let mut studies = Vec::new();
    for row in connection.query(
        "SELECT study_id, study_name FROM studies ORDER BY study_id",
        &[],
    )? {
        let id = row.int(0)?;
        let name = match row.text(1) {
            Ok(name) => name.to_owned(),
            Err(error) => {
                interner.leave_out(&row.in_table("studies", "study_id", 0, error));
                continue;
            }
        };
        let of = |rows: &HashMap<i64, Vec<Row>>| rows.get(&id).cloned().unwrap_or_default();
        let found = directions_of(id, &of(&directions));
        studies.push(FrozenStudy {
            id,
            name,
            directions: found.unwrap_or_else(|error| {
                interner.leave_out(&error);
                Vec::new()
            }),
            user_attrs: attrs_of(interner, tables[0], &of(&attrs[0])),
            system_attrs: attrs_of(interner, tables[1], &of(&attrs[1])),
        });
    }
    Ok(studies)
}

/// The column that tells the rows of a table apart.
fn id_column(table: &str) -> &'static str {
    match table {
        "study_user_attributes" => "study_user_attribute_id",
        "study_system_attributes" => "study_system_attribute_id",
        "trial_user_attributes" => "trial_user_attribute_id",
        "trial_system_attributes" => "trial_system_attribute_id",
        "trial_params" => "param_id",
        "trial_values" => "trial_value_id",
        "trial_intermediate_values" => "trial_intermediate_value_id",
        _ => "trial_id",
    }
}

/// An attribute from the columns of its key and of its JSON.
fn attr(row: &Row, key: usize, value: usize) -> SqlResult<(String, Json)> {
    let json =
        Json::parse(row.text(value)?).map_err(|error| SqlError::new(Failure::Other, error))?;
    Ok((row.text(key)?.to_owned(), json))
}

/// Says which row of `trials` an error is about, whose first column is the id.
fn in_trials(row: &Row, column: &str, error: SqlError) -> SqlError {
    row.in_table("trials", "trial_id", 0, format!("{column}: {error}"))
}

fn bare_trial(row: &Row) -> SqlResult<FrozenTrial> {
    let number = row
        .int(1)
        .and_then(|n| u64::try_from(n).map_err(|error| SqlError::new(Failure::Other, error)));
    let column = |name: &'static str| move |error| in_trials(row, name, error);
    Ok(FrozenTrial {
        id: row.int(0)?,
        number: number.map_err(column("number"))?,
        state: row.text(2).and_then(state).map_err(column("state"))?,
        values: None,
        datetime_start: row.time(3).map_err(column("datetime_start"))?,
        datetime_complete: row.time(4).map_err(column("datetime_complete"))?,
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
        // Gives the rows of a table, whose columns start at 2, to `store`.
        let mut each = |table: &'static str,
                        columns: &str,
                        order: &str,
                        store: &mut dyn FnMut(&mut FrozenTrial, &Row) -> Result<(), Unreadable>|
         -> SqlResult<()> {
            let id = id_column(table);
            let sql = format!(
                "SELECT trial_id, {id}, {columns} FROM {table} WHERE trial_id IN ({list}){order}"
            );
            for row in connection.query(&sql, &ids)? {
                let Some(trial) = trials.get_mut(&row.int(0)?) else {
                    continue;
                };
                match store(trial, &row) {
                    Ok(()) => {}
                    Err(Unreadable::LeftOut(error)) => {
                        interner.leave_out(&row.in_table(table, id, 1, error));
                    }
                    Err(Unreadable::Damaged(error)) => {
                        return Err(row.in_table(table, id, 1, error));
                    }
                }
            }
            Ok(())
        };
        // In the order in which they were suggested.
        each(
            "trial_params",
            "param_name, param_value, distribution_json",
            " ORDER BY param_id",
            &mut |trial, row| {
                let (name, internal) = (row.text(2)?, row.real(3)?);
                let distribution = interner.distribution(row.text(4)?)?;
                distribution.check_stored(internal)?;
                trial
                    .params
                    .insert(interner.name(name), internal, distribution);
                Ok(())
            },
        )?;
        each(
            "trial_values",
            "objective, value, value_type",
            " ORDER BY objective",
            &mut |trial, row| {
                let values = trial.values.get_or_insert_with(Vec::new);
                if usize::try_from(row.int(2)?) != Ok(values.len()) {
                    let wanted = format!("{} in objective", values.len());
                    return Err(SqlError::unexpected(&wanted, &row.0[2]).into());
                }
                values.push(number(row, 3, 4)?);
                Ok(())
            },
        )?;
        each(
            "trial_intermediate_values",
            "step, intermediate_value, intermediate_value_type",
            "",
            &mut |trial, row| {
                trial
                    .intermediate_values
                    .insert(row.int(2)?, number(row, 3, 4)?);
                Ok(())
            },
        )?;
        for table in ["trial_user_attributes", "trial_system_attributes"] {
            each(table, "\"key\", value_json", "", &mut |trial, row| {
                let (key, value) = attr(row, 2, 3).map_err(Unreadable::LeftOut)?;
                let attrs = if table == "trial_user_attributes" {
                    &mut trial.user_attrs
                } else {
                    &mut trial.system_attrs
                };
                attrs.insert(key, value);
                Ok(())
            })?;
        }
        Ok(())
    })
}

/// What becomes of a row that cannot be read.
enum Unreadable {
    /// The trial is whole without it.
    LeftOut(SqlError),
    /// The trial is not.
    Damaged(SqlError),
}

impl From<SqlError> for Unreadable {
    fn from(error: SqlError) -> Self {
        Self::Damaged(error)
    }
}

impl From<Error> for Unreadable {
    fn from(error: Error) -> Self {
        Self::Damaged(SqlError::new(Failure::Other, error))
    }
}

impl From<Unusable> for Unreadable {
    fn from(reason: Unusable) -> Self {
        match reason {
            Unusable::Damaged(error) => error.into(),
            Unusable::Unknown(error) => Self::LeftOut(SqlError::new(Failure::Other, error)),
        }
    }
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
