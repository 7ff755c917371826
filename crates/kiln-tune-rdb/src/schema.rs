//! Optuna's tables: made so that Optuna takes them for its own, and checked before they are used.

use crate::connection::{Access, Connection, Dialect, Failure, SqlError, SqlResult};

/// The revision that Optuna 3.2 to 5.0 expect in `alembic_version`.
const REVISION: &str = "v3.2.0.a";
/// The schema version of the same releases.
const SCHEMA_VERSION: i64 = 12;
/// Optuna shows this text when it meets another schema, and otherwise does not look at it.
const LIBRARY_VERSION: &str = "5.0.0";

/// Makes the tables where they are missing and refuses a database that holds something else.
pub(crate) fn prepare(connection: &mut dyn Connection, create: bool) -> SqlResult<()> {
    let tables = tables(connection)?;
    let has = |name: &str| tables.iter().any(|table| table == name);
    if has("studies") && has("trials") && has("version_info") {
        return check(connection, has("alembic_version"), &tables);
    }
    if !create {
        return Err(refuse(
            "it holds no study table; create a study first, or check the path or the database name"
                .to_owned(),
        ));
    }
    // A file is one program's, while a server's database may be shared by several.
    if connection.dialect() == Dialect::Sqlite
        && !tables.is_empty()
        && !tables.iter().any(|table| TABLES.contains(&table.as_str()))
    {
        return Err(refuse(format!(
            "it is the database of another program (tables {}); give the studies a file of their own",
            tables.join(", ")
        )));
    }
    make(connection)
}

const TABLES: [&str; 13] = [
    "studies",
    "version_info",
    "study_directions",
    "study_user_attributes",
    "study_system_attributes",
    "trials",
    "trial_user_attributes",
    "trial_system_attributes",
    "trial_params",
    "trial_values",
    "trial_intermediate_values",
    "trial_heartbeats",
    "alembic_version",
];

fn refuse(reason: String) -> SqlError {
    SqlError::new(Failure::Other, reason)
}

fn tables(connection: &mut dyn Connection) -> SqlResult<Vec<String>> {
    let sql = match connection.dialect() {
        Dialect::Sqlite => {
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
        }
        Dialect::Postgres => {
            "SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema()"
        }
        Dialect::Mysql => {
            "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = DATABASE()"
        }
    };
    connection
        .query(sql, &[])?
        .iter()
        .map(|row| row.text(0).map(str::to_owned))
        .collect()
}

fn make(connection: &mut dyn Connection) -> SqlResult<()> {
    connection.begin(Access::Write)?;
    // One maker at a time: SQLite holds the write lock already.
    match connection.dialect() {
        Dialect::Sqlite => {}
        Dialect::Postgres => connection.batch("SELECT pg_advisory_xact_lock(7305093180571250)")?,
        Dialect::Mysql => connection.batch("SELECT GET_LOCK('kiln-tune schema', 60)")?,
    }
    let result = make_locked(connection);
    if connection.dialect() == Dialect::Mysql {
        connection.batch("SELECT RELEASE_LOCK('kiln-tune schema')")?;
    }
    result?;
    connection.commit()
}

fn make_locked(connection: &mut dyn Connection) -> SqlResult<()> {
    let dialect = connection.dialect();
    let existing = tables(connection)?;
    if dialect == Dialect::Postgres && !existing.iter().any(|table| table == "studies") {
        connection.batch(POSTGRES_TYPES)?;
    }
    for statement in TABLE_DDL {
        let name = statement.split_whitespace().nth(5).unwrap_or_default();
        if existing.iter().any(|table| table == name) {
            continue;
        }
        connection.batch(&translate(dialect, statement))?;
        // The unique name is what keeps two studies from sharing it; trials are found by their study.
        match name {
            "studies" => connection
                .batch("CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name)")?,
            "trials" => connection.batch("CREATE INDEX ix_trials_study_id ON trials (study_id)")?,
            _ => {}
        }
    }
    if connection
        .query("SELECT version_info_id FROM version_info", &[])?
        .is_empty()
    {
        connection.execute(
            "INSERT INTO version_info (version_info_id, schema_version, library_version) VALUES (1, ?, ?)",
            &[SCHEMA_VERSION.into(), LIBRARY_VERSION.into()],
        )?;
    }
    if connection
        .query("SELECT version_num FROM alembic_version", &[])?
        .is_empty()
    {
        connection.execute(
            "INSERT INTO alembic_version (version_num) VALUES (?)",
            &[REVISION.into()],
        )?;
    }
    Ok(())
}

