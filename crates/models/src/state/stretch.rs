//! A page's worth of a sequence, for others that begin alike.

use super::pool::Page;
use super::{MixerState, PAGE, Recurrent, State};

/// What the state of a sequence keeps of [`PAGE`] of its tokens: the full page of each layer that has pages, and what the scans had come
/// to behind the last of these tokens, if that is known. It shares the pages with the state;
/// scans that lie in a stack with those of other sequences are copied out of it, others are shared too.
#[derive(Clone)]
pub struct Stretch {
    layers: Vec<Part>,
}

#[derive(Clone)]
enum Part {
    Page(Page),
    Scan(Option<Recurrent>),
}

impl Stretch {
    /// Whether a sequence can go on behind it: what all scans had come to is known.
    pub fn is_resumable(&self) -> bool {
        self.layers.iter().all(|part| !matches!(part, Part::Scan(None)))
    }

    /// Bytes that it holds, of what is shared included.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(Part::bytes).sum()
    }

    /// Bytes that nobody else holds: what there is to gain by dropping it.
    pub fn bytes_alone(&self) -> usize {
        let alone = |part: &&Part| match part {
            Part::Page(page) => !page.is_shared(),
            Part::Scan(scan) => scan.as_ref().is_some_and(|scan| !scan.is_shared()),
        };
        self.layers.iter().filter(alone).map(Part::bytes).sum()
    }
}

impl Part {
    fn bytes(&self) -> usize {
        match self {
            Part::Page(page) => page.bytes(),
            Part::Scan(scan) => scan.as_ref().map_or(0, Recurrent::bytes),
        }
    }
}

impl State {
    /// The page of tokens that ends at `end`, a multiple of [`PAGE`]: with what scans have come to if the sequence is there now. None
    /// when it has not come so far, or what it has read was recorded.
    pub fn stretch(&self, end: usize) -> Option<Stretch> {
        let part = |layer: &MixerState| match layer {
            MixerState::KeyValue(all) => all.page(end).map(Part::Page),
            MixerState::Recurrent(all) => Some(Part::Scan((self.position == end).then(|| all.snapshot()))),
        };
        let reached = end > 0 && end <= self.position && end.is_multiple_of(PAGE);
        let layers = self.layers.iter().map(part).collect::<Option<Vec<_>>>().filter(|_| reached)?;
        Some(Stretch { layers })
    }

    /// Goes on behind these stretches, which follow each other behind what was read so far; nothing is copied.
    ///
    /// # Panics
    /// When this state stands within a page, the last stretch cannot be resumed from, or one is of another model.
    #[track_caller]
    pub fn resume(&mut self, stretches: &[Stretch]) {
        let Some(last) = stretches.last() else { return };
        assert!(
            self.position.is_multiple_of(PAGE) && last.is_resumable(),
            "resume: behind {} tokens, with a last stretch that can be resumed from ({})",
            self.position,
            last.is_resumable()
        );
        for stretch in stretches {
            assert_eq!(stretch.layers.len(), self.layers.len(), "resume: a stretch of another model");
            for (layer, part) in self.layers.iter_mut().zip(&stretch.layers) {
                match (layer, part) {
                    (MixerState::KeyValue(all), Part::Page(page)) => all.push(page),
                    (MixerState::Recurrent(all), Part::Scan(Some(scan))) => *all = scan.clone(),
                    (MixerState::Recurrent(_), Part::Scan(None)) => {}
                    _ => panic!("resume: a stretch of another model"),
                }
            }
        }
        self.position += PAGE * stretches.len();
        self.followed = None;
    }
}
