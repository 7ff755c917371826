//! Crossovers of numeric parameters, in the box transform.

use nalgebra::{DMatrix, DVector};

use crate::error::{Error, Result};
use crate::rng::Rng;

/// Makes a child of some parents.
pub trait Crossover: Send + Sync {
    /// How many parents it needs. Default 2.
    fn n_parents(&self) -> usize {
        2
    }

    /// A child of the parents, rows of the box transform. It may leave the bounds: then new parents
    /// are chosen.
    fn crossover(
        &self,
        parents: &[Vec<f64>],
        bounds: &[[f64; 2]],
        is_multi_objective: bool,
        rng: &mut Rng,
    ) -> Vec<f64>;
}

impl<C: Crossover + ?Sized> Crossover for Box<C> {
    fn n_parents(&self) -> usize {
        (**self).n_parents()
    }

    fn crossover(
        &self,
        parents: &[Vec<f64>],
        bounds: &[[f64; 2]],
        is_multi_objective: bool,
        rng: &mut Rng,
    ) -> Vec<f64> {
        (**self).crossover(parents, bounds, is_multi_objective, rng)
    }
}

fn probability(name: &str, value: f64) -> Result<f64> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(Error::invalid(format!(
            "{name} must be between 0 and 1, but got {value}"
        )))
    }
}

/// Takes every gene from one of two parents (Syswerda, *Uniform Crossover in Genetic Algorithms*,
/// 1989).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UniformCrossover {
    swapping_prob: f64,
}

impl UniformCrossover {
    /// A crossover that takes the first parent's gene with this probability. The usual one is 0.5.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] outside of `[0, 1]`.
    pub fn new(swapping_prob: f64) -> Result<Self> {
        let swapping_prob = probability("swapping_prob", swapping_prob)?;
        Ok(Self { swapping_prob })
    }
}

impl Default for UniformCrossover {
    fn default() -> Self {
        Self { swapping_prob: 0.5 }
    }
}

impl Crossover for UniformCrossover {
    fn crossover(
        &self,
        parents: &[Vec<f64>],
        bounds: &[[f64; 2]],
        _is_multi_objective: bool,
        rng: &mut Rng,
    ) -> Vec<f64> {
        (0..bounds.len())
            .map(|j| parents[usize::from(rng.uniform() >= self.swapping_prob)][j])
            .collect()
    }
}

/// Draws every gene uniformly from the parents' interval, widened on both sides (Eshelman and
/// Schaffer, *Real-Coded Genetic Algorithms and Interval-Schemata*, 1993).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlxAlphaCrossover {
    alpha: f64,
}

impl BlxAlphaCrossover {
    /// A crossover that widens the interval by `alpha` times its length. The usual alpha is 0.5.
    #[must_use]
    pub fn new(alpha: f64) -> Self {
        Self { alpha }
    }
}

impl Default for BlxAlphaCrossover {
    fn default() -> Self {
        Self { alpha: 0.5 }
    }
}

impl Crossover for BlxAlphaCrossover {
    fn crossover(
        &self,
        parents: &[Vec<f64>],
        bounds: &[[f64; 2]],
        _is_multi_objective: bool,
        rng: &mut Rng,
    ) -> Vec<f64> {
        (0..bounds.len())
            .map(|j| {
                let (a, b) = (parents[0][j], parents[1][j]);
                let (low, high) = (a.min(b), a.max(b));
                let margin = self.alpha * (high - low);
                let (low, high) = (low - margin, high + margin);
                (high - low) * rng.uniform() + low
            })
            .collect()
    }
}

/// The settings of the two simulated binary crossovers.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Binary {
    eta: Option<f64>,
    uniform_crossover_prob: f64,
    use_child_gene_prob: f64,
}

impl Default for Binary {
    fn default() -> Self {
        Self {
            eta: None,
            uniform_crossover_prob: 0.5,
            use_child_gene_prob: 0.5,
        }
    }
}

