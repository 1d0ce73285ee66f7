//! The routes of Hugging Face's text-embeddings-inference. Its requests name no model: the first
//! one of the kind that the route needs answers.

mod predict;

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use wenyi::embed::{Overflow, Role};
use wenyi::providers::RerankOptions;
use wenyi_engine::encoder::Output;

use super::fields::Fields;
use super::input::Input;
use super::json;
use super::loss::Loss;
use super::ranking::ranked;
pub(crate) use predict::predict;

use crate::call::{Client, RerankRequest, TextsRequest};
use crate::http::{App, Payload};
use crate::models::{Choice, Chosen, Remote};
use crate::problem::Problem;

/// Inputs of a request; the original takes 32 unless it is told otherwise.
const MAX_INPUTS: usize = 2048;

/// Tokens of a text for a model of which nothing is known: most small ones take this much.
const CAUTIOUS_LENGTH: usize = 512;

/// The routes whose problems are printed here.
pub(crate) const ROUTES: [&str; 9] = [
    "/embed",
    // Not served; its clients understand the answer all the same.
    "/embed_all",
    "/embed_sparse",
    "/rerank",
    "/similarity",
    "/tokenize",
    "/decode",
    "/info",
    "/predict",
];

/// `POST /embed`.
pub(crate) async fn embed(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Payload,
) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let normalize: Option<bool> = fields.optional("normalize")?;
    let request = TextsRequest {
        is_raw: normalize == Some(false),
        ..texts_request(&app, &fields, Output::Embedding).await?
    };
    let answer = app.models.embed(client, request).await?;
    let vectors: Vec<&[f32]> = answer.vectors.iter().map(|vector| &**vector).collect();
    let mut response = json(StatusCode::OK, &vectors);
    Loss::of(&answer.usage).tell(&answer.model, &mut response);
    Ok(response)
}

#[derive(Serialize)]
struct SparseEntry {
    index: u32,
    value: f32,
}

/// `POST /embed_sparse`.
pub(crate) async fn embed_sparse(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Payload,
) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let request = texts_request(&app, &fields, Output::Sparse).await?;
    let answer = app.models.sparse(client, request).await?;
    let entries = answer.vectors.iter().map(|weights| {
        let entries = weights.iter().map(|weight| SparseEntry {
            index: weight.id,
            value: weight.value,
        });
        entries.collect::<Vec<_>>()
    });
    let mut response = json(StatusCode::OK, &entries.collect::<Vec<_>>());
    Loss::of(&answer.usage).tell(&answer.model, &mut response);
    Ok(response)
}

async fn texts_request(
    app: &App,
    fields: &Fields<'_>,
    kind: Output,
) -> Result<TextsRequest, Problem> {
    let input: Input = fields.required("inputs")?;
    check_count("inputs", input.len())?;
    let truncate: Option<bool> = fields.optional("truncate")?;
    check_direction(fields, truncate)?;
    let texts = if input.ids() == 0 {
        input.texts(|_| Ok::<_, Problem>(String::new()))?
    } else {
        // Ids of the model's own vocabulary.
        let chosen = match app.models.registry.choose(None, kind).await? {
            Choice::Here(chosen) => chosen,
            Choice::There(model, _) => {
                let reason = format!(
                    "has token ids, and the vocabulary of `{model}`, which is behind an API, is \
                     not known here; send texts"
                );
                return Err(Problem::field("inputs", reason));
            }
        };
        let tokenizer = chosen.worker.encoder().tokenizer();
        let vocab_size = tokenizer.vocab_size();
        input.texts(|ids| {
            if let Some(id) = ids.iter().find(|id| **id as usize >= vocab_size) {
                let reason = format!("has id {id}, the model knows 0 to {}", vocab_size - 1);
                return Err(Problem::field("inputs", reason));
            }
            let text = tokenizer.decode(ids, true);
            text.map_err(|error| Problem::field("inputs", error.to_string()))
        })?
    };
    Ok(TextsRequest {
        texts,
        role: role(fields)?,
        overflow: truncate.map(policy),
        dimensions: fields.whole("dimensions")?,
        ..TextsRequest::default()
    })
}

