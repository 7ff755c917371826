//! [`StateDict`]: what a weight file holds.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use burn::store::burn_pack;
use burn::tensor::{BoolStore, DType, Shape, TensorData, bf16, f16};

use super::WeightsError;
use super::pth;
use super::safetensors;
use super::source::{Outcome, Problem, Source, malformed};
use super::zip::Record;

/// The type of a tensor's numbers in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Element {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Element {
    const ALL: [(Self, &'static str, &'static str, u64); 10] = [
        (Self::F64, "float64", "F64", 8),
        (Self::F32, "float32", "F32", 4),
        (Self::F16, "float16", "F16", 2),
        (Self::BF16, "bfloat16", "BF16", 2),
        (Self::I64, "int64", "I64", 8),
        (Self::I32, "int32", "I32", 4),
        (Self::I16, "int16", "I16", 2),
        (Self::I8, "int8", "I8", 1),
        (Self::U8, "uint8", "U8", 1),
        (Self::Bool, "bool", "BOOL", 1),
    ];

    fn row(self) -> (Self, &'static str, &'static str, u64) {
        Self::ALL[self as usize]
    }

    /// PyTorch's name for it: `float32`, `int64`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Bytes of one number.
    pub fn size(self) -> u64 {
        self.row().3
    }

    pub(super) fn safetensors(self) -> &'static str {
        self.row().2
    }

    pub(super) fn of_safetensors(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|row| row.2 == name)
            .map(|row| row.0)
    }

    pub(super) fn of_dtype(dtype: DType) -> Option<Self> {
        Some(match dtype {
            DType::F64 => Self::F64,
            DType::F32 | DType::Flex32 => Self::F32,
            DType::F16 => Self::F16,
            DType::BF16 => Self::BF16,
            DType::I64 => Self::I64,
            DType::I32 => Self::I32,
            DType::I16 => Self::I16,
            DType::I8 => Self::I8,
            DType::U8 => Self::U8,
            DType::Bool(BoolStore::Native | BoolStore::U8) => Self::Bool,
            _ => return None,
        })
    }

    /// The numbers in little-endian bytes; a bool becomes `u8`, since a byte other than 0 and 1 is no bool.
    pub(super) fn typed(self, bytes: &[u8], shape: impl Into<Shape>) -> TensorData {
        macro_rules! numbers {
            ($type:ty) => {{
                let numbers = bytes.chunks_exact(size_of::<$type>());
                let number = |bytes: &[u8]| {
                    <$type>::from_le_bytes(bytes.try_into().expect("the chunks have this size"))
                };
                TensorData::new(numbers.map(number).collect::<Vec<$type>>(), shape)
            }};
        }
        match self {
            Self::F64 => numbers!(f64),
            Self::F32 => numbers!(f32),
            Self::F16 => numbers!(f16),
            Self::BF16 => numbers!(bf16),
            Self::I64 => numbers!(i64),
            Self::I32 => numbers!(i32),
            Self::I16 => numbers!(i16),
            Self::I8 => numbers!(i8),
            Self::U8 | Self::Bool => numbers!(u8),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

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
/// (`state_dict`, `model_state_dict`, `model`, `net`, ...) are taken, or those below the only key that has any;
/// [`open_key`](Self::open_key) chooses another.
///
/// # Safety of foreign files
///
/// A PyTorch file is a *pickle*, a program that can name and call any Python function. Kiln runs none:
/// its reader knows ordered dicts, tensors and plain values, and refuses a file that names anything else. Every
/// length, offset and shape is checked against the file's size before anything is allocated; compressed
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
        Self::open_with(path.as_ref(), None)
    }

    /// As [`open`](Self::open), with the weights of a PyTorch checkpoint that lie below `key`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); [`WeightsError::Unsupported`] with the keys that there are if this is none.
    pub fn open_key(path: impl AsRef<Path>, key: &str) -> Result<Self, WeightsError> {
        Self::open_with(path.as_ref(), Some(key))
    }

    fn open_with(path: &Path, key: Option<&str>) -> Result<Self, WeightsError> {
        let read = || -> Outcome<_> {
            let source = Source::open(path)?;
            let (format, (key, entries)) = describe(path, &source, key)?;
            Ok((source, format, key, entries))
        };
        let (source, format, key, entries) = read().map_err(|problem| with_path(problem, path))?;
        let index = entries.iter().enumerate();
        Ok(Self {
            path: path.into(),
            source,
            format,
            key,
            index: index.map(|(i, entry)| (entry.name.clone(), i)).collect(),
            entries,
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

    /// The tensors, in the file's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The tensor of a name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.index.get(name).map(|&i| &self.entries[i])
    }

    /// Reads a tensor's numbers, in the type and shape that the file has; a bool is read as `u8`.
    ///
    /// # Errors
    ///
    /// [`WeightsError::NoEntry`] for an unknown name, [`WeightsError::Malformed`] if a check sum
    /// differs, or if a tensor that repeats few numbers claims far more than its file could hold.
    pub fn read(&self, name: &str) -> Result<TensorData, WeightsError> {
        match self.entry(name) {
            Some(entry) => Ok(entry
                .element
                .typed(&self.bytes(entry)?, entry.shape.clone())),
            None => Err(WeightsError::NoEntry {
                path: self.path.clone(),
                name: name.into(),
            }),
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
        if elements.saturating_mul(size) > record.len.max(EXPANDED) {
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

fn describe(path: &Path, source: &Source, key: Option<&str>) -> Outcome<(Format, pth::Found)> {
    let start = source.read(0, source.len().min(64))?;
    let found = match &start[..] {
        [] => return malformed("it is empty"),
        [b'P', b'K', 3, 4, ..] => (Format::PyTorch, pth::read_zip(source, key)?),
        _ if pth::is_legacy(&start) => (Format::PyTorchLegacy, pth::read_legacy(source, key)?),
        _ if start.starts_with(&burn_pack::MAGIC_NUMBER.to_le_bytes()) => {
            (Format::Burnpack, (None, burnpack(path, source)?))
        }
        _ if safetensors::is_safetensors(&start) => {
            (Format::Safetensors, (None, safetensors::read(source)?))
        }
        [0x80, ..] => {
            return Err(Problem::Unsupported(
                "it is a Python pickle, but not one that torch.save wrote".into(),
            ));
        }
        [b'v' | b'<', ..] => {
            return malformed(
                "it is text, not weights: a Git LFS pointer or a web page in the place of a download?",
            );
        }
        _ => {
            return malformed("it is none of: PyTorch (.pth), safetensors, Burn's burnpack (.bpk)");
        }
    };
    Ok(found)
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
