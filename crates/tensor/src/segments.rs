//! Where sequences begin and end in packed tokens.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The lengths of the sequences that lie one after the other in `N` packed tokens.
///
/// Every layer that mixes tokens takes its input as `[N, D]` with segments: a batch of equal lengths, a ragged batch, documents
/// packed into one row and the prompts of several requests are the same call. Lengths may be zero. Segments of equal length
/// take no memory.
///
/// ```
/// use cupola_tensor::Segments;
///
/// let ragged = Segments::from_lengths(&[3, 0, 2]);
/// assert_eq!(ragged.total(), 5);
/// assert_eq!(ragged.range(2), 3..5);
/// assert_eq!(Segments::from_lengths(&[4, 4]), Segments::uniform(2, 4));
/// ```
#[derive(Clone)]
pub struct Segments(Kind);

#[derive(Clone)]
enum Kind {
    Uniform {
        count: usize,
        length: usize,
    },
    /// Where each segment begins, and at last where the last one ends.
    Ragged(Arc<[usize]>),
}

/// Offsets that bound no segments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentsError {
    /// There is no first offset, or it is not zero.
    #[error("segment offsets begin with {found:?}, expected 0")]
    Begin {
        /// The first offset, if there is one.
        found: Option<usize>,
    },
    /// An offset is below the one before it.
    #[error("segment offset {index} is {found}, below the {before} before it")]
    Falling {
        /// Which offset.
        index: usize,
        /// Its value.
        found: usize,
        /// The value before it.
        before: usize,
    },
}

impl Segments {
    /// `count` segments of `length` tokens each.
    ///
    /// # Panics
    /// When the number of tokens overflows.
    #[track_caller]
    pub fn uniform(count: usize, length: usize) -> Self {
        assert!(count.checked_mul(length).is_some(), "segments: {count} segments of {length} tokens are too many");
        Self(Kind::Uniform { count, length })
    }

    /// One segment of all `length` tokens.
    pub fn one(length: usize) -> Self {
        Self(Kind::Uniform { count: 1, length })
    }

    /// Segments of these lengths.
    ///
    /// # Panics
    /// When the number of tokens overflows.
    #[track_caller]
    pub fn from_lengths(lengths: &[usize]) -> Self {
        if let [first, rest @ ..] = lengths
            && rest.iter().all(|length| length == first)
        {
            return Self::uniform(lengths.len(), *first);
        }
        let mut offsets = Vec::with_capacity(lengths.len() + 1);
        let mut end = 0usize;
        offsets.push(end);
        for &length in lengths {
            end = match end.checked_add(length) {
                Some(end) => end,
                None => panic!("segments: lengths add up to too many tokens"),
            };
            offsets.push(end);
        }
        Self(Kind::Ragged(offsets.into()))
    }

    /// Segments between neighbouring offsets: `[0, 3, 3, 5]` bounds three of 3, 0 and 2 tokens.
    ///
    /// # Errors
    /// When the offsets do not begin with 0 or do not rise.
    pub fn from_offsets(offsets: &[usize]) -> Result<Self, SegmentsError> {
        let found = offsets.first().copied();
        if found != Some(0) {
            return Err(SegmentsError::Begin { found });
        }
        if let Some(at) = offsets.windows(2).position(|pair| pair[1] < pair[0]) {
            return Err(SegmentsError::Falling { index: at + 1, found: offsets[at + 1], before: offsets[at] });
        }
        let lengths: Vec<usize> = offsets.windows(2).map(|pair| pair[1] - pair[0]).collect();
        Ok(Self::from_lengths(&lengths))
    }

    /// How many segments there are.
    pub fn count(&self) -> usize {
        match &self.0 {
            Kind::Uniform { count, .. } => *count,
            Kind::Ragged(offsets) => offsets.len() - 1,
        }
    }

