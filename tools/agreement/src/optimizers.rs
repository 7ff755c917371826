//! Optimizers: give PyTorch's gradients, compare the parameters after every update.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use kiln_train::{OptimizerRecipe, optimizer};
use serde_json::{Map, Value};

use crate::json::{Array, field, list, number, text};
use crate::{Checks, Input, Problem, Report, Result};

/// Where a file states no tolerance: a few roundings of f32 in some steps, relative to the parameter or to a tenth.
const TOLERANCE: f64 = 2e-6;

/// How PyTorch computes, which does not change what it computes.
const IMPLEMENTATION: [&str; 4] = ["foreach", "fused", "capturable", "differentiable"];

/// Compares every case of a file: `optimizer` (PyTorch's class), `config` (its options), `steps[]` of `grad` before and
/// `param` after an update, from `problem.start`.
pub fn compare(input: &Input<'_>, report: &mut Report) -> Result<()> {
    for case in list(input.json, "cases")? {
        let name = case["optimizer"].as_str().unwrap_or("(no optimizer)");
        report.case(format_args!("{name} {}", case["config"]), case, |checks| {
            step(input.json, case, input.device, checks)
        });
    }
    Ok(())
}

#[derive(Module, Debug)]
struct Weights {
    w: Param<Tensor<1>>,
}

fn step(file: &Value, case: &Value, device: &Device, checks: &mut Checks) -> Result<()> {
    let recipe = recipe(text(case, "optimizer")?, &case["config"])?;
    let problem = match &case["problem"] {
        Value::Null => &file["problem"],
        own => own,
    };
    let device = device.clone().autodiff();
    let start = floats(&problem["start"])?;
    let mut module = Weights {
        w: Param::from_tensor(Tensor::from_data(TensorData::from(&start[..]), &device)),
    };
    let (lr, mut optim) = (recipe.learning_rate(), optimizer(&recipe));
    for (k, step) in list(case, "steps")?.iter().enumerate() {
        let grad = floats(&step["grad"])?;
        if grad.len() != start.len() {
            return Err(format!("step {k}: {} gradients for {}", grad.len(), start.len()).into());
        }
        let mut grads = GradientsParams::new();
        let grad = Tensor::<1>::from_data(TensorData::from(&grad[..]), &device.clone().inner());
        grads.register(module.w.id, grad);
        module = optim.step(lr, module, grads);
        let got = module.w.val().try_into_vec_as::<f64>();
        let got = got.map_err(|error| error.to_string())?;
        let want = floats(&step["param"])?;
        checks.exact(format_args!("step {k}: size"), &got.len(), &want.len());
        let tolerance = [step, case, file].map(|level| field(level, "tol").ok());
        for (i, (got, want)) in got
            .into_iter()
            .zip(want.into_iter().map(f64::from))
            .enumerate()
        {
            let given = tolerance.iter().find_map(|&given| given);
            let tolerance = given.unwrap_or(TOLERANCE * want.abs().max(0.1));
            checks.close(format_args!("step {k}, value {i}"), got, want, tolerance);
        }
    }
    Ok(())
}

/// A number, a list of numbers, an array with its shape, or a list of any of these; row after row.
fn floats(value: &Value) -> Result<Vec<f32>> {
    Ok(match value {
        Value::Array(items) => {
            let items = items.iter().map(floats).collect::<Result<Vec<_>>>()?;
            items.concat()
        }
        Value::Object(_) => Array::of(value)?.f32s(),
        other => vec![number(other)? as f32],
    })
}

/// The optimizer of a PyTorch class with its options; one that Kiln lacks is named.
fn recipe(class: &str, config: &Value) -> Result<OptimizerRecipe> {
    let mut config: Map<String, Value> = config.as_object().ok_or("no config")?.clone();
    config.retain(|key, value| {
        let neutral = value.is_null() || *value == false;
        !neutral && !IMPLEMENTATION.contains(&key.as_str())
    });
    let decoupled = config.remove("decoupled_weight_decay").is_some();
    let name = match class {
        "Adam" if decoupled => "adamw".into(),
        class => class.to_lowercase(),
    };
    let mut recipe = toml::Table::new();
    recipe.insert("name".into(), name.into());
    let missing = |what: String| Problem::Skipped(format!("Kiln has no {what}"));
    let class_only = read(recipe.clone());
    class_only.map_err(|_| missing(format!("optimizer {class}")))?;
    for (key, value) in &config {
        let value = toml::Value::try_from(value)?;
        let mut with = recipe.clone();
        with.insert(key.clone(), value);
        read(with.clone())
            .map_err(|_| missing(format!("option {key} = {} of {class}", config[key])))?;
        recipe = with;
    }
    Ok(read(recipe)?)
}

fn read(table: toml::Table) -> std::result::Result<OptimizerRecipe, toml::de::Error> {
    table.try_into()
}
