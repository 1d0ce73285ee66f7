//! Alibaba's `DashScope`: embeddings and rerank of its native interface.
//!
//! Its clients retry every status but 200, 400 and 401, so what cannot get better is a 400.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};
use wenyi::embed::{Overflow, Role};
use wenyi::providers::Service;
use wenyi_engine::encoder::Output;

use super::chat::pass_on;
use super::fields::Fields;
use super::input::Input;
use super::json;
use super::loss::Loss;
use super::ranking::ranked;
use crate::call::{Client, RerankRequest, TextsRequest, kept};
use crate::http::{App, Payload, RequestId};
use crate::models::{Choice, Remote};
use crate::problem::Problem;

/// Texts of a request. The vendor's own limit is 10 or 25, by model; its clients keep to it.
const MAX_TEXTS: usize = 2048;
/// Documents of a rerank request.
const MAX_DOCUMENTS: usize = 500;

/// `POST /api/v1/services/embeddings/text-embedding/text-embedding`.
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Extension(id): Extension<RequestId>,
    body: Payload,
) -> Result<Response, Problem> {
    let (mut request, output, instruct) = parse(&body)?;
    let wants_more = output != Wanted::Dense || instruct.is_some();
    if wants_more && let Some(remote) = native(&app, &request).await? {
        // Its provider knows what to do with everything in the request.
        let mut body: Map<String, Value> = serde_json::from_slice(body.bytes())?;
        body.insert("model".into(), remote.model().into());
        let body = Value::Object(body).to_string().into_bytes();
        return pass_on(remote, Service::Embeddings, body).await;
    }
    if let Some(task) = instruct {
        instructed(&app, &mut request, &task).await?;
    }
    let (data, usage, model) = match output {
        Wanted::Both => {
            let reason = "is `dense&sparse`, but no model on this machine gives both at once";
            return Err(Problem::field("output_type", reason));
        }
        Wanted::Dense => {
            let answer = app.models.embed(client, request).await?;
            let vectors = answer.vectors.iter().enumerate();
            let data: Vec<_> = vectors
                .map(|(index, vector)| Embedding::dense(index, vector))
                .collect();
            // Serialised here because the vectors are borrowed.
            (
                serde_json::value::to_raw_value(&data)?,
                answer.usage,
                answer.model,
            )
        }
        Wanted::Sparse => {
            let answer = app.models.sparse(client, request).await?;
            let data: Vec<_> = (answer.vectors.iter().enumerate())
                .map(|(index, weights)| Embedding::sparse(index, weights))
                .collect();
            (
                serde_json::value::to_raw_value(&data)?,
                answer.usage,
                answer.model,
            )
        }
    };
    let loss = Loss::of(&usage);
    let answer = EmbeddingAnswer {
        status_code: 200,
        request_id: &id.0,
        code: "",
        message: "",
        output: EmbeddingOutput { embeddings: data },
        usage: Usage {
            total_tokens: kept(&usage),
        },
        wenyi: loss.clone().reported(),
    };
    let mut response = json(StatusCode::OK, &answer);
    loss.tell(&model, &mut response);
    Ok(response)
}

