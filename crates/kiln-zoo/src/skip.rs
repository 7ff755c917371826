//! The three kinds of skip connection, as modules to put around a layer of one's own.
//!
//! All of them answer the same trouble. The gradient that reaches an early layer of a plain network is a product of the
//! Jacobians of all layers after it; a long product of factors that are mostly smaller (or mostly larger) than one
//! vanishes (or explodes) exponentially with depth. A skip adds a path on which that product is short.
//!
//! | module | output | what the path gives |
//! |---|---|---|
//! | [`Residual`] | `x + F(x)` | a gradient that arrives undiminished, whatever `F` does |
//! | [`DenseSkip`] | `[x, F(x)]` | every later layer reads, and teaches, every earlier one directly |
//! | [`LongSkip`] | `[x, F(x)]`, `F` goes down in resolution and up again | detail past the bottleneck, and a short way for the encoder's gradient |

use burn::module::{Module, ModuleDisplay};
use burn::nn::conv::{Conv2d, ConvTranspose2d};
use burn::nn::pool::{AvgPool2d, MaxPool2d};
use burn::nn::{Dropout, Gelu, Relu};
use burn::tensor::Tensor;
use kiln_norm::NormLayer;

use crate::Activation;

/// A layer that a skip connection can lead around: feature maps in, feature maps out.
///
/// Convolutions, normalizations, pooling and activations are branches, and so is a tuple or `Vec` of branches, which are
/// applied one after the other.
///
/// ```
/// use burn::module::Module;
/// use burn::tensor::Tensor;
/// use kiln_zoo::{Branch, Residual};
/// # let device = kiln_testing::devices().remove(0);
///
/// #[derive(Module, Debug)]
/// struct Halve {
///     factor: f64,
/// }
/// impl Branch for Halve {
///     fn forward(&self, x: Tensor<4>) -> Tensor<4> {
///         x * self.factor
///     }
/// }
///
/// let block = Residual::new(Halve { factor: 0.5 });
/// let y = block.forward(Tensor::ones([1, 2, 3, 3], &device));
/// assert_eq!(y.max().into_scalar::<f32>(), 1.5);
/// ```
pub trait Branch: Module + ModuleDisplay {
    /// The branch's output.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, channels, height, width]`
    /// - output: `[batch, channels, height, width]`, each as the layer has it
    fn forward(&self, x: Tensor<4>) -> Tensor<4>;
}

/// Addition: `y = S(x) + F(x)`, where the shortcut `S` is the identity unless `F` changes the shape
/// ([He et al. 2015](https://arxiv.org/abs/1512.03385)).
///
/// # The gradient
///
/// With the identity as shortcut, `dL/dx = dL/dy + F'(x)ᵀ dL/dy`. The first term is the gradient from above, untouched: over
/// any number of blocks, `x_L = x_l + Σ F(x_i)`, it arrives in full, and what the `F'` contribute is added to it rather than
/// multiplied in, so it cannot vanish unless the sum happens to cancel it
/// ([He et al. 2016](https://arxiv.org/abs/1603.05027)). A shortcut with weights of its own, or an activation after the
/// addition as in the original ResNet, gives up part of that. When the last normalization of `F` starts
/// at weight 0 ([`NormLayer::zero_init`]), every block starts as the identity.
///
/// ```
/// use burn::nn::{PaddingConfig2d, conv::Conv2dConfig};
/// use burn::tensor::Tensor;
/// use kiln_zoo::{Activation, Branch, Residual};
/// # let device = kiln_testing::devices().remove(0);
/// let conv = |from, to| {
///     Conv2dConfig::new([from, to], [3, 3]).with_padding(PaddingConfig2d::Same).init(&device)
/// };
/// let x = Tensor::ones([1, 4, 8, 8], &device);
/// let block = Residual::new((conv(4, 16), Activation::Gelu, conv(16, 4)));
/// assert_eq!(block.forward(x.clone()).dims(), [1, 4, 8, 8]);
/// // Another number of channels needs a shortcut that makes as many.
/// let block = Residual::with_shortcut(conv(4, 6), conv(4, 6));
/// assert_eq!(block.forward(x).dims(), [1, 6, 8, 8]);
/// ```
#[derive(Module, Debug)]
pub struct Residual<F: Module + ModuleDisplay, S: Module + ModuleDisplay = Activation> {
    /// The branch `F`.
    pub body: F,
    /// The shortcut `S`; the identity if there is none.
    pub shortcut: Option<S>,
}

