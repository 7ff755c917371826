//! A pickle machine that knows tensors and plain values, and nothing else.
//!
//! Python's pickle is a small stack language in which a file can name any function and call it. This machine
//! has no way to call anything: the few names that `torch.save` writes for a state dict are built in
//! ([`Global`]), and what any other name would make is an [`Object`], of which nothing is known but its entries and
//! attributes as the file has them. So what stands beside the weights need not be understood. What it builds lives in one list and refers to its parts
//! by index, so that nesting, sharing and cycles cost nothing: no recursion, no copies, and memory in
//! proportion to the bytes read, with a limit on top.

use std::collections::HashMap;

use super::element::Element;
use super::source::{Cursor, Outcome, Problem, malformed};

/// Values of one file. A state dict needs about 30 for each tensor, a checkpoint with an optimizer twice that.
const MAX_VALUES: usize = 4_000_000;
/// Tensors of one file; the largest checkpoints have a few thousand.
const MAX_TENSORS: usize = 500_000;
/// Axes of a tensor.
const MAX_RANK: usize = 16;
/// Bytes of a storage's name; torch.save numbers them.
const MAX_KEY: usize = 64;

/// Index of a value.
pub(super) type Id = u32;

const NONE: Id = 0;
const TRUE: Id = 1;
const FALSE: Id = 2;

/// A value that a pickle can make here.
#[derive(Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// Two's complement, little-endian, longer than 64 bits.
    Long(Box<[u8]>),
    Float,
    Text(Box<str>),
    /// Bytes, and text that is not UTF-8.
    Bytes,
    Tuple(Box<[Id]>),
    /// A list or a set.
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Box<Storage>),
    Tensor(Box<Tensor>),
    /// What Python would make by calling something that is not known here: an object with entries, if it is a kind of
    /// dict, and attributes, of which nothing is known but what the file says.
    Object(Box<Object>),
    /// A device, a dtype, a counter: of no use here.
    Other,
}

/// An object that Kiln does not make.
#[derive(Debug)]
pub(super) struct Object {
    /// What it is, an index for [`Pickle::name`].
    what: What,
    /// Its entries as a dict.
    pub(super) entries: Vec<(Id, Id)>,
    /// Its attributes: a dict, or anything else.
    pub(super) state: Option<Id>,
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Made by a foreign function or class, an index of the names that the file has.
    Foreign(u32),
    /// A tensor of a kind that Kiln does not read.
    Tensor(&'static str),
}

/// The Python objects that a file may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    /// A tensor over bytes whose type is given beside them.
    RebuildTypedTensor,
    RebuildParameter,
    /// A tensor with attributes: a known function and its arguments.
    RebuildWithState,
    /// A tensor of a kind that Kiln does not read.
    RebuildOther(&'static str),
    Size,
    Dtype(Option<Element>),
    Storage(Scalar),
    /// What makes plain values of no use here: counters, sets, bytes, devices.
    Plain,
    /// Anything else, which is neither looked for nor called: an index of the names that the file has.
    Foreign(u32),
}

/// The numbers of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Known(Element),
    /// Of this many bytes, and of a type that Kiln does not read.
    Unknown(u64, &'static str),
}

impl Scalar {
    pub(super) fn size(self) -> u64 {
        match self {
            Self::Known(element) => element.size(),
            Self::Unknown(size, _) => size,
        }
    }

