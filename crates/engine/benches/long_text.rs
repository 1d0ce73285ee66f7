//! How long one long text takes through an encoder, all threads on it.
//!
//! `cargo bench -p wenyi-engine --bench long_text -- [LENGTH…]`: a ModernBERT of 6 layers, 384 wide, 6 heads,
//! with random weights, first with ModernBERT's own attention (one layer of three sees the whole
//! text, the others 64 tokens to each side), then with every layer seeing all of it. Medians.
#![expect(clippy::print_stdout, reason = "a bench reports to the terminal")]

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::{Map, Value, json};
use wenyi_engine::Isa;
use wenyi_engine::encoder::{EmbedOptions, Encoder, EncoderOptions, Precision};

const WIDTH: usize = 384;
const INNER: usize = 576;
const LAYERS: usize = 6;
const ROUNDS: usize = 15;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), AnyError> {
    // Cargo adds `--bench`.
    let mut lengths = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .map(|argument| argument.parse())
        .collect::<Result<Vec<usize>, _>>()?;
    if lengths.is_empty() {
        lengths = vec![512, 2048, 4096, 8192];
    }
    let mut precisions = vec![Precision::F32, Precision::Int8];
    if Isa::current()?.has_fast_16_bit() {
        precisions.push(Precision::Bf16);
    }
    for every in [3, 1] {
        let folder = tempfile::tempdir()?;
        write_model(folder.path(), every)?;
        println!("layers that see the whole text: one in {every}");
        for &precision in &precisions {
            let options = EncoderOptions {
                precision: Some(precision),
                ..EncoderOptions::default()
            };
            let encoder = Encoder::open(folder.path(), &options)?;
            for &length in &lengths {
                let milliseconds = median(&encoder, length)?;
                let rate = length as f64 / milliseconds * 1e3;
                println!(
                    "{precision:>6?} {length:>6} tokens {milliseconds:>9.1} ms {rate:>9.0} tokens/s"
                );
            }
        }
    }
    Ok(())
}

/// Milliseconds for one text of `length` tokens.
fn median(encoder: &Encoder, length: usize) -> Result<f64, AnyError> {
    let text = "a ".repeat(length);
    let mut cut = text.as_str();
    // One token more than a word or less, as the vocabulary has it: cut to the length by counting.
    while encoder.count_tokens(cut)? > length {
        cut = &cut[..cut.len() - 2];
    }
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        encoder.embed(&[cut], &EmbedOptions::default())?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[ROUNDS / 2])
}

/// The tiny ModernBERT of the tests, made wide, its weights random.
fn write_model(folder: &Path, every: usize) -> Result<(), AnyError> {
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
