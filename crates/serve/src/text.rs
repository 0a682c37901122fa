//! From tokens to the text that a client sees: whole characters, up to a stop text.

use cupola_tokenizer::{DecodeOptions, StreamDecoder, Tokenizer};

use crate::api::calls::held_back;

/// One answer's text as it grows.
#[derive(Clone, Debug)]
pub struct TextStream {
    decoder: StreamDecoder,
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl TextStream {
    /// An empty text that ends before any of `stops`.
    pub fn new(tokenizer: &Tokenizer, stops: Vec<String>) -> Self {
        let decoder = tokenizer.stream_decoder_with(DecodeOptions { skip_special: true });
        Self { decoder, stops, held: String::new(), stopped: false }
    }

    /// Takes a token and returns the text that is certain now: what may be the beginning of a stop text is held back.
    pub fn push(&mut self, id: u32) -> String {
        if self.stopped {
            return String::new();
        }
        // A row of the output layer beyond the vocabulary has no text.
        let text = self.decoder.push(id).unwrap_or_default();
        self.held.push_str(&text);
        self.release(false)
    }

    /// True when a stop text was met.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Ends the text and returns what was held back.
    pub fn finish(&mut self) -> String {
        if self.stopped {
            return String::new();
        }
        let rest = self.decoder.finish();
        self.held.push_str(&rest);
        self.release(true)
    }

    fn release(&mut self, end: bool) -> String {
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = found {
            self.stopped = true;
            let mut text = std::mem::take(&mut self.held);
            text.truncate(at);
            return text;
        }
        let keep = if end { 0 } else { held_back(&self.held, &self.stops) };
        self.held.drain(..self.held.len() - keep).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_stop_text_is_ever_shown() {
        let tokenizer = crate::testing::byte_tokenizer();
        let ids = tokenizer.encode("one END é two\nuser: x").unwrap();
        let run = |stops: &[&str]| {
            let mut stream = TextStream::new(&tokenizer, stops.iter().map(|s| (*s).to_owned()).collect());
            let mut text = String::new();
            for &id in &ids {
                text.push_str(&stream.push(id));
                assert!(!stops.iter().any(|stop| text.contains(stop)));
            }
            text.push_str(&stream.finish());
            (text, stream.stopped())
        };
        assert_eq!(run(&[]), ("one END é two\nuser: x".into(), false));
        assert_eq!(run(&["END"]), ("one ".into(), true));
        assert_eq!(run(&["\nuser:", "zzz"]), ("one END é two".into(), true));
        assert_eq!(run(&["xyz"]), ("one END é two\nuser: x".into(), false));
        assert_eq!(run(&["two", "é"]), ("one END ".into(), true));
    }
}
