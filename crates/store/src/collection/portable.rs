//! A collection as JSON lines, and back: everything that cannot be made again, vectors included.
//!
//! The first line says what the collection was made with: `{"collection": {"name", "fingerprint",
//! "dimensions", "chunking"}}`. Each further one is a document with its chunks. Numbers are written so
//! that they come back bit for bit.

use std::io::{self, BufRead, Write};
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Collection, CollectionOptions, Space};
use crate::document::{Chunk, Document, NewDocument};
use crate::{Error, ErrorKind, Result};

/// Documents of one transaction of an import, at most.
const BATCH: usize = 64;

/// How often a document is read that others replace meanwhile.
const ATTEMPTS: usize = 5;

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Documents that were written.
    pub written: u64,
    /// Documents that were there with the same content.
    pub unchanged: u64,
}

#[derive(Deserialize, Serialize)]
struct Head {
    collection: Made,
}

#[derive(Deserialize, Serialize)]
struct Made {
    name: String,
    fingerprint: Value,
    dimensions: usize,
    chunking: Value,
}

#[derive(Deserialize, Serialize)]
struct DocumentLine {
    path: String,
    content_hash: String,
    size: u64,
    modified_ns: i64,
    title: Option<String>,
    metadata: Value,
    chunks: Vec<ChunkLine>,
}

#[derive(Deserialize, Serialize)]
struct ChunkLine {
    span: Range<u64>,
    first_line: u64,
    last_line: u64,
    heading_path: Vec<String>,
    num_tokens: u64,
    text: String,
    vector: Vec<f32>,
}

/// True if this is the first line of an exported collection.
#[must_use]
pub fn is_exported_collection(line: &str) -> bool {
    serde_json::from_str::<Head>(line).is_ok()
}

impl Collection {
    /// Writes all documents as JSON lines, until `goes_on` says false after one; says how many.
    ///
    /// # Errors
    ///
    /// If the collection cannot be read, or `output` fails.
    pub fn export(&self, output: &mut dyn Write, goes_on: &mut dyn FnMut() -> bool) -> Result<u64> {
        let info = &self.info;
        let head = Head {
            collection: Made {
                name: info.name.clone(),
                fingerprint: info.space.fingerprint.clone(),
                dimensions: info.space.dimensions,
                chunking: info.chunking.clone(),
            },
        };
        self.write_line(output, &head)?;
        let mut count = 0;
        for info in self.documents()? {
            let Some(line) = self.line_of(&info.document.path)? else {
                continue;
            };
            self.write_line(output, &line)?;
            count += 1;
            if !goes_on() {
                break;
            }
        }
        output.flush().map_err(|source| self.cannot_write(source))?;
        Ok(count)
    }

    /// `None` if the document has been removed meanwhile.
    fn line_of(&self, path: &str) -> Result<Option<DocumentLine>> {
        let dimensions = self.info.space.dimensions;
        for _ in 0..ATTEMPTS {
            let Some(info) = self.document(path)? else {
                return Ok(None);
            };
            let chunks = self.document_chunks(info.id)?;
            let vectors = self.document_vectors(info.id)?;
            if vectors.len() == chunks.len() * dimensions
                && self.document(path)? == Some(info.clone())
            {
                return Ok(Some(self.to_line(info.document, chunks, &vectors)));
            }
        }
        let reason = format!("the chunks and vectors of `{path}` disagree");
        Err(Error::corrupt(&self.path, reason))
    }

    fn to_line(&self, document: Document, chunks: Vec<Chunk>, vectors: &[f32]) -> DocumentLine {
        let dimensions = self.info.space.dimensions;
        let pairs = chunks.into_iter().zip(vectors.chunks_exact(dimensions));
        let chunks = pairs.map(|(chunk, vector)| ChunkLine {
            span: chunk.span,
            first_line: chunk.first_line,
            last_line: chunk.last_line,
            heading_path: chunk.heading_path,
            num_tokens: chunk.num_tokens,
            text: chunk.text,
            vector: vector.to_vec(),
        });
        DocumentLine {
            path: document.path,
            content_hash: document.content_hash,
            size: document.size,
            modified_ns: document.modified_ns,
            title: document.title,
            metadata: document.metadata,
            chunks: chunks.collect(),
        }
    }

