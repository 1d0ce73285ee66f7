//! `wenyi store copy | export | import`: points from one store to another, to a file and back;
//! collections of documents to a file and back.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use wenyi::progress::{Progress, Unit};
use wenyi::store::{Collection, ImportReport, is_exported_collection};
use wenyi::vector_store::{
    self, MemoryStore, RefusedEntry, StoreOptions, TransferReport, VectorStore,
    open_or_create_store, open_store,
};

use super::place::Fresh;
use super::points;
use crate::exit::{Stopped, UserError};
use crate::interrupt;
use crate::output::{self, quantity};
use crate::progress::Terminal;

pub(super) const URLS: &str = "\
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

    /// Where to write; standard output if left out or `-`
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
    /// standard input if left out or `-`
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
    let (from, refused) = source(&arguments.from)?;
    // Before the store, so that it looks after that is closed.
    let mut fresh = Fresh::of(&arguments.to);
    let to = Target::open(&arguments.to, &from.info()?.options())?;
    let progress = Terminal::new(arguments.json);
    let report = vector_store::copy(&*from, &*to.store, &progress)?;
    to.close()?;
    fresh.keep();
    finish(&progress, report, Some(&refused), arguments.json)
}

/// The store to copy from, and what of a dump file cannot be read.
fn source(url: &str) -> anyhow::Result<(Arc<dyn VectorStore>, Vec<RefusedEntry>)> {
    match url.strip_prefix("memory:").map(Path::new) {
        Some(path) if path.is_file() => {
            let (store, refused) = MemoryStore::load_dump_partly(path)?;
            Ok((Arc::new(store), refused))
        }
        _ => Ok((open_store(url)?, Vec::new())),
    }
}

pub(super) fn export(arguments: &ExportArguments) -> anyhow::Result<()> {
    interrupt::listen();
    if let Some(collection) = collection_at(&arguments.store)? {
        return export_documents(&collection, arguments);
    }
    let from = open_store(&arguments.store)?;
    let progress = Terminal::new(false);
    let Some(path) = file_of(&arguments.file) else {
        let stdout = io::stdout().lock();
        vector_store::export(&*from, &mut BufWriter::new(stdout), &progress)?;
        return stopped(&progress);
    };
    let count = written(path, |file| {
        let count = vector_store::export(&*from, file, &progress)?;
        stopped(&progress)?;
        Ok(count)
    })?;
    writeln!(io::stderr(), "{} points written", quantity::grouped(count))?;
    Ok(())
}

pub(super) fn import(arguments: &ImportArguments) -> anyhow::Result<()> {
    interrupt::listen();
    expect_lasting(&arguments.store)?;
    let progress = Terminal::new(arguments.json);
    let mut input: Box<dyn io::BufRead> = match file_of(&arguments.file) {
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
    let mut fresh = Fresh::of(&arguments.store);
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
    fresh.keep();
    finish(&progress, report, None, arguments.json)
}

/// The file that was named, unless that is `-`: standard input or output.
fn file_of(named: &Option<PathBuf>) -> Option<&Path> {
    named.as_deref().filter(|path| *path != Path::new("-"))
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
    let mut export = |to: &mut dyn Write| {
        let count = collection.export(to, &mut goes_on);
        progress.finish();
        let count = count?;
        stopped(&progress)?;
        anyhow::Ok(count)
    };
    let Some(path) = file_of(&arguments.file) else {
        export(&mut BufWriter::new(io::stdout().lock()))?;
        return Ok(());
    };
    let count = written(path, export)?;
    writeln!(
        io::stderr(),
        "{} written",
        quantity::counted(count, "document")
    )?;
    Ok(())
}

/// Has a file written by way of one beside it, so that it is there whole or as it was.
fn written<T>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    expect_lines(path)?;
    let describe = || format!("cannot write `{}`", path.display());
    if path.exists() && !path.is_file() {
        // A pipe or a device.
        return write(&mut BufWriter::new(
            File::create(path).with_context(describe)?,
        ));
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let file = File::create(&beside).with_context(describe)?;
    let mut buffered = BufWriter::new(file);
    let result = write(&mut buffered).and_then(|value| {
        let file = buffered.into_inner().map_err(|error| error.into_error());
        file.and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&beside, path))
            .with_context(describe)?;
        Ok(value)
    });
    if result.is_err() {
        let _ = fs::remove_file(&beside);
    }
    result
}

/// Refuses to write lines where a store is: in place of a database, or to what is the URL of one.
fn expect_lines(path: &Path) -> anyhow::Result<()> {
    const DATABASE: &[u8] = b"SQLite format 3\0";
    let shown = path.display();
    let is_store = ["memory:", "sqlite:", "postgres:", "postgresql:", "qdrant:"];
    if is_store
        .iter()
        .any(|scheme| path.to_string_lossy().starts_with(scheme))
    {
        let hint = format!("`wenyi store copy FROM {shown}` carries points to a store");
        let error = UserError::new(format!("`{shown}` is a store, expected a file"));
        return Err(error.with_hint(hint).into());
    }
    let mut head = [0; DATABASE.len()];
    // Only of a file: a pipe would wait for who writes to it.
    let is_database = path.is_file()
        && File::open(path).is_ok_and(|mut file| file.read_exact(&mut head).is_ok())
        && head == DATABASE;
    if is_database {
        let hint = format!(
            "name a new file: `{}`",
            path.with_extension("jsonl").display()
        );
        let error = UserError::new(format!("`{shown}` is a database, which would be lost"));
        return Err(error.with_hint(hint).into());
    }
    Ok(())
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
    let mut fresh = Fresh::of(&arguments.store);
    let report = Collection::import(&arguments.store, input, &mut || !progress.is_cancelled());
    progress.finish();
    stopped(progress)?;
    let ImportReport { written, unchanged } = report?;
    fresh.keep();
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

/// Says what was carried over, and what was not: that makes the command fail.
fn finish(
    progress: &Terminal,
    report: TransferReport,
    refused: Option<&[RefusedEntry]>,
    json: bool,
) -> anyhow::Result<()> {
    /// Refused entries that are named to people.
    const NAMED: usize = 10;
    stopped(progress)?;
    let TransferReport { written, unchanged } = report;
    if json {
        let mut report = serde_json::json!({"written": written, "unchanged": unchanged});
        if let Some(refused) = refused {
            let refused = refused.iter();
            report["refused"] = refused
                .map(|entry| serde_json::json!({"id": entry.id, "reason": entry.reason}))
                .collect();
        }
        output::json(&report)?;
    } else {
        let (written, unchanged) = (quantity::grouped(written), quantity::grouped(unchanged));
        writeln!(
            io::stdout().lock(),
            "{written} points written, {unchanged} were there already"
        )?;
        for entry in refused.unwrap_or_default().iter().take(NAMED) {
            writeln!(io::stderr(), "left out: {entry}")?;
        }
    }
    match refused.map_or(0, <[_]>::len) {
        0 => Ok(()),
        1 => anyhow::bail!("an entry of the dump cannot be read and was left out"),
        all => anyhow::bail!(
            "{} entries of the dump cannot be read and were left out",
            quantity::grouped(all as u64)
        ),
    }
}

fn stopped(progress: &Terminal) -> anyhow::Result<()> {
    if progress.is_cancelled() {
        let message = "run the same command again to go on".into();
        return Err(Stopped { message }.into());
    }
    Ok(())
}
