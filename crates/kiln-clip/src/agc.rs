//! Adaptive gradient clipping: each unit by its ratio to its weights.

use burn::module::{Module, Param, ParamGroup, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, FloatDType, Tensor};
use kiln_kernels::multi_tensor::plain::{norm, unit, widen};

use crate::ClipError;
use crate::grads::{Each, Place, walk};

/// Adaptive gradient clipping (AGC), [Brock et al. 2021](https://arxiv.org/abs/2102.06171), equation 3.
///
/// For every unit `i` of every weight, with `|.|` the Frobenius norm over the unit,
///
/// ```text
/// limit = clipping * max(|W_i|, eps)
/// G_i   = G_i * limit / max(|G_i|, 1e-6)   if |G_i| > limit, otherwise unchanged
/// ```
///
/// A unit is an output: an entry of axis 0 of a weight, of axis 1 of Burn's `Linear` and transposed convolutions, whose weights
/// have the outputs there. A tensor with one axis (a bias, a norm's weight) is one unit.
///
/// | setting | default | range |
/// |---|---|---|
/// | `clipping` | 0.01 | above 0; the paper: 0.01 for batches of 4096, more for smaller ones |
/// | `eps` | 1e-3 | above 0; lets units move whose weights are 0 |
/// | [`exclude`](Self::exclude) | [`AgcExclude::LastLayer`] | the paper clips all but the last linear layer |
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::Tensor;
/// use kiln_clip::{AdaptiveGradClip, AgcExclude};
/// # let device = kiln_testing::devices().remove(0).autodiff();
/// let linear = LinearConfig::new(2, 3).with_bias(false).init(&device);
/// let loss = linear.forward(Tensor::<2>::from_floats([[300.0, 400.0]], &device)).sum();
/// let mut grads = GradientsParams::from_grads(loss.backward(), &linear);
/// AdaptiveGradClip::new(0.01, 1e-3)?.exclude(AgcExclude::Nothing).clip(&mut grads, &linear);
/// let length = |t: Tensor<2>| t.square().sum_dim(0).sqrt();
/// let clipped = length(grads.get::<2>(linear.weight.id).unwrap());
/// let ratio = clipped / length(linear.weight.val().inner());
/// assert!(ratio.try_into_vec_as::<f32>().unwrap().iter().all(|r| (r - 0.01).abs() < 1e-6));
/// # Ok::<(), kiln_clip::ClipError>(())
/// ```
#[derive(Clone, Debug)]
pub struct AdaptiveGradClip {
    clipping: f64,
    eps: f64,
    exclude: AgcExclude,
}

/// What [`AdaptiveGradClip`] leaves alone.
#[derive(Clone, Debug)]
pub enum AgcExclude {
    /// Nothing.
    Nothing,
    /// The layer that holds the last weight of two or more axes in the order of the module's fields: the classifier.
    LastLayer,
    /// These parameters, by Burn's path (`model.head.weight`) or id.
    Group(ParamGroup),
}

impl AdaptiveGradClip {
    /// Clips to `clipping` times the norm of the weights, all layers but the last.
    ///
    /// # Errors
    ///
    /// [`ClipError::Setting`] unless both are positive, finite numbers.
    pub fn new(clipping: f64, eps: f64) -> Result<Self, ClipError> {
        for (name, value) in [("the factor", clipping), ("eps", eps)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(ClipError::Setting {
                    given: format!("agc:{clipping},{eps}"),
                    problem: format!("{name} must be a positive number"),
                });
            }
        }
        Ok(Self {
            clipping,
            eps,
            exclude: AgcExclude::LastLayer,
        })
    }

    /// Leaves other parameters alone than the last layer's.
    pub fn exclude(mut self, exclude: AgcExclude) -> Self {
        self.exclude = exclude;
        self
    }

    /// Clips; nothing is read back.
    pub fn clip<M: Module>(&self, grads: &mut GradientsParams, module: &M) {
        let last = match self.exclude {
            AgcExclude::LastLayer => last_layer(module),
            _ => None,
        };
        let each = Clip {
            grads,
            setting: self,
            last,
        };
        walk(module, true, each);
    }

    fn clipped<const D: usize>(
        &self,
        weight: Tensor<D>,
        grad: Tensor<D>,
        axis: usize,
    ) -> Tensor<D> {
        let dtype = grad.dtype();
        let (weight, grad) = (widen(weight), widen(grad));
        let limit = unit_norms(weight, axis).clamp_min(self.eps) * self.clipping;
        let norms = unit_norms(grad.clone(), axis);
        let over = norms.clone().greater(limit.clone());
        let factor = norms
            .ones_like()
            .mask_where(over, limit / norms.clamp_min(1e-6));
        narrow(grad * factor, dtype)
    }
}

