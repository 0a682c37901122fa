//! The instruction-set tier that kernels run in.
//!
//! A tier is chosen once, from what the processor offers and from `CUPOLA_ISA` (`avx512`, `avx2` or `scalar`, which only ever
//! lowers it). Within one tier results have the same bits on every machine and any number of threads. [`with_isa`] lowers
//! the tier for the extent of a closure, so that one machine can test them all.
//!
//! The choice belongs to the calling thread: an entry point asks [`isa`] before it enters a parallel region and hands the
//! answer to its pieces.

use std::cell::Cell;
use std::sync::OnceLock;

/// An instruction-set tier, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// What the target offers at compile time; plain loops that the compiler vectorises as it can.
    Scalar,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, CD, DQ and VL on top of AVX2.
    Avx512,
}

/// Extensions within [`Isa::Avx512`] that change which kernel serves a dtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Extensions {
    /// AVX512-BF16: dot products of bf16 pairs with f32 accumulation.
    pub bf16: bool,
    /// AVX512-VNNI: dot products of byte quadruples with i32 accumulation.
    pub vnni: bool,
}

impl Isa {
    /// The name that `CUPOLA_ISA` takes and that runs record.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    fn from_name(name: &str) -> Option<Isa> {
        [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().find(|isa| isa.name() == name)
    }

    /// Every tier this machine can run, lowest first.
    pub fn available() -> Vec<Isa> {
        [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|&isa| isa <= highest()).collect()
    }
}

thread_local! {
    static LOWERED: Cell<Option<Isa>> = const { Cell::new(None) };
}

#[cfg(target_arch = "x86_64")]
fn highest() -> Isa {
    use std::arch::is_x86_feature_detected as has;
    static HIGHEST: OnceLock<Isa> = OnceLock::new();
    *HIGHEST.get_or_init(|| {
        let avx2 = has!("avx2") && has!("fma") && has!("f16c");
        let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
        match (avx2, avx512) {
            (true, true) => Isa::Avx512,
            (true, false) => Isa::Avx2,
            _ => Isa::Scalar,
        }
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn highest() -> Isa {
    Isa::Scalar
}

fn configured() -> Isa {
    static CONFIGURED: OnceLock<Isa> = OnceLock::new();
    *CONFIGURED.get_or_init(|| {
        let wanted = std::env::var("CUPOLA_ISA").ok();
        let wanted = wanted.and_then(|name| Isa::from_name(&name));
        wanted.map_or(highest(), |isa| isa.min(highest()))
    })
}

/// The tier that kernels called from this thread run in.
pub fn isa() -> Isa {
    LOWERED.get().unwrap_or_else(configured)
}

/// Runs `body` with kernels of tier `isa`, or of the highest tier below it that the machine has.
pub fn with_isa<R>(isa: Isa, body: impl FnOnce() -> R) -> R {
    struct Restore(Option<Isa>);
    impl Drop for Restore {
        fn drop(&mut self) {
            LOWERED.set(self.0);
        }
    }
    let _restore = Restore(LOWERED.replace(Some(isa.min(highest()))));
    body()
}

/// The extensions that kernels of the current tier may use; none below [`Isa::Avx512`].
pub fn extensions() -> Extensions {
    if isa() < Isa::Avx512 { Extensions::default() } else { detected() }
}

#[cfg(target_arch = "x86_64")]
fn detected() -> Extensions {
    use std::arch::is_x86_feature_detected as has;
    Extensions { bf16: has!("avx512bf16"), vnni: has!("avx512vnni") }
}

#[cfg(not(target_arch = "x86_64"))]
fn detected() -> Extensions {
    Extensions::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lowered_tier_lasts_as_long_as_the_closure() {
        let before = isa();
        with_isa(Isa::Scalar, || {
            assert_eq!(isa(), Isa::Scalar);
            assert_eq!(extensions(), Extensions::default());
            with_isa(Isa::Avx512, || assert!(isa() <= highest()));
        });
        assert_eq!(isa(), before);
        assert_eq!(Isa::available().first(), Some(&Isa::Scalar));
    }
}
