//! Vectors and documents, kept and found again.
//!
//! The data's way: [`document`] says what is kept, a [`Collection`] keeps it in one SQLite file (a
//! [`MemoryCollection`] in memory), and the exact search over packed rows finds the [`Hit`]s.
//! The store knows nothing of models: it is told how wide the vectors are, and keeps the
//! description of their space as opaque JSON for its caller to compare.
//!
//! A [`vector_store`] keeps bare points instead, in memory, in a file or at a server, behind one trait.
//!
//! **Greater is closer.** A score is the cosine of query and vector: both are kept at unit length,
//! so their dot product is the cosine.

mod error;
pub mod document;
mod text;
pub mod filter;
mod isa;
mod distance;
mod codes;
mod rows;
mod collection;
mod memory;
pub mod vector_store;
#[cfg(test)]
mod random;

pub(crate) use collection::MAX_DIMENSIONS;
pub use collection::{
    CheckReport, Collection, CollectionInfo, CollectionOptions, Fusion, ImportReport, IndexInfo,
    Migration, SearchMethod, Space, Statistics, is_exported_collection,
};
pub use document::{Chunk, Document, DocumentInfo, Filter, Hit, NewDocument};
pub use error::{Error, ErrorKind, Result};
pub use filter::Conditions;
pub use memory::{MemoryCollection, Point, ScoredPoint};
pub use rows::coarse::{CoarseForm, CoarseInfo};
pub use rows::graph::{GraphInfo, GraphOptions};
