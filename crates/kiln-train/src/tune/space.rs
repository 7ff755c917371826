//! [`RecipeSpace`]: which fields of a recipe are searched, and over what.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_tune::{
    CategoricalDistribution, Distribution, FloatDistribution, IntDistribution, ParamSpace,
    ParamValue, Suggest,
};
use serde::Deserialize;
use thiserror::Error;
use toml::Value;

use crate::recipe::{FIELDS, Recipe, RecipeError};

/// A search space over the fields of a [`Recipe`]: a TOML file with one entry for each parameter.
///
/// | form | searched over |
/// |---|---|
/// | `{ float = [low, high] }` | floats from `low` to `high` |
/// | `{ float = [low, high], step = s }` | `low`, `low + s`, ... |
/// | `{ log = [low, high] }` | floats, uniform in the logarithm |
/// | `{ int = [low, high] }` | whole numbers; with `step = s` or `log = true` |
/// | `{ choice = [a, b, c] }` | numbers, strings, truth values or lists |
///
/// | further key | meaning |
/// |---|---|
/// | `sets = "optimizer.lr"` | the field of the recipe; default: the parameter's name, if a field has it |
/// | `repeat = "n_layers"` | as many values as the parameter `n_layers` says (1000 at most), named `NAME0`, `NAME1`, ...; they set a list |
/// | `when = { optimizer = "sgd" }` | asked only in trials where another parameter has this value, or one of a list |
///
/// ```
/// use kiln_train::{Recipe, RecipeSpace};
/// use kiln_tune::{FixedTrial, ParamValue};
///
/// let space = RecipeSpace::from_toml(
///     r#"
///     "optimizer.lr" = { log = [1e-5, 1e-1] }
///     n_layers = { int = [1, 3] }
///     n_units_l = { int = [4, 128], log = true, repeat = "n_layers", sets = "model.hidden" }
///     "#,
/// )?;
/// let mut trial = FixedTrial::new([
///     ("optimizer.lr", ParamValue::from(0.01)),
///     ("n_layers", 2.into()),
///     ("n_units_l0", 64.into()),
///     ("n_units_l1", 8.into()),
/// ]);
/// let mut recipe = Recipe::default();
/// recipe.set("model.name=mlp")?;
/// let recipe = space.suggest(&mut trial, &recipe)?;
/// assert_eq!(recipe.model.hidden, Some(vec![64, 8]));
/// assert_eq!(recipe.optimizer.lr, Some(0.01));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RecipeSpace {
    /// Those that others depend on come first.
    params: Vec<Param>,
}

#[derive(Clone, Debug)]
struct Param {
    name: String,
    distribution: Distribution,
    /// Lists are searched by their TOML text, since a choice must be a plain value.
    lists: BTreeMap<String, Value>,
    sets: Option<String>,
    repeat: Option<String>,
    when: Vec<(String, Vec<ParamValue>)>,
}

/// What is wrong with a search space.
#[derive(Debug, Error)]
pub enum SpaceError {
    /// The file cannot be read.
    #[error("cannot read the search space {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not TOML.
    #[error("the search space is not valid TOML: {0}")]
    Syntax(String),
    /// Nothing is searched.
    #[error(
        "the search space is empty; give at least one parameter, such as \"optimizer.lr\" = {{ log = [1e-5, 1e-1] }}"
    )]
    Empty,
    /// One parameter is not as it must be.
    #[error("search space: {name}: {problem}")]
    Param {
        /// The parameter.
        name: String,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// A value of the space is not one of the recipe.
    #[error("search space: {name}")]
    Recipe {
        /// The parameter.
        name: String,
        /// Why the recipe refuses it.
        source: RecipeError,
    },
}

/// The most values of one parameter with `repeat`: each is a parameter of the study, and no list of a recipe is that long.
const MAX_REPEATS: i64 = 1000;

/// The most values of a trial, those of repeated parameters together: each is written to the storage.
const MAX_VALUES: i64 = 10_000;

