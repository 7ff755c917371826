//! Weights: PyTorch's `.pth`, `.safetensors` and Burn's burnpack, by name, into any Burn module.
//!
//! [`Load`] reads a file into a model and checks that the two fit: every parameter and buffer is found, in its shape, and
//! nothing is left over. [`save`] writes safetensors that PyTorch takes with `load_state_dict(strict=True)`.
//! [`StateDict`] is the file alone, for a look inside.
//!
//! Names and layouts are PyTorch's. A Burn module has them by its fields' names; what Burn does otherwise is
//! translated: `gamma` and `beta` of its norm layers are `weight` and `bias`, a linear weight is
//! `[out, in]`, the variants of an enum have no part in a name.
//!
//! ```
//! use kiln_zoo::weights::{self, Load};
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("model.safetensors");
//! # let device = kiln_testing::devices().remove(0);
//! let trained = kiln_zoo::create("mlp", &Default::default(), &device)?;
//! weights::save(&trained, &path)?;
//!
//! let fresh = kiln_zoo::create("mlp", &Default::default(), &device)?;
//! let (model, report) = Load::new().into_model(fresh, &path)?;
//! assert_eq!(report.loaded, 4); // two layers, each with weight and bias
//! # let _ = model;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod classes;
mod element;
mod error;
mod file;
mod formats;
mod module;
mod names;
mod pickle;
mod pth;
mod safetensors;
mod search;
mod source;
mod zip;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use burn::module::{Module, ParamId};

pub use element::Element;
pub use error::{Mismatch, Misshapen, Missing, Unexpected, WeightsError};
pub use file::{Entry, Format, StateDict};
use unicode_normalization::UnicodeNormalization as _;

use module::{Rows, Style};
use search::Choice;

/// Turns the name of a module's parameter into PyTorch's.
type Rename<'a> = &'a dyn Fn(&str) -> String;

/// Loads weights into a model.
///
/// | setting | default | purpose |
/// |---|---|---|
/// | [`strict`](Self::strict) | yes | an error for entries that the file lacks or the model does not know |
/// | [`allow_head_mismatch`](Self::allow_head_mismatch) | no | another number of classes: the last layer keeps its own values |
/// | [`head`](Self::head) | the model's last layer | which layer that is |
/// | [`key`](Self::key) | what fits best | where the weights lie in a checkpoint |
/// | [`classes`](Self::classes) | not compared | names of the classes, by which the head's rows are put in order |
/// | [`rename`](Self::rename) | none | PyTorch's name for a parameter whose field is named otherwise |
///
/// Numbers of any type (`f64`, `f16`, `bf16`, floats of eight bits, integers) are converted to the model's. Understood in
/// names: the prefixes of `DataParallel` and `torch.compile` (`module.`, `_orig_mod.`), one that the model's names have in
/// the file (`model.`, `backbone.`), and the names of old DenseNet files (`norm.1` for `norm1`). The counter
/// `num_batches_tracked`, which old files lack, may be on one side only. Of several sets of weights in a file that is taken
/// which has most of the model's parameters, and the weights before an average of them (`model_ema`). If the model has all
/// that it needs, entries that belong to something else (`criterion.weight`, `n_averaged`) are
/// [left aside](Report::beside).
#[derive(Clone, Debug)]
pub struct Load {
    strict: bool,
    allow_head_mismatch: bool,
    head: Option<String>,
    key: Option<String>,
    classes: Vec<String>,
    rename: fn(&str) -> String,
}

impl Default for Load {
    fn default() -> Self {
        Self::new()
    }
}

/// What was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries taken from the file.
    pub loaded: usize,
    /// Parameters of the head that kept their own values ([`Load::allow_head_mismatch`]).
    pub head_kept: Vec<String>,
    /// The key below which the weights were found, if they do not lie at the top of the file.
    pub key: Option<String>,
    /// Other keys of the file whose weights would fit as well.
    pub other_keys: Vec<String>,
    /// Entries of the file that belong to something other than the model, and were left aside.
    pub beside: Vec<String>,
    /// How the file's classes compare with the model's ([`Load::classes`]).
    pub classes: ClassOrder,
    /// With [`Load::strict`] off: parameters that kept their own values because the file lacks them.
    pub missing: Vec<String>,
    /// With [`Load::strict`] off: entries of the file that were left aside.
    pub unexpected: Vec<String>,
}

/// How the names of classes that a file carries compare with those that [`Load::classes`] was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClassOrder {
    /// The file carries none, the head was not taken from it, or no names were given.
    #[default]
    Unknown,
    /// They are the same in the same order.
    Same,
    /// They are the same in another order: the head's rows were put in the given one.
    Reordered,
    /// They are others, these: the head's rows stay where they are.
    Others(Vec<String>),
}

impl Load {
    /// Strict, with no exception.
    pub fn new() -> Self {
        Self {
            strict: true,
            allow_head_mismatch: false,
            head: None,
            key: None,
            classes: Vec::new(),
            rename: str::to_owned,
        }
    }

