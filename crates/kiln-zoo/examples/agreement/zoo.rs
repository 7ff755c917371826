//! Networks of the zoo with weights from the formula: outputs, stages, training steps, and the tables.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData, activation::log_softmax};
use kiln_testing::formula;
use kiln_zoo::pass::Output;
use kiln_zoo::{Classifier, Segmenter, Settings, Summary, create, create_segmenter, weights};
use serde_json::Value;

use crate::{Check, Result, numbers, shape, worst};

/// Of a stage, relative to its mean absolute value: that mean itself, and single values.
const STAGE_TOLERANCE: [f64; 2] = [1e-5, 1e-4];

/// A model of either kind.
enum Net {
    Classifier(Box<Classifier>),
    Segmenter(Box<Segmenter>),
}

impl Net {
    fn new(name: &str, input: [usize; 3], classes: usize, device: &Device) -> Result<Self> {
        let settings = Settings {
            input,
            num_classes: classes,
            ..Settings::default()
        };
        match create(name, &settings, device) {
            Ok(model) => Ok(Self::Classifier(model.into())),
            Err(kiln_zoo::ZooError::OtherTask { .. }) => Ok(Self::Segmenter(
                create_segmenter(name, &settings, device)?.into(),
            )),
            Err(error) => Err(error.into()),
        }
    }

    fn with_formula(self, salt: &str) -> Self {
        let values = |name: &str, shape: &[usize]| Some(formula::values(name, shape, salt));
        match self {
            Self::Classifier(model) => Self::Classifier(weights::fill(*model, values).into()),
            Self::Segmenter(model) => Self::Segmenter(weights::fill(*model, values).into()),
        }
    }

    fn names(&self) -> Vec<(String, Vec<usize>)> {
        match self {
            Self::Classifier(model) => weights::names(&**model),
            Self::Segmenter(model) => weights::names(&**model),
        }
    }

    fn summary(&self, input: [usize; 3]) -> Summary {
        match self {
            Self::Classifier(model) => model.summary(input),
            Self::Segmenter(model) => model.summary(input),
        }
    }

