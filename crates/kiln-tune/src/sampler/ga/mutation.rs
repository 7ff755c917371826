//! Mutations of numeric parameters.

use crate::error::{Error, Result};
use crate::rng::Rng;

/// Changes one numeric gene.
pub trait Mutation: Send + Sync {
    /// A new value near `value` in the box transform; it is clipped to the bounds afterwards.
    fn mutate(&self, value: f64, bounds: [f64; 2], rng: &mut Rng) -> f64;
}

/// Polynomial mutation (Deb and Agrawal, *A Niched-Penalty Approach for Constraint Handling in
/// Genetic Algorithms*, 1999).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolynomialMutation {
    eta: f64,
}

impl PolynomialMutation {
    /// A mutation with a distribution index: larger values stay closer. The usual index is 20.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a negative index.
    pub fn new(eta: f64) -> Result<Self> {
        if eta >= 0.0 {
            Ok(Self { eta })
        } else {
            Err(Error::invalid(format!(
                "eta must not be negative, but got {eta}"
            )))
        }
    }
}

impl Default for PolynomialMutation {
    fn default() -> Self {
        Self { eta: 20.0 }
    }
}

impl Mutation for PolynomialMutation {
    fn mutate(&self, value: f64, [low, high]: [f64; 2], rng: &mut Rng) -> f64 {
        let u = rng.uniform();
        let width = high - low;
        if width <= 0.0 {
            return value;
        }
        let power = self.eta + 1.0;
        let step = if u <= 0.5 {
            let xy: f64 = 1.0 - (value - low) / width;
            (2.0 * u + (1.0 - 2.0 * u) * xy.powf(power)).powf(1.0 / power) - 1.0
        } else {
            let xy: f64 = 1.0 - (high - value) / width;
            1.0 - (2.0 * (1.0 - u) + 2.0 * (u - 0.5) * xy.powf(power)).powf(1.0 / power)
        };
        value + step * width
    }
}
