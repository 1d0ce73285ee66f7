//! `wenyi ask`: a question in, the sentences that answer it out, then a model's answer, checked.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use wenyi::chat::{ChatModel, DecoderOptions};
use wenyi::progress::Progress;
use wenyi::rag::{
    Answer, AnsweredBy, Claim, Evidence, EvidenceOptions, Language, Rag, RagOptions, RagQuestion,
    Support,
};

use crate::answering::{self, Show};
use crate::arguments::{AnsweringArguments, positive};
use crate::commands::index::Indexed;
use crate::model;
use crate::output::{self, style};
use crate::progress::Terminal;
use crate::question::QuestionArguments;

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
    models: AnsweringArguments,
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
        answering::write(&show.evidence(&evidence))?;
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
        let answer = rag.answer(evidence, &mut |_| answering::go_on())?;
        answering::stopped()?;
        return output::json(&report.with(&answer.evidence, Some(&answer)));
    }
    if !rag.has_chat_model() {
        return Ok(());
    }
    answering::answer(&rag, evidence, show)?;
    answering::stopped()
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
        let arguments = models.chat();
        let name = model::chat_model_name(arguments.model.as_deref())?;
        if models.model.is_none() && !model::speaks(&name, language.code(), models.compute.offline)?
        {
            return Ok(Chat::OfAnotherLanguage(name));
        }
        let opened = model::open_chat(&arguments, &name, DecoderOptions::default(), progress)?;
        Ok(match opened.is_small {
            true => Chat::Small(opened.chat),
            false => Chat::Large(opened.chat),
        })
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