impl Binary {
    fn new(eta: Option<f64>, uniform: f64, child: f64) -> Result<Self> {
        if let Some(eta) = eta.filter(|eta| eta.is_nan() || *eta < 0.0) {
            return Err(Error::invalid(format!(
                "eta must not be negative, but got {eta}"
            )));
        }
        if !(child > 0.0 && child <= 1.0) {
            return Err(Error::invalid(format!(
                "use_child_gene_prob must be above 0 and at most 1, but got {child}"
            )));
        }
        Ok(Self {
            eta,
            uniform_crossover_prob: probability("uniform_crossover_prob", uniform)?,
            use_child_gene_prob: child,
        })
    }

    fn eta(&self, is_multi_objective: bool) -> f64 {
        self.eta
            .unwrap_or(if is_multi_objective { 20.0 } else { 2.0 })
    }

    /// Mixes the genes of the parents and of the two children of the formula, and takes one child.
    fn mix(&self, children: [&[f64]; 2], parents: &[Vec<f64>], rng: &mut Rng) -> Vec<f64> {
        let n = parents[0].len();
        let pairs: Vec<[f64; 2]> = (0..n)
            .map(|j| {
                let pair = if rng.uniform() < self.use_child_gene_prob {
                    [children[0][j], children[1][j]]
                } else {
                    [parents[0][j], parents[1][j]]
                };
                if rng.uniform() >= self.uniform_crossover_prob {
                    pair
                } else {
                    [pair[1], pair[0]]
                }
            })
            .collect();
        let which = usize::from(rng.uniform() >= 0.5);
        pairs.into_iter().map(|pair| pair[which]).collect()
    }
}

/// Simulated binary crossover (Deb and Agrawal, *Simulated Binary Crossover for Continuous Search
/// Space*, 1995), with children that stay within the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SbxCrossover {
    binary: Binary,
}

impl SbxCrossover {
    /// A crossover with a distribution index (`None`: 20 with several objectives, 2 with one), the
    /// probability of swapping genes between the children and that of using a child's gene at all.
    /// The usual probabilities are 0.5.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a negative index or a probability outside of `[0, 1]`; the last
    /// one must be above 0.
    pub fn new(
        eta: Option<f64>,
        uniform_crossover_prob: f64,
        use_child_gene_prob: f64,
    ) -> Result<Self> {
        let binary = Binary::new(eta, uniform_crossover_prob, use_child_gene_prob)?;
        Ok(Self { binary })
    }
}

impl Crossover for SbxCrossover {
    fn crossover(
        &self,
        parents: &[Vec<f64>],
        bounds: &[[f64; 2]],
        is_multi_objective: bool,
        rng: &mut Rng,
    ) -> Vec<f64> {
        let power = self.binary.eta(is_multi_objective) + 1.0;
        let draws: Vec<f64> = bounds.iter().map(|_| rng.uniform()).collect();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for (j, ([low, high], u)) in bounds.iter().zip(draws).enumerate() {
            let (a, b) = (parents[0][j], parents[1][j]);
            let (min, max) = (a.min(b), a.max(b));
            let difference = (max - min).max(1e-10);
            let spread = |room: f64| {
                let beta: f64 = 1.0 + 2.0 * room / difference;
                let alpha = 2.0 - beta.powf(-power);
                let base = if u > 1.0 / alpha {
                    1.0 / (2.0 - u * alpha)
                } else {
                    u * alpha
                };
                base.powf(1.0 / power)
            };
            first.push(0.5 * ((min + max) - spread(min - low) * difference));
            second.push(0.5 * ((min + max) + spread(high - max) * difference));
        }
        self.binary.mix([&first, &second], parents, rng)
    }
}

/// Vector simulated binary crossover (Ballester and Carter, *Real-Parameter Genetic Algorithms for
/// Finding Multiple Optimal Solutions in Multi-modal Optimization*, 2003), whose children may lie
/// beyond the parents.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct VsbxCrossover {
    binary: Binary,
}

