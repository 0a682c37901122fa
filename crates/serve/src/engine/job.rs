//! What an engine is asked for, and what it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::constraint::Constraint;
use crate::api::Sampling;

/// One prompt and what is to be done with it.
#[derive(Clone)]
pub struct Job {
    /// The prompt's tokens, at least one, each below the model's vocabulary.
    pub prompt: Vec<u32>,
    /// What is wanted.
    pub work: Work,
}

impl Job {
    /// How many answers it has.
    pub fn choices(&self) -> usize {
        match &self.work {
            Work::Generate(generate) => generate.choices,
            Work::Embed => 1,
        }
    }
}

/// What is to be done with a prompt.
#[derive(Clone)]
pub enum Work {
    /// Go on with it.
    Generate(Box<Generate>),
    /// The mean of its tokens' last hidden values.
    Embed,
}

/// How to go on.
#[derive(Clone)]
pub struct Generate {
    /// So many answers.
    pub choices: usize,
    /// The most tokens of an answer. 0 reads the prompt alone.
    pub limit: usize,
    /// How tokens are picked.
    pub sampling: Sampling,
    /// The random numbers; each answer has its own, numbered from here.
    pub seed: u64,
    /// Tokens that end an answer.
    pub ends: Vec<u32>,
    /// Report log-probabilities, with so many alternatives.
    pub logprobs: Option<usize>,
    /// Report those of the prompt as well.
    pub score_prompt: bool,
    /// The form of the answer.
    pub constraint: Option<Constraint>,
}

/// The log-probability of a token under the model's own distribution, and the likeliest tokens there.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// The token's.
    pub logprob: f32,
    /// The likeliest tokens, the first ones first.
    pub top: Vec<(u32, f32)>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The model ended it, or its form was complete.
    Stop,
    /// The limit was reached.
    Length,
}

/// What happens to a job, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The prompt was read.
    Prompt {
        /// How many of its tokens had been read before.
        cached: usize,
        /// Scores of the prompt's tokens from the second on, when asked for.
        scores: Vec<Score>,
    },
    /// The next token of an answer.
    Token {
        /// The answer.
        choice: usize,
        /// The token.
        id: u32,
        /// Its probability, when asked for.
        score: Option<Score>,
    },
    /// The end of an answer.
    End {
        /// The answer.
        choice: usize,
        /// Why.
        end: End,
    },
    /// A vector, of length 1.
    Embedding(Vec<f32>),
    /// The job failed; nothing follows.
    Failed(String),
    /// The answer's form cannot be followed, and why; nothing follows.
    Unfollowed(String),
}

/// Where the answers arrive. Dropping it ends the job.
pub struct Answer {
    events: UnboundedReceiver<Event>,
    stopped: Arc<Vec<AtomicBool>>,
}

impl Answer {
    /// The next event; none when the job has ended.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// The next event, for a thread that may wait.
    pub fn wait(&mut self) -> Option<Event> {
        self.events.blocking_recv()
    }

    /// Ends one answer: its reader has enough. No end is reported for it.
    pub fn stop(&self, choice: usize) {
        if let Some(flag) = self.stopped.get(choice) {
            flag.store(true, Ordering::Relaxed);
        }
    }
}

/// A job inside of the engine.
pub(crate) struct Request {
    pub(super) job: Job,
    pub(super) reply: Reply,
    pub(super) arrived: Instant,
}

/// The way back to whoever asked.
#[derive(Clone)]
pub(super) struct Reply {
    events: UnboundedSender<Event>,
    stopped: Arc<Vec<AtomicBool>>,
}

impl Reply {
    /// Sends an event; a reader that is gone is noticed later.
    pub(super) fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Ends all answers of the job.
    pub(super) fn give_up(&self) {
        self.stopped.iter().for_each(|flag| flag.store(true, Ordering::Relaxed));
    }

    /// True when the reader went away.
    pub(super) fn closed(&self) -> bool {
        self.events.is_closed()
    }

    /// True when nobody waits for an answer any more.
    pub(super) fn gone(&self, choice: usize) -> bool {
        self.events.is_closed() || self.stopped.get(choice).is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    /// True when nobody waits for anything.
    pub(super) fn abandoned(&self) -> bool {
        self.events.is_closed() || self.stopped.iter().all(|flag| flag.load(Ordering::Relaxed))
    }
}

impl Request {
    pub(super) fn new(job: Job) -> (Self, Answer) {
        let (sender, events) = unbounded_channel();
        let choices = job.choices();
        let stopped: Arc<Vec<AtomicBool>> = Arc::new((0..choices).map(|_| AtomicBool::new(false)).collect());
        let reply = Reply { events: sender, stopped: Arc::clone(&stopped) };
        (Self { job, reply, arrived: Instant::now() }, Answer { events, stopped })
    }
}
