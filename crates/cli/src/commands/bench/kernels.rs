//! Products and operations.

use cupola_core::Rng;
use cupola_tensor::{DType as Elements, Tensor, no_grad};

use super::{Line, Options};
use crate::commands::train::DType;
use crate::exit::Failure;

fn only_without_work(options: &Options) -> Result<(), Failure> {
    match options.work {
        None => Ok(()),
        Some(work) => Err(Failure::Usage(format!("--work {} means nothing here", work.name()))),
    }
}

fn elements(options: &Options) -> Elements {
    if options.dtype == DType::Bf16 { Elements::BF16 } else { Elements::F32 }
}

/// Square products.
pub(super) fn gemm(options: &Options) -> anyhow::Result<()> {
    only_without_work(options)?;
    for size in [128usize, 256, 512, 1024] {
        let draw = |seed| Tensor::randn([size, size], Rng::seed(seed)).to_dtype(elements(options));
        let (a, b) = (draw(1), draw(2));
        let seconds = options.median(|| no_grad(|| drop(std::hint::black_box(a.matmul(&b)))));
        let rate = 2.0 * (size as f64).powi(3) / seconds / 1e9;
        options.print(&Line { bench: "gemm", config: format!("{size}x{size}x{size}"), rate: ("gflops", rate) })?;
    }
    Ok(())
}

/// Ten million numbers, as the least traffic that an operation needs.
pub(super) fn ops(options: &Options) -> anyhow::Result<()> {
    const SHAPE: [usize; 2] = [9766, 1024];
    only_without_work(options)?;
    let dtype = elements(options);
    let draw = |seed| Tensor::randn(SHAPE, Rng::seed(seed)).to_dtype(dtype);
    let (a, b) = (draw(1), draw(2));
    let bytes = (SHAPE[0] * SHAPE[1] * dtype.size()) as f64;
    type Operation<'a> = (&'a str, f64, Box<dyn Fn() -> Tensor + 'a>);
    let operations: [Operation<'_>; 7] = [
        ("add", 3.0, Box::new(|| &a + &b)),
        ("mul", 3.0, Box::new(|| &a * &b)),
        ("relu", 2.0, Box::new(|| a.relu())),
        ("exp", 2.0, Box::new(|| a.exp())),
        ("sigmoid", 2.0, Box::new(|| a.sigmoid())),
        ("softmax", 2.0, Box::new(|| a.softmax(-1))),
        ("sum", 1.0, Box::new(|| a.sum([-1]))),
    ];
    for (name, passes, operation) in operations {
        let seconds = options.median(|| no_grad(|| drop(std::hint::black_box(operation()))));
        let rate = passes * bytes / seconds / 1e9;
        options.print(&Line { bench: "ops", config: name.to_string(), rate: ("gb_per_s", rate) })?;
    }
    Ok(())
}
