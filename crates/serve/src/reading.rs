//! Following one answer of the engine as text.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::api::reply::{Named, TokenScore};
use crate::engine::{Answer, End, Event, Score};
use crate::error::{ApiError, ApiResult};
use crate::served::Served;
use crate::text::TextStream;

/// What a reader of an answer learns, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// The prompt was read.
    Prompt {
        /// How many of its tokens had been read before.
        cached: usize,
        /// Scores of its tokens, the first of which has none.
        scores: Vec<TokenScore>,
    },
    /// More text of an answer, maybe none, and the token that brought it.
    Text {
        /// The answer.
        choice: usize,
        /// The text.
        text: String,
        /// The token's score, when asked for.
        score: Option<TokenScore>,
        /// True for a token, false for text that was held back before.
        token: bool,
    },
    /// The end of an answer.
    End {
        /// The answer.
        choice: usize,
        /// Why.
        end: End,
    },
    /// A vector.
    Embedding(Vec<f32>),
}

/// An answer that is being read.
pub struct Reading {
    served: Arc<Served>,
    answer: Answer,
    prompt: Vec<u32>,
    texts: Vec<Option<TextStream>>,
    open: usize,
    ready: VecDeque<Piece>,
}

impl Reading {
    /// Follows the answers to a prompt, each of which ends before any of `stops`.
    pub fn new(served: Arc<Served>, answer: Answer, prompt: Vec<u32>, choices: usize, stops: &[String]) -> Self {
        let text = || Some(TextStream::new(&served.tokenizer, stops.to_vec()));
        let texts = (0..choices).map(|_| text()).collect();
        Self { answer, prompt, texts, open: choices, ready: VecDeque::new(), served }
    }

    /// The next piece; none at the end.
    ///
    /// # Errors
    /// When the engine fails.
    pub async fn next(&mut self) -> ApiResult<Option<Piece>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            if self.open == 0 {
                return Ok(None);
            }
            match self.answer.next().await {
                None => return Err(ApiError::unavailable("the model's engine ended before this answer was done")),
                Some(event) => self.take(event)?,
            }
        }
    }

    fn named(&self, id: u32, score: Score) -> TokenScore {
        let top = score.top.into_iter().map(|(id, logprob)| self.served.named(id, Some(logprob))).collect();
        TokenScore { token: self.served.named(id, Some(score.logprob)), top }
    }

    fn take(&mut self, event: Event) -> ApiResult<()> {
        match event {
            Event::Failed(reason) => return Err(ApiError::server(reason)),
            Event::Unfollowed(reason) => {
                let message = format!("`response_format`: the answer's form cannot be followed: {reason}");
                return Err(ApiError::field("response_format", message));
            }
            Event::Embedding(vector) => {
                self.open = 0;
                self.ready.push_back(Piece::Embedding(vector));
            }
            Event::Prompt { cached, scores } => {
                let mut named: Vec<TokenScore> = Vec::new();
                if let Some(&first) = self.prompt.first()
                    && !(scores.is_empty() && self.prompt.len() > 1)
                {
                    let bytes = self.served.bytes_of(first);
                    named.push(TokenScore { token: Named { bytes, logprob: None }, top: Vec::new() });
                }
                let rest = self.prompt.iter().skip(1).zip(scores);
                named.extend(rest.map(|(&id, score)| self.named(id, score)));
                self.ready.push_back(Piece::Prompt { cached, scores: named });
            }
            Event::Token { choice, id, score } => {
                let score = score.map(|score| self.named(id, score));
                let Some(stream) = &mut self.texts[choice] else { return Ok(()) };
                let text = stream.push(id);
                let stopped = stream.stopped();
                self.ready.push_back(Piece::Text { choice, text, score, token: true });
                if stopped {
                    self.answer.stop(choice);
                    self.end(choice, End::Stop);
                }
            }
            Event::End { choice, end } => {
                let Some(stream) = &mut self.texts[choice] else { return Ok(()) };
                let text = stream.finish();
                let end = if stream.stopped() { End::Stop } else { end };
                if !text.is_empty() {
                    self.ready.push_back(Piece::Text { choice, text, score: None, token: false });
                }
                self.end(choice, end);
            }
        }
        Ok(())
    }

    fn end(&mut self, choice: usize, end: End) {
        self.texts[choice] = None;
        self.open -= 1;
        self.ready.push_back(Piece::End { choice, end });
    }
}
