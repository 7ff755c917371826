//! Matching the names of a file with those of a model.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::error::{Mismatch, Misshapen, Missing, Unexpected};
use super::file::Entry;
use super::module::{Slot, is_counter};

/// What wrappers put before every name: `DataParallel`, `torch.compile`.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];
/// Names of a model's attribute in a training program, which may stand before every name.
const DEPTH: usize = 4;

/// Which entry goes where, and what is left over.
pub(super) struct Plan {
    /// Name in the model to index in the file.
    pub(super) entries: HashMap<String, usize>,
    pub(super) mismatch: Mismatch,
    /// Names in the model that keep their value because the head may differ.
    pub(super) head_kept: Vec<String>,
}

/// How strictly to match.
pub(super) struct Rules<'a> {
    pub(super) allow_head_mismatch: bool,
    /// The layer whose entries may differ; the model's last by default.
    pub(super) head: Option<&'a str>,
}

pub(super) fn plan(slots: &[Slot], entries: &[Entry], rules: &Rules) -> Plan {
    let known: HashMap<&str, &Slot> = slots
        .iter()
        .map(|slot| (slot.name.as_str(), slot))
        .collect();
    let head = rules.head.or_else(|| head(slots));
    let in_head = |name: &str| head.is_some_and(|head| is_below(name, head));

    let mut taken: HashMap<String, usize> = HashMap::new();
    let mut unexpected = Vec::new();
    let prefix = prefix_len(&known, entries);
    for (i, entry) in entries.iter().enumerate() {
        let name = cleaned(&entry.name, prefix, &known);
        if known.contains_key(&*name) && !taken.contains_key(&*name) {
            taken.insert(name.into_owned(), i);
        } else if !is_counter(&name) {
            unexpected.push((name.into_owned(), i));
        }
    }

    let mut mismatch = Mismatch::default();
    let mut head_kept = Vec::new();
    let mut unused: Vec<&str> = unexpected
        .iter()
        .map(|(_, i)| entries[*i].name.as_str())
        .collect();
    unused.sort_unstable();
    let mut nearest = Nearest::new(&unused);
    // Whether all that differs is the head, so that leaving it out would do.
    let mut only_head = true;
    for slot in slots {
        let entry = taken.get(&slot.name).map(|&i| &entries[i]);
        if entry.is_some_and(|entry| fits(slot, entry)) || entry.is_none() && is_counter(&slot.name)
        {
            continue;
        }
        taken.remove(&slot.name);
        let excusable =
            in_head(&slot.name) && entry.is_none_or(|entry| differs_in_classes(slot, entry));
        if excusable && rules.allow_head_mismatch {
            head_kept.push(slot.name.clone());
            continue;
        }
        only_head &= excusable;
        match entry {
            Some(entry) => mismatch.misshapen.push(Misshapen {
                name: slot.name.clone(),
                file: entry.shape.clone(),
                model: slot.shape.clone(),
            }),
            None => mismatch.missing.push(Missing {
                name: slot.name.clone(),
                shape: slot.shape.clone(),
                nearest: nearest.of(&slot.name),
            }),
        }
    }
    for (name, i) in unexpected {
        if in_head(&name) && rules.allow_head_mismatch {
            continue;
        }
        only_head &= in_head(&name);
        mismatch.unexpected.push(Unexpected {
            name: entries[i].name.clone(),
            shape: entries[i].shape.clone(),
        });
    }
    if only_head && !mismatch.is_empty() && slots.iter().any(|slot| !in_head(&slot.name)) {
        mismatch.head = head.map(Into::into);
    }
    Plan {
        entries: taken,
        mismatch,
        head_kept,
    }
}

/// The last layer of a model: what stands before the last dot of its last parameter's name.
fn head(slots: &[Slot]) -> Option<&str> {
    let last = slots.iter().rev().find(|slot| !is_counter(&slot.name))?;
    last.name.rsplit_once('.').map(|(layer, _)| layer)
}

