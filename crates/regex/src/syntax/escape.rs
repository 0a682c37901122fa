//! What follows a backslash, outside and inside brackets.

use super::ast::{Anchor, Ast, ClassNode};
use super::parser::{Parser, Reference};
use crate::error::Error;
use crate::unicode;

/// A character written by an escape; `byte` when it was written as two hexadecimal digits.
pub(super) struct EscapedChar {
    pub(super) symbol: u32,
    pub(super) byte: bool,
}

impl Parser<'_> {
    /// The escape whose backslash stood at `start` and has been consumed.
    pub(super) fn escape(&mut self, start: usize) -> Result<Ast, Error> {
        let Some(c) = self.peek() else {
            return Err(self.error(start, "backslash at the end of the pattern"));
        };
        let simple = match c {
            'A' => Some(Ast::Anchor(Anchor::Start)),
            'z' => Some(Ast::Anchor(Anchor::End)),
            'Z' => Some(Ast::Anchor(Anchor::EndBeforeNewline)),
            'B' => Some(Ast::Anchor(Anchor::NotWord)),
            '<' => Some(Ast::Anchor(Anchor::WordStart)),
            '>' => Some(Ast::Anchor(Anchor::WordEnd)),
            'R' => Some(Ast::LineEnding),
            'X' => Some(Ast::Grapheme),
            'N' => Some(Ast::NotNewline),
            'K' => Some(Ast::Keep),
            _ => None,
        };
        if let Some(ast) = simple {
            self.bump();
            if c == 'N' && self.peek() == Some('{') {
                return Err(self.error(start, "characters by name (`\\N{...}`) are not supported"));
            }
            return Ok(ast);
        }
        match c {
            'b' => {
                self.bump();
                self.word_boundary()
            }
            '1'..='9' => {
                let digits = self.digits();
                let number = digits.parse().unwrap_or(u32::MAX);
                Ok(self.reference(start, Reference::Number(number)))
            }
            'k' | 'g' => {
                self.bump();
                self.named_reference(start, c)
            }
            'G' | 'C' => Err(self.error(start, format!("`\\{c}` is not supported"))),
            _ => {
                if let Some(class) = self.class_escape(start)? {
                    return Ok(Ast::Class(class));
                }
                let EscapedChar { symbol, byte } = self.char_escape(start)?;
                Ok(Ast::Literal { symbol, byte })
            }
        }
    }

    fn word_boundary(&mut self) -> Result<Ast, Error> {
        for (name, anchor) in [
            ("{start}", Anchor::WordStart),
            ("{end}", Anchor::WordEnd),
            ("{start-half}", Anchor::WordStartHalf),
            ("{end-half}", Anchor::WordEndHalf),
        ] {
            if self.eat(name) {
                return Ok(Ast::Anchor(anchor));
            }
        }
        Ok(Ast::Anchor(Anchor::Word))
    }

    fn digits(&mut self) -> String {
        let mut out = String::new();
        while let Some(c) = self.peek().filter(char::is_ascii_digit) {
            out.push(c);
            self.bump();
        }
        out
    }

    /// `\k<n>`, `\k{n}`, `\k'n'`, `\g1`, `\g{1}`, `\g{-1}`, `\g{n}`.
    fn named_reference(&mut self, start: usize, letter: char) -> Result<Ast, Error> {
        let close = match self.peek() {
            Some('{') => '}',
            Some('<') if letter == 'k' => '>',
            Some('\'') if letter == 'k' => '\'',
            Some('-' | '0'..='9') if letter == 'g' => ' ',
            _ => return Err(self.error(start, format!("`\\{letter}` needs a group"))),
        };
        if close != ' ' {
            self.bump();
        }
        let relative = self.eat("-");
        if relative || self.peek().is_some_and(|c| c.is_ascii_digit()) {
            let digits = self.digits();
            let mut number: u32 = digits.parse().unwrap_or(u32::MAX);
            if relative {
                // Counted backwards over the groups opened so far.
                number = (self.names.len() as u32).checked_sub(number).unwrap_or(u32::MAX);
            }
            if close != ' ' && !self.eat(close.encode_utf8(&mut [0; 4])) {
                return Err(self.error(start, format!("reference without `{close}`")));
            }
            return Ok(self.reference(start, Reference::Number(number)));
        }
        let name = self.name(close)?;
        Ok(self.reference(start, Reference::Name(name)))
    }

    /// An escape that denotes a class, if the next character starts one.
    pub(super) fn class_escape(&mut self, start: usize) -> Result<Option<ClassNode>, Error> {
        let Some(c) = self.peek() else { return Ok(None) };
        match c {
            'd' | 's' | 'w' | 'h' | 'D' | 'S' | 'W' | 'H' => {
                self.bump();
                Ok(Some(ClassNode::Perl { kind: c.to_ascii_lowercase(), negative: c.is_ascii_uppercase() }))
            }
            'p' | 'P' => {
                self.bump();
                let name = if self.eat("{") {
                    let Some(end) = self.rest().find('}') else {
                        return Err(self.error(start, "property without `}`"));
                    };
                    let name = self.rest()[..end].to_owned();
                    self.pos += end + 1;
                    name
                } else {
                    match self.bump() {
                        Some(c) => c.to_string(),
                        None => return Err(self.error(start, "property without a name")),
                    }
                };
                // `\p{name!=value}` is another way to write the negation.
                let (name, unequal) = match name.split_once("!=") {
                    Some((key, value)) => (format!("{key}={value}"), true),
                    None => (name, false),
                };
                if unicode::property(&name).is_none() {
                    return Err(self.error(start, format!("unknown Unicode property `{name}`")));
                }
                Ok(Some(ClassNode::Property { name, negative: (c == 'P') != unequal }))
            }
            _ => Ok(None),
        }
    }

    /// An escape that denotes one character.
    pub(super) fn char_escape(&mut self, start: usize) -> Result<EscapedChar, Error> {
        let Some(c) = self.bump() else {
            return Err(self.error(start, "backslash at the end of the pattern"));
        };
        let symbol = match c {
            'a' => 0x07,
            'e' => 0x1B,
            'f' => 0x0C,
            'n' => 0x0A,
            'r' => 0x0D,
            't' => 0x09,
            'v' => 0x0B,
            '0' => self.octal(),
            'c' => match self.bump() {
                Some(c) if c.is_ascii() && !c.is_ascii_control() => u32::from(c.to_ascii_uppercase()) ^ 0x40,
                _ => return Err(self.error(start, "`\\c` needs an ASCII character")),
            },
            'x' | 'u' | 'U' => {
                let width = match c {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let (symbol, braced) = self.hex(start, width)?;
                return Ok(EscapedChar { symbol, byte: c == 'x' && !braced });
            }
            c if c.is_ascii_alphanumeric() => {
                return Err(self.error(start, format!("unknown escape `\\{c}`")));
            }
            c => u32::from(c),
        };
        Ok(EscapedChar { symbol, byte: false })
    }

    /// Up to two more octal digits behind `\0`.
    fn octal(&mut self) -> u32 {
        let mut value = 0;
        for _ in 0..2 {
            match self.peek().and_then(|c| c.to_digit(8)) {
                Some(digit) => value = value * 8 + digit,
                None => break,
            }
            self.bump();
        }
        value
    }

    fn hex(&mut self, start: usize, width: usize) -> Result<(u32, bool), Error> {
        let braced = self.eat("{");
        let text = if braced {
            let Some(end) = self.rest().find('}') else {
                return Err(self.error(start, "hexadecimal escape without `}`"));
            };
            let text = self.rest()[..end].to_owned();
            self.pos += end + 1;
            text
        } else {
            let text: String = self.rest().chars().take(width).collect();
            self.pos += text.len();
            text
        };
        let digits = (braced || text.len() == width) && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u32::from_str_radix(&text, 16) {
            Ok(value) if digits && char::from_u32(value).is_some() => Ok((value, braced)),
            _ => Err(self.error(start, format!("`{text}` is not the hexadecimal number of a character"))),
        }
    }
}
