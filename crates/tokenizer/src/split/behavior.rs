//! What becomes of separators.

/// What a split does with the text that separates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behavior {
    /// It is dropped.
    Removed,
    /// It is a piece of its own.
    Isolated,
    /// It belongs to the piece before it.
    MergedWithPrevious,
    /// It belongs to the piece after it.
    MergedWithNext,
    /// Neighbouring separators are one piece.
    Contiguous,
}

/// Collects pieces from alternating text and separators.
pub(crate) struct Parts<'a> {
    behavior: Behavior,
    out: &'a mut Vec<(u32, u32)>,
    from: usize,
    last_separates: bool,
    /// Separators that wait for the piece after them.
    waiting: Option<(u32, u32)>,
}

impl<'a> Parts<'a> {
    pub(crate) fn new(behavior: Behavior, out: &'a mut Vec<(u32, u32)>) -> Self {
        let from = out.len();
        Self { behavior, out, from, last_separates: false, waiting: None }
    }

    /// The next stretch of text, which may be empty.
    pub(crate) fn push(&mut self, start: usize, end: usize, separates: bool) {
        if start == end {
            return;
        }
        let part = (start as u32, end as u32);
        let last_separates = std::mem::replace(&mut self.last_separates, separates);
        match self.behavior {
            Behavior::Removed if separates => {}
            Behavior::Removed | Behavior::Isolated => self.out.push(part),
            Behavior::Contiguous => match self.out.get_mut(self.from..).and_then(<[_]>::last_mut) {
                Some(last) if last_separates == separates => last.1 = part.1,
                _ => self.out.push(part),
            },
            // Only the first of several neighbouring separators joins the text before them.
            Behavior::MergedWithPrevious => match self.out.get_mut(self.from..).and_then(<[_]>::last_mut) {
                Some(last) if separates && !last_separates => last.1 = part.1,
                _ => self.out.push(part),
            },
            // Only the last of several neighbouring separators joins the text after them.
            Behavior::MergedWithNext => {
                let waiting = self.waiting.take();
                if separates {
                    self.out.extend(waiting);
                    self.waiting = Some(part);
                } else {
                    self.out.push((waiting.map_or(part.0, |w| w.0), part.1));
                }
            }
        }
    }

    pub(crate) fn finish(self) {
        self.out.extend(self.waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(behavior: Behavior) -> Vec<&'static str> {
        let text = "-a--b-";
        let mut out = Vec::new();
        let mut parts = Parts::new(behavior, &mut out);
        for (i, c) in text.char_indices() {
            parts.push(i, i + 1, c == '-');
        }
        parts.finish();
        out.into_iter().map(|(a, b)| &text[a as usize..b as usize]).collect()
    }

    #[test]
    fn separators_go_where_they_should() {
        assert_eq!(run(Behavior::Removed), ["a", "b"]);
        assert_eq!(run(Behavior::Isolated), ["-", "a", "-", "-", "b", "-"]);
        assert_eq!(run(Behavior::Contiguous), ["-", "a", "--", "b", "-"]);
        assert_eq!(run(Behavior::MergedWithPrevious), ["-", "a-", "-", "b-"]);
        assert_eq!(run(Behavior::MergedWithNext), ["-a", "-", "-b", "-"]);
    }
}
