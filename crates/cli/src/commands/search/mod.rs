//! `wenyi search`: a question in, passages out.

mod passage;

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use wenyi::embed::Embedder;
use wenyi::progress::Progress;
use wenyi::retrieve::{
    SearchHit, SearchMode, SearchOptions, SearchResults, open_to_search, search,
};

use crate::arguments::{ModelArguments, positive};
use crate::collection::{Target, remembered_model};
use crate::commands::index::{Indexed, IndexingArguments, summary};
use crate::exit::UserError;
use crate::model;
use crate::output::style::Style;
use crate::output::{self, style};
use crate::progress::Terminal;

use passage::Marks;

/// Find the passages that answer a question
///
/// Indexes the folder first, as `wenyi index` does: only what changed is embedded. Question and
/// documents may be in different languages. Meaning and words count together; names and code are
/// found as they are written. Greater scores are better.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Folder or file to search, or a collection made by `wenyi index --collection`
    #[arg(value_name = "PATH|COLLECTION.db")]
    path: PathBuf,

    /// The question
    #[arg(required = true, value_name = "QUESTION")]
    question: Vec<String>,

    /// How many passages to show
    #[arg(short = 'k', long, value_name = "N", default_value_t = 5, value_parser = positive)]
    top_k: usize,

    /// What is compared: meaning and words (hybrid), meaning alone (dense), or words alone (text)
    #[arg(long, value_name = "NAME", value_enum)]
    mode: Option<Mode>,

    /// Leave out passages with a lower cosine; with `--mode text`, a lower BM25
    #[arg(long, value_name = "SCORE")]
    min_score: Option<f32>,

    /// Show whole passages instead of the lines around the best sentence
    #[arg(long)]
    full: bool,

    /// Search what is indexed already, without looking at the folder
    #[arg(long, conflicts_with = "reindex")]
    no_index: bool,

    #[command(flatten)]
    indexing: IndexingArguments,

    /// Print one JSON document
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    model: ModelArguments,
}

/// `--mode`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    Hybrid,
    Dense,
    Text,
}

impl From<Mode> for SearchMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Hybrid => Self::Hybrid,
            Mode::Dense => Self::Dense,
            Mode::Text => Self::Text,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  wenyi search docs/ \"how do I use it without a network?\"
  wenyi search docs/ \"怎样在没有网络的机器上使用？\" --top-k 3
  wenyi search notes/ \"travel costs\" --collection notes.db --json
  wenyi search docs/ read_to_string --mode text
  wenyi search notes.db \"travel costs\" --full";

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    collection: &'a Path,
    /// None if nothing was indexed.
    index: Option<&'a Indexed>,
    #[serde(flatten)]
    results: &'a SearchResults,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let question = arguments.question.join(" ");
    let progress = Terminal::new(arguments.json);
    let hub = model::hub(arguments.model.offline)?;
    let target = Target::new(
        &arguments.path,
        arguments.indexing.collection.as_deref(),
        &hub,
    );
    expect_something(&target, arguments.no_index)?;
    let keeps_model = arguments.model.model.is_none() && !arguments.indexing.reindex;
    let remembered = keeps_model
        .then(|| remembered_model(target.collection(), &hub))
        .flatten();
    let embedder = model::open(&arguments.model, remembered.as_deref(), &progress)?;

    let indexed = arguments.index(&target, embedder.as_ref(), &progress)?;
    let collection = open_to_search(target.collection(), embedder.as_ref())?;
    let options = SearchOptions {
        top_k: arguments.top_k,
        mode: arguments.mode.map(Into::into),
        min_score: arguments.min_score,
        ..SearchOptions::default()
    };
    let results = search(embedder.as_ref(), &collection, &question, &options)?;
    drop(progress);
    if arguments.json {
        let collection = target.collection();
        return output::json(&Report {
            collection,
            index: indexed.as_ref(),
            results: &results,
        });
    }
    print(&results, indexed.as_ref(), arguments.full)
}

