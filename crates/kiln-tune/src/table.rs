//! The trials of a study as a table.

use crate::error::Result;
use crate::json::{Json, python_float};
use crate::study::Study;
use crate::trial::{FrozenTrial, Timestamp};

/// One row per trial, with the columns of Optuna's `trials_dataframe`: `number`, `value` (or `values_0`, ..., or
/// `values_` and the metric names), `datetime_start`, `datetime_complete`, `duration` (seconds), `params_*`,
/// `user_attrs_*`, `system_attrs_*` and `state`. Names within a group are sorted; what a trial lacks is null.
///
/// ```
/// use kiln_tune::Study;
///
/// let study = Study::builder().create()?;
/// study.optimize(|trial| trial.suggest_float("x", 0.0, 1.0), 2)?;
/// let csv = study.table()?.to_csv();
/// assert!(csv.starts_with("number,value,datetime_start,datetime_complete,duration,params_x,"));
/// assert_eq!(csv.lines().count(), 3);
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TrialsTable {
    columns: Vec<String>,
    rows: Vec<Vec<Json>>,
}

impl Study {
    /// All trials as a table.
    ///
    /// # Errors
    /// When the storage fails.
    pub fn table(&self) -> Result<TrialsTable> {
        let names = self.metric_names()?;
        let trials = self.trials()?;
        let trials: Vec<&FrozenTrial> = trials.iter().map(|trial| &**trial).collect();
        Ok(TrialsTable::new(
            &trials,
            self.directions().len(),
            names.as_deref(),
        ))
    }
}

impl TrialsTable {
    /// The table of some trials of a study with `n_objectives` objectives.
    #[must_use]
    pub fn new(
        trials: &[&FrozenTrial],
        n_objectives: usize,
        metric_names: Option<&[String]>,
    ) -> Self {
        let value_columns: Vec<String> = match (n_objectives, metric_names) {
            (1, None) => vec!["value".to_owned()],
            (1, Some(names)) => names.iter().map(|name| format!("value_{name}")).collect(),
            (_, Some(names)) => names.iter().map(|name| format!("values_{name}")).collect(),
            (n, None) => (0..n).map(|i| format!("values_{i}")).collect(),
        };
        let params = names(trials, |trial| {
            trial
                .params
                .iter()
                .map(|param| param.name.to_string())
                .collect()
        });
        let user = names(trials, |trial| trial.user_attrs.keys().cloned().collect());
        let system = names(trials, |trial| trial.system_attrs.keys().cloned().collect());

        let mut columns = vec!["number".to_owned()];
        columns.extend(value_columns.iter().cloned());
        columns.extend(["datetime_start", "datetime_complete", "duration"].map(str::to_owned));
        columns.extend(params.iter().map(|name| format!("params_{name}")));
        columns.extend(user.iter().map(|name| format!("user_attrs_{name}")));
        columns.extend(system.iter().map(|name| format!("system_attrs_{name}")));
        columns.push("state".to_owned());

        let row = |trial: &&FrozenTrial| {
            let mut row = vec![Json::Int(i64::try_from(trial.number).unwrap_or(i64::MAX))];
            row.extend((0..value_columns.len()).map(|i| {
                trial
                    .values
                    .as_ref()
                    .and_then(|values| values.get(i))
                    .map_or(Json::Null, |value| Json::Float(*value))
            }));
            row.push(time(trial.datetime_start));
            row.push(time(trial.datetime_complete));
            #[allow(clippy::cast_precision_loss)]
            let seconds = trial
                .duration()
                .and_then(|d| d.num_microseconds())
                .map(|us| us as f64 / 1e6);
            row.push(seconds.into());
            row.extend(params.iter().map(|name| {
                trial
                    .params
                    .value(name)
                    .map_or(Json::Null, |value| value.to_json())
            }));
            row.extend(
                user.iter()
                    .map(|name| trial.user_attrs.get(name).cloned().unwrap_or(Json::Null)),
            );
            row.extend(
                system
                    .iter()
                    .map(|name| trial.system_attrs.get(name).cloned().unwrap_or(Json::Null)),
            );
            row.push(trial.state.name().into());
            row
        };
        Self {
            columns,
            rows: trials.iter().map(row).collect(),
        }
    }

