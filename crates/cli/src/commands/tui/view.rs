//! What the terminal shows, as a function of a snapshot and the size.

use cupola_monitor::Snapshot;
use cupola_monitor::fragments::facts;
use cupola_monitor::panels::{Panel, panels, unit};
use cupola_monitor::plot::{Scale, Unit, label};
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::plain;
use super::plot::Plot;

/// The colours of the lines of one chart.
const COLOURS: [Color; 8] = [
    Color::Blue,
    Color::Yellow,
    Color::Green,
    Color::Magenta,
    Color::Cyan,
    Color::Red,
    Color::LightBlue,
    Color::LightYellow,
];

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
    /// A view of `run`; `fine` when the terminal takes characters beyond ASCII, `colour` when it may be told by them.
    pub fn new(run: Snapshot, fine: bool, colour: bool) -> Self {
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
            let style = |index: usize| {
                if self.colour { Style::new().fg(COLOURS[index % COLOURS.len()]) } else { Style::new() }
            };
            if panel.names.len() > 1 && area.height >= 16 {
                let entry = |(index, name): (usize, &String)| {
                    let own = name.split_once('/').map_or(name.as_str(), |(_, part)| part);
                    let last = self.run.last(name).map_or_else(|| "-".to_owned(), |value| label(Unit::Number, value));
                    (format!("{own} {last}"), style(index))
                };
                rows.legend(buffer, panel.names.iter().enumerate().map(entry));
            }
            let lines = panel.names.iter().enumerate();
            let lines = lines.filter_map(|(i, name)| Some((self.run.metric(name)?.points.as_slice(), style(i))));
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

    /// Entries side by side, each in its own style; those that have no room are left out.
    fn legend(&mut self, buffer: &mut Buffer, entries: impl Iterator<Item = (String, Style)>) {
        if self.next < self.area.height {
            let (mut x, end) = (self.area.x, self.area.x + self.area.width);
            for (text, style) in entries {
                let text = plain(&text);
                let text = if self.fine { text } else { text.replace(|c: char| !c.is_ascii(), "?") };
                let room = usize::from(end.saturating_sub(x));
                if text.chars().count() > room {
                    break;
                }
                (x, _) = buffer.set_stringn(x, self.area.y + self.next, text, room, style);
                x = x.saturating_add(3).min(end);
            }
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
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

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
        let rows = drawn(&View::new(run(), true, true), 80, 24);
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
            let mut view = View::new(run(), fine, true);
            view.trouble("the server has gone".into());
            for width in (0..40).chain([80, 200, 1000]) {
                for height in (0..30).chain([200]) {
                    drawn(&view, width, height);
                }
            }
            assert_eq!(drawn(&view, 1, 1), ["a"]);
            let empty = View::new(Snapshot::default(), fine, true);
            (1..30).for_each(|size| drop(drawn(&empty, size, size)));
        }
    }

    #[test]
    fn without_utf_8_only_ascii_is_drawn() {
        let text = drawn(&View::new(run(), false, true), 80, 24).join("\n");
        assert!(text.is_ascii() && text.contains("****") && text.contains(" 30% ####"), "{text}");
    }

    /// What a real terminal of this size is told, drawn again after every change of the size.
    fn terminal(width: u16, height: u16) -> Terminal<TestBackend> {
        Terminal::new(TestBackend::new(width, height)).expect("a terminal of memory")
    }

    fn cells(terminal: &Terminal<TestBackend>) -> &[ratatui::buffer::Cell] {
        terminal.backend().buffer().content()
    }

    fn show(terminal: &mut Terminal<TestBackend>, view: &View) {
        terminal.draw(|frame| view.draw(frame.area(), frame.buffer_mut())).expect("memory can be written");
    }

    #[test]
    fn without_colour_no_cell_has_one() {
        let mut terminal = terminal(80, 24);
        for (colour, coloured) in [(true, true), (false, false)] {
            show(&mut terminal, &View::new(run(), true, colour));
            let found = cells(&terminal).iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
            assert_eq!(found, coloured);
        }
        // The alert is still there, as a word.
        let text: String = cells(&terminal).iter().map(ratatui::buffer::Cell::symbol).collect();
        assert!(text.contains("nan: the loss is NaN"), "{text}");
    }

    #[test]
    fn a_storm_of_sizes_ends_in_the_picture_of_the_last() {
        let view = View::new(run(), true, true);
        let mut stormy = terminal(80, 24);
        let mut size = 12_345u32;
        for _ in 0..2000 {
            size = size.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            let (width, height) = ((size >> 16) as u16 % 250 + 1, (size >> 8) as u16 % 80 + 1);
            stormy.backend_mut().resize(width, height);
            show(&mut stormy, &view);
        }
        stormy.backend_mut().resize(1, 1);
        show(&mut stormy, &view);
        assert_eq!(cells(&stormy)[0].symbol(), "a");
        stormy.backend_mut().resize(80, 24);
        show(&mut stormy, &view);
        let mut calm = terminal(80, 24);
        show(&mut calm, &view);
        assert_eq!(stormy.backend().buffer(), calm.backend().buffer());
    }

    #[test]
    fn every_layer_s_ratio_has_its_line_and_its_name() {
        let mut other = run();
        for name in ["update_ratio", "update_ratio/layers.0", "update_ratio/layers.10", "update_ratio/layers.2"] {
            let points = vec![(1, Some(1e-3)), (300, Some(2e-3))];
            other.metrics.push(Metric { name: name.into(), last: Some(2e-3), points, ..Metric::default() });
        }
        let mut view = View::new(other, true, true);
        view.key(KeyCode::Right);
        let text = drawn(&view, 80, 24).join("\n");
        assert!(text.contains("Update to weight (2/2)"), "{text}");
        assert!(text.contains("update_ratio 0.002   layers.0 0.002   layers.2 0.002   layers.10 0.002"), "{text}");
        assert!(text.contains("update/weight 0.002"), "{text}");
    }

    #[test]
    fn keys_change_the_chart_and_end() {
        let mut other = run();
        other.metrics.push(Metric { name: "lr".into(), points: vec![(1, Some(1e-3))], ..Metric::default() });
        let mut view = View::new(other.clone(), true, true);
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
