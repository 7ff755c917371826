use std::path::Path;

use super::{html, layout, render};
use crate::error::{Error, Result};

/// So many marks a figure has at most: circles, boxes, or corners of lines. More of them would hide each other, and
/// browsers stand still over them.
pub(super) const MAX_MARKS: usize = 40_000;

/// So many panels a figure has at most, one per parameter or pair of them.
pub(super) const MAX_PANELS: usize = 60;

/// An RGB colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Color(pub(super) u8, pub(super) u8, pub(super) u8);

impl Color {
    pub(super) const BLUE: Self = Self(31, 119, 180);
    pub(super) const ORANGE: Self = Self(255, 127, 14);
    pub(super) const GREEN: Self = Self(44, 160, 44);
    pub(super) const RED: Self = Self(214, 39, 40);
    pub(super) const GREY: Self = Self(204, 204, 204);
    pub(super) const DARK: Self = Self(68, 68, 68);

    /// The n-th of ten colours that are told apart easily (the "tab10" of matplotlib).
    pub(super) fn nth(n: usize) -> Self {
        const TAB10: [Color; 10] = [
            Color::BLUE,
            Color::ORANGE,
            Color::GREEN,
            Color::RED,
            Color(148, 103, 189),
            Color(140, 86, 75),
            Color(227, 119, 194),
            Color(127, 127, 127),
            Color(188, 189, 34),
            Color(23, 190, 207),
        ];
        TAB10[n % TAB10.len()]
    }

    /// The colour of a share between 0 (dark violet) and 1 (yellow): matplotlib's "viridis" at nine places.
    pub(super) fn viridis(share: f64) -> Self {
        const STOPS: [Color; 9] = [
            Color(68, 1, 84),
            Color(72, 40, 120),
            Color(62, 74, 137),
            Color(49, 104, 142),
            Color(38, 130, 142),
            Color(31, 158, 137),
            Color(53, 183, 121),
            Color(110, 206, 88),
            Color(253, 231, 37),
        ];
        let at = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
        let (low, part) = (at.floor().min((STOPS.len() - 2) as f64), at);
        let part = part - low;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let (a, b) = (STOPS[low as usize], STOPS[low as usize + 1]);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let mix =
            |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * part).round() as u8;
        Self(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
    }
}

/// A plot: one panel, or a grid of them.
///
/// ```
/// use kiln_tune::{Study, plot};
///
/// let study = Study::builder().create()?;
/// study.optimize(|trial| trial.suggest_float("x", -1.0, 1.0), 10)?;
/// let figure = plot::optimization_history(&[&study], 0)?;
/// assert!(figure.to_svg().starts_with("<svg"));
/// assert!(figure.to_html().contains("Optimization history"));
/// # Ok::<(), kiln_tune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Figure {
    pub(super) title: String,
    pub(super) panels: Vec<Panel>,
    pub(super) columns: usize,
    /// Width and height of a panel, in pixels.
    pub(super) panel_size: (f64, f64),
    /// What the figure leaves out, told below its title; may be empty.
    pub(super) note: String,
}

/// Axes with what is drawn between them.
#[derive(Debug, Clone)]
pub(super) struct Panel {
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) traces: Vec<Trace>,
    pub(super) color_bar: Option<ColorBar>,
}

/// What the colours of a panel mean.
#[derive(Debug, Clone)]
pub(super) struct ColorBar {
    pub(super) label: String,
    /// Share of the bar and its text.
    pub(super) ticks: Vec<(f64, String)>,
}

/// One axis.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    pub(super) label: String,
    pub(super) scale: Scale,
    /// Lowest and highest value shown.
    pub(super) range: (f64, f64),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scale {
    Linear,
    Log,
    /// Values are positions in this list.
    Category(Vec<String>),
    /// Values are seconds since 1970-01-01 in UTC.
    Time,
    /// Neither line nor ticks.
    Hidden,
}

/// One entry of the legend, or a part of the drawing without one.
#[derive(Debug, Clone)]
pub(super) struct Trace {
    pub(super) name: String,
    pub(super) color: Color,
    pub(super) in_legend: bool,
    pub(super) marks: Marks,
}

