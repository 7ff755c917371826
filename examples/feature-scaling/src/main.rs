//! Why features are scaled: the same gradient descent on raw, min-max and standardized features.
//!
//! ```text
//! cargo run --release -p example-feature-scaling -- feature-scaling.png
//! ```
//!
//! A linear regression with two features, one around 1 and one around 1000. The steepest direction of the loss bounds
//! the step, so on raw features the flat one hardly moves. Prints the last loss of each and draws the loss curves.

use kiln_data::info::Picture;
use kiln_data::scale::{Matrix, Scaler};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

const STEPS: usize = 200;
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let path = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "feature-scaling.png".into());
    let (x, y) = houses(200);
    let mut curves = vec![("raw", descend(&x, &y))];
    for name in ["minmax", "standard"] {
        let mut scaler: Scaler = name.parse()?;
        scaler.fit(&x)?;
        curves.push((name, descend(&scaler.transform(&x)?, &y)));
    }
    for (name, losses) in &curves {
        println!(
            "{name:9} loss after {STEPS} steps {:.3e}",
            losses[STEPS - 1]
        );
    }
    draw(&curves, path.as_ref())?;
    println!("written: {path}");
    let last = |i: usize| curves[i].1[STEPS - 1];
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

fn draw(curves: &[(&str, Vec<f64>)], path: &std::path::Path) -> Result<()> {
    let _ = register_font("plot", FontStyle::Normal, dejavu::sans::regular());
    let (width, height) = (720, 440);
    let mut pixels = vec![255; width * height * 3];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width as u32, height as u32))
            .into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .caption(
                "Gradient descent: loss by scaling of the features",
                ("plot", 18),
            )
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(64)
            .build_cartesian_2d(0..STEPS, (1e-10..10.0).log_scale())?;
        let mesh = &mut chart.configure_mesh();
        mesh.label_style(("plot", 13))
            .x_desc("step")
            .y_desc("mean squared error")
            .y_label_formatter(&|loss| format!("{loss:.0e}"))
            .draw()?;
        let colours = [
            RGBColor(178, 24, 43),
            RGBColor(230, 150, 30),
            RGBColor(33, 102, 172),
        ];
        for ((name, losses), colour) in curves.iter().zip(colours) {
            let points = losses
                .iter()
                .enumerate()
                .map(|(i, &loss)| (i, loss.max(1e-10)));
            chart
                .draw_series([PathElement::new(
                    points.collect::<Vec<_>>(),
                    colour.stroke_width(2),
                )])?
                .label(*name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2))
                });
        }
        let legend = &mut chart.configure_series_labels();
        legend
            .label_font(("plot", 14))
            .background_style(WHITE)
            .border_style(BLACK)
            .draw()?;
        area.present()?;
    }
    Ok(Picture {
        width,
        height,
        channels: 3,
        pixels,
    }
    .write_png(path)?)
}
