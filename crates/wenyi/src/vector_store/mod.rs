//! Texts in any store, found by meaning: an embedder and a [`VectorStore`] together.
//!
//! The trait and the stores of this machine come from `wenyi_store`; [`TextStore`] adds the embedder,
//! and [`Retriever`] is a search with its options chosen beforehand.

mod error;
mod text_store;
mod retriever;
#[cfg(test)]
mod tests;

pub use wenyi_store::vector_store::{
    Distance, Existing, MemoryStore, MmrRequest, Page, Payload, PayloadChange, Point, PointId,
    ScoredPoint, Scroll, SearchRequest, Selection, SqliteDatabase, SqliteStore, StoreInfo,
    StoreOptions, VectorStore,
};

pub use self::error::{Error, Result};
pub use self::retriever::{Retriever, RetrieverOptions, SearchType};
pub use self::text_store::{StoredText, TextStore};
