//! Files of a conversation: what was said is nobody else's to read.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;

/// Writes `bytes` for this user alone, by way of a file beside `path`, so that a kill leaves what was
/// there or what is new.
pub(super) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = replace(path, &beside, bytes);
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&beside);
    }
    written.with_context(|| format!("cannot write `{}`", path.display()))
}

fn replace(path: &Path, beside: &Path, bytes: &[u8]) -> io::Result<()> {
    create_folder(path.parent().unwrap_or(Path::new(".")))?;
    // One left by a killed process might be open to others.
    remove_file(beside)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(beside)?.write_all(bytes)?;
    fs::rename(beside, path)
}

fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        // The cache is not private: only the conversations in it are.
        fs::create_dir_all(parent)?;
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Removes the file at `path`, if there is one.
pub(super) fn remove(path: &Path) -> anyhow::Result<()> {
    remove_file(path).with_context(|| format!("cannot remove `{}`", path.display()))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn nobody_else_may_read_even_what_was_open_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("conversations/last.json");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        write(&path, b"[]").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write(&path, b"[1]").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read(&path).unwrap(), b"[1]");
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
