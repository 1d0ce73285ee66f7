//! What is embedded of a passage that a collection keeps, where only its headings and text are known.

use super::PATH_SEPARATOR;
use super::atoms::TokenCounter;
use crate::embed::{EmbedOptions, Embedder, Embeddings, Overflow, Role};
use crate::retrieve::Result;

/// The innermost titles that fit a quarter of the model and that the text does not show, then the
/// text: as [`super::Chunk::embedding_text`] has it for this model.
pub(in crate::retrieve) fn embedding_text(
    embedder: &dyn Embedder,
    heading_path: &[String],
    text: &str,
) -> Result<String> {
    let above = &heading_path[..heading_path.len() - num_shown(heading_path, text)];
    if above.is_empty() {
        return Ok(text.to_owned());
    }
    let counter = TokenCounter::new(embedder)?;
    for skipped in 0..above.len() {
        let context = above[skipped..].join(PATH_SEPARATOR);
        if counter.count(&context)? <= counter.limit / 4 {
            return Ok(format!("{context}\n{text}"));
        }
    }
    Ok(text.to_owned())
}

/// Whatever may have been embedded of the passage: with each stretch of the titles above it, and with
/// none. [`embedding_text`] is one of them; which titles a text shows can be mistaken where one of them
/// is a common word.
pub(in crate::retrieve) fn possible_embedding_texts(
    heading_path: &[String],
    text: &str,
) -> Vec<String> {
    let mut texts = vec![text.to_owned()];
    for first in 0..heading_path.len() {
        for last in first + 1..=heading_path.len() {
            let context = heading_path[first..last].join(PATH_SEPARATOR);
            texts.push(format!("{context}\n{text}"));
        }
    }
    texts
}

/// The vectors of passages that a collection keeps, as indexing made them; one that is too long for the
/// model counts whole (the mean of its parts).
pub(in crate::retrieve) fn embed(embedder: &dyn Embedder, texts: &[String]) -> Result<Embeddings> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let options = EmbedOptions {
        role: Role::Document,
        overflow: Overflow::SplitMean,
        ..EmbedOptions::default()
    };
    Ok(embedder.embed(&texts, &options)?)
}

/// All titles that the text does not show, then the text: for a model that reads much more than an
/// embedder.
pub(in crate::retrieve) fn text_below_titles(heading_path: &[String], text: &str) -> String {
    match &heading_path[..heading_path.len() - num_shown(heading_path, text)] {
        [] => text.to_owned(),
        above => format!("{}\n{text}", above.join(PATH_SEPARATOR)),
    }
}

/// How many of the innermost titles the text shows: a section's first passage begins with one.
fn num_shown(heading_path: &[String], text: &str) -> usize {
    let first_line = text.lines().next().unwrap_or_default();
    let first = heading_path
        .iter()
        .position(|title| !title.is_empty() && first_line.contains(title.as_str()));
    first.map_or(0, |first| heading_path.len() - first)
}

#[cfg(test)]
mod tests {
    use super::super::{Chunk, ChunkOptions, chunk};
    use super::*;
    use crate::retrieve::bag_of_words::BagOfWords;
    use crate::retrieve::load::{Document, Kind};

    #[test]
    fn a_kept_passage_is_embedded_as_a_new_one() {
        let text = "# Guide\n\nIntro.\n\n## Install\n### Linux\nUse pip. It is quick. It is small.\n\n\
                    Or\n--\n\nType `wenyi`.\n\n## 安装\n\n下载，然后运行。再运行一次。\n";
        let embedder = BagOfWords::new(512);
        let document = Document::from_text("a.md", Kind::Markdown, text.to_owned());
        for chunk_size in [16, 256] {
            let options = ChunkOptions {
                chunk_size,
                overlap: 0,
            };
            for new in chunk(&embedder, &document, &options).unwrap() {
                let Chunk {
                    heading_path, text, ..
                } = &new;
                let kept = embedding_text(&embedder, heading_path, text).unwrap();
                assert_eq!(kept, new.embedding_text());
            }
        }
    }
}
