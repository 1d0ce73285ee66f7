//! `config.json` of each family, in the dialects of transformers 4 and 5.

use serde_json::json;

use super::decoders;
use super::fields::Fields;
use super::names::{self, Names};
use crate::kernels::activation::Activation;
use crate::kernels::attention::Reach;
use crate::kernels::norm::NormKind;
use crate::transformer::config::{BlockKind, Config, DecoderConfig, LayerConfig, Positions};
use crate::{Error, Result};

const KNOWN: &str = "`bert`, `roberta`, `xlm-roberta`, `camembert`, `distilbert`, `mpnet`, \
                     `modernbert`, `nomic_bert`, `clip_text_model`, `llama`, `mistral`, `qwen2`, `qwen3`, \
                     `qwen3_moe`, `gemma3_text`, `phi3`, `gpt2`, `deepseek_v2` or `deepseek_v3`";

/// Reads the description and chooses the names.
pub(super) fn describe(fields: &Fields) -> Result<(Config, Names)> {
    let model_type = fields.text("model_type").unwrap_or_default();
    match model_type {
        "bert" => Ok((bert(fields, model_type)?, names::BERT)),
        "roberta" | "xlm-roberta" | "camembert" => Ok((roberta(fields, model_type)?, names::BERT)),
        "distilbert" => Ok((distilbert(fields)?, names::DISTILBERT)),
        "mpnet" => Ok((mpnet(fields)?, names::MPNET)),
        "modernbert" => Ok((modernbert(fields)?, names::MODERNBERT)),
        "nomic_bert" => Ok((nomic_bert(fields)?, names::NOMIC_BERT)),
        "qwen3" => Ok((qwen3(fields)?, names::QWEN3)),
        "gemma3_text" => Ok((gemma3(fields)?, names::GEMMA3)),
        "clip_text_model" => Ok((clip_text(fields)?, names::CLIP_TEXT)),
        "clip" => match fields.object("text_config") {
            Some(text) => Ok((clip_text(&text)?, names::CLIP_TEXT)),
            None => Err(Error::unsupported("text_config", "absent", "an object")),
        },
        other => decoders::describe(fields, other)?
            .ok_or_else(|| Error::unsupported("model_type", other, KNOWN)),
    }
}

pub(super) fn activation(fields: &Fields, name: &str) -> Result<Activation> {
    let value = fields.text(name).unwrap_or("absent");
    Activation::by_name(value).ok_or_else(|| {
        Error::unsupported(
            name,
            value,
            "`gelu`, `gelu_pytorch_tanh`, `quick_gelu`, `silu` or `relu`",
        )
    })
}

/// Head width from hidden size and heads, which must divide it.
pub(super) fn head_dim(hidden_size: usize, num_attention_heads: usize) -> Result<usize> {
    if hidden_size.is_multiple_of(num_attention_heads) {
        return Ok(hidden_size / num_attention_heads);
    }
    let expected = format!("a divisor of `hidden_size` {hidden_size}");
    Err(Error::unsupported(
        "num_attention_heads",
        num_attention_heads.to_string(),
        expected,
    ))
}

#[expect(clippy::cast_precision_loss, reason = "a head's width")]
pub(super) fn inverse_root(width: usize) -> f32 {
    1.0 / (width as f32).sqrt()
}

/// The BERT family's common part: post-norm, biases, learned positions, every key in reach.
fn post_norm(fields: &Fields, model_type: &str, spelling: &Spelling) -> Result<Config> {
    fields.must_be("is_decoder", &json!(false))?;
    fields.must_be("position_embedding_type", &json!("absolute"))?;
    let hidden_size = fields.count(spelling.hidden_size)?;
    let num_attention_heads = fields.count(spelling.num_attention_heads)?;
    let head_dim = head_dim(hidden_size, num_attention_heads)?;
    let num_layers = fields.num_layers(&[spelling.num_hidden_layers])?;
    Ok(Config {
        model_type: model_type.to_owned(),
        vocab_size: fields.count("vocab_size")?,
        hidden_size,
        intermediate_size: fields.count(spelling.intermediate_size)?,
        num_attention_heads,
        num_key_value_heads: num_attention_heads,
        head_dim,
        max_positions: fields.count("max_position_embeddings")?,
        positions: Positions::Learned,
        embedding_scale: 1.0,
        token_types: fields.get("type_vocab_size").is_some(),
        embedding_norm: true,
        norm_kind: NormKind::Layer,
        norm_eps: fields.optional_number("layer_norm_eps")?.unwrap_or(1e-12),
        norm_plus_one: false,
        block: BlockKind::PostNorm,
        final_norm: false,
        activation: activation(fields, spelling.activation)?,
        gated: false,
        attention_scale: inverse_root(head_dim),
        query_key_norm: false,
        relative_attention_num_buckets: None,
        rotary_dim: 0,
        rope_linear_factor: 1.0,
        decoder: DecoderConfig::default(),
        layers: vec![
            LayerConfig {
                reach: Reach::ALL,
                rope_theta: None
            };
            num_layers
        ],
    })
}

