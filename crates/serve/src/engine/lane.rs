//! A sequence that is worked on.

use std::sync::Arc;
use std::time::Instant;

use cupola_models::State;

use super::choose::Chooser;
use super::constraint::Constraint;
use super::job::{Generate, Reply, Request, Score, Work};
use super::step::Rows;

/// The most tokens guessed at a time.
const GUESSES: usize = 7;
/// Steps without a guess after one of which nothing was right.
pub(super) const PATIENCE: usize = 4;

/// One sequence, or the prompt of several.
pub(super) struct Lane {
    pub(super) work: Arc<Work>,
    pub(super) reply: Reply,
    /// The prompt and what was generated.
    pub(super) tokens: Vec<u32>,
    /// Length of the prompt.
    pub(super) prompt: usize,
    pub(super) state: State,
    /// The answer's number; while the prompt is read for the first time, all answers are one lane.
    pub(super) choice: usize,
    pub(super) forked: bool,
    pub(super) cached: usize,
    pub(super) chooser: Option<Chooser>,
    pub(super) constraint: Option<Constraint>,
    pub(super) scores: Vec<Score>,
    pub(super) sum: Vec<f64>,
    /// Tokens at the end of `tokens` that are guessed, during a step.
    pub(super) guessed: usize,
    /// Steps until the next guess, after a wrong one.
    pub(super) patience: usize,
    pub(super) arrived: Instant,
    pub(super) last: Option<Instant>,
}

impl Lane {
    pub(super) fn new(request: Request, state: State) -> Self {
        let Request { job, reply, arrived } = request;
        let constraint = match &job.work {
            Work::Generate(generate) => generate.constraint.clone(),
            Work::Embed => None,
        };
        Self {
            work: Arc::new(job.work),
            reply,
            prompt: job.prompt.len(),
            tokens: job.prompt,
            state,
            choice: 0,
            forked: false,
            cached: 0,
            chooser: None,
            constraint,
            scores: Vec::new(),
            sum: Vec::new(),
            guessed: 0,
            patience: 0,
            arrived,
            last: None,
        }
    }

    /// The lane of one answer, which goes on from this state.
    pub(super) fn fork(&self, generate: &Generate, choice: usize, state: State) -> Self {
        Self {
            work: Arc::clone(&self.work),
            reply: self.reply.clone(),
            tokens: self.tokens.clone(),
            prompt: self.prompt,
            state,
            choice,
            forked: true,
            cached: self.cached,
            chooser: Some(Chooser::new(&generate.sampling, generate.seed, choice, &self.tokens)),
            constraint: self.constraint.clone(),
            scores: Vec::new(),
            sum: Vec::new(),
            guessed: 0,
            patience: 0,
            arrived: self.arrived,
            last: None,
        }
    }

    pub(super) fn read(&self) -> usize {
        self.state.position()
    }

    pub(super) fn unread(&self) -> usize {
        self.tokens.len() - self.read()
    }

    /// True when an answer is being written, token by token.
    pub(super) fn writes(&self) -> bool {
        self.forked && self.unread() == 1
    }

    pub(super) fn generate(&self) -> Option<&Generate> {
        match &*self.work {
            Work::Generate(generate) => Some(generate),
            Work::Embed => None,
        }
    }

    /// Sequences that this lane is or becomes.
    pub(super) fn weight(&self) -> usize {
        if self.forked { 1 } else { self.generate().map_or(1, |g| g.choices) }
    }

    /// Whether states of other prompts may stand for a part of this one.
    pub(super) fn shares(&self) -> bool {
        !self.forked && self.generate().is_some_and(|g| !g.score_prompt)
    }

    pub(super) fn rows(&self, take: usize) -> Rows {
        match self.generate() {
            None => Rows::Hidden,
            Some(_) if self.guessed > 0 => Rows::All,
            Some(generate) if generate.score_prompt && !self.forked => Rows::All,
            Some(_) if take == self.unread() => Rows::Last,
            Some(_) => Rows::None,
        }
    }

    /// Guesses the next tokens of a greedy answer: what followed when the last few were seen before. Returns how many.
    pub(super) fn guess(&mut self, context: usize) -> usize {
        if self.patience > 0 {
            self.patience -= 1;
            return 0;
        }
        let limit = self.generate().map_or(0, |generate| generate.limit);
        let left = (limit + self.prompt).min(context).saturating_sub(self.tokens.len() + 1);
        if !self.chooser.as_ref().is_some_and(Chooser::greedy) {
            return 0;
        }
        let found = lookup(&self.tokens, GUESSES.min(left));
        self.guessed = found.len();
        self.tokens.extend(found);
        self.guessed
    }

    /// Takes the guesses back.
    pub(super) fn take_guesses(&mut self) -> Vec<u32> {
        let certain = self.tokens.len() - std::mem::take(&mut self.guessed);
        self.tokens.split_off(certain)
    }

    pub(super) fn gone(&self) -> bool {
        if self.forked { self.reply.gone(self.choice) } else { self.reply.abandoned() }
    }
}

/// What followed when the last three tokens, or two, were seen before, for at most `most` tokens.
fn lookup(tokens: &[u32], most: usize) -> Vec<u32> {
    for length in [3, 2] {
        let Some(begin) = tokens.len().checked_sub(length).filter(|_| most > 0) else { continue };
        let last = &tokens[begin..];
        let before = tokens[..tokens.len() - 1].windows(length).rposition(|window| window == last);
        if let Some(at) = before {
            let from = at + length;
            return tokens[from..(from + most).min(tokens.len())].to_vec();
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_place_with_the_same_tokens_says_what_comes_next() {
        assert_eq!(lookup(&[1, 2, 3, 4, 1, 2, 3], 2), [4, 1]);
        assert_eq!(lookup(&[1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], 1), [5]);
        assert_eq!(lookup(&[7, 7, 7, 7], 3), [7]);
        assert_eq!(lookup(&[2, 3, 9, 1, 2, 3], 7), [9, 1, 2, 3], "two tokens, where three were not seen");
        assert_eq!(lookup(&[1, 2, 3], 7), [0; 0]);
        assert_eq!(lookup(&[1, 1, 1], 0), [0; 0]);
        assert_eq!(lookup(&[], 3), [0; 0]);
    }
}
