//! Images with labels, in host memory.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::images::luma_byte;

/// Which part of a data set: the images to learn from or the images to be judged on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// The images to learn from.
    Train,
    /// The images held back to measure what was learned.
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Split::Train => "train",
            Split::Test => "test",
        })
    }
}

/// Number of classes that a label can tell apart.
pub const MAX_CLASSES: usize = 1 << 16;

/// Labelled images for classification: 8-bit pixels, one class per image.
///
/// # Shapes
/// - images: `[n, channels, height, width]`, contiguous, 0 is black (paper) and 255 full ink
/// - labels: `[n]`, each below the number of classes
///
/// The constructor checks that the parts fit together; every other method may rely on it.
///
/// ```
/// use kiln_data::LabeledImages;
///
/// let two = LabeledImages::new("pair", vec!["off".into(), "on".into()], [1, 2, 2],
///     vec![0, 0, 0, 0, 255, 255, 255, 255], vec![0, 1])?;
/// assert_eq!(two.image(1), &[255; 4]);
/// assert_eq!(two.class_name(1), "on");
/// # Ok::<(), kiln_data::LabeledImagesError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct LabeledImages {
    name: String,
    classes: Vec<String>,
    shape: [usize; 3],
    images: Vec<u8>,
    labels: Vec<u16>,
}

/// Why parts do not make a [`LabeledImages`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabeledImagesError {
    /// There is no class, or more than a label can count.
    #[error("{count} classes given; a label has two bytes, so 1 to {MAX_CLASSES} are allowed")]
    ClassCount {
        /// Number of class names given.
        count: usize,
    },
    /// A dimension of the image shape is zero, or their product overflows.
    #[error(
        "image shape {channels}x{height}x{width} is not usable; every dimension must be at least 1"
    )]
    Shape {
        /// Channels given.
        channels: usize,
        /// Height given.
        height: usize,
        /// Width given.
        width: usize,
    },
    /// The pixels are not `n` whole images.
    #[error("{pixels} pixels given, but {labels} labels with {per_image} pixels per image need {}", .labels * .per_image)]
    PixelCount {
        /// Pixels given.
        pixels: usize,
        /// Labels given.
        labels: usize,
        /// Pixels of one image.
        per_image: usize,
    },
    /// A label names no class.
    #[error("label {label} of image {index} is out of range; {classes} classes allow 0 to {}", .classes - 1)]
    LabelOutOfRange {
        /// Index of the image.
        index: usize,
        /// The label found.
        label: u16,
        /// Number of classes.
        classes: usize,
    },
}

impl LabeledImages {
    /// Puts the parts together; `shape` is `[channels, height, width]`.
    ///
    /// # Errors
    /// [`LabeledImagesError`] if there are no classes or more than [`MAX_CLASSES`], a dimension is zero, the
    /// number of pixels is not `labels.len() * channels * height * width`, or a label is not below
    /// the number of classes.
    pub fn new(
        name: impl Into<String>,
        classes: Vec<String>,
        shape: [usize; 3],
        images: Vec<u8>,
        labels: Vec<u16>,
    ) -> Result<Self, LabeledImagesError> {
        if classes.is_empty() || classes.len() > MAX_CLASSES {
            return Err(LabeledImagesError::ClassCount {
                count: classes.len(),
            });
        }
        let [channels, height, width] = shape;
        let per_image = channels
            .checked_mul(height)
            .and_then(|n| n.checked_mul(width))
            .filter(|&n| n > 0)
            .ok_or(LabeledImagesError::Shape {
                channels,
                height,
                width,
            })?;
        if labels.len().checked_mul(per_image) != Some(images.len()) {
            return Err(LabeledImagesError::PixelCount {
                pixels: images.len(),
                labels: labels.len(),
                per_image,
            });
        }
        if let Some(index) = labels.iter().position(|&l| usize::from(l) >= classes.len()) {
            return Err(LabeledImagesError::LabelOutOfRange {
                index,
                label: labels[index],
                classes: classes.len(),
            });
        }
        Ok(Self {
            name: name.into(),
            classes,
            shape,
            images,
            labels,
        })
    }

