//! Decoders: from token texts back to text.
//!
//! - `stream`: token by token, whole characters only
//!
//! A decoder is a chain of steps over one token at a time, with a little state (is this the first token?), so that
//! decoding a stream and decoding a whole sequence are the same computation.

pub mod stream;

use crate::split::{Metaspace, Pattern, PrependScheme};
use std::borrow::Cow;
pub use stream::StreamDecoder;

/// One step of decoding.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DecodeStep {
    /// Replace matches inside each token.
    Replace {
        /// What to look for.
        pattern: Pattern,
        /// What to put there.
        content: String,
    },
    /// `<0x..>` tokens become their byte.
    ByteFallback,
    /// From here on steps see the whole text.
    Fuse,
    /// Drop a character at the ends of each token or, after [`DecodeStep::Fuse`], at the start of the text.
    Strip {
        /// The character.
        content: char,
        /// At most so many at the start.
        start: usize,
        /// At most so many at the end; 0 after [`DecodeStep::Fuse`].
        stop: usize,
    },
    /// Marks become spaces; those of the first token go when the pre-tokeniser had put one there.
    Metaspace(Metaspace),
    /// Tokens are words unless they carry the prefix.
    WordPiece {
        /// The prefix of tokens that continue a word.
        prefix: String,
        /// Undo the spaces before punctuation and in English contractions.
        cleanup: bool,
    },
    /// A suffix marks the end of a word.
    Suffix(String),
}

/// A decoder: steps in order. Without steps tokens are joined as they are.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    steps: Vec<DecodeStep>,
}

/// What a decoder remembers between tokens.
#[derive(Clone, Debug, Default)]
pub(crate) struct DecodeState {
    started: bool,
    /// For each strip step after a fuse: what it may still drop.
    strips: Vec<usize>,
    pending_space: bool,
}

impl Decoder {
    /// A decoder of these steps.
    pub fn new(steps: impl IntoIterator<Item = DecodeStep>) -> Self {
        Self { steps: steps.into_iter().collect() }
    }

    /// The steps.
    pub fn steps(&self) -> &[DecodeStep] {
        &self.steps
    }

    /// True when tokens are joined as they are.
    pub(crate) fn is_plain(&self) -> bool {
        self.steps.is_empty()
    }

    /// Appends what a token contributes to the text.
    pub(crate) fn token(&self, state: &mut DecodeState, token: &[u8], out: &mut Vec<u8>) {
        let first = !std::mem::replace(&mut state.started, true);
        if first {
            state.strips =
                self.steps.iter().map(|s| if let DecodeStep::Strip { start, .. } = s { *start } else { 0 }).collect();
        }
        if std::mem::take(&mut state.pending_space) {
            out.push(b' ');
        }
        let mut fused = false;
        let mut token = Cow::Borrowed(token);
        for (i, step) in self.steps.iter().enumerate() {
            match step {
                DecodeStep::Replace { pattern, content } => replace(&mut token, pattern, content),
                DecodeStep::ByteFallback => {
                    if let Some(byte) = byte_token(&token) {
                        token = Cow::Owned(vec![byte]);
                    }
                }
                DecodeStep::Fuse => fused = true,
                DecodeStep::Strip { content, start, stop } => {
                    let mut left = if fused { state.strips[i] } else { *start };
                    let mut buffer = [0; 4];
                    let content = content.encode_utf8(&mut buffer).as_bytes();
                    let mut from = 0;
                    while left > 0 && from < token.len() {
                        if !token[from..].starts_with(content) {
                            left = 0;
                            break;
                        }
                        from += content.len();
                        left -= 1;
                    }
                    state.strips[i] = left;
                    let mut to = token.len();
                    for _ in 0..*stop {
                        if to - from >= content.len() && token[..to].ends_with(content) {
                            to -= content.len();
                        }
                    }
                    if (from, to) != (0, token.len()) {
                        token = Cow::Owned(token[from..to].to_vec());
                    }
                }
                DecodeStep::Metaspace(metaspace) => {
                    let drop = first && metaspace.prepend != PrependScheme::Never;
                    let mark = metaspace.replacement;
                    if let Ok(text) = std::str::from_utf8(&token)
                        && text.contains(mark)
                    {
                        let new = if drop { text.replace(mark, "") } else { text.replace(mark, " ") };
                        token = Cow::Owned(new.into_bytes());
                    }
                }
                DecodeStep::WordPiece { prefix, cleanup } => {
                    let mut text = String::from_utf8_lossy(&token).into_owned();
                    if !first {
                        text = match text.strip_prefix(&prefix[..]) {
                            Some(rest) if !prefix.is_empty() => rest.to_string(),
                            _ => format!(" {text}"),
                        };
                    }
                    if *cleanup {
                        text = undo_english_spacing(&text);
                    }
                    token = Cow::Owned(text.into_bytes());
                }
                DecodeStep::Suffix(suffix) => {
                    if let Ok(text) = std::str::from_utf8(&token)
                        && !suffix.is_empty()
                        && let Some(word) = text.strip_suffix(&suffix[..])
                    {
                        state.pending_space = true;
                        token = Cow::Owned(word.replace(&suffix[..], " ").into_bytes());
                    }
                }
            }
        }
        out.extend_from_slice(&token);
    }
}

