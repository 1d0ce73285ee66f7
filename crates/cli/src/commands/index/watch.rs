//! `wenyi index --watch`: from changes in folders to rounds of indexing.
//!
//! A change only says that there is something to do; what it is, the next round finds out by
//! itself, so nothing depends on events being complete or in order.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use notify::event::ModifyKind;
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
    /// The folders and files as the user named them.
    named: Vec<PathBuf>,
    watch: Watch,
    relevance: Relevance,
}

/// A connection to the system that tells of changes.
struct Watch {
    events: Receiver<notify::Result<Event>>,
    /// Ends watching when it is dropped.
    _watcher: RecommendedWatcher,
}

/// Which changes matter.
struct Relevance {
    roots: Vec<PathBuf>,
    collections: Vec<PathBuf>,
    hidden: bool,
}

impl Watch {
    /// Watches what is `named`; gives its real paths, as events will name them.
    fn begin(named: &[PathBuf]) -> anyhow::Result<(Self, Vec<PathBuf>)> {
        let (sender, events) = mpsc::channel();
        let mut watcher = notify::recommended_watcher(sender)?;
        let mut roots = Vec::new();
        for root in named {
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
        let watch = Self {
            events,
            _watcher: watcher,
        };
        Ok((watch, roots))
    }
}

impl Changes {
    /// Watches the paths of `groups`.
    pub(super) fn below(groups: &[Group], hidden: bool) -> anyhow::Result<Self> {
        let named = groups.iter().flat_map(|(_, roots)| roots);
        let named: Vec<PathBuf> = named.cloned().collect();
        let (watch, roots) = Watch::begin(&named)?;
        let collections = groups.iter().map(|(file, _)| std::path::absolute(file));
        Ok(Self {
            named,
            watch,
            relevance: Relevance {
                roots,
                collections: collections.collect::<Result<_, _>>()?,
                hidden,
            },
        })
    }

    /// Waits for a change and then for quiet; false if the user asked to stop.
    fn wait(&mut self, progress: &Terminal) -> anyhow::Result<bool> {
        let mut since: Option<(Instant, Instant)> = None;
        let mut is_replaced = self.missing().is_some();
        while !is_replaced || self.missing().is_none() {
            if interrupt::requested() {
                return Ok(false);
            }
            let now = Instant::now();
            if let Some((first, last)) = since
                && (now - last >= QUIET || now - first >= MOST_PATIENCE)
            {
                break;
            }
            match self.watch.events.recv_timeout(GLANCE) {
                Ok(event) if self.relevance.matters(&event) => {
                    let now = Instant::now();
                    since = Some((since.map_or(now, |(first, _)| first), now));
                    is_replaced |= self.relevance.replaces_a_root(&event);
                }
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("watching ended by itself"),
            }
        }
        match is_replaced {
            true => self.renew(progress),
            false => Ok(true),
        }
    }

    /// What is named and not there.
    fn missing(&self) -> Option<&Path> {
        let mut named = self.named.iter().map(PathBuf::as_path);
        named.find(|path| !path.exists())
    }

    /// Watches what has taken the place of a folder that was renamed or removed, as soon as it is
    /// there: the system goes on telling of the old one. False if the user asked to stop.
    fn renew(&mut self, progress: &Terminal) -> anyhow::Result<bool> {
        let mut is_told = false;
        loop {
            if interrupt::requested() {
                return Ok(false);
            }
            let Some(missing) = self.missing() else {
                match Watch::begin(&self.named) {
                    Ok((watch, roots)) => {
                        self.watch = watch;
                        self.relevance.roots = roots;
                        return Ok(true);
                    }
                    // It went away again meanwhile.
                    Err(_) if self.missing().is_some() => continue,
                    Err(error) => return Err(error),
                }
            };
            if !std::mem::replace(&mut is_told, true) {
                let missing = missing.display();
                progress.note(&format!("`{missing}` is gone; waiting for it to come back"));
            }
            std::thread::sleep(GLANCE);
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

    /// True if a root is not what it was before.
    fn replaces_a_root(&self, event: &notify::Result<Event>) -> bool {
        let Ok(event) = event else { return true };
        let is_other = matches!(
            event.kind,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
        );
        is_other && event.paths.iter().any(|path| self.roots.contains(path))
    }

    /// True for a path below a root that is not hidden, or says what to leave out, and no part of a
    /// collection.
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
        !is_collection && below.is_some_and(|below| self.hidden || !is_hidden(below))
    }
}

/// True if a part of the path begins with a dot; but files that say what to leave out are read.
fn is_hidden(below: &Path) -> bool {
    const READ: [&str; 2] = [".gitignore", ".ignore"];
    let is_read = below
        .file_name()
        .is_some_and(|name| READ.iter().any(|read| name == *read));
    let folder = below.parent().filter(|_| is_read);
    let mut parts = folder.unwrap_or(below).components();
    parts.any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."))
}

/// Runs `round` after every change, until Ctrl-C.
pub(super) fn run(
    first: anyhow::Result<Report>,
    mut changes: Changes,
    progress: &Terminal,
    mut round: impl FnMut() -> anyhow::Result<Report>,
) -> anyhow::Result<()> {
    let mut last = first;
    progress.note("watching for changes; Ctrl-C ends it");
    loop {
        match last {
            // Ctrl-C is how watching ends; what was embedded until then is kept.
            Err(error) if error.is::<Stopped>() => return Ok(()),
            // Whoever renames a folder may put it, or a new one, back.
            Err(_) if changes.missing().is_some() => {}
            other => drop(other?),
        };
        if !changes.wait(progress)? {
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
            ("/docs/.gitignore", true),
            ("/docs/a/.ignore", true),
            ("/docs/.cache/.gitignore", false),
            ("/other/a.md", false),
        ] {
            assert_eq!(relevance.is_ours(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_folder_that_is_away_for_a_moment_is_watched_again() {
        let parent = tempfile::tempdir().unwrap();
        let (root, away) = (parent.path().join("notes"), parent.path().join("away"));
        std::fs::create_dir(&root).unwrap();
        let groups = [(parent.path().join("c.db"), vec![root.clone()])];
        let mut changes = Changes::below(&groups, false).unwrap();
        let progress = Terminal::new(true);
        std::fs::rename(&root, &away).unwrap();
        let back = std::thread::spawn({
            let (root, away) = (root.clone(), away.clone());
            move || {
                std::thread::sleep(2 * QUIET);
                std::fs::rename(away, root).unwrap();
            }
        });
        assert!(changes.wait(&progress).unwrap());
        back.join().unwrap();
        assert!(changes.missing().is_none());
        // Another folder in its place is watched as it was.
        std::fs::remove_dir(&root).unwrap();
        std::fs::create_dir(&root).unwrap();
        assert!(changes.wait(&progress).unwrap());
        std::fs::write(root.join("文.md"), "new").unwrap();
        assert!(changes.wait(&progress).unwrap());
    }
}