/// How a family spells the common fields.
struct Spelling {
    hidden_size: &'static str,
    intermediate_size: &'static str,
    num_attention_heads: &'static str,
    num_hidden_layers: &'static str,
    activation: &'static str,
}

const USUAL: Spelling = Spelling {
    hidden_size: "hidden_size",
    intermediate_size: "intermediate_size",
    num_attention_heads: "num_attention_heads",
    num_hidden_layers: "num_hidden_layers",
    activation: "hidden_act",
};

fn bert(fields: &Fields, model_type: &str) -> Result<Config> {
    post_norm(fields, model_type, &USUAL)
}

fn roberta(fields: &Fields, model_type: &str) -> Result<Config> {
    let config = post_norm(fields, model_type, &USUAL)?;
    from_padding(config, fields)
}

/// Positions that count from the padding id.
fn from_padding(mut config: Config, fields: &Fields) -> Result<Config> {
    let padding_id = fields.optional_count("pad_token_id")?.unwrap_or(1);
    let taken = padding_id + 1;
    if config.max_positions <= taken {
        let came = config.max_positions.to_string();
        return Err(Error::unsupported(
            "max_position_embeddings",
            came,
            "more than `pad_token_id` + 1",
        ));
    }
    config.max_positions -= taken;
    let padding_id = u32::try_from(padding_id).unwrap_or(u32::MAX);
    config.positions = Positions::FromPadding { padding_id };
    Ok(config)
}

fn distilbert(fields: &Fields) -> Result<Config> {
    let spelling = Spelling {
        hidden_size: "dim",
        intermediate_size: "hidden_dim",
        num_attention_heads: "n_heads",
        num_hidden_layers: "n_layers",
        activation: "activation",
    };
    Ok(Config {
        token_types: false,
        ..post_norm(fields, "distilbert", &spelling)?
    })
}

fn mpnet(fields: &Fields) -> Result<Config> {
    let mut config = from_padding(post_norm(fields, "mpnet", &USUAL)?, fields)?;
    config.token_types = false;
    let buckets = fields
        .optional_count("relative_attention_num_buckets")?
        .unwrap_or(32);
    config.relative_attention_num_buckets = Some(buckets);
    Ok(config)
}

fn nomic_bert(fields: &Fields) -> Result<Config> {
    // The hub's older files speak GPT-2's dialect.
    let old = fields.get("n_embd").is_some();
    if old {
        for (name, value) in [
            ("prenorm", json!(false)),
            ("use_rms_norm", json!(false)),
            ("parallel_block", json!(false)),
            ("rotary_emb_interleaved", json!(false)),
            ("rotary_emb_fraction", json!(1.0)),
        ] {
            fields.must_be(name, &value)?;
        }
        if let Some(factor) = fields.get("rotary_scaling_factor") {
            return Err(Error::unsupported(
                "rotary_scaling_factor",
                factor.to_string(),
                "`null`",
            ));
        }
    }
    let hidden_size = fields.count_of(&["hidden_size", "n_embd"])?;
    let num_attention_heads = fields.count_of(&["num_attention_heads", "n_head"])?;
    let head_dim = head_dim(hidden_size, num_attention_heads)?;
    let rope_theta = if old {
        fields
            .optional_number("rotary_emb_base")?
            .unwrap_or(10_000.0)
    } else {
        rope_theta(fields, None, "rope_theta", 1000.0)?
    };
    let activation_name = if old {
        "activation_function"
    } else {
        "hidden_act"
    };
    let layer = LayerConfig {
        reach: Reach::ALL,
        rope_theta: Some(rope_theta),
    };
    let eps = if old {
        "layer_norm_epsilon"
    } else {
        "layer_norm_eps"
    };
    Ok(Config {
        model_type: "nomic_bert".to_owned(),
        vocab_size: fields.count("vocab_size")?,
        hidden_size,
        intermediate_size: fields.count_of(&["intermediate_size", "n_inner"])?,
        num_attention_heads,
        num_key_value_heads: num_attention_heads,
        head_dim,
        max_positions: fields.count_of(&["max_position_embeddings", "n_positions"])?,
        positions: Positions::None,
        embedding_scale: 1.0,
        token_types: fields.optional_count("type_vocab_size")?.is_some(),
        embedding_norm: true,
        norm_kind: NormKind::Layer,
        norm_eps: fields.optional_number(eps)?.unwrap_or(1e-12),
        norm_plus_one: false,
        block: BlockKind::PostNorm,
        final_norm: false,
        activation: activation(fields, activation_name)?,
        gated: true,
        attention_scale: inverse_root(head_dim),
        query_key_norm: false,
        relative_attention_num_buckets: None,
        rotary_dim: head_dim,
        rope_linear_factor: 1.0,
        decoder: DecoderConfig::default(),
        layers: vec![layer; fields.num_layers(&["num_hidden_layers", "n_layer"])?],
    })
}

