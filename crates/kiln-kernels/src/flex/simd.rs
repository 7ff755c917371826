//! The innermost loops, over slices that are in the first-level cache when they are read twice.

use core::mem::MaybeUninit;

/// How many partial sums a loop keeps: four vectors of eight.
const LANES: usize = 32;

/// Elements of a block whose sums are made in `f32`. At 128 additions for each lane the rounding of the sum is that of
/// its last addition; what lies above is added in `f64`.
pub(super) const BLOCK: usize = 4096;

/// Computes an expression, compiled a second time for AVX2 and chosen where the processor has it.
///
/// A macro, since each of the two must be a closure that is called in one place: only then is it inlined into the function
/// that has the processor's features, however large it is.
macro_rules! vectorized {
    (|| $body:expr) => {{
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        {
            match pulp::x86::V3::try_new() {
                Some(v3) => v3.vectorize(|| $body),
                None => $body,
            }
        }
        #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
        {
            $body
        }
    }};
}
pub(super) use vectorized;

/// Memory for an output of which every element will be written.
pub(super) fn uninit(len: usize) -> Box<[MaybeUninit<f32>]> {
    Box::new_uninit_slice(len)
}

/// The output, every element of which has been written.
#[allow(unsafe_code)] // Clearing an output first would cost as much as writing it.
pub(super) fn written(out: Box<[MaybeUninit<f32>]>) -> Vec<f32> {
    // SAFETY: the callers hand out disjoint pieces that cover `out` and write each element of a piece.
    unsafe { out.assume_init() }.into_vec()
}

/// Sums over several pieces of an array, kept in lanes until the end.
struct Sum([f32; LANES]);

impl Sum {
    #[inline(always)]
    fn new() -> Self {
        Self([0.0; LANES])
    }

    #[inline(always)]
    fn total(&self) -> f64 {
        let mut half = [0.0f64; 8];
        for lanes in self.0.as_chunks::<8>().0 {
            for (h, &lane) in half.iter_mut().zip(lanes) {
                *h += f64::from(lane);
            }
        }
        let mut total = 0.0;
        for sum in half {
            total += sum;
        }
        total
    }
}

/// Mean and sum of squared differences from it of `n` elements.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    pub(super) n: f64,
    pub(super) mean: f64,
    pub(super) m2: f64,
}

impl Moments {
    /// The moments of both parts together.
    #[inline(always)]
    pub(super) fn merge(self, other: Self) -> Self {
        let n = self.n + other.n;
        if n == 0.0 {
            return self;
        }
        let delta = other.mean - self.mean;
        let share = other.n / n;
        Self {
            n,
            mean: self.mean + delta * share,
            m2: self.m2 + other.m2 + delta * delta * self.n * share,
        }
    }
}

/// What the output needs: the mean in two parts, since an `f32` is too short for one far larger than the deviation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stats {
    pub(super) mean: f32,
    pub(super) mean_rest: f32,
    pub(super) var: f32,
    pub(super) rstd: f32,
}

impl Stats {
    #[inline(always)]
    pub(super) fn of(moments: Moments, eps: f64) -> Self {
        let var = moments.m2 / moments.n;
        let mean = moments.mean as f32;
        Self {
            mean,
            mean_rest: (moments.mean - f64::from(mean)) as f32,
            var: var as f32,
            rstd: (1.0 / (var + eps).sqrt()) as f32,
        }
    }
}

/// The moments of pieces with not much more than [`BLOCK`] elements together; around zero if not `centered`.
#[inline(always)]
pub(super) fn block_moments<'a>(
    pieces: impl Iterator<Item = &'a [f32]> + Clone,
    centered: bool,
) -> Moments {
    let (mut n, mut sum) = (0usize, Sum::new());
    for piece in pieces.clone() {
        n += piece.len();
        if centered {
            add_sum(piece, &mut sum);
        }
    }
    let total = n as f64;
    let rough = (sum.total() / total) as f32;
    let (mut first, mut second) = (Sum::new(), Sum::new());
    for piece in pieces.clone() {
        add_centered(piece, rough, &mut first, &mut second);
    }
    let (first, second) = (first.total(), second.total());
    if !(first.is_finite() && second.is_finite()) {
        return wide_moments(pieces, centered);
    }
    // The first sum corrects for the rounding of `rough`, exactly, since `x - rough` is exact where it matters.
    let shift = if centered { first / total } else { 0.0 };
    Moments {
        n: total,
        mean: f64::from(rough) + shift,
        m2: second - shift * first,
    }
}

