//! Lines over axes.

use std::fmt::Write;

use super::scale::{Scale, Unit, label, ticks};
use super::svg::{escape, place, value};
use super::{COLOURS, Form, STYLE};

/// One direction of a chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    /// What it shows, such as "step".
    pub label: String,
    /// How values are spread.
    pub scale: Scale,
    /// What it counts.
    pub unit: Unit,
    /// The values at its ends; without it, those of the lines and a little more.
    pub range: Option<(f64, f64)>,
}

/// One line of a chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// What programs that go on drawing know it by.
    pub key: String,
    /// Its colour, of [`COLOURS`].
    pub colour: usize,
    /// The points, from left to right. A point that is not finite parts the line.
    pub points: Vec<(f64, f64)>,
    /// The same, smoothed: it is drawn over the points, which then are faint.
    pub smooth: Vec<(f64, f64)>,
    /// Over how many steps, for programs that go on drawing.
    pub span: f64,
    /// An area behind the line: place, lower and upper border.
    pub band: Vec<(f64, f64, f64)>,
    /// Places of values that are no numbers; a small cross at the top shows each.
    pub bad: Vec<f64>,
    /// Whether it is drawn in dashes.
    pub dashed: bool,
}

impl Line {
    /// A line through `points` in the first colour.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, ..Self::default() }
    }
}

/// A place on the x axis that something happened at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mark {
    /// The place.
    pub x: f64,
    /// What happened.
    pub text: String,
    /// Whether it is something to worry about.
    pub alert: bool,
}

/// Lines over two axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// The lines, the first one on top.
    pub lines: Vec<Line>,
    /// What happened when.
    pub marks: Vec<Mark>,
    /// The width in pixels.
    pub width: u32,
    /// The height in pixels.
    pub height: u32,
}

impl Default for Chart {
    /// An empty chart of 640 by 240 pixels over steps.
    fn default() -> Self {
        Self {
            title: String::new(),
            x: Axis { label: "step".into(), unit: Unit::Count, ..Axis::default() },
            y: Axis::default(),
            lines: Vec::new(),
            marks: Vec::new(),
            width: 640,
            height: 240,
        }
    }
}

/// Where an axis lies in the picture: values between `low` and `high` on `size` pixels.
pub(super) struct Span {
    pub scale: Scale,
    pub low: f64,
    pub high: f64,
    pub size: f64,
}

impl Span {
    pub fn new(axis: &Axis, values: impl Iterator<Item = f64>, size: f64, air: f64) -> Self {
        let scale = axis.scale;
        let (low, high) = match axis.range {
            Some((low, high)) => (scale.straight(low), scale.straight(high)),
            None => {
                let inside = |value: &f64| value.is_finite();
                let (low, high) = values
                    .map(|value| scale.straight(value))
                    .filter(inside)
                    .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
                let air = (high - low) * air;
                (low - air, high + air)
            }
        };
        let (low, high) = match () {
            () if !low.is_finite() || !high.is_finite() || high - low == f64::INFINITY => (0.0, 1.0),
            // Also where the difference is lost beside the values.
            () if high - low <= low.abs().max(high.abs()) * 1e-9 => {
                let air = if low == 0.0 && high == 0.0 { 1.0 } else { low.abs().max(high.abs()) * 0.1 };
                (low - air, high + air)
            }
            () => (low, high),
        };
        Self { scale, low, high, size }
    }

    pub fn place(&self, value: f64) -> f64 {
        (self.scale.straight(value) - self.low) / (self.high - self.low) * self.size
    }

    pub fn ends(&self) -> (f64, f64) {
        (self.scale.value(self.low), self.scale.value(self.high))
    }
}

const LEFT: f64 = 54.0;
const RIGHT: f64 = 14.0;
const BOTTOM: f64 = 24.0;

