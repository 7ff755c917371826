//! Where in a checkpoint the weights are, and what its classes are called.

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::hash_map::Entry::{Occupied, Vacant};

use super::classes;
use super::file::Entry;
use super::pickle::{Id, Pickle, Tensor, Value};
use super::source::{Outcome, Problem};

/// Keys under which training programs keep the weights, in the order in which they are tried.
const KEYS: [&str; 9] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "module",
];

/// Words of keys that hold an average of the weights over the steps of training.
const AVERAGES: [&str; 7] = [
    "ema", "average", "averaged", "avg", "swa", "shadow", "polyak",
];

/// Beginnings of words of keys that hold tensors which are no weights.
const NO_WEIGHTS: [&str; 8] = [
    "optim", "sched", "scaler", "rng", "callback", "loop", "amp", "queue",
];

/// How deep the weights may lie: `{"model": {"state_dict": {..}}}` is two.
const DEPTH: usize = 4;
/// Dicts and lists that are looked into.
const MAX_PLACES: usize = 10_000;
/// Dicts that may be the weights.
const MAX_CANDIDATES: usize = 64;
/// Items of a list that is looked into, such as `(model, optimizer)`.
const MAX_ITEMS: usize = 16;
/// Bytes of a key that leads to weights.
const MAX_KEY: usize = 128;

/// How many of a model's entries a set of entries has.
pub(super) type Fit<'a> = dyn Fn(&[Entry]) -> usize + 'a;

/// How the weights are chosen among all that a file holds.
#[derive(Clone, Copy, Default)]
pub(super) struct Choice<'a> {
    /// Where they lie, if this was said.
    pub(super) key: Option<&'a str>,
    /// How many of a model's parameters these entries have.
    pub(super) fit: Option<&'a Fit<'a>>,
}

/// What was found in a file.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) key: Option<String>,
    pub(super) entries: Vec<Entry>,
    pub(super) unreadable: Vec<Unreadable>,
    /// Other keys, under which there are weights as good.
    pub(super) others: Vec<String>,
    pub(super) classes: Option<Vec<String>>,
}

/// An entry that is no tensor that Kiln reads.
#[derive(Clone, Debug)]
pub(super) struct Unreadable {
    pub(super) name: String,
    pub(super) why: Why,
}

