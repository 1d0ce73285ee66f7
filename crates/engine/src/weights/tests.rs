use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use tempfile::TempDir;

use super::*;
use crate::ErrorKind;

mod damage;
mod files;
mod mutation;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A safetensors file with the header `json` and `data` behind it.
fn safetensors_file(json: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    bytes.extend(data);
    bytes
}

/// A GGUF file with values of every kind and two tensors.
fn gguf_file() -> Vec<u8> {
    let mut writer = gguf::Writer::new();
    writer.str("general.architecture", "bert");
    writer.str("general.name", "小模型");
    writer.u32("bert.block_count", 12);
    writer.f32("bert.attention.layer_norm_epsilon", 1e-12);
    writer.bool("bert.attention.causal", false);
    writer.strings("tokenizer.ggml.tokens", ["<s>", "▁文", ""]);
    writer.f32s("tokenizer.ggml.scores", [0.0, -1.5, -2.0]);
    writer.i32s("tokenizer.ggml.token_type", [3, 1, -1]);
    writer.bytes("tokenizer.ggml.precompiled_charsmap", &[1, 2, 255]);
    writer.tensor("a.weight", Dtype::F32, &[2, 3]).unwrap();
    writer.tensor("b.weight", Dtype::Q8_0, &[2, 32]).unwrap();
    let mut tensors = writer.begin(Vec::new()).unwrap();
    tensors.next("a.weight").unwrap();
    for number in 0..6 {
        tensors.write(&(number as f32).to_le_bytes()).unwrap();
    }
    tensors.next("b.weight").unwrap();
    for row in 0..2 {
        // 0x3c00 is 1.0 in half precision.
        tensors.write(&[0, 0x3c]).unwrap();
        tensors.write(&[row + 1; 32]).unwrap();
    }
    tensors.finish().unwrap()
}

/// The message and hint of an error that must be there.
#[track_caller]
fn message(result: Result<Weights>) -> String {
    let error = result.expect_err("must be refused");
    assert!(error.is_user_error(), "{error}");
    error.to_string()
}
