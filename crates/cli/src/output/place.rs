//! Where in a file something stands.

use std::env;
use std::path::Path;

/// `docs/guide.md:12-30`, as editors and terminals take it.
pub(crate) fn place(path: &Path, first_line: u64, last_line: u64) -> String {
    // Shorter, and still right for whoever clicks it in this terminal.
    let here = env::current_dir()
        .ok()
        .and_then(|here| path.strip_prefix(here).ok());
    let path = here.unwrap_or(path).display();
    if first_line == last_line {
        format!("{path}:{first_line}")
    } else {
        format!("{path}:{first_line}-{last_line}")
    }
}
