//! Fixture models rewritten as llama.cpp's converter names and arranges them, against the outputs of
//! the originals.

use std::path::Path;

use serde_json::Value;

use super::tests::{expected, floats, folder, ids, largest_difference, logits_of, open};
use crate::weights::gguf::Writer;
use crate::weights::{Dtype, Weights};

/// A tensor of the new file.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// What becomes of a fixture's tensors and settings.
struct Conversion {
    fixture: &'static str,
    architecture: &'static str,
    tensors: Vec<Tensor>,
    config: Value,
}

impl Conversion {
    /// The fixture's tensors by `rename`, which is given the layer's prefix and the rest of a name.
    fn of(fixture: &'static str, architecture: &'static str) -> Self {
        let folder = folder(fixture);
        let weights = Weights::open(&folder).unwrap();
        let tensors = weights.tensors().map(|tensor| Tensor {
            name: renamed(tensor.name),
            shape: tensor.shape.to_vec(),
            values: tensor.to_f32().unwrap(),
        });
        let config = std::fs::read(folder.join("config.json")).unwrap();
        Self {
            fixture,
            architecture,
            tensors: tensors.collect(),
            config: serde_json::from_slice(&config).unwrap(),
        }
    }

    fn number(&self, key: &str) -> usize {
        self.config[key].as_u64().unwrap() as usize
    }

    /// Experts of a layer in one tensor.
    fn stack_experts(&mut self) {
        let layers = self.number("num_hidden_layers");
        for (layer, kind) in
            (0..layers).flat_map(|layer| ["gate", "up", "down"].map(|kind| (layer, kind)))
        {
            let name = |tensor: &Tensor, index: usize| {
                tensor.name == format!("blk.{layer}.mlp.experts.{index}.{kind}_proj.weight")
            };
            let mut stacked = Tensor {
                name: format!("blk.{layer}.ffn_{kind}_exps.weight"),
                shape: Vec::new(),
                values: Vec::new(),
            };
            for index in 0.. {
                let found = self.tensors.iter().position(|tensor| name(tensor, index));
                let Some(found) = found else { break };
                let one = self.tensors.remove(found);
                stacked.shape = [&[index + 1][..], &one.shape].concat();
                stacked.values.extend(one.values);
            }
            if !stacked.values.is_empty() {
                self.tensors.push(stacked);
            }
        }
    }

    /// Rotated pairs of every head's queries and keys become neighbours.
    fn permute(&mut self) {
        for (name, heads) in [
            ("attn_q", "num_attention_heads"),
            ("attn_k", "num_key_value_heads"),
        ] {
            let heads = self.number(heads);
            let suffix = format!("{name}.weight");
            for tensor in &mut self.tensors {
                if !tensor.name.ends_with(&suffix) {
                    continue;
                }
                let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
                let half = rows / heads / 2;
                let from = |row: usize| {
                    let (head, within) = (row / (2 * half), row % (2 * half));
                    head * 2 * half + within % 2 * half + within / 2
                };
                let permuted =
                    (0..rows).flat_map(|row| &tensor.values[from(row) * columns..][..columns]);
                tensor.values = permuted.copied().collect();
            }
        }
    }

    /// `kv_b` apart: keys `[heads, rank, nope]`, values `[heads, value, rank]`.
    fn split_latent(&mut self) {
        let (heads, rank) = (
            self.number("num_attention_heads"),
            self.number("kv_lora_rank"),
        );
        let (nope, value) = (self.number("qk_nope_head_dim"), self.number("v_head_dim"));
        let whole = std::mem::take(&mut self.tensors);
        for tensor in whole {
            let Some(stem) = tensor.name.strip_suffix("attn_kv_b.weight") else {
                self.tensors.push(tensor);
                continue;
            };
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for head in tensor.values.chunks_exact((nope + value) * rank) {
                let (key, rest) = head.split_at(nope * rank);
                for input in 0..rank {
                    keys.extend(key.iter().skip(input).step_by(rank));
                }
                values.extend_from_slice(rest);
            }
            for (name, shape, values) in [
                ("attn_k_b.weight", vec![heads, rank, nope], keys),
                ("attn_v_b.weight", vec![heads, value, rank], values),
            ] {
                let name = format!("{stem}{name}");
                self.tensors.push(Tensor {
                    name,
                    shape,
                    values,
                });
            }
        }
    }

