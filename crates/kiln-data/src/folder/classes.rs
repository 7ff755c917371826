//! Classification: a folder for each class.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::files::{Listing, all_pictures, name};
use super::{FolderError, FolderOptions, PassedOver, Room, unite};
use crate::images::{Invert, Preprocess, Raster};
use crate::{LabeledImages, MAX_CLASSES};

/// Reads `DIR/CLASS/*.png` and the like (torchvision's `ImageFolder`): the folders, sorted, are the classes, and
/// pictures in folders of a class's folder are the class's.
///
/// With [`FolderOptions::size`], a picture is brought to it as [`FolderOptions::resize`] says: by default it is scaled to
/// cover the size, of which the middle is cut out.
///
/// # Errors
/// [`FolderError`], which names the folder or the file.
pub fn read_classes(
    dir: &Path,
    data_set: &str,
    options: &FolderOptions,
) -> Result<LabeledImages, FolderError> {
    read_classes_noting(dir, data_set, options, &mut PassedOver::default())
}

/// As [`read_classes`], counting what is passed over.
pub(crate) fn read_classes_noting(
    dir: &Path,
    data_set: &str,
    options: &FolderOptions,
    passed: &mut PassedOver,
) -> Result<LabeledImages, FolderError> {
    let listing = Listing::of(dir, options.rules)?;
    listing.files.iter().for_each(|file| passed.outside(file));
    let folders = listing.data_folders(options.rules, passed);
    if folders.is_empty() {
        return Err(FolderError::NoClasses { dir: dir.into() });
    }
    let found: Vec<String> = folders.iter().map(|path| name(path)).collect();
    let classes = options.classes.clone().unwrap_or_else(|| found.clone());
    if classes.len() > MAX_CLASSES {
        return Err(FolderError::TooManyClasses {
            dir: dir.into(),
            count: classes.len(),
        });
    }
    let label_of: HashMap<&str, u16> = classes
        .iter()
        .map(|class| &class[..])
        .zip(0..=u16::MAX)
        .collect();
    let mut files: Vec<PathBuf> = Vec::new();
    let mut labels = Vec::new();
    for (folder, class) in folders.iter().zip(&found) {
        let Some(&label) = label_of.get(&class[..]) else {
            return Err(FolderError::OtherClass {
                dir: folder.clone(),
                classes: classes.clone(),
            });
        };
        let mut of_class = PassedOver::default();
        let pictures = all_pictures(folder, options.rules, &mut of_class)?;
        passed.add(of_class);
        labels.extend(std::iter::repeat_n(label, pictures.len()));
        files.extend(pictures);
    }
    let preprocess = Preprocess {
        channels: options.channels,
        size: options.size,
        resize: options.resize,
        rules: options.rules,
    };
    let read = |i: usize| {
        let (picture, _) = preprocess.read(&files[i], Invert::Auto)?;
        Ok::<_, FolderError>(picture)
    };
    let room = Room::new(files.len(), options);
    let all = room.read_all(|picture: &Raster| picture.pixels.len(), read)?;
    let (shape, pixels) = unite(&files, all, options)?;
    Ok(LabeledImages::new(data_set, classes, shape, pixels, labels)
        .expect("not too many classes, whole pictures, labels that index them"))
}
