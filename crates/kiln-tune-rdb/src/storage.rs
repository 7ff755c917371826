//! Studies in a relational database, in Optuna's own tables.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::connection::{Access, SqlValue};
use crate::options::RdbOptions;
use crate::pool::{Abort, Pool, Transaction};
use crate::read::{self, Interner};
use crate::write;
use kiln_tune::distribution::{Distribution, Unusable};
use kiln_tune::error::{Error, Result};
use kiln_tune::json::Json;
use kiln_tune::storage::{Heartbeat, StaleTrialCallback, Storage, StudyId};
use kiln_tune::study::{FrozenStudy, StudyDirection, unused_study_name};
use kiln_tune::sync::lock;
use kiln_tune::trial::{Attrs, FrozenTrial, TrialId, TrialState};

/// Studies and trials in SQLite, PostgreSQL or MySQL, shared with every worker that opens the same database, be it Kiln
/// or Optuna 3.2 to 5.0.
///
/// The tables are Optuna's: it takes a database that Kiln made for its own, and the other way round.
///
/// * Every write is one short transaction. When a lock or the connection is lost, it is tried again with growing pauses
///   for up to [`RdbOptions::patience`] (60 s).
/// * A new SQLite file uses write-ahead logging: readers never wait, a commit needs no `fsync`, and a killed process loses
///   at most its running trial. It does not work over a network file system: use PostgreSQL, MySQL or the journal there,
///   or [`RdbOptions::wal`]`(false)`. A file that Optuna made keeps its rollback journal, unless
///   `storage::write_ahead_log` switches it; there, writers that find it locked leave gaps, so that
///   Optuna's workers, which give up after 5 s, get their turn.
/// * A row that cannot be read is an error that names its table and its id, for the calls that need it: the other studies
///   of the database work. An attribute, or a parameter of a kind that this release does not know, is left out with a
///   warning instead.
/// * Names of studies, parameters and attributes have at most 512 characters.
///
/// ```
/// # #[cfg(feature = "sqlite")] {
/// use kiln_tune::Study;
/// use kiln_tune_rdb::RdbStorage;
///
/// let storage = RdbStorage::open("sqlite:///:memory:")?;
/// let study = Study::builder().name("parabola").storage(storage).create()?;
/// study.optimize(|trial: &mut kiln_tune::Trial| Ok::<_, kiln_tune::Error>(trial.suggest_float("x", -1.0, 1.0)?.powi(2)), 5)?;
/// assert_eq!(study.trials()?.len(), 5);
/// # }
/// # Ok::<(), kiln_tune::Error>(())
/// ```
pub struct RdbStorage {
    pub(crate) pool: Pool,
    pub(crate) interner: Interner,
    /// A distribution of each parameter of a study, as far as this process knows.
    pub(crate) known: Mutex<HashMap<StudyId, Distributions>>,
    pub(crate) frontiers: Mutex<HashMap<StudyId, Frontier>>,
    pub(crate) heartbeat: Option<HeartbeatSettings>,
}

pub(crate) type Distributions = HashMap<Arc<str>, Arc<Distribution>>;

pub(crate) struct HeartbeatSettings {
    pub(crate) interval: Duration,
    pub(crate) grace_period: Duration,
    pub(crate) on_stale: Option<StaleTrialCallback>,
}

/// Up to which trial a study was looked through for waiting ones.
#[derive(Default)]
pub(crate) struct Frontier {
    study_name: String,
    last: TrialId,
    unfinished: Vec<TrialId>,
}

