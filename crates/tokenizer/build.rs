//! Recovers the ranks of r50k and p50k, for the feature `vocabularies`, from a crate that keeps its files to itself.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "vocabularies")]
    recover();
}

/// Writes the bytes of every id: `rank, length, bytes`, both numbers as little-endian `u32`.
#[cfg(feature = "vocabularies")]
fn recover() {
    let folder = std::path::PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let names = [("r50k_base", tiktoken_rs::r50k_base(), 50257u32), ("p50k_base", tiktoken_rs::p50k_base(), 50281)];
    for (name, encoding, bound) in names {
        let encoding = encoding.expect("the crate's own vocabulary loads");
        let mut file = Vec::new();
        // 50256 is <|endoftext|> in both.
        for id in (0..bound).filter(|&id| id != 50256) {
            let bytes = encoding.decode_bytes(&[id]).expect("every id below the bound has bytes");
            file.extend_from_slice(&id.to_le_bytes());
            file.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            file.extend_from_slice(&bytes);
        }
        std::fs::write(folder.join(format!("{name}.ranks")), file).expect("OUT_DIR is writable");
    }
}