struct Clip<'a> {
    grads: &'a mut GradientsParams,
    setting: &'a AdaptiveGradClip,
    last: Option<String>,
}

impl Clip<'_> {
    fn excludes(&self, place: &Place<'_>) -> bool {
        match (&self.setting.exclude, &self.last) {
            (AgcExclude::Group(group), _) => group.matches(&place.id, Some(&place.path())),
            (AgcExclude::LastLayer, Some(last)) => layer(&place.path()) == last,
            _ => false,
        }
    }
}

impl Each for Clip<'_> {
    fn see<const D: usize>(&mut self, place: &Place<'_>, param: &Param<Tensor<D>>) {
        if self.excludes(place) {
            return;
        }
        let Some(grad) = self.grads.remove::<D>(place.id) else {
            return;
        };
        let weight = param.val().inner().to_device(&grad.device());
        let clipped = match grad.shape().num_elements() {
            0 => grad,
            _ => self.setting.clipped(weight, grad, place.unit_axis(D)),
        };
        self.grads.register(place.id, clipped);
    }
}

/// The layer of a parameter's path: all but the last name.
pub(crate) fn layer(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(layer, _)| layer)
}

/// The layer that holds the last weight.
fn last_layer<M: Module>(module: &M) -> Option<String> {
    struct Last<'a>(&'a mut Option<(ParamId, String)>);
    impl Each for Last<'_> {
        fn see<const D: usize>(&mut self, place: &Place<'_>, _: &Param<Tensor<D>>) {
            if D >= 2 {
                *self.0 = Some((place.id, place.path()));
            }
        }
    }
    let mut last = None;
    walk(module, true, Last(&mut last));
    last.map(|(_, path)| layer(&path).to_owned())
}

/// The norm of each entry along an axis, with all other axes 1; of a tensor with one axis the norm of the whole.
pub(crate) fn unit_norms<const D: usize>(tensor: Tensor<D>, axis: usize) -> Tensor<D> {
    if D < 2 {
        let values = tensor.shape().num_elements();
        return norm(tensor.reshape([values]), 2.0).reshape([1; D]);
    }
    let units = tensor.dims()[axis];
    let mut shape = [1; D];
    shape[axis] = units;
    let rows = rows(tensor, axis).abs();
    let unit = unit(rows.clone().max_dim(1));
    let sums = (rows / unit.clone()).square().sum_dim(1);
    (sums.sqrt() * unit).reshape(shape)
}

/// The entries of an axis as rows, `[units, rest]`.
pub(crate) fn rows<const D: usize>(tensor: Tensor<D>, axis: usize) -> Tensor<2> {
    let dims = tensor.dims();
    let rest = dims.iter().product::<usize>() / dims[axis].max(1);
    match axis {
        0 => tensor.reshape([dims[0], rest]),
        axis => tensor.swap_dims(0, axis).reshape([dims[axis], rest]),
    }
}

fn narrow<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Tensor<D> {
    match dtype {
        DType::F16 => tensor.cast(FloatDType::F16),
        DType::BF16 => tensor.cast(FloatDType::BF16),
        _ => tensor,
    }
}