impl RdbStorage {
    /// Opens a database by its URL and makes the tables if there are none.
    ///
    /// | URL | database | feature |
    /// |---|---|---|
    /// | `sqlite:///relative/path.db`, `sqlite:////absolute/path.db` | a file | `sqlite` (default) |
    /// | `sqlite:///:memory:` | this process only | `sqlite` (default) |
    /// | `postgresql://user:password@host:5432/database` | a server | `postgres` |
    /// | `mysql://user:password@host:3306/database` | a server, also MariaDB | `mysql` |
    ///
    /// The driver in a URL of SQLAlchemy, as in `postgresql+psycopg2://`, is accepted and ignored.
    ///
    /// With the feature `tls`, `?sslmode=require` (or `verify-ca`, `verify-full`: all three check the server's certificate
    /// and name) encrypts the connection; `&sslrootcert=PATH` names the certificates to trust instead of the system's.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a URL that cannot be read or whose feature is off; [`Error::Storage`] when the
    /// database cannot be opened, is damaged, belongs to another program or has another schema.
    pub fn open(url: &str) -> Result<Self> {
        RdbOptions::new().open(url)
    }

    fn transaction<T>(
        &self,
        access: Access,
        what: &str,
        work: impl FnMut(&mut Transaction<'_>) -> Result<T, Abort>,
    ) -> Result<T> {
        self.pool.transaction(access, what, work)
    }

    fn set_study_attr(
        &self,
        table: &'static str,
        study_id: StudyId,
        key: &str,
        value: &Json,
    ) -> Result<()> {
        check_length("attribute key", key)?;
        self.transaction(Access::Write, "write a study attribute", |tx| {
            write::study_attr(tx, table, study_id, key, value)
        })
    }

    fn set_trial_attr(
        &self,
        table: &'static str,
        trial_id: TrialId,
        key: &str,
        value: &Json,
    ) -> Result<()> {
        check_length("attribute key", key)?;
        self.transaction(Access::Write, "write a trial attribute", |tx| {
            write::updatable(tx, trial_id)?;
            write::trial_attr(tx, table, trial_id, key, value)
        })
    }

    /// Checks a distribution against one that the study has for the same name.
    ///
    /// What this process remembers decides only when it agrees: the study may have been deleted and its id reused.
    fn check_distribution(
        &self,
        tx: &mut Transaction<'_>,
        study_id: StudyId,
        trial_id: TrialId,
        name: &Arc<str>,
        distribution: &Arc<Distribution>,
    ) -> Result<(), Abort> {
        let known = lock(&self.known)
            .get(&study_id)
            .and_then(|names| names.get(name).cloned());
        if known.is_some_and(|known| {
            Arc::ptr_eq(&known, distribution) || known.check_compatible(name, distribution).is_ok()
        }) {
            return Ok(());
        }
        if let Some(row) = write::some_distribution(tx, study_id, trial_id, name)? {
            let in_row =
                |error: &dyn std::fmt::Display| row.in_table("trial_params", "param_id", 0, error);
            let text = row.text(1).map_err(|error| in_row(&error))?;
            match self.interner.distribution(text) {
                Ok(other) => other.check_compatible(name, distribution)?,
                Err(Unusable::Damaged(error)) => return Err(in_row(&error).into()),
                // A newer program made it rightly.
                Err(Unusable::Unknown(error)) => return Err(error.into()),
            }
        }
        lock(&self.known)
            .entry(study_id)
            .or_default()
            .insert(name.clone(), distribution.clone());
        Ok(())
    }
}

impl std::fmt::Debug for RdbStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RdbStorage")
            .field("url", &self.pool.name())
            .finish_non_exhaustive()
    }
}

impl Storage for RdbStorage {
    fn create_study(&self, directions: &[StudyDirection], name: Option<&str>) -> Result<StudyId> {
        let name = name.map_or_else(unused_study_name, str::to_owned);
        check_length("study name", &name)?;
        self.transaction(Access::Write, "create a study", |tx| {
            write::study(tx, &name, directions)
        })
    }

    fn delete_study(&self, study_id: StudyId) -> Result<()> {
        self.transaction(Access::Write, "delete a study", |tx| {
            write::delete_study(tx, study_id)
        })?;
        lock(&self.known).remove(&study_id);
        lock(&self.frontiers).remove(&study_id);
        Ok(())
    }

