//! The density of the worse trials, which is nearly all of them. From one call to the next a few trials come and go;
//! only the kernels next to those are computed again.

use super::observations::Running;
use crate::distribution::Distribution;
use crate::parzen::argsort;
use crate::parzen::{
    Bandwidth, CategoricalKernels, Column, NumericKernels, NumericRange, PRIOR, ParzenOptions,
    log_pdf, to_index,
};
use crate::trial::ParamSpace;

/// Up to so many kernels the lower limit of all bandwidths changes with their number.
const SMALL: usize = 100;

/// With more changes than this everything is made anew, which sorts once instead of inserting one by one.
const MANY: usize = 32;

const NONE: u32 = u32::MAX;

/// Kernels in slots: slot 0 is the prior, the others are taken and freed as trials come and go.
#[derive(Default)]
pub(super) struct Above {
    ranges: Vec<Option<NumericRange>>,
    options: Option<ParzenOptions>,
    /// Positions of the trials that have a kernel, ascending.
    entries: Vec<u32>,
    /// The slot of each trial.
    slot_of: Vec<u32>,
    free: Vec<u32>,
    columns: Vec<Column>,
    /// For each numeric parameter, the trials sorted by value; equal ones by position.
    orders: Vec<Vec<u32>>,
    /// The running trials as they were put in.
    running: Vec<Running>,
    /// Sums of the normalizations by slot.
    normalizations: Vec<f64>,
    touched: Vec<u32>,
}

impl Above {
    /// The number of kernels without the prior.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Brings the kernels up to date: one for each member that is not below, and one for each running trial.
    pub fn sync(
        &mut self,
        space: &ParamSpace,
        members: &[u32],
        values: &[Vec<f64>],
        below: &[u32],
        running: &[Running],
        options: ParzenOptions,
    ) {
        let ranges: Vec<Option<NumericRange>> = space
            .iter()
            .map(|(_, distribution)| {
                (!distribution.is_categorical()).then(|| NumericRange::of(distribution))
            })
            .collect();
        let n = values.first().map_or(0, Vec::len);
        self.slot_of.resize(n, NONE);

        let vanished: Vec<u32> = self
            .running
            .iter()
            .filter(|old| !running.contains(old))
            .map(|(position, _)| *position)
            .collect();
        let news: Vec<&Running> = running
            .iter()
            .filter(|new| !self.running.contains(new))
            .collect();
        // Below trials that have a kernel lose it; members that are neither below nor in get one.
        let is_leaving = |position: &u32| self.has(*position) && !vanished.contains(position);
        let leaving: Vec<u32> = below.iter().copied().filter(is_leaving).collect();
        let mut coming = Vec::new();
        let mut next_below = below.iter().copied().peekable();
        for position in members.iter().copied() {
            while next_below.next_if(|below| *below < position).is_some() {}
            if next_below.peek() == Some(&position) {
                continue;
            }
            if !self.has(position) || vanished.contains(&position) {
                coming.push(position);
            }
        }

        let n_after =
            self.entries.len() + coming.len() + news.len() - vanished.len().min(self.entries.len());
        let changes = vanished.len() + news.len() + leaving.len() + coming.len();
        let anew = ranges != self.ranges
            || self.options != Some(options)
            || changes > MANY
            || self.entries.len() <= SMALL + MANY
            || n_after <= SMALL + MANY;
        if anew {
            self.rebuild(space, ranges, members, values, below, running, options);
            self.settle_ties();
            self.sum_touched();
            return;
        }
        for position in vanished.into_iter().chain(leaving) {
            self.remove(position);
        }
        self.running = running.to_vec();
        for (position, row) in news {
            self.insert(*position, row);
        }
        for position in coming {
            let row: Vec<f64> = values
                .iter()
                .map(|column| column[position as usize])
                .collect();
            self.insert(position, &row);
        }
        self.settle_ties();
        self.sum_touched();
    }

    /// The log-density at some points. `weights` are those of the trials, in their order.
    #[allow(clippy::cast_precision_loss)]
    pub fn log_pdf(
        &mut self,
        weights: &[f64],
        options: ParzenOptions,
        points: &[Vec<f64>],
    ) -> Vec<f64> {
        let prior_weight = if self.entries.is_empty() {
            1.0
        } else {
            options.prior_weight
        };
        let total: f64 = weights.iter().sum::<f64>() + prior_weight;
        let mut base = vec![f64::NEG_INFINITY; self.normalizations.len()];
        base[0] = (prior_weight / total).ln() + self.normalizations[0];
        // Most weights are equal to their neighbours, whose logarithm is known then.
        let mut known = (f64::NAN, f64::NAN);
        for (position, weight) in self.entries.iter().zip(weights) {
            if *weight != known.0 {
                known = (*weight, (weight / total).ln());
            }
            let slot = self.slot_of[*position as usize] as usize;
            base[slot] = known.1 + self.normalizations[slot];
        }
        for column in &mut self.columns {
            if let Column::Categorical(kernels) = column {
                kernels.smooth(self.entries.len(), options.prior_weight);
            }
        }
        log_pdf(&base, &self.columns, points)
    }

