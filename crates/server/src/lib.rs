//! wenyi over HTTP: one set of models, the APIs that people's programs already speak.
//!
//! A request's way: [`http`] takes it in (keys, limits, time), a file of [`dialects`] parses it,
//! [`models`] answers it (queue, batches, engine) or [`storage`] does ([`collections`] of
//! points, [`vector_stores`] of files), and the same file prints the answer. A dialect
//! knows nothing but its own spelling; a failure is a [`problem`] that each dialect prints its way.

mod options;
mod problem;
mod call;
mod foreign_tokens;
mod models;
mod documents;
mod collections;
mod vector_stores;
mod storage;
mod dialects;
mod http;
mod metrics;
mod memory;
#[cfg(feature = "otlp")]
mod otlp;
mod server;

pub use options::{Alias, ServedCollection, ServedModel, ServerOptions};
#[cfg(feature = "otlp")]
pub use otlp::OtlpOptions;
pub use server::{Server, StartError};