/// Why an entry cannot be read.
#[derive(Clone, Debug)]
pub(super) enum Why {
    /// It is made by this class or function.
    Foreign(String),
    /// It is such a tensor.
    Kind(&'static str),
    /// It has numbers of this type.
    Type(String),
}

impl Unreadable {
    /// The error of who needs it.
    pub(super) fn problem(&self) -> Problem {
        match &self.why {
            Why::Foreign(global) => Problem::ForeignGlobal(global.clone()),
            Why::Kind(why) => {
                Problem::Unsupported(format!("its tensor {} cannot be read: {why}", self.name))
            }
            Why::Type(dtype) => Problem::Unsupported(format!(
                "its tensor {} has the type {dtype}, which Kiln does not read",
                self.name
            )),
        }
    }
}

/// Gives the description of a tensor, checked against the file.
pub(super) type Describe<'a> = &'a dyn Fn(&str, &Tensor) -> Outcome<Entry>;

/// A dict or list, and the way to it from the root: keys joined by dots, nothing for the root itself.
struct Place {
    path: String,
    id: Id,
}

/// Finds the weights.
pub(super) fn find(pickle: &Pickle, choice: Choice, describe: Describe) -> Outcome<Found> {
    let places = places(pickle);
    let candidates: Vec<&Place> = places
        .iter()
        .filter(|place| holds_tensors(pickle, place.id))
        .take(MAX_CANDIDATES)
        .collect();
    let mut found = match choice.key {
        Some(key) => below(pickle, &candidates, key, describe)?,
        None => chosen(pickle, &candidates, choice.fit, describe)?,
    };
    found.classes = named_classes(pickle, &places);
    Ok(found)
}

/// All dicts and lists near the root, from the root down.
fn places(pickle: &Pickle) -> Vec<Place> {
    let mut places = vec![Place {
        path: String::new(),
        id: pickle.root,
    }];
    // A dict may be referred to many times; each is looked through once.
    let mut seen = HashSet::from([pickle.root]);
    let mut level = 0..1;
    for _ in 0..DEPTH {
        for i in level.clone() {
            let (parent, id) = (places[i].path.clone(), places[i].id);
            let mut add = |key: Option<&str>, child: Id| {
                let is_place = matches!(
                    pickle.get(child),
                    Value::Dict(_) | Value::List(_) | Value::Tuple(_) | Value::Object(_)
                );
                if !is_place || places.len() >= MAX_PLACES || !seen.insert(child) {
                    return;
                }
                let path = match (key, parent.is_empty()) {
                    (None, _) => parent.clone(),
                    (Some(key), true) => key.into(),
                    (Some(key), false) => format!("{parent}.{key}"),
                };
                places.push(Place { path, id: child });
            };
            if let Some(dict) = pickle.dict(id) {
                for &(key, child) in dict {
                    if let Some(key) = pickle.text(key).filter(|key| key.len() <= MAX_KEY) {
                        add(Some(key), child);
                    }
                }
            }
            match pickle.get(id) {
                Value::List(items) if items.len() <= MAX_ITEMS => {
                    let items = items.iter().enumerate();
                    items.for_each(|(i, &item)| add(Some(&i.to_string()), item));
                }
                Value::Tuple(items) if items.len() <= MAX_ITEMS => {
                    let items = items.iter().enumerate();
                    items.for_each(|(i, &item)| add(Some(&i.to_string()), item));
                }
                Value::Object(object) => {
                    if let Some(state) = object.state {
                        add(None, state);
                    }
                }
                _ => {}
            }
        }
        level = level.end..places.len();
    }
    places
}

fn is_tensor(pickle: &Pickle, id: Id) -> bool {
    matches!(pickle.get(id), Value::Tensor(_)) || pickle.unreadable(id).is_some()
}

fn holds_tensors(pickle: &Pickle, id: Id) -> bool {
    let dict = pickle.dict(id).unwrap_or_default();
    dict.iter()
        .any(|&(key, value)| is_tensor(pickle, value) && pickle.text(key).is_some())
}

/// The entries of a dict whose names begin with `prefix`, without it.
fn entries(pickle: &Pickle, place: &Place, prefix: &str, describe: Describe) -> Outcome<Found> {
    // As in Python, the last value of a name counts.
    let mut index: HashMap<&str, usize> = HashMap::new();
    let mut values: Vec<(&str, Id)> = Vec::new();
    for &(name, value) in pickle.dict(place.id).unwrap_or_default() {
        let Some(name) = pickle.text(name).and_then(|name| name.strip_prefix(prefix)) else {
            continue;
        };
        match index.entry(name) {
            Occupied(place) => values[*place.get()].1 = value,
            Vacant(place) => {
                place.insert(values.len());
                values.push((name, value));
            }
        }
    }
    let mut found = Found {
        key: (!place.path.is_empty()).then(|| place.path.clone()),
        ..Found::default()
    };
    for (name, value) in values {
        let why = match pickle.get(value) {
            Value::Tensor(tensor) => {
                found.entries.push(describe(name, tensor)?);
                continue;
            }
            _ => match (pickle.unreadable(value), pickle.foreign(value)) {
                (Some(why), _) => Why::Kind(why),
                (None, Some(global)) => Why::Foreign(global.into()),
                // A counter of epochs, a list of mask values and the like may stand beside the weights.
                (None, None) => continue,
            },
        };
        let name = name.into();
        found.unreadable.push(Unreadable { name, why });
    }
    Ok(found)
}

/// The weights below a key: a dict, or names that begin so.
fn below(pickle: &Pickle, candidates: &[&Place], key: &str, describe: Describe) -> Outcome<Found> {
    if let Some(place) = candidates.iter().find(|place| place.path == key) {
        return entries(pickle, place, "", describe);
    }
    for place in candidates {
        let rest = match place.path.as_str() {
            "" => Some(key),
            path => key
                .strip_prefix(path)
                .and_then(|rest| rest.strip_prefix('.')),
        };
        let Some(rest) = rest else { continue };
        let mut found = entries(pickle, place, &format!("{rest}."), describe)?;
        if !found.entries.is_empty() {
            found.key = Some(key.into());
            return Ok(found);
        }
    }
    // Names are also told without the key of the dict that they are in.
    for place in candidates.iter().filter(|place| !place.path.is_empty()) {
        let mut found = entries(pickle, place, &format!("{key}."), describe)?;
        if !found.entries.is_empty() {
            found.key = Some(format!("{}.{key}", place.path));
            return Ok(found);
        }
    }
    if let Some(problem) = foreign_at(pickle, key) {
        return Err(problem);
    }
    let mut names: Vec<&str> = candidates.iter().map(|place| place.path.as_str()).collect();
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    Err(Problem::Unsupported(format!(
        "it has no dict of weights under '{key}'; there are: {}",
        listed(&names)
    )))
}

/// Why the foreign object at a key of the root, if there is one, gives no weights.
fn foreign_at(pickle: &Pickle, key: &str) -> Option<Problem> {
    let root = pickle.dict(pickle.root)?;
    let mut values = root
        .iter()
        .filter(|(name, _)| pickle.text(*name) == Some(key));
    values.find_map(|&(_, value)| foreign(pickle, value, Some(key)))
}

/// Why a foreign object gives no weights, at a key of the root or as the root itself.
fn foreign(pickle: &Pickle, id: Id, key: Option<&str>) -> Option<Problem> {
    let global = pickle.foreign(id)?;
    let state = match pickle.get(id) {
        Value::Object(object) => object.state.and_then(|state| pickle.dict(state)),
        _ => None,
    };
    // What every `torch.nn.Module` has.
    let is_part = |name: &Id| matches!(pickle.text(*name), Some("_modules" | "_parameters"));
    if !state.is_some_and(|state| state.iter().any(|(name, _)| is_part(name))) {
        return Some(Problem::ForeignGlobal(global.into()));
    }
    // Nothing but a plain key may get into a command that people copy.
    let is_plain = |key: &&str| key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let entry = key.map_or(String::new(), |key| {
        format!("['{}']", Some(key).filter(is_plain).unwrap_or("KEY"))
    });
    Some(Problem::Unsupported(format!(
        "it holds a whole model, an object of the class {global}, which Kiln does not make; if you trust the file, PyTorch takes \
         the weights out of it where that class can be imported: python -c \"import torch; torch.save(torch.load('FILE', \
         map_location='cpu', weights_only=False){entry}.state_dict(), 'weights.pth')\""
    )))
}

/// How likely a dict holds the weights by its key alone; the lowest wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// A usual key, by its place in [`KEYS`].
    Usual(usize, usize),
    Root,
    Unknown,
    Average,
    NoWeights,
}

