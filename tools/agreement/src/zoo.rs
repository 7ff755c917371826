//! Networks of the zoo with weights from the formula: outputs, stages, training steps, and the tables.

use std::collections::{BTreeMap, HashMap};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData, activation::log_softmax};
use kiln_testing::formula;
use kiln_zoo::pass::Output;
use kiln_zoo::{Classifier, Segmenter, Settings, Summary, create, create_segmenter, weights};
use serde_json::Value;

use crate::json::{Array, count, field, list, number, sizes, text};
use crate::{Checks, Input, Problem, Report, Result};

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

/// The input of the formula and the network for it.
fn network(file: &Value, device: &Device) -> Result<(Net, Tensor<4>)> {
    let salt = text(file, "salt")?;
    let &[batch, channels, height, width] = &sizes(&file["input"]["shape"])?[..] else {
        return Err("the input is no batch of images".into());
    };
    let classes = count(file, "num_classes")?;
    let name = text(file, "model")?;
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
pub fn evaluate(input: &Input<'_>, report: &mut Report) -> Result<()> {
    let file = input.json;
    report.case(text(file, "model")?, file, |checks| {
        let (net, images) = network(file, input.device)?;
        let parameters: usize = parameters(&net.names()).map(size).sum();
        checks.exact("parameters", &parameters, &count(file, "parameters")?);

        let stages = list(file, "stages")?;
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
        let expected_shape = sizes(&file["output_shape"])?;
        checks.exact("shape of the output", &output_shape, &expected_shape);
        let tolerance = field(file, "tol")?;
        let before = checks.worst();
        if file["output64"].is_null() {
            let step = count(file, "output_sample_step")?;
            let sample: Vec<f64> = output.iter().copied().step_by(step).collect();
            let expected = Array::of(&file["output_sample64"])?.data;
            checks.all_close("sample of the output", &sample, &expected, tolerance);
            // The means tell of the values that are not in the sample.
            let n = output.len().max(1) as f64;
            let mean = output.iter().sum::<f64>() / n;
            let abs_mean = output.iter().map(|x| x.abs()).sum::<f64>() / n;
            for (key, mean) in [("output_mean64", mean), ("output_abs_mean64", abs_mean)] {
                checks.close(key, mean, field(file, key)?, tolerance);
            }
        } else {
            let expected = Array::of(&file["output64"])?.data;
            checks.all_close("output", &output, &expected, tolerance);
        }
        // The stages only tell where a wrong output begins to be wrong.
        if checks.worst() > before.max(1.0) {
            return Err(Problem::Failed(
                match &stages_that_differ(stages, &ours)?[..] {
                    [] => format!("{}; all {} stages agree", checks.place(), stages.len()),
                    wrong => format!("{}; {}", checks.place(), wrong.join("; ")),
                },
            ));
        }
        Ok(())
    });
    Ok(())
}

/// The stages that are not as they should be, in the order of execution.
fn stages_that_differ(
    stages: &[Value],
    ours: &HashMap<String, (Vec<usize>, Vec<f64>)>,
) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for stage in stages {
        let name = text(stage, "name")?;
        let Some((shape, values)) = ours.get(name) else {
            wrong.push(format!("{name}: the network has no such module"));
            continue;
        };
        if *shape != sizes(&stage["shape"])? {
            wrong.push(format!(
                "{name}: shape {shape:?}, expected {}",
                stage["shape"]
            ));
            continue;
        }
        let theirs = field(stage, "abs_mean")?;
        let mean = values.iter().map(|x| x.abs()).sum::<f64>() / values.len().max(1) as f64;
        let mut checks = Checks::default();
        checks.close("|mean|", mean, theirs, STAGE_TOLERANCE[0] * theirs);
        let head = Array::of(&stage["head"])?.data;
        let first = &values[..head.len().min(values.len())];
        checks.all_close("first values", first, &head, STAGE_TOLERANCE[1] * theirs);
        if checks.worst() > 1.0 {
            wrong.push(format!("{name}: {}", checks.place()));
        }
    }
    Ok(wrong)
}

/// Steps of SGD on one batch.
pub fn train(input: &Input<'_>, report: &mut Report) -> Result<()> {
    let file = input.json;
    report.case(text(file, "model")?, file, |checks| {
        train_steps(file, input.device, checks)
    });
    Ok(())
}

