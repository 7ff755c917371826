//! Times a network's inference and training step and reads the process's peak memory; `benches/zoo.py` runs it beside PyTorch.
//!
//! ```text
//! cargo run --release -p kiln-zoo --example zoo_speed -- NAME [--mode infer|train|train-saving] [--size N] [--batch N]
//!     [--steps N] [--device D]
//! ```
//!
//! Prints one JSON object. A training step is forward, cross-entropy and backward, without an optimizer; `train-saving` is the
//! memory-saving one. The device is synchronized at the beginning and end only.

use std::time::Instant;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Distribution, Tensor};
use kiln_zoo::{Settings, ZooError, create, create_segmenter};

/// The allocator of the `kiln` program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut name, mut mode, mut device) = (
        String::from("resnet18"),
        String::from("infer"),
        String::from("flex"),
    );
    let (mut size, mut batch, mut steps) = (224, 1, 5);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--mode" => mode = value()?,
            "--device" => device = value()?,
            "--size" => size = value()?.parse()?,
            "--batch" => batch = value()?.parse()?,
            "--steps" => steps = value()?.parse()?,
            flag if flag.starts_with('-') => return Err(format!("no flag {flag}").into()),
            model => name = model.into(),
        }
    }
    let plain = kiln::device::select(&device)?.device;
    let device = match mode.as_str() {
        "infer" => plain,
        "train" | "train-saving" => plain.autodiff(),
        _ => return Err(format!("--mode {mode} is not infer, train or train-saving").into()),
    };
    let settings = Settings {
        input: [3, size, size],
        ..Settings::default()
    };
    let images = Tensor::random(
        [batch, 3, size, size],
        Distribution::Normal(0.0, 1.0),
        &device,
    );
    // Every image, or every pixel, is of the first class: which one does not matter to the time.
    let loss = |logits: Tensor<2>| -log_softmax(logits, 1).narrow(1, 0, 1).mean();
    let mut step: Box<dyn FnMut() -> f32> = match create(&name, &settings, &device) {
        Ok(model) => Box::new(move || match mode.as_str() {
            "infer" => model.forward(images.clone()).sum().into_scalar(),
            "train" => {
                let loss = loss(model.forward(images.clone()));
                drop(loss.backward());
                loss.into_scalar()
            }
            _ => model
                .backward_saving_memory(images.clone(), loss)
                .0
                .into_scalar(),
        }),
        Err(ZooError::OtherTask { .. }) => {
            let model = create_segmenter(&name, &settings, &device)?;
            Box::new(move || {
                let logits = model.forward(images.clone());
                if mode == "infer" {
                    return logits.sum().into_scalar();
                }
                let logits = logits.swap_dims(1, 3).reshape([batch * size * size, 10]);
                let loss = loss(logits);
                drop(loss.backward());
                loss.into_scalar()
            })
        }
        Err(error) => return Err(error.into()),
    };
    step();
    let start = Instant::now();
    for _ in 0..steps {
        assert!(step().is_finite());
    }
    let ms = start.elapsed().as_secs_f64() * 1000.0 / steps as f64;
    println!("{{\"ms\": {ms:.2}, \"peak_mib\": {}}}", peak_mib());
    Ok(())
}

/// The most memory that the process has had, where the system tells; otherwise 0.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