fn rank(path: &str) -> Rank {
    if path.is_empty() {
        return Rank::Root;
    }
    let usual = |part: &str| KEYS.iter().position(|key| *key == part);
    let parts: Vec<Option<usize>> = path.split('.').map(usual).collect();
    if let Some(first) = parts[0]
        && parts.iter().all(Option::is_some)
    {
        return Rank::Usual(parts.len(), first);
    }
    let lower = path.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_ascii_alphanumeric());
    if words
        .clone()
        .any(|word| NO_WEIGHTS.iter().any(|no| word.starts_with(no)))
    {
        return Rank::NoWeights;
    }
    match words.any(|word| AVERAGES.contains(&word)) {
        true => Rank::Average,
        false => Rank::Unknown,
    }
}

/// Whether a name or key belongs to an average of the weights.
pub(super) fn is_average(path: &str) -> bool {
    rank(path.trim_end_matches('.')) == Rank::Average
}

/// The dict that fits a model best or, without a model, the one with the most usual key.
fn chosen(
    pickle: &Pickle,
    candidates: &[&Place],
    fit: Option<&Fit<'_>>,
    describe: Describe,
) -> Outcome<Found> {
    if candidates.is_empty() {
        return Err(nothing(pickle));
    }
    let mut best = candidates.to_vec();
    if let Some(fit) = fit {
        let score = |place: &Place| match entries(pickle, place, "", describe) {
            Ok(found) => fit(&found.entries),
            // Damaged or unreadable: nothing that is wanted, unless there is nothing else.
            Err(_) => 0,
        };
        let scores: Vec<usize> = candidates.iter().map(|place| score(place)).collect();
        let most = scores.iter().copied().max().unwrap_or(0);
        let scored = candidates.iter().zip(scores);
        best = scored
            .filter(|(_, score)| *score == most)
            .map(|(place, _)| *place)
            .collect();
    }
    let first = best.iter().map(|place| rank(&place.path)).min();
    let mut usual = best.iter().filter(|place| Some(rank(&place.path)) == first);
    let (place, rest) = (usual.next(), usual.count());
    let Some(place) = place.filter(|_| rest == 0 && first != Some(Rank::NoWeights)) else {
        let mut names: Vec<&str> = best.iter().map(|place| place.path.as_str()).collect();
        names.sort_unstable();
        if let [name] = names[..] {
            return Err(Problem::Unsupported(format!(
                "it holds tensors under '{name}' alone, which is not a key of weights; if they are the weights, take {}",
                example(name)
            )));
        }
        return Err(Problem::Unsupported(format!(
            "it holds several dicts of weights, and which one is meant is not clear: {}; choose one by its key, as in {}",
            listed(&names),
            example(names[0]),
        )));
    };
    let mut found = entries(pickle, place, "", describe)?;
    if fit.is_some() {
        let others = best.iter().map(|other| &other.path);
        found.others = others
            .filter(|path| **path != place.path && !path.is_empty())
            .cloned()
            .collect();
    }
    Ok(found)
}

