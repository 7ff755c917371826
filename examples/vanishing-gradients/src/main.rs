//! Why skip connections and gradient clipping work: the norm of the gradient by its distance from the loss.
//!
//! ```text
//! $ cargo run --release -p example-vanishing-gradients -- vanishing-gradients.png
//! sigmoid      loss    0.7016 ->  0.6931  vanishing
//! ReLU         loss    0.6932 ->  0.6931  vanishing
//! residual     loss    8.7167 ->  0.0061  fine
//! RNN          loss 4021.1819 ->     NaN  not finite
//! clipped RNN  loss 4021.1819 ->  0.5686  exploding
//! ```
//!
//! An MLP of 20 hidden layers learns to tell two rings apart: with sigmoids its gradient vanishes on the way to the
//! first layer, with ReLU less, with residual connections not at all. A recurrent network with weights that grow what
//! they are given adds up 40 numbers: its gradient explodes, unless it is clipped. The lines are those of the MLPs in the
//! middle of the training and of the RNN at its first step; the words are what `GradHealth` sees.

mod data;
mod net;
mod run;

use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Tensor};
use kiln::clip::{GradHealth, NormType, Verdict, clip_grad_norm};
use kiln::plot::curves;

use net::{Mlp, Rnn, Style};
use run::Run;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let path = std::env::args().nth(1);
    let path = path.unwrap_or("vanishing-gradients.png".into());
    let device = kiln::device::select("flex")?.device.autodiff();
    let sigmoid = mlp("sigmoid", Style::Sigmoid, &device)?;
    let relu = mlp("ReLU", Style::Relu, &device)?;
    let residual = mlp("residual", Style::Residual, &device)?;
    let rnn_free = rnn("RNN", None, &device)?;
    let rnn_clipped = rnn("clipped RNN", Some(1.0), &device)?;

    let at = &rnn_free.norms.points;
    let holds = [
        sigmoid.verdict == Verdict::Vanishing && !sigmoid.learned(),
        residual.verdict == Verdict::Fine && residual.learned(),
        at[at.len() - 1].1 > 100.0 * at[0].1,
        rnn_free.last_loss.is_nan() || rnn_free.last_loss > 10.0 * rnn_clipped.last_loss,
        rnn_clipped.learned(),
    ];
    let lines = [sigmoid.norms, relu.norms, residual.norms, rnn_free.norms];
    let title = "The gradient on its way back";
    let x = "layers or time steps from the loss";
    curves(title, x, "norm of the gradient", true, &lines).save(&path)?;
    println!("written: {path}");
    match holds.iter().position(|&holds| !holds) {
        None => Ok(()),
        Some(i) => Err(format!("condition {i} of the lesson does not hold").into()),
    }
}

/// 120 steps on the rings.
fn mlp(name: &str, style: Style, device: &Device) -> Result<Run> {
    device.seed(1);
    let (mut model, mut sgd) = (Mlp::new(style, device), SgdConfig::new().init());
    let (x, y) = data::rings(128, device);
    let cross_entropy = CrossEntropyLossConfig::new().init(device);
    let (mut losses, mut healths) = (Vec::new(), Vec::new());
    for _ in 0..120 {
        let loss = cross_entropy.forward(model.forward(x.clone()), y.clone());
        losses.push(f64::from(loss.clone().into_scalar::<f32>()));
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        healths.push(GradHealth::measure(&grads, &model).read()?);
        model = sgd.step(0.03, model, grads);
    }
    let weights = healths[60].layers.iter().filter(|layer| layer.rank == 2);
    let norms = weights.rev().filter_map(|layer| layer.grad_norm).collect();
    Ok(Run::new(name, norms, &losses, &healths))
}

/// 150 steps on sums of 40 numbers.
fn rnn(name: &str, max_norm: Option<f64>, device: &Device) -> Result<Run> {
    device.seed(2);
    let (mut model, mut sgd) = (Rnn::new(device), SgdConfig::new().init());
    let (x, y) = data::sums(32, 40, device);
    let (mut losses, mut healths, mut norms) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..150 {
        let (answer, zeros) = model.forward(x.clone());
        let loss = (answer - y.clone()).square().mean();
        losses.push(f64::from(loss.clone().into_scalar::<f32>()));
        let grads = loss.backward();
        if norms.is_empty() {
            let states = zeros.iter().rev().filter_map(|zero| zero.grad(&grads));
            let norm = |grad: Tensor<2>| grad.square().sum().sqrt().into_scalar::<f32>();
            norms = states.map(|grad| f64::from(norm(grad))).collect();
        }
        let mut grads = GradientsParams::from_grads(grads, &model);
        healths.push(GradHealth::measure(&grads, &model).read()?);
        if let Some(max_norm) = max_norm {
            clip_grad_norm(&mut grads, &model, max_norm, NormType::L2);
        }
        model = sgd.step(0.02, model, grads);
    }
    Ok(Run::new(name, norms, &losses, &healths))
}
