//! A small client for servers that speak as this one does.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, HttpBody};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// The largest line of a stream, and the largest whole reply, that is read.
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
        Ok(Self { authority, base, key })
    }

    /// The ids of the server's models.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn models(&self) -> Result<Vec<String>, ClientError> {
        let mut reply = self.send("GET", "/v1/models", Body::empty()).await?;
        let mut whole = Vec::new();
        while let Some(data) = self.next(&mut reply).await? {
            whole.extend_from_slice(&data);
        }
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
            held.extend_from_slice(&data);
            while let Some(end) = held.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = held.drain(..=end).collect();
                let Some(data) = line.strip_prefix(b"data: ") else { continue };
                // The last word is no JSON.
                let Ok(chunk) = serde_json::from_slice::<Value>(data) else { continue };
                if let Some(message) = chunk["error"]["message"].as_str() {
                    return Err(ClientError::Refused { status: 200, message: message.to_owned() });
                }
                each(chunk);
            }
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
        let mut whole = Vec::new();
        while let Some(data) = self.next(&mut body).await? {
            whole.extend_from_slice(&data);
        }
        let value: Value = serde_json::from_slice(&whole).unwrap_or_default();
        let message = value["error"]["message"].as_str().unwrap_or("without a reason").to_owned();
        Err(ClientError::Refused { status, message })
    }

    async fn next(&self, body: &mut Incoming) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.broken(error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.len() <= MOST_BYTES => return Ok(Some(data.to_vec())),
                    Ok(data) => return Err(self.broken(format!("a part of {} bytes", data.len()))),
                    Err(_) => {}
                },
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