#[derive(Debug, Clone)]
pub(super) enum Marks {
    /// Circles.
    Points(Vec<Point>),
    /// A line through points; `dotted` for what does not count.
    Line {
        points: Vec<(f64, f64)>,
        width: f64,
        dotted: bool,
        hover: Vec<String>,
    },
    /// Filled rectangles from corner to corner, without an outline.
    Boxes(Vec<Rectangle>),
    /// Words beside points.
    Words(Vec<Word>),
}

#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) color: Color,
    pub(super) hover: String,
}

#[derive(Debug, Clone)]
pub(super) struct Rectangle {
    pub(super) x: (f64, f64),
    pub(super) y: (f64, f64),
    pub(super) color: Color,
    /// Empty: nothing is shown on hovering.
    pub(super) hover: String,
}

#[derive(Debug, Clone)]
pub(super) struct Word {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) text: String,
    pub(super) side: Side,
}

/// Where a word stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
    Above,
    /// On the point itself.
    Middle,
}

impl Figure {
    /// A figure of one panel.
    pub(super) fn single(title: &str, panel: Panel) -> Self {
        Self {
            title: title.to_owned(),
            panels: vec![panel],
            columns: 1,
            panel_size: (640.0, 400.0),
            note: String::new(),
        }
    }

    /// What stands in the place of a plot that cannot be drawn.
    pub(super) fn missing(title: &str, reason: &str) -> Self {
        const LINE: usize = 90;
        let mut lines = vec![String::new()];
        for word in layout::shorten(reason, 6 * LINE).split_whitespace() {
            let last = lines.len() - 1;
            if lines[last].chars().count() + word.chars().count() > LINE {
                lines.push(word.to_owned());
            } else {
                let space = if lines[last].is_empty() { "" } else { " " };
                lines[last] = format!("{}{space}{word}", lines[last]);
            }
        }
        let n = lines.len() as f64;
        let words = lines.into_iter().enumerate().map(|(i, text)| Word {
            x: 0.5,
            y: n - i as f64 - 0.5,
            text,
            side: Side::Middle,
        });
        let axis = |high| Axis {
            label: String::new(),
            scale: Scale::Hidden,
            range: (0.0, high),
        };
        let panel = Panel {
            x: axis(1.0),
            y: axis(n),
            traces: vec![Trace {
                name: "reason".to_owned(),
                color: Color::DARK,
                in_legend: false,
                marks: Marks::Words(words.collect()),
            }],
            color_bar: None,
        };
        let mut figure = Self::single(title, panel);
        figure.panel_size.1 = 20.0 * n;
        figure
    }

    /// Notes what is drawn when that is not everything.
    pub(super) fn noting(mut self, drawn: usize, of: usize, what: &str) -> Self {
        if drawn < of {
            let comma = if self.note.is_empty() { "" } else { ", " };
            self.note = format!("{}{comma}{drawn} of {of} {what} drawn", self.note);
        }
        self
    }

    /// The title.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// An HTML page that needs nothing else: hovering tells about trials, the wheel and dragging zoom and move, a double
    /// click resets, and a click in the legend hides and shows.
    #[must_use]
    pub fn to_html(&self) -> String {
        html::document(&self.title, &html::section(self))
    }

    /// The figure as SVG.
    #[must_use]
    pub fn to_svg(&self) -> String {
        render::svg(&layout::scene(self))
    }

    /// The figure as PNG, with two pixels per unit of the SVG.
    ///
    /// # Errors
    /// [`Error::Storage`] when the picture cannot be made.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        render::png(&layout::scene(self))
    }

    /// Writes the figure as its ending says: `.html`, `.svg` or `.png`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for another ending, [`Error::Storage`] when the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let ending = path
            .extension()
            .and_then(|ending| ending.to_str())
            .map(str::to_ascii_lowercase);
        let bytes = match ending.as_deref() {
            Some("html" | "htm") => self.to_html().into_bytes(),
            Some("svg") => self.to_svg().into_bytes(),
            Some("png") => self.to_png()?,
            _ => {
                return Err(Error::invalid(format!(
                    "a plot is saved as .html, .svg or .png, but got {}",
                    path.display()
                )));
            }
        };
        write(path, &bytes)
    }
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes)
        .map_err(|error| Error::storage(format!("cannot write {}", path.display()), error))
}

