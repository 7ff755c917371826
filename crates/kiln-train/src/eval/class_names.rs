//! The names of a network's outputs, and how the classes of some data are found among them.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;
use unicode_normalization::UnicodeNormalization;

/// The largest file of class names that is read: 16 MiB.
const MAX_BYTES: u64 = 16 << 20;
/// Names of a list that an error shows.
const SHOWN: usize = 20;

/// Why class names could not be read, or do not fit.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClassesError {
    /// The file of class names cannot be read.
    #[error("cannot read the class names in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no class names.
    #[error(
        "{} holds no class names: {problem}; write one name a line, a JSON list of names, or a JSON object of names and \
         indices as torchvision's class_to_idx",
        path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Not one name for each class.
    #[error(
        "{given} class names are given, but the model tells {expected} classes apart; give one name for each, in the order of its outputs"
    )]
    Count {
        /// Names given.
        given: usize,
        /// Classes of the model.
        expected: usize,
    },
    /// The data have classes that the model does not know.
    #[error(
        "the model does not know {} of the data; it knows {}. Rename or remove what is unknown, or, if its outputs have \
         other names, give them with --classes FILE",
        listed(unknown),
        listed(known)
    )]
    Unknown {
        /// Names of the data that are not among the model's.
        unknown: Vec<String>,
        /// The model's classes.
        known: Vec<String>,
    },
    /// Two outputs have the name of one class of the data.
    #[error(
        "two of the model's classes are called {name:?}, so the data's class of that name could be either; give each class its own name with --classes FILE"
    )]
    Ambiguous {
        /// The name.
        name: String,
    },
}

/// Names in the order of a list, the first of them if it is long.
pub(crate) fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("{name:?}"))
        .collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Reads the names of a network's classes, in the order of its outputs, from a file: one name a line, a JSON list of
/// names, or a JSON object that gives each name its index (torchvision's `class_to_idx`) or each index its name.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("classes.json");
/// std::fs::write(&file, r#"{"dog": 1, "cat": 0}"#)?;
/// assert_eq!(kiln_train::read_class_names(&file)?, ["cat", "dog"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`ClassesError::Read`] and [`ClassesError::Content`], which name the file.
pub fn read_class_names(path: impl AsRef<Path>) -> Result<Vec<String>, ClassesError> {
    let path = path.as_ref();
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
        .map_err(|source| ClassesError::Read {
            path: path.into(),
            source,
        })?;
    if text.len() as u64 > MAX_BYTES {
        return Err(ClassesError::Content {
            path: path.into(),
            problem: format!("it is larger than {} MiB", MAX_BYTES >> 20),
        });
    }
    parse(&text).map_err(|problem| ClassesError::Content {
        path: path.into(),
        problem,
    })
}

/// What a file of class names may hold in JSON.
#[derive(Deserialize)]
#[serde(untagged)]
enum Json {
    List(Vec<String>),
    Indices(HashMap<String, usize>),
    Names(HashMap<String, String>),
}

fn parse(text: &str) -> Result<Vec<String>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let names: Vec<String> = match text.trim_start().chars().next() {
        None => return Err("it is empty".into()),
        Some('[' | '{') => match serde_json::from_str(text) {
            Ok(Json::List(names)) => names,
            Ok(Json::Indices(indices)) => {
                by_index(indices.into_iter().map(|(name, index)| (index, name)))?
            }
            Ok(Json::Names(names)) => {
                let number = |(index, name): (String, String)| match index.parse() {
                    Ok(index) => Ok((index, name)),
                    Err(_) => Err(format!("{index:?} is the index of no class")),
                };
                by_index(
                    names
                        .into_iter()
                        .map(number)
                        .collect::<Result<Vec<_>, _>>()?,
                )?
            }
            Err(error) => {
                // What an untagged value says of a wrong entry tells nothing; a mistake in the text is located.
                return Err(match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                    Err(error) => error.to_string(),
                    Ok(_) if error.is_data() => "it is JSON of another kind".into(),
                    Ok(_) => error.to_string(),
                });
            }
        },
        Some(_) => text
            .trim_end()
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect(),
    };
    match names.iter().position(|name| name.trim().is_empty()) {
        Some(at) => Err(format!("name {} is empty", at + 1)),
        None if names.is_empty() => Err("it lists none".into()),
        None => Ok(names),
    }
}