fn check_count(field: &'static str, received: usize) -> Result<(), Problem> {
    match received {
        0 => Err(Problem::field(field, "is empty")),
        _ if received > MAX_INPUTS => Err(Problem::TooManyInputs {
            field,
            received,
            limit: MAX_INPUTS,
        }),
        _ => Ok(()),
    }
}

/// Texts are cut at their end and nowhere else: a request that wants the end kept must not get the
/// vector of the start. Where nothing is to be cut, the field means nothing.
fn check_direction(fields: &Fields<'_>, truncate: Option<bool>) -> Result<(), Problem> {
    let field = "truncation_direction";
    let Some(direction) = fields.optional::<String>(field)? else {
        return Ok(());
    };
    match &*direction.to_ascii_lowercase() {
        "right" => Ok(()),
        "left" if truncate == Some(false) => Ok(()),
        "left" => Err(Problem::field(
            field,
            "is `left`, but only the end of a text can be cut off",
        )),
        _ => {
            let reason = format!("is `{direction}`, expected `right`");
            Err(Problem::field(field, reason))
        }
    }
}

fn policy(truncate: bool) -> Overflow {
    if truncate {
        Overflow::Truncate
    } else {
        Overflow::Error
    }
}

fn role(fields: &Fields<'_>) -> Result<Option<Role>, Problem> {
    let name: Option<String> = fields.optional("prompt_name")?;
    Ok(name.map(|name| match &*name {
        "query" => Role::Query,
        "document" | "passage" => Role::Document,
        _ => Role::Named(name),
    }))
}

#[derive(Serialize)]
struct Ranked<'a> {
    index: usize,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

/// `POST /rerank`.
pub(crate) async fn rerank(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Payload,
) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let texts: Vec<String> = fields.required("texts")?;
    check_count("texts", texts.len())?;
    let raw_scores: bool = fields.optional("raw_scores")?.unwrap_or(false);
    let return_text: bool = fields.optional("return_text")?.unwrap_or(false);
    let truncate: bool = fields.optional("truncate")?.unwrap_or(true);
    check_direction(&fields, Some(truncate))?;
    let request = RerankRequest {
        model: None,
        query: fields.required("query")?,
        documents: texts.clone(),
        overflow: policy(truncate),
        options: RerankOptions::default(),
    };
    let scores = app.models.rerank(client, request).await?;
    let results = ranked(&scores, None).map(|(index, relevance)| Ranked {
        index,
        score: if raw_scores {
            relevance.logit
        } else {
            relevance.score
        },
        text: return_text.then(|| &*texts[index]),
    });
    let mut response = json(StatusCode::OK, &results.collect::<Vec<_>>());
    let usage: Vec<_> = scores
        .relevance
        .iter()
        .map(|relevance| relevance.usage)
        .collect();
    Loss::of(&usage).tell(&scores.model, &mut response);
    Ok(response)
}

/// `POST /similarity`.
pub(crate) async fn similarity(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Payload,
) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let (inputs, parameters) = (fields.object("inputs")?, fields.object("parameters")?);
    let sentences: Vec<String> = inputs.required("sentences")?;
    check_count("sentences", sentences.len())?;
    let truncate: Option<bool> = parameters.optional("truncate")?;
    check_direction(&parameters, truncate)?;
    let mut texts = vec![inputs.required("source_sentence")?];
    texts.extend(sentences);
    let request = TextsRequest {
        texts,
        role: role(&parameters)?,
        overflow: truncate.map(policy),
        ..TextsRequest::default()
    };
    let answer = app.models.embed(client, request).await?;
    let similarities: Vec<f32> = match answer.vectors.split_first() {
        Some((source, others)) => others.iter().map(|other| dot(source, other)).collect(),
        None => Vec::new(),
    };
    let mut response = json(StatusCode::OK, &similarities);
    Loss::of(&answer.usage).tell(&answer.model, &mut response);
    Ok(response)
}

