//! Requests passed on to a provider, and its answers passed back as they come.
//!
//! What only one provider knows, such as thoughts, probabilities or calls of tools, goes through
//! because nothing here takes it apart.

use std::io::Read;
use std::sync::Arc;

use axum::body::Body as WholeBody;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::mpsc::Sender;
use tokio::task::spawn_blocking;
use wenyi::providers::Service;

use super::super::openai;
use crate::http::streamed;
use crate::models::Remote;
use crate::problem::Problem;

/// The largest answer that is read as a whole.
const MAX_ANSWER: u64 = 64 << 20;
/// Bytes passed on at once.
const PIECE: usize = 16 << 10;

/// Sends the request `body` of OpenAI's form to the provider and its answer back.
pub(super) async fn relay(
    remote: Arc<Remote>,
    service: Service,
    body: &[u8],
    is_stream: bool,
) -> Result<Response, Problem> {
    let mut body: Map<String, Value> = serde_json::from_slice(body)?;
    body.insert("model".into(), remote.model().into());
    if service == Service::Chat {
        let adapted = remote.endpoint().adapt_chat(&mut body);
        adapted.map_err(|error| Problem::of_provider(&error))?;
    }
    let body = Value::Object(body).to_string().into_bytes();
    if is_stream {
        return stream(remote, service, body).await;
    }
    pass_on(remote, service, body).await
}

/// Sends `body` as it is and gives the whole answer back, once it is known to be one.
pub(crate) async fn pass_on(
    remote: Arc<Remote>,
    service: Service,
    body: Vec<u8>,
) -> Result<Response, Problem> {
    let place = remote.places().clone().try_acquire_owned();
    let place = place.map_err(|_| Problem::BUSY)?;
    let whole = spawn_blocking(move || {
        let (_, answer) = remote.forward(service, &body)?;
        let bytes = whole(&remote, answer);
        drop(place);
        bytes
    });
    let bytes = whole.await.unwrap_or_else(|error| {
        let reason = error.to_string();
        Err(Problem::Internal { reason })
    })?;
    let mut response = Response::new(WholeBody::from(bytes));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// A whole answer, which must be JSON without an error.
fn whole(remote: &Remote, answer: Box<dyn Read + Send>) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let read = answer.take(MAX_ANSWER).read_to_end(&mut bytes);
    read.map_err(|error| broken(remote, &error.to_string()))?;
    // DeepSeek sends empty lines while it is busy.
    let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace());
    let bytes = bytes.split_off(start.unwrap_or(bytes.len()));
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| broken(remote, &format!("the answer is not JSON: {error}")))?;
    match remote.endpoint().failure_in(&value) {
        Some(error) => Err(Problem::of_provider(&error)),
        None if !value.is_object() => Err(broken(remote, "the answer is no JSON object")),
        None => Ok(bytes),
    }
}

fn broken(remote: &Remote, reason: &str) -> Problem {
    let provider = remote.endpoint().provider();
    Problem::Provider {
        status: StatusCode::BAD_GATEWAY,
        code: None,
        reason: format!("{provider}: {reason}"),
        retry_after: None,
        should_retry: None,
        hint: None,
    }
}

/// The answer as it comes. If the client goes away, the connection to the provider is closed with
/// the next piece.
async fn stream(remote: Arc<Remote>, service: Service, body: Vec<u8>) -> Result<Response, Problem> {
    let place = remote.places().clone().try_acquire_owned();
    let place = place.map_err(|_| Problem::BUSY)?;
    let (sender, response) = streamed("text/event-stream; charset=utf-8");
    let (tell, told) = tokio::sync::oneshot::channel();
    spawn_blocking(move || {
        let _place = place;
        let answer = match remote.forward(service, &body) {
            Ok((kind, answer)) if is_events(kind.as_deref()) => answer,
            // Some answer as a whole all the same, or with an error, or with a page.
            Ok((_, answer)) => {
                let _ = tell.send(whole(&remote, answer).map(Some));
                return;
            }
            Err(problem) => return drop(tell.send(Err(problem))),
        };
        if tell.send(Ok(None)).is_ok() {
            copy(&remote, answer, &sender);
        }
    });
    match told.await {
        Ok(Ok(None)) => Ok(response),
        Ok(Ok(Some(bytes))) => {
            let mut response = Response::new(WholeBody::from(bytes));
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            Ok(response)
        }
        Ok(Err(problem)) => Err(problem),
        Err(_) => Err(Problem::Stopping),
    }
}

fn is_events(kind: Option<&str>) -> bool {
    // A server that does not say is taken by its word that it streams.
    kind.is_none_or(|kind| !kind.starts_with("application/json") && !kind.starts_with("text/html"))
}

fn copy(remote: &Remote, mut answer: Box<dyn Read + Send>, sender: &Sender<Bytes>) {
    let mut buffer = vec![0; PIECE];
    // The last bytes sent, to know whether the end was one.
    let mut tail = Vec::new();
    loop {
        let problem = match answer.read(&mut buffer) {
            Ok(0) if is_complete(&tail) => return,
            Ok(0) => broken(remote, "the stream ended before the answer"),
            Ok(count) => {
                tail.extend_from_slice(&buffer[..count]);
                tail.drain(..tail.len().saturating_sub(PIECE));
                let piece = Bytes::copy_from_slice(&buffer[..count]);
                match sender.blocking_send(piece) {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            }
            Err(error) => broken(remote, &error.to_string()),
        };
        let error = serde_json::to_string(&openai::error(&problem)).unwrap_or_default();
        // Begins with an end of line, for what broke off may not have had one.
        let _ = sender.blocking_send(Bytes::from(format!("\n\ndata: {error}\n\n")));
        return;
    }
}

/// True if the answer has said why it ended, or that it has.
fn is_complete(tail: &[u8]) -> bool {
    let text = String::from_utf8_lossy(tail);
    text.contains("[DONE]")
        || text.contains("\"finish_reason\":\"")
        || text.contains("\"finish_reason\": \"")
}
