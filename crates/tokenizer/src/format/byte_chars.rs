//! The printable characters that stand for bytes in byte-level vocabularies (GPT-2's `bytes_to_unicode`).

/// The character of a byte. Printable bytes of Latin-1 stand for themselves; the others are numbered from U+0100 in
/// order.
pub(crate) fn char_of(byte: u8) -> char {
    let code = match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => return char::from(byte),
        0..=0x20 => 0x100 + u32::from(byte),
        0x7f..=0xa0 => 0x121 + u32::from(byte - 0x7f),
        0xad => 0x143,
    };
    char::from_u32(code).expect("U+0100 to U+0143 are characters")
}

/// The byte of a character.
pub(crate) fn byte_of(c: char) -> Option<u8> {
    match u32::from(c) {
        n @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(n as u8),
        n @ 0x100..=0x120 => Some((n - 0x100) as u8),
        n @ 0x121..=0x142 => Some((n - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    }
}

/// The bytes that a token's text stands for; `None` when a character stands for no byte.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    text.chars().map(byte_of).collect()
}

/// The text that stands for bytes.
pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char_of(b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character() {
        for b in 0..=255u8 {
            assert_eq!(byte_of(char_of(b)), Some(b));
        }
        assert_eq!(encode(b" \n\xad\xffa"), "ĠĊŃÿa");
        assert_eq!(decode("Ġx"), Some(b" x".to_vec()));
        assert_eq!(decode("\u{2581}"), None);
    }
}
