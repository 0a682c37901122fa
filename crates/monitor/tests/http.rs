//! The dashboard over plain sockets: what it answers, to whom, and what it never does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use cupola_io::run::{Eval, Event, Histogram, RunDir, RunInfo, Sample, Step};
use cupola_monitor::guard::{Hosts, guard};
use cupola_monitor::listen::{Limits, serve};
use cupola_monitor::{Hub, Source, TrainingMonitor, router};
use tempfile::TempDir;

const EVIL: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>javascript:";

struct Server {
    address: SocketAddr,
    hub: Hub,
    folder: TempDir,
    _runtime: tokio::runtime::Runtime,
}

/// A server of two runs: `a` with 300 steps that goes on, and one whose every text is hostile.
fn server(limits: Limits, every: Duration) -> Server {
    let folder = tempfile::tempdir().expect("a folder");
    let runs = folder.path().join("runs");
    let run = RunDir::create(runs.join("a"), &RunInfo::new("first")).expect("a run");
    let mut metrics = run.append().expect("writable");
    for step in 1..=300 {
        metrics.append(&record(step).into()).expect("writable");
    }
    let evil = RunInfo { config: [(EVIL.to_owned(), EVIL.into())].into_iter().collect(), ..RunInfo::new(EVIL) };
    let evil = RunDir::create(runs.join("b & c <i>"), &evil).expect("a run");
    let mut metrics = evil.append().expect("writable");
    let text = EVIL.to_owned();
    for record in [
        Step::new(1).with("loss", f64::NAN).with(EVIL, 1.0).into(),
        Eval { step: 1, time: 1.0, values: [("val_loss".to_owned(), 1.0)].into() }.into(),
        Sample { step: 1, prompt: text.clone(), text: text.clone() }.into(),
        Event { step: 1, name: text.clone(), message: text.clone() }.into(),
        Event { step: 1, name: "spike".into(), message: text.clone() }.into(),
        Histogram { step: 1, name: text.clone(), what: text, edges: vec![0.0, 1.0], counts: vec![1] }.into(),
    ] {
        metrics.append(&record).expect("writable");
    }
    std::fs::write(folder.path().join("secret.txt"), "SECRET").expect("writable");
    std::fs::write(runs.join("metrics.jsonl"), "SECRET").expect("writable");

    let hub = Hub::folder(&runs).every(every);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let address = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let pages = Router::new().nest("/runs/", router(hub.clone())).merge(router(hub.clone()));
        let pages = pages.layer(axum::middleware::from_fn_with_state(Arc::new(Hosts::of(address)), guard));
        tokio::spawn(serve(listener, pages, limits, std::future::pending()));
        address
    });
    Server { address, hub, folder, _runtime: runtime }
}

fn ordinary() -> Server {
    server(Limits::default(), Duration::from_millis(20))
}

fn record(step: u64) -> Step {
    Step::new(step).time(step as f64 * 0.1).tokens(step * 64).with("loss", 4.0 / step as f64).with("lr", 1e-3)
}

impl Server {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server listens");
        // Against hanging only.
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        stream
    }

    fn raw(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("the server reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the server answers");
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get(&self, path: &str) -> (u16, String, String) {
        let answer = self.raw(&format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: {answer}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    fn append(&self, steps: impl Iterator<Item = u64>) {
        let run = RunDir::open(self.folder.path().join("runs").join("a")).expect("the run");
        let mut metrics = run.append().expect("writable");
        for step in steps {
            metrics.append(&record(step).into()).expect("writable");
        }
    }

    /// A reader of live messages about run `a`.
    fn live(&self, last: Option<&str>) -> Live {
        let mut stream = self.connect();
        let last = last.map_or_else(String::new, |last| format!("Last-Event-ID: {last}\r\n"));
        write!(stream, "GET /api/live?run=a HTTP/1.0\r\nHost: localhost\r\n{last}\r\n").expect("the server reads");
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        while lines.read_line(&mut line).expect("a head") > 2 {
            line.clear();
        }
        Live { lines }
    }
}

struct Live {
    lines: BufReader<TcpStream>,
}

impl Live {
    /// The next message: its id, event and data; `None` at the end.
    fn next(&mut self) -> Option<(String, String, serde_json::Value)> {
        let (mut id, mut event, mut data) = (String::new(), String::new(), None);
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", value)) => id = value.to_owned(),
                Some(("event", value)) => event = value.to_owned(),
                Some(("data", value)) => data = serde_json::from_str(value).ok(),
                _ => {}
            }
            if line == "\n"
                && let Some(data) = data.take()
            {
                return Some((id, event, data));
            }
        }
    }
}

