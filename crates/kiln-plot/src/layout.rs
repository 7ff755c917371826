//! From a figure to shapes with pixel coordinates.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::figure::{Axis, Color, Figure, Marks, Panel, Scale, Side};

/// Shapes to be drawn, in order.
pub(crate) struct Scene {
    pub(crate) width: f64,
    pub(crate) height: f64,
    /// Axes, ticks and words, below the traces.
    pub(crate) frame: Vec<Shape>,
    pub(crate) groups: Vec<Group>,
    pub(crate) hovers: Vec<Hover>,
    /// How many dashes of dotted lines there are.
    dashes: usize,
}

/// One trace; the traces of one name are shown and hidden together.
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) shapes: Vec<Shape>,
    /// The entry of the legend, which stays when the trace is hidden.
    pub(crate) legend: Vec<Shape>,
}

/// What is told when the pointer is near.
pub(crate) struct Hover {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) group: usize,
    pub(crate) text: String,
}

pub(crate) enum Shape {
    Line {
        points: Vec<(f64, f64)>,
        color: Color,
        width: f64,
        opacity: f64,
    },
    Rectangle {
        from: (f64, f64),
        to: (f64, f64),
        color: Color,
    },
    Circle {
        at: (f64, f64),
        radius: f64,
        color: Color,
    },
    Text {
        at: (f64, f64),
        text: String,
        size: f64,
        anchor: Anchor,
        upright: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

const TITLE_HEIGHT: f64 = 44.0;
const LEFT: f64 = 78.0;
const BOTTOM: f64 = 58.0;
const GAP: f64 = 16.0;
const FONT: f64 = 13.0;
const GRID: Color = Color(229, 233, 239);
/// Dashes of all dotted lines of a figure; what is beyond that is drawn as thin lines.
const MAX_DASHES: usize = 40_000;

/// Lays out a figure.
pub(crate) fn scene(figure: &Figure) -> Scene {
    let columns = figure.columns.max(1);
    let rows = figure.panels.len().div_ceil(columns);
    let (width, height) = figure.panel_size;
    let names = legend(figure);
    let bar = figure.panels.iter().any(|panel| panel.color_bar.is_some());
    let legend_width = names
        .iter()
        .map(|(name, _)| text_width(name) + 46.0)
        .fold(0.0, f64::max);
    let side = GAP + if bar { 92.0 } else { 0.0 } + legend_width;
    let mut scene = Scene {
        width: columns as f64 * (LEFT + width + GAP) + side,
        height: TITLE_HEIGHT + rows as f64 * (height + BOTTOM + GAP),
        frame: Vec::new(),
        groups: Vec::new(),
        hovers: Vec::new(),
        dashes: 0,
    };
    scene.frame.push(text(
        (scene.width / 2.0, 26.0),
        &shorten(&figure.title, 80),
        18.0,
        Anchor::Middle,
    ));
    if !figure.note.is_empty() {
        scene.frame.push(text(
            (scene.width / 2.0, 41.0),
            &figure.note,
            11.0,
            Anchor::Middle,
        ));
    }
    for (i, panel) in figure.panels.iter().enumerate() {
        let left = (i % columns) as f64 * (LEFT + width + GAP) + LEFT;
        let top = TITLE_HEIGHT + (i / columns) as f64 * (height + BOTTOM + GAP);
        Area {
            left,
            top,
            width,
            height,
            panel,
        }
        .draw(&mut scene);
    }
    let right = columns as f64 * (LEFT + width + GAP) + GAP;
    if let Some(panel) = figure.panels.iter().find(|panel| panel.color_bar.is_some()) {
        color_bar(&mut scene, panel, right, height.min(400.0));
    }
    let left = right + if bar { 92.0 } else { 0.0 };
    for (row, (name, color)) in names.iter().enumerate() {
        let y = TITLE_HEIGHT + 12.0 + row as f64 * 20.0;
        if y > scene.height {
            break;
        }
        if let Some(group) = scene.groups.iter_mut().find(|group| group.name == *name) {
            group.legend.push(Shape::Rectangle {
                from: (left, y - 5.0),
                to: (left + 14.0, y + 5.0),
                color: *color,
            });
            group
                .legend
                .push(text((left + 20.0, y + 4.5), name, FONT, Anchor::Start));
        }
    }
    scene
}

/// The names of the legend in order, each once; a single name is the title's already.
fn legend(figure: &Figure) -> Vec<(String, Color)> {
    let mut names: Vec<(String, Color)> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for trace in figure.panels.iter().flat_map(|panel| &panel.traces) {
        if trace.in_legend && known.insert(&trace.name) {
            names.push((group_name(&trace.name), trace.color));
        }
    }
    if names.len() < 2 { Vec::new() } else { names }
}

/// What a trace is called in the legend and in the page.
fn group_name(name: &str) -> String {
    shorten(&visible(name), 60)
}

fn color_bar(scene: &mut Scene, panel: &Panel, left: f64, height: f64) {
    let Some(bar) = &panel.color_bar else { return };
    let top = TITLE_HEIGHT + 26.0;
    let height = height - 26.0;
    const STEPS: usize = 64;
    for step in 0..STEPS {
        let share = |n: usize| top + height * (1.0 - n as f64 / STEPS as f64);
        let color = Color::viridis((step as f64 + 0.5) / STEPS as f64);
        scene.frame.push(Shape::Rectangle {
            from: (left, share(step + 1) - 1.0),
            to: (left + 14.0, share(step)),
            color,
        });
    }
    scene.frame.push(text(
        (left, top - 15.0),
        &shorten(&bar.label, 16),
        FONT,
        Anchor::Start,
    ));
    for (share, label) in &bar.ticks {
        scene.frame.push(text(
            (left + 19.0, top + height * (1.0 - share) + 4.5),
            label,
            12.0,
            Anchor::Start,
        ));
    }
}

/// Where a panel is.
struct Area<'a> {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    panel: &'a Panel,
}

impl Area<'_> {
    fn x(&self, value: f64) -> f64 {
        self.left + self.width * self.panel.x.place(value)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + self.height * (1.0 - self.panel.y.place(value))
    }

