//! Handwritten-like digits that Kiln draws itself: the data set that is always there.

mod glyphs;
mod pen;
pub(crate) mod rng;
pub(crate) mod sketch;

use std::ops::Range;

use rayon::prelude::*;

use crate::{LabeledImages, Split};
use pen::SIDE;
use rng::Rng;

/// Digits 0 to 9 drawn with a random hand, 28×28 pixels, normalised as MNIST is.
///
/// Each picture starts from the strokes of one of several ways to write its digit (a 7 with or
/// without a bar, an open or a closed 4, and so on) with random proportions; these are bent by a
/// smooth random field, slanted, turned and stretched, and drawn by a pen of random width, softness
/// and pressure. As in MNIST the result fits a 20×20 box and its centre of mass is the centre of the
/// picture.
///
/// A picture depends on the seed, the split and its index alone, so any part can be drawn in any
/// order, and it has the same bytes on every platform: only exactly rounded arithmetic is used.
/// Every ten consecutive pictures show each digit once, in random order.
///
/// ```
/// use kiln_data::{Digits, Split};
///
/// let digits = Digits::new(7);
/// let train = digits.generate(Split::Train, 1000);
/// assert_eq!(train.shape(), [1, 28, 28]);
/// assert_eq!(train.labels().iter().filter(|&&label| label == 3).count(), 100);
/// assert_eq!(digits.image(Split::Train, 5).0, train.image(5));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digits {
    seed: u64,
}

impl Digits {
    /// Number of training images of the standard data set, as in MNIST.
    pub const TRAIN_LEN: usize = 60_000;
    /// Number of test images of the standard data set, as in MNIST.
    pub const TEST_LEN: usize = 10_000;

    /// The digits of one seed. The default seed is 0.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The first `count` pictures of a split, drawn on all of rayon's threads.
    pub fn generate(&self, split: Split, count: usize) -> LabeledImages {
        self.generate_range(split, 0..count)
    }

    /// The pictures with indices in `range`.
    pub fn generate_range(&self, split: Split, range: Range<usize>) -> LabeledImages {
        let start = range.start;
        let count = range.len();
        let mut images = vec![0; count * SIDE * SIDE];
        let mut labels = vec![0; count];
        images
            .par_chunks_mut(SIDE * SIDE)
            .zip(labels.par_iter_mut())
            .enumerate()
            .with_min_len(64)
            .for_each(|(i, (pixels, label))| *label = self.draw(split, start + i, pixels));
        let classes = (0..10).map(|digit| digit.to_string()).collect();
        LabeledImages::new("digits", classes, [1, SIDE, SIDE], images, labels)
            .expect("ten classes, whole images and labels below ten")
    }

    /// The pixels (`[28, 28]`) and the label of one picture.
    pub fn image(&self, split: Split, index: usize) -> (Vec<u8>, u16) {
        let mut pixels = vec![0; SIDE * SIDE];
        let label = self.draw(split, index, &mut pixels);
        (pixels, label)
    }

    fn draw(&self, split: Split, index: usize, pixels: &mut [u8]) -> u16 {
        let stream = match split {
            Split::Train => 1,
            Split::Test => 2,
        };
        let label = self.label(stream, index);
        let mut rng = Rng::new(&[self.seed, stream, index as u64]);
        let mut sketch = glyphs::sketch(label, &mut rng);
        pen::draw(&mut sketch, &mut rng, pixels);
        u16::from(label)
    }

    /// Each block of ten indices is a random order of the ten digits.
    fn label(&self, stream: u64, index: usize) -> u8 {
        let mut rng = Rng::new(&[self.seed, stream, 1 << 63 | (index / 10) as u64]);
        let mut order = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        for i in (1..10).rev() {
            order.swap(i, rng.below(i + 1));
        }
        order[index % 10]
    }
}
