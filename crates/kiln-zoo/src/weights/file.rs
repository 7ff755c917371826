//! [`StateDict`]: what a weight file holds.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use burn::store::burn_pack;
use burn::tensor::TensorData;

use super::WeightsError;
use super::element::Element;
use super::formats;
use super::pth;
use super::safetensors;
use super::search::{Choice, Found, Unreadable};
use super::source::{Outcome, Problem, Source, malformed};
use super::zip::Record;

/// One tensor of a [`StateDict`].
#[derive(Clone, Debug)]
pub struct Entry {
    pub(super) name: String,
    pub(super) element: Element,
    pub(super) shape: Vec<usize>,
    pub(super) location: Location,
}

impl Entry {
    /// Its name, as the file spells it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of its numbers in the file.
    pub fn element(&self) -> Element {
        self.element
    }

    /// Its shape; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
}

/// Where a tensor's numbers are.
#[derive(Clone)]
pub(super) enum Location {
    /// At `offset` elements in a record, with steps of `strides` elements.
    Strided {
        record: Record,
        offset: u64,
        strides: Vec<u64>,
    },
    /// In Burn's reader.
    Pack(burn_pack::Tensor),
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strided {
                record,
                offset,
                strides,
            } => write!(f, "{record:?} + {offset}, strides {strides:?}"),
            Self::Pack(tensor) => write!(f, "burnpack {}", tensor.name),
        }
    }
}

impl Location {
    pub(super) fn contiguous(record: Record, shape: &[u64]) -> Self {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = shape[axis].max(1) * strides[axis];
        }
        Self::Strided {
            record,
            offset: 0,
            strides,
        }
    }
}

/// The layout of a weight file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// `torch.save` since PyTorch 1.6: a zip archive.
    PyTorch,
    /// `torch.save` before PyTorch 1.6.
    PyTorchLegacy,
    /// safetensors.
    Safetensors,
    /// Burn's own format, burnpack.
    Burnpack,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PyTorch => "PyTorch (zip)",
            Self::PyTorchLegacy => "PyTorch (before 1.6)",
            Self::Safetensors => "safetensors",
            Self::Burnpack => "burnpack",
        })
    }
}

/// What a weight file holds: names, shapes and types. The numbers stay in the file until they are
/// [read](Self::read).
///
/// The format is told from the content, not from the file's name:
///
/// | format | usual names |
/// |---|---|
/// | `torch.save`, zip archive (since PyTorch 1.6) | `.pth` `.pt` |
/// | `torch.save`, legacy (before, or `_use_new_zipfile_serialization=False`) | `.pth` `.pt` |
/// | safetensors | `.safetensors` |
/// | Burn's burnpack | `.bpk` |
///
/// In a PyTorch checkpoint that is a dict of more than weights, those below a usual key
/// (`state_dict`, `model_state_dict`, `model`, `net`, ...) are taken, up to four keys deep (`model.state_dict`), or those below
/// the only key that has any; an average of the weights (`model_ema`) counts only if there is nothing else.
/// [`open_key`](Self::open_key) chooses another, and [`Load`](super::Load) takes what fits its model best.
///
/// # Safety of foreign files
///
/// A PyTorch file is a *pickle*, a program that can name and call any Python function. Kiln runs none:
/// its reader knows ordered dicts, tensors and plain values. What else a file names is neither looked for nor called; it is
/// passed over if it stands beside the weights (an optimizer's state, the arguments of a program), and an error
/// if it stands where a tensor is needed. Every length, offset and shape is checked against the file's size before anything is allocated; compressed
/// records, which `torch.save` never writes, are refused.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("linear.safetensors");
/// # let device = kiln_testing::devices().remove(0);
/// let model = burn::nn::LinearConfig::new(3, 2).init(&device);
/// kiln_zoo::weights::save(&model, &path)?;
///
/// let file = kiln_zoo::weights::StateDict::open(&path)?;
/// let weight = file.entry("weight").unwrap();
/// assert_eq!(weight.shape(), [2, 3]); // PyTorch's order: out, in
/// assert_eq!(file.read("weight")?.num_elements(), 6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct StateDict {
    path: PathBuf,
    source: Source,
    format: Format,
    key: Option<String>,
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
    unreadable: Vec<Unreadable>,
    others: Vec<String>,
    classes: Option<Vec<String>>,
    /// Records whose check sum was compared.
    verified: Mutex<HashSet<u64>>,
}