fn modernbert(fields: &Fields) -> Result<Config> {
    let hidden_size = fields.count("hidden_size")?;
    let num_attention_heads = fields.count("num_attention_heads")?;
    let head_dim = head_dim(hidden_size, num_attention_heads)?;
    let every = fields
        .optional_count("global_attn_every_n_layers")?
        .unwrap_or(3);
    let half = fields.count("local_attention")? / 2;
    let local = Reach {
        before: half,
        after: half,
    };
    let global_theta = rope_theta(
        fields,
        Some("full_attention"),
        "global_rope_theta",
        160_000.0,
    )?;
    let local_theta = rope_theta(
        fields,
        Some("sliding_attention"),
        "local_rope_theta",
        10_000.0,
    )?;
    let layers = (0..fields.num_layers(&["num_hidden_layers"])?)
        .map(
            |index| match layer_is_full(fields, index, index % every == 0)? {
                true => Ok(LayerConfig {
                    reach: Reach::ALL,
                    rope_theta: Some(global_theta),
                }),
                false => Ok(LayerConfig {
                    reach: local,
                    rope_theta: Some(local_theta),
                }),
            },
        )
        .collect::<Result<_>>()?;
    let eps = fields.optional_number("norm_eps")?;
    Ok(Config {
        model_type: "modernbert".to_owned(),
        vocab_size: fields.count("vocab_size")?,
        hidden_size,
        intermediate_size: fields.count("intermediate_size")?,
        num_attention_heads,
        num_key_value_heads: num_attention_heads,
        head_dim,
        max_positions: fields.count("max_position_embeddings")?,
        positions: Positions::None,
        embedding_scale: 1.0,
        token_types: false,
        embedding_norm: true,
        norm_kind: NormKind::Layer,
        norm_eps: eps.unwrap_or(1e-5),
        norm_plus_one: false,
        block: BlockKind::PreNorm,
        final_norm: true,
        activation: activation(fields, "hidden_activation")?,
        gated: true,
        attention_scale: inverse_root(head_dim),
        query_key_norm: false,
        relative_attention_num_buckets: None,
        rotary_dim: head_dim,
        rope_linear_factor: 1.0,
        decoder: DecoderConfig::default(),
        layers,
    })
}

/// The common part of Qwen 3 and Gemma 3: RMS norm, gated, grouped heads, norms of queries and keys.
pub(super) fn rms_decoder(
    fields: &Fields,
    model_type: &str,
    activation_name: &str,
) -> Result<Config> {
    let hidden_size = fields.count("hidden_size")?;
    let num_attention_heads = fields.count("num_attention_heads")?;
    let head_dim = match fields.optional_count("head_dim")? {
        Some(head_dim) => head_dim,
        None => head_dim(hidden_size, num_attention_heads)?,
    };
    let num_key_value_heads = fields
        .optional_count("num_key_value_heads")?
        .unwrap_or(num_attention_heads);
    if !num_attention_heads.is_multiple_of(num_key_value_heads) {
        let expected = format!("a divisor of `num_attention_heads` {num_attention_heads}");
        let came = num_key_value_heads.to_string();
        return Err(Error::unsupported("num_key_value_heads", came, expected));
    }
    Ok(Config {
        model_type: model_type.to_owned(),
        vocab_size: fields.count("vocab_size")?,
        hidden_size,
        intermediate_size: fields.count("intermediate_size")?,
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        max_positions: fields.count("max_position_embeddings")?,
        positions: Positions::None,
        embedding_scale: 1.0,
        token_types: false,
        embedding_norm: false,
        norm_kind: NormKind::Rms,
        norm_eps: fields.optional_number("rms_norm_eps")?.unwrap_or(1e-6),
        norm_plus_one: false,
        block: BlockKind::PreNorm,
        final_norm: true,
        activation: activation(fields, activation_name)?,
        gated: true,
        attention_scale: inverse_root(head_dim),
        query_key_norm: true,
        relative_attention_num_buckets: None,
        rotary_dim: head_dim,
        rope_linear_factor: 1.0,
        decoder: DecoderConfig::default(),
        layers: Vec::new(),
    })
}

/// Every key up to the query itself.
pub(super) const CAUSAL: Reach = Reach {
    before: usize::MAX,
    after: 0,
};

