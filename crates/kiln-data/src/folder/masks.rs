//! Segmentation: a folder of images and one of masks with the same names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::{name, natural, pictures};
use super::{FolderError, FolderOptions, PassedOver, Room, Rules, unite};
use crate::MaskedImages;
use crate::images::{Mask, Raster};

const IMAGE_FOLDERS: &[&str] = &["image", "images", "img", "imgs"];
const MASK_FOLDERS: &[&str] = &["label", "labels", "mask", "masks"];

/// As many values as this are believed whatever they are. More may be those that scaling or compression has left
/// between the values of classes, or gray levels of photographs.
const FEW_VALUES: usize = 8;
/// Values below this are believed to be indices of classes, with gaps or without.
const SMALL_VALUES: u8 = 64;
/// Up to so many classes are believed without a look at the masks themselves.
const MANY_CLASSES: usize = 32;
/// No data set has as many classes as this, but photographs have as many gray levels.
const GRAY_LEVELS: u8 = 224;

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
/// or 0, 1, 2 and so on, without [`FolderOptions::ignore_value`]. A class is named by its value. With
/// [`FolderOptions::size`], images are stretched to it and masks follow by nearest neighbour.
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
    read_masks_noting(images, masks, data_set, options, &mut PassedOver::default())
}

/// As [`read_masks`], counting what is passed over.
pub(crate) fn read_masks_noting(
    images: &Path,
    masks: &Path,
    data_set: &str,
    options: &FolderOptions,
    passed: &mut PassedOver,
) -> Result<MaskedImages, FolderError> {
    let pairs = pair(images, masks, options.rules, passed)?;
    let read = |i: usize| {
        let (image, mask) = &pairs[i];
        let picture = Raster::read_under(image, options.channels, options.rules)?;
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
    // A mask is kept twice for a moment: its values and the classes that they stand for.
    let bytes = |(picture, mask): &(Raster, Mask)| picture.pixels.len() + 2 * mask.values.len();
    let all = Room::new(pairs.len(), options).read_all(bytes, read)?;
    let (all, values): (Vec<Raster>, Vec<Mask>) = all.into_iter().unzip();
    let (image_files, mask_files): (Vec<PathBuf>, Vec<PathBuf>) = pairs.into_iter().unzip();
    let (shape, pixels) = unite(&image_files, all, options)?;
    let classes = match &options.values {
        Some(values) => values.clone(),
        None => found(masks, &values, options)?,
    };
    let mut index = [None; 256];
    for (class, &value) in classes.iter().enumerate() {
        index[usize::from(value)] = Some(class as u8);
    }
    if let Some(value) = options.ignore_value {
        index[usize::from(value)] = Some(MaskedImages::IGNORED);
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
    let data = match options.ignore_value {
        Some(value) => MaskedImages::ignoring(value, data_set, names, shape, pixels, indices),
        None => MaskedImages::new(data_set, names, shape, pixels, indices),
    };
    Ok(data
        .and_then(|data| data.with_values(classes))
        .expect("at least two distinct values, whole pictures, indices of them"))
}

/// Images and masks in pairs, in the order of the images.
fn pair(
    images: &Path,
    masks: &Path,
    rules: Rules,
    passed: &mut PassedOver,
) -> Result<Vec<(PathBuf, PathBuf)>, FolderError> {
    let mut by_stem =
        |dir: &Path, suffix: &str| -> Result<BTreeMap<String, PathBuf>, FolderError> {
            let mut found = BTreeMap::new();
            let mut of_folder = PassedOver::default();
            let pictures = pictures(dir, rules, &mut of_folder)?;
            passed.add(of_folder);
            for path in pictures {
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
    match rules {
        Rules::V1 => pairs.sort_by(|(a, _), (b, _)| natural(&name(a), &name(b))),
        Rules::V2 => pairs.sort_by(|(a, _), (b, _)| a.file_name().cmp(&b.file_name())),
    }
    match masks_left.into_values().next() {
        Some(mask) => Err(FolderError::NoImage {
            mask,
            images: images.into(),
        }),
        None => Ok(pairs),
    }
}

/// The values of all masks, ascending, without the one to ignore, if they can be classes.
fn found(dir: &Path, masks: &[Mask], options: &FolderOptions) -> Result<Vec<u8>, FolderError> {
    let mut seen = [false; 256];
    let all = masks.iter().flat_map(|mask| &mask.values);
    all.for_each(|&value| seen[usize::from(value)] = true);
    let values: Vec<u8> = (0..=255)
        .filter(|&v| seen[usize::from(v)] && Some(v) != options.ignore_value)
        .collect();
    if values.len() < 2 {
        let only = options.ignore_value.unwrap_or_default();
        return Err(FolderError::OneValue {
            dir: dir.into(),
            value: values.first().copied().unwrap_or(only),
        });
    }
    if are_classes(&values, masks, options.rules) {
        return Ok(values);
    }
    let first: Vec<String> = values.iter().take(12).map(u8::to_string).collect();
    Err(FolderError::TooManyValues {
        dir: dir.into(),
        count: values.len(),
        values: first.join(", "),
    })
}

/// Whether values, ascending, can stand for classes.
fn are_classes(values: &[u8], masks: &[Mask], rules: Rules) -> bool {
    let has_gaps = |values: &[u8]| match values {
        [.., largest] => usize::from(*largest) >= 2 * values.len(),
        [] => false,
    };
    if values.len() <= FEW_VALUES || rules == Rules::V1 {
        return values.len() <= FEW_VALUES || !has_gaps(values);
    }
    // A 255 that stands alone is what many data sets give to pixels without a class.
    let indices = match values {
        [rest @ .., 255] if !rest.contains(&254) => rest,
        all => all,
    };
    let largest = *indices.last().expect("more than a few values");
    if largest >= SMALL_VALUES && has_gaps(indices) || largest >= GRAY_LEVELS {
        return false;
    }
    indices.len() <= MANY_CLASSES || flatness(masks) >= 0.5
}

/// The share of pixels whose right neighbour has the same value: nearly 1 in masks, little in photographs.
fn flatness(masks: &[Mask]) -> f64 {
    let (mut same, mut all) = (0u64, 0u64);
    for mask in masks {
        for row in mask.values.chunks_exact(mask.width) {
            same += row.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
            all += row.len() as u64 - 1;
        }
    }
    same as f64 / all.max(1) as f64
}

/// What to say of masks: see [`note_on_255`] and [`note_on_edges`].
pub(crate) fn note(data: &MaskedImages) -> Option<String> {
    let notes: Vec<String> = [note_on_255(data), note_on_edges(data)]
        .into_iter()
        .flatten()
        .collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// What to say of few values of which some stand along edges alone, between a lower and a higher one, as 127 does in a mask
/// of 0 and 255 that was scaled. It cannot be refused: the border of an object may be a class, and looks the same.
fn note_on_edges(data: &MaskedImages) -> Option<String> {
    let values = data.values();
    let largest = *values.last()?;
    // Indices of classes, whose values cannot lie between those of others by scaling alone.
    if usize::from(largest) < 2 * values.len() {
        return None;
    }
    let [_, height, width] = data.shape();
    // Of each class, how many pixels there are, and how many of them have both a lower and a higher value beside them.
    let (mut counts, mut between) = (vec![0u64; values.len()], vec![0u64; values.len()]);
    for mask in data.masks().chunks_exact(data.mask_len()) {
        for (at, &class) in mask.iter().enumerate() {
            let Some(count) = counts.get_mut(usize::from(class)) else {
                continue;
            };
            *count += 1;
            if class == 0 || usize::from(class) + 1 == values.len() {
                continue;
            }
            let (y, x) = (at / width, at % width);
            let rows = y.saturating_sub(1)..(y + 2).min(height);
            let (mut lower, mut higher) = (false, false);
            for y in rows {
                let row = &mask[y * width..][..width][x.saturating_sub(1)..(x + 2).min(width)];
                lower |= row.iter().any(|&other| other < class);
                // What is left out is neither.
                higher |= row
                    .iter()
                    .any(|&other| other > class && usize::from(other) < values.len());
            }
            between[usize::from(class)] += u64::from(lower && higher);
        }
    }
    let edges = (0..values.len()).filter(|&class| between[class] * 10 > counts[class] * 9);
    let edges: Vec<String> = edges.map(|class| values[class].to_string()).collect();
    if edges.is_empty() {
        return None;
    }
    let each = values.iter().zip(&counts);
    let each: Vec<String> = each
        .map(|(value, count)| format!("{value}: {count}"))
        .collect();
    Some(format!(
        "the masks hold {} values (pixels of each: {}), and {} almost only along edges, between a lower and a higher value: \
         scaling leaves such values, and each is taken for a class; if they are none, scale the masks by the nearest neighbour",
        values.len(),
        each.join(", "),
        edges.join(", ")
    ))
}

/// What to say of masks in which 255 has become a class beside others, though it may stand for pixels without one.
fn note_on_255(data: &MaskedImages) -> Option<String> {
    let [rest @ .., largest, 255] = data.values() else {
        return None;
    };
    let beside_indices = usize::from(*largest) < 2 * (rest.len() + 1);
    (beside_indices && !rest.is_empty()).then(|| {
        "the masks hold 255 beside small values: it is taken for a class; if it marks pixels without one, leave them out with data.ignore_value = 255".into()
    })
}
