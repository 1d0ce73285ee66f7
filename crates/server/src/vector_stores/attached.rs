//! Files in stores.

use serde_json::{Map, Value, json};
use wenyi::store::Conditions;
use wenyi::store::vector_store::{PayloadChange, Scroll, Selection, SqliteStore, VectorStore};

use super::search::attribute_key;
use super::stores::Counts;
use super::{
    Attachment, BatchRecord, Chunking, Page, Paging, Status, VectorStores, new_id, no_store, now,
    of_store,
};
use crate::problem::Problem;

/// A file that is to be in a store.
#[derive(Clone, Debug)]
pub(crate) struct NewAttachment {
    pub(crate) file: String,
    pub(crate) attributes: Map<String, Value>,
    pub(crate) chunking: Chunking,
}

/// Files that were attached together.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) store: String,
    pub(crate) created_at: u64,
    pub(crate) is_cancelled: bool,
    pub(crate) counts: Counts,
}

impl VectorStores {
    /// Puts a file into a store; it is read later. One that is there already is read again.
    pub(crate) fn attach(&self, store: &str, new: NewAttachment) -> Result<Attachment, Problem> {
        let _turn = self.turn();
        let mut attached = self.attach_all(store, vec![new], None)?;
        attached.pop().ok_or_else(|| no_store(store))
    }

    fn attach_all(
        &self,
        store: &str,
        all: Vec<NewAttachment>,
        batch: Option<&str>,
    ) -> Result<Vec<Attachment>, Problem> {
        self.store(store)?;
        let mut attachments = Vec::new();
        for new in all {
            self.file(&new.file)?;
            attachments.push(Attachment {
                store: store.to_owned(),
                file: new.file,
                batch: batch.map(str::to_owned),
                created_at: now(),
                status: Status::InProgress,
                last_error: None,
                usage_bytes: 0,
                attributes: new.attributes,
                chunking: new.chunking,
            });
        }
        let records: Vec<_> = (attachments.iter())
            .map(|attachment| (key(store, &attachment.file), attachment))
            .collect();
        self.attachments.put_all(&records)?;
        self.bell.notify_one();
        Ok(attachments)
    }

    pub(crate) fn attachment(&self, store: &str, file: &str) -> Result<Attachment, Problem> {
        self.store(store)?;
        let found = self.attachments.get(&key(store, file))?;
        found.ok_or_else(|| super::no_file(file))
    }

    /// The files of a store, or of a batch, by their ids.
    pub(crate) fn list_attached(
        &self,
        store: &str,
        batch: Option<&str>,
        status: Option<Status>,
        paging: &Paging,
    ) -> Result<Page<Attachment>, Problem> {
        self.store(store)?;
        let all = self.attachments.list(Some(("store", store)))?;
        let wanted = all.into_iter().filter(|(_, attachment)| {
            status.is_none_or(|status| attachment.status == status)
                && (batch.is_none() || attachment.batch.as_deref() == batch)
        });
        let by_file = wanted.map(|(_, attachment)| (attachment.file.clone(), attachment));
        Ok(paging.page(by_file.collect()))
    }

    /// Replaces what is known of a file in a store, in its chunks too.
    pub(crate) fn set_attributes(
        &self,
        store: &str,
        file: &str,
        attributes: Map<String, Value>,
    ) -> Result<Attachment, Problem> {
        let _turn = self.turn();
        let mut attachment = self.attachment(store, file)?;
        let old = std::mem::replace(&mut attachment.attributes, attributes);
        if let Some(chunks) = self.chunks(store)? {
            let of_file = chunks_of(file)?;
            let keys = old.keys().map(|name| attribute_key(name)).collect();
            let remove = PayloadChange::Delete(keys);
            chunks.change_payload(&of_file, &remove).map_err(of_store)?;
            let set = attachment.attributes.iter();
            let set = PayloadChange::Set {
                key: None,
                payload: set
                    .map(|(name, value)| (attribute_key(name), value.clone()))
                    .collect(),
            };
            chunks.change_payload(&of_file, &set).map_err(of_store)?;
        }
        self.attachments.put(&key(store, file), &attachment)?;
        Ok(attachment)
    }

