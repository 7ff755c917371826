//! Why features are scaled: the same gradient descent on raw, min-max and standardized features.
//!
//! ```text
//! $ cargo run --release -p example-feature-scaling -- feature-scaling.png
//! raw       loss after 200 steps 7.441e-1
//! minmax    loss after 200 steps 5.154e-10
//! standard  loss after 200 steps 7.234e-29
//! ```
//!
//! A linear regression with two features, one around 1 and one around 1000. The steepest direction of the loss bounds
//! the step, so on raw features the flat one hardly moves.

use kiln_data::scale::{Matrix, Scaler};
use kiln_plot::{Curve, curves};

const STEPS: usize = 200;
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let path = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "feature-scaling.png".into());
    let (x, y) = houses(200);
    let mut descents = vec![("raw", descend(&x, &y))];
    for name in ["minmax", "standard"] {
        let mut scaler: Scaler = name.parse()?;
        scaler.fit(&x)?;
        descents.push((name, descend(&scaler.transform(&x)?, &y)));
    }
    for (name, losses) in &descents {
        println!(
            "{name:9} loss after {STEPS} steps {:.3e}",
            losses[STEPS - 1]
        );
    }
    let lines: Vec<Curve> = descents
        .iter()
        .map(|(name, losses)| Curve {
            name: (*name).into(),
            points: (0..STEPS)
                .map(|i| (i as f64, losses[i].max(1e-10)))
                .collect(),
        })
        .collect();
    let title = "Gradient descent: loss by scaling of the features";
    curves(title, "step", "mean squared error", true, &lines).save(&path)?;
    println!("written: {path}");
    let last = |i: usize| descents[i].1[STEPS - 1];
    // The targets are exactly linear, so the best loss is zero.
    if last(2) < 1e-6 && last(1) < last(0) && last(0) > 0.01 {
        return Ok(());
    }
    Err("scaling did not help as it must".into())
}

/// Rooms (1 to 6) and area (500 to 1500), not quite independent, and a price that is linear in both.
fn houses(n: usize) -> (Matrix, Vec<f64>) {
    let mut state = 7u64;
    let mut unit = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let rows: Vec<[f64; 2]> = (0..n)
        .map(|_| {
            let rooms = 1.0 + 5.0 * unit();
            [rooms, 500.0 + 100.0 * rooms + 400.0 * unit()]
        })
        .collect();
    let price = rows
        .iter()
        .map(|[rooms, area]| 0.5 * rooms + 0.002 * area - 3.0);
    let price = price.collect();
    (Matrix::from_rows(rows), price)
}

/// Losses of gradient descent on the mean squared error, with nearly the largest step that cannot diverge: below two
/// over the trace of the Hessian, which is at least its largest eigenvalue.
fn descend(x: &Matrix, y: &[f64]) -> Vec<f64> {
    let n = y.len() as f64;
    let squares: f64 = x.as_slice().iter().map(|v| v * v).sum::<f64>() / n + 1.0;
    let (lr, mut w) = (1.0 / (2.0 * squares) * 1.9, [0.0; 3]);
    let step = |_| {
        let (mut loss, mut gradient) = (0.0, [0.0; 3]);
        for (i, target) in y.iter().enumerate() {
            let [a, b] = [x.row(i)[0], x.row(i)[1]];
            let error = w[0] * a + w[1] * b + w[2] - target;
            loss += error * error / n;
            for (g, feature) in gradient.iter_mut().zip([a, b, 1.0]) {
                *g += 2.0 * error * feature / n;
            }
        }
        w.iter_mut().zip(gradient).for_each(|(w, g)| *w -= lr * g);
        loss
    };
    (0..STEPS).map(step).collect()
}
