//! The standard normal distribution, accurate in its tails.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// `ln(sqrt(2 π))`.
pub(crate) const LN_SQRT_2PI: f64 = 0.918_938_533_204_672_8;

/// Logarithm of the density.
pub(crate) fn ln_density(x: f64) -> f64 {
    -0.5 * x * x - LN_SQRT_2PI
}

/// Probability of a value at most `x`.
pub(crate) fn cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}

/// Logarithm of [`cdf`].
pub(crate) fn ln_cdf(x: f64) -> f64 {
    if x > 0.0 {
        (-0.5 * libm::erfc(x * FRAC_1_SQRT_2)).ln_1p()
    } else if x > -30.0 {
        cdf(x).ln()
    } else {
        // The asymptotic series 1 - 1/x² + 3/x⁴ - ..., which has converged by then.
        let inverse = 1.0 / (x * x);
        let mut term = 1.0;
        let mut sum = 1.0;
        for k in 0..8 {
            term *= -f64::from(2 * k + 1) * inverse;
            sum += term;
        }
        ln_density(x) - (-x).ln() + sum.ln()
    }
}

/// Derivative of [`ln_cdf`].
pub(crate) fn ln_cdf_derivative(x: f64) -> f64 {
    (ln_density(x) - ln_cdf(x)).exp()
}

/// The value below which a draw lies with probability `p`; infinite at 0 and 1.
///
/// Acklam's rational approximation, refined by two steps of Halley's method.
pub(crate) fn quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
    ];
    if p.is_nan() || !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if p > 0.5 {
        // 1 - p is exact there, and the lower tail keeps its relative accuracy.
        return -quantile(1.0 - p);
    }
    if p == 0.0 {
        return f64::NEG_INFINITY;
    }
    let horner = |c: &[f64], x: f64| c.iter().fold(0.0, |sum, k| sum * x + k);
    let mut x = if p < 0.02425 {
        let q = (-2.0 * p.ln()).sqrt();
        horner(&C, q) / (horner(&D, q) * q + 1.0)
    } else {
        let q = p - 0.5;
        let r = q * q;
        horner(&A, r) * q / (horner(&B, r) * r + 1.0)
    };
    for _ in 0..2 {
        let error = (cdf(x) - p) * (2.0 * PI).sqrt() * (0.5 * x * x).exp();
        if error.is_finite() {
            x -= error / (1.0 + 0.5 * x * error);
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    // Numbers of scipy 1.17: `scipy.special.log_ndtr` and `ndtri`.
    #[test]
    fn tails_equal_scipy() {
        for (x, want) in [
            (-100.0, -5005.524208694205),
            (-31.0, -484.8539636271794),
            (-29.0, -424.78741990973026),
            (-5.0, -15.064998393988727),
            (-0.5, -1.1759117615936188),
            (0.5, -0.36894641528865635),
            (3.0, -0.0013508099647481925),
            (8.0, -6.220960574271742e-16),
        ] {
            assert!((ln_cdf(x) / want - 1.0).abs() < 1e-13, "{x}");
        }
        for (p, want) in [
            (1e-300, -37.0470962993612),
            (1e-10, -6.361340902404056),
            (0.001, -3.090232306167813),
            (0.02425, -1.972961051311885),
            (0.3, -0.5244005127080409),
            (0.5, 0.0),
            (0.9, 1.2815515655446004),
            (0.999999, 4.753424308817087),
        ] {
            let got = quantile(p);
            assert!(
                (got - want).abs() <= 1e-13 * f64::abs(want),
                "{p}: {got} {want}"
            );
        }
    }

    #[test]
    fn the_derivative_is_the_slope() {
        for x in [-50.0, -3.0, 0.0, 2.0] {
            let slope = (ln_cdf(x + 1e-5) - ln_cdf(x - 1e-5)) / 2e-5;
            assert!((slope / ln_cdf_derivative(x) - 1.0).abs() < 1e-6, "{x}");
        }
    }
}