#[test]
fn the_page_and_all_that_it_loads_are_served_with_a_policy() {
    let server = ordinary();
    for prefix in ["/", "/runs/"] {
        let (status, head, page) = server.get(prefix);
        assert_eq!(status, 200);
        assert!(head.contains("content-security-policy: default-src 'self';") && head.contains("nosniff"), "{head}");
        assert!(!head.contains("access-control"), "{head}");
        // Nothing inline, nothing from elsewhere.
        let scripts: Vec<&str> = page.split("<script").skip(1).collect();
        assert!(scripts.iter().all(|script| script.starts_with(" src=\"assets/")), "{page}");
        for inline in ["<style", "style=", "onclick", "onload", "http:", "https:", "javascript:"] {
            assert!(!page.contains(inline), "{inline}");
        }
        let loaded = page.split(['"']).filter(|part| part.starts_with("assets/"));
        assert!(loaded.clone().count() >= 4);
        for path in loaded {
            let (status, head, _) = server.get(&format!("{prefix}{path}"));
            assert!(status == 200 && head.contains("content-security-policy"), "{path}: {head}");
        }
    }
    assert!(include_str!("../assets/dash.js").len() <= 13_000, "the chat page shares 25 KB with this one");
    let (status, _, _) = server.get("/api/nothing");
    assert_eq!(status, 404);
}

