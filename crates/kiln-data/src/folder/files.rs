//! The picture files of a folder, in the order of its rules, and a count of all that is passed over.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::{FolderError, Rules};
use crate::images::ENDINGS;

/// Endings that were read under the first rules.
const ENDINGS_V1: &[&str] = &["png", "jpg", "jpeg"];

/// Folders that hold no data: what macOS adds to an archive.
const NO_DATA: &[&str] = &["__MACOSX"];

/// What was not read of a folder, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PassedOver {
    /// Files with endings of no picture that is read; the ending, lower-case.
    endings: BTreeMap<String, usize>,
    hidden: usize,
    /// Pictures that are in no folder of a class.
    outside: usize,
    /// Folders whose content was not looked at.
    folders: Vec<String>,
    /// Links that lead back to a folder they are in.
    loops: usize,
}

impl PassedOver {
    /// One line on what was passed over and why; none if nothing was.
    pub(crate) fn note(&self) -> Option<String> {
        let mut parts = Vec::new();
        let files: usize = self.endings.values().sum();
        if files > 0 {
            let each = self.endings.iter().map(|(ending, n)| match &ending[..] {
                "" => format!("{n} without an ending"),
                ending => format!("{n} .{ending}"),
            });
            let each: Vec<String> = each.collect();
            parts.push(format!(
                "{} of a kind that is not read ({})",
                count(files, "file"),
                each.join(", ")
            ));
        }
        if self.hidden > 0 {
            parts.push(count(self.hidden, "hidden file"));
        }
        if self.outside > 0 {
            let pictures = count(self.outside, "picture");
            parts.push(format!("{pictures} in no folder of a class"));
        }
        if self.loops > 0 {
            let links = count(self.loops, "link");
            parts.push(format!("{links} back to a folder around it"));
        }
        if !self.folders.is_empty() {
            let mut names = self.folders.clone();
            names.sort();
            names.dedup();
            let more = names.len().saturating_sub(5);
            names.truncate(5);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            let folders = if names.len() > 1 { "folders" } else { "folder" };
            parts.push(format!("the {folders} {}{more}", names.join(", ")));
        }
        (!parts.is_empty()).then(|| format!("passed over: {}", parts.join("; ")))
    }

    /// Counts what another walk passed over, too.
    pub(crate) fn add(&mut self, other: Self) {
        for (ending, n) in other.endings {
            *self.endings.entry(ending).or_default() += n;
        }
        self.hidden += other.hidden;
        self.outside += other.outside;
        self.loops += other.loops;
        self.folders.extend(other.folders);
    }

    /// Counts what lies in a folder beside those that are read.
    pub(crate) fn beside(&mut self, dir: &Path, read: &[&Path]) -> Result<(), FolderError> {
        let listing = Listing::of(dir, Rules::V2)?;
        listing.files.iter().for_each(|path| self.outside(path));
        let others = listing
            .folders
            .iter()
            .filter(|path| !read.contains(&path.as_path()));
        others.for_each(|path| self.folder(path));
        Ok(())
    }

    fn file(&mut self, path: &Path) {
        if is_hidden(path) {
            self.hidden += 1;
        } else {
            let ending = path.extension().unwrap_or_default().to_string_lossy();
            *self.endings.entry(ending.to_lowercase()).or_default() += 1;
        }
    }

    pub(super) fn folder(&mut self, path: &Path) {
        self.folders.push(name(path));
    }

    pub(super) fn outside(&mut self, path: &Path) {
        if is_picture(path, Rules::V2) && !is_hidden(path) {
            self.outside += 1;
        } else {
            self.file(path);
        }
    }
}

fn count(n: usize, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}

/// The folders and the files in a folder, each sorted; links are followed.
pub(super) struct Listing {
    pub(super) folders: Vec<PathBuf>,
    pub(super) files: Vec<PathBuf>,
}

impl Listing {
    /// Everything but, under the first rules, what is hidden.
    pub(super) fn of(dir: &Path, rules: Rules) -> Result<Self, FolderError> {
        let io = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => FolderError::Missing { dir: dir.into() },
            _ => FolderError::Io {
                dir: dir.into(),
                source,
            },
        };
        let mut all = Vec::new();
        for entry in fs::read_dir(dir).map_err(io)? {
            all.push(entry.map_err(io)?.path());
        }
        match rules {
            Rules::V1 => {
                all.retain(|path| !is_hidden(path));
                all.sort_by(|a, b| natural(&name(a), &name(b)));
            }
            Rules::V2 => all.sort_by(|a, b| a.file_name().cmp(&b.file_name())),
        }
        let (folders, files) = all.into_iter().partition(|path| path.is_dir());
        Ok(Self { folders, files })
    }

    /// The folders that may hold data; the others are passed over.
    pub(super) fn data_folders(self, rules: Rules, passed: &mut PassedOver) -> Vec<PathBuf> {
        if rules == Rules::V1 {
            return self.folders;
        }
        let (data, others): (Vec<_>, Vec<_>) = self
            .folders
            .into_iter()
            .partition(|path| !is_hidden(path) && !NO_DATA.contains(&&name(path)[..]));
        others.iter().for_each(|path| passed.folder(path));
        data
    }
}

