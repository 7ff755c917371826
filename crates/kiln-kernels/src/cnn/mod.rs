//! The layers of a convolutional network besides its normalization: convolution, maximum pooling, ReLU.

#[cfg(feature = "flex")]
mod ops;

#[cfg(feature = "flex")]
use burn::backend::{Dispatch, DispatchTensorKind};
#[cfg(feature = "flex")]
use burn::tensor::DType;
use burn::tensor::Tensor;
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};

#[cfg(feature = "flex")]
use crate::graph::below_autodiff;
#[cfg(feature = "flex")]
pub use ops::{CnnOps, PoolSpec};

/// A 2D convolution (`torch.nn.functional.conv2d`), differentiable in all its tensors.
///
/// On `flex`, `f32` images and weights of one group take kernels of this crate, whose gradients cost about what the
/// forward pass does; everything else is [Burn's own convolution](burn::tensor::module::conv2d).
///
/// # Shapes
///
/// - `x`: `[batch, channels_in, height, width]`
/// - `weight`: `[channels_out, channels_in / groups, kernel_height, kernel_width]`
/// - `bias`: `[channels_out]`
/// - output: `[batch, channels_out, height_out, width_out]`
///
/// # Panics
///
/// If the shapes do not fit each other, or the kernel does not fit the padded image.
///
/// # Example
///
/// ```
/// use burn::tensor::{Tensor, ops::ConvOptions};
/// use kiln_kernels::conv2d;
/// # let device = kiln_testing::devices().remove(0);
/// let image = Tensor::<4>::ones([1, 1, 3, 3], &device);
/// let kernel = Tensor::<4>::ones([1, 1, 3, 3], &device);
/// let y = conv2d(image, kernel, None, ConvOptions::new([1, 1], [1, 1], [1, 1], 1));
/// assert_eq!(y.try_into_vec_as::<f32>().unwrap(), [4., 6., 4., 6., 9., 6., 4., 6., 4.]);
/// ```
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if conv_has_kernel(&x, &weight, &bias, &options) {
        let weights = match bias {
            Some(bias) => crate::Affine::Full(weight.into_dispatch(), bias.into_dispatch()),
            None => crate::Affine::Weight(weight.into_dispatch()),
        };
        let y = <Dispatch as CnnOps>::fused_conv2d(x.into_dispatch(), weights, options);
        return Tensor::from_dispatch(y);
    }
    burn::tensor::module::conv2d(x, weight, bias, options)
}

/// Maximum pooling (`torch.nn.functional.max_pool2d`), differentiable. Among equal values of a window the first takes
/// the gradient.
///
/// On `flex`, `f32` images padded alike on both sides, without dilation and ceiling mode, take kernels of this crate, for
/// which NaN in a window is its maximum, as in PyTorch; everything else is
/// [Burn's own pooling](burn::tensor::module::max_pool2d).
///
/// # Shapes
///
/// - `x`: `[batch, channels, height, width]`
/// - output: `[batch, channels, height_out, width_out]`
///
/// # Example
///
/// ```
/// use burn::tensor::{Tensor, ops::MaxPoolOptions};
/// use kiln_kernels::max_pool2d;
/// # let device = kiln_testing::devices().remove(0);
/// let x = Tensor::<1>::from_floats([1., 2., 3., 4.], &device).reshape([1, 1, 2, 2]);
/// assert_eq!(max_pool2d(x, MaxPoolOptions::new([2, 2])).into_scalar::<f32>(), 4.0);
/// ```
pub fn max_pool2d(x: Tensor<4>, options: MaxPoolOptions<2>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if let Some(spec) = PoolSpec::of(&options, x.dims())
        && is_f32_on_flex(&x)
    {
        return Tensor::from_dispatch(<Dispatch as CnnOps>::fused_max_pool2d(
            x.into_dispatch(),
            spec,
        ));
    }
    burn::tensor::module::max_pool2d(x, options)
}

