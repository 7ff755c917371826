//! What `torch.save` writes: since PyTorch 1.6 a zip archive, before that pickles followed by raw numbers.

use std::collections::HashMap;

use super::file::{Entry, Location};
use super::formats;
use super::pickle::{Pickle, Scalar, Tensor, Value};
use super::search::{Choice, Found, find};
use super::source::{Cursor, Outcome, Problem, Source, malformed};
use super::zip::{self, Record};

/// Bytes of one pickle that are read at most.
const MAX_PICKLE: u64 = 256 << 20;

/// Reads the description of a zip file.
pub(super) fn read_zip(source: &Source, choice: Choice) -> Outcome<Found> {
    let records = zip::records(source)?;
    let mut pickles = records.iter().filter_map(|(name, record)| {
        let folder = name.strip_suffix("data.pkl")?;
        (folder.is_empty() || folder.ends_with('/') && !folder[..folder.len() - 1].contains('/'))
            .then_some((folder, record))
    });
    let found = (pickles.next(), pickles.next());
    drop(pickles);
    if let Some(what) = formats::named_archive(&records) {
        return Err(Problem::Unsupported(what.into()));
    }
    let (Some((folder, pickle)), None) = found else {
        return malformed(
            "it is a zip archive, but not one that torch.save wrote: it has no data.pkl, or several",
        );
    };
    let pickle = pickle.stored("data.pkl")?;
    if let Some(order) = records.get(&format!("{folder}byteorder"))
        && source.read(order.start, order.len.min(16))? != b"little"
    {
        return Err(Problem::Unsupported(
            "it was written on a big-endian machine".into(),
        ));
    }
    if pickle.len > MAX_PICKLE {
        return malformed(format!("its data.pkl has {} bytes", pickle.len));
    }
    verify(source, &pickle, "data.pkl")?;
    let mut cursor = Cursor::new(source, pickle.start, pickle.start + pickle.len);
    let pickle = Pickle::read(&mut cursor)?;
    find(&pickle, choice, &|name, tensor| {
        let key = &tensor.storage.key;
        match records.get(&format!("{folder}data/{key}")) {
            Some(record) => entry(name, tensor, record.stored(&format!("data/{key}"))?),
            None => malformed(format!("it lacks the record data/{key}")),
        }
    })
}

/// Compares the check sum of a record.
pub(super) fn verify(source: &Source, record: &Record, name: &str) -> Outcome<()> {
    // `torch.serialization.set_crc32_options(False)` leaves it out.
    if record.crc32 == 0 {
        return Ok(());
    }
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; record.len.min(1 << 20) as usize];
    let mut done = 0;
    while done < record.len {
        let len = (record.len - done).min(buffer.len() as u64) as usize;
        source.read_into(record.start + done, &mut buffer[..len])?;
        hasher.update(&buffer[..len]);
        done += len as u64;
    }
    match hasher.finalize() == record.crc32 {
        true => Ok(()),
        false => malformed(format!(
            "its record {name} is damaged: the check sum differs"
        )),
    }
}

/// The number that a legacy file begins with, in a pickle of its own.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Whether the file begins as a legacy one: a pickle of the magic number.
pub(super) fn is_legacy(start: &[u8]) -> bool {
    start.first() == Some(&0x80)
        && start
            .windows(MAGIC.len())
            .take(16)
            .any(|bytes| bytes == MAGIC)
}

