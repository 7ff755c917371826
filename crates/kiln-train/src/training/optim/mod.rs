//! Optimizers with PyTorch's numbers: SGD, Adam, AdamW, RMSprop.
//!
//! Burn has optimizers of these names. These differ in what a PyTorch user would notice (defaults,
//! and where `eps` is added), and in that their loaded state waits on the host until the first
//! step shows its device: Burn's would be placed on the default device, which on a machine
//! without a GPU does not exist.

mod state;

use burn::optim::{LearningRate, ModuleOptimizer, Optimizer};
use burn::tensor::{Device, Tensor};
use kiln_kernels::{AdamStep, adam};

use super::settings::{OptimizerName, OptimizerRecipe};
use state::State;

/// The optimizer a recipe asks for, ready for burn-train.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::Tensor;
/// use kiln_train::{OptimizerRecipe, optimizer};
/// # let device = kiln_testing::devices().remove(0).autodiff();
/// let linear = LinearConfig::new(2, 1).init(&device);
/// let before = linear.weight.val().try_into_vec_as::<f32>().unwrap()[0];
/// let loss = linear.forward(Tensor::<2>::ones([4, 2], &device)).mean();
/// let grads = GradientsParams::from_grads(loss.backward(), &linear);
/// let linear = optimizer(&OptimizerRecipe::default()).step(1e-3, linear, grads);
/// // Adam's first step is the learning rate against the sign of the gradient.
/// let expected = before - 1e-3;
/// assert!((linear.weight.val().try_into_vec_as::<f32>().unwrap()[0] - expected).abs() < 1e-6);
/// ```
pub fn optimizer(recipe: &OptimizerRecipe) -> ModuleOptimizer {
    let decay = |default: f64| recipe.weight_decay.unwrap_or(default);
    let betas = recipe.betas.unwrap_or([0.9, 0.999]);
    let eps = recipe.eps.unwrap_or(1e-8);
    let momentum = recipe.momentum.unwrap_or(0.0);
    match recipe.name {
        OptimizerName::Sgd => ModuleOptimizer::from(Sgd {
            momentum,
            dampening: recipe.dampening.unwrap_or(0.0),
            nesterov: recipe.nesterov.unwrap_or(false),
            weight_decay: decay(0.0),
        }),
        OptimizerName::Adam => ModuleOptimizer::from(Adam {
            betas,
            eps,
            decay: Decay::L2(decay(0.0)),
        }),
        OptimizerName::AdamW => ModuleOptimizer::from(Adam {
            betas,
            eps,
            decay: Decay::Decoupled(decay(0.01)),
        }),
        OptimizerName::RmsProp => ModuleOptimizer::from(RmsProp {
            alpha: recipe.alpha.unwrap_or(0.99),
            eps,
            momentum,
            centered: recipe.centered.unwrap_or(false),
            weight_decay: decay(0.0),
        }),
    }
}

/// `v = momentum · v + (1 - dampening) · g`, then `w = w - lr · v`.
#[derive(Clone)]
struct Sgd {
    momentum: f64,
    dampening: f64,
    nesterov: bool,
    weight_decay: f64,
}

impl Optimizer for Sgd {
    type State<const D: usize> = State<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<State<D>>,
    ) -> (Tensor<D>, Option<State<D>>) {
        let grad = l2(grad, &tensor, self.weight_decay);
        if self.momentum == 0.0 {
            return (tensor - grad * lr, None);
        }
        let velocity = match State::place(state, &tensor) {
            // PyTorch's first velocity is the gradient itself, undampened.
            None => grad.clone(),
            Some((_, [velocity])) => {
                velocity * self.momentum + grad.clone() * (1.0 - self.dampening)
            }
        };
        let direction = match self.nesterov {
            true => grad + velocity.clone() * self.momentum,
            false => velocity.clone(),
        };
        (tensor - direction * lr, Some(State::new(0, [velocity])))
    }

    fn to_device<const D: usize>(state: State<D>, device: &Device) -> State<D> {
        state.moved_to(device)
    }
}

#[derive(Clone, Copy)]
enum Decay {
    /// Added to the gradient.
    L2(f64),
    /// Taken off the weights ([Loshchilov and Hutter 2019](https://arxiv.org/abs/1711.05101)).
    Decoupled(f64),
}

/// [Kingma and Ba 2015](https://arxiv.org/abs/1412.6980).
#[derive(Clone)]
struct Adam {
    betas: [f64; 2],
    eps: f64,
    decay: Decay,
}

impl Optimizer for Adam {
    type State<const D: usize> = State<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<State<D>>,
    ) -> (Tensor<D>, Option<State<D>>) {
        let [beta1, beta2] = self.betas;
        let (steps, moments) = match State::place(state, &tensor) {
            None => (1, None),
            Some((steps, moments)) => (steps + 1, Some(moments)),
        };
        let (l2, keep) = match self.decay {
            Decay::L2(decay) => (decay, 1.0),
            Decay::Decoupled(decay) => (0.0, 1.0 - lr * decay),
        };
        // lr / c1 · m / (sqrt(v) / root + eps), with the scalars gathered.
        let correction = |beta: f64| 1.0 - beta.powf(steps as f64);
        let root = correction(beta2).sqrt();
        let step = AdamStep {
            betas: self.betas,
            size: lr / correction(beta1) * root,
            eps: self.eps * root,
            l2,
            keep,
        };
        let (tensor, moments) = adam(tensor, grad, moments, step);
        (tensor, Some(State::new(steps, moments)))
    }

    fn to_device<const D: usize>(state: State<D>, device: &Device) -> State<D> {
        state.moved_to(device)
    }
}

/// [Hinton's lecture 6e](https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf),
/// centered as in [Graves 2013](https://arxiv.org/abs/1308.0850).
#[derive(Clone)]
struct RmsProp {
    alpha: f64,
    eps: f64,
    momentum: f64,
    centered: bool,
    weight_decay: f64,
}

impl Optimizer for RmsProp {
    type State<const D: usize> = State<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<State<D>>,
    ) -> (Tensor<D>, Option<State<D>>) {
        let grad = l2(grad, &tensor, self.weight_decay);
        // Square, mean (if centered) and velocity (if there is momentum), in this order.
        let mut old = State::place_all(state, &tensor.device());
        let mut blend = |new: Tensor<D>, keep: f64| match old.next() {
            Some(old) => old * keep + new,
            None => new,
        };
        let rest = 1.0 - self.alpha;
        let square = blend(grad.clone().square() * rest, self.alpha);
        let mut state = vec![square.clone()];
        let mut variance = square;
        if self.centered {
            let mean = blend(grad.clone() * rest, self.alpha);
            variance = variance - mean.clone().square();
            state.push(mean);
        }
        let mut update = grad / (variance.sqrt() + self.eps);
        if self.momentum > 0.0 {
            update = blend(update, self.momentum);
            state.push(update.clone());
        }
        (tensor - update * lr, Some(State::from_tensors(0, state)))
    }

    fn to_device<const D: usize>(state: State<D>, device: &Device) -> State<D> {
        state.moved_to(device)
    }
}

fn l2<const D: usize>(grad: Tensor<D>, weights: &Tensor<D>, decay: f64) -> Tensor<D> {
    match decay == 0.0 {
        true => grad,
        false => grad + weights.clone() * decay,
    }
}

#[cfg(test)]
mod tests;
