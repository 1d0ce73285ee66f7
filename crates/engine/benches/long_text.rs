//! How long one long text takes through an encoder, all threads on it.
//!
//! `cargo bench -p wenyi-engine --bench long_text -- [LENGTH…]`: a ModernBERT of 6 layers, 384 wide, 6 heads,
//! with random weights, first with ModernBERT's own attention (one layer of three sees the whole
//! text, the others 64 tokens to each side), then with every layer seeing all of it. Medians.
#![expect(clippy::print_stdout, reason = "a bench reports to the terminal")]

use std::time::Instant;

use wenyi_engine::Isa;
use wenyi_engine::encoder::{EmbedOptions, Encoder, EncoderOptions, Precision};

#[path = "../tests/random_model/mod.rs"]
mod random_model;

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
        random_model::write(folder.path(), every)?;
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
