//! Where data sets are looked for, and what is said when they are nowhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kiln_data::emnist::Emnist;
use kiln_data::idx::{self, Encoding, IdxError};
use kiln_data::{DataError, Digits, LabeledImages, Load, Origin, Split};

/// Writes a small data set in MNIST's format.
fn put(dir: &Path, seed: u64) -> PathBuf {
    let digits = Digits::new(seed);
    for (split, count) in [(Split::Train, 30), (Split::Test, 10)] {
        let data = digits.generate(split, count);
        idx::write_split(dir, split, &data, Encoding::Gzip).unwrap();
    }
    dir.to_owned()
}

#[test]
fn files_are_found_in_the_folder_its_subfolder_and_torchvisions_layout() {
    for (name, place) in [
        ("mnist", ""),
        ("mnist", "mnist"),
        ("mnist", "MNIST/raw"),
        ("kmnist", "KMNIST/raw"),
        ("fashion-mnist", "FashionMNIST/raw"),
        ("auto", ""),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let place = put(&dir.path().join(place), 1);
        let data = Load::new(name).data_dir(dir.path()).run().unwrap();
        assert_eq!((data.train.len(), data.test.len()), (30, 10), "{name}");
        assert_eq!(data.origin, Origin::Folder(place), "{name}");
        assert_eq!(data.note, None);
        let expected = if name == "auto" { "mnist" } else { name };
        assert_eq!(data.train.name(), expected);
    }
}

#[test]
fn the_subfolder_of_its_name_comes_before_other_files() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), 1);
    let place = put(&dir.path().join("kmnist"), 2);
    let data = Load::new("kmnist").data_dir(dir.path()).run().unwrap();
    assert_eq!(data.origin, Origin::Folder(place));
    assert_eq!(data.train.class_name(1), "ki");
}

#[test]
fn a_folder_without_the_files_is_an_error_even_with_auto() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["mnist", "auto"] {
        for place in [dir.path().to_owned(), dir.path().join("nowhere")] {
            let error = Load::new(name).data_dir(&place).run().unwrap_err();
            assert!(matches!(error, DataError::NotFound { .. }), "{error:?}");
            let message = error.to_string();
            for part in [
                place.to_str().unwrap(),
                "train-images-idx3-ubyte.gz",
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "--data-dir",
            ] {
                assert!(message.contains(part), "{part} not in {message}");
            }
        }
    }
}

#[test]
fn a_folder_with_half_of_the_files_names_the_missing_one() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), 1);
    fs::remove_file(dir.path().join("train-labels-idx1-ubyte.gz")).unwrap();
    let error = Load::new("mnist").data_dir(dir.path()).run().unwrap_err();
    assert!(
        matches!(error, DataError::Idx(IdxError::Missing { .. })),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("train-labels-idx1-ubyte"),
        "{error}"
    );
}

#[test]
fn splits_of_different_image_sizes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), 1);
    let classes = vec!["0".into()];
    let small = LabeledImages::new("small", classes, [1, 8, 9], vec![0; 72], vec![0]).unwrap();
    idx::write_split(dir.path(), Split::Test, &small, Encoding::Gzip).unwrap();
    let error = Load::new("mnist").data_dir(dir.path()).run().unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("28 x 28") && message.contains("8 x 9"),
        "{message}"
    );
}

/// EMNIST's files of one of its parts: every picture has a lit pixel in the row and column of its index.
fn put_emnist(dir: &Path, emnist: Emnist, labels: &[u16]) {
    fs::create_dir_all(dir).unwrap();
    let pixels = (0..labels.len()).flat_map(|i| {
        let mut stored = vec![0; 28 * 28];
        // The file holds columns: what is at row 1, column i + 2 of the picture.
        stored[(i + 2) * 28 + 1] = 200;
        stored
    });
    let classes = (0..70).map(|c| c.to_string()).collect();
    let data =
        LabeledImages::new("t", classes, [1, 28, 28], pixels.collect(), labels.to_vec()).unwrap();
    for split in [Split::Train, Split::Test] {
        idx::write_split(dir, split, &data, Encoding::Gzip).unwrap();
        for kind in [idx::Kind::Images, idx::Kind::Labels] {
            let from = format!("{}.gz", idx::file_name(split, kind));
            let to = from.replace("t10k", "test");
            fs::rename(dir.join(&from), dir.join(format!("{}-{to}", emnist.name()))).unwrap();
        }
    }
}

#[test]
fn emnist_is_read_upright_and_its_letters_begin_at_0() {
    let dir = tempfile::tempdir().unwrap();
    put_emnist(&dir.path().join("gzip"), Emnist::Letters, &[1, 26, 3]);
    let data = Load::new("emnist-letters")
        .data_dir(dir.path())
        .run()
        .unwrap();
    assert_eq!((data.train.len(), data.train.num_classes()), (3, 26));
    assert_eq!(data.train.labels(), [0, 25, 2]);
    assert_eq!(data.test.class_name(25), "z");
    for i in 0..3 {
        assert_eq!(
            data.train.image(i).iter().position(|&p| p == 200),
            Some(28 + i + 2)
        );
    }
    put_emnist(&dir.path().join("gzip"), Emnist::Letters, &[0, 26]);
    let error = Load::new("emnist-letters")
        .data_dir(dir.path())
        .run()
        .unwrap_err();
    assert!(error.to_string().contains("from 1 to 26"), "{error}");
    put_emnist(&dir.path().join("raw"), Emnist::Balanced, &[0, 46]);
    let data = Load::new("EMNIST_balanced")
        .data_dir(dir.path())
        .run()
        .unwrap();
    assert_eq!(data.test.class_name(data.test.labels()[1]), "t");
}

