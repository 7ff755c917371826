//! The digits that Kiln draws: the same for ever, balanced, and like MNIST in the large.

use kiln_data::info::Summary;
use kiln_data::{Digits, Split};
use sha2::{Digest, Sha256};

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a seed are part of the interface: results obtained on Digits stay comparable. A
/// change of the generator needs new sums here and a line in the changelog.
#[test]
fn a_seed_gives_the_same_bytes_on_every_platform() {
    for (seed, split, sum) in [
        (
            0,
            Split::Train,
            "5218f9e654856688579881e8feb6e9b131a53665f578b7d77ccc579093ceadb4",
        ),
        (
            0,
            Split::Test,
            "fef751eaaeabe22706336220111e52cbd927e864ddf805216a3dd9e6bce8bc22",
        ),
        (
            42,
            Split::Train,
            "652c4f10af41739847d05c5f84b245054d4c39431aafe00d84d42a919ac43a4b",
        ),
    ] {
        let data = Digits::new(seed).generate(split, 1000);
        let mut bytes = data.images().to_vec();
        bytes.extend(data.labels().iter().map(|&label| label as u8));
        assert_eq!(sha256(&bytes), sum, "seed {seed}, {split}");
    }
}

#[test]
fn a_picture_depends_on_seed_split_and_index_alone() {
    let digits = Digits::new(3);
    let all = digits.generate(Split::Train, 300);
    let part = digits.generate_range(Split::Train, 123..257);
    assert_eq!(part, all.slice(123..257));
    let (pixels, label) = digits.image(Split::Train, 200);
    assert_eq!((&pixels[..], label), (all.image(200), all.labels()[200]));
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    assert_eq!(pool.install(|| digits.generate(Split::Train, 300)), all);
}

#[test]
fn seeds_and_splits_share_no_picture() {
    let mut pictures = std::collections::HashSet::new();
    for (seed, split) in [
        (1, Split::Train),
        (1, Split::Test),
        (2, Split::Train),
        (2, Split::Test),
    ] {
        let data = Digits::new(seed).generate(split, 500);
        for i in 0..data.len() {
            assert!(
                pictures.insert(data.image(i).to_vec()),
                "seed {seed}, {split}, {i}"
            );
        }
    }
}

#[test]
fn every_ten_pictures_show_each_digit_once_in_varying_order() {
    let data = Digits::new(5).generate(Split::Test, 1000);
    let mut orders = std::collections::HashSet::new();
    for ten in data.labels().chunks(10) {
        orders.insert(ten.to_vec());
        let mut sorted = ten.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<u16>>());
    }
    assert!(orders.len() > 95);
}

/// MNIST: mean 0.1307, standard deviation 0.3081.
#[test]
fn mean_and_standard_deviation_are_near_mnists() {
    let summary = Summary::of(&Digits::new(0).generate(Split::Train, 5000));
    assert!(
        (summary.mean[0] - 0.1307).abs() < 0.005,
        "{:?}",
        summary.mean
    );
    assert!((summary.std[0] - 0.3081).abs() < 0.005, "{:?}", summary.std);
}

/// MNIST: the longer side of the ink is 20 pixels and the mean of its indices 14.
#[test]
fn pictures_are_fitted_and_centred_as_mnists() {
    let data = Digits::new(0).generate(Split::Train, 1000);
    let mut twenty = 0;
    for i in 0..data.len() {
        let image = data.image(i);
        let ink = |y: usize, x: usize| f64::from(image[y * 28 + x]);
        let row = |y: usize| (0..28).map(|x| ink(y, x)).sum::<f64>();
        let column = |x: usize| (0..28).map(|y| ink(y, x)).sum::<f64>();
        let mass: f64 = (0..28).map(row).sum();
        let side = |line: &dyn Fn(usize) -> f64| {
            let inked: Vec<usize> = (0..28).filter(|&i| line(i) > 0.0).collect();
            let centre = (0..28).map(|i| i as f64 * line(i)).sum::<f64>() / mass;
            (inked[inked.len() - 1] - inked[0] + 1, centre)
        };
        let ((height, cy), (width, cx)) = (side(&row), side(&column));
        let longer = height.max(width);
        assert!((18..=22).contains(&longer), "picture {i}: {longer}");
        assert!(
            (cx - 14.0).abs() < 2.0 && (cy - 14.0).abs() < 2.0,
            "picture {i}: {cx} {cy}"
        );
        twenty += usize::from(longer == 20);
    }
    assert!(twenty > 900, "{twenty}");
}

#[test]
fn no_picture_is_empty_or_full_for_any_seed() {
    for seed in [0, 1, u64::MAX, 1 << 63] {
        let data = Digits::new(seed).generate(Split::Test, 500);
        for i in 0..data.len() {
            let lit = data.image(i).iter().filter(|&&p| p > 127).count();
            assert!((15..350).contains(&lit), "seed {seed}, picture {i}: {lit}");
        }
    }
}
