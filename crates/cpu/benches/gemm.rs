//! Matrix products: operations per second, and the share of what the processor can do at best.
//!
//! `cargo bench -p cupola-cpu --bench gemm [-- WORD...]` runs the lines that contain one of the words (all without). One
//! thread is timed by its processor time, which other programs disturb little; several threads by the clock. Figures are
//! medians, and in brackets those of the best sample. The peak is that of fourteen independent multiply-adds in registers, measured between the products.

use std::hint::black_box;
use std::time::{Duration, Instant};

use cupola_core::alloc::Placement;
use cupola_core::dtype::{Element, bf16};
use cupola_core::pool::with_threads;
use cupola_core::{Buffer, DType};
use cupola_cpu::gemm::{Bf16, Epilogue, F32, F64, Int8, Lhs, MatMut, MatRef, Output, Packed, Product, Rhs};

/// M, K, N: square, and those of language models.
const SHAPES: [(usize, usize, usize); 11] = [
    (256, 256, 256),
    (512, 512, 512),
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (512, 384, 1536),
    (2048, 768, 3072),
    (768, 128, 512),
    (4096, 384, 1536),
    (384, 4096, 384),
    (1536, 4096, 384),
    (384, 4096, 1536),
];

/// The processor time of this thread.
#[cfg(target_os = "linux")]
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the address is that of a live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(not(target_os = "linux"))]
fn thread_time() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Median and least seconds of a call; a sample lasts at least a millisecond.
fn seconds(threads: usize, mut body: impl FnMut()) -> [f64; 2] {
    let mut sample = |repeats: u32| {
        let start = (thread_time(), Instant::now());
        (0..repeats).for_each(|_| body());
        let time = if threads == 1 { thread_time() - start.0 } else { start.1.elapsed() };
        time.as_secs_f64() / f64::from(repeats)
    };
    sample(1);
    let once = sample(1);
    let repeats = (1e-3 / once).clamp(1.0, 1e6) as u32;
    let count = (0.4 / (once * f64::from(repeats))).clamp(5.0, 100.0) as usize;
    let mut samples: Vec<f64> = (0..count).map(|_| sample(repeats)).collect();
    samples.sort_by(f64::total_cmp);
    [samples[count / 2], samples[0]]
}

/// Operations a second of multiply-adds in registers, for f32, f64, bf16 and bytes; none where there are no such instructions.
#[cfg(target_arch = "x86_64")]
mod peak {
    use super::seconds;
    use std::arch::x86_64::*;

