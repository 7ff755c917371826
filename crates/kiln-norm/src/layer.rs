//! Layer normalization.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::tensor::{Device, Tensor};
use kiln_kernels::{RowSpec, row_norm};
use serde::{Deserialize, Serialize};

use crate::batch::check_epsilon;
use crate::shape::NormalizedShape;
use crate::weights::Weights;

/// Configuration of a [`LayerNorm`] layer.
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `normalized_shape` | | the trailing axes that are normalized over; 1 to 6 of them |
/// | `epsilon` | 1e-5 | finite, not negative |
/// | `elementwise_affine` | `true` | whether there is a `weight` (and a `bias`) |
/// | `bias` | `true` | whether there is a `bias`, where there is a `weight` |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerNormConfig {
    /// The trailing axes that are normalized over.
    pub normalized_shape: NormalizedShape,
    /// Added to the variance before the square root.
    pub epsilon: f64,
    /// Whether there is a `weight` (and a `bias`).
    pub elementwise_affine: bool,
    /// Whether there is a `bias`, where there is a `weight`.
    pub bias: bool,
}

impl Config for LayerNormConfig {}

impl LayerNormConfig {
    /// The defaults for a shape: `64`, `[64]` or `[3, 32, 32]`.
    pub fn new(normalized_shape: impl Into<NormalizedShape>) -> Self {
        Self {
            normalized_shape: normalized_shape.into(),
            epsilon: 1e-5,
            elementwise_affine: true,
            bias: true,
        }
    }

    /// Sets what is added to the variance before the square root.
    #[doc(alias = "eps")]
    pub fn with_epsilon(self, epsilon: f64) -> Self {
        Self { epsilon, ..self }
    }

    /// Sets whether there is a `weight` (and a `bias`).
    pub fn with_elementwise_affine(self, elementwise_affine: bool) -> Self {
        Self {
            elementwise_affine,
            ..self
        }
    }

    /// Sets whether there is a `bias`, where there is a `weight`.
    pub fn with_bias(self, bias: bool) -> Self {
        Self { bias, ..self }
    }

    /// Initializes the layer: weight 1, bias 0.
    ///
    /// # Panics
    ///
    /// If a setting is not allowed.
    pub fn init(&self, device: &Device) -> LayerNorm {
        self.normalized_shape.check("LayerNorm");
        check_epsilon("LayerNorm", self.epsilon);
        let shape = self.normalized_shape.as_slice();
        let weight = self.elementwise_affine;
        LayerNorm {
            weight: weight.then(|| Weights::full(shape, 1.0, device)),
            bias: (weight && self.bias).then(|| Weights::full(shape, 0.0, device)),
            normalized_shape: self.normalized_shape.clone(),
            epsilon: self.epsilon,
        }
    }
}

/// Layer normalization: `y = (x - E[x]) / sqrt(Var[x] + epsilon) * weight + bias`.
///
/// Mean and (biased) variance are over the trailing axes of `normalized_shape`; `weight` and `bias` have that shape.
/// Training and evaluation are the same.
///
/// Ba, Kiros and Hinton, [Layer Normalization](https://arxiv.org/abs/1607.06450), 2016. As PyTorch's `LayerNorm`.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct LayerNorm {
    /// Scale of each element.
    pub weight: Option<Weights>,
    /// Shift of each element.
    pub bias: Option<Weights>,
    #[module(skip)]
    normalized_shape: NormalizedShape,
    epsilon: f64,
}

impl LayerNorm {
    /// Normalizes the rows of `x`.
    ///
    /// # Shapes
    ///
    /// - `x`, output: `[..., normalized_shape]`
    ///
    /// # Panics
    ///
    /// If the trailing axes differ from `normalized_shape`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let shape = &self.normalized_shape;
        let rows = shape.rows_of("LayerNorm", x.shape().as_slice());
        let spec = RowSpec::rows_of(rows, shape.num_elements(), self.epsilon);
        let weight = self.weight.as_ref().map(Weights::flat);
        let bias = self.bias.as_ref().map(Weights::flat);
        row_norm(x, weight, bias, spec).output
    }

    /// The layer with its weight set to zero, which makes a residual block the identity at first.
    pub fn zero_init(mut self) -> Self {
        self.weight = self.weight.map(Weights::zeroed);
        self
    }
}

impl ModuleDisplay for LayerNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add_debug_attribute("normalized_shape", &self.normalized_shape.as_slice())
            .add("epsilon", &self.epsilon)
            .add("elementwise_affine", &self.weight.is_some())
            .add("bias", &self.bias.is_some())
            .optional()
    }
}
