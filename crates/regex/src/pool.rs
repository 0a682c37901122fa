//! Working memory shared between searches without locks.

use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// How many idle values are kept. More searches at once than that make memory of their own and drop it afterwards.
const SLOTS: usize = 8;

/// A few slots, each empty or holding one idle value; taking and giving back is one atomic exchange.
pub struct Pool<T> {
    slots: [AtomicPtr<T>; SLOTS],
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Pool { slots: [const { AtomicPtr::new(ptr::null_mut()) }; SLOTS] }
    }
}

impl<T> Pool<T> {
    /// An idle value, if there is one.
    pub fn take(&self) -> Option<Box<T>> {
        for slot in &self.slots {
            if slot.load(Ordering::Relaxed).is_null() {
                continue;
            }
            let value = slot.swap(ptr::null_mut(), Ordering::Acquire);
            if !value.is_null() {
                // SAFETY: non-null pointers come from `Box::into_raw` in `give`, and the swap made this thread the
                // only one that holds this one.
                return Some(unsafe { Box::from_raw(value) });
            }
        }
        None
    }

    /// Keeps a value for later, or drops it when all slots are taken.
    pub fn give(&self, value: Box<T>) {
        let value = Box::into_raw(value);
        for slot in &self.slots {
            let kept = slot.compare_exchange(ptr::null_mut(), value, Ordering::Release, Ordering::Relaxed);
            if kept.is_ok() {
                return;
            }
        }
        // SAFETY: the pointer was made by `Box::into_raw` above and no slot accepted it.
        drop(unsafe { Box::from_raw(value) });
    }
}

impl<T> Drop for Pool<T> {
    fn drop(&mut self) {
        while self.take().is_some() {}
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

// SAFETY: a value is owned by exactly one slot or one caller at any time; the pool gives no shared references to it, so
// `T: Send` suffices for both.
unsafe impl<T: Send> Send for Pool<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Pool<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn every_value_is_in_one_hand_and_dropped_once() {
        static LIVE: AtomicUsize = AtomicUsize::new(0);
        struct Counted(u64);
        impl Drop for Counted {
            fn drop(&mut self) {
                LIVE.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let pool = Pool::default();
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let mut value = pool.take().unwrap_or_else(|| {
                            LIVE.fetch_add(1, Ordering::SeqCst);
                            Box::new(Counted(0))
                        });
                        let before = value.0;
                        value.0 += 1;
                        std::thread::yield_now();
                        assert_eq!(value.0, before + 1);
                        pool.give(value);
                    }
                });
            }
        });
        assert!(LIVE.load(Ordering::SeqCst) <= SLOTS);
        drop(pool);
        assert_eq!(LIVE.load(Ordering::SeqCst), 0);
    }
}
