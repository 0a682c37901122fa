//! A line chart out of characters.

use cupola_monitor::plot::{Scale, Unit, label};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// A step and what was measured there, if anything was.
type Point = (u64, Option<f64>);

/// What a chart shows.
pub struct Plot<'a> {
    /// Lines of step and value; each has its style.
    pub lines: Vec<(&'a [Point], Style)>,
    /// How values are spread.
    pub scale: Scale,
    /// What values count.
    pub unit: Unit,
    /// Whether there are characters beyond ASCII: eight dots a place instead of one star.
    pub fine: bool,
}

/// The columns of the y axis' labels.
const LABELS: u16 = 9;
/// The bits of a braille character's dots, by column and row.
const DOTS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

impl Plot<'_> {
    /// Draws into `area`; nothing when it is too small for an axis and a line.
    pub fn draw(&self, area: Rect, buffer: &mut Buffer) {
        if area.width < LABELS + 4 || area.height < 3 {
            return;
        }
        let inner = Rect { x: area.x + LABELS, y: area.y, width: area.width - LABELS, height: area.height - 1 };
        let all = || {
            let lines = self.lines.iter().flat_map(|(points, _)| points.iter());
            lines
                .filter_map(|&(step, value)| Some((step as f64, self.scale.straight(value?))))
                .filter(|p| p.1.is_finite())
        };
        let Some(first) = all().next() else {
            buffer.set_string(inner.x, inner.y, "nothing yet", Style::new());
            return;
        };
        let ends = all()
            .fold((first, first), |(low, high), (x, y)| ((low.0.min(x), low.1.min(y)), (high.0.max(x), high.1.max(y))));
        let ((x_low, y_low), (x_high, y_high)) = ends;
        let x_high = if x_high > x_low { x_high } else { x_low + 1.0 };
        let air = if y_high > y_low { 0.0 } else { y_low.abs().max(1.0) * 0.1 };
        let (y_low, y_high) = (y_low - air, y_high + air);

        let (across, down) = if self.fine { (2, 4) } else { (1, 1) };
        let (width, height) = (usize::from(inner.width) * across, usize::from(inner.height) * down);
        for (points, style) in self.lines.iter().rev() {
            let mut before: Option<(usize, usize)> = None;
            for &(step, value) in *points {
                let y = value.map_or(f64::NAN, |value| self.scale.straight(value));
                if !y.is_finite() {
                    before = None;
                    continue;
                }
                let column = ((step as f64 - x_low) / (x_high - x_low) * (width - 1) as f64).round() as usize;
                let row = height - 1 - ((y - y_low) / (y_high - y_low) * (height - 1) as f64).round() as usize;
                let (from_column, from_row) = before.unwrap_or((column, row));
                before = Some((column, row));
                // A straight line between the two points, as many dots as its longer side.
                let dots = column.abs_diff(from_column).max(row.abs_diff(from_row)).max(1);
                for dot in 0..=dots {
                    let part = dot as f64 / dots as f64;
                    let mix = |a: usize, b: usize| (a as f64 + (b as f64 - a as f64) * part).round() as usize;
                    self.dot(inner, buffer, mix(from_column, column), mix(from_row, row), *style);
                }
            }
        }
        self.labels(area, inner, buffer, (y_low, y_high), (x_low, x_high));
    }

    fn dot(&self, inner: Rect, buffer: &mut Buffer, column: usize, row: usize, style: Style) {
        let (across, down) = if self.fine { (2, 4) } else { (1, 1) };
        let (x, y) = (column / across, row / down);
        if x >= usize::from(inner.width) || y >= usize::from(inner.height) {
            return;
        }
        // Below the sizes of an area, which are 16 bits wide.
        let cell = &mut buffer[(inner.x + x as u16, inner.y + y as u16)];
        if !self.fine {
            cell.set_char('*').set_style(style);
            return;
        }
        let there = cell.symbol().chars().next().map_or(0, u32::from);
        let there = if (0x2800..0x2900).contains(&there) { there } else { 0x2800 };
        let dots = there | DOTS[column % 2][row % 4];
        cell.set_char(char::from_u32(dots).unwrap_or('*')).set_style(style);
    }

    fn labels(&self, area: Rect, inner: Rect, buffer: &mut Buffer, y: (f64, f64), x: (f64, f64)) {
        let rows = inner.height;
        let every = (rows / 4).max(2);
        for row in (0..rows).filter(|row| row % every == 0) {
            let part = f64::from(rows - 1 - row) / f64::from((rows - 1).max(1));
            let value = self.scale.value(y.0 + part * (y.1 - y.0));
            let text = label(self.unit, value);
            let text: String = text.chars().take(usize::from(LABELS) - 1).collect();
            let text = if self.fine { text } else { text.replace(|c: char| !c.is_ascii(), "?") };
            buffer.set_string(area.x, area.y + row, format!("{text:>8}"), Style::new());
        }
        let bottom = area.y + area.height - 1;
        let (first, last) = (label(Unit::Count, x.0), format!("step {}", label(Unit::Count, x.1)));
        buffer.set_stringn(inner.x, bottom, &first, usize::from(inner.width), Style::new());
        let room = usize::from(inner.width).saturating_sub(first.len() + 1);
        if last.len() <= room {
            buffer.set_string(inner.x + inner.width - last.len() as u16, bottom, last, Style::new());
        }
    }
}
