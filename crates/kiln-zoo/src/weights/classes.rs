//! The names of the classes that weight files carry.

use serde_json::Value;

/// Names that a file may have at most.
const MAX_CLASSES: usize = 1_000_000;

/// Whether a key is one that class names are kept under.
pub(super) fn is_key(key: &str) -> bool {
    let plain = key.to_lowercase().replace(['-', ' '], "_");
    matches!(
        plain.as_str(),
        "classes"
            | "class_names"
            | "classnames"
            | "class_name"
            | "class_list"
            | "class_labels"
            | "class_to_idx"
            | "class_to_index"
            | "class2idx"
            | "idx_to_class"
            | "index_to_class"
            | "idx2class"
            | "index_to_name"
            | "idx_to_label"
            | "label_to_idx"
            | "id2label"
            | "label2id"
            | "names"
            | "label_names"
            | "labels"
            | "categories"
    )
}

/// Names in their order; none unless all are there and differ.
pub(super) fn listed(names: impl ExactSizeIterator<Item = Option<String>>) -> Option<Vec<String>> {
    if names.len() == 0 || names.len() > MAX_CLASSES {
        return None;
    }
    distinct(names.collect::<Option<_>>()?)
}

/// Names by their numbers, which must be 0, 1, ... without a gap.
pub(super) fn numbered(
    names: impl ExactSizeIterator<Item = Option<(i64, String)>>,
) -> Option<Vec<String>> {
    let len = names.len();
    if len == 0 || len > MAX_CLASSES {
        return None;
    }
    let mut places: Vec<Option<String>> = vec![None; len];
    for name in names {
        let (number, name) = name?;
        let place = places.get_mut(usize::try_from(number).ok()?)?;
        if place.replace(name).is_some() {
            return None;
        }
    }
    distinct(places.into_iter().collect::<Option<_>>()?)
}

fn distinct(names: Vec<String>) -> Option<Vec<String>> {
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_unstable();
    let differ = sorted.windows(2).all(|pair| pair[0] != pair[1]);
    differ.then_some(names)
}

/// The names in the text of a file's metadata: JSON of a list or a dict, or names with commas or line ends between them.
pub(super) fn of_text(text: &str) -> Option<Vec<String>> {
    match serde_json::from_str(text) {
        Ok(Value::Array(items)) => listed(
            items
                .into_iter()
                .map(|item| Some(item.as_str()?.to_owned())),
        ),
        Ok(Value::Object(entries)) => {
            numbered(entries.into_iter().map(|(key, value)| match value {
                Value::Number(number) => Some((number.as_i64()?, key)),
                Value::String(name) => Some((key.parse().ok()?, name)),
                _ => None,
            }))
        }
        Ok(_) => None,
        Err(_) => {
            let separator = if text.contains('\n') { '\n' } else { ',' };
            let names: Vec<_> = text.split(separator).map(str::trim).collect();
            let names = names.into_iter();
            listed(names.map(|name| (!name.is_empty()).then(|| name.to_owned())))
        }
    }
}