fn check(connection: &mut dyn Connection, has_alembic: bool, tables: &[String]) -> SqlResult<()> {
    let info = connection.query_one(
        "SELECT schema_version, library_version FROM version_info",
        &[],
    )?;
    let revision = if has_alembic {
        connection.query_one("SELECT version_num FROM alembic_version", &[])?
    } else {
        None
    };
    let (Some(info), Some(revision)) = (info, revision) else {
        // The maker of the tables has not written its version rows yet, or was killed before it did.
        return make(connection);
    };
    let revision = revision.text(0)?;
    if revision != REVISION {
        let library = info.text(1).unwrap_or("an unknown release").to_owned();
        return Err(refuse(format!(
            "its schema is revision {revision:?} of Optuna {library}, but {REVISION:?} (Optuna 3.2 to 5.0) is needed; \
             run `optuna storage upgrade --storage URL`, or give the studies a database of their own"
        )));
    }
    match TABLES
        .iter()
        .find(|name| !tables.iter().any(|table| table == *name))
    {
        Some(_) => make(connection),
        None => Ok(()),
    }
}

/// SQLite's schema is the common one; the others name their column types otherwise.
fn translate(dialect: Dialect, statement: &str) -> String {
    match dialect {
        Dialect::Sqlite => statement.to_owned(),
        Dialect::Postgres => {
            let mut sql = statement
                .replace("DATETIME", "TIMESTAMP WITHOUT TIME ZONE")
                .replace("FLOAT", "FLOAT(53)");
            for (column, kind) in ENUM_COLUMNS {
                sql = replace_type(&sql, column, kind);
            }
            serial(&sql, "INTEGER NOT NULL", "SERIAL NOT NULL")
        }
        Dialect::Mysql => {
            let mut sql = statement.replace("FLOAT", "FLOAT(53)");
            for (column, kind) in ENUM_COLUMNS {
                sql = replace_type(&sql, column, &enum_labels(kind));
            }
            serial(&sql, "INTEGER NOT NULL", "INTEGER NOT NULL AUTO_INCREMENT")
        }
    }
}

/// Enumerations, which are plain text in SQLite.
const ENUM_COLUMNS: [(&str, &str); 4] = [
    ("direction", "studydirection"),
    ("state", "trialstate"),
    ("value_type", "trialvaluetype"),
    ("intermediate_value_type", "trialintermediatevaluetype"),
];

fn enum_labels(kind: &str) -> String {
    let labels = match kind {
        "studydirection" => "'NOT_SET', 'MINIMIZE', 'MAXIMIZE'",
        "trialstate" => "'RUNNING', 'COMPLETE', 'PRUNED', 'FAIL', 'WAITING'",
        "trialvaluetype" => "'FINITE', 'INF_POS', 'INF_NEG'",
        _ => "'FINITE', 'INF_POS', 'INF_NEG', 'NAN'",
    };
    format!("ENUM({labels})")
}

const POSTGRES_TYPES: &str = "
CREATE TYPE studydirection AS ENUM ('NOT_SET', 'MINIMIZE', 'MAXIMIZE');
CREATE TYPE trialstate AS ENUM ('RUNNING', 'COMPLETE', 'PRUNED', 'FAIL', 'WAITING');
CREATE TYPE trialvaluetype AS ENUM ('FINITE', 'INF_POS', 'INF_NEG');
CREATE TYPE trialintermediatevaluetype AS ENUM ('FINITE', 'INF_POS', 'INF_NEG', 'NAN');
";

