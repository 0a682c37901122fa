//! Bracketed classes: ranges, nesting, POSIX names and set operations.

use super::ast::{ClassNode, SetOp};
use super::escape::EscapedChar;
use super::parser::Parser;
use crate::error::Error;

/// Names that `[:name:]` knows.
const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

const OPS: [(&str, SetOp); 3] =
    [("&&", SetOp::Intersection), ("--", SetOp::Difference), ("~~", SetOp::SymmetricDifference)];

impl Parser<'_> {
    /// The class whose `[` stood at `start` and has been consumed.
    pub(super) fn bracketed(&mut self, start: usize) -> Result<ClassNode, Error> {
        self.deeper()?;
        self.skip_space();
        let negative = self.eat("^");
        let mut left: Option<(ClassNode, SetOp)> = None;
        let mut items = Vec::new();
        self.skip_space();
        // Directly behind the opening, `]` and `-` stand for themselves.
        if self.rest().starts_with(']') {
            items.push(self.range_from(start, EscapedChar { symbol: u32::from(']'), byte: false }, 1)?);
        }
        loop {
            self.skip_space();
            if self.eat("]") {
                break;
            }
            // A `-` before `]` is the character itself, so `--]` is no operator.
            let operator = OPS.iter().find(|(text, _)| self.rest().starts_with(text));
            if let Some((text, op)) = operator.filter(|_| !self.rest().starts_with("--]"))
                && !(*text == "--" && items.is_empty() && left.is_none())
            {
                self.pos += text.len();
                let right = ClassNode::Union(std::mem::take(&mut items));
                left = Some((combine(left, right), *op));
                continue;
            }
            items.push(self.class_item(start)?);
        }
        self.depth -= 1;
        let item = Box::new(combine(left, ClassNode::Union(items)));
        Ok(ClassNode::Bracketed { negative, item })
    }

    fn class_item(&mut self, start: usize) -> Result<ClassNode, Error> {
        let offset = self.pos;
        match self.bump() {
            None => Err(self.error(start, "class without `]`")),
            Some('[') => {
                if let Some(posix) = self.posix(offset)? {
                    return Ok(posix);
                }
                self.bracketed(offset)
            }
            Some('\\') => {
                if let Some(class) = self.class_escape(offset)? {
                    return Ok(class);
                }
                let low = self.escape_in_class(offset)?;
                self.range_from(offset, low, 0)
            }
            Some(c) => self.range_from(offset, EscapedChar { symbol: u32::from(c), byte: false }, 0),
        }
    }

    fn escape_in_class(&mut self, offset: usize) -> Result<EscapedChar, Error> {
        if self.eat("b") {
            return Ok(EscapedChar { symbol: 0x08, byte: false });
        }
        self.char_escape(offset)
    }

    /// A character, of which `skip` bytes are still to be consumed, or the range that it begins.
    fn range_from(&mut self, offset: usize, low: EscapedChar, skip: usize) -> Result<ClassNode, Error> {
        self.pos += skip;
        self.skip_space();
        let single = ClassNode::Range { lo: low.symbol, hi: low.symbol, byte: low.byte };
        let rest = self.rest();
        if !rest.starts_with('-') || rest.starts_with("-]") || rest.starts_with("--") || rest.len() == 1 {
            return Ok(single);
        }
        let before = self.pos;
        self.bump();
        self.skip_space();
        let high = match self.peek() {
            Some('\\') => {
                let at = self.pos;
                self.bump();
                if self.class_escape(at)?.is_some() {
                    // `a-\d`: the hyphen is a character.
                    self.pos = before;
                    return Ok(single);
                }
                self.escape_in_class(at)?
            }
            Some('[') | Some(']') | None => {
                self.pos = before;
                return Ok(single);
            }
            Some(c) => {
                self.bump();
                EscapedChar { symbol: u32::from(c), byte: false }
            }
        };
        if low.symbol > high.symbol {
            let range = &self.pattern[offset..self.pos];
            return Err(self.error(offset, format!("class range `{range}` is empty")));
        }
        let byte = low.byte && high.byte || (low.byte || high.byte) && low.symbol.min(high.symbol) < 0x80;
        Ok(ClassNode::Range { lo: low.symbol, hi: high.symbol, byte })
    }

    /// `[:name:]`, whose `[` at `offset` has been consumed.
    fn posix(&mut self, offset: usize) -> Result<Option<ClassNode>, Error> {
        if !self.rest().starts_with(':') {
            return Ok(None);
        }
        let Some(end) = self.rest().find(":]") else {
            return Ok(None);
        };
        let body = if end == 0 { "" } else { &self.rest()[1..end] };
        let (negative, name) = match body.strip_prefix('^') {
            Some(name) => (true, name),
            None => (false, body),
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase()) {
            return Ok(None);
        }
        let Some(known) = POSIX.iter().find(|n| **n == name) else {
            return Err(self.error(offset, format!("unknown POSIX class `{name}`")));
        };
        self.pos += end + 2;
        Ok(Some(ClassNode::Posix { name: known, negative }))
    }
}

fn combine(left: Option<(ClassNode, SetOp)>, right: ClassNode) -> ClassNode {
    match left {
        None => right,
        Some((left, op)) => ClassNode::Op { op, left: Box::new(left), right: Box::new(right) },
    }
}
