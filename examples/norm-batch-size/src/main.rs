//! Which normalization for small batches: the same network with each one at batch sizes 2, 4, 8 and 32.
//!
//! ```text
//! cargo run --release -p example-norm-batch-size -- [norm-batch-size.png] [--quick]
//! ```
//!
//! Every run sees the same drawn digits equally often, with a learning rate in proportion to the batch. Look at the left of
//! the plot: BatchNorm takes its mean and variance from the batch. Of two samples, a hidden unit always becomes -1 and +1,
//! whatever they were, and the running statistics that the test uses never saw that: its error rises steeply. GroupNorm,
//! LayerNorm and RmsNorm look at one sample at a time, so the batch size means little to them. At 32 BatchNorm has caught up.
//! (Wu and He, Group Normalization, 2018, figure 1, on ImageNet.)

mod net;
mod plot;

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{GradientsParams, SgdConfig, momentum::MomentumConfig};
use burn::tensor::Device;
use kiln::data::{DeviceDataset, DeviceLoader, Digits, Split};
use kiln::norm::Norm;

/// The allocator of the `kiln` program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCHES: [usize; 4] = [2, 4, 8, 32];
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut path = String::from("norm-batch-size.png");
    let mut quick = false;
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--quick" => quick = true,
            flag if flag.starts_with('-') => return Err(format!("no flag {flag}").into()),
            _ => path = arg,
        }
    }
    let (samples, tests, batches, names) = match quick {
        true => (1000, 500, &BATCHES[..1], &["batch", "group:8"][..]),
        false => (
            2000,
            1000,
            &BATCHES[..],
            &["batch", "group:8", "layer", "instance", "rms"][..],
        ),
    };
    let device = Device::flex();
    let put = |split, n| {
        DeviceDataset::new(&Digits::new(7).generate(split, n), &device)?
            .normalized(&[0.13], &[0.31])
    };
    let (train, test) = (put(Split::Train, samples)?, put(Split::Test, tests)?);
    let mut curves = Vec::new();
    for &name in names {
        let norm: Norm = name.parse()?;
        let mut errors = Vec::new();
        for &batch in batches {
            let error = run(norm, batch, &train, &test, &device)?;
            println!(
                "{name:9} batch {batch:2}  test error {:5.2} %",
                error * 100.0
            );
            errors.push(error);
        }
        curves.push((name, errors));
    }
    plot::draw(&curves, batches, path.as_ref())?;
    println!("written: {path}");
    // What the plot shows must be there: BatchNorm well behind GroupNorm at 2, and near it at 32.
    let error = |curve: usize, batch: usize| curves[curve].1[batch];
    let last = batches.len() - 1;
    if error(0, 0) < 1.5 * error(1, 0) {
        return Err("BatchNorm did not suffer at batch size 2 as it must".into());
    }
    if !quick && error(0, last) > 0.6 * error(0, 0) {
        return Err("BatchNorm did not recover at batch size 32 as it must".into());
    }
    Ok(())
}

/// The share of wrong answers after two passes over the training data.
fn run(
    norm: Norm,
    batch: usize,
    train: &DeviceDataset,
    test: &DeviceDataset,
    device: &Device,
) -> Result<f64> {
    let device = device.clone().autodiff();
    device.seed(1);
    let mut model = net::Net::new(norm, &device)?;
    let cross_entropy = CrossEntropyLossConfig::new().init(&device);
    let momentum = MomentumConfig::new().with_momentum(0.9).with_dampening(0.0);
    let mut sgd = SgdConfig::new().with_momentum(Some(momentum)).init();
    let learning_rate = 0.05 * batch as f64 / 32.0;
    for epoch in 0..2 {
        let loader = DeviceLoader::new(train.clone(), batch).shuffled(epoch);
        for batch in loader.to_device(&device).iter() {
            let batch = batch?;
            let loss = cross_entropy.forward(model.forward(batch.images), batch.labels);
            let grads = GradientsParams::from_grads(loss.backward(), &model);
            model = sgd.step(learning_rate, model, grads);
        }
    }
    let model = model.valid();
    let (mut wrong, mut all) = (0.0, 0.0);
    for batch in DeviceLoader::new(test.clone(), 250).iter() {
        let batch = batch?;
        let answers = model.forward(batch.images).argmax(1).flatten::<1>(0, 1);
        let [n] = batch.labels.dims();
        let errors = answers.not_equal(batch.labels).int().sum();
        wrong += errors.try_into_scalar::<i64>()? as f64;
        all += n as f64;
    }
    Ok(wrong / all)
}
