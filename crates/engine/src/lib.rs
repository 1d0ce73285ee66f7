//! wenyi-engine: weights and tokens in, vectors out. Synchronous, no network, no async.
//!
//! The data's way: [`weights`] are mapped from disk, [`tokenizer`] turns text into `input_ids`,
//! the transformer runs them as one ragged batch, and [`encoder`] reads the hidden states as an
//! embedding, a relevance score or a sparse vector.

mod error;
mod kernels;
pub mod weights;
pub mod tokenizer;
mod transformer;
pub mod encoder;
pub mod decoder;

pub use kernels::isa::Isa;

pub use error::{Error, ErrorKind, Result};
