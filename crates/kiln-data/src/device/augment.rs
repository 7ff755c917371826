//! [`Augment`]: the random changes of training images, drawn on the host for a whole epoch, made on the device.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::affine::{Affine, AffineError};
use super::dataset::Mixed;
use super::random::SplitMix64;
use super::warp::{self, Grid};

/// Random changes of training images, anew for every image of every epoch.
///
/// In this order: the picture is bent ([`elastic`](Self::elastic)), shifted, turned and scaled
/// ([`affine`](Self::affine)); a part of it is cut out ([`crop_padding`](Self::crop_padding),
/// [`crop_size`](Self::crop_size)) and flipped; it is normalized; a square is blanked ([`cutout`](Self::cutout)); it is
/// mixed with its neighbour in the batch ([`mixup`](Self::mixup)).
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `affine` | none | see [`Affine`] |
/// | `elastic` | 0 | displacement in pixels (standard deviation), 0 to 1000 |
/// | `crop_padding` | 0 | pixels around the image that a crop may reach into, 0 to 1000 |
/// | `crop_size` | the image's own | height and width, at most the image's with its padding |
/// | `hflip`, `vflip` | 0 | probability to mirror left and right, top and bottom |
/// | `cutout` | 0 | side of the blanked square in pixels, 0 to 10000 |
/// | `mixup` | 0 | α of the beta distribution of shares, 0 (none) to 100 |
///
/// Crops and flips copy pixels exactly. The usual ones of CIFAR (He et al. 2015,
/// <https://arxiv.org/abs/1512.03385>) are `crop_padding: 4` and `hflip: 0.5`; what lies outside is black there,
/// and in segmentation the mirror image.
///
/// ```
/// use kiln_data::Augment;
/// let cifar = Augment { crop_padding: 4, hflip: 0.5, cutout: 16, ..Default::default() };
/// assert!(cifar.validate([3, 32, 32]).is_ok());
/// let large = Augment { crop_size: Some([40, 32]), ..Default::default() };
/// assert!(large.validate([3, 32, 32]).is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augment {
    /// Random shift, rotation and zoom.
    pub affine: Affine,
    /// Standard deviation in pixels of smooth random displacements: cubic B-splines over random vectors on a lattice
    /// of three by three cells (as Ronneberger et al. 2015, <https://arxiv.org/abs/1505.04597>).
    pub elastic: f64,
    /// Pixels around the image that a crop may reach into (torchvision's `RandomCrop(size, padding)`).
    pub crop_padding: usize,
    /// Height and width of the part that is cut out.
    pub crop_size: Option<[usize; 2]>,
    /// Probability to mirror left and right.
    pub hflip: f64,
    /// Probability to mirror top and bottom.
    pub vflip: f64,
    /// Side in pixels of a square that is blanked after normalizing, at a random place, in part outside perhaps
    /// (DeVries and Taylor 2017, <https://arxiv.org/abs/1708.04552>).
    pub cutout: usize,
    /// Mixes every image of a batch, and its label, with the one before: the share of each is drawn for the batch from
    /// Beta(α, α), and the larger is the image's own (Zhang et al. 2018, <https://arxiv.org/abs/1710.09412>, with
    /// neighbours for partners as in torchvision's `MixUp`). Usual are 0.1 to 0.4. Images with masks are not mixed.
    pub mixup: f64,
}

impl From<Affine> for Augment {
    fn from(affine: Affine) -> Self {
        Self {
            affine,
            ..Self::default()
        }
    }
}

/// What lies outside an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    Black,
    Mirror,
}

/// Columns of the table before those of the elastic field: the affine matrix, the crop's corner (y, x), flips
/// (vertical, horizontal), the middle of the blanked square (y, x), the image's own share where it is mixed.
const FIXED: usize = 13;

