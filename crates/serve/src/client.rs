//! A small client for servers that speak as this one does.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, Bytes, HttpBody};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// The largest line of a stream, and the largest whole reply, that is read. A server that sends more is left.
const MOST_BYTES: usize = 64 << 20;

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// An address that is not one of HTTP.
    #[error("{0:?} is no address of a server: http://HOST:PORT is expected")]
    Address(String),
    /// Nobody answers there.
    #[error("{address}: {what}")]
    Connection {
        /// The address.
        address: String,
        /// What happened.
        what: String,
    },
    /// The server's own words.
    #[error("the server answers {status}: {message}")]
    Refused {
        /// The HTTP status; 200 for an error inside of a stream.
        status: u16,
        /// Its reason.
        message: String,
    },
}

/// A server's address, and the key it wants.
#[derive(Clone)]
pub struct Client {
    authority: String,
    base: String,
    key: Option<String>,
    most: usize,
}

impl Client {
    /// The server at `http://HOST[:PORT][/BASE]`, with or without `/v1` at the end.
    ///
    /// # Errors
    /// When it is no such address.
    pub fn new(url: &str, key: Option<String>) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(url.to_owned());
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let (authority, base) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let uri: hyper::http::uri::Authority = authority.parse().map_err(|_| wrong())?;
        let authority = if uri.port().is_some() { authority.to_owned() } else { format!("{authority}:80") };
        let base = base.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        Ok(Self { authority, base, key, most: MOST_BYTES })
    }

    /// The ids of the server's models.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn models(&self) -> Result<Vec<String>, ClientError> {
        let mut reply = self.send("GET", "/v1/models", Body::empty()).await?;
        let whole = self.whole(&mut reply).await?;
        let list: Value = serde_json::from_slice(&whole).unwrap_or_default();
        let ids = list["data"].as_array().into_iter().flatten();
        Ok(ids.filter_map(|card| card["id"].as_str().map(str::to_owned)).collect())
    }

    /// Asks for a streamed answer and hands on each of its chunks.
    ///
    /// # Errors
    /// When the server cannot be reached, refuses, or fails on the way.
    pub async fn stream(&self, path: &str, body: &Value, mut each: impl FnMut(Value)) -> Result<(), ClientError> {
        let mut reply = self.send("POST", path, Body::from(body.to_string())).await?;
        let mut held = Vec::new();
        while let Some(data) = self.next(&mut reply).await? {
            let mut rest = &data[..];
            while let Some(end) = rest.iter().position(|&b| b == b'\n') {
                self.hold(&mut held, &rest[..end])?;
                rest = &rest[end + 1..];
                let line = std::mem::take(&mut held);
                let Some(data) = line.strip_prefix(b"data: ") else { continue };
                // The last word is no JSON.
                let Ok(chunk) = serde_json::from_slice::<Value>(data) else { continue };
                if let Some(message) = chunk["error"]["message"].as_str() {
                    return Err(ClientError::Refused { status: 200, message: message.to_owned() });
                }
                each(chunk);
            }
            self.hold(&mut held, rest)?;
        }
        Ok(())
    }

    fn broken(&self, what: impl ToString) -> ClientError {
        ClientError::Connection { address: self.authority.clone(), what: what.to_string() }
    }

    async fn send(&self, method: &str, path: &str, body: Body) -> Result<Incoming, ClientError> {
        let stream = TcpStream::connect(&self.authority).await.map_err(|error| self.broken(error))?;
        let shake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shake.map_err(|error| self.broken(error))?;
        // It ends with the reply.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        request = request.header(HOST, &self.authority).header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        let request = request.body(body).map_err(|error| self.broken(error))?;
        let reply = sender.send_request(request).await.map_err(|error| self.broken(error))?;
        let status = reply.status().as_u16();
        let mut body = reply.into_body();
        if status == 200 {
            return Ok(body);
        }
        let whole = self.whole(&mut body).await?;
        let value: Value = serde_json::from_slice(&whole).unwrap_or_default();
        let message = value["error"]["message"].as_str().unwrap_or("without a reason").to_owned();
        Err(ClientError::Refused { status, message })
    }

    /// Keeps more of a line or reply, unless it becomes too large.
    fn hold(&self, held: &mut Vec<u8>, more: &[u8]) -> Result<(), ClientError> {
        if held.len().saturating_add(more.len()) > self.most {
            return Err(self.broken(format!("more than {} bytes without an end", self.most)));
        }
        held.extend_from_slice(more);
        Ok(())
    }

    async fn whole(&self, body: &mut Incoming) -> Result<Vec<u8>, ClientError> {
        let mut whole = Vec::new();
        while let Some(data) = self.next(body).await? {
            self.hold(&mut whole, &data)?;
        }
        Ok(whole)
    }

    async fn next(&self, body: &mut Incoming) -> Result<Option<Bytes>, ClientError> {
        loop {
            match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.broken(error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Keys, ServerConfig};
    use crate::testing::Running;
    use serde_json::json;

    #[test]
    fn addresses() {
        for (url, authority, base) in [
            ("http://localhost:8080", "localhost:8080", ""),
            ("http://localhost:8080/v1/", "localhost:8080", ""),
            ("http://h/x/v1", "h:80", "/x"),
        ] {
            let client = Client::new(url, None).unwrap();
            assert_eq!((client.authority.as_str(), client.base.as_str()), (authority, base));
        }
        for wrong in ["", "localhost:8080", "https://x", "http://", "http://a b"] {
            assert!(Client::new(wrong, None).is_err(), "{wrong}");
        }
    }

    /// A server that answers each request with this status and then with the same bytes, until nobody takes them.
    fn endless(status: &'static str, bytes: &'static [u8]) -> String {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(1) {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\n\r\n");
                while stream.write_all(bytes).is_ok() {}
            }
        });
        format!("http://{address}")
    }

    #[test]
    fn a_server_that_never_ends_a_line_or_a_reply_is_left() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = |url: String| Client { most: 1 << 20, ..Client::new(&url, None).unwrap() };
        let too_much = |error: ClientError| assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
        runtime.block_on(async {
            too_much(client(endless("200 OK", b"no end of line ")).stream("/", &json!({}), |_| {}).await.unwrap_err());
            too_much(client(endless("200 OK", b"{\n")).models().await.unwrap_err());
            too_much(client(endless("500 No", b"{\n")).models().await.unwrap_err());
            // Many lines are no long line.
            let mut lines = 0;
            let whole: &[u8] = b"data: {\"x\":1}\n\n";
            let stream = client(endless("200 OK", whole));
            let ended = std::cell::Cell::new(false);
            let body = json!({});
            let asked = stream.stream("/", &body, |_| {
                lines += 1;
                ended.set(lines > (4 << 20) / whole.len());
            });
            let enough = async {
                while !ended.get() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                outcome = asked => panic!("{outcome:?}"),
                () = enough => {}
            }
        });
    }

    #[test]
    fn it_asks_our_own_server() {
        let keys = Keys::new(["k".to_owned()]).unwrap();
        let server = Running::new(ServerConfig { keys, ..ServerConfig::default() });
        let url = format!("http://{}", server.address);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let refused = Client::new(&url, None).unwrap().models().await;
            assert!(matches!(refused, Err(ClientError::Refused { status: 401, .. })), "{refused:?}");
            let client = Client::new(&url, Some("k".into())).unwrap();
            assert_eq!(client.models().await.unwrap(), ["small"]);
            let body = json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": 4, "stream": true});
            let mut chunks = 0;
            client.stream("/v1/chat/completions", &body, |_| chunks += 1).await.unwrap();
            assert!(chunks >= 2, "the role, the text, the end");
        });
    }
}
