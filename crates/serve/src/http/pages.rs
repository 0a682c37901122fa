//! Pages of others beside the chat, and how a browser opens them where a key is needed.
//!
//! A page cannot send a header with a link, a picture or an event stream. So it sends the key once, to `key` below its own path, and
//! gets a cookie for it, which opens what is read below that path and nothing else: no route of the API takes it, no script sees it,
//! no page of another site sends it, and it is worthless when the server has ended.

use std::hash::{BuildHasher, RandomState};

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cupola_monitor::plot::svg::escape;

use super::App;
use super::keys::equal;

/// Routes of others under a path of their own.
pub(super) struct Page {
    /// The path, with `/` at both ends.
    pub(super) path: String,
    /// What the chat page calls its link to it.
    pub(super) title: String,
    /// What opens it, and only it, beside a key.
    pub(super) pass: Pass,
}

impl Page {
    /// Whether a path needs no key: the page itself and what it is made of tell nothing.
    pub(super) fn is_open(&self, path: &str) -> bool {
        let below = path.strip_prefix(&self.path);
        path == self.path.trim_end_matches('/')
            || below.is_some_and(|below| below.is_empty() || below.starts_with("assets/"))
    }
}

/// What a browser that knows a key is given instead of it.
pub(super) struct Pass {
    name: String,
    value: String,
    secure: bool,
}

impl Pass {
    /// A new one, for a server on this port. Cookies of one host are common to all its ports.
    pub(super) fn new(port: u16, secure: bool) -> Self {
        // Keyed hashes, whose keys the system has drawn.
        let value = format!("{:016x}{:016x}", RandomState::new().hash_one(port), RandomState::new().hash_one(port));
        Self { name: format!("cupola-{port}"), value, secure }
    }

    /// Whether a request brings it.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut found = false;
        for (name, value) in cookies.flat_map(|all| all.split(';')).filter_map(|one| one.trim().split_once('=')) {
            found |= name == self.name && equal(self.value.as_bytes(), value.as_bytes());
        }
        found
    }
}

/// The answer to `POST key`, which the guard lets through with a key alone.
pub(super) fn opened(page: &Page) -> Response {
    let Pass { name, value, secure } = &page.pass;
    let secure = if *secure { "; Secure" } else { "" };
    let cookie = format!("{name}={value}; Path={}; HttpOnly; SameSite=Strict{secure}", page.path);
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// The links of the chat page to all of them.
pub(super) fn links(app: &App) -> String {
    let link = |page: &Page| format!("<a href=\"{}\">{}</a>", page.path.trim_start_matches('/'), escape(&page.title));
    app.pages.iter().map(link).collect()
}
