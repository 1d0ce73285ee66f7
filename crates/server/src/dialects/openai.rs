//! `OpenAI`'s API: embeddings and models. The messages of its errors are known to programs that look
//! for them, so they are kept to the letter.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tokio::task::spawn_blocking;
use wenyi::embed::{Overflow, Role};

use super::fields::Fields;
use super::input::Input;
use super::loss::Loss;
use super::{json, json_of};
use crate::call::{Client, TextsRequest, Vectors, kept};
use crate::foreign_tokens::Vocabulary;
use crate::http::{App, Path, Payload, RequestId};
use crate::problem::Problem;

/// Inputs of a request.
const MAX_INPUTS: usize = 2048;
/// Tokens of a request's inputs together, as clients count them.
const MAX_TOKENS: usize = 300_000;
/// Numbers that are printed without leaving the request's thread: about a millisecond.
const INLINE_NUMBERS: usize = 20_000;

/// Bytes of a number in decimal, about; more than in base64.
const NUMBER_BYTES: usize = 12;

/// How vectors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Float,
    /// Little-endian `f32`.
    Base64,
}

/// `POST /v1/embeddings`.
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Payload,
) -> Result<Response, Problem> {
    embedded(&app, client, &body, None).await
}

/// The same under `/compatible-mode/v1`, where answers have a number.
pub(crate) async fn compatible_embeddings(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Extension(id): Extension<RequestId>,
    body: Payload,
) -> Result<Response, Problem> {
    embedded(&app, client, &body, Some(id)).await
}

async fn embedded(
    app: &App,
    client: Client,
    body: &Payload,
    id: Option<RequestId>,
) -> Result<Response, Problem> {
    let (request, encoding) = parse(body).await?;
    let vectors = app.models.embed(client, request).await?;
    if vectors
        .vectors
        .iter()
        .map(|vector| vector.len())
        .sum::<usize>()
        <= INLINE_NUMBERS
    {
        return Ok(print(&vectors, encoding, id));
    }
    let printed = spawn_blocking(move || print(&vectors, encoding, id)).await;
    printed.map_err(|error| Problem::Internal {
        reason: error.to_string(),
    })
}

async fn parse(body: &Payload) -> Result<(TextsRequest, Encoding), Problem> {
    let fields = Fields::parse(body.bytes())?;
    let model: String = fields.required("model")?;
    let input: Input = fields.required("input")?;
    match input.len() {
        0 => return Err(Problem::field("input", "is empty")),
        received if received > MAX_INPUTS => {
            let (field, limit) = ("input", MAX_INPUTS);
            return Err(Problem::TooManyInputs {
                field,
                received,
                limit,
            });
        }
        _ => {}
    }
    if input.ids() > MAX_TOKENS {
        let (received, limit) = (input.ids(), MAX_TOKENS);
        return Err(Problem::TooManyTokens { received, limit });
    }
    let encoding = match fields.optional::<String>("encoding_format")?.as_deref() {
        None | Some("float") => Encoding::Float,
        Some("base64") => Encoding::Base64,
        Some(other) => return Err(Problem::field("encoding_format", other)),
    };
    // Who uses `user` is OpenAI's business; it must only be a text.
    fields.optional::<String>("user")?;
    let request = TextsRequest {
        role: fields
            .optional::<String>("input_type")?
            .map(role)
            .transpose()?,
        overflow: fields
            .optional::<String>("overflow")?
            .map(overflow)
            .transpose()?,
        dimensions: fields.whole("dimensions")?,
        texts: texts(input, &model).await?,
        model: Some(model),
        ..TextsRequest::default()
    };
    Ok((request, encoding))
}

/// The texts of `input`, whose ids are in the vocabulary that clients use for `model`.
async fn texts(input: Input, model: &str) -> Result<Vec<String>, Problem> {
    let has_ids = input.ids() > 0;
    // A token has at least a byte.
    if !has_ids && input.bytes() <= MAX_TOKENS {
        return input.texts(|_| Ok(String::new()));
    }
    let vocabulary = Vocabulary::of_model(model);
    let read = move || {
        let texts = input.texts(|ids| vocabulary.decode(ids))?;
        if !has_ids {
            check_tokens(vocabulary, &texts)?;
        }
        Ok(texts)
    };
    // The first use of a vocabulary builds its table.
    spawn_blocking(read).await.unwrap_or_else(|error| {
        Err(Problem::Internal {
            reason: error.to_string(),
        })
    })
}

