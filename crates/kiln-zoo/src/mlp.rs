//! A multilayer perceptron.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig, Relu};
use burn::tensor::{Device, Tensor};

/// Configuration of an [`Mlp`].
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `input` | | values in one sample: channels × height × width |
/// | `num_classes` | | at least 1 |
/// | `hidden` | `[128]` | units of each hidden layer; empty makes it logistic regression |
/// | `dropout` | `[0.25]` | probability in `[0, 1)` after each hidden layer; the last one given serves the layers left |
#[derive(Clone, Debug, PartialEq)]
pub struct MlpConfig {
    /// Values in one sample.
    pub input: usize,
    /// Number of classes.
    pub num_classes: usize,
    /// Units of each hidden layer.
    pub hidden: Vec<usize>,
    /// Dropout probability after each hidden layer.
    pub dropout: Vec<f64>,
}

impl MlpConfig {
    /// The defaults for samples of `input` values and `num_classes` classes.
    pub fn new(input: usize, num_classes: usize) -> Self {
        Self {
            input,
            num_classes,
            hidden: vec![128],
            dropout: vec![0.25],
        }
    }

    /// Initializes the network on `device`, its weights drawn as PyTorch's `Linear` draws them.
    pub fn init(&self, device: &Device) -> Mlp {
        let mut inputs = self.input;
        let mut layers = Vec::with_capacity(self.hidden.len());
        let mut dropouts = Vec::with_capacity(self.hidden.len());
        for (i, &units) in self.hidden.iter().enumerate() {
            layers.push(LinearConfig::new(inputs, units).init(device));
            let probability = self.dropout.get(i).or(self.dropout.last());
            dropouts.push(DropoutConfig::new(probability.copied().unwrap_or(0.0)).init());
            inputs = units;
        }
        Mlp {
            layers,
            dropouts,
            output: LinearConfig::new(inputs, self.num_classes).init(device),
            relu: Relu::new(),
        }
    }
}

/// Fully connected layers, each followed by ReLU and dropout, and a linear classifier.
///
/// ```
/// use burn::tensor::Tensor;
/// use kiln_zoo::MlpConfig;
/// # let device = kiln_testing::devices().remove(0);
/// let config = MlpConfig { hidden: vec![64, 32], ..MlpConfig::new(28 * 28, 10) };
/// let model = config.init(&device);
/// assert_eq!(model.forward(Tensor::zeros([4, 1, 28, 28], &device)).dims(), [4, 10]);
/// ```
#[derive(Module, Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
    dropouts: Vec<Dropout>,
    output: Linear,
    relu: Relu,
}

impl Mlp {
    /// Logits of a batch of images, which are flattened first.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch, channels, height, width]`
    /// - output: `[batch, num_classes]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x: Tensor<2> = images.flatten(1, 3);
        for (layer, dropout) in self.layers.iter().zip(&self.dropouts) {
            x = dropout.forward(self.relu.forward(layer.forward(x)));
        }
        self.output.forward(x)
    }
}
