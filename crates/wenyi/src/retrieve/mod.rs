//! Folders to answers: load files, cut them into chunks along their structure, index the chunks'
//! vectors, search them, and say where and why a passage fits.
//!
//! [`load`](mod@load) turns a file into text whose every byte is traced back to the file;
//! [`chunk`] cuts it at headings, paragraphs and [`sentences`](mod@sentences) within the model's
//! tokens; [`words`](mod@words) finds what a question and a passage have in common.

mod error;
pub mod load;
pub mod sentences;
pub mod words;
pub mod chunk;

#[cfg(test)]
mod bag_of_words;

pub use self::chunk::{Chunk, ChunkOptions, chunk};
pub use self::error::{Error, ErrorKind, Result};
pub use self::load::{Document, Kind, LoadOptions, Skip, SkipReason};
pub use self::sentences::sentences;
