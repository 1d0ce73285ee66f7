//! `POST /v1/ask`: a question in, its evidence and an answer from it out, whole or as events. The
//! API is this server's own; its errors have the shape of `OpenAI`'s.

mod print;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use wenyi::chat::Message;
use wenyi::embed::EmbedError;
use wenyi::providers::cancellable;
use wenyi::rag::{EvidenceOptions, Language, Rag, RagError, RagEvent, RagOptions, RagQuestion};
use wenyi::retrieve;

use super::fields::Fields;
use super::json;
use crate::documents::Opened;
use crate::http::{App, Payload};
use crate::models::Choice;
use crate::problem::Problem;

/// Passages that a question may have.
const MOST_PASSAGES: usize = 50;
/// Pieces that wait for a slow client before the model does.
const PIECES: usize = 64;

/// What comes while a question is answered.
enum Piece {
    Evidence(serde_json::Value),
    Text(serde_json::Value),
    Answer(serde_json::Value),
}

type Pieces = Receiver<Result<Piece, Problem>>;

pub(crate) async fn ask(State(app): State<Arc<App>>, body: Payload) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let question = RagQuestion {
        question: fields.required("question")?,
        history: fields
            .optional::<Vec<Message>>("messages")?
            .unwrap_or_default(),
    };
    if question.question.trim().is_empty() {
        return Err(Problem::field("question", "is empty"));
    }
    let streams: bool = fields.optional("stream")?.unwrap_or(false);
    let options = options(&fields)?;
    let asked: Option<String> = fields.optional("collection")?;
    let opened = app.documents.open(&app.models, asked.as_deref()).await?;
    let rag = Rag::over(opened.embedder.clone(), opened.collection.clone()).with_options(options);
    let language = Language::of(&question.question);
    let (rag, kept) = with_chat_model(&app, &fields, rag, language).await?;
    let mut pieces = start(rag, question, &opened, kept)?;
    // What fails before the first piece has a status of its own.
    let first = match pieces.recv().await {
        Some(first) => first?,
        None => return Err(Problem::Stopping),
    };
    if streams {
        let limit = app.options.request_timeout;
        return Ok(print::stream(first, pieces, limit));
    }
    let mut next = Some(Ok(first));
    while let Some(piece) = next {
        if let Piece::Answer(answer) = piece? {
            return Ok(json(StatusCode::OK, &answer));
        }
        next = pieces.recv().await;
    }
    Err(Problem::Stopping)
}

fn options(fields: &Fields<'_>) -> Result<RagOptions, Problem> {
    let top_k: usize = fields.optional("top_k")?.unwrap_or(5);
    if !(1..=MOST_PASSAGES).contains(&top_k) {
        let reason = format!("is {top_k}, expected 1 to {MOST_PASSAGES}");
        return Err(Problem::field("top_k", reason));
    }
    let mut options = RagOptions {
        evidence: EvidenceOptions {
            top_k,
            path_prefix: fields.optional("path_prefix")?,
        },
        ..RagOptions::default()
    };
    match fields.optional::<u32>("max_tokens")? {
        Some(0) => return Err(Problem::field("max_tokens", "is 0, expected at least 1")),
        Some(limit) => options.chat.max_tokens = Some(limit),
        None => {}
    }
    Ok(options)
}

/// What is kept as long as a question is answered: a place, and the model in memory.
type Kept = Box<dyn Send>;

/// The model that the client asked for; else the first to talk with, if there is one and it knows the
/// question's language. Models on this machine are taken to be small.
async fn with_chat_model(
    app: &Arc<App>,
    fields: &Fields<'_>,
    rag: Rag,
    language: Language,
) -> Result<(Rag, Kept), Problem> {
    let model: Option<String> = fields.optional("model")?;
    if fields.optional("extract")?.unwrap_or(false) {
        return Ok((rag, Box::new(())));
    }
    match app.models.registry.speaker(model.as_deref()).await {
        // A small model that does not know the language writes what looks like it.
        Ok((name, Choice::Here(_)))
            if model.is_none() && !app.models.registry.speaks(&name, language.code()) =>
        {
            Ok((rag, Box::new(())))
        }
        Ok((_, Choice::Here(speaker))) => {
            let (chat, place) = speaker.seat()?;
            Ok((rag.with_small_chat_model(chat), Box::new((place, speaker))))
        }
        Ok((_, Choice::There(_, remote))) => {
            let (chat, place) = remote.speaker()?.seat()?;
            Ok((rag.with_chat_model(chat), Box::new((place, remote))))
        }
        // Without one the answer is in the documents' own words.
        Err(Problem::NoModelFor { .. }) if model.is_none() => Ok((rag, Box::new(()))),
        Err(problem) => Err(problem),
    }
}

/// Answers on a thread of its own, since models block; dropping the receiver ends it.
fn start(rag: Rag, question: RagQuestion, opened: &Opened, kept: Kept) -> Result<Pieces, Problem> {
    let (sender, receiver) = channel(PIECES);
    let head = print::Head::new(&opened.name);
    let thread = thread::Builder::new().name("wenyi-ask".into());
    let started = thread.spawn(move || {
        // A provider may be silent for long after its client has gone.
        let watched = sender.clone();
        let work = || answer(&rag, &question, &head, &sender);
        cancellable(move || watched.is_closed(), work);
        drop(kept);
    });
    started.map_err(|error| Problem::Internal {
        reason: error.to_string(),
    })?;
    Ok(receiver)
}

fn answer(
    rag: &Rag,
    question: &RagQuestion,
    head: &print::Head,
    sender: &Sender<Result<Piece, Problem>>,
) {
    let mut on_event = |event: RagEvent<'_>| {
        let piece = match event {
            RagEvent::Evidence(evidence) => Piece::Evidence(head.evidence(evidence)),
            RagEvent::Text { text, claim, .. } => Piece::Text(head.text(text, claim)),
        };
        match sender.blocking_send(Ok(piece)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    };
    let end = match rag.stream(question, &mut on_event) {
        Ok(answer) => Ok(Piece::Answer(head.answer(&answer))),
        Err(error) => Err(problem(&error)),
    };
    // Nobody is left to tell if this cannot be sent.
    let _ = sender.blocking_send(end);
}

fn problem(error: &RagError) -> Problem {
    let internal = |reason: String| Problem::Internal { reason };
    match error {
        RagError::Chat(error) => Problem::of_chat(error),
        RagError::Retrieve(error) => match error.kind() {
            retrieve::ErrorKind::Embed(EmbedError::Engine(error)) if error.is_user_error() => {
                Problem::field("question", error.to_string())
            }
            retrieve::ErrorKind::Embed(error) => Problem::of_embedder(error),
            _ if error.is_user_error() => Problem::field("question", error.to_string()),
            _ => internal(error.to_string()),
        },
        other => internal(other.to_string()),
    }
}