impl Augment {
    /// Checks the ranges, and that the crop fits images of `[channels, height, width]`.
    ///
    /// # Errors
    ///
    /// Names the first setting that is not allowed.
    pub fn validate(&self, [_, height, width]: [usize; 3]) -> Result<(), AffineError> {
        self.affine.validate()?;
        let check = |name, given: f64, max: f64, allowed| match (0.0..=max).contains(&given) {
            true => Ok(()),
            false => Err(AffineError {
                name,
                given,
                allowed,
            }),
        };
        check("elastic", self.elastic, 1000.0, "pixels, from 0 to 1000")?;
        let padding = self.crop_padding as f64;
        check("crop_padding", padding, 1000.0, "pixels, from 0 to 1000")?;
        check("hflip", self.hflip, 1.0, "a probability, from 0 to 1")?;
        check("vflip", self.vflip, 1.0, "a probability, from 0 to 1")?;
        let cutout = self.cutout as f64;
        check("cutout", cutout, 10_000.0, "pixels, from 0 to 10000")?;
        check("mixup", self.mixup, 100.0, "a number, from 0 to 100")?;
        let Some(sizes) = self.crop_size else {
            return Ok(());
        };
        for (size, image) in sizes.into_iter().zip([height, width]) {
            let allowed = "at least 1, at most the image's own size with its crop padding";
            let given = size as f64;
            check(
                "crop_size",
                given,
                (image + 2 * self.crop_padding) as f64,
                allowed,
            )?;
            check("crop_size", given - 1.0, f64::MAX, allowed)?;
        }
        Ok(())
    }

    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        *self == Self::default()
    }

    /// Draws an epoch of `len` images of `shape` on the host, and copies the numbers to the device at once.
    pub(super) fn draw(
        &self,
        len: usize,
        shape: [usize; 3],
        seed: u64,
        epoch: u64,
        device: &Device,
    ) -> Sample {
        let [_, height, width] = shape;
        let size = self.crop_size.unwrap_or([height, width]);
        // Each kind has its own stream: switching one on does not change what another draws.
        let affine = self.affine.sample(len, [height, width], seed, epoch);
        let affine = affine.try_into_vec::<f32>().expect("it was made of f32");
        let [mut crops, mut flips, mut squares, mut bends, mut shares] =
            [2, 3, 4, 5, 6].map(|stream| SplitMix64::new(seed, stream, epoch));
        let columns = self.columns();
        let mut table = Vec::with_capacity(len * columns);
        let lattice = self.elastic / warp::LATTICE_STD;
        for matrix in affine.chunks_exact(6) {
            table.extend_from_slice(matrix);
            for (image, crop) in [height, width].into_iter().zip(size) {
                let choices = image + 2 * self.crop_padding - crop + 1;
                let corner = crops.below(choices as u64) as f32;
                table.push(corner - self.crop_padding as f32);
            }
            for probability in [self.vflip, self.hflip] {
                table.push(f32::from(u8::from(flips.unit() < probability)));
            }
            table.extend(size.map(|n| squares.below(n as u64) as f32));
            table.push(match self.mixup > 0.0 {
                true => shares.larger_share(self.mixup) as f32,
                false => 1.0,
            });
            table.extend((FIXED..columns).map(|_| (lattice * bends.normal()) as f32));
        }
        Sample {
            augment: *self,
            size,
            table: Tensor::from_data(TensorData::new(table, [len, columns]), device),
        }
    }

    fn columns(&self) -> usize {
        match self.elastic > 0.0 {
            true => FIXED + 2 * warp::LATTICE * warp::LATTICE,
            false => FIXED,
        }
    }

    /// Whether pixels land between pixels.
    fn warps(&self) -> bool {
        self.elastic > 0.0 || !self.affine.is_identity()
    }

    /// Whether pixels are moved as they are.
    fn moves(&self) -> bool {
        let Self {
            crop_padding,
            crop_size,
            hflip,
            vflip,
            ..
        } = *self;
        crop_padding > 0 || crop_size.is_some() || hflip > 0.0 || vflip > 0.0
    }
}

/// What [`Augment`] has drawn for some images.
#[derive(Clone, Debug)]
pub struct Sample {
    augment: Augment,
    /// Height and width of the result.
    size: [usize; 2],
    /// `[images, columns]`.
    table: Tensor<2>,
}

impl Sample {
    /// What was drawn for the images of a batch.
    pub(super) fn slice(&self, range: Range<usize>) -> Self {
        Self {
            table: self.table.clone().slice(range),
            ..self.clone()
        }
    }

    /// Some columns, `[batch, n]`.
    fn columns(&self, range: Range<usize>) -> Tensor<2> {
        let [batch, _] = self.table.dims();
        self.table.clone().slice([0..batch, range])
    }

