//! The model of a run, whatever its task.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use kiln_zoo::weights::{Load, Report};
use kiln_zoo::{Classifier, Segmenter, Settings};

use crate::error::TrainError;
use crate::recipe::{ModelRecipe, TaskName};

/// A classifier, or a model for segmentation.
// One of these exists for a run.
#[allow(clippy::large_enum_variant)]
#[derive(Module, Debug)]
pub(crate) enum Network {
    /// `[batch, classes]` for images.
    Classifier(Classifier),
    /// `[batch, classes, height, width]` for images.
    Segmenter(Segmenter),
}

impl Network {
    /// A model by name, with freshly drawn weights.
    pub(crate) fn create(
        task: TaskName,
        name: &str,
        settings: &Settings,
        device: &Device,
    ) -> Result<Self, TrainError> {
        Ok(match task {
            TaskName::Classification => Self::Classifier(kiln_zoo::create(name, settings, device)?),
            TaskName::Segmentation => {
                Self::Segmenter(kiln_zoo::create_segmenter(name, settings, device)?)
            }
        })
    }

    /// Reads weights into the model within.
    pub(crate) fn load(self, load: &Load, path: &Path) -> Result<(Self, Report), TrainError> {
        Ok(match self {
            Self::Classifier(model) => {
                let (model, report) = load.into_model(model, path)?;
                (Self::Classifier(model), report)
            }
            Self::Segmenter(model) => {
                let (model, report) = load.into_model(model, path)?;
                (Self::Segmenter(model), report)
            }
        })
    }

    /// Takes the weights of a file and holds the backbone still, as the recipe says. The second is what a person
    /// should know of it.
    pub(crate) fn prepared(
        self,
        recipe: &ModelRecipe,
    ) -> Result<(Self, Option<String>), TrainError> {
        let (mut network, mut note) = (self, None);
        if let Some(path) = &recipe.weights {
            let load = Load::new().allow_head_mismatch(recipe.allow_head_mismatch);
            let report: Report;
            (network, report) = network.load(&load, path)?;
            note = Some(told(path, &report));
        }
        if recipe.freeze {
            network = match network {
                Self::Classifier(model) => Self::Classifier(model.freeze_backbone()),
                Self::Segmenter(model) => Self::Segmenter(model.freeze_backbone()),
            };
        }
        Ok((network, note))
    }
}

fn told(path: &Path, report: &Report) -> String {
    let head = match report.head_kept.as_slice() {
        [] => String::new(),
        kept => format!("; {} drawn anew", kept.join(", ")),
    };
    format!("weights: {} of {}{head}", report.loaded, path.display())
}
