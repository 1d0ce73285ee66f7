//! Files: their bytes in a folder, what is known of them in a record.

use std::io::Write;
use std::path::PathBuf;

use super::{File, Page, Paging, VectorStores, new_id, no_file, now};
use crate::problem::Problem;

impl VectorStores {
    /// Keeps a file; its id. The bytes are on disk before the record is.
    pub(crate) fn upload(
        &self,
        filename: String,
        purpose: String,
        bytes: &[u8],
    ) -> Result<(String, File), Problem> {
        let id = new_id("file-");
        let path = self.path_of(&id);
        let write = || {
            let mut file = std::fs::File::create_new(&path)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            // The name too is on disk only with its folder.
            std::fs::File::open(&self.folder)?.sync_all()
        };
        if let Err(error) = write() {
            let _ = std::fs::remove_file(&path);
            return Err(failed(&error));
        }
        let file = File {
            filename,
            purpose,
            bytes: bytes.len() as u64,
            created_at: now(),
        };
        self.files.put(&id, &file)?;
        Ok((id, file))
    }

    pub(crate) fn file(&self, id: &str) -> Result<File, Problem> {
        self.files.get(id)?.ok_or_else(|| no_file(id))
    }

    /// The bytes of a file.
    pub(crate) fn content(&self, id: &str) -> Result<Vec<u8>, Problem> {
        self.file(id)?;
        std::fs::read(self.path_of(id)).map_err(|error| failed(&error))
    }

    pub(crate) fn list_files(
        &self,
        purpose: Option<&str>,
        paging: &Paging,
    ) -> Result<Page<File>, Problem> {
        let wanted = purpose.map(|purpose| ("purpose", purpose));
        Ok(paging.page(self.files.list(wanted)?))
    }

    /// Removes a file, from the stores that have it first.
    pub(crate) fn delete_file(&self, id: &str) -> Result<(), Problem> {
        let _turn = self.turn();
        self.file(id)?;
        for (_, attachment) in self.attachments.list(Some(("file", id)))? {
            self.detach_now(&attachment.store, id)?;
        }
        self.files.remove(id)?;
        match std::fs::remove_file(self.path_of(id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(&error)),
            _ => Ok(()),
        }
    }

    /// Ids come from us alone: those of clients are looked up first.
    fn path_of(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }
}

fn failed(error: &std::io::Error) -> Problem {
    use axum::http::StatusCode;
    tracing::error!(%error, "a file cannot be kept");
    let (status, reason) = match error.kind() {
        std::io::ErrorKind::StorageFull => (StatusCode::INSUFFICIENT_STORAGE, "the disk is full"),
        _ => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "a file failed; see the log",
        ),
    };
    Problem::Storage { status, reason }
}
