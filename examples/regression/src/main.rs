//! A table: a model of your own, a scaler fitted on the training rows alone, R² and the mean absolute error.
//!
//! ```text
//! $ cargo run --release -p example-regression -- regression.png
//! R² 1.00, mean absolute error 5.0 thousand of prices from 114 to 524
//! ```
//!
//! The picture shows the test houses from the cheapest to the dearest, and what the model says of each.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, Relu};
use burn::tensor::{Device, Distribution, Tensor};
use burn::train::{InferenceStep, RegressionOutput, TrainOutput, TrainStep};
use kiln::data::scale::Scaler;
use kiln::plot::{Curve, curves};
use kiln::prelude::*;

type Table = TensorBatch<2, 2>;

#[derive(Module, Debug)]
struct Prices {
    hidden: Linear,
    output: Linear,
}

impl Prices {
    fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        let hidden = Relu::new().forward(self.hidden.forward(features));
        self.output.forward(hidden)
    }

    fn regress(&self, batch: Table) -> RegressionOutput {
        let output = self.forward(batch.features);
        let loss = (output.clone() - batch.targets.clone())
            .powi_scalar(2)
            .mean();
        RegressionOutput::new(loss, output, batch.targets)
    }
}

impl TrainStep for Prices {
    type Input = Table;
    type Output = RegressionOutput;
    fn step(&self, batch: Table) -> TrainOutput<RegressionOutput> {
        let item = self.regress(batch);
        TrainOutput::new(self, item.loss.backward(), item)
    }
}

impl InferenceStep for Prices {
    type Input = Table;
    type Output = RegressionOutput;
    fn step(&self, batch: Table) -> RegressionOutput {
        self.regress(batch)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or("regression.png".into());
    let chosen = kiln::device::auto()?;
    let device = chosen.device.clone();
    device.seed(1);
    let (train, test) = (houses(800, &device), houses(100, &device));
    let [mut features, mut prices]: [Scaler; 2] = ["standard".parse()?, "standard".parse()?];
    features.fit(&train.features)?;
    prices.fit(&train.targets)?;
    let batches = |table: &Table| -> Result<_, Box<dyn std::error::Error>> {
        let (x, y) = (
            features.transform(&table.features)?,
            prices.transform(&table.targets)?,
        );
        Ok(TensorBatches::new(x, y, 50))
    };
    let training = device.clone().autodiff();
    let model = Prices {
        hidden: LinearConfig::new(3, 32).init(&training),
        output: LinearConfig::new(32, 1).init(&training),
    };
    let trainer = Trainer::new(model, batches(&train)?.shuffled(1), batches(&test)?, chosen)
        .named("prices", "houses")
        .lr(0.01)
        .epochs(40)
        .progress(Progress::Plain);
    let Trained::Finished { model, summary } = trainer.run()? else {
        return Err("nobody asked to stop".into());
    };
    let answers = model.forward(features.transform(&test.features)?);
    let answers = prices
        .inverse_transform(&answers)?
        .try_into_vec_as::<f32>()?;
    let truths = test.targets.try_into_vec_as::<f32>()?;
    let mut pairs: Vec<(f32, f32)> = truths.into_iter().zip(answers).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mae = pairs
        .iter()
        .map(|(truth, answer)| (truth - answer).abs())
        .sum::<f32>()
        / 100.0;
    let (low, high) = (pairs[0].0, pairs[99].0);
    let r2 = summary.scores["valid_r2"];
    println!(
        "R² {r2:.2}, mean absolute error {mae:.1} thousand of prices from {low:.0} to {high:.0}"
    );
    let line = |name: &str, of: fn(&(f32, f32)) -> f32| Curve {
        name: name.into(),
        points: (0..100)
            .map(|i| (i as f64, f64::from(of(&pairs[i]))))
            .collect(),
    };
    let lines = [
        line("price", |pair| pair.0),
        line("predicted", |pair| pair.1),
    ];
    curves(
        "Houses of the test set",
        "house",
        "thousands",
        false,
        &lines,
    )
    .save(&path)?;
    println!("written: {path}");
    if r2 > 0.9 {
        Ok(())
    } else {
        Err("the prices were not learned".into())
    }
}

/// Rooms, area and age, and a price in thousands that is not linear in them.
fn houses(n: usize, device: &Device) -> Table {
    let draw = |low, high| Tensor::<2>::random([n, 1], Distribution::Uniform(low, high), device);
    let (rooms, area, age) = (draw(1.0, 7.0).floor(), draw(40.0, 200.0), draw(0.0, 60.0));
    let noise = Tensor::random([n, 1], Distribution::Normal(0.0, 5.0), device);
    let worn = (age.clone() / 40.0).neg().exp() * 0.5 + 0.5;
    let targets = (area.clone() * 2.5 + rooms.clone() * 20.0) * worn + noise;
    TensorBatch {
        features: Tensor::cat(vec![rooms, area, age], 1),
        targets,
    }
}
