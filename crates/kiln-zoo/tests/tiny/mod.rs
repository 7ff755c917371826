//! The network that the weight files of these tests are of.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use serde_json::Value;

/// conv → bn → ReLU → mean over space → linear, as in `golden/weights/make.py`.
#[derive(Module, Debug)]
pub struct Tiny {
    pub conv: Conv2d,
    pub bn: BatchNorm,
    pub fc: Linear,
}

impl Tiny {
    pub fn new(classes: usize, device: &Device) -> Self {
        let conv = Conv2dConfig::new([3, 5], [3, 3]).with_stride([2, 2]);
        Self {
            conv: conv
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device),
            bn: BatchNormConfig::new(5).init(device),
            fc: LinearConfig::new(5, classes).init(device),
        }
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = burn::tensor::activation::relu(self.bn.forward(self.conv.forward(x)));
        self.fc.forward(x.mean_dim(3).mean_dim(2).flatten(1, 3))
    }
}

pub fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect()
}

pub fn device() -> Device {
    kiln_testing::devices().remove(0)
}