impl VsbxCrossover {
    /// As [`SbxCrossover::new`].
    ///
    /// # Errors
    /// As [`SbxCrossover::new`].
    pub fn new(
        eta: Option<f64>,
        uniform_crossover_prob: f64,
        use_child_gene_prob: f64,
    ) -> Result<Self> {
        let binary = Binary::new(eta, uniform_crossover_prob, use_child_gene_prob)?;
        Ok(Self { binary })
    }
}

impl Crossover for VsbxCrossover {
    fn crossover(
        &self,
        parents: &[Vec<f64>],
        bounds: &[[f64; 2]],
        is_multi_objective: bool,
        rng: &mut Rng,
    ) -> Vec<f64> {
        let exponent = 1.0 / (self.binary.eta(is_multi_objective) + 1.0);
        let betas: Vec<[f64; 2]> = bounds
            .iter()
            .map(|_| {
                let u = rng.uniform();
                [2.0 * u, 2.0 * (1.0 - u)].map(|v| (1.0 / v.max(1e-10)).powf(exponent))
            })
            .collect();
        let (plus_first, plus_second) = (rng.uniform() <= 0.5, rng.uniform() <= 0.5);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for (j, [b1, b2]) in betas.into_iter().enumerate() {
            let (x, y) = (parents[0][j], parents[1][j]);
            first.push(if plus_first {
                0.5 * ((1.0 + b1) * x + (1.0 - b2) * y)
            } else {
                0.5 * ((1.0 - b1) * x + (1.0 + b2) * y)
            });
            second.push(if plus_second {
                0.5 * ((3.0 - b1) * x - (1.0 - b2) * y)
            } else {
                0.5 * (-(1.0 - b1) * x + (3.0 - b2) * y)
            });
        }
        self.binary.mix([&first, &second], parents, rng)
    }
}

/// Simplex crossover of three parents (Tsutsui, Yamamura and Higuchi, *Multi-Parent Recombination
/// with Simplex Crossover in Real Coded Genetic Algorithms*, 1999).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SpxCrossover {
    epsilon: Option<f64>,
}

impl SpxCrossover {
    /// A crossover with an expansion rate; `None` is `sqrt(number of parameters + 2)`.
    #[must_use]
    pub fn new(epsilon: Option<f64>) -> Self {
        Self { epsilon }
    }
}

impl Crossover for SpxCrossover {
    fn n_parents(&self) -> usize {
        3
    }

    fn crossover(
        &self,
        parents: &[Vec<f64>],
        bounds: &[[f64; 2]],
        _is_multi_objective: bool,
        rng: &mut Rng,
    ) -> Vec<f64> {
        let n = self.n_parents() - 1;
        let rates: Vec<f64> = (0..n)
            .map(|k| rng.uniform().powf(1.0 / (k + 1) as f64))
            .collect();
        let epsilon = self
            .epsilon
            .unwrap_or_else(|| ((bounds.len() + 2) as f64).sqrt());
        (0..bounds.len())
            .map(|j| {
                let centre = parents.iter().map(|p| p[j]).sum::<f64>() / parents.len() as f64;
                let expanded: Vec<f64> = parents
                    .iter()
                    .map(|p| centre + epsilon * (p[j] - centre))
                    .collect();
                let offset = (1..=n).fold(0.0, |c, k| {
                    rates[k - 1] * (expanded[k - 1] - expanded[k] + c)
                });
                expanded[n] + offset
            })
            .collect()
    }
}

/// Unimodal normal distribution crossover of three parents (Ono and Kobayashi, *A Real-Coded Genetic
/// Algorithm for Function Optimization Using Unimodal Normal Distribution Crossover*, 1997).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UndxCrossover {
    sigma_xi: f64,
    sigma_eta: Option<f64>,
}

impl UndxCrossover {
    /// A crossover with the spread along the line of the first two parents and the spread orthogonal
    /// to it. The usual ones are 0.5 and `None`, which is `0.35 / sqrt(number of parameters)`.
    #[must_use]
    pub fn new(sigma_xi: f64, sigma_eta: Option<f64>) -> Self {
        Self {
            sigma_xi,
            sigma_eta,
        }
    }
}