    fn has(&self, position: u32) -> bool {
        self.slot_of[position as usize] != NONE
    }

    #[allow(clippy::too_many_arguments, clippy::cast_possible_truncation)]
    fn rebuild(
        &mut self,
        space: &ParamSpace,
        ranges: Vec<Option<NumericRange>>,
        members: &[u32],
        values: &[Vec<f64>],
        below: &[u32],
        running: &[Running],
        options: ParzenOptions,
    ) {
        let mut kernels: Vec<(u32, Option<&Vec<f64>>)> = members
            .iter()
            .filter(|position| below.binary_search(position).is_err())
            .map(|position| (*position, None))
            .collect();
        kernels.extend(running.iter().map(|(position, row)| (*position, Some(row))));
        kernels.sort_by_key(|(position, _)| *position);
        self.entries = kernels.iter().map(|(position, _)| *position).collect();
        self.slot_of.fill(NONE);
        for (i, position) in self.entries.iter().enumerate() {
            self.slot_of[*position as usize] = i as u32 + 1;
        }
        self.free.clear();
        self.running = running.to_vec();
        self.ranges = ranges;
        self.options = Some(options);

        let n = self.entries.len();
        self.columns.clear();
        self.orders.clear();
        for (i, (_, distribution)) in space.iter().enumerate() {
            let column = kernels
                .iter()
                .map(|(position, row)| row.map_or(values[i][*position as usize], |row| row[i]));
            if let (Some(range), Distribution::Float(_) | Distribution::Int(_)) =
                (self.ranges[i], &**distribution)
            {
                let mut numeric = NumericKernels::empty(range);
                numeric.reset(range, n + 1);
                numeric.set_prior(0);
                for (k, value) in column.enumerate() {
                    numeric.mus[k + 1] = range.scale(value);
                }
                // Slots are in the order of positions here.
                let mut order: Vec<u32> = (1..=n as u32).collect();
                let mus = &numeric.mus;
                order.sort_by(|a, b| mus[*a as usize].total_cmp(&mus[*b as usize]));
                let bandwidth = Bandwidth::new(range, n, options);
                numeric.min_sigma = bandwidth.min();
                for rank in 0..n {
                    let mu = |rank: usize| order.get(rank).map(|slot| numeric.mus[*slot as usize]);
                    let (left, right) = (rank.checked_sub(1).and_then(mu), mu(rank + 1));
                    let slot = order[rank] as usize;
                    numeric.set_bandwidth(slot, bandwidth.between(left, numeric.mus[slot], right));
                }
                order
                    .iter_mut()
                    .for_each(|slot| *slot = self.entries[*slot as usize - 1]);
                self.orders.push(order);
                self.columns.push(Column::Numeric(numeric));
            } else {
                let observed = std::iter::once(PRIOR).chain(column.map(to_index)).collect();
                let n_choices = match &**distribution {
                    Distribution::Categorical(d) => d.choices().len(),
                    _ => 0,
                };
                let mut categorical =
                    CategoricalKernels::new(n_choices, Vec::new(), options.prior_weight);
                categorical.observed = observed;
                self.orders.push(Vec::new());
                self.columns.push(Column::Categorical(categorical));
            }
        }
        self.normalizations = vec![0.0; n + 1];
        self.touched = (0..=n as u32).collect();
    }

    /// Of the kernels at one value, the first in the order of [`ParzenOptions::ties`] has the bandwidth to the left, the last the one to the
    /// right, and the others the smallest. That order depends on all values, so that it is looked up anew.
    #[allow(clippy::cast_possible_truncation)]
    fn settle_ties(&mut self) {
        let n = self.entries.len();
        let Some(options) = self.options else { return };
        let mut ranks = vec![0; self.normalizations.len()];
        let mut keys = Vec::new();
        for (column, order) in self.columns.iter_mut().zip(&self.orders) {
            let Column::Numeric(kernels) = column else {
                continue;
            };
            let (mut rank, mut previous, mut has_ties) = (0, f64::NAN, false);
            for position in order {
                let slot = self.slot_of[*position as usize] as usize;
                let mu = kernels.mus[slot];
                has_ties |= mu == previous;
                rank += u32::from(mu > previous);
                previous = mu;
                ranks[slot] = rank;
            }
            if !has_ties {
                continue;
            }
            keys.clear();
            keys.extend(self.entries.iter().map(|position| {
                let slot = self.slot_of[*position as usize];
                argsort::key(ranks[slot as usize], slot)
            }));
            argsort::sort(&mut keys, options.ties);
            let bandwidth = Bandwidth::new(kernels.range, n, options);
            let mu = |kernels: &NumericKernels, at: usize| {
                let key = keys.get(at)?;
                Some(kernels.mus[argsort::position(*key) as usize])
            };
            for (at, key) in keys.iter().enumerate() {
                let slot = argsort::position(*key);
                let left = at.checked_sub(1).and_then(|at| mu(kernels, at));
                let (own, right) = (kernels.mus[slot as usize], mu(kernels, at + 1));
                if left != Some(own) && right != Some(own) {
                    continue;
                }
                let sigma = bandwidth.between(left, own, right);
                if kernels.sigmas[slot as usize] != sigma {
                    kernels.set_bandwidth(slot as usize, sigma);
                    self.touched.push(slot);
                }
            }
        }
    }

