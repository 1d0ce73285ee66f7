//! GGUF files: metadata and tensors in one file.
//!
//! Reading checks the bounds of everything and copies only scalars and short strings: an array of
//! 250,000 tokens stays in the mapped file until it is asked for. [`Writer`] makes such files.

pub(super) mod read;
mod cursor;
mod metadata;
mod write;

pub use metadata::{Array, Element, Metadata, Strings, Value};
pub use write::{TensorWriter, Writer};

/// The first bytes of every GGUF file.
pub(crate) const MAGIC: &[u8] = b"GGUF";

/// The version that we write; 2 differs in nothing that we read.
const VERSION: u32 = 3;

/// Where tensors start if `general.alignment` is not there.
const DEFAULT_ALIGNMENT: usize = 32;

const ALIGNMENT_KEY: &str = "general.alignment";
