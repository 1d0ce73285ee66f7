//! Writes what was embedded while the model embeds what comes next.

use std::sync::mpsc::Receiver;

use wenyi_store::{Collection, Document as StoredDocument, NewDocument};

use super::batch::Done;
use crate::retrieve::Result;

/// What there is to write, each in one transaction.
pub(super) enum Write {
    /// Documents with their vectors.
    Batch(Vec<NewDocument>, Done),
    /// What stands for a file that could not be read.
    PassedOver {
        document: Box<StoredDocument>,
        was_read: bool,
    },
    /// Path, bytes and time of files of which only the time is new.
    Touch(Vec<(String, u64, i64)>),
}

/// Writes until nothing comes any more. What is counted in the first value is on disk; the second is
/// why writing ended early.
pub(super) fn write_all(collection: &Collection, writes: &Receiver<Write>) -> (Done, Result<()>) {
    let mut done = Done::default();
    for write in writes {
        match one(collection, write) {
            Ok(more) => done.add(&more),
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

fn one(collection: &Collection, write: Write) -> Result<Done> {
    match write {
        Write::Batch(documents, done) => {
            collection.upsert_documents(&documents)?;
            Ok(done)
        }
        Write::PassedOver { document, was_read } => {
            collection.upsert_documents(&[NewDocument {
                document: *document,
                ..NewDocument::default()
            }])?;
            Ok(Done {
                removed: u64::from(was_read),
                ..Done::default()
            })
        }
        Write::Touch(same) => {
            collection.touch_documents(&same)?;
            Ok(Done::default())
        }
    }
}

impl Done {
    fn add(&mut self, more: &Self) {
        self.added += more.added;
        self.updated += more.updated;
        self.removed += more.removed;
        self.embedded_chunks += more.embedded_chunks;
        self.reused_chunks += more.reused_chunks;
        self.tokens += more.tokens;
    }
}
