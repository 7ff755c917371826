//! Random parts of a data set, of each class its share.

use std::collections::{BTreeMap, BinaryHeap};

use crate::device::random;
use crate::{LabeledImages, MaskedImages};

/// Images in host memory of which some can be picked: [`LabeledImages`] and [`MaskedImages`].
pub trait Pick {
    /// Number of images.
    fn count(&self) -> usize;
    /// The images at `indices`, in that order.
    fn pick(&self, indices: &[usize]) -> Self;
    /// The label of each image, where images have one.
    fn strata(&self) -> Option<&[u16]> {
        None
    }
}

impl Pick for LabeledImages {
    fn count(&self) -> usize {
        self.len()
    }

    fn pick(&self, indices: &[usize]) -> Self {
        self.select(indices)
    }

    fn strata(&self) -> Option<&[u16]> {
        Some(self.labels())
    }
}

impl Pick for MaskedImages {
    fn count(&self) -> usize {
        self.len()
    }

    fn pick(&self, indices: &[usize]) -> Self {
        self.select(indices)
    }
}

/// Splits off a random share of a data set, the same one for the same seed: what remains, and what is
/// held out. Both keep the order of the data; `fraction` is rounded to whole images. The classes are not looked at:
/// see [`stratified_holdout`].
///
/// ```
/// use kiln_data::{Digits, Split, holdout};
/// let data = Digits::new(1).generate(Split::Train, 100);
/// let (train, valid) = holdout(&data, 0.2, 42);
/// assert_eq!((train.len(), valid.len()), (80, 20));
/// ```
pub fn holdout<T: Pick>(data: &T, fraction: f64, seed: u64) -> (T, T) {
    divide(
        data,
        &draw(
            None,
            data.count(),
            share(data, fraction),
            seed,
            0,
            Every::Left,
        ),
    )
}

/// As [`holdout`], of each class its share as nearly as whole images allow (scikit-learn's `train_test_split` with
/// `stratify`). Images with masks have no class; of them any are held out.
///
/// No class is held out as a whole while there are enough images of others: what its share would take of a class with a
/// single image (which scikit-learn refuses) is taken of the class of which the most remain.
///
/// ```
/// use kiln_data::{Digits, Split, stratified_holdout};
/// let data = Digits::new(1).generate(Split::Train, 100);
/// let (_, valid) = stratified_holdout(&data, 0.2, 42);
/// assert!((0..10).all(|digit| valid.labels().iter().filter(|&&l| l == digit).count() == 2));
/// ```
pub fn stratified_holdout<T: Pick>(data: &T, fraction: f64, seed: u64) -> (T, T) {
    let held = draw(
        data.strata(),
        data.count(),
        share(data, fraction),
        seed,
        0,
        Every::Left,
    );
    divide(data, &held)
}

/// A random part of a data set, the same one for the same seed and in the data's order: `len` images, of each class its
/// share, but one at least as long as there are as many images as classes (scikit-learn refuses to divide a class that
/// would get none). All of them if there are no more.
///
/// ```
/// use kiln_data::{Digits, Split, subset};
/// let data = Digits::new(1).generate(Split::Train, 100);
/// let part = subset(&data, 30, 42);
/// assert!((0..10).all(|digit| part.labels().iter().filter(|&&l| l == digit).count() == 3));
/// ```
pub fn subset<T: Pick>(data: &T, len: usize, seed: u64) -> T {
    let len = len.min(data.count());
    // Another stream than what is held out, so that one does not depend on the other.
    let mut chosen = draw(data.strata(), data.count(), len, seed, 1, Every::Taken);
    chosen.sort_unstable();
    data.pick(&chosen)
}

fn share<T: Pick>(data: &T, fraction: f64) -> usize {
    ((data.count() as f64 * fraction).round() as usize).min(data.count())
}