#[test]
fn data_that_are_there_under_another_name_are_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    put_emnist(dir.path(), Emnist::Balanced, &[0, 1]);
    for name in ["mnist", "auto", "emnist-letters"] {
        let error = Load::new(name)
            .data_dir(dir.path())
            .run()
            .unwrap_err()
            .to_string();
        assert!(error.contains("--data emnist-balanced"), "{error}");
    }
    let error = Load::new("emnist")
        .data_dir(dir.path())
        .run()
        .unwrap_err()
        .to_string();
    assert!(error.contains("six parts: emnist-byclass"), "{error}");
    let cache = tempfile::tempdir().unwrap();
    let error = Load::new("emnist-digits")
        .cache_dir(cache.path())
        .run()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("gzip.zip") && error.contains("--data-dir"),
        "{error}"
    );
    for python in [
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        "data_batch_1",
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(python), "pickled").unwrap();
        let error = Load::new("cifar10")
            .data_dir(dir.path())
            .run()
            .unwrap_err()
            .to_string();
        for part in [
            python,
            "for Python",
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        ] {
            assert!(error.contains(part), "{part} not in {error}");
        }
    }
}

#[test]
fn the_cache_is_used_without_a_network() {
    let cache = tempfile::tempdir().unwrap();
    let place = put(&cache.path().join("mnist"), 1);
    for name in ["mnist", "auto"] {
        let load = Load::new(name).cache_dir(cache.path()).offline(true);
        let data = load.run().unwrap();
        assert_eq!(data.origin, Origin::Cache(place.clone()));
        let other = Load::new("kmnist").cache_dir(cache.path());
        assert_eq!(other.cached().unwrap(), None);
        let this = Load::new("mnist").cache_dir(cache.path());
        assert_eq!(this.cached().unwrap(), Some(place.clone()));
        assert_eq!(data.note, None);
    }
}

#[test]
fn auto_draws_digits_when_mnist_is_nowhere_and_says_so_in_one_line() {
    let cache = tempfile::tempdir().unwrap();
    let load = Load::new("auto").cache_dir(cache.path()).offline(true);
    let data = load.seed(9).digits_len(40, 20).run().unwrap();
    assert_eq!(data.origin, Origin::Drawn { seed: 9 });
    assert_eq!(data.train, Digits::new(9).generate(Split::Train, 40));
    assert_eq!(data.test, Digits::new(9).generate(Split::Test, 20));
    let note = data.note.unwrap();
    assert!(
        note.contains("MNIST is not at hand") && !note.contains('\n'),
        "{note}"
    );
    // Nothing was left behind.
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
}

#[test]
fn damaged_files_are_an_error_and_never_replaced_by_other_data() {
    let cache = tempfile::tempdir().unwrap();
    let place = put(&cache.path().join("mnist"), 1);
    let file = place.join("t10k-images-idx3-ubyte.gz");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let error = Load::new("auto")
        .cache_dir(cache.path())
        .offline(true)
        .run()
        .unwrap_err();
    assert!(
        matches!(error, DataError::Idx(IdxError::Truncated { .. })),
        "{error:?}"
    );
    let error = Load::new("mnist").data_dir(&place).run().unwrap_err();
    assert!(
        matches!(error, DataError::Idx(IdxError::Truncated { .. })),
        "{error:?}"
    );
}

#[test]
fn offline_says_where_it_looked_and_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    for name in ["mnist", "fashion-mnist", "kmnist"] {
        let load = Load::new(name).cache_dir(cache.path()).offline(true);
        for error in [load.run().unwrap_err(), load.fetch().unwrap_err()] {
            let message = error.to_string();
            assert!(message.contains("downloads are off"), "{message}");
            assert!(
                message.contains(cache.path().join(name).to_str().unwrap()),
                "{message}"
            );
        }
    }
    assert_eq!(Load::new("digits").offline(true).fetch().unwrap(), None);
}

#[test]
fn unknown_names_are_refused() {
    for load in [Load::new("minst"), Load::new("minst").offline(true)] {
        let error = load.run().unwrap_err();
        assert_eq!(
            error.to_string(),
            "no data set is named 'minst'; did you mean 'mnist'?"
        );
    }
}

/// The environment is set for a second run of this very test.
#[test]
fn kiln_data_dir_moves_the_cache() {
    const CHILD: &str = "KILN_DATA_TEST_EXPECTED";
    if let Some(expected) = std::env::var_os(CHILD) {
        let found = kiln_data::catalog::cache_dir().unwrap();
        match expected.is_empty() {
            true => assert!(found.ends_with("kiln"), "{found:?}"),
            false => assert_eq!(found, PathBuf::from(expected)),
        }
        return;
    }
    for dir in ["/somewhere/else", ""] {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kiln_data_dir_moves_the_cache"])
            .env("KILN_DATA_DIR", dir)
            .env(CHILD, dir)
            .env("HOME", "/home/somebody")
            .output()
            .unwrap();
        assert!(
            status.status.success(),
            "{}",
            String::from_utf8_lossy(&status.stdout)
        );
    }
}
