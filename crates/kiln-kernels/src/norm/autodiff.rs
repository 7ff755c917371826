//! The hand-written backward: one operation in Burn's graph, whatever the backend below does with it.

use core::marker::PhantomData;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, TensorMetadata};

use super::{Affine, ChannelSpec, NormOps, RowSpec, plain};
use crate::graph::backward_to_parent;

/// What the two normalizations differ in.
trait Kind: Clone + Copy + core::fmt::Debug + Send + Sync + 'static {
    fn forward<B: NormOps>(
        self,
        x: FloatTensor<B>,
        affine: Affine<B>,
    ) -> (
        FloatTensor<B>,
        FloatTensor<B>,
        FloatTensor<B>,
        FloatTensor<B>,
    );
    fn backward<B: NormOps>(
        self,
        grad: FloatTensor<B>,
        state: State<B>,
    ) -> (FloatTensor<B>, Affine<B>);
}

impl Kind for RowSpec {
    fn forward<B: NormOps>(
        self,
        x: FloatTensor<B>,
        affine: Affine<B>,
    ) -> (
        FloatTensor<B>,
        FloatTensor<B>,
        FloatTensor<B>,
        FloatTensor<B>,
    ) {
        B::row_norm(x, affine, self)
    }

    fn backward<B: NormOps>(
        self,
        grad: FloatTensor<B>,
        s: State<B>,
    ) -> (FloatTensor<B>, Affine<B>) {
        B::row_norm_backward(grad, s.x, s.affine, s.mean, s.rstd, self)
    }
}

impl Kind for ChannelSpec {
    fn forward<B: NormOps>(
        self,
        x: FloatTensor<B>,
        affine: Affine<B>,
    ) -> (
        FloatTensor<B>,
        FloatTensor<B>,
        FloatTensor<B>,
        FloatTensor<B>,
    ) {
        B::channel_norm(x, affine, self)
    }

    fn backward<B: NormOps>(
        self,
        grad: FloatTensor<B>,
        s: State<B>,
    ) -> (FloatTensor<B>, Affine<B>) {
        B::channel_norm_backward(grad, s.x, s.affine, s.mean, s.rstd, self)
    }
}

/// What the backward needs of the forward.
#[derive(Clone, Debug)]
struct State<B: NormOps> {
    x: FloatTensor<B>,
    affine: Affine<B>,
    mean: FloatTensor<B>,
    rstd: FloatTensor<B>,
}

#[derive(Debug)]
struct NormBackward<K>(PhantomData<K>);

impl<B: NormOps, K: Kind, const N: usize> Backward<B, N> for NormBackward<K> {
    type State = (State<B>, K);

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let (state, kind) = ops.state;
        let (dx, affine) = kind.backward::<B>(grad, state);
        let (dweight, dbias) = match affine {
            Affine::None => (None, None),
            Affine::Weight(weight) => (Some(weight), None),
            Affine::Full(weight, bias) => (Some(weight), Some(bias)),
        };
        for (parent, gradient) in ops.parents.into_iter().zip([Some(dx), dweight, dbias]) {
            if let (Some(node), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

/// Of [`NormOps::channel_affine`] with respect to `x` alone.
#[derive(Debug)]
struct AffineBackward;

impl<B: NormOps> Backward<B, 1> for AffineBackward {
    type State = (FloatTensor<B>, ChannelSpec);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        backward_to_parent::<B, _>(ops, grads, |(scale, spec), grad| {
            let (shape, dtype) = (scale.shape(), scale.dtype());
            let zeros = B::float_zeros(shape, &scale.device(), dtype.into());
            B::channel_affine(grad, zeros.clone(), scale, zeros, spec)
        });
    }
}

type Outputs<B> = (
    FloatTensor<B>,
    FloatTensor<B>,
    FloatTensor<B>,
    FloatTensor<B>,
);

fn record<B: NormOps, C: CheckpointStrategy, K: Kind>(
    x: FloatTensor<Autodiff<B, C>>,
    affine: Affine<Autodiff<B, C>>,
    kind: K,
) -> Outputs<Autodiff<B, C>> {
    let x_node = x.node();
    let x = x.into_primitive();
    match affine {
        Affine::None => finish::<B, C, K, 1>([x_node], x, Affine::None, kind),
        Affine::Weight(weight) => {
            let nodes = [x_node, weight.node()];
            finish::<B, C, K, 2>(nodes, x, Affine::Weight(weight.into_primitive()), kind)
        }
        Affine::Full(weight, bias) => {
            let nodes = [x_node, weight.node(), bias.node()];
            let affine = Affine::Full(weight.into_primitive(), bias.into_primitive());
            finish::<B, C, K, 3>(nodes, x, affine, kind)
        }
    }
}

fn finish<B: NormOps, C: CheckpointStrategy, K: Kind, const N: usize>(
    nodes: [NodeGuard; N],
    x: FloatTensor<B>,
    affine: Affine<B>,
    kind: K,
) -> Outputs<Autodiff<B, C>> {
    let prepared = NormBackward(PhantomData::<K>)
        .prepare::<C>(nodes)
        .compute_bound()
        .stateful();
    let lift = <Autodiff<B, C> as AutodiffBackend>::from_inner;
    match prepared {
        OpsKind::Tracked(prep) => {
            let (y, mean, var, rstd) = kind.forward::<B>(x.clone(), affine.clone());
            let state = State {
                x,
                affine,
                mean: mean.clone(),
                rstd: rstd.clone(),
            };
            let y = prep.finish((state, kind), y);
            (y, lift(mean), lift(var), lift(rstd))
        }
        OpsKind::UnTracked(prep) => {
            let (y, mean, var, rstd) = kind.forward::<B>(x, affine);
            (prep.finish(y), lift(mean), lift(var), lift(rstd))
        }
    }
}

impl<B: NormOps, C: CheckpointStrategy> NormOps for Autodiff<B, C> {
    fn row_norm(x: FloatTensor<Self>, affine: Affine<Self>, spec: RowSpec) -> Outputs<Self> {
        record(x, affine, spec)
    }

    fn channel_norm(
        x: FloatTensor<Self>,
        affine: Affine<Self>,
        spec: ChannelSpec,
    ) -> Outputs<Self> {
        record(x, affine, spec)
    }

    fn channel_affine(
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        spec: ChannelSpec,
    ) -> FloatTensor<Self> {
        // Nothing to differentiate, or, in a frozen layer, only what flows through: the backend's own operation.
        // Otherwise Burn differentiates the plain body.
        if [&mean, &scale, &shift].iter().any(|t| t.is_tracked()) {
            return plain::channel_affine::<Self>(x, mean, scale, shift, spec);
        }
        let prepared = AffineBackward
            .prepare::<C>([x.node()])
            .compute_bound()
            .stateful();
        let (mean, scale) = (mean.into_primitive(), scale.into_primitive());
        let shift = shift.into_primitive();
        let y = B::channel_affine(x.into_primitive(), mean, scale.clone(), shift, spec);
        match prepared {
            OpsKind::Tracked(prep) => prep.finish((scale, spec), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
