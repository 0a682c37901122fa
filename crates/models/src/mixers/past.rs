//! Attention to what states have kept.

use std::ops::Range;

use cupola_core::Buffer;
use cupola_tensor::ops::attention::{AttentionConfig, PageHeads, attention, paged_attention};
use cupola_tensor::{Segments, Tensor};

use super::scan::join;
use crate::state::{HeadLayout, KeyValue, MixerState};

/// Keys and values of all sequences of a call.
pub(super) enum Past<'a> {
    /// In pages, where they are read.
    Pages {
        /// Those of the first sequence, then those of the next.
        pages: Vec<&'a Buffer>,
        layout: HeadLayout,
    },
    /// Keys and values in tensors, so that gradients reach back through them.
    Recorded(Box<[Tensor; 2]>),
}

impl<'a> Past<'a> {
    fn of(all: &[&'a KeyValue], recorded: bool) -> Self {
        let pages: Option<Vec<_>> = all.iter().map(|kept| kept.pages()).collect();
        let layout = all.first().map(|kept| *kept.layout());
        match (pages, layout) {
            (Some(pages), Some(layout)) if !recorded => {
                Past::Pages { pages: pages.into_iter().flatten().collect(), layout }
            }
            _ => {
                let of_all = |of: fn(&KeyValue) -> Tensor| join(all.iter().map(|kept| of(kept)).collect());
                Past::Recorded(Box::new([of_all(KeyValue::keys), of_all(KeyValue::values)]))
            }
        }
    }

    /// Attention of queries `[N, H, Dh]` to some heads of keys and to the values, or to the first `latent` elements of the keys in
    /// place of values: `[N, H, Dv]`.
    #[track_caller]
    pub(super) fn attention(
        &self,
        q: &Tensor,
        heads: Range<usize>,
        latent: Option<usize>,
        config: &AttentionConfig,
    ) -> Tensor {
        match self {
            Past::Pages { pages, layout } => {
                let keys = layout.page_keys(heads);
                let values = match latent {
                    Some(width) => PageHeads { width, ..keys },
                    None => layout.page_values(),
                };
                paged_attention(&q.to_dtype(layout.dtype), pages, keys, values, config)
            }
            Past::Recorded(both) => {
                let [keys, values] = &**both;
                let keys =
                    if heads.len() == keys.dim(1) { keys.clone() } else { keys.narrow(1, heads.start, heads.len()) };
                match latent {
                    Some(width) => attention(q, &keys, &keys.narrow(2, 0, width), config),
                    None => attention(q, &keys, values, config),
                }
            }
        }
    }
}

/// Attention of each segment's tokens to all that its state has, which their keys and values are added to first: `of` computes it from
/// what was kept, and from `config` with the lengths that this gives.
///
/// Pages are read where they lie, those of all sequences in one call. A row's bits depend neither on pages nor on which sequences are
/// computed together.
#[track_caller]
pub(super) fn attend(
    states: Vec<&mut MixerState>,
    [q, k, v]: [&Tensor; 3],
    config: &AttentionConfig,
    of: impl FnOnce(&Past<'_>, &AttentionConfig) -> Tensor,
) -> Tensor {
    let extended = states.into_iter().zip(config.queries.iter()).map(|(state, range)| state.extend(k, v, range));
    let all: Vec<&KeyValue> = extended.collect();
    let keys = Segments::from_lengths(&all.iter().map(|kept| kept.len()).collect::<Vec<_>>());
    // Dropout is for training alone.
    let past = Past::of(&all, q.needs_grad() || config.dropout > 0.0);
    of(&past, &AttentionConfig { keys, ..config.clone() })
}
