//! Ctrl-C: the first asks the work to end cleanly, the second ends the program at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::exit::INTERRUPTED;

static REQUESTS: AtomicUsize = AtomicUsize::new(0);

/// Listens for Ctrl-C and for termination.
pub(crate) fn listen() {
    // Without a handler the program still ends on Ctrl-C, only less cleanly.
    let _ = ctrlc::set_handler(|| {
        if REQUESTS.fetch_add(1, Ordering::SeqCst) > 0 {
            std::process::exit(i32::from(INTERRUPTED));
        }
    });
}

/// True once the user asked to stop.
pub(crate) fn requested() -> bool {
    REQUESTS.load(Ordering::Relaxed) > 0
}