/// How a key is given.
pub(super) fn example(key: &str) -> String {
    format!("FILE#{key}")
}

/// Why a file without a single tensor in a dict is none of weights.
fn nothing(pickle: &Pickle) -> Problem {
    let root = pickle.root;
    if let Some(problem) = foreign(pickle, root, None) {
        return problem;
    }
    if let Some(dict) = pickle.dict(root) {
        let usual = |key: Id| pickle.text(key).is_some_and(|key| KEYS.contains(&key));
        let of_entries = |usual_only: bool| {
            let mut entries = dict.iter().filter(|(key, _)| !usual_only || usual(*key));
            entries.find_map(|&(key, value)| {
                foreign(pickle, value, Some(pickle.text(key).unwrap_or("KEY")))
            })
        };
        let problem = of_entries(true).or_else(|| of_entries(false));
        return problem.unwrap_or_else(|| {
            Problem::Unsupported("it holds a dict without a single tensor in it".into())
        });
    }
    let what = match pickle.get(root) {
        Value::Tensor(_) => "a single tensor",
        Value::List(_) | Value::Tuple(_) => "a list",
        _ if pickle.unreadable(root).is_some() => "a single tensor",
        _ => "a plain value",
    };
    Problem::Unsupported(format!(
        "it holds {what}, not a dict of names and tensors (a state_dict)"
    ))
}

/// At most ten names.
fn listed(keys: &[&str]) -> String {
    let shown: Vec<&str> = keys
        .iter()
        .take(10)
        .map(|key| {
            if key.is_empty() {
                "(the file itself)"
            } else {
                *key
            }
        })
        .collect();
    match keys.len() {
        0 => "none".into(),
        1..=10 => shown.join(", "),
        _ => format!("{}, ...", shown.join(", ")),
    }
}

/// The names of the classes, from the first dict that has them.
fn named_classes(pickle: &Pickle, places: &[Place]) -> Option<Vec<String>> {
    let dicts = places.iter().filter_map(|place| pickle.dict(place.id));
    let mut entries = dicts.flatten();
    entries.find_map(|&(key, value)| {
        let key = pickle.text(key)?;
        classes::is_key(key).then(|| class_list(pickle, value))?
    })
}

/// A list of names, or a dict of names and numbers.
fn class_list(pickle: &Pickle, id: Id) -> Option<Vec<String>> {
    let text = |id: &Id| pickle.text(*id).map(String::from);
    match pickle.get(id) {
        Value::List(items) => classes::listed(items.iter().map(text)),
        Value::Tuple(items) => classes::listed(items.iter().map(text)),
        _ => classes::numbered(pickle.dict(id)?.iter().map(|&(key, value)| {
            match (pickle.get(key), pickle.get(value)) {
                (Value::Text(name), &Value::Int(number))
                | (&Value::Int(number), Value::Text(name)) => Some((number, name.to_string())),
                (Value::Text(number), Value::Text(name)) => {
                    Some((number.parse().ok()?, name.to_string()))
                }
                _ => None,
            }
        })),
    }
}
