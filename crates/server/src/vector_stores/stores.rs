//! Stores of files.

use super::{Attachment, Page, Paging, Status, Store, VectorStores, new_id, no_store, now};
use crate::problem::Problem;

/// How many files of each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) in_progress: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
}

/// A store and what it has.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) store: Store,
    pub(crate) counts: Counts,
    pub(crate) usage_bytes: u64,
}

impl Counts {
    pub(super) fn of<'a>(attachments: impl IntoIterator<Item = &'a Attachment>) -> Self {
        let mut counts = Self::default();
        for attachment in attachments {
            *match attachment.status {
                Status::InProgress => &mut counts.in_progress,
                Status::Completed => &mut counts.completed,
                Status::Cancelled => &mut counts.cancelled,
                Status::Failed => &mut counts.failed,
            } += 1;
        }
        counts
    }

    pub(crate) fn total(&self) -> u64 {
        self.in_progress + self.completed + self.failed + self.cancelled
    }
}

/// Seconds of a day.
const DAY: u64 = 86_400;

impl Store {
    /// When it can no longer be searched, in seconds since 1970.
    pub(crate) fn expires_at(&self) -> Option<u64> {
        let days = self.expires_after_days?;
        Some(self.last_active_at.saturating_add(days.saturating_mul(DAY)))
    }

    pub(crate) fn is_expired(&self) -> bool {
        self.expires_at().is_some_and(|end| end <= now())
    }
}

/// What a store is made with, or changed to.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) metadata: Option<serde_json::Map<String, serde_json::Value>>,
    pub(crate) expires_after_days: Option<u64>,
}

impl VectorStores {
    pub(crate) fn create_store(&self, with: Change) -> Result<String, Problem> {
        let id = new_id("vs_");
        let created_at = now();
        let store = Store {
            name: with.name,
            description: with.description,
            metadata: with.metadata.unwrap_or_default(),
            expires_after_days: with.expires_after_days,
            created_at,
            last_active_at: created_at,
        };
        self.stores.put(&id, &store)?;
        Ok(id)
    }

    pub(super) fn store(&self, id: &str) -> Result<Store, Problem> {
        self.stores.get(id)?.ok_or_else(|| no_store(id))
    }

    pub(crate) fn describe(&self, id: &str) -> Result<Description, Problem> {
        let store = self.store(id)?;
        let attachments = self.attachments.list(Some(("store", id)))?;
        let attachments = || attachments.iter().map(|(_, attachment)| attachment);
        Ok(Description {
            store,
            counts: Counts::of(attachments()),
            usage_bytes: attachments().map(|attachment| attachment.usage_bytes).sum(),
        })
    }

    pub(crate) fn list_stores(&self, paging: &Paging) -> Result<Page<Description>, Problem> {
        let page = paging.page(self.stores.list(None)?);
        let described = page.data.into_iter().map(|(id, _)| {
            let description = self.describe(&id)?;
            Ok((id, description))
        });
        Ok(Page {
            data: described.collect::<Result<_, Problem>>()?,
            has_more: page.has_more,
        })
    }

    pub(crate) fn change_store(&self, id: &str, change: Change) -> Result<(), Problem> {
        let _turn = self.turn();
        let mut store = self.store(id)?;
        store.name = change.name.or(store.name);
        store.description = change.description.or(store.description);
        store.metadata = change.metadata.unwrap_or(store.metadata);
        store.expires_after_days = change.expires_after_days.or(store.expires_after_days);
        self.stores.put(id, &store)
    }

    /// Notes that a store was used.
    pub(super) fn touch(&self, id: &str) -> Result<(), Problem> {
        let _turn = self.turn();
        let mut store = self.store(id)?;
        if store.last_active_at < now() {
            store.last_active_at = now();
            self.stores.put(id, &store)?;
        }
        Ok(())
    }

    /// Removes a store with its chunks; the files stay.
    pub(crate) fn delete_store(&self, id: &str) -> Result<(), Problem> {
        let _turn = self.turn();
        self.store(id)?;
        // The record of the store last: until then the same call goes on.
        for (attached, _) in self.attachments.list(Some(("store", id)))? {
            self.attachments.remove(&attached)?;
        }
        for (batch, _) in self.batches.list(Some(("store", id)))? {
            self.batches.remove(&batch)?;
        }
        self.database
            .delete_collection(id)
            .map_err(super::of_store)?;
        self.stores.remove(id).map(drop)
    }
}
