//! Ctrl-C: the first asks the work to end cleanly, the second ends the program at once.

use std::io::{self, IsTerminal, Write};
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
        if io::stderr().is_terminal() {
            // Behind the `^C` of the terminal; a closed standard error is no reason to fail.
            let _ = writeln!(io::stderr(), "\nstopping; Ctrl-C again stops at once");
        }
    });
}

/// True once the user asked to stop.
pub(crate) fn requested() -> bool {
    REQUESTS.load(Ordering::Relaxed) > 0
}
