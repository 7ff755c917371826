//! Pictures and masks as they are: nothing cut out, nothing centred.

use std::path::Path;

use rayon::prelude::*;

use super::decode::{self, Gray, Purpose, Raw};
use super::{ImageError, frame};
use crate::folder::Rules;

/// A picture in planes, as models take it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Raster {
    /// Channels, height and width.
    pub shape: [usize; 3],
    /// `[channels, height, width]`.
    pub pixels: Vec<u8>,
    /// Whether the file itself is gray.
    pub gray: bool,
}

impl Raster {
    /// Reads a picture with `channels` 1 (luma) or 3 (RGB) as Pillow does; `None` takes what the file has.
    ///
    /// As in Pillow, transparency is dropped, colours of 16 bits lose their lower byte, of several frames or pages the
    /// first is read, and an orientation that a camera noted is not applied. Gray levels of 16 bits are read if all
    /// are below 256; Pillow would cut the others off at 255, so they are refused.
    ///
    /// # Errors
    /// [`ImageError`], which names the file.
    ///
    /// # Panics
    /// If `channels` is neither 1 nor 3.
    pub fn read(path: &Path, channels: Option<usize>) -> Result<Self, ImageError> {
        Self::read_under(path, channels, Rules::default())
    }

    /// As [`read`](Self::read), under the rules of a data set.
    pub(crate) fn read_under(
        path: &Path,
        channels: Option<usize>,
        rules: Rules,
    ) -> Result<Self, ImageError> {
        let raw = decode::read_raw(path, Purpose::Picture(rules))?;
        let gray = raw.channels < 3;
        let channels = channels.unwrap_or(if gray { 1 } else { 3 });
        assert!(
            matches!(channels, 1 | 3),
            "channels must be 1 or 3, but got {channels}"
        );
        let samples = raw.data.chunks_exact(raw.channels);
        let pixels = match (channels, raw.channels) {
            (1, 1) => raw.data,
            (1, 2) => samples.map(|s| s[0]).collect(),
            (1, _) => samples
                .map(|s| decode::luma_byte([s[0], s[1], s[2]]))
                .collect(),
            _ => (0..3)
                .flat_map(|c| samples.clone().map(move |s| if gray { s[0] } else { s[c] }))
                .collect(),
        };
        Ok(Self {
            shape: [channels, raw.height, raw.width],
            pixels,
            gray,
        })
    }

    /// A picture from its planes.
    ///
    /// # Panics
    /// If there are not as many pixels as the shape says.
    pub fn from_planes(shape: [usize; 3], pixels: Vec<u8>) -> Self {
        let expected: usize = shape.iter().product();
        assert_eq!(pixels.len(), expected, "pixels of a picture of {shape:?}");
        Self {
            shape,
            pixels,
            gray: shape[0] == 1,
        }
    }

    /// Stretched to `height` × `width`: an average over the area of each new pixel where it shrinks, linear
    /// interpolation where it grows.
    pub fn resize(&self, height: usize, width: usize) -> Self {
        let [channels, h, w] = self.shape;
        if (h, w) == (height, width) {
            return self.clone();
        }
        let plane = |pixels: &[u8]| {
            let gray = Gray {
                width: w,
                height: h,
                pixels: pixels.iter().map(|&p| f32::from(p)).collect(),
            };
            let scaled = frame::scale(&gray, width, height).pixels;
            let round = |p: f32| (p + 0.5).clamp(0.0, 255.0) as u8;
            scaled.into_iter().map(round).collect::<Vec<u8>>()
        };
        Self {
            shape: [channels, height, width],
            pixels: self.pixels.chunks_exact(h * w).flat_map(plane).collect(),
            gray: self.gray,
        }
    }