/// The same where a square does not fit in `f32`.
#[cold]
fn wide_moments<'a>(pieces: impl Iterator<Item = &'a [f32]> + Clone, centered: bool) -> Moments {
    let all = || pieces.clone().flatten().map(|&x| f64::from(x));
    let n = all().count() as f64;
    let mean = if centered {
        all().sum::<f64>() / n
    } else {
        0.0
    };
    Moments {
        n,
        mean,
        m2: all().map(|x| (x - mean) * (x - mean)).sum(),
    }
}

/// The sum of all values, in lanes of `f32` and then in `f64`.
#[inline(always)]
pub(super) fn sum(x: &[f32]) -> f64 {
    let mut sum = 0.0;
    for block in x.chunks(BLOCK) {
        let mut lanes = Sum::new();
        add_sum(block, &mut lanes);
        sum += lanes.total();
    }
    sum
}

#[inline(always)]
fn add_sum(x: &[f32], sum: &mut Sum) {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut acc = sum.0;
    for chunk in chunks {
        for i in 0..LANES {
            acc[i] += chunk[i];
        }
    }
    for (a, &x) in acc.iter_mut().zip(rest) {
        *a += x;
    }
    sum.0 = acc;
}

#[inline(always)]
fn add_centered(x: &[f32], mean: f32, first: &mut Sum, second: &mut Sum) {
    let (chunks, rest) = x.as_chunks::<LANES>();
    #[cfg(target_arch = "x86_64")]
    let chunks = match pulp::x86::V3::try_new() {
        Some(v3) => {
            add_centered_v3(v3, chunks, mean, first, second);
            &[]
        }
        None => chunks,
    };
    let (mut a, mut b) = (first.0, second.0);
    for chunk in chunks {
        for i in 0..LANES {
            let d = chunk[i] - mean;
            a[i] += d;
            b[i] += d * d;
        }
    }
    for (i, &x) in rest.iter().enumerate() {
        let d = x - mean;
        a[i] += d;
        b[i] += d * d;
    }
    (first.0, second.0) = (a, b);
}

/// With eight registers for the sums; the compiler, left alone, keeps them in memory.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn add_centered_v3(
    v3: pulp::x86::V3,
    chunks: &[[f32; LANES]],
    mean: f32,
    first: &mut Sum,
    second: &mut Sum,
) {
    use pulp::f32x8;
    let mean = v3.splat_f32x8(mean);
    let mut a: [f32x8; LANES / 8] = pulp::cast(first.0);
    let mut b: [f32x8; LANES / 8] = pulp::cast(second.0);
    for chunk in chunks {
        let x: [f32x8; LANES / 8] = pulp::cast(*chunk);
        for i in 0..LANES / 8 {
            let d = v3.sub_f32x8(x[i], mean);
            a[i] = v3.add_f32x8(a[i], d);
            b[i] = v3.mul_add_f32x8(d, d, b[i]);
        }
    }
    (first.0, second.0) = (pulp::cast(a), pulp::cast(b));
}

/// What the backward sums up: of the gradient, of its product with the normalized input, and of that input itself,
/// which is not zero because the mean was rounded to `f32`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dots {
    pub(super) g: f64,
    pub(super) gx: f64,
    pub(super) x: f64,
}

impl core::ops::AddAssign for Dots {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        self.g += other.g;
        self.gx += other.gx;
        self.x += other.x;
    }
}

