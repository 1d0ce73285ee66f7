//! `wenyi store copy | export | import`: points from one store to another, to a file and back;
//! collections of documents to a file and back.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use wenyi::progress::{Progress, Unit};
use wenyi::store::{Collection, ImportReport, is_exported_collection};
use wenyi::vector_store::{
    self, MemoryStore, StoreOptions, TransferReport, VectorStore, open_or_create_store, open_store,
};

use super::points;
use crate::exit::{Stopped, UserError};
use crate::interrupt;
use crate::output::{self, quantity};
use crate::progress::Terminal;

const URLS: &str = "\
Stores:
  memory:FILE.json                          a dump of LangChain's InMemoryVectorStore
  sqlite:FILE.db[?collection=NAME]          an SQLite file; to read, also one of `wenyi index`
  postgres://USER@HOST/DB?collection=NAME   PostgreSQL with pgvector
  qdrant://HOST:6333/NAME                   Qdrant; its key from QDRANT_API_KEY";

#[derive(Args, Debug)]
#[command(after_help = URLS)]
pub(super) struct CopyArguments {
    /// The store to copy from
    #[arg(value_name = "FROM")]
    from: String,

    /// The store to copy to; made if it is not there
    #[arg(value_name = "TO")]
    to: String,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = URLS)]
pub(super) struct ExportArguments {
    /// The store to read, or a collection's file, which is written as documents with their passages
    #[arg(value_name = "STORE")]
    store: String,

    /// Where to write; standard output if left out
    #[arg(value_name = "FILE.jsonl")]
    file: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(after_help = URLS)]
pub(super) struct ImportArguments {
    /// The store to write to, or the collection's file if documents are read; made if it is not there
    #[arg(value_name = "STORE")]
    store: String,

    /// One point a line: `{"id", "vector", "text", "payload"}`, or what was exported of a collection;
    /// standard input if left out
    #[arg(value_name = "FILE.jsonl")]
    file: Option<PathBuf>,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// A store to write to.
struct Target {
    store: Arc<dyn VectorStore>,
    /// A dump file, which is written when all is there.
    dump: Option<(Arc<MemoryStore>, PathBuf)>,
}

impl Target {
    fn open(url: &str, options: &StoreOptions) -> wenyi::store::Result<Self> {
        let Some(path) = url.strip_prefix("memory:").map(PathBuf::from) else {
            let store = open_or_create_store(url, options)?;
            return Ok(Self { store, dump: None });
        };
        let memory = Arc::new(match path.exists() {
            true => MemoryStore::load_dump(&path)?,
            false => MemoryStore::with_options(options.clone())?,
        });
        Ok(Self {
            store: Arc::clone(&memory) as Arc<dyn VectorStore>,
            dump: Some((memory, path)),
        })
    }