fn is_below(name: &str, layer: &str) -> bool {
    name.strip_prefix(layer)
        .is_some_and(|rest| rest.starts_with('.'))
}

fn fits(slot: &Slot, entry: &Entry) -> bool {
    // A counter is a scalar, but was an array of one in some files.
    slot.shape == entry.shape
        || is_counter(&slot.name) && entry.shape.iter().product::<usize>() == 1
}

/// Whether only the number of classes differs, the first axis.
fn differs_in_classes(slot: &Slot, entry: &Entry) -> bool {
    slot.shape.len() == entry.shape.len() && slot.shape.get(1..) == entry.shape.get(1..)
}

/// How many leading parts of its names a file has on top of the model's: the number that finds most.
fn prefix_len(known: &HashMap<&str, &Slot>, entries: &[Entry]) -> usize {
    let Some(first) = entries.first() else {
        return 0;
    };
    let hits = |parts: usize| {
        let found = entries
            .iter()
            .filter(|entry| known.contains_key(&*cleaned(&entry.name, parts, known)));
        found.count()
    };
    let mut best = (0, hits(0));
    let mut prefix = String::new();
    for (parts, part) in first.name.split('.').take(DEPTH).enumerate() {
        prefix.push_str(part);
        prefix.push('.');
        // It stands before every name, or it is part of the names.
        if !entries.iter().all(|entry| entry.name.starts_with(&prefix)) {
            break;
        }
        let found = hits(parts + 1);
        if found > best.1 {
            best = (parts + 1, found);
        }
    }
    best.0
}

/// A file's name as the model would spell it.
fn cleaned<'a>(name: &'a str, prefix: usize, known: &HashMap<&str, &Slot>) -> Cow<'a, str> {
    let mut plain = name;
    for _ in 0..prefix {
        plain = plain.split_once('.').map_or(plain, |(_, rest)| rest);
    }
    while !known.contains_key(plain)
        && let Some(rest) = WRAPPERS
            .into_iter()
            .find_map(|wrapper| plain.strip_prefix(wrapper))
    {
        plain = rest;
    }
    if known.contains_key(plain) {
        return plain.into();
    }
    // torch.compile and the like may wrap a part of the model only.
    if plain.contains("._orig_mod.") {
        let unwrapped = plain.replace("._orig_mod.", ".");
        if known.contains_key(unwrapped.as_str()) {
            return unwrapped.into();
        }
    }
    match old_densenet(plain) {
        Some(renamed) if known.contains_key(renamed.as_str()) => renamed.into(),
        _ => plain.into(),
    }
}

/// torchvision's DenseNet files of 2017 have `denselayer1.norm.1.weight` for `denselayer1.norm1.weight`, as a dot
/// was still allowed in a module's name.
fn old_densenet(name: &str) -> Option<String> {
    for layer in [".norm", ".conv"] {
        for number in [".1.", ".2."] {
            if let Some(at) = name.find(&format!("{layer}{number}")) {
                let (before, after) = name.split_at(at + layer.len());
                return Some(format!("{before}{}", &after[1..]));
            }
        }
    }
    None
}

/// The most similar of the names that nobody wanted, for the first few questions: comparing all with all would take
/// long for two different networks.
struct Nearest<'a> {
    names: &'a [&'a str],
    given: HashSet<&'a str>,
    questions: usize,
}

/// Share of letters that must agree.
const SIMILAR: f64 = 0.6;

impl<'a> Nearest<'a> {
    fn new(names: &'a [&'a str]) -> Self {
        Self {
            names: &names[..names.len().min(2000)],
            given: HashSet::new(),
            questions: 32,
        }
    }

    fn of(&mut self, name: &str) -> Option<String> {
        self.questions = self.questions.checked_sub(1)?;
        let scored = self
            .names
            .iter()
            .filter(|near| near.len() < 256 && !self.given.contains(**near));
        let scored = scored.map(|near| (strsim::normalized_levenshtein(name, near), *near));
        let (score, near) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
        if score < SIMILAR {
            return None;
        }
        self.given.insert(near);
        Some(near.into())
    }
}
