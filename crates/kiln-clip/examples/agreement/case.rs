//! One case of a reference file: clip as it says, compare.

use std::path::Path;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use kiln_clip::{
    AdaptiveGradClip, AgcExclude, ClipError, ClipGradNorm, NormType, check_finite, clip_grad_value,
    clip_grads_with_norm, total_norm,
};
use serde_json::Value;

type Outcome<T> = Result<T, String>;

/// The cases of a file.
pub fn read(path: &Path) -> Outcome<Vec<Value>> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let file: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    match file["cases"].as_array() {
        Some(cases) if !cases.is_empty() => Ok(cases.clone()),
        _ => Err("the file has no cases".into()),
    }
}

/// A line for the case, and whether it passed.
pub fn run(case: &Value, device: &Device) -> (String, bool) {
    let id = case["id"].as_str().unwrap_or("(no id)");
    match compare(case, device) {
        Ok(Worst { ratio, place }) => {
            let passed = ratio <= 1.0;
            let verdict = if passed { "ok    " } else { "FAILED" };
            let line = format!("{verdict}  {id:24} worst error / tolerance {ratio:.2e}  {place}");
            (line, passed)
        }
        Err(problem) => (format!("FAILED  {id:24} {problem}"), false),
    }
}

/// A parameter of any rank that a reference file has.
#[derive(Module, Debug)]
enum Parameter {
    R1(Param<Tensor<1>>),
    R2(Param<Tensor<2>>),
    R3(Param<Tensor<3>>),
    R4(Param<Tensor<4>>),
    R5(Param<Tensor<5>>),
}

/// The parameters of a case, and one without a gradient so that there is a device in every case.
#[derive(Module, Debug)]
struct Net {
    parameters: Vec<Parameter>,
    untouched: Param<Tensor<1>>,
}

/// Does something with the parameter as whatever rank it has.
macro_rules! any_rank {
    ($parameter:expr, $param:ident => $body:expr) => {
        match $parameter {
            Parameter::R1($param) => $body,
            Parameter::R2($param) => $body,
            Parameter::R3($param) => $body,
            Parameter::R4($param) => $body,
            Parameter::R5($param) => $body,
        }
    };
}

impl Parameter {
    fn new(array: &Array, device: &Device) -> Outcome<Self> {
        Ok(match array.shape.len() {
            0 | 1 => Self::R1(array.param(device)),
            2 => Self::R2(array.param(device)),
            3 => Self::R3(array.param(device)),
            4 => Self::R4(array.param(device)),
            5 => Self::R5(array.param(device)),
            rank => return Err(format!("{rank} axes are more than this example has")),
        })
    }

    fn register(&self, grads: &mut GradientsParams, grad: &Array, device: &Device) {
        any_rank!(self, param => {
            let values = grad.data.iter().map(|&v| v as f32).collect::<Vec<_>>();
            let shape = param.val().dims();
            let grad = Tensor::from_data(TensorData::new(values, shape), device);
            register(grads, param, grad);
        });
    }

    fn gradient(&self, grads: &GradientsParams) -> Option<Vec<f64>> {
        any_rank!(self, param => gradient(grads, param))
    }
}

fn register<const D: usize>(
    grads: &mut GradientsParams,
    param: &Param<Tensor<D>>,
    grad: Tensor<D>,
) {
    grads.register(param.id, grad);
}

fn gradient<const D: usize>(grads: &GradientsParams, param: &Param<Tensor<D>>) -> Option<Vec<f64>> {
    let grad = grads.get::<D>(param.id)?;
    Some(grad.try_into_vec_as::<f64>().expect("the device works"))
}

