//! The pages and their data over HTTP.
//!
//! | path | what it gives |
//! |---|---|
//! | `/` | the page |
//! | `/assets/...` | its script and style |
//! | `/api/runs` | all runs, as JSON |
//! | `/api/run?run=ID&points=N` | one run's [`Snapshot`] |
//! | `/api/chart.svg?run=ID&name=loss...` | a chart; `form=file` gives it to keep |
//! | `/api/table.html?...` | the same as a table |
//! | `/api/view.html?run=ID` | the parts of the page that change |
//! | `/api/histogram.svg?run=ID&name=T&what=W` | a histogram |
//! | `/api/compare?run=A&run=B` | the settings that differ |
//! | `/api/metrics.csv?run=ID` | every measured number |
//! | `/api/live?run=ID` | live messages as an event stream |
//!
//! All addresses in the page are relative, so the router works under any prefix that ends with `/`. A run is named in
//! the query, and the name is only compared with those of the runs there are: it never becomes a path.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use futures_util::stream;
use serde::Serialize;

use crate::compare::{Difference, differences};
use crate::draw::Drawing;
use crate::hub::Hub;
use crate::panels::{MOST_LINES, panels};
use crate::plot::{Bars, Form, Scale};
use crate::run::Run;
use crate::state::{Over, Snapshot};
use crate::{export, fragments, plot};

const PAGE: &str = include_str!("../assets/dash.html");
const SCRIPT: &str = include_str!("../assets/dash.js");
const ICON: &str = include_str!("../assets/icon.svg");
const STYLE: &str = include_str!("../assets/cupola.css");

/// The most runs that are shown in one chart.
const MOST_TOGETHER: usize = plot::COLOURS;
/// The most values of a query that are looked at.
const MOST_PAIRS: usize = 64;

/// The dashboard of the runs in `hub`. Nest it under a prefix that ends with `/`, and put
/// [`guard`](crate::guard::guard) in front.
///
/// ```
/// use axum::Router;
/// use cupola_monitor::{Hub, router};
/// let pages: Router = Router::new().nest("/runs/", router(Hub::folder("runs")));
/// ```
pub fn router(hub: Hub) -> Router {
    Router::new()
        .route("/", get(|| async { fixed("text/html; charset=utf-8", PAGE) }))
        .route("/assets/dash.js", get(|| async { fixed("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/assets/cupola.css", get(|| async { fixed("text/css; charset=utf-8", STYLE) }))
        .route("/assets/icon.svg", get(|| async { fixed("image/svg+xml", ICON) }))
        .route("/assets/plot.css", get(|| async { fixed("text/css; charset=utf-8", plot::STYLE) }))
        .route("/api/runs", get(runs))
        .route("/api/run", get(run))
        .route("/api/chart.svg", get(chart))
        .route("/api/histogram.svg", get(histogram))
        .route("/api/view.html", get(view))
        .route("/api/table.html", get(table))
        .route("/api/compare", get(compare))
        .route("/api/metrics.csv", get(metrics))
        .route("/api/live", get(live))
        .with_state(hub)
}

/// The dashboard under `/runs/`, for a server that has pages of its own; `/runs` leads there.
pub fn under_runs(hub: Hub) -> Router {
    Router::new().route("/runs", get(|| async { Redirect::permanent("/runs/") })).nest("/runs/", router(hub))
}

fn fixed(kind: &'static str, text: &'static str) -> Response {
    // The page of a newer program must not meet the script of an older one.
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

/// The values of a query.
struct Asked(Vec<(String, String)>);

impl Asked {
    fn new(query: Option<String>) -> Self {
        let query = query.unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes()).take(MOST_PAIRS);
        Self(pairs.map(|(key, value)| (key.into_owned(), value.into_owned())).collect())
    }

    fn all<'a>(&'a self, key: &'static str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |pair| pair.0 == key).map(|pair| pair.1.as_str())
    }

    fn one(&self, key: &'static str) -> Option<&str> {
        self.all(key).next()
    }

    /// A number in a range; `None` when it is not given, and an error when it is given and is none.
    fn number(&self, key: &'static str, low: f64, high: f64) -> Result<Option<f64>, Refused> {
        let Some(text) = self.one(key) else { return Ok(None) };
        let number = text.parse::<f64>().ok().filter(|number| (low..=high).contains(number));
        let wrong = || Refused(StatusCode::BAD_REQUEST, format!("{key} is no number from {low} to {high}"));
        number.map(Some).ok_or_else(wrong)
    }

    fn choice<T: Default + Copy>(&self, key: &'static str, choices: &[(&str, T)]) -> Result<T, Refused> {
        let Some(text) = self.one(key) else { return Ok(T::default()) };
        let names: Vec<&str> = choices.iter().map(|choice| choice.0).collect();
        let wrong = || Refused(StatusCode::BAD_REQUEST, format!("{key} is none of {}", names.join(", ")));
        choices.iter().find(|choice| choice.0 == text).map(|choice| choice.1).ok_or_else(wrong)
    }

    /// The runs asked for, each once and read up to now.
    async fn runs(&self, hub: &Hub) -> Result<Vec<Arc<Run>>, Refused> {
        let mut ids: Vec<String> = Vec::new();
        for id in self.all("run") {
            if !ids.iter().any(|known| known == id) && ids.len() < MOST_TOGETHER {
                ids.push(id.to_owned());
            }
        }
        let hub = hub.clone();
        let found = blocking(move || {
            let found: Option<Vec<Arc<Run>>> = ids.iter().map(|id| hub.run(id)).collect();
            found.iter().flatten().for_each(|run| run.refresh());
            found
        });
        match found.await? {
            Some(runs) if !runs.is_empty() => Ok(runs),
            _ => Err(Refused(StatusCode::NOT_FOUND, "there is no such run".to_owned())),
        }
    }

    async fn run(&self, hub: &Hub) -> Result<Arc<Run>, Refused> {
        Ok(Arc::clone(&self.runs(hub).await?[0]))
    }
}

/// An answer that says why there is no other.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

/// Work that reads files, away from the threads that serve.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
    let failed = |_| Refused(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be made".to_owned());
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

fn json(value: &impl Serialize) -> Response {
    let text = serde_json::to_vec(value).expect("texts and numbers have a JSON form");
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], text).into_response()
}

/// An SVG for the page, or one to keep, which is never shown by the browser itself: its style is inside.
fn svg(text: String, form: Form, name: &str) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/svg+xml; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if form == Form::Standalone {
        headers.insert(header::CONTENT_DISPOSITION, attachment(name, "svg"));
    }
    (headers, text).into_response()
}

