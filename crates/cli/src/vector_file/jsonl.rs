//! JSON lines: one object a text, in input order.

use std::io::{self, Write};

use serde::Serialize;
use wenyi::embed::{Embeddings, TokenUsage};

/// One text with its vector, as programs read it; `--json` uses the same.
#[derive(Debug, Serialize)]
pub(crate) struct Row<'a> {
    index: u64,
    text: &'a str,
    /// Tokens of the whole text, special ones and prompt included.
    tokens: usize,
    /// Tokens that went through the model.
    tokens_kept: usize,
    /// Windows that an over-long text was split into.
    windows: usize,
    embedding: &'a [f32],
}

impl<'a> Row<'a> {
    /// The row of the text at `index` of the whole input.
    pub(crate) fn new(index: u64, text: &'a str, usage: TokenUsage, embedding: &'a [f32]) -> Self {
        let TokenUsage {
            seen,
            kept,
            windows,
        } = usage;
        Self {
            index,
            text,
            tokens: seen,
            tokens_kept: kept,
            windows,
            embedding,
        }
    }
}

/// Writes a batch whose first text is the `first`th of the input.
pub(super) fn write_rows(
    writer: &mut impl Write,
    first: u64,
    texts: &[String],
    vectors: &Embeddings,
) -> io::Result<()> {
    for (index, (text, (usage, vector))) in
        (first..).zip(texts.iter().zip(vectors.usage.iter().zip(vectors.iter())))
    {
        serde_json::to_writer(&mut *writer, &Row::new(index, text, *usage, vector))?;
        writer.write_all(b"\n")?;
    }
    Ok(())
}
