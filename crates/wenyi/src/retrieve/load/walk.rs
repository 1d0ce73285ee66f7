//! Which files a folder holds.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::{Kind, LoadOptions, Skip, SkipReason, modified_nanoseconds};
use crate::progress::Progress;
use crate::retrieve::{Error, ErrorKind, Result};

/// A file that may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its canonical path.
    pub path: PathBuf,
    /// What its name tells; `None` is decided by the content.
    pub kind: Option<Kind>,
    /// Size in bytes.
    pub bytes: u64,
    /// Time of change, nanoseconds since 1970.
    pub modified: i64,
}

/// What was found below the roots, in the order of the paths.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The roots, canonical.
    pub roots: Vec<PathBuf>,
    /// The files to read.
    pub files: Vec<SourceFile>,
    /// What is not read, and why.
    pub skipped: Vec<Skip>,
}

/// Lists the files below `roots` (folders or files). Links are followed; a file that is reached
/// twice is listed once. A file that is named as a root is read whatever its extension.
///
/// # Errors
///
/// If a root does not exist, or the caller asked to stop.
pub fn walk(roots: &[PathBuf], options: &LoadOptions, progress: &dyn Progress) -> Result<Listing> {
    let mut found = Found::default();
    for root in roots {
        let canonical = fs::canonicalize(root).map_err(|source| Error::io(root, source))?;
        found.walk_root(&canonical, options, progress)?;
        found.listing.roots.push(canonical);
    }
    found.listing.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found.listing)
}

#[derive(Default)]
struct Found {
    listing: Listing,
    /// Canonical path to the path by which it was reached first.
    seen: HashMap<PathBuf, PathBuf>,
}

impl Found {
    fn walk_root(
        &mut self,
        root: &Path,
        options: &LoadOptions,
        progress: &dyn Progress,
    ) -> Result<()> {
        let globs = Globs::new(root, options)?;
        let wanted = globs.clone();
        let walk = WalkBuilder::new(root)
            .hidden(!options.hidden)
            .ignore(options.gitignore)
            .git_ignore(options.gitignore)
            .git_exclude(options.gitignore)
            .git_global(options.gitignore)
            .parents(options.gitignore)
            .require_git(false)
            .follow_links(true)
            .sort_by_file_path(Path::cmp)
            .filter_entry(move |entry| {
                entry.depth() == 0 || !wanted.excludes(entry.path(), is_folder(entry))
            })
            .build();
        for entry in walk {
            if progress.is_cancelled() {
                return Err(ErrorKind::Cancelled.into());
            }
            match entry {
                Ok(entry) if is_folder(&entry) => {}
                Ok(entry) if !globs.includes(entry.path()) => {}
                Ok(entry) => self.add(entry.path(), entry.path() == root, options),
                Err(error) => self.skip_error(root, &error),
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, is_root: bool, options: &LoadOptions) {
        match self.examine(path, is_root, options) {
            Ok(file) => self.listing.files.push(file),
            Err(reason) => self.listing.skipped.push(Skip {
                path: path.to_path_buf(),
                reason,
            }),
        }
    }

    fn examine(
        &mut self,
        path: &Path,
        is_root: bool,
        options: &LoadOptions,
    ) -> Result<SourceFile, SkipReason> {
        let unreadable = |source: std::io::Error| SkipReason::Unreadable {
            message: source.to_string(),
        };
        let metadata = fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() {
            // Opening a pipe would wait for its writer for ever.
            return Err(SkipReason::NotAFile);
        }
        if path.to_str().is_none() {
            return Err(SkipReason::PathNotUnicode);
        }
        let kind = Kind::from_path(path);
        let extension = path.extension().and_then(|extension| extension.to_str());
        if let (None, Some(extension), false) = (kind, extension, is_root) {
            return Err(SkipReason::OtherKind {
                extension: extension.to_ascii_lowercase(),
            });
        }
        if metadata.len() > options.max_bytes {
            return Err(SkipReason::TooLarge {
                bytes: metadata.len(),
                limit: options.max_bytes,
            });
        }
        let canonical = fs::canonicalize(path).map_err(unreadable)?;
        if canonical.to_str().is_none() {
            return Err(SkipReason::PathNotUnicode);
        }
        if let Some(read) = self.seen.get(&canonical) {
            return Err(SkipReason::SameFile { read: read.clone() });
        }
        self.seen.insert(canonical.clone(), path.to_path_buf());
        let modified = modified_nanoseconds(&metadata);
        Ok(SourceFile {
            path: canonical,
            kind,
            bytes: metadata.len(),
            modified,
        })
    }

    fn skip_error(&mut self, root: &Path, error: &ignore::Error) {
        let (path, reason) = describe(error);
        let path = path.unwrap_or_else(|| root.to_path_buf());
        self.listing.skipped.push(Skip { path, reason });
    }
}

fn is_folder(entry: &ignore::DirEntry) -> bool {
    entry.file_type().is_some_and(|kind| kind.is_dir())
}

/// What the caller's own patterns leave of a folder.
#[derive(Clone)]
struct Globs {
    /// None if everything is wanted.
    include: Option<Gitignore>,
    exclude: Gitignore,
}

impl Globs {
    fn new(root: &Path, options: &LoadOptions) -> Result<Self> {
        let folder = if root.is_dir() {
            root
        } else {
            root.parent().unwrap_or(root)
        };
        let build = |option, patterns: &[String]| {
            let mut builder = GitignoreBuilder::new(folder);
            for pattern in patterns {
                let added = builder.add_line(None, pattern);
                added.map_err(|error| not_a_pattern(option, pattern, &error))?;
            }
            builder
                .build()
                .map_err(|error| not_a_pattern(option, &patterns.join(" "), &error))
        };
        let include = match options.include.as_slice() {
            [] => None,
            patterns => Some(build("include", patterns)?),
        };
        let exclude = build("exclude", &options.exclude)?;
        Ok(Self { include, exclude })
    }

    fn excludes(&self, path: &Path, is_folder: bool) -> bool {
        self.exclude.matched(path, is_folder).is_ignore()
    }

    fn includes(&self, path: &Path) -> bool {
        let Some(include) = &self.include else {
            return true;
        };
        // A pattern that names a folder means what is in it.
        include.matched_path_or_any_parents(path, false).is_ignore()
    }
}

fn not_a_pattern(option: &'static str, pattern: &str, error: &ignore::Error) -> Error {
    ErrorKind::Option {
        option,
        value: pattern.to_owned(),
        expected: format!("a pattern as in `.gitignore` ({error})"),
    }
    .into()
}

/// The path and the reason inside the walker's nested error.
fn describe(error: &ignore::Error) -> (Option<PathBuf>, SkipReason) {
    match error {
        ignore::Error::Loop { ancestor, child } => (
            Some(child.clone()),
            SkipReason::LinkLoop {
                to: ancestor.clone(),
            },
        ),
        ignore::Error::WithPath { path, err } => {
            let (inner, reason) = describe(err);
            (inner.or_else(|| Some(path.clone())), reason)
        }
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => {
            describe(err)
        }
        ignore::Error::Partial(errors) if !errors.is_empty() => describe(&errors[0]),
        other => (
            None,
            SkipReason::Unreadable {
                message: other.to_string(),
            },
        ),
    }
}
