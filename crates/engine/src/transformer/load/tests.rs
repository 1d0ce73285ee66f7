//! Descriptions that ask for more memory than any machine has, by one number.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Source;
use crate::Error;
use crate::weights::gguf::Writer;
use crate::weights::{Dtype, Weights};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// What is said of the fixture whose `config.json` has `value` under `field`.
fn refused(name: &str, field: &str, value: u64) -> Error {
    let scratch = tempfile::tempdir().unwrap();
    let text = std::fs::read(fixture(name).join("config.json")).unwrap();
    let mut fields: Value = serde_json::from_slice(&text).unwrap();
    fields[field] = value.into();
    std::fs::write(scratch.path().join("config.json"), fields.to_string()).unwrap();
    let weights = Weights::open(&fixture(name)).unwrap();
    Source::open(scratch.path(), weights.into()).unwrap_err()
}

#[test]
fn more_layers_than_tensors_are_refused_by_the_fields_name() {
    for (name, field) in [
        ("bert", "num_hidden_layers"),
        ("distilbert", "n_layers"),
        ("mpnet", "num_hidden_layers"),
        ("modernbert", "num_hidden_layers"),
        ("nomic_bert", "num_hidden_layers"),
        ("clip_text", "num_hidden_layers"),
        ("qwen3_embedding", "num_hidden_layers"),
        ("embeddinggemma", "num_hidden_layers"),
        ("decoders/llama", "num_hidden_layers"),
        ("decoders/phi3", "num_hidden_layers"),
        ("decoders/gpt2", "n_layer"),
        ("decoders/qwen3_moe", "num_hidden_layers"),
        ("decoders/deepseek_v3", "num_hidden_layers"),
    ] {
        let error = refused(name, field, 1_000_000_000);
        let message = error.to_string();
        let expected = format!("`{field}` is 1000000000, expected at most ");
        assert!(message.contains(&expected), "{name}: {message}");
        assert!(error.is_user_error(), "{name}");
    }
}

#[test]
fn a_head_wider_than_any_tensor_is_refused() {
    let message = refused("decoders/qwen3", "head_dim", 4_000_000_000).to_string();
    assert!(message.contains("`head_dim` is `4000000000`"), "{message}");
}

#[test]
fn more_blocks_than_tensors_are_refused_in_gguf_files_too() {
    let mut writer = Writer::new();
    writer.str("general.architecture", "llama");
    for (key, value) in [
        ("block_count", u32::MAX),
        ("embedding_length", 8),
        ("feed_forward_length", 8),
        ("attention.head_count", 2),
        ("context_length", 16),
    ] {
        writer.u32(&format!("llama.{key}"), value);
    }
    let name = "token_embd.weight";
    writer.tensor(name, Dtype::F32, &[4, 8]).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("model.gguf");
    let mut out = writer.begin(std::fs::File::create(&path).unwrap()).unwrap();
    out.next(name).unwrap();
    out.write(&[0; 4 * 4 * 8]).unwrap();
    out.finish().unwrap();
    let weights = Weights::open(&path).unwrap();
    let error = Source::open(Path::new("."), weights.into()).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("`llama.block_count` is `4294967295`, expected at most 1,"),
        "{message}"
    );
}
