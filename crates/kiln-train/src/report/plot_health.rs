//! The gradient norm of each layer over time, as PNG.

use std::path::Path;

use kiln_clip::Diagnosis;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::TrainError;
use crate::report::plot::{FONT, draw};
use crate::run::health::Measurement;

/// Room for names on the right.
const NAMES: i32 = 260;
const HEIGHT: u32 = 480;
/// More names than this have no room.
const MAX_NAMES: usize = 18;

/// Draws a line for each weight, dark where it is far from the loss and light near it, over training steps, on a
/// logarithmic scale.
pub(crate) fn grad_norms(
    measurements: &[Measurement],
    diagnosis: &Diagnosis,
    path: &Path,
) -> Result<(), TrainError> {
    let lines = lines(measurements);
    let values = || {
        lines
            .iter()
            .flat_map(|(_, points)| points.iter().map(|p| p.1))
    };
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(0.0, f64::max);
    // Whole decades, and at least one where there is nothing or only one value to show.
    let (low, high) = match low <= high {
        true => (decade(low, f64::floor), decade(high * 1.001, f64::ceil)),
        false => (0.1, 1.0),
    };
    let last = measurements.last().map_or(1, |m| m.step).max(2) as f64;
    draw(path, 860, HEIGHT, |area| {
        let dark = RGBColor(40, 40, 40);
        let text = |size: i32| (FONT, size).into_font().color(&dark);
        let title = format!("gradient norm of each layer: {}", diagnosis.verdict);
        area.draw(&Text::new(title, (16, 12), text(20)))?;
        let (left, right) = area
            .margin(44, 8, 8, 8)
            .split_horizontally(860 - 16 - NAMES);
        let mut chart = ChartBuilder::on(&left)
            .x_label_area_size(42)
            .y_label_area_size(70)
            .build_cartesian_2d(1.0..last, (low..high).log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .label_style(text(13))
            .axis_desc_style(text(14))
            .x_desc("step")
            .y_desc("L2 norm, before clipping")
            .x_label_formatter(&|step| format!("{step:.0}"))
            .y_label_formatter(&|norm| format!("{norm:.0e}"))
            .draw()?;
        for (i, (_, points)) in lines.iter().enumerate() {
            let colour = shade(i, lines.len());
            let line = PathElement::new(points.clone(), colour.stroke_width(2));
            chart.draw_series([line])?;
            if points.len() == 1 {
                chart.draw_series(points.iter().map(|&p| Circle::new(p, 3, colour.filled())))?;
            }
        }
        let every = lines.len().div_ceil(MAX_NAMES).max(1);
        for (row, (i, (name, _))) in lines.iter().enumerate().step_by(every).enumerate() {
            let y = 10 + row as i32 * 22;
            let colour = shade(i, lines.len()).stroke_width(3);
            right.draw(&PathElement::new(vec![(12, y), (36, y)], colour))?;
            let style = text(13).pos(Pos::new(HPos::Left, VPos::Center));
            // The end of a name tells more than its beginning.
            let letters: Vec<char> = name.chars().collect();
            let short: String = match letters.len() > 28 {
                true => "…"
                    .chars()
                    .chain(letters[letters.len() - 27..].iter().copied())
                    .collect(),
                false => name.clone(),
            };
            right.draw(&Text::new(short, (44, y), style))?;
        }
        Ok(())
    })
}

type Line = (String, Vec<(f64, f64)>);

/// The weights with two or more axes, each with its norms that a logarithmic axis can show.
fn lines(measurements: &[Measurement]) -> Vec<Line> {
    let Some(last) = measurements.last() else {
        return Vec::new();
    };
    let weights = last.health.layers.iter().filter(|layer| layer.rank >= 2);
    let line = |name: &String| -> Line {
        let points = measurements.iter().filter_map(|m| {
            let layer = m.health.layers.iter().find(|layer| layer.name == *name)?;
            let norm = layer.grad_norm.filter(|&norm| norm > 0.0)?;
            // No f32 is beyond these; an axis to where f64 ends would have no end.
            Some((m.step as f64, norm.clamp(1e-45, 1e40)))
        });
        (name.clone(), points.collect())
    };
    weights.map(|layer| line(&layer.name)).collect()
}

fn decade(value: f64, round: fn(f64) -> f64) -> f64 {
    10f64.powf(round(value.log10()))
}

/// From dark blue to light orange.
fn shade(i: usize, count: usize) -> RGBColor {
    let share = i as f64 / (count.max(2) - 1) as f64;
    let mix = |a: f64, b: f64| (a + (b - a) * share) as u8;
    RGBColor(mix(33.0, 244.0), mix(60.0, 165.0), mix(140.0, 40.0))
}
