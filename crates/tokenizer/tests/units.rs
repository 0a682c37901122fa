//! The models of single characters and of single bytes.

use cupola_tokenizer::model::bpe::Unknown;
use cupola_tokenizer::model::units::{Bytes, Chars};
use cupola_tokenizer::{AddedToken, Error, Model, Tokenizer, TokenizerParts};

#[test]
fn characters_are_tokens_in_the_order_of_the_alphabet() {
    let unknown = |fuse| Unknown::Token { id: 4, fuse };
    let with = |unknown| {
        let model = Model::Chars(Chars::new("aé中 ".chars(), unknown).unwrap());
        let added_tokens = vec![AddedToken::special(4, "<unk>")];
        Tokenizer::new(TokenizerParts { added_tokens, ..TokenizerParts::new(model) }).unwrap()
    };
    let text = "é a中xyza";
    for (unknown, ids) in [
        (unknown(false), vec![1, 3, 0, 2, 4, 4, 4, 0]),
        (unknown(true), vec![1, 3, 0, 2, 4, 0]),
        (Unknown::Drop, vec![1, 3, 0, 2, 0]),
    ] {
        let tokenizer = with(unknown);
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{unknown:?}");
        assert_eq!(tokenizer.count(text).unwrap(), ids.len());
        let again = Tokenizer::from_json(tokenizer.to_json().unwrap()).unwrap();
        assert_eq!(again.encode(text).unwrap(), ids, "written and read: {unknown:?}");
        assert_eq!(again.decode(&[1, 3, 0, 2]).unwrap(), "é a中");
    }
    let refused = with(Unknown::Refuse).encode("é a中xyza").unwrap_err();
    assert!(matches!(refused, Error::NoToken { ref text, offset: 7 } if text == "x"), "{refused}");
    assert!(Chars::new("aba".chars(), Unknown::Drop).is_err(), "a repeated character");
}

#[test]
fn bytes_are_tokens_behind_an_offset() {
    for offset in [0, 3] {
        let model = Model::Bytes(Bytes::new(offset).unwrap());
        let special = ["<pad>", "</s>", "<unk>"].into_iter().take(offset as usize).enumerate();
        let added_tokens = special.map(|(id, text)| AddedToken::special(id as u32, text)).collect();
        let tokenizer = Tokenizer::new(TokenizerParts { added_tokens, ..TokenizerParts::new(model) }).unwrap();
        let text = "a é\u{0}中";
        let expected: Vec<u32> = text.bytes().map(|b| u32::from(b) + offset).collect();
        let again = Tokenizer::from_json(tokenizer.to_json().unwrap()).unwrap();
        for tokenizer in [&tokenizer, &again] {
            assert_eq!(tokenizer.encode(text).unwrap(), expected, "{offset}");
            assert_eq!(tokenizer.decode(&expected).unwrap(), text);
            assert_eq!(tokenizer.vocab_size(), 256 + offset as usize);
        }
        assert_eq!(tokenizer.encode_bytes(b"\xff\x00").unwrap(), [255 + offset, offset]);
    }
    assert!(Bytes::new(2_000_000).is_err());
}
