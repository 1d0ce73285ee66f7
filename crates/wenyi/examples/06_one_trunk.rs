//! One model in memory, read in two ways: it talks, and it gives vectors.
//!
//! `cargo run --release -p wenyi --example 06_one_trunk`

#![expect(clippy::print_stdout, reason = "an example shows what it found")]

use std::error::Error;

use wenyi::chat::{
    ChatModel, ChatOptions, ChatRequest, DEFAULT_CHAT_MODEL, DecoderOptions, LocalChatModel,
};
use wenyi::embed::Embedder;
use wenyi::hub::Hub;
use wenyi::progress::Silent;

fn main() -> Result<(), Box<dyn Error>> {
    let model = Hub::from_env()?.resolve(DEFAULT_CHAT_MODEL, &Silent)?;
    let before = resident_mib();
    let chat = LocalChatModel::open(&model.path, &model.id, &DecoderOptions::default())?;
    let loaded = resident_mib();

    // No file of the model says how its states become a vector: the last token's is taken.
    let embedder = chat.embedder(None)?;
    assert!(chat.decoder().shares_weights(embedder.encoder()));
    let vectors = embedder.embed_documents(&["A cat sleeps on the sofa.", "The train is late."])?;
    let both = resident_mib();
    println!("{} numbers a text", vectors[0].len());

    let options = ChatOptions {
        temperature: Some(0.0),
        max_tokens: Some(12),
        ..ChatOptions::default()
    };
    let question = ChatRequest::ask("What is the capital of France?").with_options(options);
    println!("{}", chat.invoke(&question)?.text());

    // Mapped files count here, too, so this says as much on any machine.
    if let (Some(before), Some(loaded), Some(both)) = (before, loaded, both) {
        println!("memory: {before:.0} MiB, {loaded:.0} with the model, {both:.0} after embedding");
        assert!(
            both - loaded < (loaded - before) / 2.0,
            "the weights were loaded twice"
        );
    }
    Ok(())
}

/// Memory of this process, where the system tells it.
fn resident_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
