//! The texts of the page: lists, facts and tables as HTML, in which everything that comes from a run is escaped.

use std::fmt::Write;
use std::sync::Arc;

use crate::compare::differences;
use crate::panels::{Panel, by_number};
use crate::plot::svg::escape;
use crate::plot::{Bars, Form, Unit, label, number, sparkline};
use crate::run::Run;
use crate::series::Cell;
use crate::state::{RunState, Snapshot};

/// `format!` onto the end of a text.
macro_rules! put {
    ($out:expr, $($part:tt)*) => {
        write!($out, $($part)*).expect("a String takes everything")
    };
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), number)
}

/// Minutes and seconds, with hours where there are some.
pub fn clock(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// The link to another page of the server, where there is one.
pub fn links(link: Option<(&str, &str)>) -> String {
    let link = link.map(|(address, title)| format!("<a href=\"{}\">{}</a>", escape(address), escape(title)));
    format!("<div id=\"links\">{}</div>", link.unwrap_or_default())
}

/// The list of all runs, with those ticked that are shown.
pub fn list(runs: &[Arc<Run>], ticked: &[String]) -> String {
    let mut snapshots: Vec<(Snapshot, String)> = runs
        .iter()
        .map(|run| {
            let line = run.with(|state, _| small(state));
            (run.snapshot(0), sparkline(&line, 0, 96, 24))
        })
        .collect();
    snapshots.sort_by(|(a, _), (b, _)| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    let mut out = String::from("<ul id=\"runs\">");
    for (index, (run, spark)) in snapshots.iter().enumerate() {
        let on = if ticked.is_empty() { index == 0 } else { ticked.contains(&run.id) };
        let (id, name) = (escape(&run.id), escape(&run.name));
        let checked = if on { " checked" } else { "" };
        put!(
            out,
            "<li><label><input type=\"checkbox\" value=\"{id}\"{checked}><span class=\"run\" title=\"{name}\">{name}</span>"
        );
        put!(out, "<span class=\"picture\">{spark}</span><span class=\"sub\">{}", escape(&run.status));
        put!(out, " · step {}", label(Unit::Count, run.step as f64));
        if let Some(loss) = run.last("loss") {
            put!(out, " · {}", number(loss));
        }
        out.push_str("</span></label></li>");
    }
    out.push_str("</ul>");
    out
}

/// The loss in as many points as a word has room for.
fn small(state: &RunState) -> Vec<(f64, f64)> {
    let Some(series) = state.series("loss") else { return Vec::new() };
    let Some((first, last)) = series.ends() else { return Vec::new() };
    let cells = series.buckets(|step| step as f64, first as f64, last as f64, 60);
    cells.iter().filter_map(|cell: &Cell| Some((cell.first as f64, cell.mean()?))).collect()
}

/// What a run is and how it stands.
pub fn top(run: &Snapshot, others: usize) -> String {
    let mut out = String::from("<div id=\"top\"><div class=\"title\"><h1>");
    out.push_str(&escape(&run.name));
    if others > 0 {
        put!(out, " and {others} more");
    }
    let status = escape(&run.status);
    put!(out, "</h1><span class=\"badge {status}\">{status}</span></div><p class=\"hint\">");
    let mut about = vec![run.created.replace('T', " ").replace('Z', " UTC")];
    if run.model.parameters > 0 {
        let preset = if run.model.preset.is_empty() { "model" } else { &run.model.preset };
        about.push(format!("{preset}, {} parameters", label(Unit::Count, run.model.parameters as f64)));
    }
    if run.data.tokens > 0 {
        about.push(format!("{} tokens of data", label(Unit::Count, run.data.tokens as f64)));
    }
    about.push(format!("seed {}", run.seed));
    put!(out, "{}</p>", escape(&about.join(" · ")));
    if let Some(steps) = run.steps.filter(|steps| *steps > 0) {
        let done = (100.0 * run.step as f64 / steps as f64).min(100.0);
        put!(
            out,
            "<div class=\"progress\" role=\"progressbar\" aria-label=\"Steps done\" aria-valuemin=\"0\" aria-valuemax=\"100\" "
        );
        put!(
            out,
            "aria-valuenow=\"{done:.0}\"><svg width=\"100%\" height=\"4\" aria-hidden=\"true\"><rect class=\"all\" "
        );
        put!(
            out,
            "width=\"100%\" height=\"4\" rx=\"2\"/><rect class=\"done\" width=\"{done:.1}%\" height=\"4\" rx=\"2\"/></svg></div>"
        );
    }
    out.push_str("<dl id=\"facts\">");
    for (title, value) in facts(run) {
        put!(out, "<div><dt>{title}</dt><dd>{}</dd></div>", escape(&value));
    }
    out.push_str("</dl>");
    if run.problem.is_some() || !run.alerts.is_empty() {
        out.push_str("<ul id=\"alerts\" role=\"status\" aria-label=\"Alerts\">");
        let problem = run.problem.iter().map(|problem| ("file", problem.as_str()));
        let alerts = run.alerts.iter().rev().take(6).map(|alert| (alert.kind.as_str(), alert.message.as_str()));
        for (kind, message) in problem.chain(alerts) {
            put!(out, "<li><b>{}</b><span>{}</span></li>", escape(kind), escape(message));
        }
        out.push_str("</ul>");
    }
    out.push_str("</div>");
    out
}

/// The numbers that are asked for first, with their titles.
pub fn facts(run: &Snapshot) -> Vec<(&'static str, String)> {
    let steps = run.steps.map_or_else(String::new, |steps| format!(" / {}", label(Unit::Count, steps as f64)));
    let mut facts = vec![("Step", number(run.step as f64) + &steps), ("Loss", shown(run.last("loss")))];
    let mut add = |title, name: &str, form: fn(f64) -> String| {
        if let Some(value) = run.last(name) {
            facts.push((title, form(value)));
        }
    };
    add("Validation", "val_loss", number);
    let bits = if run.metric("val_bits_per_byte").is_some() { "val_bits_per_byte" } else { "bits_per_byte" };
    add("Bits per byte", bits, number);
    add("Tokens/s", "tokens_per_s", |value| label(Unit::Count, value));
    add("Update/weight", "update_ratio", number);
    add("Memory", "memory_mb", |value| format!("{} MB", number(value.round())));
    facts.push(("Time", clock(run.time)));
    if let Some(left) = run.seconds_left() {
        facts.push(("Left", clock(left)));
    }
    facts
}

/// The places of the charts.
pub fn charts(panels: &[Panel]) -> String {
    let mut out = String::from("<section id=\"charts\">");
    for panel in panels {
        let title = escape(&panel.title);
        let names = serde_json::to_string(&panel.names).expect("texts have a JSON form");
        put!(out, "<figure data-names=\"{}\"><figcaption><h2>{title}</h2><div class=\"keys\"></div>", escape(&names));
        put!(
            out,
            "<p class=\"read\"></p></figcaption><div class=\"box\" tabindex=\"0\" role=\"group\" aria-label=\"{title}: "
        );
        put!(
            out,
            "arrow keys read values, plus and minus zoom, 0 shows all\"></div><div class=\"wide\" hidden tabindex=\"0\" "
        );
        put!(
            out,
            "role=\"region\" aria-label=\"{title} as a table\"></div><div class=\"tools\"><button type=\"button\" "
        );
        put!(out, "aria-expanded=\"false\" aria-label=\"{title} as a table\">Table</button>");
        put!(out, "<a download aria-label=\"{title} as an SVG file\">SVG</a></div></figure>");
    }
    out.push_str("</section>");
    out
}

/// What stands below the charts: differences of several runs, and one run's samples, distributions and events.
pub fn rest(runs: &[Arc<Run>], run: &Snapshot, tensor: Option<&str>) -> String {
    let mut out = String::from("<div id=\"rest\">");
    if runs.len() > 1 {
        compare(&mut out, runs);
    }
    if !run.samples.is_empty() {
        out.push_str("<section><h2>Samples</h2>");
        for sample in run.samples.iter().take(8) {
            put!(out, "<article class=\"sample\"><small>step {}</small>", number(sample.step as f64));
            put!(out, "<p><b>{}</b>{}</p></article>", lines(&sample.prompt), lines(&sample.text));
        }
        out.push_str("</section>");
    }
    distributions(&mut out, &runs[0], run, tensor);
    if !run.events.is_empty() {
        out.push_str("<section id=\"events\"><h2>Events</h2><ul>");
        for event in run.events.iter().take(20) {
            let (name, message) = (escape(&event.name), escape(&event.message));
            put!(out, "<li><small>step {}</small><b>{name}</b> {message}</li>", number(event.step as f64));
        }
        out.push_str("</ul></section>");
    }
    out.push_str("</div>");
    out
}

/// Escaped text that keeps its line ends.
fn lines(text: &str) -> String {
    text.split('\n').map(escape).collect::<Vec<_>>().join("\n")
}

fn compare(out: &mut String, runs: &[Arc<Run>]) {
    let infos: Vec<_> = runs.iter().map(|run| run.info()).collect();
    let (different, same) = differences(&infos);
    put!(
        out,
        "<section><h2>What differs</h2><div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"What differs\"><table>"
    );
    put!(
        out,
        "<caption>{} settings differ, {same} are the same</caption><thead><tr><th scope=\"col\">setting</th>",
        different.len()
    );
    for info in &infos {
        put!(out, "<th scope=\"col\">{}</th>", escape(&info.name));
    }
    out.push_str("</tr></thead><tbody>");
    for difference in different.iter().take(500) {
        put!(out, "<tr><th scope=\"row\">{}</th>", escape(&difference.key));
        for value in &difference.values {
            put!(out, "<td>{}</td>", value.as_deref().map_or_else(|| "–".to_owned(), escape));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div></section>");
}

/// The place of a histogram's colour, and of itself among those of its tensor.
pub fn colour(what: &str) -> usize {
    match what {
        "weight" => 0,
        "gradient" => 1,
        "update" => 2,
        _ => 3,
    }
}

fn distributions(out: &mut String, run: &Run, snapshot: &Snapshot, tensor: Option<&str>) {
    let mut names: Vec<&str> = snapshot.histograms.iter().map(|taken| taken.name.as_str()).collect();
    names.sort_by(|a, b| by_number(a, b));
    names.dedup();
    let Some(&first) = names.first() else { return };
    let chosen = tensor.and_then(|tensor| names.iter().copied().find(|name| *name == tensor)).unwrap_or(first);
    out.push_str("<section><h2>Distributions</h2><label>Tensor <select>");
    for name in names {
        let on = if name == chosen { " selected" } else { "" };
        let name = escape(name);
        put!(out, "<option value=\"{name}\"{on}>{name}</option>");
    }
    out.push_str("</select></label><div class=\"bars\">");
    let mut shown: Vec<_> = snapshot.histograms.iter().filter(|taken| taken.name == chosen).collect();
    shown.sort_by_key(|taken| colour(&taken.what));
    for taken in shown {
        let bars = run.with(|state, _| {
            state.histogram(&taken.name, &taken.what).map(|histogram| Bars {
                title: format!("{} {}", taken.name, taken.what),
                edges: histogram.edges.clone(),
                counts: histogram.counts.clone(),
                colour: colour(&taken.what),
                width: 320,
                height: 130,
            })
        });
        if let Some(bars) = bars {
            put!(out, "<figure><figcaption><h2>{}</h2><span class=\"hint\">", escape(&taken.what));
            put!(out, "step {}</span></figcaption>{}", number(taken.step as f64), bars.svg(Form::Page));
            let query = form_urlencoded::Serializer::new(String::new())
                .extend_pairs([("run", run.id()), ("name", taken.name.as_str()), ("what", taken.what.as_str())])
                .extend_pairs([("form", "file"), ("width", "640")])
                .finish();
            put!(
                out,
                "<div class=\"tools\"><a download href=\"api/histogram.svg?{}\">SVG</a></div></figure>",
                escape(&query)
            );
        }
    }
    out.push_str("</div></section>");
}

/// The lines of a chart as a table: the x axis' word, and each line's name and points. Some forty rows, the last always
/// among them.
pub fn table(title: &str, over: &str, lines: &[(String, Vec<(f64, f64)>)]) -> String {
    let longest = lines.iter().map(|line| &line.1).max_by_key(|points| points.len()).cloned().unwrap_or_default();
    let every = longest.len().div_ceil(40).max(1);
    let kept = |index: &usize| (longest.len() - 1 - index).is_multiple_of(every);
    let rows: Vec<usize> = (0..longest.len()).filter(kept).collect();
    let mut out = String::from("<table><caption>");
    put!(
        out,
        "{}, {} of {} points</caption><thead><tr><th scope=\"col\" class=\"n\">",
        escape(title),
        rows.len(),
        longest.len()
    );
    put!(out, "{}</th>", escape(over));
    for (name, _) in lines {
        put!(out, "<th scope=\"col\" class=\"n\">{}</th>", escape(name));
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        let at = longest[row].0;
        put!(out, "<tr><th scope=\"row\" class=\"n\">{}</th>", number(at));
        for (_, points) in lines {
            // The value that held at this place: the last one measured until then.
            let until = points.partition_point(|point| point.0 <= at);
            let value = until.checked_sub(1).map_or_else(|| "–".to_owned(), |last| number(points[last].1));
            put!(out, "<td class=\"n\">{value}</td>");
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table>");
    out
}