    fn draw(&self, scene: &mut Scene) {
        self.axes(scene);
        for trace in &self.panel.traces {
            let index = scene.groups.len();
            let mut shapes = Vec::new();
            let hovers = &mut scene.hovers;
            let mut hover = |x: f64, y: f64, told: &str| {
                if !told.is_empty() {
                    hovers.push(Hover {
                        x,
                        y,
                        group: index,
                        text: told.split('\n').map(visible).collect::<Vec<_>>().join("\n"),
                    });
                }
            };
            match &trace.marks {
                Marks::Points(points) => {
                    for point in points {
                        let at = (self.x(point.x), self.y(point.y));
                        shapes.push(Shape::Circle {
                            at,
                            radius: 4.0,
                            color: point.color,
                        });
                        hover(at.0, at.1, &point.hover);
                    }
                }
                Marks::Line {
                    points,
                    width,
                    dotted,
                    hover: told,
                } => {
                    let points: Vec<(f64, f64)> = points
                        .iter()
                        .map(|(x, y)| (self.x(*x), self.y(*y)))
                        .collect();
                    for (at, told) in points.iter().zip(told) {
                        hover(at.0, at.1, told);
                    }
                    let (color, width) = (trace.color, *width);
                    let opacity = if width < 2.0 { 0.65 } else { 1.0 };
                    if *dotted && scene.dashes < MAX_DASHES {
                        let dashes = dashes(&points).into_iter();
                        scene.dashes += dashes.len();
                        shapes.extend(dashes.map(|points| Shape::Line {
                            points,
                            color,
                            width,
                            opacity,
                        }));
                    } else if let [(x, y)] = points[..] {
                        shapes.push(Shape::Circle {
                            at: (x, y),
                            radius: 3.0,
                            color,
                        });
                    } else {
                        shapes.push(Shape::Line {
                            points,
                            color,
                            width,
                            opacity,
                        });
                    }
                }
                Marks::Boxes(boxes) => {
                    for each in boxes {
                        let (from, to) = (
                            (self.x(each.x.0), self.y(each.y.1)),
                            (self.x(each.x.1), self.y(each.y.0)),
                        );
                        // What is too short to see is still there; the cells of a surface overlap, or
                        // browsers show the seams between them.
                        let seam = if each.hover.is_empty() { 1.0 } else { 0.0 };
                        let to = (to.0.max(from.0 + 1.5) + seam, to.1 + seam);
                        shapes.push(Shape::Rectangle {
                            from,
                            to,
                            color: each.color,
                        });
                        hover(
                            f64::midpoint(from.0, to.0),
                            f64::midpoint(from.1, to.1),
                            &each.hover,
                        );
                    }
                }
                Marks::Words(words) => {
                    for word in words {
                        let (x, y) = (self.x(word.x), self.y(word.y));
                        let (at, anchor) = match word.side {
                            Side::Left => ((x - 6.0, y + 4.0), Anchor::End),
                            Side::Right => ((x + 6.0, y + 4.0), Anchor::Start),
                            Side::Above => ((x, y - 10.0), Anchor::Middle),
                            Side::Middle => ((x, y + 4.0), Anchor::Middle),
                        };
                        shapes.push(text(at, &word.text, 12.0, anchor));
                    }
                }
            }
            scene.groups.push(Group {
                name: group_name(&trace.name),
                shapes,
                legend: Vec::new(),
            });
        }
    }

