//! Recursive-descent parser: pattern text to [`Ast`].

use super::ast::{Anchor, Ast, FlagChange, Flags, Parsed, RepeatKind};
use crate::error::Error;

/// The largest count that a quantifier may name.
pub const MAX_REPEAT: u32 = 65_535;

/// Parses `pattern`; `flags` are those set from outside, of which only `x` matters here.
pub fn parse(pattern: &str, flags: Flags, nest_limit: usize) -> Result<Parsed, Error> {
    let mut parser = Parser {
        pattern,
        pos: 0,
        depth: 0,
        nest_limit,
        verbose: flags.verbose,
        names: vec![None],
        pending: Vec::new(),
        quoting: false,
    };
    let mut ast = parser.alternation()?;
    if parser.pos < pattern.len() {
        return Err(parser.error(parser.pos, "unmatched `)`"));
    }
    parser.resolve(&mut ast)?;
    Ok(Parsed { ast, group_names: parser.names })
}

/// A backreference as written, resolved when all groups are known.
pub(super) enum Reference {
    Number(u32),
    Name(String),
}

pub(super) struct Parser<'p> {
    pub(super) pattern: &'p str,
    pub(super) pos: usize,
    pub(super) depth: usize,
    nest_limit: usize,
    pub(super) verbose: bool,
    pub(super) names: Vec<Option<String>>,
    /// References met so far, with their offset; an [`Ast::Backref`] holds its index here until the end.
    pending: Vec<(usize, Reference)>,
    /// Between `\Q` and `\E`.
    quoting: bool,
}

