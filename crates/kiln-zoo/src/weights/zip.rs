//! Zip archives as `torch.save` writes them: stored, never compressed.
//!
//! Only what is needed to find the bytes of a record in the file. A compressed record is never unpacked, so nothing
//! can grow while it is read.

use std::collections::HashMap;

use super::source::{Outcome, Problem, Source, malformed};

/// A record: where its bytes are in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) start: u64,
    pub(super) len: u64,
    /// CRC-32 of the bytes; 0 also if the writer did not compute it.
    pub(super) crc32: u32,
    /// Whether they are compressed, so that they cannot be read.
    compressed: bool,
}

impl Record {
    /// Bytes that no check sum is known of.
    pub(super) fn plain(start: u64, len: u64) -> Self {
        Self {
            start,
            len,
            crc32: 0,
            compressed: false,
        }
    }

    /// The record, if it is stored as it is.
    pub(super) fn stored(self, name: &str) -> Outcome<Self> {
        match self.compressed {
            false => Ok(self),
            true => Err(Problem::Unsupported(format!(
                "its record {name} is compressed, which torch.save never does; unpack and pack it again with 'zip -0'"
            ))),
        }
    }
}

/// Bytes of the list of records that are read at most: half a million records.
const MAX_DIRECTORY: u64 = 64 << 20;
const END: [u8; 4] = *b"PK\x05\x06";
const END64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR64: [u8; 4] = *b"PK\x06\x07";
const ENTRY: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";
const END_LEN: u64 = 22;

fn u16_at(bytes: &[u8], at: usize) -> u64 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]]).into()
}

fn u32_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32::from_le_bytes([
        bytes[at],
        bytes[at + 1],
        bytes[at + 2],
        bytes[at + 3],
    ]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u32_at(bytes, at) | u32_at(bytes, at + 4) << 32
}

/// The records by name.
pub(super) fn records(source: &Source) -> Outcome<HashMap<String, Record>> {
    let (start, len) = directory(source)?;
    if len > MAX_DIRECTORY {
        return malformed(format!("its list of records has {len} bytes"));
    }
    let bytes = source.read(start, len)?;
    let mut records = HashMap::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        if rest.len() < 46 || rest[..4] != ENTRY {
            return malformed("its list of records is damaged");
        }
        let (name_len, extra_len, comment_len) = (
            u16_at(rest, 28) as usize,
            u16_at(rest, 30) as usize,
            u16_at(rest, 32) as usize,
        );
        let end = 46 + name_len + extra_len + comment_len;
        if rest.len() < end {
            return malformed("its list of records is damaged");
        }
        let name = String::from_utf8_lossy(&rest[46..46 + name_len]).into_owned();
        if u16_at(rest, 8) & 1 != 0 {
            return Err(Problem::Unsupported(format!(
                "its record {name} is encrypted"
            )));
        }
        // The program of a TorchScript file is compressed; its message should be that it is one.
        let compressed = u16_at(rest, 10) != 0;
        let [packed, len, local] = sizes(rest, &rest[46 + name_len..46 + name_len + extra_len])?;
        if !compressed && packed != len {
            return malformed(format!("its record {name} is stored, but of two lengths"));
        }
        let crc32 = u32_at(rest, 16) as u32;
        let start = data_start(source, local)?;
        if !source.holds(start, packed) {
            return malformed(format!(
                "its record {name} has {packed} bytes at {start}, but the file ends at {}: it was cut off, or it lies about a length",
                source.len()
            ));
        }
        let record = Record {
            start,
            len,
            crc32,
            compressed,
        };
        if records.insert(name.clone(), record).is_some() {
            return malformed(format!("it has two records {name}"));
        }
        rest = &rest[end..];
    }
    Ok(records)
}

/// Packed length, length and position of an entry; those of 4 GiB and more are in the extra field.
fn sizes(entry: &[u8], mut extra: &[u8]) -> Outcome<[u64; 3]> {
    let mut values = [u32_at(entry, 20), u32_at(entry, 24), u32_at(entry, 42)];
    if !values.contains(&0xffff_ffff) {
        return Ok(values);
    }
    while extra.len() >= 4 {
        let len = u16_at(extra, 2) as usize;
        if extra.len() < 4 + len {
            break;
        }
        if u16_at(extra, 0) == 1 {
            let mut wide = extra[4..4 + len].chunks_exact(8);
            // In this order: length, packed length, position; each only if it does not fit.
            for at in [1, 0, 2] {
                if values[at] == 0xffff_ffff {
                    match wide.next() {
                        Some(bytes) => values[at] = u64_at(bytes, 0),
                        None => return malformed("its list of records is damaged"),
                    }
                }
            }
            return Ok(values);
        }
        extra = &extra[4 + len..];
    }
    Ok(values)
}

fn data_start(source: &Source, local: u64) -> Outcome<u64> {
    let header = source.read(local, 30)?;
    if header[..4] != LOCAL {
        return malformed("its list of records points to something that is no record");
    }
    Ok(local + 30 + u16_at(&header, 26) + u16_at(&header, 28))
}

/// Position and length of the list of records, from the end of the file.
fn directory(source: &Source) -> Outcome<(u64, u64)> {
    let cut = "it begins as a zip archive but has no list of records at its end: it was cut off";
    let tail_len = source.len().min(END_LEN + 0xffff);
    let tail_start = source.len() - tail_len;
    let tail = source.read(tail_start, tail_len)?;
    let found = (0..=tail.len().saturating_sub(END_LEN as usize))
        .rev()
        .find(|&at| tail[at..].starts_with(&END) && at + 22 <= tail.len());
    let Some(at) = found else {
        return malformed(cut);
    };
    let (len, start) = (u32_at(&tail, at + 12), u32_at(&tail, at + 16));
    let end_at = tail_start + at as u64;
    if end_at >= 20 {
        let locator = source.read(end_at - 20, 20)?;
        if locator[..4] == LOCATOR64 {
            let end64 = source.read(u64_at(&locator, 8), 56)?;
            if end64[..4] != END64 {
                return malformed(cut);
            }
            return Ok((u64_at(&end64, 48), u64_at(&end64, 40)));
        }
    }
    Ok((start, len))
}
