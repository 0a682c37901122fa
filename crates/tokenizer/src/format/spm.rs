//! `.spm` files: the pieces of a SentencePiece BPE model as text. A line is a piece in base64, its score and, where the
//! file has it, the number of its type; the number of the line is the id.

use super::sentencepiece::{BPE, Kind, Piece, Spec};
use super::tiktoken::base64;
use crate::error::{Error, Result, excerpt};
use crate::tokenizer::Tokenizer;

const FORMAT: &str = ".spm";

impl Tokenizer {
    /// Reads a `.spm` file. Such a file has no settings of normalisation: text stays as it is, but for the spaces, which
    /// are marked, and one more that `add_dummy_prefix` puts in front (Llama 2: yes, Gemma: no). Characters without a
    /// token become bytes when the file has the 256 byte tokens.
    ///
    /// # Errors
    /// When a line does not follow the format.
    pub fn from_spm(file: &[u8], add_dummy_prefix: bool) -> Result<Self> {
        let lines = file.split(|&b| b == b'\n').map(<[u8]>::trim_ascii_end).enumerate();
        let pieces = lines.filter(|(_, line)| !line.is_empty()).map(|(number, line)| {
            piece(line).ok_or_else(|| {
                let line = excerpt(&String::from_utf8_lossy(line));
                let number = number + 1;
                Error::malformed(
                    FORMAT,
                    format!(
                        "line {number} is {line:?}; base64 of text, a score and perhaps a type from 1 to 6 are expected"
                    ),
                )
            })
        });
        let pieces = pieces.collect::<Result<Vec<Piece>>>()?;
        if pieces.is_empty() {
            return Err(Error::malformed(FORMAT, "no pieces"));
        }
        let bytes = pieces.iter().filter(|p| p.kind == Kind::Byte).count();
        Self::from_spec(Spec {
            pieces,
            model_type: BPE,
            byte_fallback: bytes == 256,
            add_dummy_prefix,
            remove_extra_whitespaces: false,
            ..Spec::default()
        })
    }
}

fn piece(line: &[u8]) -> Option<Piece> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let text = String::from_utf8(base64(words.next()?.as_bytes())?).ok().filter(|text| !text.is_empty())?;
    let score = words.next()?.parse().ok().filter(|score: &f32| score.is_finite())?;
    let kind = match words.next() {
        Some(number) => Kind::from_number(number.parse().ok()?)?,
        None => kind(&text),
    };
    words.next().is_none().then_some(Piece { text, score, kind })
}

/// The type of a piece whose file does not say it, by the names that SentencePiece itself gives.
fn kind(text: &str) -> Kind {
    match text {
        "<unk>" => Kind::Unknown,
        "<s>" | "</s>" => Kind::Control,
        _ => {
            let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
            let byte = digits.is_some_and(|d| d.len() == 2 && d.bytes().all(|b| b.is_ascii_hexdigit()));
            if byte { Kind::Byte } else { Kind::Normal }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::added::AllowedSpecial;
    use crate::tokenizer::EncodeOptions;

    /// `<unk>`, `<s>`, the mark, `a`, `b`, the mark and `a`, `ab`.
    const FILE: &str = "PHVuaz4= 0.0\nPHM+ 0.0\n4paB -5\nYQ== -6\nYg== -7\n4paBYQ== -1.5\nYWI= -2\n";

    #[test]
    fn the_best_score_merges_first() {
        let tokenizer = Tokenizer::from_spm(FILE.as_bytes(), true).unwrap();
        assert_eq!(tokenizer.encode("ab").unwrap(), [5, 4]);
        assert_eq!(tokenizer.encode("<s>").unwrap(), [2, 0], "text is no control token");
        assert_eq!(tokenizer.decode(&[5, 4]).unwrap(), "ab");
        let plain = Tokenizer::from_spm(FILE.as_bytes(), false).unwrap();
        assert_eq!(plain.encode("ab ab").unwrap(), [6, 5, 4]);
        assert_eq!(tokenizer.bos(), Some(1));
    }

    #[test]
    fn a_type_is_followed_where_it_is_given() {
        let file = FILE.replace("YWI= -2", "YWI= 0.0 4");
        let tokenizer = Tokenizer::from_spm(file.as_bytes(), true).unwrap();
        assert_eq!(tokenizer.encode("ab").unwrap(), [2, 6], "a user-defined piece is found as it stands");
    }

    #[test]
    fn user_defined_control_tokens_need_permission() {
        // `<start_of_turn>` and `<b>`, both user-defined, and what is needed to spell them.
        let letters = "<start_of_turn>".chars().chain("b".chars()).collect::<std::collections::BTreeSet<_>>();
        let line = |text: &str, kind| format!("{} -9 {kind}\n", crate::format::tiktoken::to_base64(text.as_bytes()));
        let mut file = line("<unk>", 2) + &line("<start_of_turn>", 4) + &line("<b>", 4) + &line("\u{2581}", 1);
        file.extend(letters.iter().map(|c| line(&c.to_string(), 1)));
        let tokenizer = Tokenizer::from_spm(file.as_bytes(), false).unwrap();
        let typed = tokenizer.encode("<b><start_of_turn>").unwrap();
        assert_eq!(typed.len(), 1 + "<start_of_turn>".len(), "{typed:?}");
        assert_eq!(typed[0], 2, "a tag is found as it stands");
        assert!(!typed.contains(&1), "text is no control token");
        assert_eq!(tokenizer.decode(&typed).unwrap(), "<b><start_of_turn>");
        let allowed = EncodeOptions::default().allow(AllowedSpecial::All);
        assert_eq!(tokenizer.encode_with("<b><start_of_turn>", &allowed).unwrap(), [2, 1]);
        assert!(tokenizer.is_special(1) && !tokenizer.is_special(2));
    }

    #[test]
    fn a_damaged_line_is_named() {
        for line in ["YQ==", "YQ -1", "YQ== x", "YQ== nan", "YQ== 0 7", "YQ== 0 1 1", " 0", "/w== 0"] {
            let error = Tokenizer::from_spm(format!("{FILE}{line}\n").as_bytes(), true).unwrap_err().to_string();
            assert!(error.contains("line 8 is"), "{line}: {error}");
        }
        assert!(Tokenizer::from_spm(b"\n", true).is_err());
    }
}
