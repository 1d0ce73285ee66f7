//! The tiny ModernBERT of the fixtures, made as wide as a real model, its weights random.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

const WIDTH: usize = 384;
const INNER: usize = 576;
const LAYERS: usize = 6;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Writes the model to `folder`; of `every` so many layers one sees the whole text.
pub(crate) fn write(folder: &Path, every: usize) -> Result<(), AnyError> {
    let fixture = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/modernbert"
    ));
    for name in ["tokenizer.json", "tokenizer_config.json", "modules.json"] {
        fs::copy(fixture.join(name), folder.join(name))?;
    }
    for name in ["1_Pooling", "2_Normalize"] {
        fs::create_dir(folder.join(name))?;
        let config = fixture.join(name).join("config.json");
        if config.exists() {
            fs::copy(config, folder.join(name).join("config.json"))?;
        }
    }
    let limit = json!({ "max_seq_length": 8192, "do_lower_case": false });
    fs::write(folder.join("sentence_bert_config.json"), limit.to_string())?;
    let mut config: Map<String, Value> =
        serde_json::from_slice(&fs::read(fixture.join("config.json"))?)?;
    for (key, value) in [
        ("hidden_size", WIDTH),
        ("intermediate_size", INNER),
        ("num_attention_heads", 6),
        ("num_hidden_layers", LAYERS),
        ("global_attn_every_n_layers", every),
        ("local_attention", 128),
        ("max_position_embeddings", 8192),
    ] {
        config.insert(key.to_owned(), value.into());
    }
    let vocab_size = config["vocab_size"].as_u64().ok_or("no vocab_size")?;
    fs::write(folder.join("config.json"), serde_json::to_vec(&config)?)?;
    fs::write(
        folder.join("model.safetensors"),
        random_weights(usize::try_from(vocab_size)?)?,
    )?;
    Ok(())
}

/// A safetensors file of the right shapes.
fn random_weights(vocab_size: usize) -> Result<Vec<u8>, AnyError> {
    let mut shapes = vec![
        (
            "embeddings.tok_embeddings".to_owned(),
            vec![vocab_size, WIDTH],
        ),
        ("embeddings.norm".to_owned(), vec![WIDTH]),
        ("final_norm".to_owned(), vec![WIDTH]),
    ];
    for layer in 0..LAYERS {
        let mut add = |name: &str, shape: &[usize]| {
            shapes.push((format!("layers.{layer}.{name}"), shape.to_vec()));
        };
        // The first layer's input is normalised already.
        if layer > 0 {
            add("attn_norm", &[WIDTH]);
        }
        add("attn.Wqkv", &[3 * WIDTH, WIDTH]);
        add("attn.Wo", &[WIDTH, WIDTH]);
        add("mlp_norm", &[WIDTH]);
        add("mlp.Wi", &[2 * INNER, WIDTH]);
        add("mlp.Wo", &[WIDTH, INNER]);
    }
    let (mut header, mut data) = (Map::new(), Vec::new());
    let mut state = 1_u32;
    for (name, shape) in shapes {
        let start = data.len();
        for _ in 0..shape.iter().product::<usize>() {
            // A linear congruence; norms are left about 1, matrices about 0.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 8) as f32 / (1 << 24) as f32 - 0.5;
            let value = if shape.len() == 1 { 1.0 } else { 0.1 * noise };
            data.extend_from_slice(&value.to_le_bytes());
        }
        header.insert(
            format!("{name}.weight"),
            json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] }),
        );
    }
    let header = serde_json::to_vec(&header)?;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    Ok(file)
}
