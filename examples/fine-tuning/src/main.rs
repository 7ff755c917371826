//! Fine-tuning: a network learns ten digits; then its backbone is frozen and a new head learns to tell even digits from odd.
//!
//! ```text
//! cargo run --release -p example-fine-tuning
//! ```
//!
//! It prints the accuracy on both tasks and checks itself: the second task must be learned, and nothing but the
//! head may have changed. With weights from ImageNet the first part is `kiln models fetch resnet18` and
//! `Load::new().allow_head_mismatch(true).into_model(model, path)` instead.

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};
use kiln::prelude::*;
use kiln::train::{OptimizerRecipe, optimizer};
use kiln::zoo::weights::{self, Load};
use kiln::zoo::{Classifier, Settings, create};

/// What a label of the data is called in a task.
type Task = fn(Tensor<1, Int>) -> Tensor<1, Int>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let chosen = kiln::device::auto()?;
    println!("{}", chosen.reason);
    let device = chosen.device.clone().autodiff();
    let digits = Digits::new(0);
    let put = |split, count| {
        let data = DeviceDataset::new(&digits.generate(split, count), &chosen.device)?;
        data.normalized(&[0.13], &[0.31])
    };
    let (train, test) = (put(Split::Train, 2048)?, put(Split::Test, 512)?);

    // The small residual network of a tutorial learns the ten digits.
    device.seed(42);
    let settings = |num_classes| Settings {
        input: [1, 28, 28],
        num_classes,
        ..Settings::default()
    };
    let digit: Task = |labels| labels;
    let pretrained = create("small-resnet-111", &settings(10), &device)?;
    let pretrained = learn(pretrained, &train, digit, 3);
    let ten = accuracy(&pretrained, &test, digit);
    println!("ten digits: {:.1} %", ten * 100.0);

    // Its weights go into a network for two classes, whose head alone starts anew.
    let file = std::env::temp_dir().join(format!(
        "kiln-fine-tuning-{}.safetensors",
        std::process::id()
    ));
    weights::save(&pretrained, &file)?;
    let model = create("small-resnet-111", &settings(2), &device)?;
    let (model, report) = Load::new()
        .allow_head_mismatch(true)
        .into_model(model, &file)?;
    std::fs::remove_file(&file)?;
    println!(
        "loaded {} entries, new: {}",
        report.loaded,
        report.head_kept.join(", ")
    );

    // The backbone is frozen: no gradients, and its running statistics stay what they were.
    let before = values(&model)?;
    let odd: Task = |labels| labels.remainder_scalar(2);
    let model = learn(model.freeze_backbone(), &train, odd, 2);
    let parity = accuracy(&model, &test, odd);
    println!("even or odd: {:.1} %", parity * 100.0);

    let after = values(&model)?;
    let changed: Vec<&String> = before
        .iter()
        .zip(&after)
        .filter(|((_, before), (_, after))| before != after)
        .map(|((name, _), _)| name)
        .collect();
    println!("changed: {changed:?}");
    assert_eq!(changed, ["fc.weight", "fc.bias"], "only the head may learn");
    // A guess is right in one of ten, and in one of two.
    assert!(
        ten > 0.6 && parity > 0.75,
        "not learned: {ten} and {parity}"
    );
    Ok(())
}

fn learn(mut model: Classifier, data: &DeviceDataset, task: Task, epochs: usize) -> Classifier {
    let device = model.devices()[0].clone().autodiff();
    let loader = DeviceLoader::new(data.clone(), 64).shuffled(42);
    let batches = loader.to_device(&device);
    let mut adam = optimizer(&OptimizerRecipe::default());
    for _ in 0..epochs {
        for batch in batches.iter() {
            let batch = batch.expect("images in memory can always be read");
            let [n] = batch.labels.dims();
            let labels = task(batch.labels).reshape([n, 1]);
            let loss = -log_softmax(model.forward(batch.images), 1)
                .gather(1, labels)
                .mean();
            let grads = GradientsParams::from_grads(loss.backward(), &model);
            model = adam.step(2e-3, model, grads);
        }
    }
    model
}

fn accuracy(model: &Classifier, data: &DeviceDataset, task: Task) -> f64 {
    let model = model.valid();
    let mut right = 0;
    for batch in DeviceLoader::new(data.clone(), 256).iter() {
        let batch = batch.expect("images in memory can always be read");
        let [n] = batch.labels.dims();
        let answers = model.forward(batch.images).argmax(1).reshape([n]);
        right += answers
            .equal(task(batch.labels))
            .int()
            .sum()
            .into_scalar::<i64>();
    }
    right as f64 / data.len() as f64
}

/// A name and its bytes.
type Value = (String, Vec<u8>);

/// Every parameter and buffer, in the order of their names.
fn values(model: &Classifier) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let file = std::env::temp_dir().join(format!("kiln-fine-tuning-{}.tmp", std::process::id()));
    weights::save(model, &file)?;
    let state = weights::StateDict::open(&file)?;
    let entries = state.entries().iter().map(|entry| {
        let data = state.read(entry.name())?;
        Ok((entry.name().to_string(), data.as_bytes().to_vec()))
    });
    let values = entries.collect();
    std::fs::remove_file(&file)?;
    values
}
