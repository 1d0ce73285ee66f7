//! `wenyi embed`: texts in, vectors out, in batches, so that a million texts need no more memory
//! than a thousand.

mod batches;
mod sinks;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use wenyi::embed::{EmbedError, EmbedOptions, Embedder, Overflow, Role};
use wenyi::progress::{Progress, Unit};
use wenyi_engine::ErrorKind;

use crate::arguments::{ModelArguments, overflow_parser, role};
use crate::exit::{Stopped, UserError};
use crate::model;
use crate::output::quantity;
use crate::progress::Terminal;
use crate::texts::Texts;
use crate::vector_file::VectorFile;

use batches::{Batch, BatchSize, Source};
use sinks::{Sink, Totals};

/// Turn texts into vectors
///
/// Prints a summary of each vector, and how close the texts are to each other; `--output` writes the
/// vectors to a file and `--json` prints them. Without TEXT and --input, texts are read from a pipe.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Texts to embed
    #[arg(value_name = "TEXT", conflicts_with = "input")]
    texts: Vec<String>,

    /// File with one text a line, or JSON lines with a `text` field; `-` is standard input
    #[arg(short, long, value_name = "FILE|-")]
    input: Option<PathBuf>,

    /// File for the vectors: `.npy` (NumPy) or `.jsonl`
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// What the texts are to a retrieval model: query, document, plain, or the name of a prompt in
    /// the model's files
    #[arg(long, default_value = "plain", value_parser = role)]
    role: Role,

    /// Keep the first N values of each vector and normalise again (Matryoshka)
    #[arg(long, value_name = "N")]
    dimensions: Option<usize>,

    /// What to do with a text longer than the model takes
    #[arg(long, value_name = "POLICY", default_value = "error", value_parser = overflow_parser())]
    overflow: Overflow,

    /// Print one JSON document
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    model: ModelArguments,
}

const EXAMPLES: &str = "\
Examples:
  wenyi embed \"good morning\" \"早上好\" \"the train is late\"
  wenyi embed --role query --json \"怎样在没有网络的机器上使用？\"
  wenyi embed --input sentences.txt --output vectors.npy
  wenyi embed --input notes.jsonl --overflow split-mean --output vectors.jsonl
  cat sentences.txt | wenyi embed --input - --dimensions 128 --json";

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut source = source(arguments)?;
    // Before a model is opened, or fetched, and before a file is begun.
    let first = source.next_batch(&BatchSize::default())?;
    let first = first.ok_or_else(|| no_text(&source))?;
    let mut file = arguments
        .output
        .as_deref()
        .map(VectorFile::create)
        .transpose()?;
    let progress = Terminal::new(arguments.json && arguments.output.is_none());
    let texts = (first, &mut source);
    let result = embed(arguments, texts, file.as_mut(), &progress);
    drop(progress);
    match (result, file) {
        (Ok(totals), Some(file)) => sinks::finish_file(file, &totals, arguments.json),
        (Ok(_), None) => Ok(()),
        (Err(error), file) => Err(keep_partial(error, file)),
    }
}

/// The texts, from the arguments, a file or a pipe.
fn source(arguments: &Arguments) -> anyhow::Result<Source> {
    if !arguments.texts.is_empty() {
        return Ok(Source::from_arguments(arguments.texts.clone()));
    }
    if arguments.input.is_none() && io::stdin().is_terminal() {
        let error = UserError::new("no text to embed");
        return Err(error.with_hint(WHERE_FROM).into());
    }
    let path = arguments.input.as_deref().unwrap_or(Path::new("-"));
    Ok(Source::Stream(Texts::open(path)?))
}

/// What to do where there is no text.
const WHERE_FROM: &str = "give texts, `--input FILE`, or a pipe; `wenyi embed --help` has examples";

/// An empty text has a vector; no text at all has none, and is likely a mistake in a pipe.
fn no_text(source: &Source) -> anyhow::Error {
    let error = UserError::new(format!("no text in {}", source.name()));
    error.with_hint(WHERE_FROM).into()
}