impl Parser<'_> {
    pub(super) fn error(&self, offset: usize, message: impl Into<String>) -> Error {
        Error::Syntax { pattern: self.pattern.to_owned(), offset, message: message.into() }
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.pattern[self.pos..].chars().next()
    }

    pub(super) fn rest(&self) -> &str {
        &self.pattern[self.pos..]
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    pub(super) fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.pos += text.len();
        }
        found
    }

    /// Skips what `x` makes invisible.
    pub(super) fn skip_space(&mut self) {
        while self.verbose {
            match self.peek() {
                Some(c) if c.is_whitespace() => {
                    self.bump();
                }
                Some('#') => while self.bump().is_some_and(|c| c != '\n') {},
                _ => break,
            }
        }
    }

    pub(super) fn deeper(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > self.nest_limit {
            return Err(Error::TooDeep { pattern: self.pattern.to_owned(), limit: self.nest_limit });
        }
        Ok(())
    }

    fn alternation(&mut self) -> Result<Ast, Error> {
        self.deeper()?;
        let verbose = self.verbose;
        let mut branches = vec![self.concat()?];
        while self.eat("|") {
            branches.push(self.concat()?);
        }
        self.verbose = verbose;
        self.depth -= 1;
        Ok(if branches.len() == 1 { branches.remove(0) } else { Ast::Alternate(branches) })
    }

    fn concat(&mut self) -> Result<Ast, Error> {
        let mut items = Vec::new();
        loop {
            if self.quoting {
                if self.eat("\\E") {
                    self.quoting = false;
                    continue;
                }
                let Some(c) = self.bump() else { break };
                let atom = Ast::Literal { symbol: u32::from(c), byte: false };
                items.push(if self.rest().starts_with("\\E") {
                    self.eat("\\E");
                    self.quoting = false;
                    self.quantified(atom)?
                } else {
                    atom
                });
                continue;
            }
            self.skip_space();
            match self.peek() {
                None | Some('|') | Some(')') => break,
                Some('*' | '+' | '?') => {
                    return Err(self.error(self.pos, "a quantifier with nothing before it"));
                }
                _ => {
                    if let Some(atom) = self.atom()? {
                        let item = match atom {
                            Ast::SetFlags(_) => atom,
                            atom => self.quantified(atom)?,
                        };
                        items.push(item);
                    }
                }
            }
        }
        Ok(match items.len() {
            0 => Ast::Empty,
            1 => items.remove(0),
            _ => Ast::Concat(items),
        })
    }

    /// Wraps `atom` in the quantifiers that follow it.
    fn quantified(&mut self, mut atom: Ast) -> Result<Ast, Error> {
        let mut levels = 0;
        loop {
            self.skip_space();
            let (min, max) = match self.peek() {
                Some('{') => match self.counted()? {
                    Some(bounds) => bounds,
                    None => break,
                },
                Some(c @ ('*' | '+' | '?')) => {
                    self.bump();
                    (u32::from(c == '+'), if c == '?' { Some(1) } else { None })
                }
                _ => break,
            };
            let kind = if self.eat("?") {
                RepeatKind::Lazy
            } else if self.eat("+") {
                RepeatKind::Possessive
            } else {
                RepeatKind::Greedy
            };
            levels += 1;
            self.deeper()?;
            atom = Ast::Repeat { item: Box::new(atom), min, max, kind };
        }
        self.depth -= levels;
        Ok(atom)
    }

    /// `{n}`, `{n,}`, `{,m}`, `{n,m}`; `None` (and nothing consumed) when the brace is a literal.
    fn counted(&mut self) -> Result<Option<(u32, Option<u32>)>, Error> {
        let start = self.pos;
        let Some(close) = self.rest().find('}') else {
            return Ok(None);
        };
        let body = &self.rest()[1..close];
        let number = |text: &str| -> Option<Option<u64>> {
            let text = text.trim_matches(' ');
            if text.is_empty() {
                return Some(None);
            }
            text.bytes().all(|b| b.is_ascii_digit()).then(|| Some(text.parse().unwrap_or(u64::MAX)))
        };
        let (min, max) = match body.split_once(',') {
            None => match number(body) {
                Some(Some(n)) => (Some(n), Some(n)),
                _ => return Ok(None),
            },
            Some((low, high)) => match (number(low), number(high)) {
                (Some(None), Some(None)) | (None, _) | (_, None) => return Ok(None),
                (Some(low), Some(high)) => (low, high),
            },
        };
        let check = |n: u64| match u32::try_from(n) {
            Ok(n) if n <= MAX_REPEAT => Ok(n),
            _ => Err(self.error(start, format!("repetition count {n} is above the limit of {MAX_REPEAT}"))),
        };
        let min = check(min.unwrap_or(0))?;
        let max = max.map(check).transpose()?;
        if max.is_some_and(|max| max < min) {
            return Err(self.error(start, format!("repetition range {{{body}}} is empty")));
        }
        self.pos += close + 1;
        Ok(Some((min, max)))
    }

    /// One item without its quantifier; `None` for what matches nothing and cannot be repeated, as a comment.
    fn atom(&mut self) -> Result<Option<Ast>, Error> {
        let start = self.pos;
        let c = self.bump().expect("the caller has seen a character");
        Ok(Some(match c {
            '.' => Ast::Dot,
            '^' => Ast::Anchor(Anchor::Caret),
            '$' => Ast::Anchor(Anchor::Dollar),
            '[' => Ast::Class(self.bracketed(start)?),
            '(' => return self.group(start),
            '\\' => {
                if self.eat("Q") {
                    self.quoting = true;
                    return Ok(None);
                }
                if self.eat("E") {
                    return Ok(None);
                }
                self.escape(start)?
            }
            c => Ast::Literal { symbol: u32::from(c), byte: false },
        }))
    }

    fn group(&mut self, start: usize) -> Result<Option<Ast>, Error> {
        if self.rest().starts_with("*") {
            return Err(self.error(start, "verbs such as `(*FAIL)` are not supported"));
        }
        if !self.eat("?") {
            return self.capture(start, None).map(Some);
        }
        if self.eat("#") {
            return match self.rest().find(')') {
                Some(end) => {
                    self.pos += end + 1;
                    Ok(None)
                }
                None => Err(self.error(start, "comment without `)`")),
            };
        }
        for (open, ahead, negative) in
            [("=", true, false), ("!", true, true), ("<=", false, false), ("<!", false, true)]
        {
            if self.eat(open) {
                let item = Box::new(self.body(start)?);
                return Ok(Some(Ast::Look { ahead, negative, item }));
            }
        }
        if self.eat(">") {
            return Ok(Some(Ast::Atomic(Box::new(self.body(start)?))));
        }
        if self.eat("P=") {
            let name = self.name(')')?;
            return Ok(Some(self.reference(start, Reference::Name(name))));
        }
        for (open, close) in [("P<", '>'), ("<", '>'), ("'", '\'')] {
            if self.eat(open) {
                let at = self.pos;
                let name = self.name(close)?;
                if self.names.iter().flatten().any(|n| *n == name) {
                    return Err(self.error(at, format!("duplicate group name `{name}`")));
                }
                return self.capture(start, Some(name)).map(Some);
            }
        }
        let flags = self.flags()?;
        let set = |on: &FlagChange| on.iter().rev().find(|f| f.0 == 'x').map(|f| f.1);
        match self.bump() {
            Some(')') if !flags.is_empty() => {
                if let Some(verbose) = set(&flags) {
                    self.verbose = verbose;
                }
                Ok(Some(Ast::SetFlags(flags)))
            }
            Some(':') => {
                let outer = self.verbose;
                if let Some(verbose) = set(&flags) {
                    self.verbose = verbose;
                }
                let item = Box::new(self.body(start)?);
                self.verbose = outer;
                Ok(Some(Ast::Group { flags, item }))
            }
            found => {
                let found = found.map_or("the end of the pattern".to_owned(), |c| format!("`{c}`"));
                Err(self.error(start, format!("unknown kind of group: found {found} after `(?`")))
            }
        }
    }

    fn capture(&mut self, start: usize, name: Option<String>) -> Result<Ast, Error> {
        let index = self.names.len() as u32;
        self.names.push(name);
        Ok(Ast::Capture { index, item: Box::new(self.body(start)?) })
    }

    fn body(&mut self, start: usize) -> Result<Ast, Error> {
        let ast = self.alternation()?;
        if self.eat(")") { Ok(ast) } else { Err(self.error(start, "group without `)`")) }
    }

    fn flags(&mut self) -> Result<FlagChange, Error> {
        let mut changes = Vec::new();
        let mut on = true;
        while let Some(c) = self.peek() {
            match c {
                'i' | 'm' | 's' | 'U' | 'u' | 'x' | 'R' => changes.push((c, on)),
                '-' if on => on = false,
                _ => break,
            }
            self.bump();
        }
        if !on && changes.last().is_none_or(|f| f.1) {
            return Err(self.error(self.pos, "`-` without a flag behind it"));
        }
        Ok(changes)
    }

    /// A group name up to and including `close`.
    pub(super) fn name(&mut self, close: char) -> Result<String, Error> {
        let start = self.pos;
        let end = self.rest().find(close).ok_or_else(|| self.error(start, format!("group name without `{close}`")))?;
        let name = self.rest()[..end].to_owned();
        let first = |c: char| c.is_alphabetic() || c == '_';
        let more = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '[' | ']');
        if !name.starts_with(first) || !name.chars().all(more) {
            return Err(self.error(start, format!("`{name}` is not a group name")));
        }
        self.pos += end + close.len_utf8();
        Ok(name)
    }

    pub(super) fn reference(&mut self, offset: usize, reference: Reference) -> Ast {
        self.pending.push((offset, reference));
        Ast::Backref { index: self.pending.len() as u32 - 1 }
    }

    /// Replaces the provisional index of each backreference by that of its group.
    fn resolve(&self, ast: &mut Ast) -> Result<(), Error> {
        match ast {
            Ast::Backref { index } => {
                let (offset, reference) = &self.pending[*index as usize];
                *index = match reference {
                    Reference::Number(n) if *n > 0 && (*n as usize) < self.names.len() => *n,
                    Reference::Number(n) => {
                        let groups = self.names.len() - 1;
                        return Err(self.error(*offset, format!("reference to group {n}, but there are {groups}")));
                    }
                    Reference::Name(name) => {
                        match self.names.iter().position(|n| n.as_deref() == Some(name.as_str())) {
                            Some(found) => found as u32,
                            None => {
                                return Err(self.error(*offset, format!("reference to unknown group `{name}`")));
                            }
                        }
                    }
                };
                Ok(())
            }
            Ast::Concat(items) | Ast::Alternate(items) => items.iter_mut().try_for_each(|a| self.resolve(a)),
            Ast::Repeat { item, .. }
            | Ast::Capture { item, .. }
            | Ast::Group { item, .. }
            | Ast::Atomic(item)
            | Ast::Look { item, .. } => self.resolve(item),
            _ => Ok(()),
        }
    }
}
