//! A multilayer perceptron.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use crate::Activation;
use crate::layers::frozen_except;
use crate::pass::{Forward, Pass};

/// Configuration of an [`Mlp`].
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `input` | | values in one sample: channels × height × width |
/// | `num_classes` | | at least 1 |
/// | `hidden` | `[128]` | units of each hidden layer; empty makes it logistic regression |
/// | `dropout` | `[0.25]` | probability in `[0, 1)` after each hidden layer; the last one given serves the layers left |
/// | `activation` | ReLU | any [`Activation`] |
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
    /// The nonlinearity.
    pub activation: Activation,
}

impl MlpConfig {
    /// The defaults for samples of `input` values and `num_classes` classes.
    pub fn new(input: usize, num_classes: usize) -> Self {
        Self {
            input,
            num_classes,
            hidden: vec![128],
            dropout: vec![0.25],
            activation: Activation::Relu,
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
            activation: self.activation,
        }
    }
}

/// Fully connected layers, each followed by an activation and dropout, and a linear classifier.
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
    activation: Activation,
}

impl Mlp {
    /// Logits of a batch of images, which are flattened first.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch, channels, height, width]`
    /// - output: `[batch, num_classes]`
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.pass(&mut Forward, images)
    }

    /// One [pass](Pass) over the network.
    pub fn pass<P: Pass>(&self, p: &mut P, images: P::Maps) -> P::Vectors {
        let x = p.flatten(images);
        let x = self.hidden(p, x);
        p.linear("output", &self.output, x)
    }

    fn hidden<P: Pass>(&self, p: &mut P, x: P::Vectors) -> P::Vectors {
        let layers = self.layers.iter().zip(&self.dropouts).enumerate();
        layers.fold(x, |x, (i, (layer, dropout))| {
            let x = p.linear(&format!("layers.{i}"), layer, x);
            p.vectors(x, |x| dropout.forward(self.activation.forward(x)))
        })
    }

    /// The output of the hidden layers, as maps of 1×1.
    pub fn features(&self, images: Tensor<4>) -> Tensor<4> {
        let x = self.hidden(&mut Forward, images.flatten(1, 3));
        let [batch, units] = x.dims();
        x.reshape([batch, units, 1, 1])
    }

    /// All but the last layer frozen.
    pub fn freeze_backbone(self) -> Self {
        let head = |model: &Self| model.output.clone();
        frozen_except(self, head, |model, output| Self { output, ..model })
    }

    /// The same network with a freshly drawn last layer for another number of classes.
    pub fn with_new_head(self, num_classes: usize) -> Self {
        let weight = &self.output.weight;
        let output = LinearConfig::new(weight.lazy_shape()[0], num_classes);
        let output = output.init(&weight.lazy_device());
        Self { output, ..self }
    }
}
