//! Embeds the chunks of many documents together.

use wenyi_store::{Chunk as StoredChunk, NewDocument};

use super::prepare::Changed;
use crate::embed::{EmbedOptions, Embedder, Overflow, Role};
use crate::progress::Progress;
use crate::retrieve::chunk::Chunk;
use crate::retrieve::{ErrorKind, Result};

/// Documents that wait for their vectors.
#[derive(Default)]
pub(super) struct Batch {
    documents: Vec<Changed>,
    /// Tokens of the chunks to embed, and some for those that are only written.
    tokens: usize,
}

/// What became of a batch.
#[derive(Default)]
pub(super) struct Done {
    pub(super) added: u64,
    pub(super) updated: u64,
    pub(super) embedded_chunks: u64,
    pub(super) reused_chunks: u64,
    pub(super) tokens: u64,
    /// Documents whose file can no longer be read.
    pub(super) removed: u64,
}

/// A chunk of a batch: the index of its document, and its own index there.
type Place = (usize, usize);

impl Batch {
    pub(super) fn push(&mut self, document: Changed) {
        for (chunk, vector) in document.chunks.iter().zip(&document.vectors) {
            // Those that only are written count a little, so that they do not pile up either.
            self.tokens += if vector.is_none() {
                chunk.tokens
            } else {
                chunk.tokens.div_ceil(16)
            };
        }
        self.documents.push(document);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// The documents with all of their vectors. When the caller asks to stop between two calls of the
    /// model, there are none.
    pub(super) fn embed(
        mut self,
        embedder: &dyn Embedder,
        batch_tokens: usize,
        progress: &dyn Progress,
    ) -> Result<(Vec<NewDocument>, Done)> {
        let mut done = self.count_known(progress);
        for places in self.calls(batch_tokens) {
            if progress.is_cancelled() {
                return Err(ErrorKind::Cancelled.into());
            }
            done.embedded_chunks += places.len() as u64;
            done.tokens += self.embed_call(&places, embedder, progress)?;
        }
        let documents = self.documents.into_iter().map(to_stored).collect();
        Ok((documents, done))
    }

    /// Counts documents, and the chunks that have their vector.
    fn count_known(&self, progress: &dyn Progress) -> Done {
        let mut done = Done::default();
        for document in &self.documents {
            let count = if document.is_update {
                &mut done.updated
            } else {
                &mut done.added
            };
            *count += 1;
            for (chunk, vector) in document.chunks.iter().zip(&document.vectors) {
                if vector.is_some() {
                    done.reused_chunks += 1;
                    progress.advance(chunk.tokens as u64);
                }
            }
        }
        done
    }

    /// The chunks without a vector, in calls of at least `batch_tokens` each: most batches are one
    /// call, and only a very long document needs several.
    fn calls(&self, batch_tokens: usize) -> Vec<Vec<Place>> {
        let share = self.tokens / (self.tokens / batch_tokens.max(1)).max(1);
        let mut calls: Vec<Vec<Place>> = Vec::new();
        // The first chunk opens the first call.
        let mut filled = usize::MAX;
        for (document_index, document) in self.documents.iter().enumerate() {
            for (chunk_index, chunk) in document.chunks.iter().enumerate() {
                if document.vectors[chunk_index].is_some() {
                    continue;
                }
                if filled > share {
                    calls.push(Vec::new());
                    filled = 0;
                }
                filled += chunk.tokens;
                if let Some(call) = calls.last_mut() {
                    call.push((document_index, chunk_index));
                }
            }
        }
        calls
    }

    /// One call of the model; returns the tokens that it took.
    fn embed_call(
        &mut self,
        places: &[Place],
        embedder: &dyn Embedder,
        progress: &dyn Progress,
    ) -> Result<u64> {
        let chunks: Vec<&Chunk> = places
            .iter()
            .map(|&(document, chunk)| &self.documents[document].chunks[chunk])
            .collect();
        let texts: Vec<_> = chunks.iter().map(|chunk| chunk.embedding_text()).collect();
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let options = EmbedOptions {
            role: Role::Document,
            // Chunks fit the model; should one not, all of it still counts.
            overflow: Overflow::SplitMean,
            ..EmbedOptions::default()
        };
        let embeddings = embedder.embed(&texts, &options)?;
        progress.advance(chunks.iter().map(|chunk| chunk.tokens as u64).sum());
        for (&(document, chunk), vector) in places.iter().zip(embeddings.iter()) {
            self.documents[document].vectors[chunk] = Some(vector.to_vec());
        }
        Ok(embeddings.usage.iter().map(|usage| usage.kept as u64).sum())
    }
}

fn to_stored(document: Changed) -> NewDocument {
    let chunks = document.chunks.into_iter().map(|chunk| StoredChunk {
        span: chunk.bytes.start as u64..chunk.bytes.end as u64,
        first_line: chunk.first_line as u64,
        last_line: chunk.last_line as u64,
        heading_path: chunk.heading_path,
        text: chunk.text,
        num_tokens: chunk.tokens as u64,
    });
    NewDocument {
        document: document.document,
        chunks: chunks.collect(),
        vectors: document.vectors.into_iter().flatten().flatten().collect(),
    }
}