/// Refuses texts of more tokens than a request may have, in the vocabulary that clients fill their
/// requests by. The model's own may have several times as many: the signs that cl100k has as one
/// token, such as 64 equals signs, are 64 tokens of BERT's, and a request that a client has filled to
/// the limit would be refused.
fn check_tokens(vocabulary: Vocabulary, texts: &[String]) -> Result<(), Problem> {
    let mut received = 0;
    for text in texts {
        received += vocabulary.count(text);
        // The rest need not be counted to know.
        if received > MAX_TOKENS {
            let limit = MAX_TOKENS;
            return Err(Problem::TooManyTokens { received, limit });
        }
    }
    Ok(())
}

fn role(name: String) -> Result<Role, Problem> {
    match &*name {
        "query" => Ok(Role::Query),
        "document" => Ok(Role::Document),
        "plain" => Ok(Role::Plain),
        _ => Err(Problem::field(
            "input_type",
            format!("is `{name}`, expected `query`, `document` or `plain`"),
        )),
    }
}

fn overflow(name: String) -> Result<Overflow, Problem> {
    name.parse().map_err(|_| {
        let expected = "expected `error`, `truncate` or `split-mean`";
        Problem::field("overflow", format!("is `{name}`, {expected}"))
    })
}

#[derive(Serialize)]
struct EmbeddingList<'a> {
    object: &'static str,
    data: Vec<EmbeddingEntry<'a>>,
    model: &'a str,
    usage: Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    wenyi: Option<Loss>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

