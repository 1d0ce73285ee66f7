//! Folders to answers: load files, cut them into chunks along their structure, index the chunks'
//! vectors, search them, and say where and why a passage fits.
//!
//! [`load`](mod@load) turns a file into text whose every byte is traced back to the file;
//! [`chunk`] cuts it at headings, paragraphs and [`sentences`](mod@sentences) within the model's
//! tokens; [`index`](mod@index) embeds what is new and keeps it in a [`collection`];
//! [`search`](mod@search) finds the passages closest to a question, and [`words`](mod@words) what
//! both have in common; [`migrate`](mod@migrate) embeds a collection with another model,
//! [`restore`](mod@restore) brings lost vectors back, and [`verify`](mod@verify) proves of a sample that its
//! vectors are those of its texts.

mod error;
pub mod load;
pub mod sentences;
pub mod words;
pub mod chunk;
pub mod collection;
pub mod index;
pub mod search;
pub mod migrate;
pub mod restore;
pub mod verify;

#[cfg(test)]
pub(crate) mod bag_of_words;

pub use self::chunk::{Chunk, ChunkOptions, chunk};
pub use self::collection::{collection_path, open_collection, open_to_search, remove_collection};
pub use self::error::{Error, ErrorKind, Result};
pub use self::index::{IndexOptions, IndexReport, index};
pub use self::load::{Document, Kind, LoadOptions, Location, Skip, SkipReason};
pub use self::migrate::{MigrateReport, migrate};
pub use self::restore::restore;
pub use self::search::{
    BestSentence, SearchHit, SearchMode, SearchOptions, SearchResults, search, search_reranked,
    search_words,
};
pub use self::sentences::sentences;
pub use self::verify::{Differing, VerifyReport, verify};
