//! All runs that a page shows, and the live messages about those that somebody looks at.
//!
//! A run that nobody looks at costs nothing: its folder is read when it is asked for, and while a reader is attached to
//! its live messages. One task makes each message once, whatever the number of readers; they share its bytes. A reader
//! that does not keep up loses its place in the queue and is closed; its browser comes back with `Last-Event-ID` and
//! gets what it has missed, or is told to load everything again.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use cupola_io::run::{RunDir, RunInfo};
use futures_util::stream::{self, Stream};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::run::Run;

/// Messages that a reader may lie behind before it is closed.
const QUEUE: usize = 64;
/// Messages, and their bytes, that are kept for readers that come back.
const KEPT: usize = 256;
const KEPT_BYTES: usize = 1 << 20;
/// The most runs of one folder that are shown.
const MOST_RUNS: usize = 1000;
/// How often a reader hears something although nothing happens, so that dead connections are noticed.
const ALIVE: Duration = Duration::from_secs(15);

/// The runs of one page. Clones share everything.
#[derive(Clone, Debug)]
pub struct Hub {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: Option<PathBuf>,
    /// Another page of the same server: where it is, and what it is called.
    link: Option<(String, String)>,
    runs: Mutex<BTreeMap<String, Arc<Run>>>,
    live: Mutex<Live>,
    messages: broadcast::Sender<Arc<Message>>,
    /// Tells message numbers of this hub from those of an earlier one.
    epoch: u64,
    interval: Duration,
}

#[derive(Debug, Default)]
struct Live {
    number: u64,
    kept: VecDeque<Arc<Message>>,
    kept_bytes: usize,
    /// How many readers look at each run.
    watched: BTreeMap<String, usize>,
    ticking: bool,
}

#[derive(Debug)]
struct Message {
    number: u64,
    run: String,
    bytes: Bytes,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// The runs in the folder `root`, or the one run that `root` itself is.
    pub fn folder(root: impl Into<PathBuf>) -> Self {
        Self::new(Some(root.into()), Duration::from_millis(500))
    }

    /// No runs but those that [`add`](Self::add) brings.
    pub fn empty() -> Self {
        Self::new(None, Duration::from_millis(500))
    }

    fn new(root: Option<PathBuf>, interval: Duration) -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let (messages, _) = broadcast::channel(QUEUE);
        let (runs, live) = (Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { root, link: None, runs, live, messages, epoch, interval }) }
    }

    /// The same hub with live messages every `interval`, for tests and for those in a hurry.
    ///
    /// # Panics
    /// When the hub was cloned already.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Self {
        Arc::get_mut(&mut self.shared).expect("called before the hub is cloned").interval = interval;
        self
    }

    /// The same hub with a link on its page to another page of the same server, such as the chat with a model.
    ///
    /// # Panics
    /// When the hub was cloned already.
    #[must_use]
    pub fn link(mut self, address: &str, title: &str) -> Self {
        let shared = Arc::get_mut(&mut self.shared).expect("called before the hub is cloned");
        shared.link = Some((address.to_owned(), title.to_owned()));
        self
    }

    /// The link to another page, as address and title.
    pub fn linked(&self) -> Option<(&str, &str)> {
        self.shared.link.as_ref().map(|(address, title)| (address.as_str(), title.as_str()))
    }

    /// Adds a run that a program feeds. One that had the same id is replaced.
    pub fn add(&self, id: &str, info: RunInfo) -> Arc<Run> {
        let run = Arc::new(Run::fed(id, info));
        lock(&self.shared.runs).insert(id.to_owned(), Arc::clone(&run));
        run
    }

    /// All runs, by id. Lists the folder.
    pub fn runs(&self) -> Vec<Arc<Run>> {
        let listed = self.shared.listed();
        let mut runs = lock(&self.shared.runs);
        // A fed run has no folder; a folder that was deleted takes its run with it.
        runs.retain(|id, run| run.dir().is_none_or(|dir| listed.get(id) == Some(&dir)));
        for (id, dir) in listed {
            let run = || Arc::new(Run::folder(&id, dir));
            runs.entry(id.clone()).or_insert_with(run);
        }
        runs.values().cloned().collect()
    }

    /// The run called `id`. The id is only ever compared with the names that the folder's listing gives.
    pub fn run(&self, id: &str) -> Option<Arc<Run>> {
        if let Some(run) = lock(&self.shared.runs).get(id) {
            return Some(Arc::clone(run));
        }
        self.runs().into_iter().find(|run| run.id() == id)
    }

    /// The live messages about `runs`, as the bytes of an event stream; after the message `last`, when the reader has
    /// heard messages already. Must be called inside of a tokio runtime.
    pub fn live(
        &self,
        runs: &[String],
        last: Option<&str>,
    ) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + use<> {
        let mut live = lock(&self.shared.live);
        let receiver = self.shared.messages.subscribe();
        for run in runs {
            *live.watched.entry(run.clone()).or_default() += 1;
        }
        if !std::mem::replace(&mut live.ticking, true) {
            tokio::spawn(tick(Arc::downgrade(&self.shared), self.shared.interval));
        }
        let first = self.shared.first(&live, runs, last);
        drop(live);
        let reader = Reader { shared: Arc::clone(&self.shared), runs: runs.to_vec(), receiver, first: Some(first) };
        stream::unfold(reader, |mut reader| async move {
            let bytes = reader.next().await?;
            Some((Ok(bytes), reader))
        })
    }

    /// How many readers are attached to live messages.
    pub fn readers(&self) -> usize {
        self.shared.messages.receiver_count()
    }
}

