//! Scripts of characters, for trainers that keep pieces within one script.

use crate::hash::FastMap;
use cupola_regex::Regex;

/// The names of the scripts, frequent ones first.
#[rustfmt::skip]
const NAMES: [&str; 170] = [
    "Common", "Latin", "Han", "Hiragana", "Katakana", "Cyrillic", "Hangul", "Arabic", "Greek", "Hebrew", "Devanagari",
    "Thai", "Inherited", "Adlam", "Ahom", "Anatolian_Hieroglyphs", "Armenian", "Avestan", "Balinese", "Bamum", "Bassa_Vah",
    "Batak", "Bengali", "Bhaiksuki", "Bopomofo", "Brahmi", "Braille", "Buginese", "Buhid", "Canadian_Aboriginal", "Carian",
    "Caucasian_Albanian", "Chakma", "Cham", "Cherokee", "Chorasmian", "Coptic", "Cuneiform", "Cypriot", "Cypro_Minoan",
    "Deseret", "Dives_Akuru", "Dogra", "Duployan", "Egyptian_Hieroglyphs", "Elbasan", "Elymaic", "Ethiopic", "Garay",
    "Georgian", "Glagolitic", "Gothic", "Grantha", "Gujarati", "Gunjala_Gondi", "Gurmukhi", "Gurung_Khema",
    "Hanifi_Rohingya", "Hanunoo", "Hatran", "Imperial_Aramaic", "Inscriptional_Pahlavi", "Inscriptional_Parthian",
    "Javanese", "Kaithi", "Kannada", "Kawi", "Kayah_Li", "Kharoshthi", "Khitan_Small_Script", "Khmer", "Khojki", "Khudawadi",
    "Kirat_Rai", "Lao", "Lepcha", "Limbu", "Linear_A", "Linear_B", "Lisu", "Lycian", "Lydian", "Mahajani", "Makasar",
    "Malayalam", "Mandaic", "Manichaean", "Marchen", "Masaram_Gondi", "Medefaidrin", "Meetei_Mayek", "Mende_Kikakui",
    "Meroitic_Cursive", "Meroitic_Hieroglyphs", "Miao", "Modi", "Mongolian", "Mro", "Multani", "Myanmar", "Nabataean",
    "Nag_Mundari", "Nandinagari", "New_Tai_Lue", "Newa", "Nko", "Nushu", "Nyiakeng_Puachue_Hmong", "Ogham", "Ol_Chiki",
    "Ol_Onal", "Old_Hungarian", "Old_Italic", "Old_North_Arabian", "Old_Permic", "Old_Persian", "Old_Sogdian",
    "Old_South_Arabian", "Old_Turkic", "Old_Uyghur", "Oriya", "Osage", "Osmanya", "Pahawh_Hmong", "Palmyrene", "Pau_Cin_Hau",
    "Phags_Pa", "Phoenician", "Psalter_Pahlavi", "Rejang", "Runic", "Samaritan", "Saurashtra", "Sharada", "Shavian",
    "Siddham", "SignWriting", "Sinhala", "Sogdian", "Sora_Sompeng", "Soyombo", "Sundanese", "Sunuwar", "Syloti_Nagri",
    "Syriac", "Tagalog", "Tagbanwa", "Tai_Le", "Tai_Tham", "Tai_Viet", "Takri", "Tamil", "Tangsa", "Tangut", "Telugu",
    "Thaana", "Tibetan", "Tifinagh", "Tirhuta", "Todhri", "Toto", "Tulu_Tigalari", "Ugaritic", "Vai", "Vithkuqi", "Wancho",
    "Warang_Citi", "Yezidi", "Yi", "Zanabazar_Square",
];

/// The place of a name.
fn number(name: &str) -> u8 {
    NAMES.iter().position(|n| *n == name).map_or(u8::MAX, |at| at as u8)
}

/// What SentencePiece tells apart: scripts, of which those of Japanese are one with the Chinese.
#[derive(Debug)]
pub(super) struct Scripts {
    /// A class for each script that has been asked for.
    classes: Vec<Option<Regex>>,
    known: FastMap<char, u8>,
    han: u8,
    japanese: [u8; 2],
    inherited: u8,
}

/// The script of what goes with any other.
const ANY: u8 = u8::MAX;

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            classes: Vec::new(),
            known: FastMap::default(),
            han: number("Han"),
            japanese: [number("Hiragana"), number("Katakana")],
            inherited: number("Inherited"),
        }
    }

    /// The script of a character that follows one of script `before`.
    fn of(&mut self, c: char, before: u8) -> u8 {
        let script = match self.known.get(&c) {
            Some(&script) => script,
            None => {
                let script = self.look_up(c);
                self.known.insert(c, script);
                script
            }
        };
        match script {
            s if self.japanese.contains(&s) || c == '\u{30fc}' => self.han,
            s if s == self.inherited => before,
            s => s,
        }
    }

    fn look_up(&mut self, c: char) -> u8 {
        let mut buffer = [0; 4];
        let text = c.encode_utf8(&mut buffer);
        for (number, name) in NAMES.iter().enumerate() {
            if self.classes.len() == number {
                self.classes.push(Regex::new(&format!(r"\p{{Script={name}}}")).ok());
            }
            if self.classes[number].as_ref().is_some_and(|class| class.is_match(text)) {
                return number as u8;
            }
        }
        ANY
    }

    /// The number of characters, from the beginning of `text`, that a piece may have, at most `most`: those of one script, with
    /// a mark for a space only in front.
    pub(super) fn together(&mut self, text: &str, mark: Option<char>, most: usize) -> usize {
        let mut before = ANY;
        for (i, c) in text.chars().take(most).enumerate() {
            if Some(c) == mark {
                if i > 0 {
                    return i;
                }
                continue;
            }
            let script = self.of(c, before);
            if before != ANY && script != ANY && script != before {
                return i;
            }
            before = script;
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_script_and_pieces_end_where_the_script_changes() {
        let mut scripts = Scripts::new();
        assert_eq!(scripts.look_up('\u{10ffff}'), ANY);
        assert!(scripts.classes.len() == NAMES.len() && scripts.classes.iter().all(Option::is_some));
        let mut together = |text: &str| scripts.together(text, Some('\u{2581}'), 16);
        assert_eq!(together("\u{2581}word"), 16);
        assert_eq!(together("\u{2581}word, x"), 5);
        assert_eq!(together("word\u{2581}x"), 4);
        assert_eq!(together("a1"), 1);
        assert_eq!(together("1.5 %"), 16);
        assert_eq!(together("мирpeace"), 3);
        assert_eq!(together("日本のカメラー"), 16);
        assert_eq!(together("e\u{301}te\u{301}"), 16);
    }
}