    fn axes(&self, scene: &mut Scene) {
        let (right, bottom) = (self.left + self.width, self.top + self.height);
        let line = |points: Vec<(f64, f64)>, color| Shape::Line {
            points,
            color,
            width: 1.0,
            opacity: 1.0,
        };
        let Panel { x, y, .. } = self.panel;
        let room = self.width / 74.0;
        for (value, label) in ticks(x, room) {
            let at = self.x(value);
            scene
                .frame
                .push(line(vec![(at, self.top), (at, bottom)], GRID));
            scene.frame.push(text(
                (at, bottom + 18.0),
                &shorten(&label, 16),
                12.0,
                Anchor::Middle,
            ));
        }
        // Every name that there is room for; numbers between the ticks can be guessed, names cannot.
        let apart = if matches!(y.scale, Scale::Category(_)) {
            15.0
        } else {
            40.0
        };
        for (value, label) in ticks(y, self.height / apart) {
            let at = self.y(value);
            scene
                .frame
                .push(line(vec![(self.left, at), (right, at)], GRID));
            scene.frame.push(text(
                (self.left - 7.0, at + 4.0),
                &shorten(&label, 10),
                12.0,
                Anchor::End,
            ));
        }
        if x.scale != Scale::Hidden {
            scene.frame.push(line(
                vec![(self.left, bottom), (right, bottom)],
                Color::DARK,
            ));
            scene.frame.push(text(
                (f64::midpoint(self.left, right), bottom + 40.0),
                &shorten(&x.label, 60),
                FONT,
                Anchor::Middle,
            ));
        }
        if y.scale != Scale::Hidden {
            scene.frame.push(line(
                vec![(self.left, self.top), (self.left, bottom)],
                Color::DARK,
            ));
            let at = (self.left - 60.0, f64::midpoint(self.top, bottom));
            scene.frame.push(Shape::Text {
                at,
                text: shorten(&visible(&y.label), 50),
                size: FONT,
                anchor: Anchor::Middle,
                upright: true,
            });
        }
    }
}

fn text(at: (f64, f64), text: &str, size: f64, anchor: Anchor) -> Shape {
    Shape::Text {
        at,
        text: visible(text).into_owned(),
        size,
        anchor,
        upright: false,
    }
}

/// Text whose control characters are escaped as Python does: they would end an SVG file, break a line or turn the text
/// around. So are the two characters that XML does not allow.
///
/// ```
/// assert_eq!(kiln_plot::visible("a\u{1b}[2Jb\nc"), r"a\x1b[2Jb\nc");
/// ```
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    visible_except(text, &[])
}

