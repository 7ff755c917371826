//! A plain network of 20 layers beside the same depth with residual, dense and long skip connections.
//!
//! ```text
//! $ cargo run --release -p example-skip-connections -- 200 skip-connections.png
//! plain     loss 2.305  gradient norm of the first layer at the start 7.9e-11
//! residual  loss 1.317  gradient norm of the first layer at the start 4.0e-2
//! dense     loss 0.868  gradient norm of the first layer at the start 1.8e-2
//! long      loss 1.797  gradient norm of the first layer at the start 2.7e-3
//! ```
//!
//! The plain network does not learn: its first layer's gradient is a product of 20 small Jacobians. A skip gives the
//! gradient a short way (see `kiln::zoo::Residual`, `DenseSkip` and `LongSkip`), and the same layers learn at the same rate.

use burn::data::dataloader::DataLoader;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::pool::MaxPool2dConfig;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use kiln::plot::{Curve, curves};
use kiln::prelude::*;
use kiln::train::{OptimizerRecipe, optimizer};
use kiln::zoo::{Activation, Branch, DenseSkip, LongSkip, Residual};

const WIDTH: usize = 8;
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
/// A stem that takes the image to a quarter of its size, a body of 20 layers, and a head that gives each pixel's logits.
type Net<F> = (Conv2d, F, Conv2d);

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let steps: usize = args.next().map_or(Ok(200), |n| n.parse())?;
    let path = args.next().unwrap_or("skip-connections.png".into());
    let device = kiln::device::auto()?.device.autodiff();
    device.seed(1);

    let conv = |from, to, size: usize, stride| {
        let conv = Conv2dConfig::new([from, to], [size; 2]).with_stride([stride; 2]);
        let [before, after] = [size / 2; 2];
        conv.with_padding(PaddingConfig2d::Explicit(before, before, after, after))
            .init(&device)
    };
    let layer = |from, to| (conv(from, to, 3, 1), Activation::Relu);
    let layers = |n: usize| (0..n).map(|_| layer(WIDTH, WIDTH)).collect::<Vec<_>>();
    let (stem, head) = (|| conv(1, WIDTH, 3, 4), |from| conv(from, 10, 1, 1));

    let plain = layers(20);
    let block = || Residual::new((layer(WIDTH, WIDTH), conv(WIDTH, WIDTH, 3, 1)));
    let residual: Vec<_> = (0..10).map(|_| (block(), Activation::Relu)).collect();
    let dense = |i: usize| DenseSkip::new(layer(WIDTH + 4 * i, 4));
    let dense: Vec<_> = (0..20).map(dense).collect();
    let down = MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
    let up = ConvTranspose2dConfig::new([WIDTH, WIDTH], [2, 2]).with_stride([2, 2]);
    let inner = LongSkip::new((down, layers(15), up.init(&device)));
    let long = (layers(2), inner, layer(2 * WIDTH, WIDTH));

    let lines = [
        train("plain", (stem(), plain, head(WIDTH)), steps, &device)?,
        train("residual", (stem(), residual, head(WIDTH)), steps, &device)?,
        train("dense", (stem(), dense, head(WIDTH + 80)), steps, &device)?,
        train("long", (stem(), long, head(WIDTH)), steps, &device)?,
    ];
    curves("Training loss of 20 layers", "step", "loss", false, &lines).save(&path)?;
    println!("written: {path}");
    let last = |i: usize| lines[i].points.last().map_or(f64::NAN, |point| point.1);
    match (1..4).all(|i| last(i) < last(0) - 0.2) {
        true => Ok(()),
        false => Err("a skip connection did not help as it must".into()),
    }
}

/// Trains on drawn digits; the mean loss of every ten steps.
fn train<F: Branch>(name: &str, mut net: Net<F>, steps: usize, device: &Device) -> Result<Curve> {
    let digits = Digits::new(0).generate(Split::Train, 4000);
    let data = DeviceDataset::new(&digits, &device.clone().inner())?;
    let data = data.normalized(&[0.13], &[0.31])?;
    let loader = DeviceLoader::new(data, 64).shuffled(1).to_device(device);
    let cross_entropy = CrossEntropyLossConfig::new().init(device);
    let mut adam = optimizer(&OptimizerRecipe::default());
    let (mut points, mut sum, mut first_norm) = (Vec::new(), 0.0, None);
    for step in 1..=steps {
        // Each epoch is shuffled anew, so its first batch is a random one.
        let batch = loader.iter().next().ok_or("no images")??;
        let pixels = net.forward(batch.images).flatten::<3>(2, 3);
        let logits = pixels.mean_dim(2).flatten::<2>(1, 2);
        let loss = cross_entropy.forward(logits, batch.labels);
        sum += f64::from(loss.clone().into_scalar::<f32>());
        let grads = loss.backward();
        let norm = || Some(net.0.weight.val().grad(&grads)?.square().sum().sqrt());
        first_norm = first_norm.or_else(norm);
        let grads = GradientsParams::from_grads(grads, &net);
        net = adam.step(2e-3, net, grads);
        if step % 10 == 0 {
            points.push((step as f64, sum / 10.0));
            sum = 0.0;
        }
    }
    let last = points.last().map_or(f64::NAN, |point| point.1);
    let norm = first_norm.map_or(f32::NAN, |norm| norm.into_scalar());
    println!("{name:8}  loss {last:.3}  gradient norm of the first layer at the start {norm:.1e}");
    let name = name.into();
    Ok(Curve { name, points })
}
