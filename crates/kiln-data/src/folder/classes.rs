//! Classification: a folder for each class.

use std::path::{Path, PathBuf};

use super::{FolderError, FolderOptions, list, name, pictures, unite};
use crate::LabeledImages;
use crate::images::{Invert, Preprocess, read_all};

/// Reads `DIR/CLASS/*.png` and the like (torchvision's `ImageFolder`): the folders, sorted, are the classes.
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
    let folders = list(dir, true)?;
    if folders.is_empty() {
        return Err(FolderError::NoClasses { dir: dir.into() });
    }
    let found: Vec<String> = folders.iter().map(|path| name(path)).collect();
    let classes = options.classes.clone().unwrap_or_else(|| found.clone());
    if classes.len() > 256 {
        return Err(FolderError::TooManyClasses {
            dir: dir.into(),
            count: classes.len(),
        });
    }
    let mut files: Vec<PathBuf> = Vec::new();
    let mut labels = Vec::new();
    for (folder, class) in folders.iter().zip(&found) {
        let Some(label) = classes.iter().position(|known| known == class) else {
            return Err(FolderError::OtherClass {
                dir: folder.clone(),
                classes,
            });
        };
        let pictures = pictures(folder)?;
        labels.extend(std::iter::repeat_n(label as u8, pictures.len()));
        files.extend(pictures);
    }
    let preprocess = Preprocess {
        channels: options.channels,
        size: options.size,
        resize: options.resize,
    };
    let read = |i: usize| {
        let (picture, _) = preprocess.read(&files[i], Invert::Auto)?;
        Ok::<_, FolderError>(picture)
    };
    let all = read_all(files.len(), read)?;
    let (shape, pixels) = unite(&files, all, options)?;
    Ok(LabeledImages::new(data_set, classes, shape, pixels, labels)
        .expect("at most 256 classes, whole pictures, labels that index them"))
}
