//! The observations of one joint space.

use std::sync::Arc;

use super::above::Above;
use crate::error::Result;
use crate::parzen::{ParzenEstimator, ParzenOptions};
use crate::trial::{FrozenTrial, ParamSpace};

/// Values of the finished trials which have all parameters of a space. Arrays are indexed by the position of a trial
/// in the study.
pub(super) struct Observations {
    names: Vec<(Arc<str>, Kind)>,
    /// Positions of the trials which have all names, ascending.
    members: Vec<u32>,
    /// Internal values by parameter; NaN for trials which are no members.
    values: Vec<Vec<f64>>,
    /// How many of the finished trials are taken in.
    seen: usize,
    /// The density of the other trials, kept from call to call.
    above: Above,
}

/// A running trial with its internal values.
pub(super) type Running = (u32, Vec<f64>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Linear,
    Log,
    Categorical,
}

impl Observations {
    pub fn new(space: &ParamSpace) -> Self {
        let names: Vec<_> = space
            .iter()
            .map(|(name, distribution)| (name.clone(), Kind::of(distribution)))
            .collect();
        let values = vec![Vec::new(); names.len()];
        Self {
            names,
            members: Vec::new(),
            values,
            seen: 0,
            above: Above::default(),
        }
    }

    /// Whether these are the observations of a space with these names and scales. Ranges may differ.
    pub fn is_of(&self, space: &ParamSpace) -> bool {
        self.names.len() == space.len()
            && self
                .names
                .iter()
                .zip(space.iter())
                .all(|(own, other)| own.0 == other.0 && own.1 == Kind::of(&other.1))
    }

    /// Takes in the finished trials that are new.
    pub fn update(&mut self, finished: &[u32], trials: &[Arc<FrozenTrial>]) {
        let news = &finished[self.seen..];
        self.seen = finished.len();
        for column in &mut self.values {
            column.resize(trials.len(), f64::NAN);
        }
        let mut row = Vec::with_capacity(self.names.len());
        for position in news {
            let params = &trials[*position as usize].params;
            row.clear();
            row.extend(
                self.names
                    .iter()
                    .map_while(|(name, _)| params.internal(name)),
            );
            if row.len() < self.names.len() {
                continue;
            }
            let at = self.members.partition_point(|member| member < position);
            self.members.insert(at, *position);
            for (column, value) in self.values.iter_mut().zip(&row) {
                column[*position as usize] = *value;
            }
        }
    }

    /// The density of the trials in `below`, which are ascending.
    pub fn estimate_below(
        &self,
        space: &ParamSpace,
        below: &[u32],
        weights: impl Fn(usize) -> Result<Vec<f64>>,
        options: ParzenOptions,
    ) -> Result<ParzenEstimator> {
        let members: Vec<u32> = below
            .iter()
            .copied()
            .filter(|position| self.members.binary_search(position).is_ok())
            .collect();
        let observed: Vec<Vec<f64>> = self
            .values
            .iter()
            .map(|column| {
                members
                    .iter()
                    .map(|position| column[*position as usize])
                    .collect()
            })
            .collect();
        ParzenEstimator::new(space, &observed, Some(&weights(members.len())?), options)
    }

    /// The density of all other trials, with the values of running ones, made from scratch.
    pub fn estimate_above(
        &self,
        space: &ParamSpace,
        below: &[u32],
        running: &[Running],
        weights: impl Fn(usize) -> Result<Vec<f64>>,
        options: ParzenOptions,
    ) -> Result<ParzenEstimator> {
        let mut members: Vec<(u32, Option<&Vec<f64>>)> = self
            .members
            .iter()
            .filter(|position| below.binary_search(position).is_err())
            .map(|position| (*position, None))
            .collect();
        members.extend(
            running
                .iter()
                .map(|(position, values)| (*position, Some(values))),
        );
        members.sort_by_key(|(position, _)| *position);
        let observed: Vec<Vec<f64>> = (0..self.values.len())
            .map(|i| {
                members
                    .iter()
                    .map(|(position, values)| {
                        values.map_or(self.values[i][*position as usize], |values| values[i])
                    })
                    .collect()
            })
            .collect();
        ParzenEstimator::new(space, &observed, Some(&weights(members.len())?), options)
    }

    /// The log-density of [`estimate_above`](Self::estimate_above) at some points, with what is known from the last
    /// call.
    pub fn log_above(
        &mut self,
        space: &ParamSpace,
        below: &[u32],
        running: &[Running],
        weights: impl Fn(usize) -> Result<Vec<f64>>,
        options: ParzenOptions,
        points: &[Vec<f64>],
    ) -> Result<Vec<f64>> {
        self.above
            .sync(space, &self.members, &self.values, below, running, options);
        Ok(self
            .above
            .log_pdf(&weights(self.above.len())?, options, points))
    }
}

impl Kind {
    fn of(distribution: &crate::distribution::Distribution) -> Self {
        if distribution.is_categorical() {
            Self::Categorical
        } else if distribution.is_log() {
            Self::Log
        } else {
            Self::Linear
        }
    }
}
