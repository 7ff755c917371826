//! Feature scaling: build the scaler, fit it, compare its attributes and what it makes of data.
//!
//! f32 cases run on host matrices and on tensors. An error is absolute, its tolerance relative to the largest value of its
//! column: 1e-9 in f64 and 1e-5 in f32. In a column whose mean is over a million times its deviation, where one rounding of the
//! mean is as large, 1e-6 is allowed in f64.

use burn::tensor::{Device, Tensor, TensorData};
use kiln_data::scale::{
    Features, Matrix, MaxAbsScaler, MinMaxScaler, Norm, Normalizer, Real, RobustScaler, Scaler,
    StandardScaler,
};
use serde_json::Value;

use crate::json::{Array, list, text};
use crate::{Checks, Input, Report, Result};

/// Compares every case of a file.
pub fn compare(input: &Input<'_>, report: &mut Report) -> Result<()> {
    for case in list(input.json, "cases")? {
        report.case("(no id)", case, |checks| scale(case, input.device, checks));
    }
    Ok(())
}

fn scale(case: &Value, device: &Device, checks: &mut Checks) -> Result<()> {
    let name = text(case, "scaler")?;
    let config = &case["config"];
    match case["dtype"].as_str() {
        Some("f64") => compare_as::<f64, _>(case, scaler(name, config)?, &|m| m, checks),
        Some("f32") => {
            compare_as::<f32, _>(case, scaler(name, config)?, &|m| m, checks)?;
            let tensor = |m: Matrix<f32>| {
                let data = TensorData::new(m.as_slice().to_vec(), [m.rows(), m.columns()]);
                Tensor::<2>::from_data(data, device)
            };
            compare_as::<f32, _>(case, scaler(name, config)?, &tensor, checks)
        }
        other => Err(format!("dtype {other:?} is not known").into()),
    }
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
    checks: &mut Checks,
) -> Result<()> {
    let matrix = |value: &Value| -> Result<(Array, X)> {
        let array = Array::of(value)?;
        let [rows, columns] = array.shape[..] else {
            return Err("a matrix must have two dimensions".into());
        };
        let data = array.data.iter().map(|&v| T::from_f64(v)).collect();
        let matrix = Matrix::<T>::new(rows, columns, data)?;
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
        seen.shape = vec![0, columns(&array)];
        seen.data.extend(&array.data);
        match partial {
            true => scaler.partial_fit(&x),
            false => scaler.fit(&x),
        }?;
        let tolerances = Tolerances::of(&seen, relative);
        // Without mean and deviation scikit-learn counts in place, and the reference kept the array itself: it shows
        // the last count at every step.
        let last = i + 1 == steps.len();
        if last || !step["state"]["mean_"].is_null() || name_of(case) != "StandardScaler" {
            check_state(&scaler, &step["state"], &tolerances, i, checks)?;
        }
        if let Some(expected) = step.get("transformed").filter(|v| !v.is_null()) {
            let got = scaler.transform(&x)?.read();
            tolerances.check(&got, &Array::of(expected)?, "fit.transformed", checks)?;
        }
    }
    // What is saved and read again must give the same.
    let saved: Scaler = serde_json::from_str(&scaler.to_json())?;
    let tolerances = Tolerances::of(&seen, relative);
    let (_, x) = matrix(&case["test"]["x"])?;
    let y = saved.transform(&x)?;
    let expected = Array::of(&case["test"]["transformed"])?;
    if let Some(inverse) = case["test"].get("inverse").filter(|v| !v.is_null()) {
        let got = saved.inverse_transform(&y)?.read();
        tolerances.check(&got, &Array::of(inverse)?, "test.inverse", checks)?;
    }
    tolerances.check(&y.read(), &expected, "test.transformed", checks)
}

fn name_of(case: &Value) -> &str {
    case["scaler"].as_str().unwrap_or_default()
}

fn columns(array: &Array) -> usize {
    array.shape.last().copied().unwrap_or(1).max(1)
}

/// The relative tolerance of each column.
struct Tolerances {
    relative: Vec<f64>,
    /// Largest absolute value of each column of the data.
    largest: Vec<f64>,
}

impl Tolerances {
    fn of(x: &Array, relative: f64) -> Self {
        let columns = columns(x);
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

    fn check(&self, got: &[f64], expected: &Array, place: &str, checks: &mut Checks) -> Result<()> {
        if got.len() != expected.data.len() {
            let want = expected.data.len();
            return Err(format!("{place}: {} values, not {want}", got.len()).into());
        }
        let columns = columns(expected);
        for column in 0..columns {
            let values = || expected.data.iter().skip(column).step_by(columns);
            let finite = values().filter(|v| v.is_finite());
            let largest = finite.fold(0.0, |a: f64, v| a.max(v.abs()));
            let relative = self.relative.get(column).copied().unwrap_or(1e-9);
            for (row, &want) in values().enumerate() {
                let place = format!("{place}[{row}, {column}]");
                let got = got[row * columns + column];
                checks.close(place, got, want, relative * largest);
            }
        }
        Ok(())
    }
}

/// Compares every attribute that the reference has with the scaler's of that name.
fn check_state(
    scaler: &Scaler,
    expected: &Value,
    tolerances: &Tolerances,
    step: usize,
    checks: &mut Checks,
) -> Result<()> {
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
                    checks.close(&place, got, want, tolerances.relative[column] * size);
                }
                if want.len() > 1 && want.len() != got.len() {
                    let (got, want) = (got.len(), want.len());
                    return Err(format!("{place}: {got} values, not {want}").into());
                }
            }
            (got, _) => return Err(format!("{place} is {got:?}, but should be {value}").into()),
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
fn scaler(name: &str, config: &Value) -> Result<Scaler> {
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
            scaler.feature_range(low, high)?.into()
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
                .and_then(|scaler| scaler.unit_variance(flag("unit_variance", false)))?
                .into()
        }
        "MaxAbsScaler" => MaxAbsScaler::new().clip(flag("clip", false)).into(),
        "Normalizer" => {
            let norm = match config["norm"].as_str() {
                Some("l1") => Norm::L1,
                Some("l2") | None => Norm::L2,
                Some("max") => Norm::Max,
                Some(other) => return Err(format!("norm {other:?} is not known").into()),
            };
            Normalizer::new(norm).into()
        }
        _ => return Err(format!("scaler {name:?} is not known").into()),
    })
}
