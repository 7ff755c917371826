//! A pickle machine that knows tensors and plain values, and nothing else.
//!
//! Python's pickle is a small stack language in which a file can name any function and call it. This machine
//! has no way to call anything: the few names that `torch.save` writes for a state dict are built in
//! ([`Global`]), and any other name ends the reading. What it builds lives in one list and refers to its parts
//! by index, so that nesting, sharing and cycles cost nothing: no recursion, no copies, and memory in
//! proportion to the bytes read, with a limit on top.

use std::collections::HashMap;

use super::file::Element;
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
    Bytes,
    Tuple(Box<[Id]>),
    /// A list or a set.
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Box<Storage>),
    Tensor(Box<Tensor>),
    /// A device, a dtype: of no use here.
    Other,
}

/// The Python objects that a file may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Size,
    Device,
    Dtype,
    Storage(Element),
}

impl Global {
    fn named(module: &str, name: &str) -> Option<Self> {
        use Element::*;
        let storage = |element| Some(Self::Storage(element));
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("torch", "Size") => Some(Self::Size),
            ("torch", "device") => Some(Self::Device),
            ("torch", "DoubleStorage") => storage(F64),
            ("torch", "FloatStorage") => storage(F32),
            ("torch", "HalfStorage") => storage(F16),
            ("torch", "BFloat16Storage") => storage(BF16),
            ("torch", "LongStorage") => storage(I64),
            ("torch", "IntStorage") => storage(I32),
            ("torch", "ShortStorage") => storage(I16),
            ("torch", "CharStorage") => storage(I8),
            ("torch", "ByteStorage") => storage(U8),
            ("torch", "BoolStorage") => storage(Bool),
            (
                "torch",
                "float64" | "float32" | "float16" | "bfloat16" | "int64" | "int32" | "int16"
                | "int8" | "uint8" | "bool",
            ) => Some(Self::Dtype),
            _ => None,
        }
    }
}

/// The numbers that one or more tensors look at.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    pub(super) element: Element,
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
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    pub(super) strides: Vec<u64>,
}

