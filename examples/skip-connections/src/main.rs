//! A plain network of 20 layers beside the same depth with residual, dense and long skip connections.
//!
//! ```text
//! $ cargo run --release -p example-skip-connections -- 200 skip-connections.png
//! plain     loss 2.302  gradient norm of the first layer at the start 1.9e-9
//! residual  loss ...
//! ```
//!
//! The plain network does not learn: its first layer's gradient is a product of 20 small Jacobians. A skip gives the
//! gradient a short way (see `kiln::zoo::Residual`, `DenseSkip` and `LongSkip`), and the same layers learn at the same rate.

use burn::data::dataloader::DataLoader;
use burn::module::{Module, ModuleDisplay};
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::pool::MaxPool2dConfig;
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use kiln::prelude::*;
use kiln::train::{OptimizerRecipe, optimizer};
use kiln::tune::plot::{Curve, curves};
use kiln::zoo::{Activation, Branch, DenseSkip, LongSkip, Residual};

const WIDTH: usize = 8;

/// A stem that takes the image to a quarter of its size, a body of 20 layers, and a classifier on the mean of each channel.
#[derive(Module, Debug)]
struct Net<F: Module + ModuleDisplay> {
    stem: Conv2d,
    body: F,
    head: Linear,
}

impl<F: Branch> Net<F> {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.body.forward(self.stem.forward(images));
        let [n, c, h, w] = x.dims();
        self.head
            .forward(x.reshape([n, c, h * w]).mean_dim(2).reshape([n, c]))
    }
}

fn conv(from: usize, to: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new([from, to], [3, 3])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init(device)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let steps: usize = arguments.next().map_or(Ok(200), |n| n.parse())?;
    let path = arguments
        .next()
        .unwrap_or_else(|| "skip-connections.png".into());
    let chosen = kiln::device::auto()?;
    let device = chosen.device.autodiff();
    let layer = |from, to| (conv(from, to, &device), Activation::Relu);
    let layers = |n: usize| (0..n).map(|_| layer(WIDTH, WIDTH)).collect::<Vec<_>>();

    let plain = layers(20);
    let block = || Residual::new((layer(WIDTH, WIDTH), conv(WIDTH, WIDTH, &device)));
    let residual: Vec<_> = (0..10).map(|_| (block(), Activation::Relu)).collect();
    let dense: Vec<_> = (0..20)
        .map(|i| DenseSkip::new(layer(WIDTH + 4 * i, 4)))
        .collect();
    let pool = MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
    let up = ConvTranspose2dConfig::new([WIDTH, WIDTH], [2, 2])
        .with_stride([2, 2])
        .init(&device);
    let long = (
        layers(2),
        LongSkip::new((pool, layers(15), up)),
        layer(2 * WIDTH, WIDTH),
    );

    let lines = [
        train("plain", plain, WIDTH, steps, &device)?,
        train("residual", residual, WIDTH, steps, &device)?,
        train("dense", dense, WIDTH + 80, steps, &device)?,
        train("long", long, WIDTH, steps, &device)?,
    ];
    curves("Training loss of 20 layers", "step", "loss", false, &lines).save(&path)?;
    println!("written: {path}");
    let last = |i: usize| lines[i].points.last().map_or(f64::NAN, |point| point.1);
    if (1..4).all(|i| last(i) < last(0) - 0.2) {
        return Ok(());
    }
    Err("a skip connection did not help as it must".into())
}

/// Trains on drawn digits; the mean loss of every ten steps.
fn train<F: Branch>(
    name: &str,
    body: F,
    channels: usize,
    steps: usize,
    device: &Device,
) -> Result<Curve, Box<dyn std::error::Error>> {
    let digits = Digits::new(0).generate(Split::Train, 4000);
    let data =
        DeviceDataset::new(&digits, &device.clone().inner())?.normalized(&[0.13], &[0.31])?;
    let loader = DeviceLoader::new(data, 64).shuffled(1).to_device(device);
    let stem = Conv2dConfig::new([1, WIDTH], [3, 3]).with_stride([4, 4]);
    let stem = stem
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init(device);
    let mut net = Net {
        stem,
        body,
        head: LinearConfig::new(channels, 10).init(device),
    };
    let cross_entropy = CrossEntropyLossConfig::new().init(device);
    let mut adam = optimizer(&OptimizerRecipe::default());
    let (mut points, mut sum, mut first_norm) = (Vec::new(), 0.0, 0.0);
    for step in 0..steps {
        // Each epoch is shuffled anew, so its first batch is a random one.
        let batch = loader.iter().next().ok_or("no images")??;
        let loss = cross_entropy.forward(net.forward(batch.images), batch.labels);
        sum += f64::from(loss.clone().into_scalar::<f32>());
        let grads = loss.backward();
        if step == 0
            && let Some(grad) = net.stem.weight.val().grad(&grads)
        {
            first_norm = grad.square().sum().sqrt().into_scalar::<f32>();
        }
        let grads = GradientsParams::from_grads(grads, &net);
        net = adam.step(2e-3, net, grads);
        if (step + 1) % 10 == 0 {
            points.push((step as f64 + 1.0, sum / 10.0));
            sum = 0.0;
        }
    }
    let last = points.last().map_or(f64::NAN, |point: &(f64, f64)| point.1);
    println!(
        "{name:9} loss {last:.3}  gradient norm of the first layer at the start {first_norm:.1e}"
    );
    Ok(Curve {
        name: name.into(),
        points,
    })
}
