//! Local response normalization.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::tensor::Tensor;

/// Configuration of a [`LocalResponseNorm`] layer.
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `size` | | channels in the window, at least 1 |
/// | `alpha` | 1e-4 | finite |
/// | `beta` | 0.75 | finite |
/// | `k` | 1.0 | finite |
#[derive(Config, Debug, PartialEq)]
pub struct LocalResponseNormConfig {
    /// Channels in the window.
    pub size: usize,
    /// Factor of the mean square.
    #[config(default = 1e-4)]
    pub alpha: f64,
    /// Exponent of the divisor.
    #[config(default = 0.75)]
    pub beta: f64,
    /// Added to the scaled mean square.
    #[config(default = 1.0)]
    pub k: f64,
}

impl LocalResponseNormConfig {
    /// Initializes the layer, which has no parameters.
    ///
    /// # Panics
    ///
    /// If a setting is not allowed.
    pub fn init(&self) -> LocalResponseNorm {
        assert!(
            self.size > 0,
            "LocalResponseNorm: size must be at least 1, but it is 0"
        );
        assert!(
            self.alpha.is_finite() && self.beta.is_finite() && self.k.is_finite(),
            "LocalResponseNorm: alpha, beta and k must be finite, but they are {}, {} and {}",
            self.alpha,
            self.beta,
            self.k
        );
        LocalResponseNorm {
            size: self.size,
            alpha: self.alpha,
            beta: self.beta,
            k: self.k,
        }
    }
}

/// Local response normalization: `y_c = x_c / (k + alpha / size * Σ x_j²)^beta`.
///
/// The sum is over the channels `j` from `c - size / 2` to `c + (size - 1) / 2` (both divisions rounded down) that
/// exist; it is divided by the full `size` at the borders too. It has no parameters.
///
/// Krizhevsky, Sutskever and Hinton, *ImageNet Classification with Deep Convolutional Neural Networks*, 2012. As
/// PyTorch's `LocalResponseNorm`.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct LocalResponseNorm {
    size: usize,
    alpha: f64,
    beta: f64,
    k: f64,
}

impl LocalResponseNorm {
    /// Normalizes each position of `x` over neighbouring channels.
    ///
    /// # Shapes
    ///
    /// - `x`, output: `[batch, channels, ...]`
    ///
    /// # Panics
    ///
    /// If `x` has less than two axes.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let shape = x.shape();
        assert!(
            D >= 2,
            "LocalResponseNorm: expected [batch, channels, ...], but the input is {:?}",
            shape.as_slice()
        );
        if shape.num_elements() == 0 {
            return x;
        }
        let (batch, channels) = (shape[0], shape[1]);
        let span: usize = shape[2..].iter().product();
        let flat = x.reshape([batch, channels, span]);
        let squares = flat.clone() * flat.clone();
        let sum = self.window_sum(squares, batch, channels, span);
        let base = sum * (self.alpha / self.size as f64) + self.k;
        // The exponential of the logarithm, since the backward of a power or a quotient would square the divisor,
        // which f32 cannot hold for inputs of 1e15.
        let factor = (base.log() * -self.beta).exp();
        (flat * factor).reshape(shape)
    }

    /// The sum over the window of channels: as many shifted copies of the padded squares as the window is wide, or as
    /// there are channels where that is less.
    fn window_sum(
        &self,
        squares: Tensor<3>,
        batch: usize,
        channels: usize,
        span: usize,
    ) -> Tensor<3> {
        let below = (self.size / 2).min(channels - 1);
        let above = ((self.size - 1) / 2).min(channels - 1);
        let device = squares.device();
        let pad = |len| Tensor::<3>::zeros([batch, len, span], (&device, squares.dtype()));
        let mut parts = Vec::new();
        if below > 0 {
            parts.push(pad(below));
        }
        parts.push(squares.clone());
        if above > 0 {
            parts.push(pad(above));
        }
        let padded = match parts.len() {
            1 => squares.clone(),
            _ => Tensor::cat(parts, 1),
        };
        let shifted = |from| padded.clone().narrow(1, from, channels);
        (1..=below + above).fold(shifted(0), |sum, from| sum + shifted(from))
    }
}

impl ModuleDisplay for LocalResponseNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("size", &self.size)
            .add("alpha", &self.alpha)
            .add("beta", &self.beta)
            .add("k", &self.k)
            .optional()
    }
}
