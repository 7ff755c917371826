//! Gradient clipping: clip as a case says, compare the norm and the gradients.
//!
//! Allowed are: a total norm, relative 2e-6 (1e-5 for orders other than 1, 2 and inf); clipped gradients, relative 1e-5 plus
//! 1e-12. `clip_grad_value_`, and gradients that are multiplied by 1, must be exact.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use kiln_clip::{
    AdaptiveGradClip, AgcExclude, ClipError, ClipGradNorm, NormType, check_finite, clip_grad_value,
    clip_grads_with_norm, total_norm,
};
use serde_json::Value;

use crate::json::{Array, field, list, text};
use crate::{Checks, Input, Report, Result};

/// Compares every case of a file.
pub fn compare(input: &Input<'_>, report: &mut Report) -> Result<()> {
    for case in list(input.json, "cases")? {
        report.case("(no id)", case, |checks| clip(case, input.device, checks));
    }
    Ok(())
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
    fn new(array: &Array, device: &Device) -> Result<Self> {
        Ok(match array.shape.len() {
            0 | 1 => Self::R1(param(array, device)),
            2 => Self::R2(param(array, device)),
            3 => Self::R3(param(array, device)),
            4 => Self::R4(param(array, device)),
            5 => Self::R5(param(array, device)),
            rank => return Err(format!("{rank} axes are more than are known here").into()),
        })
    }

    fn register(&self, grads: &mut GradientsParams, grad: &Array, device: &Device) {
        any_rank!(self, param => {
            let shape = param.val().dims();
            let grad = Tensor::from_data(TensorData::new(grad.f32s(), shape), device);
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

fn clip(case: &Value, device: &Device, checks: &mut Checks) -> Result<()> {
    let arrays = |key: &str| -> Result<Vec<Option<Array>>> {
        let array = |value: &Value| match value.is_null() {
            true => Ok(None),
            false => Array::of(value).map(|array| Some(rounded(array))),
        };
        list(case, key)?.iter().map(array).collect()
    };
    let number = |key: &str| field(case, key);
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
        parameters: weights.collect::<Result<_>>()?,
        untouched: param(&none, device),
    };
    let mut grads = GradientsParams::new();
    for (parameter, grad) in net.parameters.iter().zip(&given) {
        if let Some(grad) = grad {
            parameter.register(&mut grads, grad, device);
        }
    }

    let function = text(case, "fn")?;
    let check = case["error_if_nonfinite"].as_bool().unwrap_or(false);
    let norm_type = match case["norm_type"].is_null() {
        true => NormType::L2,
        false => NormType::new(number("norm_type")?)?,
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
            let agc = AdaptiveGradClip::new(number("clipping")?, number("eps")?)?;
            agc.exclude(AgcExclude::Nothing).clip(&mut grads, &net);
            Ok(None)
        }
        other => return Err(format!("fn {other} is not known").into()),
    };

    let norm = match (norm, case["error"].as_str()) {
        (Err(ClipError::NonFinite { .. }), Some(_)) => None,
        (Err(error), None) => return Err(error.into()),
        (Err(error), Some(expected)) => return Err(format!("{error}, not {expected}").into()),
        (Ok(_), Some(expected)) => {
            return Err(format!("no error, but {expected} was expected").into());
        }
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
        checks.close("total_norm", got, want, relative * want.abs());
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
                    let place = format_args!("gradient {i}, value {k}");
                    checks.close(place, got, want, tolerance);
                }
            }
            _ => return Err(format!("gradient {i} is not there, or of another size").into()),
        }
    }
    if let Some(units) = case["clipped_units"].as_array() {
        untouched_units(&net, &grads, &given, units, checks)?;
    }
    Ok(())
}

/// Units that are not over their limit must be as they were, to the last bit.
fn untouched_units(
    net: &Net,
    grads: &GradientsParams,
    given: &[Option<Array>],
    units: &[Value],
    checks: &mut Checks,
) -> Result<()> {
    for (i, ((parameter, given), units)) in net.parameters.iter().zip(given).zip(units).enumerate()
    {
        let (Some(given), Some(units)) = (given, units.as_array()) else {
            continue;
        };
        let got = parameter.gradient(grads).ok_or("a gradient is lost")?;
        let size = got.len() / units.len().max(1);
        for (unit, clipped) in units.iter().enumerate() {
            let range = unit * size..(unit + 1) * size;
            if clipped.as_bool() == Some(false) {
                let place = format_args!("gradient {i}, unit {unit}");
                checks.exact(place, &got[range.clone()], &given.data[range]);
            }
        }
    }
    Ok(())
}

/// Arrays are f32: the text is the shortest that reads back to the same f32, and may be another f64.
fn rounded(mut array: Array) -> Array {
    array
        .data
        .iter_mut()
        .for_each(|x| *x = f64::from(*x as f32));
    array
}

/// The values as a parameter; a scalar has one axis in Burn.
fn param<const D: usize>(array: &Array, device: &Device) -> Param<Tensor<D>> {
    let shape: [usize; D] = match array.shape.is_empty() {
        true => [1; D],
        false => std::array::from_fn(|axis| array.shape[axis]),
    };
    Param::from_tensor(Tensor::from_data(
        TensorData::new(array.f32s(), shape),
        device,
    ))
}
