//! The vocabularies whose licences ask for a decision, each behind its own feature.

use cupola_tokenizer::Tokenizer;
use cupola_tokenizer::vocabularies::{NAMES, feature};

/// Ids that splintr 0.22 gives, whose own tests compare it with the models' tokenizers.
#[cfg(any(feature = "llama3", feature = "llama2", feature = "gemma"))]
const TEXTS: [&str; 7] = [
    "Hello world",
    "  two  spaces",
    "naïve 🔥 中文 123 4567",
    "I'm here, it'S\r\n\n\tx",
    " lead",
    "a\n\n\nb    c",
    "<b>x</b><unused3>y",
];

#[cfg(any(feature = "llama3", feature = "llama2", feature = "gemma"))]
#[track_caller]
fn check(name: &str, expected: [&[u32]; 7], bos: u32, size: usize) {
    use cupola_tokenizer::{AllowedSpecial, EncodeOptions};
    let tokenizer = Tokenizer::named(name).unwrap();
    for (text, ids) in TEXTS.iter().zip(expected) {
        // The reference turns text into Gemma's unused places, which are control tokens here.
        let allowed = EncodeOptions::default().allow(AllowedSpecial::All);
        assert_eq!(tokenizer.encode_with(text, &allowed).unwrap(), ids, "{name}: {text:?}");
        if !text.contains("<unused") {
            assert_eq!(tokenizer.encode(text).unwrap(), ids, "{name}: {text:?}");
        }
        assert_eq!(tokenizer.decode(ids).unwrap(), *text, "{name}");
    }
    let with_template = tokenizer.encode_with(TEXTS[0], &EncodeOptions::default().with_template()).unwrap();
    assert_eq!(with_template, [&[bos], expected[0]].concat());
    assert_eq!(tokenizer.vocab_size(), size);
    let control = tokenizer.id_to_token(bos).unwrap().into_owned();
    assert!(!tokenizer.encode(&control).unwrap().contains(&bos), "text is no control token");
}

#[test]
fn without_its_feature_a_vocabulary_says_how_to_get_it() {
    for name in NAMES {
        let (feature, there) = feature(name).unwrap();
        match Tokenizer::named(name) {
            Ok(_) => assert!(there, "{name}"),
            Err(error) => {
                assert!(!there, "{name}: {error}");
                assert!(error.to_string().contains(&format!("the feature `{feature}`")), "{error}");
            }
        }
    }
}

#[cfg(feature = "llama3")]
#[test]
fn llama3() {
    let expected: [&[u32]; 7] = [
        &[9906, 1917],
        &[220, 1403, 220, 12908],
        &[3458, 38672, 588, 96169, 98, 73958, 17161, 220, 4513, 220, 10961, 22],
        &[40, 2846, 1618, 11, 433, 13575, 81923, 10436],
        &[3063],
        &[64, 1432, 65, 262, 272],
        &[34277, 29357, 524, 65, 1822, 25743, 18, 83344],
    ];
    check("llama3", expected, 128_000, 128_256);
    let tokenizer = Tokenizer::named("llama3").unwrap();
    let id = |token| tokenizer.token_to_id(token);
    assert_eq!(id("<|eot_id|>"), Some(128_009));
    assert_eq!(id("<|reserved_special_token_2|>"), Some(128_005));
    assert_eq!(id("<|reserved_special_token_247|>"), Some(128_255));
}

#[cfg(feature = "llama2")]
#[test]
fn llama2_and_code_llama() {
    let expected: [&[u32]; 7] = [
        &[15043, 3186],
        &[259, 1023, 29871, 8162],
        &[
            1055, 30085, 345, 29871, 243, 162, 151, 168, 29871, 30275, 30333, 29871, 29896, 29906, 29941, 29871, 29946,
            29945, 29953, 29955,
        ],
        &[306, 29915, 29885, 1244, 29892, 372, 29915, 29903, 30004, 13, 13, 12, 29916],
        &[29871, 3275],
        &[263, 13, 13, 13, 29890, 1678, 274],
        &[529, 29890, 29958, 29916, 829, 29890, 5299, 348, 3880, 29941, 29958, 29891],
    ];
    check("llama2", expected, 1, 32_000);
    check("codellama", expected, 1, 32_016);
}

#[cfg(feature = "gemma")]
#[test]
fn gemma_2_and_3() {
    let expected: [&[u32]; 7] = [
        &[4521, 2134],
        &[139, 9721, 139, 46633],
        &[556, 236370, 524, 72373, 102546, 235248, 235274, 235284, 235304, 235248, 235310, 235308, 235318, 235324],
        &[235285, 235303, 235262, 1517, 235269, 665, 235303, 235277, 235316, 109, 226, 235297],
        &[2389],
        &[235250, 110, 235268, 141, 235260],
        &[201, 235297, 210, 10, 235267],
    ];
    check("gemma2", expected, 2, 256_000);
    let expected: [&[u32]; 7] = [
        &[9259, 1902],
        &[138, 13498, 138, 35220],
        &[
            1789, 238527, 560, 128728, 17346, 237364, 236743, 236770, 236778, 236800, 236743, 236812, 236810, 236825,
            236832,
        ],
        &[236777, 236789, 236757, 1590, 236764, 625, 236789, 236773, 251, 108, 255968, 236781],
        &[2080],
        &[236746, 109, 236763, 140, 236755],
        &[200, 236781, 209, 9, 236762],
    ];
    check("gemma3", expected, 2, 262_144);
    for name in ["gemma2", "gemma3"] {
        let tokenizer = Tokenizer::named(name).unwrap();
        let text = "<end_of_turn>\n<start_of_turn>model\n<unused3>";
        let typed = tokenizer.encode(text).unwrap();
        for control in ["<end_of_turn>", "<start_of_turn>", "<unused3>"] {
            let id = tokenizer.token_to_id(control).unwrap();
            assert!(tokenizer.is_special(id) && !typed.contains(&id), "{name}: {control}");
        }
        assert_eq!(tokenizer.decode(&typed).unwrap(), text);
    }
}
