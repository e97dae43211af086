//! A pass through the model on the threads of the pool, which stay awake for its duration.

use rayon::Yield;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How long a thread looks for work in vain before it goes to sleep after all: longer than the gaps between operations.
const PATIENCE: Duration = Duration::from_micros(200);

/// Runs `f` on a thread of the pool and keeps the others looking for work meanwhile.
///
/// A step is a hundred operations of 10 to 500 microseconds with short gaps, in which idle threads would fall asleep; to wake
/// one takes up to 50. Measured on two cores, that is a fifth of a step.
pub(crate) fn pass<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| {
        let over = Over(Arc::new(AtomicBool::new(false)));
        let own = rayon::current_thread_index();
        let flag = Arc::clone(&over.0);
        if rayon::current_num_threads() > 1 {
            rayon::spawn_broadcast(move |context| {
                if own != Some(context.index()) {
                    look_for_work(&flag);
                }
            });
        }
        f()
    })
}

/// Ends a pass, after a panic, too.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn look_for_work(over: &AtomicBool) {
    let mut last = Instant::now();
    while !over.load(Relaxed) {
        match rayon::yield_now() {
            Some(Yield::Executed) => last = Instant::now(),
            // A thread that was called while it waited for work of its own gets back to that.
            _ if last.elapsed() > PATIENCE => return,
            _ => std::hint::spin_loop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    fn work(of: u64) -> u64 {
        pass(|| (0..50).map(|_| (0..100u64).into_par_iter().map(|i| i * of).sum::<u64>()).sum())
    }

    #[test]
    fn passes_within_and_beside_each_other_end() {
        assert_eq!(pass(|| work(1) + (0..4).into_par_iter().map(work).sum::<u64>()), 7 * 50 * 4950);
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|of| scope.spawn(move || (0..20).map(|_| work(of)).sum::<u64>())).collect();
            for (of, thread) in threads.into_iter().enumerate() {
                assert_eq!(thread.join().unwrap(), of as u64 * 20 * 50 * 4950);
            }
        });
    }

    #[test]
    fn a_panic_ends_a_pass() {
        assert!(std::panic::catch_unwind(|| pass(|| panic!("as it should"))).is_err());
        assert_eq!(work(2), 2 * 50 * 4950);
    }
}