    /// Whether entries that only one side has are an error; if not, they are left alone and [reported](Report).
    /// An entry of another shape is an error in any case.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Whether the head may be for another number of classes, or absent: it keeps its own, freshly drawn values
    /// then. Its input must agree.
    pub fn allow_head_mismatch(mut self, allow: bool) -> Self {
        self.allow_head_mismatch = allow;
        self
    }

    /// The head by name, such as `fc`; the model's last layer if not set.
    pub fn head(mut self, layer: impl Into<String>) -> Self {
        self.head = Some(layer.into());
        self
    }

    /// The key of a checkpoint below which the weights lie.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The names of the classes in the order of the model's outputs. If the file carries the same names in another order
    /// ([`StateDict::classes`]), the rows of the head are put in this one, so that each class keeps its weights;
    /// [`Report::classes`] says what was done.
    pub fn classes<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.classes = names.into_iter().map(Into::into).collect();
        self
    }

    /// How a parameter that the model calls by the given name is called in PyTorch.
    pub fn rename(mut self, rename: fn(&str) -> String) -> Self {
        self.rename = rename;
        self
    }

    /// Loads a file into a model, which it gives back. Which parameters are trained stays as it was.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Mismatch`] if they do not fit each other, and all errors of [`StateDict::open`]. On an error the
    /// model is lost; clone it before (a cheap operation) if it is still needed.
    pub fn into_model<M: Module>(
        &self,
        model: M,
        path: impl AsRef<Path>,
    ) -> Result<(M, Report), WeightsError> {
        let slots = module::slots(&model, Style::PyTorch(&self.rename));
        let fit = |entries: &[Entry]| names::hits(&slots, entries);
        let choice = Choice {
            key: self.key.as_deref(),
            fit: Some(&fit),
        };
        let file = StateDict::open_with(path.as_ref(), choice)?;
        self.from_state_dict(model, &file)
    }

    /// As [`into_model`](Self::into_model), from a file that is open.
    ///
    /// # Errors
    ///
    /// As [`into_model`](Self::into_model).
    pub fn from_state_dict<M: Module>(
        &self,
        model: M,
        file: &StateDict,
    ) -> Result<(M, Report), WeightsError> {
        let style = match file.format() {
            Format::Burnpack => burn_style(&model, file),
            _ => Style::PyTorch(&self.rename),
        };
        let slots = module::slots(&model, style);
        let rules = names::Rules {
            allow_head_mismatch: self.allow_head_mismatch,
            head: self.head.as_deref(),
        };
        let plan = names::plan(&slots, file.entries(), file.unreadable(), &rules);
        let plan = plan.map_err(|problem| file::with_path(problem, file.path()))?;
        let mut mismatch = plan.mismatch;
        let mut report = Report {
            loaded: plan.entries.len(),
            head_kept: plan.head_kept,
            key: file.key().map(Into::into),
            other_keys: [file.others(), &plan.others[..]].concat(),
            beside: plan.beside,
            ..Report::default()
        };
        if !self.strict {
            let names = mismatch.missing.drain(..).map(|entry| entry.name);
            report.missing = names.collect();
            let names = mismatch.unexpected.drain(..).map(|entry| entry.name);
            report.unexpected = names.collect();
        }
        if !mismatch.is_empty() {
            return Err(WeightsError::Mismatch {
                path: file.path().into(),
                mismatch: mismatch.into(),
            });
        }
        let mut rows = None;
        if let Some(head) = rules.head.or_else(|| names::head(&slots))
            && report.head_kept.is_empty()
        {
            let of_head = slots.iter().find(|slot| names::is_below(&slot.name, head));
            let len = of_head.and_then(|slot| slot.shape.first().copied());
            report.classes = self.class_order(file, len);
            if report.classes == ClassOrder::Reordered {
                rows = file.classes().map(|classes| Rows {
                    head,
                    order: order(classes, &self.classes),
                });
            }
        }
        let model = module::apply(model, file, &plan.entries, rows.as_ref(), style)?;
        Ok((model, report))
    }

    /// Compares the classes of a file with the given ones, if both are those of a head of `len` rows.
    fn class_order(&self, file: &StateDict, len: Option<usize>) -> ClassOrder {
        let Some(classes) = file.classes() else {
            return ClassOrder::Unknown;
        };
        if Some(classes.len()) != len || classes.len() != self.classes.len() {
            return ClassOrder::Unknown;
        }
        let sorted = |names: &[String]| {
            let mut names: Vec<String> = names.iter().map(|name| composed(name)).collect();
            names.sort_unstable();
            names
        };
        if classes == self.classes {
            ClassOrder::Same
        } else if sorted(classes) == sorted(&self.classes) {
            ClassOrder::Reordered
        } else {
            ClassOrder::Others(classes.to_vec())
        }
    }
}

