//! Embeddings from a model on this machine.

use std::path::Path;

use wenyi_engine::encoder::{Encoder, EncoderOptions};

use super::{EmbedError, EmbedOptions, Embedder, Embeddings, Fingerprint};

/// A local model as an [`Embedder`].
#[derive(Debug)]
pub struct LocalEmbedder {
    encoder: Encoder,
}

impl LocalEmbedder {
    /// Opens a model folder or a GGUF file; see [`crate::hub::Hub::resolve`] for models by name.
    ///
    /// # Errors
    ///
    /// As [`Encoder::open`].
    pub fn open(path: &Path, options: &EncoderOptions) -> Result<Self, EmbedError> {
        Ok(Self {
            encoder: Encoder::open(path, options)?,
        })
    }

    /// The engine behind it.
    #[must_use]
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }
}

impl From<Encoder> for LocalEmbedder {
    fn from(encoder: Encoder) -> Self {
        Self { encoder }
    }
}

impl Embedder for LocalEmbedder {
    fn fingerprint(&self) -> &Fingerprint {
        self.encoder.fingerprint()
    }

    fn dimensions(&self) -> usize {
        self.encoder.dimensions()
    }

    fn max_length(&self) -> usize {
        self.encoder.max_length()
    }

    fn count_tokens(&self, text: &str) -> Result<usize, EmbedError> {
        Ok(self.encoder.count_tokens(text)?)
    }

    fn embed(&self, texts: &[&str], options: &EmbedOptions) -> Result<Embeddings, EmbedError> {
        Ok(self.encoder.embed(texts, options)?)
    }
}
