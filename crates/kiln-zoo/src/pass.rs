//! One walk over a network that serves every use of its structure.
//!
//! A network of the zoo describes its forward pass once, over any [`Pass`]. [`Forward`] computes, [`Record`] computes and
//! shows every named output on the way, [`Shapes`] computes nothing but sizes, parameters and multiply-adds. So a
//! [summary](crate::Summary) or a comparison stage by stage cannot disagree with what the network does.

use std::fmt;
use std::fmt::Write;

use burn::module::Param;
use burn::nn::conv::{Conv2d, ConvTranspose2d};
use burn::nn::pool::{AvgPool2d, MaxPool2d};
use burn::nn::{Dropout, Linear, PaddingConfig2d};
use burn::tensor::Tensor;
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use kiln_kernels::{conv2d, max_pool2d};
use kiln_norm::NormLayer;

use crate::params::num_params;
use crate::skip;
use crate::upsample::bilinear_2x;
use crate::{Activation, LayerRow};

/// A walk over a network in the order of its forward pass.
///
/// Feature maps are `[batch, channels, height, width]`, vectors `[batch, features]`; what stands for them is the pass's
/// own choice.
pub trait Pass {
    /// Stands for feature maps.
    type Maps: Clone;
    /// Stands for vectors.
    type Vectors: Clone;

