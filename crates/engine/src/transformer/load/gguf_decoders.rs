//! GGUF metadata of the families that only write text and are not plain Llamas: GPT-2, mixtures of
//! experts, latent attention.

use super::gguf::{Keys, common, rms_decoder};
use super::hugging_face::{CAUSAL, inverse_root};
use super::rope::yarn_magnitude;
use crate::kernels::activation::Activation;
use crate::kernels::norm::NormKind;
use crate::transformer::config::{
    BlockKind, Config, ExpertsConfig, LatentConfig, LayerConfig, Positions, RopeScaling,
};
use crate::weights::Weights;
use crate::{Error, Result};

pub(super) fn gpt2(keys: &Keys<'_>, weights: &Weights) -> Result<Config> {
    let mut config = common(keys, weights)?;
    config.layers.fill(LayerConfig {
        reach: CAUSAL,
        rope_theta: None,
    });
    Ok(Config {
        positions: Positions::Learned,
        norm_kind: NormKind::Layer,
        norm_eps: keys.number("attention.layer_norm_epsilon", 1e-5)?,
        embedding_norm: false,
        token_types: false,
        block: BlockKind::PreNorm,
        final_norm: true,
        activation: Activation::GeluTanh,
        gated: false,
        ..config
    })
}

/// Every layer has experts; llama.cpp always makes the chosen weights sum to one.
pub(super) fn qwen3_moe(keys: &Keys<'_>, weights: &Weights) -> Result<Config> {
    let mut config = rms_decoder(keys, weights, 1_000_000.0)?;
    config.query_key_norm = true;
    config.decoder.experts = Some(ExpertsConfig {
        num_experts: keys.count("expert_count")?,
        num_experts_per_tok: keys.count("expert_used_count")?,
        moe_intermediate_size: keys.count("expert_feed_forward_length")?,
        shared_intermediate_size: 0,
        dense_layers: Vec::new(),
        sigmoid: false,
        norm_topk_prob: true,
        routed_scaling_factor: 1.0,
        n_group: 1,
        topk_group: 1,
        group_by_two: false,
    });
    Ok(config)
}

/// DeepSeek V2 and V3. Files that keep keys and values up-projected apart (`attn_k_b`, `attn_v_b`)
/// name the widths of a head with `_mla`, and the latent ones without.
pub(super) fn deepseek2(keys: &Keys<'_>, weights: &Weights) -> Result<Config> {
    let mut config = rms_decoder(keys, weights, 10_000.0)?;
    let width = |name: &str, older: &str| match keys.optional_count(name)? {
        Some(width) => Ok(width),
        None => keys.count(older),
    };
    let head_dim = width("attention.key_length_mla", "attention.key_length")?;
    let value_dim = width("attention.value_length_mla", "attention.value_length")?;
    let rope = keys.count("rope.dimension_count")?;
    let Some(nope) = head_dim.checked_sub(rope).filter(|width| *width > 0) else {
        let key = keys.key("rope.dimension_count");
        let expected = format!("less than a head's {head_dim}");
        return Err(Error::unsupported(key, rope.to_string(), expected));
    };
    config.num_key_value_heads = config.num_attention_heads;
    config.head_dim = head_dim;
    config.rotary_dim = rope;
    let mut magnitude = 1.0;
    if let RopeScaling::Yarn {
        factor,
        attention_factor,
        ..
    } = &mut config.decoder.rope_scaling
    {
        // Written as a tenth of what the model's own file calls `mscale_all_dim`; the rotation itself
        // is then not made larger.
        let all_dim = 10.0 * keys.number("rope.scaling.yarn_log_multiplier", 0.0)?;
        magnitude = yarn_magnitude(*factor, all_dim);
        *attention_factor = if all_dim == 0.0 {
            yarn_magnitude(*factor, 1.0)
        } else {
            1.0
        };
    }
    config.attention_scale = inverse_root(head_dim) * magnitude * magnitude;
    config.decoder.rope_interleaved = true;
    config.decoder.value_dim = Some(value_dim);
    config.decoder.latent = Some(LatentConfig {
        q_lora_rank: keys
            .optional_count("attention.q_lora_rank")?
            .filter(|rank| *rank > 0),
        kv_lora_rank: keys.count("attention.kv_lora_rank")?,
        qk_nope_head_dim: nope,
        qk_rope_head_dim: rope,
    });
    config.decoder.experts = deepseek_experts(keys, config.layers.len())?;
    Ok(config)
}

fn deepseek_experts(keys: &Keys<'_>, layers: usize) -> Result<Option<ExpertsConfig>> {
    /// Values of `expert_gating_func`; absent in files older than DeepSeek V3.
    const SOFTMAX: usize = 1;
    const SIGMOID: usize = 2;
    let Some(num_experts) = keys
        .optional_count("expert_count")?
        .filter(|count| *count > 0)
    else {
        return Ok(None);
    };
    let sigmoid = match keys.optional_count("expert_gating_func")? {
        None | Some(0 | SOFTMAX) => false,
        Some(SIGMOID) => true,
        Some(other) => {
            let key = keys.key("expert_gating_func");
            let expected = "1 (softmax) or 2 (sigmoid)";
            return Err(Error::unsupported(key, other.to_string(), expected));
        }
    };
    let inner = keys.count("expert_feed_forward_length")?;
    let shared = keys.optional_count("expert_shared_count")?.unwrap_or(0);
    let dense = keys
        .optional_count("leading_dense_block_count")?
        .unwrap_or(0);
    let groups = |name: &str| -> Result<usize> {
        Ok(keys
            .optional_count(name)?
            .filter(|count| *count > 0)
            .unwrap_or(1))
    };
    let n_group = groups("expert_group_count")?;
    if !num_experts.is_multiple_of(n_group) {
        let key = keys.key("expert_group_count");
        let expected = format!("a divisor of {num_experts}");
        return Err(Error::unsupported(key, n_group.to_string(), expected));
    }
    Ok(Some(ExpertsConfig {
        num_experts,
        num_experts_per_tok: keys.count("expert_used_count")?,
        moe_intermediate_size: inner,
        shared_intermediate_size: shared * inner,
        dense_layers: (0..dense.min(layers)).collect(),
        sigmoid,
        norm_topk_prob: keys.flag("expert_weights_norm", false)?,
        routed_scaling_factor: keys.number("expert_weights_scale", 1.0)?,
        n_group,
        topk_group: groups("expert_group_used_count")?,
        group_by_two: sigmoid,
    }))
}
