//! From a picture's file to the image that a model takes: the one way that training, evaluation and prediction share.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::decode::{self, Gray};
use super::{Framing, ImageError, Invert, Raster, SIDE, border, frame, frame_gray, mean};
use crate::folder::Rules;

/// How a picture of another size than the model's is brought to it. A picture that has that size is taken as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// Scaled with its aspect kept so that it covers the size, of which the middle is cut out ([`Raster::cover`]).
    #[default]
    Cover,
    /// Stretched to the size ([`Raster::resize`]), as masks are.
    Stretch,
    /// Whole pictures of things, for gray images of 28×28: [`Framing::Whole`].
    Whole,
    /// Photographed or drawn digits, for gray images of 28×28: [`Framing::Ink`].
    Ink,
}

/// How a picture's file becomes an image for a model. It is saved with a run, so that a picture is prepared for a
/// prediction exactly as the pictures of the training data were.
///
/// | field | default | purpose |
/// |---|---|---|
/// | `channels` | as the file has | 1 (gray) or 3 (RGB) |
/// | `size` | as the file has | height and width of the image |
/// | `resize` | [`Resize::Cover`] | how a picture of another size is brought to it |
/// | `rules` | [`Rules::V2`] | which decoder reads the file |
///
/// ```
/// use kiln_data::images::{Invert, Preprocess};
/// use kiln_data::info::Picture;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("wide.png");
/// let pixels = vec![9, 10, 20, 9];
/// Picture { width: 4, height: 1, channels: 1, pixels }.write_png(&path)?;
///
/// let middle = Preprocess { channels: Some(1), size: Some([1, 2]), ..Preprocess::default() };
/// let (image, inverted) = middle.read(&path, Invert::Auto)?;
/// assert_eq!((image.shape, image.pixels, inverted), ([1, 1, 2], vec![10, 20], false));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Preprocess {
    /// 1 (gray) or 3 (RGB); `None` takes what the file has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// Height and width of the image; `None` leaves every picture as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
    /// How a picture of another size is brought to it.
    #[serde(default)]
    pub resize: Resize,
    /// Which decoder reads the file; a run's recipe says it, so that it is not saved here.
    #[serde(skip)]
    pub rules: Rules,
}

impl Preprocess {
    /// Reads a picture; also whether dark and light changed places.
    ///
    /// [`Invert::Auto`] inverts light paper under dark ink for [`Resize::Ink`] and, where a picture is not taken as it
    /// is, for [`Resize::Whole`]; other pictures keep their light and dark, as those in a folder do.
    ///
    /// # Errors
    /// [`ImageError`], which names the file.
    ///
    /// # Panics
    /// If `channels` is neither 1 nor 3, or pictures of another form than 1×28×28 are to be framed.
    pub fn read(&self, path: &Path, invert: Invert) -> Result<(Raster, bool), ImageError> {
        let framing = match self.resize {
            Resize::Ink => Framing::Ink,
            Resize::Whole => Framing::Whole,
            Resize::Cover | Resize::Stretch => {
                let mut picture = self.apply(Raster::read_under(path, self.channels, self.rules)?);
                let inverted = invert == Invert::Yes;
                if inverted {
                    picture.pixels.iter_mut().for_each(|p| *p = 255 - *p);
                }
                return Ok((picture, inverted));
            }
        };
        let form = (self.channels, self.size);
        assert_eq!(
            form,
            (Some(1), Some([SIDE, SIDE])),
            "framed images have 1x28x28 pixels"
        );
        let gray = decode::read_under(path, self.rules)?;
        let (pixels, inverted) = match is_in_form(&gray, framing, invert) {
            true => (
                gray.pixels.iter().map(|&p| (p + 0.5) as u8).collect(),
                false,
            ),
            false => {
                let framed = frame_gray(gray, framing, invert, path)?;
                (framed.pixels, framed.inverted)
            }
        };
        Ok((Raster::from_planes([1, SIDE, SIDE], pixels), inverted))
    }

    /// Brings a picture that was read to the size, where it is covered or stretched.
    pub fn apply(&self, picture: Raster) -> Raster {
        match (self.size, self.resize) {
            (Some([height, width]), Resize::Cover) => picture.cover(height, width),
            (Some([height, width]), Resize::Stretch) => picture.resize(height, width),
            _ => picture,
        }
    }
}

/// Whether a picture is as those of the data set: of their size, and light on dark where that is ink on paper.
fn is_in_form(gray: &Gray, framing: Framing, invert: Invert) -> bool {
    let exact = (gray.width, gray.height) == (SIDE, SIDE) && invert != Invert::Yes;
    match framing {
        Framing::Whole => exact,
        // Dark ink on light paper is of another form whatever its size, and a blank sheet shows nothing.
        Framing::Ink => {
            let paper = border(gray);
            exact && (invert == Invert::No || paper <= mean(gray)) && frame::shows_ink(gray, paper)
        }
    }
}
