//! Gradients with less memory: activations computed again instead of kept.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Gradients, Tensor};

use crate::{CifarDenseNet, Classifier, DenseNet};

/// A part of a network from feature maps to feature maps.
pub(crate) type Segment<'a> = Box<dyn Fn(Tensor<4>) -> Tensor<4> + 'a>;

/// A network that can be computed part by part.
pub(crate) trait Segmented: Module {
    /// All but the head, in order.
    fn segments(&self) -> Vec<Segment<'_>>;
    /// The head.
    fn classify(&self, x: Tensor<4>) -> Tensor<2>;
}

impl DenseNet {
    /// Loss and gradients of a training step, with the activations of a few layers in memory at a time: the memory-saving
    /// DenseNet ([Pleiss et al. 2017](https://arxiv.org/abs/1707.06990)), `memory_efficient=True` in torchvision.
    ///
    /// The concatenations make a DenseNet's memory grow with the square of its depth. Here the forward pass keeps the feature
    /// maps after every fourth layer and each transition only; the backward pass computes what lies between them once more, so a
    /// step costs about a third more time. Loss and gradients are those of
    /// `loss(model.forward(images)).backward()`. Unlike torchvision's, the second computation does not move the running
    /// statistics a second time.
    ///
    /// # Panics
    ///
    /// If the network is not on an autodiff device, or has dropout: the second computation would draw other masks.
    ///
    /// ```
    /// use burn::tensor::{Distribution, Tensor};
    /// use kiln_zoo::DenseNetConfig;
    /// # let device = kiln_testing::devices().remove(0);
    /// let device = device.autodiff();
    /// let model = DenseNetConfig::new(4, [2, 2, 2, 2], 8).init(&device)?;
    /// let images = Tensor::random([2, 3, 64, 64], Distribution::Default, &device);
    /// let (loss, gradients) = model.backward_saving_memory(images, |logits| logits.powi_scalar(2).mean());
    /// // model = optimizer.step(learning_rate, model, gradients);
    /// assert!(loss.into_scalar::<f32>() > 0.0);
    /// assert!(!gradients.is_empty());
    /// # Ok::<(), kiln_norm::NormError>(())
    /// ```
    pub fn backward_saving_memory(
        &self,
        images: Tensor<4>,
        loss: impl FnOnce(Tensor<2>) -> Tensor<1>,
    ) -> (Tensor<1>, GradientsParams) {
        backward(self, images, loss)
    }
}

impl CifarDenseNet {
    /// As [`DenseNet::backward_saving_memory`].
    ///
    /// # Panics
    ///
    /// As there.
    pub fn backward_saving_memory(
        &self,
        images: Tensor<4>,
        loss: impl FnOnce(Tensor<2>) -> Tensor<1>,
    ) -> (Tensor<1>, GradientsParams) {
        backward(self, images, loss)
    }
}

impl Classifier {
    /// Loss and gradients of a training step: for a DenseNet with less memory, as
    /// [`DenseNet::backward_saving_memory`] has it, for all others as `loss(model.forward(images)).backward()` does.
    ///
    /// # Panics
    ///
    /// As there.
    pub fn backward_saving_memory(
        &self,
        images: Tensor<4>,
        loss: impl FnOnce(Tensor<2>) -> Tensor<1>,
    ) -> (Tensor<1>, GradientsParams) {
        match self {
            Self::DenseNet(model) => backward(model, images, loss),
            Self::CifarDenseNet(model) => backward(model, images, loss),
            other => {
                let loss = loss(other.forward(images));
                let gradients = GradientsParams::from_grads(loss.backward(), other);
                (loss, gradients)
            }
        }
    }
}

fn backward<M: Segmented>(
    model: &M,
    images: Tensor<4>,
    loss: impl FnOnce(Tensor<2>) -> Tensor<1>,
) -> (Tensor<1>, GradientsParams) {
    assert!(
        images.device().is_autodiff(),
        "gradients need an autodiff device: put the images and the model on device.autodiff()"
    );
    // A clone has running statistics of its own, and without gradients nothing is kept for a backward pass.
    let untracked = model.clone().no_grad();
    let mut inputs = vec![images.detach()];
    for segment in untracked.segments() {
        let x = inputs.last().expect("the images").clone();
        inputs.push(segment(x).detach());
    }
    drop(untracked);

    let mut all = GradientsParams::new();
    let features = inputs.pop().expect("the last output").require_grad();
    let loss = loss(model.classify(features.clone()));
    let mut gradients = loss.clone().backward();
    let loss = loss.detach();
    collect(model, &gradients, &mut all);
    let mut upstream = features.grad_remove(&mut gradients);
    drop(features);
    for segment in model.segments().into_iter().rev() {
        let x = inputs
            .pop()
            .expect("an input for each segment")
            .require_grad();
        let Some(gradient) = upstream.take() else {
            break;
        };
        let output = segment(x.clone());
        // The derivative of this sum by anything in the segment is the derivative of the loss.
        let sum = (output * Tensor::from_inner(gradient)).sum();
        let mut gradients = sum.backward();
        collect(model, &gradients, &mut all);
        upstream = x.grad_remove(&mut gradients);
    }
    (loss, all)
}

/// Adds the gradients of those parameters that have one.
fn collect<M: Module>(model: &M, gradients: &Gradients, all: &mut GradientsParams) {
    struct Collect<'a> {
        gradients: &'a Gradients,
        all: &'a mut GradientsParams,
    }
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = param.val().grad(self.gradients) {
                self.all.register(param.id, gradient);
            }
        }
    }
    model.visit(&mut Collect { gradients, all });
}
