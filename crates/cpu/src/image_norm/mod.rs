//! Normalisation over channels of images.
//!
//! Images are `[N, C, S]` with all positions of a channel in S: one for vectors, H W for images.

pub mod batch;
mod channels;
pub mod group;

/// Sizes of a batch of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images {
    /// Number of images, N.
    pub batch: usize,
    /// Number of channels, C.
    pub channels: usize,
    /// Positions of a channel, S.
    pub inner: usize,
}

impl Images {
    /// Elements in all.
    pub fn numel(&self) -> usize {
        self.batch * self.channels * self.inner
    }

    /// Elements of one channel in all images.
    pub fn per_channel(&self) -> usize {
        self.batch * self.inner
    }
}

/// The sum of each channel over all images and positions, `[C]`: the gradient of a bias.
///
/// # Panics
/// When a slice has another length.
pub fn channel_sums<T: crate::real::Real>(images: &Images, x: &[T], sums: &mut [T]) {
    assert_eq!((x.len(), sums.len()), (images.numel(), images.channels));
    let mut unused = vec![T::ZERO; images.channels];
    channels::sums(images, channels::Term::Plain(x), sums, &mut unused);
}
