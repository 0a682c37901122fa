//! The engine's loop.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use cupola_models::state::MixerState;
use cupola_models::{Decoder, State};

use super::choose::{Chooser, score};
use super::constraint::{Constraint, Left};
use super::job::{End, Event, Generate, Reply, Request, Work};
use super::prefix::Prefixes;
use super::step::{self, Fault, Part, Rows};
use super::{BLOCK, EngineConfig, Shared, Stats};

/// Tokens of prompts in one step while answers are written: few, so that these do not stall.
const READ_BESIDE: usize = BLOCK;
/// Tokens of prompts in one step otherwise.
const READ_ALONE: usize = 8 * BLOCK;

/// One sequence, or the prompt of several.
struct Lane {
    work: Arc<Work>,
    reply: Reply,
    /// The prompt and what was generated.
    tokens: Vec<u32>,
    /// Length of the prompt.
    prompt: usize,
    state: State,
    /// The answer's number; while the prompt is read for the first time, all answers are one lane.
    choice: usize,
    forked: bool,
    cached: usize,
    chooser: Option<Chooser>,
    constraint: Option<Constraint>,
    scores: Vec<super::Score>,
    sum: Vec<f64>,
    arrived: Instant,
    last: Option<Instant>,
}

/// What a state takes.
struct Cost {
    fixed: usize,
    token: usize,
}

pub(super) struct Worker<'a> {
    model: Decoder,
    config: EngineConfig,
    shared: &'a Shared,
    stats: Arc<Stats>,
    lanes: Vec<Lane>,
    /// Lanes put aside, the one to return first at the end.
    parked: Vec<Lane>,
    prefixes: Prefixes<State>,
    cost: Cost,
    /// Whether some state cannot be computed again from its tokens with the same bits.
    recurrent: bool,
    turn: usize,
    fault: Option<Fault>,
}

impl Lane {
    fn new(request: Request, state: State) -> Self {
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
            arrived,
            last: None,
        }
    }

    /// The lane of one answer, which goes on from this state.
    fn fork(&self, generate: &Generate, choice: usize, state: State) -> Self {
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
            arrived: self.arrived,
            last: None,
        }
    }

    fn read(&self) -> usize {
        self.state.position()
    }

    fn unread(&self) -> usize {
        self.tokens.len() - self.read()
    }

    /// True when an answer is being written, token by token.
    fn writes(&self) -> bool {
        self.forked && self.unread() == 1
    }

    fn generate(&self) -> Option<&Generate> {
        match &*self.work {
            Work::Generate(generate) => Some(generate),
            Work::Embed => None,
        }
    }

    /// Sequences that this lane is or becomes.
    fn weight(&self) -> usize {
        if self.forked { 1 } else { self.generate().map_or(1, |g| g.choices) }
    }

    /// Whether states of other prompts may stand for a part of this one.
    fn shares(&self) -> bool {
        !self.forked && self.generate().is_some_and(|g| !g.score_prompt)
    }

    fn rows(&self, take: usize) -> Rows {
        match self.generate() {
            None => Rows::Hidden,
            Some(generate) if generate.score_prompt && !self.forked => Rows::All,
            Some(_) if take == self.unread() => Rows::Last,
            Some(_) => Rows::None,
        }
    }

    fn gone(&self) -> bool {
        if self.forked { self.reply.gone(self.choice) } else { self.reply.abandoned() }
    }
}

