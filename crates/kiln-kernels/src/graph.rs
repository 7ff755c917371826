//! What every door and every backward of this crate shares.

use burn::backend::Backend;
#[cfg(any(feature = "flex", feature = "cubecl"))]
use burn::backend::DispatchTensorKind;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::Ops;
use burn::backend::tensor::FloatTensor;

/// The backend that computes, below autodiff. A generated dispatch panics on a backend that it does not list, so doors ask
/// first.
#[cfg(any(feature = "flex", feature = "cubecl"))]
pub(crate) fn below_autodiff(kind: &DispatchTensorKind) -> &DispatchTensorKind {
    match kind {
        DispatchTensorKind::Autodiff(inner) => below_autodiff(inner),
        other => other,
    }
}

/// The backward of an operation with one parent: its gradient from the operation's state and that of its output.
pub(crate) fn backward_to_parent<B: Backend, S>(
    ops: Ops<S, 1>,
    grads: &mut Gradients,
    gradient: impl FnOnce(S, FloatTensor<B>) -> FloatTensor<B>,
) {
    let grad = grads.consume::<B>(&ops.node);
    let [parent] = ops.parents;
    if let Some(node) = parent {
        grads.register::<B>(node.id, gradient(ops.state, grad));
    }
}
