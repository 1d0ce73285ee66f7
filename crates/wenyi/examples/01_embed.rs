//! Texts to vectors: which sentences mean the same, in whatever language?
//!
//! `cargo run --release -p wenyi --example 01_embed`

#![expect(clippy::print_stdout, reason = "an example shows what it found")]

use std::error::Error;

use wenyi::embed::{EmbedOptions, Embedder, EncoderOptions, LocalEmbedder};
use wenyi::hub::{DEFAULT_MODEL, Hub};
use wenyi::progress::Silent;

fn main() -> Result<(), Box<dyn Error>> {
    // The model's files, fetched on the first run; then the model itself.
    let model = Hub::from_env()?.resolve(DEFAULT_MODEL, &Silent)?;
    let embedder = LocalEmbedder::open(&model.path, &EncoderOptions::default())?;

    let texts = [
        "A cat sleeps on the sofa.",
        "沙发上睡着一只猫。",
        "The train is late again.",
    ];
    let vectors = embedder.embed(&texts, &EmbedOptions::default())?;

    // Vectors have length 1, so the dot product is the cosine: greater is closer.
    let closeness = |a: usize, b: usize| -> f32 {
        let pairs = vectors.vector(a).iter().zip(vectors.vector(b));
        pairs.map(|(x, y)| x * y).sum()
    };
    println!("{} numbers a text", vectors.dimensions);
    println!("{:.3}  {} | {}", closeness(0, 1), texts[0], texts[1]);
    println!("{:.3}  {} | {}", closeness(0, 2), texts[0], texts[2]);
    assert!(
        closeness(0, 1) > closeness(0, 2),
        "the cats belong together"
    );
    Ok(())
}
