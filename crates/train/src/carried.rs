//! The text that the program carries, for a first run without any file of the user's.
//!
//! About a megabyte of our own documents, comments and sources, made by `tools/carried_text.py`.

use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

const PACKED: &[u8] = include_bytes!("../assets/carried.zz");
/// More than it is; the file is our own.
const MOST: usize = 4 << 20;

/// The text.
pub fn text() -> String {
    let bytes = decompress_to_vec_zlib_with_limit(PACKED, MOST).expect("the file was packed by our own script");
    String::from_utf8(bytes).expect("the script writes UTF-8")
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_is_about_a_megabyte_of_words() {
        let text = super::text();
        assert!((900_000..1_400_000).contains(&text.len()), "{}", text.len());
        assert!(text.matches(" the ").count() > 3000);
    }
}
