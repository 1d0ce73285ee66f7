//! Ctrl-C: the first asks the work to end cleanly, the second ends the program at once; where the
//! program waits for a line there is no work, so the first ends it.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::exit::INTERRUPTED;

static REQUESTS: AtomicUsize = AtomicUsize::new(0);

/// The program waits for a line.
static WAITS: AtomicBool = AtomicBool::new(false);

/// Listens for Ctrl-C and for termination.
pub(crate) fn listen() {
    // Without a handler the program still ends on Ctrl-C, only less cleanly.
    let _ = ctrlc::set_handler(|| {
        if WAITS.load(Ordering::SeqCst) {
            terminal::restore();
            std::process::exit(i32::from(INTERRUPTED));
        }
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

/// Goes on after what the user stopped.
pub(crate) fn forget() {
    REQUESTS.store(0, Ordering::SeqCst);
}

/// Waits for a line with `read`; whoever asks to stop meanwhile ends the program.
pub(crate) fn waiting<T>(read: impl FnOnce() -> T) -> T {
    terminal::remember();
    WAITS.store(true, Ordering::SeqCst);
    let line = read();
    WAITS.store(false, Ordering::SeqCst);
    line
}

/// A line editor turns off what a terminal does by itself, and whoever ends the program under it must
/// turn it on again.
#[cfg(unix)]
mod terminal {
    use std::io::{self, IsTerminal, Write};
    use std::sync::{Mutex, PoisonError};

    use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

    static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

    pub(super) fn remember() {
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = tcgetattr(io::stdin()).ok();
    }

    pub(super) fn restore() {
        /// Ends the marks that terminals set around what is pasted.
        const PASTE_WITHOUT_MARKS: &str = "\x1b[?2004l";
        let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = &*before {
            // The program ends: nobody is left to tell of a terminal that is gone.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
            if io::stdout().is_terminal() {
                let _ = writeln!(io::stdout(), "{PASTE_WITHOUT_MARKS}");
            }
        }
    }
}

/// The console puts itself right when the program ends.
#[cfg(not(unix))]
mod terminal {
    pub(super) fn remember() {}
    pub(super) fn restore() {}
}
