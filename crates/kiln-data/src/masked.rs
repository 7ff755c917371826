//! Images with masks, in host memory.

use std::fmt;
use std::ops::Range;

use crate::labeled::convert;

/// Images for segmentation: 8-bit pixels, and a class for each of them.
///
/// # Shapes
/// - images: `[n, channels, height, width]`, contiguous
/// - masks: `[n, height, width]`, each below the number of classes, or [`IGNORED`](Self::IGNORED) where a mask says
///   nothing, if some of its values are to be left out of loss and scores ([`ignoring`](Self::ignoring))
///
/// The constructor checks that the parts fit together; every other method may rely on it.
///
/// ```
/// use kiln_data::MaskedImages;
///
/// let classes = vec!["paper".into(), "ink".into()];
/// let one = MaskedImages::new("pair", classes, [1, 1, 3], vec![9, 200, 210], vec![0, 1, 1])?;
/// assert_eq!((one.image(0), one.mask(0)), (&[9, 200, 210][..], &[0, 1, 1][..]));
/// # Ok::<(), kiln_data::MaskedImagesError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct MaskedImages {
    name: String,
    classes: Vec<String>,
    values: Vec<u8>,
    ignore_value: Option<u8>,
    shape: [usize; 3],
    images: Vec<u8>,
    masks: Vec<u8>,
}

/// Why parts do not make [`MaskedImages`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaskedImagesError {
    /// One class needs no segmentation, and more than a byte counts are not kept.
    #[error("{count} classes given; segmentation needs 2 to 256, the background among them")]
    ClassCount {
        /// Number of class names given.
        count: usize,
    },
    /// Not one mask value for each class.
    #[error("{values} mask values given for {classes} classes; give one different value for each")]
    Values {
        /// Values given.
        values: usize,
        /// Classes.
        classes: usize,
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
    /// The pixels are not whole images, or there are not as many masks.
    #[error(
        "{pixels} pixels and {mask_pixels} mask pixels given; images of {per_image} pixels with masks of {per_mask} need as many whole ones of each"
    )]
    PixelCount {
        /// Pixels given.
        pixels: usize,
        /// Mask pixels given.
        mask_pixels: usize,
        /// Pixels of one image, over all channels.
        per_image: usize,
        /// Pixels of one mask.
        per_mask: usize,
    },
    /// A mask names no class.
    #[error(
        "mask {index} holds {value} at row {row}, column {column}; {classes} classes allow 0 to {}", .classes - 1
    )]
    ValueOutOfRange {
        /// Index of the mask.
        index: usize,
        /// Row of the pixel.
        row: usize,
        /// Column of the pixel.
        column: usize,
        /// The value found.
        value: u8,
        /// Number of classes.
        classes: usize,
    },
}

impl MaskedImages {
    /// Stands in a mask for a pixel that counts for nothing, as PyTorch's `ignore_index` does.
    pub const IGNORED: u8 = 255;

    /// Puts the parts together; `shape` is `[channels, height, width]`.
    ///
    /// # Errors
    /// [`MaskedImagesError`] if there are fewer than 2 classes or more than 256, a dimension is zero, the numbers of
    /// pixels do not fit, or a mask holds a value that is not below the number of classes.
    pub fn new(
        name: impl Into<String>,
        classes: Vec<String>,
        shape: [usize; 3],
        images: Vec<u8>,
        masks: Vec<u8>,
    ) -> Result<Self, MaskedImagesError> {
        Self::assemble(name.into(), classes, None, shape, images, masks)
    }