    fn metadata(&self) -> Writer {
        let mut writer = Writer::new();
        let arch = self.architecture;
        writer.str("general.architecture", arch);
        let counts = [
            ("num_hidden_layers", "block_count"),
            ("n_layer", "block_count"),
            ("max_position_embeddings", "context_length"),
            ("n_positions", "context_length"),
            ("hidden_size", "embedding_length"),
            ("n_embd", "embedding_length"),
            ("intermediate_size", "feed_forward_length"),
            ("num_attention_heads", "attention.head_count"),
            ("n_head", "attention.head_count"),
            ("num_key_value_heads", "attention.head_count_kv"),
            ("head_dim", "attention.key_length"),
            ("sliding_window", "attention.sliding_window"),
            ("num_experts", "expert_count"),
            ("n_routed_experts", "expert_count"),
            ("num_experts_per_tok", "expert_used_count"),
            ("moe_intermediate_size", "expert_feed_forward_length"),
            ("n_shared_experts", "expert_shared_count"),
            ("first_k_dense_replace", "leading_dense_block_count"),
            ("q_lora_rank", "attention.q_lora_rank"),
            ("kv_lora_rank", "attention.kv_lora_rank"),
            ("n_group", "expert_group_count"),
            ("topk_group", "expert_group_used_count"),
            (
                "original_max_position_embeddings",
                "rope.scaling.original_context_length",
            ),
        ];
        for (key, name) in counts {
            if let Some(count) = self.config[key].as_u64() {
                writer.u32(&format!("{arch}.{name}"), count as u32);
            }
        }
        let numbers = [
            ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
            ("layer_norm_epsilon", "attention.layer_norm_epsilon"),
            ("rope_theta", "rope.freq_base"),
            ("routed_scaling_factor", "expert_weights_scale"),
        ];
        for (key, name) in numbers {
            if let Some(number) = self.config[key].as_f64() {
                writer.f32(&format!("{arch}.{name}"), number as f32);
            }
        }
        if self.config["norm_topk_prob"] == true {
            writer.bool(&format!("{arch}.expert_weights_norm"), true);
        }
        let vocab = self.number("vocab_size");
        // The ids are given; a tokenizer must be there all the same.
        writer.str("tokenizer.ggml.model", "gpt2");
        writer.str("tokenizer.ggml.pre", "gpt-2");
        let tokens = (0..vocab).map(|id| format!("t{id}"));
        writer.strings("tokenizer.ggml.tokens", tokens);
        writer.strings("tokenizer.ggml.merges", Vec::<String>::new());
        writer
    }

    /// Writes the file and compares its logits with the fixture's.
    fn check(mut self, more: impl FnOnce(&Self, &mut Writer)) {
        let mut writer = self.metadata();
        more(&self, &mut writer);
        for tensor in &self.tensors {
            writer
                .tensor(&tensor.name, Dtype::F32, &tensor.shape)
                .unwrap();
        }
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("model.gguf");
        let mut out = writer.begin(std::fs::File::create(&path).unwrap()).unwrap();
        for tensor in std::mem::take(&mut self.tensors) {
            let bytes: Vec<u8> = tensor
                .values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            out.next(&tensor.name).unwrap();
            out.write(&bytes).unwrap();
        }
        out.finish().unwrap();
        self.compare(&path);
    }

    fn compare(&self, path: &Path) {
        let expected = expected(&folder(self.fixture));
        let decoder = open(path, 2);
        let tolerance = expected["tolerance"]["logits"].as_f64().unwrap() as f32;
        let mut compared = 0;
        for text in expected["texts"].as_array().unwrap() {
            if text["logits"].is_null() {
                continue;
            }
            let logits = logits_of(&decoder, &ids(&text["input_ids"]));
            let difference = largest_difference(&logits, &floats(&text["logits"]));
            let fixture = self.fixture;
            assert!(
                difference <= tolerance,
                "{fixture} {}: {difference}",
                text["id"]
            );
            compared += 1;
        }
        assert!(compared > 3, "{}", self.fixture);
    }
}

/// llama.cpp's name; experts keep theirs until they are stacked.
fn renamed(name: &str) -> String {
    const NAMES: [(&str, &str); 40] = [
        ("lm_head.", "output."),
        ("model.embed_tokens.", "token_embd."),
        ("model.norm.", "output_norm."),
        ("transformer.wte.", "token_embd."),
        ("transformer.wpe.", "position_embd."),
        ("transformer.ln_f.", "output_norm."),
        ("transformer.h.", "blk."),
        ("model.layers.", "blk."),
        ("attn.c_attn.", "attn_qkv."),
        ("attn.c_proj.", "attn_output."),
        ("ln_1.", "attn_norm."),
        ("ln_2.", "ffn_norm."),
        ("mlp.c_fc.", "ffn_up."),
        ("mlp.c_proj.", "ffn_down."),
        ("input_layernorm.", "attn_norm."),
        ("post_attention_layernorm.", "ffn_norm."),
        ("self_attn.qkv_proj.", "attn_qkv."),
        ("self_attn.q_proj.", "attn_q."),
        ("self_attn.k_proj.", "attn_k."),
        ("self_attn.v_proj.", "attn_v."),
        ("self_attn.o_proj.", "attn_output."),
        ("self_attn.q_norm.", "attn_q_norm."),
        ("self_attn.k_norm.", "attn_k_norm."),
        ("self_attn.q_a_proj.", "attn_q_a."),
        ("self_attn.q_a_layernorm.", "attn_q_a_norm."),
        ("self_attn.q_b_proj.", "attn_q_b."),
        ("self_attn.kv_a_proj_with_mqa.", "attn_kv_a_mqa."),
        ("self_attn.kv_a_layernorm.", "attn_kv_a_norm."),
        ("self_attn.kv_b_proj.", "attn_kv_b."),
        ("mlp.gate_up_proj.", "ffn_up."),
        ("mlp.gate.e_score_correction_bias", "exp_probs_b.bias"),
        ("mlp.gate.", "ffn_gate_inp."),
        ("mlp.shared_experts.gate_proj.", "ffn_gate_shexp."),
        ("mlp.shared_experts.up_proj.", "ffn_up_shexp."),
        ("mlp.shared_experts.down_proj.", "ffn_down_shexp."),
        (".mlp.gate_proj.", ".ffn_gate."),
        (".mlp.up_proj.", ".ffn_up."),
        (".mlp.down_proj.", ".ffn_down."),
        ("model.", ""),
        ("transformer.", ""),
    ];
    let mut name = name.to_owned();
    for (from, to) in NAMES {
        name = name.replace(from, to);
    }
    name
}