#[test]
fn strangers_are_refused() {
    let server = ordinary();
    for (host, status) in
        [("evil.example", "421"), ("127.0.0.1.evil.example", "421"), ("localhost", "200"), ("127.0.0.1:1", "200")]
    {
        let answer = server.raw(&format!("GET /api/runs HTTP/1.0\r\nHost: {host}\r\n\r\n"));
        assert!(answer.starts_with(&format!("HTTP/1.0 {status}")), "{host}: {answer}");
    }
    let posted =
        server.raw("POST / HTTP/1.0\r\nHost: localhost\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\n\r\n");
    assert!(posted.starts_with("HTTP/1.0 403"), "{posted}");
    let posted = server.raw("POST / HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert!(posted.starts_with("HTTP/1.0 405"), "{posted}");
}

#[test]
fn no_name_in_a_request_becomes_a_path() {
    let server = ordinary();
    let names = [
        "..",
        ".",
        "",
        "/",
        "../runs/a",
        "a/../a",
        "a/",
        "./a",
        "a%00",
        "..%2f..",
        "..%5c..",
        "%2e%2e",
        "secret.txt",
        "../secret.txt",
        "metrics.jsonl",
        "C:%5Csecret.txt",
        "%5c%5chost%5cshare",
        "a%2frun.json",
        "NUL",
        "a::$DATA",
        "A",
    ];
    for name in names {
        for path in ["api/run", "api/live", "api/metrics.csv", "api/view.html", "api/compare", "api/table.html"] {
            let (status, _, body) = server.get(&format!("/{path}?run={name}"));
            assert!(status == 404 && !body.contains("SECRET"), "{path} {name}: {status} {body}");
        }
        let (status, _, body) = server.get(&format!("/api/chart.svg?name=loss&run={name}"));
        assert!(status == 404, "{name}: {status} {body}");
    }
    for path in [
        "/../secret.txt",
        "/assets/../../secret.txt",
        "/assets/%2e%2e/secret.txt",
        "/runs/../secret.txt",
        "/assets//dash.js",
    ] {
        let (status, _, body) = server.get(path);
        assert!(status == 404 && !body.contains("SECRET"), "{path}: {status} {body}");
    }
}

#[test]
fn text_from_runs_is_only_ever_text() {
    let server = ordinary();
    let id = "b+%26+c+%3Ci%3E";
    let encoded: String = form_urlencoded::byte_serialize(EVIL.as_bytes()).collect();
    let pages = [
        format!("/api/view.html?run={id}"),
        format!("/api/view.html?run={id}&run=a&tensor={encoded}"),
        format!("/api/chart.svg?run={id}&name=loss&name=val_loss"),
        format!("/api/chart.svg?run={id}&run=a&name={encoded}&form=file"),
        format!("/api/table.html?run={id}&run=a&name={encoded}"),
        format!("/api/histogram.svg?run={id}&name={encoded}&what={encoded}&form=file"),
    ];
    for page in pages {
        let (status, head, body) = server.get(&page);
        assert_eq!(status, 200, "{page}: {body}");
        for broken in ["<script", "<img", "\"'>", "<i>"] {
            assert!(!body.contains(broken), "{page}: {broken} in {body}");
        }
        let kept = head.contains("content-disposition: attachment; filename=\"b___c__i_-");
        assert_eq!(kept, page.contains("form=file"), "{head}");
    }
    let (_, head, body) = server.get(&format!("/api/run?run={id}"));
    assert!(head.contains("application/json"), "{head}");
    let run: serde_json::Value = serde_json::from_str(&body).expect("JSON, although the loss is NaN");
    assert_eq!((run["name"].as_str(), run["metrics"][1]["last"].as_f64()), (Some(EVIL), None));
    assert!(run["alerts"].as_array().is_some_and(|alerts| alerts.iter().any(|alert| alert["kind"] == "nan")), "{run}");
    let (_, _, csv) = server.get(&format!("/api/metrics.csv?run={id}"));
    assert!(csv.starts_with("step,time,tokens,\"<script>alert(1)</script>\"\"'>"), "{csv}");
}

#[test]
fn each_layer_s_ratio_is_a_line_of_one_chart_and_its_histograms_can_be_kept() {
    let server = ordinary();
    let run = RunDir::open(server.folder.path().join("runs").join("a")).expect("the run");
    let mut metrics = run.append().expect("writable");
    let mut step = record(301);
    step.values.extend([("update_ratio".to_owned(), 1e-3)]);
    step.values.extend((0..9).map(|layer| (format!("update_ratio/layers.{layer}"), 1e-3 * f64::from(layer + 1))));
    metrics.append(&step.into()).expect("writable");
    for what in ["update", "gradient", "weight"] {
        let of = Histogram::of(301, "layers.10", what, || [1.0, 2.0].into_iter()).expect("values");
        metrics.append(&Histogram { name: "layers.2".into(), ..of.clone() }.into()).expect("writable");
        metrics.append(&of.into()).expect("writable");
    }
    let (_, _, view) = server.get("/api/view.html?run=a");
    assert!(view.contains("<dt>Update/weight</dt><dd>0.001</dd>"), "{view}");
    let titles: Vec<&str> = view.split("<figcaption><h2>").skip(1).filter_map(|part| part.split('<').next()).collect();
    let at = titles.iter().position(|title| *title == "Update to weight").expect("a chart");
    assert_eq!(titles[at + 1], "Update to weight (2)");
    // The histograms of the first layer, in the order in which they are thought of.
    assert!(titles.ends_with(&["weight", "gradient", "update"]), "{titles:?}");
    assert!(
        view.contains("<option value=\"layers.2\" selected>layers.2</option><option value=\"layers.10\">"),
        "{view}"
    );
    let names: String = (0..7).map(|layer| format!("&name=update_ratio/layers.{layer}")).collect();
    let (status, _, chart) = server.get(&format!("/api/chart.svg?run=a&name=update_ratio{names}"));
    assert_eq!((status, chart.matches("data-key=").count()), (200, 8), "{chart}");
    assert!(chart.contains("data-name=\"layers.6\"") && chart.contains("data-name=\"update_ratio\""), "{chart}");
    let link = view.split("href=\"").find(|part| part.starts_with("api/histogram.svg?")).expect("a link");
    let link = link.split('"').next().unwrap_or_default().replace("&amp;", "&");
    let (status, head, kept) = server.get(&format!("/{link}"));
    assert!(status == 200 && head.contains("attachment; filename=\"a-layers_2-weight.svg\""), "{link}: {head}");
    assert!(kept.contains("layers.2 weight, step 301"), "{kept}");
    // Of two runs the wholes are compared.
    let (_, _, both) = server.get("/api/view.html?run=a&run=b+%26+c+%3Ci%3E");
    assert!(both.contains("Update to weight<") && !both.contains("layers.3"), "{both}");
}

#[test]
fn wrong_values_are_refused_by_name() {
    let server = ordinary();
    for (query, said) in [
        ("width=1e9", "width is no number from 200 to 2000"),
        ("smooth=NaN", "smooth is no number"),
        ("from=-1", "from is no number"),
        ("x=parsecs", "x is none of step, time, tokens"),
        ("xscale=cubic", "xscale is none of linear, log"),
    ] {
        let (status, _, body) = server.get(&format!("/api/chart.svg?run=a&name=loss&{query}"));
        assert!(status == 400 && body.starts_with(said), "{query}: {status} {body}");
    }
    for query in [
        "from=200&to=100",
        "from=5000",
        "xscale=log&x=time",
        "yscale=log",
        "name=nothing",
        "to=0&xscale=log",
        "from=1e18&x=tokens",
    ] {
        let (status, _, body) = server.get(&format!("/api/chart.svg?run=a&name=loss&{query}"));
        assert!(status == 200 && body.ends_with("</svg>") && !body.contains("NaN"), "{query}: {body}");
    }
}

#[test]
fn the_csv_is_exact_and_leaves_out_what_was_trained_again() {
    let server = ordinary();
    server.append(251..=260);
    let (_, head, csv) = server.get("/api/metrics.csv?run=a");
    assert!(head.contains("text/csv") && head.contains("filename=\"a.csv\""), "{head}");
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!((lines[0], lines[1]), ("step,time,tokens,\"loss\",\"lr\"", "1,0.1,64,4,0.001"));
    let steps: Vec<u64> =
        lines[1..].iter().map(|line| line.split(',').next().unwrap_or_default().parse().expect("a step")).collect();
    assert_eq!(steps, (1..=260).collect::<Vec<u64>>());
}

#[test]
fn steps_arrive_as_they_are_written_and_again_after_a_break() {
    let server = ordinary();
    let mut reader = server.live(None);
    let (_, event, _) = reader.next().expect("a greeting");
    assert_eq!(event, "hello");
    let until = |reader: &mut Live, step: u64| {
        let mut steps = Vec::new();
        loop {
            let (id, event, data) = reader.next().expect("a message");
            assert_eq!(event, "run");
            steps
                .extend(data["rows"].as_array().expect("rows").iter().map(|row| row["step"].as_u64().expect("a step")));
            if steps.last() == Some(&step) {
                return (id, steps);
            }
        }
    };
    server.append(301..=310);
    let (last, steps) = until(&mut reader, 310);
    assert!(steps.ends_with(&(301..=310).collect::<Vec<u64>>()), "{steps:?}");
    // Another reader keeps the run watched while the first is away.
    let mut other = server.live(None);
    other.next().expect("a greeting");
    drop(reader);
    server.append(311..=312);
    until(&mut other, 312);
    let mut back = server.live(Some(&last));
    back.next().expect("a greeting");
    assert_eq!(until(&mut back, 312).1, [311, 312]);
    // Whoever comes from another time, or with nonsense, loads everything anew.
    for stranger in ["12345-1", "nonsense", "", "0-0", "18446744073709551615-18446744073709551615"] {
        let mut reader = server.live(Some(stranger));
        reader.next().expect("a greeting");
        assert_eq!(reader.next().expect("a message").1, "reset", "{stranger}");
    }
    // Going back says so.
    server.append(100..=100);
    let (_, _, data) = back.next().expect("a message");
    assert_eq!((data["reset"].as_bool(), data["rows"][0]["step"].as_u64()), (Some(true), Some(100)));
}

#[test]
fn many_steps_between_two_messages_become_few_rows() {
    let server = server(Limits::default(), Duration::from_millis(300));
    let mut reader = server.live(None);
    reader.next().expect("a greeting");
    server.append(301..=20_300);
    let mut last = 0;
    while last < 20_300 {
        let (_, _, data) = reader.next().expect("a message");
        let rows = data["rows"].as_array().expect("rows");
        assert!(rows.len() <= 65, "{} rows", rows.len());
        last = rows.last().and_then(|row| row["step"].as_u64()).unwrap_or(last);
    }
}

/// Writes a step and waits until the reader has heard of it.
fn in_step(metrics: &mut cupola_io::run::MetricsWriter, reader: &mut Live, step: Step) {
    let number = step.step;
    metrics.append(&step.into()).expect("writable");
    loop {
        let (_, _, data) = reader.next().expect("who reads is served to the end");
        let rows = data["rows"].as_array().expect("rows");
        if rows.last().is_some_and(|row| row["step"].as_u64() == Some(number)) {
            return;
        }
    }
}

fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// 500 readers, or fewer where a process may not have two open files for each.
fn crowd() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    if files.unwrap_or(0) >= 1200 { 500 } else { 50 }
}

