//! Alibaba's `DashScope`: embeddings and rerank of its native interface.
//!
//! Its clients retry every status but 200, 400 and 401, so what cannot get better is a 400.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use wenyi::embed::{Overflow, Role, SparseEmbedding, TokenUsage};
use wenyi::providers::{OutputType, RerankOptions};
use wenyi_engine::encoder::Output;

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
    let wants_more = output != OutputType::Dense || instruct.is_some();
    let provider = if wants_more {
        native(&app, &request).await?
    } else {
        None
    };
    match instruct {
        instruct if provider.is_some() => request.instruct = instruct,
        Some(task) => instructed(&app, &mut request, &task).await?,
        None => {}
    }
    let embedded = match (provider, output) {
        (Some((model, remote)), _) if output.has_sparse() => {
            provided(&app, model, &remote, request, output).await?
        }
        (None, OutputType::DenseAndSparse) => {
            let reason = "is `dense&sparse`, but no model on this machine gives both at once";
            return Err(Problem::field("output_type", reason));
        }
        (None, OutputType::Sparse) => sparse(&app, client, request).await?,
        _ => dense(&app, client, request).await?,
    };
    Ok(embedded.print(&id))
}

/// Texts, embedded.
struct Embedded {
    model: String,
    /// Serialised where the vectors are borrowed from.
    embeddings: Box<RawValue>,
    usage: Vec<TokenUsage>,
}

impl Embedded {
    fn print(self, id: &RequestId) -> Response {
        let loss = Loss::of(&self.usage);
        let answer = EmbeddingAnswer {
            status_code: 200,
            request_id: &id.0,
            code: "",
            message: "",
            output: EmbeddingOutput {
                embeddings: self.embeddings,
            },
            usage: Usage {
                total_tokens: kept(&self.usage),
            },
            wenyi: loss.clone().reported(),
        };
        let mut response = json(StatusCode::OK, &answer);
        loss.tell(&self.model, &mut response);
        response
    }
}

async fn dense(app: &App, client: Client, request: TextsRequest) -> Result<Embedded, Problem> {
    let answer = app.models.embed(client, request).await?;
    let vectors = answer.vectors.iter().enumerate();
    let data: Vec<_> = vectors
        .map(|(index, vector)| Embedding::of(index, Some(vector), None))
        .collect();
    Ok(Embedded {
        embeddings: to_raw_value(&data)?,
        model: answer.model,
        usage: answer.usage,
    })
}

async fn sparse(app: &App, client: Client, request: TextsRequest) -> Result<Embedded, Problem> {
    let answer = app.models.sparse(client, request).await?;
    let vectors = answer.vectors.iter().enumerate();
    let data: Vec<_> = vectors
        .map(|(index, weights)| {
            let weights = weights.iter().map(|weight| Weight {
                index: weight.id,
                value: weight.value,
                token: &weight.token,
            });
            Embedding::of(index, None, Some(weights.collect()))
        })
        .collect();
    Ok(Embedded {
        embeddings: to_raw_value(&data)?,
        model: answer.model,
        usage: answer.usage,
    })
}

/// What only the provider's own interface gives.
async fn provided(
    app: &App,
    model: String,
    remote: &Arc<Remote>,
    request: TextsRequest,
    output: OutputType,
) -> Result<Embedded, Problem> {
    let answer = app.models.embed_natively(&model, remote, request, output);
    let answer = answer.await?;
    let weights = |weights: &SparseEmbedding| {
        let weights = weights.weights.iter().map(|(index, value)| Weight {
            index: *index,
            value: *value,
            token: answer.tokens.get(index).map_or("", String::as_str),
        });
        weights.collect()
    };
    let data = (0..answer.usage.len()).map(|index| {
        let vector = answer.dense.as_ref().map(|vectors| vectors.vector(index));
        let sparse = answer.sparse.as_ref().and_then(|all| all.get(index));
        Embedding::of(index, vector, sparse.map(weights))
    });
    Ok(Embedded {
        embeddings: to_raw_value(&data.collect::<Vec<_>>())?,
        model,
        usage: answer.usage,
    })
}

/// The provider of the model, if it speaks this interface itself, and the model's served name.
async fn native(
    app: &App,
    request: &TextsRequest,
) -> Result<Option<(String, Arc<Remote>)>, Problem> {
    let name = request.model.as_deref();
    // A model on this machine of another kind is told of where it is used.
    match app.models.registry.choose(name, Output::Embedding).await {
        Ok(Choice::There(name, remote)) if remote.endpoint().embeds_natively() => {
            Ok(Some((name, remote)))
        }
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

fn parse(body: &Payload) -> Result<(TextsRequest, OutputType, Option<String>), Problem> {
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
        None | Some("dense") => OutputType::Dense,
        Some("sparse") => OutputType::Sparse,
        Some("dense&sparse") => OutputType::DenseAndSparse,
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
    embeddings: Box<RawValue>,
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
    fn of(
        text_index: usize,
        embedding: Option<&'a [f32]>,
        sparse_embedding: Option<Vec<Weight<'a>>>,
    ) -> Self {
        Self {
            text_index,
            embedding,
            sparse_embedding,
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
    let instruct: Option<String> = parameters.optional("instruct")?;
    let request = RerankRequest {
        model: Some(fields.required("model")?),
        query: input.required("query")?,
        documents: documents.clone(),
        overflow: Overflow::Truncate,
        options: RerankOptions {
            instruct: instruct.filter(|task| !task.is_empty()),
            ..RerankOptions::default()
        },
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
