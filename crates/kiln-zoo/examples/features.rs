//! Feature maps of every stage, and one vector for an image: a network without its head.
//!
//! ```text
//! cargo run --release -p kiln-zoo --example features -- [NAME] [WEIGHTS]
//! ```
//!
//! NAME is a classifier of `kiln models` (resnet18), WEIGHTS a file from `kiln models fetch`; without it the weights are
//! random. For an image of 3×224×224 it prints
//!
//! ```text
//! stage 0: [1, 64, 112, 112]
//! stage 1: [1, 64, 56, 56]
//! stage 2: [1, 128, 28, 28]
//! stage 3: [1, 256, 14, 14]
//! stage 4: [1, 512, 7, 7]
//! vector: 512 values
//! ```

use burn::tensor::{Distribution, Tensor};
use kiln_zoo::weights::Load;
use kiln_zoo::{Settings, create};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or("resnet18".into());
    let device = kiln::device::select("flex")?.device;
    let settings = Settings {
        input: [3, 224, 224],
        num_classes: 1000,
        ..Settings::default()
    };
    let mut model = create(&name, &settings, &device)?;
    if let Some(path) = args.next() {
        (model, _) = Load::new().into_model(model, path)?;
    }

    let image = Tensor::random([1, 3, 224, 224], Distribution::Normal(0.0, 1.0), &device);
    let stages = model.stages(image.clone());
    for (i, stage) in stages.iter().enumerate() {
        println!("stage {i}: {:?}", stage.dims());
    }
    // The last stage, averaged over each map, is what the classifier reads.
    let features = model.features(image);
    let [_, channels, _, _] = features.dims();
    let vector = features.mean_dim(3).mean_dim(2).reshape([channels]);
    println!("vector: {} values", vector.dims()[0]);
    Ok(())
}
