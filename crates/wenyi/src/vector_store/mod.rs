//! Texts in any store, found by meaning: an embedder and a [`VectorStore`] together.
//!
//! The trait and the stores of this machine come from `wenyi_store`; [`TextStore`] adds the embedder,
//! [`open_store`] finds the store that a URL names, also at a Qdrant or PostgreSQL server,
//! and [`Retriever`] is a search with its options chosen beforehand.

mod error;
mod text_store;
mod retriever;
mod url;
mod transfer;
mod qdrant;
mod postgres;
#[cfg(test)]
mod tests;

pub use wenyi_store::vector_store::{
    Distance, DocumentPoints, Existing, MemoryStore, MmrRequest, Page, Payload, PayloadChange,
    Point, PointId, RefusedEntry, ScoredPoint, Scroll, SearchRequest, Selection, SqliteDatabase,
    SqliteStore, StoreInfo, StoreOptions, VectorStore,
};

pub use self::error::{Error, Result};
pub use self::postgres::PostgresStore;
pub use self::qdrant::QdrantStore;
pub use self::retriever::{Retriever, RetrieverOptions, SearchType};
pub use self::text_store::{StoredText, TextStore};
pub use self::transfer::{ExportError, TransferReport, copy, export, import};
pub use self::url::{open_or_create_store, open_store, sqlite_file};
