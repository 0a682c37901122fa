//! What keeps a page on a loopback address to the one who opened it.
//!
//! A browser sends requests to `127.0.0.1` for any page that asks. Two checks stop the pages of others: the `Host` must
//! be a name of this server (else a name that a stranger points at `127.0.0.1` would be same-origin with it), and the
//! request must not come from a page of another origin. No header for cross-origin reading is ever sent.
//!
//! The server of models has the same guard in front.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::Response;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// All that a page of ours may load: what this server serves, and nothing written into the page itself.
pub const CONTENT_SECURITY_POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";

/// The names under which a server may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    names: Option<Vec<String>>,
}

impl Hosts {
    /// The names of a server bound to `address`: every name of this machine for itself when it is a loopback address;
    /// any name otherwise, since only whoever runs the server knows them (it then asks for a key).
    pub fn of(address: SocketAddr) -> Self {
        Self { names: address.ip().is_loopback().then(Vec::new) }
    }

    /// Adds a name under which the server may be asked, such as that of a proxy in front of it. It becomes the only one
    /// beside the loopback names.
    #[must_use]
    pub fn and(mut self, name: &str) -> Self {
        self.names.get_or_insert_default().push(name.to_ascii_lowercase());
        self
    }

    fn allows(&self, host: &str) -> bool {
        let Some(names) = &self.names else { return true };
        let Some(name) = without_port(host) else { return false };
        let name = name.to_ascii_lowercase();
        if name == "localhost" || names.contains(&name) {
            return true;
        }
        let address = name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(&name);
        address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// `name:port`, `[v6]:port` or either without the port; `None` for anything else.
fn without_port(host: &str) -> Option<&str> {
    let end = if host.starts_with('[') { host.find(']')? + 1 } else { host.find(':').unwrap_or(host.len()) };
    let (name, port) = host.split_at(end);
    let port_is_valid = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    (port_is_valid && !name.is_empty()).then_some(name)
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The `Host` is missing, doubled, or no name of this server.
    #[error("the Host of the request is not a name of this server; use localhost or 127.0.0.1")]
    Host,
    /// A page of another origin asks.
    #[error("a page of another origin asks; only this server's own pages may")]
    Origin,
}

impl Refusal {
    /// The status of the answer: 421 for a wrong host, 403 for a wrong origin.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
        }
    }
}

/// Checks the host, and what browsers say about the page that asks (`Origin`, `Sec-Fetch-Site`). Programs that are no
/// browsers say nothing about it and pass; so does somebody who follows a link from elsewhere to a page of this server.
///
/// # Errors
/// The reason to refuse.
pub fn check(method: &Method, uri: &Uri, headers: &HeaderMap, hosts: &Hosts) -> Result<(), Refusal> {
    let host = host(uri, headers).filter(|host| hosts.allows(host)).ok_or(Refusal::Host)?;
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().map_err(|_| Refusal::Origin)?;
        let of = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !of.is_some_and(|of| of.eq_ignore_ascii_case(host)) {
            return Err(Refusal::Origin);
        }
    }
    let said = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let follows_a_link = matches!(*method, Method::GET | Method::HEAD) && said("sec-fetch-mode") == Some(b"navigate");
    match said("sec-fetch-site") {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) if follows_a_link => Ok(()),
        Some(_) => Err(Refusal::Origin),
    }
}

/// The host that a request is meant for: from its target or its header, of which there must be one.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    if let Some(authority) = uri.authority() {
        return Some(authority.as_str());
    }
    let mut given = headers.get_all(header::HOST).iter();
    let host = given.next()?.to_str().ok()?;
    given.next().is_none().then_some(host)
}

/// Middleware that refuses what [`check`] refuses and adds [`harden`] to every answer:
/// `router.layer(axum::middleware::from_fn_with_state(Arc::new(hosts), guard::guard))`.
pub async fn guard(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let mut response = match check(request.method(), request.uri(), request.headers(), &hosts) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            let mut response = Response::new(Body::from(refusal.to_string()));
            *response.status_mut() = refusal.status();
            response
        }
    };
    harden(response.headers_mut());
    response
}

/// Adds the headers that keep an answer inside our own pages; those that are there stay.
pub fn harden(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &Method, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            map.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let hosts = Hosts::of("127.0.0.1:80".parse().expect("an address")).and("Proxy.example");
        check(method, &Uri::from_static("/x"), &map, &hosts)
    }

    #[test]
    fn only_names_of_this_machine_pass() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "127.9.9.9", "[::1]", "[::1]:80", "proxy.example:1"]
        {
            assert_eq!(asked(&Method::GET, &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1:80@evil.example",
            "10.0.0.1",
            "",
            ":80",
            "localhost:x",
            "localhost:99999",
            "[::1",
            "[::1]x",
            "user@localhost",
        ] {
            assert_eq!(asked(&Method::GET, &[("host", host)]), Err(Refusal::Host), "{host}");
        }
        assert_eq!(asked(&Method::GET, &[]), Err(Refusal::Host));
        assert_eq!(asked(&Method::GET, &[("host", "localhost"), ("host", "localhost")]), Err(Refusal::Host));
        let open = Hosts::of("0.0.0.0:80".parse().expect("an address"));
        assert!(open.allows("anything.example"));
    }

    #[test]
    fn only_our_own_pages_ask() {
        let host = ("host", "localhost:80");
        for (headers, result) in [
            (vec![host], Ok(())),
            (vec![host, ("origin", "http://localhost:80")], Ok(())),
            (vec![host, ("origin", "http://localhost:80"), ("sec-fetch-site", "same-origin")], Ok(())),
            (vec![host, ("origin", "http://localhost:81")], Err(Refusal::Origin)),
            (vec![host, ("origin", "http://evil.example")], Err(Refusal::Origin)),
            (vec![host, ("origin", "null")], Err(Refusal::Origin)),
            (vec![host, ("sec-fetch-site", "cross-site")], Err(Refusal::Origin)),
            (vec![host, ("sec-fetch-site", "same-site")], Err(Refusal::Origin)),
            (vec![host, ("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")], Ok(())),
        ] {
            for method in [Method::GET, Method::POST, Method::OPTIONS] {
                assert_eq!(asked(&method, &headers), result, "{method} {headers:?}");
            }
        }
        let link = [host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(asked(&Method::GET, &link), Ok(()), "a link on another page");
        assert_eq!(asked(&Method::POST, &link), Err(Refusal::Origin), "a form on another page");
    }

    #[test]
    fn a_host_in_the_target_counts_and_not_the_header_beside_it() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("localhost"));
        let hosts = Hosts::of("127.0.0.1:80".parse().expect("an address"));
        let target = |uri: &'static str| check(&Method::GET, &Uri::from_static(uri), &headers, &hosts);
        assert_eq!(target("http://evil.example/"), Err(Refusal::Host));
        assert_eq!(target("http://127.0.0.1:80/"), Ok(()));
    }
}
