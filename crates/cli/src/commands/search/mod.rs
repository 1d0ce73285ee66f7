//! `wenyi search`: a question in, passages out.

mod passage;

use std::io::{self, Write};
use std::path::Path;

use clap::{Args, ValueEnum};
use serde::Serialize;
use wenyi::retrieve::{
    SearchHit, SearchMode, SearchOptions, SearchResults, search_reranked, search_words,
};
use wenyi::store::{Conditions, Fusion};

use crate::arguments::{ModelArguments, positive};
use crate::commands::index::{Indexed, summary};
use crate::exit::UserError;
use crate::model;
use crate::output::place::place;
use crate::output::printable::printable;
use crate::output::style::Style;
use crate::output::{self, style};
use crate::progress::Terminal;
use crate::question::QuestionArguments;

use passage::Marks;

/// Find the passages that answer a question
///
/// Indexes the folder first, as `wenyi index` does: only what changed is embedded. Question and
/// documents may be in different languages. Meaning and words count together; names and code are
/// found as they are written. Greater scores are better.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    question: QuestionArguments,

    /// How many passages to show
    #[arg(short = 'k', long, value_name = "N", default_value_t = 5, value_parser = positive)]
    top_k: usize,

    /// What is compared: meaning and words (hybrid), meaning alone (dense), or words alone (text)
    #[arg(long, value_name = "NAME", value_enum)]
    mode: Option<Mode>,

    /// Leave out passages with a lower cosine; with `--mode text`, a lower BM25
    #[arg(long, value_name = "SCORE")]
    min_score: Option<f32>,

    /// Only documents that meet these conditions on `path`, `title` and metadata, in the filter
    /// language of Qdrant
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,

    /// Let this model read the question with each of the best passages, and order them anew: a
    /// reranker that `wenyi models list` shows, a folder, or a provider's, such as
    /// `cohere:rerank-v3.5`
    #[arg(long, value_name = "ID|PATH")]
    rerank: Option<String>,

    /// Choose passages that are unlike each other (maximal marginal relevance): 1 is closeness to
    /// the question alone, 0 difference alone, 0.5 some of both
    #[arg(long, value_name = "LAMBDA", value_parser = lambda)]
    mmr: Option<f32>,

    /// From how many of the closest `--rerank` and `--mmr` choose
    #[arg(long, value_name = "N", default_value_t = SearchOptions::default().candidates,
          value_parser = positive)]
    candidates: usize,

    /// How meaning and words become one order: weighted scores, or reciprocal ranks
    #[arg(long, value_name = "NAME", value_enum)]
    fusion: Option<FusionName>,

    /// Show whole passages instead of the lines around the best sentence
    #[arg(long)]
    full: bool,

    /// Print one JSON document
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    model: ModelArguments,
}

/// A number from 0 to 1.
fn lambda(value: &str) -> Result<f32, String> {
    match value.parse::<f32>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err("expected a number from 0 to 1".into()),
    }
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

/// `--fusion`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FusionName {
    Weighted,
    Rrf,
}

impl From<FusionName> for Fusion {
    fn from(name: FusionName) -> Self {
        match name {
            FusionName::Weighted => Self::default(),
            FusionName::Rrf => Self::ReciprocalRank {
                k: 60.0,
                text_weight: 1.0,
            },
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  wenyi search docs/ \"how do I use it without a network?\"
  wenyi search docs/ \"怎样在没有网络的机器上使用？\" --top-k 3
  wenyi search notes/ \"travel costs\" --collection notes.db --json
  wenyi search docs/ read_to_string --mode text
  wenyi search docs/ \"how do I use it offline?\" --rerank bge-reranker-v2-m3
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
    let conditions = arguments.filter.as_deref().map(conditions).transpose()?;
    let progress = Terminal::new(arguments.json);
    let reranker = arguments.rerank.as_deref();
    let reranker = reranker.map(|name| model::open_reranker(name, &arguments.model, &progress));
    let reranker = reranker.transpose()?;
    let reranker = reranker.as_deref();
    let (question, options) = (arguments.question.question(), arguments.options(conditions));
    let needs_words_alone = matches!(arguments.mode, Some(Mode::Text));
    let as_it_is = needs_words_alone.then(|| arguments.question.open_as_it_is(&arguments.model));
    let (file, indexed, results) = match as_it_is.transpose()?.flatten() {
        Some((collection, file)) => {
            let results = search_words(reranker, &collection, &question, &options)?;
            (file, None, results)
        }
        None => {
            let opened = arguments.question.open(&arguments.model, &progress)?;
            let (embedder, collection) = (opened.embedder.as_ref(), &opened.collection);
            let results = search_reranked(embedder, reranker, collection, &question, &options)?;
            (opened.file, opened.indexed, results)
        }
    };
    drop(progress);
    if arguments.json {
        return output::json(&Report {
            collection: &file,
            index: indexed.as_ref(),
            results: &results,
        });
    }
    print(&results, indexed.as_ref(), arguments.full)
}

impl Arguments {
    fn options(&self, conditions: Option<Conditions>) -> SearchOptions {
        SearchOptions {
            top_k: self.top_k,
            mode: self.mode.map(Into::into),
            conditions,
            min_score: self.min_score,
            fusion: self.fusion.map_or_else(Fusion::default, Into::into),
            candidates: self.candidates,
            mmr: self.mmr,
            ..SearchOptions::default()
        }
    }
}

fn conditions(filter: &str) -> anyhow::Result<Conditions> {
    let json = serde_json::from_str(filter).map_err(|error| {
        UserError::new(format!("`--filter` is not JSON: {error}")).with_hint(
            r#"for example --filter '{"must": [{"key": "title", "match": {"text": "guide"}}]}'"#,
        )
    })?;
    Ok(Conditions::from_json(&json).map_err(wenyi::retrieve::Error::from)?)
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
    let lines = (hit.first_line, hit.last_line);
    let at = place(&hit.path, hit.location.as_ref(), lines);
    let number = style.bold(&format!("{number}."));
    let score = style.dim(&format!("{:.3}", hit.score));
    let mut text = format!("{number} {}  {score}\n", style.accent(&at));
    if !hit.heading_path.is_empty() {
        text.push_str(&format!(
            "   {}\n",
            style.bold(&printable(&hit.heading_path.join(" › ")))
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
        let lines = (first.first_line, first.last_line);
        let also = place(&first.path, first.location.as_ref(), lines);
        text.push_str(&format!(
            "   {}\n",
            style.dim(&format!("also in {also}{more}"))
        ));
    }
    text.push('\n');
    text
}
