//! [`GradHealth`]: what the gradients of each layer look like.

mod diagnosis;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, FloatDType, Tensor};
use kiln_kernels::multi_tensor::plain::{norm, widen};
use serde::{Deserialize, Serialize};

use crate::ClipError;
use crate::agc::rows;
use crate::grads::{Each, Place, walk};

pub use diagnosis::{Diagnosis, Verdict};

/// The state of a model's gradients at one step, layer by layer in the order of the module's fields.
///
/// [`measure`](Self::measure) gathers the numbers on the device, [`Measured::read`] fetches them all at once, and
/// [`diagnosis`](Self::diagnosis) says in plain words what they mean. [`Diagnosis::of`] judges a whole run.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::optim::GradientsParams;
/// use burn::tensor::Tensor;
/// use kiln_clip::{GradHealth, Verdict};
/// # let device = kiln_testing::devices().remove(0).autodiff();
/// let layers = vec![LinearConfig::new(2, 3).init(&device), LinearConfig::new(3, 1).init(&device)];
/// let x = Tensor::<2>::ones([4, 2], &device);
/// let loss = layers[1].forward(layers[0].forward(x)).mean();
/// let grads = GradientsParams::from_grads(loss.backward(), &layers);
/// let health = GradHealth::measure(&grads, &layers).read()?;
/// assert_eq!(health.layers[0].name, "0.weight");
/// assert_eq!(health.diagnosis().verdict, Verdict::Fine);
/// # Ok::<(), kiln_clip::ClipError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GradHealth {
    /// Every parameter that has a gradient.
    pub layers: Vec<LayerHealth>,
}

/// The gradient of one parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerHealth {
    /// The path of the module's fields to the parameter: `layers.0.weight`.
    pub name: String,
    /// Its axes. Biases and the weights of norms have one; the diagnosis looks at weights with two or more.
    pub rank: usize,
    /// Its values.
    pub values: usize,
    /// L2 norm of the gradient; none if it is not finite.
    pub grad_norm: Option<f64>,
    /// L2 norm of the parameter; none if it is not finite.
    pub weight_norm: Option<f64>,
    /// Share of values that are exactly 0, 0 to 1.
    pub zero: f64,
    /// Share of values that are not 0 but below 2^-24 (5.96e-8), the least that f16 holds.
    pub tiny: f64,
    /// Share of values that are NaN or infinite.
    pub nonfinite: f64,
    /// Share of units (outputs) that have a gradient of 0 throughout: they do not learn at this step.
    pub dead_units: f64,
}

impl LayerHealth {
    /// `grad_norm / weight_norm`: how large a step of learning rate 1 is beside the weights. None if either is not
    /// finite, or the weights are 0.
    pub fn ratio(&self) -> Option<f64> {
        let (grad, weight) = (self.grad_norm?, self.weight_norm?);
        (weight > 0.0).then(|| grad / weight)
    }
}

/// The least number that f16 holds.
const TINY: f64 = 5.960_464_477_539_063e-8;

/// The numbers of a row, in this order: gradient norm, weight norm, and the shares zero, tiny, not finite, dead.
const COLUMNS: usize = 6;

/// The numbers of a [`GradHealth`], still on the device.
#[derive(Clone, Debug)]
pub struct Measured {
    names: Vec<(String, usize, usize)>,
    /// `[parameters, COLUMNS]`; none without gradients.
    numbers: Option<Tensor<2>>,
}

impl GradHealth {
    /// Measures the gradients of a module; nothing is read back.
    ///
    /// It costs several passes over gradients and weights: measure now and then, not at every step of a long run.
    pub fn measure<M: Module>(grads: &GradientsParams, module: &M) -> Measured {
        struct Look<'a> {
            grads: &'a GradientsParams,
            home: Option<Device>,
            names: &'a mut Vec<(String, usize, usize)>,
            numbers: &'a mut Vec<Tensor<1>>,
        }
        impl Each for Look<'_> {
            fn see<const D: usize>(&mut self, place: &Place<'_>, param: &Param<Tensor<D>>) {
                let Some(grad) = self.grads.get::<D>(place.id) else {
                    return;
                };
                let values = grad.shape().num_elements();
                if values == 0 {
                    return;
                }
                let home = self.home.get_or_insert_with(|| grad.device()).clone();
                let row = numbers(param.val().inner(), grad, place.unit_axis(D));
                self.numbers.push(row.to_device(&home));
                self.names.push((place.name(), D, values));
            }
        }
        let (mut names, mut numbers) = (Vec::new(), Vec::new());
        let look = Look {
            grads,
            home: None,
            names: &mut names,
            numbers: &mut numbers,
        };
        walk(module, true, look);
        let numbers = match numbers.is_empty() {
            true => None,
            false => Some(Tensor::stack(numbers, 0)),
        };
        Measured { names, numbers }
    }

    /// What these gradients say of the model, at this one step.
    pub fn diagnosis(&self) -> Diagnosis {
        Diagnosis::of(std::slice::from_ref(self))
    }

    /// The global L2 norm; none if it is not finite.
    pub fn total_norm(&self) -> Option<f64> {
        let squares = self
            .layers
            .iter()
            .map(|layer| Some(layer.grad_norm?.powi(2)));
        squares.sum::<Option<f64>>().map(f64::sqrt)
    }
}

impl Measured {
    /// Reads the numbers, all in one transfer.
    ///
    /// # Errors
    ///
    /// [`ClipError::Read`] if the device fails.
    pub fn read(self) -> Result<GradHealth, ClipError> {
        let numbers = match self.numbers {
            Some(numbers) => numbers.try_into_vec_as::<f64>().map_err(ClipError::Read)?,
            None => Vec::new(),
        };
        let finite = |x: f64| x.is_finite().then_some(x);
        let layer = |((name, rank, values), row): ((String, usize, usize), &[f64])| LayerHealth {
            name,
            rank,
            values,
            grad_norm: finite(row[0]),
            weight_norm: finite(row[1]),
            zero: row[2],
            tiny: row[3],
            nonfinite: row[4],
            dead_units: row[5],
        };
        let rows = numbers.chunks_exact(COLUMNS);
        Ok(GradHealth {
            layers: self.names.into_iter().zip(rows).map(layer).collect(),
        })
    }
}

/// The row of a parameter, `[COLUMNS]`, in f32.
fn numbers<const D: usize>(weight: Tensor<D>, grad: Tensor<D>, axis: usize) -> Tensor<1> {
    let values = grad.shape().num_elements();
    let weight = weight.to_device(&grad.device());
    let grad = widen(grad).cast(FloatDType::F32);
    let flat = grad.clone().reshape([values]);
    let weight = widen(weight).cast(FloatDType::F32).reshape([values]);
    let zero = flat.clone().equal_elem(0.0);
    let finite = flat.clone().is_finite();
    let small = flat.clone().abs().lower_elem(TINY);
    let tiny = small.bool_and(zero.clone().bool_not());
    let dead = match D {
        // Each value of a bias is a unit.
        1 => zero.clone().float(),
        _ => {
            let largest: Tensor<2> = rows(grad, axis).abs().max_dim(1);
            let [units, _] = largest.dims();
            largest.reshape([units]).equal_elem(0.0).float()
        }
    };
    Tensor::cat(
        vec![
            norm(flat, 2.0),
            norm(weight, 2.0),
            zero.float().mean(),
            tiny.float().mean(),
            finite.bool_not().float().mean(),
            dead.mean(),
        ],
        0,
    )
}
