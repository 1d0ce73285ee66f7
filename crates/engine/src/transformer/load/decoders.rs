//! `config.json` of the families that only write text; Qwen 3 and Gemma 3, which embed too, are in
//! [`super::hugging_face`].

use serde_json::json;

use super::fields::Fields;
use super::hugging_face::{CAUSAL, activation, head_dim, inverse_root, rms_decoder};
use super::names::{self, Names};
use super::rope::yarn_magnitude;
use crate::kernels::attention::Reach;
use crate::kernels::norm::NormKind;
use crate::transformer::config::{
    BlockKind, Config, DecoderConfig, ExpertsConfig, LatentConfig, LayerConfig, Positions,
    RopeScaling,
};
use crate::{Error, Result};

/// Reads the description and chooses the names; `None` for a family that is not here.
pub(super) fn describe(fields: &Fields, model_type: &str) -> Result<Option<(Config, Names)>> {
    Ok(Some(match model_type {
        "llama" | "mistral" | "qwen2" => (llama(fields, model_type)?, names::QWEN3),
        "phi3" => (llama(fields, model_type)?, names::PHI3),
        "gpt2" => (gpt2(fields)?, names::GPT2),
        "qwen3_moe" => (qwen3_moe(fields)?, names::QWEN3),
        "deepseek_v2" | "deepseek_v3" => (deepseek(fields, model_type)?, names::QWEN3),
        _ => return Ok(None),
    }))
}

/// Llama and its kin: RMS norm before each sublayer, rotary positions, a gated feed-forward block.
fn llama(fields: &Fields, model_type: &str) -> Result<Config> {
    let mut config = rms_decoder(fields, model_type, "hidden_act")?;
    config.query_key_norm = false;
    let rope = RopeFields::new(fields);
    if let Some(share) = rope.number("partial_rotary_factor")? {
        config.rotary_dim = rotary_dim(config.head_dim, share)?;
    }
    config.decoder.rope_scaling = scaling(&rope, config.max_positions)?;
    let windowed = fields.flag("use_sliding_window", model_type != "qwen2")?;
    let window = fields
        .optional_count("sliding_window")?
        .filter(|_| windowed);
    if model_type == "qwen2" && window.is_some() {
        fields.must_be("use_sliding_window", &json!(false))?;
    }
    let reach = window.map_or(CAUSAL, |window| Reach {
        before: window - 1,
        after: 0,
    });
    let rope_theta = Some(rope.number("rope_theta")?.unwrap_or(10_000.0));
    let layers = fields.num_layers(&["num_hidden_layers"])?;
    config.layers = vec![LayerConfig { reach, rope_theta }; layers];
    Ok(config)
}

/// The rotated part of a head.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a head's width"
)]
fn rotary_dim(head_dim: usize, share: f32) -> Result<usize> {
    let width = (head_dim as f32 * share) as usize;
    if (0.0..=1.0).contains(&share) && width.is_multiple_of(2) {
        return Ok(width);
    }
    let expected = format!("a share of {head_dim} that is an even number");
    Err(Error::unsupported(
        "partial_rotary_factor",
        share.to_string(),
        expected,
    ))
}

/// Where the rotation is described: `rope_parameters` of transformers 5, else `rope_scaling` and the
/// file itself.
pub(super) struct RopeFields<'a> {
    file: &'a Fields,
    nested: Option<Fields>,
}

impl<'a> RopeFields<'a> {
    pub(super) fn new(file: &'a Fields) -> Self {
        let nested = file
            .object("rope_parameters")
            .or(file.object("rope_scaling"));
        Self { file, nested }
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<f32>> {
        let nested = self.nested.as_ref();
        match nested.filter(|nested| nested.get(name).is_some()) {
            Some(nested) => nested.optional_number(name),
            None => self.file.optional_number(name),
        }
    }

    fn required(&self, name: &str) -> Result<f32> {
        let missing = || Error::unsupported(format!("rope_scaling.{name}"), "absent", "a number");
        self.number(name)?.ok_or_else(missing)
    }

    fn kind(&self) -> &str {
        let nested = self.nested.as_ref();
        let kind = nested.and_then(|nested| nested.text("rope_type").or(nested.text("type")));
        kind.unwrap_or("default")
    }

    fn list(&self, name: &str) -> Result<Vec<f32>> {
        let list = self.nested.as_ref().and_then(|nested| nested.get(name));
        let list = list.and_then(serde_json::Value::as_array);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the engine computes in f32"
        )]
        let numbers = list.and_then(|list| {
            let number = |value: &serde_json::Value| value.as_f64().map(|value| value as f32);
            list.iter().map(number).collect()
        });
        let missing = || Error::unsupported(format!("rope_scaling.{name}"), "absent", "numbers");
        numbers.ok_or_else(missing)
    }
}

