//! HTTPS. The certificate and its key were made for this test and are used nowhere else.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::http::{Limits, ServerConfig, Tls};
use crate::testing::{Running, request};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/tests/tls").join(name)
}

fn server() -> Running {
    let tls = Tls::from_files(&file("certificate.pem"), &file("key.pem")).unwrap();
    let limits = Limits { head: std::time::Duration::from_millis(500), ..Limits::default() };
    Running::new(ServerConfig { tls: Some(tls), limits, ..ServerConfig::default() })
}

/// Asks as a client does that trusts these roots.
fn ask(server: &Running, roots: RootCertStore, name: &'static str, text: &str) -> std::io::Result<String> {
    let config =
        ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
    let config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, server.connect());
    stream.write_all(text.as_bytes())?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    Ok(reply)
}

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("certificate.pem")).unwrap()).unwrap();
    roots
}

#[test]
fn a_client_that_trusts_the_certificate_is_answered_under_its_names() {
    let server = server();
    let body = "{\"prompt\":\"x\",\"max_tokens\":3,\"stream\":true}";
    for name in ["localhost", "127.0.0.1"] {
        let reply = ask(&server, roots(), name, &request("/v1/completions", "", body)).unwrap();
        assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("data: [DONE]"), "{reply}");
    }
    let foreign = request("/v1/completions", "origin: https://evil.example\r\n", body);
    assert!(ask(&server, roots(), "localhost", &foreign).unwrap().starts_with("HTTP/1.1 403"));
}

#[test]
fn strangers_and_plain_text_get_no_answer() {
    let server = server();
    let text = "GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert!(ask(&server, RootCertStore::empty(), "localhost", text).is_err(), "nobody vouches for it");
    assert!(ask(&server, roots(), "other.example", text).is_err(), "it is another's name");
    assert_eq!(server.raw(text.as_bytes()).status, 0, "plain text on a port of HTTPS");
    // Somebody who says nothing is let go, and the next one is answered.
    let mut silent = server.connect();
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest);
    assert!(ask(&server, roots(), "localhost", text).unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn files_that_hold_no_certificate_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.pem");
    let (certificate, key) = (file("certificate.pem"), file("key.pem"));
    for (text, said) in [
        ("", "no certificate"),
        ("not PEM", "no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ""),
        ("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", ""),
    ] {
        std::fs::write(&other, text).unwrap();
        let error = Tls::from_files(&other, &key).unwrap_err().to_string();
        assert!(error.contains("other.pem") && error.contains(said) && error.lines().count() == 1, "{error}");
    }
    let swapped = Tls::from_files(&key, &certificate).unwrap_err().to_string();
    assert!(swapped.contains("key.pem") && swapped.lines().count() == 1, "{swapped}");
    let foreign = Tls::from_files(&certificate, &file("other.pem")).unwrap_err().to_string();
    assert!(foreign.contains("certificate.pem") && foreign.lines().count() == 1, "{foreign}");
    assert!(Tls::from_files(&folder.path().join("missing"), &key).unwrap_err().to_string().contains("missing"));
}