#[derive(Serialize)]
struct EmbeddingEntry<'a> {
    object: &'static str,
    index: usize,
    embedding: Numbers<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Numbers<'a> {
    Float(&'a [f32]),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

fn print(vectors: &Vectors, encoding: Encoding, id: Option<RequestId>) -> Response {
    let entries = vectors.vectors.iter().enumerate();
    let loss = Loss::of(&vectors.usage);
    let tokens = kept(&vectors.usage);
    let list = EmbeddingList {
        object: "list",
        data: entries
            .map(|(index, vector)| EmbeddingEntry {
                object: "embedding",
                index,
                embedding: match encoding {
                    Encoding::Float => Numbers::Float(vector),
                    Encoding::Base64 => Numbers::Base64(base64(vector)),
                },
            })
            .collect(),
        model: &vectors.model,
        usage: Usage {
            prompt_tokens: tokens,
            total_tokens: tokens,
        },
        wenyi: loss.clone().reported(),
        id: id.map(|id| id.0),
    };
    let numbers: usize = vectors.vectors.iter().map(|vector| vector.len()).sum();
    let mut response = json_of(StatusCode::OK, &list, 256 + NUMBER_BYTES * numbers);
    loss.tell(&vectors.model, &mut response);
    response
}

fn base64(vector: &[f32]) -> String {
    let mut bytes = Vec::with_capacity(size_of_val(vector));
    for value in vector {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    STANDARD.encode(bytes)
}

#[derive(Serialize)]
struct ModelList {
    object: &'static str,
    data: Vec<ModelEntry>,
}

#[derive(Serialize)]
struct ModelEntry {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    capabilities: &'static [&'static str],
}

/// `GET /v1/models`.
pub(crate) async fn models(State(app): State<Arc<App>>) -> Response {
    let data = entries(&app);
    json(
        StatusCode::OK,
        &ModelList {
            object: "list",
            data,
        },
    )
}

/// `GET /v1/models/{model}`.
pub(crate) async fn model(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let entries = entries(&app);
    match entries.iter().find(|entry| entry.id == name) {
        Some(entry) => Ok(json(StatusCode::OK, entry)),
        None => Err(Problem::NoModel {
            model: name,
            served: entries.into_iter().map(|entry| entry.id).collect(),
        }),
    }
}

fn entries(app: &App) -> Vec<ModelEntry> {
    let listed = app.models.registry.list().into_iter();
    listed
        .map(|listed| ModelEntry {
            id: listed.name,
            object: "model",
            created: 0,
            capabilities: listed.capabilities,
            owned_by: listed.alias_of.unwrap_or_else(|| "wenyi".into()),
        })
        .collect()
}

#[derive(Serialize)]
struct ErrorBody {
    error: ErrorFields,
}

#[derive(Serialize)]
struct ErrorFields {
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'static str>,
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// `problem` in `OpenAI`'s shape.
pub(crate) fn problem(problem: &Problem) -> Response {
    json(problem.status(), &error(problem))
}

/// The body alone, for streams that have begun.
pub(super) fn error(problem: &Problem) -> impl Serialize + use<> {
    let (kind, code) = class(problem);
    let error = ErrorFields {
        message: message(problem),
        kind,
        param: param(problem),
        code,
        hint: detail(problem).or_else(|| problem.hint()),
    };
    ErrorBody { error }
}

/// `type` and `code`.
fn class(problem: &Problem) -> (&'static str, Option<String>) {
    if let Problem::Provider { code, .. } = problem {
        let status = problem.status();
        let is_used_up = code.as_deref() == Some("insufficient_quota");
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS if is_used_up => "insufficient_quota",
            StatusCode::TOO_MANY_REQUESTS => "requests",
            _ if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let haste = (status == StatusCode::TOO_MANY_REQUESTS).then(|| "rate_limit_exceeded".into());
        return (kind, code.clone().or(haste));
    }
    let (kind, code) = known_class(problem);
    (kind, code.map(str::to_owned))
}

fn known_class(problem: &Problem) -> (&'static str, Option<&'static str>) {
    let invalid = "invalid_request_error";
    match problem {
        Problem::TooManyTokens { .. } => ("max_tokens_per_request", Some("max_tokens_per_request")),
        Problem::Key { given: true } => (invalid, Some("invalid_api_key")),
        Problem::NoModel { .. } => (invalid, Some("model_not_found")),
        Problem::ContextLength { .. } => (invalid, Some("context_length_exceeded")),
        Problem::Busy { .. } => ("requests", Some("rate_limit_exceeded")),
        _ if problem.status().is_server_error() => ("server_error", None),
        _ => (invalid, None),
    }
}

fn param(problem: &Problem) -> Option<&'static str> {
    match problem {
        // As OpenAI answers.
        Problem::Field {
            field: "input" | "encoding_format",
            ..
        } => None,
        Problem::Field { field, .. } => Some(field),
        Problem::Dimensions { .. } => Some("dimensions"),
        Problem::ContextLength { .. } => Some("messages"),
        Problem::NoModel { .. } => Some("model"),
        Problem::Prompt { .. } => Some("input_type"),
        _ => None,
    }
}

pub(super) fn message(problem: &Problem) -> String {
    match problem {
        Problem::Field { field: "input", .. } | Problem::TooManyInputs { field: "input", .. } => {
            "'$.input' is invalid. Please check the API reference: \
             https://platform.openai.com/docs/api-reference."
                .into()
        }
        Problem::Field {
            field: "encoding_format",
            reason,
        } => format!(
            "Invalid value for 'encoding_format' = {reason}. Supported values: ['float', 'base64']."
        ),
        Problem::Field { field: "model", .. } => "you must provide a model parameter".into(),
        Problem::TooManyTokens { received, limit } => {
            format!("Requested {received} tokens, max {limit} tokens per request")
        }
        Problem::TooLong {
            tokens, max_length, ..
        } => format!(
            "This model's maximum context length is {max_length} tokens, however you requested \
             {tokens} tokens ({tokens} in your prompt; 0 for the completion). Please reduce your \
             prompt; or completion length."
        ),
        Problem::ContextLength {
            tokens,
            context_length,
        } => format!(
            "This model's maximum context length is {context_length} tokens. However, your \
             messages resulted in {tokens} tokens. Please reduce the length of the messages."
        ),
        Problem::Key { given: true } => "Incorrect API key provided.".into(),
        Problem::Key { given: false } => "You didn't provide an API key. Send it as \
                                          `Authorization: Bearer YOUR_KEY`."
            .into(),
        Problem::NoRoute { method, path } => format!("Invalid URL ({method} {path})"),
        Problem::NoMethod { method, path } => format!(
            "Not allowed to {method} on {path}. (HINT: Perhaps you meant to use a different HTTP \
             method?)"
        ),
        Problem::NoModel { .. } => {
            // Most clients show nothing but the message.
            problem.advice()
        }
        _ => problem.to_string(),
    }
}

/// What the fixed messages leave out.
fn detail(problem: &Problem) -> Option<String> {
    match problem {
        Problem::Field {
            field: "input" | "model",
            ..
        }
        | Problem::TooManyInputs { .. } => Some(problem.to_string()),
        _ => None,
    }
}
