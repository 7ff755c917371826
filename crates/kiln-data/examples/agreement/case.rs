//! One case of a reference file: build the scaler, fit it, compare.

use burn::tensor::{Tensor, TensorData};
use kiln_data::scale::{
    Features, Matrix, MaxAbsScaler, MinMaxScaler, Norm, Normalizer, Real, RobustScaler, Scaler,
    StandardScaler,
};
use serde_json::Value;

type Outcome<T> = Result<T, String>;

/// The cases of a file.
pub fn read(path: &str) -> Outcome<Vec<Value>> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let file: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    match file["cases"].as_array() {
        Some(cases) if !cases.is_empty() => Ok(cases.clone()),
        _ => Err("the file has no cases".into()),
    }
}

/// A line for the case, and whether it passed.
pub fn run(case: &Value) -> (String, bool) {
    let id = case["id"].as_str().unwrap_or("(no id)");
    match compare(case) {
        Ok(worst) => {
            let passed = worst.ratio <= 1.0;
            let verdict = if passed { "ok    " } else { "FAILED" };
            let (ratio, place) = (worst.ratio, worst.place);
            let line = format!("{verdict}  {id:32} worst error / tolerance {ratio:.2e}  {place}");
            (line, passed)
        }
        Err(problem) => (format!("FAILED  {id:32} {problem}"), false),
    }
}

/// The largest error over its tolerance so far, and where it was.
struct Worst {
    ratio: f64,
    place: String,
}

impl Worst {
    fn see(&mut self, ratio: f64, place: &str) {
        // NaN, where one of two is not a number, must not pass.
        if ratio.is_nan() || ratio > self.ratio {
            self.ratio = if ratio.is_nan() { f64::INFINITY } else { ratio };
            self.place = place.into();
        }
    }
}

fn compare(case: &Value) -> Outcome<Worst> {
    let name = case["scaler"].as_str().ok_or("no scaler")?;
    let config = &case["config"];
    let mut worst = Worst {
        ratio: 0.0,
        place: String::new(),
    };
    match case["dtype"].as_str() {
        Some("f64") => compare_as::<f64, _>(case, scaler(name, config)?, &|m| m, &mut worst)?,
        Some("f32") => {
            compare_as::<f32, _>(case, scaler(name, config)?, &|m| m, &mut worst)?;
            for device in kiln_testing::devices() {
                let tensor = |m: Matrix<f32>| {
                    let data = TensorData::new(m.as_slice().to_vec(), [m.rows(), m.columns()]);
                    Tensor::<2>::from_data(data, &device)
                };
                compare_as::<f32, _>(case, scaler(name, config)?, &tensor, &mut worst)?;
            }
        }
        other => return Err(format!("dtype {other:?} is not known")),
    }
    Ok(worst)
}

/// The values of a matrix or a tensor, row after row.
trait Read {
    fn read(self) -> Vec<f64>;
}

impl<T: Real> Read for Matrix<T> {
    fn read(self) -> Vec<f64> {
        self.into_vec().into_iter().map(T::to_f64).collect()
    }
}

impl Read for Tensor<2> {
    fn read(self) -> Vec<f64> {
        self.try_into_vec_as::<f64>().expect("the device works")
    }
}

fn compare_as<T: Real, X: Features + Read>(
    case: &Value,
    mut scaler: Scaler,
    put: &dyn Fn(Matrix<T>) -> X,
    worst: &mut Worst,
) -> Outcome<()> {
    let text = |error: kiln_data::scale::ScaleError| error.to_string();
    let matrix = |value: &Value| -> Outcome<(Array, X)> {
        let array = Array::of(value)?;
        let [rows, columns] = array.shape[..] else {
            return Err("a matrix must have two dimensions".into());
        };
        let data = array.data.iter().map(|&v| T::from_f64(v)).collect();
        let matrix = Matrix::<T>::new(rows, columns, data).map_err(text)?;
        Ok((array, put(matrix)))
    };
    let relative = if T::EPSILON > 1e-10 { 1e-5 } else { 1e-9 };
    let mut seen = Array::default();
    let steps: Vec<(&Value, bool)> = match case["partial_fit"].as_array() {
        Some(chunks) => chunks.iter().map(|chunk| (chunk, true)).collect(),
        None => vec![(&case["fit"], false)],
    };
    for (i, &(step, partial)) in steps.iter().enumerate() {
        let (array, x) = matrix(&step["x"])?;
        seen.append(&array);
        match partial {
            true => scaler.partial_fit(&x),
            false => scaler.fit(&x),
        }
        .map_err(text)?;
        let tolerances = Tolerances::of(&seen, relative);
        // Without mean and deviation scikit-learn counts in place, and the reference kept the array itself: it shows
        // the last count at every step.
        let last = i + 1 == steps.len();
        if last || !step["state"]["mean_"].is_null() || name_of(case) != "StandardScaler" {
            check_state(&scaler, &step["state"], &tolerances, i, worst)?;
        }
        if let Some(expected) = step.get("transformed").filter(|v| !v.is_null()) {
            let got = scaler.transform(&x).map_err(text)?.read();
            tolerances.check(&got, &Array::of(expected)?, "fit.transformed", worst)?;
        }
    }
    // What is saved and read again must give the same.
    let saved: Scaler = serde_json::from_str(&scaler.to_json()).map_err(|e| e.to_string())?;
    let tolerances = Tolerances::of(&seen, relative);
    let (_, x) = matrix(&case["test"]["x"])?;
    let y = saved.transform(&x).map_err(text)?;
    let expected = Array::of(&case["test"]["transformed"])?;
    if let Some(inverse) = case["test"].get("inverse").filter(|v| !v.is_null()) {
        let got = saved.inverse_transform(&y).map_err(text)?.read();
        tolerances.check(&got, &Array::of(inverse)?, "test.inverse", worst)?;
    }
    tolerances.check(&y.read(), &expected, "test.transformed", worst)
}