    macro_rules! chains {
        ($name:ident, $features:literal, $zero:expr, |$sum:ident| $step:expr) => {
            #[target_feature(enable = $features)]
            fn $name() {
                let mut sums = [$zero; 14];
                for _ in 0..100_000 {
                    for $sum in &mut sums {
                        // Opaque, or the loop would be folded.
                        let next = $step;
                        *$sum = next;
                    }
                    // SAFETY: no instruction at all; the sums must be in registers here.
                    unsafe { std::arch::asm!("/* {0} */", in(reg) 0usize, options(nomem, nostack)) };
                }
                std::hint::black_box(sums);
            }
        };
    }
    chains!(f32_512, "avx512f", _mm512_setzero_ps(), |s| _mm512_fmadd_ps(*s, _mm512_set1_ps(0.9), _mm512_set1_ps(0.1)));
    chains!(f64_512, "avx512f", _mm512_setzero_pd(), |s| _mm512_fmadd_pd(*s, _mm512_set1_pd(0.9), _mm512_set1_pd(0.1)));
    chains!(f32_256, "avx2,fma", _mm256_setzero_ps(), |s| _mm256_fmadd_ps(
        *s,
        _mm256_set1_ps(0.9),
        _mm256_set1_ps(0.1)
    ));
    chains!(f64_256, "avx2,fma", _mm256_setzero_pd(), |s| _mm256_fmadd_pd(
        *s,
        _mm256_set1_pd(0.9),
        _mm256_set1_pd(0.1)
    ));
    chains!(bf16_512, "avx512f,avx512bf16", _mm512_setzero_ps(), |s| {
        // SAFETY: 64 bytes each.
        let ones = unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi16(0x1000)) };
        _mm512_dpbf16_ps(*s, ones, ones)
    });
    chains!(int8_512, "avx512f,avx512vnni", _mm512_setzero_si512(), |s| {
        _mm512_dpbusd_epi32(*s, _mm512_set1_epi8(1), _mm512_set1_epi8(3))
    });

    pub fn measure(kind: &str) -> Option<[f64; 2]> {
        let wide = std::arch::is_x86_feature_detected!("avx512f");
        let fma = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
        let rates = |each: usize, run: &dyn Fn()| seconds(1, run).map(|time| (each * 14 * 100_000) as f64 / time);
        // SAFETY: each loop runs only where its instructions were found.
        unsafe {
            match kind {
                "f32" if wide => Some(rates(32, &|| f32_512())),
                "f64" if wide => Some(rates(16, &|| f64_512())),
                "f32" if fma => Some(rates(16, &|| f32_256())),
                "f64" if fma => Some(rates(8, &|| f64_256())),
                "bf16" if std::arch::is_x86_feature_detected!("avx512bf16") => Some(rates(64, &|| bf16_512())),
                "int8" if std::arch::is_x86_feature_detected!("avx512vnni") => Some(rates(128, &|| int8_512())),
                _ => None,
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod peak {
    pub fn measure(_: &str) -> Option<[f64; 2]> {
        None
    }
}

/// A matrix in memory from the cache, so that it lies in large pages.
fn matrix<T: Element>(len: usize) -> Buffer {
    let mut buffer = Buffer::uninit(T::DTYPE, len, Placement::Lasting);
    let mut state = 1u64;
    for x in buffer.as_mut_slice::<T>() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *x = T::from_f64((state >> 40) as f64 / (1u64 << 22) as f64 - 2.0);
    }
    buffer
}

struct Bench {
    words: Vec<String>,
    threads: Vec<usize>,
}

impl Bench {
    fn wants(&self, line: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| line.contains(word.as_str()))
    }

    /// Whether a line that begins like this is wanted.
    fn may_want(&self, start: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| word.starts_with(start) || start.contains(word.as_str()))
    }

    /// One line: `body` does `operations` and reads `bytes` of weights (0 where arithmetic is the limit).
    fn line(&self, name: &str, kind: &str, operations: f64, bytes: f64, mut body: impl FnMut()) {
        if !self.wants(name) {
            return;
        }
        print!("{name:<44}");
        for &threads in &self.threads {
            let seconds = with_threads(threads, || seconds(threads, &mut body));
            print!("  {threads}t");
            if operations > 0.0 {
                print!(" {:7.1} G/s", operations / seconds[0] / 1e9);
            }
            if bytes > 0.0 {
                print!(" {:6.1} GB/s (best {:.1})", bytes / seconds[0] / 1e9, bytes / seconds[1] / 1e9);
            } else if let Some(peak) = (threads == 1).then(|| peak::measure(kind)).flatten() {
                let share = |i: usize| 100.0 * operations / seconds[i] / peak[i];
                print!(" {:5.1} % (best of best {:.1} %)", share(0), share(1));
            }
        }
        println!();
    }

    fn product<P: Product, A: Element + Lhs<P>, B: Element + Rhs<P>, C: Element + Output<P::Acc>>(&self, kind: &str) {
        for (m, k, n) in SHAPES {
            let name = format!("{kind} {m} x {k} x {n}");
            let operations = 2.0 * (m * k * n) as f64;
            if !self.may_want(&name) {
                continue;
            }
            let (a, b) = (matrix::<A>(m * k), matrix::<B>(k * n));
            let mut c = Buffer::zeroed(C::DTYPE, m * n, Placement::Lasting);
            let (a, b) = (a.as_slice::<A>(), b.as_slice::<B>());
            let c = c.as_mut_slice::<C>();
            let rows = |a| MatRef::new(a, m, k);
            self.line(&name, kind, operations, 0.0, || {
                P::matmul(rows(a), MatRef::new(b, k, n), MatMut::new(c, m, n), Epilogue::default());
            });
            self.line(&format!("{name} A^T B"), kind, operations, 0.0, || {
                P::matmul(MatRef::new(a, k, m).t(), MatRef::new(b, k, n), MatMut::new(c, m, n), Epilogue::default());
            });
            self.line(&format!("{name} A B^T"), kind, operations, 0.0, || {
                P::matmul(rows(a), MatRef::new(b, n, k).t(), MatMut::new(c, m, n), Epilogue::default());
            });
            let mut packed = Packed::<P>::new(MatRef::new(b, k, n));
            let bytes = (size_of_val(b) + packed.bytes()) as f64;
            self.line(&format!("{name} pack B"), kind, 0.0, bytes, || packed.refill(MatRef::new(b, k, n)));
            self.line(&format!("{name} pack B^T"), kind, 0.0, bytes, || packed.refill(MatRef::new(b, n, k).t()));
            self.line(&format!("{name} packed"), kind, operations, 0.0, || {
                P::matmul_packed(rows(a), &packed, MatMut::new(c, m, n), Epilogue::default());
            });
        }
    }

    /// Few rows against packed weights: bound by reading them.
    fn decode<P: Product, A: Element + Lhs<P>, B: Element + Rhs<P>, C: Element + Output<P::Acc>>(&self, kind: &str) {
        let (k, n) = (2048, 8192);
        if !self.may_want(&format!("{kind} decode")) {
            return;
        }
        let b = matrix::<B>(k * n);
        let packed = Packed::<P>::new(MatRef::new(b.as_slice::<B>(), k, n));
        for m in [1, 2, 4, 8, 16, 64] {
            let a = matrix::<A>(m * k);
            let mut c = Buffer::zeroed(C::DTYPE, m * n, Placement::Lasting);
            let (a, c) = (a.as_slice::<A>(), c.as_mut_slice::<C>());
            let name = format!("{kind} decode {m} x {k} x {n}");
            self.line(&name, kind, 2.0 * (m * k * n) as f64, packed.bytes() as f64, || {
                P::matmul_packed(MatRef::new(a, m, k), &packed, MatMut::new(c, m, n), Epilogue::default());
            });
        }
        let a = matrix::<A>(k);
        let mut c = Buffer::zeroed(C::DTYPE, n, Placement::Lasting);
        let (a, b, c) = (a.as_slice::<A>(), b.as_slice::<B>(), c.as_mut_slice::<C>());
        let bytes = size_of_val(b) as f64;
        self.line(&format!("{kind} decode 1 x {k} x {n} unpacked"), kind, 2.0 * (k * n) as f64, bytes, || {
            P::matmul(MatRef::new(a, 1, k), MatRef::new(b, k, n), MatMut::new(c, 1, n), Epilogue::default());
        });
    }

    /// What reading memory in order gives at best.
    fn memory(&self) {
        if !self.may_want("memory") {
            return;
        }
        let data = Buffer::zeroed(DType::F32, 64 << 20, Placement::Passing);
        let data = data.as_slice::<f32>();
        let sums: Vec<_> = (0..256).map(|_| std::sync::atomic::AtomicU32::new(0)).collect();
        self.line("memory read", "", 0.0, size_of_val(data) as f64, || {
            cupola_core::parallel_for(256, |i| {
                let mut sum = [0.0f32; 128];
                for chunk in data[i << 18..(i + 1) << 18].chunks_exact(128) {
                    sum.iter_mut().zip(chunk).for_each(|(s, x)| *s += x);
                }
                sums[i].store(black_box(sum)[0].to_bits(), std::sync::atomic::Ordering::Relaxed);
            });
        });
    }
}

fn main() {
    let words: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // On a crowded machine only the figures of one thread mean anything: `taskset -c 0` leaves out the others.
    let threads = if cores > 1 { vec![1, cores] } else { vec![1] };
    let bench = Bench { words, threads };
    bench.memory();
    bench.decode::<F32, f32, f32, f32>("f32");
    bench.decode::<Bf16, bf16, bf16, f32>("bf16");
    bench.decode::<Int8, i8, i8, i32>("int8");
    bench.product::<F32, f32, f32, f32>("f32");
    bench.product::<Bf16, bf16, bf16, f32>("bf16");
    bench.product::<Bf16, f32, f32, bf16>("bf16-mixed");
    bench.product::<Int8, i8, i8, i32>("int8");
    bench.product::<F64, f64, f64, f64>("f64");
}
