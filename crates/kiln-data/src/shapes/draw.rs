//! One picture: ground, figures, noise.

use crate::digits::rng::Rng;
use crate::digits::sketch::sin_cos_turns;

/// Height and width of a picture.
pub(super) const SIDE: usize = 64;

/// Lattice points per side of the ground's unevenness.
const LATTICE: usize = 5;

type Colour = [f32; 3];

#[derive(Clone, Copy)]
enum Outline {
    Disc,
    Square,
    Triangle,
}

/// A figure with its middle in pixels.
struct Figure {
    outline: Outline,
    x: f32,
    y: f32,
    /// Radius of the disc; of the others, from the middle to a side.
    reach: f32,
    sin: f32,
    cos: f32,
    colour: Colour,
}

/// Draws the picture that these numbers stand for: `pixels` `[3, SIDE, SIDE]`, `mask` `[SIDE, SIDE]`.
pub(super) fn picture(parts: &[u64], pixels: &mut [u8], mask: &mut [u8]) {
    let mut rng = Rng::new(parts);
    let ground = colour(&mut rng);
    let mut canvas = uneven(ground, &mut rng);
    mask.fill(0);
    for _ in 0..2 + rng.below(4) {
        let figure = Figure::new(ground, &mut rng);
        figure.draw(&mut canvas, mask);
    }
    let noise = rng.range(3.0, 14.0);
    for (i, &[r, g, b]) in canvas.iter().enumerate() {
        for (c, value) in [r, g, b].into_iter().enumerate() {
            let value = value + noise * rng.normal();
            pixels[c * SIDE * SIDE + i] = (value + 0.5).clamp(0.0, 255.0) as u8;
        }
    }
}

fn colour(rng: &mut Rng) -> Colour {
    [0; 3].map(|_| rng.range(20.0, 235.0))
}

/// The ground: one colour, lighter and darker from place to place.
fn uneven(ground: Colour, rng: &mut Rng) -> Vec<Colour> {
    let strength = rng.range(4.0, 28.0);
    let lattice: Vec<f32> = (0..LATTICE * LATTICE)
        .map(|_| strength * rng.normal())
        .collect();
    // A smooth step between lattice points.
    let place = |i: usize| {
        let at = (i as f32 + 0.5) / SIDE as f32 * (LATTICE - 1) as f32;
        let cell = at.floor();
        let t = at - cell;
        (cell as usize, t * t * (3.0 - 2.0 * t))
    };
    let mut canvas = Vec::with_capacity(SIDE * SIDE);
    for y in 0..SIDE {
        let (row, v) = place(y);
        for x in 0..SIDE {
            let (column, u) = place(x);
            let at = |dy: usize, dx: usize| lattice[(row + dy) * LATTICE + column + dx];
            let top = at(0, 0) + u * (at(0, 1) - at(0, 0));
            let bottom = at(1, 0) + u * (at(1, 1) - at(1, 0));
            let light = top + v * (bottom - top);
            canvas.push(ground.map(|value| value + light));
        }
    }
    canvas
}

impl Figure {
    fn new(ground: Colour, rng: &mut Rng) -> Self {
        let outline = [Outline::Disc, Outline::Square, Outline::Triangle][rng.below(3)];
        // As many pixels for each outline, on average.
        let reach = match outline {
            Outline::Disc => rng.range(6.0, 13.0),
            Outline::Square => rng.range(5.3, 11.5),
            Outline::Triangle => rng.range(4.7, 10.1),
        };
        let (sin, cos) = sin_cos_turns(rng.unit());
        let side = SIDE as f32;
        let (x, y) = (rng.range(6.0, side - 6.0), rng.range(6.0, side - 6.0));
        // It must be seen: of a few colours, the first that stands out enough.
        let mut chosen = colour(rng);
        for _ in 0..20 {
            let difference: f32 = chosen.iter().zip(ground).map(|(a, b)| (a - b).abs()).sum();
            if difference > 120.0 {
                break;
            }
            chosen = colour(rng);
        }
        Self {
            outline,
            x,
            y,
            reach,
            sin,
            cos,
            colour: chosen,
        }
    }

    /// Value of the figure in a mask.
    fn class(&self) -> u8 {
        match self.outline {
            Outline::Disc => 1,
            Outline::Square => 2,
            Outline::Triangle => 3,
        }
    }

    /// How far a point is inside, in pixels; negative outside.
    fn depth(&self, px: f32, py: f32) -> f32 {
        let (dx, dy) = (px - self.x, py - self.y);
        let (u, v) = (self.cos * dx + self.sin * dy, self.cos * dy - self.sin * dx);
        self.reach
            - match self.outline {
                Outline::Disc => (dx * dx + dy * dy).sqrt(),
                Outline::Square => u.abs().max(v.abs()),
                // Three sides at 120 degrees, each `reach` from the middle; 0.866... is half the root of 3.
                Outline::Triangle => v.max(0.866_025_4 * u.abs() - 0.5 * v),
            }
    }

    /// Paints it over what is there. A pixel belongs to the figure if its middle does; edges are smooth.
    fn draw(&self, canvas: &mut [Colour], mask: &mut [u8]) {
        for y in 0..SIDE {
            for x in 0..SIDE {
                let depth = self.depth(x as f32 + 0.5, y as f32 + 0.5);
                let cover = (depth + 0.5).clamp(0.0, 1.0);
                if cover == 0.0 {
                    continue;
                }
                let pixel = &mut canvas[y * SIDE + x];
                for (value, ink) in pixel.iter_mut().zip(self.colour) {
                    *value += cover * (ink - *value);
                }
                if depth > 0.0 {
                    mask[y * SIDE + x] = self.class();
                }
            }
        }
    }
}