#[test]
fn a_reader_in_a_crowd_of_500_that_do_nothing_hears_every_step() {
    let crowd = crowd();
    let server = server(Limits::default(), Duration::from_millis(2));
    let idle: Vec<Live> = (1..crowd).map(|_| server.live(None)).collect();
    let mut reader = server.live(None);
    reader.next().expect("a greeting");
    wait_for("all readers", || server.hub.readers() == crowd);
    let run = RunDir::open(server.folder.path().join("runs").join("a")).expect("the run");
    let mut metrics = run.append().expect("writable");
    (301..=350).for_each(|step| in_step(&mut metrics, &mut reader, record(step)));
    drop((idle, reader));
    // The task that reads the folder ends by itself; what is left of a reader is nothing.
    wait_for("readers that have gone are forgotten", || server.hub.readers() == 0);
}

#[test]
fn readers_that_never_read_are_dropped_and_cost_a_bounded_memory() {
    let limits = Limits { stall: Duration::from_millis(100), ..Limits::default() };
    let server = server(limits, Duration::from_millis(2));
    let silent: Vec<Live> = (0..3).map(|_| server.live(None)).collect();
    let mut reader = server.live(None);
    reader.next().expect("a greeting");
    wait_for("4 readers", || server.hub.readers() == 4);
    let run = RunDir::open(server.folder.path().join("runs").join("a")).expect("the run");
    let mut metrics = run.append().expect("writable");
    for step in 301.. {
        // Long messages, so that the system's own buffers, some megabytes a connection, are full soon.
        let mut wide = record(step);
        wide.values.extend((0..200).map(|i| (format!("a-number-with-a-long-name-{i}"), f64::from(i) / 7.0)));
        in_step(&mut metrics, &mut reader, wide);
        if server.hub.readers() == 1 {
            break;
        }
        assert!(step < 20_000, "{} readers are left", server.hub.readers());
    }
    drop(silent);
}