/// The scaling that the fields describe.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "lengths far below 2²⁴"
)]
pub(super) fn scaling(rope: &RopeFields<'_>, max_positions: usize) -> Result<RopeScaling> {
    let original = rope.number("original_max_position_embeddings")?;
    Ok(match rope.kind() {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear {
            factor: rope.required("factor")?,
        },
        "llama3" => RopeScaling::Llama3 {
            factor: rope.required("factor")?,
            low_freq_factor: rope.required("low_freq_factor")?,
            high_freq_factor: rope.required("high_freq_factor")?,
            original: rope.required("original_max_position_embeddings")?,
        },
        "yarn" => yarn(rope, original.unwrap_or(max_positions as f32))?,
        "longrope" | "su" => {
            let original = original.unwrap_or(max_positions as f32);
            let factor = max_positions as f32 / original;
            let factor = rope.number("factor")?.unwrap_or(factor);
            let sharper = || (1.0 + factor.ln() / original.ln()).sqrt();
            let stated = rope.number("attention_factor")?;
            let usual = if factor > 1.0 { sharper() } else { 1.0 };
            RopeScaling::Long {
                short: rope.list("short_factor")?,
                long: rope.list("long_factor")?,
                original: original as usize,
                attention_factor: stated.unwrap_or(usual),
            }
        }
        other => {
            let expected = "`default`, `linear`, `llama3`, `yarn` or `longrope`";
            return Err(Error::unsupported(
                "rope_scaling.rope_type",
                other,
                expected,
            ));
        }
    })
}

fn yarn(rope: &RopeFields<'_>, original: f32) -> Result<RopeScaling> {
    let factor = rope.required("factor")?;
    let mscale = rope.number("mscale")?.filter(|mscale| *mscale != 0.0);
    let all_dim = rope
        .number("mscale_all_dim")?
        .filter(|mscale| *mscale != 0.0);
    let usual = match (mscale, all_dim) {
        (Some(mscale), Some(all_dim)) => {
            yarn_magnitude(factor, mscale) / yarn_magnitude(factor, all_dim)
        }
        _ => yarn_magnitude(factor, 1.0),
    };
    Ok(RopeScaling::Yarn {
        factor,
        beta_fast: rope.number("beta_fast")?.unwrap_or(32.0),
        beta_slow: rope.number("beta_slow")?.unwrap_or(1.0),
        original,
        attention_factor: rope.number("attention_factor")?.unwrap_or(usual),
    })
}

/// The layers of `fields` with an ordinary block, by a list and by every so many.
fn qwen3_moe(fields: &Fields) -> Result<Config> {
    let mut config = llama(fields, "qwen3_moe")?;
    config.query_key_norm = true;
    let step = fields.optional_count("decoder_sparse_step")?.unwrap_or(1);
    let listed = fields
        .get("mlp_only_layers")
        .and_then(serde_json::Value::as_array);
    let is_listed = |index: usize| {
        listed.is_some_and(|list| {
            list.iter()
                .any(|layer| layer.as_u64() == Some(index as u64))
        })
    };
    let dense = |index: &usize| is_listed(*index) || !(index + 1).is_multiple_of(step);
    config.decoder.experts = Some(ExpertsConfig {
        num_experts: fields.count_of(&["num_experts", "num_local_experts"])?,
        num_experts_per_tok: fields.count("num_experts_per_tok")?,
        moe_intermediate_size: fields.count("moe_intermediate_size")?,
        shared_intermediate_size: 0,
        dense_layers: (0..config.layers.len()).filter(dense).collect(),
        sigmoid: false,
        norm_topk_prob: fields.flag("norm_topk_prob", false)?,
        routed_scaling_factor: 1.0,
        n_group: 1,
        topk_group: 1,
        group_by_two: false,
    });
    Ok(config)
}

