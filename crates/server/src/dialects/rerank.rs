//! Rerank as Cohere (`/v2/rerank`, `/v1/rerank`) and Jina (`/v1/rerank`) spell it.
//!
//! Both first versions share a path. Their requests differ in nothing that must be known, and
//! an answer that has the fields of both is read by the clients of either.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use wenyi::embed::Overflow;
use wenyi::providers::RerankOptions;

use super::fields::Fields;
use super::json;
use super::loss::Loss;
use super::ranking::ranked;
use crate::call::{Client, RerankRequest, kept};
use crate::http::{App, Payload, RequestId};
use crate::problem::Problem;

/// Documents of a request; Cohere advises 1,000 at most and takes ten times as many.
const MAX_DOCUMENTS: usize = 10_000;
/// The least urgent.
const MAX_PRIORITY: u16 = 999;
/// Documents that Cohere bills as one search.
const DOCUMENTS_PER_SEARCH: usize = 100;

/// A document of the first version: a text or an object of fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Document {
    Text(String),
    Fields(Map<String, Value>),
}

impl Document {
    /// What the model reads: the text, or the `rank_fields`' values, a line each.
    fn text(&self, rank_fields: &[String]) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Fields(fields) => {
                let values = rank_fields.iter().filter_map(|name| fields.get(name));
                let lines = values.map(|value| match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                });
                lines.collect::<Vec<_>>().join("\n")
            }
        }
    }

    /// As it is given back.
    fn returned(&self) -> Value {
        match self {
            Self::Text(text) => serde_json::json!({ "text": text }),
            Self::Fields(fields) => Value::Object(fields.clone()),
        }
    }
}

/// `POST /v2/rerank`.
pub(crate) async fn second(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Extension(id): Extension<RequestId>,
    body: Payload,
) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let texts: Vec<String> = fields.required("documents")?;
    let documents = texts.into_iter().map(Document::Text).collect();
    let call = Call {
        documents,
        rank_fields: Vec::new(),
        return_documents: false,
        version: "2",
    };
    call.answer(&app, client, &id, &fields).await
}

/// `POST /v1/rerank`.
pub(crate) async fn first(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    Extension(id): Extension<RequestId>,
    body: Payload,
) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let rank_fields: Option<Vec<String>> = fields.optional("rank_fields")?;
    let call = Call {
        documents: fields.required("documents")?,
        rank_fields: rank_fields.unwrap_or_else(|| vec!["text".into()]),
        return_documents: fields.optional("return_documents")?.unwrap_or(false),
        version: "1",
    };
    call.answer(&app, client, &id, &fields).await
}

struct Call {
    documents: Vec<Document>,
    rank_fields: Vec<String>,
    return_documents: bool,
    version: &'static str,
}

impl Call {
    async fn answer(
        self,
        app: &App,
        client: Client,
        id: &RequestId,
        fields: &Fields<'_>,
    ) -> Result<Response, Problem> {
        if self.documents.is_empty() {
            return Err(Problem::field("documents", "is empty"));
        }
        if self.documents.len() > MAX_DOCUMENTS {
            let (field, received) = ("documents", self.documents.len());
            let limit = MAX_DOCUMENTS;
            return Err(Problem::TooManyInputs {
                field,
                received,
                limit,
            });
        }
        let top: Option<usize> = fields.whole("top_n")?;
        if top == Some(0) {
            return Err(Problem::field("top_n", "is 0, expected at least 1"));
        }
        let documents = self.documents.iter();
        let request = RerankRequest {
            model: fields.optional("model")?,
            query: fields.required("query")?,
            documents: documents
                .map(|document| document.text(&self.rank_fields))
                .collect(),
            overflow: Overflow::Truncate,
            options: options(fields)?,
        };
        let scores = app.models.rerank(client, request).await?;
        let results = ranked(&scores, top).map(|(index, relevance)| Ranked {
            index,
            relevance_score: relevance.score,
            document: self
                .return_documents
                .then(|| self.documents[index].returned()),
        });
        let usage: Vec<_> = scores
            .relevance
            .iter()
            .map(|relevance| relevance.usage)
            .collect();
        let tokens = kept(&usage);
        let answer = Answer {
            id: &id.0,
            model: &scores.model,
            results: results.collect(),
            usage: Usage {
                total_tokens: tokens,
                prompt_tokens: tokens,
            },
            meta: Meta {
                api_version: Version {
                    version: self.version,
                },
                billed_units: Billed {
                    search_units: self.documents.len().div_ceil(DOCUMENTS_PER_SEARCH),
                },
            },
        };
        let mut response = json(StatusCode::OK, &answer);
        Loss::of(&usage).tell(&scores.model, &mut response);
        Ok(response)
    }
}

/// Cohere's options; a model on this machine takes all requests alike, whatever their priority.
fn options(fields: &Fields<'_>) -> Result<RerankOptions, Problem> {
    let limit: Option<usize> = fields.whole("max_tokens_per_doc")?;
    if limit == Some(0) {
        return Err(Problem::field(
            "max_tokens_per_doc",
            "is 0, expected at least 1",
        ));
    }
    let priority: Option<u16> = fields.whole("priority")?;
    if priority.is_some_and(|priority| priority > MAX_PRIORITY) {
        let reason = format!("is out of range, expected 0 to {MAX_PRIORITY}");
        return Err(Problem::field("priority", reason));
    }
    Ok(RerankOptions {
        instruct: None,
        max_tokens_per_doc: limit,
        priority,
    })
}

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
    model: &'a str,
    results: Vec<Ranked>,
    usage: Usage,
    meta: Meta,
}

#[derive(Serialize)]
struct Ranked {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Value>,
}

#[derive(Serialize)]
struct Usage {
    total_tokens: usize,
    prompt_tokens: usize,
}

#[derive(Serialize)]
struct Meta {
    api_version: Version,
    billed_units: Billed,
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

#[derive(Serialize)]
struct Billed {
    search_units: usize,
}

#[derive(Serialize)]
struct ErrorBody {
    message: String,
    /// Where Jina's clients look.
    detail: String,
}

/// `problem` in the shape of both.
pub(crate) fn problem(problem: &Problem) -> Response {
    let message = problem.advice();
    let detail = message.clone();
    json(problem.status(), &ErrorBody { message, detail })
}