/// Names by their indices, which must be 0, 1, 2 and so on.
fn by_index(entries: impl IntoIterator<Item = (usize, String)>) -> Result<Vec<String>, String> {
    let mut entries: Vec<(usize, String)> = entries.into_iter().collect();
    entries.sort();
    match entries
        .iter()
        .enumerate()
        .find(|(at, (index, _))| at != index)
    {
        Some((at, (index, name))) => Err(format!(
            "{name:?} has index {index}, but {at} should come next: the indices must be 0 to {}, each once",
            entries.len() - 1
        )),
        None => Ok(entries.into_iter().map(|(_, name)| name).collect()),
    }
}

/// For each class of some data its index among the model's, by name. Letters with accents are the same letters
/// whether a file system writes them composed or decomposed.
pub(crate) fn find_classes(model: &[String], data: &[String]) -> Result<Vec<usize>, ClassesError> {
    let composed = |name: &String| name.nfc().collect::<String>();
    let mut indices: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, name) in model.iter().enumerate() {
        indices.entry(composed(name)).or_default().push(index);
    }
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for name in data {
        match indices.get(&composed(name)).map(Vec::as_slice) {
            Some([index]) => found.push(*index),
            Some(_) => return Err(ClassesError::Ambiguous { name: name.clone() }),
            None => unknown.push(name.clone()),
        }
    }
    match unknown.is_empty() {
        true => Ok(found),
        false => Err(ClassesError::Unknown {
            unknown,
            known: model.to_vec(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.into()).collect()
    }

    #[test]
    fn class_names_are_read_from_lines_lists_and_dicts() {
        let expected = names(&["tabby cat", "dog, hound", "été"]);
        for text in [
            "tabby cat\ndog, hound\nété\n",
            "\u{feff}tabby cat\r\ndog, hound  \r\nété",
            r#"["tabby cat", "dog, hound", "été"]"#,
            "\u{feff} [\"tabby cat\",\n \"dog, hound\", \"\\u00e9t\\u00e9\"]\n",
            r#"{"été": 2, "tabby cat": 0, "dog, hound": 1}"#,
            r#"{"2": "été", "0": "tabby cat", "1": "dog, hound"}"#,
        ] {
            assert_eq!(parse(text).as_ref(), Ok(&expected), "{text}");
        }
        // An index is a number, not a text that is sorted as one.
        let twelve: HashMap<String, usize> = (0..12).map(|i| (format!("n{i}"), i)).collect();
        let read = parse(&serde_json::to_string(&twelve).unwrap()).unwrap();
        assert_eq!(read[10], "n10");
    }

    #[test]
    fn files_without_class_names_are_refused_with_what_is_wrong() {
        for (text, problem) in [
            ("", "it is empty"),
            (" \n\n", "it is empty"),
            ("[]", "it lists none"),
            ("{}", "it lists none"),
            ("a\n\nb", "name 2 is empty"),
            (r#"["a", ""]"#, "name 2 is empty"),
            (r#"["a", 3]"#, "JSON of another kind"),
            (r#"{"a": -1}"#, "JSON of another kind"),
            (r#"{"0": ["n01", "tench"]}"#, "JSON of another kind"),
            (r#"{"a": 0, "b": 0}"#, "has index 0, but 1 should come next"),
            (
                r#"{"a": 1, "b": 2}"#,
                "\"a\" has index 1, but 0 should come next",
            ),
            (r#"{"first": "a"}"#, "\"first\" is the index of no class"),
            (r#"["a", "#, "line 1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(problem), "{text:?}: {error}");
        }
    }

    #[test]
    fn classes_are_found_by_name_and_never_by_position() {
        let model = names(&["0", "1", "10", "2", "cafe\u{301}"]);
        let data = names(&["caf\u{e9}", "2", "10"]);
        assert_eq!(find_classes(&model, &data).unwrap(), [4, 3, 2]);
        let error = find_classes(&model, &names(&["2", "pear", "Apple"])).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("does not know \"pear\", \"Apple\" of the data"),
            "{said}"
        );
        assert!(
            said.contains("it knows \"0\", \"1\", \"10\", \"2\""),
            "{said}"
        );
        // ImageNet has two cranes; only who asks for one must be told.
        let cranes = names(&["crane", "crane", "wren"]);
        assert_eq!(find_classes(&cranes, &names(&["wren"])).unwrap(), [2]);
        let error = find_classes(&cranes, &names(&["crane"])).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("two of the model's classes are called \"crane\"")
        );
        let many: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        assert!(listed(&many).ends_with("\"19\" and 80 more"));
    }
}
