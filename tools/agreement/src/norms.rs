//! Normalization layers: build the layer, run its steps, compare outputs, gradients and running statistics.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use kiln_norm::{
    BatchNorm, BatchNormConfig, GroupNorm, GroupNormConfig, InstanceNorm, InstanceNormConfig,
    LayerNorm, LayerNormConfig, LocalResponseNorm, LocalResponseNormConfig, RmsNorm, RmsNormConfig,
};
use serde_json::Value;

use crate::json::{Array, count, field, list, number, sizes, text};
use crate::{Checks, Input, Report, Result};

/// Compares every case of a file.
pub fn compare(input: &Input<'_>, report: &mut Report) -> Result<()> {
    let device = input.device.clone().autodiff();
    for case in list(input.json, "cases")? {
        report.case("(no id)", case, |checks| steps(case, &device, checks));
    }
    Ok(())
}

/// One of the layers that the files hold cases of.
enum Tested {
    Batch(BatchNorm),
    Layer(LayerNorm),
    Instance(InstanceNorm, usize),
    Group(GroupNorm),
    Rms(RmsNorm),
    Local(LocalResponseNorm),
}

fn steps(case: &Value, device: &Device, checks: &mut Checks) -> Result<()> {
    let mut layer = Tested::new(case, device)?.with_params(&case["params"]);
    for (k, step) in list(case, "steps")?.iter().enumerate() {
        layer = match text(step, "mode")? {
            "train" => layer.training(true),
            "eval" => layer.training(false),
            mode => return Err(format!("mode {mode} is not known").into()),
        };
        let x = Array::of(&step["x"])?;
        if step.get("error").is_some() {
            let result = catch_unwind(AssertUnwindSafe(|| layer.forward(&x, &x, device)));
            checks.exact(format!("step {k}: refused"), &result.is_err(), &true);
            continue;
        }
        let ours = layer.forward(&x, &Array::of(&step["g"])?, device)?;
        let ours = |key: &str| ours.get(key).ok_or_else(|| format!("{key} is missing"));
        let tolerances = step["tol"].as_object().ok_or("no tolerances")?;
        for (key, tolerance) in tolerances {
            let exact = &step[format!("{key}64")];
            let reference = if exact.is_null() { &step[key] } else { exact };
            let reference = Array::of(reference)?.data;
            let place = format!("step {k}: {key}");
            checks.all_close(place, ours(key)?, &reference, number(tolerance)?);
        }
        if let Some(count) = step["num_batches_tracked"].as_f64() {
            let place = format!("step {k}: num_batches_tracked");
            checks.exact(place, &ours("num_batches_tracked")?[..], &[count][..]);
        }
    }
    Ok(())
}

impl Tested {
    fn new(case: &Value, device: &Device) -> Result<Self> {
        let config = &case["config"];
        let count = |key: &str| count(config, key);
        let real = |key: &str| field(config, key);
        let flag = |key: &str| config[key].as_bool().ok_or_else(|| format!("no {key}"));
        let shape = || sizes(&config["normalized_shape"]);
        let name = text(case, "layer")?;
        Ok(match name {
            "BatchNorm1d" | "BatchNorm2d" | "BatchNorm3d" => Self::Batch(
                BatchNormConfig::new(count("num_features")?)
                    .with_epsilon(real("eps")?)
                    .with_momentum(config["momentum"].as_f64())
                    .with_affine(flag("affine")?)
                    .with_track_running_stats(flag("track_running_stats")?)
                    .init(device),
            ),
            "InstanceNorm1d" | "InstanceNorm2d" | "InstanceNorm3d" => {
                let layer = InstanceNormConfig::new(count("num_features")?)
                    .with_epsilon(real("eps")?)
                    .with_momentum(config["momentum"].as_f64())
                    .with_affine(flag("affine")?)
                    .with_track_running_stats(flag("track_running_stats")?)
                    .init(device);
                let space = name["InstanceNorm".len()..].trim_end_matches('d').parse();
                Self::Instance(layer, space.expect("a digit"))
            }
            "LayerNorm" => Self::Layer(
                LayerNormConfig::new(shape()?)
                    .with_epsilon(real("eps")?)
                    .with_elementwise_affine(flag("elementwise_affine")?)
                    .with_bias(flag("has_bias")?)
                    .init(device),
            ),
            "GroupNorm" => Self::Group(
                GroupNormConfig::new(count("num_groups")?, count("num_channels")?)
                    .with_epsilon(real("eps")?)
                    .with_affine(flag("affine")?)
                    .init(device),
            ),
            "RMSNorm" => Self::Rms(
                RmsNormConfig::new(shape()?)
                    .with_epsilon(config["eps"].as_f64())
                    .with_elementwise_affine(flag("elementwise_affine")?)
                    .init(device),
            ),
            "LocalResponseNorm" => Self::Local(
                LocalResponseNormConfig::new(count("size")?)
                    .with_alpha(real("alpha")?)
                    .with_beta(real("beta")?)
                    .with_k(real("k")?)
                    .init(),
            ),
            other => return Err(format!("layer {other} is not known").into()),
        })
    }

