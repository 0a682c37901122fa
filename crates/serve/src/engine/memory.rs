//! Who gets pages, who waits for them, and what goes first.
//!
//! A request is let in when the pages free now, and those that only the prompts read before hold, suffice for its prompt and a
//! little more beside what the others still need. Before each step every sequence of it takes its pages. Where there are none, what was
//! read before goes first, then guesses, then the sequence that came last is put aside: keys and values are computed
//! again when it returns, with the same bits; scans cannot be, so that a sequence with scans waits as it is. One that is
//! alone goes beyond the bound, so that something always gets done.

use cupola_models::state::{MixerState, PAGE, PagePool, Stretch};
use cupola_models::{Decoder, State};

use super::job::Work;
use super::lane::Lane;
use super::prefix::{Kept, Prefixes};
use super::step::{self, Part, Rows};
use super::worker::{Plan, Worker};
use super::{BLOCK, EngineConfig};

/// The pool, what was read before, and what a sequence takes.
pub(super) struct Memory {
    pool: PagePool,
    prefixes: Prefixes<Stretch>,
    /// Bytes of a sequence whatever its length.
    fixed: usize,
    /// Bytes of a page of tokens in all layers.
    page: usize,
    /// Layers that have pages.
    layers: usize,
}

impl Memory {
    /// Measures what a state takes, on a sequence of a few tokens. Also packs the weights, before anybody waits for it.
    ///
    /// # Errors
    /// When the model cannot read even a few tokens.
    pub(super) fn new(model: &Decoder, config: &EngineConfig) -> Result<Self, String> {
        let tokens = [0; 16];
        let mut state = model.state();
        let tokens = &tokens[..config.context.min(tokens.len())];
        let mut part = [Part { tokens, state: &mut state, rows: Rows::Last }];
        step::run(model, &mut part, None, &mut 0).into_iter().collect::<Result<Vec<_>, _>>()?;
        let pool = PagePool::bounded(config.cache_bytes);
        let mut memory = Self { pool, prefixes: Prefixes::new(), fixed: 0, page: 0, layers: 0 };
        for layer in state.layers() {
            match layer {
                MixerState::KeyValue(all) => {
                    memory.page += all.layout().page_bytes();
                    memory.layers += 1;
                }
                layer => memory.fixed += layer.bytes(),
            }
        }
        Ok(memory)
    }

    /// The state of a sequence that has not begun.
    pub(super) fn state(&self, model: &Decoder) -> State {
        model.state_in(&self.pool)
    }

    /// Forgets what was read before.
    pub(super) fn forget(&mut self) {
        while self.prefixes.drop_oldest() {}
        self.pool.trim();
    }

    /// Bytes of `choices` answers to a prompt, each with a page for what it begins with.
    fn cost(&self, prompt: usize, choices: usize) -> usize {
        let pages = prompt.div_ceil(PAGE).saturating_add(choices);
        self.fixed.saturating_mul(choices).saturating_add(self.page.saturating_mul(pages))
    }

    /// Whether so many bytes can be handed out, after what was read before has made room for them if need be.
    fn fits(&mut self, bytes: usize) -> bool {
        let room = self.pool.room();
        if bytes > room && bytes <= room.saturating_add(self.prefixes.sum(Stretch::bytes_alone)) {
            while bytes > self.pool.room() && self.prefixes.drop_oldest() {}
        }
        bytes <= self.pool.room()
    }

    fn is_beyond(&self) -> bool {
        self.pool.limit().is_some_and(|limit| self.pool.usage().bytes > limit)
    }
}

/// What a lane still needs for its prompt and what it begins to write.
fn missing(lane: &Lane) -> usize {
    lane.state.missing(lane.unread() + BLOCK)
}

