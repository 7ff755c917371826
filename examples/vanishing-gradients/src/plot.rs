//! Gradient norms by depth: the MLPs on the left, the RNNs on the right.

use std::path::Path;

use kiln::data::info::Picture;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::{Result, Run};

const SIZE: (u32, u32) = (1100, 460);
const COLOURS: [RGBColor; 3] = [
    RGBColor(178, 24, 43),
    RGBColor(33, 102, 172),
    RGBColor(27, 120, 55),
];

pub fn draw(mlps: &[Run], rnns: &[Run], path: &Path) -> Result<()> {
    // It fails only for bytes that are no font.
    let _ = register_font("sans", FontStyle::Normal, dejavu::sans::regular());
    let mut pixels = vec![255; (SIZE.0 * SIZE.1 * 3) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area();
        let (left, right) = area.split_horizontally(SIZE.0 / 2);
        panel(
            &left,
            "MLP of 20 hidden layers, in the middle of training",
            "layer",
            mlps,
        )?;
        panel(
            &right,
            "RNN over 40 time steps, at the first step",
            "time step",
            &rnns[..1],
        )?;
        area.present()?;
    }
    let picture = Picture {
        width: SIZE.0 as usize,
        height: SIZE.1 as usize,
        channels: 3,
        pixels,
    };
    Ok(picture.write_png(path)?)
}

fn panel(
    area: &DrawingArea<BitMapBackend<'_>, plotters::coord::Shift>,
    title: &str,
    axis: &str,
    runs: &[Run],
) -> Result<()> {
    let norms = || {
        runs.iter()
            .flat_map(|run| run.by_depth.iter().copied())
            .filter(|&n| n > 0.0)
    };
    let low = 10f64.powf(norms().fold(f64::INFINITY, f64::min).log10().floor());
    let high = 10f64.powf(norms().fold(0.0, f64::max).log10().ceil());
    let depth = runs.iter().map(|run| run.by_depth.len()).max().unwrap_or(1);
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .caption(title, ("sans", 16))
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(1.0..depth as f64, (low..high).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .label_style(("sans", 12))
        .axis_desc_style(("sans", 13))
        .x_desc(format!("{axis} (the loss is at the right)"))
        .y_desc("norm of the gradient")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0e}"))
        .draw()?;
    for (i, run) in runs.iter().enumerate() {
        let points = run
            .by_depth
            .iter()
            .enumerate()
            .filter(|(_, norm)| **norm > 0.0);
        let points: Vec<(f64, f64)> = points.map(|(i, &norm)| (i as f64 + 1.0, norm)).collect();
        let style = COLOURS[i].stroke_width(2);
        chart
            .draw_series([PathElement::new(points, style)])?
            .label(run.name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .label_font(("sans", 13))
        .background_style(WHITE.mix(0.8))
        .position(SeriesLabelPosition::LowerRight)
        .draw()?;
    Ok(())
}