    /// How many tokens there are in all.
    pub fn total(&self) -> usize {
        match &self.0 {
            Kind::Uniform { count, length } => count * length,
            Kind::Ragged(offsets) => offsets[offsets.len() - 1],
        }
    }

    /// The tokens of segment `index`.
    ///
    /// # Panics
    /// When there is no such segment.
    #[track_caller]
    pub fn range(&self, index: usize) -> Range<usize> {
        assert!(index < self.count(), "segments: there is no segment {index} of {}", self.count());
        match &self.0 {
            Kind::Uniform { length, .. } => index * length..(index + 1) * length,
            Kind::Ragged(offsets) => offsets[index]..offsets[index + 1],
        }
    }

    /// The number of tokens of segment `index`.
    ///
    /// # Panics
    /// When there is no such segment.
    #[track_caller]
    pub fn length(&self, index: usize) -> usize {
        self.range(index).len()
    }

    /// The tokens of each segment, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Range<usize>> + '_ {
        (0..self.count()).map(|index| self.range(index))
    }

    /// Where each segment begins, and the number of tokens at the end.
    pub fn offsets(&self) -> Vec<usize> {
        std::iter::once(0).chain(self.iter().map(|range| range.end)).collect()
    }

    /// The number of tokens of the longest segment; 0 without segments.
    pub fn longest(&self) -> usize {
        self.iter().map(|range| range.len()).max().unwrap_or(0)
    }

    /// The length of all segments, when they have the same.
    pub fn uniform_length(&self) -> Option<usize> {
        match &self.0 {
            Kind::Uniform { length, .. } => Some(*length),
            Kind::Ragged(_) => None,
        }
    }
}

impl PartialEq for Segments {
    fn eq(&self, other: &Self) -> bool {
        self.count() == other.count() && self.iter().eq(other.iter())
    }
}

impl Eq for Segments {}

impl fmt::Debug for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Uniform { count, length } => write!(f, "Segments({count} x {length})"),
            Kind::Ragged(_) => {
                f.write_str("Segments")?;
                f.debug_list().entries(self.iter().map(|range| range.len())).finish()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_lengths_say_the_same() {
        let ragged = Segments::from_lengths(&[3, 0, 2]);
        assert_eq!(Segments::from_offsets(&[0, 3, 3, 5]), Ok(ragged.clone()));
        assert_eq!((ragged.count(), ragged.total(), ragged.longest()), (3, 5, 3));
        assert_eq!(ragged.iter().collect::<Vec<_>>(), [0..3, 3..3, 3..5]);
        assert_eq!(format!("{ragged:?}"), "Segments[3, 0, 2]");
        assert_eq!(ragged.uniform_length(), None);
    }

    #[test]
    fn equal_lengths_are_uniform_however_they_are_given() {
        let uniform = Segments::uniform(3, 4);
        assert_eq!(Segments::from_lengths(&[4, 4, 4]).uniform_length(), Some(4));
        assert_eq!(Segments::from_offsets(&[0, 4, 8, 12]), Ok(uniform.clone()));
        assert_eq!((uniform.range(1), uniform.total()), (4..8, 12));
        assert_eq!(Segments::from_lengths(&[]).count(), 0);
        assert_eq!(Segments::from_lengths(&[]).total(), 0);
        assert_ne!(uniform, Segments::uniform(4, 3));
    }

    #[test]
    fn offsets_that_bound_nothing_are_refused() {
        assert_eq!(Segments::from_offsets(&[]), Err(SegmentsError::Begin { found: None }));
        assert_eq!(Segments::from_offsets(&[1, 2]), Err(SegmentsError::Begin { found: Some(1) }));
        let falling = SegmentsError::Falling { index: 2, found: 1, before: 4 };
        assert_eq!(Segments::from_offsets(&[0, 4, 1]), Err(falling));
    }

    #[test]
    #[should_panic(expected = "segments: there is no segment 2 of 2")]
    fn a_segment_that_is_not_there_is_named() {
        Segments::uniform(2, 4).range(2);
    }
}
