//! Vectors on disk, written as a stream: `.npy` for NumPy, `.jsonl` for everything else.
//!
//! A file grows beside its target as `NAME.partial` and takes the target's name when it is
//! complete, so a reader never meets half a file.

mod npy;
pub(crate) mod jsonl;

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use wenyi::embed::Embeddings;

use crate::exit::UserError;

/// A file of vectors under construction.
#[derive(Debug)]
pub(crate) struct VectorFile {
    target: PathBuf,
    partial: PathBuf,
    form: Form,
    writer: BufWriter<File>,
    dimensions: usize,
    rows: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Npy,
    JsonLines,
}

impl VectorFile {
    /// Checks, before any work is done, that `target` can be written.
    pub(crate) fn create(target: &Path) -> anyhow::Result<Self> {
        let form = form_of(target)?;
        if target.is_dir() {
            let message = format!("`{}` is a folder, expected a file name", target.display());
            let hint = "add a name, such as `vectors.npy`";
            return Err(UserError::new(message).with_hint(hint).into());
        }
        let mut partial = target.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::create(&partial).map_err(|source| unwritable(target, &source))?;
        let mut writer = BufWriter::with_capacity(1 << 18, file);
        if form == Form::Npy {
            // Rows and width are not known yet; the space is kept for them.
            writer.write_all(&npy::header(0, 0))?;
        }
        Ok(Self {
            target: target.to_owned(),
            partial,
            form,
            writer,
            dimensions: 0,
            rows: 0,
        })
    }

    /// Where the vectors will be.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// The width of the vectors.
    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Sets the width of the vectors, which an empty file has too.
    pub(crate) fn set_dimensions(&mut self, dimensions: usize) {
        self.dimensions = dimensions;
    }

    /// Adds the vectors of a batch.
    pub(crate) fn write(&mut self, texts: &[String], vectors: &Embeddings) -> anyhow::Result<()> {
        let written = match self.form {
            Form::Npy => npy::write_rows(&mut self.writer, &vectors.values),
            Form::JsonLines => jsonl::write_rows(&mut self.writer, self.rows, texts, vectors),
        };
        written.with_context(|| format!("cannot write `{}`", self.partial.display()))?;
        self.rows += vectors.len() as u64;
        Ok(())
    }

    /// Completes the file and gives it its name.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        let target = self.target.clone();
        let context = || format!("cannot write `{}`", target.display());
        self.writer.flush().with_context(context)?;
        self.complete(self.rows).with_context(context)?;
        self.writer.get_ref().sync_all().with_context(context)?;
        fs::rename(&self.partial, &self.target).with_context(context)?;
        Ok(())
    }

    /// Leaves what was written so far as a readable file of its own; returns its path and rows, or
    /// nothing if there is nothing to keep.
    pub(crate) fn keep_partial(mut self) -> Option<(PathBuf, u64)> {
        let rows = self.salvage().unwrap_or(0);
        if rows == 0 {
            // An empty leftover would only puzzle; if it cannot be removed, it stays.
            let _ = fs::remove_file(&self.partial);
            return None;
        }
        Some((self.partial, rows))
    }

    /// Cuts the file after its last whole row: a full disk may have ended it anywhere.
    fn salvage(&mut self) -> io::Result<u64> {
        let flushed = self.writer.flush();
        match self.form {
            Form::JsonLines => flushed.map(|()| self.rows),
            Form::Npy => {
                let row = (self.dimensions * size_of::<f32>()).max(1) as u64;
                let header = npy::HEADER_LENGTH as u64;
                let length = self.writer.get_ref().metadata()?.len();
                let rows = (length.saturating_sub(header) / row).min(self.rows);
                self.writer.get_ref().set_len(header + rows * row)?;
                self.complete(rows)?;
                Ok(rows)
            }
        }
    }

    /// Writes the number of rows into the header.
    fn complete(&mut self, rows: u64) -> io::Result<()> {
        if self.form == Form::Npy {
            let file = self.writer.get_mut();
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&npy::header(rows, self.dimensions))?;
        }
        Ok(())
    }
}

