//! Matching the names of a file with those of a model.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::error::{Mismatch, Misshapen, Missing, Unexpected};
use super::file::Entry;
use super::module::{Slot, is_counter};
use super::search::{Unreadable, example, is_average};
use super::source::{Outcome, Problem};

/// What wrappers put before every name: `DataParallel`, `torch.compile`.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];
/// What may stand before every name: leading parts of a name, at most so many.
const DEPTH: usize = 4;
/// What may stand before the names, of which that is taken that finds most.
const MAX_PREFIXES: usize = 64;

/// Which entry goes where, and what is left over.
pub(super) struct Plan {
    /// Name in the model to index in the file.
    pub(super) entries: HashMap<String, usize>,
    pub(super) mismatch: Mismatch,
    /// Names in the model that keep their value because the head may differ.
    pub(super) head_kept: Vec<String>,
    /// Entries of the file that belong to something beside the model: a loss, a counter, another network.
    pub(super) beside: Vec<String>,
    /// Other prefixes below which the file has the same weights.
    pub(super) others: Vec<String>,
}

/// How strictly to match.
pub(super) struct Rules<'a> {
    pub(super) allow_head_mismatch: bool,
    /// The layer whose entries may differ; the model's last by default.
    pub(super) head: Option<&'a str>,
}

/// How many of a model's parameters are among these entries.
pub(super) fn hits(slots: &[Slot], entries: &[Entry]) -> usize {
    let known = known(slots);
    let prefixes = prefixes(slots, entries).into_iter();
    let hits = prefixes.map(|prefix| fitting(&matched(&known, entries, &prefix), &known, entries));
    hits.max().unwrap_or(0)
}

type Known<'a> = HashMap<&'a str, &'a Slot>;

fn known(slots: &[Slot]) -> Known<'_> {
    slots
        .iter()
        .map(|slot| (slot.name.as_str(), slot))
        .collect()
}