impl StateDict {
    /// Reads the names, shapes and types of a weight file.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Io`] if it cannot be read, [`WeightsError::Malformed`] if it is damaged or lies
    /// about itself, [`WeightsError::ForeignGlobal`] if it asks for Python objects,
    /// [`WeightsError::Unsupported`] if it holds something other than weights.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        Self::open_with(path.as_ref(), Choice::default())
    }

    /// As [`open`](Self::open), with the weights that lie below `key`: a dict of a PyTorch checkpoint (`model_ema`,
    /// `model.state_dict`), or the names that begin with it (`encoder`), which are given without it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); [`WeightsError::Unsupported`] with the keys that there are if this is none.
    pub fn open_key(path: impl AsRef<Path>, key: &str) -> Result<Self, WeightsError> {
        let key = Some(key);
        Self::open_with(path.as_ref(), Choice { key, fit: None })
    }

    /// Opens a file; of several dicts of weights in it `choice` takes one.
    pub(super) fn open_with(path: &Path, choice: Choice) -> Result<Self, WeightsError> {
        let read = || -> Outcome<_> {
            let source = Source::open(path)?;
            let (format, found) = describe(path, &source, choice)?;
            Ok((source, format, found))
        };
        let (source, format, found) = read().map_err(|problem| with_path(problem, path))?;
        let index = found.entries.iter().enumerate();
        Ok(Self {
            path: path.into(),
            source,
            format,
            key: found.key,
            index: index.map(|(i, entry)| (entry.name.clone(), i)).collect(),
            entries: found.entries,
            unreadable: found.unreadable,
            others: found.others,
            classes: found.classes,
            verified: Mutex::default(),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The key of the checkpoint below which the weights lie, if they do.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The names of the classes in the order of the network's outputs, if the file carries them: in a PyTorch checkpoint under
    /// a key such as `classes`, `class_names`, `class_to_idx`, `idx_to_class`, `names`, `id2label` or `categories`, beside the
    /// weights or in a dict there (`meta`); in safetensors in the metadata under such a key, as JSON or with commas between
    /// them.
    pub fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    /// Keys of other weights in the file that would fit as well.
    pub(super) fn others(&self) -> &[String] {
        &self.others
    }

    /// What has a name among the weights but cannot be read.
    pub(super) fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// The tensors, in the file's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The tensor of a name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.index.get(name).map(|&i| &self.entries[i])
    }

    /// Reads a tensor's numbers, in the type and shape that the file has; a bool is read as `u8`, a float of eight bits as
    /// `f32`.
    ///
    /// # Errors
    ///
    /// [`WeightsError::NoEntry`] for an unknown name, [`WeightsError::Unsupported`] or [`WeightsError::ForeignGlobal`] for an
    /// entry that is no plain tensor, [`WeightsError::Malformed`] if a check sum differs, or if a tensor that repeats few
    /// numbers claims far more than its file could hold.
    pub fn read(&self, name: &str) -> Result<TensorData, WeightsError> {
        match self.entry(name) {
            Some(entry) => Ok(entry
                .element
                .typed(&self.bytes(entry)?, entry.shape.clone())),
            None => Err(
                match self.unreadable.iter().find(|entry| entry.name == name) {
                    Some(entry) => with_path(entry.problem(), &self.path),
                    None => WeightsError::NoEntry {
                        path: self.path.clone(),
                        name: name.into(),
                    },
                },
            ),
        }
    }

    /// The little-endian bytes of a tensor in row-major order.
    pub(super) fn bytes(&self, entry: &Entry) -> Result<Vec<u8>, WeightsError> {
        self.try_bytes(entry)
            .map_err(|problem| with_path(problem, &self.path))
    }

    fn try_bytes(&self, entry: &Entry) -> Outcome<Vec<u8>> {
        let (record, offset, strides) = match &entry.location {
            Location::Pack(tensor) => {
                return match tensor.to_bytes() {
                    Ok(bytes) => Ok(bytes.to_vec()),
                    Err(error) => malformed(error.to_string()),
                };
            }
            Location::Strided {
                record,
                offset,
                strides,
            } => (record, *offset, strides),
        };
        let size = entry.element.size();
        let elements: u64 = entry.shape.iter().map(|&axis| axis as u64).product();
        if elements == 0 {
            return Ok(Vec::new());
        }
        // Floats of eight bits become four times as long.
        if elements.saturating_mul(size) > record.len
            && elements.saturating_mul(size.max(4)) > EXPANDED
        {
            return malformed(format!(
                "its tensor {} claims {elements} numbers, but {} bytes are stored",
                entry.name, record.len
            ));
        }
        let unverified = |verified: &Mutex<HashSet<u64>>| {
            let mut verified = verified.lock().unwrap_or_else(|e| e.into_inner());
            verified.insert(record.start)
        };
        if unverified(&self.verified) {
            pth::verify(
                &self.source,
                record,
                &format!("of the tensor {}", entry.name),
            )?;
        }
        let axes = || entry.shape.iter().zip(strides);
        let last: u64 = axes()
            .map(|(&axis, stride)| (axis as u64 - 1) * stride)
            .sum();
        let window = self
            .source
            .read(record.start + offset * size, (last + 1) * size)?;
        if last + 1 == elements && is_contiguous(&entry.shape, strides) {
            return Ok(window);
        }
        Ok(gather(&window, &entry.shape, strides, size as usize))
    }
}

/// A tensor that repeats its numbers (`expand`) may be this large whatever is stored: 64 MiB.
const EXPANDED: u64 = 64 << 20;

fn is_contiguous(shape: &[usize], strides: &[u64]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&axis, &stride)| {
        let fits = axis == 1 || stride == expected;
        expected *= axis as u64;
        fits
    })
}