/// DeepSeek V2 and V3: latent attention, experts after the first layers.
fn deepseek(fields: &Fields, model_type: &str) -> Result<Config> {
    let mut config = llama(fields, model_type)?;
    let latent = LatentConfig {
        q_lora_rank: fields.optional_count("q_lora_rank")?,
        kv_lora_rank: fields.count("kv_lora_rank")?,
        qk_nope_head_dim: fields.count("qk_nope_head_dim")?,
        qk_rope_head_dim: fields.count("qk_rope_head_dim")?,
    };
    config.num_key_value_heads = config.num_attention_heads;
    config.head_dim = latent.qk_nope_head_dim + latent.qk_rope_head_dim;
    let rope = RopeFields::new(fields);
    let magnitude = match (&config.decoder.rope_scaling, rope.number("mscale_all_dim")?) {
        (RopeScaling::Yarn { factor, .. }, Some(all_dim)) => yarn_magnitude(*factor, all_dim),
        _ => 1.0,
    };
    config.attention_scale = inverse_root(config.head_dim) * magnitude * magnitude;
    config.decoder.rope_interleaved = true;
    config.decoder.value_dim = Some(fields.count("v_head_dim")?);
    config.decoder.latent = Some(latent);
    config.decoder.experts = Some(deepseek_experts(fields, model_type == "deepseek_v3")?);
    Ok(config)
}

fn deepseek_experts(fields: &Fields, third: bool) -> Result<ExpertsConfig> {
    fields.must_be("moe_layer_freq", &json!(1))?;
    let scoring = if third { "sigmoid" } else { "softmax" };
    fields.must_be("scoring_func", &json!(scoring))?;
    let method = fields
        .text("topk_method")
        .unwrap_or(if third { "noaux_tc" } else { "greedy" });
    if !["greedy", "group_limited_greedy", "noaux_tc"].contains(&method) {
        let expected = "`greedy`, `group_limited_greedy` or `noaux_tc`";
        return Err(Error::unsupported("topk_method", method, expected));
    }
    let inner = fields.count("moe_intermediate_size")?;
    let dense = fields
        .get("first_k_dense_replace")
        .and_then(serde_json::Value::as_u64);
    let dense = usize::try_from(dense.unwrap_or(0)).unwrap_or(usize::MAX);
    let groups = |name: &str| match method {
        "greedy" => Ok(1),
        _ => Ok::<_, Error>(fields.optional_count(name)?.unwrap_or(1)),
    };
    let shared = fields
        .get("n_shared_experts")
        .and_then(serde_json::Value::as_u64);
    let shared = usize::try_from(shared.unwrap_or(0)).unwrap_or(usize::MAX);
    Ok(ExpertsConfig {
        num_experts: fields.count("n_routed_experts")?,
        num_experts_per_tok: fields.count("num_experts_per_tok")?,
        moe_intermediate_size: inner,
        shared_intermediate_size: inner.saturating_mul(shared),
        dense_layers: (0..dense.min(fields.num_layers(&["num_hidden_layers"])?)).collect(),
        sigmoid: third,
        norm_topk_prob: fields.flag("norm_topk_prob", false)?,
        routed_scaling_factor: fields
            .optional_number("routed_scaling_factor")?
            .unwrap_or(1.0),
        n_group: groups("n_group")?,
        topk_group: groups("topk_group")?,
        group_by_two: method == "noaux_tc",
    })
}

fn gpt2(fields: &Fields) -> Result<Config> {
    for (name, value) in [
        ("scale_attn_weights", json!(true)),
        ("scale_attn_by_inverse_layer_idx", json!(false)),
        ("add_cross_attention", json!(false)),
    ] {
        fields.must_be(name, &value)?;
    }
    let hidden_size = fields.count("n_embd")?;
    let num_attention_heads = fields.count("n_head")?;
    let head_dim = head_dim(hidden_size, num_attention_heads)?;
    let layer = LayerConfig {
        reach: CAUSAL,
        rope_theta: None,
    };
    let inner = fields.optional_count("n_inner")?;
    Ok(Config {
        model_type: "gpt2".to_owned(),
        vocab_size: fields.count("vocab_size")?,
        hidden_size,
        intermediate_size: inner.unwrap_or(4 * hidden_size),
        num_attention_heads,
        num_key_value_heads: num_attention_heads,
        head_dim,
        max_positions: fields.count("n_positions")?,
        positions: Positions::Learned,
        embedding_scale: 1.0,
        token_types: false,
        embedding_norm: false,
        norm_kind: NormKind::Layer,
        norm_eps: fields
            .optional_number("layer_norm_epsilon")?
            .unwrap_or(1e-5),
        norm_plus_one: false,
        block: BlockKind::PreNorm,
        final_norm: true,
        activation: activation(fields, "activation_function")?,
        gated: false,
        attention_scale: inverse_root(head_dim),
        query_key_norm: false,
        relative_attention_num_buckets: None,
        rotary_dim: 0,
        rope_linear_factor: 1.0,
        layers: vec![layer; fields.num_layers(&["n_layer"])?],
        decoder: DecoderConfig::default(),
    })
}
