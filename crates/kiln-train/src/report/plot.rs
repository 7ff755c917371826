//! Plots of a run, as PNG.

use std::path::Path;
use std::sync::Once;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use crate::error::TrainError;
use crate::eval::evaluation::{Evaluation, MAX_MATRIX};
use crate::run::files::write_atomically;

pub(crate) const FONT: &str = "kiln";

/// Draws a confusion matrix: truth down, answer across, darker where there are more.
pub(crate) fn confusion_matrix(seen: &Evaluation, path: &Path) -> Result<(), TrainError> {
    let classes = seen.classes.len() as i32;
    let longest = seen
        .classes
        .iter()
        .map(|c| c.name.chars().count())
        .max()
        .unwrap_or(1) as i32;
    // Cells of very many classes are too small for names and numbers; the picture stays one that can be opened.
    let small = seen.classes.len() > MAX_MATRIX;
    let cell = match small {
        false => (640 / classes.max(1)).clamp(24, 64),
        true => (24 * MAX_MATRIX as i32 / classes).max(1),
    };
    let letter = 9;
    let left = 56 + longest.min(16) * letter;
    let top = 76;
    let bottom = 52
        + if longest > 2 {
            longest.min(16) * letter
        } else {
            16
        };
    let (width, height) = (left + classes * cell + 24, top + classes * cell + bottom);
    draw(path, width.max(460) as u32, height as u32, |area| {
        let text = |size: i32| (FONT, size).into_font().color(&RGBColor(40, 40, 40));
        let centred = |size: i32| text(size).pos(Pos::new(HPos::Center, VPos::Center));
        let title = format!(
            "accuracy {:.2} % on {} images",
            seen.accuracy * 100.0,
            seen.images
        );
        area.draw(&Text::new(title, (left, 16), text(20)))?;
        area.draw(&Text::new(
            "answer",
            (left + classes * cell / 2, height - 18),
            centred(16),
        ))?;
        let sideways = centred(16).transform(FontTransform::Rotate270);
        area.draw(&Text::new(
            "truth",
            (18, top + classes * cell / 2),
            sideways,
        ))?;
        for (row, counts) in seen.confusion.iter().enumerate() {
            let support = seen.classes[row].support.max(1) as f64;
            let y = top + row as i32 * cell;
            for (column, &count) in counts.iter().enumerate() {
                let x = left + column as i32 * cell;
                let share = count as f64 / support;
                // Mistakes are few: the square root lets them be seen.
                let hue = if row == column {
                    (33, 102, 172)
                } else {
                    (178, 24, 43)
                };
                let fill = blend(hue, share.sqrt());
                let inside = [(x, y), (x + cell - 1, y + cell - 1)];
                area.draw(&Rectangle::new(inside, fill.filled()))?;
                if count > 0 && !small {
                    let size = (cell * 2 / 5).min(18) - i32::from(count > 999) * 2;
                    let colour = if share.sqrt() > 0.55 {
                        WHITE
                    } else {
                        RGBColor(40, 40, 40)
                    };
                    let style = centred(size).color(&colour);
                    let middle = (x + cell / 2, y + cell / 2);
                    area.draw(&Text::new(count.to_string(), middle, style))?;
                }
            }
            if small {
                continue;
            }
            let name: String = seen.classes[row].name.chars().take(16).collect();
            let right = text(15).pos(Pos::new(HPos::Right, VPos::Center));
            area.draw(&Text::new(name.clone(), (left - 8, y + cell / 2), right))?;
            let x = left + row as i32 * cell + cell / 2;
            let y = top + classes * cell + 8;
            match longest > 2 {
                true => {
                    let style = text(15)
                        .pos(Pos::new(HPos::Right, VPos::Center))
                        .transform(FontTransform::Rotate270);
                    area.draw(&Text::new(name, (x, y), style))?;
                }
                false => {
                    let style = text(15).pos(Pos::new(HPos::Center, VPos::Top));
                    area.draw(&Text::new(name, (x, y), style))?;
                }
            }
        }
        Ok(())
    })
}

/// From near white to a colour.
fn blend((r, g, b): (u8, u8, u8), share: f64) -> RGBColor {
    let mix = |colour: u8| (246.0 + (f64::from(colour) - 246.0) * share).round() as u8;
    RGBColor(mix(r), mix(g), mix(b))
}

pub(crate) type Area<'a> = DrawingArea<BitMapBackend<'a>, plotters::coord::Shift>;

pub(crate) fn draw(
    path: &Path,
    width: u32,
    height: u32,
    paint: impl FnOnce(&Area<'_>) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<(), TrainError> {
    static FONTS: Once = Once::new();
    FONTS.call_once(|| {
        let font = dejavu::sans::regular();
        // It fails only for bytes that are no font.
        let _ = register_font(FONT, FontStyle::Normal, font);
    });
    let mut pixels = vec![255; width as usize * height as usize * 3];
    let painted = {
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        paint(&area).and_then(|()| Ok(area.present()?))
    };
    painted.map_err(|error| TrainError::Plot(error.to_string()))?;
    let png =
        encode(&pixels, width, height).map_err(|error| TrainError::Plot(error.to_string()))?;
    write_atomically(path, &png)
}

pub(crate) fn encode(
    pixels: &[u8],
    width: u32,
    height: u32,
) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(pixels)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confusion_matrix_is_drawn_for_any_number_of_classes() {
        let folder = tempfile::tempdir().unwrap();
        for classes in [1, 2, 10, 100] {
            let names: Vec<String> = (0..classes).map(|i| format!("class number {i}")).collect();
            let confusion = (0..classes)
                .map(|i| (0..classes).map(|j| i * j).collect())
                .collect();
            let seen = Evaluation::from_confusion(confusion, 0.1, &names);
            let path = folder.path().join(format!("{classes}.png"));
            confusion_matrix(&seen, &path).unwrap();
            let decoder = png::Decoder::new(std::io::Cursor::new(std::fs::read(&path).unwrap()));
            assert!(decoder.read_info().unwrap().info().width >= 24 * classes as u32);
        }
    }

    #[test]
    fn a_confusion_matrix_of_very_many_classes_is_a_picture_that_can_be_opened() {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..1500).map(|i| format!("class number {i}")).collect();
        let confusion = (0..1500).map(|i| (0..1500).map(|j| usize::from(i == j)).collect());
        let seen = Evaluation::from_confusion(confusion.collect(), 0.1, &names);
        let path = folder.path().join("many.png");
        confusion_matrix(&seen, &path).unwrap();
        let decoder = png::Decoder::new(std::io::Cursor::new(std::fs::read(&path).unwrap()));
        let width = decoder.read_info().unwrap().info().width;
        assert!((6000..7000).contains(&width), "{width}");
    }
}
