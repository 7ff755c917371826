//! Records to images.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::archive::walk;
use super::{Cifar, CifarError, PIXELS, SHAPE};
use crate::{LabeledImages, Split};

/// Reads one file of records: exactly `records` of them, or any number but none.
///
/// ```
/// use kiln_data::cifar::{self, Cifar};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("two.bin");
/// let mut bytes = vec![3; 3073]; // a cat
/// bytes.extend(vec![8; 3073]); // a ship
/// std::fs::write(&path, bytes)?;
/// let data = cifar::read_records(&path, Cifar::Cifar10, Some(2))?;
/// assert_eq!(data.class_name(data.labels()[1]), "ship");
/// assert!(cifar::read_records(&path, Cifar::Cifar10, Some(3)).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`CifarError`]: every variant that concerns a single file.
pub fn read_records(
    path: &Path,
    cifar: Cifar,
    records: Option<usize>,
) -> Result<LabeledImages, CifarError> {
    let mut parts = Parts::new(cifar);
    parts.file(path, records)?;
    Ok(parts.finish())
}

/// Reads one split from a folder that holds the archive's files.
///
/// # Errors
/// [`CifarError`]; [`CifarError::Missing`] names the file that is not there.
pub fn read_split(dir: &Path, cifar: Cifar, split: Split) -> Result<LabeledImages, CifarError> {
    let mut parts = Parts::new(cifar);
    for name in cifar.files(split) {
        parts.file(&dir.join(name), Some(cifar.records_per_file(split)))?;
    }
    Ok(parts.finish())
}

/// Reads both splits, train and test, from the published archive, without unpacking it to disk.
///
/// # Errors
/// [`CifarError`]: those of [`read_split`] and of the archive.
pub fn read_archive(
    path: &Path,
    cifar: Cifar,
) -> Result<(LabeledImages, LabeledImages), CifarError> {
    let mut files: Vec<(&'static str, Vec<u8>)> = Vec::new();
    walk(path, cifar, &mut |name, size, data| {
        let mut bytes = Vec::with_capacity(size as usize);
        data.read_to_end(&mut bytes)
            .map_err(|source| CifarError::CorruptArchive {
                path: path.to_owned(),
                source,
            })?;
        files.push((name, bytes));
        Ok(())
    })?;
    let read = |split| {
        let mut parts = Parts::new(cifar);
        for name in cifar.files(split) {
            let (_, bytes) = files
                .iter()
                .find(|(found, _)| found == name)
                .expect("walk checks it");
            let inside = path.join(cifar.folder()).join(name);
            parts.bytes(&inside, bytes, Some(cifar.records_per_file(split)))?;
        }
        Ok(parts.finish())
    };
    Ok((read(Split::Train)?, read(Split::Test)?))
}

/// Images and labels of the files read so far.
struct Parts {
    cifar: Cifar,
    images: Vec<u8>,
    labels: Vec<u16>,
}

impl Parts {
    fn new(cifar: Cifar) -> Self {
        Self {
            cifar,
            images: Vec::new(),
            labels: Vec::new(),
        }
    }

    fn file(&mut self, path: &Path, records: Option<usize>) -> Result<(), CifarError> {
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => CifarError::Missing { path: path.into() },
            _ => CifarError::Io {
                path: path.into(),
                action: "read",
                source,
            },
        };
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        // Judged before it is read: a wrong file may be of any size.
        check_length(path, self.cifar, length, records)?;
        let mut bytes = Vec::with_capacity(length as usize);
        file.take(length + 1).read_to_end(&mut bytes).map_err(io)?;
        self.bytes(path, &bytes, records)
    }

    fn bytes(
        &mut self,
        path: &Path,
        bytes: &[u8],
        records: Option<usize>,
    ) -> Result<(), CifarError> {
        let cifar = self.cifar;
        check_length(path, cifar, bytes.len() as u64, records)?;
        let count = bytes.len() / cifar.record_len();
        self.images.reserve(count * PIXELS);
        self.labels.reserve(count);
        for (record, row) in bytes.chunks_exact(cifar.record_len()).enumerate() {
            let (labels, pixels) = row.split_at(cifar.labels());
            let limits: &[(&str, usize)] = match cifar {
                Cifar::Cifar10 => &[("", 10)],
                Cifar::Cifar100 => &[("coarse ", 20), ("fine ", 100)],
            };
            for (&label, &(kind, classes)) in labels.iter().zip(limits) {
                if usize::from(label) >= classes {
                    return Err(CifarError::LabelOutOfRange {
                        path: path.into(),
                        kind,
                        record,
                        label,
                        classes,
                    });
                }
            }
            self.labels.push(u16::from(labels[labels.len() - 1]));
            self.images.extend_from_slice(pixels);
        }
        Ok(())
    }

    fn finish(self) -> LabeledImages {
        let classes = self.cifar.classes().iter().map(|&name| name.into());
        LabeledImages::new(
            self.cifar.name(),
            classes.collect(),
            SHAPE,
            self.images,
            self.labels,
        )
        .expect("the parts were checked")
    }
}

fn check_length(
    path: &Path,
    cifar: Cifar,
    found: u64,
    records: Option<usize>,
) -> Result<(), CifarError> {
    let path: PathBuf = path.into();
    let record_len = cifar.record_len();
    if found == 0 {
        return Err(CifarError::Empty { path });
    }
    let Some(records) = records else {
        return match found % record_len as u64 {
            0 => Ok(()),
            _ => Err(CifarError::PartialRecord {
                path,
                found,
                record_len,
            }),
        };
    };
    let expected = (records * record_len) as u64;
    match found.cmp(&expected) {
        std::cmp::Ordering::Less => Err(CifarError::Truncated {
            path,
            found,
            records,
            record_len,
        }),
        std::cmp::Ordering::Greater => Err(CifarError::TrailingBytes {
            path,
            extra: found - expected,
            records,
            record_len,
        }),
        std::cmp::Ordering::Equal => Ok(()),
    }
}
