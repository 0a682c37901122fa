//! The fork-join thread pool.
//!
//! [`parallel_for`] runs `tasks` numbered pieces of work. How the work is cut into pieces is the caller's business and must
//! depend on the problem alone; which thread runs which piece never shows in the result. Each thread owns a contiguous
//! range of pieces (so that it meets the same rows, still in its cache, operation after operation) and takes pieces from
//! the others' ranges when its own is done (so that a thread the system has stopped does not hold up the rest).
//!
//! * A call from inside a piece, and a call from a second thread while the pool is busy, run on the calling thread.
//! * A panic in a piece reaches the caller once all threads have left the region.
//! * A worker that finds itself on the core of another thread of its region moves to a free one, see [`crate::seat`].
//! * Workers spin for some tens of microseconds before they park, because operations follow each other that closely; with
//!   more threads than cores they park at once.
//!
//! The number of threads is that of the machine's cores, or `CUPOLA_THREADS`, or what [`with_threads`] says for the extent
//! of one closure.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::seat;

/// How long a worker spins for the next region before it parks. A training step's operations are a few microseconds apart.
const SPIN: Duration = Duration::from_micros(50);
/// More threads than this are never used: a region's ranges live in a fixed array.
pub const MAX_THREADS: usize = 256;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static REQUESTED: Cell<usize> = const { Cell::new(0) };
}

/// One thread's share of a region's pieces. On a cache line of its own: every claim writes `next`.
#[repr(align(128))]
#[derive(Default)]
struct Range {
    next: AtomicUsize,
    end: AtomicUsize,
}

struct Shared {
    /// Held by the thread that is running a region.
    busy: Mutex<Vec<Thread>>,
    /// The number of the current region, and in the low 16 bits how many threads take part, the caller among them. One
    /// word, so that a worker knows for certain whether the region it sees counts on it.
    epoch: AtomicU64,
    /// Workers that take part and have not yet left the current region.
    pending: AtomicUsize,
    ranges: Vec<Range>,
    /// The region's body, as a pair of (data, function) addresses.
    body: (AtomicUsize, AtomicUsize),
    panicked: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    parked: Vec<AtomicBool>,
    /// Where each thread began its part of its last region: the region's number above the low 16 bits, the core in them.
    seats: Vec<AtomicU64>,
}

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| Shared {
        busy: Mutex::new(Vec::new()),
        epoch: AtomicU64::new(0),
        pending: AtomicUsize::new(0),
        ranges: (0..MAX_THREADS).map(|_| Range::default()).collect(),
        body: (AtomicUsize::new(0), AtomicUsize::new(0)),
        panicked: AtomicBool::new(false),
        panic: Mutex::new(None),
        parked: (0..MAX_THREADS).map(|_| AtomicBool::new(false)).collect(),
        seats: (0..MAX_THREADS).map(|_| AtomicU64::new(0)).collect(),
    })
}

fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Threads that [`parallel_for`] uses on this thread now.
pub fn threads() -> usize {
    static DEFAULT: OnceLock<usize> = OnceLock::new();
    match REQUESTED.get() {
        0 => *DEFAULT.get_or_init(|| {
            let wanted = std::env::var("CUPOLA_THREADS").ok().and_then(|value| value.parse().ok());
            wanted.filter(|&n: &usize| n > 0).unwrap_or_else(cores).min(MAX_THREADS)
        }),
        n => n,
    }
}

/// Runs `body` with regions of `threads` threads (at least 1, at most [`MAX_THREADS`]); results have the same bits for any
/// number.
///
/// ```
/// let sum = cupola_core::pool::with_threads(3, || {
///     let cells: Vec<_> = (0..10).map(|_| std::sync::atomic::AtomicUsize::new(0)).collect();
///     cupola_core::parallel_for(10, |i| cells[i].store(i, std::sync::atomic::Ordering::Relaxed));
///     cells.into_iter().map(|c| c.into_inner()).sum::<usize>()
/// });
/// assert_eq!(sum, 45);
/// ```
pub fn with_threads<R>(threads: usize, body: impl FnOnce() -> R) -> R {
    struct Restore(usize);
    impl Drop for Restore {
        fn drop(&mut self) {
            REQUESTED.set(self.0);
        }
    }
    let _restore = Restore(REQUESTED.replace(threads.clamp(1, MAX_THREADS)));
    body()
}

