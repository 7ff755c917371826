//! What is in a data set: counts, class balance, mean and standard deviation, a picture.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::images::{Mask, Raster};
use crate::{LabeledImages, MaskedImages};

/// Counts and statistics of one split.
///
/// ```
/// use kiln_data::{Digits, Split, info::Summary};
///
/// let summary = Summary::of(&Digits::new(0).generate(Split::Train, 1000));
/// assert_eq!(summary.class_counts[3], ("3".to_owned(), 100));
/// assert!((summary.mean[0] - 0.13).abs() < 0.02, "{:?}", summary.mean);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Name of the data set.
    pub name: String,
    /// Number of images.
    pub len: usize,
    /// Shape of one image: `[channels, height, width]`.
    pub shape: [usize; 3],
    /// Number of images of each class, in the order of the labels; with masks, number of pixels.
    pub class_counts: Vec<(String, usize)>,
    /// Mean of the pixels of each channel, scaled to 0..1; NaN if there is no image.
    pub mean: Vec<f64>,
    /// Standard deviation (population) of the pixels of each channel, scaled to 0..1; NaN if there
    /// is no image.
    pub std: Vec<f64>,
}

impl Summary {
    /// Counts and sums in integers, so the statistics are exact to the last bit of their division.
    pub fn of(data: &LabeledImages) -> Self {
        let mut counts = vec![0; data.num_classes()];
        for &label in data.labels() {
            counts[usize::from(label)] += 1;
        }
        let (mean, std) = channel_moments(data.images(), data.shape());
        Self {
            name: data.name().to_owned(),
            len: data.len(),
            shape: data.shape(),
            class_counts: data.classes().iter().cloned().zip(counts).collect(),
            mean,
            std,
        }
    }

    /// As [`of`](Self::of), for images with masks: the classes' counts are of pixels.
    pub fn of_masks(data: &MaskedImages) -> Self {
        let mut counts = [0; 256];
        for &value in data.masks() {
            counts[usize::from(value)] += 1;
        }
        let (mean, std) = channel_moments(data.images(), data.shape());
        Self {
            name: data.name().to_owned(),
            len: data.len(),
            shape: data.shape(),
            class_counts: data.classes().iter().cloned().zip(counts).collect(),
            mean,
            std,
        }
    }
}

/// Mean and standard deviation of each channel of `[n, channels, height, width]`.
fn channel_moments(images: &[u8], [channels, height, width]: [usize; 3]) -> (Vec<f64>, Vec<f64>) {
    let mut histograms = vec![[0u64; 256]; channels];
    for (i, pixels) in images.chunks_exact(height * width).enumerate() {
        let histogram = &mut histograms[i % channels];
        for &pixel in pixels {
            histogram[usize::from(pixel)] += 1;
        }
    }
    histograms.iter().map(moments).unzip()
}

/// Mean and population standard deviation of values 0..=255, scaled to 0..1.
fn moments(histogram: &[u64; 256]) -> (f64, f64) {
    let (mut n, mut sum, mut squares) = (0u128, 0u128, 0u128);
    for (value, &count) in (0u128..).zip(histogram) {
        let count = u128::from(count);
        n += count;
        sum += count * value;
        squares += count * value * value;
    }
    // n² var = n Σx² − (Σx)², without rounding.
    let variance = (n * squares - sum * sum) as f64 / (n * n) as f64;
    (sum as f64 / n as f64 / 255.0, variance.sqrt() / 255.0)
}

/// A picture in memory: 8-bit gray (1 channel) or RGB (3 channels), rows from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// 1 or 3.
    pub channels: usize,
    /// `[height, width, channels]`.
    pub pixels: Vec<u8>,
}

/// Why a picture could not be made or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// Neither gray nor RGB.
    #[error("a picture has 1 or 3 channels, these images have {channels}")]
    Channels {
        /// Channels of the images.
        channels: usize,
    },
    /// A picture without pixels, or not as many as its sides say.
    #[error("{pixels} bytes are no picture of {width} x {height} with {channels} channels")]
    Size {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Channels.
        channels: usize,
        /// Bytes there are.
        pixels: usize,
    },
    /// The file cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system or the encoder said.
        #[source]
        source: io::Error,
    },
}

/// Pixels that a sheet has at most: larger images are scaled down, and rows left out where that is not enough.
const SHEET_PIXELS: usize = 16 << 20;
/// Images are not scaled below this height and width.
const SHEET_SIDE: usize = 8;