    /// As [`new`](Self::new), of masks in which [`IGNORED`](Self::IGNORED) stands for pixels to leave out of loss and
    /// scores; `value` is what stands for them in a mask file. There are 255 classes at most then.
    ///
    /// ```
    /// use kiln_data::MaskedImages;
    ///
    /// let classes = vec!["paper".into(), "ink".into()];
    /// let masks = vec![0, 1, MaskedImages::IGNORED];
    /// let one = MaskedImages::ignoring(255, "pair", classes, [1, 1, 3], vec![9, 200, 210], masks)?;
    /// assert_eq!(one.ignore_value(), Some(255));
    /// # Ok::<(), kiln_data::MaskedImagesError>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn ignoring(
        value: u8,
        name: impl Into<String>,
        classes: Vec<String>,
        shape: [usize; 3],
        images: Vec<u8>,
        masks: Vec<u8>,
    ) -> Result<Self, MaskedImagesError> {
        Self::assemble(name.into(), classes, Some(value), shape, images, masks)
    }

    fn assemble(
        name: String,
        classes: Vec<String>,
        ignore_value: Option<u8>,
        shape: [usize; 3],
        images: Vec<u8>,
        masks: Vec<u8>,
    ) -> Result<Self, MaskedImagesError> {
        use MaskedImagesError as Error;
        let most = if ignore_value.is_some() { 255 } else { 256 };
        if !(2..=most).contains(&classes.len()) {
            let count = classes.len();
            return Err(Error::ClassCount { count });
        }
        let [channels, height, width] = shape;
        let per_mask = height.checked_mul(width).filter(|&n| n > 0);
        let sizes = per_mask.and_then(|n| Some((n, n.checked_mul(channels).filter(|&n| n > 0)?)));
        let Some((per_mask, per_image)) = sizes else {
            return Err(Error::Shape {
                channels,
                height,
                width,
            });
        };
        let whole = masks.len().is_multiple_of(per_mask)
            && (masks.len() / per_mask).checked_mul(per_image) == Some(images.len());
        if !whole {
            return Err(Error::PixelCount {
                pixels: images.len(),
                mask_pixels: masks.len(),
                per_image,
                per_mask,
            });
        }
        let is_class = |&v: &u8| {
            usize::from(v) < classes.len() || ignore_value.is_some() && v == Self::IGNORED
        };
        if let Some(at) = masks.iter().position(|v| !is_class(v)) {
            return Err(Error::ValueOutOfRange {
                index: at / per_mask,
                row: at % per_mask / width,
                column: at % width,
                value: masks[at],
                classes: classes.len(),
            });
        }
        Ok(Self {
            name,
            values: (0..=u8::MAX).take(classes.len()).collect(),
            ignore_value,
            classes,
            shape,
            images,
            masks,
        })
    }

    /// Notes which value stands for each class in a mask file, such as `[0, 255]`. Default: the class's index.
    ///
    /// # Errors
    /// [`MaskedImagesError::Values`] if there is not one different value for each class.
    pub fn with_values(mut self, values: Vec<u8>) -> Result<Self, MaskedImagesError> {
        let mut distinct = values.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if values.len() != self.classes.len() || distinct.len() != values.len() {
            return Err(MaskedImagesError::Values {
                values: distinct.len(),
                classes: self.classes.len(),
            });
        }
        self.values = values;
        Ok(self)
    }

    /// Name of the data set, such as `shapes`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names of the classes; a mask's values index this list.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Number of classes, the background among them.
    pub fn num_classes(&self) -> usize {
        self.classes.len()
    }

    /// The value that stands for each class in a mask file.
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    /// The value that stands in a mask file for pixels to leave out, if there is one.
    pub fn ignore_value(&self) -> Option<u8> {
        self.ignore_value
    }

    /// The images with 1 channel (luma) or 3 (a gray one three times), as Pillow's `convert` makes them.
    ///
    /// # Panics
    /// If the images have another number of channels than 1 and 3, or `channels` is another.
    pub fn with_channels(mut self, channels: usize) -> Self {
        (self.shape, self.images) = convert(self.shape, self.images, channels);
        self
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.masks.len() / self.mask_len()
    }

    /// Whether there is no image at all.
    pub fn is_empty(&self) -> bool {
        self.masks.is_empty()
    }

    /// Shape of one image: `[channels, height, width]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Bytes of one image: `channels * height * width`.
    pub fn image_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of one mask: `height * width`.
    pub fn mask_len(&self) -> usize {
        self.shape[1] * self.shape[2]
    }

    /// All pixels, `[n, channels, height, width]`.
    pub fn images(&self) -> &[u8] {
        &self.images
    }

    /// All masks, `[n, height, width]`.
    pub fn masks(&self) -> &[u8] {
        &self.masks
    }

    /// The pixels of image `index`, `[channels, height, width]`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn image(&self, index: usize) -> &[u8] {
        let n = self.image_len();
        &self.images[index * n..][..n]
    }

    /// The mask of image `index`, `[height, width]`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn mask(&self, index: usize) -> &[u8] {
        let n = self.mask_len();
        &self.masks[index * n..][..n]
    }

    /// The images in `range`, as a data set of their own; the end is cut to the number of images.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let end = range.end.min(self.len());
        let start = range.start.min(end);
        self.with_parts(
            self.images[start * self.image_len()..end * self.image_len()].to_vec(),
            self.masks[start * self.mask_len()..end * self.mask_len()].to_vec(),
        )
    }

    /// The images at `indices`, in that order; an index may come more than once.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    pub fn select(&self, indices: &[usize]) -> Self {
        self.with_parts(
            indices
                .iter()
                .flat_map(|&i| self.image(i))
                .copied()
                .collect(),
            indices
                .iter()
                .flat_map(|&i| self.mask(i))
                .copied()
                .collect(),
        )
    }

    fn with_parts(&self, images: Vec<u8>, masks: Vec<u8>) -> Self {
        Self {
            name: self.name.clone(),
            classes: self.classes.clone(),
            values: self.values.clone(),
            ignore_value: self.ignore_value,
            shape: self.shape,
            images,
            masks,
        }
    }
}

