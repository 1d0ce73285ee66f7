//! Where vectors go: a summary for people, one JSON document, or a file.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;
use wenyi::embed::{Embedder, Embeddings, TokenUsage};

use crate::output::printable::printable;
use crate::output::table::{Align, Table};
use crate::output::{self, quantity, style};
use crate::vector_file::VectorFile;
use crate::vector_file::jsonl::Row;

/// What a run has done.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) texts: u64,
    tokens: u64,
    truncated: u64,
    split: u64,
    /// Time within the model.
    elapsed: Duration,
}

impl Totals {
    pub(super) fn add(&mut self, usage: &[TokenUsage], elapsed: Duration) {
        self.texts += usage.len() as u64;
        self.tokens += usage.iter().map(|usage| usage.kept as u64).sum::<u64>();
        self.truncated += usage.iter().filter(|usage| usage.kept < usage.seen).count() as u64;
        self.split += usage.iter().filter(|usage| usage.windows > 1).count() as u64;
        self.elapsed += elapsed;
    }

    /// `1,200 texts done`.
    pub(super) fn texts_done(&self) -> String {
        format!("{} done", quantity::counted(self.texts, "text"))
    }

    /// `31,000 tokens/s`, for the bar.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a shown rate"
    )]
    pub(super) fn rate(&self) -> String {
        format!(
            "{} tokens/s",
            quantity::grouped(self.tokens_per_second().round() as u64)
        )
    }

    #[expect(clippy::cast_precision_loss, reason = "a shown rate")]
    fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// What was cut or split, if anything: nothing is cut in silence.
    fn losses(&self) -> Vec<String> {
        let mut losses = Vec::new();
        if self.truncated > 0 {
            losses.push(format!(
                "{} truncated",
                quantity::counted(self.truncated, "text")
            ));
        }
        if self.split > 0 {
            losses.push(format!(
                "{} split and averaged",
                quantity::counted(self.split, "text")
            ));
        }
        losses
    }
}

/// Takes the vectors of each batch.
pub(super) enum Sink<'a> {
    File(&'a mut VectorFile),
    Json { index: u64 },
    People(Summary),
}

impl<'a> Sink<'a> {
    /// One JSON document on standard output, written as a stream.
    pub(super) fn json(embedder: &dyn Embedder, dimensions: usize) -> anyhow::Result<Self> {
        let fingerprint = embedder.fingerprint();
        let (model, precision) = (
            serde_json::to_string(&fingerprint.model)?,
            &fingerprint.precision,
        );
        let mut stdout = io::stdout().lock();
        write!(stdout, "{{\"model\":{model},\"precision\":\"{precision}\",")?;
        write!(stdout, "\"dimensions\":{dimensions},\"embeddings\":[")?;
        Ok(Self::Json { index: 0 })
    }

    /// A summary of each vector.
    pub(super) fn people(embedder: &dyn Embedder, dimensions: usize) -> Self {
        Self::People(Summary {
            model: embedder.fingerprint().model.clone(),
            precision: embedder.fingerprint().precision.clone(),
            dimensions,
            index: 0,
            first: Vec::new(),
        })
    }

    pub(super) fn write(&mut self, texts: &[String], vectors: &Embeddings) -> anyhow::Result<()> {
        match self {
            Self::File(file) => file.write(texts, vectors),
            Self::Json { index } => write_json(index, texts, vectors),
            Self::People(summary) => summary.write(texts, vectors),
        }
    }

    pub(super) fn finish(&mut self, totals: &Totals) -> anyhow::Result<()> {
        match self {
            // A file gets its name when nothing can fail any more: see `finish_file`.
            Self::File(_) => {}
            Self::Json { .. } => writeln!(io::stdout().lock(), "\n]}}")?,
            Self::People(summary) => summary.finish(totals)?,
        }
        Ok(())
    }
}

fn write_json(index: &mut u64, texts: &[String], vectors: &Embeddings) -> anyhow::Result<()> {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    for (text, (usage, vector)) in texts.iter().zip(vectors.usage.iter().zip(vectors.iter())) {
        stdout.write_all(if *index == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut stdout, &Row::new(*index, text, *usage, vector))?;
        *index += 1;
    }
    Ok(stdout.flush()?)
}

/// What people see of vectors: a few lines each, and for a handful of texts how close they are.
pub(super) struct Summary {
    model: String,
    precision: String,
    dimensions: usize,
    index: u64,
    /// The first texts' vectors, for the matrix of similarities.
    first: Vec<Vec<f32>>,
}

impl Summary {
    /// More columns than this do not fit a terminal.
    const MATRIX: usize = 10;
    /// Values shown of each vector.
    const VALUES: usize = 6;

    fn write(&mut self, texts: &[String], vectors: &Embeddings) -> anyhow::Result<()> {
        let style = style::stdout();
        let mut stdout = io::BufWriter::new(io::stdout().lock());
        if self.index == 0 {
            let Self {
                model,
                precision,
                dimensions,
                ..
            } = self;
            writeln!(
                stdout,
                "{}",
                style.dim(&format!("{model} · {dimensions} dimensions · {precision}"))
            )?;
        }
        for (text, (usage, vector)) in texts.iter().zip(vectors.usage.iter().zip(vectors.iter())) {
            self.index += 1;
            let number = format!("{:>3}", self.index);
            let room = output::width().saturating_sub(number.len() + 2);
            writeln!(
                stdout,
                "\n{}  {}",
                style.dim(&number),
                style.bold(&printable(&shortened(text, room)))
            )?;
            writeln!(stdout, "     {} · norm {:.4}", tokens(*usage), norm(vector))?;
            writeln!(stdout, "     {}", style.accent(&values(vector)))?;
            if self.first.len() <= Self::MATRIX {
                self.first.push(vector.to_vec());
            }
        }
        Ok(stdout.flush()?)
    }

