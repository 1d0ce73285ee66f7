//! `POST /v1/completions`: texts that go on, without the form of a conversation.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use tokio::task::spawn_blocking;
use wenyi::providers::Service;
use wenyi_engine::decoder::GenerateOptions;

use super::super::fields::Fields;
use super::super::input::Input;
use super::parse::{self, Sampling};
use super::print::{Form, Head};
use super::relay::Relay;
use crate::http::{App, Payload};
use crate::models::{Choice, Prompt, Speaker};
use crate::problem::Problem;

/// Tokens of an answer if the request does not say, as OpenAI has it.
const USUAL_LIMIT: u32 = 16;
/// Prompts of a request.
const MAX_PROMPTS: usize = 16;

pub(crate) async fn completions(
    State(app): State<Arc<App>>,
    body: Payload,
) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let asked: Option<String> = fields.optional("model")?;
    let streams = parse::streams(&fields)?;
    let input: Input = fields.required("prompt")?;
    let (name, speaker) = match app.models.registry.speaker(asked.as_deref()).await? {
        (name, Choice::There(_, remote)) => {
            let service = Service::Completions;
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
    let prompts = prompts(&fields, input, &speaker).await?;
    let count = prompts.len();
    let receiver = speaker.complete(prompts, &speaker)?;
    super::answer(&app, Head::new(Form::Text, name), receiver, count, streams).await
}

async fn prompts(
    fields: &Fields<'_>,
    input: Input,
    speaker: &Arc<Speaker>,
) -> Result<Vec<Prompt>, Problem> {
    for name in ["suffix", "echo", "best_of", "logprobs"] {
        let value: Option<serde_json::Value> = fields.optional(name)?;
        let is_usual =
            value.is_none_or(|value| [false.into(), "".into(), 1.into()].contains(&value));
        if !is_usual {
            let reason = "is not taken by models on this machine";
            return Err(Problem::field(name, reason));
        }
    }
    let sampling = Sampling::parse(fields)?;
    let (limit, count) = (
        parse::limit(fields)?.unwrap_or(USUAL_LIMIT),
        parse::count(fields)?,
    );
    let received = input.len();
    if received == 0 || received * count > MAX_PROMPTS {
        let reason = format!("has {received} texts, expected 1 to {MAX_PROMPTS}, `n` times each");
        return Err(Problem::field("prompt", reason));
    }
    let options = GenerateOptions {
        sampling: sampling.engine(),
        max_tokens: Some(limit as usize),
        stop: sampling.stop,
        split_reasoning: false,
        ..GenerateOptions::default()
    };
    let speaker = speaker.clone();
    let ids = spawn_blocking(move || read(input, &speaker)).await;
    let ids = ids.unwrap_or_else(|error| {
        let reason = error.to_string();
        Err(Problem::Internal { reason })
    })?;
    let several = ids.into_iter().flat_map(|ids| {
        let options = options.clone();
        (0..count).map(move |index| {
            let mut options = options.clone();
            let seed = options.sampling.seed;
            options.sampling.seed = seed.map(|seed| seed.wrapping_add(index as u64));
            Prompt {
                ids: ids.clone(),
                options,
            }
        })
    });
    Ok(several.collect())
}

/// The token ids of the prompts, which must leave room for an answer.
fn read(input: Input, speaker: &Speaker) -> Result<Vec<Vec<u32>>, Problem> {
    let Some(decoder) = speaker.decoder() else {
        return Err(Problem::field("model", "is not on this machine"));
    };
    let encode = |text: &String| {
        let ids = decoder.encode_prompt(text);
        ids.map_err(|error| Problem::field("prompt", error.to_string()))
    };
    let lists = match input {
        Input::Text(text) => vec![encode(&text)?],
        Input::Texts(texts) => texts.iter().map(encode).collect::<Result<_, _>>()?,
        Input::Ids(ids) => vec![ids],
        Input::IdLists(lists) => lists,
        Input::Nothing => Vec::new(),
    };
    let vocab_size = decoder.vocab_size();
    for ids in &lists {
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab_size) {
            let reason = format!("has id {id}, the model knows 0 to {}", vocab_size - 1);
            return Err(Problem::field("prompt", reason));
        }
        if ids.is_empty() {
            return Err(Problem::field("prompt", "is empty"));
        }
        let (tokens, context_length) = (ids.len(), decoder.context());
        if tokens >= context_length {
            return Err(Problem::ContextLength {
                tokens,
                context_length,
            });
        }
    }
    Ok(lists)
}