    fn set_study_user_attr(&self, study_id: StudyId, key: &str, value: &Json) -> Result<()> {
        self.set_study_attr("study_user_attributes", study_id, key, value)
    }

    fn set_study_system_attr(&self, study_id: StudyId, key: &str, value: &Json) -> Result<()> {
        self.set_study_attr("study_system_attributes", study_id, key, value)
    }

    fn get_study_id_from_name(&self, name: &str) -> Result<StudyId> {
        self.transaction(Access::Read, "look up a study", |tx| {
            match tx.connection.query_one(
                "SELECT study_id, study_name FROM studies WHERE study_name = ?",
                &[name.into()],
            )? {
                // MySQL's usual collation takes "A" for "a".
                Some(row) if row.text(1)? == name => Ok(row.int(0)?),
                _ => Err(Error::StudyNotFound {
                    name: name.to_owned(),
                    hint: String::new(),
                }
                .into()),
            }
        })
    }

    fn get_study_name_from_id(&self, study_id: StudyId) -> Result<String> {
        self.transaction(Access::Read, "look up a study", |tx| {
            write::study_name(tx, study_id, false)
        })
    }

    fn get_study_directions(&self, study_id: StudyId) -> Result<Vec<StudyDirection>> {
        self.transaction(Access::Read, "read a study", |tx| {
            write::study_name(tx, study_id, false)?;
            Ok(read::directions(tx.connection, study_id)?)
        })
    }

    fn get_study_user_attrs(&self, study_id: StudyId) -> Result<Attrs> {
        self.transaction(Access::Read, "read a study", |tx| {
            write::study_name(tx, study_id, false)?;
            Ok(read::study_attrs(
                tx.connection,
                &self.interner,
                "study_user_attributes",
                study_id,
            )?)
        })
    }

    fn get_study_system_attrs(&self, study_id: StudyId) -> Result<Attrs> {
        self.transaction(Access::Read, "read a study", |tx| {
            write::study_name(tx, study_id, false)?;
            Ok(read::study_attrs(
                tx.connection,
                &self.interner,
                "study_system_attributes",
                study_id,
            )?)
        })
    }

    fn get_all_studies(&self) -> Result<Vec<FrozenStudy>> {
        self.transaction(Access::Read, "list the studies", |tx| {
            Ok(read::studies(tx.connection, &self.interner)?)
        })
    }

    fn create_new_trial(
        &self,
        study_id: StudyId,
        template: Option<&FrozenTrial>,
    ) -> Result<Arc<FrozenTrial>> {
        let template = template.cloned().unwrap_or_else(write::running_trial);
        write::check_trial(&template)?;
        self.transaction(Access::Write, "create a trial", |tx| {
            let number = write::lock_study_and_next_number(tx, study_id)?;
            for param in &template.params {
                self.check_distribution(tx, study_id, -1, &param.name, &param.distribution)?;
            }
            let id = write::trial(tx, study_id, number, &template)?;
            Ok(Arc::new(FrozenTrial {
                id,
                number,
                ..template.clone()
            }))
        })
    }

    fn set_trial_param(
        &self,
        trial_id: TrialId,
        name: &Arc<str>,
        internal: f64,
        distribution: &Arc<Distribution>,
    ) -> Result<()> {
        check_length("parameter name", name)?;
        let text = distribution.to_json_text();
        self.transaction(Access::Write, "write a parameter", |tx| {
            let study_id = write::updatable(tx, trial_id)?.study_id;
            self.check_distribution(tx, study_id, trial_id, name, distribution)?;
            write::param(tx, trial_id, name, internal, &text)
        })
    }

