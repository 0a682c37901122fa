//! Keys and values in pages against attention to the same ones in a row.

use cupola_core::pool::with_threads;
use cupola_core::{Buffer, Element, bf16, f16};
use cupola_cpu::{Isa, with_isa};
use cupola_tensor::ops::attention::{AttentionConfig, PAGE, PageHeads, attention, paged_attention};
use cupola_tensor::{DType, Rng, Segments, Tensor, no_grad};

fn normal(shape: [usize; 3], seed: u64) -> Tensor {
    Tensor::randn(shape, Rng::seed(seed))
}

/// Pages of these keys and values, with NaN where no token is.
fn pages_of<T: Element>(k: &Tensor, v: &Tensor, at: [PageHeads; 2], keys: &Segments) -> Vec<Buffer> {
    let mut pages = Vec::new();
    for range in keys.iter() {
        for first in range.clone().step_by(PAGE) {
            let mut page = vec![T::from_f64(f64::NAN); at[0].end().max(at[1].end())];
            for (x, at) in [k, v].into_iter().zip(at) {
                let all = x.contiguous();
                let all = all.slice_of::<T>();
                for row in first..range.end.min(first + PAGE) {
                    for head in 0..at.heads {
                        let from = (row * at.heads + head) * at.width;
                        let to = at.offset + (row - first) * at.token_stride + head * at.head_stride;
                        page[to..to + at.width].copy_from_slice(&all[from..from + at.width]);
                    }
                }
            }
            pages.push(Buffer::from_slice(&page));
        }
    }
    pages
}

#[test]
fn pages_show_in_no_bit_and_what_is_behind_the_last_token_is_never_read() {
    let queries = Segments::from_lengths(&[1, 0, 1, 3, 1, 70, 2, 5]);
    let keys = Segments::from_lengths(&[1, 0, 64, 65, 129, 200, 128, 5]);
    let plain = AttentionConfig { causal: true, ..AttentionConfig::cross(&queries, &keys) };
    let configs = [
        plain.clone(),
        AttentionConfig { window: Some(50), soft_cap: Some(3.0), ..plain.clone() },
        AttentionConfig { slopes: Some(vec![0.5, 0.25, 0.125, 0.0625]), causal: false, ..plain },
    ];
    // Odd widths and widths of whole vectors; values of their own, and values that are the first part of the keys.
    for (shared, width, value_width) in [(2, 16, 16), (1, 7, 5), (4, 8, 12), (1, 24, 16)] {
        let [q, k] = [(queries.total(), 4, 1), (keys.total(), shared, 2)].map(|(n, h, s)| normal([n, h, width], s));
        let own = PageHeads::by_head(shared * width * PAGE, shared, value_width);
        for latent in [false, true] {
            let at = [PageHeads::by_head(0, shared, width), own];
            let at = if latent { [at[0], PageHeads { width: value_width.min(width), ..at[0] }] } else { at };
            for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64] {
                let [q, k] = [&q, &k].map(|x| x.to_dtype(dtype));
                let v = match latent {
                    true => k.narrow(2, 0, at[1].width),
                    false => normal([keys.total(), shared, value_width], 3).to_dtype(dtype),
                };
                let pages = match dtype {
                    DType::F64 => pages_of::<f64>(&k, &v, at, &keys),
                    DType::BF16 => pages_of::<bf16>(&k, &v, at, &keys),
                    DType::F16 => pages_of::<f16>(&k, &v, at, &keys),
                    _ => pages_of::<f32>(&k, &v, at, &keys),
                };
                let pages: Vec<&Buffer> = pages.iter().collect();
                for (isa, config) in Isa::available().into_iter().flat_map(|isa| configs.iter().map(move |c| (isa, c)))
                {
                    let check = || {
                        let expected = no_grad(|| attention(&q, &k, &v, config));
                        let found = paged_attention(&q, &pages, at[0], at[1], config);
                        let what = format!("{shared} heads of {width}, values {value_width}, latent {latent}, {dtype}");
                        assert!(found.same_bits(&expected), "{what}: {:e}", found.relative_error(&expected));
                    };
                    with_isa(isa, || with_threads(1, check));
                    with_isa(isa, || with_threads(3, check));
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "paged_attention: q [2, 1, 4] needs a gradient, and keys in pages have none")]
fn a_gradient_through_pages_is_refused() {
    let q = Tensor::zeros([2, 1, 4]).requires_grad();
    let heads = PageHeads::by_head(0, 1, 4);
    paged_attention(&q, &[], heads, heads, &AttentionConfig::of(&Segments::one(2)));
}

#[test]
#[should_panic(expected = "paged_attention: 1 pages for")]
fn pages_that_are_missing_are_counted() {
    let (q, page) = (Tensor::zeros([1, 1, 4]), Buffer::from_slice(&[0f32; 4 * PAGE]));
    let heads = PageHeads::by_head(0, 1, 4);
    let config = AttentionConfig::cross(&Segments::one(1), &Segments::one(PAGE + 1));
    paged_attention(&q, &[&page], heads, heads, &config);
}
