//! `wenyi index`: brings collections in step with folders, once or for as long as they change.

mod report;
mod watch;

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use wenyi::embed::Embedder;
use wenyi::progress::{Progress, Unit};
use wenyi::retrieve::{
    ChunkOptions, IndexOptions, IndexReport, index, open_collection, remove_collection,
};
use wenyi_store::Collection;

use crate::arguments::{ModelArguments, positive};
use crate::collection::{Target, remembered_model};
use crate::exit::{Stopped, UserError};
use crate::model;
use crate::output::{self, quantity};
use crate::progress::Terminal;

pub(crate) use report::summary;

/// Embed the documents of folders and keep their vectors
///
/// Reads Markdown, text, HTML, source code, PDF, DOCX, PPTX, XLSX, CSV, EPUB, EML and JSON lines. A
/// second run embeds only what changed, and drops what is gone; a run that was stopped goes on where
/// it was. `wenyi search` does the same before it searches.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Folders and files to index
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    indexing: IndexingArguments,

    /// Go on when files are added, change or go, until Ctrl-C
    #[arg(long)]
    watch: bool,

    /// End with exit code 1 if a file could not be read
    #[arg(long, conflicts_with = "watch")]
    strict: bool,

    /// Print one JSON document; with `--watch` one a line for each round
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    model: ModelArguments,
}

/// How to index, for `index` and `search`.
#[derive(Args, Debug, Default)]
pub(crate) struct IndexingArguments {
    /// File to keep the vectors in, for all paths together; one for each path in the cache folder if
    /// not given
    #[arg(short, long, value_name = "FILE")]
    pub(crate) collection: Option<PathBuf>,

    /// Embed everything again, for example with another model
    #[arg(long)]
    pub(crate) reindex: bool,

    /// Tokens that a passage aims at; what is indexed keeps its size until it changes
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) chunk_size: Option<usize>,

    /// Read hidden files too
    #[arg(long)]
    pub(crate) hidden: bool,

    /// Read only files that match the pattern, as `.gitignore` writes them; can be repeated
    #[arg(long, value_name = "PATTERN")]
    pub(crate) include: Vec<String>,

    /// Leave out files and folders that match the pattern; can be repeated
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,

    /// Read also what `.gitignore` and `.ignore` exclude
    #[arg(long)]
    pub(crate) no_ignore: bool,
}

const EXAMPLES: &str = "\
Examples:
  wenyi index docs/ notes/
  wenyi index docs/ notes/ --collection knowledge.db
  wenyi index docs/ --include '*.pdf' --include '*.docx' --exclude drafts/
  wenyi index docs/ --watch
  wenyi index docs/ --model bge-small-zh-v1.5 --reindex";

/// What was done for one collection.
#[derive(Debug, Serialize)]
pub(crate) struct Indexed {
    pub(crate) collection: PathBuf,
    #[serde(flatten)]
    pub(crate) report: IndexReport,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    collections: Vec<Indexed>,
}

/// A collection's file and the paths that go into it.
type Group = (PathBuf, Vec<PathBuf>);

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let progress = Terminal::new(arguments.json);
    let hub = model::hub(arguments.model.compute.offline)?;
    let groups = groups(arguments, &hub)?;
    let remembered = groups.first().and_then(|(collection, _)| {
        let keeps_model = arguments.model.model.is_none() && !arguments.indexing.reindex;
        keeps_model
            .then(|| remembered_model(collection, &hub))
            .flatten()
    });
    // Before the first round, so that nothing changes between it and the next unseen.
    let changes = arguments
        .watch
        .then(|| watch::Changes::below(&groups, arguments.indexing.hidden))
        .transpose()?;
    let embedder = model::open(&arguments.model, remembered.as_deref(), &progress)?;
    let first = round(arguments, &groups, false, embedder.as_ref(), &progress);
    let report = match changes {
        None => first?,
        Some(changes) => {
            return watch::run(first, changes, &progress, || {
                round(arguments, &groups, true, embedder.as_ref(), &progress)
            });
        }
    };
    let num_failures = report.collections.iter().map(Indexed::num_failures).sum();
    if arguments.strict && num_failures > 0 {
        return Err(anyhow::anyhow!(
            "{} could not be read",
            quantity::counted(num_failures, "file")
        ));
    }
    Ok(())
}

