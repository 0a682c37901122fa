//! What the terminal shows, as a function of a snapshot and the size.

use cupola_monitor::Snapshot;
use cupola_monitor::fragments::facts;
use cupola_monitor::panels::{Panel, panels, unit};
use cupola_monitor::plot::Scale;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::plain;
use super::plot::Plot;

/// The view and where the reader stands in it.
pub struct View {
    run: Snapshot,
    panels: Vec<Panel>,
    shown: usize,
    log: bool,
    trouble: Option<String>,
    fine: bool,
    colour: bool,
}

impl View {
    /// A view of `run`; `fine` when the terminal takes characters beyond ASCII.
    pub fn new(run: Snapshot, fine: bool) -> Self {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let mut view =
            Self { run: Snapshot::default(), panels: Vec::new(), shown: 0, log: false, trouble: None, fine, colour };
        view.update(run);
        view
    }

    /// The run has gone on.
    pub fn update(&mut self, run: Snapshot) {
        let title = self.panels.get(self.shown).map(|panel| panel.title.clone());
        self.panels = panels(run.metrics.iter().map(|metric| metric.name.as_str()));
        // New numbers may come before the one that is shown.
        self.shown = self.panels.iter().position(|panel| Some(&panel.title) == title.as_ref()).unwrap_or(0);
        (self.run, self.trouble) = (run, None);
    }

    /// The run could not be looked at; what was seen last stays.
    pub fn trouble(&mut self, trouble: String) {
        self.trouble = Some(trouble);
    }

    /// A key was pressed. Returns whether to end.
    pub fn key(&mut self, key: KeyCode) -> bool {
        let count = self.panels.len().max(1);
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Right | KeyCode::Tab | KeyCode::Char('n') => self.shown = (self.shown + 1) % count,
            KeyCode::Left | KeyCode::BackTab | KeyCode::Char('p') => self.shown = (self.shown + count - 1) % count,
            KeyCode::Char('l') => self.log = !self.log,
            _ => {}
        }
        false
    }

    /// Draws all of it. The smaller the area, the less there is: down to one line, and to nothing.
    pub fn draw(&self, area: Rect, buffer: &mut Buffer) {
        let mut rows = Rows { area, next: 0, fine: self.fine };
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let state = format!("{}  {}", self.run.name, self.run.status);
        rows.line(buffer, &state, bold);
        if area.height >= 8 {
            rows.bar(buffer, self.run.step, self.run.steps);
        }
        let parts: Vec<String> =
            facts(&self.run).into_iter().map(|(name, value)| format!("{} {value}", name.to_lowercase())).collect();
        rows.wrapped(buffer, &parts, if area.height >= 16 { 3 } else { 1 });
        let notes = self.notes();
        let below = match area.height {
            0..10 => 0,
            10..18 => 1 + notes.len().min(1),
            _ => 1 + notes.len().min(4),
        };
        if let Some(panel) = self.panels.get(self.shown) {
            let scale = if self.log { ", log" } else { "" };
            let place = format!("{} ({}/{}{scale})", panel.title, self.shown + 1, self.panels.len());
            rows.line(buffer, &place, bold);
            let lines = panel.names.iter().enumerate().filter_map(|(index, name)| {
                let colour = [Color::Blue, Color::Yellow][index.min(1)];
                let style = if self.colour { Style::new().fg(colour) } else { Style::new() };
                Some((self.run.metric(name)?.points.as_slice(), style))
            });
            let scale = if self.log { Scale::Log } else { Scale::Linear };
            let plot = Plot { lines: lines.collect(), scale, unit: unit(&panel.names[0]), fine: self.fine };
            plot.draw(rows.rest(below as u16), buffer);
        } else {
            rows.line(buffer, "no numbers yet", Style::new());
        }
        rows.next = area.height.saturating_sub(below as u16);
        for (note, alert) in notes.iter().take(below.saturating_sub(1)) {
            let style = if *alert && self.colour { bold.fg(Color::Red) } else { Style::new() };
            rows.line(buffer, note, style);
        }
        if below > 0 {
            let faint = if self.colour { Style::new().add_modifier(Modifier::DIM) } else { Style::new() };
            rows.line(buffer, "q end   left/right or n/p other chart   l logarithm", faint);
        }
    }

    /// What is to be said below the chart, most urgent first, and whether it is an alert.
    fn notes(&self) -> Vec<(String, bool)> {
        let trouble = self.trouble.iter().chain(&self.run.problem).map(|text| (text.clone(), true));
        let alerts =
            self.run.alerts.iter().rev().take(2).map(|alert| (format!("{}: {}", alert.kind, alert.message), true));
        let sample = self
            .run
            .samples
            .first()
            .map(|sample| (format!("sample at {}: {}{}", sample.step, sample.prompt, sample.text), false));
        let event = self
            .run
            .events
            .first()
            .map(|event| (format!("{} at {}: {}", event.name, event.step, event.message), false));
        trouble.chain(alerts).chain(sample).chain(event).collect()
    }
}

/// Lines from the top of an area downwards; those that have no room are left out.
struct Rows {
    area: Rect,
    next: u16,
    fine: bool,
}