    fn finish(&self, totals: &Totals) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        if (2..=Self::MATRIX).contains(&self.first.len()) {
            write!(stdout, "\n{}", matrix(&self.first).render(style::stdout()))?;
        }
        for loss in totals.losses() {
            writeln!(stdout, "\n{}", style::stdout().dim(&loss))?;
        }
        Ok(())
    }
}

/// The first line of `text`, cut to `columns` with an ellipsis.
fn shortened(text: &str, columns: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() && text.is_empty() {
        return "(empty text)".into();
    }
    if line.width() <= columns && line.len() == text.len() {
        return line.to_owned();
    }
    let mut short = String::new();
    let mut taken = 1;
    for grapheme in line.graphemes(true) {
        taken += grapheme.width();
        if taken > columns {
            break;
        }
        short.push_str(grapheme);
    }
    short + "…"
}

fn tokens(usage: TokenUsage) -> String {
    let TokenUsage {
        seen,
        kept,
        windows,
    } = usage;
    let tokens = quantity::counted(seen as u64, "token");
    if kept < seen {
        format!(
            "{tokens}, the first {} kept",
            quantity::grouped(kept as u64)
        )
    } else if windows > 1 {
        format!("{tokens} in {windows} windows, averaged")
    } else {
        tokens
    }
}

fn norm(vector: &[f32]) -> f32 {
    vector.iter().map(|value| value * value).sum::<f32>().sqrt()
}

fn values(vector: &[f32]) -> String {
    let mut text: Vec<String> = vector
        .iter()
        .take(Summary::VALUES)
        .map(|value| format!("{value:+.4}"))
        .collect();
    if vector.len() > Summary::VALUES {
        text.push("…".into());
    }
    text.join("  ")
}

/// Cosine of every pair; the vectors have unit length.
fn matrix(vectors: &[Vec<f32>]) -> Table {
    let numbers: Vec<String> = (1..=vectors.len())
        .map(|number| number.to_string())
        .collect();
    let mut columns = vec![("cosine", Align::Right)];
    columns.extend(numbers.iter().map(|number| (number.as_str(), Align::Right)));
    let mut table = Table::new(&columns);
    for (number, row) in numbers.iter().zip(vectors) {
        let mut cells = vec![number.clone()];
        cells.extend(
            vectors
                .iter()
                .map(|column| format!("{:.3}", dot(row, column))),
        );
        table.row(cells);
    }
    table
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Names the file and says what is in it.
pub(super) fn finish_file(file: VectorFile, totals: &Totals, json: bool) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Report<'a> {
        output: &'a str,
        texts: u64,
        dimensions: usize,
        tokens: u64,
        truncated: u64,
        split: u64,
        seconds: f64,
        tokens_per_second: f64,
    }
    let (target, dimensions) = (file.target().display().to_string(), file.dimensions());
    file.finish()?;
    if json {
        return output::json(&Report {
            output: &target,
            texts: totals.texts,
            dimensions,
            tokens: totals.tokens,
            truncated: totals.truncated,
            split: totals.split,
            seconds: totals.elapsed.as_secs_f64(),
            tokens_per_second: totals.tokens_per_second(),
        });
    }
    let mut facts = vec![
        format!(
            "{} of {dimensions} dimensions",
            quantity::counted(totals.texts, "vector")
        ),
        quantity::counted(totals.tokens, "token"),
    ];
    facts.push(quantity::seconds(totals.elapsed.as_secs_f64()));
    facts.push(totals.rate());
    facts.extend(totals.losses());
    writeln!(
        io::stdout().lock(),
        "{}: {}",
        style::stdout().accent(&target),
        facts.join(" · ")
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::style::Style;

    #[test]
    fn long_texts_are_cut_by_display_width() {
        assert_eq!(shortened("怎样使用文意", 12), "怎样使用文意");
        assert_eq!(shortened("怎样使用文意", 7), "怎样使…");
        assert_eq!(shortened("two\nlines", 20), "two…");
        assert_eq!(shortened("", 20), "(empty text)");
    }

    #[test]
    fn the_matrix_is_symmetric_and_labelled() {
        let table = matrix(&[vec![1.0, 0.0], vec![0.6, 0.8]]).render(Style::PLAIN);
        assert_eq!(
            table,
            "cosine      1      2\n     1  1.000  0.600\n     2  0.600  1.000\n"
        );
    }

    #[test]
    fn what_was_cut_is_said() {
        let usage = |seen, kept, windows| TokenUsage {
            seen,
            kept,
            windows,
        };
        assert_eq!(tokens(usage(600, 512, 1)), "600 tokens, the first 512 kept");
        assert_eq!(
            tokens(usage(600, 600, 2)),
            "600 tokens in 2 windows, averaged"
        );
        let mut totals = Totals::default();
        totals.add(&[usage(600, 512, 1), usage(9, 9, 1)], Duration::ZERO);
        assert_eq!(totals.losses(), ["1 text truncated"]);
    }
}