    /// The names of the columns.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The rows, each with one value per column.
    #[must_use]
    pub fn rows(&self) -> &[Vec<Json>] {
        &self.rows
    }

    /// As comma-separated values (RFC 4180) with a header; null is an empty field, and non-finite numbers are `inf`,
    /// `-inf` and `nan`.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut out = String::new();
        let header = self
            .columns
            .iter()
            .map(|name| quoted(name))
            .collect::<Vec<_>>()
            .join(",");
        out.push_str(&header);
        out.push('\n');
        for row in &self.rows {
            let fields: Vec<String> = row.iter().map(field).collect();
            out.push_str(&fields.join(","));
            out.push('\n');
        }
        out
    }

    /// As a JSON array with one object per trial; non-finite numbers are the strings `"inf"`, `"-inf"`, `"nan"`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let object = |row: &Vec<Json>| {
            let entries = self
                .columns
                .iter()
                .cloned()
                .zip(row.iter().map(Json::to_strict));
            serde_json::Value::Object(entries.collect())
        };
        self.rows.iter().map(object).collect()
    }
}

fn names(trials: &[&FrozenTrial], of: impl Fn(&FrozenTrial) -> Vec<String>) -> Vec<String> {
    let mut names: Vec<String> = trials.iter().flat_map(|trial| of(trial)).collect();
    names.sort();
    names.dedup();
    names
}

fn time(at: Option<Timestamp>) -> Json {
    at.map(|at| at.format("%Y-%m-%d %H:%M:%S%.6f").to_string())
        .into()
}

fn field(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::Float(value) => python_float(*value),
        Json::Str(value) => quoted(value),
        other => quoted(&other.to_string()),
    }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        FloatDistribution, RandomSampler, Study, StudyDirection, TrialBuilder, TrialState,
    };

    #[test]
    fn rows_have_every_column_and_fields_are_quoted() {
        let study = Study::builder()
            .sampler(RandomSampler::new(0))
            .create()
            .unwrap();
        let unit = FloatDistribution::new(0.0, 1.0).unwrap();
        let first = TrialBuilder::new()
            .value(f64::INFINITY)
            .param("x", 0.5, unit)
            .user_attr("note", "a, \"b\"\nc");
        study.add_trial(&first.build().unwrap()).unwrap();
        let second = TrialBuilder::new()
            .state(TrialState::Fail)
            .param("a", 0.25, unit)
            .user_attr("n", vec![1, 2]);
        study.add_trial(&second.build().unwrap()).unwrap();
        let table = study.table().unwrap();
        assert_eq!(
            table.columns().join(" "),
            "number value datetime_start datetime_complete duration params_a params_x user_attrs_n user_attrs_note state"
        );
        let csv = table.to_csv();
        assert!(csv.contains("0,inf,"), "{csv}");
        assert!(
            csv.contains(",0.5,,\"a, \"\"b\"\"\nc\",COMPLETE\n"),
            "{csv}"
        );
        assert!(csv.contains(",0.25,,\"[1, 2]\",,FAIL\n"), "{csv}");
        let json = table.to_json();
        assert_eq!(json[0]["value"], "inf");
        assert_eq!(json[1]["params_x"], serde_json::Value::Null);
        assert_eq!(json[1]["user_attrs_n"][1], 2);
    }

    #[test]
    fn objectives_are_called_by_their_metric_names() {
        let directions = [StudyDirection::Minimize, StudyDirection::Maximize];
        let study = Study::builder()
            .directions(directions)
            .sampler(RandomSampler::new(0))
            .create()
            .unwrap();
        assert_eq!(
            study.table().unwrap().columns()[1..3],
            ["values_0", "values_1"]
        );
        study.set_metric_names(&["loss", "accuracy"]).unwrap();
        assert_eq!(
            study.table().unwrap().columns()[1..3],
            ["values_loss", "values_accuracy"]
        );
    }
}