fn refuse<T>(name: &str, problem: impl Into<String>) -> Result<T, SpaceError> {
    Err(SpaceError::Param {
        name: name.into(),
        problem: problem.into(),
    })
}

/// One entry as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    float: Option<[f64; 2]>,
    int: Option<[i64; 2]>,
    choice: Option<Vec<Value>>,
    /// Bounds of a float on a log scale, or whether an int is on one.
    log: Option<Value>,
    step: Option<f64>,
    sets: Option<String>,
    repeat: Option<String>,
    #[serde(default)]
    when: BTreeMap<String, Value>,
}

impl RecipeSpace {
    /// Reads a TOML file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, and as [`from_toml`](Self::from_toml).
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, SpaceError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| SpaceError::Read {
            path: path.into(),
            source,
        })?;
        Self::from_toml(&text)
    }

    /// Reads TOML text.
    ///
    /// # Errors
    ///
    /// Names the parameter and what is wrong with it: an unknown form or key, bounds reversed, a field that the recipe
    /// does not have, a reference to a parameter that does not exist.
    pub fn from_toml(text: &str) -> Result<Self, SpaceError> {
        let table: BTreeMap<String, Value> =
            toml::from_str(text).map_err(|error| SpaceError::Syntax(error.to_string()))?;
        if table.is_empty() {
            return Err(SpaceError::Empty);
        }
        let params = table.into_iter().map(|(name, value)| param(name, value));
        let params = ordered(params.collect::<Result<_, _>>()?)?;
        for param in &params {
            let used = params.iter().any(|other| {
                other.repeat.as_ref() == Some(&param.name)
                    || other.when.iter().any(|(name, _)| *name == param.name)
            });
            if param.sets.is_none() && !used {
                return refuse(
                    &param.name,
                    "it sets nothing: the recipe has no field of this name; give the field with sets = \"optimizer.lr\" \
                     (kiln train --keys lists them)",
                );
            }
        }
        Ok(Self { params })
    }

    /// Checks the ends and choices of every parameter against a recipe, so that a mistake is told before anything is
    /// trained.
    ///
    /// # Errors
    ///
    /// Names the parameter whose value the recipe refuses.
    pub fn check(&self, recipe: &Recipe) -> Result<(), SpaceError> {
        for param in &self.params {
            let Some(field) = &param.sets else { continue };
            for value in param.ends() {
                let value = match param.repeat {
                    Some(_) => Value::Array(vec![value]),
                    None => value,
                };
                let mut changed = recipe.clone();
                let refused = set(&mut changed, field, value)
                    .and_then(|()| changed.validate())
                    .err();
                match refused {
                    // Whether it belongs to the optimizer, say, depends on other parameters of the trial.
                    Some(RecipeError::Value { key, allowed, .. })
                        if key != *field || allowed.contains("a setting of") => {}
                    Some(source) => {
                        return Err(SpaceError::Recipe {
                            name: param.name.clone(),
                            source,
                        });
                    }
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Every parameter that a trial may have, those under a condition and those of the largest `repeat` included.
    pub fn param_space(&self) -> ParamSpace {
        let mut space = ParamSpace::new();
        for param in &self.params {
            let most = param.repeat.as_ref().map(|count| {
                let counts = self.params.iter().find(|other| other.name == *count);
                let ends = counts.map_or(Vec::new(), Param::ends);
                ends.iter().filter_map(Value::as_integer).max().unwrap_or(0)
            });
            match most {
                None => space.insert(param.name.as_str(), param.distribution.clone()),
                Some(most) => (0..most).for_each(|i| {
                    space.insert(format!("{}{i}", param.name), param.distribution.clone());
                }),
            }
        }
        space
    }

    /// Asks a trial for every parameter and returns the recipe with them.
    ///
    /// # Errors
    ///
    /// If the trial refuses a parameter, or the recipe a combination of values.
    pub fn suggest(
        &self,
        trial: &mut impl Suggest,
        recipe: &Recipe,
    ) -> Result<Recipe, SuggestError> {
        let mut recipe = recipe.clone();
        let mut values: BTreeMap<&str, ParamValue> = BTreeMap::new();
        for param in &self.params {
            let applies = param.when.iter().all(|(name, allowed)| {
                values
                    .get(name.as_str())
                    .is_some_and(|value| allowed.contains(value))
            });
            if !applies {
                continue;
            }
            let value = match &param.repeat {
                None => {
                    let value = trial.suggest(&param.name, param.distribution.clone())?;
                    let toml = param.to_toml(&value);
                    values.insert(&param.name, value);
                    toml
                }
                // A parameter that was not asked counts as none.
                Some(count) => {
                    let times = values.get(count.as_str()).and_then(ParamValue::as_i64);
                    let times = times.unwrap_or(0);
                    // An enqueued value may lie outside of its range.
                    if times > MAX_REPEATS {
                        return Err(kiln_tune::Error::invalid(format!(
                            "{count} = {times}, but {} is repeated {MAX_REPEATS} times at most",
                            param.name
                        ))
                        .into());
                    }
                    let each = (0..times).map(|i| {
                        let name = format!("{}{i}", param.name);
                        let value = trial.suggest(&name, param.distribution.clone())?;
                        Ok(param.to_toml(&value))
                    });
                    Value::Array(each.collect::<Result<_, kiln_tune::Error>>()?)
                }
            };
            if let Some(field) = &param.sets {
                set(&mut recipe, field, value)?;
            }
        }
        recipe.validate()?;
        Ok(recipe)
    }
}

/// Why a trial has no recipe.
#[derive(Debug, Error)]
pub enum SuggestError {
    /// The trial refuses a parameter.
    #[error(transparent)]
    Trial(#[from] kiln_tune::Error),
    /// The recipe refuses the values together.
    #[error(
        "the values of this trial do not make a recipe (a parameter may need when = {{ ... }})"
    )]
    Recipe(#[from] RecipeError),
}

impl Param {
    fn to_toml(&self, value: &ParamValue) -> Value {
        match value {
            ParamValue::Bool(value) => Value::Boolean(*value),
            ParamValue::Int(value) => Value::Integer(*value),
            ParamValue::Float(value) => Value::Float(*value),
            ParamValue::Str(text) => match self.lists.get(text) {
                Some(list) => list.clone(),
                None => Value::String(text.clone()),
            },
            // A space writes lists as text; a study of another program may hold them as they are.
            ParamValue::Json(json) => Value::try_from(json.to_strict())
                .unwrap_or_else(|_| Value::String(json.to_string())),
            // TOML has no null, so no choice of a space is one.
            ParamValue::Null => Value::String("null".into()),
        }
    }

    /// The values at the ends of the range, or every choice.
    fn ends(&self) -> Vec<Value> {
        let values: Vec<ParamValue> = match &self.distribution {
            Distribution::Float(float) => vec![float.low().into(), float.high().into()],
            Distribution::Int(int) => vec![int.low().into(), int.high().into()],
            Distribution::Categorical(categorical) => categorical.choices().to_vec(),
        };
        values.iter().map(|value| self.to_toml(value)).collect()
    }
}

/// Sets a field; a field that is a list takes a single value as a list of one.
fn set(recipe: &mut Recipe, field: &str, value: Value) -> Result<(), RecipeError> {
    match recipe.assign(field, value.clone()) {
        Err(RecipeError::Value { .. }) if !value.is_array() => {
            recipe.assign(field, Value::Array(vec![value]))
        }
        result => result,
    }
}

const FORMS: &str = "give one of float = [low, high], log = [low, high], int = [low, high] and choice = [a, b]; \
                     further keys are step, sets, repeat and when";

fn param(name: String, value: Value) -> Result<Param, SpaceError> {
    let entry: Entry = match value.try_into() {
        Ok(entry) => entry,
        Err(error) => return refuse(&name, format!("{}; {FORMS}", error.message())),
    };
    let step_as_int = || match entry.step {
        None => Ok(1),
        Some(step) if step.fract() == 0.0 && step.abs() < 1e15 => Ok(step as i64),
        Some(step) => refuse(&name, format!("step = {step} of whole numbers must be one")),
    };
    let mut lists = BTreeMap::new();
    let distribution: Result<Distribution, kiln_tune::Error> =
        match (entry.float, entry.int, &entry.choice, &entry.log) {
            (Some([low, high]), None, None, None) => {
                FloatDistribution::build(low, high, false, entry.step).map(Into::into)
            }
            (None, None, None, Some(bounds)) => match bounds.clone().try_into::<[f64; 2]>() {
                Ok([low, high]) => {
                    FloatDistribution::build(low, high, true, entry.step).map(Into::into)
                }
                Err(_) => return refuse(&name, format!("log = {bounds}; {FORMS}")),
            },
            (None, Some([low, high]), None, log) => {
                let log = match log {
                    None => false,
                    Some(Value::Boolean(log)) => *log,
                    Some(other) => {
                        return refuse(
                            &name,
                            format!("log = {other} beside int must be true or false"),
                        );
                    }
                };
                IntDistribution::build(low, high, log, step_as_int()?).map(Into::into)
            }
            (None, None, Some(choices), None) if entry.step.is_none() => {
                let choices: Vec<ParamValue> = choices
                    .iter()
                    .map(|choice| plain(choice, &mut lists))
                    .collect();
                CategoricalDistribution::new(choices).map(Into::into)
            }
            _ => return refuse(&name, FORMS),
        };
    let distribution = match distribution {
        Ok(distribution) => distribution,
        Err(error) => return refuse(&name, error.to_string()),
    };
    let is_field = |name: &str| FIELDS.iter().any(|field| field.key == name);
    let sets = match entry.sets {
        Some(field) if is_field(&field) => Some(field),
        Some(field) => {
            let source = RecipeError::UnknownKey { key: field };
            return Err(SpaceError::Recipe { name, source });
        }
        None if is_field(&name) => Some(name.clone()),
        None if name.contains('.') => {
            let source = RecipeError::UnknownKey { key: name.clone() };
            return Err(SpaceError::Recipe { name, source });
        }
        None => None,
    };
    let when = entry.when.into_iter().map(|(other, value)| {
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        let values = values
            .iter()
            .map(|value| plain(value, &mut BTreeMap::new()));
        (other, values.collect())
    });
    Ok(Param {
        name,
        distribution,
        lists,
        sets,
        repeat: entry.repeat,
        when: when.collect(),
    })
}

/// A TOML value as a choice; lists become their text.
fn plain(value: &Value, lists: &mut BTreeMap<String, Value>) -> ParamValue {
    match value {
        Value::String(text) => text.as_str().into(),
        Value::Integer(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Boolean(value) => (*value).into(),
        list => {
            lists.insert(list.to_string(), list.clone());
            list.to_string().into()
        }
    }
}

/// The parameters with each behind those that it depends on.
fn ordered(mut rest: Vec<Param>) -> Result<Vec<Param>, SpaceError> {
    let known: Vec<String> = rest.iter().map(|param| param.name.clone()).collect();
    for param in &rest {
        for other in param.references() {
            if !known.contains(other) {
                return refuse(
                    &param.name,
                    format!(
                        "it refers to '{other}', which is no parameter; there are {}",
                        known.join(", ")
                    ),
                );
            }
        }
        if let Some(count) = &param.repeat {
            let counts = rest.iter().find(|other| other.name == *count);
            let whole = counts.is_some_and(|other| {
                other.repeat.is_none()
                    && other
                        .ends()
                        .iter()
                        .all(|end| end.as_integer().is_some_and(|n| n >= 0))
            });
            if !whole {
                return refuse(
                    &param.name,
                    format!(
                        "repeat = \"{count}\" needs whole numbers from 0; make '{count}' an int"
                    ),
                );
            }
            let ends = counts.map_or(Vec::new(), Param::ends);
            let most = ends.iter().filter_map(Value::as_integer).max();
            if let Some(most) = most.filter(|most| *most > MAX_REPEATS) {
                return refuse(
                    &param.name,
                    format!(
                        "repeat = \"{count}\" may be {most}, but a parameter is repeated {MAX_REPEATS} times at most; \
                         lower the upper end of '{count}'"
                    ),
                );
            }
        }
    }
    let most = |param: &Param| {
        let counts = param
            .repeat
            .as_ref()
            .and_then(|count| rest.iter().find(|other| other.name == *count));
        let ends = counts.map_or(Vec::new(), Param::ends);
        ends.iter().filter_map(Value::as_integer).max().unwrap_or(1)
    };
    let values: i64 = rest.iter().map(most).sum();
    if let Some(first) = rest.first().filter(|_| values > MAX_VALUES) {
        return refuse(
            &first.name,
            format!("a trial may have {values} values, but {MAX_VALUES} at most; repeat less"),
        );
    }
    let mut done: Vec<Param> = Vec::new();
    while !rest.is_empty() {
        let ready = rest.iter().position(|param| {
            let mut references = param.references();
            references.all(|other| done.iter().any(|param| param.name == *other))
        });
        match ready {
            Some(at) => done.push(rest.remove(at)),
            None => {
                return refuse(
                    &rest[0].name,
                    "it depends on itself, through repeat or when",
                );
            }
        }
    }
    Ok(done)
}

impl Param {
    fn references(&self) -> impl Iterator<Item = &String> {
        self.repeat
            .iter()
            .chain(self.when.iter().map(|(name, _)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_tune::FixedTrial;

    const CLASSIC: &str = r#"
        n_layers = { int = [1, 3] }
        n_units_l = { int = [4, 128], repeat = "n_layers", sets = "model.hidden" }
        dropout_l = { float = [0.2, 0.5], repeat = "n_layers", sets = "model.dropout" }
        optimizer = { choice = ["adam", "rmsprop", "sgd"], sets = "optimizer.name" }
        lr = { log = [1e-5, 1e-1], sets = "optimizer.lr" }
        momentum = { float = [0.0, 0.9], sets = "optimizer.momentum", when = { optimizer = "sgd" } }
    "#;

    fn mlp() -> Recipe {
        Recipe::from_toml("[model]\nname = 'mlp'").unwrap()
    }

    fn suggest(space: &str, values: &[(&str, ParamValue)]) -> Result<Recipe, SuggestError> {
        let space = RecipeSpace::from_toml(space).unwrap();
        space.check(&mlp()).unwrap();
        let mut trial = FixedTrial::new(values.iter().cloned());
        space.suggest(&mut trial, &mlp())
    }

    #[test]
    fn units_and_dropout_exist_for_as_many_layers_as_the_trial_has() {
        let recipe = suggest(
            CLASSIC,
            &[
                ("n_layers", 2.into()),
                ("n_units_l0", 100.into()),
                ("n_units_l1", 5.into()),
                ("dropout_l0", 0.25.into()),
                ("dropout_l1", 0.5.into()),
                ("optimizer", "adam".into()),
                ("lr", 1e-3.into()),
            ],
        )
        .unwrap();
        assert_eq!(recipe.model.hidden, Some(vec![100, 5]));
        let space = RecipeSpace::from_toml(CLASSIC).unwrap().param_space();
        let names: Vec<&str> = space.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names.len(), 3 + 1 + 2 * 3);
        assert!(names.contains(&"n_units_l2") && !names.contains(&"n_units_l3"));
        assert_eq!(recipe.model.dropout, Some(vec![0.25, 0.5]));
    }

    #[test]
    fn a_parameter_with_a_condition_is_asked_only_where_it_holds() {
        let values = |optimizer: &str| {
            vec![
                ("n_layers", 1.into()),
                ("n_units_l0", 8.into()),
                ("dropout_l0", 0.3.into()),
                ("optimizer", optimizer.into()),
                ("lr", 0.1.into()),
                ("momentum", 0.5.into()),
            ]
        };
        let sgd = suggest(CLASSIC, &values("sgd")).unwrap();
        assert_eq!(sgd.optimizer.momentum, Some(0.5));
        let adam = suggest(CLASSIC, &values("adam")).unwrap();
        assert_eq!(adam.optimizer.momentum, None);
    }

    #[test]
    fn lists_can_be_chosen_and_a_single_value_fills_a_list() {
        let space = "\"model.hidden\" = { choice = [[64], [128, 32]] }\n\"model.dropout\" = { float = [0.0, 0.5] }";
        let values = [
            ("model.hidden", "[128, 32]".into()),
            ("model.dropout", 0.1.into()),
        ];
        let recipe = suggest(space, &values).unwrap();
        assert_eq!(recipe.model.hidden, Some(vec![128, 32]));
        assert_eq!(recipe.model.dropout, Some(vec![0.1]));
    }

    #[test]
    fn a_trial_with_too_many_repeats_is_refused() {
        let values = [("lr", 0.01.into()), ("n_layers", 1_000_000_000.into())];
        let error = suggest(CLASSIC, &values).unwrap_err().to_string();
        assert!(error.contains("1000 times at most"), "{error}");
    }

    #[test]
    fn a_combination_that_the_recipe_refuses_says_so() {
        let space = "\"optimizer.momentum\" = { float = [0.0, 0.9] }";
        let error = suggest(space, &[("optimizer.momentum", 0.5.into())]).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("a setting of sgd"), "{cause}");
    }

    #[test]
    fn mistakes_name_the_parameter_and_what_is_allowed() {
        for (text, expected) in [
            ("", "is empty"),
            ("lr = { log = [1e-5, 1e-1] }", "lr: it sets nothing"),
            ("\"optimizer.rl\" = { log = [1e-5, 1e-1] }", "optimizer.rl"),
            (
                "\"optimizer.lr\" = { log = [1e-1, 1e-5] }",
                "optimizer.lr: ",
            ),
            ("\"optimizer.lr\" = { log = [0.0, 1.0] }", "optimizer.lr: "),
            (
                "\"optimizer.lr\" = { uniform = [0.0, 1.0] }",
                "unknown field `uniform`",
            ),
            (
                "\"optimizer.lr\" = { float = [0.0, 1.0], int = [1, 2] }",
                "give one of",
            ),
            ("\"optimizer.lr\" = 3", "optimizer.lr: "),
            ("\"epochs\" = { int = [1, 9], step = 0.5 }", "step = 0.5"),
            ("\"optimizer.name\" = { choice = [] }", "optimizer.name: "),
            (
                "a = { int = [1, 2], repeat = \"b\", sets = \"model.hidden\" }",
                "refers to 'b'",
            ),
            (
                "a = { int = [1, 2], repeat = \"b\", sets = \"model.hidden\" }\nb = { float = [1, 2] }",
                "make 'b' an int",
            ),
            (
                "a = { int = [1, 2], repeat = \"b\", sets = \"model.hidden\" }\nb = { int = [1, 4294967296] }",
                "4294967296, but a parameter is repeated 1000 times at most",
            ),
            (
                "a = { int = [1, 2], repeat = \"b\", sets = \"model.hidden\" }\nb = { choice = [1, 1001] }",
                "lower the upper end of 'b'",
            ),
            (
                "epochs = { int = [1, 2], when = { seed = 1 } }\nseed = { int = [1, 2], when = { epochs = 1 } }",
                "depends on itself",
            ),
        ] {
            let error = RecipeSpace::from_toml(text).unwrap_err();
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn values_that_the_recipe_never_takes_are_refused_before_the_study() {
        for (space, expected) in [
            ("batch_size = { int = [0, 64] }", "batch_size = 0"),
            (
                "\"optimizer.name\" = { choice = ['adam', 'adagrad'] }",
                "adagrad",
            ),
            ("epochs = { float = [1.5, 3.0] }", "1.5"),
        ] {
            let space = RecipeSpace::from_toml(space).unwrap();
            let error = space.check(&mlp()).unwrap_err();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains(expected), "{cause}");
        }
    }
}
