//! Weight files: names, types and numbers as stored, and the output of the network they belong to.

use std::path::Path;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor, TensorData, activation::relu, bf16, f16};
use kiln_zoo::weights::{Element, Load, StateDict};
use serde_json::Value;

use crate::json::{Array, list, sizes, text};
use crate::{Input, Report, Result};

/// Of the output.
const TOLERANCE: f64 = 1e-5;

/// conv → bn → ReLU → mean over height and width → linear.
#[derive(Module, Debug)]
struct Tiny {
    conv: Conv2d,
    bn: BatchNorm,
    fc: Linear,
}

impl Tiny {
    /// As large as the tensors say, with the stride and padding of the description.
    fn new(file: &Value, device: &Device) -> Result<Self> {
        let state = &file["state"];
        let (&[mid, channels, height, width], &[classes, _]) = (
            &sizes(&state["conv.weight"]["shape"])?[..],
            &sizes(&state["fc.weight"]["shape"])?[..],
        ) else {
            return Err("conv.weight or fc.weight has an unexpected number of axes".into());
        };
        let text = file["model"].as_str().unwrap_or_default();
        let setting = |name: &str, default: usize| {
            let (_, rest) = text.split_once(name).unwrap_or_default();
            let digits: String = rest
                .trim_start()
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            digits.parse().unwrap_or(default)
        };
        let (stride, padding) = (setting("stride ", 1), setting("padding ", 0));
        let conv = Conv2dConfig::new([channels, mid], [height, width]).with_stride([stride; 2]);
        let conv = conv.with_padding(PaddingConfig2d::Explicit(
            padding, padding, padding, padding,
        ));
        let has = |name: &str| !state[name].is_null();
        Ok(Self {
            conv: conv.with_bias(has("conv.bias")).init(device),
            bn: BatchNormConfig::new(mid).init(device),
            fc: LinearConfig::new(mid, classes)
                .with_bias(has("fc.bias"))
                .init(device),
        })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.bn.forward(self.conv.forward(x)));
        self.fc.forward(x.mean_dim(3).mean_dim(2).flatten(1, 3))
    }
}

/// Compares every file that `expected.json` describes.
pub fn compare(input: &Input<'_>, report: &mut Report) -> Result<()> {
    let (file, device) = (input.json, input.device);
    let folder = input.path.parent().unwrap_or(Path::new("."));
    let images = Array::of(&file["input"])?;
    let &[n, c, h, w] = &images.shape[..] else {
        return Err("the input is no batch of images".into());
    };
    let images = Tensor::<4>::from_data(TensorData::new(images.f32s(), [n, c, h, w]), device);
    for case in list(file, "files")? {
        report.case(text(case, "file")?, case, |checks| {
            let stored = StateDict::open(folder.join(text(case, "file")?))?;
            checks.none(
                "names, types and numbers as stored",
                &stored_as(&stored, case, &file["state"])?,
            );
            let (model, _) = Load::new().from_state_dict(Tiny::new(file, device)?, &stored)?;
            let output = model.forward(images.clone()).into_data();
            let output: Vec<f64> = output.iter::<f64>().collect();
            let expected = if case["output64"].is_null() {
                &case["output"]
            } else {
                &case["output64"]
            };
            checks.all_close("output", &output, &Array::of(expected)?.data, TOLERANCE);
            Ok(())
        });
    }
    Ok(())
}

/// What differs between a file and what it should hold.
fn stored_as(stored: &StateDict, case: &Value, state: &Value) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    let expected: Vec<&str> = case["keys"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut names: Vec<&str> = stored.entries().iter().map(|entry| entry.name()).collect();
    let mut wanted = expected.clone();
    names.sort_unstable();
    wanted.sort_unstable();
    if names != wanted {
        differences.push(format!("names {names:?}, expected {wanted:?}"));
    }
    if stored.key() != case["top_level_key"].as_str() {
        differences.push(format!(
            "found below the key {:?}, expected {}",
            stored.key(),
            case["top_level_key"]
        ));
    }
    for (i, &name) in expected.iter().enumerate() {
        let Some(entry) = stored.entry(name) else {
            continue;
        };
        if i == 0
            && case["dtype"]
                .as_str()
                .is_some_and(|dtype| dtype != entry.element().name())
        {
            differences.push(format!(
                "{name} is {}, expected {}",
                entry.element(),
                case["dtype"]
            ));
        }
        // The name without what a wrapper put before it.
        let plain = state.as_object().and_then(|state| {
            let fits = |key: &&String| name == *key || name.ends_with(&format!(".{key}"));
            state.keys().filter(fits).max_by_key(|key| key.len())
        });
        let Some(reference) = plain.map(|plain| &state[plain]) else {
            differences.push(format!("{name} is not among the tensors"));
            continue;
        };
        let reference = Array::of(reference)?;
        if entry.shape() != reference.shape {
            differences.push(format!(
                "{name} has the shape {:?}, expected {:?}",
                entry.shape(),
                reference.shape
            ));
        }
        let ours: Vec<f64> = stored.read(name)?.iter::<f64>().collect();
        let theirs = reference.data.iter().map(|&x| rounded(x, entry.element()));
        let same = |(a, b): (&f64, f64)| *a == b || a.is_nan() && b.is_nan();
        if ours.len() != theirs.len() || !ours.iter().zip(theirs).all(same) {
            differences.push(format!("{name} has other numbers"));
        }
    }
    Ok(differences)
}

/// A number of the reference, an f32, as a file of this type keeps it.
fn rounded(x: f64, element: Element) -> f64 {
    match element {
        Element::F16 => f16::from_f32(x as f32).to_f64(),
        Element::BF16 => bf16::from_f32(x as f32).to_f64(),
        Element::F32 | Element::F64 => f64::from(x as f32),
        _ => x,
    }
}
