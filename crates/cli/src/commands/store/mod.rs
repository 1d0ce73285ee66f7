//! `wenyi store`: what is in a collection, whether it is sound, how to make it so, and how it goes
//! elsewhere.

mod method;
mod migrate;
mod place;
mod points;
mod sound;
mod transfer;

use std::io::{self, Write};
use std::path::Path;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;
use wenyi::store::Collection;
use wenyi::vector_store::sqlite_file;

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
    /// Show what a collection, a file of points or a store elsewhere holds
    #[command(after_help = transfer::URLS)]
    Info(InfoArguments),
    /// Prove that documents, passages, vectors and text index agree; changes nothing
    Check(sound::CheckArguments),
    /// Make all that is derived anew (text index, packed vectors, graph or coarse form), embed passages that
    /// lost their vector, mark documents that lack passages for `wenyi index`, then check
    Repair(sound::RepairArguments),
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
struct InfoArguments {
    /// The collection's file, a file of points, or the URL of a store
    #[arg(value_name = "STORE")]
    store: String,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct FileArguments {
    /// The collection's file, or a file of points
    #[arg(value_name = "COLLECTION.db")]
    collection: String,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  wenyi store info notes.db
  wenyi store info qdrant://127.0.0.1:6333/notes
  wenyi store check notes.db --json
  wenyi store check notes.db --sample 200
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
        What::Info(arguments) => info(arguments),
        What::Check(arguments) => sound::check(arguments),
        What::Repair(file) => sound::repair(file),
        What::Vacuum(file) => vacuum(file),
        What::Graph(arguments) => method::graph(arguments),
        What::Coarse(arguments) => method::coarse(arguments),
        What::Migrate(arguments) => migrate::run(arguments),
        What::Copy(arguments) => transfer::copy(arguments),
        What::Export(arguments) => transfer::export(arguments),
        What::Import(arguments) => transfer::import(arguments),
    }
}

fn info(arguments: &InfoArguments) -> anyhow::Result<()> {
    match sqlite_file(&arguments.store) {
        Some((path, None)) if points::is_points(path) => points::info(path, arguments.json),
        Some((path, None)) => info_of_documents(path, arguments.json),
        // A collection among others, or no file.
        _ => points::info_at(&arguments.store, arguments.json),
    }
}

fn info_of_documents(path: &Path, json: bool) -> anyhow::Result<()> {
    let collection = Collection::open_read_only(path)?;
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
    if json {
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

fn vacuum(arguments: &FileArguments) -> anyhow::Result<()> {
    let file = place::file_of(&arguments.collection, "vacuum")?;
    if points::is_points(&file) {
        return Ok(points::open(&file)?.vacuum()?);
    }
    let collection = Collection::open(&file)?;
    let before = collection.statistics()?.num_bytes;
    collection.vacuum()?;
    let after = collection.statistics()?.num_bytes;
    if arguments.json {
        return output::json(&serde_json::json!({"bytes_before": before, "bytes": after}));
    }
    let (before, after) = (quantity::bytes(before), quantity::bytes(after));
    writeln!(io::stdout().lock(), "{before} before, {after} now")?;
    Ok(())
}