    /// Name of the data set, such as `mnist`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names of the classes; a label indexes this list.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Number of classes.
    pub fn num_classes(&self) -> usize {
        self.classes.len()
    }

    /// Name of class `label`.
    ///
    /// # Panics
    /// If `label` is not below [`num_classes`](Self::num_classes).
    pub fn class_name(&self, label: u16) -> &str {
        &self.classes[usize::from(label)]
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image at all.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Shape of one image: `[channels, height, width]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Channels of one image; 1 is grayscale.
    pub fn channels(&self) -> usize {
        self.shape[0]
    }

    /// Height of one image in pixels.
    pub fn height(&self) -> usize {
        self.shape[1]
    }

    /// Width of one image in pixels.
    pub fn width(&self) -> usize {
        self.shape[2]
    }

    /// Bytes of one image: `channels * height * width`.
    pub fn image_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// All pixels, `[n, channels, height, width]`.
    pub fn images(&self) -> &[u8] {
        &self.images
    }

    /// All labels, `[n]`.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// The pixels of image `index`, `[channels, height, width]`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn image(&self, index: usize) -> &[u8] {
        let n = self.image_len();
        &self.images[index * n..][..n]
    }

    /// The images in `range`, as a data set of their own.
    ///
    /// The end is cut to the number of images, so `slice(0..n)` means "at most n".
    pub fn slice(&self, range: Range<usize>) -> Self {
        let end = range.end.min(self.len());
        let start = range.start.min(end);
        let n = self.image_len();
        Self {
            name: self.name.clone(),
            classes: self.classes.clone(),
            shape: self.shape,
            images: self.images[start * n..end * n].to_vec(),
            labels: self.labels[start..end].to_vec(),
        }
    }

    /// The images at `indices`, in that order; an index may come more than once.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    pub fn select(&self, indices: &[usize]) -> Self {
        let mut images = Vec::with_capacity(indices.len() * self.image_len());
        for &index in indices {
            images.extend_from_slice(self.image(index));
        }
        Self {
            name: self.name.clone(),
            classes: self.classes.clone(),
            shape: self.shape,
            images,
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
        }
    }

    /// Gives up the pixels and the labels without a copy.
    pub fn into_images_and_labels(self) -> (Vec<u8>, Vec<u16>) {
        (self.images, self.labels)
    }

    /// The images with 1 channel (luma) or 3 (a gray one three times), as Pillow's `convert` makes them.
    ///
    /// ```
    /// use kiln_data::LabeledImages;
    ///
    /// let gray = LabeledImages::new("one", vec!["a".into()], [1, 1, 2], vec![7, 9], vec![0])?;
    /// let rgb = gray.with_channels(3);
    /// assert_eq!((rgb.shape(), rgb.images()), ([3, 1, 2], &[7, 9, 7, 9, 7, 9][..]));
    /// # Ok::<(), kiln_data::LabeledImagesError>(())
    /// ```
    ///
    /// # Panics
    /// If the images have another number of channels than 1 and 3, or `channels` is another.
    pub fn with_channels(mut self, channels: usize) -> Self {
        (self.shape, self.images) = convert(self.shape, self.images, channels);
        self
    }
}

/// Images of one shape, one after the other, with another number of channels.
pub(crate) fn convert(
    shape: [usize; 3],
    images: Vec<u8>,
    channels: usize,
) -> ([usize; 3], Vec<u8>) {
    let [own, height, width] = shape;
    let plane = height * width;
    let images = match (own, channels) {
        (1, 3) => images
            .chunks_exact(plane)
            .flat_map(|gray| std::iter::repeat_n(gray, 3).flatten())
            .copied()
            .collect(),
        (3, 1) => images
            .chunks_exact(3 * plane)
            .flat_map(|rgb| {
                (0..plane).map(move |i| luma_byte([0, 1, 2].map(|c| rgb[c * plane + i])))
            })
            .collect(),
        (1, 1) | (3, 3) => images,
        _ => panic!(
            "images of {own} channels cannot be made images of {channels}; both must be 1 or 3"
        ),
    };
    ([channels, height, width], images)
}

impl fmt::Debug for LabeledImages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LabeledImages")
            .field("name", &self.name)
            .field("classes", &self.classes.len())
            .field("len", &self.len())
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(n: usize) -> Vec<String> {
        (0..n).map(|c| c.to_string()).collect()
    }