    /// Goes into a part of the network.
    fn enter(&mut self, name: fmt::Arguments<'_>);
    /// Comes out of it, with its output.
    fn leave(&mut self, output: &Self::Maps);

    /// A layer from feature maps to feature maps: what it computes, and the shape it gives.
    fn layer(
        &mut self,
        layer: Layer<'_>,
        x: Self::Maps,
        compute: impl FnOnce(Tensor<4>) -> Tensor<4>,
        shape: impl FnOnce([usize; 4]) -> [usize; 4],
    ) -> Self::Maps;

    /// Several feature maps made one.
    fn merge(
        &mut self,
        parts: Vec<Self::Maps>,
        compute: impl FnOnce(Vec<Tensor<4>>) -> Tensor<4>,
        shape: impl FnOnce(&[[usize; 4]]) -> [usize; 4],
    ) -> Self::Maps;

    /// Feature maps as one vector for each sample.
    fn flatten(&mut self, x: Self::Maps) -> Self::Vectors;

    /// A layer from vectors to vectors.
    fn vector_layer(
        &mut self,
        layer: Layer<'_>,
        x: Self::Vectors,
        compute: impl FnOnce(Tensor<2>) -> Tensor<2>,
        shape: impl FnOnce([usize; 2]) -> [usize; 2],
    ) -> Self::Vectors;

    /// A part of the network, by its name.
    fn within(
        &mut self,
        name: &str,
        x: Self::Maps,
        part: impl FnOnce(&mut Self, Self::Maps) -> Self::Maps,
    ) -> Self::Maps
    where
        Self: Sized,
    {
        self.enter(format_args!("{name}"));
        let output = part(self, x);
        self.leave(&output);
        output
    }

    /// Parts one after the other, named by their number from `first`, after a prefix: `0`, `1` or `denselayer1`.
    fn sequence<T>(
        &mut self,
        (prefix, first): (&str, usize),
        parts: &[T],
        x: Self::Maps,
        part: impl Fn(&mut Self, &T, Self::Maps) -> Self::Maps,
    ) -> Self::Maps
    where
        Self: Sized,
    {
        parts.iter().enumerate().fold(x, |x, (i, layer)| {
            self.enter(format_args!("{prefix}{}", i + first));
            let output = part(self, layer, x);
            self.leave(&output);
            output
        })
    }

    /// A convolution.
    fn conv(&mut self, name: &str, conv: &Conv2d, x: Self::Maps) -> Self::Maps {
        let weight = conv.weight.lazy_shape();
        let kernel = product(&weight.as_slice()[1..]);
        let layer = Layer {
            name,
            kind: "Conv2d",
            parameters: &|| count(&conv.weight).saturating_add(conv.bias.as_ref().map_or(0, count)),
            macs: &|_, output| product(output).saturating_mul(kernel) as u64,
        };
        self.layer(
            layer,
            x,
            |x| convolve(conv, x),
            |[batch, _, height, width]| {
                let [h, w] = windows(
                    [height, width],
                    conv.kernel_size,
                    conv.stride,
                    &conv.padding,
                    conv.dilation,
                );
                [batch, weight[0], h, w]
            },
        )
    }

    /// A transposed convolution.
    fn conv_transpose(&mut self, name: &str, conv: &ConvTranspose2d, x: Self::Maps) -> Self::Maps {
        let weight = conv.weight.lazy_shape();
        let kernel = product(&weight.as_slice()[1..]);
        let layer = Layer {
            name,
            kind: "ConvTranspose2d",
            parameters: &|| count(&conv.weight).saturating_add(conv.bias.as_ref().map_or(0, count)),
            macs: &|input, _| product(input).saturating_mul(kernel) as u64,
        };
        let size = |axis: usize, from: usize| {
            let reach = conv.dilation[axis] * (conv.kernel_size[axis] - 1) + conv.padding_out[axis];
            let steps = from.saturating_sub(1).saturating_mul(conv.stride[axis]);
            steps
                .saturating_add(reach + 1)
                .saturating_sub(2 * conv.padding[axis])
        };
        self.layer(
            layer,
            x,
            |x| conv.forward(x),
            |[batch, _, height, width]| {
                [
                    batch,
                    weight[1] * conv.groups,
                    size(0, height),
                    size(1, width),
                ]
            },
        )
    }

    /// A normalization.
    fn norm(&mut self, name: &str, norm: &NormLayer, x: Self::Maps) -> Self::Maps {
        let layer = Layer {
            kind: norm_kind(norm),
            parameters: &|| num_params(norm),
            ..Layer::named(name)
        };
        self.layer(layer, x, |x| norm.forward(x), |shape| shape)
    }

    /// An activation function.
    fn activation(&mut self, activation: Activation, x: Self::Maps) -> Self::Maps {
        self.layer(
            Layer::unnamed(),
            x,
            |x| activation.forward(x),
            |shape| shape,
        )
    }

    /// Dropout.
    fn dropout(&mut self, dropout: &Dropout, x: Self::Maps) -> Self::Maps {
        self.layer(Layer::unnamed(), x, |x| dropout.forward(x), |shape| shape)
    }

    /// Maximum pooling.
    fn max_pool(&mut self, name: &str, pool: &MaxPool2d, x: Self::Maps) -> Self::Maps {
        let layer = Layer {
            kind: "MaxPool2d",
            ..Layer::named(name)
        };
        self.layer(
            layer,
            x,
            |x| pool_max(pool, x),
            |[batch, channels, height, width]| {
                let size = [height, width];
                let [h, w] = windows(
                    size,
                    pool.kernel_size,
                    pool.stride,
                    &pool.padding,
                    pool.dilation,
                );
                [batch, channels, h, w]
            },
        )
    }

    /// Average pooling.
    fn avg_pool(&mut self, name: &str, pool: &AvgPool2d, x: Self::Maps) -> Self::Maps {
        let layer = Layer {
            kind: "AvgPool2d",
            ..Layer::named(name)
        };
        self.layer(
            layer,
            x,
            |x| pool.forward(x),
            |[batch, channels, height, width]| {
                let size = [height, width];
                let [h, w] = windows(size, pool.kernel_size, pool.stride, &pool.padding, [1, 1]);
                [batch, channels, h, w]
            },
        )
    }

    /// The mean of every map, 1×1.
    fn global_avg_pool(&mut self, name: &str, x: Self::Maps) -> Self::Maps {
        let layer = Layer {
            kind: "AdaptiveAvgPool2d",
            ..Layer::named(name)
        };
        let shape = |[batch, channels, height, width]: [usize; 4]| {
            [batch, channels, height.min(1), width.min(1)]
        };
        self.layer(layer, x, |x| x.mean_dim(3).mean_dim(2), shape)
    }

    /// Bilinear enlargement to twice the size, corners kept in place.
    fn upsample(&mut self, name: &str, x: Self::Maps) -> Self::Maps {
        let layer = Layer {
            kind: "Upsample",
            ..Layer::named(name)
        };
        let shape = |[batch, channels, height, width]: [usize; 4]| {
            [
                batch,
                channels,
                height.saturating_mul(2),
                width.saturating_mul(2),
            ]
        };
        self.layer(layer, x, bilinear_2x, shape)
    }

    /// Two of the same shape added: a [residual](crate::Residual) skip.
    fn add(&mut self, x: Self::Maps, fx: Self::Maps) -> Self::Maps {
        let add = |mut parts: Vec<Tensor<4>>| {
            let (fx, x) = (parts.pop(), parts.pop());
            skip::add(x.expect("two parts"), fx.expect("two parts"))
        };
        self.merge(vec![x, fx], add, |shapes| shapes[0])
    }

    /// Concatenated along the channels, in this order: a [dense](crate::DenseSkip) skip.
    fn concat(&mut self, parts: Vec<Self::Maps>) -> Self::Maps {
        self.merge(parts, skip::concat, |shapes| {
            let [batch, _, height, width] = shapes[0];
            let channels = shapes.iter().map(|shape| shape[1]);
            let channels = channels.fold(0, usize::saturating_add);
            [batch, channels, height, width]
        })
    }

    /// `x` brought to the height and width of `to` by padding or cropping, as a [long](crate::LongSkip) skip needs it.
    fn fit(&mut self, x: Self::Maps, to: &Self::Maps) -> Self::Maps {
        let compute = |mut parts: Vec<Tensor<4>>| {
            let (to, x) = (parts.pop(), parts.pop());
            let [_, _, height, width] = to.expect("two parts").dims();
            skip::fit(x.expect("two parts"), [height, width])
        };
        self.merge(vec![x, to.clone()], compute, |shapes| {
            let [batch, channels, _, _] = shapes[0];
            [batch, channels, shapes[1][2], shapes[1][3]]
        })
    }

    /// A fully connected layer.
    fn linear(&mut self, name: &str, linear: &Linear, x: Self::Vectors) -> Self::Vectors {
        let weight = linear.weight.lazy_shape();
        let layer = Layer {
            name,
            kind: "Linear",
            parameters: &|| {
                count(&linear.weight).saturating_add(linear.bias.as_ref().map_or(0, count))
            },
            macs: &|_, output| product(output).saturating_mul(weight[0]) as u64,
        };
        self.vector_layer(
            layer,
            x,
            |x| linear.forward(x),
            |[batch, _]| [batch, weight[1]],
        )
    }

    /// A function of each vector that keeps its length: an activation, dropout, log-softmax.
    fn vectors(
        &mut self,
        x: Self::Vectors,
        compute: impl FnOnce(Tensor<2>) -> Tensor<2>,
    ) -> Self::Vectors {
        self.vector_layer(Layer::unnamed(), x, compute, |shape| shape)
    }
}

/// What a pass is told of a layer.
pub struct Layer<'a> {
    /// Its name in the part of the network that it belongs to; empty for what has no name in PyTorch's models.
    pub name: &'a str,
    /// PyTorch's name of its kind.
    pub kind: &'static str,
    /// Counts its parameters; the largest number stands for more.
    pub parameters: &'a dyn Fn() -> usize,
    /// Counts its multiply-adds from the shapes of input and output; the largest number stands for more.
    pub macs: &'a dyn Fn(&[usize], &[usize]) -> u64,
}