/// Adds to the sums of [`Dots`], of gradients times their weights if there are any, in registers.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn add_dots_v3(
    v3: pulp::x86::V3,
    gs: &[[f32; LANES]],
    ws: Option<&[[f32; LANES]]>,
    xs: &[[f32; LANES]],
    (mean, rstd): (f32, f32),
    sums: [&mut [f32; LANES]; 3],
) {
    use pulp::f32x8;
    type Vectors = [f32x8; LANES / 8];
    let (mean, rstd) = (v3.splat_f32x8(mean), v3.splat_f32x8(rstd));
    let [a, b, c] = sums;
    let (mut sum_g, mut sum_gx, mut sum_x): (Vectors, Vectors, Vectors) =
        (pulp::cast(*a), pulp::cast(*b), pulp::cast(*c));
    for k in 0..gs.len().min(xs.len()) {
        let (g, x): (Vectors, Vectors) = (pulp::cast(gs[k]), pulp::cast(xs[k]));
        for i in 0..LANES / 8 {
            let g = match ws {
                Some(ws) => v3.mul_f32x8(g[i], pulp::cast::<_, Vectors>(ws[k])[i]),
                None => g[i],
            };
            let xhat = v3.mul_f32x8(v3.sub_f32x8(x[i], mean), rstd);
            sum_g[i] = v3.add_f32x8(sum_g[i], g);
            sum_gx[i] = v3.mul_add_f32x8(g, xhat, sum_gx[i]);
            sum_x[i] = v3.add_f32x8(sum_x[i], xhat);
        }
    }
    (*a, *b, *c) = (pulp::cast(sum_g), pulp::cast(sum_gx), pulp::cast(sum_x));
}

/// The sums of pairs of pieces (gradient, input) with not much more than [`BLOCK`] elements together.
#[inline(always)]
pub(super) fn block_dots<'a>(
    pieces: impl Iterator<Item = (&'a [f32], &'a [f32])>,
    mean: f32,
    rstd: f32,
) -> Dots {
    let (mut a, mut b, mut c) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
    for (g, x) in pieces {
        let (gs, g_rest) = g.as_chunks::<LANES>();
        let (xs, x_rest) = x.as_chunks::<LANES>();
        #[cfg(target_arch = "x86_64")]
        let (gs, xs) = match pulp::x86::V3::try_new() {
            Some(v3) => {
                add_dots_v3(v3, gs, None, xs, (mean, rstd), [&mut a, &mut b, &mut c]);
                (&gs[..0], &xs[..0])
            }
            None => (gs, xs),
        };
        for (g, x) in gs.iter().zip(xs) {
            for i in 0..LANES {
                let xhat = (x[i] - mean) * rstd;
                a[i] += g[i];
                b[i] += g[i] * xhat;
                c[i] += xhat;
            }
        }
        for (i, (&g, &x)) in g_rest.iter().zip(x_rest).enumerate() {
            let xhat = (x - mean) * rstd;
            a[i] += g;
            b[i] += g * xhat;
            c[i] += xhat;
        }
    }
    Dots {
        g: Sum(a).total(),
        gx: Sum(b).total(),
        x: Sum(c).total(),
    }
}

