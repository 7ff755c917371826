//! What a figure is made of.

use std::path::Path;

use crate::error::{Error, Result};
use crate::{html, layout, render};

/// So many marks a figure should have at most: circles, boxes, or corners of lines. More of them would hide each other,
/// and browsers stand still over them. [`spread`] chooses some of too many.
pub const MAX_MARKS: usize = 40_000;

/// So many panels a figure should have at most.
pub const MAX_PANELS: usize = 60;

/// An RGB colour: red, green and blue from 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Color(pub u8, pub u8, pub u8);

impl Color {
    /// The first of [`nth`](Self::nth).
    pub const BLUE: Self = Self(31, 119, 180);
    /// The second of [`nth`](Self::nth).
    pub const ORANGE: Self = Self(255, 127, 14);
    /// The third of [`nth`](Self::nth).
    pub const GREEN: Self = Self(44, 160, 44);
    /// The fourth of [`nth`](Self::nth).
    pub const RED: Self = Self(214, 39, 40);
    /// Light grey, for what does not count.
    pub const GREY: Self = Self(204, 204, 204);
    /// Dark grey, for axes and words.
    pub const DARK: Self = Self(68, 68, 68);

    /// The n-th of ten colours that are told apart easily (the "tab10" of matplotlib).
    #[must_use]
    pub fn nth(n: usize) -> Self {
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
    #[must_use]
    pub fn viridis(share: f64) -> Self {
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
/// use kiln_plot::{Axis, Color, Figure, Panel, Point, Scale, Trace};
///
/// let points = [(1.0, 0.5), (2.0, 0.3)].map(|(x, y)| Point {
///     x,
///     y,
///     color: Color::BLUE,
///     hover: format!("run {x}"),
/// });
/// let panel = Panel {
///     x: Axis::over("Run", Scale::Linear, points.iter().map(|point| point.x)),
///     y: Axis::over("Loss", Scale::Log, points.iter().map(|point| point.y)),
///     traces: vec![Trace::points("runs", Color::BLUE, points.to_vec())],
///     color_bar: None,
/// };
/// let figure = Figure::single("Loss of each run", panel);
/// assert!(figure.to_svg().starts_with("<svg"));
/// assert!(figure.to_html().contains("Loss of each run"));
/// ```
#[derive(Debug, Clone)]
pub struct Figure {
    pub(crate) title: String,
    pub(crate) panels: Vec<Panel>,
    pub(crate) columns: usize,
    /// Width and height of a panel, in pixels.
    pub(crate) panel_size: (f64, f64),
    /// What the figure leaves out, told below its title; may be empty.
    pub(crate) note: String,
}

/// Axes with what is drawn between them.
#[derive(Debug, Clone)]
pub struct Panel {
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// What is drawn, the first below the others.
    pub traces: Vec<Trace>,
    /// The meaning of colours. A figure shows that of its first panel that has one.
    pub color_bar: Option<ColorBar>,
}

/// What the colours of a panel mean: a bar of [`Color::viridis`].
#[derive(Debug, Clone)]
pub struct ColorBar {
    /// What the colours stand for.
    pub label: String,
    /// Shares of the bar from 0 to 1, and their texts.
    pub ticks: Vec<(f64, String)>,
}

/// One axis.
#[derive(Debug, Clone)]
pub struct Axis {
    /// What is written beside it.
    pub label: String,
    /// How values become places.
    pub scale: Scale,
    /// Lowest and highest value shown.
    pub range: (f64, f64),
}

/// How the values of an axis become places on it.
#[derive(Debug, Clone, PartialEq)]
pub enum Scale {
    /// Equal differences are equally far apart.
    Linear,
    /// Equal ratios are equally far apart; values must be positive.
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
pub struct Trace {
    /// What the legend calls it; traces of one name are shown and hidden together.
    pub name: String,
    /// The colour in the legend, and of a line.
    pub color: Color,
    /// Whether the legend lists it.
    pub in_legend: bool,
    /// What is drawn.
    pub marks: Marks,
}

/// What a trace draws.
#[derive(Debug, Clone)]
pub enum Marks {
    /// Circles.
    Points(Vec<Point>),
    /// A line through points.
    Line {
        /// The corners of the line.
        points: Vec<(f64, f64)>,
        /// The width in pixels; below 2 the line is slightly transparent.
        width: f64,
        /// Dotted lines are for what does not count.
        dotted: bool,
        /// What is told at each corner on hovering; an empty text, or none, tells nothing.
        hover: Vec<String>,
    },
    /// Filled rectangles from corner to corner, without an outline.
    Boxes(Vec<Rectangle>),
    /// Words beside points.
    Words(Vec<Word>),
}

/// A circle.
#[derive(Debug, Clone)]
pub struct Point {
    /// The value on the horizontal axis.
    pub x: f64,
    /// The value on the vertical axis.
    pub y: f64,
    /// The colour of the circle.
    pub color: Color,
    /// What is told on hovering; empty: nothing.
    pub hover: String,
}

/// A filled rectangle.
#[derive(Debug, Clone)]
pub struct Rectangle {
    /// From where to where it reaches on the horizontal axis.
    pub x: (f64, f64),
    /// From where to where it reaches on the vertical axis.
    pub y: (f64, f64),
    /// The colour it is filled with.
    pub color: Color,
    /// What is told on hovering; empty: nothing, and the rectangle overlaps its neighbours by a pixel, as the cells of a
    /// surface must.
    pub hover: String,
}

/// A text beside a point.
#[derive(Debug, Clone)]
pub struct Word {
    /// The value on the horizontal axis.
    pub x: f64,
    /// The value on the vertical axis.
    pub y: f64,
    /// The text.
    pub text: String,
    /// Where it stands.
    pub side: Side,
}

/// Where a word stands, seen from its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It ends left of the point.
    Left,
    /// It begins right of the point.
    Right,
    /// Above the point.
    Above,
    /// On the point itself.
    Middle,
}

impl Figure {
    /// A figure of one panel of 640 by 400 pixels.
    #[must_use]
    pub fn single(title: &str, panel: Panel) -> Self {
        Self::grid(title, vec![panel], 1, (640.0, 400.0))
    }

    /// A figure of many panels in rows of `columns`; each panel has this width and height in pixels.
    #[must_use]
    pub fn grid(title: &str, panels: Vec<Panel>, columns: usize, panel_size: (f64, f64)) -> Self {
        Self {
            title: title.to_owned(),
            panels,
            columns,
            panel_size,
            note: String::new(),
        }
    }

    /// Gives each panel this width in pixels.
    #[must_use]
    pub fn panel_width(mut self, width: f64) -> Self {
        self.panel_size.0 = width;
        self
    }

    /// Gives each panel this height in pixels.
    #[must_use]
    pub fn panel_height(mut self, height: f64) -> Self {
        self.panel_size.1 = height;
        self
    }

    /// What stands in the place of a plot that cannot be drawn: the title and the reason.
    #[must_use]
    pub fn missing(title: &str, reason: &str) -> Self {
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
        Self::single(title, panel).panel_height(20.0 * n)
    }

    /// Notes below the title how many are drawn, when that is not all of them: "60 of 1000 parameters drawn".
    #[must_use]
    pub fn noting(mut self, drawn: usize, of: usize, what: &str) -> Self {
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

    /// An HTML page that needs nothing else: hovering tells what is under the pointer, the wheel and dragging zoom and move, a double
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
    /// [`Error::Draw`] when the picture cannot be made.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        render::png(&layout::scene(self))
    }

    /// Writes the figure as its ending says: `.html`, `.svg` or `.png`.
    ///
    /// # Errors
    /// [`Error::Ending`] for another ending, [`Error::Draw`] and [`Error::Write`] when the file cannot be made or written.
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
                return Err(Error::Ending {
                    what: "a plot is saved as .html, .svg or .png",
                    path: path.to_owned(),
                });
            }
        };
        write(path, &bytes)
    }
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

impl Axis {
    /// An axis over the values with 5 % of room on both sides. Values that it cannot show, those that are not finite and,
    /// on a logarithmic axis, those that are not positive, are not counted.
    #[must_use]
    pub fn over(
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
    #[must_use]
    pub fn place(&self, value: f64) -> f64 {
        let (low, high) = self.range;
        if self.scale == Scale::Log {
            fraction(value.ln(), low.ln(), high.ln())
        } else {
            fraction(value, low, high)
        }
    }

    /// The value at a place: the inverse of [`place`](Self::place) between the ends of the axis.
    #[must_use]
    pub fn value(&self, place: f64) -> f64 {
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
#[must_use]
pub fn fraction(value: f64, low: f64, high: f64) -> f64 {
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
#[must_use]
pub fn mix(low: f64, high: f64, share: f64) -> f64 {
    let value = low + share * (high - low);
    if value.is_finite() {
        value
    } else {
        low * (1.0 - share) + high * share
    }
}

/// At most `limit` of some items, at least two, evenly spread from the first to the last.
///
/// ```
/// assert_eq!(kiln_plot::spread((0..100).collect(), 4), [0, 33, 66, 99]);
/// ```
#[must_use]
pub fn spread<T>(items: Vec<T>, limit: usize) -> Vec<T> {
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
    /// Circles, listed in the legend.
    #[must_use]
    pub fn points(name: impl Into<String>, color: Color, points: Vec<Point>) -> Self {
        Self {
            name: name.into(),
            color,
            in_legend: true,
            marks: Marks::Points(points),
        }
    }

    /// A line of two pixels, listed in the legend; `hover` is what is told at each corner.
    #[must_use]
    pub fn line(
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

    /// Takes the trace out of the legend.
    #[must_use]
    pub fn unlisted(mut self) -> Self {
        self.in_legend = false;
        self
    }
}
