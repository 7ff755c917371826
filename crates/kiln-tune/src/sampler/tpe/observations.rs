//! The observations of one joint space, in a form from which both densities are made without sorting.

use std::sync::Arc;

use crate::error::Result;
use crate::parzen::{
    Bandwidth, CategoricalKernels, Column, NumericKernels, NumericRange, ParzenEstimator,
    ParzenOptions, to_index,
};
use crate::trial::{FrozenTrial, ParamSpace};

/// Values of the finished trials which have all parameters of a space. Arrays are indexed by the position of a trial
/// in the study.
pub(super) struct Observations {
    names: Vec<(Arc<str>, Kind)>,
    /// Positions of the trials which have all names, ascending.
    members: Vec<u32>,
    columns: Vec<Series>,
    /// How many of the finished trials are taken in.
    seen: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Linear,
    Log,
    Categorical,
}

/// The values of one parameter.
struct Series {
    /// On the scale of the kernels; NaN for trials which are no members.
    values: Vec<f64>,
    /// Members sorted by value, equal ones by position.
    order: Vec<u32>,
    /// The bandwidth and normalization last computed for each trial; they rarely change.
    memo: Vec<(f64, f64)>,
    memo_range: Option<NumericRange>,
}

/// Buffers that are used again and again.
#[derive(Default)]
pub(super) struct Scratch {
    is_below: Vec<bool>,
    /// The kernel of each trial.
    kernel_of: Vec<u32>,
    sorted: Vec<f64>,
    /// The trial of each sorted value, as a position or, for a running one, counted from the end.
    sorted_trial: Vec<u32>,
    pool: Vec<NumericKernels>,
}

impl Scratch {
    /// Notes which trials are below.
    pub fn mark(&mut self, n_trials: usize, below: &[u32]) {
        self.is_below.clear();
        self.is_below.resize(n_trials, false);
        for position in below {
            self.is_below[*position as usize] = true;
        }
    }

    /// Takes back the memory of an estimator.
    pub fn recycle(&mut self, estimator: ParzenEstimator) {
        for column in estimator.into_columns() {
            if let Column::Numeric(kernels) = column {
                self.pool.push(kernels);
            }
        }
    }
}

impl Observations {
    pub fn new(space: &ParamSpace) -> Self {
        let names: Vec<_> = space
            .iter()
            .map(|(name, distribution)| (name.clone(), kind(distribution)))
            .collect();
        let series = || Series {
            values: Vec::new(),
            order: Vec::new(),
            memo: Vec::new(),
            memo_range: None,
        };
        let columns = names.iter().map(|_| series()).collect();
        Self {
            names,
            members: Vec::new(),
            columns,
            seen: 0,
        }
    }

    /// Whether these are the observations of a space with these names and scales. Ranges may differ.
    pub fn is_of(&self, space: &ParamSpace) -> bool {
        self.names.len() == space.len()
            && self
                .names
                .iter()
                .zip(space.iter())
                .all(|((name, own), (other, distribution))| {
                    name == other && *own == kind(distribution)
                })
    }

    /// Takes in the finished trials that are new.
    pub fn update(&mut self, finished: &[u32], trials: &[Arc<FrozenTrial>]) {
        let news = &finished[self.seen..];
        self.seen = finished.len();
        let mut values = Vec::with_capacity(self.names.len());
        for column in &mut self.columns {
            column.values.resize(trials.len(), f64::NAN);
            column.memo.resize(trials.len(), (f64::NAN, f64::NAN));
        }
        let first_new = self.members.len();
        for position in news {
            let params = &trials[*position as usize].params;
            values.clear();
            values.extend(
                self.names
                    .iter()
                    .map_while(|(name, kind)| Some(kind.scale(params.internal(name)?))),
            );
            if values.len() < self.names.len() {
                continue;
            }
            self.members.push(*position);
            for (column, value) in self.columns.iter_mut().zip(&values) {
                column.values[*position as usize] = *value;
            }
        }
        let new_members = self.members[first_new..].to_vec();
        self.members.sort_unstable();
        for (column, (_, kind)) in self.columns.iter_mut().zip(&self.names) {
            if *kind != Kind::Categorical {
                column.insert(&new_members);
            }
        }
    }

    /// The density of the marked trials.
    pub fn below(
        &mut self,
        space: &ParamSpace,
        weights: impl Fn(usize) -> Result<Vec<f64>>,
        options: ParzenOptions,
        scratch: &mut Scratch,
    ) -> Result<ParzenEstimator> {
        self.estimator(space, true, &[], weights, options, scratch)
    }

    /// The density of all other trials, with the values of running ones.
    pub fn above(
        &mut self,
        space: &ParamSpace,
        running: &[(u32, Vec<f64>)],
        weights: impl Fn(usize) -> Result<Vec<f64>>,
        options: ParzenOptions,
        scratch: &mut Scratch,
    ) -> Result<ParzenEstimator> {
        self.estimator(space, false, running, weights, options, scratch)
    }

