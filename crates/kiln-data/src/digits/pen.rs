//! From strokes to pixels: warp, slant, fit, ink, centre.

use super::rng::Rng;
use super::sketch::{Point, Sketch, sin_cos_turns};

/// Height and width of a picture.
pub(super) const SIDE: usize = 28;
/// The box that MNIST fits a digit into before it is centred.
const BOX: f32 = 20.0;

/// Draws one sketch as one person would on one day: every habit is drawn at random first.
pub(super) fn draw(sketch: &mut Sketch, rng: &mut Rng, out: &mut [u8]) {
    let tremor = 0.005 + 0.016 * rng.unit();
    sketch.jitter(rng, tremor, 0.025);
    let bare = sketch.is_bare_line();
    let mut strokes = sketch.flatten();
    strokes.iter_mut().for_each(|stroke| trim(stroke, rng));
    bend(&mut strokes, rng);
    let mut pen = Pen::new(rng, bare);
    let narrow = fit(&mut strokes, pen.reach());
    if !bare {
        // Nobody writes a narrow 8 with a broad pen: it could not be read.
        pen.width = pen.width.min((0.43 * narrow).max(1.2));
        fit(&mut strokes, pen.reach());
    }
    let mut ink = [f32::MIN; SIDE * SIDE];
    pen.ink(&strokes, rng, &mut ink);
    pen.develop(rng, &mut ink);
    center(&ink, out);
}

/// Sets the pen down late or lifts it early, as in haste: rings stay open, tails get short.
fn trim(stroke: &mut Vec<Point>, rng: &mut Rng) {
    let mut cut = || match rng.chance(0.25) {
        true => (rng.range(0.0, 0.09) * stroke.len() as f32) as usize,
        false => 0,
    };
    let (start, end) = (cut(), cut());
    stroke.truncate(stroke.len() - end);
    stroke.drain(..start);
}

/// Bends the paper (a smooth random field), then slants, turns and stretches the whole.
fn bend(strokes: &mut [Vec<Point>], rng: &mut Rng) {
    let field = Field::new(rng);
    let shear = (0.14 + 0.24 * rng.normal()).clamp(-0.5, 0.85);
    let (sin, cos) = sin_cos_turns((0.018 * rng.normal()).clamp(-0.05, 0.05));
    let stretch = (0.92 + 0.19 * rng.normal()).clamp(0.56, 1.5);
    for p in strokes.iter_mut().flatten() {
        let moved = field.displace(*p);
        let (x, y) = ((moved.x - 0.5) * stretch, moved.y - 0.5);
        let x = x - shear * y;
        *p = Point {
            x: cos * x - sin * y,
            y: sin * x + cos * y,
        };
    }
}

/// A smooth random displacement: cubic B-splines over a lattice of random vectors, which is the
/// vector form of the elastic distortion of Simard, Steinkraus and Platt (2003).
struct Field {
    vectors: [[(f32, f32); Self::N]; Self::N],
}

impl Field {
    /// Lattice points per side; cells are half as wide as a digit is tall, one cell more around it.
    const N: usize = 6;

    fn new(rng: &mut Rng) -> Self {
        let strength = 0.02 + 0.075 * rng.unit();
        let mut vectors = [[(0.0, 0.0); Self::N]; Self::N];
        for vector in vectors.iter_mut().flatten() {
            *vector = (strength * rng.normal(), strength * rng.normal());
        }
        Self { vectors }
    }

    fn displace(&self, p: Point) -> Point {
        // The unit square spans lattice coordinates 1 to 4.
        let (i, wx) = weights(p.x * 3.0 + 1.0);
        let (j, wy) = weights(p.y * 3.0 + 1.0);
        let (mut dx, mut dy) = (0.0, 0.0);
        for (row, wy) in self.vectors[j..j + 4].iter().zip(wy) {
            for (&(vx, vy), wx) in row[i..i + 4].iter().zip(wx) {
                dx += wx * wy * vx;
                dy += wx * wy * vy;
            }
        }
        Point {
            x: p.x + dx,
            y: p.y + dy,
        }
    }
}