/// Reads the description of a legacy file.
pub(super) fn read_legacy(source: &Source, choice: Choice) -> Outcome<Found> {
    let mut at = 0;
    let mut next = || -> Outcome<Pickle> {
        let mut cursor = Cursor::new(source, at, at.saturating_add(MAX_PICKLE));
        let pickle = Pickle::read(&mut cursor)?;
        at = cursor.position();
        Ok(pickle)
    };
    let magic = next()?;
    if !matches!(magic.get(magic.root), Value::Long(bytes) if bytes[..] == MAGIC) {
        return malformed("it does not begin with the magic number of torch.save");
    }
    let version = next()?;
    if !matches!(version.get(version.root), Value::Int(1001)) {
        return Err(Problem::Unsupported(
            "it has an unknown version of the format before PyTorch 1.6".into(),
        ));
    }
    let system = next()?;
    if let Value::Dict(items) = system.get(system.root) {
        let little = items
            .iter()
            .find(|(key, _)| system.text(*key) == Some("little_endian"));
        if little.is_some_and(|(_, value)| matches!(system.get(*value), Value::Bool(false))) {
            return Err(Problem::Unsupported(
                "it was written on a big-endian machine".into(),
            ));
        }
    }
    let object = next()?;
    let keys = next()?;
    let Value::List(key_ids) = keys.get(keys.root) else {
        return malformed("it lacks the list of its storages");
    };
    let elements = elements_by_key(&object)?;
    let mut records = HashMap::new();
    for &id in key_ids {
        let Some(storage) = keys.text(id) else {
            return malformed("its list of storages has something else in it");
        };
        let Some(scalar) = elements.get(storage) else {
            return malformed(format!("its storage {storage} belongs to no tensor"));
        };
        let len = u64::from_le_bytes(Cursor::new(source, at, at.saturating_add(8)).array()?);
        let start = at + 8;
        let bytes = len.checked_mul(scalar.size());
        match bytes.filter(|&bytes| source.holds(start, bytes)) {
            Some(len) => {
                records.insert(storage.to_string(), Record::plain(start, len));
                at = start + len;
            }
            None => {
                return malformed(format!(
                    "its storage {storage} announces {len} numbers, but the file ends at byte {}: it was cut off, or it \
                     lies about a length",
                    source.len()
                ));
            }
        }
    }
    find(
        &object,
        choice,
        &|name, tensor| match records.get(&*tensor.storage.key) {
            Some(record) => entry(name, tensor, *record),
            None => malformed(format!("it lacks the storage {}", tensor.storage.key)),
        },
    )
}

/// What each storage of a legacy file holds: its length is given in elements there.
fn elements_by_key(pickle: &Pickle) -> Outcome<HashMap<&str, Scalar>> {
    let mut elements = HashMap::new();
    for value in pickle.values() {
        if let Value::Storage(storage) = value {
            let known = elements.insert(&*storage.key, storage.scalar);
            if known.is_some_and(|known: Scalar| known.size() != storage.scalar.size()) {
                return malformed(format!("its storage {} has two types", storage.key));
            }
        }
    }
    Ok(elements)
}

fn entry(name: &str, tensor: &Tensor, record: Record) -> Outcome<Entry> {
    let element = tensor.element;
    let lie = |what: &str| malformed(format!("its tensor {name} {what}"));
    if tensor
        .storage
        .len
        .checked_mul(element.size())
        .is_none_or(|bytes| bytes > record.len)
    {
        return lie("announces more numbers than are stored");
    }
    let mut shape = Vec::with_capacity(tensor.shape.len());
    let mut elements = 1u64;
    for &axis in &tensor.shape {
        elements = match elements.checked_mul(axis) {
            Some(elements) if elements <= isize::MAX as u64 => elements,
            _ => return lie("has an impossible shape"),
        };
        shape.push(axis as usize);
    }
    let Some(offset) = tensor.offset.checked_add(tensor.storage.offset) else {
        return lie("lies beyond its storage");
    };
    if elements > 0 {
        let last = tensor
            .shape
            .iter()
            .zip(&tensor.strides)
            .try_fold(offset, |last, (axis, stride)| {
                last.checked_add((axis - 1).checked_mul(*stride)?)
            });
        if last
            .and_then(|last| last.checked_add(1)?.checked_mul(element.size()))
            .is_none_or(|end| end > record.len)
        {
            return lie("reaches beyond its storage");
        }
    }
    Ok(Entry {
        name: name.into(),
        element,
        shape,
        location: Location::Strided {
            record,
            offset,
            strides: tensor.strides.clone(),
        },
    })
}