/// Height and width of the images on a sheet of `rows` × `columns` of them, and how many rows it can have.
fn fit(height: usize, width: usize, rows: usize, columns: usize) -> ([usize; 2], usize) {
    let mut size = [height, width];
    let cells = |[h, w]: [usize; 2]| (h + 1).saturating_mul(w + 1).saturating_mul(columns);
    while cells(size).saturating_mul(rows) > SHEET_PIXELS && size.iter().any(|&n| n > SHEET_SIDE) {
        size = size.map(|n| (n * 7 / 8).max(SHEET_SIDE.min(n)));
    }
    (size, rows.min((SHEET_PIXELS / cells(size)).max(1)))
}

/// An image in planes, scaled.
fn scaled(image: &[u8], shape: [usize; 3], [height, width]: [usize; 2]) -> Vec<u8> {
    if shape[1..] == [height, width] {
        return image.to_vec();
    }
    Raster::from_planes(shape, image.to_vec())
        .resize(height, width)
        .pixels
}

/// The first `columns` images of each class side by side, one row per class in the order of the
/// labels, with a gray gap of one pixel around each.
///
/// A sheet has at most 16 million pixels: large images are scaled down, and of thousands of classes the first are shown.
///
/// # Errors
/// [`PictureError::Channels`] if the images are neither gray nor RGB; [`PictureError::Size`] for no
/// columns.
pub fn contact_sheet(data: &LabeledImages, columns: usize) -> Result<Picture, PictureError> {
    const GAP: u8 = 96;
    let [channels, height, width] = data.shape();
    if channels != 1 && channels != 3 {
        return Err(PictureError::Channels { channels });
    }
    let ([height, width], rows) = fit(height, width, data.num_classes(), columns.max(1));
    let (cell_height, cell_width) = (height + 1, width + 1);
    let mut picture = Picture {
        width: columns * cell_width + 1,
        height: rows * cell_height + 1,
        channels,
        pixels: Vec::new(),
    };
    if columns == 0 {
        picture.width = 0;
        return Err(picture.size_error());
    }
    picture.pixels = vec![GAP; picture.width * picture.height * channels];
    let mut filled = vec![0; data.num_classes()];
    for (i, &label) in data.labels().iter().enumerate() {
        let row = usize::from(label);
        let column = filled[row];
        if column == columns || row >= rows {
            continue;
        }
        filled[row] += 1;
        let image = scaled(data.image(i), data.shape(), [height, width]);
        for y in 0..height {
            let line = (row * cell_height + 1 + y) * picture.width + column * cell_width + 1;
            for x in 0..width {
                for c in 0..channels {
                    picture.pixels[(line + x) * channels + c] = image[(c * height + y) * width + x];
                }
            }
        }
    }
    Ok(picture)
}

/// The first `rows` × `columns` images, each beside its mask, with a gray gap of one pixel around each. A class has the
/// [`colour`] of its index. Large images are scaled down as on a [`contact_sheet`].
///
/// # Errors
/// [`PictureError::Channels`] if the images are neither gray nor RGB; [`PictureError::Size`] for no rows or columns.
pub fn mask_sheet(
    data: &MaskedImages,
    rows: usize,
    columns: usize,
) -> Result<Picture, PictureError> {
    const GAP: u8 = 96;
    let [channels, full_height, full_width] = data.shape();
    if channels != 1 && channels != 3 {
        return Err(PictureError::Channels { channels });
    }
    let ([height, width], most) = fit(full_height, full_width, rows.max(1), 2 * columns.max(1));
    let rows = rows.min(most);
    let (cell_height, cell_width) = (height + 1, 2 * width + 2);
    let mut picture = Picture {
        width: columns * cell_width + 1,
        height: rows * cell_height + 1,
        channels: 3,
        pixels: Vec::new(),
    };
    if rows == 0 || columns == 0 {
        return Err(picture.size_error());
    }
    picture.pixels = vec![GAP; picture.width * picture.height * 3];
    for index in 0..data.len().min(rows * columns) {
        let image = scaled(data.image(index), data.shape(), [height, width]);
        let mask = Mask::new([full_height, full_width], data.mask(index).to_vec());
        let mask = mask.resize(height, width).values;
        let (row, column) = (index / columns, index % columns);
        for (i, &class) in mask.iter().enumerate() {
            let (y, x) = (i / width, i % width);
            let line = (row * cell_height + 1 + y) * picture.width;
            let left = (line + column * cell_width + 1 + x) * 3;
            for c in 0..3 {
                picture.pixels[left + c] = image[c % channels * height * width + i];
            }
            let right = left + (width + 1) * 3;
            picture.pixels[right..right + 3].copy_from_slice(&colour(class));
        }
    }
    Ok(picture)
}