/// The rectified linear unit, `max(x, 0)`, differentiable; NaN stays NaN, and the gradient at 0 is 0 as in PyTorch.
///
/// On `flex`, `f32` tensors are computed by all threads, in place where nothing else holds them; everything else is
/// [Burn's own](burn::tensor::activation::relu).
///
/// ```
/// use burn::tensor::Tensor;
/// # let device = kiln_testing::devices().remove(0);
/// let x = Tensor::<1>::from_floats([-1.0, 2.0], &device);
/// assert_eq!(kiln_kernels::relu(x).try_into_vec_as::<f32>().unwrap(), [0.0, 2.0]);
/// ```
pub fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if is_f32_on_flex(&x) {
        return Tensor::from_dispatch(<Dispatch as CnnOps>::fused_relu(x.into_dispatch()));
    }
    burn::tensor::activation::relu(x)
}

/// Whether the generated dispatch, which knows no other backend, and the kernels take it.
#[cfg(feature = "flex")]
fn is_f32_on_flex<const D: usize>(x: &Tensor<D>) -> bool {
    let kind = &x.clone().into_dispatch().kind;
    x.dtype() == DType::F32 && matches!(below_autodiff(kind), DispatchTensorKind::Flex(_))
}

/// What does not fit is left to Burn, whose errors say why.
#[cfg(feature = "flex")]
fn conv_has_kernel(
    x: &Tensor<4>,
    weight: &Tensor<4>,
    bias: &Option<Tensor<1>>,
    options: &ConvOptions<2>,
) -> bool {
    let [_, channels, height, width] = x.dims();
    let [out, from, kh, kw] = weight.dims();
    let fits = |size: usize, axis: usize, kernel: usize| {
        let (begin, end) = options.padding[axis];
        size + begin + end > options.dilation[axis] * (kernel - 1)
    };
    x.shape().num_elements() > 0
        && weight.shape().num_elements() > 0
        && options.groups == 1
        && channels == from
        && fits(height, 0, kh)
        && fits(width, 1, kw)
        && is_f32_on_flex(x)
        && is_f32_on_flex(weight)
        && bias
            .as_ref()
            .is_none_or(|bias| bias.dims() == [out] && is_f32_on_flex(bias))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, FloatDType};

    #[test]
    fn flex_takes_the_kernels_and_what_they_are_not_for_is_left_to_burn() {
        let options = |groups| ConvOptions::new([1, 1], [1, 1], [1, 1], groups);
        for device in [Device::flex(), Device::flex().autodiff()] {
            let x = Tensor::<4>::zeros([2, 4, 5, 5], &device);
            let weight = Tensor::<4>::zeros([6, 4, 3, 3], &device);
            let bias = Some(Tensor::<1>::zeros([6], &device));
            assert!(conv_has_kernel(&x, &weight, &bias, &options(1)));
            assert!(conv_has_kernel(&x, &weight, &None, &options(1)));
            let grouped = weight.clone().slice([0..6, 0..2]);
            assert!(!conv_has_kernel(&x, &grouped, &bias, &options(2)));
            let double = weight.cast(FloatDType::F64);
            assert!(!conv_has_kernel(&x, &double, &None, &options(1)));
            assert!(is_f32_on_flex(&x));
            assert!(!is_f32_on_flex(&x.cast(FloatDType::F64)));
        }
        let pool = MaxPoolOptions::new([3, 3]).with_stride([2, 2]);
        let padded = pool.clone().with_padding_pairs([(1, 1), (1, 1)]);
        assert!(PoolSpec::of(&padded, [1, 1, 5, 5]).is_some());
        let uneven = pool.clone().with_padding_pairs([(0, 1), (1, 1)]);
        for other in [
            uneven,
            pool.clone().with_ceil_mode(true),
            pool.with_dilation([2, 2]),
        ] {
            assert!(PoolSpec::of(&other, [1, 1, 5, 5]).is_none());
        }
    }
}
