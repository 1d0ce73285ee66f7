//! GGUF metadata of the encoder families and of Llama's kin, as llama.cpp's converters write it.

use super::gguf_decoders as decoders;
use super::hugging_face::CAUSAL;
use super::names::{self, Names};
use crate::kernels::activation::Activation;
use crate::kernels::attention::Reach;
use crate::kernels::norm::NormKind;
use crate::transformer::config::{
    BlockKind, Config, DecoderConfig, LayerConfig, Positions, RopeScaling,
};
use crate::weights::Weights;
use crate::weights::gguf::Metadata;
use crate::{Error, Result};

/// Reads the description and chooses the names.
pub(super) fn describe(metadata: &Metadata, weights: &Weights) -> Result<(Config, Names)> {
    let architecture = metadata.str("general.architecture")?.unwrap_or("absent");
    let keys = Keys {
        metadata,
        architecture,
    };
    match architecture {
        "bert" => Ok((bert(&keys, weights)?, names::GGUF_BERT)),
        "nomic-bert" => Ok((nomic_bert(&keys, weights)?, names::GGUF_NOMIC_BERT)),
        "llama" => Ok((llama(&keys, weights)?, names::GGUF_QWEN3)),
        "qwen2" => Ok((qwen2(&keys, weights)?, names::GGUF_QWEN3)),
        "qwen3" => Ok((qwen3(&keys, weights)?, names::GGUF_QWEN3)),
        "gemma3" => Ok((gemma3(&keys, weights)?, names::GGUF_GEMMA3)),
        "phi3" => Ok((phi3(&keys, weights)?, names::GGUF_PHI3)),
        "gpt2" => Ok((decoders::gpt2(&keys, weights)?, names::GGUF_GPT2)),
        "qwen3moe" => Ok((decoders::qwen3_moe(&keys, weights)?, names::GGUF_QWEN3)),
        "deepseek2" => Ok((decoders::deepseek2(&keys, weights)?, names::GGUF_QWEN3)),
        other => {
            let expected = "`bert`, `nomic-bert`, `llama`, `qwen2`, `qwen3`, `qwen3moe`, `gemma3`, \
                            `phi3`, `gpt2` or `deepseek2`";
            Err(Error::unsupported("general.architecture", other, expected))
        }
    }
}

/// Metadata under the architecture's name.
pub(super) struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl Keys<'_> {
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    pub(super) fn optional_count(&self, name: &str) -> Result<Option<usize>> {
        Ok(self
            .metadata
            .u32(&self.key(name))?
            .map(|value| value as usize))
    }

    pub(super) fn count(&self, name: &str) -> Result<usize> {
        self.optional_count(name)?
            .filter(|count| *count > 0)
            .ok_or_else(|| Error::unsupported(self.key(name), "absent or 0", "a positive integer"))
    }

    pub(super) fn number(&self, name: &str, default: f32) -> Result<f32> {
        Ok(self.metadata.f32(&self.key(name))?.unwrap_or(default))
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.metadata.bool(&self.key(name))?.unwrap_or(default))
    }
}

/// Rows and columns of the token table.
fn token_table(weights: &Weights, hidden_size: usize) -> Result<usize> {
    let tensor = super::parts::existing(weights, "token_embd.weight")?;
    if tensor.columns() != hidden_size {
        return Err(super::parts::shape_error(
            &tensor,
            &[tensor.rows(), hidden_size],
        ));
    }
    Ok(tensor.rows())
}

/// Every block has tensors of its own: a number beyond theirs is refused before memory is taken for
/// each.
fn num_layers(keys: &Keys<'_>, weights: &Weights) -> Result<usize> {
    let (layers, most) = (keys.count("block_count")?, weights.names().count());
    if layers <= most {
        return Ok(layers);
    }
    let expected = format!("at most {most}, the tensors of the file");
    Err(Error::unsupported(
        keys.key("block_count"),
        layers.to_string(),
        expected,
    ))
}