    fn insert(&mut self, position: u32, row: &[f64]) {
        let slot = self.take_slot();
        self.slot_of[position as usize] = slot;
        let at = self.entries.partition_point(|other| *other < position);
        self.entries.insert(at, position);
        let n = self.entries.len();
        for (i, column) in self.columns.iter_mut().enumerate() {
            match column {
                Column::Categorical(kernels) => kernels.observed[slot as usize] = to_index(row[i]),
                Column::Numeric(kernels) => {
                    let mu = kernels.range.scale(row[i]);
                    kernels.mus[slot as usize] = mu;
                    let rank = rank_of(&self.orders[i], &self.slot_of, kernels, mu, position);
                    self.orders[i].insert(rank, position);
                    let first = rank.saturating_sub(1);
                    adjust(
                        kernels,
                        &self.orders[i],
                        &self.slot_of,
                        first..rank + 2,
                        n,
                        self.options,
                    );
                    touch(
                        &mut self.touched,
                        &self.orders[i],
                        &self.slot_of,
                        first..rank + 2,
                    );
                }
            }
        }
        self.touched.push(slot);
    }

    fn remove(&mut self, position: u32) {
        let slot = self.slot_of[position as usize];
        if let Ok(at) = self.entries.binary_search(&position) {
            self.entries.remove(at);
        }
        let n = self.entries.len();
        for (i, column) in self.columns.iter_mut().enumerate() {
            if let Column::Numeric(kernels) = column {
                let mu = kernels.mus[slot as usize];
                let rank = rank_of(&self.orders[i], &self.slot_of, kernels, mu, position);
                self.orders[i].remove(rank);
                let first = rank.saturating_sub(1);
                adjust(
                    kernels,
                    &self.orders[i],
                    &self.slot_of,
                    first..rank + 1,
                    n,
                    self.options,
                );
                touch(
                    &mut self.touched,
                    &self.orders[i],
                    &self.slot_of,
                    first..rank + 1,
                );
            }
        }
        self.slot_of[position as usize] = NONE;
        self.free.push(slot);
    }

    /// A free slot, or a new one at the end.
    #[allow(clippy::cast_possible_truncation)]
    fn take_slot(&mut self) -> u32 {
        if let Some(slot) = self.free.pop() {
            return slot;
        }
        for column in &mut self.columns {
            match column {
                Column::Numeric(kernels) => kernels.reset(kernels.range, kernels.mus.len() + 1),
                Column::Categorical(kernels) => kernels.observed.push(PRIOR),
            }
        }
        self.normalizations.push(0.0);
        self.normalizations.len() as u32 - 1
    }

    fn sum_touched(&mut self) {
        for slot in self.touched.drain(..) {
            self.normalizations[slot as usize] = self
                .columns
                .iter()
                .map(|column| match column {
                    Column::Numeric(kernels) => kernels.log_normalizations[slot as usize],
                    Column::Categorical(_) => 0.0,
                })
                .sum();
        }
    }
}

/// Where a kernel is, or belongs, in the order of a parameter.
fn rank_of(
    order: &[u32],
    slot_of: &[u32],
    kernels: &NumericKernels,
    mu: f64,
    position: u32,
) -> usize {
    order.partition_point(|other| {
        let other_mu = kernels.mus[slot_of[*other as usize] as usize];
        other_mu.total_cmp(&mu).then(other.cmp(&position)).is_lt()
    })
}

/// Computes the bandwidths of some ranks again.
fn adjust(
    kernels: &mut NumericKernels,
    order: &[u32],
    slot_of: &[u32],
    ranks: std::ops::Range<usize>,
    n: usize,
    options: Option<ParzenOptions>,
) {
    let bandwidth = Bandwidth::new(kernels.range, n, options.unwrap_or_default());
    for rank in ranks.start..ranks.end.min(order.len()) {
        let slot = |rank: usize| {
            order
                .get(rank)
                .map(|position| slot_of[*position as usize] as usize)
        };
        let mu = |rank: usize| slot(rank).map(|slot| kernels.mus[slot]);
        let (left, right) = (rank.checked_sub(1).and_then(mu), mu(rank + 1));
        let Some(slot) = slot(rank) else { continue };
        let sigma = bandwidth.between(left, kernels.mus[slot], right);
        kernels.set_bandwidth(slot, sigma);
    }
}

fn touch(touched: &mut Vec<u32>, order: &[u32], slot_of: &[u32], ranks: std::ops::Range<usize>) {
    let end = ranks.end.min(order.len());
    touched.extend(
        order[ranks.start.min(end)..end]
            .iter()
            .map(|position| slot_of[*position as usize]),
    );
}