impl<'a> Layer<'a> {
    /// A layer without parameters or multiply-adds.
    pub fn named(name: &'a str) -> Self {
        Self {
            name,
            kind: "",
            parameters: &|| 0,
            macs: &|_, _| 0,
        }
    }

    /// One that has no name either.
    pub fn unnamed() -> Self {
        Self::named("")
    }
}

/// The layer's own forward pass, by the kernels of kiln-kernels where the backend has them.
pub(crate) fn convolve(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    let Some(padding) = pairs(&conv.padding) else {
        return conv.forward(x);
    };
    let options = ConvOptions::new_with_padding(conv.stride, padding, conv.dilation, conv.groups);
    let bias = conv.bias.as_ref().map(|bias| bias.val());
    conv2d(x, conv.weight.val(), bias, options)
}

fn pool_max(pool: &MaxPool2d, x: Tensor<4>) -> Tensor<4> {
    let Some(padding) = pairs(&pool.padding) else {
        return pool.forward(x);
    };
    let options = MaxPoolOptions::new(pool.kernel_size)
        .with_stride(pool.stride)
        .with_padding_pairs(padding)
        .with_dilation(pool.dilation)
        .with_ceil_mode(pool.ceil_mode);
    max_pool2d(x, options)
}

/// What is added before and after each axis; none if that depends on the image, which no network of the zoo has.
fn pairs(padding: &PaddingConfig2d) -> Option<[(usize, usize); 2]> {
    match *padding {
        PaddingConfig2d::Valid => Some([(0, 0), (0, 0)]),
        PaddingConfig2d::Explicit(top, left, bottom, right) => Some([(top, bottom), (left, right)]),
        PaddingConfig2d::Same => None,
    }
}

/// Values in a parameter, drawn or not yet.
fn count<const D: usize>(param: &Param<Tensor<D>>) -> usize {
    product(param.lazy_shape().as_slice())
}

