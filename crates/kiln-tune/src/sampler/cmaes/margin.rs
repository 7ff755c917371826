//! CMA-ES with margin: keeps every integer coordinate from getting stuck (R. Hamano, S. Saito,
//! M. Nomura and S. Shirakawa, *CMA-ES with Margin: Lower-Bounding Marginal Probability for
//! Mixed-Integer Black-Box Optimization*, 2022).

use nalgebra::DVector;
use serde::{Deserialize, Serialize};

use super::distribution::Distribution;
use crate::normal;

/// The grid of one integer coordinate in `[0, 1]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// Which coordinate it is.
    pub coordinate: usize,
    /// Distance of neighbouring values.
    pub step: f64,
    /// Number of values, at least 2.
    pub size: usize,
}

impl Grid {
    /// The grid of a coordinate that starts at 0, has the given step and ends at 1.
    pub fn new(coordinate: usize, step: f64) -> Self {
        let size = ((1.0 + step / 2.0) / step).ceil() as usize;
        Self {
            coordinate,
            step,
            size: size.max(2),
        }
    }

    fn value(&self, index: usize) -> f64 {
        index as f64 * self.step
    }

    /// The midpoint above the value with an index.
    fn limit(&self, index: usize) -> f64 {
        (self.value(index) + self.value(index + 1)) / 2.0
    }

    /// Index of the nearest value; a midpoint belongs to the value below it.
    fn nearest(&self, v: f64) -> usize {
        let last = self.size - 1;
        let mut index = (v / self.step + 0.5).floor().clamp(0.0, last as f64) as usize;
        if index > 0 && v <= self.limit(index - 1) {
            index -= 1;
        }
        if index < last && v > self.limit(index) {
            index += 1;
        }
        index
    }

    /// The midpoints around a mean; both are the same at the ends of the grid.
    fn limits(&self, mean: f64) -> (f64, f64) {
        let position = self.nearest(mean);
        let last = self.size - 2;
        (
            self.limit(position.saturating_sub(1).min(last)),
            self.limit(position.min(last)),
        )
    }
}

/// The margin correction of the integer coordinates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Margin {
    /// Lower bound of the probability of leaving the current value.
    pub margin: f64,
    /// The integer coordinates.
    pub grids: Vec<Grid>,
    /// Extra scale of every integer coordinate, in the order of `grids`.
    pub scale: Vec<f64>,
}

impl Margin {
    /// The correction with the usual margin `1 / (dimension * population size)`.
    pub fn new(grids: Vec<Grid>, dimension: usize, population_size: usize) -> Self {
        Self {
            margin: 1.0 / (dimension * population_size) as f64,
            scale: vec![1.0; grids.len()],
            grids,
        }
    }

    /// Whether a coordinate is an integer one.
    pub fn contains(&self, coordinate: usize) -> bool {
        self.grids.iter().any(|g| g.coordinate == coordinate)
    }

    /// Replaces the integer coordinates of a sample by grid values.
    pub fn encode(&self, mean: &DVector<f64>, x: &DVector<f64>) -> DVector<f64> {
        let mut encoded = x.clone();
        for (grid, scale) in self.grids.iter().zip(&self.scale) {
            let i = grid.coordinate;
            let v = (x[i] - mean[i]) * scale + mean[i];
            encoded[i] = grid.value(grid.nearest(v));
        }
        encoded
    }

    /// Corrects the mean and the scales after a generation was told.
    pub fn correct(&mut self, distribution: &mut Distribution) {
        let variances = distribution.covariance.diagonal();
        for (grid, scale) in self.grids.iter().zip(&mut self.scale) {
            let i = grid.coordinate;
            let mean = distribution.mean[i];
            let deviation = distribution.sigma * variances[i].sqrt();
            let (low, high) = grid.limits(mean);
            let below = normal::cdf((low - mean) / (deviation * *scale));
            let above = 1.0 - normal::cdf((high - mean) / (deviation * *scale));
            if below.max(above) > 0.5 {
                // At the end of the grid: pull the mean back to where leaving has the margin.
                if below.min(above) < self.margin {
                    let distance = deviation * *scale * -normal::quantile(self.margin);
                    let side = if mean > high {
                        1.0
                    } else if mean < high {
                        -1.0
                    } else {
                        0.0
                    };
                    distribution.mean[i] = high + side * distance;
                }
                continue;
            }
            let middle = 1.0 - (below + above);
            let (lifted_below, lifted_above) =
                (below.max(self.margin / 2.0), above.max(self.margin / 2.0));
            let excess = 1.0 - lifted_below - lifted_above - middle;
            let room = lifted_below + middle + lifted_above - 1.5 * self.margin;
            let modified =
                |p: f64| (p + excess * (p - self.margin / 2.0) / room).clamp(1e-10, 0.5 - 1e-10);
            let (down, up) = (
                -normal::quantile(modified(lifted_below)),
                -normal::quantile(modified(lifted_above)),
            );
            *scale = (high - low) / ((down + up) * deviation);
            distribution.mean[i] = (low * up + high * down) / (down + up);
        }
    }
}