/// The provider of the model, if it speaks this interface itself.
async fn native(app: &App, request: &TextsRequest) -> Result<Option<Arc<Remote>>, Problem> {
    let name = request.model.as_deref();
    // A model on this machine of another kind is told of where it is used.
    match app.models.registry.choose(name, Output::Embedding).await {
        Ok(Choice::There(_, remote)) if remote.endpoint().embeds_natively() => Ok(Some(remote)),
        Ok(_) | Err(Problem::Kind { .. }) => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// Puts the task in words before each question, in the model's own form; documents have none.
async fn instructed(app: &App, request: &mut TextsRequest, task: &str) -> Result<(), Problem> {
    let name = request.model.as_deref();
    let chosen = app
        .models
        .registry
        .choose_here(name, Output::Embedding)
        .await?;
    let prompt = chosen.worker.encoder().description().prompt(&Role::Query);
    let prompt = prompt.map_err(|error| Problem::of_engine(&error, 0))?;
    let form = prompt
        .strip_prefix("Instruct: ")
        .and_then(|rest| rest.find('\n').map(|end| &rest[end..]));
    let Some(end) = form else {
        let reason = "is not taken by this model; `text_type` chooses its own prompts";
        return Err(Problem::field("instruct", reason));
    };
    if request.role.as_ref().unwrap_or(&app.options.role) != &Role::Query {
        return Ok(());
    }
    for text in &mut request.texts {
        *text = format!("Instruct: {task}{end}{text}");
    }
    request.role = Some(Role::Plain);
    Ok(())
}

/// `output_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Dense,
    Sparse,
    Both,
}

fn parse(body: &Payload) -> Result<(TextsRequest, Wanted, Option<String>), Problem> {
    let fields = Fields::parse(body.bytes())?;
    let parameters = fields.object("parameters")?;
    let texts: Input = fields.object("input")?.required("texts")?;
    let texts = match texts {
        Input::Text(text) => vec![text],
        Input::Texts(texts) => texts,
        Input::Nothing => return Err(Problem::field("texts", "is empty")),
        _ => {
            let reason = "contents is neither str nor list of str.";
            return Err(Problem::field("contents", reason));
        }
    };
    if texts.len() > MAX_TEXTS {
        let (field, received, limit) = ("texts", texts.len(), MAX_TEXTS);
        return Err(Problem::TooManyInputs {
            field,
            received,
            limit,
        });
    }
    let output = match parameters.optional::<String>("output_type")?.as_deref() {
        None | Some("dense") => Wanted::Dense,
        Some("sparse") => Wanted::Sparse,
        Some("dense&sparse") => Wanted::Both,
        Some(other) => {
            let reason = format!("is `{other}`, expected `dense`, `sparse` or `dense&sparse`");
            return Err(Problem::field("output_type", reason));
        }
    };
    let role = role(&parameters)?;
    let instruct = parameters.optional::<String>("instruct")?;
    let request = TextsRequest {
        model: Some(fields.required("model")?),
        texts,
        role,
        dimensions: parameters.whole("dimension")?,
        ..TextsRequest::default()
    };
    Ok((request, output, instruct.filter(|text| !text.is_empty())))
}

fn role(parameters: &Fields<'_>) -> Result<Option<Role>, Problem> {
    match parameters.optional::<String>("text_type")?.as_deref() {
        None => Ok(None),
        Some("document") => Ok(Some(Role::Document)),
        Some("query") => Ok(Some(Role::Query)),
        Some(other) => {
            let reason = format!("is `{other}`, expected `document` or `query`");
            Err(Problem::field("text_type", reason))
        }
    }
}

#[derive(Serialize)]
struct EmbeddingAnswer<'a> {
    status_code: u16,
    request_id: &'a str,
    code: &'static str,
    message: &'static str,
    output: EmbeddingOutput,
    usage: Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    wenyi: Option<Loss>,
}

#[derive(Serialize)]
struct EmbeddingOutput {
    embeddings: Box<serde_json::value::RawValue>,
}

#[derive(Serialize)]
struct Usage {
    total_tokens: usize,
}

#[derive(Serialize)]
struct Embedding<'a> {
    text_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sparse_embedding: Option<Vec<Weight<'a>>>,
}

#[derive(Serialize)]
struct Weight<'a> {
    index: u32,
    value: f32,
    token: &'a str,
}

impl<'a> Embedding<'a> {
    fn dense(text_index: usize, vector: &'a [f32]) -> Self {
        Self {
            text_index,
            embedding: Some(vector),
            sparse_embedding: None,
        }
    }

    fn sparse(text_index: usize, weights: &'a [crate::call::Weight]) -> Self {
        let weights = weights.iter().map(|weight| Weight {
            index: weight.id,
            value: weight.value,
            token: &weight.token,
        });
        Self {
            text_index,
            embedding: None,
            sparse_embedding: Some(weights.collect()),
        }
    }
}

/// `POST /api/v1/services/rerank/text-rerank/text-rerank`.
pub(crate) async fn rerank(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Extension(id): Extension<RequestId>,
    body: Payload,
) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let (input, parameters) = (fields.object("input")?, fields.object("parameters")?);
    rank(&app, client, &id, (&fields, &input, &parameters)).await
}

/// `POST /compatible-api/v1/reranks`: the same with all fields side by side.
pub(crate) async fn flat_rerank(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Extension(id): Extension<RequestId>,
    body: Payload,
) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    rank(&app, client, &id, (&fields, &fields, &fields)).await
}

