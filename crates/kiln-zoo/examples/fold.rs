//! Batch normalization folded into convolutions for inference: the same output from fewer operations.
//!
//! ```text
//! cargo run --release -p kiln-zoo --example fold -- [NAME]
//! ```
//!
//! Prints the largest difference of the outputs (about 1e-6 of their size), the number of tensors before and after, and the
//! times of one forward pass each on this machine's CPU.

use std::time::Instant;

use burn::tensor::{Distribution, Tensor};
use kiln_testing::formula;
use kiln_zoo::{Classifier, Settings, create, weights};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or("resnet18".into());
    let device = kiln::device::select("flex")?.device;
    let settings = Settings {
        input: [3, 224, 224],
        ..Settings::default()
    };
    // Weights and running statistics other than the initial ones, with which there would be nothing to fold.
    let model = weights::fill(create(&name, &settings, &device)?, |name, shape| {
        Some(formula::values(name, shape, ""))
    });
    let folded = model.clone().fold();

    let image = Tensor::random([1, 3, 224, 224], Distribution::Normal(0.0, 1.0), &device);
    let (plain, folded_output) = (model.forward(image.clone()), folded.forward(image.clone()));
    let size = plain.clone().abs().max().into_scalar::<f32>();
    let off = (plain - folded_output).abs().max().into_scalar::<f32>();
    println!("largest difference {off:.1e} in outputs up to {size:.2}");
    assert!(off < 1e-4 * size, "folding changed the output");

    let tensors = |model: &Classifier| weights::names(model).len();
    println!(
        "{} tensors, {} after folding",
        tensors(&model),
        tensors(&folded)
    );
    for (what, model) in [("plain", &model), ("folded", &folded)] {
        let start = Instant::now();
        for _ in 0..5 {
            model.forward(image.clone()).into_data();
        }
        println!(
            "{what}: {:.1} ms",
            start.elapsed().as_secs_f64() * 1000.0 / 5.0
        );
    }
    Ok(())
}