impl Rows {
    fn line(&mut self, buffer: &mut Buffer, text: &str, style: Style) {
        if self.next < self.area.height {
            let text = plain(text);
            let text = if self.fine { text } else { text.replace(|c: char| !c.is_ascii(), "?") };
            buffer.set_stringn(self.area.x, self.area.y + self.next, text, usize::from(self.area.width), style);
        }
        self.next = self.next.saturating_add(1);
    }

    fn bar(&mut self, buffer: &mut Buffer, step: u64, steps: Option<u64>) {
        let Some(steps) = steps.filter(|&steps| steps > 0) else { return };
        let part = (step as f64 / steps as f64).min(1.0);
        let width = usize::from(self.area.width).saturating_sub(5);
        let done = (part * width as f64).round() as usize;
        let (full, empty) = if self.fine { ("━", "─") } else { ("#", "-") };
        let text = format!("{:3.0}% {}{}", part * 100.0, full.repeat(done), empty.repeat(width - done));
        self.line(buffer, &text, Style::new());
    }

    /// Parts side by side, on at most `most` lines.
    fn wrapped(&mut self, buffer: &mut Buffer, parts: &[String], most: usize) {
        let width = usize::from(self.area.width);
        let mut lines: Vec<String> = Vec::new();
        for part in parts {
            match lines.last_mut() {
                Some(line) if line.chars().count() + 3 + part.chars().count() <= width => {
                    line.push_str("   ");
                    line.push_str(part);
                }
                _ => lines.push(part.clone()),
            }
        }
        for line in lines.iter().take(most) {
            self.line(buffer, line, Style::new());
        }
    }

    /// What is left above the last `below` lines.
    fn rest(&self, below: u16) -> Rect {
        let top = self.next.min(self.area.height);
        let height = (self.area.height - top).saturating_sub(below);
        Rect { y: self.area.y + top, height, ..self.area }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cupola_monitor::state::Metric;

    fn run() -> Snapshot {
        let points = (1..=300u64).map(|step| (step, (step != 77).then(|| 5.0 / (step as f64).sqrt()))).collect();
        let metric = |name: &str, points| Metric {
            name: name.into(),
            last: Some(0.289),
            last_step: 300,
            points,
            ..Metric::default()
        };
        Snapshot {
            name: "a \u{1b}[31mred\u{1b}[0m run é".into(),
            status: "running".into(),
            step: 300,
            steps: Some(1000),
            time: 61.0,
            metrics: vec![metric("loss", points), metric("val_loss", vec![(100, Some(0.5)), (300, Some(0.3))])],
            alerts: vec![cupola_monitor::alerts::Alert {
                step: 77,
                kind: "nan".into(),
                message: "the loss is NaN".into(),
            }],
            ..Snapshot::default()
        }
    }

    fn drawn(view: &View, width: u16, height: u16) -> Vec<String> {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        view.draw(area, &mut buffer);
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        (0..height).map(row).collect()
    }

    #[test]
    fn a_terminal_of_80_by_24_has_all_of_it() {
        let rows = drawn(&View::new(run(), true), 80, 24);
        let text = rows.join("\n");
        assert!(rows[0].starts_with("a  [31mred [0m run é  running"), "{text}");
        assert!(rows[1].starts_with(" 30% ━━━━") && rows[2].starts_with("step 300 / 1k   loss 0.289"), "{text}");
        assert!(
            text.contains("Loss (1/1)") && text.contains("nan: the loss is NaN") && text.contains("step 300 "),
            "{text}"
        );
        assert!(rows[23].starts_with("q end"), "{text}");
        assert!(text.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)), "{text}");
    }

    #[test]
    fn every_size_is_drawn_without_a_panic() {
        for fine in [true, false] {
            let mut view = View::new(run(), fine);
            view.trouble("the server has gone".into());
            for width in (0..40).chain([80, 200, 1000]) {
                for height in (0..30).chain([200]) {
                    drawn(&view, width, height);
                }
            }
            assert_eq!(drawn(&view, 1, 1), ["a"]);
            let empty = View::new(Snapshot::default(), fine);
            (1..30).for_each(|size| drop(drawn(&empty, size, size)));
        }
    }

    #[test]
    fn without_utf_8_only_ascii_is_drawn() {
        let text = drawn(&View::new(run(), false), 80, 24).join("\n");
        assert!(text.is_ascii() && text.contains("****") && text.contains(" 30% ####"), "{text}");
    }

    #[test]
    fn keys_change_the_chart_and_end() {
        let mut other = run();
        other.metrics.push(Metric { name: "lr".into(), points: vec![(1, Some(1e-3))], ..Metric::default() });
        let mut view = View::new(other.clone(), true);
        assert!(!view.key(KeyCode::Right));
        assert!(drawn(&view, 80, 24).join("\n").contains("Learning rate (2/2)"));
        other.metrics.push(Metric { name: "bits_per_byte".into(), ..Metric::default() });
        view.update(other);
        assert!(drawn(&view, 80, 24).join("\n").contains("Learning rate (3/3)"));
        view.key(KeyCode::Tab);
        view.key(KeyCode::Char('l'));
        assert!(drawn(&view, 80, 24).join("\n").contains("Loss (1/3, log)"));
        assert!(view.key(KeyCode::Char('q')));
    }
}
