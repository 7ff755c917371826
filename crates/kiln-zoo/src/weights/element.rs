//! The types of numbers that a weight file may hold.

use std::fmt;

use burn::tensor::{BoolStore, DType, Shape, TensorData, bf16, f16};

/// The type of a tensor's numbers in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum Element {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
    F8E4M3,
    F8E5M2,
    F8E4M3Fnuz,
    F8E5M2Fnuz,
    F8E8M0,
}

/// An element, its name in PyTorch and in safetensors, and its bytes.
type Row = (Element, &'static str, &'static str, u64);

impl Element {
    const ALL: [Row; 18] = [
        (Self::F64, "float64", "F64", 8),
        (Self::F32, "float32", "F32", 4),
        (Self::F16, "float16", "F16", 2),
        (Self::BF16, "bfloat16", "BF16", 2),
        (Self::I64, "int64", "I64", 8),
        (Self::I32, "int32", "I32", 4),
        (Self::I16, "int16", "I16", 2),
        (Self::I8, "int8", "I8", 1),
        (Self::U64, "uint64", "U64", 8),
        (Self::U32, "uint32", "U32", 4),
        (Self::U16, "uint16", "U16", 2),
        (Self::U8, "uint8", "U8", 1),
        (Self::Bool, "bool", "BOOL", 1),
        (Self::F8E4M3, "float8_e4m3fn", "F8_E4M3", 1),
        (Self::F8E5M2, "float8_e5m2", "F8_E5M2", 1),
        (Self::F8E4M3Fnuz, "float8_e4m3fnuz", "F8_E4M3FNUZ", 1),
        (Self::F8E5M2Fnuz, "float8_e5m2fnuz", "F8_E5M2FNUZ", 1),
        (Self::F8E8M0, "float8_e8m0fnu", "F8_E8M0", 1),
    ];

    fn row(self) -> Row {
        Self::ALL[self as usize]
    }

    fn find(row: impl Fn(&Row) -> bool) -> Option<Self> {
        Self::ALL.into_iter().find(row).map(|row| row.0)
    }

    /// PyTorch's name for it: `float32`, `int64`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Bytes of one number.
    pub fn size(self) -> u64 {
        self.row().3
    }

    pub(super) fn of_pytorch(name: &str) -> Option<Self> {
        Self::find(|row| row.1 == name)
    }

    pub(super) fn safetensors(self) -> &'static str {
        self.row().2
    }

    pub(super) fn of_safetensors(name: &str) -> Option<Self> {
        Self::find(|row| row.2 == name)
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
            DType::U64 => Self::U64,
            DType::U32 => Self::U32,
            DType::U16 => Self::U16,
            DType::U8 => Self::U8,
            DType::Bool(BoolStore::Native | BoolStore::U8) => Self::Bool,
            _ => return None,
        })
    }

    /// The numbers in little-endian bytes. A bool becomes `u8`, since a byte other than 0 and 1 is no bool; a float of eight
    /// bits becomes `f32`, which holds all its values.
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
        let float8 = |format: Float8, shape| {
            let table: Vec<f32> = (0..=u8::MAX).map(|byte| format.value(byte)).collect();
            let values: Vec<f32> = bytes.iter().map(|&byte| table[usize::from(byte)]).collect();
            TensorData::new(values, shape)
        };
        match self {
            Self::F64 => numbers!(f64),
            Self::F32 => numbers!(f32),
            Self::F16 => numbers!(f16),
            Self::BF16 => numbers!(bf16),
            Self::I64 => numbers!(i64),
            Self::I32 => numbers!(i32),
            Self::I16 => numbers!(i16),
            Self::I8 => numbers!(i8),
            Self::U64 => numbers!(u64),
            Self::U32 => numbers!(u32),
            Self::U16 => numbers!(u16),
            Self::U8 | Self::Bool => numbers!(u8),
            Self::F8E4M3 => float8(Float8::E4M3, shape.into()),
            Self::F8E5M2 => float8(Float8::E5M2, shape.into()),
            Self::F8E4M3Fnuz => float8(Float8::E4M3Fnuz, shape.into()),
            Self::F8E5M2Fnuz => float8(Float8::E5M2Fnuz, shape.into()),
            Self::F8E8M0 => float8(Float8::E8M0, shape.into()),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Floats of eight bits ([Micikevicius et al. 2022](https://arxiv.org/abs/2209.05433); those that end in `fnuz` have one
/// zero, one NaN and no infinity, [Noune et al. 2022](https://arxiv.org/abs/2206.02915)).
#[derive(Clone, Copy)]
enum Float8 {
    E4M3,
    E5M2,
    E4M3Fnuz,
    E5M2Fnuz,
    E8M0,
}

impl Float8 {
    fn value(self, byte: u8) -> f32 {
        let (mantissa_bits, bias) = match self {
            Self::E4M3 => (3, 7),
            Self::E5M2 => (2, 15),
            Self::E4M3Fnuz => (3, 8),
            Self::E5M2Fnuz => (2, 16),
            Self::E8M0 if byte == 0xff => return f32::NAN,
            Self::E8M0 => return 2f32.powi(i32::from(byte) - 127),
        };
        let magnitude = byte & 0x7f;
        let special = match self {
            Self::E4M3 if magnitude == 0x7f => Some(f32::NAN),
            Self::E5M2 if magnitude == 0x7c => Some(f32::INFINITY),
            Self::E5M2 if magnitude > 0x7c => Some(f32::NAN),
            Self::E4M3Fnuz | Self::E5M2Fnuz if byte == 0x80 => Some(f32::NAN),
            _ => None,
        };
        let exponent = i32::from(magnitude >> mantissa_bits);
        let mantissa =
            f32::from(magnitude & ((1 << mantissa_bits) - 1)) / f32::from(1u8 << mantissa_bits);
        let value = special.unwrap_or(match exponent {
            0 => mantissa * 2f32.powi(1 - bias),
            _ => (1.0 + mantissa) * 2f32.powi(exponent - bias),
        });
        if byte & 0x80 == 0 { value } else { -value }
    }
}
