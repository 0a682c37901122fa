//! The engine's loop.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use cupola_models::Decoder;
use cupola_models::state::MixerState;

use super::choose::score;
use super::constraint::Left;
use super::job::{End, Event, Reply, Work};
use super::lane::{Lane, PATIENCE};
use super::memory::Memory;
use super::step::{self, Fault, Part};
use super::{BLOCK, EngineConfig, Shared, Stats};

/// Tokens of prompts in one step while answers are written: few, so that these do not stall.
const READ_BESIDE: usize = BLOCK;
/// Tokens of prompts in one step otherwise.
const READ_ALONE: usize = 8 * BLOCK;

/// Tokens are guessed while at most so many answers are written: then a step's time goes into reading the weights, and rows are
/// nearly free.
const GUESSERS: usize = 8;

pub(super) struct Worker<'a> {
    pub(super) model: Decoder,
    pub(super) config: EngineConfig,
    pub(super) shared: &'a Shared,
    pub(super) stats: Arc<Stats>,
    pub(super) lanes: Vec<Lane>,
    /// Lanes put aside, the one to return first at the end.
    pub(super) parked: Vec<Lane>,
    pub(super) memory: Memory,
    /// Whether some state cannot be computed again from its tokens with the same bits.
    pub(super) recurrent: bool,
    turn: usize,
    fault: Option<Fault>,
}