/// What a pickle made.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
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
            tensors: 0,
            copied: 0,
        };
        let root = machine.run(cursor)?;
        Ok(Self {
            values: machine.values,
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
}

struct Machine {
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
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
                    self.push(Value::Text(text(cursor.bytes(len.into())?)?));
                }
                0x8c | b'U' => {
                    let len = cursor.u8()?;
                    self.push(Value::Text(text(cursor.bytes(len.into())?)?));
                }
                0x8d => {
                    let len = u64::from_le_bytes(cursor.array()?);
                    self.push(Value::Text(text(cursor.bytes(len)?)?));
                }
                b'V' => {
                    let line = text(cursor.line()?)?;
                    if line.contains('\\') {
                        return malformed(
                            "its pickle has an escaped text, which torch.save never writes",
                        );
                    }
                    self.push(Value::Text(line));
                }
                b'S' => {
                    let line = text(cursor.line()?)?;
                    let quoted = |quote: char| line.strip_prefix(quote)?.strip_suffix(quote);
                    match quoted('\'').or_else(|| quoted('"')) {
                        Some(plain) if !plain.contains('\\') => {
                            self.push(Value::Text(plain.into()))
                        }
                        _ => {
                            return malformed(
                                "its pickle has a quoted text that torch.save never writes",
                            );
                        }
                    }
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
                    let module = text(cursor.line()?)?;
                    let name = text(cursor.line()?)?;
                    self.push_global(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    match (self.get(module), self.get(name)) {
                        (Value::Text(module), Value::Text(name)) => {
                            let (module, name) = (module.clone(), name.clone());
                            self.push_global(&module, &name)?;
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
                    let module = text(cursor.line()?)?;
                    let name = text(cursor.line()?)?;
                    return Err(Problem::ForeignGlobal(format!("{module}.{name}")));
                }
                b'R' => {
                    let arguments = self.pop()?;
                    let function = self.pop()?;
                    self.reduce(function, arguments)?;
                }
                0x81 => {
                    let arguments = self.pop()?;
                    let class = self.pop()?;
                    match self.get(class) {
                        Value::Global(Global::OrderedDict) => self.reduce(class, arguments)?,
                        _ => {
                            return malformed(
                                "its pickle makes an object of something that is no class",
                            );
                        }
                    }
                }
                b'b' => {
                    // The attributes of an OrderedDict (`_metadata`): versions of PyTorch's layers.
                    self.pop()?;
                    match self.get(self.top()?) {
                        Value::Dict(_) => {}
                        _ => {
                            return malformed(
                                "its pickle sets attributes of something that has none",
                            );
                        }
                    }
                }
                b'Q' => {
                    let id = self.pop()?;
                    let storage = self.storage(id)?;
                    self.push(Value::Storage(storage.into()));
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
        match digits.trim().parse() {
            Ok(value) => {
                self.push(Value::Int(value));
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

    fn push_global(&mut self, module: &str, name: &str) -> Outcome<()> {
        match Global::named(module, name) {
            Some(global) => {
                self.push(Value::Global(global));
                Ok(())
            }
            None => Err(Problem::ForeignGlobal(format!("{module}.{name}"))),
        }
    }

    fn extend(&mut self, items: &[Id]) -> Outcome<()> {
        let target = self.top()?;
        match &mut self.values[target as usize] {
            Value::List(list) => {
                list.extend_from_slice(items);
                Ok(())
            }
            _ => malformed("its pickle appends to something that is no list"),
        }
    }

    fn set_items(&mut self, items: &[Id]) -> Outcome<()> {
        let target = self.top()?;
        match &mut self.values[target as usize] {
            Value::Dict(dict) if items.len().is_multiple_of(2) => {
                dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
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

    /// What Python would do by calling the object; here each known one is written out.
    fn reduce(&mut self, function: Id, arguments: Id) -> Outcome<()> {
        let (Value::Global(global), Value::Tuple(arguments)) =
            (self.get(function), self.get(arguments))
        else {
            return malformed("its pickle calls something that is no function");
        };
        let value = match (global, &arguments[..]) {
            (Global::OrderedDict, []) => Value::Dict(Vec::new()),
            (Global::OrderedDict, &[items]) => Value::Dict(self.pairs(items)?),
            (Global::RebuildTensor, &[storage, offset, shape, strides, ..]) => {
                let tensor = self.tensor(storage, offset, shape, strides)?;
                Value::Tensor(tensor.into())
            }
            (Global::RebuildParameter, &[tensor, ..]) => match self.get(tensor) {
                Value::Tensor(tensor) => Value::Tensor(tensor.clone()),
                _ => {
                    return malformed(
                        "its pickle makes a parameter of something that is no tensor",
                    );
                }
            },
            (Global::Size, &[axes]) => {
                self.naturals(axes)?;
                Value::Tuple(self.items(axes)?.into())
            }
            (Global::Device, _) => Value::Other,
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
        let items = self.items(id)?;
        if items.len() > MAX_RANK {
            return malformed(format!("a tensor of it has {} axes", items.len()));
        }
        items.iter().map(|&item| self.natural(item)).collect()
    }

    /// `("storage", type, key, location, elements)`, in legacy files with a view behind it.
    fn storage(&self, id: Id) -> Outcome<Storage> {
        let &[tag, class, key, _location, len, ref view @ ..] = self.items(id)? else {
            return malformed("its pickle refers to a storage in an unknown way");
        };
        let (Value::Text(tag), Value::Global(Global::Storage(element)), Value::Text(key)) =
            (self.get(tag), self.get(class), self.get(key))
        else {
            return malformed("its pickle refers to a storage in an unknown way");
        };
        if tag.as_ref() != "storage" || key.len() > MAX_KEY {
            return malformed("its pickle refers to something outside that is no storage");
        }
        let mut offset = 0;
        if let Some(&view) = view.first()
            && !matches!(self.get(view), Value::None)
        {
            match self.items(view)? {
                &[_key, start, _len] => offset = self.natural(start)?,
                _ => return malformed("its pickle has a view of a storage that is none"),
            }
        }
        Ok(Storage {
            element: *element,
            key: key.clone(),
            len: self.natural(len)?,
            offset,
        })
    }

    fn tensor(&self, storage: Id, offset: Id, shape: Id, strides: Id) -> Outcome<Tensor> {
        let Value::Storage(storage) = self.get(storage) else {
            return malformed("a tensor of it looks at something that is no storage");
        };
        let tensor = Tensor {
            storage: (**storage).clone(),
            offset: self.natural(offset)?,
            shape: self.naturals(shape)?,
            strides: self.naturals(strides)?,
        };
        if tensor.shape.len() != tensor.strides.len() {
            return malformed("a tensor of it has more axes than strides, or fewer");
        }
        Ok(tensor)
    }
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
