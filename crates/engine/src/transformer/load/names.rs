//! What each family calls its tensors.

use super::parts::Part;

/// Names of a family, without the checkpoint's prefix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    /// Prefixes that checkpoints of the family are seen with.
    pub(super) prefixes: &'static [&'static str],
    /// Full name, with `.weight`.
    pub(super) token_embeddings: &'static str,
    /// Full name.
    pub(super) position_embeddings: Option<&'static str>,
    /// Full name.
    pub(super) token_type_embeddings: Option<&'static str>,
    pub(super) embedding_norm: Option<&'static str>,
    pub(super) layer: LayerNames,
    pub(super) final_norm: Option<&'static str>,
    /// Full name.
    pub(super) relative_bias: Option<&'static str>,
}

/// Names inside a layer; all without `.weight`.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerNames {
    /// What comes before them, `{}` for the layer's index.
    pub(super) stem: &'static str,
    pub(super) attention_norm: Option<&'static str>,
    pub(super) first_attention_norm_is_absent: bool,
    pub(super) query_key_value: Fused<3>,
    pub(super) query_norm: Option<&'static str>,
    pub(super) key_norm: Option<&'static str>,
    pub(super) output: &'static str,
    pub(super) post_attention_norm: Option<&'static str>,
    pub(super) feed_forward_norm: Option<&'static str>,
    /// Gate (what the activation is applied to) and up, for gated families.
    pub(super) gate: Option<Fused<2>>,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    pub(super) post_feed_forward_norm: Option<&'static str>,
    /// Weights are stored `[in, out]` (GPT-2).
    pub(super) transposed: bool,
    /// Experts and latent projections have llama.cpp's names, the experts of a layer in one tensor.
    pub(super) experts_together: bool,
}

