//! Norms over all gradients, and clipping by them.

use burn::backend::{DispatchTensor, TensorMetadata};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, FloatDType, Tensor};

use crate::grads::{self, Grad};
use kiln_kernels::multi_tensor;

use crate::{ClipError, NormType};

/// The norm of all gradients together, `[1]`: `torch.nn.utils.get_total_norm`.
///
/// It is the norm over all values of all gradients as if they were one vector, accumulated in f32 (f64 if all
/// gradients are f64) without overflow or underflow in between: f16 gradients and gradients of 1e30 have a finite
/// norm. It stays on the device (the first gradient's, if they are on several): nothing is read back.
///
/// Parameters without a gradient are left out; with none at all the norm is 0. NaN anywhere gives NaN, else an
/// infinity gives infinity.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::Tensor;
/// use kiln_clip::{NormType, total_norm};
/// # let device = kiln_testing::devices().remove(0).autodiff();
/// let linear = LinearConfig::new(2, 1).with_bias(false).init(&device);
/// let loss = linear.forward(Tensor::<2>::from_floats([[3.0, 4.0]], &device)).sum();
/// let grads = GradientsParams::from_grads(loss.backward(), &linear);
/// let norm = total_norm(&grads, &linear, NormType::L2);
/// assert_eq!(norm.try_into_vec_as::<f32>().unwrap(), [5.0]);
/// ```
#[doc(alias = "get_total_norm")]
pub fn total_norm<M: Module>(
    grads: &GradientsParams,
    module: &M,
    norm_type: NormType,
) -> Tensor<1> {
    norm_of(&grads::borrow(grads, module), norm_type)
        .unwrap_or_else(|| Tensor::zeros([1], &grads::device_of(module)))
}

/// Clips all gradients by their **global** norm and returns that norm as it was before, `[1]`:
/// `torch.nn.utils.clip_grad_norm_` ([Pascanu et al. 2013](https://arxiv.org/abs/1211.5063)).
///
/// With `norm` the norm over all gradients together, every gradient is multiplied by
/// `min(1, max_norm / (norm + 1e-6))`. The direction of the step stays, only its length changes; this is what papers mean by
/// gradient clipping. Burn's own `GradientClipping::Norm` clips each parameter by itself and turns the direction;
/// that is [`clip_grad_norm_per_parameter`].
///
/// Nothing is read back: the norm is a tensor on the device, computed as [`total_norm`] does, and the device is not
/// waited for. A norm that is NaN makes every gradient NaN; an infinite one makes finite gradients 0 and infinite ones
/// NaN, as in PyTorch. [`ClipGradNorm`] has the choices: an error instead, or to skip the step on the device.
///
/// Gradients may be on several devices. With gradient accumulation, clip once what the accumulator gives.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::Tensor;
/// use kiln_clip::{NormType, clip_grad_norm};
/// # let device = kiln_testing::devices().remove(0).autodiff();
/// let linear = LinearConfig::new(2, 1).with_bias(false).init(&device);
/// let loss = linear.forward(Tensor::<2>::from_floats([[3.0, 4.0]], &device)).sum();
/// let mut grads = GradientsParams::from_grads(loss.backward(), &linear);
/// let norm = clip_grad_norm(&mut grads, &linear, 1.0, NormType::L2);
/// assert_eq!(norm.try_into_vec_as::<f32>().unwrap(), [5.0]);
/// let clipped = grads.get::<2>(linear.weight.id).unwrap().try_into_vec_as::<f32>().unwrap();
/// assert!((clipped[0] - 0.6).abs() < 1e-6 && (clipped[1] - 0.8).abs() < 1e-6);
/// ```
#[doc(alias = "clip_grad_norm_")]
pub fn clip_grad_norm<M: Module>(
    grads: &mut GradientsParams,
    module: &M,
    max_norm: f64,
    norm_type: NormType,
) -> Tensor<1> {
    let mut list = grads::take(grads, module);
    let norm = norm_of(&list, norm_type);
    if let Some(norm) = &norm {
        list = scale_all(list, &coefficient(norm, max_norm), false);
    }
    grads::give(grads, list);
    norm.unwrap_or_else(|| Tensor::zeros([1], &grads::device_of(module)))
}

/// Multiplies every gradient by `min(1, max_norm / (total_norm + 1e-6))`: `torch.nn.utils.clip_grads_with_norm_`.
///
/// For a norm that is known already, or that is of something else: of several modules together, or of all
/// processes of a distributed run. `total_norm` is `[1]`.
#[doc(alias = "clip_grads_with_norm_")]
pub fn clip_grads_with_norm<M: Module>(
    grads: &mut GradientsParams,
    module: &M,
    max_norm: f64,
    total_norm: &Tensor<1>,
) {
    let list = grads::take(grads, module);
    let list = scale_all(list, &coefficient(total_norm, max_norm), false);
    grads::give(grads, list);
}

