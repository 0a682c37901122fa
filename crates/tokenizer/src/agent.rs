//! Agent tokens: a fixed set of control tokens for chats, plans, tools and media, at fixed offsets above a vocabulary.
//!
//! Off unless asked for. The names and offsets are those that splintr has published, so that ids agree with files
//! made with it.

use crate::added::AddedToken;
use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// The names in order of their offsets; each stands between `<|` and `|>`.
pub const NAMES: [&str; 54] = [
    "system",
    "user",
    "assistant",
    "im_start",
    "im_end",
    "think",
    "/think",
    "plan",
    "/plan",
    "step",
    "/step",
    "act",
    "/act",
    "observe",
    "/observe",
    "function",
    "/function",
    "result",
    "/result",
    "error",
    "/error",
    "code",
    "/code",
    "output",
    "/output",
    "lang",
    "/lang",
    "context",
    "/context",
    "quote",
    "/quote",
    "cite",
    "/cite",
    "source",
    "/source",
    "memory",
    "/memory",
    "recall",
    "/recall",
    "pad",
    "stop",
    "sep",
    "image",
    "/image",
    "audio",
    "/audio",
    "video",
    "/video",
    "title",
    "/title",
    "section",
    "/section",
    "summary",
    "/summary",
];

/// The first id of the agent tokens of a named vocabulary, where one has been published.
pub fn base(vocabulary: &str) -> Option<u32> {
    Some(match vocabulary {
        "cl100k_base" => 100_277,
        "o200k_base" | "gpt-oss" => 200_019,
        "llama3" => 128_300,
        "deepseek_v3" => 128_900,
        "qwen2" | "qwen3" => 151_669,
        "glm4" => 151_365,
        "kimi_k2" | "kimi_k3" => 163_840,
        "phi4" => 100_352,
        "olmo2" => 100_278,
        "llama2" | "mistral_v1" => 32_000,
        "codellama" => 32_016,
        "mistral_v2" => 32_768,
        "mistral_v3" | "mistral_tekken" => 131_072,
        "modernbert" => 50_368,
        "gemma2" => 256_000,
        "gemma3" | "gemma4" => 262_144,
        _ => return None,
    })
}

/// The agent tokens above `base`. Llama 3 has room for the six of media inside its own range and puts them there.
pub fn tokens(base: u32) -> impl Iterator<Item = AddedToken> {
    const LLAMA3: u32 = 128_300;
    NAMES.iter().zip(0u32..).map(move |(name, offset)| {
        let id = match offset {
            42..=47 if base == LLAMA3 => 128_256 + offset - 42,
            _ => base + offset,
        };
        AddedToken::special(id, format!("<|{name}|>"))
    })
}

impl Tokenizer {
    /// A copy with the 54 agent tokens from the id `base` on. A name that the vocabulary already has keeps its own id,
    /// and its place stays empty. They are special tokens: text never turns into one unless it is allowed.
    ///
    /// # Errors
    /// When one of their ids belongs to another token.
    pub fn with_agent_tokens(&self, base: u32) -> Result<Self> {
        self.with_added_tokens(tokens(base).filter(|t| self.token_to_id(&t.content).is_none()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Bytes, Model};
    use crate::tokenizer::TokenizerParts;

    #[test]
    fn offsets_are_the_published_ones() {
        let id = |base, name: &str| tokens(base).find(|t| t.content == name).map(|t| t.id);
        assert_eq!(id(100_277, "<|im_start|>"), Some(100_280));
        assert_eq!(id(100_277, "<|/summary|>"), Some(100_330));
        assert_eq!(id(200_019, "<|pad|>"), Some(200_058));
        assert_eq!(id(128_300, "<|image|>"), Some(128_256));
        assert_eq!(id(128_300, "<|/video|>"), Some(128_261));
        assert_eq!(id(128_300, "<|title|>"), Some(128_348));
    }

    #[test]
    fn a_name_of_the_vocabulary_keeps_its_id() {
        let parts = TokenizerParts {
            added_tokens: vec![AddedToken::special(256, "<|im_start|>")],
            ..TokenizerParts::new(Model::Bytes(Bytes::new(0).unwrap()))
        };
        let tokenizer = Tokenizer::new(parts).unwrap().with_agent_tokens(300).unwrap();
        assert_eq!(tokenizer.token_to_id("<|im_start|>"), Some(256));
        assert_eq!(tokenizer.token_to_id("<|im_end|>"), Some(304));
        assert_eq!(tokenizer.token_bytes(303), None);
        assert_eq!(tokenizer.encode("<|im_end|>").unwrap().len(), 10);
    }
}