/// Says at once that there is nothing at the path, before a model is fetched.
fn expect_something(target: &Target, no_index: bool) -> anyhow::Result<()> {
    let Target::Documents { root, collection } = target else {
        return Ok(());
    };
    let (message, hint) = match no_index {
        false if !root.exists() => (
            format!("there is no `{}`", root.display()),
            "give a folder, a file or a collection that exists",
        ),
        true if !collection.exists() => (
            format!("`{}` is not indexed", root.display()),
            "leave out `--no-index`",
        ),
        _ => return Ok(()),
    };
    Err(UserError::new(message).with_hint(hint).into())
}

impl Arguments {
    /// Indexes what changed, if there is anything to look at and the collection can be written.
    fn index(
        &self,
        target: &Target,
        embedder: &dyn Embedder,
        progress: &Terminal,
    ) -> anyhow::Result<Option<Indexed>> {
        let Target::Documents { root, collection } = target else {
            return Ok(None);
        };
        if self.no_index {
            return Ok(None);
        }
        let roots = std::slice::from_ref(root);
        match self
            .indexing
            .bring_in_step(collection, roots, embedder, progress)
        {
            Err(error) if is_read_only(&error) && collection.exists() => {
                progress.note("the collection is read-only: searching it as it is");
                Ok(None)
            }
            other => other.map(Some),
        }
    }
}

fn is_read_only(error: &anyhow::Error) -> bool {
    use wenyi::retrieve::ErrorKind;
    let Some(error) = error.downcast_ref::<wenyi::retrieve::Error>() else {
        return false;
    };
    match error.kind() {
        ErrorKind::Store(error) => {
            matches!(error.kind(), wenyi_store::ErrorKind::ReadOnly { .. })
        }
        _ => false,
    }
}

fn print(results: &SearchResults, indexed: Option<&Indexed>, full: bool) -> anyhow::Result<()> {
    let style = style::stdout();
    let mut stdout = io::stdout().lock();
    if let Some(indexed) = indexed
        && indexed.report.tokens + indexed.report.removed > 0
    {
        let line = format!("indexed: {}", summary(&indexed.report));
        writeln!(stdout, "{}\n", style.dim(&line))?;
    }
    if results.hits.is_empty() {
        writeln!(stdout, "no passages found")?;
    }
    for (number, hit) in (1..).zip(&results.hits) {
        write!(stdout, "{}", shown(number, hit, full, style))?;
    }
    Ok(())
}

/// A hit: where, how close, below which headings, what it says.
fn shown(number: usize, hit: &SearchHit, full: bool, style: Style) -> String {
    /// Lines of a passage that are shown around its best sentence.
    const EXCERPT: usize = 6;
    let place = place(&hit.path, hit.first_line, hit.last_line);
    let number = style.bold(&format!("{number}."));
    let score = style.dim(&format!("{:.3}", hit.score));
    let mut text = format!("{number} {}  {score}\n", style.accent(&place));
    if !hit.heading_path.is_empty() {
        text.push_str(&format!(
            "   {}\n",
            style.bold(&hit.heading_path.join(" › "))
        ));
    }
    let marks = Marks {
        sentence: hit
            .best_sentence
            .as_ref()
            .map(|sentence| sentence.span.clone()),
        words: hit.matches.clone(),
    };
    let most = if full { usize::MAX } else { EXCERPT };
    for line in passage::render(&hit.text, &marks, output::width() - 3, most, style) {
        text.push_str(&format!("   {line}\n"));
    }
    if let Some(first) = hit.also_in.first() {
        let more = match hit.also_in.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let also = self::place(&first.path, first.first_line, first.last_line);
        text.push_str(&format!(
            "   {}\n",
            style.dim(&format!("also in {also}{more}"))
        ));
    }
    text.push('\n');
    text
}

/// `docs/guide.md:12-30`, as editors and terminals take it.
fn place(path: &Path, first_line: u64, last_line: u64) -> String {
    // Shorter, and still right for whoever clicks it in this terminal.
    let here = env::current_dir()
        .ok()
        .and_then(|here| path.strip_prefix(here).ok());
    let path = here.unwrap_or(path).display();
    if first_line == last_line {
        format!("{path}:{first_line}")
    } else {
        format!("{path}:{first_line}-{last_line}")
    }
}
