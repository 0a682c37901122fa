//! [`Ast`] to [`Hir`]: flags applied, classes resolved, shorthand spelled out.

use super::ast::{Anchor, Ast, FlagChange, Flags, Parsed, RepeatKind};
use super::{conjuncts, sets};
use crate::hir::{Assertion, Fold, Hir, Side, Unit};
use crate::symset::{MAX_CHAR, SymSet};
use crate::unicode;

/// A pattern without syntax.
pub struct Lowered {
    /// What to match.
    pub hir: Hir,
    /// Names of the groups by index.
    pub group_names: Vec<Option<String>>,
}

/// Applies `flags` and everything that the pattern itself switches.
pub fn lower(parsed: Parsed, flags: Flags, bytes: bool) -> Lowered {
    let mut lowering = Lowering { flags, bytes };
    let hir = lowering.node(&parsed.ast);
    Lowered { hir, group_names: parsed.group_names }
}

struct Lowering {
    flags: Flags,
    bytes: bool,
}

impl Lowering {
    fn node(&mut self, ast: &Ast) -> Hir {
        match ast {
            Ast::Empty => Hir::Empty,
            Ast::Literal { symbol, byte } => self.literal(*symbol, *byte),
            Ast::Dot => self.dot(self.flags.dot_all),
            Ast::NotNewline => self.dot(false),
            Ast::LineEnding => line_ending(),
            Ast::Grapheme => grapheme(),
            Ast::Class(class) => {
                let (unit, set) = sets::resolve(class, &self.flags, self.bytes);
                if set.is_empty() { Hir::Fail } else { Hir::Class(unit, set) }
            }
            Ast::Anchor(anchor) => self.anchor(*anchor),
            Ast::Concat(items) => Hir::concat(items.iter().map(|a| self.node(a)).collect()),
            Ast::Alternate(items) => Hir::alternate(items.iter().map(|a| self.node(a)).collect()),
            Ast::Repeat { item, min, max, kind } => {
                let item = self.node(item);
                match kind {
                    RepeatKind::Possessive => Hir::Atomic(Box::new(Hir::repeat(item, *min, *max, true))),
                    kind => {
                        let greedy = (*kind == RepeatKind::Greedy) != self.flags.swap_greed;
                        Hir::repeat(item, *min, *max, greedy)
                    }
                }
            }
            Ast::Capture { index, item } => {
                let item = Box::new(self.scoped(item));
                Hir::Capture { index: *index, item }
            }
            Ast::Group { flags, item } => {
                let outer = self.flags;
                self.change(flags);
                let hir = self.node(item);
                self.flags = outer;
                hir
            }
            Ast::SetFlags(flags) => {
                self.change(flags);
                Hir::Empty
            }
            Ast::Atomic(item) => Hir::Atomic(Box::new(self.scoped(item))),
            Ast::Look { ahead, negative, item } => {
                let item = self.scoped(item);
                look(*ahead, *negative, item)
            }
            Ast::Backref { index } => {
                let fold = match (self.flags.case_insensitive, self.flags.unicode) {
                    (false, _) => Fold::None,
                    (true, false) => Fold::Ascii,
                    (true, true) => Fold::Simple,
                };
                Hir::Backref { index: *index, fold }
            }
            Ast::Keep => Hir::Keep,
        }
    }

    /// Lowers a group's content; flags switched inside end with it.
    fn scoped(&mut self, ast: &Ast) -> Hir {
        let outer = self.flags;
        let hir = self.node(ast);
        self.flags = outer;
        hir
    }

    fn change(&mut self, changes: &FlagChange) {
        for &(letter, on) in changes {
            let flag = match letter {
                'i' => &mut self.flags.case_insensitive,
                'm' => &mut self.flags.multi_line,
                's' => &mut self.flags.dot_all,
                'U' => &mut self.flags.swap_greed,
                'u' => &mut self.flags.unicode,
                'R' => &mut self.flags.crlf,
                _ => &mut self.flags.verbose,
            };
            *flag = on;
        }
    }

    /// Whether classes and `.` mean single bytes here.
    fn by_bytes(&self) -> bool {
        self.bytes && !self.flags.unicode
    }

    fn literal(&self, symbol: u32, byte: bool) -> Hir {
        let unit = if self.by_bytes() && (byte || symbol < 0x80) { Unit::Byte } else { Unit::Char };
        Hir::Class(unit, sets::fold(SymSet::single(symbol), &self.flags))
    }

    fn dot(&self, all: bool) -> Hir {
        let (unit, max) = if self.by_bytes() { (Unit::Byte, 0xFF) } else { (Unit::Char, MAX_CHAR) };
        let excluded = match (all, self.flags.crlf) {
            (true, _) => SymSet::empty(),
            (false, false) => SymSet::single(u32::from(self.flags.line_terminator)),
            (false, true) => SymSet::new(vec![(0x0A, 0x0A), (0x0D, 0x0D)]),
        };
        Hir::Class(unit, excluded.negate(max))
    }