    /// Shape and values of the output, with every output on the way shown.
    fn record(
        &self,
        images: Tensor<4>,
        see: impl FnMut(&str, Output<'_>),
    ) -> (Vec<usize>, Vec<f64>) {
        match self {
            Self::Classifier(model) => values(model.record(images, see)),
            Self::Segmenter(model) => values(model.record(images, see)),
        }
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> (Vec<usize>, Vec<f64>) {
    let shape = tensor.dims().to_vec();
    let data = tensor.into_data().convert::<f64>();
    (shape, data.iter::<f64>().collect())
}

fn text<'a>(value: &'a Value, what: &str) -> Result<&'a str> {
    value.as_str().ok_or_else(|| format!("no {what}").into())
}

fn count(value: &Value, what: &str) -> Result<usize> {
    let number = value.as_u64().ok_or_else(|| format!("no {what}"))?;
    Ok(number as usize)
}

fn float(value: &Value, what: &str) -> Result<f64> {
    value.as_f64().ok_or_else(|| format!("no {what}").into())
}

/// The input of the formula and the network for it.
fn network(file: &Value, device: &Device) -> Result<(Net, Tensor<4>)> {
    let salt = text(&file["salt"], "salt")?;
    let &[batch, channels, height, width] = &shape(&file["input"])?[..] else {
        return Err("the input is no batch of images".into());
    };
    let classes = count(&file["num_classes"], "num_classes")?;
    let name = text(&file["model"], "model")?;
    let net = Net::new(name, [channels, height, width], classes, device)?.with_formula(salt);
    let shape = [batch, channels, height, width];
    let input = formula::input(
        &shape,
        file["input"]["name"].as_str().unwrap_or("input"),
        salt,
    );
    Ok((
        net,
        Tensor::from_data(TensorData::new(input, shape), device),
    ))
}

/// A forward pass outside training.
pub fn evaluate(_path: &Path, file: &Value, device: &Device) -> Result<Vec<Check>> {
    let (net, images) = network(file, device)?;
    let name = text(&file["model"], "model")?;
    let mut checks = Vec::new();

    let parameters = net
        .names()
        .iter()
        .filter(|(name, _)| !is_buffer(name))
        .map(size)
        .sum();
    checks.push(same(
        format!("{name}: parameters"),
        parameters,
        count(&file["parameters"], "parameters")?,
    ));

    let stages = file["stages"].as_array().ok_or("no stages")?;
    let mut ours: HashMap<String, (Vec<usize>, Vec<f64>)> = HashMap::new();
    let (output_shape, output) = net.record(images, |stage, output| {
        if stages.iter().any(|wanted| wanted["name"] == stage) {
            let output = match output {
                Output::Maps(maps) => values(maps.clone()),
                Output::Vectors(vectors) => values(vectors.clone()),
            };
            ours.insert(stage.into(), output);
        }
    });
    let wrong = stages_that_differ(stages, &ours)?;

    let expected_shape: Vec<usize> = match file["output_shape"].as_array() {
        Some(axes) => axes
            .iter()
            .filter_map(|axis| Some(axis.as_u64()? as usize))
            .collect(),
        None => return Err("no output_shape".into()),
    };
    checks.push(Check::exact(
        format!("{name}: shape of the output"),
        (output_shape != expected_shape)
            .then(|| format!("{output_shape:?}, expected {expected_shape:?}"))
            .into_iter()
            .collect(),
    ));

    let tolerance = float(&file["tol"], "tol")?;
    let error = match &file["output64"] {
        Value::Null => {
            let step = count(&file["output_sample_step"], "output or output_sample_step")?;
            let sample: Vec<f64> = output.iter().copied().step_by(step).collect();
            let expected = numbers(&file["output_sample64"])?;
            // The mean tells of the values that are not in the sample.
            let mean = |values: &mut dyn Iterator<Item = f64>| {
                values.sum::<f64>() / output.len().max(1) as f64
            };
            let means = [
                (
                    mean(&mut output.iter().copied()),
                    float(&file["output_mean64"], "output_mean64")?,
                ),
                (
                    mean(&mut output.iter().map(|x| x.abs())),
                    float(&file["output_abs_mean64"], "output_abs_mean64")?,
                ),
            ];
            let mut detail = wrong.clone();
            let errors = means.map(|(ours, theirs)| worst(&[ours], &[theirs]));
            detail.insert(0, format!("means {means:?}"));
            checks.push(Check {
                what: format!("{name}: mean and absolute mean of the output"),
                ratio: errors[0].max(errors[1]) / tolerance,
                detail,
            });
            worst(&sample, &expected)
        }
        expected => worst(&output, &numbers(expected)?),
    };
    checks.push(Check {
        what: format!("{name}: output"),
        ratio: error / tolerance,
        detail: match wrong.is_empty() {
            true => vec![format!("all {} stages agree", stages.len())],
            false => wrong,
        },
    });
    Ok(checks)
}

/// The stages that are not as they should be, in the order of execution.
fn stages_that_differ(
    stages: &[Value],
    ours: &HashMap<String, (Vec<usize>, Vec<f64>)>,
) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for stage in stages {
        let name = text(&stage["name"], "name of a stage")?;
        let Some((shape, values)) = ours.get(name) else {
            wrong.push(format!("{name}: the network has no such module"));
            continue;
        };
        let expected: Option<Vec<usize>> = stage["shape"].as_array().map(|axes| {
            axes.iter()
                .filter_map(|axis| Some(axis.as_u64()? as usize))
                .collect()
        });
        if Some(shape) != expected.as_ref() {
            wrong.push(format!(
                "{name}: shape {shape:?}, expected {}",
                stage["shape"]
            ));
            continue;
        }
        let theirs = float(&stage["abs_mean"], "abs_mean")?;
        let mean = values.iter().map(|x| x.abs()).sum::<f64>() / values.len().max(1) as f64;
        let head = numbers(&stage["head"])?;
        let errors = [
            worst(&[mean], &[theirs]) / theirs,
            worst(&values[..head.len().min(values.len())], &head) / theirs,
        ];
        if errors
            .iter()
            .zip(STAGE_TOLERANCE)
            .any(|(error, allowed)| error.is_nan() || *error > allowed)
        {
            wrong.push(format!(
                "{name}: |mean| {mean:.6e}, expected {theirs:.6e}; first values off by {:.1e} of it",
                errors[1]
            ));
        }
    }
    Ok(wrong)
}