    /// Moves `images` `[batch, channels, height, width]`, 0 to 255.
    pub(super) fn transform(&self, images: Tensor<4>, padding: Padding) -> Tensor<4> {
        let augment = &self.augment;
        if !augment.warps() && !augment.moves() {
            return images;
        }
        if padding == Padding::Black && augment.elastic == 0.0 && !augment.moves() {
            return Affine::apply(images, self.columns(0..6));
        }
        let [_, _, height, width] = images.dims();
        let grid = self.grid([height, width]);
        match augment.warps() {
            true => warp::linear(images, grid, padding),
            false => warp::nearest(images, grid, padding),
        }
    }

    /// Moves masks `[batch, 1, height, width]` as their images, by nearest neighbour.
    pub(super) fn transform_mask(&self, masks: Tensor<4>) -> Tensor<4> {
        if !self.augment.warps() && !self.augment.moves() {
            return masks;
        }
        let [_, _, height, width] = masks.dims();
        warp::nearest(masks, self.grid([height, width]), Padding::Mirror)
    }

    /// Where each pixel of the result comes from.
    fn grid(&self, image: [usize; 2]) -> Grid {
        let augment = &self.augment;
        let corner = self.columns(6..8);
        let flip = self.columns(8..10);
        let mut grid = Grid::crop(self.size, corner, flip);
        if !augment.affine.is_identity() {
            grid = grid.affine(image, self.columns(0..6));
        }
        if augment.elastic > 0.0 {
            let all = self.augment.columns();
            grid = grid.bend(image, self.columns(FIXED..all));
        }
        grid
    }

    /// Mixes normalized images `[batch, channels, height, width]` with those before them. Also what the labels need.
    pub(super) fn mix(
        &self,
        images: Tensor<4>,
        labels: &Tensor<1, Int>,
    ) -> (Tensor<4>, Option<Mixed>) {
        let [batch, ..] = images.dims();
        if self.augment.mixup == 0.0 || batch < 2 {
            return (images, None);
        }
        // One share for the batch: that of its first image.
        let share = self.columns(12..13).slice([0..1, 0..1]).reshape([1]);
        let weight = share.clone().reshape([1, 1, 1, 1]).expand(images.dims());
        let before = images.clone().roll(&[1], &[0]);
        // Equal where the two are, in exact arithmetic and in floating point.
        let images = before.clone() + (images - before) * weight;
        let labels = labels.clone().roll(&[1], &[0]);
        (images, Some(Mixed { labels, share }))
    }