/// A header that makes the browser keep the answer as a file. Only letters that no system or header minds stay in its
/// name.
fn attachment(name: &str, ending: &str) -> HeaderValue {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = name.chars().take(80).map(safe).collect();
    let value = format!("attachment; filename=\"{name}.{ending}\"");
    HeaderValue::from_str(&value).expect("letters, digits and dashes")
}

/// A piece of the page.
fn html(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], text).into_response()
}

async fn runs(State(hub): State<Hub>) -> Result<Response, Refused> {
    let rows = blocking(move || {
        let row = |run: &Arc<Run>| {
            run.refresh();
            // The list shows a line for each; the rest is asked for by run.
            Snapshot { samples: Vec::new(), events: Vec::new(), histograms: Vec::new(), ..run.snapshot(0) }
        };
        let mut rows: Vec<Snapshot> = hub.runs().iter().map(row).collect();
        rows.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        rows
    });
    Ok(json(&rows.await?))
}

async fn run(State(hub): State<Hub>, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    let asked = Asked::new(query);
    let points = asked.number("points", 0.0, crate::draw::MOST_POINTS as f64)?.unwrap_or(0.0) as usize;
    Ok(json(&asked.run(&hub).await?.snapshot(points)))
}

/// The parts of the page that change: the list of runs, and what is known of those that are shown.
async fn view(State(hub): State<Hub>, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    let asked = Asked::new(query);
    let ticked: Vec<String> = asked.all("run").take(MOST_TOGETHER).map(str::to_owned).collect();
    let all = hub.clone();
    let listed = blocking(move || {
        let runs = all.runs();
        runs.iter().for_each(|run| run.refresh());
        runs
    });
    let listed = listed.await?;
    let mut text = fragments::links(hub.linked());
    text.push_str(&fragments::list(&listed, &ticked));
    if listed.is_empty() {
        text.push_str(
            "<div id=\"top\"><h1>No runs yet</h1><p class=\"hint\">A run appears here as soon as one begins.</p></div>",
        );
    }
    let runs = if ticked.is_empty() { Vec::new() } else { asked.runs(&hub).await? };
    if let Some(first) = runs.first() {
        let snapshot = first.snapshot(0);
        text.push_str(&fragments::top(&snapshot, runs.len() - 1));
        let mut names = std::collections::BTreeSet::new();
        for run in &runs {
            run.with(|state, _| names.extend(state.names().map(str::to_owned)));
        }
        // Of several runs the wholes are compared, not each with all its parts.
        names.retain(|name| runs.len() == 1 || !name.contains('/'));
        text.push_str(&fragments::charts(&panels(names.iter().map(String::as_str))));
        text.push_str(&fragments::rest(&runs, &snapshot, asked.one("tensor")));
    } else {
        let top = if listed.is_empty() { "" } else { "<div id=\"top\"><h1>…</h1></div>" };
        text.push_str(top);
        text.push_str("<section id=\"charts\"></section><div id=\"rest\"></div>");
    }
    Ok(html(text))
}

