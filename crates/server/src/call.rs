//! What every dialect's request and answer become: one type for each kind of work.

use std::sync::Arc;

use wenyi::embed::{Overflow, Role, TokenUsage};
use wenyi::providers::RerankOptions;

/// Who asks: for fairness, from the API key or the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client(pub(crate) u64);

/// Texts to read with a model.
#[derive(Clone, Debug, Default)]
pub(crate) struct TextsRequest {
    /// As the client asked; none for the first model of the kind.
    pub(crate) model: Option<String>,
    pub(crate) texts: Vec<String>,
    /// None for the server's.
    pub(crate) role: Option<Role>,
    /// None for the server's.
    pub(crate) overflow: Option<Overflow>,
    /// None for the model's; vectors only.
    pub(crate) dimensions: Option<usize>,
    /// As the model gives them, of whatever length; vectors of models on this machine only.
    pub(crate) is_raw: bool,
    /// The task in words; for a provider that takes it beside the texts.
    pub(crate) instruct: Option<String>,
}

/// Vectors in the order of the texts.
#[derive(Clone, Debug)]
pub(crate) struct Vectors {
    /// The served model's name.
    pub(crate) model: String,
    pub(crate) vectors: Vec<Arc<[f32]>>,
    pub(crate) usage: Vec<TokenUsage>,
}

/// Documents to score against a query.
#[derive(Clone, Debug)]
pub(crate) struct RerankRequest {
    pub(crate) model: Option<String>,
    pub(crate) query: String,
    pub(crate) documents: Vec<String>,
    /// Longer documents are cut to about this many tokens.
    pub(crate) overflow: Overflow,
    pub(crate) options: RerankOptions,
}

/// Scores in the order of the documents.
#[derive(Clone, Debug)]
pub(crate) struct Scores {
    pub(crate) model: String,
    pub(crate) relevance: Vec<wenyi_engine::encoder::Relevance>,
}

impl Scores {
    /// Scores of a provider, which counts `tokens` of all documents together, if at all.
    pub(crate) fn of_provider(model: String, scores: &[f32], tokens: Option<u64>) -> Self {
        let tokens = tokens.map_or(0, |tokens| usize::try_from(tokens).unwrap_or(usize::MAX));
        let relevance = scores.iter().enumerate().map(|(index, score)| {
            // The sum is all that is ever shown.
            let kept = if index == 0 { tokens } else { 0 };
            let usage = TokenUsage {
                seen: kept,
                kept,
                windows: 1,
            };
            // A logit that leads to the same score, for those who ask for raw ones.
            let inner = score.clamp(f32::MIN_POSITIVE, 1.0 - f32::EPSILON);
            wenyi_engine::encoder::Relevance {
                logit: (inner / (1.0 - inner)).ln(),
                score: *score,
                usage,
            }
        });
        let relevance = relevance.collect();
        Self { model, relevance }
    }
}

/// Sparse vectors in the order of the texts.
#[derive(Clone, Debug)]
pub(crate) struct SparseVectors {
    pub(crate) model: String,
    pub(crate) vectors: Vec<Vec<Weight>>,
    pub(crate) usage: Vec<TokenUsage>,
}

/// An entry of a sparse vector.
#[derive(Clone, Debug)]
pub(crate) struct Weight {
    pub(crate) id: u32,
    pub(crate) value: f32,
    /// The token's spelling.
    pub(crate) token: String,
}

/// Tokens that went through the model.
pub(crate) fn kept(usage: &[TokenUsage]) -> usize {
    usage.iter().map(|usage| usage.kept).sum()
}