/// As [`visible`], but some characters stay.
pub(crate) fn visible_except<'a>(text: &'a str, kept: &[char]) -> Cow<'a, str> {
    let is_hidden =
        |c: char| (is_unsafe(c) && !kept.contains(&c)) || matches!(c, '\u{fffe}' | '\u{ffff}');
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if kept.contains(&c) => shown.push(c),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            // Writing to a String does not fail.
            c if is_hidden(c) && (c as u32) < 0x100 => {
                let _ = write!(shown, "\\x{:02x}", c as u32);
            }
            c if is_hidden(c) => {
                let _ = write!(shown, "\\u{:04x}", c as u32);
            }
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Control characters (C0, DEL, C1), line and paragraph separators, and the marks that turn the direction of text.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}')
        || ('\u{2028}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

/// At most so many characters of a text; of a longer one the last of them is `…`.
///
/// ```
/// assert_eq!(kiln_plot::shorten("learning_rate", 6), "learn…");
/// ```
#[must_use]
pub fn shorten(text: &str, length: usize) -> String {
    if text.chars().nth(length).is_none() {
        text.to_owned()
    } else {
        text.chars().take(length - 1).chain(['…']).collect()
    }
}

/// About the width of a text of the usual size.
fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * FONT * 0.58
}

fn dashes(points: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
    let mut dashes = Vec::new();
    for pair in points.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let length = (b.0 - a.0).hypot(b.1 - a.1);
        let at = |distance: f64| {
            (
                a.0 + (b.0 - a.0) * distance / length,
                a.1 + (b.1 - a.1) * distance / length,
            )
        };
        let mut start = 0.0;
        while start < length {
            dashes.push(vec![at(start), at((start + 4.0).min(length))]);
            start += 8.0;
        }
    }
    dashes
}

/// Places and texts of the ticks of an axis, about `count` of them.
#[must_use]
pub fn ticks(axis: &Axis, count: f64) -> Vec<(f64, String)> {
    let (low, high) = axis.range;
    match &axis.scale {
        Scale::Hidden => Vec::new(),
        Scale::Category(names) => {
            let skip = (names.len() as f64 / count.max(1.0)).ceil().max(1.0);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            names
                .iter()
                .enumerate()
                .step_by(skip as usize)
                .map(|(i, name)| (i as f64, name.clone()))
                .collect()
        }
        Scale::Time => time_ticks(low, high, count),
        Scale::Linear => linear_ticks(low, high, count),
        Scale::Log => {
            let (first, last) = (low.log10().ceil(), high.log10().floor());
            // Floats have 633 powers of ten, and there is no other limit to this loop.
            if !(1.0..700.0).contains(&(last - first)) {
                return linear_ticks(low, high, count)
                    .into_iter()
                    .filter(|(value, _)| *value > 0.0)
                    .collect();
            }
            let skip = ((last - first + 1.0) / count.max(2.0)).ceil().max(1.0);
            let mut ticks = Vec::new();
            let mut exponent = first;
            while exponent <= last {
                let value = 10_f64.powf(exponent);
                ticks.push((
                    value,
                    if exponent.abs() < 4.0 {
                        number(value)
                    } else {
                        format!("1e{exponent}")
                    },
                ));
                exponent += skip;
            }
            ticks
        }
    }
}

/// So many ticks an axis has at most.
const MAX_TICKS: usize = 100;

fn linear_ticks(low: f64, high: f64, count: f64) -> Vec<(f64, String)> {
    if !(high - low).is_finite() {
        // The difference of the ends overflows, but not that of a thousandth of them.
        const SHARE: f64 = 0.001;
        let ticks = linear_ticks(low * SHARE, high * SHARE, count);
        let values = ticks.into_iter().map(|(value, _)| value / SHARE);
        let inside = values.filter(|value| (low..=high).contains(value));
        return inside.map(|value| (value, number(value))).collect();
    }
    let rough = (high - low) / count.max(2.0);
    let magnitude = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * magnitude)
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    if !(step.is_finite() && magnitude.is_normal()) || low + step == low {
        return vec![(low, number(low))];
    }
    let mut ticks = Vec::new();
    let mut n = (low / step).ceil();
    while n * step <= high * (1.0 + 1e-12) + 1e-300 && ticks.len() < MAX_TICKS {
        let value = n * step;
        ticks.push((
            value,
            number((value / magnitude * 10.0).round() / 10.0 * magnitude),
        ));
        n += 1.0;
    }
    ticks
}

