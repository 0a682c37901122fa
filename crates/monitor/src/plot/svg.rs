//! Text and numbers in SVG.

use std::fmt::Write;

/// Text between tags or in a quoted attribute. Control characters, which XML cannot hold, become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push(char::REPLACEMENT_CHARACTER),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A place in the picture, to a tenth of a pixel and without what is not needed: `12`, `12.5`, `-0.1`.
pub(super) fn place(out: &mut String, value: f64) {
    let tenths = (value * 10.0).round() as i64;
    if tenths < 0 {
        out.push('-');
    }
    let tenths = tenths.unsigned_abs();
    write!(out, "{}", tenths / 10).expect("a String takes everything");
    if !tenths.is_multiple_of(10) {
        write!(out, ".{}", tenths % 10).expect("a String takes everything");
    }
}

/// A measured value for programs that read the picture: six digits that matter.
pub(super) fn value(out: &mut String, value: f64) {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        write!(out, "{}", value as i64).expect("a String takes everything");
        return;
    }
    // Rounded through its text; printing the result gives the shortest form.
    let rounded: f64 = format!("{value:.5e}").parse().unwrap_or(value);
    let size = rounded.abs();
    let written = if (1e-4..1e15).contains(&size) { write!(out, "{rounded}") } else { write!(out, "{rounded:e}") };
    written.expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_leave_its_place() {
        let escaped = escape("<script>\"'&\u{0}\u{1b}\n</script>");
        assert_eq!(escaped, "&lt;script&gt;&quot;&#39;&amp;\u{fffd}\u{fffd} &lt;/script&gt;");
    }

    #[test]
    fn numbers_are_short() {
        let written = |write: fn(&mut String, f64), x: f64| {
            let mut text = String::new();
            write(&mut text, x);
            text
        };
        for (x, text) in [(0.0, "0"), (-0.04, "0"), (12.34, "12.3"), (-0.06, "-0.1"), (100.0, "100")] {
            assert_eq!(written(place, x), text);
        }
        for (x, text) in [(2.0, "2"), (2.345_678_9, "2.34568"), (1.0 / 3e7, "3.33333e-8"), (-0.5, "-0.5"), (0.0, "0")] {
            assert_eq!(written(value, x), text);
        }
    }
}