fn name_of(case: &Value) -> &str {
    case["scaler"].as_str().unwrap_or_default()
}

/// The relative tolerance of each column.
struct Tolerances {
    relative: Vec<f64>,
    /// Largest absolute value of each column of the data.
    largest: Vec<f64>,
}

impl Tolerances {
    fn of(x: &Array, relative: f64) -> Self {
        let columns = x.columns();
        let column = |c: usize| {
            x.data
                .iter()
                .skip(c)
                .step_by(columns)
                .filter(|v| !v.is_nan())
        };
        let each = (0..columns).map(|c| {
            let n = column(c).count() as f64;
            let mean = column(c).sum::<f64>() / n;
            let std = (column(c).map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
            match mean.abs() > 1e6 * std && relative < 1e-6 {
                true => 1e-6,
                false => relative,
            }
        });
        Self {
            relative: each.collect(),
            largest: (0..columns)
                .map(|c| column(c).fold(0.0, |a: f64, v| a.max(v.abs())))
                .collect(),
        }
    }

    fn check(&self, got: &[f64], expected: &Array, place: &str, worst: &mut Worst) -> Outcome<()> {
        if got.len() != expected.data.len() {
            return Err(format!(
                "{place}: {} values, not {}",
                got.len(),
                expected.data.len()
            ));
        }
        let columns = expected.columns();
        for column in 0..columns {
            let values = || expected.data.iter().skip(column).step_by(columns);
            let finite = values().filter(|v| v.is_finite());
            let largest = finite.fold(0.0, |a: f64, v| a.max(v.abs()));
            let relative = self.relative.get(column).copied().unwrap_or(1e-9);
            for (row, &want) in values().enumerate() {
                let place = format!("{place}[{row}, {column}]");
                worst.see(
                    ratio(got[row * columns + column], want, relative * largest),
                    &place,
                );
            }
        }
        Ok(())
    }
}

/// The error over its tolerance; NaN equals NaN and an infinity itself.
fn ratio(got: f64, want: f64, tolerance: f64) -> f64 {
    if got == want || got.is_nan() && want.is_nan() {
        return 0.0;
    }
    (got - want).abs() / tolerance
}

/// Compares every attribute that the reference has with the scaler's of that name.
fn check_state(
    scaler: &Scaler,
    expected: &Value,
    tolerances: &Tolerances,
    step: usize,
    worst: &mut Worst,
) -> Outcome<()> {
    let ours = attributes(scaler);
    let expected = expected.as_object().cloned().unwrap_or_default();
    for (name, value) in expected {
        let found = ours.iter().find(|(ours, _)| *ours == name);
        let (_, got) = found.ok_or_else(|| format!("{scaler} has no {name}"))?;
        let place = format!("step {step}, {name}");
        match (got, value.is_null()) {
            (None, true) => {}
            (Some(got), false) => {
                let want = Array::of(&value)?.data;
                for (column, &got) in got.iter().enumerate() {
                    // A single number stands for all features.
                    let want = if want.len() == 1 {
                        want[0]
                    } else {
                        want[column]
                    };
                    // A sum of the column's values is as exact as they are; a ratio is as exact as itself.
                    let size = match name.as_str() {
                        "mean_" | "center_" | "data_range_" => tolerances.largest[column],
                        "min_" => want.abs().max(1.0),
                        "n_samples_seen_" => 0.0,
                        _ => want.abs(),
                    };
                    worst.see(ratio(got, want, tolerances.relative[column] * size), &place);
                }
                if want.len() > 1 && want.len() != got.len() {
                    return Err(format!("{place}: {} values, not {}", got.len(), want.len()));
                }
            }
            (got, _) => return Err(format!("{place} is {got:?}, but should be {value}")),
        }
    }
    Ok(())
}

/// The attributes under scikit-learn's names.
fn attributes(scaler: &Scaler) -> Vec<(&'static str, Option<Vec<f64>>)> {
    let list = |values: Option<&[f64]>| values.map(<[f64]>::to_vec);
    let count = |n: Option<usize>| n.map(|n| vec![n as f64]);
    match scaler {
        Scaler::MinMaxScaler(s) => vec![
            ("min_", s.min()),
            ("scale_", s.scale()),
            ("data_min_", list(s.data_min())),
            ("data_max_", list(s.data_max())),
            ("data_range_", s.data_range()),
            ("n_samples_seen_", count(s.n_samples_seen())),
        ],
        Scaler::StandardScaler(s) => vec![
            ("mean_", list(s.mean())),
            ("var_", list(s.var())),
            ("scale_", s.scale()),
            (
                "n_samples_seen_",
                s.n_samples_seen()
                    .map(|n| n.iter().map(|&n| n as f64).collect()),
            ),
        ],
        Scaler::RobustScaler(s) => vec![("center_", list(s.center())), ("scale_", list(s.scale()))],
        Scaler::MaxAbsScaler(s) => vec![
            ("scale_", s.scale()),
            ("max_abs_", list(s.max_abs())),
            ("n_samples_seen_", count(s.n_samples_seen())),
        ],
        Scaler::Normalizer(_) => Vec::new(),
    }
}

/// The scaler with the settings of a case.
fn scaler(name: &str, config: &Value) -> Outcome<Scaler> {
    let text = |error: kiln_data::scale::ScaleError| error.to_string();
    let flag = |key: &str, default: bool| config[key].as_bool().unwrap_or(default);
    let pair = |key: &str, default: (f64, f64)| match config[key].as_array().map(|a| &a[..]) {
        Some([a, b]) => (
            a.as_f64().unwrap_or(f64::NAN),
            b.as_f64().unwrap_or(f64::NAN),
        ),
        _ => default,
    };
    Ok(match name {
        "MinMaxScaler" => {
            let (low, high) = pair("feature_range", (0.0, 1.0));
            let scaler = MinMaxScaler::new().clip(flag("clip", false));
            scaler.feature_range(low, high).map_err(text)?.into()
        }
        "StandardScaler" => StandardScaler::new()
            .with_mean(flag("with_mean", true))
            .with_std(flag("with_std", true))
            .into(),
        "RobustScaler" => {
            let (low, high) = pair("quantile_range", (25.0, 75.0));
            RobustScaler::new()
                .with_centering(flag("with_centering", true))
                .with_scaling(flag("with_scaling", true))
                .quantile_range(low, high)
                .and_then(|scaler| scaler.unit_variance(flag("unit_variance", false)))
                .map_err(text)?
                .into()
        }
        "MaxAbsScaler" => MaxAbsScaler::new().clip(flag("clip", false)).into(),
        "Normalizer" => {
            let norm = match config["norm"].as_str() {
                Some("l1") => Norm::L1,
                Some("l2") | None => Norm::L2,
                Some("max") => Norm::Max,
                Some(other) => return Err(format!("norm {other:?} is not known")),
            };
            Normalizer::new(norm).into()
        }
        _ => return Err(format!("scaler {name:?} is not known")),
    })
}

/// An array of the reference: shape and values, row after row. A bare number has no dimensions.
#[derive(Default)]
struct Array {
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Array {
    fn of(value: &Value) -> Outcome<Self> {
        let number = |value: &Value| match (value.as_f64(), value.as_str()) {
            (Some(number), _) => Ok(number),
            (_, Some("NaN")) => Ok(f64::NAN),
            (_, Some("Infinity")) => Ok(f64::INFINITY),
            (_, Some("-Infinity")) => Ok(f64::NEG_INFINITY),
            _ => Err(format!("{value} is not a number")),
        };
        let (Some(shape), Some(data)) = (value["shape"].as_array(), value["data"].as_array())
        else {
            return Ok(Self {
                shape: Vec::new(),
                data: vec![number(value)?],
            });
        };
        Ok(Self {
            shape: shape
                .iter()
                .map(|n| n.as_u64().unwrap_or(0) as usize)
                .collect(),
            data: data.iter().map(number).collect::<Outcome<_>>()?,
        })
    }

    fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1).max(1)
    }

    fn append(&mut self, rows: &Self) {
        self.shape = vec![0, rows.columns()];
        self.data.extend(&rows.data);
    }
}
