use std::sync::Arc;

use crate::distribution::{Distribution, ParamValue};

/// One suggested parameter.
///
/// Names and distributions are shared between the trials of a study, so that ten thousand trials stay small and
/// equal distributions are mostly the same pointer.
#[derive(Debug, Clone)]
pub struct Param {
    /// The name.
    pub name: Arc<str>,
    /// The internal value: the number itself, or the index of the choice.
    pub internal: f64,
    /// The distribution it was suggested from.
    pub distribution: Arc<Distribution>,
}

impl Param {
    /// The value as the user sees it.
    #[must_use]
    pub fn value(&self) -> ParamValue {
        self.distribution.to_external(self.internal)
    }
}

impl PartialEq for Param {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.internal == other.internal
            && same(&self.distribution, &other.distribution)
    }
}

/// The parameters of a trial in the order in which they were suggested.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Params {
    items: Vec<Param>,
}

impl Params {
    /// No parameter.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The parameter of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.items.iter().find(|param| &*param.name == name)
    }

    /// The external value of a parameter.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<ParamValue> {
        self.get(name).map(Param::value)
    }

    /// The internal value of a parameter.
    #[must_use]
    pub fn internal(&self, name: &str) -> Option<f64> {
        self.get(name).map(|param| param.internal)
    }

    /// Whether there is a parameter of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Appends a parameter, or replaces the one of the same name in its place.
    pub fn insert(&mut self, name: Arc<str>, internal: f64, distribution: Arc<Distribution>) {
        let param = Param {
            name,
            internal,
            distribution,
        };
        match self.items.iter_mut().find(|old| old.name == param.name) {
            Some(old) => *old = param,
            None => self.items.push(param),
        }
    }

    /// The parameters in suggest order.
    pub fn iter(&self) -> std::slice::Iter<'_, Param> {
        self.items.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl<'a> IntoIterator for &'a Params {
    type Item = &'a Param;
    type IntoIter = std::slice::Iter<'a, Param>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The names and distributions which a sampler samples together, in a fixed order.
#[derive(Debug, Clone, Default)]
pub struct ParamSpace {
    items: Vec<(Arc<str>, Arc<Distribution>)>,
}

impl ParamSpace {
    /// The empty space.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The distribution of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Distribution>> {
        self.items
            .iter()
            .find(|(n, _)| &**n == name)
            .map(|(_, d)| d)
    }

    /// Whether the name is part of the space.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Appends a name, or replaces its distribution.
    pub fn insert(
        &mut self,
        name: impl Into<Arc<str>>,
        distribution: impl Into<Arc<Distribution>>,
    ) {
        let (name, distribution) = (name.into(), distribution.into());
        match self.items.iter_mut().find(|(n, _)| *n == name) {
            Some(item) => item.1 = distribution,
            None => self.items.push((name, distribution)),
        }
    }

    /// Removes a name.
    pub fn remove(&mut self, name: &str) {
        self.items.retain(|(n, _)| &**n != name);
    }

    /// Keeps the entries for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &Distribution) -> bool) {
        self.items
            .retain(|(name, distribution)| keep(name, distribution));
    }

    /// Keeps the entries for which `keep` holds; it may compare the shared pointer.
    pub(crate) fn retain_shared(&mut self, mut keep: impl FnMut(&str, &Arc<Distribution>) -> bool) {
        self.items
            .retain(|(name, distribution)| keep(name, distribution));
    }

    /// Sorts by name.
    pub fn sort(&mut self) {
        self.items.sort_by(|a, b| a.0.cmp(&b.0));
    }

    /// The entries in order.
    pub fn iter(&self) -> std::slice::Iter<'_, (Arc<str>, Arc<Distribution>)> {
        self.items.iter()
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl PartialEq for ParamSpace {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self
                .iter()
                .zip(other.iter())
                .all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1))
    }
}

impl<N: Into<Arc<str>>, D: Into<Arc<Distribution>>> FromIterator<(N, D)> for ParamSpace {
    fn from_iter<I: IntoIterator<Item = (N, D)>>(items: I) -> Self {
        let mut space = Self::new();
        for (name, distribution) in items {
            space.insert(name, distribution);
        }
        space
    }
}

/// Equality of shared distributions; the same pointer decides without looking.
pub(crate) fn same(a: &Arc<Distribution>, b: &Arc<Distribution>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}
