//! From merged symbols to tokens: byte fallback, unknown text, pieces that are not given out.

use super::merge::Symbol;
use super::{Bpe, Unknown};
use crate::error::{Error, Result, excerpt};
use crate::model::Sink;
use crate::vocab::NONE;

impl Bpe {
    /// Gives out the tokens of a piece that has been merged: known ones, bytes for the others, or what stands for them.
    pub(super) fn emit<S: Sink>(&self, piece: &[u8], offset: usize, symbols: &[Symbol], sink: &mut S) -> Result<()> {
        if !S::RANGES && self.unused.is_empty() && symbols.iter().all(|symbol| symbol.id != NONE) {
            symbols.iter().for_each(|symbol| sink.token(symbol.id, 0, 0));
            return Ok(());
        }
        let mut run_of_unknown: Option<usize> = None;
        for (i, symbol) in symbols.iter().enumerate() {
            let from = symbol.start as usize;
            let to = symbols.get(i + 1).map_or(piece.len(), |s| s.start as usize);
            let fallback = |b: &u8| self.bytes[usize::from(*b)];
            let known =
                symbol.id != NONE || self.byte_fallback && piece[from..to].iter().map(fallback).all(|id| id != NONE);
            if known && let Some(start) = run_of_unknown.take() {
                self.unknown(piece, start, from, offset, sink)?;
            }
            if symbol.id != NONE {
                match self.unused.get(&symbol.id) {
                    None => sink.token(symbol.id, offset + from, offset + to),
                    Some(parts) => self.emit_parts(parts, offset + from, offset + to, sink),
                }
            } else if known {
                for (k, b) in piece[from..to].iter().enumerate() {
                    sink.token(fallback(b), offset + from + k, offset + from + k + 1);
                }
            } else if matches!(self.unknown, Unknown::Token { fuse: true, .. }) {
                run_of_unknown.get_or_insert(from);
            } else {
                self.unknown(piece, from, to, offset, sink)?;
            }
        }
        match run_of_unknown {
            Some(start) => self.unknown(piece, start, piece.len(), offset, sink),
            None => Ok(()),
        }
    }

    fn emit_parts<S: Sink>(&self, parts: &[u32], start: usize, end: usize, sink: &mut S) {
        let mut at = start;
        for &part in parts.iter().filter(|&&p| p != NONE) {
            let to = (at + self.vocab.token_len(part)).min(end);
            match self.unused.get(&part) {
                None => sink.token(part, at, to),
                Some(inner) => self.emit_parts(inner, at, to, sink),
            }
            at = to;
        }
    }

    fn unknown<S: Sink>(&self, piece: &[u8], from: usize, to: usize, offset: usize, sink: &mut S) -> Result<()> {
        match self.unknown {
            Unknown::Token { id, .. } => sink.token(id, offset + from, offset + to),
            Unknown::Drop => {}
            Unknown::Refuse => {
                let text = excerpt(&String::from_utf8_lossy(&piece[from..to]));
                return Err(Error::NoToken { text, offset: offset + from });
            }
        }
        Ok(())
    }
}
