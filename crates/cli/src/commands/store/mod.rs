//! `wenyi store`: what is in a collection, whether it is sound, how to make it so, and how it goes
//! elsewhere.

mod method;
mod migrate;
mod points;
mod transfer;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;
use wenyi::store::{CheckReport, Collection};

use crate::output::table::{Align, Table};
use crate::output::{self, quantity, style};

/// Look into a collection, check it, repair it; carry points from store to store
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show what a collection holds and what it was made with
    Info(FileArguments),
    /// Prove that documents, passages, vectors and text index agree; changes nothing
    Check(FileArguments),
    /// Make all that is derived anew (text index, packed vectors, graph or coarse form), then check
    Repair(FileArguments),
    /// Give back the room of removed documents
    Vacuum(FileArguments),
    /// Make a graph (HNSW) of a large collection's vectors: quicker searches that miss a few hits
    Graph(method::GraphArguments),
    /// Read a coarse form of a large collection's vectors first: made in seconds, misses a few hits
    Coarse(method::CoarseArguments),
    /// Embed all passages again with another model; searches go on with the old one until the end
    Migrate(migrate::MigrateArguments),
    /// Copy all points of one store into another; run it again to go on
    Copy(transfer::CopyArguments),
    /// Write all points of a store, or all documents of a collection, as JSON lines
    Export(transfer::ExportArguments),
    /// Read points or documents from JSON lines into a store or a collection
    Import(transfer::ImportArguments),
}

#[derive(Args, Debug)]
struct FileArguments {
    /// The collection's file, or a file of points
    #[arg(value_name = "COLLECTION.db")]
    collection: PathBuf,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  wenyi store info notes.db
  wenyi store check notes.db --json
  wenyi store repair notes.db
  wenyi store graph notes.db
  wenyi store coarse notes.db --binary
  wenyi store migrate notes.db --model bge-m3
  wenyi store copy notes.db qdrant://127.0.0.1:6333/notes
  wenyi store copy memory:dump.json sqlite:points.db
  wenyi store export sqlite:points.db points.jsonl
  wenyi store export notes.db notes.jsonl
  wenyi store import copy.db notes.jsonl";

/// What `info --json` prints.
#[derive(Serialize)]
struct Info<'a> {
    collection: &'a Path,
    name: &'a str,
    documents: u64,
    passages: u64,
    tokens: u64,
    dimensions: usize,
    bytes: u64,
    text_index: bool,
    /// Vectors that are mapped when the collection is opened; the others are read.
    packed: usize,
    /// What searches go through; none if they are exact.
    index: Option<method::Index>,
    fingerprint: &'a Value,
    chunking: &'a Value,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.what {
        What::Info(file) if points::is_points(&file.collection) => points::info(file),
        What::Info(file) => info(file),
        What::Check(file) if points::is_points(&file.collection) => {
            report(file, &points::open(file)?.check()?)
        }
        What::Check(file) => {
            let collection = Collection::open_read_only(&file.collection)?;
            report(file, &collection.check()?)
        }
        What::Repair(file) if points::is_points(&file.collection) => {
            report(file, &points::open(file)?.repair()?)
        }
        What::Repair(file) => report(file, &Collection::open(&file.collection)?.repair()?),
        What::Vacuum(file) if points::is_points(&file.collection) => {
            Ok(points::open(file)?.vacuum()?)
        }
        What::Vacuum(file) => vacuum(file),
        What::Graph(arguments) => method::graph(arguments),
        What::Coarse(arguments) => method::coarse(arguments),
        What::Migrate(arguments) => migrate::run(arguments),
        What::Copy(arguments) => transfer::copy(arguments),
        What::Export(arguments) => transfer::export(arguments),
        What::Import(arguments) => transfer::import(arguments),
    }
}

fn info(file: &FileArguments) -> anyhow::Result<()> {
    let collection = Collection::open_read_only(&file.collection)?;
    let statistics = collection.statistics()?;
    let made = collection.info();
    let info = Info {
        collection: collection.path(),
        name: &made.name,
        documents: statistics.num_documents,
        passages: statistics.num_chunks,
        tokens: statistics.num_tokens,
        dimensions: statistics.dimensions,
        bytes: statistics.num_bytes,
        text_index: collection.has_text_index()?,
        packed: collection.num_packed()?.unwrap_or(0),
        index: collection.index_info()?.map(Into::into),
        fingerprint: &made.space.fingerprint,
        chunking: &made.chunking,
    };
    if file.json {
        return output::json(&info);
    }
    let model = info.fingerprint["model"].as_str().unwrap_or("unknown");
    let mut table = Table::new(&[("collection", Align::Left), (&made.name, Align::Left)]);
    for (name, value) in [
        ("file", info.collection.display().to_string()),
        ("model", model.to_owned()),
        ("dimensions", info.dimensions.to_string()),
        ("documents", quantity::grouped(info.documents)),
        ("passages", quantity::grouped(info.passages)),
        ("tokens", quantity::grouped(info.tokens)),
        ("size", quantity::bytes(info.bytes)),
        (
            "text index",
            if info.text_index { "yes" } else { "no" }.to_owned(),
        ),
        ("packed vectors", quantity::grouped(info.packed as u64)),
        (
            "search",
            match &info.index {
                Some(index) => index.to_string(),
                None => "exact".to_owned(),
            },
        ),
    ] {
        table.row(vec![name.to_owned(), value]);
    }
    write!(io::stdout().lock(), "{}", table.render(style::stdout()))?;
    Ok(())
}

/// Prints what disagrees; that something does is an error.
fn report(file: &FileArguments, report: &CheckReport) -> anyhow::Result<()> {
    if file.json {
        let (sound, problems) = (report.is_clean(), &report.problems);
        output::json(&serde_json::json!({"sound": sound, "problems": problems}))?;
    } else {
        let mut stdout = io::stdout().lock();
        for problem in &report.problems {
            writeln!(stdout, "{problem}")?;
        }
        if report.is_clean() {
            writeln!(stdout, "sound: all that is in it agrees")?;
        }
    }
    match report.problems.len() {
        0 => Ok(()),
        count => bail!("`{}` has {count} problems", file.collection.display()),
    }
}

fn vacuum(file: &FileArguments) -> anyhow::Result<()> {
    let collection = Collection::open(&file.collection)?;
    let before = collection.statistics()?.num_bytes;
    collection.vacuum()?;
    let after = collection.statistics()?.num_bytes;
    if file.json {
        return output::json(&serde_json::json!({"bytes_before": before, "bytes": after}));
    }
    let (before, after) = (quantity::bytes(before), quantity::bytes(after));
    writeln!(io::stdout().lock(), "{before} before, {after} now")?;
    Ok(())
}
