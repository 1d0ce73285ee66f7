//! `wenyi ask`: a question in, the sentences that answer it out, then a model's answer, checked.

mod show;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use wenyi::chat::ChatModel;
use wenyi::progress::Progress;
use wenyi::rag::{
    Answer, AnsweredBy, Claim, Evidence, EvidenceOptions, Language, Rag, RagEvent, RagOptions,
    RagQuestion, Support,
};

use crate::arguments::{ModelArguments, positive, precision_parser};
use crate::commands::index::Indexed;
use crate::exit::Stopped;
use crate::interrupt;
use crate::model;
use crate::output::{self, style};
use crate::progress::Terminal;
use crate::question::QuestionArguments;

use show::Show;

/// Answer a question from the documents
///
/// First the evidence: the sentences that answer, quoted exactly with their place, or word that the
/// documents do not answer. Then the answer of a chat model, each sentence checked against the
/// passages before it is shown. Indexes the folder first, as `wenyi index` does.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    question: QuestionArguments,

    /// How many passages to take sentences from
    #[arg(short = 'k', long, value_name = "N", default_value_t = 5, value_parser = positive)]
    top_k: usize,

    /// Show the evidence alone; no chat model is asked
    #[arg(long, conflicts_with_all = ["model", "max_tokens"])]
    extract: bool,

    /// Longest answer of the chat model
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,

    /// Print one JSON document
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    models: Models,
}

/// The model that phrases the answer, and the one that finds passages.
#[derive(Args, Debug)]
#[command(next_help_heading = "Models")]
struct Models {
    /// Chat model that phrases the answer: a name that `wenyi models list` shows, a folder or .gguf
    /// file; or a provider's, such as `openai:gpt-4o-mini` or `deepseek:deepseek-v4-flash`
    #[arg(short, long, value_name = "ID|PATH")]
    model: Option<String>,

    /// Model that finds passages, as `--model` of `wenyi index`; by default the one that made the
    /// collection
    #[arg(long, value_name = "ID|PATH")]
    embedding_model: Option<String>,

    /// Numbers that the models compute with: f32 is the reference, int8 the fastest
    #[arg(long, value_name = "NAME", value_parser = precision_parser())]
    precision: Option<wenyi::embed::Precision>,

    /// Threads to compute with; all cores if not given
    #[arg(long, value_name = "N", value_parser = positive)]
    threads: Option<usize>,

    /// Use only what is on this machine; open no connection
    #[arg(long)]
    offline: bool,
}

const EXAMPLES: &str = "\
Examples:
  wenyi ask docs/ \"which port does the server listen on?\"
  wenyi ask docs/ \"服务器监听哪个端口？\" --extract
  wenyi ask docs/ \"how do I rotate the keys?\" --model deepseek:deepseek-v4-flash
  wenyi ask notes.db \"when is the office closed?\" --json";

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let progress = Terminal::new(arguments.json);
    let models = &arguments.models;
    let opened = arguments.question.open(&models.embedding(), &progress)?;
    let rag = Rag::over(Arc::from(opened.embedder), Arc::new(opened.collection));
    let rag = rag.with_options(arguments.options());
    let question = RagQuestion::from(arguments.question.question().as_str());
    let evidence = rag.evidence(&question)?;
    let show = Show::new(style::stdout(), Language::of(&evidence.question));
    if !arguments.json {
        write(&show.evidence(&evidence))?;
    }
    let report = Report {
        collection: &opened.file,
        index: opened.indexed.as_ref(),
    };
    if arguments.extract || (evidence.support == Support::None && !arguments.json) {
        return match arguments.json {
            true => output::json(&report.with(&evidence, None)),
            false => Ok(()),
        };
    }
    let rag = match evidence.support {
        Support::None => rag,
        _ => match arguments.chat_model(&evidence, &progress)? {
            Chat::Large(chat) => rag.with_chat_model(chat),
            Chat::Small(chat) => rag.with_small_chat_model(chat),
            Chat::OfAnotherLanguage(name) => {
                progress.note(&show.no_model(&name));
                rag
            }
        },
    };
    drop(progress);
    if arguments.json {
        let answer = rag.answer(evidence, &mut |_| go_on())?;
        stopped()?;
        return output::json(&report.with(&answer.evidence, Some(&answer)));
    }
    if !rag.has_chat_model() {
        return Ok(());
    }
    // Quotes that stand in for an answer have been shown.
    let quotes: Vec<String> = (evidence.quotes.iter())
        .map(|quote| quote.text.trim().to_owned())
        .collect();
    let is_shown = |claim: Option<&Claim>| claim.is_some_and(|claim| quotes.contains(&claim.text));
    let answer = rag.answer(evidence, &mut |event| {
        if let RagEvent::Text { text, claim } = event
            && !is_shown(claim)
        {
            // A closed pipe ends the work; `write` will tell below.
            if write(&show.text(text, claim)).is_err() {
                return ControlFlow::Break(());
            }
        }
        go_on()
    })?;
    write(&show.end(&answer))?;
    stopped()
}