    fn write_line(&self, output: &mut dyn Write, line: &impl Serialize) -> Result<()> {
        let mut write = || -> io::Result<()> {
            serde_json::to_writer(&mut *output, line)?;
            output.write_all(b"\n")
        };
        write().map_err(|source| self.cannot_write(source))
    }

    fn cannot_write(&self, source: io::Error) -> Error {
        let path = self.path.clone();
        ErrorKind::Export { path, source }.into()
    }

    /// Reads what [`Collection::export`] wrote into the collection at `path`, which is made if it is
    /// not there, until `goes_on` says false after some documents. Documents that are there with the
    /// same content are left as they are, so the same call goes on after an interruption.
    ///
    /// # Errors
    ///
    /// If a line is not one of an export, the collection lives in another space, or it cannot be
    /// written; what was written until then stays.
    pub fn import(
        path: impl AsRef<Path>,
        input: &mut dyn BufRead,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<ImportReport> {
        let mut lines = Lines { input, number: 0 };
        let head: Head = lines.next()?.ok_or_else(|| bad_line(1, "there is none"))?;
        let Made {
            name,
            fingerprint,
            dimensions,
            chunking,
        } = head.collection;
        let space = Space {
            fingerprint,
            dimensions,
        };
        let options = CollectionOptions {
            name,
            space: space.clone(),
            chunking,
        };
        let collection = Self::open_or_create(path, &options)?;
        collection.expect_space(&space)?;
        let mut report = ImportReport::default();
        let mut batch = Vec::new();
        while let Some(line) = lines.next::<DocumentLine>()? {
            let document = to_document(line, dimensions, lines.number)?;
            match collection.has(&document)? {
                true => report.unchanged += 1,
                false => batch.push(document),
            }
            if batch.len() >= BATCH {
                collection.upsert_documents(&batch)?;
                report.written += batch.len() as u64;
                batch.clear();
                if !goes_on() {
                    return Ok(report);
                }
            }
        }
        collection.upsert_documents(&batch)?;
        report.written += batch.len() as u64;
        Ok(report)
    }

    /// True if the document is there, chunk by chunk.
    fn has(&self, new: &NewDocument) -> Result<bool> {
        let Some(info) = self.document(&new.document.path)? else {
            return Ok(false);
        };
        Ok(info.document == new.document
            && self.document_chunks(info.id)? == new.chunks
            && self.document_vectors(info.id)? == new.vectors)
    }
}

/// Lines with a number, counted from 1.
struct Lines<'a> {
    input: &'a mut dyn BufRead,
    number: u64,
}

impl Lines<'_> {
    /// The next line that is not empty.
    fn next<T: for<'de> Deserialize<'de>>(&mut self) -> Result<Option<T>> {
        let mut line = String::new();
        loop {
            line.clear();
            self.number += 1;
            let read = self.input.read_line(&mut line);
            if read.map_err(|error| bad_line(self.number, error))? == 0 {
                return Ok(None);
            }
            if !line.trim().is_empty() {
                let parsed = serde_json::from_str(&line);
                return parsed
                    .map(Some)
                    .map_err(|error| bad_line(self.number, error));
            }
        }
    }
}

fn to_document(line: DocumentLine, dimensions: usize, number: u64) -> Result<NewDocument> {
    let mut vectors = Vec::with_capacity(line.chunks.len() * dimensions);
    let mut chunks = Vec::with_capacity(line.chunks.len());
    for chunk in line.chunks {
        if chunk.vector.len() != dimensions {
            let received = chunk.vector.len();
            let reason = format!("a vector has {received} dimensions, expected {dimensions}");
            return Err(bad_line(number, reason));
        }
        vectors.extend(chunk.vector);
        chunks.push(Chunk {
            span: chunk.span,
            first_line: chunk.first_line,
            last_line: chunk.last_line,
            heading_path: chunk.heading_path,
            text: chunk.text,
            num_tokens: chunk.num_tokens,
        });
    }
    let document = Document {
        path: line.path,
        content_hash: line.content_hash,
        size: line.size,
        modified_ns: line.modified_ns,
        title: line.title,
        metadata: line.metadata,
    };
    Ok(NewDocument {
        document,
        chunks,
        vectors,
    })
}

fn bad_line(line: u64, reason: impl ToString) -> Error {
    let reason = reason.to_string();
    ErrorKind::ImportLine { line, reason }.into()
}