/// Matches the entries of a file with a model.
///
/// # Errors
///
/// If the file has the weights several times, or what is needed cannot be read.
pub(super) fn plan(
    slots: &[Slot],
    entries: &[Entry],
    unreadable: &[Unreadable],
    rules: &Rules,
) -> Outcome<Plan> {
    let known = known(slots);
    let head = rules.head.or_else(|| head(slots));
    let in_head = |name: &str| head.is_some_and(|head| is_below(name, head));

    let (prefix, others) = prefix(&known, slots, entries)?;
    let mut taken: HashMap<String, usize> = HashMap::new();
    let mut unknown = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        let below = entry.name.strip_prefix(&prefix);
        let name = cleaned(below.unwrap_or(&entry.name), &known);
        if below.is_some() && known.contains_key(&*name) && !taken.contains_key(&*name) {
            taken.insert(name.into_owned(), i);
        } else if !is_counter(&name) {
            unknown.push((name.into_owned(), below.is_some(), i));
        }
    }

    let mut mismatch = Mismatch::default();
    let mut head_kept = Vec::new();
    let mut unused: Vec<&str> = unknown
        .iter()
        .map(|(_, _, i)| entries[*i].name.as_str())
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
        if entry.is_none() {
            let names = |entry: &&Unreadable| {
                let below = entry.name.strip_prefix(&prefix);
                below.is_some_and(|name| cleaned(name, &known) == slot.name)
            };
            if let Some(entry) = unreadable.iter().find(names) {
                return Err(entry.problem());
            }
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
    // What is left over belongs to something else if the model has all that it needs and no part of such a name: a file of
    // a deeper network of the same kind has layers more in the same parts.
    let fits = only_head;
    let parts: HashSet<&str> = known.keys().map(|name| first_part(name)).collect();
    let of_others = |name: &str| others.iter().any(|other| is_below(name, other));
    let mut beside = Vec::new();
    for (name, below, i) in unknown {
        if in_head(&name) && rules.allow_head_mismatch {
            continue;
        }
        if fits && !(below && parts.contains(first_part(&name))) {
            if !of_others(&entries[i].name) {
                beside.push(entries[i].name.clone());
            }
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
    Ok(Plan {
        entries: taken,
        mismatch,
        head_kept,
        beside,
        others,
    })
}

fn first_part(name: &str) -> &str {
    name.split_once('.').map_or(name, |(first, _)| first)
}

/// The last layer of a model: what stands before the last dot of its last parameter's name.
pub(super) fn head(slots: &[Slot]) -> Option<&str> {
    let last = slots.iter().rev().find(|slot| !is_counter(&slot.name))?;
    last.name.rsplit_once('.').map(|(layer, _)| layer)
}

pub(super) fn is_below(name: &str, layer: &str) -> bool {
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

/// Which entry each of a model's parameters would be taken from if this stood before its name.
fn matched<'a>(known: &Known<'a>, entries: &[Entry], prefix: &str) -> BTreeMap<&'a str, usize> {
    let mut matched = BTreeMap::new();
    for (i, entry) in entries.iter().enumerate() {
        let Some(below) = entry.name.strip_prefix(prefix) else {
            continue;
        };
        if let Some((&name, _)) = known.get_key_value(&*cleaned(below, known)) {
            matched.entry(name).or_insert(i);
        }
    }
    matched
}

/// How many of these have the right shape.
fn fitting(matched: &BTreeMap<&str, usize>, known: &Known, entries: &[Entry]) -> usize {
    let fit = |(name, i): &(&&str, &usize)| fits(known[**name], &entries[**i]);
    matched.iter().filter(fit).count()
}

/// What may stand before the model's names in a file: nothing, the first parts of its first name, or what stands before a
/// name that ends as one of the model's.
fn prefixes(slots: &[Slot], entries: &[Entry]) -> Vec<String> {
    let mut prefixes = vec![String::new()];
    let mut add = |prefix: &str| {
        if prefixes.len() < MAX_PREFIXES && !prefixes.iter().any(|known| known == prefix) {
            prefixes.push(prefix.into());
        }
    };
    if let Some(first) = entries.first() {
        let dots = first.name.match_indices('.').map(|(at, _)| at);
        dots.take(DEPTH).for_each(|at| add(&first.name[..=at]));
    }
    let probes = [slots.first(), slots.last()];
    for probe in probes.into_iter().flatten() {
        let mut found: Vec<&str> = entries
            .iter()
            .filter_map(|entry| entry.name.strip_suffix(probe.name.as_str()))
            .filter(|prefix| prefix.ends_with('.'))
            .collect();
        found.sort_by_key(|prefix| prefix.len());
        found.into_iter().take(MAX_PREFIXES).for_each(&mut add);
    }
    prefixes
}

/// What stands before the model's names in a file, and other prefixes that would do as well.
fn prefix(known: &Known, slots: &[Slot], entries: &[Entry]) -> Outcome<(String, Vec<String>)> {
    let mut best: Vec<(String, BTreeMap<&str, usize>)> = Vec::new();
    let mut most = (0, 0);
    for prefix in prefixes(slots, entries) {
        let matched = matched(known, entries, &prefix);
        let score = (fitting(&matched, known, entries), matched.len());
        if score > most || best.is_empty() {
            best = vec![(prefix, matched)];
            most = score;
        } else if score == most && best.iter().all(|(_, other)| *other != matched) {
            best.push((prefix, matched));
        }
    }
    // An average of the weights is second to the weights, and all others are second to those without a prefix.
    let order = |prefix: &str| (is_average(prefix), !prefix.is_empty());
    best.sort_by_key(|(prefix, _)| order(prefix));
    let keys: Vec<String> = best.iter().map(|(prefix, _)| key(prefix)).collect();
    let first = order(&best[0].0);
    let equal = best
        .iter()
        .filter(|(prefix, _)| order(prefix) == first)
        .count();
    // Networks that have little in common with the model are no choice.
    if equal > 1 && 2 * most.0 > slots.len() {
        return Err(Problem::Unsupported(format!(
            "it holds these weights several times, below {}; choose one by its key, as in {}",
            keys[..equal].join(", "),
            example(&keys[0])
        )));
    }
    Ok((best.swap_remove(0).0, keys[1..].to_vec()))
}

/// A prefix without its dot.
fn key(prefix: &str) -> String {
    prefix.trim_end_matches('.').into()
}

/// A file's name as the model would spell it.
fn cleaned<'a>(name: &'a str, known: &Known) -> Cow<'a, str> {
    let mut plain = name;
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
    for wrapper in WRAPPERS {
        let inner = format!(".{wrapper}");
        if plain.contains(&inner) {
            let unwrapped = plain.replace(&inner, ".");
            if known.contains_key(unwrapped.as_str()) {
                return unwrapped.into();
            }
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