    /// Blanks a square of normalized images `[batch, channels, height, width]`.
    pub(super) fn cut_out(&self, images: Tensor<4>) -> Tensor<4> {
        let side = self.augment.cutout;
        if side == 0 {
            return images;
        }
        let [batch, _, height, width] = images.dims();
        let device = images.device();
        // 1 within `side` pixels around the middle, along one axis.
        let inside = |n: usize, column: usize| -> Tensor<2> {
            let middle = self.columns(column..column + 1);
            let at = Tensor::<1, Int>::arange(0..n as i64, &device).float();
            let from_start = at.reshape([1, n]).expand([batch, n]) - middle.expand([batch, n])
                + (side / 2) as f32;
            let last = side as f32 - 0.5;
            from_start.clone().greater_elem(-0.5).float() * from_start.lower_elem(last).float()
        };
        let rows = inside(height, 10).reshape([batch, 1, height, 1]);
        let columns = inside(width, 11).reshape([batch, 1, 1, width]);
        images * (rows * columns).neg().add_scalar(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeviceDataset, DeviceLoader, DeviceMasks, LabeledImages, MaskedImages, OnDevice};
    use burn::data::dataloader::DataLoader;

    /// Every pixel of every image has a value of its own.
    fn numbered(len: usize, [height, width]: [usize; 2]) -> LabeledImages {
        let pixels = (0..len * height * width).map(|i| i as u8).collect();
        let labels = vec![0; len];
        LabeledImages::new("t", vec!["a".into()], [1, height, width], pixels, labels).unwrap()
    }

    /// Images whose masks are themselves: whatever moves one must move the other.
    fn alike(len: usize, [height, width]: [usize; 2]) -> MaskedImages {
        let images = numbered(len, [height, width]).images().to_vec();
        let classes = (0..256).map(|c| c.to_string()).collect();
        MaskedImages::new("t", classes, [1, height, width], images.clone(), images).unwrap()
    }

    fn images<D: OnDevice<Batch = crate::Batch>>(loader: &DeviceLoader<D>) -> Vec<f32> {
        let batches = loader
            .iter()
            .map(|b| b.unwrap().images.mul_scalar(255.0).round());
        batches
            .flat_map(|b| b.try_into_vec_as::<f32>().unwrap())
            .collect()
    }

    #[test]
    fn crops_and_flips_copy_whole_pixels_and_pad_with_black() {
        let (size, pad) = ([3, 5], 1);
        let source = numbered(40, size);
        let augment = Augment {
            crop_padding: pad,
            hflip: 0.5,
            vflip: 0.5,
            ..Default::default()
        };
        for device in kiln_testing::devices() {
            let data = DeviceDataset::new(&source, &device).unwrap();
            // The seed shuffles, so an image is known again by what it shows.
            let loader = DeviceLoader::new(data, 7).shuffled(5).augmented(augment);
            let got = images(&loader);
            let mut seen = std::collections::BTreeSet::new();
            for result in got.chunks_exact(15) {
                let candidates = (0..40).flat_map(|i| {
                    let all = (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dy, dx)));
                    all.flat_map(move |(dy, dx)| (0..4).map(move |f| (i, dy, dx, f)))
                });
                let mut found = candidates.filter(|&(i, dy, dx, f)| {
                    result.iter().enumerate().all(|(at, &value)| {
                        let (mut y, mut x) = (at as i32 / 5, at as i32 % 5);
                        if f & 1 == 1 {
                            y = 2 - y;
                        }
                        if f & 2 == 2 {
                            x = 4 - x;
                        }
                        let (y, x) = (y + dy, x + dx);
                        let inside = (0..3).contains(&y) && (0..5).contains(&x);
                        let pixel = || source.image(i as usize)[(y * 5 + x) as usize];
                        value == if inside { f32::from(pixel()) } else { 0.0 }
                    })
                });
                let (_, dy, dx, flips) = found.next().expect("no crop and flip gives this");
                seen.insert((dy, dx, flips));
            }
            assert!(
                seen.len() > 15,
                "{device:?}: {} different ones of 36",
                seen.len()
            );
        }
    }

    #[test]
    fn mixed_images_are_their_share_of_themselves_and_the_rest_of_the_one_before() {
        let source = numbered(9, [3, 4]);
        let labels: Vec<u16> = (0..9).collect();
        let classes = (0..9).map(|c| c.to_string()).collect();
        let pixels = source.images().to_vec();
        let source = LabeledImages::new("t", classes, [1, 3, 4], pixels, labels).unwrap();
        let augment = Augment {
            mixup: 0.8,
            ..Default::default()
        };
        for device in kiln_testing::devices() {
            let data = DeviceDataset::new(&source, &device).unwrap();
            let loader = DeviceLoader::new(data, 4).shuffled(2).augmented(augment);
            let mut shares = Vec::new();
            for batch in loader.iter() {
                let batch = batch.unwrap();
                let labels = batch.labels.try_into_vec_as::<i32>().unwrap();
                if labels.len() == 1 {
                    assert!(batch.mixed.is_none(), "a batch of one has no neighbour");
                    continue;
                }
                let mixed = batch.mixed.unwrap();
                let others = mixed.labels.try_into_vec_as::<i32>().unwrap();
                let mut rolled = labels.clone();
                rolled.rotate_right(1);
                assert_eq!(others, rolled);
                let share = mixed.share.into_scalar::<f32>();
                shares.push(share);
                let images = batch.images.mul_scalar(255.0);
                let images = images.try_into_vec_as::<f32>().unwrap();
                for (i, image) in images.chunks_exact(12).enumerate() {
                    let own = source.image(labels[i] as usize);
                    let other = source.image(others[i] as usize);
                    for (got, (&a, &b)) in image.iter().zip(own.iter().zip(other)) {
                        let want = share * f32::from(a) + (1.0 - share) * f32::from(b);
                        assert!((got - want).abs() < 1e-3, "{device:?}: {got}, not {want}");
                    }
                }
            }
            assert!(shares.len() == 2 && shares[0] != shares[1], "{shares:?}");
        }
    }

    #[test]
    fn a_mask_follows_its_image_through_every_change() {
        // An image that is constant in blocks: inside a block interpolation gives the mask's value.
        let (side, block) = (32, 8);
        let value = |y: usize, x: usize| (y / block * (side / block) + x / block) as u8 * 15;
        let pixels: Vec<u8> = (0..side * side)
            .map(|i| value(i / side, i % side))
            .collect();
        let classes = (0..256).map(|c| c.to_string()).collect();
        let data = MaskedImages::new("t", classes, [1, side, side], pixels.clone(), pixels);
        let data = data.unwrap().select(&[0, 0, 0, 0]);
        let augment = Augment {
            affine: Affine {
                shift: 4.0,
                rotate: 30.0,
                scale: 0.2,
            },
            elastic: 1.5,
            crop_size: Some([24, 20]),
            hflip: 0.5,
            vflip: 0.5,
            ..Default::default()
        };
        for device in kiln_testing::devices() {
            let data = DeviceMasks::new(&data, &device).unwrap();
            let loader = DeviceLoader::new(data, 4).shuffled(1).augmented(augment);
            let batch = loader.iter().next().unwrap().unwrap();
            assert_eq!(batch.images.dims(), [4, 1, 24, 20]);
            let images = batch
                .images
                .mul_scalar(255.0)
                .try_into_vec_as::<f32>()
                .unwrap();
            let masks = batch.masks.try_into_vec_as::<i32>().unwrap();
            let equal = |(a, b): (&f32, &i32)| (a - *b as f32).abs() < 0.5;
            let share = images
                .iter()
                .zip(&masks)
                .filter(|&pair| equal(pair))
                .count() as f64
                / masks.len() as f64;
            // Interpolated pixels at the edges of blocks differ; a wrong mask would agree in a sixteenth.
            assert!(share > 0.6, "{device:?}: {share}");
            let mut sorted = masks.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert!(
                sorted.iter().all(|v| v % 15 == 0),
                "a mask is never interpolated"
            );
            assert!(sorted.len() > 8, "{sorted:?}");
        }
    }

    #[test]
    fn crops_alone_keep_image_and_mask_equal_and_differ_between_epochs_but_not_between_runs() {
        let device = kiln_testing::devices().remove(0);
        let data = DeviceMasks::new(&alike(6, [9, 13]), &device).unwrap();
        let augment = Augment {
            crop_size: Some([4, 5]),
            hflip: 0.5,
            ..Default::default()
        };
        let loader = || {
            DeviceLoader::new(data.clone(), 4)
                .shuffled(3)
                .repeated(2)
                .augmented(augment)
        };
        let epoch = |loader: &DeviceLoader<DeviceMasks>, epoch, from| -> Vec<f32> {
            let device = OnDevice::device(loader.dataset());
            let batches = loader.epoch(epoch, from, &device).map(|batch| {
                let batch = batch.unwrap();
                let images = batch.images.mul_scalar(255.0).round();
                let images = images.try_into_vec_as::<f32>().unwrap();
                let masks = batch.masks.float().try_into_vec_as::<f32>().unwrap();
                assert_eq!(images, masks);
                images
            });
            batches.flatten().collect()
        };
        let (one, other) = (loader(), loader());
        let first = epoch(&one, 1, 0);
        assert_eq!(first.len(), 6 * 2 * 20);
        assert_eq!(epoch(&other, 1, 0), first);
        let second = epoch(&one, 2, 0);
        assert_ne!(second, first);
        // A run resumed at the third batch of the second epoch.
        assert_eq!(epoch(&loader(), 2, 2), second[2 * 4 * 20..]);
    }

    #[test]
    fn a_warp_that_changes_nothing_gives_the_image_back() {
        let device = kiln_testing::devices().remove(0);
        let data = DeviceMasks::new(&alike(2, [6, 8]), &device).unwrap();
        let whole = data.form(Tensor::from_ints([0, 1], &device), None);
        // So weak that nothing can be seen of it, but it takes the way of all that warps.
        let augment = Augment {
            elastic: 1e-6,
            ..Default::default()
        };
        let loader = DeviceLoader::new(data, 2).augmented(augment);
        let batch = loader.iter().next().unwrap().unwrap();
        let worst = (batch.images - whole.images)
            .abs()
            .max()
            .into_scalar::<f32>();
        assert!(worst < 1e-4, "{worst}");
        let (got, expected) = (batch.masks.into_data(), whole.masks.into_data());
        assert_eq!(got, expected);
    }

    #[test]
    fn the_elastic_field_is_as_strong_as_asked_and_smooth() {
        let device = kiln_testing::devices().remove(0);
        let augment = Augment {
            elastic: 3.0,
            ..Default::default()
        };
        let sample = augment.draw(40, [1, 30, 30], 11, 1, &device);
        let zeros = || Tensor::<2>::zeros([40, 2], &device);
        let grid = Grid::crop([30, 30], zeros(), zeros());
        let bent = grid.bend([30, 30], sample.columns(FIXED..sample.augment.columns()));
        let plain = Grid::crop([30, 30], zeros(), zeros());
        let moved: Tensor<3> = bent.into_rows() - plain.into_rows();
        let moved = moved.try_into_vec_as::<f32>().unwrap();
        let square: f32 = moved.iter().map(|d| d * d).sum::<f32>() / moved.len() as f32;
        assert!((square.sqrt() - 3.0).abs() < 0.5, "{}", square.sqrt());
        let steps = moved.chunks_exact(30).flat_map(|row| row.windows(2));
        let steepest = steps
            .map(|pair| (pair[1] - pair[0]).abs())
            .fold(0.0, f32::max);
        // A cell is ten pixels wide; displacements without smoothness would differ by ten and more.
        assert!(steepest < 2.0, "{steepest}");
    }

    #[test]
    fn cutout_blanks_one_square_of_normalized_pixels() {
        for device in kiln_testing::devices() {
            let pixels = vec![200; 30 * 64];
            let labels = vec![0; 30];
            let data =
                LabeledImages::new("t", vec!["a".into()], [1, 8, 8], pixels, labels).unwrap();
            let data = DeviceDataset::new(&data, &device).unwrap();
            let data = data.normalized(&[0.5], &[0.25]).unwrap();
            let augment = Augment {
                cutout: 4,
                ..Default::default()
            };
            let loader = DeviceLoader::new(data, 30).shuffled(2).augmented(augment);
            let batch = loader.iter().next().unwrap().unwrap();
            let values = batch.images.try_into_vec_as::<f32>().unwrap();
            let mut counts = std::collections::BTreeSet::new();
            for image in values.chunks_exact(64) {
                let blank: Vec<usize> = (0..64).filter(|&i| image[i] == 0.0).collect();
                let (rows, columns): (Vec<_>, Vec<_>) =
                    blank.iter().map(|i| (i / 8, i % 8)).unzip();
                let side = |v: &[usize]| v.iter().max().unwrap() - v.iter().min().unwrap() + 1;
                assert_eq!(
                    side(&rows) * side(&columns),
                    blank.len(),
                    "{device:?}: a rectangle"
                );
                assert!(side(&rows) <= 4 && side(&columns) <= 4);
                counts.insert(blank.len());
            }
            assert!(counts.contains(&16) && counts.len() > 1, "{counts:?}");
        }
    }

    #[test]
    fn settings_that_do_not_fit_are_refused_by_name() {
        let refused = |augment: Augment| augment.validate([1, 8, 9]).unwrap_err().to_string();
        let base = Augment::default();
        assert_eq!(
            refused(Augment {
                crop_size: Some([9, 9]),
                ..base
            }),
            "augmentation: crop_size = 9 is not allowed; at least 1, at most the image's own size with its crop padding"
        );
        assert!(
            Augment {
                crop_size: Some([9, 9]),
                crop_padding: 1,
                ..base
            }
            .validate([1, 8, 9])
            .is_ok()
        );
        assert!(
            refused(Augment {
                crop_size: Some([0, 1]),
                ..base
            })
            .contains("crop_size")
        );
        assert!(refused(Augment { hflip: 1.5, ..base }).contains("hflip = 1.5"));
        assert!(
            refused(Augment {
                elastic: f64::NAN,
                ..base
            })
            .contains("elastic = NaN")
        );
    }
}
