//! Requests that wait. Each is a group of parts, one for each of its prompts; groups take turns, a part at a time, so that one of
//! many parts does not keep the others waiting until its last.

use std::collections::VecDeque;

use super::job::Request;

/// The groups, whose turn it is first. None is empty.
#[derive(Default)]
pub(super) struct Waiting {
    groups: VecDeque<VecDeque<Request>>,
    tokens: usize,
}

impl Waiting {
    /// How many requests wait, with all or some of their parts.
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The tokens of all prompts that wait.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Adds a request.
    pub(super) fn push(&mut self, parts: impl IntoIterator<Item = Request>) {
        let group: VecDeque<Request> = parts.into_iter().collect();
        if !group.is_empty() {
            self.tokens += group.iter().map(|part| part.job.prompt.len()).sum::<usize>();
            self.groups.push_back(group);
        }
    }

    /// The part that is next.
    pub(super) fn front(&self) -> Option<&Request> {
        self.groups.front()?.front()
    }

    /// Takes the part that is next; the others of its request wait for their next turn.
    pub(super) fn pop(&mut self) -> Option<Request> {
        let mut group = self.groups.pop_front()?;
        let part = group.pop_front()?;
        self.tokens -= part.job.prompt.len();
        if !group.is_empty() {
            self.groups.push_back(group);
        }
        Some(part)
    }

    /// Lets go of parts that `keep` does not want.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Request) -> bool) {
        self.groups.iter_mut().for_each(|group| group.retain(&mut keep));
        self.groups.retain(|group| !group.is_empty());
        self.tokens = self.groups.iter().flatten().map(|part| part.job.prompt.len()).sum();
    }

    /// Lets go of all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::job;

    fn group(prompts: &[&[u32]]) -> Vec<Request> {
        prompts.iter().map(|prompt| Request::new(job(prompt, 1, 0)).0).collect()
    }

    #[test]
    fn requests_take_turns_and_tokens_are_counted() {
        let mut waiting = Waiting::default();
        waiting.push(group(&[&[1], &[2, 2], &[3]]));
        waiting.push(group(&[&[7; 5]]));
        waiting.push(Vec::new());
        assert_eq!((waiting.len(), waiting.tokens()), (2, 9));
        let mut order = Vec::new();
        while let Some(first) = waiting.front().map(|part| part.job.prompt[0]) {
            assert_eq!(waiting.pop().unwrap().job.prompt[0], first);
            order.push((first, waiting.tokens()));
        }
        assert_eq!(order, [(1, 8), (7, 3), (2, 1), (3, 0)]);
        waiting.push(group(&[&[1], &[2, 2]]));
        waiting.retain(|part| part.job.prompt.len() > 1);
        assert_eq!((waiting.len(), waiting.tokens()), (1, 2));
        waiting.retain(|_| false);
        assert!(waiting.is_empty() && waiting.front().is_none() && waiting.pop().is_none());
    }
}
