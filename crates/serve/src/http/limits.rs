//! How much, how many and how long.

use std::time::Duration;

/// What a server puts up with.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Connections at a time; more wait to be taken.
    pub connections: usize,
    /// How long a head may take, or a connection rest between requests.
    pub head: Duration,
    /// The same while more than half of the connections are in use.
    pub head_crowded: Duration,
    /// How long a body may take.
    pub body: Duration,
    /// How long a reader may take none of what is sent to it.
    pub write: Duration,
    /// How long a whole answer may take.
    pub answer: Duration,
    /// Silence in a stream after which a sign of life is sent.
    pub ping: Duration,
    /// How long answers may go on after the server was told to stop.
    pub drain: Duration,
    /// How long a model other than the first stays without being asked for.
    pub idle_model: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 16 << 20,
            head_bytes: 32 << 10,
            connections: 4096,
            head: Duration::from_secs(15),
            head_crowded: Duration::from_secs(3),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            answer: Duration::from_secs(3600),
            ping: Duration::from_secs(15),
            drain: Duration::from_secs(30),
            idle_model: Duration::from_secs(600),
        }
    }
}
