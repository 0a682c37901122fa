//! From pieces to ids: what is known of short pieces, and the way to merging for the others.

use super::block::{Block, PIECES};
use super::cache::MAX_LONG;
use super::cuts::{self, Cuts};
use super::greedy::{self, Reader};
use super::rules::{Concat, Remembered};
use super::tables::Tables;
use super::{Alphabet, Bpe, MARKER, RuleSet, char_len};
use crate::error::Result;
use crate::hash;
use crate::key::{self, Key};
use crate::model::{Scratch, Sink};
use crate::vocab::NONE;
use std::sync::Arc;

impl Bpe {
    /// Whether pieces are looked up in the caches before anything else is asked of them, so that [`Bpe::encode_borders`] serves.
    #[inline]
    pub(crate) fn looks_up_first<S: Sink>(&self, scratch: &Scratch) -> bool {
        !S::RANGES && self.frozen.is_none() && !self.cut_at_marker && scratch.dropout.is_none()
    }

    /// Encodes the pieces of the text between `from` and each of the borders `base + ends`. This is the loop that decides the speed
    /// on ordinary text: while a block of pieces is read, the one before it is looked up, and the one before that given out.
    #[inline]
    pub(crate) fn encode_borders<S: Sink>(
        &self,
        text: &[u8],
        from: usize,
        (base, ends): (usize, &[u32]),
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        scratch.cache.prepare();
        let start = |piece: usize| if piece == 0 { from } else { base + ends[piece - 1] as usize };
        let mut blocks = scratch.blocks.pop().unwrap_or_default();
        let mut done = Ok(());
        let number = ends.len().div_ceil(PIECES);
        let [reading, looking, giving] = &mut *blocks;
        let mut stages = [giving, looking, reading];
        for step in 0..number + 2 {
            let [oldest, middle, newest] = stages;
            stages = [middle, newest, oldest];
            let [giving, looking, reading] = &mut stages;
            let first = step * PIECES;
            if step < number {
                let ends = &ends[first..ends.len().min(first + PIECES)];
                reading.read(text, start(first), (base, ends), &scratch.cache);
            }
            if (1..=number).contains(&step) {
                looking.look_up(&scratch.cache);
                if self.plain {
                    looking.missed_hashes().for_each(|hash| self.vocab.fetch(hash));
                }
            }
            if step >= 2 && done.is_ok() {
                done = self.give(text, giving, |piece| start(first + piece - 2 * PIECES), scratch, sink);
            }
        }
        scratch.blocks.push(blocks);
        done
    }

    /// Gives out the ids of a block.
    #[inline]
    fn give<S: Sink>(
        &self,
        text: &[u8],
        block: &Block,
        start: impl Fn(usize) -> usize,
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        for which in 0..block.misses() {
            let (piece, known) = block.missed(which, sink);
            if self.plain
                && let Some(id) = self.vocab.id_at_home(known.0, known.1)
            {
                scratch.cache.insert_token(known.0, known.1, id);
                sink.token(id, 0, 0);
                continue;
            }
            self.encode_missed(text, (start(piece), start(piece + 1)), known, scratch, sink)?;
        }
        block.rest(sink);
        Ok(())
    }

    /// A piece that has not been found at first sight, with its key, if it has one.
    #[inline(never)]
    fn encode_missed<S: Sink>(
        &self,
        text: &[u8],
        (start, end): (usize, usize),
        (key, hash): (Key, u64),
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        let len = end - start;
        if len > MAX_LONG {
            return self.encode_uncached(text, start, end, scratch, sink);
        }
        if len > key::LONGEST {
            return self.encode_remembered(text, start, end, scratch, sink);
        }
        if len == 0 {
            return Ok(());
        }
        // It may have come in the meantime, or has many ids, or is where it had to give way to others.
        if let Some(ids) = scratch.cache.find(key, hash) {
            sink.ids(ids);
            return Ok(());
        }
        let keep = |scratch: &mut Scratch, ids: &[u32]| scratch.cache.insert(key, hash, ids);
        if !self.plain {
            return self.encode_new(text, start, end, scratch, sink, keep);
        }
        // Most pieces that are no token are known by the filter, which is nearer than the table.
        if self.vocab.may_have(hash)
            && let Some(id) = self.vocab.id_of_key(key, hash)
        {
            keep(scratch, &[id]);
            sink.token(id, start, end);
            return Ok(());
        }
        if let Some(cuts) = self.cuts(&text[start..end], scratch) {
            let cut = cuts.next(text, [start, start, end]);
            if cut < end {
                return if scratch.seen.note(hash) {
                    self.encode_new(text, start, end, scratch, sink, keep)
                } else {
                    self.encode_islands(text, (start, cut, end), scratch, sink)
                };
            }
        }
        let tokens = scratch.short.merge(self.known(), key);
        keep(scratch, tokens.ids());
        sink.ids(tokens.ids());
        Ok(())
    }