fn qwen3(fields: &Fields) -> Result<Config> {
    fields.must_be("use_sliding_window", &json!(false))?;
    let mut config = rms_decoder(fields, "qwen3", "hidden_act")?;
    let rope_theta = rope_theta(fields, None, "rope_theta", 1_000_000.0)?;
    let layer = LayerConfig {
        reach: CAUSAL,
        rope_theta: Some(rope_theta),
    };
    config.layers = vec![layer; fields.num_layers(&["num_hidden_layers"])?];
    Ok(config)
}

fn gemma3(fields: &Fields) -> Result<Config> {
    for name in ["attn_logit_softcapping", "final_logit_softcapping"] {
        if let Some(value) = fields.get(name) {
            return Err(Error::unsupported(name, value.to_string(), "`null`"));
        }
    }
    let mut config = rms_decoder(fields, "gemma3_text", "hidden_activation")?;
    config.norm_plus_one = true;
    config.block = BlockKind::Sandwich;
    #[expect(clippy::cast_precision_loss, reason = "a model's width")]
    let root = (config.hidden_size as f32).sqrt();
    config.embedding_scale = root;
    let scalar = fields.optional_number("query_pre_attn_scalar")?;
    config.attention_scale = scalar.map_or(config.attention_scale, |scalar| 1.0 / scalar.sqrt());
    let both_ways = fields.flag("use_bidirectional_attention", false)?;
    let window = fields.count("sliding_window")?;
    let (full, sliding) = if both_ways {
        // The window is shared between both sides: |q − k| < window / 2 + 1.
        (
            Reach::ALL,
            Reach {
                before: window / 2,
                after: window / 2,
            },
        )
    } else {
        (
            CAUSAL,
            Reach {
                before: window - 1,
                after: 0,
            },
        )
    };
    let full_theta = rope_theta(fields, Some("full_attention"), "rope_theta", 1_000_000.0)?;
    let local_theta = rope_theta(
        fields,
        Some("sliding_attention"),
        "rope_local_base_freq",
        10_000.0,
    )?;
    let pattern = fields
        .optional_count("sliding_window_pattern")?
        .or(fields.optional_count("_sliding_window_pattern")?)
        .unwrap_or(6);
    config.layers = (0..fields.num_layers(&["num_hidden_layers"])?)
        .map(
            |index| match layer_is_full(fields, index, (index + 1) % pattern == 0)? {
                true => Ok(LayerConfig {
                    reach: full,
                    rope_theta: Some(full_theta),
                }),
                false => Ok(LayerConfig {
                    reach: sliding,
                    rope_theta: Some(local_theta),
                }),
            },
        )
        .collect::<Result<_>>()?;
    Ok(config)
}

fn clip_text(fields: &Fields) -> Result<Config> {
    let config = post_norm(fields, "clip_text_model", &USUAL)?;
    let layer = LayerConfig {
        reach: CAUSAL,
        rope_theta: None,
    };
    Ok(Config {
        token_types: false,
        embedding_norm: false,
        norm_eps: fields.optional_number("layer_norm_eps")?.unwrap_or(1e-5),
        block: BlockKind::PreNorm,
        final_norm: true,
        layers: vec![layer; config.layers.len()],
        ..config
    })
}

/// Whether layer `index` sees every key: `layer_types` if present, else `default`.
fn layer_is_full(fields: &Fields, index: usize, default: bool) -> Result<bool> {
    let Some(types) = fields.get("layer_types") else {
        return Ok(default);
    };
    match types.get(index).and_then(serde_json::Value::as_str) {
        Some("full_attention") => Ok(true),
        Some("sliding_attention") => Ok(false),
        other => Err(Error::unsupported(
            format!("layer_types[{index}]"),
            other.unwrap_or("absent"),
            "`full_attention` or `sliding_attention`",
        )),
    }
}

/// The rotary base: transformers 5 has it in `rope_parameters`, by kind of layer if there are two
/// kinds; transformers 4 under `old_name`. Scaled rotations are refused.
fn rope_theta(fields: &Fields, kind: Option<&str>, old_name: &str, default: f32) -> Result<f32> {
    if let Some(scaling) = fields.object("rope_scaling") {
        let name = scaling
            .text("rope_type")
            .or(scaling.text("type"))
            .unwrap_or("unnamed");
        if name != "default" {
            return Err(Error::unsupported("rope_scaling", name, "`null`"));
        }
    }
    let Some(parameters) = fields.object("rope_parameters") else {
        return Ok(fields.optional_number(old_name)?.unwrap_or(default));
    };
    let parameters = kind
        .and_then(|kind| parameters.object(kind))
        .unwrap_or(parameters);
    let rope_type = parameters.text("rope_type").unwrap_or("default");
    if rope_type != "default" {
        return Err(Error::unsupported(
            "rope_parameters.rope_type",
            rope_type,
            "`default`",
        ));
    }
    Ok(parameters.optional_number("rope_theta")?.unwrap_or(default))
}
