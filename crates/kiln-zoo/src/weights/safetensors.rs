//! The [safetensors](https://github.com/huggingface/safetensors) format: a JSON header, then raw numbers.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Write};

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, json};

use super::classes;
use super::element::Element;
use super::file::{Entry, Location};
use super::search::{Found, Unreadable, Why};
use super::source::{Outcome, Source, malformed};
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
#[derive(Default)]
struct Header {
    tensors: Vec<(String, Info)>,
    classes: Option<Vec<String>>,
}

/// What the metadata say of classes; all else is passed over.
struct Metadata(Option<Vec<String>>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut classes = None;
                while let Some(key) = map.next_key::<String>()? {
                    if classes.is_none() && classes::is_key(&key) {
                        classes = classes::of_text(&map.next_value::<String>()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Metadata(classes))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tensors;
        impl<'de> Visitor<'de> for Tensors {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header::default();
                let mut names = HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        let metadata: Option<Metadata> = map.next_value()?;
                        header.classes = metadata.and_then(|metadata| metadata.0);
                        continue;
                    }
                    let info = map.next_value()?;
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom(format_args!(
                            "the tensor {name} is there twice"
                        )));
                    }
                    header.tensors.push((name, info));
                }
                Ok(header)
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
pub(super) fn read(source: &Source) -> Outcome<Found> {
    let mut len = [0; 8];
    source.read_into(0, &mut len)?;
    let len = u64::from_le_bytes(len);
    if len > MAX_HEADER {
        return malformed(format!(
            "its header claims {len} bytes, more than the {MAX_HEADER} allowed"
        ));
    }
    let header = source.read(8, len)?;
    let Header { tensors, classes } = match serde_json::from_slice(&header) {
        Ok(header) => header,
        Err(error) => {
            return malformed(format!(
                "its header is not the JSON of safetensors: {error}"
            ));
        }
    };
    let data = 8 + len;
    let mut found = Found {
        classes,
        ..Found::default()
    };
    let mut ranges = Vec::with_capacity(tensors.len());
    for (name, info) in tensors {
        let [begin, end] = info.data_offsets;
        let start = match (data.checked_add(begin), end.checked_sub(begin)) {
            (Some(start), Some(len)) if source.holds(start, len) => start,
            (_, None) => return malformed(contradiction(&name)),
            _ => {
                return malformed(format!(
                    "its tensor {name} ends {end} bytes after the header, but the file has only {} there: it was cut off, or it lies about \
                     a length",
                    source.len().saturating_sub(data)
                ));
            }
        };
        ranges.push((begin, end));
        let Some(element) = Element::of_safetensors(&info.dtype) else {
            // It need not be wanted.
            let why = Why::Type(info.dtype);
            found.unreadable.push(Unreadable { name, why });
            continue;
        };
        let elements = info
            .shape
            .iter()
            .try_fold(1u64, |product, &axis| product.checked_mul(axis));
        if elements.and_then(|elements| elements.checked_mul(element.size())) != Some(end - begin) {
            return malformed(contradiction(&name));
        }
        found.entries.push(Entry {
            name,
            element,
            shape: info.shape.iter().map(|&axis| axis as usize).collect(),
            location: Location::contiguous(Record::plain(start, end - begin), &info.shape),
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
    match (&found.entries[..], &found.unreadable[..]) {
        ([], [first, ..]) => Err(first.problem()),
        _ => Ok(found),
    }
}

fn contradiction(name: &str) -> String {
    format!("its tensor {name} has a shape and a length that contradict each other")
}

/// A tensor to write.
pub(super) struct Output {
    pub(super) name: String,
    pub(super) element: Element,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

/// Writes the tensors in their order, and the names of the classes if there are any. The same tensors give the same bytes.
pub(super) fn write(tensors: &[Output], classes: &[String], mut out: impl Write) -> io::Result<()> {
    let mut header = Map::new();
    // What PyTorch's own writer leaves there; some readers insist on it.
    let mut metadata = json!({ "format": "pt" });
    if !classes.is_empty() {
        // Metadata are texts.
        metadata["classes"] = serde_json::to_string(classes)?.into();
    }
    header.insert("__metadata__".into(), metadata);
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
