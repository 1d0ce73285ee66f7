//! wenyi 文意, "the sense of a text": embeddings, a vector store and retrieval in one engine.
//!
//! The data's way: [`hub`] brings a model to this machine, or [`providers`] reach one elsewhere;
//! [`embed`] turns texts into vectors with it, [`retrieve`] cuts documents into chunks, keeps them
//! in a collection and finds them again; [`rerank`] judges what was found, [`chat`] answers,
//! and [`eval`] measures how well.

pub mod progress;
pub mod hub;
pub mod config;
pub mod providers;
pub mod embed;
pub mod rerank;
pub mod chat;
pub mod retrieve;
pub mod eval;
pub mod rag;
pub mod vector_store;

/// Vectors and documents, kept and found again: collections in memory and in one file.
pub use wenyi_store as store;