fn replace(token: &mut Cow<'_, [u8]>, pattern: &Pattern, content: &str) {
    let Ok(text) = std::str::from_utf8(token) else { return };
    let mut new = String::new();
    let mut at = 0;
    // A pattern that gives up on one token leaves the rest of it as it is.
    let _ = pattern.for_each(text, |range| {
        new.push_str(&text[at..range.start]);
        new.push_str(content);
        at = range.end;
    });
    if at > 0 || !new.is_empty() {
        new.push_str(&text[at..]);
        *token = Cow::Owned(new.into_bytes());
    }
}

/// The byte of a `<0x..>` token.
pub(crate) fn byte_token(token: &[u8]) -> Option<u8> {
    let hex = token.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let text = std::str::from_utf8(hex).ok().filter(|t| t.len() == 2 && !t.starts_with('+'))?;
    u8::from_str_radix(text, 16).ok()
}

/// `clean_up_tokenization` of Hugging Face's WordPiece decoder, which it applies to one token at a time.
fn undo_english_spacing(text: &str) -> String {
    text.replace(" .", ".")
        .replace(" ?", "?")
        .replace(" !", "!")
        .replace(" ,", ",")
        .replace(" ' ", "'")
        .replace(" n't", "n't")
        .replace(" 'm", "'m")
        .replace(" do not", " don't")
        .replace(" 's", "'s")
        .replace(" 've", "'ve")
        .replace(" 're", "'re")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(steps: Vec<DecodeStep>, tokens: &[&str]) -> String {
        let decoder = Decoder::new(steps);
        let mut state = DecodeState::default();
        let mut out = Vec::new();
        for token in tokens {
            decoder.token(&mut state, token.as_bytes(), &mut out);
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn the_llama_chain() {
        let steps = || {
            vec![
                DecodeStep::Replace { pattern: Pattern::literal("▁").unwrap(), content: " ".into() },
                DecodeStep::ByteFallback,
                DecodeStep::Fuse,
                DecodeStep::Strip { content: ' ', start: 1, stop: 0 },
            ]
        };
        assert_eq!(run(steps(), &["▁", "▁He", "llo▁▁x", "<0xF0>", "<0x9F>", "<0xA6>", "<0x99>"]), " Hello  x🦙");
        assert_eq!(run(steps(), &["He", "▁llo"]), "He llo");
        assert_eq!(run(steps(), &["<0x+1>", "<0x0a>"]), "<0x+1>\n");
    }

    #[test]
    fn word_pieces_and_suffixes() {
        let wordpiece = |cleanup| vec![DecodeStep::WordPiece { prefix: "##".into(), cleanup }];
        assert_eq!(run(wordpiece(true), &["un", "##do", "it", ".", "do", "n't"]), "undo it. don't");
        assert_eq!(run(wordpiece(false), &["##do", "it", "."]), "##do it .");
        assert_eq!(run(vec![DecodeStep::Suffix("</w>".into())], &["un", "do</w>", "it</w>"]), "undo it");
    }

    #[test]
    fn metaspace_drops_the_mark_it_had_put() {
        let metaspace = |prepend| vec![DecodeStep::Metaspace(Metaspace { replacement: '▁', prepend, split: true })];
        assert_eq!(run(metaspace(PrependScheme::Always), &["▁a", "▁b"]), "a b");
        assert_eq!(run(metaspace(PrependScheme::Never), &["▁a", "▁b"]), " a b");
    }
}
