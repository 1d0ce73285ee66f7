//! What a transformer is made of, said once for all families.
//!
//! [`super::load`] fills it from `config.json` or GGUF metadata; the forward pass knows nothing else.

use crate::kernels::activation::Activation;
use crate::kernels::attention::Reach;
use crate::kernels::norm::NormKind;

/// Where the norms of a block sit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockKind {
    /// `x = norm(x + f(x))`: BERT and its family.
    PostNorm,
    /// `x = x + f(norm(x))`: Llama and most since.
    PreNorm,
    /// `x = x + norm(f(norm(x)))`: Gemma.
    Sandwich,
}

/// How positions enter at the embeddings; rotary and relative positions enter in attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Positions {
    /// They do not.
    None,
    /// A learned table, row = token index.
    Learned,
    /// A learned table of the RoBERTa family: a token equal to `padding_id` takes row `padding_id`,
    /// the others count up from `padding_id + 1`.
    FromPadding {
        /// The padding token.
        padding_id: u32,
    },
}

/// What one layer does differently from its neighbours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LayerConfig {
    /// Which keys a query sees.
    pub(crate) reach: Reach,
    /// The base of the rotary embedding, if the layer has one.
    pub(crate) rope_theta: Option<f32>,
}

/// The whole description.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// `bert`, `qwen3`, …: the family as the model's files name it.
    pub(crate) model_type: String,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) num_key_value_heads: usize,
    pub(crate) head_dim: usize,
    /// Longest text in tokens that the model can position.
    pub(crate) max_positions: usize,
    pub(crate) positions: Positions,
    /// Factor of the token embeddings.
    pub(crate) embedding_scale: f32,
    pub(crate) token_types: bool,
    pub(crate) embedding_norm: bool,
    pub(crate) norm_kind: NormKind,
    pub(crate) norm_eps: f32,
    /// Norm weights are stored less one.
    pub(crate) norm_plus_one: bool,
    pub(crate) block: BlockKind,
    pub(crate) final_norm: bool,
    /// Linear layers and norms have biases.
    pub(crate) activation: Activation,
    pub(crate) gated: bool,
    /// Factor of the attention scores.
    pub(crate) attention_scale: f32,
    /// Queries and keys are normalised head by head.
    pub(crate) query_key_norm: bool,
    /// Buckets of the relative position bias that all layers share (MPNet, T5).
    pub(crate) relative_attention_num_buckets: Option<usize>,
    /// Width of the rotated part of a head.
    pub(crate) rotary_dim: usize,
    /// Positions are divided by this before the rotation.
    pub(crate) rope_linear_factor: f32,
    pub(crate) layers: Vec<LayerConfig>,
}
