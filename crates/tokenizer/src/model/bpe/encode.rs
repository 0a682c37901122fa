//! From pieces to ids: what is known of short pieces, and the way to merging for the others.

use super::cache::{self, INLINE, MAX_LONG, MAX_PIECE};
use super::greedy::{self, Reader};
use super::rules::{Concat, Remembered};
use super::tables::Tables;
use super::{Alphabet, Bpe, MARKER, RuleSet, char_len};
use crate::error::Result;
use crate::model::{Scratch, Sink};
use crate::vocab::NONE;
use std::sync::Arc;

/// Pieces whose keys are worked out before the first of them is looked up.
const AHEAD: usize = 16;

impl Bpe {
    /// Whether pieces are looked up in the caches before anything else is asked of them, so that [`Bpe::encode_borders`] serves.
    #[inline]
    pub(crate) fn looks_up_first<S: Sink>(&self, scratch: &Scratch) -> bool {
        !S::RANGES && self.frozen.is_none() && !self.cut_at_marker && scratch.dropout.is_none()
    }

    /// Encodes the pieces of the text between `from` and each of the borders `base + ends`.
    #[inline]
    pub(crate) fn encode_borders<S: Sink>(
        &self,
        text: &[u8],
        from: usize,
        (base, ends): (usize, &[u32]),
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        let mut start = from;
        // The loops that decide the speed on ordinary text: for most pieces one look-up, whose ids are copied without a
        // branch for how many there are. In long texts keys come first, so that memory is on its way.
        scratch.cache.prepare();
        if ends.len() < 4 * AHEAD {
            for &end in ends {
                let end = base + end as usize;
                self.encode_keyed(text, start, end, cache::key_of(text, start, end), scratch, sink)?;
                start = end;
            }
            return Ok(());
        }
        for ends in ends.chunks(AHEAD) {
            let mut keys = [([0; 2], 0); AHEAD];
            let mut at = start;
            for (slot, &end) in keys.iter_mut().zip(ends) {
                let end = base + end as usize;
                *slot = cache::key_of(text, at, end);
                scratch.cache.fetch(slot.1);
                at = end;
            }
            for (&key, &end) in keys.iter().zip(ends) {
                let end = base + end as usize;
                self.encode_keyed(text, start, end, key, scratch, sink)?;
                start = end;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn encode_keyed<S: Sink>(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        (key, hash): (cache::Key, u64),
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        match scratch.cache.find(key, hash) {
            // A piece without a key is found in empty entries.
            Some(entry) if key[1] != 0 && entry.n as usize <= INLINE => {
                sink.few(&entry.ids, entry.n as usize);
                Ok(())
            }
            _ => self.encode_unknown(text, start, end, scratch, sink),
        }
    }

    /// A piece that has not been found at first sight.
    #[inline(never)]
    fn encode_unknown<S: Sink>(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        match end - start {
            0 => Ok(()),
            len if len <= MAX_PIECE => self.encode_short(text, start, end, scratch, sink),
            len if len <= MAX_LONG => self.encode_remembered(text, start, end, scratch, sink),
            _ => self.encode_uncached(text, start, end, scratch, sink),
        }
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
        if let Some(ids) = scratch.long.get(piece) {
            sink.ids(ids);
            return Ok(());
        }
        self.encode_new(text, start, end, scratch, sink, |scratch, ids| scratch.long.insert(piece, ids, text.len()))
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
        let cached = len <= MAX_PIECE && !S::RANGES && scratch.dropout.is_none();
        if !cached {
            return self.encode_uncached(text, start, end, scratch, sink);
        }
        self.encode_short(text, start, end, scratch, sink)
    }

    /// A piece that has a key.
    #[inline]
    fn encode_short<S: Sink>(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        let key = cache::key(text, start, end - start);
        let hash = cache::hash_of(key);
        scratch.cache.prepare();
        if let Some(entry) = scratch.cache.find(key, hash).or_else(|| scratch.cache.find_moved(key, hash)) {
            sink.ids(scratch.cache.ids(entry));
            return Ok(());
        }
        self.encode_new(text, start, end, scratch, sink, |scratch, ids| scratch.cache.insert(key, hash, ids))
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
        let wide = |end: Option<&u8>| end.is_some_and(|byte| *byte >= 0x80);
        let least = if wide(piece.first()) || wide(piece.last()) { greedy::LEAST_WIDE } else { greedy::LEAST };
        if piece.len() < least
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
                Reader { rules, vocab, bytes, tables, by_id: false }.read(piece, &mut merge.symbols, greedy)
            }
            RuleSet::Concat(concat) => {
                let rules = &Remembered { rules: Concat { rules: concat, vocab }, pairs };
                let by_id = concat.is_by_id();
                Reader { rules, vocab, bytes, tables, by_id }.read(piece, &mut merge.symbols, greedy)
            }
        }
    }
}