/// The product of some sizes, or the largest number if they multiply to more.
pub(crate) fn product(sizes: &[usize]) -> usize {
    sizes
        .iter()
        .fold(1, |product, &size| product.saturating_mul(size))
}

fn norm_kind(norm: &NormLayer) -> &'static str {
    match norm {
        NormLayer::Batch(_) => "BatchNorm2d",
        NormLayer::Layer(_) => "LayerNorm",
        NormLayer::Instance(_) => "InstanceNorm2d",
        NormLayer::Group(_) => "GroupNorm",
        NormLayer::Rms(_) => "RMSNorm",
        _ => "Identity",
    }
}

/// How many windows of a kernel fit, along height and width; 0 where not even one does.
fn windows(
    size: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: &PaddingConfig2d,
    dilation: [usize; 2],
) -> [usize; 2] {
    let padding = match *padding {
        PaddingConfig2d::Valid => [0, 0],
        PaddingConfig2d::Explicit(top, left, bottom, right) => [top + bottom, left + right],
        // Whatever it takes to keep the size, before the stride.
        PaddingConfig2d::Same => [0, 1].map(|axis| {
            let wanted = size[axis].div_ceil(stride[axis]).max(1);
            let reach = dilation[axis] * (kernel[axis] - 1) + 1;
            ((wanted - 1) * stride[axis] + reach).saturating_sub(size[axis])
        }),
    };
    [0, 1].map(|axis| {
        let reach = dilation[axis] * (kernel[axis] - 1) + 1;
        match (size[axis] + padding[axis]).checked_sub(reach) {
            Some(room) if size[axis] > 0 => room / stride[axis] + 1,
            _ => 0,
        }
    })
}

/// Computes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forward;

impl Pass for Forward {
    type Maps = Tensor<4>;
    type Vectors = Tensor<2>;

    fn enter(&mut self, _name: fmt::Arguments<'_>) {}
    fn leave(&mut self, _output: &Tensor<4>) {}

    fn layer(
        &mut self,
        _layer: Layer<'_>,
        x: Tensor<4>,
        compute: impl FnOnce(Tensor<4>) -> Tensor<4>,
        _shape: impl FnOnce([usize; 4]) -> [usize; 4],
    ) -> Tensor<4> {
        compute(x)
    }

    fn merge(
        &mut self,
        parts: Vec<Tensor<4>>,
        compute: impl FnOnce(Vec<Tensor<4>>) -> Tensor<4>,
        _shape: impl FnOnce(&[[usize; 4]]) -> [usize; 4],
    ) -> Tensor<4> {
        compute(parts)
    }

    fn flatten(&mut self, x: Tensor<4>) -> Tensor<2> {
        x.flatten(1, 3)
    }

    fn vector_layer(
        &mut self,
        _layer: Layer<'_>,
        x: Tensor<2>,
        compute: impl FnOnce(Tensor<2>) -> Tensor<2>,
        _shape: impl FnOnce([usize; 2]) -> [usize; 2],
    ) -> Tensor<2> {
        compute(x)
    }
}

/// The way to a layer, as PyTorch writes it.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn of(&self, name: &str) -> String {
        let mut path = self.0.join(".");
        if !path.is_empty() && !name.is_empty() {
            path.push('.');
        }
        path.push_str(name);
        path
    }

    fn enter(&mut self, name: fmt::Arguments<'_>) {
        let mut part = String::new();
        // Writing to a string cannot fail.
        let _ = part.write_fmt(name);
        self.0.push(part);
    }

    fn leave(&mut self) -> String {
        let path = self.of("");
        self.0.pop();
        path
    }
}

