//! Why skip connections and gradient clipping work: the gradient norm by depth of deep networks while they learn.
//!
//! ```text
//! cargo run --release -p example-vanishing-gradients -- vanishing-gradients.png
//! ```
//!
//! An MLP of 20 hidden layers learns to tell two rings apart: with sigmoids its gradient vanishes on the way to the
//! first layer, with ReLU less, with residual connections not at all. A recurrent network with weights that grow what
//! they are given adds up 40 numbers: its gradient explodes, unless it is clipped. Each line is the gradient norm
//! by depth in the middle of the training (of the RNN at its first step, by time step), and the program says what `GradHealth` sees.

mod data;
mod net;
mod plot;

use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Tensor};
use kiln::clip::{Diagnosis, GradHealth, NormType, Verdict, clip_grad_norm};

use net::{Mlp, Rnn, Style};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What a training run showed.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) name: &'static str,
    /// Gradient norms from the first layer (or time step) to the last.
    pub(crate) by_depth: Vec<f64>,
    pub(crate) first_loss: f64,
    pub(crate) last_loss: f64,
    pub(crate) verdict: Verdict,
}

fn main() -> Result<()> {
    let path = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "vanishing-gradients.png".into());
    let device = kiln::device::select("flex")?.device.autodiff();
    let mlps = [
        ("sigmoid", Style::Sigmoid),
        ("ReLU", Style::Relu),
        ("ReLU and residual", Style::Residual),
    ]
    .map(|(name, style)| mlp(name, style, &device))
    .into_iter()
    .collect::<Result<Vec<_>>>()?;
    let rnns = [("not clipped", None), ("clipped to norm 1", Some(1.0))]
        .map(|(name, max_norm)| rnn(name, max_norm, &device))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    plot::draw(&mlps, &rnns, path.as_ref())?;
    println!("written: {path}");
    check(&mlps, &rnns)
}

/// 120 steps on the rings.
fn mlp(name: &'static str, style: Style, device: &Device) -> Result<Run> {
    device.seed(1);
    let (mut model, mut optim) = (Mlp::new(style, device), SgdConfig::new().init());
    let (x, y) = data::rings(128, device);
    let (mut losses, mut healths) = (Vec::new(), Vec::new());
    for step in 0..120 {
        let loss = data::cross_entropy(model.forward(x.clone()), y.clone());
        losses.push(f64::from(loss.clone().into_scalar::<f32>()));
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        if step % 10 == 0 {
            healths.push(GradHealth::measure(&grads, &model).read()?);
        }
        model = optim.step(0.03, model, grads);
    }
    let middle = &healths[healths.len() / 2];
    let weights = middle.layers.iter().filter(|layer| layer.rank == 2);
    let by_depth = weights
        .map(|layer| layer.grad_norm.unwrap_or(f64::NAN))
        .collect();
    finish(name, by_depth, &losses, Diagnosis::of(&healths))
}

/// 150 steps on sums of 40 numbers.
fn rnn(name: &'static str, max_norm: Option<f64>, device: &Device) -> Result<Run> {
    device.seed(2);
    let (mut model, mut optim) = (Rnn::new(device), SgdConfig::new().init());
    let (x, y) = data::sums(32, 40, device);
    let (mut losses, mut healths, mut by_depth) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..150 {
        let (answer, zeros) = model.forward(x.clone());
        let loss = (answer - y.clone()).square().mean();
        losses.push(f64::from(loss.clone().into_scalar::<f32>()));
        let grads = loss.backward();
        if step == 0 {
            let norm = |zero: &Tensor<2>| {
                zero.grad(&grads)
                    .map(|g| g.square().sum().sqrt().into_scalar::<f32>())
            };
            by_depth = zeros.iter().filter_map(norm).map(f64::from).collect();
        }
        let mut grads = GradientsParams::from_grads(grads, &model);
        healths.push(GradHealth::measure(&grads, &model).read()?);
        if let Some(max_norm) = max_norm {
            let norm = clip_grad_norm(&mut grads, &model, max_norm, NormType::L2);
            if step == 0 {
                // Clipping multiplies what comes from every time step by the same factor.
                let factor = max_norm / f64::from(norm.into_scalar::<f32>());
                by_depth
                    .iter_mut()
                    .for_each(|norm| *norm *= factor.min(1.0));
            }
        }
        model = optim.step(0.02, model, grads);
    }
    finish(name, by_depth, &losses, Diagnosis::of(&healths))
}

fn finish(name: &'static str, by_depth: Vec<f64>, losses: &[f64], seen: Diagnosis) -> Result<Run> {
    let (first_loss, last_loss) = (losses[0], losses[losses.len() - 1]);
    println!("{name:18} loss {first_loss:9.4} -> {last_loss:9.4}   {seen}");
    Ok(Run {
        name,
        by_depth,
        first_loss,
        last_loss,
        verdict: seen.verdict,
    })
}

/// The lesson, as conditions.
fn check(mlps: &[Run], rnns: &[Run]) -> Result<()> {
    let learned = |run: &Run| run.last_loss < 0.5 * run.first_loss;
    let holds = [
        mlps[0].verdict == Verdict::Vanishing && !learned(&mlps[0]),
        mlps[2].verdict == Verdict::Fine && learned(&mlps[2]),
        mlps[2].last_loss < mlps[0].last_loss,
        rnns[0].by_depth[0] > 100.0 * rnns[0].by_depth[rnns[0].by_depth.len() - 1],
        !rnns[0].last_loss.is_finite() || rnns[0].last_loss > 10.0 * rnns[1].last_loss,
        learned(&rnns[1]),
    ];
    match holds.iter().position(|&holds| !holds) {
        None => Ok(()),
        Some(i) => Err(format!("condition {i} of the lesson does not hold").into()),
    }
}