    fn get_trial_id_from_study_id_trial_number(
        &self,
        study_id: StudyId,
        number: u64,
    ) -> Result<TrialId> {
        self.transaction(Access::Read, "look up a trial", |tx| {
            let name = write::study_name(tx, study_id, false)?;
            let wanted = i64::try_from(number)
                .unwrap_or(i64::MAX)
                .min(i64::from(i32::MAX));
            let sql = "SELECT trial_id FROM trials WHERE study_id = ? AND number = ?";
            match tx
                .connection
                .query_one(sql, &[study_id.into(), wanted.into()])?
            {
                Some(row) => Ok(row.int(0)?),
                None => Err(Error::TrialNotFound {
                    trial: format!("{number} of study {name:?}"),
                }
                .into()),
            }
        })
    }

    fn set_trial_state_values(
        &self,
        trial_id: TrialId,
        state: TrialState,
        values: Option<&[f64]>,
    ) -> Result<bool> {
        let now = kiln_tune::trial::now();
        self.transaction(Access::Write, "write the state of a trial", |tx| {
            write::state_values(tx, trial_id, state, values, now)
        })
    }

    fn set_trial_intermediate_value(&self, trial_id: TrialId, step: i64, value: f64) -> Result<()> {
        write::check_step(step)?;
        self.transaction(Access::Write, "write an intermediate value", |tx| {
            write::updatable(tx, trial_id)?;
            write::intermediate_value(tx, trial_id, step, value)
        })
    }

    fn set_trial_user_attr(&self, trial_id: TrialId, key: &str, value: &Json) -> Result<()> {
        self.set_trial_attr("trial_user_attributes", trial_id, key, value)
    }

    fn set_trial_system_attr(&self, trial_id: TrialId, key: &str, value: &Json) -> Result<()> {
        self.set_trial_attr("trial_system_attributes", trial_id, key, value)
    }

    fn get_trial(&self, trial_id: TrialId) -> Result<Arc<FrozenTrial>> {
        self.transaction(Access::Read, "read a trial", |tx| {
            match read::trial(tx.connection, &self.interner, trial_id)? {
                Some(trial) => Ok(Arc::new(trial)),
                None => Err(write::no_trial(trial_id).into()),
            }
        })
    }

    fn read_trials(
        &self,
        study_id: StudyId,
        ids: &[TrialId],
        after: TrialId,
    ) -> Result<Vec<Arc<FrozenTrial>>> {
        self.transaction(Access::Read, "read the trials", |tx| {
            write::study_name(tx, study_id, false)?;
            read::trials(tx.connection, &self.interner, study_id, ids, after)
        })
    }

    fn get_n_trials(&self, study_id: StudyId, states: Option<&[TrialState]>) -> Result<usize> {
        self.transaction(Access::Read, "count the trials", |tx| {
            write::study_name(tx, study_id, false)?;
            let mut sql = "SELECT COUNT(*) FROM trials WHERE study_id = ?".to_owned();
            let mut params = vec![SqlValue::Int(study_id)];
            if let Some(states) = states {
                if states.is_empty() {
                    return Ok(0);
                }
                sql.push_str(&format!(
                    " AND state IN ({})",
                    vec!["?"; states.len()].join(", ")
                ));
                params.extend(states.iter().map(|state| SqlValue::from(state.name())));
            }
            let row = tx.connection.query_one(&sql, &params)?;
            Ok(row.map_or(Ok(0), |row| row.int(0))?.try_into().unwrap_or(0))
        })
    }

    fn get_best_trial(&self, study_id: StudyId) -> Result<Arc<FrozenTrial>> {
        let directions = self.get_study_directions(study_id)?;
        let [direction] = directions[..] else {
            return Err(Error::MultiObjective {
                operation: "the best trial",
                n_objectives: directions.len(),
                instead: "use the best trials",
            });
        };
        self.transaction(Access::Read, "look up the best trial", |tx| {
            let order = if direction == StudyDirection::Minimize { "ASC" } else { "DESC" };
            let sql = format!(
                "SELECT t.trial_id FROM trials t JOIN trial_values v ON v.trial_id = t.trial_id \
                 WHERE t.study_id = ? AND t.state = 'COMPLETE' AND v.objective = 0 \
                 ORDER BY CASE v.value_type WHEN 'INF_NEG' THEN -1 WHEN 'FINITE' THEN 0 ELSE 1 END {order}, \
                 v.value {order}, t.trial_id ASC LIMIT 1"
            );
            let none = || Abort::Refused(Error::NoTrials("no trial is complete yet".to_owned()));
            let id = tx.connection.query_one(&sql, &[study_id.into()])?.ok_or_else(none)?.int(0)?;
            read::trial(tx.connection, &self.interner, id)?.map(Arc::new).ok_or_else(none)
        })
    }

