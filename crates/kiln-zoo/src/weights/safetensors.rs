//! The [safetensors](https://github.com/huggingface/safetensors) format: a JSON header, then raw numbers.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Write};

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, json};

use super::file::{Element, Entry, Location};
use super::source::{Outcome, Problem, Source, malformed};
use super::zip::Record;

/// Bytes of a header that are read at most, as in the reference implementation.
const MAX_HEADER: u64 = 100_000_000;

#[derive(serde::Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The tensors in the header's order, read straight into their types: a tree of JSON values would take many
/// times the file's size.
struct Header(Vec<(String, Info)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = Vec::new();
                let mut names = HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let info = map.next_value()?;
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom(format_args!(
                            "the tensor {name} is there twice"
                        )));
                    }
                    tensors.push((name, info));
                }
                Ok(Header(tensors))
            }
        }
        deserializer.deserialize_map(Tensors)
    }
}

/// Whether the file begins with a length and the opening brace of a JSON object.
pub(super) fn is_safetensors(start: &[u8]) -> bool {
    start.get(8) == Some(&b'{')
}

/// Reads the header; every tensor lies within the file, one after the other without gap or overlap.
pub(super) fn read(source: &Source) -> Outcome<Vec<Entry>> {
    let mut len = [0; 8];
    source.read_into(0, &mut len)?;
    let len = u64::from_le_bytes(len);
    if len > MAX_HEADER {
        return malformed(format!(
            "its header claims {len} bytes, more than the {MAX_HEADER} allowed"
        ));
    }
    let header = source.read(8, len)?;
    let Header(tensors) = match serde_json::from_slice(&header) {
        Ok(header) => header,
        Err(error) => {
            return malformed(format!(
                "its header is not the JSON of safetensors: {error}"
            ));
        }
    };
    let data = 8 + len;
    let mut entries = Vec::with_capacity(tensors.len());
    let mut ranges = Vec::with_capacity(tensors.len());
    for (name, info) in tensors {
        let element = Element::of_safetensors(&info.dtype).ok_or_else(|| {
            Problem::Unsupported(format!(
                "its tensor {name} has the type {}, which Kiln does not read",
                info.dtype
            ))
        })?;
        let [begin, end] = info.data_offsets;
        let elements = info
            .shape
            .iter()
            .try_fold(1u64, |product, &axis| product.checked_mul(axis));
        let bytes = elements.and_then(|elements| elements.checked_mul(element.size()));
        if bytes.is_none() || end.checked_sub(begin) != bytes {
            return malformed(format!(
                "its tensor {name} has a shape and a length that contradict each other"
            ));
        }
        let start = match data.checked_add(begin) {
            Some(start) if source.holds(start, end - begin) => start,
            _ => {
                return malformed(format!(
                    "its tensor {name} ends {end} bytes after the header, but the file has only {} there: it was cut off, or it lies about \
                     a length",
                    source.len().saturating_sub(data)
                ));
            }
        };
        ranges.push((begin, end));
        entries.push(Entry {
            name,
            element,
            shape: info.shape.iter().map(|&axis| axis as usize).collect(),
            location: Location::contiguous(
                Record {
                    start,
                    len: end - begin,
                    crc32: 0,
                },
                &info.shape,
            ),
        });
    }
    ranges.sort_unstable();
    let mut covered = 0;
    for (begin, end) in ranges {
        if begin != covered {
            return malformed("its tensors overlap or leave a gap");
        }
        covered = end;
    }
    if data.checked_add(covered) != Some(source.len()) {
        return malformed("it has bytes that belong to no tensor");
    }
    Ok(entries)
}

/// A tensor to write.
pub(super) struct Output {
    pub(super) name: String,
    pub(super) element: Element,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

/// Writes the tensors in their order. The same tensors give the same bytes.
pub(super) fn write(tensors: &[Output], mut out: impl Write) -> io::Result<()> {
    let mut header = Map::new();
    // What PyTorch's own writer leaves there; some readers insist on it.
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut offset = 0;
    for tensor in tensors {
        let end = offset + tensor.bytes.len();
        let info = json!({ "dtype": tensor.element.safetensors(), "shape": tensor.shape, "data_offsets": [offset, end] });
        header.insert(tensor.name.clone(), info);
        offset = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    // The numbers begin at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    tensors
        .iter()
        .try_for_each(|tensor| out.write_all(&tensor.bytes))
}
