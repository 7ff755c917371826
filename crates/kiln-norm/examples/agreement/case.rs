//! One case of a reference file: build the layer, run its steps, compare.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use kiln_norm::{
    BatchNorm, BatchNormConfig, GroupNorm, GroupNormConfig, InstanceNorm, InstanceNormConfig,
    LayerNorm, LayerNormConfig, LocalResponseNorm, LocalResponseNormConfig, RmsNorm, RmsNormConfig,
};
use serde_json::Value;

type Outcome<T> = Result<T, String>;

/// The cases of a file.
pub fn read(path: &std::path::Path) -> Outcome<Vec<Value>> {
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
    match compare(case, &device.clone().autodiff()) {
        Ok(worst) => {
            let passed = worst.values().all(|&ratio| ratio <= 1.0);
            let verdict = if passed { "ok    " } else { "FAILED" };
            let ratios: Vec<String> = worst.iter().map(|(k, r)| format!("{k} {r:.2}")).collect();
            (format!("{verdict}  {id:28} {}", ratios.join("  ")), passed)
        }
        Err(problem) => (format!("FAILED  {id:28} {problem}"), false),
    }
}

/// The largest error over its tolerance of each quantity.
type Worst = BTreeMap<String, f64>;

/// One of the layers that the files hold cases of.
enum Tested {
    Batch(BatchNorm),
    Layer(LayerNorm),
    Instance(InstanceNorm, usize),
    Group(GroupNorm),
    Rms(RmsNorm),
    Local(LocalResponseNorm),
}

fn compare(case: &Value, device: &Device) -> Outcome<Worst> {
    let mut layer = Tested::new(case, device)?.with_params(&case["params"]);
    let mut worst = Worst::new();
    for step in case["steps"].as_array().ok_or("no steps")? {
        layer = match step["mode"].as_str() {
            Some("train") => layer.training(true),
            Some("eval") => layer.training(false),
            mode => return Err(format!("mode {mode:?} is not known")),
        };
        let x = Array::of(&step["x"])?;
        if step.get("error").is_some() {
            let result = catch_unwind(AssertUnwindSafe(|| layer.forward(&x, &x, device)));
            if result.is_ok() {
                return Err("PyTorch raises an error, this layer does not".into());
            }
            worst.entry("refused".into()).or_default();
            continue;
        }
        let ours = layer.forward(&x, &Array::of(&step["g"])?, device)?;
        let Some(tolerances) = step["tol"].as_object() else {
            return Err("no tolerances".into());
        };
        for key in tolerances.keys() {
            let exact = format!("{key}64");
            let reference = match step.get(&exact) {
                Some(reference) => Array::of(reference)?,
                None => Array::of(&step[key.as_str()])?,
            };
            let tolerance = number(&tolerances[key])?;
            let given = ours.get(key).ok_or(format!("{key} is missing"))?;
            let ratio = error_over(given, &reference.data, tolerance)?;
            let entry = worst.entry(key.clone()).or_default();
            *entry = entry.max(ratio);
        }
        if let Some(count) = step["num_batches_tracked"].as_f64() {
            let given = ours
                .get("num_batches_tracked")
                .ok_or("the counter is missing")?;
            if given != &[count] {
                return Err(format!(
                    "num_batches_tracked is {given:?}, PyTorch's {count}"
                ));
            }
        }
    }
    match worst.is_empty() {
        true => Err("nothing was compared".into()),
        false => Ok(worst),
    }
}

/// The largest difference over the tolerance; infinite where only one of two numbers is finite.
fn error_over(ours: &[f64], reference: &[f64], tolerance: f64) -> Outcome<f64> {
    if ours.len() != reference.len() {
        return Err(format!(
            "{} values, PyTorch has {}",
            ours.len(),
            reference.len()
        ));
    }
    let pairs = ours.iter().zip(reference);
    Ok(pairs.fold(0.0, |worst: f64, (&a, &b)| {
        let error = match a == b || (a.is_nan() && b.is_nan()) {
            true => 0.0,
            false => (a - b).abs() / tolerance,
        };
        match error.is_nan() {
            true => f64::INFINITY,
            false => worst.max(error),
        }
    }))
}

impl Tested {
    fn new(case: &Value, device: &Device) -> Outcome<Self> {
        let config = &case["config"];
        let count = |key: &str| {
            let value = config[key].as_u64().ok_or(format!("no {key}"))?;
            Ok::<usize, String>(value as usize)
        };
        let real = |key: &str| number(&config[key]);
        let flag = |key: &str| config[key].as_bool().ok_or(format!("no {key}"));
        let shape = || -> Outcome<Vec<usize>> {
            let shape = config["normalized_shape"]
                .as_array()
                .ok_or("no normalized_shape")?;
            Ok(shape
                .iter()
                .filter_map(|n| n.as_u64())
                .map(|n| n as usize)
                .collect())
        };
        let name = case["layer"].as_str().ok_or("no layer")?;
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
            other => return Err(format!("layer {other} is not known")),
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
    fn forward(
        &self,
        x: &Array,
        g: &Array,
        device: &Device,
    ) -> Outcome<BTreeMap<String, Vec<f64>>> {
        match x.shape.len() {
            2 => self.forward_of_rank::<2, 3>(x, g, device),
            3 => self.forward_of_rank::<3, 4>(x, g, device),
            4 => self.forward_of_rank::<4, 5>(x, g, device),
            5 => self.forward_of_rank::<5, 6>(x, g, device),
            rank => Err(format!("an input of rank {rank}")),
        }
    }

    fn forward_of_rank<const D: usize, const DB: usize>(
        &self,
        x: &Array,
        g: &Array,
        device: &Device,
    ) -> Outcome<BTreeMap<String, Vec<f64>>> {
        let x = x.tensor::<D>(device).require_grad();
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
        let gradients = (y.clone() * g.tensor::<D>(device)).sum().backward();
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
        param.map(|_| array.tensor(&device).require_grad())
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

/// An array of a reference file.
struct Array {
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Array {
    fn of(value: &Value) -> Outcome<Self> {
        let field = |key: &str| {
            value[key]
                .as_array()
                .ok_or(format!("an array has no {key}"))
        };
        let shape: Vec<usize> = field("shape")?
            .iter()
            .map(|n| n.as_u64().map(|n| n as usize).ok_or("a bad shape"))
            .collect::<Result<_, _>>()?;
        let data: Vec<f64> = field("data")?.iter().map(number).collect::<Outcome<_>>()?;
        match shape.iter().product::<usize>() == data.len() {
            true => Ok(Self { shape, data }),
            false => Err(format!("{} values for the shape {shape:?}", data.len())),
        }
    }

    fn tensor<const D: usize>(&self, device: &Device) -> Tensor<D> {
        let data: Vec<f32> = self.data.iter().map(|&x| x as f32).collect();
        Tensor::from_data(TensorData::new(data, self.shape.clone()), device)
    }
}

/// A number, or the word for one that JSON lacks.
fn number(value: &Value) -> Outcome<f64> {
    match (value.as_f64(), value.as_str()) {
        (Some(number), _) => Ok(number),
        (_, Some("NaN")) => Ok(f64::NAN),
        (_, Some("Infinity")) => Ok(f64::INFINITY),
        (_, Some("-Infinity")) => Ok(f64::NEG_INFINITY),
        _ => Err(format!("{value} is not a number")),
    }
}
