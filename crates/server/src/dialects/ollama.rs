//! Ollama's embeddings and what its clients ask before them.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};
use wenyi::embed::Overflow;

use super::fields::Fields;
use super::input::Input;
use super::json;
use super::loss::Loss;
use crate::call::{Client, TextsRequest, kept};
use crate::http::{App, Payload};
use crate::problem::Problem;

/// What stands where Ollama names the kind of a file or of a network.
const FAMILY: &str = "wenyi";
/// When models were changed last, which nobody knows.
const NO_TIME: &str = "1970-01-01T00:00:00Z";

/// Texts of a request.
const MAX_TEXTS: usize = 2048;

/// `POST /api/embed`.
pub(crate) async fn embed(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Payload,
) -> Result<Response, Problem> {
    let started = Instant::now();
    let fields = Fields::parse(body.bytes())?;
    let texts = match fields.required("input")? {
        Input::Text(text) => vec![text],
        Input::Texts(texts) => texts,
        Input::Nothing => Vec::new(),
        _ => return Err(Problem::field("input", "has token ids, expected texts")),
    };
    if texts.len() > MAX_TEXTS {
        let (field, received, limit) = ("input", texts.len(), MAX_TEXTS);
        return Err(Problem::TooManyInputs {
            field,
            received,
            limit,
        });
    }
    let truncate: Option<bool> = fields.optional("truncate")?;
    let name: String = fields.required("model")?;
    let request = TextsRequest {
        model: Some(untagged(&name)),
        texts,
        overflow: truncate.map(policy),
        dimensions: fields.whole("dimensions")?,
        ..TextsRequest::default()
    };
    let answer = app.models.embed(client, request).await?;
    let body = Embedded {
        model: &name,
        embeddings: answer.vectors.iter().map(|vector| &**vector).collect(),
        total_duration: u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX),
        load_duration: 0,
        prompt_eval_count: kept(&answer.usage),
    };
    let mut response = json(StatusCode::OK, &body);
    Loss::of(&answer.usage).tell(&answer.model, &mut response);
    Ok(response)
}

fn policy(truncate: bool) -> Overflow {
    if truncate {
        Overflow::Truncate
    } else {
        Overflow::Error
    }
}

/// Ollama's clients add a tag to names that have none.
pub(super) fn untagged(name: &str) -> String {
    name.strip_suffix(":latest").unwrap_or(name).to_owned()
}

#[derive(Serialize)]
struct Embedded<'a> {
    model: &'a str,
    embeddings: Vec<&'a [f32]>,
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: usize,
}

/// `POST /api/embeddings`, the older route for one text.
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Payload,
) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let name: String = fields.required("model")?;
    let request = TextsRequest {
        model: Some(untagged(&name)),
        texts: vec![fields.required("prompt")?],
        ..TextsRequest::default()
    };
    let answer = app.models.embed(client, request).await?;
    let embedding = answer.vectors.first().map_or(&[][..], |vector| vector);
    let mut response = json(StatusCode::OK, &Single { embedding });
    Loss::of(&answer.usage).tell(&answer.model, &mut response);
    Ok(response)
}

#[derive(Serialize)]
struct Single<'a> {
    embedding: &'a [f32],
}

#[derive(Serialize)]
struct Tags {
    models: Vec<Tag>,
}

#[derive(Serialize)]
struct Tag {
    name: String,
    model: String,
    modified_at: &'static str,
    size: u64,
    digest: String,
    details: Details,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    capabilities: &'static [&'static str],
}

#[derive(Serialize)]
struct Details {
    format: &'static str,
    family: &'static str,
}

/// `GET /api/tags`. Sizes and dates are not what the server knows of its models.
pub(crate) async fn tags(State(app): State<Arc<App>>) -> Response {
    let listed = app.models.registry.list().into_iter();
    let models = listed.map(|listed| Tag {
        model: listed.name.clone(),
        name: listed.name,
        modified_at: NO_TIME,
        size: 0,
        digest: String::new(),
        details: Details {
            format: FAMILY,
            family: FAMILY,
        },
        capabilities: listed.capabilities,
    });
    let models = models.collect();
    json(StatusCode::OK, &Tags { models })
}

#[derive(Serialize)]
struct Shown<'a> {
    modelfile: &'static str,
    parameters: &'static str,
    template: &'static str,
    details: ShownDetails<'a>,
    model_info: Map<String, Value>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    capabilities: &'static [&'static str],
    modified_at: &'static str,
}

#[derive(Serialize)]
struct ShownDetails<'a> {
    parent_model: &'static str,
    format: &'static str,
    family: &'static str,
    families: [&'static str; 1],
    parameter_size: &'static str,
    quantization_level: &'a str,
}

/// `POST /api/show`: what a model is and takes. There is no Modelfile behind it.
pub(crate) async fn show(State(app): State<Arc<App>>, body: Payload) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    // Older clients say `name`.
    let name: String = match fields.optional("model")? {
        Some(name) => name,
        None => fields.required("name")?,
    };
    let shown = app.models.registry.show(&untagged(&name)).await?;
    let mut model_info = Map::new();
    model_info.insert("general.architecture".into(), FAMILY.into());
    let numbers = [
        ("context_length", shown.context_length),
        ("embedding_length", shown.dimensions),
    ];
    for (what, number) in numbers {
        if let Some(number) = number {
            // Clients put the architecture before it.
            model_info.insert(format!("{FAMILY}.{what}"), number.into());
        }
    }
    let body = Shown {
        modelfile: "",
        parameters: "",
        template: "",
        details: ShownDetails {
            parent_model: "",
            format: FAMILY,
            family: FAMILY,
            families: [FAMILY],
            parameter_size: "",
            quantization_level: &shown.precision,
        },
        model_info,
        capabilities: shown.capabilities,
        modified_at: NO_TIME,
    };
    Ok(json(StatusCode::OK, &body))
}

#[derive(Serialize)]
struct Running {
    models: Vec<RunningModel>,
}

#[derive(Serialize)]
struct RunningModel {
    name: String,
    model: String,
}

/// `GET /api/ps`: the models in memory.
pub(crate) async fn running(State(app): State<Arc<App>>) -> Response {
    let names = app.models.registry.in_memory().into_iter();
    let models = names.map(|name| RunningModel {
        model: name.clone(),
        name,
    });
    let models = models.collect();
    json(StatusCode::OK, &Running { models })
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

/// `GET /api/version`.
pub(crate) async fn version() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    json(StatusCode::OK, &Version { version })
}

#[derive(Serialize)]
struct ErrorBody {
    error: String,
}

/// `problem` in Ollama's shape.
pub(crate) fn problem(problem: &Problem) -> Response {
    let error = problem.advice();
    json(problem.status(), &ErrorBody { error })
}
