//! What gradients say of a model, in plain words.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{GradHealth, LayerHealth};

/// What is wrong with the gradients, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// A gradient is NaN or infinite.
    Nonfinite,
    /// The gradient grows over a thousandfold from the loss to the first layer, or is over a hundred times as long as the
    /// weights, or its norm leaps over a hundredfold from one measurement to another.
    Exploding,
    /// The gradient shrinks over a thousandfold on its way from the loss to the first layer.
    Vanishing,
    /// Nine of ten units of a layer, or more, have no gradient at all.
    Dead,
    /// None of these.
    Fine,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nonfinite => "not finite",
            Self::Exploding => "exploding",
            Self::Vanishing => "vanishing",
            Self::Dead => "dead",
            Self::Fine => "fine",
        })
    }
}

/// A verdict with its reason and what may help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The gravest thing seen.
    pub verdict: Verdict,
    /// One or two sentences for a person.
    pub text: String,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.verdict, self.text)
    }
}

/// Across the depth of a model: three orders of magnitude.
const ACROSS_LAYERS: f64 = 1e3;
/// A gradient beside its weights.
const BESIDE_WEIGHTS: f64 = 100.0;
/// The largest norm of a run beside its median.
const LEAP: f64 = 100.0;
/// Share of units without a gradient. Half of them and more are common with ReLU, small batches and dropout.
const DEAD: f64 = 0.9;

impl Diagnosis {
    /// Judges the measurements of a run, in their order: by the medians over its second half, since first steps are
    /// often rough, but a gradient that is not finite and a leap of the norm are looked for in all of them.
    ///
    /// The layers are weights with two or more axes, the first being farthest from the loss.
    pub fn of(run: &[GradHealth]) -> Self {
        let new = |verdict, text| Self { verdict, text };
        let Some(last) = run.last() else {
            return new(Verdict::Fine, "nothing was measured".into());
        };
        if let Some(text) = nonfinite(run) {
            return new(Verdict::Nonfinite, text);
        }
        let layers = medians(&run[run.len() / 2..], last);
        if layers.is_empty() {
            return new(Verdict::Fine, "there is no weight with a gradient".into());
        }
        let checks: [(Verdict, Option<String>); 4] = [
            (Verdict::Exploding, exploding(&layers)),
            (Verdict::Exploding, leap(run)),
            (Verdict::Vanishing, vanishing(&layers)),
            (Verdict::Dead, dead(&layers)),
        ];
        for (verdict, text) in checks {
            if let Some(text) = text {
                return new(verdict, text);
            }
        }
        let norms = layers.iter().map(|layer| layer.norm);
        let (low, high) = (
            norms.clone().fold(f64::INFINITY, f64::min),
            norms.fold(0.0, f64::max),
        );
        let text = match layers.len() {
            1 => format!("the gradient norm of the only layer is {high:.2e}"),
            n => {
                format!("the gradient norm of the {n} layers lies between {low:.2e} and {high:.2e}")
            }
        };
        new(Verdict::Fine, text)
    }
}

/// A layer over several measurements.
struct Layer {
    name: String,
    norm: f64,
    ratio: f64,
    dead: f64,
}

fn medians(run: &[GradHealth], last: &GradHealth) -> Vec<Layer> {
    let weights = last.layers.iter().filter(|layer| layer.rank >= 2);
    let of = |name: &str, number: fn(&LayerHealth) -> Option<f64>| {
        let layers = run.iter().flat_map(|health| &health.layers);
        median(layers.filter(|layer| layer.name == name).filter_map(number))
    };
    let summary = weights.map(|layer| Layer {
        norm: of(&layer.name, |layer| layer.grad_norm),
        ratio: of(&layer.name, LayerHealth::ratio),
        dead: of(&layer.name, |layer| Some(layer.dead_units)),
        name: layer.name.clone(),
    });
    summary.collect()
}

