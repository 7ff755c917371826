//! Files from the network, whole and verified or not at all.
//!
//! A [`FileSpec`] says what a file is (name, size, check sum) and where copies of it are;
//! [`Fetcher`] (cargo feature `download`, on by default) brings it into a folder. Data sets use it
//! now; anything else with a known check sum can.

#[cfg(feature = "download")]
mod download;
mod error;
#[cfg(feature = "download")]
mod part;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

#[cfg(feature = "download")]
pub use download::Fetcher;
pub use error::{Failure, FetchError};

/// Fewer digits of a check sum than this say nothing.
const SHORTEST_SHA256: usize = 8;

/// A file that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// Name in the target folder; no separators.
    pub name: String,
    /// Addresses of copies (`https://` or `http://`), tried in this order.
    pub urls: Vec<String>,
    /// Exact size in bytes; [`UNKNOWN_SIZE`](Self::UNKNOWN_SIZE) takes what the server says.
    pub size: u64,
    /// SHA-256 of the content, 64 lower-case hexadecimal digits; or the first of them, at least eight, where no more is
    /// known. Eight digits tell a damaged file from a whole one, but not one that somebody made to have them.
    pub sha256: String,
}

impl FileSpec {
    /// For a file whose publisher names no size.
    pub const UNKNOWN_SIZE: u64 = 0;

    /// Whether the file at `path` has this size and check sum.
    ///
    /// # Errors
    /// What the operating system says, also if there is no such file.
    pub fn matches(&self, path: &Path) -> io::Result<bool> {
        let size = std::fs::metadata(path)?.len();
        if self.size != Self::UNKNOWN_SIZE && size != self.size {
            return Ok(false);
        }
        Ok(self.is_sha256(&sha256(path)?))
    }

    /// Whether this is the check sum, as far as that is known.
    fn is_sha256(&self, found: &str) -> bool {
        self.sha256.len() >= SHORTEST_SHA256 && found.starts_with(&self.sha256)
    }

    /// What a person can do without this program: fetch the file from here and put it there.
    pub fn manual_step(&self, dir: &Path) -> String {
        let url = self.urls.first().map_or("its publisher", String::as_str);
        format!("fetch {url} into {}", dir.display())
    }
}

/// SHA-256 of the file at `path` in lower-case hexadecimal.
fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => digest.update(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let bytes = digest.finalize();
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