fn replace_type(sql: &str, column: &str, kind: &str) -> String {
    let lines = sql.split('\n').map(|line| {
        let mut words = line.trim_start().splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some(name), Some(old), Some(rest)) if name == column && old.starts_with("VARCHAR") => {
                format!("\t{column} {kind} {rest}")
            }
            _ => line.to_owned(),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The first column of each table but `version_info` is counted by the database.
fn serial(sql: &str, from: &str, to: &str) -> String {
    if sql.contains("version_info_id") {
        sql.to_owned()
    } else {
        sql.replacen(from, to, 1)
    }
}

const TABLE_DDL: [&str; 13] = [
    "CREATE TABLE IF NOT EXISTS studies (
	study_id INTEGER NOT NULL,
	study_name VARCHAR(512) NOT NULL,
	PRIMARY KEY (study_id)
)",
    "CREATE TABLE IF NOT EXISTS version_info (
	version_info_id INTEGER NOT NULL,
	schema_version INTEGER,
	library_version VARCHAR(256),
	PRIMARY KEY (version_info_id),
	CHECK (version_info_id=1)
)",
    "CREATE TABLE IF NOT EXISTS study_directions (
	study_direction_id INTEGER NOT NULL,
	direction VARCHAR(8) NOT NULL,
	study_id INTEGER NOT NULL,
	objective INTEGER NOT NULL,
	PRIMARY KEY (study_direction_id),
	UNIQUE (study_id, objective),
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
)",
    "CREATE TABLE IF NOT EXISTS study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL,
	study_id INTEGER,
	\"key\" VARCHAR(512),
	value_json TEXT,
	PRIMARY KEY (study_user_attribute_id),
	UNIQUE (study_id, \"key\"),
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
)",
    "CREATE TABLE IF NOT EXISTS study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL,
	study_id INTEGER,
	\"key\" VARCHAR(512),
	value_json TEXT,
	PRIMARY KEY (study_system_attribute_id),
	UNIQUE (study_id, \"key\"),
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
)",
    "CREATE TABLE IF NOT EXISTS trials (
	trial_id INTEGER NOT NULL,
	number INTEGER,
	study_id INTEGER,
	state VARCHAR(8) NOT NULL,
	datetime_start DATETIME,
	datetime_complete DATETIME,
	PRIMARY KEY (trial_id),
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
)",
    "CREATE TABLE IF NOT EXISTS trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL,
	trial_id INTEGER,
	\"key\" VARCHAR(512),
	value_json TEXT,
	PRIMARY KEY (trial_user_attribute_id),
	UNIQUE (trial_id, \"key\"),
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
)",
    "CREATE TABLE IF NOT EXISTS trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL,
	trial_id INTEGER,
	\"key\" VARCHAR(512),
	value_json TEXT,
	PRIMARY KEY (trial_system_attribute_id),
	UNIQUE (trial_id, \"key\"),
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
)",
    "CREATE TABLE IF NOT EXISTS trial_params (
	param_id INTEGER NOT NULL,
	trial_id INTEGER,
	param_name VARCHAR(512),
	param_value FLOAT,
	distribution_json TEXT,
	PRIMARY KEY (param_id),
	UNIQUE (trial_id, param_name),
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
)",
    "CREATE TABLE IF NOT EXISTS trial_values (
	trial_value_id INTEGER NOT NULL,
	trial_id INTEGER NOT NULL,
	objective INTEGER NOT NULL,
	value FLOAT,
	value_type VARCHAR(7) NOT NULL,
	PRIMARY KEY (trial_value_id),
	UNIQUE (trial_id, objective),
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
)",
    "CREATE TABLE IF NOT EXISTS trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL,
	trial_id INTEGER NOT NULL,
	step INTEGER NOT NULL,
	intermediate_value FLOAT,
	intermediate_value_type VARCHAR(7) NOT NULL,
	PRIMARY KEY (trial_intermediate_value_id),
	UNIQUE (trial_id, step),
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
)",
    "CREATE TABLE IF NOT EXISTS trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL,
	trial_id INTEGER NOT NULL,
	heartbeat DATETIME NOT NULL,
	PRIMARY KEY (trial_heartbeat_id),
	UNIQUE (trial_id),
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
)",
    "CREATE TABLE IF NOT EXISTS alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
)",
];