fn train_steps(file: &Value, device: &Device, checks: &mut Checks) -> Result<()> {
    let (net, images) = network(file, &device.clone().autodiff())?;
    let Net::Classifier(model) = net else {
        return Err("only classifiers are trained here".into());
    };
    let mut model = *model;
    let labels: Vec<i64> = list(file, "labels")?
        .iter()
        .filter_map(Value::as_i64)
        .collect();
    let shape = [labels.len()];
    let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, shape), &images.device());
    let optimizer = &file["optimizer"];
    let setting = |name: &str| optimizer[name].as_f64().unwrap_or(0.0);
    if optimizer["name"] != "SGD" || setting("dampening") != 0.0 || optimizer["nesterov"] == true {
        return Err(format!("unknown optimizer {optimizer}").into());
    }
    let ids = weights::ids(&model).into_iter();
    let names: HashMap<ParamId, String> = ids.map(|(name, id)| (id, name)).collect();
    let mut sgd = Sgd {
        lr: setting("lr"),
        momentum: setting("momentum"),
        weight_decay: setting("weight_decay"),
        velocity: HashMap::new(),
    };
    for (k, step) in list(file, "f64")?.iter().enumerate() {
        let at = |what: &str| format!("step {k}: {what}");
        let logits = model.forward(images.clone());
        let [batch, _] = logits.dims();
        let picked = log_softmax(logits, 1).gather(1, labels.clone().reshape([batch, 1]));
        let loss = -picked.mean();
        let (_, ours) = values(loss.clone());
        let tolerance = number(&file["loss_tol_rel"][k])?;
        checks.close_relative(at("loss"), ours[0], field(step, "loss")?, tolerance);
        for (name, ours, theirs) in running_statistics(&model, &step["running_stats_abs_mean"])? {
            checks.close_relative(at(&name), ours, theirs, tolerance);
        }
        let Some(expected) = step["grad_norm"].as_object() else {
            continue;
        };
        let gradients = loss.backward();
        let norms = gradient_norms(&model, &gradients, &names);
        let tolerance = number(&file["grad_norm_tol_rel"][k])?;
        for (group, theirs) in expected {
            let ours = norms.get(group).copied().unwrap_or(f64::NAN);
            let place = at(&format!("gradient norm of {group}"));
            checks.close_relative(place, ours, number(theirs)?, tolerance);
        }
        let total = norms.values().map(|norm| norm * norm).sum::<f64>().sqrt();
        let theirs = field(step, "grad_norm_total")?;
        checks.close_relative(at("gradient norm"), total, theirs, tolerance);
        model = sgd.step(model, &gradients);
    }
    Ok(())
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
        compared.push((name.clone(), means.0[id], number(theirs)?));
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

/// The trainable entries of a state dict.
fn parameters(names: &[(String, Vec<usize>)]) -> impl Iterator<Item = &(String, Vec<usize>)> {
    names.iter().filter(|(name, _)| !is_buffer(name))
}

fn models(file: &Value) -> Result<impl Iterator<Item = (&String, &Value)>> {
    Ok(file.as_object().ok_or("no models")?.iter())
}

/// Names and shapes in PyTorch's order.
pub fn state_dicts(input: &Input<'_>, report: &mut Report) -> Result<()> {
    for (name, expected) in models(input.json)? {
        report.case(name, expected, |checks| {
            let expected = expected.as_array().ok_or("no list of names")?;
            let expected: Vec<&str> = expected.iter().filter_map(Value::as_str).collect();
            // The bias of the last layer has a value for each class.
            let last = expected.last().and_then(|last| last.rsplit(' ').next());
            let classes = last.and_then(|size| size.parse().ok());
            let classes = classes.ok_or("the last entry is no bias")?;
            let net = Net::new(name, IMAGE, classes, input.device)?;
            let line = |(name, shape): (String, Vec<usize>)| match shape.is_empty() {
                true => format!("{name} scalar"),
                false => {
                    let axes: Vec<String> = shape.iter().map(usize::to_string).collect();
                    format!("{name} {}", axes.join("x"))
                }
            };
            let ours: Vec<String> = net.names().into_iter().map(line).collect();
            checks.exact("number of entries", &ours.len(), &expected.len());
            for (i, (ours, theirs)) in ours.iter().zip(expected).enumerate() {
                checks.exact(format_args!("entry {i}"), ours.as_str(), theirs);
            }
            Ok(())
        });
    }
    Ok(())
}

/// Parameters, buffers and their numbers.
pub fn parameter_counts(input: &Input<'_>, report: &mut Report) -> Result<()> {
    for (name, expected) in models(input.json)? {
        report.case(name, expected, |checks| {
            let count = |key: &str| count(expected, key);
            let names_of = |classes| -> Result<Vec<(String, Vec<usize>)>> {
                Ok(Net::new(name, IMAGE, classes, input.device)?.names())
            };
            let names = names_of(count("num_classes")?)?;
            let buffers = names.iter().filter(|(name, _)| is_buffer(name)).map(size);
            for (key, ours) in [
                ("parameters", parameters(&names).map(size).sum()),
                ("buffer_values", buffers.sum()),
                ("state_dict_entries", names.len()),
                ("parameter_tensors", parameters(&names).count()),
            ] {
                checks.exact(key, &ours, &count(key)?);
            }
            let key = "parameters_10_classes";
            if !expected[key].is_null() {
                let ours: usize = parameters(&names_of(10)?).map(size).sum();
                checks.exact(key, &ours, &count(key)?);
            }
            Ok(())
        });
    }
    Ok(())
}

/// Multiply-adds by kind of layer.
pub fn macs(input: &Input<'_>, report: &mut Report) -> Result<()> {
    for (name, expected) in models(input.json)? {
        report.case(name, expected, |checks| {
            let &[1, channels, height, width] = &sizes(&expected["input"])?[..] else {
                return Err("the input is no single image".into());
            };
            let image = [channels, height, width];
            let classes = count(expected, "num_classes")?;
            let summary = Net::new(name, image, classes, input.device)?.summary(image);
            let ours = summary.parameters();
            checks.exact("parameters", &ours, &count(expected, "parameters")?);
            let ours = summary.macs() as usize;
            checks.exact("macs", &ours, &count(expected, "macs")?);
            for (kind, pytorch) in [
                ("conv", "Conv2d"),
                ("conv_transpose", "ConvTranspose2d"),
                ("linear", "Linear"),
            ] {
                let layers = || summary.layers.iter().filter(|layer| layer.kind == pytorch);
                let macs = layers().map(|layer| layer.macs).sum::<u64>() as usize;
                let want = count(&expected["macs_by_kind"], kind)?;
                checks.exact(format_args!("macs of {pytorch}"), &macs, &want);
                let want = count(&expected["layers_by_kind"], kind)?;
                checks.exact(
                    format_args!("layers of {pytorch}"),
                    &layers().count(),
                    &want,
                );
            }
            Ok(())
        });
    }
    Ok(())
}
