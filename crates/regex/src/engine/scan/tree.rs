//! Kinds of characters as a tree over the bytes of UTF-8.
//!
//! A row has an entry for each of the 64 continuation bytes: where the row for the next byte begins. The first rows are those of
//! the kinds; they lead to themselves. So every byte can be taken for the first one of a character of four bytes: the row reached
//! tells its kind, and no branch depends on the text.

use std::collections::HashMap;

use crate::alphabet::Alphabet;

/// Entries of a row.
const ROW: usize = 64;

/// The tree.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The row for each first byte.
    first: [u16; 256],
    rows: Vec<u16>,
    /// Where the rows of kinds end.
    kinds: u16,
}

impl Tree {
    /// For the kinds of an alphabet, numbered by `columns`, the last of which is that of continuation bytes. `None` if it needs
    /// too many rows.
    pub fn new(alphabet: &Alphabet, columns: &[u8]) -> Option<Tree> {
        let continuation = columns[alphabet.len];
        let count = 1 + usize::from(columns.iter().copied().max()?);
        let rows = (0..count * ROW).map(|at| (at / ROW * ROW) as u16).collect();
        let mut tree = Tree { first: [u16::from(continuation) * ROW as u16; 256], rows, kinds: (count * ROW) as u16 };
        let mut known = HashMap::new();
        let leaf = |kind: u16| u16::from(columns[usize::from(kind)]) * ROW as u16;
        for (byte, first) in tree.first[..128].iter_mut().enumerate() {
            *first = leaf(alphabet.single[byte]);
        }
        let mut last = Vec::new();
        for kinds in alphabet.rows() {
            last.push(tree.row(&mut known, |byte| leaf(kinds[byte]))?);
        }
        let of_prefix = |prefix: usize| last[alphabet.row_of(prefix as u32)];
        for lead in 0xC2..0xF5usize {
            // Second bytes that would make a character longer than it need be, or a surrogate, are not there: to them others
            // are equal.
            let seconds = match lead {
                0xE0 => 0x20..0x40,
                0xED => 0..0x20,
                0xF0 => 0x10..0x40,
                0xF4 => 0..0x10,
                _ => 0..0x40,
            };
            if lead < 0xE0 {
                tree.first[lead] = of_prefix(lead & 0x1F);
                continue;
            }
            let mut second = [0; ROW];
            for (byte, row) in second.iter_mut().enumerate() {
                let byte = byte.clamp(seconds.start, seconds.end - 1);
                *row = if lead < 0xF0 {
                    of_prefix((lead & 0x0F) << 6 | byte)
                } else {
                    tree.row(&mut known, |third| of_prefix((lead & 0x07) << 12 | byte << 6 | third))?
                };
            }
            tree.first[lead] = tree.row(&mut known, |byte| second[byte])?;
        }
        Some(tree)
    }

    /// The row with these entries; `None` if there are too many.
    fn row(&mut self, known: &mut HashMap<[u16; ROW], u16>, entry: impl Fn(usize) -> u16) -> Option<u16> {
        let row: [u16; ROW] = std::array::from_fn(entry);
        if row[0] < self.kinds && row.iter().all(|&other| other == row[0]) {
            return Some(row[0]);
        }
        if let Some(&place) = known.get(&row) {
            return Some(place);
        }
        let place = u16::try_from(self.rows.len()).ok()?;
        self.rows.extend(row);
        known.insert(row, place);
        Some(place)
    }

    /// The kind of all characters that begin with `first`, if it is one.
    pub fn kind_by_first(&self, first: u8) -> Option<u8> {
        let row = self.first[usize::from(first)];
        (row < self.kinds).then_some((usize::from(row) / ROW) as u8)
    }

    /// The kind of the byte that comes first: of the character that begins there, if it has up to `BEYOND` bytes beyond the
    /// first.
    #[inline]
    pub fn kind<const BEYOND: usize>(&self, bytes: [u8; 4]) -> u8 {
        let mut row = usize::from(self.first[usize::from(bytes[0])]);
        for byte in &bytes[1..=BEYOND] {
            // SAFETY: each entry, and each first one, is where one of the rows begins, and these have 64 entries.
            row = usize::from(unsafe { *self.rows.get_unchecked(row + usize::from(byte & 63)) });
        }
        (row / ROW) as u8
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        2 * self.rows.len()
    }

    /// The kind of the byte at `at`.
    #[inline]
    pub fn kind_at(&self, text: &[u8], at: usize) -> u8 {
        let byte = |beyond: usize| text.get(at + beyond).copied().unwrap_or(0);
        self.kind::<3>([text[at], byte(1), byte(2), byte(3)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symset::SymSet;
    use crate::unicode;

    #[test]
    fn every_character_has_the_kind_that_the_alphabet_gives_it() {
        let sets = [
            unicode::perl('w'),
            unicode::perl('s'),
            unicode::perl('d'),
            SymSet::new(vec![(0x41, 0x5A), (0x1F600, 0x1F640)]),
        ];
        let alphabet = Alphabet::new(&sets, false).unwrap();
        let columns: Vec<u8> = (0..=alphabet.len as u8).rev().collect();
        let tree = Tree::new(&alphabet, &columns).unwrap();
        for c in '\0'..=char::MAX {
            let mut text = [0; 4];
            c.encode_utf8(&mut text);
            let expected = columns[usize::from(alphabet.kind_of(u32::from(c)))];
            assert_eq!(tree.kind_at(&text, 0), expected, "{c:?}");
            assert_eq!(
                tree.kind_at(&text, c.len_utf8() - 1),
                if c.is_ascii() { expected } else { columns[alphabet.len] },
                "{c:?}"
            );
            assert!(tree.kind_by_first(text[0]).is_none_or(|kind| kind == expected), "{c:?}");
        }
    }
}
