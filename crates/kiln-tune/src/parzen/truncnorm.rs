//! The truncated normal distribution, accurate in its tails.
//!
//! Bounds are in units of the standard deviation around the mean. The formulas are those of `scipy.stats.truncnorm`,
//! with the inverse by Newton's method as in Optuna.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, SQRT_2};

/// `ln(sqrt(2 π))`.
const LN_SQRT_2PI: f64 = 0.918_938_533_204_672_8;

/// Where the mass outside cannot be seen in a double any more.
const FAR: f64 = 9.0;

/// The normal distribution function, by the error function that is accurate where `x` lies.
#[must_use]
pub fn ndtr(x: f64) -> f64 {
    let z = x / SQRT_2;
    if z < -FRAC_1_SQRT_2 {
        0.5 * libm::erfc(-z)
    } else if z < FRAC_1_SQRT_2 {
        0.5 + 0.5 * libm::erf(z)
    } else {
        1.0 - 0.5 * libm::erfc(z)
    }
}

/// The normal distribution function with an absolute error of one rounding, which is enough next to 1.
fn ndtr_absolute(x: f64) -> f64 {
    if x < -FAR {
        0.0
    } else {
        0.5 + 0.5 * libm::erf(x / SQRT_2)
    }
}

/// The logarithm of the normal distribution function.
///
/// ```
/// use kiln_tune::parzen::truncnorm::log_ndtr;
///
/// assert_eq!(log_ndtr(0.0), -std::f64::consts::LN_2);
/// assert!((log_ndtr(-50.0) + 1254.8313611394199).abs() < 1e-9);
/// ```
#[must_use]
pub fn log_ndtr(x: f64) -> f64 {
    if x > 6.0 {
        return -ndtr(-x);
    }
    if x > -20.0 {
        return ndtr(x).ln();
    }
    // The asymptotic series 1 - 1/x^2 + 3/x^4 - ..., summed until it stands still.
    let inverse = 1.0 / (x * x);
    let (mut sum, mut term, mut previous) = (1.0, 1.0, 0.0);
    let mut odd = 1.0;
    while f64::abs(previous - sum) > f64::EPSILON {
        previous = sum;
        term *= -odd * inverse;
        odd += 2.0;
        sum += term;
    }
    -0.5 * x * x - (-x).ln() - LN_SQRT_2PI + f64::ln(sum)
}

/// The logarithm of the probability of `[a, b]`.
///
/// ```
/// use kiln_tune::parzen::truncnorm::log_gauss_mass;
///
/// assert!((log_gauss_mass(-1.0, 1.0).exp() - 0.6826894921370859).abs() < 1e-15);
/// ```
#[must_use]
pub fn log_gauss_mass(a: f64, b: f64) -> f64 {
    if b <= 0.0 {
        log_mass_left(a, b)
    } else if a > 0.0 {
        // By symmetry in the left tail, where the distribution function keeps its relative accuracy.
        log_mass_left(-b, -a)
    } else {
        libm::log1p(-ndtr_absolute(a) - ndtr_absolute(-b))
    }
}

fn log_mass_left(a: f64, b: f64) -> f64 {
    let upper = log_ndtr(b);
    upper + libm::log1p(-(log_ndtr(a) - upper).exp())
}

/// The value below which a share `q` of the normal distribution truncated to `[a, b]` lies.
///
/// NaN when `a == b`.
#[must_use]
pub fn ppf(q: f64, a: f64, b: f64) -> f64 {
    if a == b {
        return f64::NAN;
    }
    if q == 0.0 {
        return a;
    }
    if q == 1.0 {
        return b;
    }
    if a < 0.0 && b > 0.0 {
        let (below, above) = (ndtr_absolute(a), ndtr_absolute(-b));
        let p = below + q * (1.0 - below - above);
        // Away from the tails there is no need for logarithms.
        if p > 0.01 && p < 0.99 {
            return central_quantile(p).clamp(a, b);
        }
    }
    let log_mass = log_gauss_mass(a, b);
    if a < 0.0 {
        ndtri_exp(log_sum(log_ndtr(a), q.ln() + log_mass))
    } else {
        -ndtri_exp(log_sum(log_ndtr(-b), libm::log1p(-q) + log_mass))
    }
}

fn log_sum(p: f64, q: f64) -> f64 {
    let (high, low) = if p > q { (p, q) } else { (q, p) };
    if low == f64::NEG_INFINITY {
        high
    } else {
        high + libm::log1p((low - high).exp())
    }
}

/// The inverse of [`log_ndtr`].
///
/// ```
/// use kiln_tune::parzen::truncnorm::{log_ndtr, ndtri_exp};
///
/// assert!((ndtri_exp(log_ndtr(-3.0)) + 3.0).abs() < 1e-12);
/// ```
#[must_use]
pub fn ndtri_exp(y: f64) -> f64 {
    // Close to zero the other tail is the accurate one.
    let flipped = y > -1e-2;
    let z = if flipped { (-libm::expm1(y)).ln() } else { y };
    let mut x = approximate_quantile(z);
    for _ in 0..100 {
        let log_ndtr_x = log_ndtr(x);
        let log_density = -0.5 * x * x - LN_SQRT_2PI;
        let step = (log_ndtr_x - z) * (log_ndtr_x - log_density).exp();
        x -= step;
        if step.abs() < 1e-8 * x.abs() || step == 0.0 {
            break;
        }
    }
    debug_assert!(
        !(z > -LN_2 && flipped),
        "a flipped value is in the left tail"
    );
    if flipped { -x } else { x }
}

