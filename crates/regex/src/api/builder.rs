//! Compiling with options.

use std::marker::PhantomData;

use super::haystack::Haystack;
use super::regex::Regex;
use crate::core::Config;
use crate::error::Error;

/// Options for compiling a pattern. Flags can also be written into the pattern, as `(?i)`.
#[derive(Debug, Clone)]
pub struct RegexBuilder<H: Haystack + ?Sized> {
    pattern: String,
    config: Config,
    haystack: PhantomData<fn(&H)>,
}

impl<H: Haystack + ?Sized> RegexBuilder<H> {
    /// A builder for `pattern` with everything at its default.
    pub fn new(pattern: &str) -> Self {
        RegexBuilder { pattern: pattern.to_owned(), config: Config::default(), haystack: PhantomData }
    }

    /// Compiles the pattern.
    ///
    /// # Errors
    /// When the pattern does not follow the syntax, or exceeds a limit.
    pub fn build(&self) -> Result<Regex<H>, Error> {
        self.build_other(&self.pattern)
    }

    /// Another pattern with the same options.
    pub(crate) fn build_other(&self, pattern: &str) -> Result<Regex<H>, Error> {
        Regex::with_config(pattern, &self.config)
    }

    /// Letters match without regard to case (`i`). Off by default.
    pub fn case_insensitive(&mut self, yes: bool) -> &mut Self {
        self.config.flags.case_insensitive = yes;
        self
    }

    /// `^` and `$` match at line ends (`m`). Off by default.
    pub fn multi_line(&mut self, yes: bool) -> &mut Self {
        self.config.flags.multi_line = yes;
        self
    }

    /// `.` matches a line feed too (`s`). Off by default.
    pub fn dot_matches_new_line(&mut self, yes: bool) -> &mut Self {
        self.config.flags.dot_all = yes;
        self
    }

    /// `\r\n` counts as one line end for `^`, `$` and `.` (`R`). Off by default.
    pub fn crlf(&mut self, yes: bool) -> &mut Self {
        self.config.flags.crlf = yes;
        self
    }

    /// Quantifiers are lazy, and greedy with a `?` (`U`). Off by default.
    pub fn swap_greed(&mut self, yes: bool) -> &mut Self {
        self.config.flags.swap_greed = yes;
        self
    }

    /// White space and comments in the pattern are ignored (`x`). Off by default.
    pub fn ignore_whitespace(&mut self, yes: bool) -> &mut Self {
        self.config.flags.verbose = yes;
        self
    }

    /// `\w`, `\d`, `\s`, `\b` and case follow Unicode (`u`). On by default.
    pub fn unicode(&mut self, yes: bool) -> &mut Self {
        self.config.flags.unicode = yes;
        self
    }

    /// The line end of `^`, `$` and `.` where `crlf` is off: a line feed by default. Only ASCII; a pattern with another byte
    /// does not compile.
    pub fn line_terminator(&mut self, byte: u8) -> &mut Self {
        self.config.flags.line_terminator = byte;
        self
    }

    /// How deep groups and classes may be nested: 250 by default, 500 at most.
    pub fn nest_limit(&mut self, levels: usize) -> &mut Self {
        self.config.nest_limit = levels.min(500);
        self
    }

    /// How many instructions the pattern may compile to: 400,000 by default.
    pub fn size_limit(&mut self, instructions: usize) -> &mut Self {
        self.config.size_limit = instructions;
        self
    }

    /// How many bytes each automaton of the pattern may take: 4 MiB by default. Where that is not enough, slower engines run.
    pub fn dfa_size_limit(&mut self, bytes: usize) -> &mut Self {
        self.config.dfa_size_limit = bytes;
        self
    }

    /// How many steps a search with backreferences may take, apart from 64 for each byte of the haystack: five million
    /// by default. The budget is for a whole search, `find_iter` included, not for each starting position. Open choices
    /// have a limit of their own that depends on the haystack only: 262,144 and 16 for each byte, of 16 bytes each.
    pub fn backtrack_limit(&mut self, steps: u64) -> &mut Self {
        self.config.backtrack_limit = steps;
        self
    }
}
