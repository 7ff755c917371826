//! Reading at a position, never beyond the end and never more than there is.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Mutex;

/// What is wrong with a file, before its path is known.
#[derive(Debug)]
pub(super) enum Problem {
    /// The operating system's answer.
    Io(io::Error),
    /// The file is damaged or lies about itself.
    Malformed(String),
    /// It names a Python object that is not on the list.
    ForeignGlobal(String),
    /// It is sound but holds what Kiln does not read.
    Unsupported(String),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(super) type Outcome<T> = Result<T, Problem>;

pub(super) fn malformed<T>(problem: impl Into<String>) -> Outcome<T> {
    Err(Problem::Malformed(problem.into()))
}

/// The bytes of a weight file.
#[derive(Debug)]
pub(super) struct Source {
    file: Mutex<File>,
    len: u64,
}

impl Source {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                "it is a folder",
            ));
        }
        Ok(Self {
            len: metadata.len(),
            file: Mutex::new(file),
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether `len` bytes from `offset` on are in the file.
    pub(super) fn holds(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
    }

    pub(super) fn read_into(&self, offset: u64, buffer: &mut [u8]) -> Outcome<()> {
        if !self.holds(offset, buffer.len() as u64) {
            return malformed(format!(
                "it ends at byte {}, but bytes up to {} are needed: it was cut off, or it lies about a length",
                self.len,
                offset.saturating_add(buffer.len() as u64)
            ));
        }
        let mut file = self.file.lock().unwrap_or_else(|e| e.into_inner());
        file.seek(SeekFrom::Start(offset))?;
        Ok(file.read_exact(buffer)?)
    }

    /// The bytes from `offset` on; nothing is allocated for bytes that are not in the file.
    pub(super) fn read(&self, offset: u64, len: u64) -> Outcome<Vec<u8>> {
        if !self.holds(offset, len) {
            self.read_into(offset, &mut [])?;
            return malformed(format!(
                "it has {} bytes, but {len} are announced from byte {offset} on: it was cut off, or it lies about a length",
                self.len
            ));
        }
        let mut bytes = vec![0; len as usize];
        self.read_into(offset, &mut bytes)?;
        Ok(bytes)
    }
}

/// A window of a source that is read forward.
pub(super) struct Cursor<'a> {
    source: &'a Source,
    /// Of the next byte to take from `buffer`.
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    /// How much of `buffer` is taken.
    taken: usize,
}

/// Bytes read at once.
const CHUNK: u64 = 1 << 16;

impl<'a> Cursor<'a> {
    pub(super) fn new(source: &'a Source, start: u64, end: u64) -> Self {
        Self {
            source,
            position: start,
            end: end.min(source.len()),
            buffer: Vec::new(),
            taken: 0,
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    fn left(&self) -> u64 {
        self.end - self.position
    }

    pub(super) fn u8(&mut self) -> Outcome<u8> {
        if self.taken == self.buffer.len() {
            let len = self.left().min(CHUNK);
            if len == 0 {
                return malformed("it ends in the middle of its description: it was cut off");
            }
            self.buffer = self.source.read(self.position, len)?;
            self.taken = 0;
        }
        let byte = self.buffer[self.taken];
        self.taken += 1;
        self.position += 1;
        Ok(byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            *byte = self.u8()?;
        }
        Ok(bytes)
    }

    /// As many bytes as a length in the file announces.
    pub(super) fn bytes(&mut self, len: u64) -> Outcome<Vec<u8>> {
        if len > self.left() {
            return malformed(format!(
                "a value of {len} bytes is announced where {} are left: it was cut off, or it lies about a length",
                self.left()
            ));
        }
        let bytes = self.source.read(self.position, len)?;
        self.position += len;
        let buffered = (self.buffer.len() - self.taken) as u64;
        match len <= buffered {
            true => self.taken += len as usize,
            false => {
                self.buffer.clear();
                self.taken = 0;
            }
        }
        Ok(bytes)
    }

    /// The bytes up to the next line feed, without it.
    pub(super) fn line(&mut self) -> Outcome<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            match self.u8()? {
                b'\n' => return Ok(line),
                _ if line.len() >= CHUNK as usize => return malformed("a line of it never ends"),
                byte => line.push(byte),
            }
        }
    }
}
