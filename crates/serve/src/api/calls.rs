//! The calls in an answer, as they are written.
//!
//! A call is `{"name": .., "arguments": {..}}`, between `<tool_call>` and `</tool_call>`, or the whole answer where one is demanded. As
//! soon as its name is known and its arguments begin, they are handed on piece by piece, as the model writes them; a call in
//! another order is handed on when it is whole. What is no call is text.

use serde_json::Value;

use super::tools::{CLOSE, OPEN, Tools};

/// A call that a model made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The function.
    pub name: String,
    /// Its arguments, as JSON text.
    pub arguments: String,
}

impl Call {
    fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text.trim()).ok()?;
        let name = value.get("name")?.as_str()?.to_owned();
        let arguments = value.get("arguments").or_else(|| value.get("parameters"));
        let arguments = match arguments {
            None => "{}".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        Some(Self { name, arguments })
    }
}

/// What of an answer is known so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text for the reader.
    Text(String),
    /// A call of this function begins.
    Call(String),
    /// More of its arguments.
    Arguments(String),
    /// Its arguments are whole.
    Done,
}

/// Finds calls in an answer that grows.
#[derive(Clone, Debug)]
pub struct CallFinder {
    held: String,
    place: Place,
    whole: bool,
    most: usize,
    found: usize,
}

/// Where in an answer the text that is held begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Text,
    /// Inside a call whose arguments have not begun.
    Head,
    /// Inside its arguments.
    Arguments(Nesting),
    /// Behind them.
    Tail,
}

/// How deep in a JSON value a place lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Nesting {
    depth: usize,
    text: bool,
    escaped: bool,
}

impl CallFinder {
    /// A finder for a request's answers.
    pub fn new(tools: &Tools) -> Self {
        let whole = tools.demanded().is_some();
        let most = if tools.parallel { usize::MAX } else { 1 };
        let place = if whole { Place::Head } else { Place::Text };
        Self { held: String::new(), place, whole, most, found: 0 }
    }

    /// Takes more text and returns what is certain now.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        loop {
            let goes_on = match self.place {
                Place::Text => self.text(&mut parts),
                Place::Head => self.head(&mut parts),
                Place::Arguments(nesting) => self.arguments(nesting, &mut parts),
                Place::Tail => self.tail(),
            };
            if !goes_on {
                return parts;
            }
        }
    }

    /// The end of the answer: what was held back.
    pub fn finish(&mut self) -> Vec<Part> {
        let rest = std::mem::take(&mut self.held);
        let mut parts = Vec::new();
        match self.place {
            Place::Text => push_text(&mut parts, rest),
            Place::Head => match Call::parse(&rest) {
                Some(call) => self.whole_call(call, &mut parts),
                None if self.whole => push_text(&mut parts, rest),
                None => push_text(&mut parts, format!("{OPEN}{rest}")),
            },
            // The beginning of the closing word, at most.
            Place::Arguments(_) | Place::Tail => {}
        }
        parts
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.found
    }

    /// Whether the answer ended inside a call's arguments.
    pub fn broken_off(&self) -> bool {
        matches!(self.place, Place::Arguments(_))
    }

    fn text(&mut self, parts: &mut Vec<Part>) -> bool {
        if let Some(at) = self.held.find(OPEN) {
            push_text(parts, self.held.drain(..at).collect());
            self.held.drain(..OPEN.len());
            self.place = Place::Head;
            return true;
        }
        let keep = held_back(&self.held, &[OPEN]);
        push_text(parts, self.held.drain(..self.held.len() - keep).collect());
        false
    }

    fn head(&mut self, parts: &mut Vec<Part>) -> bool {
        if let Some((name, at)) = begun(&self.held).filter(|_| self.found < self.most) {
            self.found += 1;
            parts.push(Part::Call(name));
            self.held.drain(..at);
            self.place = Place::Arguments(Nesting::default());
            return true;
        }
        let Some(end) = self.held.find(CLOSE).filter(|_| !self.whole) else { return false };
        let body: String = self.held.drain(..end + CLOSE.len()).collect();
        match Call::parse(&body[..end]) {
            Some(call) => self.whole_call(call, parts),
            None => push_text(parts, format!("{OPEN}{body}")),
        }
        self.place = Place::Text;
        true
    }

    /// A call that was not handed on in pieces.
    fn whole_call(&mut self, call: Call, parts: &mut Vec<Part>) {
        if self.found < self.most {
            self.found += 1;
            parts.extend([Part::Call(call.name), Part::Arguments(call.arguments), Part::Done]);
        }
    }

    fn arguments(&mut self, mut nesting: Nesting, parts: &mut Vec<Part>) -> bool {
        let mut ready = self.held.len();
        let mut ended = false;
        for (at, byte) in self.held.bytes().enumerate() {
            // No JSON has this outside of a text: either the call is closed too early, or it is not JSON in any case.
            if byte == b'<' && !nesting.text && !self.whole {
                let rest = &self.held[at..];
                if rest.starts_with(CLOSE) || CLOSE.starts_with(rest) {
                    (ready, ended) = (at, rest.len() >= CLOSE.len());
                    break;
                }
            }
            nesting = nesting.after(byte);
            if nesting.depth == 0 && !nesting.text {
                (ready, ended) = (at + 1, true);
                break;
            }
        }
        let more: String = self.held.drain(..ready).collect();
        if !more.is_empty() {
            parts.push(Part::Arguments(more));
        }
        self.place = if ended { Place::Tail } else { Place::Arguments(nesting) };
        if ended {
            parts.push(Part::Done);
        }
        ended
    }

    fn tail(&mut self) -> bool {
        if let Some(end) = self.held.find(CLOSE).filter(|_| !self.whole) {
            self.held.drain(..end + CLOSE.len());
            self.place = Place::Text;
            return true;
        }
        let keep = held_back(&self.held, &[CLOSE]);
        self.held.drain(..self.held.len() - keep);
        false
    }
}

