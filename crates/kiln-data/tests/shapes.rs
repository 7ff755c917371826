//! The shapes that Kiln draws: the same for ever, and neither empty nor all alike.

use kiln_data::info::Summary;
use kiln_data::{Shapes, Split};
use sha2::{Digest, Sha256};

/// The bytes of a seed are part of the interface: results obtained on Shapes stay comparable.
#[test]
fn a_seed_gives_the_same_bytes_on_every_platform() {
    for (seed, split, sum) in [
        (
            0,
            Split::Train,
            "3956fae831b97c8a7414747634cf48aa5e3799614cc9ace85df29db3d8919b27",
        ),
        (
            0,
            Split::Test,
            "4ccfaa228eb6a0d0afba32cef0208b2008bb6624b67fde165937f7666ac59257",
        ),
        (
            42,
            Split::Train,
            "1289b390c933f7af71ce9732fd543947915c7c78a4e07060a08792f783d30a9a",
        ),
    ] {
        let data = Shapes::new(seed).generate(split, 300);
        let mut digest = Sha256::new();
        digest.update(data.images());
        digest.update(data.masks());
        let digest: String = digest
            .finalize()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(digest, sum, "seed {seed}, {split}");
    }
}

#[test]
fn a_picture_depends_on_seed_split_and_index_alone() {
    let shapes = Shapes::new(3);
    let all = shapes.generate(Split::Train, 60);
    assert_eq!(
        shapes.generate_range(Split::Train, 23..47),
        all.slice(23..47)
    );
    let (pixels, mask) = shapes.image(Split::Train, 40);
    assert_eq!((&pixels[..], &mask[..]), (all.image(40), all.mask(40)));
    assert_ne!(shapes.image(Split::Test, 40).0, pixels);
    assert_ne!(Shapes::new(4).image(Split::Train, 40).0, pixels);
}

#[test]
fn every_class_has_its_share_and_every_picture_shows_something() {
    let data = Shapes::new(1).generate(Split::Train, 500);
    let summary = Summary::of_masks(&data);
    let all = (500 * 64 * 64) as f64;
    for (class, count) in &summary.class_counts {
        let share = *count as f64 / all;
        let expected = if class == "background" {
            0.7..0.85
        } else {
            0.06..0.15
        };
        assert!(expected.contains(&share), "{class}: {share}");
    }
    for i in 0..data.len() {
        let figures = data.mask(i).iter().filter(|&&v| v > 0).count();
        assert!(
            figures > 40,
            "picture {i} shows {figures} pixels of figures"
        );
    }
}