/// An output that [`Record`] shows.
pub enum Output<'a> {
    /// Feature maps.
    Maps(&'a Tensor<4>),
    /// Vectors.
    Vectors(&'a Tensor<2>),
}

/// Computes, and shows the output of every layer and every part under its name in PyTorch.
pub struct Record<F> {
    path: Path,
    see: F,
}

impl<F: FnMut(&str, Output<'_>)> Record<F> {
    /// `see` is called with each name and output, in the order in which they are computed.
    pub fn new(see: F) -> Self {
        Self {
            path: Path::default(),
            see,
        }
    }
}

impl<F: FnMut(&str, Output<'_>)> Pass for Record<F> {
    type Maps = Tensor<4>;
    type Vectors = Tensor<2>;

    fn enter(&mut self, name: fmt::Arguments<'_>) {
        self.path.enter(name);
    }

    fn leave(&mut self, output: &Tensor<4>) {
        let path = self.path.leave();
        (self.see)(&path, Output::Maps(output));
    }

    fn layer(
        &mut self,
        layer: Layer<'_>,
        x: Tensor<4>,
        compute: impl FnOnce(Tensor<4>) -> Tensor<4>,
        _shape: impl FnOnce([usize; 4]) -> [usize; 4],
    ) -> Tensor<4> {
        let output = compute(x);
        if !layer.name.is_empty() {
            (self.see)(&self.path.of(layer.name), Output::Maps(&output));
        }
        output
    }

    fn merge(
        &mut self,
        parts: Vec<Tensor<4>>,
        compute: impl FnOnce(Vec<Tensor<4>>) -> Tensor<4>,
        _shape: impl FnOnce(&[[usize; 4]]) -> [usize; 4],
    ) -> Tensor<4> {
        compute(parts)
    }

    fn flatten(&mut self, x: Tensor<4>) -> Tensor<2> {
        x.flatten(1, 3)
    }

    fn vector_layer(
        &mut self,
        layer: Layer<'_>,
        x: Tensor<2>,
        compute: impl FnOnce(Tensor<2>) -> Tensor<2>,
        _shape: impl FnOnce([usize; 2]) -> [usize; 2],
    ) -> Tensor<2> {
        let output = compute(x);
        if !layer.name.is_empty() {
            (self.see)(&self.path.of(layer.name), Output::Vectors(&output));
        }
        output
    }
}

/// Computes shapes, parameters and multiply-adds, and no values.
#[derive(Default)]
pub struct Shapes {
    path: Path,
    rows: Vec<LayerRow>,
    too_small: Option<String>,
    too_large: Option<String>,
}

impl Shapes {
    /// One row for each layer so far.
    pub fn into_rows(self) -> Vec<LayerRow> {
        self.rows
    }

    /// The first layer of whose input nothing was left, if there was one: the image was too small for the network.
    pub fn too_small(&self) -> Option<&str> {
        self.too_small.as_deref()
    }

    /// The first layer whose sizes multiply to more than 64 bits hold, if there was one.
    pub fn too_large(&self) -> Option<&str> {
        self.too_large.as_deref()
    }

    fn note(&mut self, layer: Layer<'_>, input: &[usize], output: &[usize]) {
        if self.too_small.is_none() && output.contains(&0) {
            self.too_small = Some(self.path.of(layer.name));
        }
        if !layer.name.is_empty() {
            let row = LayerRow {
                name: self.path.of(layer.name),
                kind: layer.kind,
                output: output.into(),
                parameters: (layer.parameters)(),
                macs: (layer.macs)(input, output),
            };
            let most = [product(output), row.parameters, row.macs as usize];
            if self.too_large.is_none() && most.contains(&usize::MAX) {
                self.too_large = Some(row.name.clone());
            }
            self.rows.push(row);
        }
    }
}

impl Pass for Shapes {
    type Maps = [usize; 4];
    type Vectors = [usize; 2];

    fn enter(&mut self, name: fmt::Arguments<'_>) {
        self.path.enter(name);
    }

    fn leave(&mut self, _output: &[usize; 4]) {
        self.path.leave();
    }

    fn layer(
        &mut self,
        layer: Layer<'_>,
        x: [usize; 4],
        _compute: impl FnOnce(Tensor<4>) -> Tensor<4>,
        shape: impl FnOnce([usize; 4]) -> [usize; 4],
    ) -> [usize; 4] {
        let output = shape(x);
        self.note(layer, &x, &output);
        output
    }

    fn merge(
        &mut self,
        parts: Vec<[usize; 4]>,
        _compute: impl FnOnce(Vec<Tensor<4>>) -> Tensor<4>,
        shape: impl FnOnce(&[[usize; 4]]) -> [usize; 4],
    ) -> [usize; 4] {
        shape(&parts)
    }

    fn flatten(&mut self, [batch, channels, height, width]: [usize; 4]) -> [usize; 2] {
        [batch, product(&[channels, height, width])]
    }

    fn vector_layer(
        &mut self,
        layer: Layer<'_>,
        x: [usize; 2],
        _compute: impl FnOnce(Tensor<2>) -> Tensor<2>,
        shape: impl FnOnce([usize; 2]) -> [usize; 2],
    ) -> [usize; 2] {
        let output = shape(x);
        self.note(layer, &x, &output);
        output
    }
}