    fn training(self, training: bool) -> Self {
        match self {
            Self::Batch(mut layer) => {
                layer.training = layer.training.with_value(training);
                Self::Batch(layer)
            }
            Self::Instance(mut layer, space) => {
                layer.training = layer.training.with_value(training);
                Self::Instance(layer, space)
            }
            other => other,
        }
    }

    fn with_params(self, params: &Value) -> Self {
        let mut set = SetParams {
            params,
            path: Vec::new(),
        };
        match self {
            Self::Batch(layer) => Self::Batch(layer.map(&mut set)),
            Self::Layer(layer) => Self::Layer(layer.map(&mut set)),
            Self::Instance(layer, space) => Self::Instance(layer.map(&mut set), space),
            Self::Group(layer) => Self::Group(layer.map(&mut set)),
            Self::Rms(layer) => Self::Rms(layer.map(&mut set)),
            Self::Local(layer) => Self::Local(layer),
        }
    }

    /// Output, gradients and state after a step, by the names of the reference.
    fn forward(&self, x: &Array, g: &Array, device: &Device) -> Result<BTreeMap<String, Vec<f64>>> {
        match x.shape.len() {
            2 => self.forward_of_rank::<2, 3>(x, g, device),
            3 => self.forward_of_rank::<3, 4>(x, g, device),
            4 => self.forward_of_rank::<4, 5>(x, g, device),
            5 => self.forward_of_rank::<5, 6>(x, g, device),
            rank => Err(format!("an input of rank {rank}").into()),
        }
    }

    fn forward_of_rank<const D: usize, const DB: usize>(
        &self,
        x: &Array,
        g: &Array,
        device: &Device,
    ) -> Result<BTreeMap<String, Vec<f64>>> {
        let x = tensor::<D>(x, device).require_grad();
        let y = match self {
            Self::Batch(layer) => layer.forward(x.clone()),
            Self::Layer(layer) => layer.forward(x.clone()),
            Self::Instance(layer, space) if D == space + 1 => {
                layer.forward_unbatched::<D, DB>(x.clone())
            }
            Self::Instance(layer, _) => layer.forward(x.clone()),
            Self::Group(layer) => layer.forward(x.clone()),
            Self::Rms(layer) => layer.forward(x.clone()),
            Self::Local(layer) => layer.forward(x.clone()),
        };
        let gradients = (y.clone() * tensor::<D>(g, device)).sum().backward();
        let dx = x.grad(&gradients).ok_or("x has no gradient")?;
        let mut values = BTreeMap::from([("y".into(), read_out(y)), ("dx".into(), read_out(dx))]);
        let mut collect = Collect {
            gradients: &gradients,
            values: &mut values,
            path: Vec::new(),
        };
        match self {
            Self::Batch(layer) => layer.visit(&mut collect),
            Self::Layer(layer) => layer.visit(&mut collect),
            Self::Instance(layer, _) => layer.visit(&mut collect),
            Self::Group(layer) => layer.visit(&mut collect),
            Self::Rms(layer) => layer.visit(&mut collect),
            Self::Local(layer) => layer.visit(&mut collect),
        }
        Ok(values)
    }
}

/// Sets the parameters that a case names.
struct SetParams<'a> {
    params: &'a Value,
    path: Vec<String>,
}

impl ModuleMapper for SetParams<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.last().map(String::as_str).unwrap_or_default();
        let Some(value) = self.params.get(name) else {
            return param;
        };
        let array = Array::of(value).expect("a parameter of the file is an array");
        let device = param.device();
        param.map(|_| tensor(&array, &device).require_grad())
    }
}

/// Collects the gradients of parameters and the values of buffers.
struct Collect<'a> {
    gradients: &'a Gradients,
    values: &'a mut BTreeMap<String, Vec<f64>>,
    path: Vec<String>,
}

impl ModuleVisitor for Collect<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.last().cloned().unwrap_or_default();
        let (name, tensor) = match name.starts_with("running") {
            true => (name, Some(param.val())),
            false => (format!("d{name}"), param.val().grad(self.gradients)),
        };
        if let Some(tensor) = tensor {
            self.values.insert(name, read_out(tensor));
        }
    }
    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        let name = self.path.last().cloned().unwrap_or_default();
        let data = param.val().into_data();
        self.values.insert(name, data.iter::<f64>().collect());
    }
}

fn read_out<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

fn tensor<const D: usize>(array: &Array, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(array.f32s(), array.shape.clone()), device)
}
