//! Draws a scene with plotters, as SVG or as pixels.

use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{
    Color as _, FontStyle, FontTransform, IntoFont, RGBColor, ShapeStyle, TextStyle, WHITE,
    register_font,
};

use crate::error::{Error, Result};
use crate::figure::Color;
use crate::layout::{self, Anchor, Group, Scene, Shape};

/// Pixels of a PNG per unit of the scene.
const SCALE: f64 = 2.0;
const FONT: &str = "sans-serif";

type Area<'a, B> = DrawingArea<B, Shift>;

/// The scene as an SVG document.
pub(crate) fn svg(scene: &Scene) -> String {
    let body = |shapes: &[Shape]| svg_body(scene, shapes);
    let groups: String = scene
        .groups
        .iter()
        .map(|group| format!("{}{}", body(&group.shapes), body(&group.legend)))
        .collect();
    svg_document(scene, &format!("{}{groups}", body(&scene.frame)))
}

/// The scene as an SVG document whose traces are groups for a script.
pub(crate) fn interactive_svg(scene: &Scene) -> String {
    let group = |(i, group): (usize, &Group)| {
        let legend = if group.legend.is_empty() {
            String::new()
        } else {
            format!(
                "<g class=\"legend\" data-name=\"{}\">{}</g>",
                escape(&group.name),
                svg_body(scene, &group.legend)
            )
        };
        format!(
            "<g class=\"trace\" data-trace=\"{i}\" data-name=\"{}\">{}</g>{legend}",
            escape(&group.name),
            svg_body(scene, &group.shapes)
        )
    };
    let groups: String = scene.groups.iter().enumerate().map(group).collect();
    svg_document(scene, &format!("{}{groups}", svg_body(scene, &scene.frame)))
}

/// Text within HTML and its attributes. Its lines stay lines; other control characters become visible.
pub(crate) fn escape(text: &str) -> String {
    layout::visible_except(text, &['\n', '\r', '\t'])
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn svg_document(scene: &Scene, body: &str) -> String {
    let (width, height) = size(scene, 1.0);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>{body}</svg>\n"
    )
}

/// The elements for some shapes, without the document around them.
fn svg_body(scene: &Scene, shapes: &[Shape]) -> String {
    if shapes.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size(scene, 1.0)).into_drawing_area();
        // Writing into a String does not fail.
        let _ = draw(&area, shapes, 1.0);
        let _ = area.present();
    }
    let start = text.find('>').map_or(0, |at| at + 1);
    let end = text.rfind("</svg>").unwrap_or(text.len());
    text[start..end].trim().to_owned()
}

/// The scene as a PNG file.
pub(crate) fn png(scene: &Scene) -> Result<Vec<u8>> {
    static FONT_READY: std::sync::Once = std::sync::Once::new();
    FONT_READY.call_once(|| {
        for style in [FontStyle::Normal, FontStyle::Bold] {
            let _ = register_font(FONT, style, dejavu::sans::regular());
        }
    });
    let (width, height) = size(scene, SCALE);
    let mut pixels = vec![255; width as usize * height as usize * 3];
    let failed = |error: &dyn std::fmt::Display| Error::Draw(error.to_string().into());
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        area.fill(&WHITE).map_err(|error| failed(&error))?;
        let groups = scene
            .groups
            .iter()
            .flat_map(|group| [&group.shapes, &group.legend]);
        for shapes in std::iter::once(&scene.frame).chain(groups) {
            draw(&area, shapes, SCALE).map_err(|error| failed(&error))?;
        }
        area.present().map_err(|error| failed(&error))?;
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(|error| failed(&error))?;
    writer
        .write_image_data(&pixels)
        .map_err(|error| failed(&error))?;
    writer.finish().map_err(|error| failed(&error))?;
    Ok(file)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn size(scene: &Scene, scale: f64) -> (u32, u32) {
    (
        (scene.width * scale).ceil() as u32,
        (scene.height * scale).ceil() as u32,
    )
}

fn rgb(color: Color) -> RGBColor {
    RGBColor(color.0, color.1, color.2)
}

fn draw<B: DrawingBackend>(
    area: &Area<'_, B>,
    shapes: &[Shape],
    scale: f64,
) -> std::result::Result<(), String> {
    #[allow(clippy::cast_possible_truncation)]
    let pixel = |at: (f64, f64)| ((at.0 * scale).round() as i32, (at.1 * scale).round() as i32);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let units = |length: f64| (length * scale).round().max(1.0) as u32;
    for shape in shapes {
        let drawn = match shape {
            Shape::Line {
                points,
                color,
                width,
                opacity,
            } => {
                let style = ShapeStyle {
                    color: rgb(*color).mix(*opacity),
                    filled: false,
                    stroke_width: units(*width),
                };
                area.draw(&PathElement::new(
                    points.iter().copied().map(pixel).collect::<Vec<_>>(),
                    style,
                ))
            }
            Shape::Rectangle { from, to, color } => area.draw(&Rectangle::new(
                [pixel(*from), pixel(*to)],
                rgb(*color).filled(),
            )),
            Shape::Circle { at, radius, color } => area.draw(&Circle::new(
                pixel(*at),
                units(*radius),
                rgb(*color).mix(0.85).filled(),
            )),
            Shape::Text {
                at,
                text,
                size,
                anchor,
                upright,
            } => {
                let position = match anchor {
                    Anchor::Start => HPos::Left,
                    Anchor::Middle => HPos::Center,
                    Anchor::End => HPos::Right,
                };
                let mut font = (FONT, size * scale).into_font();
                let mut at = *at;
                if *upright {
                    font = font.transform(FontTransform::Rotate270);
                } else {
                    // The scene gives the base line, plotters takes the middle, which its backends agree on.
                    at.1 -= size * 0.36;
                }
                let style = TextStyle {
                    font,
                    color: rgb(Color(42, 63, 95)).to_backend_color(),
                    pos: Pos::new(position, VPos::Center),
                };
                area.draw(&Text::new(text.clone(), pixel(at), style))
            }
        };
        drawn.map_err(|error| error.to_string())?;
    }
    Ok(())
}