impl Chart {
    /// The picture.
    pub fn svg(&self, form: Form) -> String {
        let top = if form == Form::Standalone { 46.0 } else { 8.0 };
        let bottom = if form == Form::Standalone { BOTTOM + 16.0 } else { BOTTOM };
        let width = (f64::from(self.width) - LEFT - RIGHT).max(10.0);
        let height = (f64::from(self.height) - top - bottom).max(10.0);
        let xs = self.lines.iter().flat_map(|line| line.points.iter().chain(&line.smooth).map(|point| point.0));
        let ys = self.lines.iter().flat_map(|line| {
            let band = line.band.iter().flat_map(|&(_, low, high)| [low, high]);
            line.points.iter().chain(&line.smooth).map(|point| point.1).chain(band)
        });
        let x = Span::new(&self.x, xs, width, 0.0);
        let y = Span::new(&self.y, ys, height, 0.06);

        let mut out = String::with_capacity(4096);
        self.open(&mut out, form, top, &x, &y);
        let push =
            |out: &mut String, text: std::fmt::Arguments| out.write_fmt(text).expect("a String takes everything");
        let count = ((height / 30.0) as usize).max(2);
        let (low, high) = y.ends();
        let y_ticks = ticks(self.y.scale, self.y.unit, low, high, count);
        let (low, high) = x.ends();
        let x_ticks = ticks(self.x.scale, self.x.unit, low, high, ((width / 62.0) as usize).max(2));

        out.push_str("<path class=\"grid\" d=\"");
        for &tick in &y_ticks {
            out.push('M');
            place(&mut out, LEFT);
            out.push(' ');
            place(&mut out, top + height - y.place(tick));
            out.push('h');
            place(&mut out, width);
        }
        out.push_str("\"/><g class=\"ticks\">");
        for &tick in &y_ticks {
            let at = top + height - y.place(tick) + 3.5;
            push(&mut out, format_args!("<text x=\"{}\" y=\"{at:.1}\" text-anchor=\"end\">", LEFT - 7.0));
            push(&mut out, format_args!("{}</text>", escape(&label(self.y.unit, tick))));
        }
        for &tick in &x_ticks {
            let at = LEFT + x.place(tick);
            // At the very ends the text is moved inside.
            let anchor = if at > LEFT + width - 16.0 { "end" } else { "middle" };
            let at = if anchor == "end" { at + 8.0 } else { at };
            push(
                &mut out,
                format_args!("<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">", top + height + 16.0),
            );
            push(&mut out, format_args!("{}</text>", escape(&label(self.x.unit, tick))));
        }
        out.push_str("</g>");
        // An inner picture cuts off what lies outside of the axes.
        push(
            &mut out,
            format_args!("<svg class=\"area\" x=\"{LEFT}\" y=\"{top}\" width=\"{width}\" height=\"{height}\">"),
        );
        for mark in &self.marks {
            let at = x.place(mark.x);
            if at.is_finite() && (0.0..=width).contains(&at) {
                let class = if mark.alert { "mark alert" } else { "mark" };
                push(&mut out, format_args!("<path class=\"{class}\" d=\"M{at:.1} 0v{height}\"><title>"));
                push(&mut out, format_args!("{}</title></path>", escape(&mark.text)));
            }
        }
        for line in self.lines.iter().rev() {
            line.draw(&mut out, form, &x, &y);
        }
        out.push_str("</svg></svg>");
        out
    }

    fn open(&self, out: &mut String, form: Form, top: f64, x: &Span, y: &Span) {
        let (width, height) = (self.width, self.height);
        let mut write = |text: std::fmt::Arguments| out.write_fmt(text).expect("a String takes everything");
        write(format_args!("<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" role=\"img\" aria-label=\""));
        write(format_args!(
            "{}\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\"",
            self.summary()
        ));
        let scale = |scale| if scale == Scale::Log { "log" } else { "linear" };
        write(format_args!(" data-area=\"{LEFT} {top} {} {}\"", x.size, y.size));
        // Unrounded, so that a program that goes on drawing meets the lines.
        write(format_args!(" data-x=\"{} {} {}\"", scale(x.scale), x.low, x.high));
        write(format_args!(" data-y=\"{} {} {}\">", scale(y.scale), y.low, y.high));
        if form == Form::Page {
            return;
        }
        write(format_args!("<style>{STYLE}</style><rect class=\"ground\" width=\"{width}\" height=\"{height}\"/>"));
        write(format_args!("<text class=\"title\" x=\"{LEFT}\" y=\"20\">{}</text>", escape(&self.title)));
        let mut at = LEFT;
        for line in &self.lines {
            write(format_args!(
                "<g class=\"c{}\"><path class=\"line\" d=\"M{at:.0} 34h14\"/></g>",
                line.colour % COLOURS
            ));
            write(format_args!("<text class=\"key\" x=\"{:.0}\" y=\"38\">{}</text>", at + 20.0, escape(&line.name)));
            // No font is measured here; this is wide enough for most.
            at += 44.0 + 6.6 * line.name.chars().count() as f64;
        }
        let (right, bottom) = (f64::from(width) - RIGHT, f64::from(height) - 8.0);
        write(format_args!(
            "<text class=\"key\" x=\"{right}\" y=\"{bottom}\" text-anchor=\"end\">{}</text>",
            escape(&self.x.label)
        ));
    }

    /// The chart in a sentence, for readers who do not see it.
    fn summary(&self) -> String {
        let mut text = format!("Chart of {} over {}", self.title, self.x.label);
        for line in self.lines.iter().take(COLOURS) {
            let best = if line.smooth.is_empty() { &line.points } else { &line.smooth };
            if let Some(&(x, y)) = best.last() {
                let (x, y) = (label(self.x.unit, x), label(self.y.unit, y));
                write!(text, "; {}: {y} at {x}", line.name).expect("a String takes everything");
            }
        }
        escape(&text)
    }
}

impl Line {
    fn draw(&self, out: &mut String, form: Form, x: &Span, y: &Span) {
        let colour = self.colour % COLOURS;
        write!(out, "<g class=\"c{colour}\" data-name=\"{}\"", escape(&self.name)).expect("a String takes everything");
        if form == Form::Page {
            write!(out, " data-key=\"{}\"", escape(&self.key)).expect("a String takes everything");
            if let Some(&(_, last)) = self.smooth.last() {
                write!(out, " data-smooth=\"{} {last}\"", self.span).expect("a String takes everything");
            }
            let mut list = |name: &str, of: fn(&(f64, f64)) -> f64| {
                write!(out, " {name}=\"").expect("a String takes everything");
                for (i, point) in self.points.iter().enumerate() {
                    if i > 0 {
                        out.push(' ');
                    }
                    value(out, of(point));
                }
                out.push('"');
            };
            list("data-xs", |point| point.0);
            list("data-ys", |point| point.1);
        }
        out.push('>');
        if self.band.len() > 1 {
            out.push_str("<path class=\"band\" d=\"M");
            let there = self.band.iter().map(|&(at, _, high)| (at, high));
            let back = self.band.iter().rev().map(|&(at, low, _)| (at, low));
            for (i, (at, border)) in there.chain(back).enumerate() {
                let (at, border) = (x.place(at), y.size - y.place(border));
                if at.is_finite() && border.is_finite() {
                    out.push_str(if i > 0 { " " } else { "" });
                    place(out, at);
                    out.push(' ');
                    place(out, border);
                }
            }
            out.push_str("z\"/>");
        }
        let faint = match () {
            () if !self.smooth.is_empty() => "line raw",
            () if self.dashed => "line dashed",
            () => "line",
        };
        for (class, points) in [(faint, &self.points), ("line smooth", &self.smooth)] {
            if points.is_empty() {
                continue;
            }
            write!(out, "<path class=\"{class}\" d=\"").expect("a String takes everything");
            path(out, points, x, y);
            out.push_str("\"/>");
        }
        let crosses: Vec<f64> = self.bad.iter().map(|&at| x.place(at)).filter(|at| at.is_finite()).collect();
        if !crosses.is_empty() {
            out.push_str("<path class=\"bad\" d=\"");
            for at in crosses {
                write!(out, "M{:.1} 2l6 6m0-6l-6 6", at - 3.0).expect("a String takes everything");
            }
            out.push_str("\"/>");
        }
        out.push_str("</g>");
    }
}

/// The commands of a line; a point without a place parts it.
fn path(out: &mut String, points: &[(f64, f64)], x: &Span, y: &Span) {
    let mut drawing = false;
    for &(at, height) in points {
        let (at, height) = (x.place(at), y.size - y.place(height));
        if !(at.is_finite() && height.is_finite()) {
            drawing = false;
            continue;
        }
        out.push(if drawing { 'L' } else { 'M' });
        place(out, at.clamp(-1e6, 1e6));
        out.push(' ');
        place(out, height.clamp(-1e6, 1e6));
        drawing = true;
    }
    // A line of one point is a dot.
    if points.len() == 1 && drawing {
        out.push_str("h.1");
    }
}

/// A line without axes, for a row of a table. Nothing when there are fewer than two points.
pub fn sparkline(points: &[(f64, f64)], colour: usize, width: u32, height: u32) -> String {
    if points.len() < 2 {
        return String::new();
    }
    let axis = Axis::default();
    let x = Span::new(&axis, points.iter().map(|point| point.0), f64::from(width) - 4.0, 0.0);
    let y = Span::new(&axis, points.iter().map(|point| point.1), f64::from(height) - 4.0, 0.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot spark\" aria-hidden=\"true\" viewBox=\"-2 -2 {width} {height}\" \
         width=\"{width}\" height=\"{height}\"><g class=\"c{}\"><path class=\"line\" d=\"",
        colour % COLOURS
    );
    path(&mut out, points, &x, &y);
    out.push_str("\"/></g></svg>");
    out
}