/// What is left without the images at `held`, and those.
fn divide<T: Pick>(data: &T, held: &[usize]) -> (T, T) {
    let mut is_held = vec![false; data.count()];
    held.iter().for_each(|&index| is_held[index] = true);
    let part = |wanted: bool| {
        let indices: Vec<usize> = (0..data.count())
            .filter(|&index| is_held[index] == wanted)
            .collect();
        data.pick(&indices)
    };
    (part(false), part(true))
}

/// What every class has one image of, if there are enough.
#[derive(Clone, Copy, PartialEq)]
enum Every {
    Taken,
    Left,
}

/// `take` of `count` indices at random, of each stratum its share: what is left over after whole images goes to those
/// with the largest remainders, and by lot among equals.
fn draw(
    strata: Option<&[u16]>,
    count: usize,
    take: usize,
    seed: u64,
    stream: u64,
    every: Every,
) -> Vec<usize> {
    let order = random::permutation(count, seed, stream);
    let order = order.into_iter().map(|index| index as usize);
    let Some(strata) = strata else {
        return order.take(take).collect();
    };
    let order: Vec<usize> = order.collect();
    // Of each stratum: how many there are, and its place in the lot.
    let mut sizes = BTreeMap::<u16, (usize, usize)>::new();
    for (place, &index) in order.iter().enumerate() {
        sizes.entry(strata[index]).or_insert((0, place)).0 += 1;
    }
    let mut quotas = quotas(&sizes, count, take);
    give_to_every(&mut quotas, &sizes, every);
    let chosen = order.into_iter().filter(|&index| {
        let quota = quotas
            .get_mut(&strata[index])
            .expect("every stratum has a quota");
        let wanted = *quota > 0;
        *quota -= usize::from(wanted);
        wanted
    });
    chosen.collect()
}

/// How many are taken of each stratum, of which a size and a place in the lot are given.
fn quotas(
    sizes: &BTreeMap<u16, (usize, usize)>,
    count: usize,
    take: usize,
) -> BTreeMap<u16, usize> {
    let exact = |size: usize| take as u128 * size as u128;
    let whole = |size: usize| (exact(size) / count.max(1) as u128) as usize;
    let mut quotas: BTreeMap<u16, usize> = sizes
        .iter()
        .map(|(&stratum, &(size, _))| (stratum, whole(size)))
        .collect();
    let left = take - quotas.values().sum::<usize>();
    let mut by_remainder: Vec<_> = sizes.iter().collect();
    by_remainder.sort_by_key(|&(_, &(size, place))| {
        (std::cmp::Reverse(exact(size) % count.max(1) as u128), place)
    });
    for (stratum, _) in by_remainder.into_iter().take(left) {
        *quotas.get_mut(stratum).expect("every stratum has a quota") += 1;
    }
    quotas
}