/// The normal quantile for probabilities away from 0 and 1, to the last digits.
fn central_quantile(p: f64) -> f64 {
    let x = if p > 0.024_25 && p < 0.975_75 {
        approximate_central_quantile(p)
    } else {
        approximate_quantile(p.ln())
    };
    // One step of Halley's method.
    let u = (ndtr(x) - p) * (0.5 * x * x + LN_SQRT_2PI).exp();
    x - u / (1.0 + 0.5 * x * u)
}

/// Acklam's approximation of the normal quantile between 0.02425 and 0.97575.
fn approximate_central_quantile(p: f64) -> f64 {
    const CENTRE: [[f64; 6]; 2] = [
        [
            -3.969_683_028_665_376e1,
            2.209_460_984_245_205e2,
            -2.759_285_104_469_687e2,
            1.383_577_518_672_69e2,
            -3.066_479_806_614_716e1,
            2.506_628_277_459_239,
        ],
        [
            -5.447_609_879_822_406e1,
            1.615_858_368_580_409e2,
            -1.556_989_798_598_866e2,
            6.680_131_188_771_972e1,
            -1.328_068_155_288_572e1,
            1.0,
        ],
    ];
    let q = p - 0.5;
    let r = q * q;
    polynomial(&CENTRE[0], r) * q / polynomial(&CENTRE[1], r)
}

fn polynomial(coefficients: &[f64; 6], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |sum, c| sum * x + c)
}

/// A first guess of the value whose log distribution function is `z`, good to nine digits where `exp(z)` can be seen:
/// P. J. Acklam's rational approximation of the normal quantile.
fn approximate_quantile(z: f64) -> f64 {
    const TAIL: [[f64; 6]; 2] = [
        [
            -7.784_894_002_430_293e-3,
            -3.223_964_580_411_365e-1,
            -2.400_758_277_161_838,
            -2.549_732_539_343_734,
            4.374_664_141_464_968,
            2.938_163_982_698_783,
        ],
        [
            0.0,
            7.784_695_709_041_462e-3,
            3.224_671_290_700_398e-1,
            2.445_134_137_142_996,
            3.754_408_661_907_416,
            1.0,
        ],
    ];
    if z > 0.024_25_f64.ln() && z < 0.975_75_f64.ln() {
        return approximate_central_quantile(z.exp());
    }
    if z >= 0.975_75_f64.ln() {
        let q = (-2.0 * (-libm::expm1(z)).ln()).sqrt();
        return -polynomial(&TAIL[0], q) / polynomial(&TAIL[1], q);
    }
    let q = (-2.0 * z).sqrt();
    if z > -700.0 {
        polynomial(&TAIL[0], q) / polynomial(&TAIL[1], q)
    } else {
        -(-2.0 * (z + LN_SQRT_2PI)).sqrt()
    }
}

/// `-ln(sigma) - ln(mass of [low, high]) - ln(sqrt(2 π))` of a truncated normal: what its log-density adds to the
/// square.
pub(super) fn log_normalization(mu: f64, sigma: f64, log_sigma: f64, low: f64, high: f64) -> f64 {
    -log_sigma - LN_SQRT_2PI - log_gauss_mass((low - mu) / sigma, (high - mu) / sigma)
}

/// The logarithm of the normal mass of the interval of the given width around `t`.
pub(super) fn log_cell_mass(t: f64, width: f64) -> f64 {
    let z = t * width;
    if width < 0.05 && z.abs() < 0.3 {
        // Midpoint rule with Hermite corrections; the next term is below 1e-12.
        let (w2, t2) = (width * width, t * t);
        let correction = (t2 - 1.0) / 24.0
            + w2 * (((t2 - 6.0) * t2 + 3.0) / 1920.0
                + w2 * (((t2 - 15.0) * t2 + 45.0) * t2 - 15.0) / 322_560.0);
        return -0.5 * t2 - LN_SQRT_2PI + width.ln() + libm::log1p(w2 * correction);
    }
    // In the left tail, where both values of the distribution function keep their relative accuracy. Their difference
    // loses none to speak of, as narrow cells near the centre are treated above.
    let near = -t.abs() + 0.5 * width;
    let far = -t.abs() - 0.5 * width;
    if near > -35.0 && near < 2.0 {
        let mass = 0.5 * (libm::erfc(-near * FRAC_1_SQRT_2) - libm::erfc(-far * FRAC_1_SQRT_2));
        return mass.ln();
    }
    log_gauss_mass(t - 0.5 * width, t + 0.5 * width)
}
