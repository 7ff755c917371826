//! Test error against batch size, one line for each normalization.

use std::path::Path;

use kiln::data::info::Picture;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

pub fn draw(curves: &[(&str, Vec<f64>)], batches: &[usize], path: &Path) -> crate::Result<()> {
    let _ = register_font("plot", FontStyle::Normal, dejavu::sans::regular());
    let (width, height) = (720, 440);
    let mut pixels = vec![255; width * height * 3];
    let all = curves.iter().flat_map(|(_, errors)| errors);
    let top = all.fold(0.0, |top: f64, &e| top.max(e)) * 110.0;
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width as u32, height as u32))
            .into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .caption("Test error by batch size and normalization", ("plot", 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d((1.7..38.0).log_scale(), 0.0..top)?;
        let mesh = &mut chart.configure_mesh();
        mesh.label_style(("plot", 13))
            .x_desc("batch size (2, 4, 8, 32)")
            .y_desc("test error, %")
            .x_label_formatter(&|batch| format!("{batch:.0}"))
            .draw()?;
        for (i, (name, errors)) in curves.iter().enumerate() {
            let colour = [
                RGBColor(178, 24, 43),
                RGBColor(33, 102, 172),
                RGBColor(230, 150, 30),
                RGBColor(60, 140, 70),
                RGBColor(120, 80, 160),
            ][i % 5];
            let points = batches.iter().zip(errors);
            let points: Vec<_> = points
                .map(|(&batch, &error)| (batch as f64, error * 100.0))
                .collect();
            let dots = points
                .iter()
                .map(|&point| Circle::new(point, 4, colour.filled()));
            chart.draw_series(dots)?;
            chart
                .draw_series([PathElement::new(points.clone(), colour.stroke_width(2))])?
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
    let picture = Picture {
        width,
        height,
        channels: 3,
        pixels,
    };
    Ok(picture.write_png(path)?)
}
