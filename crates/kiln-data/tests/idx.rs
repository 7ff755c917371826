//! IDX files as they should not be, one by one.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use kiln_data::idx::{self, Encoding, IdxError, IdxImages};
use kiln_data::{Digits, LabeledImages, Split};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

fn header(magic: u32, dimensions: &[u32]) -> Vec<u8> {
    let mut bytes = magic.to_be_bytes().to_vec();
    for dimension in dimensions {
        bytes.extend(dimension.to_be_bytes());
    }
    bytes
}

/// Three images of 2 by 2.
fn images() -> Vec<u8> {
    let mut bytes = header(0x803, &[3, 2, 2]);
    bytes.extend(0..12);
    bytes
}

fn labels(values: &[u8]) -> Vec<u8> {
    let mut bytes = header(0x801, &[values.len() as u32]);
    bytes.extend(values);
    bytes
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn classes(n: usize) -> Vec<String> {
    (0..n).map(|c| c.to_string()).collect()
}

/// The error of reading `content` as images, and its message, which must name the file.
fn refused(name: &str, content: &[u8]) -> (IdxError, String) {
    let folder = Folder::new();
    let error = idx::read_images(&folder.file(name, content)).unwrap_err();
    let message = error.to_string();
    assert!(message.contains(name), "{message}");
    assert!(!message.ends_with('.'), "{message}");
    (error, message)
}

#[test]
fn reads_plain_and_gzip_alike_whatever_the_name() {
    let folder = Folder::new();
    let plain = idx::read_images(&folder.file("a", &images())).unwrap();
    assert_eq!((plain.count, plain.height, plain.width), (3, 2, 2));
    assert_eq!(plain.pixels, (0..12).collect::<Vec<u8>>());
    let zipped = gzip(&images());
    assert_eq!(
        idx::read_images(&folder.file("b.gz", &zipped)).unwrap(),
        plain
    );
    assert_eq!(idx::read_images(&folder.file("c", &zipped)).unwrap(), plain);
}

#[test]
fn what_is_written_is_read_back() {
    let drawn = Digits::new(5).generate(Split::Train, 30);
    for encoding in [Encoding::Plain, Encoding::Gzip] {
        let folder = Folder::new();
        let dir = folder.0.path().join("new");
        idx::write_split(&dir, Split::Train, &drawn, encoding).unwrap();
        let read = idx::read_split(&dir, Split::Train, "digits", drawn.classes()).unwrap();
        assert_eq!(read, drawn);
    }
}

#[test]
fn finds_the_names_that_archives_unpack_to() {
    for name in [
        "train-images-idx3-ubyte",
        "train-images-idx3-ubyte.gz",
        "train-images.idx3-ubyte",
        "train-images.idx3-ubyte.gz",
    ] {
        let folder = Folder::new();
        let path = folder.file(name, b"");
        let found = idx::find(folder.0.path(), Split::Train, idx::Kind::Images);
        assert_eq!(found, Some(path));
    }
}

#[test]
fn a_missing_file_is_named() {
    let folder = Folder::new();
    let error = idx::read_split(folder.0.path(), Split::Test, "mnist", &classes(10)).unwrap_err();
    assert!(matches!(error, IdxError::Missing { .. }), "{error:?}");
    assert!(
        error.to_string().contains("t10k-images-idx3-ubyte"),
        "{error}"
    );
    let error = idx::read_labels(Path::new("no/such/file")).unwrap_err();
    assert!(matches!(error, IdxError::Missing { .. }), "{error:?}");
}

#[test]
fn a_folder_in_place_of_a_file_is_refused() {
    let folder = Folder::new();
    let error = idx::read_images(folder.0.path()).unwrap_err();
    assert!(matches!(error, IdxError::Io { .. }), "{error:?}");
}

#[test]
fn a_gz_name_over_other_content_is_not_gzip() {
    let (error, message) = refused("x.gz", b"<!DOCTYPE html><html>not found</html>");
    assert!(matches!(error, IdxError::NotGzip { .. }), "{error:?}");
    assert!(
        message.contains("3c 21 44 4f") && message.contains("web page"),
        "{message}"
    );
    let (error, message) = refused("x.gz", &images());
    assert!(matches!(error, IdxError::NotGzip { .. }), "{error:?}");
    assert!(message.contains("rename it without .gz"), "{message}");
    let (error, message) = refused("x.gz", b"");
    assert!(matches!(error, IdxError::NotGzip { .. }), "{error:?}");
    assert!(message.contains("empty file"), "{message}");
}

#[test]
fn a_damaged_gzip_stream_is_corrupt_at_any_byte_or_reads_the_same() {
    let folder = Folder::new();
    let good = gzip(&images());
    let expected = idx::read_images(&folder.file("good", &good)).unwrap();
    let mut corrupt = 0;
    for i in 2..good.len() {
        let mut bad = good.clone();
        bad[i] ^= 0x40;
        // The time and system fields of the header and the padding bits carry no data.
        match idx::read_images(&folder.file("bad.gz", &bad)) {
            Ok(read) => assert_eq!(read, expected, "byte {i}"),
            Err(IdxError::CorruptGzip { .. }) => corrupt += 1,
            Err(_) => {}
        }
    }
    // At least the check sum and the length at the end.
    assert!(corrupt >= 8, "{corrupt} of {}", good.len());
}

#[test]
fn a_wrong_check_sum_alone_is_corrupt() {
    let mut bad = gzip(&images());
    let crc = bad.len() - 8;
    bad[crc] ^= 1;
    let (error, _) = refused("x.gz", &bad);
    assert!(matches!(error, IdxError::CorruptGzip { .. }), "{error:?}");
}

#[test]
fn a_wrong_magic_number_is_shown_with_what_it_may_mean() {
    let wrong = |content: &[u8]| {
        let (error, message) = refused("x", content);
        assert!(matches!(error, IdxError::WrongMagic { .. }), "{error:?}");
        message
    };
    let swapped = wrong(&labels(&[1, 2, 3]));
    assert!(
        swapped.contains("0x00000801") && swapped.contains("0x00000803"),
        "{swapped}"
    );
    assert!(swapped.contains("swapped"), "{swapped}");
    assert!(wrong(b"<html>oops</html>").contains("web page"));
    assert!(wrong(b"PK\x03\x04zipped").contains("zip archive"));
    assert!(wrong(&0x803u32.to_le_bytes()).contains("little-endian"));
    assert!(wrong(&header(0xd03, &[1, 1, 1])).contains("32-bit floats in 3 dimensions"));
    assert!(wrong(b"nonsense").contains("0x6e6f6e73"));

    let folder = Folder::new();
    let error = idx::read_labels(&folder.file("y", &images())).unwrap_err();
    assert!(error.to_string().contains("swapped"), "{error}");
}

#[test]
fn a_truncated_file_tells_how_much_is_missing_wherever_it_ends() {
    let whole = images();
    for end in 0..whole.len() {
        let (error, message) = refused("x", &whole[..end]);
        let expected = if end < 16 { 16 } else { 28 };
        match error {
            IdxError::Truncated {
                expected: e, found, ..
            } => {
                assert_eq!((e, found), (expected, end as u64), "{message}");
            }
            other => panic!("cut at {end}: {other:?}"),
        }
    }
    // The same inside gzip, complete as gzip goes.
    let (error, _) = refused("x.gz", &gzip(&whole[..20]));
    assert!(
        matches!(
            error,
            IdxError::Truncated {
                expected: 28,
                found: 20,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn a_gzip_file_cut_anywhere_is_truncated_or_corrupt() {
    let whole = gzip(&images());
    for end in 2..whole.len() {
        let (error, _) = refused("x.gz", &whole[..end]);
        assert!(
            matches!(
                error,
                IdxError::Truncated { .. } | IdxError::CorruptGzip { .. }
            ),
            "cut at {end}: {error:?}"
        );
    }
}

#[test]
fn trailing_bytes_are_refused_in_the_data_and_after_the_gzip_stream() {
    let mut long = images();
    long.push(0);
    let (error, _) = refused("x", &long);
    assert!(
        matches!(error, IdxError::TrailingBytes { expected: 28, .. }),
        "{error:?}"
    );
    let (error, _) = refused("x.gz", &gzip(&long));
    assert!(
        matches!(error, IdxError::TrailingBytes { expected: 28, .. }),
        "{error:?}"
    );
    let mut zipped = gzip(&images());
    zipped.extend(b"junk");
    let (error, message) = refused("x.gz", &zipped);
    assert!(matches!(error, IdxError::TrailingBytes { .. }), "{error:?}");
    assert!(message.contains("after the gzip data"), "{message}");
}

#[test]
fn gzip_files_of_several_members_are_read_as_zcat_reads_them() {
    let whole = images();
    let folder = Folder::new();
    for cut in [1, 4, 16, 20, whole.len()] {
        let (first, second) = whole.split_at(cut);
        // bgzip ends a file with an empty member; tapes fill a block with zeros.
        let members = [gzip(first), gzip(second), gzip(b""), vec![0; 512]].concat();
        let read = idx::read_images(&folder.file("x.gz", &members)).unwrap();
        assert_eq!(read, idx::read_images(&folder.file("x", &whole)).unwrap());
    }
    let (error, _) = refused("x.gz", &[gzip(&whole), gzip(b"more")].concat());
    assert!(matches!(error, IdxError::TrailingBytes { .. }), "{error:?}");
    let mut damaged = [gzip(&whole[..9]), gzip(&whole[9..])].concat();
    let last = damaged.len() - 6;
    damaged[last] ^= 1;
    let (error, _) = refused("x.gz", &damaged);
    assert!(matches!(error, IdxError::CorruptGzip { .. }), "{error:?}");
}

#[test]
fn labels_above_a_byte_are_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let data = LabeledImages::new("many", classes(300), [1, 1, 1], vec![1], vec![256]).unwrap();
    let error = idx::write_split(dir.path(), Split::Test, &data, idx::Encoding::Plain).unwrap_err();
    assert!(
        error.to_string().contains("one byte") && error.to_string().contains("300 classes"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn zero_dimensions_are_named() {
    for (dimensions, which) in [
        ([0, 2, 2], "count"),
        ([3, 0, 2], "height"),
        ([3, 2, 0], "width"),
    ] {
        let (error, message) = refused("x", &header(0x803, &dimensions));
        assert!(matches!(error, IdxError::ZeroDimension { .. }), "{error:?}");
        assert!(
            message.contains(&format!("the {which} is zero")),
            "{message}"
        );
    }
    let folder = Folder::new();
    let error = idx::read_labels(&folder.file("y", &labels(&[]))).unwrap_err();
    assert!(matches!(error, IdxError::ZeroDimension { .. }), "{error:?}");
}

#[test]
fn absurd_dimensions_are_refused_before_memory_is_taken() {
    for dimensions in [
        [u32::MAX, u32::MAX, u32::MAX],
        [u32::MAX, 28, 28],
        [1, 1 << 20, 1],
        [1, 1, u32::MAX],
        [2_000_000, 28, 28],
    ] {
        let (error, message) = refused("x", &header(0x803, &dimensions));
        assert!(
            matches!(error, IdxError::AbsurdDimension { .. }),
            "{error:?}"
        );
        assert!(message.contains("at most"), "{message}");
    }
}

#[test]
fn a_header_that_promises_a_gigabyte_costs_no_memory() {
    // 1,300,000 images of 28 by 28 are just below the limit; the file ends after the header.
    let lying = header(0x803, &[1_300_000, 28, 28]);
    for (name, content) in [("x", lying.clone()), ("x.gz", gzip(&lying))] {
        let (error, _) = refused(name, &content);
        assert!(
            matches!(error, IdxError::Truncated { found: 16, .. }),
            "{error:?}"
        );
    }
}

#[test]
fn a_gzip_bomb_is_read_no_further_than_its_header_says() {
    let mut bomb = images();
    bomb.resize(16 << 20, 0);
    let zipped = gzip(&bomb);
    assert!(zipped.len() < 100_000);
    let (error, _) = refused("x.gz", &zipped);
    assert!(matches!(error, IdxError::TrailingBytes { .. }), "{error:?}");
}

#[test]
fn counts_that_differ_are_both_given() {
    let folder = Folder::new();
    let images = folder.file("i", &images());
    let labels = folder.file("l", &labels(&[0, 1]));
    let error = idx::read_pair(&images, &labels, "t", &classes(10)).unwrap_err();
    let message = error.to_string();
    assert!(
        matches!(
            error,
            IdxError::CountMismatch {
                images: 3,
                labels: 2,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(
        message.contains("3 images") && message.contains("2 labels"),
        "{message}"
    );
}

#[test]
fn a_label_without_a_class_is_named_with_its_place() {
    let folder = Folder::new();
    let images = folder.file("i", &images());
    let labels = folder.file("l", &labels(&[0, 9, 10]));
    let error = idx::read_pair(&images, &labels, "t", &classes(10)).unwrap_err();
    let message = error.to_string();
    assert!(
        matches!(
            error,
            IdxError::LabelOutOfRange {
                index: 2,
                label: 10,
                classes: 10,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(message.contains("0 to 9"), "{message}");
    let error = idx::read_pair(&images, &labels, "t", &[]).unwrap_err();
    assert!(
        matches!(error, IdxError::ClassCount { count: 0, .. }),
        "{error:?}"
    );
}

#[test]
fn random_bytes_never_panic() {
    let folder = Folder::new();
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    for round in 0..300 {
        let mut bytes: Vec<u8> = (0..round).map(|_| next()).collect();
        if round % 3 == 0 && round > 16 {
            bytes[..4].copy_from_slice(&0x803u32.to_be_bytes());
            bytes[4..14].fill(0);
        }
        let name = if round % 2 == 0 { "x" } else { "x.gz" };
        if round % 4 == 1 && round > 2 {
            bytes[..2].copy_from_slice(&[0x1f, 0x8b]);
        }
        let _ = idx::read_images(&folder.file(name, &bytes));
        let _ = idx::read_labels(&folder.file(name, &bytes));
    }
}

#[test]
fn images_that_have_no_idx_form_are_not_written() {
    let folder = Folder::new();
    let colour = LabeledImages::new("c", classes(2), [3, 1, 1], vec![1, 2, 3], vec![0]).unwrap();
    let error =
        idx::write_split(folder.0.path(), Split::Test, &colour, Encoding::Plain).unwrap_err();
    assert!(
        matches!(error, IdxError::Channels { channels: 3, .. }),
        "{error:?}"
    );
    let wrong = IdxImages {
        count: 2,
        height: 1,
        width: 1,
        pixels: vec![0; 3],
    };
    let path = folder.0.path().join("w");
    let error = idx::write_images(&path, &wrong, Encoding::Plain).unwrap_err();
    assert!(matches!(error, IdxError::SizeMismatch { .. }), "{error:?}");
    assert!(!path.exists());
}
