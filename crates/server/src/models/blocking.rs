//! Calls of a provider: each on a thread of its own, for they block and may last. In the pool that
//! tokenizes they would keep models on this machine waiting.

use std::sync::Arc;
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use wenyi::providers::cancellable;

use crate::problem::Problem;

/// What `work` comes to. It ends soon after this future is dropped, and has `place` until then.
pub(crate) async fn answered<T: Send + 'static>(
    place: OwnedSemaphorePermit,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let (tell, told) = oneshot::channel();
    let waiting = Arc::new(());
    let waited_for = Arc::downgrade(&waiting);
    let is_abandoned = move || waited_for.strong_count() == 0;
    start(is_abandoned, move || {
        let result = work();
        // First, so that whoever was told finds the place free.
        drop(place);
        let _ = tell.send(result);
    })?;
    let result = told.await;
    drop(waiting);
    result.unwrap_or_else(|_| {
        let reason = "a call of a provider panicked".into();
        Err(Problem::Internal { reason })
    })
}

/// Begins `work`, which ends soon after `is_abandoned` says so.
pub(crate) fn start(
    is_abandoned: impl Fn() -> bool + Send + Sync + 'static,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), Problem> {
    let thread = thread::Builder::new().name("wenyi-provider".into());
    let started = thread.spawn(move || cancellable(is_abandoned, work));
    started.map(drop).map_err(|error| Problem::Internal {
        reason: error.to_string(),
    })
}
