//! Bars between edges.

use std::fmt::Write;

use super::chart::{Axis, Span};
use super::scale::{Scale, Unit, label, ticks};
use super::svg::{escape, place};
use super::{COLOURS, Form, STYLE};

/// A histogram: how many values lie between each edge and the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bars {
    /// What it shows.
    pub title: String,
    /// The borders, rising; one more than there are counts.
    pub edges: Vec<f64>,
    /// The number of values between two borders.
    pub counts: Vec<u64>,
    /// Its colour, of [`COLOURS`].
    pub colour: usize,
    /// The width in pixels.
    pub width: u32,
    /// The height in pixels.
    pub height: u32,
}

impl Bars {
    /// The picture. Bars are as high as their counts, whatever their widths.
    ///
    /// # Panics
    /// When there is not one edge more than there are counts.
    #[track_caller]
    pub fn svg(&self, form: Form) -> String {
        let (edges, counts) = (self.edges.len(), self.counts.len());
        assert!(
            edges == counts + 1,
            "histogram: {edges} edges and {counts} counts, expected one edge more than counts"
        );
        let top = if form == Form::Standalone { 30.0 } else { 6.0 };
        let (left, bottom) = (8.0, 20.0);
        let width = (f64::from(self.width) - 2.0 * left).max(10.0);
        let height = (f64::from(self.height) - top - bottom).max(10.0);
        let axis = Axis { range: Some((self.edges[0], self.edges[counts])), ..Axis::default() };
        let x = Span::new(&axis, std::iter::empty(), width, 0.0);
        let most = self.counts.iter().copied().max().unwrap_or(0).max(1) as f64;
        let total: u64 = self.counts.iter().fold(0, |sum, &count| sum.saturating_add(count));

        let mut out = String::with_capacity(2048);
        let push =
            |out: &mut String, text: std::fmt::Arguments| out.write_fmt(text).expect("a String takes everything");
        let (w, h) = (self.width, self.height);
        let range = format!("{} to {}", label(Unit::Number, self.edges[0]), label(Unit::Number, self.edges[counts]));
        let summary = format!("Histogram of {}: {} values from {range}", self.title, label(Unit::Count, total as f64));
        push(&mut out, format_args!("<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" role=\"img\" "));
        push(
            &mut out,
            format_args!("aria-label=\"{}\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\">", escape(&summary)),
        );
        if form == Form::Standalone {
            push(&mut out, format_args!("<style>{STYLE}</style><rect class=\"ground\" width=\"{w}\" height=\"{h}\"/>"));
            push(&mut out, format_args!("<text class=\"title\" x=\"{left}\" y=\"20\">{}</text>", escape(&self.title)));
        }
        push(&mut out, format_args!("<g class=\"c{}\"><path class=\"bars\" d=\"", self.colour % COLOURS));
        for (edge, &count) in self.edges.windows(2).zip(&self.counts).filter(|(_, count)| **count > 0) {
            let (from, to) = (x.place(edge[0]), x.place(edge[1]));
            // What is there is seen, however little.
            let size = (count as f64 / most * height).max(1.0);
            let gap = if to - from > 4.0 { 1.0 } else { 0.0 };
            out.push('M');
            place(&mut out, left + from);
            out.push(' ');
            place(&mut out, top + height);
            out.push('v');
            place(&mut out, -size);
            out.push('h');
            place(&mut out, (to - from - gap).max(0.2));
            out.push('v');
            place(&mut out, size);
            out.push('z');
        }
        push(
            &mut out,
            format_args!("\"/></g><path class=\"grid\" d=\"M{left} {}h{width}\"/><g class=\"ticks\">", top + height),
        );
        let (low, high) = x.ends();
        for tick in ticks(Scale::Linear, Unit::Number, low, high, ((width / 70.0) as usize).max(2)) {
            let at = left + x.place(tick);
            let anchor = match at {
                at if at < left + 14.0 => "start",
                at if at > left + width - 14.0 => "end",
                _ => "middle",
            };
            push(
                &mut out,
                format_args!("<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">", top + height + 14.0),
            );
            push(&mut out, format_args!("{}</text>", escape(&label(Unit::Number, tick))));
        }
        out.push_str("</g></svg>");
        out
    }
}
