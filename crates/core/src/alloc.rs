//! The cache that buffers come from.
//!
//! Fresh memory is dear: the system clears 4 KiB at a time on first touch, at a few GB/s, slower than most kernels run. So
//! memory is taken from the system in large regions that ask for 2 MiB pages, cut into blocks, and kept when a block is
//! freed. A training loop of equal steps asks the system for nothing after its first step.
//!
//! * Blocks above [`SMALL`] are cut best-fit from regions and merged with their free neighbours when they return.
//! * Smaller blocks come in four sizes per power of two from slabs, and stay in the list of their size.
//! * [`Placement::Lasting`] (parameters, optimiser state) and [`Placement::Passing`] (activations, gradients) never share a
//!   region, so that what stays for ever does not cut up the space of what comes and goes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;

/// Blocks up to this many bytes come from slabs.
pub const SMALL: usize = 64 << 10;
/// Alignment of every block, that of a cache line and of the widest vector.
pub const ALIGNMENT: usize = 64;
const HUGE_PAGE: usize = 2 << 20;
const REGION: usize = 32 << 20;
/// Blocks of a slab, as far as that makes it neither tiny nor longer than half a 2 MiB page.
const SLAB_BLOCKS: usize = 16;
const SLAB: std::ops::RangeInclusive<usize> = SMALL..=1 << 20;
/// Large blocks are rounded to this, which keeps odd remainders from piling up.
const GRAIN: usize = 4 << 10;

/// How long a block will live, as far as its maker knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// For the life of a model: parameters, their gradients and optimiser state.
    Lasting,
    /// For a step at most.
    Passing,
}

/// A piece of memory from the cache; give it back with [`release`].
#[derive(Debug)]
pub(crate) struct Block {
    pub ptr: NonNull<u8>,
    pub bytes: usize,
    pub placement: Placement,
}

/// What the cache holds, in bytes, and how often it turned to the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Taken from the system and not yet given back.
    pub reserved: usize,
    /// Handed out now.
    pub in_use: usize,
    /// The most that was handed out at any time since the start or [`reset_peak`].
    pub peak_in_use: usize,
    /// Regions asked of the system since the start.
    pub system_requests: usize,
}

struct Region {
    map: MmapMut,
    /// Address of the first aligned byte.
    start: usize,
    len: usize,
}

#[derive(Default)]
struct Arena {
    regions: Vec<Region>,
    /// Free large blocks by size, then address.
    by_size: BTreeSet<(usize, usize)>,
    /// Free large blocks: address to size.
    by_address: BTreeMap<usize, usize>,
    /// Free small blocks of each size class.
    small: HashMap<usize, Vec<usize>>,
}

static PASSING: Mutex<Option<Arena>> = Mutex::new(None);
static LASTING: Mutex<Option<Arena>> = Mutex::new(None);
static RESERVED: AtomicUsize = AtomicUsize::new(0);
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static REQUESTS: AtomicUsize = AtomicUsize::new(0);

fn arena(placement: Placement) -> MutexGuard<'static, Option<Arena>> {
    let arena = match placement {
        Placement::Passing => &PASSING,
        Placement::Lasting => &LASTING,
    };
    // A panic while the lock was held (out of memory) leaves the lists consistent: they change only after success.
    arena.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The size that a request of `bytes` is rounded up to.
fn rounded(bytes: usize) -> usize {
    if bytes > SMALL {
        return bytes.next_multiple_of(GRAIN);
    }
    let bytes = bytes.max(ALIGNMENT);
    let step = (bytes.next_power_of_two() / 8).max(ALIGNMENT);
    bytes.next_multiple_of(step)
}

/// The slab that blocks of this size are cut from. Sizes that turn up late (a batch of a length that there was never before) then find
/// room in pages that are in use already.
fn slab(size: usize) -> usize {
    (SLAB_BLOCKS * size).clamp(*SLAB.start(), *SLAB.end())
}

/// A block of at least `bytes` bytes whose contents are arbitrary but initialised.
///
/// # Panics
/// When the system has no memory left.
pub(crate) fn acquire(bytes: usize, placement: Placement) -> Block {
    let size = rounded(bytes);
    let address = {
        let mut guard = arena(placement);
        let arena = guard.get_or_insert_with(Arena::default);
        if size > SMALL { arena.take(size) } else { arena.take_small(size) }
    };
    let in_use = IN_USE.fetch_add(size, Ordering::Relaxed) + size;
    PEAK.fetch_max(in_use, Ordering::Relaxed);
    let ptr = NonNull::new(address as *mut u8).expect("a mapping never starts at address zero");
    Block { ptr, bytes: size, placement }
}

/// Returns a block to the cache.
pub(crate) fn release(block: &Block) {
    IN_USE.fetch_sub(block.bytes, Ordering::Relaxed);
    let mut guard = arena(block.placement);
    let arena = guard.get_or_insert_with(Arena::default);
    let address = block.ptr.as_ptr() as usize;
    if block.bytes > SMALL {
        arena.give(address, block.bytes);
    } else {
        arena.small.entry(block.bytes).or_default().push(address);
    }
}

impl Arena {
    fn take(&mut self, size: usize) -> usize {
        let fit = self.by_size.range((size, 0)..).next().copied();
        let (found, address) = fit.unwrap_or_else(|| self.grow(size));
        self.by_size.remove(&(found, address));
        self.by_address.remove(&address);
        if found > size {
            self.insert(address + size, found - size);
        }
        address
    }

    fn take_small(&mut self, size: usize) -> usize {
        if let Some(address) = self.small.get_mut(&size).and_then(Vec::pop) {
            return address;
        }
        let len = slab(size);
        let first = self.take(len);
        let blocks = self.small.entry(size).or_default();
        // Pushed from the back, so that neighbours are handed out in rising order.
        blocks.extend((1..len / size).rev().map(|k| first + k * size));
        first
    }