/// Opens the model and sends every text through it.
fn embed(
    arguments: &Arguments,
    texts: (Batch, &mut Source),
    mut file: Option<&mut VectorFile>,
    progress: &Terminal,
) -> anyhow::Result<Totals> {
    let embedder = model::open(&arguments.model, None, progress)?;
    let dimensions = dimensions(arguments.dimensions, embedder.as_ref())?;
    if let Some(file) = file.as_deref_mut() {
        file.set_dimensions(dimensions);
    }
    let mut sink = match file {
        Some(file) => Sink::File(file),
        None if arguments.json => Sink::json(embedder.as_ref(), dimensions)?,
        None => Sink::people(embedder.as_ref(), dimensions),
    };
    let options = EmbedOptions {
        role: arguments.role.clone(),
        dimensions: arguments.dimensions,
        overflow: arguments.overflow,
    };
    stream(embedder.as_ref(), texts, &options, &mut sink, progress)
}

/// The width of the vectors, checked before the first text.
fn dimensions(asked: Option<usize>, embedder: &dyn Embedder) -> anyhow::Result<usize> {
    let available = embedder.max_dimensions();
    match asked {
        Some(requested) if requested == 0 || requested > available => {
            let kind = ErrorKind::Dimensions {
                requested,
                available,
            };
            Err(wenyi_engine::Error::from(kind).into())
        }
        _ => Ok(asked.unwrap_or_else(|| embedder.dimensions())),
    }
}

/// Batch by batch, the first one of which is read, through the model into `sink`.
fn stream(
    embedder: &dyn Embedder,
    (first, source): (Batch, &mut Source),
    options: &EmbedOptions,
    sink: &mut Sink<'_>,
    progress: &Terminal,
) -> anyhow::Result<Totals> {
    let mut totals = Totals::default();
    let mut size = BatchSize::default();
    progress.start("embedding", source.size(), Unit::Bytes);
    let mut next = Some(first);
    while let Some(batch) = next {
        if progress.is_cancelled() {
            return Err(Stopped {
                message: totals.texts_done(),
            }
            .into());
        }
        let started = Instant::now();
        let texts: Vec<&str> = batch.texts.iter().map(String::as_str).collect();
        let vectors = embedder
            .embed(&texts, options)
            .map_err(|error| in_input(error, source, &batch.lines))?;
        totals.add(&vectors.usage, started.elapsed());
        sink.write(&batch.texts, &vectors)?;
        size.adapt(started.elapsed());
        progress.advance(batch.bytes);
        progress.describe(totals.rate());
        next = source.next_batch(&size)?;
    }
    progress.finish();
    sink.finish(&totals)?;
    Ok(totals)
}

/// An engine's error counts texts within its batch; the user counts lines of the input.
fn in_input(error: EmbedError, source: &Source, lines: &[u64]) -> anyhow::Error {
    let EmbedError::Engine(engine) = &error else {
        return error.into();
    };
    match engine.kind() {
        ErrorKind::TooLong {
            index,
            tokens,
            max_length,
        } => {
            let place = source.place(lines[*index]);
            let message = format!("{place} has {tokens} tokens, the model takes {max_length}");
            let error = UserError::new(message);
            match engine.hint() {
                Some(hint) => error.with_hint(hint).into(),
                None => error.into(),
            }
        }
        _ => error.into(),
    }
}

/// What was written before the work ended early is kept, and said so.
fn keep_partial(error: anyhow::Error, file: Option<VectorFile>) -> anyhow::Error {
    let Some(file) = file else { return error };
    let kept = file.keep_partial().map_or_else(
        || "nothing was written".to_owned(),
        |(path, rows)| {
            format!(
                "{} kept in `{}`",
                quantity::counted(rows, "vector"),
                path.display()
            )
        },
    );
    if error.is::<Stopped>() {
        return Stopped {
            message: format!("{error}, {kept}"),
        }
        .into();
    }
    error.context(kept)
}
