//! Inputs that a network's normalization cannot take, known before the first step: those that leave it a single value, which has no
//! variance.

use std::fmt;

use burn::tensor::Tensor;
use kiln_zoo::NormLayer;
use kiln_zoo::pass::{Layer, Pass, Shapes};

use crate::error::TrainError;
use crate::recipe::Recipe;
use crate::tasks::loader::Loader;
use crate::tasks::network::Network;

/// A normalization that would be left a single value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Single {
    /// Its name and kind: `layer4.0.bn1 (BatchNorm)`.
    pub(crate) layer: String,
    /// Height and width of its maps.
    pub(crate) maps: [usize; 2],
}

impl fmt::Display for Single {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [height, width] = self.maps;
        write!(f, "{}, whose maps are {height}x{width} there", self.layer)
    }
}

/// The first normalization of a network that cannot take an input of `[batch, channels, height, width]`.
pub(crate) fn refusing(network: &Network, input: [usize; 4], training: bool) -> Option<Single> {
    walk(network, input, training).found
}

/// Refuses a recipe whose batches of images `[channels, height, width]` a network cannot be trained with. The normalization that asks
/// for it if the last batch of an epoch, a single image, must join the one before it.
pub(crate) fn check_trained(
    network: &Network,
    [channels, height, width]: [usize; 3],
    recipe: &Recipe,
    train: &Loader,
) -> Result<Option<Single>, TrainError> {
    let takes = |batch| refusing(network, [batch, channels, height, width], true);
    if let Some(single) = takes(2) {
        return Err(too_small(&single, [height, width]));
    }
    let Some(single) = takes(1) else {
        return Ok(None);
    };
    let images = recipe.data.crops_per_image * train.num_images();
    if recipe.batch_size > 1 && images > 1 {
        return Ok(train.ends_with_a_single().then_some(single));
    }
    Err(TrainError::SingleValue {
        problem: format!(
            "a batch of a single image leaves a single value for each channel to {single}"
        ),
        advice: match images {
            1 => "give more training images, or another normalization, such as model.norm=layer",
            _ => "give batch_size=2 or more, or another normalization, such as model.norm=layer",
        }
        .into(),
    })
}

/// Refuses images of `[channels, height, width]` that a network could be trained with, but not be evaluated on one by one.
pub(crate) fn check_evaluated(
    network: &Network,
    [channels, height, width]: [usize; 3],
) -> Result<(), TrainError> {
    match refusing(network, [1, channels, height, width], false) {
        Some(single) => Err(too_small(&single, [height, width])),
        None => Ok(()),
    }
}

fn too_small(single: &Single, [height, width]: [usize; 2]) -> TrainError {
    TrainError::SingleValue {
        problem: format!(
            "images of {height}x{width} are too small for the model: they leave a single value to normalize to {single}"
        ),
        advice: "give larger ones (data.size, data.crop_size), or another normalization, such as model.norm=layer".into(),
    }
}

/// Refuses an input outside training that is too small for the network, or for one of its normalizations.
pub(crate) fn check_input(network: &Network, input: [usize; 4]) -> Result<(), TrainError> {
    let walked = walk(network, input, false);
    let [_, _, height, width] = input;
    let problem = match (walked.shapes.too_small(), walked.found) {
        (Some(layer), _) => format!("nothing of it is left after '{layer}'"),
        (None, Some(single)) => format!("it leaves a single value to normalize to {single}"),
        (None, None) => return Ok(()),
    };
    Err(TrainError::SmallInput {
        height,
        width,
        problem,
    })
}

fn walk(network: &Network, input: [usize; 4], training: bool) -> Walk {
    let mut walk = Walk {
        shapes: Shapes::default(),
        path: Vec::new(),
        training,
        found: None,
    };
    match network {
        Network::Classifier(model) => {
            model.pass(&mut walk, input);
        }
        Network::Segmenter(model) => {
            model.pass(&mut walk, input);
        }
    }
    walk
}

/// Works out shapes, and looks at each normalization's.
struct Walk {
    shapes: Shapes,
    path: Vec<String>,
    training: bool,
    found: Option<Single>,
}

impl Pass for Walk {
    type Maps = [usize; 4];
    type Vectors = [usize; 2];

    fn enter(&mut self, name: fmt::Arguments<'_>) {
        self.path.push(name.to_string());
        self.shapes.enter(name);
    }

    fn leave(&mut self, output: &[usize; 4]) {
        self.path.pop();
        self.shapes.leave(output);
    }

    fn layer(
        &mut self,
        layer: Layer<'_>,
        x: [usize; 4],
        compute: impl FnOnce(Tensor<4>) -> Tensor<4>,
        shape: impl FnOnce([usize; 4]) -> [usize; 4],
    ) -> [usize; 4] {
        self.shapes.layer(layer, x, compute, shape)
    }