    fn insert(&mut self, address: usize, size: usize) {
        self.by_size.insert((size, address));
        self.by_address.insert(address, size);
    }

    fn give(&mut self, mut address: usize, mut size: usize) {
        if let Some((&before, &len)) = self.by_address.range(..address).next_back()
            && before + len == address
            && !self.starts_region(address)
        {
            self.by_address.remove(&before);
            self.by_size.remove(&(len, before));
            address = before;
            size += len;
        }
        if let Some(&len) = self.by_address.get(&(address + size))
            && !self.starts_region(address + size)
        {
            self.by_address.remove(&(address + size));
            self.by_size.remove(&(len, address + size));
            size += len;
        }
        self.insert(address, size);
    }

    fn starts_region(&self, address: usize) -> bool {
        self.regions.iter().any(|region| region.start == address)
    }

    /// Maps a region with room for `size` and returns it as one free block (size, address).
    fn grow(&mut self, size: usize) -> (usize, usize) {
        let len = size.max(REGION).next_multiple_of(HUGE_PAGE);
        let map = MmapMut::map_anon(len + HUGE_PAGE);
        let map =
            map.unwrap_or_else(|error| panic!("allocating {size} bytes: the system has no memory left ({error})"));
        // Without huge pages everything works, only slower; systems that lack them refuse the advice.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        let start = (map.as_ptr() as usize).next_multiple_of(HUGE_PAGE);
        self.regions.push(Region { map, start, len });
        RESERVED.fetch_add(len, Ordering::Relaxed);
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        self.insert(start, len);
        (len, start)
    }

    /// Unmaps every region that is one free block; returns the bytes given back.
    fn trim(&mut self) -> usize {
        let mut freed = 0;
        let Self { regions, by_size, by_address, .. } = self;
        regions.retain(|region| {
            let whole = by_address.get(&region.start) == Some(&region.len);
            if whole {
                by_address.remove(&region.start);
                by_size.remove(&(region.len, region.start));
                freed += region.len;
                debug_assert!(region.map.len() >= region.len);
            }
            !whole
        });
        RESERVED.fetch_sub(freed, Ordering::Relaxed);
        freed
    }
}

/// What the cache holds now.
pub fn stats() -> Stats {
    Stats {
        reserved: RESERVED.load(Ordering::Relaxed),
        in_use: IN_USE.load(Ordering::Relaxed),
        peak_in_use: PEAK.load(Ordering::Relaxed),
        system_requests: REQUESTS.load(Ordering::Relaxed),
    }
}

/// Starts the measurement of [`Stats::peak_in_use`] anew from what is in use now.
pub fn reset_peak() {
    PEAK.store(IN_USE.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// Gives every region that holds no block back to the system; returns how many bytes those were.
pub fn trim() -> usize {
    [Placement::Passing, Placement::Lasting]
        .into_iter()
        .filter_map(|placement| arena(placement).as_mut().map(Arena::trim))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_waste_at_most_a_quarter() {
        for bytes in 1..2 * SMALL {
            let size = rounded(bytes);
            assert!(size >= bytes && size.is_multiple_of(ALIGNMENT));
            assert!(bytes < 512 || size <= bytes + bytes / 4, "{bytes} -> {size}");
        }
    }

    #[test]
    fn small_blocks_of_every_size_come_from_few_pages() {
        let mut arena = Arena::default();
        let sizes: BTreeSet<usize> = (1..=SMALL).map(rounded).collect();
        let blocks: Vec<_> = sizes.iter().map(|&size| (arena.take_small(size), size)).collect();
        for (i, a) in blocks.iter().enumerate() {
            for b in &blocks[i + 1..] {
                assert!(a.0 + a.1 <= b.0 || b.0 + b.1 <= a.0, "blocks overlap");
            }
        }
        let slabs: usize = sizes.iter().map(|&size| slab(size)).sum();
        let free: usize = arena.by_address.values().sum();
        assert_eq!(free + slabs, REGION);
        assert!(slabs < 8 << 20, "{slabs} bytes for one block of each of {} sizes", sizes.len());
    }

    #[test]
    fn neighbours_merge_until_the_region_is_whole_again() {
        let mut arena = Arena::default();
        let sizes = [1 << 20, 3 << 20, 100 << 10, 7 << 20, 5 << 20];
        let blocks: Vec<_> = sizes.iter().map(|&size| (arena.take(rounded(size)), rounded(size))).collect();
        for (i, a) in blocks.iter().enumerate() {
            assert!(a.0.is_multiple_of(ALIGNMENT));
            for b in &blocks[i + 1..] {
                assert!(a.0 + a.1 <= b.0 || b.0 + b.1 <= a.0, "blocks overlap");
            }
        }
        for index in [3, 0, 4, 2, 1] {
            arena.give(blocks[index].0, blocks[index].1);
        }
        assert_eq!((arena.regions.len(), arena.by_size.len()), (1, 1));
        assert_eq!(arena.trim(), REGION);
        assert!(arena.regions.is_empty() && arena.by_address.is_empty());
    }

    #[test]
    fn a_repeated_sequence_asks_the_system_once() {
        let mut arena = Arena::default();
        let step = |arena: &mut Arena| {
            let blocks: Vec<_> = (1..40).map(|k| rounded((k * 300) << 10)).map(|s| (arena.take(s), s)).collect();
            blocks.into_iter().for_each(|(address, size)| arena.give(address, size));
        };
        step(&mut arena);
        let regions = arena.regions.len();
        (0..5).for_each(|_| step(&mut arena));
        assert_eq!(arena.regions.len(), regions);
    }
}
