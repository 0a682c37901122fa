//! BERT's normaliser (`BasicTokenizer` of Devlin et al. 2019), in the order Hugging Face applies it.

use super::aligned::Aligned;
use super::unicode;
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// What to do; each step is independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BertNormalizer {
    /// Drop control characters, make every white space a plain space.
    pub clean_text: bool,
    /// Put spaces around CJK ideographs.
    pub chinese_chars: bool,
    /// Drop combining marks after NFD; `None` follows `lowercase`.
    pub strip_accents: Option<bool>,
    /// Lower-case.
    pub lowercase: bool,
}

impl BertNormalizer {
    pub(crate) fn apply(&self, text: &mut Aligned<'_>) {
        if self.clean_text {
            text.rewrite(|old, out| {
                for (i, c) in old.char_indices() {
                    let at = i..i + c.len_utf8();
                    if c == '\0' || c == '\u{fffd}' || is_control(c) {
                        continue;
                    }
                    out.push_char(if c.is_whitespace() { ' ' } else { c }, at);
                }
            });
        }
        if self.chinese_chars && text.text.chars().any(is_chinese) {
            text.rewrite(|old, out| {
                for (i, c) in old.char_indices() {
                    let at = i..i + c.len_utf8();
                    if is_chinese(c) {
                        out.push(" ", at.clone());
                        out.push_char(c, at.clone());
                        out.push(" ", at);
                    } else {
                        out.push_char(c, at);
                    }
                }
            });
        }
        if self.strip_accents.unwrap_or(self.lowercase) && !text.text.is_ascii() {
            unicode::by_segments(text, |s| s.nfd().filter(|c| !is_nonspacing_mark(*c)).collect());
        }
        if self.lowercase {
            unicode::lowercase(text);
        }
    }
}

/// General category Mn.
pub(crate) fn is_nonspacing_mark(c: char) -> bool {
    c.general_category() == GeneralCategory::NonspacingMark
}

/// Categories Cc, Cf and Co, without tab and line ends; unassigned code points stay.
fn is_control(c: char) -> bool {
    if matches!(c, '\t' | '\n' | '\r') {
        return false;
    }
    matches!(c.general_category(), GeneralCategory::Control | GeneralCategory::Format | GeneralCategory::PrivateUse)
}

/// The blocks of CJK unified and compatibility ideographs that BERT lists.
fn is_chinese(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4e00..=0x9fff
            | 0x3400..=0x4dbf
            | 0x20000..=0x2a6df
            | 0x2a700..=0x2b73f
            | 0x2b740..=0x2b81f
            | 0x2b920..=0x2ceaf
            | 0xf900..=0xfaff
            | 0x2f800..=0x2fa1f
    )
}
