//! `wenyi index --watch`: from changes in folders to rounds of indexing.
//!
//! A change only says that there is something to do; what it is, the next round finds out by
//! itself, so nothing depends on events being complete or in order.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use wenyi::progress::Progress;

use super::{Group, Report};
use crate::exit::{Stopped, UserError};
use crate::interrupt;
use crate::progress::Terminal;

/// How long it must be quiet before a round: programs write a file in several steps.
const QUIET: Duration = Duration::from_millis(500);

/// The longest that a round waits for quiet.
const MOST_PATIENCE: Duration = Duration::from_secs(10);

/// How soon Ctrl-C is noticed.
const GLANCE: Duration = Duration::from_millis(100);

/// What changes below some folders.
pub(super) struct Changes {
    events: Receiver<notify::Result<Event>>,
    /// Ends watching when it is dropped.
    _watcher: RecommendedWatcher,
    relevance: Relevance,
}

/// Which changes matter.
struct Relevance {
    roots: Vec<PathBuf>,
    collections: Vec<PathBuf>,
    hidden: bool,
}

impl Changes {
    /// Watches the paths of `groups`.
    pub(super) fn below(groups: &[Group], hidden: bool) -> anyhow::Result<Self> {
        let (sender, events) = mpsc::channel();
        let mut watcher = notify::recommended_watcher(sender)?;
        let mut roots = Vec::new();
        for root in groups.iter().flat_map(|(_, roots)| roots) {
            let root = root.canonicalize()?;
            // A file that a program replaces is another one, so its folder is watched.
            let (watched, mode) = match root.parent() {
                Some(folder) if root.is_file() => (folder, RecursiveMode::NonRecursive),
                _ => (root.as_path(), RecursiveMode::Recursive),
            };
            watcher
                .watch(watched, mode)
                .map_err(|error| cannot_watch(&root, &error))?;
            roots.push(root);
        }
        let collections = groups.iter().map(|(file, _)| std::path::absolute(file));
        Ok(Self {
            events,
            _watcher: watcher,
            relevance: Relevance {
                roots,
                collections: collections.collect::<Result<_, _>>()?,
                hidden,
            },
        })
    }

    /// Waits for a change and then for quiet; false if the user asked to stop.
    fn wait(&self) -> anyhow::Result<bool> {
        let mut since: Option<(Instant, Instant)> = None;
        loop {
            if interrupt::requested() {
                return Ok(false);
            }
            let now = Instant::now();
            if let Some((first, last)) = since
                && (now - last >= QUIET || now - first >= MOST_PATIENCE)
            {
                return Ok(true);
            }
            match self.events.recv_timeout(GLANCE) {
                Ok(event) if self.relevance.matters(&event) => {
                    let now = Instant::now();
                    since = Some((since.map_or(now, |(first, _)| first), now));
                }
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("watching ended by itself"),
            }
        }
    }
}

impl Relevance {
    fn matters(&self, event: &notify::Result<Event>) -> bool {
        let Ok(event) = event else {
            // Events were lost: look at everything.
            return true;
        };
        let is_read = matches!(event.kind, EventKind::Access(_));
        !is_read && (event.need_rescan() || event.paths.iter().any(|path| self.is_ours(path)))
    }

    /// True for a path below a root that is not hidden and no part of a collection.
    fn is_ours(&self, path: &Path) -> bool {
        let is_collection = self.collections.iter().any(|collection| {
            // The collection and what lies beside it: `notes.db-wal`.
            let (file, name) = (path.file_name(), collection.file_name());
            let names = file
                .zip(name)
                .map(|(file, name)| (file.as_encoded_bytes(), name));
            path.parent() == collection.parent()
                && names.is_some_and(|(file, name)| file.starts_with(name.as_encoded_bytes()))
        });
        let below = self
            .roots
            .iter()
            .find_map(|root| path.strip_prefix(root).ok());
        let is_hidden = |below: &Path| {
            let mut parts = below.components();
            parts.any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."))
        };
        !is_collection && below.is_some_and(|below| self.hidden || !is_hidden(below))
    }
}

/// Runs `round` after every change, until Ctrl-C.
pub(super) fn run(
    first: anyhow::Result<Report>,
    changes: &Changes,
    progress: &Terminal,
    mut round: impl FnMut() -> anyhow::Result<Report>,
) -> anyhow::Result<()> {
    let mut last = first;
    progress.note("watching for changes; Ctrl-C ends it");
    loop {
        match last {
            // Ctrl-C is how watching ends; what was embedded until then is kept.
            Err(error) if error.is::<Stopped>() => return Ok(()),
            other => other?,
        };
        if !changes.wait()? {
            return Ok(());
        }
        last = round();
    }
}

fn cannot_watch(root: &Path, error: &notify::Error) -> anyhow::Error {
    let message = format!("cannot watch `{}`: {error}", root.display());
    match error.kind {
        notify::ErrorKind::MaxFilesWatch => UserError::new(message)
            .with_hint("allow more with `sysctl fs.inotify.max_user_watches=524288`")
            .into(),
        _ => anyhow::anyhow!(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_in_the_folder_does_not_wake_its_own_indexing() {
        let relevance = Relevance {
            roots: vec!["/docs".into()],
            collections: vec!["/docs/notes.db".into()],
            hidden: false,
        };
        for (path, expected) in [
            ("/docs/文档.md", true),
            ("/docs/a/b.pdf", true),
            ("/docs/notes.db", false),
            ("/docs/notes.db-wal", false),
            ("/docs/.git/index", false),
            ("/other/a.md", false),
        ] {
            assert_eq!(relevance.is_ours(Path::new(path)), expected, "{path}");
        }
    }
}