/// Clips **each parameter's** gradient by its own norm and returns these norms as they were before, in the order of the
/// module's fields, `[gradients]` (`[0]` without any).
///
/// This is what Burn's `GradientClipping::Norm` does. It is not `clip_grad_norm_`: a network of n parameters may still take a
/// step of `sqrt(n) · max_norm`, and since parameters shrink by different factors the step changes its direction. The
/// factor is that of [`clip_grad_norm`], so a norm that equals `max_norm` is still multiplied by `1 / (1 + 1e-6)`.
///
/// The norms of gradients on several devices are given on the first one's.
pub fn clip_grad_norm_per_parameter<M: Module>(
    grads: &mut GradientsParams,
    module: &M,
    max_norm: f64,
    norm_type: NormType,
) -> Tensor<1> {
    let mut list = grads::take(grads, module);
    let norms = norms_of(&list, norm_type);
    if let Some(norms) = &norms {
        list = scale_all(list, &coefficient(norms, max_norm), false);
    }
    grads::give(grads, list);
    norms.unwrap_or_else(|| Tensor::zeros([0], &grads::device_of(module)))
}

/// [`clip_grad_norm`] with all its choices.
///
/// | setting | default | what |
/// |---|---|---|
/// | `max_norm` | | the largest norm, at least 0 |
/// | `norm_type` | 2 | the order of the norm |
/// | `error_if_nonfinite` | false | an error if the norm is NaN or infinite; **reads the norm**, so waits for the device |
/// | `skip_nonfinite` | false | all gradients become 0 if the norm is NaN or infinite, on the device |
///
/// ```
/// # use burn::nn::LinearConfig;
/// # use burn::optim::GradientsParams;
/// # use burn::tensor::Tensor;
/// use kiln_clip::{ClipError, ClipGradNorm};
/// # let device = kiln_testing::devices().remove(0).autodiff();
/// # let linear = LinearConfig::new(2, 1).init(&device);
/// let loss = linear.forward(Tensor::<2>::from_floats([[f32::NAN, 4.0]], &device)).sum();
/// let mut grads = GradientsParams::from_grads(loss.backward(), &linear);
/// let checked = ClipGradNorm::new(1.0).error_if_nonfinite(true);
/// assert!(matches!(checked.clip(&mut grads, &linear), Err(ClipError::NonFinite { .. })));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipGradNorm {
    max_norm: f64,
    norm_type: NormType,
    error_if_nonfinite: bool,
    skip_nonfinite: bool,
}

impl ClipGradNorm {
    /// Clips by the L2 norm; a norm that is not finite is let through as in PyTorch.
    pub fn new(max_norm: f64) -> Self {
        Self {
            max_norm,
            norm_type: NormType::L2,
            error_if_nonfinite: false,
            skip_nonfinite: false,
        }
    }

    /// Clips by another norm.
    pub fn norm_type(mut self, norm_type: NormType) -> Self {
        self.norm_type = norm_type;
        self
    }

    /// Whether a norm that is NaN or infinite is an error, and the gradients are left as they are. The norm is
    /// read from the device for that, which waits until the device has computed it.
    pub fn error_if_nonfinite(mut self, error: bool) -> Self {
        self.error_if_nonfinite = error;
        self
    }

    /// Whether all gradients become 0, on the device, when the norm is NaN or infinite.
    ///
    /// An optimizer with momentum still moves on what it has gathered; [`keep_if_nonfinite`](crate::keep_if_nonfinite) keeps
    /// the weights as they were.
    pub fn skip_nonfinite(mut self, skip: bool) -> Self {
        self.skip_nonfinite = skip;
        self
    }

    /// Clips and returns the norm as it was before, `[1]`.
    ///
    /// # Errors
    ///
    /// Only with `error_if_nonfinite`: [`ClipError::NonFinite`], and [`ClipError::Read`] if the device fails.
    pub fn clip<M: Module>(
        &self,
        grads: &mut GradientsParams,
        module: &M,
    ) -> Result<Tensor<1>, ClipError> {
        let mut list = grads::take(grads, module);
        let norm = norm_of(&list, self.norm_type);
        let mut checked = Ok(());
        if let Some(norm) = &norm {
            if self.error_if_nonfinite {
                checked = check_finite(norm, self.norm_type);
            }
            if checked.is_ok() {
                let mut factor = coefficient(norm, self.max_norm);
                if self.skip_nonfinite {
                    factor = factor.mask_fill(norm.clone().is_finite().bool_not(), 0.0);
                }
                list = scale_all(list, &factor, self.skip_nonfinite);
            }
        }
        grads::give(grads, list);
        checked.map(|()| norm.unwrap_or_else(|| Tensor::zeros([1], &grads::device_of(module))))
    }
}

