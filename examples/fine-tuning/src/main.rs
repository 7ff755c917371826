//! Fine-tuning: a network learns ten digits; then its backbone is frozen and a new head learns to tell even digits from odd.
//!
//! ```text
//! $ cargo run --release -p example-fine-tuning -- fine-tuning.png
//! ten digits: 85.0 %
//! loaded 54 entries, new: fc.weight, fc.bias
//! even or odd: 93.2 %
//! changed: fc.weight, fc.bias
//! ```
//!
//! It checks itself: the second task must be learned, and nothing but the head may have changed. With weights from ImageNet
//! the first part is `kiln models fetch resnet18` and `Load::new().allow_head_mismatch(true).into_model(model, path)`
//! instead.

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use kiln::plot::{Curve, curves};
use kiln::prelude::*;
use kiln::train::{OptimizerRecipe, optimizer};
use kiln::zoo::weights::{self, Load, StateDict};
use kiln::zoo::{Classifier, Settings, create};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let path = std::env::args().nth(1);
    let path = path.unwrap_or("fine-tuning.png".into());
    let chosen = kiln::device::auto()?;
    let put = |split, count| {
        let data = DeviceDataset::new(&Digits::new(0).generate(split, count), &chosen.device)?;
        data.normalized(&[0.13], &[0.31])
    };
    let (train, test) = (put(Split::Train, 2048)?, put(Split::Test, 512)?);

    // The small residual network of a tutorial learns the ten digits.
    let device = chosen.device.clone().autodiff();
    device.seed(42);
    let model = |num_classes| {
        let input = [1, 28, 28];
        let settings = Settings {
            input,
            num_classes,
            ..Settings::default()
        };
        create("small-resnet-111", &settings, &device)
    };
    let (pretrained, first) = learn("ten digits", model(10)?, &train)?;
    let ten = accuracy(&pretrained, &test)?;
    println!("ten digits: {:.1} %", ten * 100.0);

    // Its weights go into a network for two classes, whose head alone starts anew.
    let folder = std::env::temp_dir().join(format!("kiln-fine-tuning-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let file = |name| folder.join(name);
    weights::save(&pretrained, file("pretrained.safetensors"))?;
    let load = Load::new().allow_head_mismatch(true);
    let (model, report) = load.into_model(model(2)?, file("pretrained.safetensors"))?;
    let (loaded, new) = (report.loaded, report.head_kept.join(", "));
    println!("loaded {loaded} entries, new: {new}");

    // The backbone is frozen: no gradients, and its running statistics stay what they were.
    weights::save(&model, file("before.safetensors"))?;
    let (model, second) = learn("even or odd", model.freeze_backbone(), &train)?;
    let parity = accuracy(&model, &test)?;
    println!("even or odd: {:.1} %", parity * 100.0);

    weights::save(&model, file("after.safetensors"))?;
    let before = StateDict::open(file("before.safetensors"))?;
    let after = StateDict::open(file("after.safetensors"))?;
    let mut changed = Vec::new();
    for entry in before.entries() {
        let name = entry.name();
        if before.read(name)?.as_bytes() != after.read(name)?.as_bytes() {
            changed.push(name);
        }
    }
    std::fs::remove_dir_all(folder)?;
    println!("changed: {}", changed.join(", "));
    curves("Fine-tuning", "step", "loss", false, &[first, second]).save(&path)?;
    println!("written: {path}");
    assert_eq!(changed, ["fc.weight", "fc.bias"], "only the head may learn");
    // A guess is right in one of ten, and in one of two.
    assert!(ten > 0.6 && parity > 0.75, "not learned");
    Ok(())
}

/// Trains for three epochs; the loss of each step. The task follows from the number of classes: ten digits, or even and odd.
fn learn(name: &str, mut model: Classifier, data: &DeviceDataset) -> Result<(Classifier, Curve)> {
    let device = data.device().autodiff();
    let loader = DeviceLoader::new(data.clone(), 64).shuffled(42);
    let batches = loader.to_device(&device);
    let mut adam = optimizer(&OptimizerRecipe::default());
    let mut points = Vec::new();
    for batch in (0..3).flat_map(|_| batches.iter()) {
        let batch = batch?;
        let logits = log_softmax(model.forward(batch.images), 1);
        let [n, classes] = logits.dims();
        let labels = batch.labels.remainder_scalar(classes as i64);
        let loss = -logits.gather(1, labels.reshape([n, 1])).mean();
        let value = loss.clone().into_scalar::<f32>();
        points.push((points.len() as f64, f64::from(value)));
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        model = adam.step(2e-3, model, grads);
    }
    let name = name.into();
    Ok((model, Curve { name, points }))
}

fn accuracy(model: &Classifier, data: &DeviceDataset) -> Result<f64> {
    let loader = DeviceLoader::new(data.clone(), data.len());
    let batch = loader.iter().next().ok_or("no images")??;
    let logits = model.valid().forward(batch.images);
    let [n, classes] = logits.dims();
    let labels = batch.labels.remainder_scalar(classes as i64);
    let right = logits.argmax(1).reshape([n]).equal(labels);
    Ok(right.int().sum().into_scalar::<i64>() as f64 / n as f64)
}
