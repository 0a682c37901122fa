//! Working memory shared between searches without locks.

use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A few slots, each empty or holding one idle value; taking and giving back is one atomic exchange. More users at once
/// than there are slots make memory of their own and drop it afterwards.
pub struct Pool<T, const SLOTS: usize = 8> {
    slots: [AtomicPtr<T>; SLOTS],
}

impl<T, const SLOTS: usize> Default for Pool<T, SLOTS> {
    fn default() -> Self {
        Pool { slots: [const { AtomicPtr::new(ptr::null_mut()) }; SLOTS] }
    }
}

impl<T, const SLOTS: usize> Pool<T, SLOTS> {
    /// An idle value, if there is one.
    #[inline]
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
    #[inline]
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

impl<T, const SLOTS: usize> Drop for Pool<T, SLOTS> {
    fn drop(&mut self) {
        while self.take().is_some() {}
    }
}

impl<T, const SLOTS: usize> fmt::Debug for Pool<T, SLOTS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

// SAFETY: a value is owned by exactly one slot or one caller at any time; the pool gives no shared references to it, so
// `T: Send` suffices for both.
unsafe impl<T: Send, const SLOTS: usize> Send for Pool<T, SLOTS> {}
// SAFETY: as above.
unsafe impl<T: Send, const SLOTS: usize> Sync for Pool<T, SLOTS> {}

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
        let pool = Pool::<Counted>::default();
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
        assert!(LIVE.load(Ordering::SeqCst) <= 8);
        drop(pool);
        assert_eq!(LIVE.load(Ordering::SeqCst), 0);
    }
}