/// Whether a norm is finite; reads it.
///
/// # Errors
///
/// [`ClipError::NonFinite`] if not, [`ClipError::Read`] if the device fails.
pub fn check_finite(norm: &Tensor<1>, norm_type: NormType) -> Result<(), ClipError> {
    let read = norm.clone().try_into_vec_as::<f64>();
    match read.map_err(ClipError::Read)?.first() {
        Some(&norm) if !norm.is_finite() => Err(ClipError::NonFinite {
            norm,
            norm_type: norm_type.p(),
        }),
        _ => Ok(()),
    }
}

/// `min(1, max_norm / (norm + 1e-6))` of each norm; NaN stays NaN.
pub(crate) fn coefficient(norms: &Tensor<1>, max_norm: f64) -> Tensor<1> {
    let nan = norms.clone().is_nan();
    let factor = (norms.clone() + 1e-6).recip() * max_norm;
    // Shading languages leave the minimum with NaN open.
    factor.clamp_max(1.0).mask_fill(nan, f32::NAN)
}

/// The norm of all gradients, `[1]`; none without gradients.
pub(crate) fn norm_of(list: &[Grad], p: NormType) -> Option<Tensor<1>> {
    // All norms are one more tensor, whose norm has the same properties.
    let norms = norms_of(list, p)?.into_dispatch();
    Some(multi_tensor::norms(&[norms], p.p()))
}

/// The norm of each gradient, `[list.len()]`, on the first one's device; none without gradients.
pub(crate) fn norms_of(list: &[Grad], p: NormType) -> Option<Tensor<1>> {
    let home = &list.first()?.head.device;
    let mut norms: Vec<Option<Tensor<1>>> = vec![None; list.len()];
    let mut wide = true;
    for (device, members) in by_device(list) {
        // A gradient without values has the norm 0.
        let full = |&i: &usize| list[i].tensor.shape().num_elements() > 0;
        let members: Vec<usize> = members.into_iter().filter(full).collect();
        if members.is_empty() {
            continue;
        }
        let tensors: Vec<DispatchTensor> =
            members.iter().map(|&i| list[i].tensor.clone()).collect();
        wide &= tensors.iter().all(|t| t.dtype() == DType::F64);
        let part = multi_tensor::norms(&tensors, p.p());
        if members.len() == list.len() {
            return Some(part);
        }
        let part = match device == *home {
            true => part,
            false => part.to_device(home),
        };
        for (k, i) in members.into_iter().enumerate() {
            norms[i] = Some(part.clone().narrow(0, k, 1));
        }
    }
    let dtype = if wide {
        FloatDType::F64
    } else {
        FloatDType::F32
    };
    let each = norms.into_iter().map(|norm| match norm {
        Some(norm) => norm.cast(dtype),
        None => Tensor::<1>::zeros([1], home).cast(dtype),
    });
    Some(Tensor::cat(each.collect(), 0))
}

/// Multiplies all gradients by one factor, `[1]`, or each by its own, `[list.len()]`.
pub(crate) fn scale_all(list: Vec<Grad>, factors: &Tensor<1>, zero: bool) -> Vec<Grad> {
    let [count] = factors.dims();
    let groups = by_device(&list);
    let mut slots: Vec<Option<Grad>> = list.into_iter().map(Some).collect();
    for (device, members) in groups {
        let mut own = factors.clone();
        if count > 1 && members.len() < count {
            let each = members.iter().map(|&i| own.clone().narrow(0, i, 1));
            own = Tensor::cat(each.collect(), 0);
        }
        if own.device() != device {
            own = own.to_device(&device);
        }
        // Moved, not cloned: a tensor that nothing else holds is scaled in place.
        let (heads, tensors): (Vec<_>, Vec<_>) = members
            .iter()
            .filter_map(|&i| slots[i].take())
            .map(Grad::split)
            .unzip();
        let scaled = multi_tensor::scale(tensors, &own, zero);
        for ((i, head), tensor) in members.into_iter().zip(heads).zip(scaled) {
            slots[i] = Some(head.with(tensor));
        }
    }
    slots.into_iter().flatten().collect()
}

/// The places of a list by device, in the order in which devices appear.
fn by_device(list: &[Grad]) -> Vec<(Device, Vec<usize>)> {
    let mut groups: Vec<(Device, Vec<usize>)> = Vec::new();
    for (i, grad) in list.iter().enumerate() {
        match groups
            .iter_mut()
            .find(|(device, _)| *device == grad.head.device)
        {
            Some((_, members)) => members.push(i),
            None => groups.push((grad.head.device.clone(), vec![i])),
        }
    }
    groups
}