#[test]
fn gpt2_agrees() {
    let mut conversion = Conversion::of("gpt2", "gpt2");
    let width = conversion.number("n_embd");
    for tensor in &mut conversion.tensors {
        let is_product = [
            "attn_qkv.weight",
            "attn_output.weight",
            "ffn_up.weight",
            "ffn_down.weight",
        ];
        if !is_product.iter().any(|name| tensor.name.ends_with(name)) {
            continue;
        }
        let columns = tensor.shape[1];
        let turned =
            (0..columns).flat_map(|column| tensor.values.iter().skip(column).step_by(columns));
        tensor.values = turned.copied().collect();
        tensor.shape.reverse();
    }
    conversion.check(|_, writer| writer.u32("gpt2.feed_forward_length", 4 * width as u32));
}

#[test]
fn mistral_and_phi3_agree() {
    // Mistral's files say that they are Llamas.
    let mut mistral = Conversion::of("mistral", "llama");
    mistral.permute();
    mistral.check(|_, _| ());
    Conversion::of("phi3", "phi3").check(|_, _| ());
    let mut longrope = Conversion::of("phi3_longrope", "phi3");
    for (key, name) in [("short_factor", "short"), ("long_factor", "long")] {
        let values = floats(&longrope.config["rope_scaling"][key]);
        longrope.tensors.push(Tensor {
            name: format!("rope_factors_{name}.weight"),
            shape: vec![values.len()],
            values,
        });
    }
    longrope.check(|_, writer| {
        writer.u32("phi3.rope.dimension_count", 12);
        writer.f32(
            "phi3.rope.scaling.attn_factor",
            (1.0 + 4_f32.ln() / 96_f32.ln()).sqrt(),
        );
    });
}

#[test]
fn qwen3_moe_agrees() {
    let mut conversion = Conversion::of("qwen3_moe", "qwen3moe");
    conversion.stack_experts();
    conversion.check(|_, _| ());
}

/// Both ways in which files keep the up-projection of keys and values.
#[test]
fn deepseek_agrees() {
    for (fixture, gating) in [("deepseek_v2", 1), ("deepseek_v3", 2)] {
        for split in [false, true] {
            let mut conversion = Conversion::of(fixture, "deepseek2");
            conversion.stack_experts();
            if split {
                conversion.split_latent();
            }
            conversion.check(|conversion, writer| {
                let number = |key: &str| conversion.number(key) as u32;
                let key = number("qk_nope_head_dim") + number("qk_rope_head_dim");
                let [mla, plain] = if split { ["_mla", ""] } else { ["", "_unused"] };
                writer.u32(&format!("deepseek2.attention.key_length{mla}"), key);
                let value = number("v_head_dim");
                writer.u32(&format!("deepseek2.attention.value_length{mla}"), value);
                let rank = number("kv_lora_rank");
                let wide = rank + number("qk_rope_head_dim");
                writer.u32(&format!("deepseek2.attention.key_length{plain}"), wide);
                writer.u32(&format!("deepseek2.attention.value_length{plain}"), rank);
                writer.u32("deepseek2.rope.dimension_count", number("qk_rope_head_dim"));
                writer.u32("deepseek2.expert_gating_func", gating);
                let scaling = &conversion.config["rope_scaling"];
                let scaled = |key: &str| scaling[key].as_f64().unwrap() as f32;
                writer.str("deepseek2.rope.scaling.type", "yarn");
                writer.f32("deepseek2.rope.scaling.factor", scaled("factor"));
                writer.u32("deepseek2.rope.scaling.original_context_length", 64);
                let multiplier = 0.1 * scaled("mscale_all_dim");
                writer.f32("deepseek2.rope.scaling.yarn_log_multiplier", multiplier);
            });
        }
    }
}
