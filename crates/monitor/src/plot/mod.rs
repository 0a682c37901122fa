//! Charts as SVG: lines with bands, histograms, small lines without axes.
//!
//! | module | what it holds |
//! |---|---|
//! | [`scale`] | axes, ticks and how numbers are written |
//! | [`chart`] | lines over axes |
//! | [`histogram`] | bars between edges |
//! | [`svg`] | text and numbers in SVG |
//!
//! Equal charts give equal bytes. All colours come from classes: a page brings the style ([`STYLE`], whose variables
//! follow the reader's light or dark scheme), and [`Form::Standalone`] carries it inside, for files and for documents.
//!
//! ```
//! use cupola_monitor::plot::{Chart, Form, Line};
//! let loss = (1..=100).map(|step| (f64::from(step), 4.0 / f64::from(step).sqrt())).collect();
//! let chart = Chart { title: "loss".into(), lines: vec![Line::new("first run", loss)], ..Chart::default() };
//! let svg = chart.svg(Form::Standalone);
//! assert!(svg.starts_with("<svg ") && svg.contains("first run"));
//! ```

pub mod chart;
pub mod histogram;
pub mod scale;
pub mod svg;

pub use chart::{Axis, Chart, Line, Mark, sparkline};
pub use histogram::Bars;
pub use scale::{Scale, Unit, label, number};

/// Where an SVG will be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Inside a page, which has [`STYLE`] and shows title and legend itself.
    Page,
    /// Alone: with its style, title and legend inside.
    Standalone,
}

/// The style of all charts, as CSS. Pages include it; standalone files carry it.
pub const STYLE: &str = include_str!("../../assets/plot.css");

/// The number of colours in [`STYLE`]; further lines begin again.
pub const COLOURS: usize = 8;