/// Moves single images from the strata that have the most to those that have none, unless there are too few for all.
fn give_to_every(
    quotas: &mut BTreeMap<u16, usize>,
    sizes: &BTreeMap<u16, (usize, usize)>,
    every: Every,
) {
    let has = |stratum: &u16, quota: usize| match every {
        Every::Taken => quota,
        Every::Left => sizes[stratum].0 - quota,
    };
    let (without, rich): (Vec<_>, Vec<_>) = quotas
        .iter()
        .map(|(&stratum, &quota)| (has(&stratum, quota), stratum))
        .partition(|&(has, _)| has == 0);
    let spare: usize = rich.iter().map(|(has, _)| has - 1).sum();
    if spare < without.len() {
        return;
    }
    let place = |stratum: u16| std::cmp::Reverse(sizes[&stratum].1);
    let rich = rich.into_iter().map(|(has, s)| (has, place(s), s));
    let mut rich: BinaryHeap<_> = rich.collect();
    for (_, poor) in without {
        let (has, place, giver) = rich.pop().expect("there are enough to give");
        rich.push((has - 1, place, giver));
        let (more, less) = match every {
            Every::Taken => (poor, giver),
            Every::Left => (giver, poor),
        };
        *quotas.get_mut(&more).expect("every stratum has a quota") += 1;
        *quotas.get_mut(&less).expect("every stratum has a quota") -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labeled(labels: &[u16]) -> LabeledImages {
        let pixels = (0..labels.len()).map(|i| i as u8).collect();
        let classes = (0..300).map(|c| c.to_string()).collect();
        LabeledImages::new("t", classes, [1, 1, 1], pixels, labels.to_vec()).unwrap()
    }

    fn counts(data: &LabeledImages) -> Vec<usize> {
        let count = |class| data.labels().iter().filter(|&&l| l == class).count();
        (0..3).map(count).collect()
    }

    #[test]
    fn a_part_of_sorted_data_has_every_class_by_its_share() {
        let labels = [vec![0; 60], vec![1; 30], vec![2; 10]].concat();
        let data = labeled(&labels);
        assert_eq!(counts(&subset(&data, 20, 7)), [12, 6, 2]);
        let (rest, held) = stratified_holdout(&data, 0.1, 7);
        assert_eq!(
            (counts(&rest), counts(&held)),
            (vec![54, 27, 9], vec![6, 3, 1])
        );
        // The same for the same seed, in the data's order, and not the first ones.
        let part = subset(&data, 20, 7);
        assert_eq!(part, subset(&data, 20, 7));
        assert_ne!(part, subset(&data, 20, 8));
        assert!(part.images().windows(2).all(|pair| pair[0] < pair[1]));
        assert_ne!(part.images()[..12], (0..12).collect::<Vec<u8>>()[..]);
        assert_eq!(subset(&data, 1000, 7), data);
    }

    #[test]
    fn what_whole_images_leave_over_goes_by_lot_not_to_the_first_classes() {
        let data = labeled(&(0..200).collect::<Vec<u16>>());
        let part = subset(&data, 20, 3);
        assert_eq!(part.len(), 20);
        assert!(part.labels().iter().any(|&label| label > 100));
        assert_ne!(part, subset(&data, 20, 4));
    }

    #[test]
    fn a_rare_class_keeps_an_image_in_every_part_to_train_on() {
        // 1,000 images of one class, 3 and 1 of others, and 200 classes of one image.
        let mut labels = [vec![0; 1000], vec![1; 3], vec![2; 1]].concat();
        labels.extend(3..203);
        let data = labeled(&labels);
        for seed in 0..20 {
            for len in [203, 204, 250, 600, 1203] {
                let part = subset(&data, len, seed);
                assert_eq!(part.len(), len);
                let classes: std::collections::BTreeSet<u16> =
                    part.labels().iter().copied().collect();
                assert_eq!(classes.len(), 203, "{len} images of seed {seed}");
            }
            for fraction in [0.05, 0.5, 0.8] {
                let (rest, held) = stratified_holdout(&data, fraction, seed);
                assert_eq!(held.len(), (1204.0 * fraction).round() as usize);
                let classes: std::collections::BTreeSet<u16> =
                    rest.labels().iter().copied().collect();
                assert_eq!(classes.len(), 203, "{fraction} of seed {seed}");
            }
        }
        // Fewer images than classes: by lot, as before.
        assert_eq!(subset(&data, 202, 1).len(), 202);
        let (rest, held) = stratified_holdout(&data, 0.9, 1);
        assert_eq!((rest.len(), held.len()), (120, 1084));
    }

    #[test]
    fn every_image_is_in_one_part_however_much_is_held_out() {
        for (count, fraction) in [(7, 0.5), (10, 0.0), (10, 0.9), (3, 0.34), (1, 0.5)] {
            let data = labeled(&(0..count).map(|i| i % 3).collect::<Vec<u16>>());
            let (rest, held) = stratified_holdout(&data, fraction, 1);
            let mut all = [rest.images(), held.images()].concat();
            all.sort_unstable();
            assert_eq!(all, data.images());
            assert_eq!(held.len(), (f64::from(count) * fraction).round() as usize);
        }
    }
}