impl Nesting {
    fn after(mut self, byte: u8) -> Self {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.text => self.escaped = true,
            b'"' => self.text = !self.text,
            b'{' | b'[' if !self.text => self.depth += 1,
            b'}' | b']' if !self.text => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self
    }
}

/// The name of a call whose arguments have begun, and where they do.
fn begun(text: &str) -> Option<(String, usize)> {
    let mut name = None;
    let mut rest = text.trim_start().strip_prefix('{')?.trim_start();
    loop {
        let (key, after) = string(rest)?;
        let value = after.trim_start().strip_prefix(':')?.trim_start();
        if key == "arguments" || key == "parameters" {
            // Anything but an object is taken as it is when it is whole.
            return value.starts_with('{').then_some((name?, text.len() - value.len()));
        }
        let (found, after) = string(value)?;
        if key == "name" {
            name = Some(found);
        }
        rest = after.trim_start().strip_prefix(',')?.trim_start();
    }
}

/// A whole JSON string at the beginning of a text, and what follows it.
fn string(text: &str) -> Option<(String, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let first = values.next()?.ok()?;
    let end = values.byte_offset();
    Some((first, &text[end..]))
}

fn push_text(parts: &mut Vec<Part>, text: String) {
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
}

/// How many bytes at the end of a text may be the beginning of one of `words`.
pub fn held_back(text: &str, words: &[impl AsRef<str>]) -> usize {
    let longest = words.iter().map(|word| word.as_ref().len()).max().unwrap_or(0);
    let from = text.len().saturating_sub(longest.saturating_sub(1));
    let starts = (from..text.len()).filter(|&at| text.is_char_boundary(at));
    let begins = |at: &usize| words.iter().any(|word| word.as_ref().starts_with(&text[*at..]));
    starts.into_iter().find(begins).map_or(0, |at| text.len() - at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fields::Fields;
    use serde_json::json;

    fn finder(value: Value) -> CallFinder {
        let functions = json!([
            {"type": "function", "function": {"name": "f"}},
            {"type": "function", "function": {"name": "g"}}
        ]);
        let mut fields = value;
        fields["tools"] = functions;
        CallFinder::new(&Tools::take(&mut Fields::new(fields, String::new()).unwrap(), false).unwrap())
    }

    /// The text, the calls and the number of pieces of an answer that comes in pieces of so many characters.
    fn read(mut finder: CallFinder, text: &str, step: usize) -> (String, Vec<Call>, usize, bool) {
        let chars: Vec<char> = text.chars().collect();
        let mut parts = Vec::new();
        for piece in chars.chunks(step) {
            parts.extend(finder.push(&piece.iter().collect::<String>()));
        }
        parts.extend(finder.finish());
        let (mut rest, mut calls, mut pieces) = (String::new(), Vec::<Call>::new(), 0);
        for part in parts {
            match part {
                Part::Text(text) => rest.push_str(&text),
                Part::Call(name) => calls.push(Call { name, arguments: String::new() }),
                Part::Arguments(more) => {
                    pieces += 1;
                    calls.last_mut().unwrap().arguments.push_str(&more);
                }
                Part::Done => {}
            }
        }
        assert_eq!(calls.len(), finder.calls());
        (rest, calls, pieces, finder.broken_off())
    }

    fn call(name: &str, arguments: &str) -> Call {
        Call { name: name.into(), arguments: arguments.into() }
    }

    #[test]
    fn calls_are_found_however_the_text_is_cut() {
        let text = "Let me see. <tool_call>{\"name\": \"f\", \"arguments\": {\"a\": [1, \"}</tool_call>\\\"\"]}}</tool_call> <b> \
                    <tool_call>no</tool_call>é<tool_call>{\"arguments\": {\"é\": 1}, \"name\": \"f\"}</tool_call>\
                    <tool_call>{\"name\":\"g\", \"arguments\": \"{}\"}</tool_call><tool_call>{\"name\":\"g\"}";
        for step in 1..text.chars().count() {
            let (rest, calls, ..) = read(finder(json!({})), text, step);
            assert_eq!(rest, "Let me see.  <b> <tool_call>no</tool_call>é", "step {step}");
            let nested = "{\"a\": [1, \"}</tool_call>\\\"\"]}";
            assert_eq!(
                calls,
                [call("f", nested), call("f", "{\"é\":1}"), call("g", "{}"), call("g", "{}")],
                "step {step}"
            );
        }
    }

    #[test]
    fn arguments_are_handed_on_as_they_come() {
        let text = "<tool_call>{\"name\": \"f\", \"arguments\": {\"city\": \"Zürich\"}}</tool_call>";
        let (_, calls, pieces, _) = read(finder(json!({})), text, 1);
        assert_eq!((calls.len(), pieces), (1, "{\"city\": \"Zürich\"}".chars().count()));
        let mut finder = finder(json!({}));
        assert_eq!(finder.push("<tool_call>{\"name\": \"f\", \"arguments\": "), []);
        assert_eq!(finder.push("{\"a"), [Part::Call("f".into()), Part::Arguments("{\"a".into())]);
        assert_eq!(finder.push("\": 1}"), [Part::Arguments("\": 1}".into()), Part::Done]);
        assert_eq!(finder.push("}</tool_call>ok"), [Part::Text("ok".into())]);
    }

    #[test]
    fn a_call_that_ends_too_early_says_so() {
        let cut = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"x";
        for step in 1..cut.len() {
            assert_eq!(read(finder(json!({})), cut, step).1, [call("f", "{\"a\": \"x")]);
            assert!(read(finder(json!({})), cut, step).3);
            // Closed without its brackets: what follows is text again.
            let closed = "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1</tool_call>on";
            let (rest, calls, _, broken) = read(finder(json!({})), closed, step);
            assert_eq!((rest.as_str(), calls, broken), ("on", vec![call("f", "{\"a\": 1")], false), "step {step}");
        }
    }

    #[test]
    fn one_call_is_all_where_they_may_not_be_parallel() {
        let text = "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call><tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>.";
        for step in 1..text.len() {
            let (rest, calls, ..) = read(finder(json!({"parallel_tool_calls": false})), text, step);
            assert_eq!((rest.as_str(), calls), (".", vec![call("f", "{}")]), "step {step}");
        }
    }

    #[test]
    fn a_demanded_call_is_the_whole_answer() {
        let text = "{\"name\":\"f\",\"arguments\":{\"a\":\"<tool_call></tool_call>\"}}";
        for step in 1..text.len() {
            let (rest, calls, ..) = read(finder(json!({"tool_choice": "required"})), text, step);
            assert_eq!(
                (rest.as_str(), calls),
                ("", vec![call("f", "{\"a\":\"<tool_call></tool_call>\"}")]),
                "step {step}"
            );
        }
        assert_eq!(read(finder(json!({"tool_choice": "required"})), "{\"na", 1).0, "{\"na");
    }

    #[test]
    fn beginnings_of_words_are_held_back() {
        assert_eq!(held_back("abc", &["cd"]), 1);
        assert_eq!(held_back("abc", &["bcd", "c"]), 2);
        assert_eq!(held_back("é", &["x"]), 0);
        assert_eq!(held_back("", &["x"]), 0);
    }
}