    #[test]
    fn refuses_parts_that_do_not_fit() {
        use LabeledImagesError as E;
        let new = |classes, shape, pixels: usize, labels: &[u16]| {
            LabeledImages::new("t", classes, shape, vec![0; pixels], labels.to_vec()).unwrap_err()
        };
        assert_eq!(new(vec![], [1, 2, 2], 4, &[0]), E::ClassCount { count: 0 });
        assert_eq!(
            new(classes(65_537), [1, 2, 2], 4, &[0]),
            E::ClassCount { count: 65_537 }
        );
        assert!(matches!(
            new(classes(2), [1, 0, 2], 0, &[0]),
            E::Shape { .. }
        ));
        assert!(matches!(
            new(classes(2), [usize::MAX, 2, 2], 0, &[0]),
            E::Shape { .. }
        ));
        let error = new(classes(2), [1, 2, 2], 5, &[0]);
        assert_eq!(
            error.to_string(),
            "5 pixels given, but 1 labels with 4 pixels per image need 4"
        );
        let error = new(classes(2), [1, 1, 1], 2, &[1, 2]);
        assert_eq!(
            error.to_string(),
            "label 2 of image 1 is out of range; 2 classes allow 0 to 1"
        );
    }

    #[test]
    fn more_classes_than_a_byte_counts_are_told_apart() {
        let labels = vec![0, 255, 256, 299];
        let data = LabeledImages::new("t", classes(300), [1, 1, 1], vec![0; 4], labels).unwrap();
        assert_eq!(data.class_name(data.labels()[3]), "299");
        assert_eq!(data.select(&[2]).labels(), [256]);
    }

    #[test]
    fn colour_becomes_gray_as_in_pillow_and_gray_comes_three_times() {
        // Image.new("RGB", (1, 1), colour).convert("L")
        let colours = [
            ([255, 0, 0], 76),
            ([0, 255, 0], 150),
            ([0, 0, 255], 29),
            ([1, 2, 3], 2),
            ([250, 251, 253], 251),
        ];
        for (rgb, luma) in colours {
            let one =
                LabeledImages::new("t", classes(1), [3, 1, 1], rgb.to_vec(), vec![0]).unwrap();
            let gray = one.with_channels(1);
            assert_eq!((gray.shape(), gray.images()), ([1, 1, 1], &[luma][..]));
            assert_eq!(gray.with_channels(3).images(), [luma; 3]);
        }
    }

    #[test]
    fn slices_and_selects_whole_images() {
        let all = LabeledImages::new(
            "t",
            classes(3),
            [1, 1, 2],
            vec![0, 1, 10, 11, 20, 21],
            vec![0, 1, 2],
        )
        .unwrap();
        assert_eq!(all.slice(1..9).images(), &[10, 11, 20, 21]);
        assert_eq!(all.slice(1..9).labels(), &[1, 2]);
        assert!(all.slice(7..9).is_empty());
        let picked = all.select(&[2, 0, 2]);
        assert_eq!(picked.images(), &[20, 21, 0, 1, 20, 21]);
        assert_eq!(picked.labels(), &[2, 0, 2]);
    }
}