/// `N` layers over one input: tensors of their own, or slices of one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fused<const N: usize> {
    Apart([&'static str; N]),
    Together(&'static str),
}

impl<const N: usize> Fused<N> {
    /// The parts, given the full name of a layer's tensor and the rows of each part.
    pub(super) fn parts(
        self,
        full: &dyn Fn(&str) -> String,
        rows: [usize; N],
    ) -> Vec<Part<'static>> {
        match self {
            Self::Apart(names) => names
                .into_iter()
                .zip(rows)
                .map(|(name, rows)| Part::whole(full(name), rows))
                .collect(),
            Self::Together(name) => {
                let of = rows.iter().sum();
                let mut first = 0;
                rows.map(|rows| {
                    first += rows;
                    Part::slice(full(name), first - rows..first, of)
                })
                .into()
            }
        }
    }
}

/// BERT, and with other prefixes RoBERTa and XLM-RoBERTa.
pub(super) const BERT: Names = Names {
    prefixes: &[
        "",
        "bert.",
        "roberta.",
        "xlm-roberta.",
        "model.",
        "encoder.",
    ],
    token_embeddings: "embeddings.word_embeddings.weight",
    position_embeddings: Some("embeddings.position_embeddings.weight"),
    token_type_embeddings: Some("embeddings.token_type_embeddings.weight"),
    embedding_norm: Some("embeddings.LayerNorm"),
    layer: LayerNames {
        stem: "encoder.layer.{}.",
        attention_norm: None,
        first_attention_norm_is_absent: false,
        query_key_value: Fused::Apart([
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
        ]),
        query_norm: None,
        key_norm: None,
        output: "attention.output.dense",
        post_attention_norm: Some("attention.output.LayerNorm"),
        feed_forward_norm: None,
        gate: None,
        up: "intermediate.dense",
        down: "output.dense",
        post_feed_forward_norm: Some("output.LayerNorm"),
        transposed: false,
        experts_together: false,
    },
    final_norm: None,
    relative_bias: None,
};

pub(super) const DISTILBERT: Names = Names {
    prefixes: &["", "distilbert."],
    token_type_embeddings: None,
    layer: LayerNames {
        stem: "transformer.layer.{}.",
        query_key_value: Fused::Apart(["attention.q_lin", "attention.k_lin", "attention.v_lin"]),
        output: "attention.out_lin",
        post_attention_norm: Some("sa_layer_norm"),
        up: "ffn.lin1",
        down: "ffn.lin2",
        post_feed_forward_norm: Some("output_layer_norm"),
        ..BERT.layer
    },
    ..BERT
};

pub(super) const MPNET: Names = Names {
    prefixes: &["", "mpnet."],
    token_type_embeddings: None,
    relative_bias: Some("encoder.relative_attention_bias.weight"),
    layer: LayerNames {
        query_key_value: Fused::Apart(["attention.attn.q", "attention.attn.k", "attention.attn.v"]),
        output: "attention.attn.o",
        post_attention_norm: Some("attention.LayerNorm"),
        ..BERT.layer
    },
    ..BERT
};

pub(super) const NOMIC_BERT: Names = Names {
    prefixes: &["", "bert.", "model."],
    position_embeddings: None,
    embedding_norm: Some("emb_ln"),
    layer: LayerNames {
        stem: "encoder.layers.{}.",
        query_key_value: Fused::Together("attn.Wqkv"),
        output: "attn.out_proj",
        post_attention_norm: Some("norm1"),
        gate: Some(Fused::Apart(["mlp.fc12", "mlp.fc11"])),
        down: "mlp.fc2",
        post_feed_forward_norm: Some("norm2"),
        ..BERT.layer
    },
    ..BERT
};

pub(super) const MODERNBERT: Names = Names {
    prefixes: &["", "model."],
    token_embeddings: "embeddings.tok_embeddings.weight",
    position_embeddings: None,
    token_type_embeddings: None,
    embedding_norm: Some("embeddings.norm"),
    layer: LayerNames {
        stem: "layers.{}.",
        attention_norm: Some("attn_norm"),
        first_attention_norm_is_absent: true,
        query_key_value: Fused::Together("attn.Wqkv"),
        output: "attn.Wo",
        post_attention_norm: None,
        feed_forward_norm: Some("mlp_norm"),
        gate: Some(Fused::Together("mlp.Wi")),
        down: "mlp.Wo",
        post_feed_forward_norm: None,
        ..BERT.layer
    },
    final_norm: Some("final_norm"),
    relative_bias: None,
};

pub(super) const QWEN3: Names = Names {
    prefixes: &["", "model."],
    token_embeddings: "embed_tokens.weight",
    position_embeddings: None,
    token_type_embeddings: None,
    embedding_norm: None,
    layer: LayerNames {
        stem: "layers.{}.",
        attention_norm: Some("input_layernorm"),
        first_attention_norm_is_absent: false,
        query_key_value: Fused::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        query_norm: Some("self_attn.q_norm"),
        key_norm: Some("self_attn.k_norm"),
        output: "self_attn.o_proj",
        post_attention_norm: None,
        feed_forward_norm: Some("post_attention_layernorm"),
        gate: Some(Fused::Apart(["mlp.gate_proj", "mlp.up_proj"])),
        up: "mlp.up_proj",
        down: "mlp.down_proj",
        post_feed_forward_norm: None,
        transposed: false,
        experts_together: false,
    },
    final_norm: Some("norm"),
    relative_bias: None,
};

pub(super) const GEMMA3: Names = Names {
    layer: LayerNames {
        post_attention_norm: Some("post_attention_layernorm"),
        feed_forward_norm: Some("pre_feedforward_layernorm"),
        post_feed_forward_norm: Some("post_feedforward_layernorm"),
        ..QWEN3.layer
    },
    ..QWEN3
};

pub(super) const CLIP_TEXT: Names = Names {
    prefixes: &["text_model.", "", "model.text_model."],
    token_embeddings: "embeddings.token_embedding.weight",
    position_embeddings: Some("embeddings.position_embedding.weight"),
    token_type_embeddings: None,
    embedding_norm: None,
    layer: LayerNames {
        stem: "encoder.layers.{}.",
        attention_norm: Some("layer_norm1"),
        query_norm: None,
        key_norm: None,
        output: "self_attn.out_proj",
        feed_forward_norm: Some("layer_norm2"),
        gate: None,
        up: "mlp.fc1",
        down: "mlp.fc2",
        ..QWEN3.layer
    },
    final_norm: Some("final_layer_norm"),
    relative_bias: None,
};

/// llama.cpp's names for the BERT family (`bert`, `nomic-bert`).
pub(super) const GGUF_BERT: Names = Names {
    prefixes: &[""],
    token_embeddings: "token_embd.weight",
    position_embeddings: Some("position_embd.weight"),
    token_type_embeddings: Some("token_types.weight"),
    embedding_norm: Some("token_embd_norm"),
    layer: LayerNames {
        stem: "blk.{}.",
        query_key_value: Fused::Apart(["attn_q", "attn_k", "attn_v"]),
        output: "attn_output",
        post_attention_norm: Some("attn_output_norm"),
        up: "ffn_up",
        down: "ffn_down",
        post_feed_forward_norm: Some("layer_output_norm"),
        ..BERT.layer
    },
    final_norm: None,
    relative_bias: None,
};

pub(super) const GGUF_NOMIC_BERT: Names = Names {
    position_embeddings: None,
    layer: LayerNames {
        query_key_value: Fused::Together("attn_qkv"),
        gate: Some(Fused::Apart(["ffn_gate", "ffn_up"])),
        ..GGUF_BERT.layer
    },
    ..GGUF_BERT
};

pub(super) const GGUF_QWEN3: Names = Names {
    prefixes: &[""],
    token_embeddings: "token_embd.weight",
    layer: LayerNames {
        stem: "blk.{}.",
        attention_norm: Some("attn_norm"),
        query_key_value: Fused::Apart(["attn_q", "attn_k", "attn_v"]),
        query_norm: Some("attn_q_norm"),
        key_norm: Some("attn_k_norm"),
        output: "attn_output",
        feed_forward_norm: Some("ffn_norm"),
        gate: Some(Fused::Apart(["ffn_gate", "ffn_up"])),
        up: "ffn_up",
        down: "ffn_down",
        experts_together: true,
        ..QWEN3.layer
    },
    final_norm: Some("output_norm"),
    ..QWEN3
};

pub(super) const GGUF_GPT2: Names = Names {
    position_embeddings: Some("position_embd.weight"),
    layer: LayerNames {
        query_key_value: Fused::Together("attn_qkv"),
        gate: None,
        ..GGUF_QWEN3.layer
    },
    ..GGUF_QWEN3
};

pub(super) const PHI3: Names = Names {
    layer: LayerNames {
        query_key_value: Fused::Together("self_attn.qkv_proj"),
        gate: Some(Fused::Together("mlp.gate_up_proj")),
        ..QWEN3.layer
    },
    ..QWEN3
};

pub(super) const GPT2: Names = Names {
    prefixes: &["transformer.", "", "model."],
    token_embeddings: "wte.weight",
    position_embeddings: Some("wpe.weight"),
    layer: LayerNames {
        stem: "h.{}.",
        attention_norm: Some("ln_1"),
        query_key_value: Fused::Together("attn.c_attn"),
        output: "attn.c_proj",
        feed_forward_norm: Some("ln_2"),
        gate: None,
        up: "mlp.c_fc",
        down: "mlp.c_proj",
        transposed: true,
        ..QWEN3.layer
    },
    final_norm: Some("ln_f"),
    ..QWEN3
};

pub(super) const GGUF_GEMMA3: Names = Names {
    layer: LayerNames {
        post_attention_norm: Some("post_attention_norm"),
        post_feed_forward_norm: Some("post_ffw_norm"),
        ..GGUF_QWEN3.layer
    },
    ..GGUF_QWEN3
};

pub(super) const GGUF_PHI3: Names = Names {
    layer: LayerNames {
        query_key_value: Fused::Together("attn_qkv"),
        gate: Some(Fused::Together("ffn_up")),
        ..GGUF_QWEN3.layer
    },
    ..GGUF_QWEN3
};