    /// A piece for the cache of long ones; on its own, so that the way of the short ones stays short.
    #[inline(never)]
    fn encode_remembered<S: Sink>(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        let piece = &text[start..end];
        let hash = hash::bytes(piece);
        if let Some(ids) = scratch.long.get(piece, hash) {
            sink.ids(ids);
            return Ok(());
        }
        if let Some(cuts) = self.cuts(piece, scratch) {
            let cut = cuts.next(text, [start, start, end]);
            if cut < end && !scratch.seen.note(hash) {
                return self.encode_islands(text, (start, cut, end), scratch, sink);
            }
        }
        let keep = |scratch: &mut Scratch, ids: &[u32]| scratch.long.insert(piece, hash, ids, text.len());
        self.encode_new(text, start, end, scratch, sink, keep)
    }

    /// Encodes `text[start..end]`. A model over characters expects UTF-8 there; one over bytes takes anything.
    #[inline]
    pub(crate) fn encode_piece<S: Sink>(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        let Some(frozen) = &self.frozen else {
            return self.encode_words(text, start, end, scratch, sink);
        };
        let mut from = start;
        let mut at = start;
        while at < end {
            if let Some((len, id)) = frozen.longest(&text[at..end]) {
                self.encode_words(text, from, at, scratch, sink)?;
                sink.token(id, at, at + len);
                at += len;
                from = at;
            } else {
                at += char_len(text[at]);
            }
        }
        self.encode_words(text, from, end, scratch, sink)
    }

    /// Encodes text without frozen pieces.
    #[inline]
    fn encode_words<S: Sink>(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        if !self.cut_at_marker {
            return self.encode_word(text, start, end, scratch, sink);
        }
        let mark = MARKER.as_bytes();
        let mut from = start;
        let mut at = start;
        while at < end {
            let in_mark = text[at..end].starts_with(mark);
            if in_mark && at > from && !text[from..at].ends_with(mark) {
                self.encode_word(text, from, at, scratch, sink)?;
                from = at;
                if sink.full() {
                    return Ok(());
                }
            }
            at += if in_mark { mark.len() } else { 1 };
        }
        self.encode_word(text, from, end, scratch, sink)
    }

    #[inline(always)]
    fn encode_word<S: Sink>(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        let len = end - start;
        if len == 0 {
            return Ok(());
        }
        let cached = len <= key::LONGEST && !S::RANGES && scratch.dropout.is_none();
        if !cached {
            return self.encode_uncached(text, start, end, scratch, sink);
        }
        scratch.cache.prepare();
        let key = key::of_part(text, start, len);
        self.encode_missed(text, (start, end), (key, key::hash_of(key)), scratch, sink)
    }

    /// The table of cuts, for pieces that may have some, as soon as it is worth its while.
    #[inline]
    fn cuts(&self, piece: &[u8], scratch: &mut Scratch) -> Option<&Cuts> {
        if !self.plain || !is_wide(piece) {
            return None;
        }
        if self.cuts.get().is_none() && piece.len() < cuts::AT_ONCE && scratch.uncut < cuts::PATIENCE {
            scratch.uncut += 1;
            return None;
        }
        Some(&**self.cuts.get_or_init(|| Arc::new(Cuts::new(&self.vocab))))
    }

    /// A piece with cuts, the first of which is known: what lies between them is encoded as pieces are.
    #[inline(never)]
    fn encode_islands<S: Sink>(
        &self,
        text: &[u8],
        (start, cut, end): (usize, usize, usize),
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        let Some(cuts) = self.cuts.get() else {
            return self.encode_uncut(text, start, end, scratch, sink);
        };
        let (mut from, mut at) = (start, cut);
        let mut ends = [0; PIECES];
        while from < end {
            let first = from;
            let mut n = 0;
            while n < PIECES && from < end {
                (ends[n], from) = ((at - first) as u32, at);
                n += 1;
                if at < end {
                    at = cuts.next(text, [start, at, end]);
                }
            }
            if !S::RANGES {
                self.encode_borders(text, first, (first, &ends[..n]), scratch, sink)?;
                continue;
            }
            let mut begin = first;
            for &end in &ends[..n] {
                let end = first + end as usize;
                match self.vocab.id(&text[begin..end]) {
                    Some(id) => sink.token(id, begin, end),
                    None => self.encode_uncut(text, begin, end, scratch, sink)?,
                }
                begin = end;
            }
        }
        Ok(())
    }

