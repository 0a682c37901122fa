//! The syntax tree of a pattern: what was written, before flags are applied.

/// A set of flags that a pattern or a builder switches on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// `i`: letters match without regard to case.
    pub case_insensitive: bool,
    /// `m`: `^` and `$` match at line ends.
    pub multi_line: bool,
    /// `s`: `.` matches a line feed too.
    pub dot_all: bool,
    /// `U`: quantifiers are lazy, and greedy with a `?`.
    pub swap_greed: bool,
    /// `u`: classes and case folding follow Unicode.
    pub unicode: bool,
    /// `x`: white space and comments in the pattern are ignored.
    pub verbose: bool,
    /// `R`: `\r\n` is one line end for `^`, `$` and `.`.
    pub crlf: bool,
    /// The line end where `R` is off.
    pub line_terminator: u8,
}

impl Default for Flags {
    fn default() -> Self {
        Flags {
            case_insensitive: false,
            multi_line: false,
            dot_all: false,
            swap_greed: false,
            unicode: true,
            verbose: false,
            crlf: false,
            line_terminator: b'\n',
        }
    }
}

/// Flags switched by `(?ims-x)`: the letter and whether it is switched on.
pub type FlagChange = Vec<(char, bool)>;

/// One node of the tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Ast {
    /// Matches the empty string.
    Empty,
    /// One character; `byte` when written as `\xHH`, which `(?-u)` reads as a byte.
    Literal { symbol: u32, byte: bool },
    /// `.`
    Dot,
    /// `\N`, `\R`, `\X`.
    NotNewline,
    /// `\R`: any line ending.
    LineEnding,
    /// `\X`: an extended grapheme cluster.
    Grapheme,
    /// A class, bracketed or by escape.
    Class(ClassNode),
    /// `^ $ \A \z \Z \b \B` and relatives.
    Anchor(Anchor),
    /// One after the other.
    Concat(Vec<Ast>),
    /// One or the other, the first that leads to a match.
    Alternate(Vec<Ast>),
    /// A quantified item.
    Repeat { item: Box<Ast>, min: u32, max: Option<u32>, kind: RepeatKind },
    /// A capture group.
    Capture { index: u32, item: Box<Ast> },
    /// `(?flags:...)`, also without flags.
    Group { flags: FlagChange, item: Box<Ast> },
    /// `(?flags)`, which lasts to the end of the enclosing group.
    SetFlags(FlagChange),
    /// `(?>...)`
    Atomic(Box<Ast>),
    /// Lookahead and lookbehind.
    Look { ahead: bool, negative: bool, item: Box<Ast> },
    /// A backreference to a group.
    Backref { index: u32 },
    /// `\K`
    Keep,
}

/// How a quantifier chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepeatKind {
    /// As many as possible first.
    Greedy,
    /// As few as possible first.
    Lazy,
    /// As many as possible, never given back.
    Possessive,
}

/// Zero-width tests that look at most at the neighbouring characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// `^`
    Caret,
    /// `$`
    Dollar,
    /// `\A`
    Start,
    /// `\z`
    End,
    /// `\Z`
    EndBeforeNewline,
    /// `\b`
    Word,
    /// `\B`
    NotWord,
    /// `\b{start}`, `\<`
    WordStart,
    /// `\b{end}`, `\>`
    WordEnd,
    /// `\b{start-half}`
    WordStartHalf,
    /// `\b{end-half}`
    WordEndHalf,
}

/// A class as written.
#[derive(Debug, Clone, PartialEq)]
pub enum ClassNode {
    /// A range; a single character has equal ends. `byte` when an end was written as `\xHH` above 0x7F.
    Range { lo: u32, hi: u32, byte: bool },
    /// `\d \s \w \h` and their negations (`kind` in lower case).
    Perl { kind: char, negative: bool },
    /// `\p{name}`; the parser has checked that the name is known.
    Property { name: String, negative: bool },
    /// `[:name:]`
    Posix { name: &'static str, negative: bool },
    /// `[...]`
    Bracketed { negative: bool, item: Box<ClassNode> },
    /// Members of any of the items.
    Union(Vec<ClassNode>),
    /// `&&`, `--` or `~~` between two unions.
    Op { op: SetOp, left: Box<ClassNode>, right: Box<ClassNode> },
}

/// Set operations inside brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetOp {
    /// `&&`
    Intersection,
    /// `--`
    Difference,
    /// `~~`
    SymmetricDifference,
}

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The tree.
    pub ast: Ast,
    /// Names of the groups by index; index 0 is the whole match.
    pub group_names: Vec<Option<String>>,
}