/// The cosine of vectors of unit length.
fn dot(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

#[derive(Serialize)]
struct Token {
    id: u32,
    text: String,
    special: bool,
    start: Option<usize>,
    stop: Option<usize>,
}

/// The model of [`info`], which must be on this machine: another one's tokens are no use to those who
/// then ask the first for vectors.
async fn first_here(app: &App, wanted: &'static str) -> Result<Chosen, Problem> {
    match app.models.registry.first().await? {
        (_, Choice::Here(chosen)) => Ok(chosen),
        (_, Choice::There(model, _)) => Err(Problem::Elsewhere { model, wanted }),
    }
}

/// `POST /tokenize`.
pub(crate) async fn tokenize(
    State(app): State<Arc<App>>,
    body: Payload,
) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let input: Input = fields.required("inputs")?;
    check_count("inputs", input.len())?;
    let texts = input.texts(|_| Err(Problem::field("inputs", "has ids, expected texts")))?;
    let add_special: bool = fields.optional("add_special_tokens")?.unwrap_or(true);
    let chosen = first_here(&app, "tokens").await?;
    let tokenizer = chosen.worker.encoder().tokenizer();
    let special = |ids: &[u32]| {
        let ids = if add_special { ids } else { &[] };
        let tokens = ids.iter().map(|id| Token {
            id: *id,
            text: tokenizer.id_to_token(*id).unwrap_or_default(),
            special: true,
            start: None,
            stop: None,
        });
        tokens.collect::<Vec<_>>()
    };
    let mut answer = Vec::with_capacity(texts.len());
    for text in &texts {
        let (ids, offsets) = (tokenizer.encode_with_offsets(text))
            .map_err(|error| Problem::field("inputs", error.to_string()))?;
        let mut tokens = special(tokenizer.prefix());
        tokens.extend(
            ids.into_iter()
                .zip(offsets)
                .map(|(id, (start, stop))| Token {
                    id,
                    text: text.get(start..stop).unwrap_or_default().to_owned(),
                    special: false,
                    start: Some(start),
                    stop: Some(stop),
                }),
        );
        tokens.extend(special(tokenizer.suffix()));
        answer.push(tokens);
    }
    Ok(json(StatusCode::OK, &answer))
}

/// `POST /decode`.
pub(crate) async fn decode(
    State(app): State<Arc<App>>,
    body: Payload,
) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let skip_special: bool = fields.optional("skip_special_tokens")?.unwrap_or(true);
    let lists = match fields.required("ids")? {
        Input::Ids(ids) => vec![ids],
        Input::IdLists(lists) => lists,
        Input::Nothing => vec![Vec::new()],
        Input::Text(_) | Input::Texts(_) => {
            return Err(Problem::field("ids", "has texts, expected token ids"));
        }
    };
    let chosen = first_here(&app, "texts of tokens").await?;
    let tokenizer = chosen.worker.encoder().tokenizer();
    let mut texts = Vec::with_capacity(lists.len());
    for ids in lists {
        if let Some(id) = ids
            .iter()
            .find(|id| **id as usize >= tokenizer.vocab_size())
        {
            let reason = format!("has id {id}, which the vocabulary does not have");
            return Err(Problem::field("ids", reason));
        }
        let text = tokenizer.decode(&ids, skip_special);
        texts.push(text.map_err(|error| Problem::field("ids", error.to_string()))?);
    }
    Ok(json(StatusCode::OK, &texts))
}

#[derive(Serialize)]
struct Info {
    model_id: String,
    /// Not known of models behind an API.
    model_sha: Option<String>,
    model_dtype: String,
    served_model_name: String,
    model_type: serde_json::Value,
    max_concurrent_requests: usize,
    max_input_length: usize,
    max_batch_tokens: usize,
    max_batch_requests: Option<usize>,
    max_client_batch_size: usize,
    auto_truncate: bool,
    tokenization_workers: usize,
    version: &'static str,
    sha: Option<String>,
    docker_label: Option<String>,
}

