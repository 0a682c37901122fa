//! Words cut into syllables where hyphens mark them.
//!
//! For text whose words are written with their hyphenation (`syl-la-ble`, with `-`, U+2010 or the soft hyphen U+00AD):
//! no token crosses a syllable, and each hyphen stays with the syllable that it opens, so nothing is lost.

/// Calls `part(start, end)` for the parts of `piece`.
pub(super) fn split(piece: &str, mut part: impl FnMut(usize, usize)) {
    let mut start = 0;
    let mut before: Option<char> = None;
    let mut chars = piece.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        let opens = matches!(c, '-' | '\u{ad}' | '\u{2010}')
            && before.is_some_and(char::is_alphabetic)
            && chars.peek().is_some_and(|(_, next)| next.is_alphabetic());
        if opens {
            part(start, i);
            start = i;
        }
        before = Some(c);
    }
    part(start, piece.len());
}

#[cfg(test)]
mod tests {
    use super::super::{PreTokenizer, Step};

    #[test]
    fn hyphens_between_letters_open_syllables() {
        let split = |text| PreTokenizer::new([Step::Syllables]).split(text).unwrap();
        assert_eq!(split("syl-la\u{ad}ble"), ["syl", "-la", "\u{ad}ble"]);
        assert_eq!(split("-a--b-1 - é\u{2010}z-"), ["-a--b-1 - é", "\u{2010}z-"]);
    }
}