    fn close(&self) -> anyhow::Result<()> {
        if let Some((memory, path)) = &self.dump {
            memory.dump(path)?;
        }
        Ok(())
    }
}

/// What is put into memory without a file is gone at once.
fn expect_lasting(url: &str) -> anyhow::Result<()> {
    if url == "memory:" {
        return Err(
            UserError::new("what is written to `memory:` is gone at once")
                .with_hint("name a file for it: `memory:notes.json`")
                .into(),
        );
    }
    Ok(())
}

pub(super) fn copy(arguments: &CopyArguments) -> anyhow::Result<()> {
    interrupt::listen();
    expect_lasting(&arguments.to)?;
    let from = open_store(&arguments.from)?;
    let to = Target::open(&arguments.to, &from.info()?.options())?;
    let progress = Terminal::new(arguments.json);
    let report = vector_store::copy(&*from, &*to.store, &progress)?;
    to.close()?;
    finish(&progress, report, arguments.json)
}

pub(super) fn export(arguments: &ExportArguments) -> anyhow::Result<()> {
    interrupt::listen();
    if let Some(collection) = collection_at(&arguments.store)? {
        return export_documents(&collection, arguments);
    }
    let from = open_store(&arguments.store)?;
    let progress = Terminal::new(false);
    match &arguments.file {
        Some(path) => {
            let file =
                File::create(path).with_context(|| format!("cannot write `{}`", path.display()))?;
            let count = vector_store::export(&*from, &mut BufWriter::new(file), &progress)?;
            writeln!(io::stderr(), "{} points written", quantity::grouped(count))?;
        }
        None => {
            let stdout = io::stdout().lock();
            vector_store::export(&*from, &mut BufWriter::new(stdout), &progress)?;
        }
    }
    stopped(&progress)
}

pub(super) fn import(arguments: &ImportArguments) -> anyhow::Result<()> {
    interrupt::listen();
    expect_lasting(&arguments.store)?;
    let progress = Terminal::new(arguments.json);
    let mut input: Box<dyn io::BufRead> = match &arguments.file {
        Some(path) => {
            let file = File::open(path).map_err(|error| {
                UserError::new(format!("cannot read `{}`: {error}", path.display()))
            })?;
            Box::new(BufReader::new(file))
        }
        None => Box::new(io::stdin().lock()),
    };
    let mut first = String::new();
    input
        .read_line(&mut first)
        .context("cannot read the lines")?;
    let is_collection = is_exported_collection(&first);
    let mut input = BufReader::new(first.as_bytes()).chain(input);
    if is_collection {
        return import_documents(&mut input, &progress, arguments);
    }
    let mut target = None;
    let open = |dimensions| {
        let options = StoreOptions {
            dimensions: Some(dimensions),
            ..StoreOptions::default()
        };
        let opened = Target::open(&arguments.store, &options)?;
        Ok(Arc::clone(&target.insert(opened).store))
    };
    let report = vector_store::import(&mut input, open, &progress)?;
    if let Some(target) = target {
        target.close()?;
    }
    finish(&progress, report, arguments.json)
}

/// The collection of documents whose file this is.
fn collection_at(store: &str) -> anyhow::Result<Option<Collection>> {
    let path = Path::new(store);
    if !path.is_file() || points::is_points(path) {
        return Ok(None);
    }
    Ok(Some(Collection::open_read_only(path)?))
}

fn export_documents(collection: &Collection, arguments: &ExportArguments) -> anyhow::Result<()> {
    let progress = Terminal::new(false);
    let count = collection.statistics()?.num_documents;
    progress.start("exporting", Some(count), Unit::Items);
    let mut goes_on = || {
        progress.advance(1);
        !progress.is_cancelled()
    };
    let exported = match &arguments.file {
        Some(path) => {
            let file =
                File::create(path).with_context(|| format!("cannot write `{}`", path.display()))?;
            let count = collection.export(&mut BufWriter::new(file), &mut goes_on);
            progress.finish();
            writeln!(
                io::stderr(),
                "{} written",
                quantity::counted(count?, "document")
            )?;
            Ok(())
        }
        None => {
            let stdout = io::stdout().lock();
            let count = collection.export(&mut BufWriter::new(stdout), &mut goes_on);
            progress.finish();
            count.map(drop)
        }
    };
    exported?;
    stopped(&progress)
}

fn import_documents(
    input: &mut dyn BufRead,
    progress: &Terminal,
    arguments: &ImportArguments,
) -> anyhow::Result<()> {
    if let Some((scheme, _)) = arguments.store.split_once(':') {
        let message = format!("documents are read into a collection's file, not into `{scheme}:`");
        let error = UserError::new(message);
        return Err(error.with_hint("name a file: `notes.db`").into());
    }
    progress.start("importing", None, Unit::Items);
    let report = Collection::import(&arguments.store, input, &mut || !progress.is_cancelled());
    progress.finish();
    stopped(progress)?;
    let ImportReport { written, unchanged } = report?;
    if arguments.json {
        return output::json(&serde_json::json!({"written": written, "unchanged": unchanged}));
    }
    writeln!(
        io::stdout().lock(),
        "{} written, {} there already",
        quantity::counted(written, "document"),
        quantity::grouped(unchanged),
    )?;
    Ok(())
}

fn finish(progress: &Terminal, report: TransferReport, json: bool) -> anyhow::Result<()> {
    stopped(progress)?;
    let TransferReport { written, unchanged } = report;
    if json {
        return output::json(&serde_json::json!({"written": written, "unchanged": unchanged}));
    }
    let (written, unchanged) = (quantity::grouped(written), quantity::grouped(unchanged));
    writeln!(
        io::stdout().lock(),
        "{written} points written, {unchanged} were there already"
    )?;
    Ok(())
}

fn stopped(progress: &Terminal) -> anyhow::Result<()> {
    if progress.is_cancelled() {
        let message = "run the same command again to go on".into();
        return Err(Stopped { message }.into());
    }
    Ok(())
}
