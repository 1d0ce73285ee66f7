//! `wenyi eval`: how well a model finds what it should.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;
use wenyi::eval::qa::{self, QaSummary, judged_questions};
use wenyi::eval::retrieval::{JudgedSet, Method, Score, evaluate, judged_sets};
use wenyi::rag::Rag;
use wenyi::retrieve::open_to_search;
use wenyi::store::Fusion;

use crate::arguments::ModelArguments;
use crate::collection::{Target, remembered_model};
use crate::model;
use crate::output::table::{Align, Table};
use crate::output::{self, style};
use crate::progress::Terminal;

/// Measure quality on data with known answers
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Retrieval(RetrievalArguments),
    Qa(QaArguments),
}

/// Measure how well queries find the documents that answer them (nDCG@10)
///
/// A folder in the layout of BEIR (`corpus.jsonl`, `queries.jsonl`, `qrels/test.tsv`), or with
/// `pairs.jsonl` (fields `en`, `zh`, `en_title`, `zh_title`), or a folder of such folders. Every
/// document is one passage, cut to what the model takes.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
struct RetrievalArguments {
    /// Folder with judged queries
    folder: PathBuf,

    /// Print one JSON document
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    model: ModelArguments,
}

/// Measure how well questions are answered from documents: files found, answers quoted
///
/// Each line of QUESTIONS is a JSON object: `id`, `question`, `sources` (ends of paths, any of which
/// answers), `evidence` (what must stand in the quotes) and `answerable`.
#[derive(Args, Debug)]
#[command(after_help = QA_EXAMPLES)]
struct QaArguments {
    /// Indexed folder, or a collection
    #[arg(value_name = "PATH|COLLECTION.db")]
    path: PathBuf,

    /// Questions, a `.jsonl` file
    #[arg(value_name = "QUESTIONS")]
    questions: PathBuf,

    /// Print one JSON document
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    model: ModelArguments,
}

const QA_EXAMPLES: &str = "\
Examples:
  wenyi eval qa docs/ questions.jsonl
  wenyi eval qa notes.db questions.jsonl --json";

const EXAMPLES: &str = "\
Examples:
  wenyi eval retrieval scifact/
  wenyi eval retrieval beir/ --model all-MiniLM-L6-v2 --json";

/// The ways to search that are compared, by the names of `wenyi search --mode`.
fn methods() -> [(&'static str, Method); 4] {
    let reciprocal = Fusion::ReciprocalRank {
        k: 60.0,
        text_weight: 1.0,
    };
    [
        ("text", Method::Text),
        ("dense", Method::Dense),
        ("hybrid", Method::Hybrid(Fusion::default())),
        ("reciprocal rank", Method::Hybrid(reciprocal)),
    ]
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    sets: Vec<SetReport>,
}

#[derive(Serialize)]
struct SetReport {
    name: String,
    documents: usize,
    queries: usize,
    scores: Vec<Named>,
}

#[derive(Serialize)]
struct Named {
    method: &'static str,
    #[serde(flatten)]
    score: Score,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.what {
        What::Retrieval(arguments) => retrieval(arguments),
        What::Qa(arguments) => answering(arguments),
    }
}

fn answering(arguments: &QaArguments) -> anyhow::Result<()> {
    let questions = judged_questions(&arguments.questions)?;
    let progress = Terminal::new(arguments.json);
    let hub = model::hub(arguments.model.compute.offline)?;
    let target = Target::new(&arguments.path, None, &hub);
    let remembered = remembered_model(target.collection(), &hub);
    let embedder = model::open(&arguments.model, remembered.as_deref(), &progress)?;
    let collection = open_to_search(target.collection(), embedder.as_ref())?;
    let rag = Rag::over(Arc::from(embedder), Arc::new(collection));
    let results = qa::evaluate(&rag, &questions, false)?;
    drop(progress);
    let summary = QaSummary::of(&results);
    if arguments.json {
        return output::json(&serde_json::json!({"summary": summary, "questions": results}));
    }
    let mut stdout = io::stdout().lock();
    for result in &results {
        let missing = match () {
            () if !result.answerable => continue,
            () if !result.is_file_found => "no right file among the passages",
            () if !result.is_retrieved => "not in the passages",
            () if !result.is_quoted => "in the passages, not quoted",
            () => continue,
        };
        writeln!(stdout, "{}: {missing}", result.id)?;
    }
    let [strong, weak, none] = summary.judged_answerable;
    writeln!(
        stdout,
        "answered by the documents: {}; right file found {}, in the passages {}, quoted {}; \
         judged strong {strong}, weak {weak}, none {none}; {} characters quoted on average",
        summary.answerable,
        summary.files_found,
        summary.retrieved,
        summary.quoted,
        summary.quoted_characters
    )?;
    let [strong, weak, none] = summary.judged_unanswerable;
    writeln!(
        stdout,
        "not answered: {}; judged strong {strong}, weak {weak}, none {none}",
        summary.unanswerable
    )?;
    Ok(())
}

fn retrieval(arguments: &RetrievalArguments) -> anyhow::Result<()> {
    let sets = judged_sets(&arguments.folder)?;
    let progress = Terminal::new(arguments.json);
    let embedder = model::open(&arguments.model, None, &progress)?;
    let methods = methods();
    let ways = methods.map(|(_, method)| method);
    let mut report = Report {
        model: embedder.fingerprint().model.clone(),
        sets: Vec::new(),
    };
    for set in &sets {
        let scores = evaluate(embedder.as_ref(), set, &ways, &progress)?;
        let names = methods.iter().map(|(name, _)| *name);
        report.sets.push(set_report(set, names.zip(scores)));
    }
    drop(progress);
    match arguments.json {
        true => output::json(&report),
        false => print(&report, &methods.map(|(name, _)| name)),
    }
}

fn set_report(set: &JudgedSet, scores: impl Iterator<Item = (&'static str, Score)>) -> SetReport {
    SetReport {
        name: set.name.clone(),
        documents: set.documents.len(),
        queries: set.queries.len(),
        scores: scores
            .map(|(method, score)| Named { method, score })
            .collect(),
    }
}

fn print(report: &Report, methods: &[&str]) -> anyhow::Result<()> {
    let mut columns = vec![
        ("set", Align::Left),
        ("documents", Align::Right),
        ("queries", Align::Right),
    ];
    columns.extend(methods.iter().map(|name| (*name, Align::Right)));
    let mut table = Table::new(&columns);
    for set in &report.sets {
        let mut cells = vec![
            set.name.clone(),
            set.documents.to_string(),
            set.queries.to_string(),
        ];
        let figure = |named: &Named| format!("{:.4}", named.score.ndcg_at_10);
        cells.extend(set.scores.iter().map(figure));
        table.row(cells);
    }
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "nDCG@10 of {}\n", report.model)?;
    write!(stdout, "{}", table.render(style::stdout()))?;
    Ok(())
}
