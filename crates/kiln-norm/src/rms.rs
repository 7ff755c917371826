//! Root mean square normalization.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::tensor::{DType, Device, Tensor};
use kiln_kernels::{RowSpec, row_norm};
use serde::{Deserialize, Serialize};

use crate::batch::check_epsilon;
use crate::shape::NormalizedShape;
use crate::weights::Weights;

/// Configuration of an [`RmsNorm`] layer.
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `normalized_shape` | | the trailing axes that are normalized over; 1 to 6 of them |
/// | `epsilon` | `None` | finite, not negative; `None`: the machine epsilon of the type that is computed in, 1.1920929e-7 but for `f64` |
/// | `elementwise_affine` | `true` | whether there is a `weight` |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RmsNormConfig {
    /// The trailing axes that are normalized over.
    pub normalized_shape: NormalizedShape,
    /// Added to the mean square before the square root; `None` for the machine epsilon.
    pub epsilon: Option<f64>,
    /// Whether there is a `weight`.
    pub elementwise_affine: bool,
}

impl Config for RmsNormConfig {}

impl RmsNormConfig {
    /// The defaults for a shape: `64`, `[64]` or `[3, 32, 32]`.
    pub fn new(normalized_shape: impl Into<NormalizedShape>) -> Self {
        Self {
            normalized_shape: normalized_shape.into(),
            epsilon: None,
            elementwise_affine: true,
        }
    }

    /// Sets what is added to the mean square before the square root.
    #[doc(alias = "eps")]
    pub fn with_epsilon(self, epsilon: Option<f64>) -> Self {
        Self { epsilon, ..self }
    }

    /// Sets whether there is a `weight`.
    pub fn with_elementwise_affine(self, elementwise_affine: bool) -> Self {
        Self {
            elementwise_affine,
            ..self
        }
    }

    /// Initializes the layer: weight 1.
    ///
    /// # Panics
    ///
    /// If a setting is not allowed.
    pub fn init(&self, device: &Device) -> RmsNorm {
        self.normalized_shape.check("RmsNorm");
        check_epsilon("RmsNorm", self.epsilon.unwrap_or_default());
        let shape = self.normalized_shape.as_slice();
        RmsNorm {
            weight: self
                .elementwise_affine
                .then(|| Weights::full(shape, 1.0, device)),
            normalized_shape: self.normalized_shape.clone(),
            epsilon: self.epsilon,
        }
    }
}

/// Root mean square normalization: `y = x / sqrt(E[x²] + epsilon) * weight`.
///
/// The mean is over the trailing axes of `normalized_shape`; `weight` has that shape. Training and evaluation are the
/// same.
///
/// Zhang and Sennrich, [Root Mean Square Layer Normalization](https://arxiv.org/abs/1910.07467), 2019. As PyTorch's
/// `RMSNorm`.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct RmsNorm {
    /// Scale of each element.
    pub weight: Option<Weights>,
    #[module(skip)]
    normalized_shape: NormalizedShape,
    #[module(skip)]
    epsilon: Option<f64>,
}

impl RmsNorm {
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
        let rows = shape.rows_of("RmsNorm", x.shape().as_slice());
        let epsilon = self.epsilon.unwrap_or(match x.dtype() {
            DType::F64 => f64::EPSILON,
            // Of half precision too, as PyTorch computes there in f32.
            _ => f64::from(f32::EPSILON),
        });
        let spec = RowSpec::rows_of(rows, shape.num_elements(), epsilon).uncentered();
        let weight = self.weight.as_ref().map(Weights::flat);
        row_norm(x, weight, None, spec).output
    }

    /// The layer with its weight set to zero, which makes a residual block the identity at first.
    pub fn zero_init(mut self) -> Self {
        self.weight = self.weight.map(Weights::zeroed);
        self
    }
}

impl ModuleDisplay for RmsNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add_debug_attribute("normalized_shape", &self.normalized_shape.as_slice())
            .add_debug_attribute("epsilon", &self.epsilon)
            .add("elementwise_affine", &self.weight.is_some())
            .optional()
    }
}
