//! Strokes on paper, as a hand would move the pen: nodes that a smooth curve runs through.

use super::rng::Rng;

/// A point of the unit square; x to the right, y down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) x: f32,
    pub(super) y: f32,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    at: Point,
    /// The pen stops and turns here instead of rounding the bend.
    corner: bool,
}

/// One digit as the strokes that draw it.
#[derive(Debug, Default)]
pub(super) struct Sketch {
    strokes: Vec<Vec<Node>>,
}

/// Line segments per pair of nodes.
const STEPS: usize = 5;

impl Sketch {
    /// Sets the pen down: a new stroke.
    pub(super) fn start(&mut self, x: f32, y: f32) -> &mut Self {
        self.strokes.push(Vec::with_capacity(12));
        self.node(x, y, false)
    }

    /// Draws a smooth curve on to this point.
    pub(super) fn to(&mut self, x: f32, y: f32) -> &mut Self {
        self.node(x, y, false)
    }

    /// Draws on to this point and stops there, so that the next move may turn sharply.
    pub(super) fn corner(&mut self, x: f32, y: f32) -> &mut Self {
        self.node(x, y, true)
    }

    /// Draws along an ellipse; angles in turns, 0 to the right, 0.25 down, so growing is clockwise.
    /// The radius grows by `spiral` (a share of it) on the way.
    pub(super) fn arc(
        &mut self,
        center: (f32, f32),
        radius: (f32, f32),
        turns: (f32, f32),
        spiral: f32,
    ) -> &mut Self {
        let (from, to) = turns;
        let steps = ((to - from).abs() * 8.0).ceil().max(2.0);
        for i in 0..=steps as usize {
            let t = i as f32 / steps;
            let (sin, cos) = sin_cos_turns(from + (to - from) * t);
            let grow = 1.0 + spiral * (t - 0.5);
            let x = center.0 + radius.0 * grow * cos;
            let y = center.1 + radius.1 * grow * sin;
            if self.strokes.is_empty() {
                self.start(x, y);
            } else {
                self.to(x, y);
            }
        }
        self
    }

    /// Sets the pen down for an [`arc`](Self::arc).
    pub(super) fn lift(&mut self) -> &mut Self {
        self.strokes.push(Vec::with_capacity(12));
        self
    }

    fn node(&mut self, x: f32, y: f32, corner: bool) -> &mut Self {
        let at = Point { x, y };
        if let Some(stroke) = self.strokes.last_mut() {
            stroke.push(Node { at, corner });
        }
        self
    }

    /// Moves every node by chance (standard deviation `each`) and every stroke but the first as a
    /// whole (`whole`), in units of the square.
    pub(super) fn jitter(&mut self, rng: &mut Rng, each: f32, whole: f32) {
        for (i, stroke) in self.strokes.iter_mut().enumerate() {
            let whole = if i == 0 { 0.0 } else { whole };
            let (dx, dy) = (whole * rng.normal(), whole * rng.normal());
            for node in stroke {
                node.at.x += dx + each * rng.normal();
                node.at.y += dy + each * rng.normal();
            }
        }
    }

    /// Whether there is nothing but one nearly straight line, as in a plain 1.
    pub(super) fn is_bare_line(&self) -> bool {
        matches!(&self.strokes[..], [only] if only.len() <= 3)
    }

    /// Leans the whole to the right by this share of its height.
    pub(super) fn slant(&mut self, lean: f32) {
        for node in self.strokes.iter_mut().flatten() {
            node.at.x += lean * (0.5 - node.at.y);
        }
    }

    /// The strokes as polylines: Catmull-Rom curves through the nodes, broken at the corners.
    pub(super) fn flatten(&self) -> Vec<Vec<Point>> {
        self.strokes
            .iter()
            .filter(|stroke| !stroke.is_empty())
            .map(|stroke| flatten_stroke(stroke))
            .collect()
    }
}

fn flatten_stroke(nodes: &[Node]) -> Vec<Point> {
    let mut line = Vec::with_capacity(nodes.len() * STEPS + 1);
    line.push(nodes[0].at);
    for i in 1..nodes.len() {
        let (p1, p2) = (nodes[i - 1].at, nodes[i].at);
        // At a corner or an end the curve leaves as if the line before it were straight.
        let p0 = match i.checked_sub(2) {
            Some(j) if !nodes[i - 1].corner => nodes[j].at,
            _ => mirror(p2, p1),
        };
        let p3 = match nodes.get(i + 1) {
            Some(next) if !nodes[i].corner => next.at,
            _ => mirror(p1, p2),
        };
        for step in 1..=STEPS {
            let t = step as f32 / STEPS as f32;
            line.push(Point {
                x: catmull_rom(p0.x, p1.x, p2.x, p3.x, t),
                y: catmull_rom(p0.y, p1.y, p2.y, p3.y, t),
            });
        }
    }
    line
}

fn mirror(p: Point, about: Point) -> Point {
    Point {
        x: 2.0 * about.x - p.x,
        y: 2.0 * about.y - p.y,
    }
}

fn catmull_rom(p0: f32, p1: f32, p2: f32, p3: f32, t: f32) -> f32 {
    let a = 2.0 * p1;
    let b = p2 - p0;
    let c = 2.0 * p0 - 5.0 * p1 + 4.0 * p2 - p3;
    let d = 3.0 * p1 - p0 - 3.0 * p2 + p3;
    0.5 * (a + t * (b + t * (c + t * d)))
}

/// Sine and cosine of an angle in turns, by polynomials (error below 1e-5): the platforms' own
/// functions differ in the last bit, and then so would the pictures.
pub(crate) fn sin_cos_turns(turns: f32) -> (f32, f32) {
    (sin_turns(turns), sin_turns(turns + 0.25))
}

fn sin_turns(turns: f32) -> f32 {
    // Reduced to a quarter turn around zero, where the Taylor series of order nine is exact enough.
    let mut t = turns - turns.floor();
    if t > 0.75 {
        t -= 1.0;
    } else if t > 0.25 {
        t = 0.5 - t;
    }
    let x = t * std::f32::consts::TAU;
    let x2 = x * x;
    x * (1.0 - x2 / 6.0 * (1.0 - x2 / 20.0 * (1.0 - x2 / 42.0 * (1.0 - x2 / 72.0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sine_and_cosine_are_those_of_the_circle() {
        for i in -200..200 {
            let turns = i as f32 / 64.0;
            let (sin, cos) = sin_cos_turns(turns);
            let exact = f64::from(turns) * std::f64::consts::TAU;
            assert!((f64::from(sin) - exact.sin()).abs() < 1e-5, "sin {turns}");
            assert!((f64::from(cos) - exact.cos()).abs() < 1e-5, "cos {turns}");
        }
    }

    #[test]
    fn curves_pass_through_their_nodes_and_corners_stay_sharp() {
        let mut sketch = Sketch::default();
        sketch.start(0.0, 0.0).corner(1.0, 0.0).to(1.0, 1.0);
        let line = &sketch.flatten()[0];
        assert_eq!(line.len(), 2 * STEPS + 1);
        assert_eq!(line[STEPS], Point { x: 1.0, y: 0.0 });
        assert!(line[..=STEPS].iter().all(|p| p.y == 0.0));
        assert!(line[STEPS..].iter().all(|p| p.x == 1.0));
    }
}
