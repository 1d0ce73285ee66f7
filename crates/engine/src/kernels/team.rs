//! A team of threads that starts a piece of work in about a microsecond.
//!
//! A forward pass has a few dozen parallel steps of tens of microseconds each, so waiting threads
//! spin for a moment before they sleep. All members run the same closure with their rank.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};

/// How often a waiting thread looks before it sleeps: about 50 µs of `pause` on current CPUs.
const SPINS: usize = 1_000;

/// The work as the members see it; the caller keeps it alive until all are done.
#[derive(Clone, Copy)]
struct Job(*const (dyn Fn(usize) + Sync));

// SAFETY: the closure is `Sync`, and `Team::run` outlives every use of the pointer.
unsafe impl Send for Job {}

struct Shared {
    /// Counts the jobs; a change is the signal to start.
    epoch: AtomicUsize,
    job: Mutex<Option<Job>>,
    /// Members still at work.
    remaining: AtomicUsize,
    panicked: AtomicBool,
    closing: AtomicBool,
    asleep: Vec<AtomicBool>,
}

/// A fixed number of threads, the caller's included.
pub(crate) struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    threads: Vec<Thread>,
    /// One job at a time; a second caller waits.
    turn: Mutex<()>,
}

impl Team {
    /// A team of `size` members (at least one: the caller).
    pub(crate) fn new(size: usize) -> Self {
        let members = size.max(1) - 1;
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            job: Mutex::new(None),
            remaining: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            asleep: (0..members).map(|_| AtomicBool::new(false)).collect(),
        });
        let workers: Vec<_> = (0..members)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                let name = format!("wenyi-{}", index + 1);
                // A machine that gives no more threads gets a smaller team.
                thread::Builder::new()
                    .name(name)
                    .spawn(move || work(&shared, index))
                    .ok()
            })
            .collect();
        let threads = workers
            .iter()
            .map(|worker| worker.thread().clone())
            .collect();
        Self {
            shared,
            workers,
            threads,
            turn: Mutex::new(()),
        }
    }

    /// Number of members.
    pub(crate) fn size(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job(rank)` once on every member, ranks `0..size`, and returns when all are done.
    ///
    /// # Panics
    ///
    /// If a member panicked.
    pub(crate) fn run(&self, job: impl Fn(usize) + Sync) {
        if self.workers.is_empty() {
            return job(0);
        }
        let _turn = lock(&self.turn);
        self.start(&job);
        let mine = catch_unwind(AssertUnwindSafe(|| job(0)));
        let mut waited = 0_usize;
        while self.shared.remaining.load(Ordering::Acquire) != 0 {
            wait_a_moment(&mut waited);
        }
        *lock(&self.shared.job) = None;
        if let Err(panic) = mine {
            resume_unwind(panic);
        }
        assert!(
            !self.shared.panicked.swap(false, Ordering::Relaxed),
            "a worker thread panicked"
        );
    }

    fn start(&self, job: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes; `run` waits for every member before it returns.
        let job = unsafe {
            std::mem::transmute::<
                *const (dyn Fn(usize) + Sync + '_),
                *const (dyn Fn(usize) + Sync + 'static),
            >(std::ptr::from_ref(job))
        };
        *lock(&self.shared.job) = Some(Job(job));
        self.shared
            .remaining
            .store(self.workers.len(), Ordering::Relaxed);
        self.wake();
    }

    fn wake(&self) {
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        for (asleep, thread) in self.shared.asleep.iter().zip(&self.threads) {
            if asleep.load(Ordering::SeqCst) {
                thread.unpark();
            }
        }
    }

    /// Splits `0..length` evenly, in multiples of `unit`, and returns the share of `rank`.
    pub(crate) fn share(&self, rank: usize, length: usize, unit: usize) -> std::ops::Range<usize> {
        let units = length.div_ceil(unit);
        let border = |rank: usize| (units * rank / self.size() * unit).min(length);
        border(rank)..border(rank + 1)
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.wake();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its jobs, so it cannot have died of one.
            let _ = worker.join();
        }
    }
}

impl fmt::Debug for Team {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Team({})", self.size())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Spins at first; gives the core away once the wait gets long.
fn wait_a_moment(waited: &mut usize) {
    *waited += 1;
    if *waited < SPINS {
        std::hint::spin_loop();
    } else {
        thread::yield_now();
    }
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        seen = next_epoch(shared, index, seen);
        if shared.closing.load(Ordering::SeqCst) {
            return;
        }
        let Some(Job(job)) = *lock(&shared.job) else {
            continue;
        };
        // SAFETY: `Team::run` keeps the closure alive until `remaining` is zero.
        let job = unsafe { &*job };
        if catch_unwind(AssertUnwindSafe(|| job(index + 1))).is_err() {
            shared.panicked.store(true, Ordering::Relaxed);
        }
        shared.remaining.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Waits until the epoch differs from `seen`.
fn next_epoch(shared: &Shared, index: usize, seen: usize) -> usize {
    for _ in 0..SPINS {
        let epoch = shared.epoch.load(Ordering::Acquire);
        if epoch != seen {
            return epoch;
        }
        std::hint::spin_loop();
    }
    // The flag is raised before the last look, and read after the epoch changes: one of the two
    // sides sees the other.
    shared.asleep[index].store(true, Ordering::SeqCst);
    let epoch = loop {
        let epoch = shared.epoch.load(Ordering::SeqCst);
        if epoch != seen {
            break epoch;
        }
        thread::park();
    };
    shared.asleep[index].store(false, Ordering::SeqCst);
    epoch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rank_runs_once_for_each_job() {
        for size in [1, 2, 5] {
            let team = Team::new(size);
            for _ in 0..200 {
                let counts: Vec<_> = (0..size).map(|_| AtomicUsize::new(0)).collect();
                team.run(|rank| {
                    counts[rank].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    counts
                        .iter()
                        .all(|count| count.load(Ordering::Relaxed) == 1)
                );
            }
        }
    }

    #[test]
    fn a_sleeping_team_wakes_and_a_panic_reaches_the_caller() {
        let team = Team::new(3);
        thread::sleep(std::time::Duration::from_millis(20));
        let caught = catch_unwind(AssertUnwindSafe(|| team.run(|rank| assert_ne!(rank, 2))));
        assert!(caught.is_err());
        let sum = AtomicUsize::new(0);
        team.run(|rank| {
            sum.fetch_add(rank, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 3);
    }

    #[test]
    fn shares_cover_everything_once() {
        let team = Team::new(3);
        for length in 0..50 {
            for unit in [1, 4, 12] {
                let mut next = 0;
                for rank in 0..3 {
                    let share = team.share(rank, length, unit);
                    assert_eq!(share.start, next);
                    next = share.end;
                }
                assert_eq!(next, length);
            }
        }
    }
}