async fn rank(
    app: &App,
    client: Client,
    id: &RequestId,
    (fields, input, parameters): (&Fields<'_>, &Fields<'_>, &Fields<'_>),
) -> Result<Response, Problem> {
    let documents: Vec<String> = input.required("documents")?;
    if documents.is_empty() || documents.len() > MAX_DOCUMENTS {
        let reason = format!(
            "has {} entries, expected 1 to {MAX_DOCUMENTS}",
            documents.len()
        );
        return Err(Problem::field("documents", reason));
    }
    let return_documents: bool = parameters.optional("return_documents")?.unwrap_or(false);
    let top: Option<usize> = parameters.whole("top_n")?;
    if top == Some(0) {
        return Err(Problem::field("top_n", "is 0, expected at least 1"));
    }
    let request = RerankRequest {
        model: Some(fields.required("model")?),
        query: input.required("query")?,
        documents: documents.clone(),
        overflow: Overflow::Truncate,
    };
    let scores = app.models.rerank(client, request).await?;
    let results = ranked(&scores, top).map(|(index, relevance)| Ranked {
        index,
        relevance_score: relevance.score,
        document: return_documents.then(|| Text {
            text: &documents[index],
        }),
    });
    let usage: Vec<_> = scores
        .relevance
        .iter()
        .map(|relevance| relevance.usage)
        .collect();
    let answer = RerankAnswer {
        status_code: 200,
        request_id: &id.0,
        code: "",
        message: "",
        output: RerankOutput {
            results: results.collect(),
        },
        usage: Usage {
            total_tokens: kept(&usage),
        },
    };
    let mut response = json(StatusCode::OK, &answer);
    Loss::of(&usage).tell(&scores.model, &mut response);
    Ok(response)
}

#[derive(Serialize)]
struct RerankAnswer<'a> {
    status_code: u16,
    request_id: &'a str,
    code: &'static str,
    message: &'static str,
    output: RerankOutput<'a>,
    usage: Usage,
}

#[derive(Serialize)]
struct RerankOutput<'a> {
    results: Vec<Ranked<'a>>,
}

#[derive(Serialize)]
struct Ranked<'a> {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Text<'a>>,
}

#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'static str,
    message: String,
    request_id: &'a str,
}

/// `problem` in `DashScope`'s shape: all fields on top.
pub(crate) fn problem(problem: &Problem, id: &RequestId) -> Response {
    let (status, code) = class(problem);
    let message = match problem {
        Problem::Key { given: true } => "Invalid API-key provided.".into(),
        Problem::Key { given: false } => "No API-key provided.".into(),
        Problem::TooManyInputs { field, limit, .. } => format!(
            "batch size is invalid, it should not be larger than {limit}.: payload.input.{field}"
        ),
        Problem::Dimensions {
            requested,
            available,
        } => format!("`dimension` is {requested}, the model gives 1 to {available}"),
        Problem::Field {
            field: "contents",
            reason,
        } => {
            format!("{reason}: payload.input.contents")
        }
        _ => problem.to_string(),
    };
    let request_id = &id.0;
    json(
        status,
        &ErrorBody {
            code,
            message,
            request_id,
        },
    )
}

fn class(problem: &Problem) -> (StatusCode, &'static str) {
    match problem {
        Problem::Key { .. } => (StatusCode::UNAUTHORIZED, "InvalidApiKey"),
        Problem::Host { .. } => (StatusCode::FORBIDDEN, "AccessDenied"),
        // A 404 would be asked for again and again.
        Problem::NoModel { .. } => (StatusCode::BAD_REQUEST, "ModelNotFound"),
        Problem::NoRoute { .. } | Problem::NoMethod { .. } => {
            (StatusCode::BAD_REQUEST, "InvalidURL")
        }
        Problem::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "BadRequest.TooLarge"),
        Problem::Busy { .. } => (StatusCode::TOO_MANY_REQUESTS, "Throttling"),
        Problem::SlowClient(_) | Problem::Deadline(_) => {
            (StatusCode::REQUEST_TIMEOUT, "RequestTimeOut")
        }
        _ if problem.status().is_server_error() => (problem.status(), "InternalError"),
        _ => (StatusCode::BAD_REQUEST, "InvalidParameter"),
    }
}
