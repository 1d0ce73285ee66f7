//! Questions to documents: a collection in memory, asked in another language.
//!
//! `cargo run --release -p wenyi --example 02_search`

#![expect(clippy::print_stdout, reason = "an example shows what it found")]

use std::error::Error;

use wenyi::embed::{Embedder, EncoderOptions, LocalEmbedder};
use wenyi::hub::{DEFAULT_MODEL, Hub};
use wenyi::progress::Silent;
use wenyi::store::MemoryCollection;

fn main() -> Result<(), Box<dyn Error>> {
    let documents = [
        "Keys are rotated with `admin rotate`; the old key stays valid for one day.",
        "The backup runs every night at three and is kept for thirty days.",
        "The office is closed on public holidays.",
    ];

    let model = Hub::from_env()?.resolve(DEFAULT_MODEL, &Silent)?;
    let embedder = LocalEmbedder::open(&model.path, &EncoderOptions::default())?;
    let mut collection = MemoryCollection::new();
    collection.add_texts(&documents, &embedder.embed_documents(&documents)?)?;

    let question = "怎样更换密钥？";
    let hits = collection.search(&embedder.embed_query(question)?, 2)?;

    println!("{question}");
    for hit in &hits {
        println!("{:.3}  {}", hit.score, hit.text);
    }
    assert_eq!(hits[0].text, documents[0], "the question is about keys");
    Ok(())
}
