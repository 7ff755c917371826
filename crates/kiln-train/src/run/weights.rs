//! Weights in `model.safetensors`: those of [`kiln_zoo::weights`], in a file that is whole or not there.

use std::path::Path;

use kiln_zoo::weights::{self, Load};

use crate::error::TrainError;
use crate::run::files::write_atomically;
use crate::tasks::network::Network;

/// Writes the weights and the names of the classes; the file is whole or not there.
pub(crate) fn save_weights(
    model: &Network,
    classes: &[String],
    path: &Path,
) -> Result<(), TrainError> {
    let mut bytes = Vec::new();
    let written = match model {
        Network::Classifier(model) => weights::write_with_classes(model, classes, &mut bytes),
        Network::Segmenter(model) => weights::write_with_classes(model, classes, &mut bytes),
    };
    written.map_err(|error| TrainError::io("write", path, error))?;
    write_atomically(path, &bytes)
}

/// Reads weights into a model of the same architecture, whose outputs stand for these classes: where the file names its own, the
/// rows of the head are matched by name.
pub(crate) fn load_weights(
    model: Network,
    classes: &[String],
    path: &Path,
) -> Result<Network, TrainError> {
    let (model, _) = model.load(&Load::new().classes(classes), path)?;
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::TaskName::{Classification, Segmentation};
    use burn::tensor::{Device, Distribution, Tensor};
    use kiln_zoo::Settings;

    fn create(name: &str, device: &Device) -> Network {
        let task = match name {
            "unet" => Segmentation,
            _ => Classification,
        };
        let settings = Settings {
            channels: (name == "unet").then(|| vec![4]),
            ..Settings::default()
        };
        Network::create(task, name, &settings, device).unwrap()
    }

    #[test]
    fn weights_written_and_read_give_the_same_logits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        for device in kiln_testing::devices() {
            for name in ["cnn", "mlp", "unet"] {
                let (model, other) = (create(name, &device), create(name, &device));
                let x = Tensor::<4>::random([3, 1, 28, 28], Distribution::Default, &device);
                save_weights(&model, &[], &path).unwrap();
                let loaded = load_weights(other.clone(), &[], &path).unwrap();
                let logits = |model: &Network| match model {
                    Network::Classifier(model) => model.forward(x.clone()).into_data(),
                    Network::Segmenter(model) => model.forward(x.clone()).into_data(),
                };
                assert_eq!(logits(&loaded), logits(&model));
                assert_ne!(logits(&other), logits(&model));
            }
        }
    }

    #[test]
    fn names_and_layouts_are_pytorchs() {
        let device = kiln_testing::devices().remove(0);
        let model = kiln_zoo::create("cnn", &Default::default(), &device).unwrap();
        let names: Vec<String> = weights::names(&model)
            .into_iter()
            .filter(|(name, _)| !name.ends_with("num_batches_tracked"))
            .map(|(name, shape)| format!("{name} {shape:?}"))
            .collect();
        assert_eq!(
            names,
            [
                "conv1.weight [32, 1, 3, 3]",
                "bn1.weight [32]",
                "bn1.bias [32]",
                "bn1.running_mean [32]",
                "bn1.running_var [32]",
                "conv2.weight [64, 32, 3, 3]",
                "bn2.weight [64]",
                "bn2.bias [64]",
                "bn2.running_mean [64]",
                "bn2.running_var [64]",
                "fc1.weight [128, 3136]",
                "fc1.bias [128]",
                "fc2.weight [10, 128]",
                "fc2.bias [10]",
            ]
        );
    }

    #[test]
    fn weights_of_another_model_or_a_damaged_file_are_refused() {
        let device = kiln_testing::devices().remove(0);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let create = |name| create(name, &device);
        save_weights(&create("mlp"), &[], &path).unwrap();
        let error = load_weights(create("cnn"), &[], &path)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("the file lacks") && error.contains("conv1.weight"),
            "{error}"
        );

        let bytes = std::fs::read(&path).unwrap();
        for damage in [
            &bytes[..bytes.len() / 2],
            &bytes[..4],
            b"not weights at all",
        ] {
            std::fs::write(&path, damage).unwrap();
            let error = load_weights(create("mlp"), &[], &path).unwrap_err();
            assert!(matches!(error, TrainError::Weights(_)), "{error}");
        }
    }
}