impl Worker<'_> {
    /// Lets in who there is room for: first those that were put aside, then those that wait, in order.
    pub(super) fn admit(&mut self) {
        let mut promised: usize = self.lanes.iter().map(missing).sum();
        while let Some(lane) = self.parked.last() {
            let more = missing(lane);
            if !self.lanes.is_empty() && !self.memory.fits(promised.saturating_add(more)) {
                return;
            }
            promised += more;
            self.lanes.extend(self.parked.pop());
        }
        let shared = self.shared;
        let mut queue = shared.queue();
        while let Some(request) = queue.waiting.front() {
            let choices = request.job.choices();
            let reads_all = match &request.job.work {
                Work::Generate(generate) => generate.score_prompt,
                Work::Embed => true,
            };
            let known = if reads_all { 0 } else { self.memory.prefixes.depth(&request.job.prompt) };
            let more = self.memory.cost(request.job.prompt.len(), choices);
            let more = promised.saturating_add(more.saturating_sub(known * self.memory.page));
            let running: usize = self.lanes.iter().map(Lane::weight).sum();
            let fits = running + choices <= self.config.max_concurrent && self.memory.fits(more);
            if !self.lanes.is_empty() && !fits {
                break;
            }
            let Some(request) = queue.waiting.pop() else { break };
            // What the new state has from the start is in use from here on.
            promised = more.saturating_sub(self.memory.fixed);
            self.stats.queued.record(request.arrived.elapsed());
            self.lanes.push(Lane::new(request, self.memory.state(&self.model)));
        }
        self.stats.waiting.set(queue.waiting.len());
        if !self.lanes.is_empty() {
            self.stats.running.set(self.lanes.iter().map(Lane::weight).sum());
        }
    }

    /// Takes the pages for a step, and leaves out of it whom there are none for.
    pub(super) fn secure(&mut self, mut plans: Vec<Plan>) -> Vec<Plan> {
        while self.memory.is_beyond() && self.memory.prefixes.drop_oldest() {}
        let mut index = 0;
        while let Some(plan) = plans.get_mut(index) {
            let lane = &mut self.lanes[plan.lane];
            if lane.state.reserve(plan.take).is_ok() {
                index += 1;
            } else if self.memory.prefixes.drop_oldest() {
                // There may be room now.
            } else if lane.guessed > 0 {
                plan.take -= lane.take_guesses().len();
            } else if self.lanes.len() == 1 {
                self.lanes[0].state.reserve_beyond(plan.take);
            } else {
                let last = if self.recurrent { plan.lane } else { self.lanes.len() - 1 };
                self.put_aside(last);
                plans.retain(|plan| plan.lane != last);
                plans.iter_mut().filter(|plan| plan.lane > last).for_each(|plan| plan.lane -= 1);
                // Who has its pages asks for none again.
                index = 0;
            }
        }
        plans
    }

    fn put_aside(&mut self, index: usize) {
        let mut lane = self.lanes.remove(index);
        lane.take_guesses();
        self.stats.preempted.add(1);
        if !self.recurrent {
            // What was added up of a prompt begins anew with it.
            lane.state = self.memory.state(&self.model);
            lane.scores.clear();
            lane.sum.clear();
            lane.cached = 0;
        } else {
            lane.state.separate();
        }
        self.parked.push(lane);
    }

    /// Takes over what was read of the same beginning before.
    pub(super) fn jump(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        let read = lane.read();
        if !lane.shares() || !read.is_multiple_of(BLOCK) || self.config.cache_bytes == 0 {
            return;
        }
        let known = self.memory.prefixes.find(&lane.tokens, read / BLOCK);
        lane.state.resume(&known);
        lane.cached += lane.read() - read;
    }

    /// Keeps what was read for sequences that begin alike. Scans are kept as they were behind each block of a prompt.
    pub(super) fn keep(&mut self, lane: &Lane) {
        let end = lane.read() / BLOCK * BLOCK;
        if end == 0 || self.config.cache_bytes == 0 || self.recurrent && end != lane.read() {
            return;
        }
        self.memory.prefixes.insert(&lane.tokens[..end], |end| {
            let value = lane.state.stretch(end)?;
            Some(Kept { bytes: value.bytes(), resumable: value.is_resumable(), value })
        });
    }

    /// Writes down what is in use.
    pub(super) fn account(&self) {
        let (memory, stats) = (&self.memory, &self.stats);
        stats.state_bytes.set(self.lanes.iter().chain(&self.parked).map(|lane| lane.state.bytes()).sum());
        stats.prefix_bytes.set(memory.prefixes.bytes());
        stats.pages_used.set(memory.pool.usage().pages);
        let pages = memory.pool.room().saturating_mul(memory.layers).checked_div(memory.page);
        stats.pages_free.set(pages.unwrap_or(0));
        // Last: when nothing runs, the other numbers are those of nothing.
        stats.running.set(self.lanes.iter().map(Lane::weight).sum());
    }
}