impl<F: Branch> Residual<F> {
    /// A skip around a branch that keeps the shape.
    pub fn new(body: F) -> Self {
        Self {
            body,
            shortcut: None,
        }
    }
}

impl<F: Branch, S: Branch> Residual<F, S> {
    /// A skip around a branch that changes the shape, as its shortcut does.
    pub fn with_shortcut(body: F, shortcut: S) -> Self {
        Self {
            body,
            shortcut: Some(shortcut),
        }
    }
}

impl<F: Branch, S: Branch> Branch for Residual<F, S> {
    /// # Panics
    ///
    /// If branch and shortcut do not give the same shape.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let fx = self.body.forward(x.clone());
        let x = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x),
            None => x,
        };
        add(x, fx)
    }
}

/// Dense concatenation: `y = [x, F(x)]` along the channels ([Huang et al. 2016](https://arxiv.org/abs/1608.06993)).
///
/// Put around layer after layer, the input of layer `l` is all that came before it: `[x_0, F_1, …, F_{l-1}]`. `F` needs few
/// output channels, the *growth rate*, since nothing has to be computed again to be kept.
///
/// # The gradient
///
/// `dL/dx` is the slice of `dL/dy` that belongs to `x`, plus `F'(x)ᵀ` times the slice that belongs to `F`. The first is passed
/// on as it is. So after `n` layers each one still has a path of length one to whatever reads the result (a kind of
/// deep supervision by the loss), and gradients of different layers are kept apart in channels of their own instead of being
/// summed into the same ones as with [`Residual`]. The price is memory: every concatenation is another copy.
///
/// ```
/// use burn::nn::{PaddingConfig2d, conv::Conv2dConfig};
/// use burn::tensor::Tensor;
/// use kiln_zoo::{Branch, DenseSkip};
/// # let device = kiln_testing::devices().remove(0);
/// let growth = 12;
/// let layer = |from| {
///     let conv = Conv2dConfig::new([from, growth], [3, 3]).with_padding(PaddingConfig2d::Same);
///     DenseSkip::new(conv.init(&device))
/// };
/// let block = vec![layer(16), layer(28), layer(40)];
/// assert_eq!(block.forward(Tensor::ones([1, 16, 8, 8], &device)).dims(), [1, 52, 8, 8]);
/// ```
#[derive(Module, Debug)]
pub struct DenseSkip<F: Module + ModuleDisplay> {
    /// The branch `F`, which keeps height and width.
    pub body: F,
}

impl<F: Branch> DenseSkip<F> {
    /// A skip around a branch.
    pub fn new(body: F) -> Self {
        Self { body }
    }
}

impl<F: Branch> Branch for DenseSkip<F> {
    /// # Panics
    ///
    /// If the branch changes height or width.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let fx = self.body.forward(x.clone());
        concat(vec![x, fx])
    }
}

