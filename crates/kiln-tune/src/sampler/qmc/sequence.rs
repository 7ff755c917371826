//! The Sobol and Halton sequences, plain and scrambled.

use sobol::Sobol as Directions;
use sobol::params::JoeKuoD6;

use crate::rng::Rng;

/// Bits of a Sobol point, as in scipy: the sequence has 2³⁰ points.
const BITS: usize = 30;
/// Largest number of dimensions for which Joe and Kuo give direction numbers.
const MAX_SOBOL_DIMENSIONS: usize = 21_201;

/// Why a quasi-Monte Carlo point cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// More dimensions than there are direction numbers for.
    #[error(
        "a Sobol sequence has at most {MAX_SOBOL_DIMENSIONS} dimensions, but {0} were asked for"
    )]
    Dimensions(usize),
    /// The index is beyond the end of the Sobol sequence.
    #[error("point {0} was asked for, but a Sobol sequence ends after 2^{BITS} points")]
    Exhausted(u64),
}

/// A Sobol sequence with the direction numbers of Joe and Kuo (*Constructing Sobol Sequences with
/// Better Two-Dimensional Projections*, 2008) in Gray code order: the points of
/// `scipy.stats.qmc.Sobol` with 30 bits.
///
/// ```
/// use kiln_tune::sampler::qmc::Sobol;
///
/// let sobol = Sobol::new(2)?;
/// assert_eq!(sobol.point(0)?, [0.0, 0.0]);
/// assert_eq!(sobol.point(1)?, [0.5, 0.5]);
/// assert_eq!(sobol.point(2)?, [0.75, 0.25]);
/// # Ok::<(), kiln_tune::sampler::qmc::SequenceError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sobol {
    /// Per dimension, the direction numbers in the low 30 bits.
    directions: Vec<Vec<u32>>,
    shift: Vec<u32>,
}

impl Sobol {
    /// The plain sequence, which starts at the origin.
    ///
    /// # Errors
    ///
    /// [`SequenceError::Dimensions`] for more than 21,201 dimensions.
    pub fn new(dimensions: usize) -> Result<Self, SequenceError> {
        let params = match dimensions {
            0..=100 => JoeKuoD6::minimal(),
            101..=1000 => JoeKuoD6::standard(),
            1001..=MAX_SOBOL_DIMENSIONS => JoeKuoD6::extended(),
            _ => return Err(SequenceError::Dimensions(dimensions)),
        };
        let mut directions =
            Directions::<u32>::init_direction_vals::<u32>(dimensions, BITS, &params);
        for direction in directions.iter_mut().flatten() {
            *direction >>= u32::BITS as usize - BITS;
        }
        Ok(Self {
            directions,
            shift: vec![0; dimensions],
        })
    }

    /// The sequence scrambled by a random lower triangular matrix and a digital shift per dimension
    /// (Matoušek, *On the L2-Discrepancy for Anchored Boxes*, 1998). The same seed gives the same
    /// points; they are not those of scipy for that seed.
    ///
    /// # Errors
    ///
    /// As [`Sobol::new`].
    pub fn scrambled(dimensions: usize, seed: u64) -> Result<Self, SequenceError> {
        let mut sobol = Self::new(dimensions)?;
        let mut rng = Rng::new(Some(seed));
        let mask = (1u32 << BITS) - 1;
        for (directions, shift) in sobol.directions.iter_mut().zip(&mut sobol.shift) {
            // Output bit k (from the most significant) is a random sum of the input bits before it
            // plus bit k itself.
            let rows: Vec<u32> = (0..BITS)
                .map(|k| {
                    let own = 1u32 << (BITS - 1 - k);
                    let before = mask & !(own | (own - 1));
                    own | (rng.next_u32() & before)
                })
                .collect();
            for direction in directions {
                *direction = rows.iter().enumerate().fold(0, |out, (k, row)| {
                    out | ((row & *direction).count_ones() & 1) << (BITS - 1 - k)
                });
            }
            *shift = rng.next_u32() & mask;
        }
        Ok(sobol)
    }

    /// The point with an index counted from 0, one coordinate in `[0, 1)` per dimension.
    ///
    /// # Errors
    ///
    /// [`SequenceError::Exhausted`] from index 2³⁰ on.
    pub fn point(&self, index: u64) -> Result<Vec<f64>, SequenceError> {
        if index >> BITS != 0 {
            return Err(SequenceError::Exhausted(index));
        }
        let gray = index ^ (index >> 1);
        Ok(self
            .directions
            .iter()
            .zip(&self.shift)
            .map(|(directions, shift)| {
                let bits = directions
                    .iter()
                    .enumerate()
                    .filter(|(k, _)| gray >> k & 1 == 1)
                    .fold(*shift, |bits, (_, direction)| bits ^ direction);
                f64::from(bits) / f64::from(1u32 << BITS)
            })
            .collect())
    }
}

/// A Halton sequence over the first primes, one base per dimension: the points of
/// `scipy.stats.qmc.Halton`.
///
/// ```
/// use kiln_tune::sampler::qmc::Halton;
///
/// assert_eq!(Halton::new(2).point(3), [0.75, 1.0 / 9.0]);
/// ```
#[derive(Debug, Clone)]
pub struct Halton {
    bases: Vec<u64>,
    /// Per dimension and digit, the permutation of the digits; empty when not scrambled.
    permutations: Vec<Vec<Vec<u32>>>,
}

