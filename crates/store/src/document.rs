//! What a collection keeps: documents cut into chunks, and what a search gives back of them.

use std::ops::Range;

use serde_json::Value;

use crate::filter::Conditions;

/// A document as the caller knows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// Path or URI, unique in its collection; ties in a search are ordered by it, byte by byte.
    pub path: String,
    /// Hash of the content, in the caller's own form; tells whether it changed.
    pub content_hash: String,
    /// Size of the source in bytes.
    pub size: u64,
    /// When the source was last changed, in nanoseconds since 1970-01-01 UTC.
    pub modified_ns: i64,
    /// A title to show, if it has one.
    pub title: Option<String>,
    /// The caller's own facts (JSON).
    pub metadata: Value,
}

/// A passage of a document: what is embedded, found and cited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Where it lies in the document's text, in bytes.
    pub span: Range<u64>,
    /// Its first line, counted from 1.
    pub first_line: u64,
    /// Its last line, inclusive.
    pub last_line: u64,
    /// The headings above it, outermost first.
    pub heading_path: Vec<String>,
    /// Its text.
    pub text: String,
    /// Tokens of its text for the model of the collection.
    pub num_tokens: u64,
}

/// A document to keep: with its chunks, and a vector for each of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewDocument {
    /// The document.
    pub document: Document,
    /// Its chunks in order; none for an empty document.
    pub chunks: Vec<Chunk>,
    /// Their vectors, `[chunks, dimensions]`, row-major.
    pub vectors: Vec<f32>,
}

/// A document as the collection keeps it, without its chunks.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentInfo {
    /// The collection's id for it; replacing the document keeps it.
    pub id: i64,
    /// What the caller said of it.
    pub document: Document,
    /// How many chunks it has.
    pub num_chunks: u64,
}

/// What a search may look at. The default looks at everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Only documents whose path starts so; end it with `/` to mean a folder.
    pub path_prefix: Option<String>,
    /// Only the documents with these ids ([`DocumentInfo::id`]).
    pub document_ids: Option<Vec<i64>>,
    /// Only documents whose metadata meet these conditions. `path` and `title` can be asked for
    /// like metadata; `has_id` takes document ids and paths.
    pub conditions: Option<Conditions>,
}

/// A chunk that a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// What the hits are ordered by: greater is closer. The cosine in a search by vector, BM25 in
    /// one by text, their fusion in a hybrid one.
    pub score: f32,
    /// Cosine of query and chunk, if the search had a vector.
    pub cosine: Option<f32>,
    /// BM25 of the query's words in the chunk, if the search had a text that was found in it.
    pub bm25: Option<f32>,
    /// The collection's id for the chunk; never given to another one.
    pub chunk_id: i64,
    /// The chunk's place among its document's chunks, from 0.
    pub ordinal: u64,
    /// The chunk.
    pub chunk: Chunk,
    /// Its document.
    pub document: DocumentInfo,
}