/// Steps of SGD on one batch.
pub fn train(_path: &Path, file: &Value, device: &Device) -> Result<Vec<Check>> {
    let (net, images) = network(file, &device.clone().autodiff())?;
    let Net::Classifier(model) = net else {
        return Err("only classifiers are trained here".into());
    };
    let mut model = *model;
    let labels = file["labels"].as_array().ok_or("no labels")?;
    let labels: Vec<i64> = labels.iter().filter_map(Value::as_i64).collect();
    let labels = Tensor::<1, Int>::from_data(
        TensorData::new(labels.clone(), [labels.len()]),
        &images.device(),
    );
    let optimizer = &file["optimizer"];
    let setting = |name: &str| optimizer[name].as_f64().unwrap_or(0.0);
    if optimizer["name"] != "SGD" || setting("dampening") != 0.0 || optimizer["nesterov"] == true {
        return Err(format!("unknown optimizer {optimizer}").into());
    }
    let names: HashMap<ParamId, String> = weights::ids(&model)
        .into_iter()
        .map(|(name, id)| (id, name))
        .collect();
    let mut sgd = Sgd {
        lr: setting("lr"),
        momentum: setting("momentum"),
        weight_decay: setting("weight_decay"),
        velocity: HashMap::new(),
    };

    let name = text(&file["model"], "model")?;
    let steps = file["f64"].as_array().ok_or("no steps")?;
    let mut checks = Vec::new();
    for (k, step) in steps.iter().enumerate() {
        let logits = model.forward(images.clone());
        let [batch, _] = logits.dims();
        let picked = log_softmax(logits, 1).gather(1, labels.clone().reshape([batch, 1]));
        let loss = -picked.mean();
        let (_, ours) = values(loss.clone());
        let tolerance = float(&file["loss_tol_rel"][k], "loss_tol_rel")?;
        checks.push(relative(
            format!("{name}, step {k}: loss"),
            &[("loss", ours[0], float(&step["loss"], "loss")?)],
            tolerance,
        ));
        let running = running_statistics(&model, &step["running_stats_abs_mean"])?;
        let running: Vec<(&str, f64, f64)> = running
            .iter()
            .map(|(name, ours, theirs)| (name.as_str(), *ours, *theirs))
            .collect();
        checks.push(relative(
            format!("{name}, step {k}: running statistics"),
            &running,
            tolerance,
        ));
        let Some(expected) = step["grad_norm"].as_object() else {
            continue;
        };
        let gradients = loss.backward();
        let norms = gradient_norms(&model, &gradients, &names);
        let mut compared: Vec<(&str, f64, f64)> = Vec::new();
        for (group, theirs) in expected {
            let ours = norms.get(group).copied().unwrap_or(f64::NAN);
            compared.push((group, ours, float(theirs, "grad_norm")?));
        }
        let total = norms.values().map(|norm| norm * norm).sum::<f64>().sqrt();
        compared.push((
            "total",
            total,
            float(&step["grad_norm_total"], "grad_norm_total")?,
        ));
        checks.push(relative(
            format!("{name}, step {k}: gradient norms"),
            &compared,
            float(&file["grad_norm_tol_rel"][k], "grad_norm_tol_rel")?,
        ));
        model = sgd.step(model, &gradients);
    }
    Ok(checks)
}

/// The largest relative difference of ours from theirs.
fn relative(what: String, compared: &[(&str, f64, f64)], tolerance: f64) -> Check {
    let ratio = |ours: f64, theirs: f64| worst(&[ours], &[theirs]) / theirs.abs() / tolerance;
    let ratios = compared
        .iter()
        .map(|&(_, ours, theirs)| ratio(ours, theirs));
    Check {
        what,
        ratio: ratios.fold(0.0, |a, b| {
            if a.is_nan() || b.is_nan() {
                f64::NAN
            } else {
                a.max(b)
            }
        }),
        detail: compared
            .iter()
            .filter(|&&(_, ours, theirs)| {
                let ratio = ratio(ours, theirs);
                ratio.is_nan() || ratio > 1.0
            })
            .map(|(name, ours, theirs)| format!("{name}: {ours:.8e}, expected {theirs:.8e}"))
            .collect(),
    }
}

