//! Experts and latent projections out of a checkpoint with the hub's names.

use super::parts::Part;
use super::{Source, Target};
use crate::kernels::linear::Format;
use crate::kernels::norm::Norm;
use crate::transformer::config::{ExpertsConfig, LatentConfig};
use crate::transformer::experts::{Expert, Experts};
use crate::transformer::latent::Latent;
use crate::{ErrorKind, Result};

/// The experts of a layer whose names begin with `stem`.
pub(super) fn experts(
    source: &Source,
    target: &Target<'_>,
    stem: &str,
    experts: &ExpertsConfig,
) -> Result<Experts> {
    let config = &source.config;
    let expert = |name: &str, inner: usize| -> Result<Expert> {
        let full = |part: &str| source.name(&format!("{stem}mlp.{name}.{part}"));
        let up = [
            Part::whole(full("gate_proj"), inner),
            Part::whole(full("up_proj"), inner),
        ];
        let down = Part::whole(full("down_proj"), config.hidden_size);
        Ok(Expert {
            up: source.linear(target, &up, config.hidden_size)?,
            down: source.linear(target, &[down], inner)?,
            intermediate_size: inner,
        })
    };
    // Which expert is chosen must not depend on the format of the rest.
    let exact = Target {
        format: Format::F32,
        ..*target
    };
    let router = source.name(&format!("{stem}mlp.gate"));
    let router = Part::whole(router, experts.num_experts);
    let correction = format!("{stem}mlp.gate.e_score_correction_bias");
    let correction = match source.weights.get(&source.name(&correction)) {
        Some(_) => source.vector(&correction, &[experts.num_experts])?,
        None => Vec::new(),
    };
    let shared = match experts.shared_intermediate_size {
        0 => None,
        inner => Some(expert("shared_experts", inner)?),
    };
    let each = 0..experts.num_experts;
    let each = each.map(|index| expert(&format!("experts.{index}"), experts.moe_intermediate_size));
    Ok(Experts {
        config: experts.clone(),
        activation: config.activation,
        router: source.linear(&exact, &[router], config.hidden_size)?,
        correction,
        experts: each.collect::<Result<_>>()?,
        shared,
    })
}

/// The latent projections of a layer whose names begin with `stem`.
pub(super) fn latent(
    source: &Source,
    target: &Target<'_>,
    stem: &str,
    latent: &LatentConfig,
) -> Result<Latent> {
    let config = &source.config;
    let (heads, hidden) = (config.num_attention_heads, config.hidden_size);
    let name = |part: &str| format!("{stem}self_attn.{part}");
    let linear = |part: &str, outputs: usize, inputs: usize| {
        let part = Part::whole(source.name(&name(part)), outputs);
        source.linear(target, &[part], inputs)
    };
    let norm = |part: &str, width: usize| -> Result<Norm> {
        let norm = source.norm(&name(part), width)?;
        norm.ok_or_else(|| {
            let (path, tensor) = (source.weights.path().to_path_buf(), name(part));
            ErrorKind::MissingTensor { path, tensor }.into()
        })
    };
    let queries = heads * config.head_dim;
    let (query_down, query_up) = match latent.q_lora_rank {
        Some(rank) => {
            let down = (
                linear("q_a_proj", rank, hidden)?,
                norm("q_a_layernorm", rank)?,
            );
            (Some(down), linear("q_b_proj", queries, rank)?)
        }
        None => (None, linear("q_proj", queries, hidden)?),
    };
    let rank = latent.kv_lora_rank;
    let wide = heads * (latent.qk_nope_head_dim + config.value_dim());
    Ok(Latent {
        config: latent.clone(),
        num_heads: heads,
        value_dim: config.value_dim(),
        query_down,
        query_up,
        key_value_down: linear("kv_a_proj_with_mqa", rank + latent.qk_rope_head_dim, hidden)?,
        key_value_norm: norm("kv_a_layernorm", rank)?,
        key_value_up: linear("kv_b_proj", wide, rank)?,
    })
}