    /// The storage class of this name.
    fn of_class(name: &str) -> Option<Self> {
        use Element::*;
        let quantized = "it is quantized; save dequantize() of it";
        let complex = "its numbers are complex";
        Some(match name {
            "DoubleStorage" => Self::Known(F64),
            "FloatStorage" => Self::Known(F32),
            "HalfStorage" => Self::Known(F16),
            "BFloat16Storage" => Self::Known(BF16),
            "LongStorage" => Self::Known(I64),
            "IntStorage" => Self::Known(I32),
            "ShortStorage" => Self::Known(I16),
            "CharStorage" => Self::Known(I8),
            "ByteStorage" | "UntypedStorage" => Self::Known(U8),
            "BoolStorage" => Self::Known(Bool),
            "ComplexDoubleStorage" => Self::Unknown(16, complex),
            "ComplexFloatStorage" => Self::Unknown(8, complex),
            "QInt32Storage" => Self::Unknown(4, quantized),
            "QInt8Storage" | "QUInt8Storage" | "QUInt4x2Storage" | "QUInt2x4Storage" => {
                Self::Unknown(1, quantized)
            }
            _ => return None,
        })
    }
}

impl Global {
    fn named(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_tensor_v3") => Self::RebuildTypedTensor,
            (
                "torch._utils",
                "_rebuild_parameter"
                | "_rebuild_parameter_with_state"
                | "_rebuild_device_tensor_from_cpu_tensor",
            )
            | ("torch.nn.parameter", "Parameter" | "Buffer") => Self::RebuildParameter,
            ("torch._tensor", "_rebuild_from_type_v2") => Self::RebuildWithState,
            ("torch._utils", "_rebuild_qtensor") => {
                Self::RebuildOther("it is quantized; save dequantize() of it")
            }
            ("torch._utils", "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor") => {
                Self::RebuildOther("it is sparse; save to_dense() of it")
            }
            ("torch._utils", "_rebuild_meta_tensor_no_storage") => {
                Self::RebuildOther("it is on PyTorch's device 'meta', so that it has no numbers")
            }
            ("torch._utils", "_rebuild_nested_tensor") => {
                Self::RebuildOther("it is a nested tensor; save its parts")
            }
            (
                "torch._utils",
                "_rebuild_wrapper_subclass"
                | "_rebuild_device_tensor_from_numpy"
                | "_rebuild_xla_tensor",
            ) => Self::RebuildOther(
                "it is a tensor of a class of its own; save it as a plain one on the CPU",
            ),
            ("torch", "Size") => Self::Size,
            ("torch" | "torch.cuda" | "torch.storage", class) if class.ends_with("Storage") => {
                Self::Storage(Scalar::of_class(class)?)
            }
            ("torch", dtype) if Self::is_dtype(dtype) => Self::Dtype(Element::of_pytorch(dtype)),
            ("torch", "device" | "Generator")
            | ("torch.serialization", "_get_layout")
            | ("collections", "Counter")
            | ("_codecs", "encode")
            | (
                "builtins" | "__builtin__",
                "bytearray" | "bytes" | "set" | "frozenset" | "complex" | "range" | "slice",
            ) => Self::Plain,
            _ => return None,
        })
    }

    /// Whether `torch` has a dtype, a memory format or a way of quantizing of this name.
    fn is_dtype(name: &str) -> bool {
        Element::of_pytorch(name).is_some()
            || matches!(
                name,
                "complex32"
                    | "bcomplex32"
                    | "complex64"
                    | "complex128"
                    | "float4_e2m1fn_x2"
                    | "quint8"
                    | "qint8"
                    | "qint32"
                    | "quint4x2"
                    | "quint2x4"
                    | "bits8"
                    | "bits16"
                    | "bits1x8"
                    | "bits2x4"
                    | "bits4x2"
                    | "per_tensor_affine"
                    | "per_tensor_symmetric"
                    | "per_channel_affine"
                    | "per_channel_symmetric"
                    | "per_channel_affine_float_qparams"
                    | "contiguous_format"
                    | "channels_last"
                    | "channels_last_3d"
                    | "preserve_format"
            )
            || ["int", "uint"].iter().any(|kind| {
                name.strip_prefix(kind)
                    .is_some_and(|bits| matches!(bits, "1" | "2" | "3" | "4" | "5" | "6" | "7"))
            })
    }
}

