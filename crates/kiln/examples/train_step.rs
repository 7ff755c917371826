//! Times a training step of the CNN and its data path; `benches/train_step.py` runs it beside PyTorch.
//!
//! ```text
//! cargo run --release -p kiln --example train_step -- [--device D] [--batch N] [--steps N] [--model NAME]
//! ```
//!
//! Prints one JSON object. A step is what `kiln train` does: a batch gathered on the device, forward,
//! backward and optimizer; the device is synchronized at the beginning and end of the measurement
//! only, as in training.

use std::time::Instant;

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use kiln::data::{Batch, DeviceDataset, DeviceLoader, Digits, Split};
use kiln::train::{OptimizerRecipe, optimizer};

/// The allocator of the `kiln` program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut device, mut batch, mut steps, mut name) =
        (String::from("flex"), 64, 100, String::from("cnn"));
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--device" => device = value,
            "--batch" => batch = value.parse()?,
            "--steps" => steps = value.parse()?,
            "--model" => name = value,
            _ => {
                return Err(
                    format!("no flag {flag}; allowed: --device --batch --steps --model").into(),
                );
            }
        }
    }
    let chosen = kiln::device::select(&device)?;
    let device = chosen.device.autodiff();
    let digits = Digits::new(0).generate(Split::Train, (batch * 8).max(8192));
    let data = DeviceDataset::new(&digits, &device)?.normalized(&[0.1307], &[0.3081])?;
    let loader = DeviceLoader::new(data, batch).shuffled(42);
    let loader = loader.to_device(&device);
    let mut batches = endless(&*loader);

    device.seed(42);
    let mut model = kiln::zoo::create(&name, &Default::default(), &device)?;
    let mut adam = optimizer(&OptimizerRecipe::default());
    let mut step = |batches: &mut dyn Iterator<Item = Batch>| {
        let batch = batches.next().expect("endless");
        let [n] = batch.labels.dims();
        let logits = model.forward(batch.images);
        let loss = log_softmax(logits, 1)
            .gather(1, batch.labels.reshape([n, 1]))
            .mean()
            .neg();
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        model = adam.step(1e-3, model.clone(), grads);
        loss
    };
    // Kernels are compiled and tuned, memory pools filled.
    let warm_up = (steps / 5).max(10);
    let mut loss = Tensor::zeros([1], &device);
    for _ in 0..warm_up {
        loss = step(&mut batches);
    }
    let first = loss.try_into_scalar::<f32>()?;
    device.sync()?;
    let start = Instant::now();
    let mut loss = Tensor::zeros([1], &device);
    for _ in 0..steps {
        loss = step(&mut batches);
    }
    let last = loss.try_into_scalar::<f32>()?;
    device.sync()?;
    let seconds = start.elapsed().as_secs_f64() / steps as f64;

    let start = Instant::now();
    let mut sum = Tensor::zeros([1], &device);
    for _ in 0..steps {
        let batch = batches.next().expect("endless");
        sum = sum
            + batch
                .images
                .slice([0..1, 0..1, 14..15, 14..15])
                .reshape([1]);
    }
    sum.try_into_scalar::<f32>()?;
    device.sync()?;
    let data_seconds = start.elapsed().as_secs_f64() / steps as f64;

    println!(
        "{{\"device\": {:?}, \"backend\": {:?}, \"model\": {name:?}, \"batch\": {batch}, \"steps\": {steps}, \
         \"parameters\": {}, \"step_ms\": {:.3}, \"images_per_second\": {:.1}, \"data_ms\": {:.3}, \
         \"first_loss\": {first:.4}, \"last_loss\": {last:.4}}}",
        chosen.name,
        chosen.backend,
        kiln::zoo::num_params(&model.valid().train()),
        seconds * 1e3,
        batch as f64 / seconds,
        data_seconds * 1e3,
    );
    Ok(())
}

fn endless(loader: &dyn DataLoader<Batch>) -> impl Iterator<Item = Batch> + '_ {
    std::iter::repeat_with(|| loader.iter())
        .flatten()
        .map(|batch| batch.expect("images in memory can always be read"))
}
