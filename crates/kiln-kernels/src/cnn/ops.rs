//! The backend extension, and the backward of each operation as one in Burn's graph.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, backend_extension};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};

use crate::Affine;
use crate::graph::backward_to_parent;

/// The windows of a maximum pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// From one window to the next.
    pub stride: [usize; 2],
    /// On both sides of each axis; less than the window.
    pub padding: [usize; 2],
}

impl PoolSpec {
    /// None if the options are not what the kernels are for, or no window fits into images `[_, _, height, width]`.
    pub(super) fn of(options: &MaxPoolOptions<2>, x: [usize; 4]) -> Option<Self> {
        let padding = options.padding.map(|(begin, _)| begin);
        let fits = [0, 1].into_iter().all(|axis| {
            let kernel = options.kernel_size[axis];
            let (begin, end) = options.padding[axis];
            begin == end && begin < kernel && x[axis + 2] + 2 * begin >= kernel
        });
        let plain = options.dilation == [1, 1] && !options.ceil_mode;
        (plain && fits && x.iter().all(|&size| size > 0)).then_some(Self {
            kernel: options.kernel_size,
            stride: options.stride,
            padding,
        })
    }
}

/// The layers of a convolutional network as operations of a backend. The default bodies are Burn's.
///
/// Use [`conv2d`](crate::conv2d), [`max_pool2d`](crate::max_pool2d) and [`relu`](crate::relu) on tensors; they also serve
/// backends that are not listed here.
#[backend_extension(Flex, Autodiff)]
pub trait CnnOps: Backend {
    /// The convolution of `x` with a weight and, if there is one, a bias.
    fn fused_conv2d(
        x: FloatTensor<Self>,
        #[extension_type] weights: Affine<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        match weights {
            Affine::Full(weight, bias) => Self::conv2d(x, weight, Some(bias), options),
            Affine::Weight(weight) => Self::conv2d(x, weight, None, options),
            Affine::None => panic!("a convolution has a weight"),
        }
    }

    /// The gradient of the images.
    fn fused_conv2d_x_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        Self::conv2d_x_backward(x, weight, grad, options)
    }

    /// The gradient of the weight.
    fn fused_conv2d_weight_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        Self::conv2d_weight_backward(x, weight, grad, options)
    }

    /// The gradient of the bias.
    fn fused_conv2d_bias_backward(
        x: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::conv2d_bias_backward(x, bias, grad)
    }

    /// The largest value of each window.
    fn fused_max_pool2d(x: FloatTensor<Self>, spec: PoolSpec) -> FloatTensor<Self> {
        Self::max_pool2d(x, spec.kernel, spec.stride, spec.padding, [1, 1], false)
    }

    /// The gradient of the images: each window's at its largest value.
    fn fused_max_pool2d_backward(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        spec: PoolSpec,
    ) -> FloatTensor<Self> {
        let PoolSpec {
            kernel,
            stride,
            padding,
        } = spec;
        let dtype = burn::tensor::IntDType::I64;
        let forward =
            Self::max_pool2d_with_indices(x.clone(), kernel, stride, padding, [1, 1], false, dtype);
        let indices = forward.indices;
        Self::max_pool2d_with_indices_backward(
            x,
            kernel,
            stride,
            padding,
            [1, 1],
            false,
            grad,
            indices,
        )
        .x_grad
    }

    /// max(x, 0).
    fn fused_relu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::relu(x)
    }

    /// The gradient where the output is not 0.
    fn fused_relu_backward(
        output: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::relu_backward(output, grad)
    }
}

#[derive(Clone, Debug)]
struct Conv<B: CnnOps> {
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    options: ConvOptions<2>,
}

#[derive(Debug)]
struct ConvBackward;

impl<B: CnnOps, const N: usize> Backward<B, N> for ConvBackward {
    type State = Conv<B>;