    fn anchor(&self, anchor: Anchor) -> Hir {
        let newline = || Side::only(SymSet::single(0x0A));
        let carriage = || Side::only(SymSet::single(0x0D));
        let terminator = || Side::only(SymSet::single(u32::from(self.flags.line_terminator)));
        let pairs = match anchor {
            Anchor::Start => vec![(Side::edge(), Side::any())],
            Anchor::End => vec![(Side::any(), Side::edge())],
            Anchor::Caret if !self.flags.multi_line => vec![(Side::edge(), Side::any())],
            Anchor::Dollar if !self.flags.multi_line => vec![(Side::any(), Side::edge())],
            Anchor::Caret if self.flags.crlf => {
                vec![(Side::edge().union(&newline()), Side::any()), (carriage(), newline().complement())]
            }
            Anchor::Dollar if self.flags.crlf => {
                vec![(Side::any(), Side::edge().union(&carriage())), (carriage().complement(), newline())]
            }
            Anchor::Caret => vec![(Side::edge().union(&terminator()), Side::any())],
            Anchor::Dollar => vec![(Side::any(), Side::edge().union(&terminator()))],
            Anchor::EndBeforeNewline => {
                let end = || Hir::Assert(Assertion::ahead(Side::edge()));
                let newline = Hir::concat(vec![Hir::char('\n'), end()]);
                return look(true, false, Hir::alternate(vec![newline, end()]));
            }
            word => {
                let inside = Side::only(sets::perl('w', self.flags.unicode));
                let outside = inside.complement();
                match word {
                    Anchor::Word => vec![(inside.clone(), outside.clone()), (outside, inside)],
                    Anchor::NotWord => vec![(inside.clone(), inside), (outside.clone(), outside)],
                    Anchor::WordStart => vec![(outside, inside)],
                    Anchor::WordEnd => vec![(inside, outside)],
                    Anchor::WordStartHalf => vec![(outside, Side::any())],
                    _ => vec![(Side::any(), outside)],
                }
            }
        };
        Hir::Assert(Assertion(pairs))
    }
}

/// A lookaround; one that concerns a single neighbour becomes an [`Assertion`].
fn look(ahead: bool, negative: bool, item: Hir) -> Hir {
    match side_of(&item, ahead) {
        Some(side) => {
            let side = if negative { side.complement() } else { side };
            Hir::Assert(if ahead { Assertion::ahead(side) } else { Assertion::behind(side) })
        }
        None => Hir::Look { ahead, negative, item: Box::new(item) },
    }
}

/// What the neighbour must be for `item` to match towards it, when that is all there is to it.
fn side_of(item: &Hir, ahead: bool) -> Option<Side> {
    match item {
        Hir::Empty => Some(Side::any()),
        Hir::Fail => Some(Side::any().complement()),
        Hir::Class(Unit::Char, set) => Some(Side::only(set.clone())),
        Hir::Assert(Assertion(pairs)) => match &pairs[..] {
            [(before, after)] if ahead && before.is_any() => Some(after.clone()),
            [(before, after)] if !ahead && after.is_any() => Some(before.clone()),
            _ => None,
        },
        Hir::Alternate(items) => {
            let mut all = Side::any().complement();
            for item in items {
                all = all.union(&side_of(item, ahead)?);
            }
            Some(all)
        }
        // A run that needs one symbol finds it or not; how far it goes does not matter.
        Hir::Repeat { item, min: 1, .. } => match &**item {
            Hir::Class(Unit::Char, set) => Some(Side::only(set.clone())),
            _ => None,
        },
        _ => None,
    }
}

/// `\R`: CRLF as one, or any single line ending, not given back.
fn line_ending() -> Hir {
    let crlf = Hir::concat(vec![Hir::char('\r'), Hir::char('\n')]);
    let single = SymSet::new(vec![(0x0A, 0x0D), (0x85, 0x85), (0x2028, 0x2029)]);
    Hir::Atomic(Box::new(Hir::alternate(vec![crlf, Hir::Class(Unit::Char, single)])))
}

/// `\X`: one extended grapheme cluster, after the regular expression of UAX 29, table 1c.
fn grapheme() -> Hir {
    let set = |name: &str| unicode::property(name).unwrap_or_else(SymSet::empty);
    let gcb = |name: &str| set(&format!("gcb={name}"));
    let class = |set: SymSet| Hir::Class(Unit::Char, set);
    let star = |h: Hir| Hir::repeat(h, 0, None, true);
    let plus = |h: Hir| Hir::repeat(h, 1, None, true);
    let control = gcb("Control").union(&SymSet::new(vec![(0x0A, 0x0A), (0x0D, 0x0D)]));
    let (lead, vowel, trail) = (gcb("L"), gcb("V"), gcb("T"));
    let extend = gcb("Extend");
    let zwj = SymSet::single(0x200D);
    let pictographic = set("Extended_Pictographic");

    let hangul = Hir::alternate(vec![
        Hir::concat(vec![
            star(class(lead.clone())),
            Hir::alternate(vec![
                plus(class(vowel.clone())),
                Hir::concat(vec![class(gcb("LV")), star(class(vowel))]),
                class(gcb("LVT")),
            ]),
            star(class(trail.clone())),
        ]),
        plus(class(lead)),
        plus(class(trail)),
    ]);
    let flag = Hir::concat(vec![class(gcb("Regional_Indicator")), class(gcb("Regional_Indicator"))]);
    let emoji = Hir::concat(vec![
        class(pictographic.clone()),
        star(Hir::concat(vec![star(class(extend.clone())), class(zwj.clone()), class(pictographic)])),
    ]);
    let (linkers, consonants) = (conjuncts::linkers(), conjuncts::consonants());
    let joined = extend.union(&zwj).difference(&SymSet::single(0x200C));
    let conjunct = Hir::concat(vec![
        class(consonants.clone()),
        star(Hir::concat(vec![
            star(class(joined.difference(&linkers))),
            class(linkers.clone()),
            star(class(joined.union(&linkers))),
            class(consonants),
        ])),
    ]);
    let core = Hir::alternate(vec![hangul, flag, emoji, conjunct, class(control.negate(MAX_CHAR))]);
    let tail = star(class(extend.union(&zwj).union(&gcb("SpacingMark"))));
    let cluster = Hir::concat(vec![star(class(gcb("Prepend"))), core, tail]);
    let crlf = Hir::concat(vec![Hir::char('\r'), Hir::char('\n')]);
    Hir::Atomic(Box::new(Hir::alternate(vec![crlf, class(control), cluster])))
}
