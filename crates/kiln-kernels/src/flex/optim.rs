//! A step of Adam over the values of one parameter.

use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{DType, Tensor};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::simd::vectorized;
use crate::optim::AdamStep;

/// Values that a thread takes at once: with both moments and the gradient they fit the second cache.
const CHUNK: usize = 1 << 14;

type Given<const D: usize> = (Tensor<D>, Tensor<D>, Option<[Tensor<D>; 2]>);
type Done<const D: usize> = (Tensor<D>, [Tensor<D>; 2]);

/// What was given comes back unless all are f32 tensors of this backend.
#[allow(clippy::result_large_err)] // It is what was given, with which the caller goes on.
pub(crate) fn adam<const D: usize>(
    weight: Tensor<D>,
    grad: Tensor<D>,
    moments: Option<[Tensor<D>; 2]>,
    step: AdamStep,
) -> Result<Done<D>, Given<D>> {
    let all = [&weight, &grad].into_iter().chain(moments.iter().flatten());
    let ours = |tensor: &Tensor<D>| {
        tensor.dtype() == DType::F32 && tensor.clone().try_into_primitive::<Flex>().is_ok()
    };
    if !all.into_iter().all(ours) {
        return Err((weight, grad, moments));
    }
    let own = |tensor: Tensor<D>| -> FlexTensor {
        let tensor = tensor.try_into_primitive::<Flex>();
        tensor.expect("checked above").to_contiguous()
    };
    let (mut weight, grad) = (own(weight), own(grad));
    let first = moments.is_none();
    let [mut mean, mut square] = match moments {
        Some(moments) => moments.map(own),
        None => [(); 2].map(|()| {
            let zeros = vec![0.0f32; weight.shape().num_elements()];
            super::tensor(zeros, weight.shape())
        }),
    };
    // In place if nothing else holds a tensor, otherwise in a copy.
    let parts = weight
        .storage_mut::<f32>()
        .par_chunks_mut(CHUNK)
        .zip(grad.storage::<f32>().par_chunks(CHUNK))
        .zip(mean.storage_mut::<f32>().par_chunks_mut(CHUNK))
        .zip(square.storage_mut::<f32>().par_chunks_mut(CHUNK));
    let numbers = Numbers::of(step, first);
    parts.for_each(|(((weight, grad), mean), square)| {
        vectorized!(|| numbers.apply(weight, grad, mean, square))
    });
    let wrap = |tensor| Tensor::from_primitive::<Flex>(tensor);
    Ok((wrap(weight), [wrap(mean), wrap(square)]))
}

#[derive(Clone, Copy)]
struct Numbers {
    keep_mean: f32,
    new_mean: f32,
    keep_square: f32,
    new_square: f32,
    size: f32,
    eps: f32,
    l2: f32,
    keep: f32,
}

impl Numbers {
    fn of(step: AdamStep, first: bool) -> Self {
        let [beta1, beta2] = step.betas;
        let old = |beta: f64| if first { 0.0 } else { beta as f32 };
        Self {
            keep_mean: old(beta1),
            new_mean: (1.0 - beta1) as f32,
            keep_square: old(beta2),
            new_square: (1.0 - beta2) as f32,
            size: step.size as f32,
            eps: step.eps as f32,
            l2: step.l2 as f32,
            keep: step.keep as f32,
        }
    }

    #[inline(always)]
    fn apply(&self, weight: &mut [f32], grad: &[f32], mean: &mut [f32], square: &mut [f32]) {
        let len = weight.len();
        // Slices of one length: no bounds are checked in the loop, which becomes vector instructions.
        let (grad, mean, square) = (&grad[..len], &mut mean[..len], &mut square[..len]);
        for i in 0..len {
            let g = grad[i] + self.l2 * weight[i];
            mean[i] = mean[i] * self.keep_mean + g * self.new_mean;
            square[i] = square[i] * self.keep_square + g * g * self.new_square;
            let update = mean[i] / (square[i].sqrt() + self.eps) * self.size;
            weight[i] = weight[i] * self.keep - update;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, FloatDType};

    #[test]
    fn f32_of_this_backend_is_taken_and_anything_else_comes_back() {
        let step = AdamStep {
            betas: [0.9, 0.999],
            size: 0.1,
            eps: 1e-8,
            l2: 0.0,
            keep: 1.0,
        };
        let x = Tensor::<2>::ones([3, 4], &Device::flex());
        assert!(adam(x.clone(), x.clone(), None, step).is_ok());
        let double = x.clone().cast(FloatDType::F64);
        assert!(adam(double.clone(), double, None, step).is_err());
        assert!(adam(x.clone(), x.clone().cast(FloatDType::F16), None, step).is_err());
    }
}
