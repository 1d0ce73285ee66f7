//! The transformer: one block and its forward pass over a ragged batch, for every family.
//!
//! In reading order: what it is made of ([`config`]), how files become it ([`load`]), how a batch
//! goes through it ([`forward`]).

pub(crate) mod config;
mod relative;
mod experts;
mod latent;
pub(crate) mod load;
mod scratch;
mod embeddings;
mod steps;
mod forward;
#[cfg(target_arch = "x86_64")]
mod tiled;
pub(crate) mod cache;
mod cached;
mod prompt;

use std::sync::{Arc, OnceLock};

use self::config::Config;
use self::experts::Experts;
use self::latent::Latent;
use self::relative::RelativeBias;
use crate::kernels::attention::Heads;
use crate::kernels::buffer::Buffer;
use crate::kernels::isa::Isa;
use crate::kernels::linear::Linear;
use crate::kernels::norm::Norm;
use crate::kernels::rope::Rope;
use crate::weights::{Tensor, Weights};
use crate::{ErrorKind, Result};

pub(crate) use cached::Reading;
pub(crate) use forward::Hidden;
pub(crate) use scratch::Scratch;

/// Token ids of several texts, end to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) input_ids: Vec<u32>,
    /// Empty if all are 0.
    pub(crate) token_type_ids: Vec<u8>,
    /// Where each text begins, and the end of the last.
    pub(crate) cumulative_seq_lengths: Vec<usize>,
    /// Tokens that came before each text in its conversation; empty if none did.
    pub(crate) past: Vec<usize>,
}

impl Batch {
    /// Appends a text.
    pub(crate) fn push(&mut self, input_ids: &[u32], token_type_ids: &[u8]) {
        if self.cumulative_seq_lengths.is_empty() {
            self.cumulative_seq_lengths.push(0);
        }
        if !token_type_ids.is_empty() {
            self.token_type_ids.resize(self.input_ids.len(), 0);
            self.token_type_ids.extend_from_slice(token_type_ids);
        }
        self.input_ids.extend_from_slice(input_ids);
        self.cumulative_seq_lengths.push(self.input_ids.len());
    }

    /// Appends the next tokens of a conversation that has had `past` tokens.
    pub(crate) fn push_after(&mut self, past: usize, input_ids: &[u32]) {
        self.past
            .resize(self.cumulative_seq_lengths.len().saturating_sub(1), 0);
        self.push(input_ids, &[]);
        self.past.push(past);
    }

    /// Position in its conversation of the first token of text `sequence`.
    pub(crate) fn first_position(&self, sequence: usize) -> usize {
        self.past.get(sequence).copied().unwrap_or(0)
    }

    pub(crate) fn num_tokens(&self) -> usize {
        self.input_ids.len()
    }

    /// First token and length of each text.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = (usize, usize)> {
        self.cumulative_seq_lengths
            .windows(2)
            .map(|pair| (pair[0], pair[1] - pair[0]))
    }
}

/// Tables that turn tokens into the first hidden states.
#[derive(Debug)]
struct Embeddings {
    weights: Arc<Weights>,
    /// Name of the token table in `weights`; its rows are read from the mapped file.
    tokens: String,
    /// `[max_positions, stride]`, or empty.
    positions: Buffer<f32>,
    /// `[type_vocab_size, stride]`, or empty.
    token_types: Buffer<f32>,
    norm: Option<Norm>,
}

impl Embeddings {
    fn table(&self) -> Result<Tensor<'_>> {
        self.weights.get(&self.tokens).ok_or_else(|| {
            let (path, tensor) = (self.weights.path().to_path_buf(), self.tokens.clone());
            ErrorKind::MissingTensor { path, tensor }.into()
        })
    }
}

/// One block.
#[derive(Debug)]
struct Layer {
    heads: Heads,
    rope: Option<Arc<Rope>>,
    attention_norm: Option<Norm>,
    /// `None` with latent attention.
    query_key_value: Option<Linear>,
    latent: Option<Box<Latent>>,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    output: Linear,
    post_attention_norm: Option<Norm>,
    feed_forward_norm: Option<Norm>,
    /// Gate (if any) and up side by side, each padded to whole panels; `None` with experts.
    up: Option<Linear>,
    down: Option<Linear>,
    experts: Option<Box<Experts>>,
    post_feed_forward_norm: Option<Norm>,
}

impl Transformer {
    /// The file or folder that the weights come from.
    pub(crate) fn path(&self) -> &std::path::Path {
        self.embeddings.weights.path()
    }
}

/// A loaded transformer, ready to run.
#[derive(Debug)]
pub(crate) struct Transformer {
    pub(crate) config: Config,
    isa: Isa,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    final_norm: Option<Norm>,
    /// The rotation of conversations longer than those of the first training, if it differs.
    long_rope: Option<Arc<Rope>>,
    relative_bias: Option<RelativeBias>,
    /// The bias spread out for the longest model input, made when first used.
    spread_bias: OnceLock<Vec<f32>>,
}
