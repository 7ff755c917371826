//! Pages of figures and text, and figures of plain curves.

use std::path::Path;

use crate::error::{Error, Result};
use crate::figure::{self, Axis, Color, Figure, MAX_MARKS, Panel, Scale, Trace, spread};
use crate::html;
use crate::layout::{number, shorten, visible};
use crate::render::escape;

/// An HTML page that needs nothing else: headings, figures, tables and HTML of your own, one below the other.
///
/// ```
/// use kiln_plot::{Curve, Page, curves};
///
/// let loss = Curve { name: "loss".into(), points: vec![(1.0, 0.9), (2.0, 0.4)] };
/// let page = Page::new("Run 7")
///     .heading("Curves")
///     .figure(&curves("Loss", "epoch", "loss", false, &[loss]))
///     .table(&["key", "value"], &[vec!["lr".into(), "0.01".into()]]);
/// assert!(page.to_html().contains("<h2>Curves</h2>"));
/// ```
#[derive(Debug, Clone)]
pub struct Page {
    title: String,
    body: String,
}

impl Page {
    /// An empty page with a title.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            body: String::new(),
        }
    }

    /// Adds a heading.
    #[must_use]
    pub fn heading(self, text: &str) -> Self {
        self.html(&format!("<h2>{}</h2>\n", escape(text)))
    }

    /// Adds a paragraph of plain text.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.html(&format!("<p>{}</p>\n", escape(text)))
    }

    /// Adds a figure, which can be zoomed and tells about what is under the mouse.
    #[must_use]
    pub fn figure(self, figure: &Figure) -> Self {
        self.html(&html::section(figure))
    }

    /// Adds a table of plain text.
    #[must_use]
    pub fn table(self, header: &[&str], rows: &[Vec<String>]) -> Self {
        let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
            let cells: String = cells
                .map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)))
                .collect();
            format!("<tr>{cells}</tr>\n")
        };
        let head = cells("th", &mut header.iter().copied());
        let rows: String = rows
            .iter()
            .map(|row| cells("td", &mut row.iter().map(String::as_str)))
            .collect();
        let head = if header.is_empty() {
            String::new()
        } else {
            head
        };
        self.html(&format!(
            "<div class=\"wide\"><table>\n{head}{rows}</table></div>\n"
        ))
    }

    /// Adds text that keeps its lines, such as a configuration file.
    #[must_use]
    pub fn code(self, text: &str) -> Self {
        self.html(&format!("<pre>{}</pre>\n", escape(text)))
    }

    /// Adds HTML as it is.
    #[must_use]
    pub fn html(mut self, html: &str) -> Self {
        self.body.push_str(html);
        self
    }

    /// The page.
    #[must_use]
    pub fn to_html(&self) -> String {
        html::document(
            &self.title,
            &format!("<h1>{}</h1>\n{}", escape(&self.title), self.body),
        )
    }

    /// Writes the page.
    ///
    /// # Errors
    /// [`Error::Write`] when it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        figure::write(path.as_ref(), self.to_html().as_bytes())
    }
}

/// A line of [`curves`].
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What the legend calls it.
    pub name: String,
    /// Its points from left to right; those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// Curves over a common axis, with a logarithmic vertical axis if wanted (values that are not positive are left out of
/// it).
#[must_use]
pub fn curves(title: &str, x: &str, y: &str, log: bool, curves: &[Curve]) -> Figure {
    let shown =
        |point: &&(f64, f64)| point.0.is_finite() && point.1.is_finite() && (!log || point.1 > 0.0);
    let limit = (MAX_MARKS / curves.len().max(1)).max(2);
    let points = |curve: &Curve| -> Vec<(f64, f64)> {
        spread(curve.points.iter().filter(shown).copied().collect(), limit)
    };
    let n_points = curves
        .iter()
        .flat_map(|curve| curve.points.iter().filter(shown))
        .count();
    let all: Vec<(f64, f64)> = curves.iter().flat_map(points).collect();
    let traces = curves.iter().enumerate().map(|(i, curve)| {
        let points = points(curve);
        let tell = |&(at, value): &(f64, f64)| {
            let name = shorten(&visible(&curve.name), 60);
            format!("{name}\n{x} {}\n{y} {}", number(at), number(value))
        };
        let hover = points.iter().map(tell).collect();
        Trace::line(curve.name.clone(), Color::nth(i), points, hover)
    });
    let scale = if log { Scale::Log } else { Scale::Linear };
    let panel = Panel {
        traces: traces.collect(),
        x: Axis::over(x, Scale::Linear, all.iter().map(|point| point.0)),
        y: Axis::over(y, scale, all.iter().map(|point| point.1)),
        color_bar: None,
    };
    Figure::single(title, panel).noting(all.len(), n_points, "points")
}

/// Writes figures one below the other as one HTML page that needs nothing else.
///
/// ```
/// use kiln_plot::{Curve, curves, save_report};
///
/// let loss = Curve { name: "loss".into(), points: vec![(1.0, 0.9), (2.0, 0.4)] };
/// let figures = [curves("Loss", "epoch", "loss", false, &[loss])];
/// let path = std::env::temp_dir().join(format!("kiln-plot-report-{}.html", std::process::id()));
/// save_report("Run 7", &figures, &path)?;
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), kiln_plot::Error>(())
/// ```
///
/// # Errors
/// [`Error::Ending`] when the name does not end with `.html`, [`Error::Write`] when it cannot be written.
pub fn save_report(title: &str, figures: &[Figure], path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let is_html = |ending: &std::ffi::OsStr| {
        ending.eq_ignore_ascii_case("html") || ending.eq_ignore_ascii_case("htm")
    };
    if !path.extension().is_some_and(is_html) {
        return Err(Error::Ending {
            what: "several plots are saved as one .html page",
            path: path.to_owned(),
        });
    }
    figures
        .iter()
        .fold(Page::new(title), Page::figure)
        .save(path)
}
