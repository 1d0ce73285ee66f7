//! Qdrant's REST over the embedded store: [`wire`] reads what clients send and prints points, the other
//! files have the routes. Its own words for errors are kept where clients look for them.
//!
//! More is taken than Qdrant takes in one thing: an id may be any text, not only a UUID.

mod wire;
pub(crate) mod service;
pub(crate) mod collections;
pub(crate) mod aliases;
pub(crate) mod points;
pub(crate) mod read;
pub(crate) mod query;

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use wenyi::store::vector_store::integer_beyond_64_bits;

use crate::collections::Collections;
use crate::http::App;
use crate::problem::{Problem, with_hint};

/// The version of Qdrant's REST that is spoken: clients compare it with their own.
const SPOKEN: &str = "1.20.0";

/// Paths that begin like this are Qdrant's.
pub(crate) fn is_ours(path: &str) -> bool {
    let begins = |prefix: &str| {
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    path == "/"
        || [
            "/collections",
            "/aliases",
            "/cluster",
            "/telemetry",
            "/healthz",
            "/livez",
            "/readyz",
        ]
        .into_iter()
        .any(begins)
}

#[derive(Serialize)]
struct Envelope<T> {
    result: T,
    status: &'static str,
    time: f64,
}

/// Runs `work` on the collections and prints what it gives.
async fn answered<T: Serialize + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&Collections) -> Result<T, Problem> + Send + 'static,
) -> Result<Response, Problem> {
    let started = Instant::now();
    let body = app.storage.on_collections(move |collections| {
        let envelope = Envelope {
            result: work(collections)?,
            status: "ok",
            time: started.elapsed().as_secs_f64(),
        };
        serde_json::to_vec(&envelope).map_err(|error| Problem::Internal {
            reason: error.to_string(),
        })
    });
    let mut response = Response::new(Body::from(body.await?));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// What a body says, if none of its numbers would change by being read.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(body).map_err(|error| Problem::Malformed {
        reason: error.to_string(),
    })?;
    if let Some(integer) = integer_beyond_64_bits(text) {
        return Err(Problem::Malformed {
            reason: format!(
                "the integer {integer} does not fit into 64 bits, expected a smaller one or a string"
            ),
        });
    }
    serde_json::from_str(text).map_err(Problem::from)
}

/// Whether the client waits for a change. What it is told then, nothing else: a change is on disk before
/// any answer.
fn waits(uri: &Uri) -> bool {
    let parameters = uri.query().unwrap_or_default();
    parameters
        .split('&')
        .any(|parameter| parameter == "wait=true")
}

/// `problem` in Qdrant's shape.
pub(crate) fn problem(problem: &Problem) -> Response {
    let message = match problem {
        Problem::NoSuchCollection { name } => {
            format!("Not found: Collection `{name}` doesn't exist!")
        }
        Problem::CollectionExists { name } => {
            format!("Wrong input: Collection `{name}` already exists!")
        }
        Problem::NoPoint { id } => format!("Not found: No point with id {id} found"),
        Problem::Malformed { reason } => format!("Format error in JSON body: {reason}"),
        other if other.status() == StatusCode::BAD_REQUEST => format!("Wrong input: {other}"),
        other if other.status().is_server_error() => format!("Service internal error: {other}"),
        other => other.to_string(),
    };
    let message = with_hint(message, problem.hint());
    super::json(
        problem.status(),
        &json!({"status": {"error": message}, "time": 0.0}),
    )
}
