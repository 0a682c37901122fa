//! What a compiler to machine code could make of an automaton at best: the pattern of cl100k on ASCII, each state a place in
//! the code, each class a comparison or a look into one table, each run a loop of its own.

const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const SPACE: u8 = 4;
const BREAK: u8 = 8;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let b = byte as u8;
        classes[byte] = if b.is_ascii_alphabetic() {
            LETTER
        } else if b.is_ascii_digit() {
            DIGIT
        } else if b == b'\n' || b == b'\r' {
            SPACE | BREAK
        } else if b == b' ' || b == b'\t' || b == 0x0b || b == 0x0c {
            SPACE
        } else {
            0
        };
        byte += 1;
    }
    classes
};

#[inline(always)]
fn class(text: &[u8], at: usize) -> Option<u8> {
    text.get(at).map(|&byte| CLASSES[byte as usize])
}

#[inline(always)]
fn run(text: &[u8], mut at: usize, belongs: impl Fn(u8) -> bool) -> usize {
    while class(text, at).is_some_and(&belongs) {
        at += 1;
    }
    at
}

fn contraction(rest: &[u8]) -> Option<usize> {
    let low = |i: usize| rest.get(i).map(|b| b | 0x20);
    match (low(0)?, low(1)) {
        (b's' | b't' | b'm' | b'd', _) => Some(1),
        (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(2),
        _ => None,
    }
}

/// Ends of all matches; their number.
pub fn split(text: &[u8], out: &mut [u32]) -> usize {
    let (mut at, mut count) = (0, 0);
    while at < text.len() {
        at = next(text, at);
        out[count] = at as u32;
        count += 1;
    }
    count
}

#[inline(always)]
fn next(text: &[u8], at: usize) -> usize {
    let byte = text[at];
    let here = CLASSES[byte as usize];
    if here == LETTER {
        return run(text, at + 1, |c| c == LETTER);
    }
    if here == DIGIT {
        return run(&text[..text.len().min(at + 3)], at + 1, |c| c == DIGIT);
    }
    if byte == b'\''
        && let Some(len) = contraction(&text[at + 1..])
    {
        return at + 1 + len;
    }
    let after = class(text, at + 1);
    if here & BREAK == 0 && after == Some(LETTER) {
        return run(text, at + 2, |c| c == LETTER);
    }
    if here == 0 || byte == b' ' && after == Some(0) {
        let end = run(text, at + 1, |c| c == 0);
        return run(text, end, |c| c & BREAK != 0);
    }
    let end = run(text, at + 1, |c| c & SPACE != 0);
    if let Some(last) = text[at..end].iter().rposition(|&b| b == b'\n' || b == b'\r') {
        return at + last + 1;
    }
    if end < text.len() && end - at > 1 { end - 1 } else { end }
}
