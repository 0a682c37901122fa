//! Which core a thread runs on, and how it leaves for another.
//!
//! A system places a thread that it wakes as it sees fit, sometimes beside the thread that woke it, and may leave the two
//! there for long while other cores are idle. Both then run at half speed. [`leave`] moves a thread away without tying it to a
//! place: afterwards it may run wherever it could before. Linux only; elsewhere nothing is known and nothing is done.

/// The core that this thread runs on now, where the system tells.
pub fn current() -> Option<usize> {
    #[cfg(target_os = "linux")]
    // SAFETY: the call has no preconditions.
    let core = unsafe { libc::sched_getcpu() };
    #[cfg(not(target_os = "linux"))]
    let core = -1;
    usize::try_from(core).ok()
}

/// Moves this thread from `core` to another one that it may use; stays where there is none.
pub fn leave(core: usize) {
    #[cfg(target_os = "linux")]
    // SAFETY: a set of zeros is an empty one, and both calls are told its size.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        let size = size_of_val(&allowed);
        if core >= 8 * size || libc::sched_getaffinity(0, size, &mut allowed) != 0 {
            return;
        }
        let mut others = allowed;
        libc::CPU_CLR(core, &mut others);
        // The system refuses an empty set. The second call gives back what the first one took.
        if libc::CPU_COUNT(&others) > 0 && libc::sched_setaffinity(0, size, &others) == 0 {
            libc::sched_setaffinity(0, size, &allowed);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = core;
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn allowed() -> Vec<usize> {
        // SAFETY: as in `leave`.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &mut set), 0);
            (0..8 * size_of_val(&set)).filter(|&core| libc::CPU_ISSET(core, &set)).collect()
        }
    }

    #[test]
    fn a_thread_runs_on_a_core_that_it_may_use() {
        assert!(allowed().contains(&current().expect("Linux tells")));
    }

    #[test]
    fn leaving_a_core_ties_a_thread_to_no_other() {
        let before = allowed();
        // The last one lies outside every set.
        for core in before.iter().copied().chain([usize::MAX]) {
            leave(core);
            assert_eq!(allowed(), before);
        }
    }

    #[test]
    fn a_thread_with_one_core_stays() {
        std::thread::spawn(|| {
            let core = allowed()[0];
            // SAFETY: as in `leave`.
            unsafe {
                let mut one: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(core, &mut one);
                assert_eq!(libc::sched_setaffinity(0, size_of_val(&one), &one), 0);
            }
            leave(core);
            assert_eq!((allowed(), current()), (vec![core], Some(core)));
        })
        .join()
        .expect("the thread ends well");
    }
}
