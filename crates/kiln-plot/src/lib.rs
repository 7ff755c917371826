//! Figures as interactive HTML that needs no network, as SVG and as PNG, and pages of them.
//!
//! [`curves`] draws lines over a common axis; any other figure is built of [`Panel`]s, each with two [`Axis`] and what is
//! drawn between them, the [`Trace`]s. A [`Page`] puts figures, tables and text below each other.
//!
//! ```
//! use kiln_plot::{Curve, curves};
//!
//! let train = Curve { name: "train".into(), points: vec![(1.0, 0.9), (2.0, 0.4)] };
//! let valid = Curve { name: "valid".into(), points: vec![(1.0, 1.1), (2.0, 0.7)] };
//! let figure = curves("Loss", "epoch", "loss", false, &[train, valid]);
//! assert!(figure.to_svg().starts_with("<svg"));
//! ```
//!
//! Control characters in titles, names and texts are shown escaped, as in `\n`, and nothing of them can end an element of
//! a page. Values that are not finite must be left out by who builds a trace; numbers of any other size are drawn.

mod error;
mod figure;
mod html;
mod layout;
mod page;
mod render;

pub use error::{Error, Result};
pub use figure::{
    Axis, Color, ColorBar, Figure, MAX_MARKS, MAX_PANELS, Marks, Panel, Point, Rectangle, Scale,
    Side, Trace, Word, fraction, mix, spread,
};
pub use layout::{number, shorten, ticks, visible};
pub use page::{Curve, Page, curves, save_report};

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