/// Equal beginnings have equal numbers. Two others that share one by chance are read one after the other, and nothing else.
fn hash(tokens: &[u32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    tokens.hash(&mut hasher);
    hasher.finish()
}

/// A part of the next step.
struct Plan {
    lane: usize,
    take: usize,
}

impl<'a> Worker<'a> {
    pub(super) fn new(model: Decoder, config: EngineConfig, shared: &'a Shared) -> Self {
        let recurrent = model.state().layers().iter().any(|layer| !matches!(layer, MixerState::KeyValue(_)));
        let mut worker = Self {
            lanes: Vec::new(),
            parked: Vec::new(),
            prefixes: Prefixes::new(),
            cost: Cost { fixed: 0, token: 0 },
            stats: Arc::clone(&shared.stats),
            fault: shared.fault(),
            recurrent,
            turn: 0,
            model,
            config,
            shared,
        };
        worker.measure();
        worker
    }

    /// What a state takes, from a sequence of one token and one of two. Also packs the weights, before anybody waits for it.
    fn measure(&mut self) {
        let mut state = self.model.state();
        let mut bytes = [0; 2];
        for bytes in &mut bytes {
            let mut part = [Part { tokens: &[0], state: &mut state, rows: Rows::Last }];
            step::run(&self.model, &mut part, None, &mut 0);
            *bytes = state.bytes();
        }
        let token = bytes[1].saturating_sub(bytes[0]);
        self.cost = Cost { fixed: bytes[0].saturating_sub(token), token };
    }

    fn cost(&self, tokens: usize) -> usize {
        self.cost.fixed.saturating_add(self.cost.token.saturating_mul(tokens))
    }

    /// Works until the engine is closed.
    pub(super) fn run(mut self) {
        while self.wait() {
            self.forget_the_gone();
            self.make_room();
            self.admit();
            self.step();
        }
    }

    /// Waits for something to do. False when the engine is closed.
    fn wait(&self) -> bool {
        let mut queue = self.shared.queue();
        loop {
            if queue.closed {
                return false;
            }
            if !(queue.waiting.is_empty() && self.lanes.is_empty() && self.parked.is_empty()) {
                return true;
            }
            self.stats.running.set(0);
            self.stats.state_bytes.set(0);
            queue = self.shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn forget_the_gone(&mut self) {
        let before = self.lanes.len() + self.parked.len();
        self.lanes.retain(|lane| !lane.gone());
        self.parked.retain(|lane| !lane.gone());
        let mut queue = self.shared.queue();
        let waited = queue.waiting.len();
        queue.waiting.retain(|request| !request.reply.abandoned());
        let gone = before + waited - self.lanes.len() - self.parked.len() - queue.waiting.len();
        self.stats.abandoned.add(gone);
        self.stats.waiting.set(queue.waiting.len());
    }

    fn state_bytes(&self) -> usize {
        self.lanes.iter().chain(&self.parked).map(|lane| lane.state.bytes()).sum()
    }

    /// Keeps states within the memory they may take: snapshots go first, then the lane that came last is put aside.
    fn make_room(&mut self) {
        let most = self.config.cache_bytes;
        let mut bytes = self.state_bytes();
        self.prefixes.shrink(most.saturating_sub(bytes));
        while bytes > most && self.lanes.len() > 1 {
            let Some(mut lane) = self.lanes.pop() else { break };
            self.stats.preempted.add(1);
            if self.recurrent {
                // Its state cannot be computed again; it waits as it is, and grows no further.
                self.parked.push(lane);
                break;
            }
            bytes -= lane.state.bytes();
            lane.state = self.model.state();
            self.parked.push(lane);
        }
        self.stats.state_bytes.set(bytes);
        self.stats.prefix_bytes.set(self.prefixes.bytes());
    }

    fn admit(&mut self) {
        let most = self.config.cache_bytes;
        let mut bytes = self.state_bytes();
        while let Some(lane) = self.parked.last() {
            let more = self.cost(lane.tokens.len() + BLOCK).saturating_sub(lane.state.bytes());
            if !self.lanes.is_empty() && bytes.saturating_add(more) > most {
                return;
            }
            bytes += more;
            self.lanes.extend(self.parked.pop());
        }
        let mut queue = self.shared.queue();
        while let Some(request) = queue.waiting.front() {
            let choices = match &request.job.work {
                Work::Generate(generate) => generate.choices,
                Work::Embed => 1,
            };
            let running: usize = self.lanes.iter().map(Lane::weight).sum();
            let more = self.cost(request.job.prompt.len() + BLOCK);
            let fits = running + choices <= self.config.max_concurrent && bytes.saturating_add(more) <= most;
            if !self.lanes.is_empty() && !fits {
                break;
            }
            let Some(request) = queue.waiting.pop_front() else { break };
            bytes += more;
            self.stats.queued.record(request.arrived.elapsed());
            self.lanes.push(Lane::new(request, self.model.state()));
        }
        self.stats.waiting.set(queue.waiting.len());
        self.stats.running.set(self.lanes.iter().map(Lane::weight).sum());
    }

    /// What the next step does: every answer's next token, and parts of prompts, in turn.
    fn plan(&mut self) -> Vec<Plan> {
        let writers = (0..self.lanes.len()).filter(|&i| self.lanes[i].writes());
        let mut plans: Vec<Plan> = writers.map(|lane| Plan { lane, take: 1 }).collect();
        let mut left = if plans.is_empty() { READ_ALONE } else { READ_BESIDE };
        let mut readers: Vec<usize> = (0..self.lanes.len()).filter(|&i| !self.lanes[i].writes()).collect();
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

    /// Takes over what was read of the same beginning before.
    fn jump(&mut self, index: usize) {
        let lane = &self.lanes[index];
        if !lane.shares() || !lane.read().is_multiple_of(BLOCK) {
            return;
        }
        if let Some((state, length)) = self.prefixes.longest(&lane.tokens)
            && length > lane.read()
        {
            let lane = &mut self.lanes[index];
            lane.cached += length - lane.read();
            lane.state = state;
        }
    }

    fn step(&mut self) {
        let plans = self.plan();
        if plans.is_empty() {
            return;
        }
        let mut taken: Vec<Option<usize>> = vec![None; self.lanes.len()];
        plans.iter().for_each(|plan| taken[plan.lane] = Some(plan.take));
        let mut parts = Vec::with_capacity(plans.len());
        for (lane, take) in self.lanes.iter_mut().zip(&taken) {
            let Some(take) = *take else { continue };
            let (read, rows) = (lane.read(), lane.rows(take));
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
                Some((take, Some(Ok(rows)))) => self.go_on(lane, take, rows),
                Some((_, failure)) => {
                    let reason = failure.and_then(Result::err).unwrap_or_default();
                    lane.reply.send(Event::Failed(format!("the model's step failed for this request: {reason}")));
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
                self.write(lane, rows);
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

    /// Keeps the state behind a block of a prompt for those that begin alike.
    fn keep(&mut self, lane: &Lane) {
        let read = lane.read();
        if read == 0 || !read.is_multiple_of(BLOCK) || self.config.cache_bytes == 0 {
            return;
        }
        let tokens = &lane.tokens[..read];
        if !self.prefixes.contains(tokens) {
            self.prefixes.insert(tokens, lane.state.clone(), lane.state.bytes());
        }
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
            self.write(lane.fork(generate, choice, lane.state.clone()), logits.to_vec());
        }
        // The first answer goes on with the state itself, which nobody shares then unless there are others.
        let state = std::mem::replace(&mut lane.state, self.model.state());
        self.write(lane.fork(generate, 0, state), logits.to_vec());
    }

    /// Picks an answer's next token.
    fn write(&mut self, mut lane: Lane, mut logits: Vec<f32>) {
        if lane.gone() {
            return;
        }
        let work = Arc::clone(&lane.work);
        let Work::Generate(generate) = &*work else { return };
        let choice = lane.choice;
        let raw = generate.logprobs.map(|top| (logits.clone(), top));
        let finish = |lane: &Lane, end: End| lane.reply.send(Event::End { choice, end });
        if let Some(constraint) = &mut lane.constraint {
            match constraint.restrict(&mut logits) {
                Ok(Left::Tokens) => {}
                Ok(Left::Nothing) => return finish(&lane, End::Stop),
                Err(reason) => {
                    lane.reply.send(Event::Failed(format!("the answer's form cannot be followed: {reason}")));
                    return;
                }
            }
        }
        let chooser = lane.chooser.as_mut().expect("a lane that writes has its chooser from the fork on");
        let id = chooser.next(&mut logits, &lane.tokens[lane.prompt..]);
        if generate.ends.contains(&id) {
            return finish(&lane, End::Stop);
        }
        if let Some(Err(reason)) = lane.constraint.as_mut().map(|constraint| constraint.accept(id)) {
            lane.reply.send(Event::Failed(format!("the answer's form cannot be followed: {reason}")));
            return;
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
            return finish(&lane, End::Length);
        }
        self.lanes.push(lane);
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
