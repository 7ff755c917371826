//! What the networks learn.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Points on two rings of radius 1 and 2, and which ring each is on.
pub fn rings(count: usize, device: &Device) -> (Tensor<2>, Tensor<1, Int>) {
    let points = (0..count).flat_map(|i| {
        // The golden angle spreads points evenly.
        let (radius, angle) = (1.0 + (i % 2) as f32, i as f32 * 2.399_963);
        [radius * angle.cos(), radius * angle.sin()]
    });
    let points: Vec<f32> = points.collect();
    let rings: Vec<i32> = (0..count).map(|i| (i % 2) as i32).collect();
    let labels = Tensor::from_data(TensorData::new(rings, [count]), device);
    (
        Tensor::from_data(TensorData::new(points, [count, 2]), device),
        labels,
    )
}

/// Rows of `steps` numbers between -1 and 1, and their means.
pub fn sums(rows: usize, steps: usize, device: &Device) -> (Tensor<2>, Tensor<2>) {
    let numbers = (0..rows * steps).map(|i| ((i as f32 * 12.9898).sin() * 43_758.547).fract());
    let numbers = TensorData::new(numbers.collect::<Vec<f32>>(), [rows, steps]);
    let numbers = Tensor::<2>::from_data(numbers, device);
    (numbers.clone(), numbers.mean_dim(1))
}
