//! CIFAR's files and archives: right ones, and each way to be wrong.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use kiln_data::cifar::{self, Cifar, CifarError};
use kiln_data::{DataError, Load, Origin, Split};

/// A record of CIFAR-10 whose planes are filled with three values.
fn record(label: u8, [r, g, b]: [u8; 3]) -> Vec<u8> {
    let mut bytes = vec![label];
    for plane in [r, g, b] {
        bytes.extend([plane; 1024]);
    }
    bytes
}

fn put(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.bin");
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

#[test]
fn labels_and_planes_are_read_in_order() {
    let bytes = [record(9, [1, 2, 3]), record(0, [4, 5, 6])].concat();
    let (_dir, path) = put(&bytes);
    let data = cifar::read_records(&path, Cifar::Cifar10, Some(2)).unwrap();
    assert_eq!(data.shape(), [3, 32, 32]);
    assert_eq!(
        (data.class_name(data.labels()[0]), data.labels()[1]),
        ("truck", 0)
    );
    let planes = |i: usize| [0, 1024, 2048].map(|at| data.image(i)[at]);
    assert_eq!((planes(0), planes(1)), ([1, 2, 3], [4, 5, 6]));
    assert_eq!(data.image(1)[1023..1025], [4, 5]);

    // CIFAR-100: the coarse label comes first, the fine one counts.
    let mut bytes = vec![19];
    bytes.extend(record(99, [7, 8, 9]));
    let (_dir, path) = put(&bytes);
    let data = cifar::read_records(&path, Cifar::Cifar100, None).unwrap();
    assert_eq!(data.class_name(data.labels()[0]), "worm");
    assert_eq!(data.image(0)[0], 7);
}

#[test]
fn every_way_to_be_wrong_has_its_own_error() {
    let two = [record(1, [0; 3]), record(2, [0; 3])].concat();
    let read = |bytes: &[u8], records| {
        let (_dir, path) = put(bytes);
        cifar::read_records(&path, Cifar::Cifar10, records).unwrap_err()
    };
    let error = read(&two[..6145], Some(2));
    assert!(matches!(error, CifarError::Truncated { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("6145 bytes, 2 records of 3073 bytes need 6146"),
        "{error}"
    );
    let error = read(&[&two[..], &[0]].concat(), Some(2));
    assert!(
        matches!(error, CifarError::TrailingBytes { extra: 1, .. }),
        "{error:?}"
    );
    // A whole record too many or too few is not a CIFAR file either.
    assert!(matches!(
        read(&two, Some(1)),
        CifarError::TrailingBytes { extra: 3073, .. }
    ));
    assert!(matches!(read(&two, Some(3)), CifarError::Truncated { .. }));
    assert!(matches!(
        read(&two[..100], None),
        CifarError::PartialRecord { found: 100, .. }
    ));
    assert!(matches!(read(&[], None), CifarError::Empty { .. }));
    let error = read(&[record(3, [0; 3]), record(10, [0; 3])].concat(), None);
    assert!(
        error
            .to_string()
            .contains("label 10 in record 1; 10 classes allow 0 to 9"),
        "{error}"
    );

    let fine = |coarse: u8, fine: u8| {
        let bytes = [vec![coarse], record(fine, [0; 3])].concat();
        let (_dir, path) = put(&bytes);
        cifar::read_records(&path, Cifar::Cifar100, Some(1))
            .unwrap_err()
            .to_string()
    };
    assert!(fine(20, 0).contains("coarse label 20 in record 0; 20 classes"));
    assert!(fine(0, 100).contains("fine label 100 in record 0; 100 classes"));

    let dir = tempfile::tempdir().unwrap();
    let error = cifar::read_split(dir.path(), Cifar::Cifar10, Split::Train).unwrap_err();
    assert!(matches!(error, CifarError::Missing { .. }));
    assert!(error.to_string().contains("data_batch_1.bin"), "{error}");
}

/// All six files at their published sizes, mostly holes.
fn full_size(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for split in [Split::Train, Split::Test] {
        for (number, name) in Cifar::Cifar10.files(split).iter().enumerate() {
            let mut file = File::create(dir.join(name)).unwrap();
            file.set_len(10_000 * 3073).unwrap();
            file.seek(SeekFrom::Start(9_999 * 3073)).unwrap();
            file.write_all(&record(number as u8, [number as u8; 3]))
                .unwrap();
        }
    }
}

#[test]
fn the_published_sizes_are_read_from_a_folder_in_the_order_of_the_batches() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("cifar-10-batches-bin");
    full_size(&place);
    let data = Load::new("CIFAR-10").data_dir(dir.path()).run().unwrap();
    assert_eq!((data.train.len(), data.test.len()), (50_000, 10_000));
    assert_eq!(data.origin, Origin::Folder(place.clone()));
    let last = |batch: usize| data.train.labels()[batch * 10_000 + 9_999];
    assert_eq!([0, 1, 2, 3, 4].map(last), [0, 1, 2, 3, 4]);

    // One byte lost is noticed.
    let file = place.join("data_batch_3.bin");
    File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(10_000 * 3073 - 1)
        .unwrap();
    let error = Load::new("cifar10").data_dir(dir.path()).run().unwrap_err();
    assert!(
        matches!(error, DataError::Cifar(CifarError::Truncated { .. })),
        "{error:?}"
    );
}

/// An archive with these entries: name, size, bytes at its start, kind.
fn archive(path: &Path, entries: &[(&str, u64, tar::EntryType)]) {
    let file = GzEncoder::new(File::create(path).unwrap(), Compression::fast());
    let mut builder = tar::Builder::new(file);
    for (name, size, kind) in entries {
        let mut header = tar::Header::new_gnu();
        // The crate refuses to write the names that a hostile archive would have.
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(*size);
        header.set_mode(0o644);
        header.set_entry_type(*kind);
        if *kind == tar::EntryType::Symlink {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        builder
            .append(&header, std::io::Read::take(std::io::repeat(0), *size))
            .unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap();
}

const FILE: tar::EntryType = tar::EntryType::Regular;

fn published() -> Vec<(&'static str, u64, tar::EntryType)> {
    vec![
        ("cifar-100-binary/coarse_label_names.txt", 12, FILE),
        ("cifar-100-binary/train.bin", 50_000 * 3074, FILE),
        ("cifar-100-binary/test.bin", 10_000 * 3074, FILE),
    ]
}

#[test]
fn an_archive_is_unpacked_and_read_and_nothing_else_of_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cifar-100-binary.tar.gz");
    let mut entries = published();
    entries.push(("../../escaped.bin", 3, FILE));
    entries.push(("/tmp/kiln-escaped.bin", 3, FILE));
    entries.push(("cifar-100-binary/../train.bin", 3, FILE));
    archive(&path, &entries);
    let target = dir.path().join("deep/er/out");
    cifar::extract(&path, Cifar::Cifar100, &target).unwrap();
    let mut names: Vec<_> = fs::read_dir(&target)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["test.bin", "train.bin"]);
    assert_eq!(fs::read_dir(dir.path().join("deep/er")).unwrap().count(), 1);
    assert!(!Path::new("/tmp/kiln-escaped.bin").exists());

    // The archive alone in a folder is as good as its files.
    let data = Load::new("cifar100").data_dir(dir.path()).run().unwrap();
    assert_eq!((data.train.len(), data.test.len()), (50_000, 10_000));
    assert_eq!(data.origin, Origin::Folder(path.clone()));

    // In the cache without a network it is unpacked.
    let cache = dir.path().join("cache/cifar100");
    fs::create_dir_all(&cache).unwrap();
    fs::rename(&path, cache.join("cifar-100-binary.tar.gz")).unwrap();
    let load = Load::new("cifar100")
        .cache_dir(dir.path().join("cache"))
        .offline(true);
    assert_eq!(load.run().unwrap().test.len(), 10_000);
    assert_eq!(load.cached().unwrap(), Some(cache));
}

#[test]
fn archives_that_are_not_as_published_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tar.gz");
    let refused = |entries: &[(&str, u64, tar::EntryType)]| {
        archive(&path, entries);
        let error = cifar::extract(&path, Cifar::Cifar100, &dir.path().join("out")).unwrap_err();
        error.to_string()
    };
    assert!(refused(&published()[..2]).contains("lacks cifar-100-binary/test.bin"));
    let test = ("cifar-100-binary/test.bin", 10, FILE);
    assert!(refused(&[test]).contains("test.bin has 10 bytes, expected 30740000"));
    let link = ("cifar-100-binary/test.bin", 0, tar::EntryType::Symlink);
    assert!(refused(&[link]).contains("is not a plain file"));
    let mut twice = published();
    twice.push(twice[2]);
    assert!(refused(&twice).contains("comes twice"));

    archive(&path, &published());
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    let extract = || cifar::extract(&path, Cifar::Cifar100, &dir.path().join("out")).unwrap_err();
    assert!(
        matches!(extract(), CifarError::CorruptArchive { .. }),
        "{:?}",
        extract()
    );
    fs::write(&path, b"<html>not found</html>").unwrap();
    assert!(matches!(extract(), CifarError::CorruptArchive { .. }));
    fs::remove_file(&path).unwrap();
    assert!(matches!(extract(), CifarError::Missing { .. }));
}

#[test]
fn offline_says_what_to_fetch_and_where_to_put_it() {
    let cache = tempfile::tempdir().unwrap();
    for name in ["cifar10", "cifar100"] {
        let load = Load::new(name).cache_dir(cache.path()).offline(true);
        let message = load.run().unwrap_err().to_string();
        assert!(
            message.contains("https://www.cs.toronto.edu/~kriz/"),
            "{message}"
        );
        assert!(message.contains("-binary.tar.gz"), "{message}");
    }
}