/// A colour for each class of a mask: black for the first, as background usually is, then colours that are far
/// apart (those of the PASCAL VOC challenge, <http://host.robots.ox.ac.uk/pascal/VOC/>, whose bits are the index's).
///
/// ```
/// use kiln_data::info::colour;
/// assert_eq!((colour(0), colour(1), colour(15)), ([0, 0, 0], [128, 0, 0], [192, 128, 128]));
/// ```
pub fn colour(class: u8) -> [u8; 3] {
    let mut colour = [0u8; 3];
    for bit in 0..8 {
        // Bits 0, 3 and 6 are red's, from the highest down; then green's, then blue's.
        colour[bit % 3] |= (class >> bit & 1) << (7 - bit / 3);
    }
    colour
}

impl Picture {
    /// Every pixel as a square of `factor` pixels (at least 1).
    pub fn enlarge(&self, factor: usize) -> Self {
        let factor = factor.max(1);
        let mut pixels = Vec::with_capacity(self.pixels.len() * factor * factor);
        for row in self
            .pixels
            .chunks_exact((self.width * self.channels).max(1))
        {
            let start = pixels.len();
            for pixel in row.chunks_exact(self.channels) {
                (0..factor).for_each(|_| pixels.extend_from_slice(pixel));
            }
            let end = pixels.len();
            (1..factor).for_each(|_| pixels.extend_from_within(start..end));
        }
        Self {
            width: self.width * factor,
            height: self.height * factor,
            channels: self.channels,
            pixels,
        }
    }

    /// Writes a PNG file.
    ///
    /// # Errors
    /// [`PictureError`] if the picture is not well formed or the file cannot be written.
    pub fn write_png(&self, path: &Path) -> Result<(), PictureError> {
        let png = self.to_png()?;
        std::fs::write(path, png).map_err(|source| PictureError::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// The picture as the bytes of a PNG file.
    ///
    /// # Errors
    /// [`PictureError`] if the picture is not well formed.
    pub fn to_png(&self) -> Result<Vec<u8>, PictureError> {
        let color = match self.channels {
            1 => png::ColorType::Grayscale,
            3 => png::ColorType::Rgb,
            channels => return Err(PictureError::Channels { channels }),
        };
        let (Ok(width), Ok(height)) = (u32::try_from(self.width), u32::try_from(self.height))
        else {
            return Err(self.size_error());
        };
        let bytes = self.width.checked_mul(self.height);
        if width == 0
            || height == 0
            || bytes.and_then(|n| n.checked_mul(self.channels)) != Some(self.pixels.len())
        {
            return Err(self.size_error());
        }
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(color);
        encoder.set_depth(png::BitDepth::Eight);
        let written = encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&self.pixels));
        // Only a picture that is too large fails here.
        written.map_err(|_| self.size_error())?;
        Ok(bytes)
    }

