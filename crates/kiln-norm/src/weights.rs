//! A parameter whose rank is known when the layer is made.

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
    Param,
};
use burn::tensor::{Device, Shape, Tensor};

macro_rules! weights {
    ($($variant:ident $rank:literal),*) => {
        /// A float parameter of rank 1 to 6: the weight or bias of a layer that normalizes over as many axes.
        ///
        /// It has PyTorch's shape, and to visitors and mappers it is a `Param<Tensor<D>>` of that rank.
        #[derive(Clone, Debug)]
        pub enum Weights {
            $(#[doc = concat!("Of rank ", $rank, ".")] $variant(Param<Tensor<$rank>>),)*
        }

        impl Weights {
            /// A parameter of a shape, filled with one value.
            ///
            /// # Panics
            ///
            /// If the shape has no axis or more than 6.
            pub fn full(shape: &[usize], value: f32, device: &Device) -> Self {
                match shape.len() {
                    $($rank => Self::$variant(Param::from_tensor(Tensor::full(
                        Shape::from(shape.to_vec()), value, device,
                    ))),)*
                    rank => panic!("normalized_shape {shape:?} has {rank} axes; 1 to 6 are allowed"),
                }
            }

            /// The values in row-major order.
            pub fn flat(&self) -> Tensor<1> {
                match self {
                    $(Self::$variant(param) => {
                        let len = param.shape().num_elements();
                        param.val().reshape([len])
                    })*
                }
            }

            /// The shape.
            pub fn shape(&self) -> Shape {
                match self { $(Self::$variant(param) => param.shape(),)* }
            }

            pub(crate) fn zeroed(self) -> Self {
                match self { $(Self::$variant(param) => Self::$variant(zeroed(param)),)* }
            }
        }

        impl Module for Weights {
            fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
                match self { $(Self::$variant(param) => Module::visit(param, visitor),)* }
            }
            fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
                match self { $(Self::$variant(param) => Self::$variant(Module::map(param, mapper)),)* }
            }
            fn to_device(self, device: &Device) -> Self {
                match self { $(Self::$variant(param) => Self::$variant(Module::to_device(param, device)),)* }
            }
            fn fork(self, device: &Device) -> Self {
                match self { $(Self::$variant(param) => Self::$variant(Module::fork(param, device)),)* }
            }
            fn collect_devices(&self, devices: Devices) -> Devices {
                match self { $(Self::$variant(param) => param.collect_devices(devices),)* }
            }
            fn materialize(self) -> Self {
                match self { $(Self::$variant(param) => Self::$variant(param.materialize()),)* }
            }
            fn valid(&self) -> Self {
                match self { $(Self::$variant(param) => Self::$variant(Module::valid(param)),)* }
            }
            fn train(self) -> Self {
                match self { $(Self::$variant(param) => Self::$variant(Module::train(param)),)* }
            }
        }

        impl ModuleDisplayDefault for Weights {
            fn content(&self, content: Content) -> Option<Content> {
                match self { $(Self::$variant(param) => param.content(content),)* }
            }
        }
    };
}

weights!(R1 1, R2 2, R3 3, R4 4, R5 5, R6 6);

impl ModuleDisplay for Weights {}

/// The parameter filled with zeros, and all else as it was: its identity, whether it is trained.
pub(crate) fn zeroed<const D: usize>(param: Param<Tensor<D>>) -> Param<Tensor<D>> {
    param.map(|value| {
        let trained = value.is_require_grad();
        value.detach().zeros_like().set_require_grad(trained)
    })
}
