//! `wenyi ask`: a question in, the sentences that answer it out, or word that none does.

use std::io::{self, Write};
use std::path::Path;

use clap::Args;
use serde::Serialize;
use wenyi::rag::{Evidence, EvidenceOptions, Quote, Support, evidence};

use crate::arguments::positive;
use crate::commands::index::Indexed;
use crate::output::place::place;
use crate::output::style::Style;
use crate::output::wrap::wrap;
use crate::output::{self, style};
use crate::progress::Terminal;
use crate::question::QuestionArguments;

/// Answer a question with sentences of the documents
///
/// Quotes the sentences that answer, exactly and with their place, or says that the documents do not
/// answer. Indexes the folder first, as `wenyi index` does.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    question: QuestionArguments,

    /// How many passages to take sentences from
    #[arg(short = 'k', long, value_name = "N", default_value_t = 5, value_parser = positive)]
    top_k: usize,

    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  wenyi ask docs/ \"which port does the server listen on?\"
  wenyi ask docs/ \"服务器监听哪个端口？\"
  wenyi ask notes.db \"when is the office closed?\" --json";

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    collection: &'a Path,
    /// None if nothing was indexed.
    index: Option<&'a Indexed>,
    #[serde(flatten)]
    evidence: &'a Evidence,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let progress = Terminal::new(arguments.json);
    let opened = arguments.question.open(&progress)?;
    let options = EvidenceOptions {
        top_k: arguments.top_k,
        ..EvidenceOptions::default()
    };
    let question = arguments.question.question();
    let embedder = opened.embedder.as_ref();
    let found = evidence(embedder, &opened.collection, &question, &options)?;
    drop(progress);
    if arguments.json {
        return output::json(&Report {
            collection: &opened.file,
            index: opened.indexed.as_ref(),
            evidence: &found,
        });
    }
    let text = shown(&found, style::stdout());
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

fn shown(found: &Evidence, style: Style) -> String {
    let mut text = String::new();
    match found.support {
        Support::None => text.push_str(&not_in_these_documents(found, style)),
        Support::Weak => {
            let line = in_the_questions_language(
                found,
                "the documents may not answer this; the nearest sentences:",
                "文档可能没有回答这个问题；最接近的句子：",
            );
            text.push_str(&format!("{}\n\n", style.dim(line)));
        }
        Support::Strong => {}
    }
    for quote in &found.quotes {
        text.push_str(&quoted(quote, style));
    }
    text
}

fn quoted(quote: &Quote, style: Style) -> String {
    let mut text = String::new();
    let mark = format!("[{}] ", quote.number);
    let width = output::width() - mark.len();
    for (index, line) in wrap(&quote.text, width).into_iter().enumerate() {
        let lead = if index == 0 {
            style.bold(&mark)
        } else {
            " ".repeat(mark.len())
        };
        let line = format!("{lead}{}", &quote.text[line]);
        text.push_str(&format!("{}\n", line.trim_end()));
    }
    let place = place(&quote.path, quote.first_line, quote.last_line);
    let lead = " ".repeat(mark.len());
    let headings = match quote.heading_path.join(" › ") {
        headings if headings.is_empty() => headings,
        headings => style.dim(&format!("  {headings}")),
    };
    text.push_str(&format!("{lead}{}{headings}\n\n", style.accent(&place)));
    text
}

fn not_in_these_documents(found: &Evidence, style: Style) -> String {
    let line = in_the_questions_language(found, "not in these documents", "这些文档中没有答案");
    let mut text = format!("{}\n", style.bold(line));
    if let Some(nearest) = found.passages.first() {
        let nearest = place(&nearest.path, nearest.first_line, nearest.last_line);
        let line = in_the_questions_language(found, "nearest passage:", "最接近的段落：");
        text.push_str(&format!("{} {}\n", style.dim(line), style.accent(&nearest)));
    }
    text
}

/// Whoever asks in Chinese is told so in Chinese.
fn in_the_questions_language<'a>(found: &Evidence, english: &'a str, chinese: &'a str) -> &'a str {
    let is_han = |c: char| matches!(c, '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}');
    if found.question.contains(is_han) {
        chinese
    } else {
        english
    }
}
