//! Which normalization for small batches: the same network with each one at batch sizes 2, 4, 8 and 32.
//!
//! ```text
//! $ cargo run --release -p example-norm-batch-size -- norm-batch-size.png    # --quick: only the first two at 2
//! test error at batch sizes [2, 4, 8, 32]
//! batch      51.4 %   13.4 %   10.6 %    8.6 %
//! group:8    12.5 %    7.9 %   10.4 %   10.8 %
//! layer      11.6 %   12.8 %   15.7 %   16.8 %
//! instance   12.6 %   11.8 %    8.9 %   13.5 %
//! rms        10.0 %   16.0 %   12.1 %   14.5 %
//! ```
//!
//! Every run sees the same drawn digits equally often, with a learning rate in proportion to the batch. Look at the left of
//! the plot: BatchNorm takes its mean and variance from the batch. Of two samples, a hidden unit always becomes -1 and +1,
//! whatever they were, and the running statistics that the test uses never saw that: its error rises steeply. GroupNorm,
//! LayerNorm and RmsNorm look at one sample at a time, so the batch size means little to them. At 32 BatchNorm has caught up.
//! (Wu and He, Group Normalization, 2018, figure 1, on ImageNet.)

mod net;

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{GradientsParams, SgdConfig, momentum::MomentumConfig};
use burn::tensor::Device;
use kiln::data::{DeviceDataset, DeviceLoader, Digits, Split};
use kiln::norm::Norm;
use kiln::plot::{Curve, curves};

/// The allocator of the `kiln` program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCHES: [usize; 4] = [2, 4, 8, 32];
const NORMS: [&str; 5] = ["batch", "group:8", "layer", "instance", "rms"];
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
    let (samples, batches, names) = match quick {
        true => (1000, &BATCHES[..1], &NORMS[..2]),
        false => (2000, &BATCHES[..], &NORMS[..]),
    };
    let device = Device::flex();
    let put = |split, n| {
        let data = DeviceDataset::new(&Digits::new(7).generate(split, n), &device)?;
        data.normalized(&[0.13], &[0.31])
    };
    let (train, test) = (put(Split::Train, samples)?, put(Split::Test, samples / 2)?);
    println!("test error at batch sizes {batches:?}");
    let mut lines = Vec::new();
    for name in names {
        let (norm, mut points): (Norm, _) = (name.parse()?, Vec::new());
        for &batch in batches {
            let error = run(norm, batch, &train, &test, &device)? * 100.0;
            points.push((batch as f64, error));
        }
        let errors: Vec<String> = points.iter().map(|p| format!("{:5.1} %", p.1)).collect();
        println!("{name:8}  {}", errors.join("  "));
        let name = (*name).into();
        lines.push(Curve { name, points });
    }
    let title = "Test error by batch size and normalization";
    curves(title, "batch size", "test error, %", false, &lines).save(&path)?;
    println!("written: {path}");
    // What the plot shows must be there: BatchNorm well behind GroupNorm at 2, and near it at 32.
    let error = |line: usize, batch: usize| lines[line].points[batch].1;
    if error(0, 0) < 1.5 * error(1, 0) {
        return Err("BatchNorm did not suffer at batch size 2 as it must".into());
    }
    if !quick && error(0, batches.len() - 1) > 0.6 * error(0, 0) {
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