impl fmt::Debug for MaskedImages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskedImages")
            .field("name", &self.name)
            .field("classes", &self.classes)
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
        let new = |count, shape, images: usize, masks: Vec<u8>| {
            let images = vec![0; images];
            let error = MaskedImages::new("t", classes(count), shape, images, masks).unwrap_err();
            error.to_string()
        };
        assert!(new(1, [1, 1, 2], 2, vec![0, 0]).contains("1 classes given"));
        assert!(new(257, [1, 1, 2], 2, vec![0, 0]).contains("257 classes given"));
        assert!(new(2, [0, 1, 2], 0, vec![0, 0]).contains("0x1x2 is not usable"));
        assert!(new(2, [1, usize::MAX, 2], 0, vec![]).contains("is not usable"));
        assert!(new(2, [2, 1, 2], 3, vec![0, 0]).contains("3 pixels and 2 mask pixels given"));
        assert!(new(2, [1, 1, 2], 3, vec![0; 3]).contains("whole ones"));
        assert_eq!(
            new(2, [1, 2, 2], 8, vec![0, 0, 0, 0, 0, 0, 0, 2]),
            "mask 1 holds 2 at row 1, column 1; 2 classes allow 0 to 1"
        );
    }

    #[test]
    fn a_pixel_to_leave_out_is_no_class_and_only_there_if_it_was_asked_for() {
        let new = |ignore, masks| {
            MaskedImages::assemble("t".into(), classes(2), ignore, [1, 1, 2], vec![0; 2], masks)
        };
        let data = new(Some(7), vec![1, MaskedImages::IGNORED]).unwrap();
        assert_eq!((data.num_classes(), data.ignore_value()), (2, Some(7)));
        assert_eq!(data.select(&[0]).ignore_value(), Some(7));
        assert!(new(None, vec![1, MaskedImages::IGNORED]).is_err());
        assert!(new(Some(7), vec![1, 7]).is_err());
        let many = MaskedImages::ignoring(0, "t", classes(256), [1, 1, 1], vec![0], vec![0]);
        assert!(many.unwrap_err().to_string().contains("256 classes given"));
    }

    #[test]
    fn slices_and_selects_whole_images_with_their_masks() {
        let all = MaskedImages::new(
            "t",
            classes(2),
            [2, 1, 1],
            vec![0, 1, 10, 11, 20, 21],
            vec![0, 1, 0],
        )
        .unwrap()
        .with_values(vec![0, 255])
        .unwrap();
        let picked = all.select(&[2, 1]);
        assert_eq!(
            (picked.images(), picked.masks()),
            (&[20, 21, 10, 11][..], &[0, 1][..])
        );
        assert_eq!(picked.values(), [0, 255]);
        assert_eq!(all.slice(1..9).masks(), [1, 0]);
        assert!(all.slice(5..9).is_empty());
        assert!(all.clone().with_values(vec![3, 3]).is_err());
        assert!(all.with_values(vec![3]).is_err());
    }
}