    fn get_waiting_trial_ids(&self, study_id: StudyId) -> Result<Vec<TrialId>> {
        // Finished trials never wait again, so only the unfinished ones of the last call and newer ones are looked at.
        self.transaction(Access::Read, "look for waiting trials", |tx| {
            let name = write::study_name(tx, study_id, false)?;
            let mut frontier = lock(&self.frontiers).remove(&study_id).unwrap_or_default();
            let newest = tx.connection.query_one(
                "SELECT MAX(trial_id) FROM trials WHERE study_id = ?",
                &[study_id.into()],
            )?;
            let newest = newest
                .filter(|row| !row.is_null(0))
                .map_or(Ok(0), |row| row.int(0))?;
            // SQLite gives the ids of deleted studies and trials to new ones.
            if frontier.study_name != name || newest < frontier.last {
                frontier = Frontier {
                    study_name: name,
                    ..Frontier::default()
                };
            }
            let states =
                read::states(tx.connection, study_id, &frontier.unfinished, frontier.last)?;
            frontier.last = newest;
            frontier.unfinished = states
                .iter()
                .filter(|(_, state)| !state.is_finished())
                .map(|(id, _)| *id)
                .collect();
            let waiting = states
                .iter()
                .filter(|(_, state)| *state == TrialState::Waiting)
                .map(|(id, _)| *id)
                .collect();
            lock(&self.frontiers).insert(study_id, frontier);
            Ok(waiting)
        })
    }

    fn heartbeat(&self) -> Option<&dyn Heartbeat> {
        self.heartbeat.as_ref().map(|_| self as &dyn Heartbeat)
    }
}

impl Heartbeat for RdbStorage {
    fn interval(&self) -> Duration {
        self.heartbeat
            .as_ref()
            .map_or(Duration::from_secs(60), |settings| settings.interval)
    }

    fn record(&self, trial_id: TrialId) -> Result<()> {
        self.transaction(Access::Write, "record a heartbeat", |tx| {
            write::heartbeat(tx, trial_id)
        })
    }

    fn stale_trial_ids(&self, study_id: StudyId) -> Result<Vec<TrialId>> {
        let Some(settings) = &self.heartbeat else {
            return Ok(Vec::new());
        };
        self.transaction(Access::Read, "look for stale trials", |tx| {
            let sql = format!(
                "SELECT t.trial_id FROM trials t JOIN trial_heartbeats h ON h.trial_id = t.trial_id \
                 WHERE t.study_id = ? AND t.state = 'RUNNING' AND {} ORDER BY t.trial_id",
                tx.connection.dialect().heartbeat_older_than()
            );
            let rows = tx.connection.query(&sql, &[study_id.into(), settings.grace_period.as_secs_f64().into()])?;
            rows.iter().map(|row| Ok(row.int(0)?)).collect()
        })
    }

    fn on_stale(&self) -> Option<StaleTrialCallback> {
        self.heartbeat
            .as_ref()
            .and_then(|settings| settings.on_stale.clone())
    }
}

pub(crate) fn check_length(what: &str, name: &str) -> Result<()> {
    let length = name.chars().count();
    if length > 512 {
        return Err(Error::invalid(format!(
            "a {what} has at most 512 characters, but this one has {length}"
        )));
    }
    Ok(())
}
