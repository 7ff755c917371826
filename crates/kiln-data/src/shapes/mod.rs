//! Discs, squares and triangles that Kiln draws itself: segmentation data that are always there.

mod draw;

use std::ops::Range;

use rayon::prelude::*;

use crate::{MaskedImages, Split};

/// Colour pictures of 64×64 pixels with two to five discs, squares and triangles on an uneven, noisy ground, and
/// masks that tell for each pixel what it shows.
///
/// Colours are random, so that only its outline tells what a figure is; figures are turned, differ in size and hide
/// each other in part. Classes: background, disc, square, triangle.
///
/// A picture depends on the seed, the split and its index alone, so any part can be drawn in any order, and it has
/// the same bytes on every platform: only exactly rounded arithmetic is used.
///
/// ```
/// use kiln_data::{Shapes, Split};
///
/// let shapes = Shapes::new(7);
/// let train = shapes.generate(Split::Train, 100);
/// assert_eq!((train.shape(), train.num_classes()), ([3, 64, 64], 4));
/// let (pixels, mask) = shapes.image(Split::Train, 5);
/// assert_eq!((&pixels[..], &mask[..]), (train.image(5), train.mask(5)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shapes {
    seed: u64,
}

/// Names of the classes, in the order of the mask's values.
pub(crate) const CLASSES: &[&str] = &["background", "disc", "square", "triangle"];

const SIDE: usize = draw::SIDE;

impl Shapes {
    /// Number of training images of the standard data set.
    pub const TRAIN_LEN: usize = 4_000;
    /// Number of test images of the standard data set.
    pub const TEST_LEN: usize = 1_000;

    /// The shapes of one seed. The default seed is 0.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The first `count` pictures of a split, drawn on all of rayon's threads.
    pub fn generate(&self, split: Split, count: usize) -> MaskedImages {
        self.generate_range(split, 0..count)
    }

    /// The pictures with indices in `range`.
    pub fn generate_range(&self, split: Split, range: Range<usize>) -> MaskedImages {
        let (start, count, plane) = (range.start, range.len(), SIDE * SIDE);
        let mut images = vec![0; count * 3 * plane];
        let mut masks = vec![0; count * plane];
        images
            .par_chunks_mut(3 * plane)
            .zip(masks.par_chunks_mut(plane))
            .enumerate()
            .with_min_len(16)
            .for_each(|(i, (pixels, mask))| self.draw(split, start + i, pixels, mask));
        let classes = CLASSES.iter().map(|&name| name.into()).collect();
        MaskedImages::new("shapes", classes, [3, SIDE, SIDE], images, masks)
            .expect("four classes, whole images and masks of them")
    }

    /// The pixels (`[3, 64, 64]`) and the mask (`[64, 64]`) of one picture.
    pub fn image(&self, split: Split, index: usize) -> (Vec<u8>, Vec<u8>) {
        let mut pixels = vec![0; 3 * SIDE * SIDE];
        let mut mask = vec![0; SIDE * SIDE];
        self.draw(split, index, &mut pixels, &mut mask);
        (pixels, mask)
    }

    fn draw(&self, split: Split, index: usize, pixels: &mut [u8], mask: &mut [u8]) {
        let stream = match split {
            Split::Train => 3,
            Split::Test => 4,
        };
        draw::picture(&[self.seed, stream, index as u64], pixels, mask);
    }
}