/// Runs `body(0)`, `body(1)`, ... `body(tasks - 1)`, spread over the pool's threads, and returns when all are done.
///
/// # Panics
/// With the payload of the first piece that panicked; the remaining pieces may then not have run.
pub fn parallel_for<F: Fn(usize) + Sync>(tasks: usize, body: F) {
    let threads = threads().min(tasks);
    if threads <= 1 || INSIDE.get() {
        return (0..tasks).for_each(body);
    }
    let Ok(workers) = shared().busy.try_lock() else {
        return (0..tasks).for_each(body);
    };
    run_region(workers, threads, tasks, &body);
}

fn run_region<F: Fn(usize) + Sync>(mut workers: MutexGuard<'_, Vec<Thread>>, threads: usize, tasks: usize, body: &F) {
    let shared = shared();
    while workers.len() + 1 < threads {
        let index = workers.len() + 1;
        let builder = std::thread::Builder::new().name(format!("cupola-{index}"));
        let seen = shared.epoch.load(Ordering::Acquire);
        match builder.spawn(move || worker(index, seen)) {
            Ok(handle) => workers.push(handle.thread().clone()),
            // The system grants no further thread: the ones there are do all the work.
            Err(_) => break,
        }
    }
    let threads = threads.min(workers.len() + 1);
    for (index, range) in shared.ranges[..threads].iter().enumerate() {
        range.next.store(tasks * index / threads, Ordering::Relaxed);
        range.end.store(tasks * (index + 1) / threads, Ordering::Relaxed);
    }
    let call: unsafe fn(usize, usize) = call_body::<F>;
    shared.body.0.store(std::ptr::from_ref(body) as usize, Ordering::Relaxed);
    shared.body.1.store(call as usize, Ordering::Relaxed);
    shared.pending.store(threads - 1, Ordering::Relaxed);
    let region = (shared.epoch.load(Ordering::Relaxed) >> 16) + 1;
    take_seat(shared, 0, region, threads);
    shared.epoch.store(region << 16 | threads as u64, Ordering::SeqCst);
    for (worker, parked) in workers[..threads - 1].iter().zip(&shared.parked[1..]) {
        if parked.load(Ordering::SeqCst) {
            worker.unpark();
        }
    }
    take_part(shared, 0, threads, body as &dyn Fn(usize));
    let mut spins = 0u32;
    while shared.pending.load(Ordering::Acquire) != 0 {
        spins += 1;
        if spins > 2_000 || threads > cores() { std::thread::yield_now() } else { std::hint::spin_loop() }
    }
    if shared.panicked.swap(false, Ordering::AcqRel) {
        let payload = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(workers);
        if let Some(payload) = payload {
            resume_unwind(payload);
        }
    }
}

/// # Safety
/// `data` must be the address of a live `F`.
unsafe fn call_body<F: Fn(usize) + Sync>(data: usize, task: usize) {
    // SAFETY: by contract `data` addresses a live `F`; `F: Sync` allows the shared use from this thread.
    let body = unsafe { &*(data as *const F) };
    body(task);
}

/// Runs pieces until none is left, own range first. A panic ends this thread's part and empties all ranges.
fn take_part(shared: &Shared, index: usize, threads: usize, body: &dyn Fn(usize)) {
    let outer = INSIDE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(|| {
        for offset in 0..threads {
            let range = &shared.ranges[(index + offset) % threads];
            let end = range.end.load(Ordering::Relaxed);
            while range.next.load(Ordering::Relaxed) < end {
                let task = range.next.fetch_add(1, Ordering::Relaxed);
                if task >= end {
                    break;
                }
                body(task);
            }
        }
    }));
    INSIDE.set(outer);
    if let Err(payload) = result {
        for range in &shared.ranges[..threads] {
            range.next.store(usize::MAX / 2, Ordering::Relaxed);
        }
        let mut slot = shared.panic.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(payload);
        shared.panicked.store(true, Ordering::Release);
    }
}

