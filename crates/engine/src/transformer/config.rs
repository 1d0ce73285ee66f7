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
    pub(crate) decoder: DecoderConfig,
}

impl Config {
    /// Width of a head's values.
    pub(crate) fn value_dim(&self) -> usize {
        self.decoder.value_dim.unwrap_or(self.head_dim)
    }
}

/// What only decoders have; the default is none of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DecoderConfig {
    pub(crate) rope_scaling: RopeScaling,
    /// The scaling holds for the layers of this rotary base alone; for all if `None`.
    pub(crate) scaled_theta: Option<f32>,
    /// The rotated pairs are neighbours `(2i, 2i + 1)`, not `(i, i + rotary_dim / 2)`.
    pub(crate) rope_interleaved: bool,
    /// Width of a head's values where it is not `head_dim`.
    pub(crate) value_dim: Option<usize>,
    /// Keys and values come from a narrow latent vector (DeepSeek).
    pub(crate) latent: Option<LatentConfig>,
    pub(crate) experts: Option<ExpertsConfig>,
}

/// How rotary frequencies are changed for texts longer than those of the first training.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum RopeScaling {
    /// They are not.
    #[default]
    None,
    /// All divided by a factor.
    Linear {
        /// The factor.
        factor: f32,
    },
    /// Llama 3: slow frequencies divided, fast ones kept, those between blended.
    Llama3 {
        /// The divisor.
        factor: f32,
        low_freq_factor: f32,
        high_freq_factor: f32,
        original: f32,
    },
    /// YaRN: blended by how often a frequency turns within the original length.
    Yarn {
        /// The divisor.
        factor: f32,
        beta_fast: f32,
        beta_slow: f32,
        original: f32,
        /// Factor of cosines and sines.
        attention_factor: f32,
    },
    /// Phi-3: a divisor for each frequency, one set up to the original length, one beyond.
    Long {
        short: Vec<f32>,
        long: Vec<f32>,
        original: usize,
        /// Factor of cosines and sines.
        attention_factor: f32,
    },
}

/// Multi-head latent attention.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LatentConfig {
    /// Width of the queries' latent vector, if they have one.
    pub(crate) q_lora_rank: Option<usize>,
    /// Width of the latent vector of keys and values.
    pub(crate) kv_lora_rank: usize,
    /// Columns of a head that carry no position, and those that do.
    pub(crate) qk_nope_head_dim: usize,
    pub(crate) qk_rope_head_dim: usize,
}

/// A feed-forward block of several experts, of which each token uses a few.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ExpertsConfig {
    pub(crate) num_experts: usize,
    pub(crate) num_experts_per_tok: usize,
    pub(crate) moe_intermediate_size: usize,
    /// Width of the expert that every token uses, 0 for none.
    pub(crate) shared_intermediate_size: usize,
    /// Layers with an ordinary block.
    pub(crate) dense_layers: Vec<usize>,
    /// Scores are sigmoids (DeepSeek V3) instead of a softmax.
    pub(crate) sigmoid: bool,
    /// Chosen weights are made to sum to one.
    pub(crate) norm_topk_prob: bool,
    pub(crate) routed_scaling_factor: f32,
    /// Groups of experts, and how many of them may be chosen from.
    pub(crate) n_group: usize,
    pub(crate) topk_group: usize,
    /// A group's score is the sum of its best two (DeepSeek V3), else its best.
    pub(crate) group_by_two: bool,
}
