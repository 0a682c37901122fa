//! Attention with PyTorch's interface, and with masks of any form.

use cupola_core::{DType, Element};

use super::{AttentionConfig, attention};
use crate::dispatch::with_float;
use crate::segments::Segments;
use crate::tensor::Tensor;

/// What a hidden score becomes: so low that its exponential is zero beside any visible one, and finite, so that a row without
/// visible keys has no `inf - inf` in it.
const HIDDEN: f64 = 1e30;

/// `softmax(scale q k^T + mask) v`, batched, as PyTorch's function of this name: for masks that segments, windows and causality
/// do not express.
///
/// A bool mask hides keys where it is false; a floating-point mask is added to the scores and hides where it is `-inf`, and one that
/// hides nothing may need a gradient. A row that sees no key is zero. `causal` hides the keys after a query's own position and excludes a mask. `scale` is
/// `1 / sqrt(Dh)` if not given. `dropout` applies to the probabilities within a training scope.
///
/// Without a mask this is [`attention`]; with one the scores are held in memory, in f32 (f64 for f64).
///
/// # Shapes
/// q `[B, H, T, Dh]`, k `[B, Hkv, S, Dh]`, v `[B, Hkv, S, Dv]`, mask broadcast to `[B, H, T, S]`, give `[B, H, T, Dv]`; H is a multiple
/// of Hkv, and head h looks at key head `h / (H / Hkv)`.
///
/// # Panics
/// When shapes or dtypes do not fit, when a mask is given together with `causal`, when T and S differ with `causal`, or when a mask
/// with `-inf` needs a gradient.
#[track_caller]
pub fn scaled_dot_product_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&Tensor>,
    dropout: f64,
    causal: bool,
    scale: Option<f64>,
) -> Tensor {
    let fits = q.rank() == 4
        && k.rank() == 4
        && v.rank() == 4
        && q.dim(0) == k.dim(0)
        && q.dim(3) == k.dim(3)
        && k.shape()[..3] == v.shape()[..3]
        && (q.dim(1) == k.dim(1) || k.dim(1) > 0 && q.dim(1).is_multiple_of(k.dim(1)));
    assert!(
        fits,
        "scaled_dot_product_attention: q {}, k {} and v {} do not fit, expected [B, H, T, Dh], [B, Hkv, S, Dh], [B, Hkv, S, Dv] \
         with H a multiple of Hkv",
        q.shape(),
        k.shape(),
        v.shape()
    );
    assert!(
        !causal || q.dim(2) == k.dim(2),
        "scaled_dot_product_attention: causal with q {} and k {} of different lengths",
        q.shape(),
        k.shape()
    );
    match mask {
        None => packed(q, k, v, dropout, causal, scale),
        Some(mask) => {
            assert!(!causal, "scaled_dot_product_attention: causal together with a mask of {}", mask.shape());
            masked(q, k, v, mask, dropout, scale)
        }
    }
}

#[track_caller]
fn packed(q: &Tensor, k: &Tensor, v: &Tensor, dropout: f64, causal: bool, scale: Option<f64>) -> Tensor {
    let (batch, heads, queries, keys) = (q.dim(0), q.dim(1), q.dim(2), k.dim(2));
    let rows = |x: &Tensor| x.permute(&[0, 2, 1, 3]).reshape([batch * x.dim(2), x.dim(1), x.dim(3)]);
    let segments = [queries, keys].map(|length| Segments::uniform(batch, length));
    let config = AttentionConfig { causal, scale, dropout, ..AttentionConfig::cross(&segments[0], &segments[1]) };
    let y = attention(&rows(q), &rows(k), &rows(v), &config);
    y.reshape([batch, queries, heads, v.dim(3)]).permute(&[0, 2, 1, 3])
}

#[track_caller]
fn masked(q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor, dropout: f64, scale: Option<f64>) -> Tensor {
    let (batch, heads, key_heads) = (q.dim(0), q.dim(1), k.dim(1));
    let all = cupola_core::Shape::new(&[batch, heads, q.dim(2), k.dim(2)]);
    let known = mask.dtype() == DType::Bool || mask.dtype().is_float();
    assert!(
        known && mask.shape().broadcast(&all) == Some(all),
        "scaled_dot_product_attention: a mask of {} and {} for scores of {all}, expected bool or floating-point",
        mask.shape(),
        mask.dtype()
    );
    let repeated = |x: &Tensor| {
        let (length, width) = (x.dim(2), x.dim(3));
        let group = heads.checked_div(key_heads).unwrap_or(1);
        let wide = x.reshape([batch, key_heads, 1, length, width]);
        wide.expand([batch, key_heads, group, length, width]).reshape([batch, heads, length, width])
    };
    let scale = scale.unwrap_or(1.0 / (q.dim(3).max(1) as f64).sqrt());
    let scores = (q * scale).matmul(&repeated(k).transpose(-1, -2));
    let dtype = scores.dtype();
    let wide = dtype.promote(DType::F32);
    let scores = scores.to_dtype(wide);
    let (visible, scores) = if mask.dtype() == DType::Bool {
        (mask.to_dtype(wide), scores)
    } else {
        let visible = mask.detach().gt_scalar(f64::NEG_INFINITY).to_dtype(wide);
        (visible, scores + finite(&mask.to_dtype(wide)))
    };
    let scores = &scores * &visible + (&visible - 1.0) * HIDDEN;
    let weights = (scores.softmax(-1) * &visible).dropout(dropout);
    weights.to_dtype(dtype).matmul(&repeated(v))
}

/// A mask with zero where it is `-inf`, because `-inf * 0` would be NaN. What hides is a constant.
#[track_caller]
fn finite(mask: &Tensor) -> Tensor {
    let hides = mask.detach().le_scalar(f64::NEG_INFINITY);
    if hides.numel() == 0 || hides.to_dtype(DType::I64).sum([]).item() == 0.0 {
        return mask.clone();
    }
    assert!(
        !mask.needs_grad(),
        "scaled_dot_product_attention: a mask of {} needs a gradient and hides with -inf; hide with a bool mask",
        mask.shape()
    );
    let mask = mask.contiguous();
    with_float!("scaled_dot_product_attention", mask.dtype(), T => Tensor::build::<T>(*mask.shape(), |out| {
        for (y, &x) in out.iter_mut().zip(mask.slice_of::<T>()) {
            *y = if x.to_f64() == f64::NEG_INFINITY { T::default() } else { x };
        }
    }))
}
