//! Random shifts, rotations and zooms, on the device.

use burn::tensor::ops::{GridSampleOptions, GridSamplePaddingMode, InterpolateMode};
use burn::tensor::{Tensor, TensorData};
use thiserror::Error;

use super::random::SplitMix64;

/// A range that is not one.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("augmentation: {name} = {given} is not allowed; {allowed}")]
pub struct AffineError {
    /// The setting.
    pub name: &'static str,
    /// The value given.
    pub given: f64,
    /// What is allowed.
    pub allowed: &'static str,
}

/// Random affine augmentation: every image of every epoch is shifted, rotated and scaled anew
/// (torchvision's `RandomAffine`). Bilinear interpolation; what moves in from outside is black.
///
/// | setting | default | allowed |
/// |---|---|---|
/// | `shift` | 0 | largest shift along either axis, in pixels, at least 0 |
/// | `rotate` | 0 | largest rotation either way, in degrees, 0 to 180 |
/// | `scale` | 0 | largest relative change of size, 0 to 0.9: 0.1 draws from 0.9 to 1.1 |
///
/// ```
/// use kiln_data::Affine;
/// let augment = Affine { shift: 2.0, rotate: 10.0, scale: 0.1 };
/// assert!(augment.validate().is_ok());
/// assert!(Affine { rotate: 200.0, ..augment }.validate().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Affine {
    /// Largest shift along either axis, in pixels.
    pub shift: f64,
    /// Largest rotation either way, in degrees.
    pub rotate: f64,
    /// Largest relative change of size.
    pub scale: f64,
}

