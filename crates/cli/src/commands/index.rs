//! `wenyi index`: brings collections in step with folders.

use std::io::{self, Write};
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
use crate::output::{self, quantity, style};
use crate::progress::Terminal;

/// Embed the documents of folders and keep their vectors
///
/// Reads Markdown, text and HTML. A second run embeds only what changed, and drops what is gone; a
/// run that was stopped goes on where it was. `wenyi search` does the same before it searches.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Folders and files to index
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    indexing: IndexingArguments,

    /// Print one JSON document
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    model: ModelArguments,
}

/// How to index, for `index` and `search`.
#[derive(Args, Debug)]
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
}

const EXAMPLES: &str = "\
Examples:
  wenyi index docs/ notes/
  wenyi index docs/ notes/ --collection knowledge.db
  wenyi index docs/ --model bge-small-zh-v1.5 --reindex";

/// What was done for one collection.
#[derive(Debug, Serialize)]
pub(crate) struct Indexed {
    pub(crate) collection: PathBuf,
    #[serde(flatten)]
    pub(crate) report: IndexReport,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Report {
        model: String,
        collections: Vec<Indexed>,
    }
    let progress = Terminal::new(arguments.json);
    let hub = model::hub(arguments.model.offline)?;
    let groups = groups(arguments, &hub)?;
    let remembered = groups.first().and_then(|(collection, _)| {
        let keeps_model = arguments.model.model.is_none() && !arguments.indexing.reindex;
        keeps_model
            .then(|| remembered_model(collection, &hub))
            .flatten()
    });
    let embedder = model::open(&arguments.model, remembered.as_deref(), &progress)?;
    let mut collections = Vec::new();
    for (file, roots) in groups {
        let indexed =
            arguments
                .indexing
                .bring_in_step(&file, &roots, embedder.as_ref(), &progress)?;
        if !arguments.json {
            print(&roots, &indexed)?;
        }
        collections.push(indexed);
    }
    if arguments.json {
        let model = embedder.fingerprint().model.clone();
        return output::json(&Report { model, collections });
    }
    Ok(())
}

/// Which paths go into which collection.
fn groups(
    arguments: &Arguments,
    hub: &wenyi::hub::Hub,
) -> anyhow::Result<Vec<(PathBuf, Vec<PathBuf>)>> {
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
                let message = format!("`{}` is a collection, expected documents", path.display());
                Err(UserError::new(message)
                    .with_hint("`wenyi search` takes collections")
                    .into())
            }
        })
        .collect()
}

impl IndexingArguments {
    /// Opens the collection at `file` and embeds what changed below `roots`.
    pub(crate) fn bring_in_step(
        &self,
        file: &Path,
        roots: &[PathBuf],
        embedder: &dyn Embedder,
        progress: &dyn Progress,
    ) -> anyhow::Result<Indexed> {
        if self.reindex {
            remove_collection(file)?;
        }
        let mut options = IndexOptions::default();
        options.load.hidden = self.hidden;
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

fn print(roots: &[PathBuf], indexed: &Indexed) -> anyhow::Result<()> {
    let style = style::stdout();
    let mut stdout = io::stdout().lock();
    let roots: Vec<String> = roots
        .iter()
        .map(|root| root.display().to_string())
        .collect();
    writeln!(
        stdout,
        "{}: {}",
        style.bold(&roots.join(", ")),
        summary(&indexed.report)
    )?;
    let file = indexed.collection.display().to_string();
    writeln!(stdout, "  {}", style.dim(&file))?;
    Ok(())
}

/// `3 documents added, 1 changed, 40 unchanged · 12,345 tokens in 2.1 s`.
pub(crate) fn summary(report: &IndexReport) -> String {
    let counts = [
        (report.added, "added"),
        (report.updated, "changed"),
        (report.removed, "removed"),
        (report.kept, "not readable now and kept"),
        (report.unchanged, "unchanged"),
    ];
    let mut parts = Vec::new();
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        let number = if parts.is_empty() {
            quantity::counted(count, "document")
        } else {
            quantity::grouped(count)
        };
        parts.push(format!("{number} {what}"));
    }
    let documents = if parts.is_empty() {
        "no documents".to_owned()
    } else {
        parts.join(", ")
    };
    let seconds = quantity::seconds(report.seconds);
    if report.tokens == 0 {
        return format!("{documents} · {seconds}");
    }
    format!(
        "{documents} · {} in {seconds}",
        quantity::counted(report.tokens, "token")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_changed() {
        let report = IndexReport {
            added: 1,
            unchanged: 1200,
            tokens: 5000,
            seconds: 1.5,
            ..IndexReport::default()
        };
        assert_eq!(
            summary(&report),
            "1 document added, 1,200 unchanged · 5,000 tokens in 1.5 s"
        );
        assert_eq!(summary(&IndexReport::default()), "no documents · 0.00 ms");
    }
}