/// First lattice index and the four cubic B-spline weights around coordinate `u`.
fn weights(u: f32) -> (usize, [f32; 4]) {
    let u = u.clamp(1.0, 4.0 - 1e-3);
    let cell = u.floor();
    let t = u - cell;
    let s = 1.0 - t;
    let (t2, s2) = (t * t, s * s);
    let weights = [
        s2 * s / 6.0,
        (4.0 - 6.0 * t2 + 3.0 * t2 * t) / 6.0,
        (4.0 - 6.0 * s2 + 3.0 * s2 * s) / 6.0,
        t2 * t / 6.0,
    ];
    (cell as usize - 1, weights)
}

/// Scales and moves the strokes so that they and their ink just fit the box at the origin; gives
/// the shorter side of what they then span.
fn fit(strokes: &mut [Vec<Point>], reach: f32) -> f32 {
    let (mut low, mut high) = ((f32::MAX, f32::MAX), (f32::MIN, f32::MIN));
    for p in strokes.iter().flatten() {
        low = (low.0.min(p.x), low.1.min(p.y));
        high = (high.0.max(p.x), high.1.max(p.y));
    }
    let longer = (high.0 - low.0).max(high.1 - low.1).max(1e-3);
    let scale = (BOX - 2.0 * reach) / longer;
    for p in strokes.iter_mut().flatten() {
        *p = Point {
            x: (p.x - low.0) * scale + reach,
            y: (p.y - low.1) * scale + reach,
        };
    }
    scale * (high.0 - low.0).min(high.1 - low.1)
}

struct Pen {
    /// Mean width of the line in pixels.
    width: f32,
    /// Pixels over which the edge of a line fades.
    blur: f32,
    /// How much the width changes with the direction of the line, and the direction (as the cosine
    /// and sine of twice its angle) in which it is widest.
    nib: (f32, f32),
    /// How much the pressure varies along a stroke.
    pressure: f32,
    /// Darkness of full ink.
    gain: f32,
    /// How far paper and ink fray the edges, in units of the fade.
    fray: f32,
}

impl Pen {
    fn new(rng: &mut Rng, bare: bool) -> Self {
        // One bare line stays legible however thick it is.
        let heavy = if bare {
            1.0 + 0.35 * rng.unit() * rng.unit()
        } else {
            1.0
        };
        let (sin, cos) = sin_cos_turns(rng.unit());
        let nib = 0.22 * rng.unit();
        Self {
            width: (2.7 + 0.76 * rng.normal()).clamp(1.15, 4.5) * heavy,
            blur: rng.range(0.9, 1.5),
            nib: (nib * cos, nib * sin),
            pressure: 0.2 * rng.unit(),
            gain: rng.range(0.97, 1.1),
            fray: 0.2 * rng.unit() * rng.unit(),
        }
    }

    /// How far ink goes from the middle of a line.
    fn reach(&self) -> f32 {
        0.5 * (self.width + self.blur)
    }

    /// Adds the ink of all strokes; a pixel takes the darkest line that covers it.
    fn ink(&self, strokes: &[Vec<Point>], rng: &mut Rng, ink: &mut [f32; SIDE * SIDE]) {
        for stroke in strokes {
            // Pressure runs along the stroke as a parabola through three random values.
            let ends = [rng.normal(), rng.normal(), rng.normal()].map(|n| self.pressure * n);
            let radius = |i: usize| {
                let t = i as f32 / (stroke.len() - 1).max(1) as f32;
                let s = 1.0 - t;
                let change = s * s * ends[0] + 2.0 * s * t * ends[1] + t * t * ends[2];
                (self.width * 0.5 * (1.0 + change)).max(0.4)
            };
            if let [dot] = stroke[..] {
                self.segment(dot, dot, radius(0), radius(0), ink);
            }
            for (i, pair) in stroke.windows(2).enumerate() {
                self.segment(pair[0], pair[1], radius(i), radius(i + 1), ink);
            }
        }
    }