/// The sums of one piece whose gradient has a weight for each element.
#[inline(always)]
pub(super) fn weighted_dots(g: &[f32], w: &[f32], x: &[f32], mean: f32, rstd: f32) -> Dots {
    let mut dots = Dots::default();
    for ((g, w), x) in g.chunks(BLOCK).zip(w.chunks(BLOCK)).zip(x.chunks(BLOCK)) {
        let (mut a, mut b, mut c) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
        let (gs, g_rest) = g.as_chunks::<LANES>();
        let (ws, w_rest) = w.as_chunks::<LANES>();
        let (xs, x_rest) = x.as_chunks::<LANES>();
        #[cfg(target_arch = "x86_64")]
        let (gs, ws, xs) = match pulp::x86::V3::try_new() {
            Some(v3) => {
                let sums = [&mut a, &mut b, &mut c];
                add_dots_v3(v3, gs, Some(ws), xs, (mean, rstd), sums);
                (&gs[..0], &ws[..0], &xs[..0])
            }
            None => (gs, ws, xs),
        };
        for ((g, w), x) in gs.iter().zip(ws).zip(xs) {
            for i in 0..LANES {
                let (h, xhat) = (g[i] * w[i], (x[i] - mean) * rstd);
                a[i] += h;
                b[i] += h * xhat;
                c[i] += xhat;
            }
        }
        for (i, ((&g, &w), &x)) in g_rest.iter().zip(w_rest).zip(x_rest).enumerate() {
            let (h, xhat) = (g * w, (x - mean) * rstd);
            a[i] += h;
            b[i] += h * xhat;
            c[i] += xhat;
        }
        dots += Dots {
            g: Sum(a).total(),
            gx: Sum(b).total(),
            x: Sum(c).total(),
        };
    }
    dots
}

/// `out = (x - mean) * scale + shift`.
#[inline(always)]
pub(super) fn affine(out: &mut [MaybeUninit<f32>], x: &[f32], mean: f32, scale: f32, shift: f32) {
    for (out, &x) in out.iter_mut().zip(x) {
        out.write((x - mean) * scale + shift);
    }
}

/// `out = ((x - mean) * rstd - rest) * w + b`, a weight and a bias for each element.
#[inline(always)]
pub(super) fn elementwise(
    out: &mut [MaybeUninit<f32>],
    x: &[f32],
    stats: Stats,
    weight: &[f32],
    bias: Option<&[f32]>,
) {
    let rest = stats.mean_rest * stats.rstd;
    let xhat = |x: f32| (x - stats.mean) * stats.rstd - rest;
    match bias {
        Some(bias) => {
            for (((out, &x), &w), &b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                out.write(xhat(x) * w + b);
            }
        }
        None => {
            for ((out, &x), &w) in out.iter_mut().zip(x).zip(weight) {
                out.write(xhat(x) * w);
            }
        }
    }
}

/// The numbers with which a gradient becomes that of the input: `dx = g * scale - constant - x̂ * along`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pull {
    pub(super) mean: f32,
    pub(super) rstd: f32,
    pub(super) constant: f32,
    pub(super) along: f32,
    /// The mean of x̂ as computed from the rounded mean.
    pub(super) offset: f32,
}

impl Pull {
    /// From the sums over `n` elements, the gradient already weighted.
    #[inline(always)]
    pub(super) fn of(dots: Dots, n: f64, mean: f32, rstd: f32, centered: bool) -> Self {
        let offset = if centered { dots.x / n } else { 0.0 };
        let along = f64::from(rstd) * (dots.gx - offset * dots.g) / n;
        let constant = if centered {
            f64::from(rstd) * dots.g / n
        } else {
            0.0
        };
        Self {
            mean,
            rstd,
            constant: (constant - offset * along) as f32,
            along: along as f32,
            offset: offset as f32,
        }
    }
}

/// The gradient of the input written over that of the output, one weight for all.
#[inline(always)]
pub(super) fn pull(g: &mut [f32], x: &[f32], scale: f32, p: Pull) {
    for (g, &x) in g.iter_mut().zip(x) {
        let xhat = (x - p.mean) * p.rstd;
        *g = *g * scale - p.constant - xhat * p.along;
    }
}

/// The same with a weight for each element, adding up the gradients of weight and bias on the way.
#[inline(always)]
pub(super) fn pull_elementwise(
    g: &mut [f32],
    x: &[f32],
    weight: &[f32],
    dweight: &mut [f32],
    dbias: &mut [f32],
    p: Pull,
) {
    for ((((g, &x), &w), dw), db) in g.iter_mut().zip(x).zip(weight).zip(dweight).zip(dbias) {
        let xhat = (x - p.mean) * p.rstd;
        *dw += *g * (xhat - p.offset);
        *db += *g;
        *g = *g * w * p.rstd - p.constant - xhat * p.along;
    }
}