    fn merge(
        &mut self,
        parts: Vec<[usize; 4]>,
        compute: impl FnOnce(Vec<Tensor<4>>) -> Tensor<4>,
        shape: impl FnOnce(&[[usize; 4]]) -> [usize; 4],
    ) -> [usize; 4] {
        self.shapes.merge(parts, compute, shape)
    }

    fn flatten(&mut self, x: [usize; 4]) -> [usize; 2] {
        self.shapes.flatten(x)
    }

    fn vector_layer(
        &mut self,
        layer: Layer<'_>,
        x: [usize; 2],
        compute: impl FnOnce(Tensor<2>) -> Tensor<2>,
        shape: impl FnOnce([usize; 2]) -> [usize; 2],
    ) -> [usize; 2] {
        self.shapes.vector_layer(layer, x, compute, shape)
    }

    fn norm(&mut self, name: &str, norm: &NormLayer, x: [usize; 4]) -> [usize; 4] {
        if self.found.is_none() && norm.refuses(&x, self.training) {
            let kind = match norm {
                NormLayer::Batch(_) => "BatchNorm",
                NormLayer::Instance(_) => "InstanceNorm",
                _ => "GroupNorm",
            };
            let mut path = self.path.clone();
            path.push(name.into());
            path.retain(|part| !part.is_empty());
            self.found = Some(Single {
                layer: format!("{} ({kind})", path.join(".")),
                maps: [x[2], x[3]],
            });
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::TaskName::{Classification, Segmentation};
    use burn::tensor::Device;
    use kiln_zoo::Settings;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn network(name: &str, input: [usize; 3], norm: &str, device: &Device) -> Network {
        let (task, channels) = match name {
            "unet" => (Segmentation, Some(vec![2])),
            _ => (Classification, None),
        };
        let settings = Settings {
            input,
            channels,
            norm: (name != "mlp").then(|| norm.parse().unwrap()),
            ..Settings::default()
        };
        Network::create(task, name, &settings, device).unwrap()
    }

    fn forward(network: &Network, images: Tensor<4>) {
        match network {
            Network::Classifier(model) => drop(model.forward(images)),
            Network::Segmenter(model) => drop(model.forward(images)),
        }
    }

    #[test]
    fn what_is_refused_in_advance_is_what_the_forward_pass_refuses() {
        let plain = kiln_testing::devices().remove(0);
        let training = plain.clone().autodiff();
        for (name, side) in [
            ("resnet18", 28),
            ("cnn", 4),
            ("mlp", 4),
            ("unet", 16),
            ("unet", 32),
        ] {
            for norm in ["batch", "layer", "instance", "group:2", "group-size:1"] {
                let input = [1, side, side];
                for device in [&training, &plain] {
                    let network = network(name, input, norm, device);
                    for batch in [1, 2] {
                        let shape = [batch, 1, side, side];
                        let refused = refusing(&network, shape, device.is_autodiff());
                        let images = Tensor::<4>::zeros(shape, device);
                        let computed = catch_unwind(AssertUnwindSafe(|| forward(&network, images)));
                        assert_eq!(
                            refused.is_some(),
                            computed.is_err(),
                            "{name} {norm} {shape:?}: {refused:?}"
                        );
                        if !device.is_autodiff() {
                            assert_eq!(check_input(&network, shape).is_ok(), refused.is_none());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_refused_layer_is_named_as_pytorch_names_it() {
        let device = kiln_testing::devices().remove(0).autodiff();
        let resnet = network("resnet18", [1, 28, 28], "batch", &device);
        let single = refusing(&resnet, [1, 1, 28, 28], true).unwrap();
        assert_eq!(
            single.to_string(),
            "layer4.0.bn1 (BatchNorm), whose maps are 1x1 there"
        );
        let small = check_input(&resnet, [1, 1, 0, 4]).unwrap_err().to_string();
        assert!(small.contains("an image of 0x4 is too small"), "{small}");
    }

    #[test]
    fn no_model_of_the_zoo_is_refused_at_its_own_size() {
        let device = kiln_testing::devices().remove(0).autodiff();
        for info in kiln_zoo::models() {
            let task = match info.task {
                kiln_zoo::Task::Classification => Classification,
                kiln_zoo::Task::Segmentation => Segmentation,
            };
            let [channels, height, width] = info.input;
            let settings = Settings {
                input: info.input,
                num_classes: info.num_classes,
                ..Settings::default()
            };
            let network = Network::create(task, info.name, &settings, &device).unwrap();
            let refused = refusing(&network, [2, channels, height, width], true);
            assert_eq!(refused, None, "{}", info.name);
            check_input(&network, [1, channels, height, width]).unwrap();
        }
    }
}