/// The long skip from encoder to decoder: `y = [x, fit(F(x))]`, where `F` goes down to a lower resolution, does all that is
/// done there, and comes up again ([Ronneberger et al. 2015](https://arxiv.org/abs/1505.04597)).
///
/// One inside the other they make a U-Net. An odd size does not survive halving and doubling; `fit` pads the branch's output with
/// zeros (or crops it) to the size of `x`, half of the difference at the left and top, the rest at the right
/// and bottom.
///
/// # The gradient
///
/// What goes through `F` has passed a bottleneck that keeps *what* is seen and loses *where*. Through the skip the decoder gets the
/// position from `x` itself, and for the encoder it is the mirror image: its first layers, the farthest from the loss by way of the
/// bottleneck, are a few layers away from it by way of the skip, and their gradient has the full resolution of the
/// loss instead of what un-pooling leaves of it.
///
/// ```
/// use burn::nn::conv::{ConvTranspose2dConfig};
/// use burn::nn::pool::MaxPool2dConfig;
/// use burn::tensor::Tensor;
/// use kiln_zoo::{Branch, LongSkip};
/// # let device = kiln_testing::devices().remove(0);
/// let pool = || MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
/// let up = |from, to| ConvTranspose2dConfig::new([from, to], [2, 2]).with_stride([2, 2]).init(&device);
/// let inner = LongSkip::new((pool(), up(8, 8)));          // [.., 8, ..] to [.., 8 + 8, ..]
/// let outer = LongSkip::new((pool(), inner, up(16, 4)));  // and to [.., 8 + 4, ..]
/// let y = outer.forward(Tensor::ones([1, 8, 13, 10], &device));
/// assert_eq!(y.dims(), [1, 12, 13, 10]);
/// ```
#[derive(Module, Debug)]
pub struct LongSkip<F: Module + ModuleDisplay> {
    /// The branch `F`.
    pub body: F,
}

impl<F: Branch> LongSkip<F> {
    /// A skip around the lower part of an encoder and decoder.
    pub fn new(body: F) -> Self {
        Self { body }
    }
}

impl<F: Branch> Branch for LongSkip<F> {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let fx = fit(self.body.forward(x.clone()), [height, width]);
        concat(vec![x, fx])
    }
}

/// `x + F(x)`.
pub(crate) fn add(x: Tensor<4>, fx: Tensor<4>) -> Tensor<4> {
    assert_eq!(
        x.dims(),
        fx.dims(),
        "a residual skip adds two of the same shape; a shortcut must change the shape as the branch does"
    );
    fx + x
}

/// `[x, F(x), ..]` along the channels.
pub(crate) fn concat(parts: Vec<Tensor<4>>) -> Tensor<4> {
    Tensor::cat(parts, 1)
}

/// Zeros added, or rows and columns left out, until the size is this.
pub(crate) fn fit(x: Tensor<4>, [height, width]: [usize; 2]) -> Tensor<4> {
    let x = fit_axis(x, 2, height);
    fit_axis(x, 3, width)
}

fn fit_axis(x: Tensor<4>, axis: usize, size: usize) -> Tensor<4> {
    let mut shape = x.dims();
    let from = shape[axis];
    if from > size {
        // As negative padding does in PyTorch: half of it, rounded up, at the beginning.
        let start = (from - size).div_ceil(2);
        return x.narrow(axis, start, size);
    }
    let before = (size - from) / 2;
    let after = size - from - before;
    let mut zeros = |n: usize| {
        shape[axis] = n;
        (n > 0).then(|| Tensor::zeros(shape, &x.device()))
    };
    let (before, after) = (zeros(before), zeros(after));
    if before.is_none() && after.is_none() {
        return x;
    }
    let parts = [before, Some(x), after].into_iter().flatten();
    Tensor::cat(parts.collect(), axis)
}

macro_rules! branches {
    ($($layer:ty),*) => {$(
        impl Branch for $layer {
            fn forward(&self, x: Tensor<4>) -> Tensor<4> {
                self.forward(x)
            }
        }
    )*};
}
branches!(
    Conv2d,
    ConvTranspose2d,
    NormLayer,
    MaxPool2d,
    AvgPool2d,
    Activation,
    Relu,
    Gelu,
    Dropout
);

impl<F: Branch> Branch for Vec<F> {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.iter().fold(x, |x, layer| layer.forward(x))
    }
}

macro_rules! tuples {
    ($(($($layer:ident $i:tt),*))*) => {$(
        impl<$($layer: Branch),*> Branch for ($($layer,)*) {
            fn forward(&self, x: Tensor<4>) -> Tensor<4> {
                $(let x = self.$i.forward(x);)*
                x
            }
        }
    )*};
}
tuples! {
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, G 5)
}
