//! From pieces to ids: what is known of short pieces, and the way to merging for the others.

use super::cache::{INLINE, MAX_LONG};
use super::cuts::{self, Cuts};
use super::greedy::{self, Reader};
use super::rules::{Concat, Remembered};
use super::tables::Tables;
use super::{Alphabet, Bpe, MARKER, RuleSet, char_len};
use crate::error::Result;
use crate::key::{self, Key};
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
        scratch.cache.prepare();
        if self.plain {
            return self.encode_tokens(text, from, (base, ends), scratch, sink);
        }
        let mut start = from;
        // For most pieces one look-up, whose ids are copied without a branch for how many there are. In long texts keys come
        // first, so that memory is on its way.
        if ends.len() < 4 * AHEAD {
            for &end in ends {
                let end = base + end as usize;
                self.encode_keyed(text, start, end, key::with_hash(text, start, end), scratch, sink)?;
                start = end;
            }
            return Ok(());
        }
        for ends in ends.chunks(AHEAD) {
            let mut keys = [([0; 2], 0); AHEAD];
            let mut at = start;
            for (slot, &end) in keys.iter_mut().zip(ends) {
                let end = base + end as usize;
                *slot = key::with_hash(text, at, end);
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

    /// The loop that decides the speed on ordinary text, for a plain model: most pieces are tokens and are found in the table of
    /// the vocabulary, several at a time without a branch between them.
    #[inline]
    fn encode_tokens<S: Sink>(
        &self,
        text: &[u8],
        from: usize,
        (base, ends): (usize, &[u32]),
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        let mut start = from;
        for ends in ends.chunks(AHEAD) {
            let mut keys = [([0; 2], 0); AHEAD];
            let mut at = start;
            for (slot, &end) in keys.iter_mut().zip(ends) {
                let end = base + end as usize;
                let (key, hash) = key::with_hash(text, at, end);
                *slot = (key, self.vocab.fetch(hash));
                at = end;
            }
            let (mut ids, mut others) = ([0; 2 * AHEAD], 0u32);
            for (i, &(key, home)) in keys[..ends.len()].iter().enumerate() {
                let (there, id) = self.vocab.id_at(key, home);
                ids[i] = id;
                others |= u32::from(!there) << i;
            }
            let mut rest = others;
            while rest != 0 {
                scratch.cache.fetch(key::hash_of(keys[rest.trailing_zeros() as usize % AHEAD].0));
                rest &= rest - 1;
            }
            // From one of the others to the next.
            let mut done = 0;
            while others != 0 {
                let i = others.trailing_zeros() as usize % AHEAD;
                others &= others - 1;
                sink.some(&ids, done, i);
                let from = if i == 0 { start } else { base + ends[i - 1] as usize };
                let key = (keys[i].0, key::hash_of(keys[i].0));
                self.encode_keyed(text, from, base + ends[i] as usize, key, scratch, sink)?;
                done = i + 1;
            }
            sink.some(&ids, done, ends.len());
            start = at;
        }
        Ok(())
    }

    #[inline(always)]
    fn encode_keyed<S: Sink>(
        &self,
        text: &[u8],
        start: usize,
        end: usize,
        (key, hash): (Key, u64),
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<()> {
        match scratch.cache.find(key, hash) {
            Some(entry) if entry.n as usize <= INLINE => {
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
        if let Some(cuts) = self.cuts(&text[start..end], scratch) {
            let cut = cuts.next(text, [start, start, end]);
            if cut < end {
                return self.encode_islands(text, (start, cut, end), scratch, sink);
            }
        }
        match end - start {
            0 => Ok(()),
            len if len <= key::LONGEST => self.encode_short(text, start, end, scratch, sink),
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
        let cached = len <= key::LONGEST && !S::RANGES && scratch.dropout.is_none();
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
        let (key, hash) = key::with_hash(text, start, end);
        if self.plain
            && let Some(id) = self.vocab.id_of_key(key, hash)
        {
            sink.token(id, start, end);
            return Ok(());
        }
        scratch.cache.prepare();
        if let Some(entry) = scratch.cache.find(key, hash).or_else(|| scratch.cache.find_moved(key, hash)) {
            sink.ids(scratch.cache.ids(entry));
            return Ok(());
        }
        if self.plain
            && let Some(id) = self.vocab.id_of_key(key, hash)
        {
            // Its place in the vocabulary is taken by others.
            scratch.cache.insert(key, hash, &[id]);
            sink.token(id, start, end);
            return Ok(());
        }
        if self.plain {
            let tokens = scratch.short.merge(self.known(), key);
            scratch.cache.insert(key, hash, tokens.ids());
            sink.ids(tokens.ids());
            return Ok(());
        }
        self.encode_new(text, start, end, scratch, sink, |scratch, ids| scratch.cache.insert(key, hash, ids))
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
        scratch.cache.prepare();
        let (mut from, mut at) = (start, cut);
        let mut ends = [0; AHEAD];
        while from < end {
            let mut n = 0;
            let first = from;
            while n < AHEAD && from < end {
                (ends[n], from) = ((at - first) as u32, at);
                n += 1;
                if at < end {
                    at = cuts.next(text, [start, at, end]);
                }
            }
            if !S::RANGES {
                self.encode_tokens(text, first, (first, &ends[..n]), scratch, sink)?;
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
