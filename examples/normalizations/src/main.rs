//! The four normalizations as formulas, beside the layers: they differ only in what a mean is taken over.
//!
//! ```text
//! $ cargo run --release -p example-normalizations -- normalizations.png
//! layer     mean over            largest difference to the formula
//! batch     N, H, W of each C    4.8e-7
//! layer     C, H, W of each N    4.8e-7
//! instance  H, W of each N, C    1.2e-6
//! group     2 C, H, W of each N  7.2e-7
//! ```
//!
//! x has shape [N, C, H, W]; y = (x - mean) / sqrt(variance + eps). The picture shows the mean of each channel of one image before and
//! after: batch normalization removes what all images share in a channel, layer normalization only what all channels of the
//! image share, instance normalization everything about a channel of an image, group normalization lies between.

use burn::tensor::{Device, Distribution, Tensor};
use kiln::norm::{BatchNormConfig, GroupNormConfig, InstanceNormConfig, LayerNormConfig};
use kiln::plot::{Curve, curves};

const EPS: f64 = 1e-5;
const SHAPE: [usize; 4] = [8, 6, 5, 5];

/// The formula: mean and biased variance over the last axis of whatever view is given.
fn normalize(x: Tensor<2>) -> Tensor<2> {
    let mean = x.clone().mean_dim(1);
    let centred = x - mean;
    let variance = centred.clone().square().mean_dim(1);
    centred / (variance + EPS).sqrt()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1);
    let path = path.unwrap_or_else(|| "normalizations.png".into());
    // Batch normalization takes the statistics of the batch in training, which is what an autodiff device means.
    let device = Device::flex().autodiff();
    device.seed(1);
    let [n, c, h, w] = SHAPE;
    // Channels with offsets of their own, images with a brightness of their own.
    let offset =
        Tensor::<1>::from_floats([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &device).reshape([1, c, 1, 1]);
    let brightness = Tensor::<4>::random([n, 1, 1, 1], Distribution::Normal(2.0, 1.0), &device);
    let x =
        Tensor::<4>::random(SHAPE, Distribution::Normal(0.0, 1.0), &device) + offset + brightness;

    // Batch: each channel by itself, over all images and pixels.
    let over_batch = x.clone().swap_dims(0, 1).reshape([c, n * h * w]);
    let batch = normalize(over_batch).reshape([c, n, h, w]).swap_dims(0, 1);
    // Layer: each image by itself, over all channels and pixels.
    let layer = normalize(x.clone().reshape([n, c * h * w])).reshape(SHAPE);
    // Instance: each channel of each image by itself.
    let instance = normalize(x.clone().reshape([n * c, h * w])).reshape(SHAPE);
    // Group: each group of two channels of each image.
    let group = normalize(x.clone().reshape([n * 3, c / 3 * h * w])).reshape(SHAPE);

    let rows = [
        (
            "batch",
            "N, H, W of each C",
            batch,
            BatchNormConfig::new(c).init(&device).forward(x.clone()),
        ),
        (
            "layer",
            "C, H, W of each N",
            layer,
            LayerNormConfig::new([c, h, w])
                .init(&device)
                .forward(x.clone()),
        ),
        (
            "instance",
            "H, W of each N, C",
            instance,
            InstanceNormConfig::new(c).init(&device).forward(x.clone()),
        ),
        (
            "group",
            "2 C, H, W of each N",
            group,
            GroupNormConfig::new(3, c).init(&device).forward(x.clone()),
        ),
    ];
    println!("layer     mean over            largest difference to the formula");
    let mut lines = vec![curve("input", x)];
    for (name, over, formula, layer) in rows {
        let difference = (formula - layer.clone()).abs().max().into_scalar::<f32>();
        println!("{name:9} {over:20} {difference:.1e}");
        if difference > 1e-4 {
            return Err(format!("{name}: the layer is not the formula").into());
        }
        lines.push(curve(name, layer));
    }
    let title = "Mean of each channel of one image, before and after";
    curves(title, "channel", "mean", false, &lines).save(&path)?;
    println!("written: {path}");
    Ok(())
}

/// The mean of each channel of the first image.
fn curve(name: &str, x: Tensor<4>) -> Curve {
    let [_, c, h, w] = x.dims();
    let image = x.slice([0..1, 0..c, 0..h, 0..w]).reshape([c, h * w]);
    let means = image.mean_dim(1).try_into_vec_as::<f32>();
    let points = means.unwrap_or_default().into_iter().enumerate();
    Curve {
        name: name.into(),
        points: points
            .map(|(i, mean)| (i as f64, f64::from(mean)))
            .collect(),
    }
}