    /// Takes a file out of a store; the file stays.
    pub(crate) fn detach(&self, store: &str, file: &str) -> Result<(), Problem> {
        let _turn = self.turn();
        self.attachment(store, file)?;
        self.detach_now(store, file)
    }

    /// The same for those whose turn it is.
    pub(super) fn detach_now(&self, store: &str, file: &str) -> Result<(), Problem> {
        // The chunks first: until the record is gone the same call goes on.
        self.remove_chunks(store, file)?;
        self.attachments.remove(&key(store, file)).map(drop)
    }

    pub(super) fn remove_chunks(&self, store: &str, file: &str) -> Result<(), Problem> {
        match self.chunks(store)? {
            Some(chunks) => chunks.delete(&chunks_of(file)?).map(drop).map_err(of_store),
            None => Ok(()),
        }
    }

    /// The text of a file as it is searched, chunk by chunk.
    pub(crate) fn attached_text(&self, store: &str, file: &str) -> Result<Vec<String>, Problem> {
        self.attachment(store, file)?;
        let Some(chunks) = self.chunks(store)? else {
            return Ok(Vec::new());
        };
        let Selection::Filter(filter) = chunks_of(file)? else {
            return Ok(Vec::new());
        };
        let scroll = Scroll {
            filter: Some(filter),
            limit: usize::MAX,
            ..Scroll::default()
        };
        let page = chunks.scroll(&scroll).map_err(of_store)?;
        Ok(page.points.into_iter().map(|point| point.text).collect())
    }

    /// The collection of a store's chunks; none before the first of its files was read.
    pub(super) fn chunks(
        &self,
        store: &str,
    ) -> Result<Option<std::sync::Arc<SqliteStore>>, Problem> {
        match self.database.collection(store) {
            Ok(chunks) => Ok(Some(chunks)),
            Err(error) => match Problem::of_store(&error) {
                Problem::NoSuchCollection { .. } => Ok(None),
                problem => Err(problem),
            },
        }
    }

    pub(crate) fn attach_batch(
        &self,
        store: &str,
        all: Vec<NewAttachment>,
    ) -> Result<String, Problem> {
        let _turn = self.turn();
        self.store(store)?;
        let id = new_id("vsfb_");
        let record = BatchRecord {
            store: store.to_owned(),
            created_at: now(),
            cancelled: false,
        };
        self.batches.put(&id, &record)?;
        self.attach_all(store, all, Some(&id))?;
        Ok(id)
    }

    pub(crate) fn batch(&self, store: &str, id: &str) -> Result<Batch, Problem> {
        self.store(store)?;
        let record = self.batches.get(id)?.filter(|batch| batch.store == store);
        let record = record.ok_or_else(|| Problem::NotFound {
            what: "file batch",
            id: id.to_owned(),
        })?;
        let attachments = self.attachments.list(Some(("batch", id)))?;
        Ok(Batch {
            store: record.store,
            created_at: record.created_at,
            is_cancelled: record.cancelled,
            counts: Counts::of(attachments.iter().map(|(_, attachment)| attachment)),
        })
    }

    /// Reads no more files of a batch.
    pub(crate) fn cancel_batch(&self, store: &str, id: &str) -> Result<Batch, Problem> {
        let _turn = self.turn();
        self.batch(store, id)?;
        for (key, mut attachment) in self.attachments.list(Some(("batch", id)))? {
            if attachment.status == Status::InProgress {
                attachment.status = Status::Cancelled;
                self.attachments.put(&key, &attachment)?;
            }
        }
        if let Some(mut record) = self.batches.get(id)? {
            record.cancelled = true;
            self.batches.put(id, &record)?;
        }
        self.batch(store, id)
    }
}

/// The name of a file's record in a store.
pub(super) fn key(store: &str, file: &str) -> String {
    format!("{store}/{file}")
}

/// The chunks of a file.
pub(super) fn chunks_of(file: &str) -> Result<Selection, Problem> {
    let filter = json!({"must": [{"key": "file_id", "match": {"value": file}}]});
    let filter = Conditions::from_json(&filter).map_err(of_store)?;
    Ok(Selection::Filter(filter))
}
