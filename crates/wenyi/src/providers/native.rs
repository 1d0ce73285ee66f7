//! What only DashScope's own interface gives: weights of words, and a task in words with each call.

use std::collections::BTreeMap;

use wenyi_engine::encoder::Encoder;

use super::RemoteEmbedder;
use super::error::{Error, ErrorKind};
use super::table::EmbeddingDialect;
use super::vectors::Batch;
use super::windows::{Window, combine};
use crate::embed::{EmbedError, EmbedOptions, Embeddings, SparseEmbedding, TokenUsage};

/// What a text becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputType {
    /// A vector.
    #[default]
    Dense,
    /// Weights of words in the model's own vocabulary.
    Sparse,
    /// Both, of one request.
    DenseAndSparse,
}

impl OutputType {
    /// As DashScope calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Sparse => "sparse",
            Self::DenseAndSparse => "dense&sparse",
        }
    }

    /// True if there are vectors.
    #[must_use]
    pub fn has_dense(self) -> bool {
        self != Self::Sparse
    }

    /// True if there are weights.
    #[must_use]
    pub fn has_sparse(self) -> bool {
        self != Self::Dense
    }
}

/// Options that only DashScope's own interface takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NativeOptions {
    /// What a text becomes.
    pub output_type: OutputType,
    /// The task in words, for the models that take one; none for that of the settings.
    pub instruct: Option<String>,
}

/// What came of the texts, each list in their order.
#[derive(Clone, Debug, Default)]
pub struct NativeEmbeddings {
    /// Vectors, if they were asked for.
    pub dense: Option<Embeddings>,
    /// Weights, if they were asked for.
    pub sparse: Option<Vec<SparseEmbedding>>,
    /// The spelling of each id in `sparse`, as far as the provider told it.
    pub tokens: BTreeMap<u32, String>,
    /// What became of the texts' tokens.
    pub usage: Vec<TokenUsage>,
}

impl RemoteEmbedder {
    /// The vectors of texts, and the weights of their words in the model's own vocabulary, of one
    /// request: `dense&sparse` of DashScope's `text-embedding-v3` and `-v4`. Of a text that was cut
    /// into windows, each word has the largest of its weights.
    ///
    /// # Errors
    ///
    /// As [`Embedder::embed`](crate::embed::Embedder::embed); and if the model gives no such weights.
    pub fn embed_with_sparse(
        &self,
        texts: &[&str],
        options: &EmbedOptions,
    ) -> Result<(Embeddings, Vec<SparseEmbedding>), EmbedError> {
        let native = NativeOptions {
            output_type: OutputType::DenseAndSparse,
            instruct: None,
        };
        let embedded = self.embed_natively(texts, options, &native)?;
        Ok((
            embedded.dense.unwrap_or_default(),
            embedded.sparse.unwrap_or_default(),
        ))
    }

    /// What `native` asks for, cut to the provider's limits and put together as by
    /// [`Embedder::embed`](crate::embed::Embedder::embed). Of a text that was cut into windows, each
    /// word has the largest of its weights.
    ///
    /// # Errors
    ///
    /// As [`Embedder::embed`](crate::embed::Embedder::embed); and if the provider or the model is
    /// known not to take the options.
    pub fn embed_natively(
        &self,
        texts: &[&str],
        options: &EmbedOptions,
        native: &NativeOptions,
    ) -> Result<NativeEmbeddings, EmbedError> {
        self.check_native(native)?;
        let (windows, mut batch, usage) = self.run(texts, options, native)?;
        let output = native.output_type;
        Ok(NativeEmbeddings {
            tokens: std::mem::take(&mut batch.tokens),
            sparse: output
                .has_sparse()
                .then(|| sparse(&windows, &batch, &usage)),
            dense: (output.has_dense()).then(|| combine(&windows, &batch, usage.clone())),
            usage,
        })
    }

    fn check_native(&self, native: &NativeOptions) -> Result<(), Error> {
        let is_native = self.facts.dialect == EmbeddingDialect::DashScope;
        // Of a model that is not known here the provider knows more.
        let gives_sparse = is_native && (self.known.sparse || self.known.name.is_empty());
        let refused = |option, value: &str, expected: &str| {
            let (model, value) = (self.model.clone(), value.to_owned());
            Err(Error::from(ErrorKind::Option {
                model,
                option,
                value,
                expected: expected.into(),
            }))
        };
        match &native.instruct {
            _ if native.output_type.has_sparse() && !gives_sparse => {
                refused("output_type", native.output_type.as_str(), "`dense`")
            }
            Some(task) if !is_native => refused("instruct", task, "none"),
            _ => Ok(()),
        }
    }
}

fn sparse(windows: &[Window<'_>], batch: &Batch, usage: &[TokenUsage]) -> Vec<SparseEmbedding> {
    let mut of_texts: Vec<Vec<Vec<(u32, f32)>>> = vec![Vec::new(); usage.len()];
    for (window, weights) in windows.iter().zip(&batch.sparse) {
        of_texts[window.text_index].push(weights.clone());
    }
    let texts = of_texts.into_iter().zip(usage);
    let sparse = texts.map(|(weights, usage)| SparseEmbedding {
        weights: Encoder::combine_sparse(weights),
        usage: *usage,
    });
    sparse.collect()
}
