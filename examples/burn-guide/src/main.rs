//! The model of the [Burn book](https://burn.dev/books/burn/), as it is written for burn-train, trained with all that Kiln has:
//! checkpoints, `--resume`, clipping, the report.
//!
//! ```text
//! $ cargo run --release -p example-burn-guide -- 2000
//! accuracy 79.3 %; runs/guide/report.html
//! $ cargo run --release -p example-burn-guide -- 2000     # once more, or after a kill: goes on where it was
//! ```

mod model;

use burn::data::dataset::InMemDataset;
use kiln::prelude::*;
use model::{MnistBatcher, MnistItem, ModelConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let images: usize = std::env::args().nth(1).map_or(Ok(8000), |n| n.parse())?;
    let chosen = kiln::device::auto()?;
    let training = chosen.device.clone().autodiff();
    training.seed(42);
    let model = ModelConfig::new(10, 128).init(&training);
    let digits = Digits::new(1);
    let data = |split, n| InMemDataset::new(items(&digits.generate(split, n)));
    let train = DatasetBatches::new(data(Split::Train, images), MnistBatcher, 64).shuffled(42);
    let valid = DatasetBatches::new(data(Split::Test, 300), MnistBatcher, 100);
    let trainer = Trainer::new(model, train, valid, chosen)
        .named("guide", "digits")
        .run_dir("runs/guide")
        .resume(true)
        .epochs(3)
        .clip("norm:5".parse()?)
        .progress(Progress::Plain)
        .on_notice(|line| eprintln!("{line}"));
    let Trained::Finished { summary, .. } = trainer.run()? else {
        return Err("nobody asked to stop".into());
    };
    let accuracy = summary.scores["valid_accuracy"];
    println!(
        "accuracy {:.1} %; {}",
        accuracy * 100.0,
        summary.run.join("report.html").display()
    );
    if accuracy > 0.7 {
        Ok(())
    } else {
        Err("the digits were not learned".into())
    }
}

fn items(images: &LabeledImages) -> Vec<MnistItem> {
    let pixels = images.images().chunks(28 * 28);
    let item = |(pixels, &label): (&[u8], &u16)| MnistItem {
        image: std::array::from_fn(|y| std::array::from_fn(|x| f32::from(pixels[y * 28 + x]))),
        label: label as u8,
    };
    pixels.zip(images.labels()).map(item).collect()
}