impl Default for UndxCrossover {
    fn default() -> Self {
        Self {
            sigma_xi: 0.5,
            sigma_eta: None,
        }
    }
}

impl Crossover for UndxCrossover {
    fn n_parents(&self) -> usize {
        3
    }

    fn crossover(
        &self,
        parents: &[Vec<f64>],
        bounds: &[[f64; 2]],
        _is_multi_objective: bool,
        rng: &mut Rng,
    ) -> Vec<f64> {
        let n = bounds.len();
        let p: Vec<DVector<f64>> = parents
            .iter()
            .map(|p| DVector::from_column_slice(p))
            .collect();
        let sigma_eta = self.sigma_eta.unwrap_or(0.35 / (n as f64).sqrt());
        // Optuna takes the squared spreads as standard deviations; so do we.
        let etas: Vec<f64> = (0..n)
            .map(|_| rng.normal() * sigma_eta * sigma_eta)
            .collect();
        let xi = rng.normal() * self.sigma_xi * self.sigma_xi;
        let mut child = (&p[0] + &p[1]) * 0.5 + (&p[0] - &p[1]) * xi;
        if n > 1 {
            let line = &p[1] - &p[0];
            let axis = &line / line.norm().max(1e-10);
            let third = &p[2] - &p[0];
            let distance = (&third - &axis * third.dot(&axis)).norm();
            for (eta, e) in etas.iter().zip(orthogonal_basis(&axis)) {
                child += e * (eta * distance);
            }
        }
        child.iter().copied().collect()
    }
}

/// Orthonormal vectors of the space orthogonal to a unit vector (or of all but the first axis, when
/// it is zero).
fn orthogonal_basis(axis: &DVector<f64>) -> Vec<DVector<f64>> {
    let n = axis.len();
    let mut basis = DMatrix::identity(n, n);
    if axis.iter().any(|v| *v != 0.0) {
        basis.set_column(0, axis);
    }
    let q = basis.qr().q();
    (1..n).map(|j| q.column(j).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_centre_on_their_parents() {
        let parents = [vec![0.2, 1.0], vec![0.6, 3.0], vec![0.4, 2.0]];
        let bounds = [[0.0, 1.0], [0.0, 4.0]];
        let crossovers: [Box<dyn Crossover>; 6] = [
            Box::new(UniformCrossover::default()),
            Box::new(BlxAlphaCrossover::default()),
            Box::new(SbxCrossover::default()),
            Box::new(VsbxCrossover::default()),
            Box::new(SpxCrossover::default()),
            Box::new(UndxCrossover::default()),
        ];
        for (k, crossover) in crossovers.iter().enumerate() {
            let mut rng = Rng::new(Some(7));
            let n = 4000;
            let mut mean = [0.0; 2];
            for _ in 0..n {
                let child =
                    crossover.crossover(&parents[..crossover.n_parents()], &bounds, true, &mut rng);
                for (m, c) in mean.iter_mut().zip(&child) {
                    *m += c / f64::from(n);
                }
                assert!(child.iter().all(|v| v.is_finite()));
            }
            let [x, y] = mean;
            assert!(
                (x - 0.4).abs() < 0.05 && (y - 2.0).abs() < 0.25,
                "crossover {k}: {mean:?}"
            );
        }
    }

    #[test]
    fn equal_parents_have_equal_children() {
        let parents = vec![vec![0.5, 0.5]; 3];
        let bounds = [[0.0, 1.0]; 2];
        let mut rng = Rng::new(Some(1));
        for crossover in [
            &UndxCrossover::default() as &dyn Crossover,
            &SpxCrossover::default(),
            &BlxAlphaCrossover::default(),
        ] {
            assert_eq!(
                crossover.crossover(&parents, &bounds, false, &mut rng),
                [0.5, 0.5]
            );
        }
    }
}