/// Name, our mean absolute value and theirs.
fn running_statistics(model: &Classifier, expected: &Value) -> Result<Vec<(String, f64, f64)>> {
    struct Means(HashMap<ParamId, f64>);
    impl ModuleVisitor for Means {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let (_, values) = values(param.val().abs().mean());
            self.0.insert(param.id, values[0]);
        }
    }
    let mut means = Means(HashMap::new());
    model.visit(&mut means);
    let ids: HashMap<String, ParamId> = weights::ids(model).into_iter().collect();
    let expected = expected.as_object().ok_or("no running_stats_abs_mean")?;
    let mut compared = Vec::new();
    for (name, theirs) in expected {
        let id = ids
            .get(name)
            .ok_or_else(|| format!("the network has no {name}"))?;
        compared.push((name.clone(), means.0[id], float(theirs, name)?));
    }
    Ok(compared)
}

/// Gradient norms by the first part of the parameters' names.
fn gradient_norms(
    model: &Classifier,
    gradients: &Gradients,
    names: &HashMap<ParamId, String>,
) -> BTreeMap<String, f64> {
    struct Norms<'a> {
        gradients: &'a Gradients,
        names: &'a HashMap<ParamId, String>,
        squares: BTreeMap<String, f64>,
    }
    impl ModuleVisitor for Norms<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = param.val().grad(self.gradients) {
                let (_, values) = values(gradient);
                let square: f64 = values.iter().map(|x| x * x).sum();
                let name = &self.names[&param.id];
                let group = name.split('.').next().unwrap_or_default();
                *self.squares.entry(group.into()).or_default() += square;
            }
        }
    }
    let mut norms = Norms {
        gradients,
        names,
        squares: BTreeMap::new(),
    };
    model.visit(&mut norms);
    norms
        .squares
        .into_iter()
        .map(|(group, square)| (group, square.sqrt()))
        .collect()
}

/// PyTorch's SGD: `v = momentum * v + g`, `w = w - lr * v`.
struct Sgd {
    lr: f64,
    momentum: f64,
    weight_decay: f64,
    velocity: HashMap<ParamId, TensorData>,
}

impl Sgd {
    fn step(&mut self, model: Classifier, gradients: &Gradients) -> Classifier {
        struct Update<'a> {
            sgd: &'a mut Sgd,
            gradients: &'a Gradients,
        }
        impl ModuleMapper for Update<'_> {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let Some(gradient) = param.val().grad(self.gradients) else {
                    return param;
                };
                let (id, tensor, mapper) = param.consume();
                let weight = tensor.clone().inner();
                let mut step = gradient + weight.clone() * self.sgd.weight_decay;
                if let Some(velocity) = self.sgd.velocity.remove(&id) {
                    let velocity = Tensor::<D>::from_data(velocity, &weight.device());
                    step = velocity * self.sgd.momentum + step;
                }
                self.sgd.velocity.insert(id, step.clone().into_data());
                let weight = Tensor::from_inner(weight - step * self.sgd.lr).require_grad();
                Param::from_mapped_value(id, weight, mapper)
            }
        }
        model.map(&mut Update {
            sgd: self,
            gradients,
        })
    }
}

/// Smallest image that each network takes, for tables that do not depend on it.
const IMAGE: [usize; 3] = [3, 64, 64];

fn size((_, shape): &(String, Vec<usize>)) -> usize {
    shape.iter().product()
}

fn is_buffer(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    matches!(last, "running_mean" | "running_var" | "num_batches_tracked")
}

fn same(what: String, ours: usize, theirs: usize) -> Check {
    let differs = (ours != theirs).then(|| format!("{ours}, expected {theirs}"));
    Check::exact(what, differs.into_iter().collect())
}

fn models(file: &Value) -> Result<impl Iterator<Item = (&String, &Value)>> {
    Ok(file.as_object().ok_or("no models")?.iter())
}