fn compare(case: &Value, device: &Device) -> Outcome<Worst> {
    let arrays = |key: &str| -> Outcome<Vec<Option<Array>>> {
        let list = case[key].as_array().ok_or_else(|| format!("no {key}"))?;
        let array = |value: &Value| match value.is_null() {
            true => Ok(None),
            false => Array::of(value).map(Some),
        };
        list.iter().map(array).collect()
    };
    let number = |key: &str| number(&case[key]).map_err(|problem| format!("{key}: {problem}"));
    let given = arrays("grads")?;
    let weights = match case["weights"].is_null() {
        true => given.clone(),
        false => arrays("weights")?,
    };
    let none = Array {
        shape: vec![1],
        data: vec![0.0],
    };
    let weights = weights
        .iter()
        .map(|w| Parameter::new(w.as_ref().unwrap_or(&none), device));
    let net = Net {
        parameters: weights.collect::<Outcome<_>>()?,
        untouched: none.param(device),
    };
    let mut grads = GradientsParams::new();
    for (parameter, grad) in net.parameters.iter().zip(&given) {
        if let Some(grad) = grad {
            parameter.register(&mut grads, grad, device);
        }
    }

    let function = case["fn"].as_str().ok_or("no fn")?;
    let check = case["error_if_nonfinite"].as_bool().unwrap_or(false);
    let norm_type = match case["norm_type"].is_null() {
        true => NormType::L2,
        false => NormType::new(number("norm_type")?).map_err(|error| error.to_string())?,
    };
    let mut exact = false;
    let norm = match function {
        "clip_grad_norm_" => {
            let max_norm = number("max_norm")?;
            exact = number("total_norm64").is_ok_and(|norm| max_norm / (norm + 1e-6) >= 1.0);
            let clip = ClipGradNorm::new(max_norm).norm_type(norm_type);
            clip.error_if_nonfinite(check)
                .clip(&mut grads, &net)
                .map(Some)
        }
        "get_total_norm" => {
            let norm = total_norm(&grads, &net, norm_type);
            match check {
                true => check_finite(&norm, norm_type).map(|()| Some(norm)),
                false => Ok(Some(norm)),
            }
        }
        "clip_grads_with_norm_" => {
            let (given, max_norm) = (number("given_norm")?, number("max_norm")?);
            exact = max_norm / (given + 1e-6) >= 1.0;
            let given = Tensor::from_floats([given as f32], device);
            clip_grads_with_norm(&mut grads, &net, max_norm, &given);
            Ok(None)
        }
        "clip_grad_value_" => {
            exact = true;
            clip_grad_value(&mut grads, &net, number("clip_value")?);
            Ok(None)
        }
        "agc" => {
            let agc = AdaptiveGradClip::new(number("clipping")?, number("eps")?);
            let agc = agc.map_err(|error| error.to_string())?;
            agc.exclude(AgcExclude::Nothing).clip(&mut grads, &net);
            Ok(None)
        }
        other => return Err(format!("fn {other:?} is not known")),
    };

    let mut worst = Worst::default();
    let norm = match (norm, case["error"].as_str()) {
        (Err(ClipError::NonFinite { .. }), Some(_)) => None,
        (Err(error), None) => return Err(error.to_string()),
        (Err(error), Some(expected)) => return Err(format!("{error}, not {expected}")),
        (Ok(_), Some(expected)) => return Err(format!("no error, but {expected} was expected")),
        (Ok(norm), None) => norm,
    };
    // After an error the gradients must be untouched.
    exact |= case["error"].is_string();
    if let Some(norm) = norm {
        let relative = match norm_type.p() {
            1.0 | 2.0 | f64::INFINITY => 2e-6,
            _ => 1e-5,
        };
        let want = number("total_norm64").or_else(|_| number("total_norm"))?;
        let got = norm.try_into_vec_as::<f64>().expect("the device works")[0];
        worst.see(ratio(got, want, relative * want.abs()), "total_norm");
    }
    let expected = match case["clipped"].is_null() {
        true => given.clone(),
        false => arrays("clipped")?,
    };
    for (i, (parameter, expected)) in net.parameters.iter().zip(&expected).enumerate() {
        match (parameter.gradient(&grads), expected) {
            (None, None) => {}
            (Some(got), Some(expected)) if got.len() == expected.data.len() => {
                for (k, (&got, &want)) in got.iter().zip(&expected.data).enumerate() {
                    let tolerance = if exact {
                        0.0
                    } else {
                        1e-5 * want.abs() + 1e-12
                    };
                    worst.see(
                        ratio(got, want, tolerance),
                        &format!("gradient {i}, value {k}"),
                    );
                }
            }
            _ => return Err(format!("gradient {i} is not there, or of another size")),
        }
    }
    if let Some(units) = case["clipped_units"].as_array() {
        untouched_units(&net, &grads, &given, units, &mut worst)?;
    }
    Ok(worst)
}

/// Units that are not over their limit must be as they were, to the last bit.
fn untouched_units(
    net: &Net,
    grads: &GradientsParams,
    given: &[Option<Array>],
    units: &[Value],
    worst: &mut Worst,
) -> Outcome<()> {
    for (i, ((parameter, given), units)) in net.parameters.iter().zip(given).zip(units).enumerate()
    {
        let (Some(given), Some(units)) = (given, units.as_array()) else {
            continue;
        };
        let got = parameter.gradient(grads).ok_or("a gradient is lost")?;
        let size = got.len() / units.len().max(1);
        for (unit, clipped) in units.iter().enumerate() {
            let range = unit * size..(unit + 1) * size;
            if clipped.as_bool() == Some(false) && got[range.clone()] != given.data[range] {
                worst.see(f64::INFINITY, &format!("gradient {i}, unit {unit}"));
            }
        }
    }
    Ok(())
}

/// The largest error over its tolerance so far, and where it was.
#[derive(Default)]
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

/// The error over its tolerance; NaN equals NaN and an infinity itself.
fn ratio(got: f64, want: f64, tolerance: f64) -> f64 {
    if got == want || got.is_nan() && want.is_nan() {
        return 0.0;
    }
    (got - want).abs() / tolerance
}

/// An array of the reference: shape and values, row after row.
#[derive(Clone)]
struct Array {
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Array {
    fn of(value: &Value) -> Outcome<Self> {
        let (Some(shape), Some(data)) = (value["shape"].as_array(), value["data"].as_array())
        else {
            return Err("an array without shape or data".into());
        };
        let size = |n: &Value| n.as_u64().map(|n| n as usize);
        let shape: Option<Vec<usize>> = shape.iter().map(size).collect();
        Ok(Self {
            shape: shape.ok_or("a shape with something else than sizes in it")?,
            // Arrays are f32: the text is the shortest that reads back to the same f32, and may be another f64.
            data: data
                .iter()
                .map(|value| number(value).map(|number| f64::from(number as f32)))
                .collect::<Outcome<_>>()?,
        })
    }

    /// The values as a parameter; a scalar has one axis in Burn.
    fn param<const D: usize>(&self, device: &Device) -> Param<Tensor<D>> {
        let shape: [usize; D] = match self.shape.is_empty() {
            true => [1; D],
            false => std::array::from_fn(|axis| self.shape[axis]),
        };
        let values: Vec<f32> = self.data.iter().map(|&v| v as f32).collect();
        Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
    }
}

fn number(value: &Value) -> Outcome<f64> {
    match (value.as_f64(), value.as_str()) {
        (Some(number), _) => Ok(number),
        (_, Some("NaN")) => Ok(f64::NAN),
        (_, Some("Infinity" | "inf")) => Ok(f64::INFINITY),
        (_, Some("-Infinity" | "-inf")) => Ok(f64::NEG_INFINITY),
        _ => Err(format!("{value} is not a number")),
    }
}