#[expect(clippy::cast_precision_loss, reason = "a head's width")]
pub(super) fn common(keys: &Keys<'_>, weights: &Weights) -> Result<Config> {
    let hidden_size = keys.count("embedding_length")?;
    let num_attention_heads = keys.count("attention.head_count")?;
    let head_dim = match keys.optional_count("attention.key_length")? {
        Some(length) => length,
        None if hidden_size.is_multiple_of(num_attention_heads) => {
            hidden_size / num_attention_heads
        }
        None => {
            let expected = format!("a divisor of {hidden_size}");
            let key = keys.key("attention.head_count");
            return Err(Error::unsupported(
                key,
                num_attention_heads.to_string(),
                expected,
            ));
        }
    };
    let num_key_value_heads = keys
        .optional_count("attention.head_count_kv")?
        .unwrap_or(num_attention_heads)
        .max(1);
    if !num_attention_heads.is_multiple_of(num_key_value_heads) {
        let expected = format!("a divisor of {num_attention_heads}");
        let key = keys.key("attention.head_count_kv");
        return Err(Error::unsupported(
            key,
            num_key_value_heads.to_string(),
            expected,
        ));
    }
    Ok(Config {
        model_type: keys.architecture.to_owned(),
        vocab_size: token_table(weights, hidden_size)?,
        hidden_size,
        intermediate_size: match keys.optional_count("feed_forward_length")? {
            // Absent or 0 where every layer has experts.
            None | Some(0) if keys.optional_count("expert_count")?.is_some() => {
                keys.count("expert_feed_forward_length")?
            }
            _ => keys.count("feed_forward_length")?,
        },
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        max_positions: keys.count("context_length")?,
        positions: Positions::None,
        embedding_scale: 1.0,
        token_types: weights.get("token_types.weight").is_some(),
        embedding_norm: true,
        norm_kind: NormKind::Layer,
        norm_eps: keys.number("attention.layer_norm_epsilon", 1e-12)?,
        norm_plus_one: false,
        block: BlockKind::PostNorm,
        final_norm: false,
        activation: Activation::Gelu,
        gated: false,
        attention_scale: 1.0 / (head_dim as f32).sqrt(),
        query_key_norm: false,
        relative_attention_num_buckets: None,
        rotary_dim: head_dim,
        rope_linear_factor: 1.0,
        decoder: DecoderConfig::default(),
        layers: vec![
            LayerConfig {
                reach: Reach::ALL,
                rope_theta: None
            };
            num_layers(keys, weights)?
        ],
    })
}

fn bert(keys: &Keys<'_>, weights: &Weights) -> Result<Config> {
    // Converters drop the first rows of RoBERTa's position table, so positions count from 0.
    Ok(Config {
        positions: Positions::Learned,
        ..common(keys, weights)?
    })
}

fn rope_theta(keys: &Keys<'_>, default: f32) -> Result<f32> {
    let key = keys.key("rope.scaling.type");
    match keys.metadata.str(&key)? {
        None | Some("none") => keys.number("rope.freq_base", default),
        Some(other) => Err(Error::unsupported(key, other, "`none`")),
    }
}

fn nomic_bert(keys: &Keys<'_>, weights: &Weights) -> Result<Config> {
    let mut config = common(keys, weights)?;
    let rope_theta = Some(rope_theta(keys, 1000.0)?);
    config.layers.fill(LayerConfig {
        reach: Reach::ALL,
        rope_theta,
    });
    Ok(Config {
        activation: Activation::Silu,
        gated: true,
        ..config
    })
}

/// What Llama and all its kin share.
pub(super) fn rms_decoder(
    keys: &Keys<'_>,
    weights: &Weights,
    default_theta: f32,
) -> Result<Config> {
    let mut config = common(keys, weights)?;
    let reach = match keys.optional_count("attention.sliding_window")? {
        Some(window) if window > 0 => Reach {
            before: window - 1,
            after: 0,
        },
        _ => CAUSAL,
    };
    let rope_theta = Some(keys.number("rope.freq_base", default_theta)?);
    config.layers.fill(LayerConfig { reach, rope_theta });
    config.rotary_dim = keys
        .optional_count("rope.dimension_count")?
        .unwrap_or(config.head_dim);
    config.decoder.rope_scaling = rope_scaling(keys, weights, config.max_positions)?;
    Ok(Config {
        norm_kind: NormKind::Rms,
        norm_eps: keys.number("attention.layer_norm_rms_epsilon", 1e-6)?,
        embedding_norm: false,
        block: BlockKind::PreNorm,
        final_norm: true,
        activation: Activation::Silu,
        gated: true,
        ..config
    })
}

