//! Packing and indexing beside the searches of a handle that may write.
//!
//! A search that finds much behind the packed rows, or no index where there should be one, starts a
//! thread with a handle of its own. It goes through the same doors as any other process, so searches
//! and writes wait for it no longer than for one transaction; they see what it made at the next
//! search.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::packed::{UNPACKED_PART, WORTH_A_FILE};
use super::{Collection, lock};
use crate::Result;
use crate::rows::Rows;
use crate::rows::graph::Work;

/// A program that is gone before that only wanted an answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The thread of one handle.
#[derive(Debug, Default)]
pub(super) struct Background {
    /// Set when the handle is closed.
    pub(super) stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// What a thread that had nothing to do has seen: `(rows, packed rows)`.
    seen: Mutex<Option<(usize, usize)>>,
}

impl Collection {
    /// Starts the thread if there is much to do for it and it is not at work. `rows` are those of
    /// this state of the file.
    pub(super) fn maintain_beside(&self, rows: &Rows, wants_index: bool) {
        let behind = rows.len() - rows.base();
        let is_due = behind > WORTH_A_FILE.max(rows.len() / UNPACKED_PART)
            || (wants_index && rows.len() >= WORTH_A_FILE);
        if self.is_read_only() || !is_due || self.background.stop.load(Ordering::Relaxed) {
            return;
        }
        let state = (rows.len(), rows.base());
        let mut thread = lock(&self.background.thread);
        let is_at_work = thread.as_ref().is_some_and(|thread| !thread.is_finished());
        if is_at_work || lock(&self.background.seen).replace(state) == Some(state) {
            return;
        }
        let (path, stop) = (self.path.clone(), Arc::clone(&self.background.stop));
        let run = move || {
            let started = Instant::now();
            while started.elapsed() < PATIENCE && !stop.load(Ordering::Relaxed) {
                thread::park_timeout(PATIENCE);
            }
            // What is derived may be missing or old; the next one tries again.
            let _ = maintain(&path, &stop);
        };
        let name = "wenyi-store".to_owned();
        *thread = thread::Builder::new().name(name).spawn(run).ok();
    }

    /// Ends the thread and waits for it.
    pub(super) fn end_background(&self) {
        self.background.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = lock(&self.background.thread).take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// Half of the cores are left to the searches.
fn maintain(path: &Path, stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) {
        return Ok(());
    }
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = (cores / 2).max(1);
    let collection = Collection::open(path)?;
    // It needs no maintenance of its own.
    collection.background.stop.store(true, Ordering::Relaxed);
    collection.maintain_with(&Work { threads, stop }).map(drop)
}
