//! Pages of others beside the chat, with and without a key.

use serde_json::json;

use crate::http::{Keys, ServerConfig};
use crate::testing::{Reply, Running};

fn locked() -> Running {
    let keys = Keys::new(["sk-right".to_owned()]).unwrap();
    Running::new(ServerConfig { keys, ..ServerConfig::default() })
}

fn ask(server: &Running, method: &str, path: &str, headers: &str) -> Reply {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n{headers}\r\n"
    );
    server.raw(head.as_bytes())
}

/// The cookie that a server gives for its key, as a browser sends it back.
fn cookie(server: &Running) -> String {
    let reply = ask(server, "POST", "/runs/key", "authorization: Bearer sk-right\r\n");
    assert_eq!(reply.status, 204, "{reply:?}");
    let set = reply.header("set-cookie").unwrap();
    assert!(set.ends_with("; path=/runs/; httponly; samesite=strict"), "{set}");
    format!("cookie: other=1; {}\r\n", set.split(';').next().unwrap())
}

#[test]
fn the_chat_page_leads_to_the_pages_beside_it() {
    let server = Running::new(ServerConfig::default());
    let page = server.get("/").body;
    assert!(page.contains("<a href=\"extra/\">Extra &lt;&amp;&gt;</a><a href=\"runs/\">Training</a>"), "{page}");
    let runs = server.get("/runs/");
    assert!(runs.body.contains("<title>Cupola runs</title>"), "{runs:?}");
    let policy = runs.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
}

#[test]
fn both_pages_together_bring_less_than_25_000_bytes_of_script() {
    let server = Running::new(ServerConfig::default());
    let scripts = ["/chat.js", "/runs/assets/dash.js"].map(|path| server.get(path));
    for script in &scripts {
        assert_eq!((script.status, script.header("content-type")), (200, Some("text/javascript; charset=utf-8")));
    }
    let bytes: usize = scripts.iter().map(|script| script.body.len()).sum();
    assert!((10_000..25_000).contains(&bytes), "{bytes} bytes");
}

#[test]
fn a_key_opens_the_pages_for_a_browser_and_nothing_but_the_pages() {
    let server = locked();
    for open in ["/", "/runs", "/runs/", "/runs/assets/dash.js", "/runs/assets/cupola.css"] {
        assert!([200, 308].contains(&ask(&server, "GET", open, "").status), "{open}");
    }
    for closed in ["/runs/api/runs", "/runs/api/live?run=a", "/runs/key", "/extra/x", "/runs/x", "/runsx"] {
        assert_eq!(ask(&server, "GET", closed, "").status, 401, "{closed}");
    }
    for tricky in ["/runs/assets/../api/runs", "/runs/assets/%2e%2e/api/runs", "/runs/assets//../../api/runs"] {
        assert_eq!(ask(&server, "GET", tricky, "").status, 404, "{tricky}");
    }
    for wrong in ["", "authorization: Bearer sk-Right\r\n", "cookie: key=sk-right\r\n"] {
        let reply = ask(&server, "POST", "/runs/key", wrong);
        assert_eq!((reply.status, reply.header("set-cookie")), (401, None), "{wrong}");
    }
    assert_eq!(ask(&server, "GET", "/runs/api/runs", "authorization: Bearer sk-right\r\n").body, "[]");
    let cookie = cookie(&server);
    assert!(!cookie.contains("sk-right"), "the key itself is not handed about");
    assert_eq!(ask(&server, "GET", "/runs/api/runs", &cookie).body, "[]");
    assert_eq!(ask(&server, "HEAD", "/runs/api/runs", &cookie).status, 200);
    for closed in ["/v1/models", "/metrics", "/extra/x"] {
        assert_eq!(ask(&server, "GET", closed, &cookie).status, 401, "{closed}");
    }
    for path in ["/v1/completions", "/runs/api/runs", "/runs/key", "/tokenize"] {
        let body = json!({"prompt": "x", "max_tokens": 1}).to_string();
        assert_eq!(server.post_with(path, &cookie, &body).status, 401, "{path}");
    }
    let mut wrong = cookie.trim_end().to_owned();
    let last = wrong.pop().unwrap();
    for end in [format!("{last}0"), String::new(), if last == '0' { "1".into() } else { "0".into() }] {
        assert_eq!(ask(&server, "GET", "/runs/api/runs", &format!("{wrong}{end}\r\n")).status, 401, "{end}");
    }
}

#[test]
fn a_cookie_of_one_server_is_worth_nothing_at_another() {
    let (one, other) = (locked(), locked());
    let (name, value) = cookie(&one).trim_end().rsplit_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert_eq!(ask(&one, "GET", "/runs/api/runs", &format!("{name}={value}\r\n")).status, 200);
    let theirs = cookie(&other).trim_end().rsplit_once('=').unwrap().0.to_owned();
    for name in [name, theirs] {
        assert_eq!(ask(&other, "GET", "/runs/api/runs", &format!("{name}={value}\r\n")).status, 401);
    }
}
