//! Weights in `model.safetensors`, named and laid out as PyTorch's.

use std::path::Path;

use burn::store::{
    BurnToPyTorchAdapter, ModuleSnapshot, PathFilter, PyTorchToBurnAdapter, SafetensorsStore,
};
use kiln_zoo::Classifier;

use crate::error::TrainError;
use crate::files::write_atomically;

/// Burn keeps in each norm layer whether it is frozen; PyTorch's files know nothing of it.
const FLAG: &str = ".training";

fn damaged(path: &Path, problem: impl ToString) -> TrainError {
    TrainError::Damaged {
        path: path.into(),
        problem: problem.to_string(),
    }
}

/// Writes the weights; the file is whole or not there.
pub(crate) fn save_weights(model: &Classifier, path: &Path) -> Result<(), TrainError> {
    let weights = PathFilter::new().with_predicate(|path, _| !path.ends_with(FLAG));
    let mut store = SafetensorsStore::from_bytes(None)
        .filter(weights)
        // One key, as PyTorch's own writer has it: several would be written in a random order, and the
        // same run would give another file.
        .clear_metadata()
        .metadata("format", "pt")
        .skip_enum_variants(true)
        .with_to_adapter(BurnToPyTorchAdapter);
    model
        .save_into(&mut store)
        .map_err(|error| damaged(path, error))?;
    let bytes = store.get_bytes().map_err(|error| damaged(path, error))?;
    write_atomically(path, &bytes)
}

/// Reads weights into a model of the same architecture.
pub(crate) fn load_weights(mut model: Classifier, path: &Path) -> Result<Classifier, TrainError> {
    let bytes = std::fs::read(path).map_err(|error| TrainError::io("read", path, error))?;
    let mut store = SafetensorsStore::from_bytes(Some(bytes))
        .skip_enum_variants(true)
        .allow_partial(true)
        .validate(false)
        .with_from_adapter(PyTorchToBurnAdapter);
    let result = model
        .load_from(&mut store)
        .map_err(|error| damaged(path, error))?;
    let missing: Vec<&str> = result
        .missing
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !name.ends_with(FLAG))
        .collect();
    if !missing.is_empty() {
        return Err(damaged(path, format!("it lacks {}", missing.join(", "))));
    }
    if let Some(error) = result.errors.first() {
        return Err(damaged(path, error));
    }
    if !result.unused.is_empty() {
        let unused = result.unused.join(", ");
        return Err(damaged(
            path,
            format!("the model has no place for {unused}"),
        ));
    }
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Distribution, Tensor};

    #[test]
    fn weights_written_and_read_give_the_same_logits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        for device in kiln_testing::devices() {
            for name in ["cnn", "mlp"] {
                let create = || kiln_zoo::create(name, &Default::default(), &device).unwrap();
                let (model, other) = (create(), create());
                let x = Tensor::<4>::random([3, 1, 28, 28], Distribution::Default, &device);
                save_weights(&model, &path).unwrap();
                let loaded = load_weights(other.clone(), &path).unwrap();
                let logits = |model: &Classifier| model.forward(x.clone()).into_data();
                assert_eq!(logits(&loaded), logits(&model));
                assert_ne!(logits(&other), logits(&model));
            }
        }
    }

    #[test]
    fn names_and_layouts_are_pytorchs() {
        let device = kiln_testing::devices().remove(0);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        save_weights(
            &kiln_zoo::create("cnn", &Default::default(), &device).unwrap(),
            &path,
        )
        .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let mut names: Vec<String> = header
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| *name != "__metadata__")
            .map(|(name, tensor)| format!("{name} {}", tensor["shape"]))
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "bn1.bias [32]",
                "bn1.running_mean [32]",
                "bn1.running_var [32]",
                "bn1.weight [32]",
                "bn2.bias [64]",
                "bn2.running_mean [64]",
                "bn2.running_var [64]",
                "bn2.weight [64]",
                "conv1.weight [32,1,3,3]",
                "conv2.weight [64,32,3,3]",
                "fc1.bias [128]",
                "fc1.weight [128,3136]",
                "fc2.bias [10]",
                "fc2.weight [10,128]",
            ]
        );
    }

    #[test]
    fn weights_of_another_model_or_a_damaged_file_are_refused() {
        let device = kiln_testing::devices().remove(0);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let create = |name| kiln_zoo::create(name, &Default::default(), &device).unwrap();
        save_weights(&create("mlp"), &path).unwrap();
        let error = load_weights(create("cnn"), &path).unwrap_err().to_string();
        assert!(
            error.contains("it lacks") && error.contains("conv1.weight"),
            "{error}"
        );

        let bytes = std::fs::read(&path).unwrap();
        for damage in [
            &bytes[..bytes.len() / 2],
            &bytes[..4],
            b"not weights at all",
        ] {
            std::fs::write(&path, damage).unwrap();
            let error = load_weights(create("mlp"), &path).unwrap_err();
            assert!(matches!(error, TrainError::Damaged { .. }), "{error}");
        }
    }
}
