//! Experts and latent projections, by the hub's names or by llama.cpp's.

use super::parts::{self, Dense, Part};
use super::{Source, Target};
use crate::kernels::linear::{Format, Linear};
use crate::kernels::norm::Norm;
use crate::transformer::config::{ExpertsConfig, LatentConfig};
use crate::transformer::experts::{Expert, Experts};
use crate::transformer::latent::Latent;
use crate::{ErrorKind, Result};

/// Which expert of a layer.
#[derive(Clone, Copy)]
enum Which {
    Shared,
    /// One of so many.
    Number(usize, usize),
}

/// The experts of a layer whose names begin with `stem`.
pub(super) fn experts(
    source: &Source,
    target: &Target<'_>,
    stem: &str,
    experts: &ExpertsConfig,
) -> Result<Experts> {
    let config = &source.config;
    let together = source.names.layer.experts_together;
    let expert = |which: Which, inner: usize| -> Result<Expert> {
        let part = |kind: &str, rows: usize| match which {
            _ if !together => {
                let owner = match which {
                    Which::Shared => "shared_experts".to_owned(),
                    Which::Number(index, _) => format!("experts.{index}"),
                };
                let name = format!("{stem}mlp.{owner}.{kind}_proj");
                Part::whole(source.name(&name), rows)
            }
            Which::Shared => Part::whole(source.name(&format!("{stem}ffn_{kind}_shexp")), rows),
            Which::Number(index, of) => {
                let name = source.name(&format!("{stem}ffn_{kind}_exps"));
                Part::slab(name, rows, index, of)
            }
        };
        let up = [part("gate", inner), part("up", inner)];
        let down = part("down", config.hidden_size);
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
    let [router, correction] = if together {
        ["ffn_gate_inp", "exp_probs_b.bias"]
    } else {
        ["mlp.gate", "mlp.gate.e_score_correction_bias"]
    };
    let router = Part::whole(source.name(&format!("{stem}{router}")), experts.num_experts);
    let correction = format!("{stem}{correction}");
    let correction = match source.weights.get(&source.name(&correction)) {
        Some(_) => source.vector(&correction, &[experts.num_experts])?,
        None => Vec::new(),
    };
    let shared = match experts.shared_intermediate_size {
        0 => None,
        inner => Some(expert(Which::Shared, inner)?),
    };
    let count = experts.num_experts;
    let each = (0..count).map(|index| {
        let which = Which::Number(index, count);
        expert(which, experts.moe_intermediate_size)
    });
    Ok(Experts {
        config: experts.clone(),
        activation: config.activation,
        router: source.linear(&exact, &[router], config.hidden_size)?,
        correction,
        experts: each.collect::<Result<_>>()?,
        shared,
    })
}

/// Names of the latent projections.
struct LatentNames {
    query: &'static str,
    query_down: &'static str,
    query_norm: &'static str,
    query_up: &'static str,
    key_value_down: &'static str,
    key_value_norm: &'static str,
    key_value_up: &'static str,
}

const HUB: LatentNames = LatentNames {
    query: "self_attn.q_proj",
    query_down: "self_attn.q_a_proj",
    query_norm: "self_attn.q_a_layernorm",
    query_up: "self_attn.q_b_proj",
    key_value_down: "self_attn.kv_a_proj_with_mqa",
    key_value_norm: "self_attn.kv_a_layernorm",
    key_value_up: "self_attn.kv_b_proj",
};

const GGUF: LatentNames = LatentNames {
    query: "attn_q",
    query_down: "attn_q_a",
    query_norm: "attn_q_a_norm",
    query_up: "attn_q_b",
    key_value_down: "attn_kv_a_mqa",
    key_value_norm: "attn_kv_a_norm",
    key_value_up: "attn_kv_b",
};

/// The latent projections of a layer whose names begin with `stem`.
pub(super) fn latent(
    source: &Source,
    target: &Target<'_>,
    stem: &str,
    latent: &LatentConfig,
) -> Result<Latent> {
    let config = &source.config;
    let names = if source.names.layer.experts_together {
        GGUF
    } else {
        HUB
    };
    let (heads, hidden) = (config.num_attention_heads, config.hidden_size);
    let name = |part: &str| format!("{stem}{part}");
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
                linear(names.query_down, rank, hidden)?,
                norm(names.query_norm, rank)?,
            );
            (Some(down), linear(names.query_up, queries, rank)?)
        }
        None => (None, linear(names.query, queries, hidden)?),
    };
    let rank = latent.kv_lora_rank;
    let wide = heads * (latent.qk_nope_head_dim + config.value_dim());
    let apart = source.name(&name("attn_k_b.weight"));
    let key_value_up = if source.weights.get(&apart).is_some() {
        key_value_up(source, target, stem, latent)?
    } else {
        linear(names.key_value_up, wide, rank)?
    };
    let down = rank + latent.qk_rope_head_dim;
    Ok(Latent {
        config: latent.clone(),
        num_heads: heads,
        value_dim: config.value_dim(),
        query_down,
        query_up,
        key_value_down: linear(names.key_value_down, down, hidden)?,
        key_value_norm: norm(names.key_value_norm, rank)?,
        key_value_up,
    })
}

/// One projection out of `attn_k_b`, `[heads, rank, nope]`, and `attn_v_b`, `[heads, value, rank]`.
fn key_value_up(
    source: &Source,
    target: &Target<'_>,
    stem: &str,
    latent: &LatentConfig,
) -> Result<Linear> {
    let (heads, value) = (source.config.num_attention_heads, source.config.value_dim());
    let (rank, nope) = (latent.kv_lora_rank, latent.qk_nope_head_dim);
    let tensor = |name: &str, shape: [usize; 3]| -> Result<Vec<f32>> {
        let name = source.name(&format!("{stem}{name}.weight"));
        parts::tensor(&source.weights, &name, &shape)?.to_f32()
    };
    let keys = tensor("attn_k_b", [heads, rank, nope])?;
    let values = tensor("attn_v_b", [heads, value, rank])?;
    let mut rows = Vec::with_capacity(keys.len() + values.len());
    let each = keys
        .chunks_exact(rank * nope)
        .zip(values.chunks_exact(value * rank));
    for (keys, values) in each {
        for column in 0..nope {
            rows.extend(keys.iter().skip(column).step_by(nope));
        }
        rows.extend_from_slice(values);
    }
    let dense = Dense { rows, inputs: rank };
    Linear::pack(target.team, &dense, &[], target.format)
}