/// Where each of the wanted names is among the given ones.
fn order(given: &[String], wanted: &[String]) -> Vec<usize> {
    let places = given.iter().enumerate();
    let places: std::collections::HashMap<String, usize> =
        places.map(|(i, name)| (composed(name), i)).collect();
    wanted.iter().map(|name| places[&composed(name)]).collect()
}

/// The name with each letter and its accents as one character, if there is one: file systems of macOS take them apart.
fn composed(name: &str) -> String {
    name.nfc().collect()
}

/// Splits `FILE#KEY` into the file and the key for [`Load::key`]. A file whose name has a `#` and that is there is
/// taken as it is.
///
/// ```
/// use std::path::{Path, PathBuf};
/// use kiln_zoo::weights::split_key;
/// let (file, key) = split_key(Path::new("checkpoint.pth#model_ema"));
/// assert_eq!((file, key.as_deref()), (PathBuf::from("checkpoint.pth"), Some("model_ema")));
/// assert_eq!(split_key(Path::new("plain.pth")), (PathBuf::from("plain.pth"), None));
/// ```
pub fn split_key(path: &Path) -> (PathBuf, Option<String>) {
    let split = path.to_str().and_then(|text| text.rsplit_once('#'));
    match split {
        Some((file, key)) if !file.is_empty() && !key.is_empty() && !path.exists() => {
            (file.into(), Some(key.into()))
        }
        _ => (path.into(), None),
    }
}

/// A record of an enum names its variant, one of the module inside does not; both fit the enum.
fn burn_style<M: Module>(model: &M, file: &StateDict) -> Style<'static> {
    let found = |variants| {
        let slots = module::slots(model, Style::Burn { variants });
        slots
            .iter()
            .filter(|slot| file.entry(&slot.name).is_some())
            .count()
    };
    Style::Burn {
        variants: found(true) >= found(false),
    }
}

/// Writes a model's parameters and buffers as safetensors under PyTorch's names and in its layouts. The same weights give
/// the same bytes.
///
/// # Errors
///
/// [`WeightsError::Io`] if the file cannot be written; what was there before is lost then.
pub fn save<M: Module>(model: &M, path: impl AsRef<Path>) -> Result<(), WeightsError> {
    let path = path.as_ref();
    let write = || {
        let mut file = BufWriter::new(std::fs::File::create(path)?);
        write(model, &mut file)?;
        file.flush()
    };
    write().map_err(|source| WeightsError::Io {
        action: "write",
        path: path.into(),
        source,
    })
}

/// As [`save`], to anything that can be written.
///
/// # Errors
///
/// Those of the writer.
pub fn write<M: Module>(model: &M, out: impl Write) -> std::io::Result<()> {
    write_with_classes(model, &[], out)
}

/// As [`write()`], with the names of the classes in the order of the model's outputs, for [`StateDict::classes`].
///
/// # Errors
///
/// Those of the writer.
pub fn write_with_classes<M: Module>(
    model: &M,
    classes: &[String],
    out: impl Write,
) -> std::io::Result<()> {
    let tensors = module::outputs(model, Style::PyTorch(&str::to_owned));
    safetensors::write(&tensors, classes, out)
}

/// Names and shapes of a model's parameters and buffers as PyTorch's `state_dict()` lists them; empty shapes are scalars.
///
/// ```
/// # let device = kiln_testing::devices().remove(0);
/// let norm = burn::nn::BatchNormConfig::new(8).init(&device);
/// let names: Vec<String> = kiln_zoo::weights::names(&norm).into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["weight", "bias", "running_mean", "running_var"]);
/// ```
pub fn names<M: Module>(model: &M) -> Vec<(String, Vec<usize>)> {
    let slots = module::slots(model, Style::PyTorch(&str::to_owned));
    slots
        .into_iter()
        .map(|slot| (slot.name, slot.shape))
        .collect()
}

/// Gives every parameter and buffer a value computed from its name and shape in PyTorch: `values` returns the numbers in
/// PyTorch's order, or nothing to leave a parameter as it is.
///
/// # Panics
///
/// If there are not as many numbers as the shape says.
///
/// ```
/// use kiln_zoo::weights;
/// # let device = kiln_testing::devices().remove(0);
/// let linear = burn::nn::LinearConfig::new(2, 3).init(&device);
/// let linear = weights::fill(linear, |name, shape| {
///     (name == "weight").then(|| vec![0.5; shape.iter().product()])
/// });
/// assert_eq!(linear.weight.val().sum().into_scalar::<f32>(), 3.0);
/// ```
pub fn fill<M: Module>(model: M, mut values: impl FnMut(&str, &[usize]) -> Option<Vec<f32>>) -> M {
    module::fill(model, Style::PyTorch(&str::to_owned), &mut values)
}

/// The name in PyTorch and the identity in Burn of every float parameter and buffer, to find a parameter's gradient by
/// its name.
pub fn ids<M: Module>(model: &M) -> Vec<(String, ParamId)> {
    module::ids(model, Style::PyTorch(&str::to_owned))
}