#[test]
fn a_run_in_the_terminal_is_the_one_in_the_browser() {
    let server = ordinary();
    let mut local = Source::open(server.folder.path().join("runs").join("a").to_str().expect("a path")).expect("a run");
    let mut remote = Source::open(&format!("http://{}/runs/?run=a", server.address)).expect("an address");
    let (local, remote) = (local.snapshot(100).expect("a run"), remote.snapshot(100).expect("an answer"));
    assert_eq!((&local.name, local.step, local.tokens), (&remote.name, remote.step, remote.tokens));
    let measured = |run: &cupola_monitor::Snapshot| -> Vec<(String, u64, usize)> {
        run.metrics.iter().map(|metric| (metric.name.clone(), metric.count, metric.points.len())).collect()
    };
    assert_eq!(measured(&local), measured(&remote));
    let loss = local.metric("loss").expect("measured");
    assert!((local.step, loss.count) == (300, 300) && (50..=101).contains(&loss.points.len()), "{}", loss.points.len());
    let newest =
        Source::open(&format!("http://{}", server.address)).expect("an address").snapshot(0).expect("an answer");
    assert!(["a", "b & c <i>"].contains(&newest.id.as_str()));
    let none = Source::open(&format!("http://{}/?run=none", server.address)).expect("an address").snapshot(0);
    assert!(none.expect_err("no such run").to_string().contains("404"));
    let damaged = server.folder.path().join("runs").join("a").join("run.json");
    std::fs::write(&damaged, "{").expect("writable");
    assert!(Source::open(damaged.parent().and_then(Path::to_str).expect("a path")).is_err());
    let (_, _, list) = server.get("/api/runs");
    assert!(list.contains("\"problem\":\"run.json: the text is EOF"), "{list}");
    assert!(!list.contains(server.folder.path().to_str().expect("a path")), "{list}");
}

#[test]
fn a_loop_of_ones_own_is_shown_and_its_folder_is_a_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine");
    let monitor =
        TrainingMonitor::new(EVIL).config("lr", 0.5).save_to(&path).quiet().serve("127.0.0.1:0").expect("a port");
    for step in 0..50usize {
        monitor.log(step, [("loss", 2.0f32), ("lr", 0.5)]);
    }
    monitor.log(50, [("loss", f64::NAN)]);
    monitor.sample(50, "a", "b");
    monitor.event(50, "checkpoint", "");
    monitor.histogram(50, "w", "weight", &[1.0, 2.0]);
    monitor.update(50, "w", &[3.0, 4.0], &[3.003, 4.004]);
    let url = monitor.url();
    let shown = Source::open(&url).expect("an address").snapshot(10).expect("an answer");
    assert_eq!((shown.name.as_str(), shown.step, shown.status.as_str()), (EVIL, 50, "running"));
    assert_eq!((shown.metric("loss").map(|loss| loss.bad), shown.alerts[0].kind.as_str()), (Some(1), "nan"));
    let taken: Vec<&str> = shown.histograms.iter().map(|taken| taken.what.as_str()).collect();
    assert_eq!((shown.samples.len(), taken), (1, vec!["update", "weight"]));
    assert!(shown.last("update_ratio/w").is_some_and(|ratio| (ratio - 1e-3).abs() < 1e-6), "{shown:?}");
    assert_eq!(shown.metric("loss").map(|loss| loss.count), Some(51), "an update is no step of its own");
    drop(monitor);
    assert!(Source::open(&url).expect("an address").snapshot(0).is_err(), "the page ends with the monitor");
    let kept = Source::open(path.to_str().expect("a path")).expect("a run").snapshot(0).expect("a run");
    assert_eq!((kept.status.as_str(), kept.step, kept.samples.len()), ("finished", 50, 1));
    for wrong in ["0.0.0.0:0", "nowhere", "127.0.0.1:0:0"] {
        assert!(TrainingMonitor::new("x").quiet().serve(wrong).is_err(), "{wrong}");
    }
}

