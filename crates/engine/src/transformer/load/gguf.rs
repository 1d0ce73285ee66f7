//! GGUF metadata of the encoder families, as llama.cpp's converters write it.

use super::names::{self, Names};
use crate::kernels::activation::Activation;
use crate::kernels::attention::Reach;
use crate::kernels::norm::NormKind;
use crate::transformer::config::{BlockKind, Config, LayerConfig, Positions};
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
        "qwen3" => Ok((qwen3(&keys, weights)?, names::GGUF_QWEN3)),
        other => {
            let expected = "`bert`, `nomic-bert` or `qwen3`";
            Err(Error::unsupported("general.architecture", other, expected))
        }
    }
}

/// Metadata under the architecture's name.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn optional_count(&self, name: &str) -> Result<Option<usize>> {
        Ok(self
            .metadata
            .u32(&self.key(name))?
            .map(|value| value as usize))
    }

    fn count(&self, name: &str) -> Result<usize> {
        self.optional_count(name)?
            .filter(|count| *count > 0)
            .ok_or_else(|| Error::unsupported(self.key(name), "absent or 0", "a positive integer"))
    }

    fn number(&self, name: &str, default: f32) -> Result<f32> {
        Ok(self.metadata.f32(&self.key(name))?.unwrap_or(default))
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

#[expect(clippy::cast_precision_loss, reason = "a head's width")]
fn common(keys: &Keys<'_>, weights: &Weights) -> Result<Config> {
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
        intermediate_size: keys.count("feed_forward_length")?,
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
        layers: vec![
            LayerConfig {
                reach: Reach::ALL,
                rope_theta: None
            };
            keys.count("block_count")?
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

fn qwen3(keys: &Keys<'_>, weights: &Weights) -> Result<Config> {
    let mut config = common(keys, weights)?;
    let reach = Reach {
        before: usize::MAX,
        after: 0,
    };
    config.layers.fill(LayerConfig {
        reach,
        rope_theta: Some(rope_theta(keys, 1_000_000.0)?),
    });
    Ok(Config {
        norm_kind: NormKind::Rms,
        norm_eps: keys.number("attention.layer_norm_rms_epsilon", 1e-6)?,
        embedding_norm: false,
        block: BlockKind::PreNorm,
        final_norm: true,
        activation: Activation::Silu,
        gated: true,
        query_key_norm: true,
        ..config
    })
}
