//! Ctrl-C and requests to end.
//!
//! The first Ctrl-C asks the work to end cleanly, the second ends the program at once; where the program
//! waits for a line there is no work, so the first ends it. SIGTERM and the end of the terminal end the
//! program also where Ctrl-C only ends a part of its work, such as an answer of a conversation.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use crate::exit::INTERRUPTED;

static REQUESTS: AtomicUsize = AtomicUsize::new(0);

/// The exit code that the program was asked to end with; 0 if it was not.
static END: AtomicU8 = AtomicU8::new(0);

/// The program waits for a line.
static WAITS: AtomicBool = AtomicBool::new(false);

/// Listens for Ctrl-C and for requests to end.
#[cfg(unix)]
pub(crate) fn listen() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    // Without a handler the program still ends, only less cleanly.
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else {
        return;
    };
    std::thread::spawn(move || {
        // As shells count them.
        let codes = signals.forever().map(|signal| 128 + signal);
        codes
            .filter_map(|code| u8::try_from(code).ok())
            .for_each(heed);
    });
}

/// Listens for Ctrl-C and for requests to end, which are told as Ctrl-C is.
#[cfg(not(unix))]
pub(crate) fn listen() {
    // Without a handler the program still ends on Ctrl-C, only less cleanly.
    let _ = ctrlc::set_handler(|| heed(INTERRUPTED));
}

/// Does what a signal asks for that ends programs with `code`.
fn heed(code: u8) {
    if WAITS.load(Ordering::SeqCst) {
        leave(code);
    }
    let is_again = match code {
        INTERRUPTED => REQUESTS.fetch_add(1, Ordering::SeqCst) > 0,
        _ => END.swap(code, Ordering::SeqCst) > 0,
    };
    if is_again {
        std::process::exit(i32::from(code));
    }
    if code == INTERRUPTED && io::stderr().is_terminal() {
        // Behind the `^C` of the terminal; a closed standard error is no reason to fail.
        let _ = writeln!(io::stderr(), "\nstopping; Ctrl-C again stops at once");
    }
}

/// Ends the program while it waits for a line.
fn leave(code: u8) -> ! {
    terminal::restore();
    std::process::exit(i32::from(code));
}

/// True once the user asked to stop, or the program is to end.
pub(crate) fn requested() -> bool {
    REQUESTS.load(Ordering::Relaxed) > 0 || ends()
}

/// True once the program is to end, whatever it could go on with.
pub(crate) fn ends() -> bool {
    END.load(Ordering::SeqCst) > 0
}

/// The exit code of work that was stopped.
pub(crate) fn code() -> u8 {
    match END.load(Ordering::SeqCst) {
        0 => INTERRUPTED,
        code => code,
    }
}

/// Goes on after what the user stopped.
pub(crate) fn forget() {
    REQUESTS.store(0, Ordering::SeqCst);
}

/// Waits for a line with `read`; whoever asks to stop meanwhile ends the program.
pub(crate) fn waiting<T>(read: impl FnOnce() -> T) -> T {
    terminal::remember();
    WAITS.store(true, Ordering::SeqCst);
    if ends() {
        leave(code());
    }
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
