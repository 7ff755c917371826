//! The published archives: a gzipped tar of which only the known files are taken.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::{Cifar, CifarError};
use crate::gzip::Members;

/// Nothing of CIFAR is larger, unpacked; what is would fill the disk.
const LIMIT: u64 = 400 << 20;

/// Unpacks the files of an archive into `dir`, which is created if need be.
///
/// Where a file goes is decided by its known name alone, never by a path in the archive; links, other files and
/// files of another size are not taken. A file appears under its name when it is whole.
///
/// # Errors
/// [`CifarError`]: a damaged archive, one that lacks a file, or a folder that cannot be written.
pub fn extract(archive: &Path, cifar: Cifar, dir: &Path) -> Result<(), CifarError> {
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| CifarError::Io {
            path,
            action,
            source,
        }
    };
    fs::create_dir_all(dir).map_err(io("create", dir))?;
    walk(archive, cifar, &mut |name, size, data| {
        // The process's number keeps two that unpack at the same time apart.
        let part = dir.join(format!("{name}.{}.part", std::process::id()));
        let target = dir.join(name);
        let mut file = File::create(&part).map_err(io("write", &part))?;
        let written = io::copy(data, &mut file).and_then(|written| match written == size {
            true => file.sync_all(),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        });
        let renamed = written.and_then(|()| fs::rename(&part, &target));
        renamed.map_err(|source| {
            let _ = fs::remove_file(&part);
            match source.kind() {
                io::ErrorKind::InvalidData
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::UnexpectedEof => CifarError::CorruptArchive {
                    path: archive.to_owned(),
                    source,
                },
                _ => io("write", &target)(source),
            }
        })
    })
}

/// Called with the name, the size and the content of each file.
type Visit<'a> = &'a mut dyn FnMut(&'static str, u64, &mut dyn Read) -> Result<(), CifarError>;

/// Visits each known file once, in the archive's order, and checks that none is missing and that the archive is
/// whole.
pub(super) fn walk(path: &Path, cifar: Cifar, visit: Visit<'_>) -> Result<(), CifarError> {
    let corrupt = |source| CifarError::CorruptArchive {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => CifarError::Missing { path: path.into() },
        _ => CifarError::Io {
            path: path.into(),
            action: "read",
            source,
        },
    })?;
    let mut unpacked = Members::new(BufReader::new(file)).take(LIMIT);
    let mut seen: Vec<&'static str> = Vec::new();
    let mut archive = tar::Archive::new(&mut unpacked);
    for entry in archive.entries().map_err(corrupt)? {
        let mut entry = entry.map_err(corrupt)?;
        let inside = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let wanted = inside
            .strip_prefix(cifar.folder())
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|name| cifar.all_files().find(|(known, _)| *known == name));
        let Some((name, size)) = wanted else {
            continue;
        };
        let bad = |problem| CifarError::BadEntry {
            path: path.to_owned(),
            entry: inside.clone(),
            problem,
        };
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(bad("is not a plain file".into()));
        }
        if entry.size() != size {
            return Err(bad(format!("has {} bytes, expected {size}", entry.size())));
        }
        if seen.contains(&name) {
            return Err(bad("comes twice".into()));
        }
        visit(name, size, &mut entry)?;
        seen.push(name);
    }
    // gzip's check sum is at the very end.
    io::copy(&mut unpacked, &mut io::sink()).map_err(corrupt)?;
    if unpacked.limit() == 0 {
        return Err(CifarError::TooLarge {
            path: path.to_owned(),
            limit: LIMIT,
        });
    }
    match cifar.all_files().find(|(name, _)| !seen.contains(name)) {
        Some((name, _)) => Err(CifarError::MissingEntry {
            path: path.to_owned(),
            entry: format!("{}/{name}", cifar.folder()),
        }),
        None => Ok(()),
    }
}
