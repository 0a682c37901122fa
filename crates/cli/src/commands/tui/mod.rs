//! `cupola tui`: a run in the terminal.

mod plot;
mod view;

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::Args;
use cupola_monitor::fragments::facts;
use cupola_monitor::{Snapshot, Source, SourceError};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::exit::Failure;
use view::View;

/// How often a run that goes on is looked at.
const PACE: Duration = Duration::from_millis(1000);
/// The points of a chart: two for every place that the widest terminal has.
const POINTS: usize = 1000;

/// `cupola tui RUN`
#[derive(Args)]
pub struct Tui {
    /// A run's folder, a folder of runs (the newest is shown), or a dashboard's address such as http://127.0.0.1:7860/?run=NAME.
    /// A server's key is taken from CUPOLA_API_KEY; https is not spoken
    #[arg(default_value = "runs", value_name = "RUN|URL")]
    run: String,
    /// Print the run as lines of text once and end
    #[arg(long)]
    once: bool,
}

impl Tui {
    /// Shows the run until `q` is pressed; without a terminal, prints lines until the run ends.
    pub fn run(self) -> anyhow::Result<()> {
        let key = std::env::var("CUPOLA_API_KEY").ok();
        let mut source = Source::open(&self.run).map_err(failure)?.with_key(key);
        let snapshot = source.snapshot(POINTS).map_err(failure)?;
        if self.once || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return lines(source, snapshot, self.once);
        }
        let mut terminal = ratatui::try_init()?;
        let result = show(&mut terminal, source, snapshot);
        ratatui::restore();
        result
    }
}

fn failure(error: SourceError) -> anyhow::Error {
    match error {
        SourceError::Address(_) => Failure::Usage(error.to_string()).into(),
        SourceError::NoRun(_) | SourceError::Run(_) => Failure::Refused(error.to_string()).into(),
        _ => error.into(),
    }
}

/// The interactive view.
fn show(terminal: &mut ratatui::DefaultTerminal, mut source: Source, snapshot: Snapshot) -> anyhow::Result<()> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut view = View::new(snapshot, utf8(variable), variable("NO_COLOR").is_none());
    let mut looked = Instant::now();
    loop {
        terminal.draw(|frame| view.draw(frame.area(), frame.buffer_mut()))?;
        let wait = PACE.saturating_sub(looked.elapsed());
        if event::poll(wait)? {
            // A storm of events is taken in before the next picture.
            loop {
                if let Event::Key(key) = event::read()?
                    && key.kind == KeyEventKind::Press
                {
                    let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                    if interrupt || view.key(key.code) {
                        return Ok(());
                    }
                }
                if !event::poll(Duration::ZERO)? {
                    break;
                }
            }
        }
        if looked.elapsed() >= PACE {
            match source.snapshot(POINTS) {
                Ok(snapshot) => view.update(snapshot),
                Err(error) => view.trouble(error.to_string()),
            }
            looked = Instant::now();
        }
    }
}

/// Plain lines: what the run is, then a line whenever it has gone on.
fn lines(mut source: Source, mut snapshot: Snapshot, once: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{} ({}), {}", plain(&snapshot.name), plain(&snapshot.status), plain(&snapshot.created))?;
    let mut shown = None;
    let mut alerts = 0;
    loop {
        if shown != Some(snapshot.step) {
            shown = Some(snapshot.step);
            let parts: Vec<String> =
                facts(&snapshot).into_iter().map(|(name, value)| format!("{} {value}", name.to_lowercase())).collect();
            writeln!(out, "{}", parts.join("  "))?;
        }
        for alert in snapshot.alerts.iter().skip(alerts) {
            writeln!(out, "{}: {}", plain(&alert.kind), plain(&alert.message))?;
        }
        alerts = snapshot.alerts.len();
        if let Some(problem) = &snapshot.problem {
            writeln!(out, "file: {}", plain(problem))?;
        }
        out.flush()?;
        if once || snapshot.status != "running" {
            return Ok(());
        }
        std::thread::sleep(PACE);
        snapshot = source.snapshot(POINTS).map_err(failure)?;
    }
}

/// Text from a run without what would move the cursor or change colours.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Whether the terminal takes characters beyond ASCII, from the variables that say which ones it takes: the first that is set
/// decides.
fn utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = variable("LC_ALL").or_else(|| variable("LC_CTYPE")).or_else(|| variable("LANG")).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    cfg!(windows) || locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_locale_says_which_characters_there_are() {
        let with = |set: &[(&str, &str)]| {
            utf8(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(with(&[("LANG", "de_DE.UTF-8")]) && with(&[("LC_CTYPE", "C.utf8"), ("LANG", "C")]));
        assert!(
            !with(&[]) && !with(&[("LANG", "de_DE.ISO-8859-1")]) && !with(&[("LC_ALL", "POSIX"), ("LANG", "C.UTF-8")])
        );
    }
}