impl Affine {
    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// Names the first setting that is out of its range.
    pub fn validate(&self) -> Result<(), AffineError> {
        let check = |name, given: f64, max, allowed| match (0.0..=max).contains(&given) {
            true => Ok(()),
            false => Err(AffineError {
                name,
                given,
                allowed,
            }),
        };
        check("shift", self.shift, 1e4, "pixels, from 0 to 10000")?;
        check("rotate", self.rotate, 180.0, "degrees, from 0 to 180")?;
        check("scale", self.scale, 0.9, "from 0 to 0.9")
    }

    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        *self == Self::default()
    }

    /// The transforms of one epoch, `[len, 6]`: for each image the rows of the matrix that takes
    /// output to input coordinates, both in `[-1, 1]` over the image.
    pub(super) fn sample(&self, len: usize, size: [usize; 2], seed: u64, epoch: u64) -> TensorData {
        let [height, width] = size.map(|n| n as f64);
        let mut rng = SplitMix64::new(seed, 1, epoch);
        let mut rows = Vec::with_capacity(len * 6);
        for _ in 0..len {
            let (sin, cos) = (self.rotate * rng.symmetric()).to_radians().sin_cos();
            let scale = 1.0 + self.scale * rng.symmetric();
            let (dx, dy) = (self.shift * rng.symmetric(), self.shift * rng.symmetric());
            let (sin, cos) = (sin / scale, cos / scale);
            // input = R(-angle) / scale · (output - shift), about the centre, in pixels.
            rows.extend(
                [
                    cos,
                    sin * height / width,
                    -(cos * dx + sin * dy) * 2.0 / width,
                    -sin * width / height,
                    cos,
                    (sin * dx - cos * dy) * 2.0 / height,
                ]
                .map(|v| v as f32),
            );
        }
        TensorData::new(rows, [len, 6])
    }

    /// Transforms `images` `[batch, channels, height, width]` by `affine` `[batch, 6]`.
    pub(super) fn apply(images: Tensor<4>, affine: Tensor<2>) -> Tensor<4> {
        let [batch, _, height, width] = images.dims();
        let device = images.device();
        // Pixel centres in [-1, 1].
        let centres = |n: usize| -> Vec<f32> {
            let n = n as f32;
            (0..n as usize)
                .map(|i| (2.0 * i as f32 + 1.0) / n - 1.0)
                .collect()
        };
        let x = TensorData::new(centres(width), [1, 1, width]);
        let y = TensorData::new(centres(height), [1, height, 1]);
        let x = Tensor::<3>::from_data(x, &device);
        let y = Tensor::<3>::from_data(y, &device);
        let entry = |i: usize| -> Tensor<3> {
            let column = affine.clone().slice([0..batch, i..i + 1]);
            column.reshape([batch, 1, 1])
        };
        let row = |i: usize| x.clone() * entry(i) + (y.clone() * entry(i + 1) + entry(i + 2));
        let grid = Tensor::stack::<4>(vec![row(0), row(3)], 3);
        let options = GridSampleOptions::new(InterpolateMode::Bilinear)
            .with_padding_mode(GridSamplePaddingMode::Zeros)
            .with_align_corners(false);
        images.grid_sample_2d(grid, options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transform(augment: [f32; 6], image: &[f32], size: [usize; 2]) -> Vec<Vec<f32>> {
        let [height, width] = size;
        kiln_testing::devices()
            .iter()
            .map(|device| {
                let image = TensorData::new(image.to_vec(), [1, 1, height, width]);
                let image = Tensor::<4>::from_data(image, device);
                let affine = Tensor::<2>::from_floats([augment], device);
                let out = Affine::apply(image, affine);
                out.try_into_vec_as::<f32>().unwrap()
            })
            .collect()
    }

    fn close(got: &[f32], expected: &[f32]) {
        let worst = got.iter().zip(expected).map(|(a, b)| (a - b).abs());
        assert!(worst.fold(0.0, f32::max) < 1e-4, "{got:?} != {expected:?}");
    }

    #[test]
    fn the_identity_changes_nothing() {
        let image: Vec<f32> = (0..12).map(|i| i as f32 * 20.0).collect();
        for got in transform([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], &image, [3, 4]) {
            close(&got, &image);
        }
    }

    #[test]
    fn a_shift_to_the_right_moves_pixels_right_and_fills_with_black() {
        // One pixel of four: 2 / 4 in normalized coordinates.
        let image = [10.0, 20.0, 30.0, 40.0];
        for got in transform([1.0, 0.0, -0.5, 0.0, 1.0, 0.0], &image, [1, 4]) {
            close(&got, &[0.0, 10.0, 20.0, 30.0]);
        }
    }

    #[test]
    fn sampled_transforms_stay_within_their_ranges() {
        let augment = Affine {
            shift: 3.0,
            rotate: 15.0,
            scale: 0.2,
        };
        let data = augment.sample(500, [20, 40], 9, 1);
        let rows = data.clone().try_into_vec::<f32>().unwrap();
        let mut shifts: Vec<f64> = Vec::new();
        for m in rows.chunks_exact(6) {
            let m: Vec<f64> = m.iter().map(|&v| f64::from(v)).collect();
            // Undo the aspect ratio, then read angle and scale off the matrix.
            let (cos, sin) = (m[0], m[1] * 40.0 / 20.0);
            let scale = 1.0 / (cos * cos + sin * sin).sqrt();
            assert!((0.8..=1.2001).contains(&scale), "{scale}");
            assert!(sin.atan2(cos).to_degrees().abs() <= 15.001);
            // shift = -R · scale² · offset
            let (ox, oy) = (m[2] * 40.0 / 2.0, m[5] * 20.0 / 2.0);
            let dx = -(cos * ox - sin * oy) * scale * scale;
            let dy = -(sin * ox + cos * oy) * scale * scale;
            assert!(dx.abs() <= 3.001 && dy.abs() <= 3.001, "{dx} {dy}");
            shifts.push(dx);
        }
        assert!(shifts.iter().any(|&s| s > 2.5) && shifts.iter().any(|&s| s < -2.5));
        assert_eq!(data, augment.sample(500, [20, 40], 9, 1));
        assert_ne!(data, augment.sample(500, [20, 40], 9, 2));
    }

    #[test]
    fn a_rotation_by_ninety_degrees_turns_the_image() {
        let augment = [0.0, 1.0, 0.0, -1.0, 0.0, 0.0];
        for got in transform(augment, &[1.0, 2.0, 3.0, 4.0], [2, 2]) {
            close(&got, &[3.0, 1.0, 4.0, 2.0]);
        }
    }

    #[test]
    fn ranges_out_of_bounds_are_refused_by_name() {
        let error = Affine {
            scale: 1.5,
            ..Default::default()
        }
        .validate()
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "augmentation: scale = 1.5 is not allowed; from 0 to 0.9"
        );
        assert!(
            Affine {
                shift: f64::NAN,
                ..Default::default()
            }
            .validate()
            .is_err()
        );
    }
}