    fn size_error(&self) -> PictureError {
        PictureError::Size {
            width: self.width,
            height: self.height,
            channels: self.channels,
            pixels: self.pixels.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> LabeledImages {
        let pixels = vec![0, 10, 20, 30, 255, 255, 0, 0, 1, 2, 3, 4];
        let classes = vec!["a".into(), "b".into()];
        LabeledImages::new("t", classes, [1, 2, 2], pixels, vec![1, 0, 1]).unwrap()
    }

    #[test]
    fn statistics_are_those_of_the_definition() {
        let summary = Summary::of(&data());
        assert_eq!(summary.class_counts, [("a".into(), 1), ("b".into(), 2)]);
        let values: Vec<f64> = data()
            .images()
            .iter()
            .map(|&p| f64::from(p) / 255.0)
            .collect();
        let mean = values.iter().sum::<f64>() / 12.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 12.0;
        assert!((summary.mean[0] - mean).abs() < 1e-15);
        assert!((summary.std[0] - variance.sqrt()).abs() < 1e-15);
    }

    #[test]
    fn statistics_are_per_channel() {
        let pixels = vec![0, 255, 0, 255, 255, 255, 0, 0];
        let data = LabeledImages::new("t", vec!["a".into()], [2, 1, 2], pixels, vec![0, 0]);
        let summary = Summary::of(&data.unwrap());
        assert_eq!(summary.mean, [0.75, 0.25]);
        let expected = 0.1875f64.sqrt();
        assert!(summary.std.iter().all(|s| (s - expected).abs() < 1e-15));
    }

    #[test]
    fn no_image_has_no_mean() {
        assert!(Summary::of(&data().slice(0..0)).mean[0].is_nan());
    }

    #[test]
    fn the_sheet_has_a_row_per_class_and_survives_png() {
        let sheet = contact_sheet(&data(), 2).unwrap();
        assert_eq!((sheet.width, sheet.height), (7, 7));
        // Class a: image 1 in the first cell, the second cell empty.
        assert_eq!(&sheet.pixels[7..14], &[96, 255, 255, 96, 96, 96, 96]);
        // Class b: images 0 and 2.
        assert_eq!(&sheet.pixels[28..35], &[96, 0, 10, 96, 1, 2, 96]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sheet.png");
        let large = sheet.enlarge(3);
        large.write_png(&path).unwrap();
        let file = io::BufReader::new(std::fs::File::open(&path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((frame.width, frame.height), (21, 21));
        assert_eq!(pixels, large.pixels);
    }

    #[test]
    fn a_sheet_of_large_pictures_or_of_many_classes_is_bounded() {
        let side = 700;
        let classes = (0..40).map(|c| c.to_string()).collect();
        let pixels = [vec![10; side * side], vec![200; side * side]].concat();
        let data = LabeledImages::new("t", classes, [1, side, side], pixels, vec![0, 39]).unwrap();
        let sheet = contact_sheet(&data, 20).unwrap();
        assert!(sheet.width * sheet.height <= SHEET_PIXELS + sheet.width + sheet.height);
        let middle = |row: usize| {
            let y = sheet.height / 40 * row + sheet.height / 80;
            sheet.pixels[y * sheet.width + sheet.width / 40]
        };
        assert_eq!((middle(0), middle(39)), (10, 200));
        let classes = (0..60_000).map(|c| c.to_string()).collect();
        let many = LabeledImages::new("t", classes, [1, 28, 28], vec![5; 784], vec![0]).unwrap();
        let sheet = contact_sheet(&many, 20).unwrap();
        assert!(sheet.width * sheet.height <= SHEET_PIXELS + sheet.width + sheet.height);
        let two = vec!["a".into(), "b".into()];
        let masks = MaskedImages::new(
            "t",
            two,
            [1, 3000, 3000],
            vec![7; 9_000_000],
            vec![1; 9_000_000],
        );
        let sheet = mask_sheet(&masks.unwrap(), 1, 6).unwrap();
        assert!(sheet.width * sheet.height <= SHEET_PIXELS + sheet.width + sheet.height);
        assert_eq!(sheet.pixels[(sheet.width + 1) * 3..][..3], [7; 3]);
    }

    #[test]
    fn a_sheet_of_masks_shows_each_image_beside_its_mask() {
        let classes = vec!["a".into(), "b".into()];
        let data = MaskedImages::new("t", classes, [1, 1, 2], vec![7, 8, 9, 10], vec![0, 1, 1, 0]);
        let data = data.unwrap();
        let sheet = mask_sheet(&data, 2, 1).unwrap();
        assert_eq!((sheet.width, sheet.height), (7, 5));
        let row = |y: usize| &sheet.pixels[y * 21..][..21];
        let gap = [96; 3];
        let expected = [gap, [7; 3], [8; 3], gap, [0; 3], [128, 0, 0], gap].concat();
        assert_eq!(row(1), expected);
        assert!(row(2).iter().all(|&v| v == 96));
        assert!(mask_sheet(&data, 0, 1).is_err());
        let summary = Summary::of_masks(&data);
        assert_eq!(summary.class_counts, [("a".into(), 2), ("b".into(), 2)]);
        assert_eq!(summary.mean[0], 8.5 / 255.0);
    }

    #[test]
    fn pictures_that_cannot_be_are_refused() {
        assert!(matches!(
            contact_sheet(&data(), 0),
            Err(PictureError::Size { .. })
        ));
        let odd = LabeledImages::new("t", vec!["a".into()], [2, 1, 1], vec![0; 2], vec![0]);
        let error = contact_sheet(&odd.unwrap(), 1).unwrap_err();
        assert!(matches!(error, PictureError::Channels { channels: 2 }));
        let sheet = contact_sheet(&data(), 1).unwrap();
        let error = sheet
            .write_png(Path::new("no/such/folder/x.png"))
            .unwrap_err();
        assert!(matches!(error, PictureError::Write { .. }));
    }
}