/// `GET /info`: the model that answers `/embed`; if there is none, the one of `/rerank` or
/// `/embed_sparse`.
pub(crate) async fn info(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let info = match app.models.registry.first().await? {
        (_, Choice::Here(chosen)) => info_here(&app, &chosen),
        (output, Choice::There(name, remote)) => info_there(&app, output, name, &remote),
    };
    Ok(json(StatusCode::OK, &info))
}

/// What the server says of any model.
fn usual_info(app: &App, name: &str, model_type: serde_json::Value) -> Info {
    Info {
        model_id: name.to_owned(),
        model_sha: None,
        model_dtype: "remote".into(),
        served_model_name: name.to_owned(),
        model_type,
        max_concurrent_requests: app.options.max_requests,
        max_input_length: CAUTIOUS_LENGTH,
        max_batch_tokens: app.options.max_queued_tokens,
        max_batch_requests: None,
        max_client_batch_size: MAX_INPUTS,
        auto_truncate: app.options.overflow != Overflow::Error,
        tokenization_workers: 1,
        version: env!("CARGO_PKG_VERSION"),
        sha: None,
        docker_label: None,
    }
}

fn info_there(app: &App, output: Output, name: String, remote: &Remote) -> Info {
    let model_type = match output {
        Output::Relevance => serde_json::json!({"reranker": {}}),
        _ => serde_json::json!({"embedding": {"pooling": "remote"}}),
    };
    let known = remote.endpoint().max_text_tokens(remote.model());
    Info {
        max_input_length: known.unwrap_or(CAUTIOUS_LENGTH),
        ..usual_info(app, &name, model_type)
    }
}

fn info_here(app: &App, chosen: &Chosen) -> Info {
    let encoder = chosen.worker.encoder();
    let description = encoder.description();
    let model_type = match description.output {
        Output::Embedding => {
            serde_json::json!({"embedding": {"pooling": description.pooling.name()}})
        }
        Output::Relevance => serde_json::json!({"reranker": {}}),
        Output::Sparse => serde_json::json!({"embedding": {"pooling": "splade"}}),
    };
    Info {
        model_sha: Some(encoder.fingerprint().weights.clone()),
        model_dtype: encoder.precision().to_string(),
        max_input_length: encoder.max_length(),
        tokenization_workers: encoder.threads(),
        ..usual_info(app, &chosen.name, model_type)
    }
}

#[derive(Serialize)]
struct ErrorBody {
    error: String,
    error_type: &'static str,
}

/// What a provider's status means here: a request that is at fault is the client's, haste is told,
/// and all else is between the server and its provider.
fn of_provider(status: StatusCode) -> (StatusCode, &'static str) {
    match status.as_u16() {
        400 | 413 | 422 => (StatusCode::UNPROCESSABLE_ENTITY, "Validation"),
        429 => (StatusCode::TOO_MANY_REQUESTS, "Overloaded"),
        _ => (StatusCode::FAILED_DEPENDENCY, "Backend"),
    }
}

/// `problem` in the original's shape and statuses.
pub(crate) fn problem(problem: &Problem) -> Response {
    let (status, error_type) = match problem {
        Problem::Key { .. } => {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            return response;
        }
        Problem::Malformed { .. } | Problem::NoModelFor { .. } => {
            (StatusCode::BAD_REQUEST, "Validation")
        }
        Problem::Field { reason, .. } if reason == "is empty" => (StatusCode::BAD_REQUEST, "Empty"),
        Problem::Busy { .. } => (StatusCode::TOO_MANY_REQUESTS, "Overloaded"),
        Problem::Stopping | Problem::Load { .. } => (StatusCode::SERVICE_UNAVAILABLE, "Unhealthy"),
        Problem::Internal { .. } | Problem::Deadline(_) => {
            (StatusCode::FAILED_DEPENDENCY, "Backend")
        }
        Problem::Provider { status, .. } => of_provider(*status),
        _ if problem.status() == StatusCode::BAD_REQUEST => {
            (StatusCode::UNPROCESSABLE_ENTITY, "Validation")
        }
        _ => (problem.status(), "Validation"),
    };
    let error = problem.to_string();
    json(status, &ErrorBody { error, error_type })
}