/// The numbers that one or more tensors look at.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    pub(super) scalar: Scalar,
    pub(super) key: Box<str>,
    /// Elements, as the pickle says.
    pub(super) len: u64,
    /// Where a view into another storage begins, in elements (legacy files).
    pub(super) offset: u64,
}

/// A tensor: a view of a storage.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) storage: Storage,
    pub(super) element: Element,
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    pub(super) strides: Vec<u64>,
}

/// What a pickle made.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    /// Names of foreign objects.
    names: Vec<Box<str>>,
    /// The value at its end.
    pub(super) root: Id,
}

impl Pickle {
    /// Runs the program at the cursor up to its end.
    pub(super) fn read(cursor: &mut Cursor) -> Outcome<Self> {
        let mut machine = Machine {
            values: vec![Value::None, Value::Bool(true), Value::Bool(false)],
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            names: Vec::new(),
            tensors: 0,
            copied: 0,
        };
        let root = machine.run(cursor)?;
        Ok(Self {
            values: machine.values,
            names: machine.names,
            root,
        })
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The entries of a dict, or of an object that has some.
    pub(super) fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Value::Dict(entries) => Some(entries),
            Value::Object(object) if !object.entries.is_empty() => Some(&object.entries),
            _ => None,
        }
    }

    /// The foreign class or function that a value is or was made by.
    pub(super) fn foreign(&self, id: Id) -> Option<&str> {
        let index = match self.get(id) {
            Value::Global(Global::Foreign(index)) => *index,
            Value::Object(object) => match object.what {
                What::Foreign(index) => index,
                What::Tensor(_) => return None,
            },
            _ => return None,
        };
        Some(&self.names[index as usize])
    }

    /// Why a tensor cannot be read, if this is one of those.
    pub(super) fn unreadable(&self, id: Id) -> Option<&'static str> {
        match self.get(id) {
            Value::Object(object) => match object.what {
                What::Tensor(why) => Some(why),
                What::Foreign(_) => None,
            },
            _ => None,
        }
    }
}

struct Machine {
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    names: Vec<Box<str>>,
    tensors: usize,
    /// Entries of lists copied into dicts: the one copy that a short program could ask for again and again.
    copied: usize,
}