/// The pictures of a folder alone, not of those in it, sorted.
pub(super) fn pictures(
    dir: &Path,
    rules: Rules,
    passed: &mut PassedOver,
) -> Result<Vec<PathBuf>, FolderError> {
    let listing = Listing::of(dir, rules)?;
    listing.folders.iter().for_each(|path| passed.folder(path));
    let mut found = Vec::new();
    take(listing.files, rules, &mut found, passed);
    some(dir, found, passed)
}

/// The pictures of a folder and of all folders in it, in the order of torchvision's `ImageFolder`: by the whole name of
/// the folder, then by the name of the file. Under the first rules, of the folder alone.
pub(super) fn all_pictures(
    dir: &Path,
    rules: Rules,
    passed: &mut PassedOver,
) -> Result<Vec<PathBuf>, FolderError> {
    if rules == Rules::V1 {
        return pictures(dir, rules, passed);
    }
    let mut found = Vec::new();
    walk(dir, &mut Vec::new(), &mut found, passed)?;
    let key = |path: &PathBuf| {
        let parent = path.parent().map(|p| p.as_os_str().to_owned());
        (parent, path.file_name().map(OsStr::to_owned))
    };
    found.sort_by_cached_key(key);
    some(dir, found, passed)
}

/// Collects the pictures under a folder; `around` are the folders that it is in, without links.
fn walk(
    dir: &Path,
    around: &mut Vec<PathBuf>,
    found: &mut Vec<PathBuf>,
    passed: &mut PassedOver,
) -> Result<(), FolderError> {
    let real = fs::canonicalize(dir).map_err(|source| FolderError::Io {
        dir: dir.into(),
        source,
    })?;
    if around.contains(&real) {
        passed.loops += 1;
        return Ok(());
    }
    around.push(real);
    let mut listing = Listing::of(dir, Rules::V2)?;
    let files = std::mem::take(&mut listing.files);
    take(files, Rules::V2, found, passed);
    for folder in listing.data_folders(Rules::V2, passed) {
        walk(&folder, around, found, passed)?;
    }
    around.pop();
    Ok(())
}

fn take(files: Vec<PathBuf>, rules: Rules, found: &mut Vec<PathBuf>, passed: &mut PassedOver) {
    for path in files {
        if is_picture(&path, rules) && !is_hidden(&path) {
            found.push(path);
        } else {
            passed.file(&path);
        }
    }
}

fn some(dir: &Path, found: Vec<PathBuf>, passed: &PassedOver) -> Result<Vec<PathBuf>, FolderError> {
    if found.is_empty() {
        return Err(FolderError::NoPictures {
            dir: dir.into(),
            other: passed
                .endings
                .keys()
                .next()
                .map(|ending| format!(".{ending}")),
        });
    }
    Ok(found)
}

fn is_picture(path: &Path, rules: Rules) -> bool {
    let ending = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    let endings = match rules {
        Rules::V1 => ENDINGS_V1,
        Rules::V2 => ENDINGS,
    };
    endings
        .iter()
        .any(|known| ending.eq_ignore_ascii_case(known))
}

fn is_hidden(path: &Path) -> bool {
    name(path).starts_with('.')
}

pub(super) fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The order of the first rules: numbers within names by their value, the rest by letters.
pub(super) fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let digits =
            |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        match (digits(left), digits(right)) {
            (m, n) if m > 0 && n > 0 => {
                let number =
                    |text: &str, end: usize| text[..end].trim_start_matches('0').to_owned();
                let (x, y) = (number(left, m), number(right, n));
                let order = x.len().cmp(&y.len()).then(x.cmp(&y));
                if order.is_ne() {
                    return order;
                }
                (left, right) = (&left[m..], &right[n..]);
            }
            _ => {
                let (mut l, mut r) = (left.chars(), right.chars());
                match (l.next(), r.next()) {
                    // Names that differ in leading zeros alone still have an order.
                    (None, None) => return a.cmp(b),
                    (x, y) if x != y => return x.cmp(&y),
                    _ => (left, right) = (l.as_str(), r.as_str()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_as_a_person_would() {
        let mut names = [
            "10.png", "b", "2.png", "a10b2", "a2b10", "02.png", "a2b9", "1.png",
        ];
        names.sort_by(|a, b| natural(a, b));
        let expected = [
            "1.png", "02.png", "2.png", "10.png", "a2b9", "a2b10", "a10b2", "b",
        ];
        assert_eq!(names, expected);
    }
}
