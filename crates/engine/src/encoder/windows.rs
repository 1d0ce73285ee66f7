//! A call taken apart, for servers: texts are planned on the caller's thread, windows of many calls
//! run together, and each call puts its own results together again.
//!
//! The parts give exactly what [`Encoder::embed`], [`Encoder::rerank`] and [`Encoder::sparse`] give.

use super::Encoder;
use super::options::{EmbedOptions, Overflow};
use super::plan::{Planned, Window, plan};
use super::run::{combine, largest_of};
use crate::Result;

impl Encoder {
    /// Tokenizes one text behind its prompt and cuts it into windows; `dimensions` are not looked at.
    ///
    /// # Errors
    ///
    /// If the prompt is not known, or the text is too long for the overflow policy.
    pub fn plan_text(&self, text: &str, options: &EmbedOptions) -> Result<Planned> {
        let prompt = self.description.prompt(&options.role)?;
        let max_length = self.max_length();
        plan(
            &self.tokenizer,
            prompt,
            (0, text),
            max_length,
            options.overflow,
        )
    }

    /// Tokenizes one pair; `query_ids` are the query's tokens without special ones.
    ///
    /// # Errors
    ///
    /// If the pair is too long and `overflow` is not [`Overflow::Truncate`].
    pub fn plan_document(
        &self,
        query_ids: &[u32],
        document: &str,
        overflow: Overflow,
    ) -> Result<Planned> {
        self.plan_pair(query_ids, document, 0, overflow)
    }

    /// The vectors of windows as the model gives them, `[dimensions]` each; see [`Self::combine`].
    ///
    /// # Errors
    ///
    /// If the model gives no embeddings.
    pub fn embed_windows(&self, windows: &[Window]) -> Result<Vec<Vec<f32>>> {
        self.must_give(super::Output::Embedding)?;
        self.vectors(windows)
    }

    /// The relevance logits of windows that are pairs.
    ///
    /// # Errors
    ///
    /// If the model is no cross-encoder.
    pub fn rerank_windows(&self, windows: &[Window]) -> Result<Vec<f32>> {
        self.logits(windows)
    }

    /// The vocabulary weights of windows; see [`Self::combine_sparse`].
    ///
    /// # Errors
    ///
    /// If the model gives none.
    pub fn sparse_windows(&self, windows: &[Window]) -> Result<Vec<Vec<(u32, f32)>>> {
        self.weights(windows)
    }

    /// A text's vector, unit length, from the tokens and vectors of its windows; its first
    /// `dimensions` values, normalised again.
    #[must_use]
    pub fn combine(windows: Vec<(usize, Vec<f32>)>, dimensions: usize) -> Vec<f32> {
        combine(windows.into_iter(), dimensions)
    }

    /// A text's vocabulary weights from those of its windows, by ascending id.
    #[must_use]
    pub fn combine_sparse(windows: Vec<Vec<(u32, f32)>>) -> Vec<(u32, f32)> {
        largest_of(windows.into_iter())
    }
}