/// Goes on unless Ctrl-C was pressed.
fn go_on() -> ControlFlow<()> {
    match interrupt::requested() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

fn stopped() -> anyhow::Result<()> {
    if interrupt::requested() {
        let message = "the answer was cut short".into();
        return Err(Stopped { message }.into());
    }
    Ok(())
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// A chat model, by what can be expected of it.
enum Chat {
    Large(Arc<dyn ChatModel>),
    Small(Arc<dyn ChatModel>),
    /// It does not speak the question's language.
    OfAnotherLanguage(String),
}

impl Arguments {
    fn options(&self) -> RagOptions {
        let mut options = RagOptions {
            evidence: EvidenceOptions {
                top_k: self.top_k,
                ..EvidenceOptions::default()
            },
            ..RagOptions::default()
        };
        if let Some(limit) = self.max_tokens {
            options.chat.max_tokens = Some(limit);
        }
        options
    }

    /// The model that the user named; else the default one, if it speaks the question's language.
    fn chat_model(&self, evidence: &Evidence, progress: &Terminal) -> anyhow::Result<Chat> {
        let models = &self.models;
        let language = Language::of(&evidence.question);
        let arguments = ModelArguments {
            model: models.model.clone(),
            ..models.embedding()
        };
        let name = model::chat_model_name(arguments.model.as_deref())?;
        if models.model.is_none() && !model::speaks(&name, language.code(), models.offline)? {
            return Ok(Chat::OfAnotherLanguage(name));
        }
        let opened = model::open_chat(&arguments, &name, progress)?;
        Ok(match opened.is_small {
            true => Chat::Small(opened.chat),
            false => Chat::Large(opened.chat),
        })
    }
}

impl Models {
    fn embedding(&self) -> ModelArguments {
        ModelArguments {
            model: self.embedding_model.clone(),
            precision: self.precision,
            threads: self.threads,
            offline: self.offline,
        }
    }
}

/// What `--json` prints besides evidence and answer.
#[derive(Clone, Copy, Serialize)]
struct Report<'a> {
    collection: &'a Path,
    /// None if nothing was indexed.
    index: Option<&'a Indexed>,
}

#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    report: Report<'a>,
    #[serde(flatten)]
    evidence: &'a Evidence,
    /// None with `--extract`.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Answered<'a>>,
}

impl<'a> Report<'a> {
    fn with(self, evidence: &'a Evidence, answer: Option<&'a Answer>) -> Whole<'a> {
        Whole {
            report: self,
            evidence,
            answer: answer.map(Answered::of),
        }
    }
}

/// [`Answer`] without the evidence, which stands beside it.
#[derive(Serialize)]
struct Answered<'a> {
    text: &'a str,
    answered_by: AnsweredBy,
    support: Support,
    claims: &'a [Claim],
    num_left_out: usize,
    model: Option<&'a str>,
    finish_reason: Option<&'a str>,
    usage: Option<serde_json::Value>,
}

impl<'a> Answered<'a> {
    fn of(answer: &'a Answer) -> Self {
        Self {
            text: &answer.text,
            answered_by: answer.answered_by,
            support: answer.support,
            claims: &answer.claims,
            num_left_out: answer.num_left_out,
            model: answer.model.as_deref(),
            finish_reason: answer.finish_reason.as_ref().map(|reason| reason.as_str()),
            usage: answer.usage.as_ref().map(wenyi::chat::Usage::to_json),
        }
    }
}