impl Axis {
    /// An axis over the values with 5 % of room on both sides.
    pub(super) fn over(
        label: impl Into<String>,
        scale: Scale,
        values: impl IntoIterator<Item = f64>,
    ) -> Self {
        let log = scale == Scale::Log;
        let finite = values
            .into_iter()
            .filter(|value| value.is_finite() && !(log && *value <= 0.0));
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let (low, high) = if low > high { (1.0, 2.0) } else { (low, high) };
        // The ends stay floats: a value of 1e308 must not make an axis that goes on for ever.
        let range = if log {
            let (low, high) = (low.ln(), high.ln());
            let room = if high > low { 0.05 * (high - low) } else { 0.5 };
            const SMALLEST: f64 = 5e-324;
            (
                (low - room).exp().max(SMALLEST),
                (high + room).exp().min(f64::MAX),
            )
        } else if let Scale::Category(names) = &scale {
            (-0.5, names.len() as f64 - 0.5)
        } else {
            let span = high - low;
            let room = if span.is_infinite() {
                0.05 * high - 0.05 * low
            } else if span > 0.0 {
                0.05 * span
            } else {
                (low.abs() * 0.05).max(0.5)
            };
            ((low - room).max(-f64::MAX), (high + room).min(f64::MAX))
        };
        Self {
            label: label.into(),
            scale,
            range,
        }
    }

    /// The place of a value on the axis, 0 at the start and 1 at the end; never far outside.
    pub(super) fn place(&self, value: f64) -> f64 {
        let (low, high) = self.range;
        if self.scale == Scale::Log {
            fraction(value.ln(), low.ln(), high.ln())
        } else {
            fraction(value, low, high)
        }
    }

    /// The value at a place: the inverse of [`place`](Self::place) between the ends of the axis.
    pub(super) fn value(&self, place: f64) -> f64 {
        let (low, high) = self.range;
        let value = if self.scale == Scale::Log {
            mix(low.ln(), high.ln(), place).exp()
        } else {
            mix(low, high, place)
        };
        value.max(low).min(high)
    }
}

/// Where a value lies between two others, 0 at the first and 1 at the second. It is 0.5 when that cannot be told, and
/// what lies outside is at most as far away as the others are from each other.
pub(super) fn fraction(value: f64, low: f64, high: f64) -> f64 {
    let span = high - low;
    let place = if span.is_finite() {
        (value - low) / span
    } else {
        (0.5 * value - 0.5 * low) / (0.5 * high - 0.5 * low)
    };
    if place.is_nan() {
        0.5
    } else {
        place.clamp(-1.0, 2.0)
    }
}

/// The value at a share of the way from one to another.
pub(super) fn mix(low: f64, high: f64, share: f64) -> f64 {
    let value = low + share * (high - low);
    if value.is_finite() {
        value
    } else {
        low * (1.0 - share) + high * share
    }
}

/// At most `limit` of some items, evenly spread from the first to the last.
pub(super) fn spread<T>(items: Vec<T>, limit: usize) -> Vec<T> {
    let n = items.len();
    if n <= limit {
        return items;
    }
    let last = limit.max(2) - 1;
    let mut next = 0;
    let kept = items.into_iter().enumerate().filter(|(i, _)| {
        let is_kept = *i == next * (n - 1) / last;
        next += usize::from(is_kept);
        is_kept
    });
    kept.map(|(_, item)| item).collect()
}

impl Trace {
    pub(super) fn points(name: impl Into<String>, color: Color, points: Vec<Point>) -> Self {
        Self {
            name: name.into(),
            color,
            in_legend: true,
            marks: Marks::Points(points),
        }
    }

    pub(super) fn line(
        name: impl Into<String>,
        color: Color,
        points: Vec<(f64, f64)>,
        hover: Vec<String>,
    ) -> Self {
        Self {
            name: name.into(),
            color,
            in_legend: true,
            marks: Marks::Line {
                points,
                width: 2.0,
                dotted: false,
                hover,
            },
        }
    }

    pub(super) fn unlisted(mut self) -> Self {
        self.in_legend = false;
        self
    }
}
