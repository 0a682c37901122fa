//! A run to look at from a program: a folder here, or a dashboard elsewhere.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cupola_io::run::RunDir;

use crate::hub::Hub;
use crate::run::Run;
use crate::state::Snapshot;

/// How long a dashboard may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer that is read.
const MOST: u64 = 32 << 20;

/// Why a run cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The address has another form.
    #[error("{0} is no address of a dashboard; expected http://HOST:PORT/?run=NAME")]
    Address(String),
    /// Nobody answered.
    #[error("{address} cannot be reached: {source}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// An answer that is no snapshot of a run.
    #[error("{address} does not answer as a dashboard does: {found}")]
    Answer {
        /// Host and port.
        address: String,
        /// What came.
        found: String,
    },
    /// There is no run.
    #[error("{0}: there is no run; expected a folder with a run.json, or one of such folders")]
    NoRun(String),
    /// The folder's own problem.
    #[error(transparent)]
    Run(#[from] cupola_io::Error),
}

/// A run that can be looked at again and again.
#[derive(Debug)]
pub enum Source {
    /// In a folder.
    Folder(Arc<Run>),
    /// Behind a dashboard's address.
    Remote {
        /// Host and port.
        address: String,
        /// The path in front of `api/`, with `/` at both ends.
        prefix: String,
        /// The run's id, when one was named; the newest otherwise.
        run: Option<String>,
        /// The key of a server that asks for one.
        key: Option<String>,
    },
}

impl Source {
    /// The run at `place`: a run's folder, a folder of runs (the newest is taken), or `http://HOST:PORT/?run=NAME`.
    ///
    /// # Errors
    /// When there is no run in the folder, or the address has another form.
    pub fn open(place: &str) -> Result<Self, SourceError> {
        if let Some(rest) = place.strip_prefix("http://") {
            return Self::remote(place, rest);
        }
        if place.contains("://") {
            return Err(SourceError::Address(place.to_owned()));
        }
        let path = Path::new(place);
        if RunDir::is_run(path) {
            RunDir::open(path)?;
        } else {
            RunDir::list(path)?;
        }
        let runs = Hub::folder(path).runs();
        runs.iter().for_each(|run| run.refresh());
        let newest = runs.into_iter().max_by_key(|run| run.info().created);
        newest.map(Self::Folder).ok_or_else(|| SourceError::NoRun(place.to_owned()))
    }

    fn remote(place: &str, rest: &str) -> Result<Self, SourceError> {
        let rest = rest.split('#').next().unwrap_or_default();
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (address, path) = before.split_once('/').unwrap_or((before, ""));
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        if address.is_empty() || address.contains('@') || !plain(address) || !plain(path) {
            return Err(SourceError::Address(place.to_owned()));
        }
        let host_has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if host_has_port { address.to_owned() } else { format!("{address}:80") };
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let prefix = if folder.is_empty() { "/".to_owned() } else { format!("/{folder}/") };
        let run =
            form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "run").map(|(_, run)| run.into_owned());
        Ok(Self::Remote { address, prefix, run, key: None })
    }

    /// The same with a key, for a server that asks for one. A text that cannot be a key is none.
    #[must_use]
    pub fn with_key(mut self, given: Option<String>) -> Self {
        if let Self::Remote { key, .. } = &mut self {
            *key = given.filter(|key| !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic()));
        }
        self
    }

    /// The run as it stands, with at most `points` points of each number.
    ///
    /// # Errors
    /// When a dashboard elsewhere cannot be reached or has no such run. The call can be repeated.
    pub fn snapshot(&mut self, points: usize) -> Result<Snapshot, SourceError> {
        match self {
            Self::Folder(run) => {
                run.refresh();
                Ok(run.snapshot(points))
            }
            Self::Remote { address, prefix, run, key } => {
                let key = key.as_deref();
                let id = match run {
                    Some(id) => id.clone(),
                    None => {
                        let runs: Vec<Snapshot> = parsed(address, &get(address, key, &format!("{prefix}api/runs"))?)?;
                        let newest = runs.into_iter().next().ok_or_else(|| SourceError::NoRun(address.clone()))?;
                        run.insert(newest.id).clone()
                    }
                };
                let query = form_urlencoded::Serializer::new(String::new())
                    .append_pair("run", &id)
                    .append_pair("points", &points.to_string())
                    .finish();
                parsed(address, &get(address, key, &format!("{prefix}api/run?{query}"))?)
            }
        }
    }
}

fn parsed<T: serde::de::DeserializeOwned>(address: &str, body: &[u8]) -> Result<T, SourceError> {
    let wrong =
        |error: serde_json::Error| SourceError::Answer { address: address.to_owned(), found: error.to_string() };
    serde_json::from_slice(body).map_err(wrong)
}

/// The body of an answer. HTTP/1.0, so that it ends where the connection does.
fn get(address: &str, key: Option<&str>, path: &str) -> Result<Vec<u8>, SourceError> {
    let failed = |source| SourceError::Unreachable { address: address.to_owned(), source };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    let mut connected = None;
    for place in address.to_socket_addrs().map_err(failed)? {
        match TcpStream::connect_timeout(&place, PATIENCE) {
            Ok(stream) => {
                connected = Some(stream);
                break;
            }
            Err(error) => last = error,
        }
    }
    let Some(mut stream) = connected else { return Err(failed(last)) };
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    let key = key.map_or_else(String::new, |key| format!("Authorization: Bearer {key}\r\n"));
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: application/json\r\n{key}\r\n")
        .map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer).map_err(failed)?;
    let wrong = |found: String| SourceError::Answer { address: address.to_owned(), found };
    let head = answer.windows(4).position(|part| part == b"\r\n\r\n");
    let head = head.ok_or_else(|| wrong("no head of HTTP".to_owned()))?;
    let first =
        String::from_utf8_lossy(answer[..head].split(|&byte| byte == b'\r').next().unwrap_or_default()).into_owned();
    if first.split(' ').nth(1) != Some("200") {
        let said = String::from_utf8_lossy(&answer[head + 4..]);
        let said: String = said.chars().filter(|c| !c.is_control()).take(120).collect();
        return Err(wrong(format!(
            "{} {said}",
            first.chars().filter(|c| !c.is_control()).take(80).collect::<String>()
        )));
    }
    Ok(answer.split_off(head + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let open = |place: &str| match Source::open(place) {
            Ok(Source::Remote { address, prefix, run, .. }) => Ok((address, prefix, run)),
            Ok(Source::Folder(_)) => panic!("{place}"),
            Err(error) => Err(error.to_string()),
        };
        let found = |address: &str, prefix: &str, run: Option<&str>| {
            Ok((address.to_owned(), prefix.to_owned(), run.map(str::to_owned)))
        };
        assert_eq!(open("http://localhost:7860"), found("localhost:7860", "/", None));
        assert_eq!(open("http://localhost/?x=time&run=a%20b#c"), found("localhost:80", "/", Some("a b")));
        assert_eq!(open("http://[::1]:80/runs/?run=a"), found("[::1]:80", "/runs/", Some("a")));
        for wrong in ["https://localhost", "http://", "http://a@b/", "http://a b/", "http://a/x\r\ny"] {
            assert!(open(wrong).is_err(), "{wrong}");
        }
    }
}
