//! A wall around parsers of others: what they do to a hostile file must not end the program.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use super::SkipReason;

thread_local! {
    /// True while a panic on this thread is expected and answered.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `parse`; a panic in it becomes a reason to pass the file over, and is not printed.
pub(super) fn against_panics<T>(
    parse: impl FnOnce() -> Result<T, SkipReason>,
) -> Result<T, SkipReason> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                before(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(parse));
    GUARDED.set(outer);
    result.unwrap_or_else(|_| {
        Err(SkipReason::Broken {
            message: "its structure makes no sense".to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_reason() {
        let reason = against_panics::<()>(|| panic!("of a parser")).unwrap_err();
        assert!(matches!(reason, SkipReason::Broken { .. }));
        assert_eq!(against_panics(|| Ok(1)), Ok(1));
    }
}