impl Halton {
    /// The plain sequence, which starts at the origin.
    pub fn new(dimensions: usize) -> Self {
        Self {
            bases: first_primes(dimensions),
            permutations: Vec::new(),
        }
    }

    /// The sequence with every digit permuted at random (Owen, *A randomized Halton algorithm in R*,
    /// 2017). The same seed gives the same points; they are not those of scipy for that seed.
    pub fn scrambled(dimensions: usize, seed: u64) -> Self {
        let bases = first_primes(dimensions);
        let mut rng = Rng::new(Some(seed));
        let permutations = bases
            .iter()
            .map(|&base| {
                // As many digits as a 54 bit fraction can tell apart.
                let digits = (54.0 / (base as f64).log2()).ceil() as usize - 1;
                (0..digits)
                    .map(|_| {
                        let mut digits: Vec<u32> = (0..base as u32).collect();
                        rng.shuffle(&mut digits);
                        digits
                    })
                    .collect()
            })
            .collect();
        Self {
            bases,
            permutations,
        }
    }

    /// The point with an index counted from 0, one coordinate in `[0, 1)` per dimension.
    pub fn point(&self, index: u64) -> Vec<f64> {
        self.bases
            .iter()
            .enumerate()
            .map(|(d, &base)| match self.permutations.get(d) {
                None => radical_inverse(index, base),
                Some(digits) => permuted_inverse(index, base, digits),
            })
            .collect()
    }
}

fn radical_inverse(mut index: u64, base: u64) -> f64 {
    let mut scale = 1.0 / base as f64;
    let mut value = 0.0;
    while index > 0 {
        value += (index % base) as f64 * scale;
        scale /= base as f64;
        index /= base;
    }
    value
}

fn permuted_inverse(mut index: u64, base: u64, digits: &[Vec<u32>]) -> f64 {
    let mut scale = 1.0 / base as f64;
    let mut value = 0.0;
    for permutation in digits {
        value += f64::from(permutation[(index % base) as usize]) * scale;
        scale /= base as f64;
        index /= base;
    }
    // The digits may round up to 1, which is outside the unit interval.
    value.min(1.0f64.next_down())
}

fn first_primes(n: usize) -> Vec<u64> {
    let mut primes: Vec<u64> = Vec::with_capacity(n);
    let mut candidate = 2;
    while primes.len() < n {
        let is_prime = primes
            .iter()
            .take_while(|&&p| p * p <= candidate)
            .all(|p| candidate % p != 0);
        if is_prime {
            primes.push(candidate);
        }
        candidate += 1;
    }
    primes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest deviation of the share of points below x from x, over all coordinates.
    fn discrepancy(points: &[Vec<f64>], dimension: usize) -> f64 {
        let mut column: Vec<f64> = points.iter().map(|p| p[dimension]).collect();
        column.sort_by(f64::total_cmp);
        column
            .iter()
            .enumerate()
            .map(|(i, v)| (v - (i as f64 + 0.5) / column.len() as f64).abs())
            .fold(0.0, f64::max)
    }

    #[test]
    fn scrambling_keeps_every_projection_evenly_spread() {
        let sobol = Sobol::scrambled(6, 3).unwrap();
        let points: Vec<_> = (0..1024).map(|i| sobol.point(i).unwrap()).collect();
        let halton = Halton::scrambled(6, 3);
        let others: Vec<_> = (0..1024).map(|i| halton.point(i)).collect();
        for d in 0..6 {
            assert!(discrepancy(&points, d) < 1.0 / 1024.0);
            assert!(discrepancy(&others, d) < 0.02);
        }
        assert!(points.iter().flatten().all(|v| (0.0..1.0).contains(v)));
        assert!(others.iter().flatten().all(|v| (0.0..1.0).contains(v)));
    }

    #[test]
    fn a_scrambled_sequence_depends_on_its_seed_only() {
        let a = Sobol::scrambled(3, 1).unwrap().point(5).unwrap();
        assert_eq!(a, Sobol::scrambled(3, 1).unwrap().point(5).unwrap());
        assert_ne!(a, Sobol::scrambled(3, 2).unwrap().point(5).unwrap());
        assert_ne!(
            Halton::scrambled(3, 1).point(5),
            Halton::scrambled(3, 2).point(5)
        );
    }

    // Numbers of scipy 1.17: `qmc.Sobol(1200, scramble=False)` and `qmc.Halton(20, scramble=False)`
    // after `fast_forward(12345).
    #[test]
    fn high_dimensions_and_indices_equal_scipy() {
        let point = Sobol::new(1200).unwrap().point(12345).unwrap();
        let some = [
            point[5],
            point[99],
            point[100],
            point[999],
            point[1000],
            point[1199],
        ];
        assert_eq!(
            some,
            [
                0.05889892578125,
                0.53887939453125,
                0.53948974609375,
                0.13104248046875,
                0.36248779296875,
                0.52996826171875
            ]
        );
        let point = Halton::new(20).point(12345);
        for (got, want) in [point[7], point[19]]
            .iter()
            .zip([0.7473469356435264, 0.8793945980984099])
        {
            assert!((got - want).abs() < 1e-15);
        }
    }

    #[test]
    fn too_many_dimensions_or_points_are_errors() {
        assert!(Sobol::new(21_202).is_err());
        let sobol = Sobol::new(1).unwrap();
        assert!(sobol.point(1 << 30).is_err());
        assert!(sobol.point((1 << 30) - 1).is_ok());
    }
}