/// What a chart is to show.
fn drawing(asked: &Asked) -> Result<Drawing, Refused> {
    let scales = [("linear", Scale::Linear), ("log", Scale::Log)];
    Ok(Drawing {
        names: asked.all("name").take(MOST_LINES).map(str::to_owned).collect(),
        over: asked.choice("x", &[("step", Over::Step), ("time", Over::Time), ("tokens", Over::Tokens)])?,
        x: asked.choice("xscale", &scales)?,
        y: asked.choice("yscale", &scales)?,
        smooth: asked.number("smooth", 0.0, 20.0)?.unwrap_or(0.0) / 100.0,
        from: asked.number("from", 0.0, 1e18)?,
        to: asked.number("to", 0.0, 1e18)?,
        width: asked.number("width", 200.0, 2000.0)?.unwrap_or(640.0) as u32,
        height: asked.number("height", 100.0, 1200.0)?.unwrap_or(240.0) as u32,
    })
}

async fn table(State(hub): State<Hub>, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    let asked = Asked::new(query);
    let drawing = drawing(&asked)?;
    let runs = asked.runs(&hub).await?;
    let chart = blocking(move || drawing.chart(&runs)).await?;
    let lines: Vec<_> = chart.lines.into_iter().map(|line| (line.name, line.points)).collect();
    Ok(html(fragments::table(&chart.title, &chart.x.label, &lines)))
}

async fn chart(State(hub): State<Hub>, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    let asked = Asked::new(query);
    let drawing = drawing(&asked)?;
    let form = if asked.one("form") == Some("file") { Form::Standalone } else { Form::Page };
    let runs = asked.runs(&hub).await?;
    let name = format!("{}-{}", runs[0].id(), drawing.names.first().map_or("chart", String::as_str));
    let text = blocking(move || drawing.chart(&runs).svg(form)).await?;
    Ok(svg(text, form, &name))
}

async fn histogram(State(hub): State<Hub>, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    let asked = Asked::new(query);
    let (name, what) = (asked.one("name").unwrap_or_default(), asked.one("what").unwrap_or_default());
    let (width, height) = (asked.number("width", 120.0, 2000.0)?.unwrap_or(320.0) as u32, 120);
    let form = if asked.one("form") == Some("file") { Form::Standalone } else { Form::Page };
    let run = asked.run(&hub).await?;
    let bars = run.with(|state, _| {
        state.histogram(name, what).map(|histogram| Bars {
            title: format!("{name} {what}, step {}", histogram.step),
            edges: histogram.edges.clone(),
            counts: histogram.counts.clone(),
            colour: fragments::colour(what),
            width,
            height,
        })
    });
    let missing = || Refused(StatusCode::NOT_FOUND, "there is no such histogram".to_owned());
    Ok(svg(bars.ok_or_else(missing)?.svg(form), form, &format!("{}-{name}-{what}", run.id())))
}

#[derive(Serialize)]
struct Comparison {
    runs: Vec<String>,
    different: Vec<Difference>,
    same: usize,
}

async fn compare(State(hub): State<Hub>, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    let runs = Asked::new(query).runs(&hub).await?;
    let infos: Vec<_> = runs.iter().map(|run| run.info()).collect();
    let (different, same) = differences(&infos);
    Ok(json(&Comparison { runs: infos.into_iter().map(|info| info.name).collect(), different, same }))
}

async fn metrics(State(hub): State<Hub>, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    let run = Asked::new(query).run(&hub).await?;
    let disposition = attachment(run.id(), "csv");
    // The reader's pace is the writer's: it waits until the block before the last was taken.
    let (sender, receiver) = tokio::sync::mpsc::channel::<String>(2);
    tokio::task::spawn_blocking(move || export::csv(&run, |text| sender.blocking_send(text).is_ok()));
    let blocks = stream::unfold(receiver, |mut receiver| async move {
        let text = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(text)), receiver))
    });
    let mut response = Response::new(Body::from_stream(blocks));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    Ok(response)
}

async fn live(State(hub): State<Hub>, headers: HeaderMap, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    let runs = Asked::new(query).runs(&hub).await?;
    let ids: Vec<String> = runs.iter().map(|run| run.id().to_owned()).collect();
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let mut response = Response::new(Body::from_stream(hub.live(&ids, last)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}
