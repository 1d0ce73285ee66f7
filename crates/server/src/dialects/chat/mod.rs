//! `OpenAI`'s conversations: [`parse`] reads a request, [`print`] writes the answer, whole or as a
//! stream of events. What a provider answers is passed on as it is ([`relay`], by [`events`]).

mod parse;
mod print;
mod completions;
mod events;
mod relay;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use wenyi::chat::ReplyBuilder;
use wenyi::providers::Service;

pub(crate) use completions::completions;
pub(super) use parse::{Sampling, logprobs, ranged};

use super::fields::Fields;
use super::json;
use crate::http::{App, Payload, named};
use crate::models::{Choice, Spoken};
use crate::problem::Problem;
use print::{Form, Head};
use relay::Relay;
use tokio::sync::mpsc::Receiver;

/// `POST /v1/chat/completions`.
pub(crate) async fn chat(State(app): State<Arc<App>>, body: Payload) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let asked: Option<String> = fields.optional("model")?;
    // Checked before the model is loaded, wherever it is.
    let streams = parse::streams(&fields)?;
    parse::messages(&fields)?;
    let (name, speaker) = match app.models.registry.speaker(asked.as_deref()).await? {
        (name, Choice::There(_, remote)) => {
            let service = Service::Chat;
            let relay = Relay {
                app,
                name,
                remote,
                service,
            };
            return relay.answer(body.bytes(), streams.is_wanted).await;
        }
        (name, Choice::Here(speaker)) => (name, speaker),
    };
    let (request, count) = parse::request(&fields)?;
    let requests = parse::several(request, count);
    let receiver = speaker.speak(requests, &speaker)?;
    let head = Head::new(Form::Chat, name);
    let names = parse::names(&fields)?;
    let answer = answer(&app, head, receiver, count, streams).await;
    answer.map_err(|problem| problem.renamed(names))
}

/// Prints what comes from the model, as the client wants it.
async fn answer(
    app: &Arc<App>,
    head: Head,
    mut receiver: Receiver<Spoken>,
    count: usize,
    streams: parse::Streams,
) -> Result<Response, Problem> {
    // What fails before the first piece has a status of its own.
    let first = match receiver.recv().await {
        Some((_, Err(problem))) => return Err(problem),
        Some(first) => first,
        None => return Err(Problem::Stopping),
    };
    let name = head.model.clone();
    if streams.is_wanted {
        let response = print::stream(app, head, first, receiver, count, streams);
        return Ok(named(response, &name));
    }
    let replies = gather(first, receiver, count).await?;
    let replies: Vec<_> = replies.into_iter().map(ReplyBuilder::finish).collect();
    let usage = print::total(replies.iter().map(|reply| reply.usage));
    app.metrics.chat(&name, &usage);
    let response = json(StatusCode::OK, &print::whole(&head, replies));
    Ok(named(response, &name))
}

/// Whole answers from their pieces.
pub(super) async fn gather(
    first: Spoken,
    mut receiver: Receiver<Spoken>,
    count: usize,
) -> Result<Vec<ReplyBuilder>, Problem> {
    let mut replies = vec![ReplyBuilder::default(); count];
    let mut next = Some(first);
    while let Some((index, piece)) = next {
        replies[index].push(&piece?);
        next = receiver.recv().await;
    }
    Ok(replies)
}