/// Ten million steps with `--features long-tests` (half a gigabyte of metrics and a minute or two), else a fiftieth of it.
#[test]
fn a_long_run_is_read_from_its_file_and_sends_at_most_2000_points() {
    let steps: u64 = if cfg!(feature = "long-tests") { 10_000_000 } else { 200_000 };
    let server = ordinary();
    let run = RunDir::create(server.folder.path().join("runs").join("long"), &RunInfo::new("long")).expect("a run");
    drop(run.append().expect("writable"));
    let file = std::fs::OpenOptions::new().append(true).open(run.metrics_path()).expect("it is there");
    let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
    let (dip, peak) = (steps / 3, steps / 7 * 6);
    for step in 1..=steps {
        let loss = if step == dip {
            -9.5
        } else if step == peak {
            99.5
        } else {
            2.0 + (step % 1000) as f64 * 1e-3
        };
        writeln!(file, "{{\"kind\":\"step\",\"step\":{step},\"time\":{step},\"loss\":{loss},\"lr\":0.5}}")
            .expect("writable");
    }
    file.flush().expect("writable");
    for query in ["name=loss", "name=loss&name=lr&smooth=2", "name=loss&x=time&xscale=log", "name=loss&name=lr&run=a"] {
        let (status, _, chart) = server.get(&format!("/api/chart.svg?run=long&{query}&width=2000"));
        assert_eq!(status, 200, "{query}");
        let count = |list: &str| list.split('"').next().unwrap_or_default().split(' ').count();
        let points: usize = chart.split("data-xs=\"").skip(1).map(count).sum();
        assert!((100..=2000).contains(&points), "{query}: {points} points");
        assert!(chart.len() < 200_000, "{query}: {} bytes", chart.len());
        assert!(chart.contains("99.5") && chart.contains("-9.5"), "{query}: the highest and the lowest value are kept");
    }
    let (_, _, snapshot) = server.get("/api/run?run=long&points=2000");
    let snapshot: serde_json::Value = serde_json::from_str(&snapshot).expect("JSON");
    let loss =
        snapshot["metrics"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "loss")).expect("measured");
    assert_eq!(loss["count"].as_u64(), Some(steps));
    assert!(loss["points"].as_array().is_some_and(|points| (1000..=2000).contains(&points.len())));
}

#[test]
fn runs_are_compared_by_what_differs_in_their_settings() {
    let server = ordinary();
    let runs = server.folder.path().join("runs");
    for (id, lr) in [("p", 0.5), ("q", 0.25)] {
        let mut info = RunInfo::new(id);
        info.config.insert("optimizer".into(), serde_json::json!({"lr": lr, "kind": "muon"}));
        RunDir::create(runs.join(id), &info).expect("a run");
    }
    let (_, _, compared) = server.get("/api/compare?run=p&run=q");
    let compared: serde_json::Value = serde_json::from_str(&compared).expect("JSON");
    assert_eq!(compared["runs"], serde_json::json!(["p", "q"]));
    assert_eq!(compared["different"], serde_json::json!([{"key": "optimizer.lr", "values": ["0.5", "0.25"]}]));
    assert!(compared["same"].as_u64().is_some_and(|same| same >= 9), "{compared}");
    let (_, _, view) = server.get("/api/view.html?run=p&run=q");
    assert!(
        view.contains("<th scope=\"row\">optimizer.lr</th><td>0.5</td><td>0.25</td>") && !view.contains("muon"),
        "{view}"
    );
}
