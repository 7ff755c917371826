//! Segmentation: a folder of images and one of masks with the same names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{FolderError, FolderOptions, name, natural, pictures, unite};
use crate::MaskedImages;
use crate::images::{Mask, Raster, read_all};

const IMAGE_FOLDERS: &[&str] = &["image", "images", "img", "imgs"];
const MASK_FOLDERS: &[&str] = &["label", "labels", "mask", "masks"];

/// More values than this are believed only if they are nearly the numbers from 0 on: a mask that was scaled or
/// compressed has many values between those of its classes.
const SPARSE_VALUES: usize = 8;

/// The folders of images and of masks in `dir`: `image`, `images`, `img` or `imgs`, and `label`, `labels`, `mask` or
/// `masks`.
///
/// # Errors
/// [`FolderError::NoMasks`] if there is none of either kind.
pub fn find_masks(dir: &Path) -> Result<(PathBuf, PathBuf), FolderError> {
    let find = |names: &[&str]| {
        names
            .iter()
            .map(|name| dir.join(name))
            .find(|dir| dir.is_dir())
    };
    match (find(IMAGE_FOLDERS), find(MASK_FOLDERS)) {
        (Some(images), Some(masks)) => Ok((images, masks)),
        (images, _) => Err(FolderError::NoMasks {
            dir: dir.into(),
            kind: if images.is_some() { "masks" } else { "images" },
            names: if images.is_some() {
                MASK_FOLDERS
            } else {
                IMAGE_FOLDERS
            }
            .join(", "),
        }),
    }
}

/// Reads images and the masks of the same names; endings may differ, and a mask may be called `NAME_mask`.
///
/// A mask's values (see [`Mask::read`]) stand for classes: those found over all masks, ascending, such as 0 and 255,
/// or 0, 1, 2 and so on. A class is named by its value. With [`FolderOptions::size`], images are stretched to it and
/// masks follow by nearest neighbour.
///
/// # Errors
/// [`FolderError`], which names the file: an image without a mask or the reverse, sizes that differ, values that are
/// no classes.
pub fn read_masks(
    images: &Path,
    masks: &Path,
    data_set: &str,
    options: &FolderOptions,
) -> Result<MaskedImages, FolderError> {
    let pairs = pair(images, masks)?;
    let read = |i: usize| {
        let (image, mask) = &pairs[i];
        let picture = Raster::read(image, options.channels)?;
        let values = Mask::read(mask)?;
        let [_, height, width] = picture.shape;
        if (values.height, values.width) != (height, width) {
            return Err(FolderError::MaskSize {
                image: image.clone(),
                size: [height, width],
                mask: mask.clone(),
                mask_size: [values.height, values.width],
            });
        }
        Ok(match options.size {
            Some([height, width]) => (picture.resize(height, width), values.resize(height, width)),
            None => (picture, values),
        })
    };
    let (all, values): (Vec<Raster>, Vec<Mask>) = read_all(pairs.len(), read)?.into_iter().unzip();
    let (image_files, mask_files): (Vec<PathBuf>, Vec<PathBuf>) = pairs.into_iter().unzip();
    let (shape, pixels) = unite(&image_files, all, options)?;
    let classes = match &options.values {
        Some(values) => values.clone(),
        None => found(masks, &values)?,
    };
    let mut index = [None; 256];
    for (class, &value) in classes.iter().enumerate() {
        index[usize::from(value)] = Some(class as u8);
    }
    let mut indices = Vec::with_capacity(values.iter().map(|mask| mask.values.len()).sum());
    for (file, mask) in mask_files.iter().zip(&values) {
        for &value in &mask.values {
            indices.push(
                index[usize::from(value)].ok_or_else(|| FolderError::OtherValue {
                    mask: file.clone(),
                    value,
                    values: classes.clone(),
                })?,
            );
        }
    }
    let names = classes.iter().map(|value| value.to_string()).collect();
    Ok(MaskedImages::new(data_set, names, shape, pixels, indices)
        .and_then(|data| data.with_values(classes))
        .expect("at least two distinct values, whole pictures, indices of them"))
}

/// Images and masks in pairs, in the order of the images.
fn pair(images: &Path, masks: &Path) -> Result<Vec<(PathBuf, PathBuf)>, FolderError> {
    let by_stem = |dir: &Path, suffix: &str| -> Result<BTreeMap<String, PathBuf>, FolderError> {
        let mut found = BTreeMap::new();
        for path in pictures(dir)? {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let stem = stem.strip_suffix(suffix).unwrap_or(&stem).to_owned();
            if let Some(other) = found.insert(stem, path.clone()) {
                return Err(FolderError::Twice {
                    first: other,
                    second: path,
                });
            }
        }
        Ok(found)
    };
    let images_by_stem = by_stem(images, "\0")?;
    let mut masks_left = by_stem(masks, "_mask")?;
    let mut pairs = Vec::new();
    for (stem, image) in images_by_stem {
        let Some(mask) = masks_left.remove(&stem) else {
            return Err(FolderError::NoMask {
                image,
                masks: masks.into(),
            });
        };
        pairs.push((image, mask));
    }
    pairs.sort_by(|(a, _), (b, _)| natural(&name(a), &name(b)));
    match masks_left.into_values().next() {
        Some(mask) => Err(FolderError::NoImage {
            mask,
            images: images.into(),
        }),
        None => Ok(pairs),
    }
}

/// The values of all masks, ascending, if they can be classes.
fn found(dir: &Path, masks: &[Mask]) -> Result<Vec<u8>, FolderError> {
    let mut seen = [false; 256];
    let all = masks.iter().flat_map(|mask| &mask.values);
    all.for_each(|&value| seen[usize::from(value)] = true);
    let values: Vec<u8> = (0..=255).filter(|&v| seen[usize::from(v)]).collect();
    let largest = usize::from(*values.last().expect("a mask has pixels"));
    match values.len() {
        1 => Err(FolderError::OneValue {
            dir: dir.into(),
            value: values[0],
        }),
        count if count > SPARSE_VALUES && largest >= 2 * count => Err(FolderError::TooManyValues {
            dir: dir.into(),
            count,
            values: values
                .iter()
                .take(12)
                .map(|v| v.to_string())
                .collect::<Vec<_>>()
                .join(", "),
        }),
        _ => Ok(values),
    }
}