fn form_of(target: &Path) -> anyhow::Result<Form> {
    let extension = target
        .extension()
        .map(|extension| extension.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("npy") => Ok(Form::Npy),
        Some("jsonl") => Ok(Form::JsonLines),
        _ => {
            let message = format!(
                "`--output` is `{}`, expected a name in .npy or .jsonl",
                target.display()
            );
            let hint = "`.npy` is for NumPy, `.jsonl` for everything else";
            Err(UserError::new(message).with_hint(hint).into())
        }
    }
}

fn unwritable(target: &Path, source: &io::Error) -> anyhow::Error {
    let message = format!("cannot write `{}`: {source}", target.display());
    let hint = match source.kind() {
        io::ErrorKind::NotFound => "create the folder first",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "choose a folder that you may write to"
        }
        _ => return anyhow::Error::msg(message),
    };
    UserError::new(message).with_hint(hint).into()
}

#[cfg(test)]
mod tests {
    use wenyi::embed::TokenUsage;

    use super::*;

    fn vectors(values: &[f32], dimensions: usize) -> Embeddings {
        let usage = TokenUsage {
            seen: 3,
            kept: 3,
            windows: 1,
        };
        let rows = values.len() / dimensions;
        Embeddings {
            dimensions,
            values: values.to_vec(),
            usage: vec![usage; rows],
        }
    }

    fn texts(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("文 {index}")).collect()
    }

    #[test]
    fn npy_appears_complete_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("向量.npy");
        let mut file = VectorFile::create(&target).unwrap();
        file.set_dimensions(2);
        file.write(&texts(2), &vectors(&[1.0, 0.0, 0.0, 1.0], 2))
            .unwrap();
        assert!(!target.exists());
        file.finish().unwrap();
        let bytes = fs::read(&target).unwrap();
        assert_eq!(bytes.len(), npy::HEADER_LENGTH + 16);
        assert!(String::from_utf8_lossy(&bytes[..npy::HEADER_LENGTH]).contains("(2, 2)"));
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no partial file is left"
        );
    }

    #[test]
    fn a_stopped_run_keeps_whole_rows() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = VectorFile::create(&folder.path().join("v.npy")).unwrap();
        file.set_dimensions(2);
        file.write(&texts(1), &vectors(&[0.6, 0.8], 2)).unwrap();
        // Half a row, as a full disk leaves it.
        file.writer.write_all(&[0; 3]).unwrap();
        let (partial, rows) = file.keep_partial().unwrap();
        assert_eq!(rows, 1);
        let bytes = fs::read(partial).unwrap();
        assert_eq!(bytes.len(), npy::HEADER_LENGTH + 8);
        assert!(String::from_utf8_lossy(&bytes).contains("(1, 2)"));
    }

    #[test]
    fn an_empty_run_leaves_nothing_behind_when_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let file = VectorFile::create(&folder.path().join("v.jsonl")).unwrap();
        assert!(file.keep_partial().is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn json_lines_hold_index_text_tokens_and_vector() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("v.jsonl");
        let mut file = VectorFile::create(&target).unwrap();
        file.set_dimensions(1);
        for _ in 0..2 {
            file.write(&texts(1), &vectors(&[1.0], 1)).unwrap();
        }
        file.finish().unwrap();
        let lines = fs::read_to_string(target).unwrap();
        let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!(last["index"], 1);
        assert_eq!(last["text"], "文 0");
        assert_eq!(last["tokens"], 3);
        assert_eq!(last["embedding"][0], 1.0);
    }

    #[test]
    fn other_extensions_and_missing_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["v.txt", "v", "missing/v.npy"] {
            let error = VectorFile::create(&folder.path().join(name)).unwrap_err();
            assert!(error.is::<UserError>(), "{name}: {error}");
        }
    }
}
