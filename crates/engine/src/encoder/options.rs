//! What a caller asks of an encoder, and what it answers with.

use std::fmt;
use std::str::FromStr;

use crate::{Error, ErrorKind};

/// In which numbers the linear layers multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32-bit floating point: agrees with the original model.
    F32,
    /// 16-bit products: bf16 tiles where the CPU has AMX, otherwise the nearest the CPU does well.
    Bf16,
    /// 8-bit products: dynamic per-row activations, per-channel weights.
    Int8,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(value: &str) -> Result<Self, Error> {
        match value {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            _ => Err(ErrorKind::Option {
                option: "precision",
                value: value.into(),
                expected: "`f32`, `bf16` or `int8`".into(),
            }
            .into()),
        }
    }
}

/// What a text is to a retrieval model; chooses the prompt that the model's files define.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// The text as it is, without a prompt.
    #[default]
    Plain,
    /// A question that looks for documents.
    Query,
    /// A document (passage) that is looked for.
    Document,
    /// A prompt by its own name in the model's files, such as `Clustering`.
    Named(String),
}

/// What happens to a text that is longer than the model takes. Never silent: see [`TokenUsage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// Refuse the call.
    #[default]
    Error,
    /// Keep the first tokens (and the closing special token).
    Truncate,
    /// Cut into windows, embed each, and average by token count, re-normalised.
    SplitMean,
}

impl FromStr for Overflow {
    type Err = Error;

    fn from_str(value: &str) -> Result<Self, Error> {
        match value {
            "error" => Ok(Self::Error),
            "truncate" => Ok(Self::Truncate),
            "split-mean" => Ok(Self::SplitMean),
            _ => Err(ErrorKind::Option {
                option: "overflow",
                value: value.into(),
                expected: "`error`, `truncate` or `split-mean`".into(),
            }
            .into()),
        }
    }
}

/// How to embed.
#[derive(Clone, Debug, Default)]
pub struct EmbedOptions {
    /// Chooses the prompt.
    pub role: Role,
    /// Matryoshka: keep the first `dimensions` values and normalise again. `None` keeps all.
    pub dimensions: Option<usize>,
    /// What to do with texts longer than the model.
    pub overflow: Overflow,
}

/// How many tokens a text had and how many of them its vector has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenUsage {
    /// Tokens of the whole text, special ones and prompt included.
    pub seen: usize,
    /// Tokens that went through the model; fewer than `seen` if the text was truncated.
    pub kept: usize,
    /// Windows that the text was split into; 1 if it was not split.
    pub windows: usize,
}

/// The vectors of a call, in the order of its texts.
#[derive(Clone, Debug, Default)]
pub struct Embeddings {
    /// The width of each vector.
    pub dimensions: usize,
    /// All vectors, `[texts, dimensions]`, row-major.
    pub values: Vec<f32>,
    /// One entry a text.
    pub usage: Vec<TokenUsage>,
}

impl Embeddings {
    /// Number of vectors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.usage.len()
    }

    /// True if the call had no texts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.usage.is_empty()
    }

    /// The vectors in order, `[dimensions]` each.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimensions.max(1))
    }

    /// The vector of text `index`.
    ///
    /// # Panics
    ///
    /// If there is no such text.
    #[must_use]
    pub fn vector(&self, index: usize) -> &[f32] {
        &self.values[index * self.dimensions..(index + 1) * self.dimensions]
    }
}

/// What makes two vectors comparable: the space they live in. Kept by every collection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Fingerprint {
    /// The model's name as the user gave it (catalog id, hub repository or path's last part).
    pub model: String,
    /// Hex hash over the configuration, the tokenizer and samples of every weight.
    pub weights: String,
    /// `cls`, `mean` or `last-token`.
    pub pooling: String,
    /// The document prompt put before every stored text.
    pub document_prompt: String,
    /// Width of the vectors.
    pub dimensions: usize,
    /// `f32`, `bf16` or `int8`; for information: precisions of one model share a space.
    pub precision: String,
}

impl Fingerprint {
    /// True if vectors of both may be compared: all but `model` (a name) and `precision` agree.
    #[must_use]
    pub fn same_space(&self, other: &Self) -> bool {
        self.weights == other.weights
            && self.pooling == other.pooling
            && self.document_prompt == other.document_prompt
            && self.dimensions == other.dimensions
    }
}

/// How relevant a document is to a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relevance {
    /// What the model's head gives; greater is more relevant.
    pub logit: f32,
    /// The logistic function of it, in 0..1.
    pub score: f32,
    /// What became of the pair's tokens.
    pub usage: TokenUsage,
}

impl Relevance {
    /// The relevance that the head's `logit` means.
    #[must_use]
    pub fn of(logit: f32, usage: TokenUsage) -> Self {
        Self {
            logit,
            score: 1.0 / (1.0 + (-logit).exp()),
            usage,
        }
    }
}

/// A text as weights of vocabulary entries.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseEmbedding {
    /// Token ids and weights above zero, by ascending id.
    pub weights: Vec<(u32, f32)>,
    /// What became of the text's tokens.
    pub usage: TokenUsage,
}
