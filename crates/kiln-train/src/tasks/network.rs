//! The model of a run, whatever its task.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use kiln_zoo::weights::{ClassOrder, Load, Report, split_key};
use kiln_zoo::{Classifier, Segmenter, Settings, Summary};

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

    /// Layer by layer, for one image of this size.
    pub(crate) fn summary(&self, input: [usize; 3]) -> Summary {
        match self {
            Self::Classifier(model) => model.summary(input),
            Self::Segmenter(model) => model.summary(input),
        }
    }

    /// Takes the weights of a file and holds the backbone still, as the recipe says. `classes` are those of the data, in
    /// their order. The second is what a person should know of it.
    pub(crate) fn prepared(
        self,
        recipe: &ModelRecipe,
        classes: &[String],
    ) -> Result<(Self, Option<String>), TrainError> {
        let (mut network, mut note) = (self, None);
        if let Some(path) = &recipe.weights {
            let (path, key) = split_key(path);
            let mut load = Load::new()
                .allow_head_mismatch(recipe.allow_head_mismatch)
                .classes(classes);
            if let Some(key) = key {
                load = load.key(key);
            }
            let report: Report;
            (network, report) = network.load(&load, &path)?;
            note = Some(told(&path, &report));
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
    let mut text = format!("weights: {} of {}", report.loaded, path.display());
    if let Some(key) = &report.key {
        text.push_str(&format!(" ({key})"));
    }
    if !report.head_kept.is_empty() {
        text.push_str(&format!("; {} drawn anew", report.head_kept.join(", ")));
    }
    match &report.classes {
        ClassOrder::Unknown | ClassOrder::Same => {}
        ClassOrder::Reordered => {
            text.push_str("; the rows of the head are put in the order of these data's classes, by the names in the file");
        }
        ClassOrder::Others(names) => text.push_str(&format!(
            "; the head was trained for other classes ({}), and its rows stay where they are",
            listed(names)
        )),
    }
    if !report.beside.is_empty() {
        text.push_str(&format!("; left aside: {}", listed(&report.beside)));
    }
    if let Some(other) = report.other_keys.first() {
        text.push_str(&format!(
            "; the file has others under {}, taken by model.weights={}#{other}",
            listed(&report.other_keys),
            path.display()
        ));
    }
    text
}

/// At most five names.
fn listed(names: &[String]) -> String {
    let shown = names[..names.len().min(5)].join(", ");
    match names.len() {
        ..=5 => shown,
        more => format!("{shown} and {} more", more - 5),
    }
}