/// Copies a strided tensor in row-major order.
fn gather(window: &[u8], shape: &[usize], strides: &[u64], size: usize) -> Vec<u8> {
    let elements: usize = shape.iter().product();
    let mut bytes = Vec::with_capacity(elements * size);
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    for _ in 0..elements {
        bytes.extend_from_slice(&window[at * size..(at + 1) * size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis] as usize;
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] as usize * shape[axis];
            index[axis] = 0;
        }
    }
    bytes
}

fn describe(path: &Path, source: &Source, choice: Choice) -> Outcome<(Format, Found)> {
    let start = source.read(0, source.len().min(formats::START))?;
    let found = match &start[..] {
        [] => return malformed("it is empty"),
        [b'P', b'K', 3, 4, ..] => (Format::PyTorch, pth::read_zip(source, choice)?),
        _ if pth::is_legacy(&start) => (Format::PyTorchLegacy, pth::read_legacy(source, choice)?),
        _ if start.starts_with(&burn_pack::MAGIC_NUMBER.to_le_bytes()) => {
            let entries = burnpack(path, source)?;
            let found = Found {
                entries,
                ..Found::default()
            };
            (Format::Burnpack, below(found, choice.key)?)
        }
        _ if safetensors::is_safetensors(&start) => {
            let found = safetensors::read(source)?;
            (Format::Safetensors, below(found, choice.key)?)
        }
        [0x80, ..] => {
            return Err(Problem::Unsupported(
                "it is a Python pickle, but not one that torch.save wrote; load it with Python's pickle and write the weights with \
                 torch.save"
                    .into(),
            ));
        }
        [b'v' | b'<', ..] => {
            return malformed(
                "it is text, not weights: a Git LFS pointer or a web page in the place of a download?",
            );
        }
        start => match formats::named(start) {
            Some(what) => return Err(Problem::Unsupported(what.into())),
            None => {
                return malformed(
                    "it is none of: PyTorch (.pth), safetensors, Burn's burnpack (.bpk)",
                );
            }
        },
    };
    Ok(found)
}

/// The entries whose names begin with a key, without it; all if there is no key.
fn below(found: Found, key: Option<&str>) -> Outcome<Found> {
    let Some(key) = key else {
        return Ok(found);
    };
    let prefix = format!("{key}.");
    let stripped = |name: &str| name.strip_prefix(&prefix).map(String::from);
    let entries = found.entries.into_iter();
    let entries: Vec<Entry> = entries
        .filter_map(|entry| {
            let name = stripped(&entry.name)?;
            Some(Entry { name, ..entry })
        })
        .collect();
    if entries.is_empty() {
        return Err(Problem::Unsupported(format!(
            "no name in it begins with '{prefix}'"
        )));
    }
    let unreadable = found.unreadable.into_iter();
    let unreadable = unreadable.filter_map(|entry| {
        let name = stripped(&entry.name)?;
        Some(Unreadable { name, ..entry })
    });
    Ok(Found {
        key: Some(key.into()),
        entries,
        unreadable: unreadable.collect(),
        ..found
    })
}

fn burnpack(path: &Path, source: &Source) -> Outcome<Vec<Entry>> {
    // Burn's reader allocates for the header before it reads it.
    let mut header = [0; burn_pack::HEADER_SIZE];
    source.read_into(0, &mut header)?;
    let len = u32::from_le_bytes([header[6], header[7], header[8], header[9]]);
    if !source.holds(burn_pack::HEADER_SIZE as u64, len.into()) {
        return malformed("it was cut off, or it lies about the length of its header");
    }
    let reader = burn_pack::Reader::from_file_exact(path).and_then(|reader| reader.into_tensors());
    let tensors = match reader {
        Ok(tensors) => tensors,
        Err(error) => return malformed(error.to_string()),
    };
    tensors
        .into_iter()
        .map(|tensor| match Element::of_dtype(tensor.dtype) {
            Some(element) => Ok(Entry {
                name: tensor.name.clone(),
                element,
                shape: tensor.shape.to_vec(),
                location: Location::Pack(tensor),
            }),
            None => Err(Problem::Unsupported(format!(
                "its tensor {} has the type {:?}, which Kiln does not read",
                tensor.name, tensor.dtype
            ))),
        })
        .collect()
}

pub(super) fn with_path(problem: Problem, path: &Path) -> WeightsError {
    let path = path.to_owned();
    match problem {
        Problem::Io(source) => WeightsError::Io {
            action: "read",
            path,
            source,
        },
        Problem::Malformed(problem) => WeightsError::Malformed { path, problem },
        Problem::ForeignGlobal(global) => WeightsError::ForeignGlobal { path, global },
        Problem::Unsupported(problem) => WeightsError::Unsupported { path, problem },
    }
}

/// `64x3x7x7`; `scalar` for no axes.
pub(super) fn shape_text(shape: &[usize]) -> String {
    match shape {
        [] => "scalar".into(),
        shape => shape
            .iter()
            .map(usize::to_string)
            .collect::<Vec<_>>()
            .join("x"),
    }
}
