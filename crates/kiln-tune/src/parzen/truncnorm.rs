//! The truncated normal distribution, accurate in its tails.
//!
//! Bounds are in units of the standard deviation around the mean. The formulas are those of `scipy.stats.truncnorm`,
//! with the inverse by Newton's method as in Optuna.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, PI, SQRT_2};

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
    let mut x = if z < -5.0 {
        -(-2.0 * (z + LN_SQRT_2PI)).sqrt()
    } else {
        // The logistic approximation of the normal distribution function.
        -(3.0_f64.sqrt() / PI) * libm::expm1(-z).ln()
    };
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
    log_gauss_mass(t - 0.5 * width, t + 0.5 * width)
}