fn time_ticks(low: f64, high: f64, count: f64) -> Vec<(f64, String)> {
    const STEPS: [f64; 18] = [
        0.001,
        0.01,
        0.1,
        1.0,
        5.0,
        15.0,
        30.0,
        60.0,
        300.0,
        900.0,
        1800.0,
        3600.0,
        10800.0,
        21600.0,
        43200.0,
        86400.0,
        604_800.0,
        2_592_000.0,
    ];
    const YEAR: f64 = 31_536_000.0;
    let rough = (high - low) / count.max(2.0);
    let years = (rough / YEAR).max(1.0);
    let step = STEPS
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or_else(|| YEAR * 10_f64.powf(years.log10().ceil()));
    if !step.is_finite() {
        return Vec::new();
    }
    let form = match step {
        step if step < 1.0 => "%H:%M:%S%.3f",
        step if step < 60.0 => "%H:%M:%S",
        step if step < 86400.0 => "%m-%d %H:%M",
        _ => "%Y-%m-%d",
    };
    let mut ticks = Vec::new();
    let mut n = (low / step).ceil();
    while n * step <= high && ticks.len() < MAX_TICKS {
        #[allow(clippy::cast_possible_truncation)]
        let time = chrono::DateTime::from_timestamp_micros((n * step * 1e6).round() as i64);
        ticks.push((
            n * step,
            time.map_or_else(String::new, |time| time.format(form).to_string()),
        ));
        n += 1.0;
    }
    ticks
}

/// A number with about four digits.
///
/// ```
/// assert_eq!(kiln_plot::number(0.1 + 0.2), "0.3");
/// assert_eq!(kiln_plot::number(1.5e9), "1.5e9");
/// ```
#[must_use]
pub fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !value.is_finite() {
        return value.to_string();
    }
    let exponent = value.abs().log10().floor();
    if !(-4.0..6.0).contains(&exponent) {
        let text = format!("{value:.3e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let digits = if digits.contains('.') {
            digits.trim_end_matches('0').trim_end_matches('.')
        } else {
            digits
        };
        return format!("{digits}e{exponent}");
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let decimals = (3.0 - exponent).clamp(0.0, 8.0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, range: (f64, f64)) -> Vec<String> {
        ticks(
            &Axis {
                label: String::new(),
                scale,
                range,
            },
            6.0,
        )
        .into_iter()
        .map(|(_, label)| label)
        .collect()
    }

    #[test]
    fn ticks_are_round_numbers_within_the_range() {
        assert_eq!(
            labels(Scale::Linear, (-0.03, 1.04)),
            ["0", "0.2", "0.4", "0.6", "0.8", "1"]
        );
        assert_eq!(
            labels(Scale::Linear, (95.0, 1010.0)),
            ["200", "400", "600", "800", "1000"]
        );
        assert_eq!(
            labels(Scale::Log, (0.5e-5, 0.2)),
            ["1e-5", "1e-4", "0.001", "0.01", "0.1"]
        );
        assert_eq!(labels(Scale::Log, (2.0, 9.0)), ["2", "4", "6", "8"]);
        assert_eq!(labels(Scale::Linear, (5.0, 5.0)).len(), 1);
        assert_eq!(
            labels(Scale::Category(vec!["a".into(), "b".into()]), (-0.5, 1.5)),
            ["a", "b"]
        );
        assert_eq!(
            labels(Scale::Time, (0.0, 300.0)),
            [
                "01-01 00:00",
                "01-01 00:01",
                "01-01 00:02",
                "01-01 00:03",
                "01-01 00:04",
                "01-01 00:05"
            ]
        );
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (0.1 + 0.2, "0.3"),
            (12345.678, "12346"),
            (1e-7, "1e-7"),
            (1.5e9, "1.5e9"),
            (-2.0, "-2"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(number(value), expected);
        }
    }
}