impl Shared {
    fn listed(&self) -> BTreeMap<String, RunDir> {
        let Some(root) = &self.root else { return BTreeMap::new() };
        let dirs = if RunDir::is_run(root) {
            RunDir::open(root).map(|run| vec![run]).unwrap_or_default()
        } else {
            // A folder that cannot be listed now may be there later.
            RunDir::list(root).unwrap_or_default()
        };
        let named = |dir: RunDir| {
            let full = dir.path().canonicalize().ok()?;
            let name = full.file_name()?.to_str()?.to_owned();
            // A link inside the folder keeps its own name; `.` gets that of the folder it means.
            let own = dir.path().file_name().and_then(|name| name.to_str()).map_or(name, str::to_owned);
            Some((own, dir))
        };
        dirs.into_iter().take(MOST_RUNS).filter_map(named).collect()
    }

    /// What a reader gets at once.
    fn first(&self, live: &Live, runs: &[String], last: Option<&str>) -> Bytes {
        let mut text =
            format!("retry: 2000\nid: {}-{}\nevent: hello\ndata: {{}}\n\n", self.epoch, live.number).into_bytes();
        let Some(last) = last else { return text.into() };
        let number = last.split_once('-').and_then(|(epoch, number)| {
            (epoch.parse() == Ok(self.epoch)).then(|| number.parse::<u64>().ok()).flatten()
        });
        let oldest = live.kept.front().map_or(live.number + 1, |message| message.number);
        match number {
            Some(number) if number <= live.number && number + 1 >= oldest => {
                let missed = live.kept.iter().filter(|message| message.number > number && runs.contains(&message.run));
                missed.for_each(|message| text.extend_from_slice(&message.bytes));
            }
            _ => text.extend_from_slice(b"event: reset\ndata: {}\n\n"),
        }
        text.into()
    }

    fn publish(&self, run: &str, json: &str) {
        let mut live = lock(&self.live);
        live.number += 1;
        let bytes = Bytes::from(format!("id: {}-{}\nevent: run\ndata: {json}\n\n", self.epoch, live.number));
        let message = Arc::new(Message { number: live.number, run: run.to_owned(), bytes });
        live.kept_bytes += message.bytes.len();
        live.kept.push_back(Arc::clone(&message));
        while live.kept.len() > KEPT || live.kept_bytes > KEPT_BYTES {
            let Some(old) = live.kept.pop_front() else { break };
            live.kept_bytes -= old.bytes.len();
        }
        // Nobody may be listening any more.
        let _ = self.messages.send(message);
    }
}

/// Makes live messages for as long as somebody listens.
async fn tick(shared: Weak<Shared>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(shared) = shared.upgrade() else { return };
        let watched: Vec<String> = {
            let mut live = lock(&shared.live);
            if live.watched.is_empty() {
                live.ticking = false;
                return;
            }
            live.watched.keys().cloned().collect()
        };
        let runs = Arc::clone(&shared);
        // Files are read outside of the runtime's threads.
        let made = tokio::task::spawn_blocking(move || {
            for id in watched {
                let run = lock(&runs.runs).get(&id).cloned();
                let Some(run) = run else { continue };
                run.refresh();
                if let Some(json) = run.message() {
                    runs.publish(&id, &json);
                }
            }
        });
        if made.await.is_err() {
            lock(&shared.live).ticking = false;
            return;
        }
    }
}

struct Reader {
    shared: Arc<Shared>,
    runs: Vec<String>,
    receiver: broadcast::Receiver<Arc<Message>>,
    first: Option<Bytes>,
}

impl Reader {
    /// The next bytes, or the end for a reader that fell behind.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            match tokio::time::timeout(ALIVE, self.receiver.recv()).await {
                Ok(Ok(message)) if self.runs.contains(&message.run) => return Some(message.bytes.clone()),
                Ok(Ok(_)) => {}
                Ok(Err(RecvError::Lagged(_) | RecvError::Closed)) => return None,
                Err(_) => return Some(Bytes::from_static(b": alive\n\n")),
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut live = lock(&self.shared.live);
        for run in &self.runs {
            if let Some(count) = live.watched.get_mut(run) {
                *count -= 1;
                if *count == 0 {
                    live.watched.remove(run);
                }
            }
        }
    }
}