/// Brings all collections in step and prints what was done; in later rounds of `--watch` only
/// where something was.
fn round(
    arguments: &Arguments,
    groups: &[Group],
    later: bool,
    embedder: &dyn Embedder,
    progress: &Terminal,
) -> anyhow::Result<Report> {
    let mut report = Report {
        model: embedder.fingerprint().model.clone(),
        collections: Vec::new(),
    };
    for (file, roots) in groups {
        let indexing = &arguments.indexing;
        let indexed = indexing.bring_in_step(file, roots, later, embedder, progress)?;
        let is_news = !later || indexed.has_changed();
        if is_news && !arguments.json {
            report::print(roots, &indexed)?;
        }
        if is_news {
            report.collections.push(indexed);
        }
    }
    match (arguments.json, arguments.watch) {
        (true, false) => output::json(&report)?,
        (true, true) if !report.collections.is_empty() => output::json_line(&report)?,
        _ => {}
    }
    Ok(report)
}

impl Indexed {
    fn num_failures(&self) -> u64 {
        self.report.failures().count() as u64
    }

    fn has_changed(&self) -> bool {
        let report = &self.report;
        report.added + report.updated + report.removed + report.kept > 0
    }
}

/// Which paths go into which collection.
fn groups(arguments: &Arguments, hub: &wenyi::hub::Hub) -> anyhow::Result<Vec<Group>> {
    if let Some(missing) = arguments.paths.iter().find(|path| !path.exists()) {
        let error = UserError::new(format!("there is no `{}`", missing.display()));
        return Err(error.with_hint("give folders or files that exist").into());
    }
    if let Some(collection) = &arguments.indexing.collection {
        return Ok(vec![(collection.clone(), arguments.paths.clone())]);
    }
    arguments
        .paths
        .iter()
        .map(|path| match Target::new(path, None, hub) {
            Target::Documents { root, collection } => Ok((collection, vec![root])),
            Target::Collection(path) => {
                // One of points, or of another program, is said to be that.
                Collection::open_read_only(&path)?;
                let message = format!("`{}` is a collection, expected documents", path.display());
                Err(UserError::new(message)
                    .with_hint("`wenyi search` takes collections")
                    .into())
            }
        })
        .collect()
}

impl IndexingArguments {
    /// Opens the collection at `file` and embeds what changed below `roots`; `later` if it was done
    /// before in this run.
    pub(crate) fn bring_in_step(
        &self,
        file: &Path,
        roots: &[PathBuf],
        later: bool,
        embedder: &dyn Embedder,
        progress: &dyn Progress,
    ) -> anyhow::Result<Indexed> {
        if self.reindex && !later {
            remove_collection(file)?;
        }
        let mut options = IndexOptions::default();
        options.load.hidden = self.hidden;
        options.load.gitignore = !self.no_ignore;
        options.load.include.clone_from(&self.include);
        options.load.exclude.clone_from(&self.exclude);
        options.chunk = self.chunking();
        let collection: Collection = open_collection(file, embedder, &options.chunk)?;
        let report = index(embedder, &collection, roots, &options, progress)?;
        if report.cancelled {
            let kept = quantity::counted(report.added + report.updated, "document");
            let message = format!("{kept} indexed and kept; the same command goes on from there");
            return Err(Stopped { message }.into());
        }
        keep_index(&collection, progress)?;
        Ok(Indexed {
            collection: file.to_owned(),
            report,
        })
    }

    fn chunking(&self) -> ChunkOptions {
        let default = ChunkOptions::default();
        let chunk_size = self.chunk_size.unwrap_or(default.chunk_size);
        // An overlap keeps its share of a smaller chunk.
        let overlap = default.overlap.min(chunk_size / 8);
        ChunkOptions {
            chunk_size,
            overlap,
        }
    }
}

/// Makes the graph of a collection that has grown so large that it pays.
fn keep_index(collection: &Collection, progress: &dyn Progress) -> anyhow::Result<()> {
    progress.start("packing the vectors", None, Unit::Items);
    let kept = collection.maintain();
    progress.finish();
    kept?;
    Ok(())
}