    fn backward(
        self,
        ops: Ops<Conv<B>, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let Conv {
            x,
            weight,
            bias,
            options,
        } = ops.state;
        // Parents in the order of `fused_conv2d`; one that is not tracked is none, and costs nothing.
        for (i, node) in ops.parents.into_iter().enumerate() {
            let Some(node) = node else { continue };
            let (x, weight, grad) = (x.clone(), weight.clone(), grad.clone());
            let gradient = match (i, &bias) {
                (0, _) => B::fused_conv2d_x_backward(x, weight, grad, options.clone()),
                (1, _) => B::fused_conv2d_weight_backward(x, weight, grad, options.clone()),
                (_, Some(bias)) => B::fused_conv2d_bias_backward(x, bias.clone(), grad),
                (_, None) => unreachable!("a third parent is the bias"),
            };
            grads.register::<B>(node.id, gradient);
        }
    }
}

fn record_conv<B: CnnOps, C: CheckpointStrategy, const N: usize>(
    nodes: [NodeGuard; N],
    x: FloatTensor<B>,
    weights: Affine<B>,
    options: ConvOptions<2>,
) -> FloatTensor<Autodiff<B, C>> {
    let prepared = ConvBackward.prepare::<C>(nodes).compute_bound().stateful();
    match prepared {
        OpsKind::Tracked(prep) => {
            let (weight, bias) = match weights.clone() {
                Affine::Full(weight, bias) => (weight, Some(bias)),
                Affine::Weight(weight) => (weight, None),
                Affine::None => panic!("a convolution has a weight"),
            };
            let y = B::fused_conv2d(x.clone(), weights, options.clone());
            let state = Conv {
                x,
                weight,
                bias,
                options,
            };
            prep.finish(state, y)
        }
        OpsKind::UnTracked(prep) => prep.finish(B::fused_conv2d(x, weights, options)),
    }
}

#[derive(Debug)]
struct PoolBackward;

impl<B: CnnOps> Backward<B, 1> for PoolBackward {
    type State = (FloatTensor<B>, PoolSpec);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        backward_to_parent::<B, _>(ops, grads, |(x, spec), grad| {
            B::fused_max_pool2d_backward(x, grad, spec)
        });
    }
}

#[derive(Debug)]
struct ReluBackward;

impl<B: CnnOps> Backward<B, 1> for ReluBackward {
    type State = FloatTensor<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        backward_to_parent::<B, _>(ops, grads, B::fused_relu_backward);
    }
}

impl<B: CnnOps, C: CheckpointStrategy> CnnOps for Autodiff<B, C> {
    fn fused_conv2d(
        x: FloatTensor<Self>,
        weights: Affine<Self>,
        options: ConvOptions<2>,
    ) -> FloatTensor<Self> {
        let x_node = x.node();
        let x = x.into_primitive();
        match weights {
            Affine::Full(weight, bias) => {
                let nodes = [x_node, weight.node(), bias.node()];
                let weights = Affine::Full(weight.into_primitive(), bias.into_primitive());
                record_conv::<B, C, 3>(nodes, x, weights, options)
            }
            Affine::Weight(weight) => {
                let nodes = [x_node, weight.node()];
                let weights = Affine::Weight(weight.into_primitive());
                record_conv::<B, C, 2>(nodes, x, weights, options)
            }
            Affine::None => panic!("a convolution has a weight"),
        }
    }

    fn fused_max_pool2d(x: FloatTensor<Self>, spec: PoolSpec) -> FloatTensor<Self> {
        let prepared = PoolBackward
            .prepare::<C>([x.node()])
            .compute_bound()
            .stateful();
        let x = x.into_primitive();
        match prepared {
            OpsKind::Tracked(prep) => {
                let y = B::fused_max_pool2d(x.clone(), spec);
                prep.finish((x, spec), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::fused_max_pool2d(x, spec)),
        }
    }

    fn fused_relu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = ReluBackward
            .prepare::<C>([x.node()])
            .compute_bound()
            .stateful();
        let y = B::fused_relu(x.into_primitive());
        match prepared {
            OpsKind::Tracked(prep) => prep.finish(y.clone(), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