    /// Scaled with its aspect kept so that it covers `height` × `width`, of which the middle is cut out
    /// (torchvision's `Resize` and `CenterCrop`).
    pub fn cover(&self, height: usize, width: usize) -> Self {
        let [_, h, w] = self.shape;
        // Of a picture far longer than the size only the middle is scaled; the rest would need memory for nothing.
        let longest = |short: usize, a: usize, b: usize| (16 * short * a).div_ceil(b).max(16);
        let (most_h, most_w) = (longest(w, height, width), longest(h, width, height));
        if h > most_h || w > most_w {
            return self
                .middle(h.min(most_h), w.min(most_w))
                .cover(height, width);
        }
        // The side that is shorter in proportion touches.
        let (tall, wide) = match h * width < w * height {
            true => (height, (w * height).div_ceil(h)),
            false => ((h * width).div_ceil(w), width),
        };
        self.resize(tall, wide).middle(height, width)
    }

    /// The middle of the picture, of a size within it.
    fn middle(&self, height: usize, width: usize) -> Self {
        let [channels, h, w] = self.shape;
        let (top, left) = ((h - height) / 2, (w - width) / 2);
        let row = |c: usize, y: usize| {
            let start = (c * h + top + y) * w + left;
            &self.pixels[start..start + width]
        };
        let rows = (0..channels).flat_map(|c| (0..height).map(move |y| (c, y)));
        Self {
            shape: [channels, height, width],
            pixels: rows.flat_map(|(c, y)| row(c, y)).copied().collect(),
            gray: self.gray,
        }
    }
}

/// A mask as its file holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mask {
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// The values: gray levels, or the indices of a palette.
    pub values: Vec<u8>,
}

impl Mask {
    /// Reads a mask from gray levels, from a PNG or GIF with a palette, whose indices are taken, or from a picture whose
    /// colours are all gray. One bit per pixel gives 0 and 255. A JPEG blurs values, as a lossy WebP does, so it can only
    /// hold a mask of black and white: values are taken for 0 or 255, whichever is nearer.
    ///
    /// # Errors
    /// [`ImageError`], which names the file: colours, values above 255, a JPEG that is not black and white.
    pub fn read(path: &Path) -> Result<Self, ImageError> {
        let raw = decode::read_raw(path, Purpose::Mask)?;
        let Raw {
            width,
            height,
            channels,
            data,
            lossy,
        } = raw;
        let colours = if channels < 3 { 1 } else { 3 };
        if let Some(at) = data
            .chunks_exact(channels)
            .position(|s| s[..colours].iter().any(|&v| v != s[0]) && !lossy)
        {
            return Err(ImageError::ColourMask {
                path: path.to_owned(),
                row: at / width,
                column: at % width,
            });
        }
        let mut values: Vec<u8> = data.chunks_exact(channels).map(|s| s[0]).collect();
        if lossy {
            let between = values.iter().filter(|&&v| (64..192).contains(&v)).count();
            // The blur is along the edges only.
            if between * 20 > values.len() {
                return Err(ImageError::BlurredMask {
                    path: path.to_owned(),
                    percent: between * 100 / values.len(),
                });
            }
            values
                .iter_mut()
                .for_each(|v| *v = if *v < 128 { 0 } else { 255 });
        }
        Ok(Self {
            height,
            width,
            values,
        })
    }

    /// A mask from its values.
    ///
    /// # Panics
    /// If there are not as many values as the size says.
    pub fn new([height, width]: [usize; 2], values: Vec<u8>) -> Self {
        assert_eq!(
            values.len(),
            height * width,
            "values of a mask of {height}x{width}"
        );
        Self {
            height,
            width,
            values,
        }
    }

    /// The nearest values on a raster of `height` × `width`.
    pub fn resize(&self, height: usize, width: usize) -> Self {
        let at = |i: usize, from: usize, to: usize| ((2 * i + 1) * from / (2 * to)).min(from - 1);
        let rows = (0..height).map(|y| at(y, self.height, height) * self.width);
        let values = rows
            .flat_map(|row| (0..width).map(move |x| self.values[row + at(x, self.width, width)]));
        Self {
            height,
            width,
            values: values.collect(),
        }
    }
}

/// Reads many files at once, on all of rayon's threads; the error is the first file's that has one.
pub(crate) fn read_all<T: Send, E: Send>(
    count: usize,
    read: impl Fn(usize) -> Result<T, E> + Sync + Send,
) -> Result<Vec<T>, E> {
    let all: Vec<Result<T, E>> = (0..count).into_par_iter().map(read).collect();
    all.into_iter().collect()
}