    #[allow(clippy::cast_possible_truncation)]
    fn estimator(
        &mut self,
        space: &ParamSpace,
        want_below: bool,
        running: &[(u32, Vec<f64>)],
        weights: impl Fn(usize) -> Result<Vec<f64>>,
        options: ParzenOptions,
        scratch: &mut Scratch,
    ) -> Result<ParzenEstimator> {
        // Kernels are numbered in the order of trials, finished and running ones together.
        scratch.kernel_of.clear();
        scratch.kernel_of.resize(scratch.is_below.len(), u32::MAX);
        let mut n = 0;
        let mut waiting = running.iter().map(|(position, _)| *position).peekable();
        for position in self.members.iter().copied() {
            if scratch.is_below[position as usize] != want_below {
                continue;
            }
            while let Some(earlier) = waiting.next_if(|running| *running < position) {
                scratch.kernel_of[earlier as usize] = n;
                n += 1;
            }
            scratch.kernel_of[position as usize] = n;
            n += 1;
        }
        for position in waiting {
            scratch.kernel_of[position as usize] = n;
            n += 1;
        }

        let n = n as usize;
        let mut columns = Vec::with_capacity(space.len());
        for (i, (_, distribution)) in space.iter().enumerate() {
            let running: Vec<(u32, f64)> = running
                .iter()
                .map(|(position, values)| (*position, self.names[i].1.scale(values[i])))
                .collect();
            let series = &mut self.columns[i];
            columns.push(match &**distribution {
                crate::distribution::Distribution::Categorical(d) => {
                    let mut observed = vec![0; n];
                    for position in &self.members {
                        if scratch.is_below[*position as usize] == want_below {
                            let kernel = scratch.kernel_of[*position as usize] as usize;
                            observed[kernel] = to_index(series.values[*position as usize]);
                        }
                    }
                    for (position, value) in running {
                        observed[scratch.kernel_of[position as usize] as usize] = to_index(value);
                    }
                    Column::Categorical(CategoricalKernels::new(
                        d.choices().len(),
                        observed,
                        options.prior_weight,
                    ))
                }
                _ => {
                    let range = NumericRange::of(distribution);
                    Column::Numeric(
                        series.kernels(range, n, want_below, &running, options, scratch),
                    )
                }
            });
        }
        Ok(ParzenEstimator::from_parts(
            weights(n)?,
            options.prior_weight,
            columns,
        ))
    }
}

impl Series {
    /// Sorts new members in: one by one when there are few, all at once otherwise.
    fn insert(&mut self, new_members: &[u32]) {
        let Self { values, order, .. } = self;
        let compare = |a: &u32, b: &u32| {
            values[*a as usize]
                .total_cmp(&values[*b as usize])
                .then(a.cmp(b))
        };
        if new_members.len() > 8 {
            order.extend_from_slice(new_members);
            order.sort_unstable_by(compare);
            return;
        }
        for member in new_members {
            let at = order.partition_point(|other| compare(other, member).is_lt());
            order.insert(at, *member);
        }
    }

    fn kernels(
        &mut self,
        range: NumericRange,
        n: usize,
        want_below: bool,
        running: &[(u32, f64)],
        options: ParzenOptions,
        scratch: &mut Scratch,
    ) -> NumericKernels {
        let Scratch {
            is_below,
            kernel_of,
            sorted,
            sorted_trial,
            pool,
        } = scratch;
        sorted.clear();
        sorted_trial.clear();
        for position in &self.order {
            if is_below[*position as usize] == want_below {
                sorted.push(self.values[*position as usize]);
                sorted_trial.push(*position);
            }
        }
        for (position, value) in running {
            let at = sorted.partition_point(|other| *other < *value);
            let ties = sorted[at..]
                .iter()
                .take_while(|other| *other == value)
                .count();
            let at = at + sorted_trial[at..at + ties].partition_point(|other| *other < *position);
            sorted.insert(at, *value);
            sorted_trial.insert(at, *position);
        }

        if self.memo_range != Some(range) {
            self.memo.fill((f64::NAN, f64::NAN));
            self.memo_range = Some(range);
        }
        let mut kernels = pool.pop().unwrap_or_else(|| NumericKernels::empty(range));
        kernels.reset(range, n);
        let bandwidth = Bandwidth::new(range, sorted.len(), options);
        for (rank, position) in sorted_trial.iter().enumerate() {
            let sigma = bandwidth.of(sorted, rank);
            let memo = &mut self.memo[*position as usize];
            // A running trial has no value of its own yet, so that its memo must not be trusted.
            if memo.0 != sigma || self.values[*position as usize] != sorted[rank] {
                *memo = (sigma, range.log_normalization(sorted[rank], sigma));
            }
            kernels.set(
                kernel_of[*position as usize] as usize,
                sorted[rank],
                sigma,
                memo.1,
            );
        }
        kernels.push_prior();
        kernels
    }
}

fn kind(distribution: &crate::distribution::Distribution) -> Kind {
    if distribution.is_categorical() {
        Kind::Categorical
    } else if distribution.is_log() {
        Kind::Log
    } else {
        Kind::Linear
    }
}

impl Kind {
    fn scale(self, internal: f64) -> f64 {
        if self == Self::Log {
            internal.ln()
        } else {
            internal
        }
    }
}