    /// A piece that is not a token, without a look at its cuts and without a cache.
    fn encode_uncut<S: Sink>(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        let piece = &text[start..end];
        if !self.plain || scratch.dropout.is_some() || piece.len() > key::LONGEST {
            return self.encode_merged(piece, start, scratch, sink);
        }
        let tokens = scratch.short.merge(self.known(), key::of_part(text, start, piece.len()));
        let (mut places, mut at) = (tokens.places >> 1, start);
        for &id in tokens.ids() {
            let len = 1 + places.trailing_zeros() as usize;
            sink.token(id, at, at + len);
            (places, at) = (places >> len, at + len);
        }
        Ok(())
    }

    /// A piece that no cache knows, and that `keep` puts into one.
    #[inline]
    fn encode_new<S: Sink>(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        scratch: &mut Scratch,
        sink: &mut S,
        keep: impl FnOnce(&mut Scratch, &[u32]),
    ) -> Result<()> {
        let mut ids = std::mem::take(&mut scratch.ids);
        ids.clear();
        let done = self.encode_uncached(text, start, end, scratch, &mut ids);
        if done.is_ok() {
            keep(scratch, &ids);
            sink.ids(&ids);
        }
        scratch.ids = ids;
        done
    }

    #[inline(never)]
    fn encode_uncached<S: Sink>(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        let piece = &text[start..end];
        if self.whole_first
            && scratch.dropout.is_none()
            && let Some(id) = self.whole(piece)
        {
            sink.token(id, start, end);
            return Ok(());
        }
        if scratch.dropout.is_none()
            && let Some(cuts) = self.cuts(piece, scratch)
        {
            let cut = cuts.next(text, [start, start, end]);
            if cut < end {
                return self.encode_islands(text, (start, cut, end), scratch, sink);
            }
        }
        self.encode_uncut(text, start, end, scratch, sink)
    }

    /// A piece that is not taken as a whole: read token by token, or merged.
    fn encode_merged<S: Sink>(&self, piece: &[u8], start: usize, scratch: &mut Scratch, sink: &mut S) -> Result<()> {
        if self.read_long(piece, scratch) {
            return self.emit(piece, start, &scratch.merge.symbols, sink);
        }
        self.fill_symbols(piece, &mut scratch.merge.symbols);
        match &self.rules {
            RuleSet::Pairs(rules) => Self::merge(rules, piece, &mut scratch.merge, &mut scratch.dropout),
            RuleSet::Concat(rules) => {
                let rules = Concat { rules, vocab: &self.vocab };
                if scratch.pairs.serves(self.vocab.id_bound()) {
                    let rules = Remembered { rules, pairs: &scratch.pairs };
                    Self::merge(&rules, piece, &mut scratch.merge, &mut scratch.dropout);
                } else {
                    Self::merge(&rules, piece, &mut scratch.merge, &mut scratch.dropout);
                }
            }
        }
        self.emit(piece, start, &scratch.merge.symbols, sink)
    }

    /// Reads the tokens of a long piece into `scratch.merge.symbols`; false when that has to be left to the merge loop.
    fn read_long(&self, piece: &[u8], scratch: &mut Scratch) -> bool {
        let plain = self.alphabet == Alphabet::Bytes && self.prefix.is_empty() && self.suffix.is_empty();
        if piece.len() < greedy::LEAST
            || self.vocab.longest() > greedy::LONGEST
            || !plain
            || scratch.dropout.is_some()
            || !scratch.pairs.serves(self.vocab.id_bound())
            || self.bytes.contains(&NONE)
        {
            return false;
        }
        if self.tables.get().is_none() && piece.len() < greedy::AT_ONCE && scratch.unread < greedy::PATIENCE {
            scratch.unread += 1;
            return false;
        }
        let tables = &**self.tables.get_or_init(|| Arc::new(Tables::new(&self.vocab)));
        let (vocab, bytes) = (&self.vocab, &*self.bytes);
        let Scratch { merge, greedy, pairs, .. } = scratch;
        match &self.rules {
            RuleSet::Pairs(rules) => {
                Reader { rules, vocab, bytes, tables, first: None }.read(piece, &mut merge.symbols, greedy)
            }
            RuleSet::Concat(concat) => {
                let rules = &Remembered { rules: Concat { rules: concat, vocab }, pairs };
                let first = self.plain.then_some(&concat.first[..]);
                Reader { rules, vocab, bytes, tables, first }.read(piece, &mut merge.symbols, greedy)
            }
        }
    }
}

/// Whether characters of several bytes begin inside of a piece.
#[inline]
fn is_wide(piece: &[u8]) -> bool {
    !piece.is_ascii() && piece.iter().skip(1).any(|&byte| byte >= 0xC0)
}