/// The scaling that the metadata names, or that a table of divisors in the file amounts to.
#[expect(clippy::cast_precision_loss, reason = "lengths far below 2²⁴")]
fn rope_scaling(keys: &Keys<'_>, weights: &Weights, longest: usize) -> Result<RopeScaling> {
    let factors = |name: &str| weights.get(name).map(|tensor| tensor.to_f32()).transpose();
    if let Some(factors) = factors("rope_freqs.weight")? {
        return Ok(RopeScaling::Long {
            short: factors.clone(),
            long: factors,
            original: usize::MAX,
            attention_factor: 1.0,
        });
    }
    let original = keys.optional_count("rope.scaling.original_context_length")?;
    let original = original.unwrap_or(longest);
    if let (Some(short), Some(long)) = (
        factors("rope_factors_short.weight")?,
        factors("rope_factors_long.weight")?,
    ) {
        let attention_factor = keys.number("rope.scaling.attn_factor", 1.0)?;
        return Ok(RopeScaling::Long {
            short,
            long,
            original,
            attention_factor,
        });
    }
    let key = keys.key("rope.scaling.type");
    let factor = keys.number("rope.scaling.factor", 1.0)?;
    match keys.metadata.str(&key)? {
        None | Some("none") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear { factor }),
        Some("yarn") => Ok(RopeScaling::Yarn {
            factor,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original: original as f32,
            attention_factor: super::rope::yarn_magnitude(factor, 1.0),
        }),
        Some(other) => Err(Error::unsupported(key, other, "`none`, `linear` or `yarn`")),
    }
}

/// llama.cpp stores the rows of queries and keys so that rotated pairs are neighbours.
fn llama(keys: &Keys<'_>, weights: &Weights) -> Result<Config> {
    let mut config = rms_decoder(keys, weights, 10_000.0)?;
    config.decoder.rope_interleaved = true;
    Ok(config)
}

fn qwen2(keys: &Keys<'_>, weights: &Weights) -> Result<Config> {
    rms_decoder(keys, weights, 1_000_000.0)
}

fn phi3(keys: &Keys<'_>, weights: &Weights) -> Result<Config> {
    rms_decoder(keys, weights, 10_000.0)
}

/// Norm weights are stored plus one. Five layers see a window, every sixth sees everything; the
/// file does not say so, nor the base of the windowed layers' rotation.
#[expect(clippy::cast_precision_loss, reason = "a model's width")]
fn gemma3(keys: &Keys<'_>, weights: &Weights) -> Result<Config> {
    const PERIOD: usize = 6;
    const LOCAL_THETA: f32 = 10_000.0;
    let mut config = rms_decoder(keys, weights, 1_000_000.0)?;
    let full_theta = config.layers.first().and_then(|layer| layer.rope_theta);
    for (index, layer) in config.layers.iter_mut().enumerate() {
        if (index + 1) % PERIOD == 0 {
            layer.reach = CAUSAL;
        } else {
            layer.rope_theta = Some(LOCAL_THETA);
        }
    }
    config.decoder.scaled_theta = full_theta;
    config.query_key_norm = true;
    config.block = BlockKind::Sandwich;
    config.activation = Activation::GeluTanh;
    config.embedding_scale = (config.hidden_size as f32).sqrt();
    // Gemma 3 27B alone divides by the width of its hidden states a head instead of the head's.
    if config.layers.len() == 62 {
        let width = config.hidden_size / config.num_attention_heads;
        config.attention_scale = 1.0 / (width as f32).sqrt();
    }
    Ok(config)
}

fn qwen3(keys: &Keys<'_>, weights: &Weights) -> Result<Config> {
    Ok(Config {
        query_key_norm: true,
        ..rms_decoder(keys, weights, 1_000_000.0)?
    })
}