/// The middle value, the higher of two; 0 of none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn nonfinite(run: &[GradHealth]) -> Option<String> {
    let found = run.iter().enumerate().find_map(|(i, health)| {
        let broken = |layer: &&LayerHealth| layer.nonfinite > 0.0 || layer.grad_norm.is_none();
        Some((i, health.layers.iter().rfind(broken)?))
    });
    let (i, layer) = found?;
    let when = match run.len() {
        1 => String::new(),
        n => format!(" in measurement {} of {n}", i + 1),
    };
    Some(format!(
        "{:.0} % of the gradient of {} is NaN or infinite{when}; look for an overflow or a division by zero in the loss, or \
         lower the learning rate",
        (layer.nonfinite * 100.0).max(1.0),
        layer.name
    ))
}

fn exploding(layers: &[Layer]) -> Option<String> {
    let (first, last) = (layers.first()?, layers.last()?);
    if last.norm > 0.0 && first.norm / last.norm > ACROSS_LAYERS {
        return Some(format!(
            "the gradient grows {} from {} to {}; try residual connections, normalization or smaller initial weights, and \
             clip by the global norm (clip = \"norm:1.0\")",
            times(first.norm / last.norm),
            last.name,
            first.name
        ));
    }
    let largest = layers.iter().max_by(|a, b| a.ratio.total_cmp(&b.ratio))?;
    (largest.ratio > BESIDE_WEIGHTS).then(|| {
        format!(
            "the gradient of {} is {} as long as its weights; clip by the global norm (clip = \"norm:1.0\") or lower the \
             learning rate",
            largest.name,
            times(largest.ratio)
        )
    })
}

fn leap(run: &[GradHealth]) -> Option<String> {
    let norms: Vec<f64> = run.iter().filter_map(GradHealth::total_norm).collect();
    let (middle, largest) = (
        median(norms.iter().copied()),
        norms.iter().copied().fold(0.0, f64::max),
    );
    // Two measurements have no middle, and a norm that was large at the start has only fallen since.
    let settled = norms.len() / 10;
    let late = norms.iter().skip(settled.max(1)).any(|&n| n == largest);
    (norms.len() >= 5 && late && middle > 0.0 && largest / middle > LEAP).then(|| {
        format!(
            "the norm of the whole gradient leaps to {largest:.2e}, {} its median; clip by the global norm \
             (clip = \"norm:1.0\") or lower the learning rate",
            times(largest / middle)
        )
    })
}

fn vanishing(layers: &[Layer]) -> Option<String> {
    let first = layers.first()?;
    let loudest = layers.iter().max_by(|a, b| a.norm.total_cmp(&b.norm))?;
    // Units without any gradient are dead, which has other causes.
    if loudest.norm == 0.0 || first.dead >= DEAD && first.norm == 0.0 && layers.len() < 3 {
        return None;
    }
    let share = first.norm / loudest.norm;
    (share < 1.0 / ACROSS_LAYERS).then(|| {
        let how = match share > 0.0 {
            true => format!("is {} weaker than at {}", times(1.0 / share), loudest.name),
            false => format!("is exactly 0, while {} has one", loudest.name),
        };
        format!(
            "the gradient that reaches {} {how}; try residual connections, ReLU instead of sigmoid or tanh, normalization, or \
             He or Xavier initialization",
            first.name
        )
    })
}

fn dead(layers: &[Layer]) -> Option<String> {
    let dead: Vec<&Layer> = layers.iter().filter(|layer| layer.dead >= DEAD).collect();
    let worst = dead.iter().max_by(|a, b| a.dead.total_cmp(&b.dead))?;
    let others = match dead.len() {
        1 => String::new(),
        n => format!(" ({} more layers are as bad)", n - 1),
    };
    Some(format!(
        "{:.0} % of the units of {} have no gradient{others}; try a lower learning rate, leaky ReLU or GELU, or \
         normalization before the activation",
        worst.dead * 100.0,
        worst.name
    ))
}

/// `12 times`, `3.4e5 times`.
fn times(factor: f64) -> String {
    match factor < 1e4 {
        true => format!("{factor:.0} times"),
        false => format!("{factor:.1e} times"),
    }
}