/// Equal beginnings have equal numbers. Two others that share one by chance are read one after the other, and nothing else.
fn hash(tokens: &[u32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    tokens.hash(&mut hasher);
    hasher.finish()
}

/// A part of the next step.
pub(super) struct Plan {
    pub(super) lane: usize,
    pub(super) take: usize,
}

impl<'a> Worker<'a> {
    /// # Errors
    /// When the model cannot read even a few tokens.
    pub(super) fn new(model: Decoder, config: EngineConfig, shared: &'a Shared) -> Result<Self, String> {
        let recurrent = model.state().layers().iter().any(|layer| !matches!(layer, MixerState::KeyValue(_)));
        let memory = Memory::new(&model, &config)?;
        let worker = Self {
            lanes: Vec::new(),
            parked: Vec::new(),
            memory,
            stats: Arc::clone(&shared.stats),
            fault: shared.fault(),
            recurrent,
            turn: 0,
            model,
            config,
            shared,
        };
        worker.account();
        Ok(worker)
    }

    /// Works until the engine is closed.
    pub(super) fn run(mut self) {
        while self.wait() {
            self.forget_the_gone();
            self.admit();
            let plans = self.plan();
            let plans = self.secure(plans);
            self.step(&plans);
            self.account();
        }
    }

    /// Waits for something to do. False when the engine is closed.
    fn wait(&mut self) -> bool {
        let shared = self.shared;
        let mut queue = shared.queue();
        loop {
            if queue.closed {
                return false;
            }
            if std::mem::take(&mut queue.forget) {
                self.memory.forget();
                self.account();
            }
            if !(queue.waiting.is_empty() && self.lanes.is_empty() && self.parked.is_empty()) {
                return true;
            }
            queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn forget_the_gone(&mut self) {
        let stats = Arc::clone(&self.stats);
        // A reader that has enough of an answer is not one that went away.
        let stays = |gone: bool, reply: &Reply| {
            stats.abandoned.add(usize::from(gone && reply.closed()));
            !gone
        };
        self.lanes.retain(|lane| stays(lane.gone(), &lane.reply));
        self.parked.retain(|lane| stays(lane.gone(), &lane.reply));
        let mut queue = self.shared.queue();
        queue.waiting.retain(|request| stays(request.reply.abandoned(), &request.reply));
        self.stats.waiting.set(queue.waiting.len());
    }

    /// What the next step does: every answer's next token, and parts of prompts, in turn.
    fn plan(&mut self) -> Vec<Plan> {
        let all = 0..self.lanes.len();
        let (writers, mut readers): (Vec<usize>, Vec<usize>) = all.partition(|&index| self.lanes[index].writes());
        let mut plans: Vec<Plan> = writers.into_iter().map(|lane| Plan { lane, take: 1 }).collect();
        if self.config.speculate && plans.len() <= GUESSERS {
            for plan in &mut plans {
                plan.take += self.lanes[plan.lane].guess(self.config.context);
            }
        }
        let mut left = if plans.is_empty() { READ_ALONE } else { READ_BESIDE };
        if !readers.is_empty() {
            self.turn = (self.turn + 1) % readers.len();
            readers.rotate_left(self.turn);
        }
        let mut beginnings = HashSet::new();
        for index in readers {
            self.jump(index);
            let lane = &self.lanes[index];
            // Who reads the same beginning at the same time waits for the first one's snapshot.
            let end = lane.read() + BLOCK;
            if lane.shares() && lane.unread() > BLOCK && !beginnings.insert(hash(&lane.tokens[..end])) {
                continue;
            }
            let take = self.chunk(lane, left);
            if take == 0 {
                break;
            }
            left = left.saturating_sub(take);
            plans.push(Plan { lane: index, take });
        }
        plans
    }

    /// How much of a prompt is read next: up to a multiple of [`BLOCK`], or to the end.
    fn chunk(&self, lane: &Lane, left: usize) -> usize {
        let (read, unread) = (lane.read(), lane.unread());
        let block = BLOCK - read % BLOCK;
        if unread <= block {
            return if unread <= left { unread } else { 0 };
        }
        if block > left {
            return 0;
        }
        if self.recurrent && lane.shares() {
            // Snapshots of scans lie behind every block.
            return block;
        }
        let border = (read + left.min(unread)) / BLOCK * BLOCK;
        border.saturating_sub(read)
    }

    fn step(&mut self, plans: &[Plan]) {
        if plans.is_empty() {
            return;
        }
        let mut taken: Vec<Option<usize>> = vec![None; self.lanes.len()];
        plans.iter().for_each(|plan| taken[plan.lane] = Some(plan.take));
        let mut parts = Vec::with_capacity(plans.len());
        for (lane, take) in self.lanes.iter_mut().zip(&taken) {
            let Some(take) = *take else { continue };
            let (read, rows) = (lane.read(), lane.rows(take));
            if lane.guessed > 0 {
                // Scans read guesses one by one, so that those that were wrong can be forgotten.
                lane.state.follow();
            }
            parts.push(Part { tokens: &lane.tokens[read..read + take], state: &mut lane.state, rows });
        }
        let mut panics = 0;
        let outcomes = step::run(&self.model, &mut parts, self.fault, &mut panics);
        drop(parts);
        self.stats.steps.add(1);
        self.stats.panics.add(panics);
        let mut outcomes = outcomes.into_iter();
        let lanes = std::mem::take(&mut self.lanes);
        for (lane, take) in lanes.into_iter().zip(taken) {
            match take.map(|take| (take, outcomes.next())) {
                None => self.lanes.push(lane),
                Some((take, Some(Ok(rows)))) => {
                    let reply = lane.reply.clone();
                    // What follows concerns this request alone.
                    if catch_unwind(AssertUnwindSafe(|| self.go_on(lane, take, rows))).is_err() {
                        self.stats.panics.add(1);
                        reply.send(Event::Failed("this request met a mistake in the engine".into()));
                        reply.give_up();
                    }
                }
                Some((_, failure)) => {
                    let reason = failure.and_then(Result::err).unwrap_or_default();
                    lane.reply.send(Event::Failed(format!("the model's step failed for this request: {reason}")));
                    lane.reply.give_up();
                }
            }
        }
    }

    /// What follows from a lane's part of a step; the lane stays if it has more to do.
    fn go_on(&mut self, mut lane: Lane, take: usize, rows: Vec<f32>) {
        if !lane.forked {
            self.stats.prompt_tokens.add(take);
            self.keep(&lane);
        }
        let width = self.model.spec().vocab_size;
        let Some(generate) = lane.generate() else {
            self.embed(lane, take, &rows);
            return;
        };
        if lane.forked {
            if lane.unread() > 0 {
                self.lanes.push(lane);
            } else {
                self.write_all(lane, &rows);
            }
            return;
        }
        if generate.score_prompt {
            let top = generate.logprobs.unwrap_or(0);
            let first = lane.read() - take;
            let next = |row: usize| lane.tokens.get(first + row + 1).copied();
            let scored =
                rows.chunks_exact(width).enumerate().filter_map(|(row, logits)| Some(score(logits, next(row)?, top)));
            let scored: Vec<_> = scored.collect();
            lane.scores.extend(scored);
        }
        if lane.unread() > 0 {
            self.lanes.push(lane);
            return;
        }
        let last = rows[rows.len() - width..].to_vec();
        self.fork(lane, &last);
    }

    /// The prompt was read: each answer becomes a lane of its own.
    fn fork(&mut self, mut lane: Lane, logits: &[f32]) {
        self.stats.cached_tokens.add(lane.cached);
        let scores = std::mem::take(&mut lane.scores);
        lane.reply.send(Event::Prompt { cached: lane.cached, scores });
        let work = Arc::clone(&lane.work);
        let Work::Generate(generate) = &*work else { return };
        if generate.limit == 0 {
            (0..generate.choices).for_each(|choice| lane.reply.send(Event::End { choice, end: End::Length }));
            return;
        }
        for choice in 1..generate.choices {
            let own = lane.fork(generate, choice, lane.state.clone());
            self.write_all(own, logits);
        }
        // The first answer goes on with the state itself, which nobody shares then unless there are others.
        let state = std::mem::replace(&mut lane.state, self.memory.state(&self.model));
        let own = lane.fork(generate, 0, state);
        self.write_all(own, logits);
    }

    /// Picks an answer's next token from each row: the first follows what is certain, each other one a guess, which must have been
    /// right.
    fn write_all(&mut self, mut lane: Lane, rows: &[f32]) {
        let guesses = lane.take_guesses();
        let guessed = guesses.len();
        self.stats.guessed_tokens.add(guessed);
        let mut right = 0;
        let stats = Arc::clone(&self.stats);
        for (index, row) in rows.chunks_exact(self.model.spec().vocab_size).enumerate() {
            if !self.write(&mut lane, row.to_vec()) {
                return;
            }
            if guesses.get(index) != lane.tokens.last() {
                break;
            }
            right += 1;
            stats.accepted_tokens.add(1);
        }
        if guessed > 0 {
            // What was read of wrong guesses is forgotten.
            let forgotten = lane.state.truncate(lane.tokens.len() - 1);
            assert!(forgotten, "guesses are read so that they can be forgotten");
            lane.patience = if right == 0 { PATIENCE } else { 0 };
        }
        self.lanes.push(lane);
    }

    /// Picks an answer's next token. False when that was its end.
    fn write(&mut self, lane: &mut Lane, mut logits: Vec<f32>) -> bool {
        if lane.gone() {
            self.stats.abandoned.add(usize::from(lane.reply.closed()));
            return false;
        }
        let work = Arc::clone(&lane.work);
        let Work::Generate(generate) = &*work else { return false };
        let choice = lane.choice;
        let raw = generate.logprobs.map(|top| (logits.clone(), top));
        if let Some(constraint) = &mut lane.constraint {
            match constraint.restrict(&mut logits) {
                Ok(Left::Tokens) => {}
                Ok(Left::Nothing) => return self.finish(lane, End::Stop),
                Err(reason) => {
                    lane.reply.send(Event::Unfollowed(reason));
                    return false;
                }
            }
        }
        let chooser = lane.chooser.as_mut().expect("a lane that writes has its chooser from the fork on");
        let id = chooser.next(&mut logits, &lane.tokens[lane.prompt..]);
        if let Some(fault) = self.fault {
            fault(&[id]);
        }
        if generate.ends.contains(&id) {
            return self.finish(lane, End::Stop);
        }
        if let Some(Err(reason)) = lane.constraint.as_mut().map(|constraint| constraint.accept(id)) {
            lane.reply.send(Event::Unfollowed(reason));
            return false;
        }
        let score = raw.map(|(logits, top)| score(&logits, id, top));
        let now = Instant::now();
        match lane.last.replace(now) {
            Some(last) => self.stats.token_gap.record(now - last),
            None => self.stats.first_token.record(now - lane.arrived),
        }
        self.stats.generated_tokens.add(1);
        lane.tokens.push(id);
        lane.reply.send(Event::Token { choice, id, score });
        let generated = lane.tokens.len() - lane.prompt;
        if generated >= generate.limit || lane.tokens.len() >= self.config.context {
            return self.finish(lane, End::Length);
        }
        true
    }

    /// Ends an answer. What it says may begin the next prompt: its keys and values are kept, as those of a prompt have the same
    /// bits; states of scans have not.
    fn finish(&mut self, lane: &mut Lane, end: End) -> bool {
        lane.reply.send(Event::End { choice: lane.choice, end });
        // Behind a wrong guess, the state may have read more than there is.
        lane.state.truncate(lane.tokens.len() - 1);
        if !self.recurrent {
            self.keep(lane);
        }
        false
    }

    /// Adds up a prompt's hidden values; their mean, at length 1, is its vector.
    fn embed(&mut self, mut lane: Lane, take: usize, rows: &[f32]) {
        let width = rows.len() / take;
        lane.sum.resize(width, 0.0);
        for row in rows.chunks_exact(width) {
            lane.sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        if lane.unread() > 0 {
            self.lanes.push(lane);
            return;
        }
        let norm = lane.sum.iter().map(|x| x * x).sum::<f64>().sqrt();
        let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        lane.reply.send(Event::Prompt { cached: 0, scores: Vec::new() });
        lane.reply.send(Event::Embedding(lane.sum.iter().map(|x| (x * scale) as f32).collect()));
    }
}