fn worker(index: usize, mut seen: u64) {
    let shared = shared();
    loop {
        seen = wait_for_region(shared, index, seen);
        let threads = (seen & 0xffff) as usize;
        if index < threads {
            take_seat(shared, index, seen >> 16, threads);
            let data = shared.body.0.load(Ordering::Relaxed);
            let call = shared.body.1.load(Ordering::Relaxed);
            // SAFETY: both were stored by `run_region` before the epoch that we have just seen, as the address of a live
            // body and of `call_body` for its type; that region counts on this worker, so `run_region` does not return,
            // nor another begin, before this worker has lowered `pending`.
            let call: unsafe fn(usize, usize) = unsafe { std::mem::transmute(call) };
            take_part(shared, index, threads, &|task| {
                // SAFETY: as above.
                unsafe { call(data, task) }
            });
            shared.pending.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Notes the core that a thread begins on; a worker leaves one that a thread before it has noted in this region.
fn take_seat(shared: &Shared, index: usize, region: u64, threads: usize) {
    // With more threads than cores some must share one.
    let Some(core) = seat::current().filter(|&core| core <= 0xffff && threads <= cores()) else { return };
    let seat = region << 16 | core as u64;
    if shared.seats[..index].iter().any(|other| other.load(Ordering::Relaxed) == seat) {
        seat::leave(core);
    } else {
        shared.seats[index].store(seat, Ordering::Relaxed);
    }
}

/// Spins, then parks, until the epoch differs from `seen`; returns the new one.
fn wait_for_region(shared: &Shared, index: usize, seen: u64) -> u64 {
    let crowded = index >= cores();
    let start = Instant::now();
    loop {
        for _ in 0..64 {
            let epoch = shared.epoch.load(Ordering::Acquire);
            if epoch != seen {
                return epoch;
            }
            std::hint::spin_loop();
        }
        if crowded || start.elapsed() > SPIN {
            break;
        }
    }
    shared.parked[index].store(true, Ordering::SeqCst);
    loop {
        let epoch = shared.epoch.load(Ordering::SeqCst);
        if epoch != seen {
            shared.parked[index].store(false, Ordering::SeqCst);
            return epoch;
        }
        std::thread::park();
    }
}

/// A slice of which several threads of a region write disjoint parts.
///
/// ```
/// let mut squares = vec![0usize; 100];
/// let parts = cupola_core::pool::Parts::new(&mut squares, 30);
/// cupola_core::parallel_for(parts.len(), |i| {
///     let (start, part) = parts.take(i);
///     for (k, out) in part.iter_mut().enumerate() {
///         *out = (start + k) * (start + k);
///     }
/// });
/// assert_eq!(squares[99], 9801);
/// ```
pub struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    size: usize,
    taken: Vec<AtomicBool>,
    slice: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: a part is handed out once (checked in `take`), so threads never share an element.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    /// Cuts `slice` into parts of `size` elements (at least one); the last may be shorter.
    pub fn new(slice: &'a mut [T], size: usize) -> Self {
        let size = size.max(1);
        let parts = slice.len().div_ceil(size);
        let taken = (0..parts).map(|_| AtomicBool::new(false)).collect();
        Self { start: slice.as_mut_ptr(), len: slice.len(), size, taken, slice: std::marker::PhantomData }
    }

    /// How many parts there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.taken.len()
    }

    /// Part `index` and the position of its first element in the whole slice.
    ///
    /// # Panics
    /// When the part has been taken before.
    #[allow(clippy::mut_from_ref)]
    pub fn take(&self, index: usize) -> (usize, &mut [T]) {
        assert!(!self.taken[index].swap(true, Ordering::Relaxed), "part {index} was taken twice");
        let start = index * self.size;
        let len = self.size.min(self.len - start);
        // SAFETY: the range lies inside the slice borrowed for 'a, and no other call has returned or will return it.
        (start, unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visits(tasks: usize, threads: usize) -> Vec<usize> {
        let counts: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
        with_threads(threads, || {
            parallel_for(tasks, |i| {
                counts[i].fetch_add(1, Ordering::Relaxed);
            })
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_piece_runs_exactly_once() {
        for threads in [1, 2, 3, 7] {
            for tasks in [0, 1, 2, 5, 64, 1000] {
                assert_eq!(visits(tasks, threads), vec![1; tasks], "{tasks} pieces on {threads} threads");
            }
        }
    }

    #[test]
    fn nested_and_concurrent_regions_complete() {
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    with_threads(4, || {
                        for _ in 0..200 {
                            parallel_for(24, |i| {
                                parallel_for(i / 8, |_| {
                                    total.fetch_add(1, Ordering::Relaxed);
                                });
                            });
                        }
                    });
                });
            }
        });
        assert_eq!(total.into_inner(), 3 * 200 * 8 * (1 + 2));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        for threads in [1, 4] {
            let caught = catch_unwind(|| with_threads(threads, || parallel_for(64, |i| assert!(i != 63, "piece {i}"))));
            let payload = caught.expect_err("the panic must not be swallowed");
            assert_eq!(payload.downcast_ref::<String>().map(String::as_str), Some("piece 63"));
            assert_eq!(visits(100, threads), vec![1; 100]);
        }
    }

    #[test]
    fn a_part_cannot_be_taken_twice() {
        let mut data = [0u8; 10];
        let parts = Parts::new(&mut data, 4);
        assert_eq!(parts.len(), 3);
        assert_eq!(parts.take(2).1.len(), 2);
        assert!(catch_unwind(AssertUnwindSafe(|| parts.take(2).0)).is_err());
    }
}
