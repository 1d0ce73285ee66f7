//! Makes anew what of a collection can be made from the rest, and marks what cannot.

use rusqlite::Connection;

use super::check::{bad_vectors, incomplete_documents};
use super::index::{Setting, without_one};
use super::{CheckReport, Collection, schema, text};
use crate::Result;

/// A time that no file has, and no content's hash: whoever compares takes the document for changed.
const MARK: &str = "UPDATE documents SET content_hash = '', modified_ns = -1 WHERE id = ?1";

impl Collection {
    /// Makes anew what is derived from documents and vectors (SQLite's own indexes, the text index
    /// and the packed rows), takes away what has lost its other half (damaged vectors, chunks without
    /// a vector or a document, vectors without a chunk), and marks the documents that lack something
    /// as not indexed; then says what [`Collection::check`] still finds.
    ///
    /// Searches work again then. What is lost comes back when the document's source is indexed again:
    /// a marked document has no content hash and the time -1, so that it is taken for changed.
    ///
    /// # Errors
    ///
    /// If the file is too damaged to be read, or cannot be written.
    pub fn repair(&self) -> Result<CheckReport> {
        // As it was made, or as it is to be if it cannot be read.
        let dimensions = self.info.space.dimensions;
        let was = self.index_info()?.map(|info| info.method());
        let setting = self.search_method()?;
        let wanted = setting.wanted(self.num_vectors()?, dimensions);
        self.write(|connection| {
            connection.execute_batch("REINDEX; DELETE FROM derived;")?;
            remove_unsound(connection, dimensions)?;
            text::rebuild(connection)
        })?;
        // The rows in memory may be those of the damaged file.
        self.forget_packed();
        match was.or(wanted) {
            Some(method) => {
                self.pack_rows()?;
                without_one(self.make_index(method, None, Setting::Is(setting), &self.work()))?;
            }
            None => self.pack_if_it_pays(&self.work())?,
        }
        self.check()
    }
}

/// Takes away what has lost its other half or cannot be compared, and marks the documents that lack it.
fn remove_unsound(connection: &Connection, dimensions: usize) -> rusqlite::Result<()> {
    let bad = bad_vectors(connection, dimensions)?;
    for (id, _) in incomplete_documents(connection, &bad)? {
        connection.execute(MARK, [id])?;
    }
    connection.execute_batch(schema::DROP_VECTOR_TRIGGERS)?;
    let mut delete = connection.prepare("DELETE FROM vectors WHERE chunk = ?1")?;
    for chunk in bad {
        delete.execute([chunk])?;
    }
    // A chunk without a vector would make every search of the collection fail.
    connection.execute_batch(
        "DELETE FROM chunks WHERE id NOT IN (SELECT chunk FROM vectors)
             OR document NOT IN (SELECT id FROM documents);
         DELETE FROM vectors WHERE chunk NOT IN (SELECT id FROM chunks);",
    )?;
    // Anew, in case they were taken away from the file.
    connection.execute_batch(schema::VECTOR_TRIGGERS)
}
