//! The APIs that are spoken, one file each: parsing and printing, nothing else.

mod fields;
mod input;
mod listed;
mod loss;
mod ranking;
pub(crate) mod openai;
pub(crate) mod files;
pub(crate) mod vector_stores;
pub(crate) mod chat;
pub(crate) mod dashscope;
mod dashscope_problem;
pub(crate) mod rerank;
pub(crate) mod tei;
pub(crate) mod ollama;
pub(crate) mod ollama_chat;
pub(crate) mod ask;
pub(crate) mod qdrant;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

use crate::http::RequestId;
use crate::problem::Problem;

/// An API's way of spelling things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    DashScope,
    /// `DashScope`'s imitation of `OpenAi`.
    Compatible,
    /// Cohere and Jina.
    Rerank,
    Tei,
    Ollama,
    Qdrant,
}

impl Dialect {
    /// The dialect of a path, known or not; most programs expect `OpenAI`'s.
    pub(crate) fn of(path: &str) -> Self {
        let begins = |prefix: &str| path.starts_with(prefix);
        if begins("/api/v1/") || begins("/compatible-api/") {
            Self::DashScope
        } else if begins("/compatible-mode/") {
            Self::Compatible
        } else if begins("/api/") {
            Self::Ollama
        } else if begins("/v2/") || path == "/v1/rerank" {
            Self::Rerank
        } else if qdrant::is_ours(path) {
            Self::Qdrant
        } else if tei::ROUTES.contains(&path) {
            Self::Tei
        } else {
            Self::OpenAi
        }
    }

    /// A problem in the dialect's shape, with its status.
    pub(crate) fn print(self, problem: &Problem, id: &RequestId) -> Response {
        match self {
            Self::OpenAi => openai::problem(problem),
            Self::DashScope => dashscope_problem::native(problem, id),
            Self::Compatible => dashscope_problem::compatible(problem, id),
            Self::Rerank => rerank::problem(problem),
            Self::Tei => tei::problem(problem),
            Self::Ollama => ollama::problem(problem),
            Self::Qdrant => qdrant::problem(problem),
        }
    }
}

/// `value` as the JSON body of a response.
fn json(status: StatusCode, value: &impl Serialize) -> Response {
    json_of(status, value, 256)
}

/// As [`json`], for a body of about `bytes`.
fn json_of(status: StatusCode, value: &impl Serialize, bytes: usize) -> Response {
    let mut body = Vec::with_capacity(bytes);
    // Writing to memory does not fail, and no value here has keys that are no texts.
    let _ = serde_json::to_writer(&mut body, value);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
