//! `wenyi models verify`: proof that a model is the one it claims to be, and that this machine
//! computes with it rightly.

use std::io::{self, Write};

use anyhow::bail;
use clap::Args;
use serde::Serialize;
use wenyi::embed::{Embedder, EncoderOptions, LocalEmbedder, Precision};
use wenyi::hub::{DEFAULT_MODEL, FileState, Hub, ModelKind, Trust, Verification};
use wenyi::progress::Progress;

use crate::arguments::precision_parser;
use crate::model;
use crate::output::style::Style;
use crate::output::table::{Align, Table};
use crate::output::{self, quantity, style};
use crate::progress::Terminal;

/// Check a model's files, and what this machine computes with them
///
/// Compares every file with its SHA-256, embeds known texts, and compares the vectors with those of
/// the reference implementation where the catalog has them. Exit code 1 if anything differs.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The model
    #[arg(value_name = "MODEL", default_value = DEFAULT_MODEL)]
    model: String,

    /// Numbers to compute with; the model's usual ones if not given
    #[arg(long, value_name = "NAME", value_parser = precision_parser())]
    precision: Option<Precision>,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    id: &'a str,
    ok: bool,
    files: Vec<FileReport<'a>>,
    vectors: Option<VectorReport<'a>>,
}

#[derive(Serialize)]
struct FileReport<'a> {
    path: &'a str,
    size: u64,
    trust: Trust,
    state: &'static str,
}

#[derive(Serialize)]
struct VectorReport<'a> {
    precision: &'a str,
    texts: usize,
    lowest_cosine: f64,
    mean_cosine: f64,
    required_cosine: f64,
    worst_text: &'a str,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let progress = Terminal::new(arguments.json);
    let verification = verify(&model::hub(true)?, arguments, &progress)?;
    drop(progress);
    if arguments.json {
        output::json(&report(&verification))?;
    } else {
        print(&verification)?;
    }
    if !verification.is_ok() {
        bail!("model `{}` is not what it should be", verification.id);
    }
    Ok(())
}

/// Checks the files alone if they do not even open.
fn verify(
    hub: &Hub,
    arguments: &Arguments,
    progress: &dyn Progress,
) -> anyhow::Result<Verification> {
    let local = hub.path(&arguments.model)?;
    if local
        .entry
        .is_some_and(|entry| entry.kind != ModelKind::Embedding)
    {
        return Ok(hub.verify(&arguments.model, None, progress)?);
    }
    let options = EncoderOptions {
        precision: arguments.precision,
        name: Some(local.id.clone()),
        ..EncoderOptions::default()
    };
    match LocalEmbedder::open(&local.path, &options) {
        Ok(embedder) => {
            let embedder: &dyn Embedder = &embedder;
            Ok(hub.verify(&arguments.model, Some(embedder), progress)?)
        }
        Err(error) => {
            let verification = hub.verify(&arguments.model, None, progress)?;
            // Right files that do not open are another matter.
            if verification.is_ok() {
                Err(error.into())
            } else {
                Ok(verification)
            }
        }
    }
}

fn report(verification: &Verification) -> Report<'_> {
    let files = verification.files.iter().map(|file| FileReport {
        path: &file.path,
        size: file.size,
        trust: file.trust,
        state: state(&file.state),
    });
    let vectors = verification.golden.as_ref().map(|golden| VectorReport {
        precision: &golden.precision,
        texts: golden.texts,
        lowest_cosine: golden.lowest_cosine,
        mean_cosine: golden.mean_cosine,
        required_cosine: golden.required_cosine,
        worst_text: &golden.worst_text,
    });
    let ok = verification.is_ok();
    Report {
        id: &verification.id,
        ok,
        files: files.collect(),
        vectors,
    }
}

fn state(state: &FileState) -> &'static str {
    match state {
        FileState::Right => "right",
        FileState::Missing => "missing",
        FileState::Changed { .. } => "changed",
    }
}

fn print(verification: &Verification) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let style = style::stdout();
    let mut table = Table::new(&[
        ("file", Align::Left),
        ("size", Align::Right),
        ("", Align::Left),
    ]);
    for file in &verification.files {
        let words = match (&file.state, file.trust) {
            (FileState::Right, Trust::Pinned) => "right, as the catalog pins it",
            (FileState::Right, Trust::Announced) => "right, as its hub announced it",
            (FileState::Right, Trust::Unpinned) => "as it came, nothing to compare it with",
            (FileState::Right, Trust::Made) => "right, as it was made here",
            (FileState::Missing, _) => "missing",
            (FileState::Changed { .. }, _) => "changed: its SHA-256 differs",
        };
        table.row(vec![
            file.path.clone(),
            quantity::bytes(file.size),
            words.into(),
        ]);
    }
    if !verification.files.is_empty() {
        writeln!(stdout, "{}", table.render(style))?;
    }
    write!(stdout, "{}", vectors(verification, style))?;
    let verdict = if verification.is_ok() {
        style.good("ok")
    } else {
        style.error("wrong")
    };
    writeln!(stdout, "{}: {verdict}", style.bold(&verification.id))?;
    Ok(())
}

fn vectors(verification: &Verification, style: Style) -> String {
    match &verification.golden {
        None => "vectors: there are no reference vectors for this model\n".to_owned(),
        Some(golden) => format!(
            "vectors: {} in {}, cosine to the reference at least {:.6} (required {}), mean {:.6}\n",
            quantity::counted(golden.texts as u64, "text"),
            style.bold(&golden.precision),
            golden.lowest_cosine,
            golden.required_cosine,
            golden.mean_cosine,
        ),
    }
}
