//! Where in a file something stands.

use std::env;
use std::path::Path;

use wenyi::retrieve::{Kind, Location};

use super::printable::printable;

/// `docs/guide.md:12-30`, as editors and terminals take it; `report.pdf, page 3` for a file that
/// has no lines; its name alone for one that has no pages either.
pub(crate) fn place(path: &Path, location: Option<&Location>, lines: (u64, u64)) -> String {
    let (first_line, last_line) = lines;
    let here = from_here(path).display().to_string();
    // Names of files are text of others too.
    let here = printable(&here);
    if let Some(location) = location {
        let location = location.to_string();
        return format!("{here}, {}", printable(&location));
    }
    if Kind::from_path(path).is_some_and(|kind| !kind.has_lines()) {
        return here.into_owned();
    }
    let path = here;
    if first_line == last_line {
        format!("{path}:{first_line}")
    } else {
        format!("{path}:{first_line}-{last_line}")
    }
}

/// The path from the working folder on, where it is below: shorter, and still right for whoever
/// clicks it in this terminal.
pub(crate) fn from_here(path: &Path) -> &Path {
    let here = env::current_dir().ok();
    let below = here.and_then(|here| path.strip_prefix(here).ok());
    below.unwrap_or(path)
}