    /// Turns the depth under the edge of the lines into darkness from 0 to 1.
    fn develop(&self, rng: &mut Rng, ink: &mut [f32; SIDE * SIDE]) {
        for depth in ink.iter_mut() {
            *depth = match *depth > -0.5 && *depth < 1.5 {
                true => (*depth + self.fray * rng.normal()) * self.gain,
                false => *depth,
            };
            *depth = depth.clamp(0.0, 1.0);
        }
    }

    /// Deepens the pixels near a line from `a` to `b` whose radius goes from `ra` to `rb`: 0.5 on
    /// its edge, 1 where it is full.
    fn segment(&self, a: Point, b: Point, ra: f32, rb: f32, ink: &mut [f32; SIDE * SIDE]) {
        let (dx, dy) = (b.x - a.x, b.y - a.y);
        let length2 = dx * dx + dy * dy;
        let inverse = if length2 > 1e-9 { 1.0 / length2 } else { 0.0 };
        let double_cos = (dx * dx - dy * dy) * inverse;
        let double_sin = 2.0 * dx * dy * inverse;
        let nib = 1.0 + self.nib.0 * double_cos + self.nib.1 * double_sin;
        let (ra, rb) = (ra * nib, rb * nib);
        let reach = ra.max(rb) + 0.5 * self.blur;
        let pixels = |low: f32, high: f32| {
            let first = (low - reach - 0.5).ceil().max(0.0) as usize;
            let last = (high + reach - 0.5).floor().clamp(-1.0, SIDE as f32 - 1.0);
            first..(last + 1.0) as usize
        };
        let per_blur = 1.0 / self.blur;
        for y in pixels(a.y.min(b.y), a.y.max(b.y)) {
            let py = y as f32 + 0.5 - a.y;
            for x in pixels(a.x.min(b.x), a.x.max(b.x)) {
                let px = x as f32 + 0.5 - a.x;
                let t = ((px * dx + py * dy) * inverse).clamp(0.0, 1.0);
                let (ex, ey) = (px - t * dx, py - t * dy);
                let distance = (ex * ex + ey * ey).sqrt();
                let dark = (ra + t * (rb - ra) - distance) * per_blur + 0.5;
                let pixel = &mut ink[y * SIDE + x];
                *pixel = pixel.max(dark);
            }
        }
    }
}

/// Moves the picture by whole pixels so that its centre of mass is the centre, as MNIST does, or as
/// near as the edges allow.
fn center(ink: &[f32; SIDE * SIDE], out: &mut [u8]) {
    let (mut mass, mut mx, mut my) = (0.0f32, 0.0f32, 0.0f32);
    let (mut width, mut height) = (1, 1);
    for (i, &v) in ink.iter().enumerate().filter(|(_, v)| **v > 0.0) {
        let (x, y) = (i % SIDE, i / SIDE);
        mass += v;
        mx += v * x as f32;
        my += v * y as f32;
        (width, height) = (width.max(x + 1), height.max(y + 1));
    }
    // In MNIST the mean of the pixel indices is 14, not 13.5.
    let middle = (SIDE / 2) as f32;
    let shift = |moment: f32, extent: usize| {
        let offset = (middle - moment / mass.max(1e-6) + 0.5).floor();
        offset.clamp(0.0, (SIDE - extent) as f32) as usize
    };
    let (sx, sy) = (shift(mx, width), shift(my, height));
    out.fill(0);
    for y in 0..height {
        for x in 0..width {
            out[(y + sy) * SIDE + x + sx] = (ink[y * SIDE + x] * 255.0 + 0.5) as u8;
        }
    }
}