/// Names and shapes in PyTorch's order.
pub fn state_dicts(_path: &Path, file: &Value, device: &Device) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (name, expected) in models(file)? {
        let expected = expected.as_array().ok_or("no list of names")?;
        let expected: Vec<&str> = expected.iter().filter_map(Value::as_str).collect();
        // The bias of the last layer has a value for each class.
        let classes = expected
            .last()
            .and_then(|last| last.rsplit(' ').next()?.parse().ok());
        let classes = classes.ok_or("the last entry is no bias")?;
        let net = Net::new(name, IMAGE, classes, device)?;
        let ours: Vec<String> = net
            .names()
            .into_iter()
            .map(|(name, shape)| match shape.is_empty() {
                true => format!("{name} scalar"),
                false => {
                    let axes: Vec<String> = shape.iter().map(usize::to_string).collect();
                    format!("{name} {}", axes.join("x"))
                }
            })
            .collect();
        let mut differences: Vec<String> = ours
            .iter()
            .zip(&expected)
            .filter(|(ours, theirs)| ours.as_str() != **theirs)
            .map(|(ours, theirs)| format!("'{ours}', expected '{theirs}'"))
            .take(5)
            .collect();
        if ours.len() != expected.len() {
            differences.push(format!(
                "{} entries, expected {}",
                ours.len(),
                expected.len()
            ));
        }
        checks.push(Check::exact(
            format!("{name}: {} names and shapes", expected.len()),
            differences,
        ));
    }
    Ok(checks)
}

/// Parameters, buffers and their numbers.
pub fn parameter_counts(_path: &Path, file: &Value, device: &Device) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (name, expected) in models(file)? {
        let count = |key: &str| count(&expected[key], key);
        let names = Net::new(name, IMAGE, count("num_classes")?, device)?.names();
        let of = |buffer: bool| {
            names
                .iter()
                .filter(move |(name, _)| is_buffer(name) == buffer)
        };
        checks.push(same(
            format!("{name}: parameters"),
            of(false).map(size).sum(),
            count("parameters")?,
        ));
        checks.push(same(
            format!("{name}: buffer_values"),
            of(true).map(size).sum(),
            count("buffer_values")?,
        ));
        checks.push(same(
            format!("{name}: state_dict_entries"),
            names.len(),
            count("state_dict_entries")?,
        ));
        checks.push(same(
            format!("{name}: parameter_tensors"),
            of(false).count(),
            count("parameter_tensors")?,
        ));
        if !expected["parameters_10_classes"].is_null() {
            let names = Net::new(name, IMAGE, 10, device)?.names();
            let parameters = names
                .iter()
                .filter(|(name, _)| !is_buffer(name))
                .map(size)
                .sum();
            checks.push(same(
                format!("{name}: parameters_10_classes"),
                parameters,
                count("parameters_10_classes")?,
            ));
        }
    }
    Ok(checks)
}

/// Multiply-adds by kind of layer.
pub fn macs(_path: &Path, file: &Value, device: &Device) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (name, expected) in models(file)? {
        let input = expected["input"].as_array().ok_or("no input")?;
        let input: Vec<usize> = input
            .iter()
            .filter_map(|axis| Some(axis.as_u64()? as usize))
            .collect();
        let &[1, channels, height, width] = &input[..] else {
            return Err("the input is no single image".into());
        };
        let input = [channels, height, width];
        let classes = count(&expected["num_classes"], "num_classes")?;
        let summary = Net::new(name, input, classes, device)?.summary(input);
        checks.push(same(
            format!("{name}: parameters"),
            summary.parameters(),
            count(&expected["parameters"], "parameters")?,
        ));
        checks.push(same(
            format!("{name}: macs"),
            summary.macs() as usize,
            count(&expected["macs"], "macs")?,
        ));
        for (kind, pytorch) in [
            ("conv", "Conv2d"),
            ("conv_transpose", "ConvTranspose2d"),
            ("linear", "Linear"),
        ] {
            let layers = || summary.layers.iter().filter(|layer| layer.kind == pytorch);
            let macs: u64 = layers().map(|layer| layer.macs).sum();
            let (by_kind, layers_by_kind) =
                (&expected["macs_by_kind"], &expected["layers_by_kind"]);
            checks.push(same(
                format!("{name}: macs of {pytorch}"),
                macs as usize,
                count(&by_kind[kind], kind)?,
            ));
            checks.push(same(
                format!("{name}: layers of {pytorch}"),
                layers().count(),
                count(&layers_by_kind[kind], kind)?,
            ));
        }
    }
    Ok(checks)
}
