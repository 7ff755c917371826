//! Kiln as a library: the parts of `kiln train`, put together by hand.
//!
//! ```text
//! $ cargo run --release -p example-mnist -- 6400 mnist.png    # so many training images [all]
//! CPU, 2 threads (flex): wgpu found only the software adapter llvmpipe, which is slower than the CPU backend
//! digits: 6400 images to train on
//! test accuracy 92.7 %
//! ```
//!
//! The first line is the device and why it was chosen. The picture is the loss.

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use kiln::data::info::Summary;
use kiln::plot::{Curve, curves};
use kiln::prelude::*;
use kiln::train::{OptimizerRecipe, optimizer};
use kiln::zoo::{Cnn, CnnConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let images: usize = args.next().map_or(Ok(usize::MAX), |n| n.parse())?;
    let path = args.next().unwrap_or("mnist.png".into());
    let chosen = kiln::device::auto()?;
    println!("{}", chosen.reason);

    // MNIST where it is found or can be fetched, otherwise digits that Kiln draws.
    let data = Load::new("auto").run()?;
    let train = data.train.slice(0..images);
    println!("{}: {} images to train on", train.name(), train.len());

    // The pixels go to the device once, as bytes; batches are formed there.
    let stats = Summary::of(&train);
    let (mean, std) = (stats.mean[0] as f32, stats.std[0] as f32);
    let put = |data: &LabeledImages| {
        DeviceDataset::new(data, &chosen.device)?.normalized(&[mean], &[std])
    };
    let (train, test) = (put(&train)?, put(&data.test)?);
    let augment = Affine {
        shift: 2.0,
        rotate: 8.0,
        scale: 0.1,
    };
    let loader = DeviceLoader::new(train, 64).shuffled(42).augmented(augment);

    let (model, points) = train_one_epoch(&loader, &chosen.device);
    let name = "training loss".into();
    curves(
        "One epoch",
        "step",
        "loss",
        false,
        &[Curve { name, points }],
    )
    .save(&path)?;
    println!("written: {path}");
    let accuracy = accuracy(&model.valid(), DeviceLoader::new(test, 250));
    println!("test accuracy {:.1} %", accuracy * 100.0);
    // A guess is right in one of ten; even 20 steps give 70 %.
    match accuracy > 0.4 {
        true => Ok(()),
        false => Err("the network did not learn the digits".into()),
    }
}

/// The model, and the loss every ten steps.
fn train_one_epoch(loader: &DeviceLoader, device: &Device) -> (Cnn, Vec<(f64, f64)>) {
    // On an autodiff device a module trains: dropout and batch statistics are on.
    let device = device.clone().autodiff();
    device.seed(42);
    let config = CnnConfig::new(loader.dataset().shape(), 10);
    let mut model = config
        .init(&device)
        .expect("the default normalization fits");
    let cross_entropy = CrossEntropyLossConfig::new().init(&device);
    let mut adam = optimizer(&OptimizerRecipe::default());
    let batches = loader.to_device(&device);
    let mut points = Vec::new();
    for (step, batch) in batches.iter().enumerate() {
        let batch = batch.expect("images in memory can always be read");
        let logits = model.forward(batch.images);
        let loss = cross_entropy.forward(logits, batch.labels);
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        model = adam.step(1e-3, model, grads);
        // Reading the loss waits for the device, so not at every step.
        if step % 10 == 0 {
            points.push((step as f64, f64::from(loss.into_scalar::<f32>())));
        }
    }
    (model, points)
}

fn accuracy(model: &Cnn, test: DeviceLoader) -> f64 {
    let mut right = 0;
    for batch in test.iter() {
        let batch = batch.expect("images in memory can always be read");
        let [n] = batch.labels.dims();
        let answers = model.forward(batch.images).argmax(1).reshape([n]);
        right += answers.equal(batch.labels).int().sum().into_scalar::<i64>();
    }
    right as f64 / test.num_items() as f64
}
