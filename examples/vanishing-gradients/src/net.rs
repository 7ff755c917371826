//! The networks.

use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{Device, Tensor};

/// What is between two layers.
#[derive(Clone, Copy, Debug)]
pub enum Style {
    Sigmoid,
    Relu,
    /// `x + relu(layer(x))`: the gradient has a way around each layer.
    Residual,
}

const DEPTH: usize = 20;
const WIDTH: usize = 16;

#[derive(Module, Debug)]
pub struct Mlp {
    input: Linear,
    hidden: Vec<Linear>,
    output: Linear,
    #[module(skip)]
    style: Style,
}

impl Mlp {
    pub fn new(style: Style, device: &Device) -> Self {
        // PyTorch's default for a linear layer, U(-1/sqrt(in), 1/sqrt(in)), which is Burn's too.
        let linear = |inputs, outputs| LinearConfig::new(inputs, outputs).init(device);
        Self {
            input: linear(2, WIDTH),
            hidden: (0..DEPTH).map(|_| linear(WIDTH, WIDTH)).collect(),
            output: linear(WIDTH, 2),
            style,
        }
    }

    /// `[batch, 2]` to logits `[batch, 2]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let mut x = self.input.forward(x);
        for layer in &self.hidden {
            x = match self.style {
                Style::Sigmoid => sigmoid(layer.forward(x)),
                Style::Relu => relu(layer.forward(x)),
                Style::Residual => x.clone() + relu(layer.forward(x)),
            };
        }
        self.output.forward(x)
    }
}

/// `h = W h + U x` without an activation, so that nothing keeps it in bounds.
#[derive(Module, Debug)]
pub struct Rnn {
    state: Param<Tensor<2>>,
    input: Linear,
    output: Linear,
}

impl Rnn {
    pub fn new(device: &Device) -> Self {
        // Orthogonal, times 1.15: each step back in time makes the gradient longer by that.
        Self {
            state: Initializer::Orthogonal { gain: 1.15 }.init([WIDTH, WIDTH], device),
            input: LinearConfig::new(1, WIDTH).init(device),
            output: LinearConfig::new(WIDTH, 1).init(device),
        }
    }

    /// `[batch, steps]` to `[batch, 1]`, and for each step a zero added to the state, whose gradient is the state's.
    pub fn forward(&self, x: Tensor<2>) -> (Tensor<2>, Vec<Tensor<2>>) {
        let [batch, steps] = x.dims();
        let mut state = Tensor::zeros([batch, WIDTH], &x.device());
        let mut zeros = Vec::new();
        for step in 0..steps {
            let input = self
                .input
                .forward(x.clone().slice([0..batch, step..step + 1]));
            let zero = Tensor::zeros([batch, WIDTH], &x.device()).require_grad();
            state = state.matmul(self.state.val()) + input + zero.clone();
            zeros.push(zero);
        }
        (self.output.forward(state), zeros)
    }
}
