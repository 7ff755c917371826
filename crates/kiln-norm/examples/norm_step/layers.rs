//! The layers and shapes that are timed, each beside burn-nn's.

use burn::nn;
use burn::tensor::{Device, Tensor};
use kiln_norm::{
    BatchNormConfig, GroupNormConfig, InstanceNormConfig, LayerNormConfig, RmsNormConfig,
};

const IMAGES: [[usize; 4]; 3] = [[64, 64, 56, 56], [32, 256, 14, 14], [1, 32, 512, 512]];
const TOKENS: [[usize; 3]; 2] = [[16, 512, 768], [8, 1024, 4096]];
const GROUPS: usize = 32;
const GROUPS_OF_FEW: usize = 8;

/// A layer's forward pass.
pub type Layer<const D: usize> = Box<dyn Fn(Tensor<D>) -> Tensor<D>>;

/// What is done with each layer at each shape.
pub trait Visitor {
    /// `make` gives Kiln's layer, or burn-nn's.
    fn visit<const D: usize>(
        &mut self,
        layer: &str,
        shape: [usize; D],
        make: &dyn Fn(&Device, bool) -> Layer<D>,
    );
}

/// Shows every layer at every shape.
pub fn visit(visitor: &mut impl Visitor) {
    for shape in IMAGES {
        let [_, c, _, _] = shape;
        let groups = if c % GROUPS == 0 && c > GROUPS {
            GROUPS
        } else {
            GROUPS_OF_FEW
        };
        visitor.visit("BatchNorm", shape, &|device, kiln| match kiln {
            true => {
                let layer = BatchNormConfig::new(c).init(device);
                Box::new(move |x| layer.forward(x))
            }
            false => {
                let layer = nn::BatchNormConfig::new(c).init(device);
                Box::new(move |x| layer.forward(x))
            }
        });
        visitor.visit("GroupNorm", shape, &|device, kiln| match kiln {
            true => {
                let layer = GroupNormConfig::new(groups, c).init(device);
                Box::new(move |x| layer.forward(x))
            }
            false => {
                let layer = nn::GroupNormConfig::new(groups, c).init(device);
                Box::new(move |x| layer.forward(x))
            }
        });
        visitor.visit("InstanceNorm", shape, &|device, kiln| match kiln {
            true => {
                let layer = InstanceNormConfig::new(c).with_affine(true).init(device);
                Box::new(move |x| layer.forward(x))
            }
            false => {
                let layer = nn::InstanceNormConfig::new(c).init(device);
                Box::new(move |x| layer.forward(x))
            }
        });
    }
    for shape in TOKENS {
        let [_, _, len] = shape;
        visitor.visit("LayerNorm", shape, &|device, kiln| match kiln {
            true => {
                let layer = LayerNormConfig::new(len).init(device);
                Box::new(move |x| layer.forward(x))
            }
            false => {
                let layer = nn::LayerNormConfig::new(len).init(device);
                Box::new(move |x| layer.forward(x))
            }
        });
        visitor.visit("RMSNorm", shape, &|device, kiln| match kiln {
            true => {
                let layer = RmsNormConfig::new(len).init(device);
                Box::new(move |x| layer.forward(x))
            }
            false => {
                let layer = nn::RmsNormConfig::new(len).init(device);
                Box::new(move |x| layer.forward(x))
            }
        });
    }
}