impl Machine {
    fn run(&mut self, cursor: &mut Cursor) -> Outcome<Id> {
        loop {
            if self.values.len() > MAX_VALUES
                || self.stack.len() > MAX_VALUES
                || self.marks.len() > MAX_VALUES
                || self.memo.len() > MAX_VALUES
                || self.names.len() > MAX_VALUES
            {
                return malformed(format!("its pickle makes more than {MAX_VALUES} values"));
            }
            match cursor.u8()? {
                b'.' => return self.pop(),
                0x80 => match cursor.u8()? {
                    0..=5 => {}
                    other => {
                        return malformed(format!(
                            "its pickle has protocol {other}; 0 to 5 are known"
                        ));
                    }
                },
                // A frame only says how much to read ahead.
                0x95 => drop(cursor.array::<8>()?),
                b'(' => self.marks.push(self.stack.len()),
                // As in Python, this takes a mark if there is no value above it.
                b'0' if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }
                b'N' => self.stack.push(NONE),
                0x88 => self.stack.push(TRUE),
                0x89 => self.stack.push(FALSE),
                b'J' => {
                    let value = i32::from_le_bytes(cursor.array()?);
                    self.push(Value::Int(value.into()));
                }
                b'K' => {
                    let value = cursor.u8()?;
                    self.push(Value::Int(value.into()));
                }
                b'M' => {
                    let value = u16::from_le_bytes(cursor.array()?);
                    self.push(Value::Int(value.into()));
                }
                b'I' => match text(cursor.line()?)?.as_ref() {
                    "00" => self.stack.push(FALSE),
                    "01" => self.stack.push(TRUE),
                    digits => self.push_decimal(digits)?,
                },
                b'L' => {
                    let line = text(cursor.line()?)?;
                    self.push_decimal(line.trim_end_matches('L'))?;
                }
                0x8a => {
                    let len = cursor.u8()?;
                    self.push_long(cursor.bytes(len.into())?);
                }
                0x8b => {
                    let len = u32::from_le_bytes(cursor.array()?);
                    self.push_long(cursor.bytes(len.into())?);
                }
                b'G' => {
                    cursor.array::<8>()?;
                    self.push(Value::Float);
                }
                b'F' => {
                    cursor.line()?;
                    self.push(Value::Float);
                }
                b'X' | b'T' => {
                    let len = u32::from_le_bytes(cursor.array()?);
                    self.push_text(cursor.bytes(len.into())?);
                }
                0x8c | b'U' => {
                    let len = cursor.u8()?;
                    self.push_text(cursor.bytes(len.into())?);
                }
                0x8d => {
                    let len = u64::from_le_bytes(cursor.array()?);
                    self.push_text(cursor.bytes(len)?);
                }
                // Texts with escapes are none that a state dict is named by.
                b'V' => {
                    let line = cursor.line()?;
                    self.push_plain_text(&line);
                }
                b'S' => {
                    let line = cursor.line()?;
                    let quoted = |quote: &[u8]| line.strip_prefix(quote)?.strip_suffix(quote);
                    let Some(plain) = quoted(b"'").or_else(|| quoted(b"\"")) else {
                        return malformed("its pickle has a text without quotes");
                    };
                    self.push_plain_text(plain);
                }
                b'C' => {
                    let len = cursor.u8()?;
                    self.push_bytes(cursor, len.into())?;
                }
                b'B' => {
                    let len = u32::from_le_bytes(cursor.array()?);
                    self.push_bytes(cursor, len.into())?;
                }
                0x8e | 0x96 => {
                    let len = u64::from_le_bytes(cursor.array()?);
                    self.push_bytes(cursor, len)?;
                }
                b')' => self.push(Value::Tuple([].into())),
                b't' => {
                    let items = self.pop_mark()?;
                    self.push(Value::Tuple(items.into()));
                }
                0x85 => self.push_tuple(1)?,
                0x86 => self.push_tuple(2)?,
                0x87 => self.push_tuple(3)?,
                b']' | 0x8f => self.push(Value::List(Vec::new())),
                b'l' | 0x91 => {
                    let items = self.pop_mark()?;
                    self.push(Value::List(items));
                }
                b'a' => {
                    let item = self.pop()?;
                    self.extend(&[item])?;
                }
                b'e' | 0x90 => {
                    let items = self.pop_mark()?;
                    self.extend(&items)?;
                }
                b'}' => self.push(Value::Dict(Vec::new())),
                b'd' => {
                    let items = self.pop_mark()?;
                    self.push(Value::Dict(Vec::new()));
                    self.set_items(&items)?;
                }
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.set_items(&[key, value])?;
                }
                b'u' => {
                    let items = self.pop_mark()?;
                    self.set_items(&items)?;
                }
                b'p' => {
                    let key = number(&cursor.line()?)?;
                    self.remember(key)?;
                }
                b'q' => {
                    let key = cursor.u8()?;
                    self.remember(key.into())?;
                }
                b'r' => {
                    let key = u32::from_le_bytes(cursor.array()?);
                    self.remember(key)?;
                }
                0x94 => {
                    let key = self.memo.len() as u32;
                    self.remember(key)?;
                }
                b'g' => {
                    let key = number(&cursor.line()?)?;
                    self.recall(key)?;
                }
                b'h' => {
                    let key = cursor.u8()?;
                    self.recall(key.into())?;
                }
                b'j' => {
                    let key = u32::from_le_bytes(cursor.array()?);
                    self.recall(key)?;
                }
                b'c' => {
                    let (module, name) = (cursor.line()?, cursor.line()?);
                    self.push_global(&lossy(&module), &lossy(&name));
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    match (self.get(module), self.get(name)) {
                        (Value::Text(module), Value::Text(name)) => {
                            let (module, name) = (module.clone(), name.clone());
                            self.push_global(&module, &name);
                        }
                        _ => {
                            return malformed(
                                "its pickle names an object by something that is no text",
                            );
                        }
                    }
                }
                // An object by class name and arguments, in one go: state dicts never need it.
                b'i' => {
                    let (module, name) = (cursor.line()?, cursor.line()?);
                    let arguments = self.pop_mark()?;
                    self.push_global(&lossy(&module), &lossy(&name));
                    self.push(Value::Tuple(arguments.into()));
                    self.call()?;
                }
                b'o' => {
                    let mut arguments = self.pop_mark()?;
                    if arguments.is_empty() {
                        return malformed("its pickle makes an object of no class");
                    }
                    self.stack.push(arguments.remove(0));
                    self.push(Value::Tuple(arguments.into()));
                    self.call()?;
                }
                // Names that programs gave numbers to.
                0x82 => self.push_extension(cursor.u8()?.into()),
                0x83 => self.push_extension(u16::from_le_bytes(cursor.array()?).into()),
                0x84 => self.push_extension(u32::from_le_bytes(cursor.array()?)),
                b'R' | 0x81 => self.call()?,
                0x92 => {
                    // Arguments with names say nothing about a tensor.
                    self.pop()?;
                    self.call()?;
                }
                b'b' => {
                    let state = self.pop()?;
                    let target = self.top()?;
                    match &mut self.values[target as usize] {
                        Value::Object(object) => object.state = Some(state),
                        // The attributes of an OrderedDict (`_metadata`: versions of PyTorch's layers) and the like.
                        Value::Dict(_) | Value::Tensor(_) | Value::Other | Value::Global(_) => {}
                        _ => {
                            return malformed(
                                "its pickle sets attributes of something that has none",
                            );
                        }
                    }
                }
                b'Q' => {
                    let id = self.pop()?;
                    self.push_stored(id)?;
                }
                b'P' => {
                    return malformed(
                        "its pickle refers to storages by a line of text, which torch.save never does",
                    );
                }
                other => {
                    return malformed(format!(
                        "its pickle has the instruction 0x{other:02x} at byte {}, which a state dict never needs",
                        cursor.position() - 1
                    ));
                }
            }
        }
    }

    fn get(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    fn push(&mut self, value: Value) {
        let id = self.values.len() as Id;
        self.values.push(value);
        self.stack.push(id);
    }

    /// The lowest place that may be popped: a mark protects what is below it.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Outcome<Id> {
        if self.stack.len() <= self.floor() {
            return malformed("its pickle takes a value where there is none");
        }
        Ok(self.stack.pop().unwrap_or(NONE))
    }

    fn top(&self) -> Outcome<Id> {
        match self.stack[self.floor()..].last() {
            Some(&top) => Ok(top),
            None => malformed("its pickle takes a value where there is none"),
        }
    }

    fn pop_mark(&mut self) -> Outcome<Vec<Id>> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => malformed("its pickle closes a group that it never opened"),
        }
    }

    fn push_tuple(&mut self, len: usize) -> Outcome<()> {
        let mut items = [NONE; 3];
        for item in items[..len].iter_mut().rev() {
            *item = self.pop()?;
        }
        self.push(Value::Tuple(items[..len].into()));
        Ok(())
    }

    fn push_decimal(&mut self, digits: &str) -> Outcome<()> {
        let digits = digits.trim();
        match digits.parse() {
            Ok(value) => {
                self.push(Value::Int(value));
                Ok(())
            }
            // One of more than 64 bits is no size.
            Err(_)
                if digits
                    .trim_start_matches('-')
                    .bytes()
                    .all(|b| b.is_ascii_digit()) =>
            {
                self.push(Value::Other);
                Ok(())
            }
            Err(_) => malformed("its pickle has a number that is none"),
        }
    }

    fn push_long(&mut self, bytes: Vec<u8>) {
        let value = match bytes.last() {
            None => Value::Int(0),
            Some(&last) if bytes.len() <= 8 => {
                let mut wide = [if last & 0x80 != 0 { 0xff } else { 0 }; 8];
                wide[..bytes.len()].copy_from_slice(&bytes);
                Value::Int(i64::from_le_bytes(wide))
            }
            Some(_) => Value::Long(bytes.into()),
        };
        self.push(value);
    }

    fn push_bytes(&mut self, cursor: &mut Cursor, len: u64) -> Outcome<()> {
        // Raw bytes are never part of a tensor; they are passed over.
        cursor.bytes(len)?;
        self.push(Value::Bytes);
        Ok(())
    }

    fn push_text(&mut self, bytes: Vec<u8>) {
        // Text of Python 2, or with lone surrogates.
        self.push(match String::from_utf8(bytes) {
            Ok(text) => Value::Text(text.into()),
            Err(_) => Value::Bytes,
        });
    }

    fn push_plain_text(&mut self, text: &[u8]) {
        match text.contains(&b'\\') {
            true => self.push(Value::Bytes),
            false => self.push_text(text.to_vec()),
        }
    }

    fn push_global(&mut self, module: &str, name: &str) {
        let global = Global::named(module, name)
            .unwrap_or_else(|| self.foreign(format!("{module}.{name}").into()));
        self.push(Value::Global(global));
    }

    fn push_extension(&mut self, code: u32) {
        let global = self.foreign(format!("copyreg extension {code}").into());
        self.push(Value::Global(global));
    }

    fn foreign(&mut self, name: Box<str>) -> Global {
        self.names.push(name);
        Global::Foreign((self.names.len() - 1) as u32)
    }

    fn push_object(&mut self, what: What) {
        let object = Object {
            what,
            entries: Vec::new(),
            state: None,
        };
        self.push(Value::Object(object.into()));
    }

    fn extend(&mut self, items: &[Id]) -> Outcome<()> {
        let target = self.top()?;
        match &mut self.values[target as usize] {
            Value::List(list) => {
                list.extend_from_slice(items);
                Ok(())
            }
            Value::Object(_) | Value::Other => Ok(()),
            _ => malformed("its pickle appends to something that is no list"),
        }
    }

    fn set_items(&mut self, items: &[Id]) -> Outcome<()> {
        let target = self.top()?;
        match &mut self.values[target as usize] {
            _ if !items.len().is_multiple_of(2) => {
                malformed("its pickle sets a key without a value")
            }
            Value::Dict(dict) => {
                dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            Value::Object(object) => {
                let entries = items.chunks_exact(2).map(|pair| (pair[0], pair[1]));
                object.entries.extend(entries);
                Ok(())
            }
            Value::Other => Ok(()),
            _ => malformed("its pickle sets entries of something that is no dict"),
        }
    }

    fn remember(&mut self, key: u32) -> Outcome<()> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Outcome<()> {
        match self.memo.get(&key) {
            Some(&id) => {
                self.stack.push(id);
                Ok(())
            }
            None => malformed("its pickle refers to a value that it has not made"),
        }
    }

    /// What Python would do by calling the object below the top with the arguments on top. Each known one is written out;
    /// of all others nothing is called, and an [`Object`] stands for the result.
    fn call(&mut self) -> Outcome<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        self.reduce(function, arguments)
    }

    fn reduce(&mut self, function: Id, arguments: Id) -> Outcome<()> {
        let global = match self.get(function) {
            &Value::Global(global) => global,
            // What a foreign object makes is foreign.
            Value::Object(object) => {
                let what = object.what;
                self.push_object(what);
                return Ok(());
            }
            _ => return malformed("its pickle calls something that is no function"),
        };
        match global {
            Global::Foreign(index) => {
                self.push_object(What::Foreign(index));
                return Ok(());
            }
            Global::RebuildOther(why) => {
                self.push_object(What::Tensor(why));
                return Ok(());
            }
            _ => {}
        }
        let Value::Tuple(arguments) = self.get(arguments) else {
            return malformed("its pickle calls a function with something that is no tuple");
        };
        let value = match (global, &arguments[..]) {
            (Global::OrderedDict, []) => Value::Dict(Vec::new()),
            (Global::OrderedDict, &[items]) => Value::Dict(self.pairs(items)?),
            (Global::RebuildTensor, &[storage, offset, shape, strides, ref rest @ ..]) => {
                self.tensor([storage, offset, shape, strides], None, rest.get(2))?
            }
            (
                Global::RebuildTypedTensor,
                &[storage, offset, shape, strides, _, _, dtype, ref rest @ ..],
            ) => self.tensor([storage, offset, shape, strides], Some(dtype), rest.first())?,
            (Global::RebuildParameter, &[tensor, ..]) => match self.get(tensor) {
                Value::Tensor(tensor) => Value::Tensor(tensor.clone()),
                Value::Object(object) => {
                    let what = object.what;
                    self.push_object(what);
                    return Ok(());
                }
                _ => {
                    return malformed(
                        "its pickle makes a parameter of something that is no tensor",
                    );
                }
            },
            (Global::RebuildWithState, &[function, _class, arguments, ..]) => {
                return match self.get(function) {
                    // Not one in the other without end.
                    Value::Global(Global::RebuildWithState) => {
                        malformed("its pickle rebuilds what rebuilds")
                    }
                    _ => self.reduce(function, arguments),
                };
            }
            (Global::Size, &[axes]) => {
                // The tuple itself, not a copy that could be asked for again and again.
                self.items(axes)?;
                self.stack.push(axes);
                return Ok(());
            }
            (Global::Plain | Global::Dtype(_), _) => Value::Other,
            _ => {
                return malformed("its pickle gives wrong arguments to one of PyTorch's functions");
            }
        };
        match &value {
            Value::Tensor(_) => self.tensors += 1,
            Value::Dict(pairs) => self.copied += pairs.len(),
            _ => {}
        }
        if self.tensors > MAX_TENSORS || self.copied > MAX_VALUES {
            return malformed(format!(
                "its pickle makes more than {MAX_TENSORS} tensors, or copies without end"
            ));
        }
        self.push(value);
        Ok(())
    }

    fn items(&self, id: Id) -> Outcome<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) => Ok(items),
            Value::List(items) => Ok(items),
            _ => malformed("its pickle has something else where a tuple belongs"),
        }
    }

    fn pairs(&self, id: Id) -> Outcome<Vec<(Id, Id)>> {
        let pair = |&item: &Id| match self.items(item)? {
            &[key, value] => Ok((key, value)),
            _ => malformed("its pickle fills a dict with something that is no pair"),
        };
        self.items(id)?.iter().map(pair).collect()
    }

    fn natural(&self, id: Id) -> Outcome<u64> {
        match self.get(id) {
            &Value::Int(value) if value >= 0 => Ok(value as u64),
            _ => malformed("a size, stride or offset in its pickle is no natural number"),
        }
    }

    fn naturals(&self, id: Id) -> Outcome<Vec<u64>> {
        self.items(id)?
            .iter()
            .map(|&item| self.natural(item))
            .collect()
    }

    /// `("storage", type, key, location, elements)`, in legacy files with a view behind it.
    fn push_stored(&mut self, id: Id) -> Outcome<()> {
        let items = self.items(id)?;
        let tag = items.first().map(|&tag| self.get(tag));
        if let (Some(Value::Text(tag)), Some(&module)) = (tag, items.get(1))
            && tag.as_ref() == "module"
        {
            // A module's class, in legacy files of whole models with its source text behind it.
            self.stack.push(module);
            return Ok(());
        }
        let &[tag, class, key, _location, len, ref view @ ..] = items else {
            return malformed("its pickle refers to a storage in an unknown way");
        };
        let (Value::Text(tag), Value::Text(key)) = (self.get(tag), self.get(key)) else {
            return malformed("its pickle refers to a storage in an unknown way");
        };
        if tag.as_ref() != "storage" || key.len() > MAX_KEY {
            return malformed("its pickle refers to something outside that is no storage");
        }
        let scalar = match *self.get(class) {
            Value::Global(Global::Storage(scalar)) => scalar,
            Value::Global(Global::Foreign(index)) => {
                self.push_object(What::Foreign(index));
                return Ok(());
            }
            _ => return malformed("its pickle refers to a storage in an unknown way"),
        };
        let mut offset = 0;
        if let Some(&view) = view.first()
            && !matches!(self.get(view), Value::None)
        {
            match self.items(view)? {
                &[_key, start, _len] => offset = self.natural(start)?,
                _ => return malformed("its pickle has a view of a storage that is none"),
            }
        }
        let storage = Storage {
            scalar,
            key: key.clone(),
            len: self.natural(len)?,
            offset,
        };
        self.push(Value::Storage(storage.into()));
        Ok(())
    }

    /// A tensor of these parts; `dtype` is given where its storage is plain bytes.
    fn tensor(
        &self,
        [storage, offset, shape, strides]: [Id; 4],
        dtype: Option<Id>,
        metadata: Option<&Id>,
    ) -> Outcome<Value> {
        let unreadable = |what| {
            let object = Object {
                what,
                entries: Vec::new(),
                state: None,
            };
            Ok(Value::Object(object.into()))
        };
        if self.items(shape)?.len() > MAX_RANK || self.items(strides)?.len() > MAX_RANK {
            return unreadable(What::Tensor("it has more than 16 axes"));
        }
        let mut storage = match self.get(storage) {
            Value::Storage(storage) => (**storage).clone(),
            Value::Object(object) => return unreadable(object.what),
            _ => return malformed("a tensor of it looks at something that is no storage"),
        };
        let element = match (dtype.map(|dtype| self.get(dtype)), storage.scalar) {
            (None, Scalar::Known(element)) => element,
            (None, Scalar::Unknown(_, why)) => return unreadable(What::Tensor(why)),
            (Some(Value::Global(Global::Dtype(Some(element)))), scalar) => {
                // Its length and offset are in bytes.
                storage.len = storage.len.saturating_mul(scalar.size()) / element.size();
                if storage.offset != 0 {
                    return malformed("a tensor of it looks at a view of bytes");
                }
                *element
            }
            (Some(_), _) => {
                return unreadable(What::Tensor(
                    "its numbers are of a type that Kiln does not read",
                ));
            }
        };
        if let Some(&metadata) = metadata
            && let Value::Dict(flags) = self.get(metadata)
            && !flags.is_empty()
        {
            return unreadable(What::Tensor(
                "it is conjugated or negated when it is read; save clone() of it",
            ));
        }
        let tensor = Tensor {
            storage,
            element,
            offset: self.natural(offset)?,
            shape: self.naturals(shape)?,
            strides: self.naturals(strides)?,
        };
        if tensor.shape.len() != tensor.strides.len() {
            return malformed("a tensor of it has more axes than strides, or fewer");
        }
        Ok(Value::Tensor(tensor.into()))
    }
}

fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn text(bytes: Vec<u8>) -> Outcome<Box<str>> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(_) => malformed("a text in its pickle is not UTF-8"),
    }
}

fn number(line: &[u8]) -> Outcome<u32> {
    let number = std::str::from_utf8(line)
        .ok()
        .and_then(|line| line.trim().parse().ok());
    number.ok_or_else(|| Problem::Malformed("a number in its pickle is none".into()))
}
