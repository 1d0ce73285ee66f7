//! Requests passed on to a provider, and its answers passed back as they come.
//!
//! What only one provider knows, such as thoughts, probabilities or calls of tools, goes through
//! because nothing here takes it apart. Only what an event tells of a failure is said in other words,
//! for a provider may repeat its key in it.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body as WholeBody;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::mpsc::Sender;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use wenyi::chat::Usage;
use wenyi::providers::Service;

use super::super::openai;
use super::events::{Events, Said};
use crate::http::{App, named, streamed};
use crate::models::{Remote, answered, start};
use crate::problem::Problem;

/// The largest answer that is read as a whole.
const MAX_ANSWER: u64 = 64 << 20;
/// Bytes read at once.
const PIECE: usize = 16 << 10;

/// A provider's model under the name that it is served by.
pub(super) struct Relay {
    pub(super) app: Arc<App>,
    pub(super) name: String,
    pub(super) remote: Arc<Remote>,
    pub(super) service: Service,
}

impl Relay {
    /// Sends the request `body` of OpenAI's form to the provider and its answer back.
    pub(super) async fn answer(self, body: &[u8], is_stream: bool) -> Result<Response, Problem> {
        let mut body: Map<String, Value> = serde_json::from_slice(body)?;
        body.insert("model".into(), self.remote.model().into());
        if self.service == Service::Chat {
            let adapted = self.remote.endpoint().adapt_chat(&mut body);
            adapted.map_err(|error| Problem::of_provider(&error))?;
        }
        let body = Value::Object(body).to_string().into_bytes();
        let name = self.name.clone();
        let answer = match is_stream {
            true => self.stream(body).await,
            false => self.whole(body).await,
        };
        answer.map(|response| named(response, &name))
    }

    /// The whole answer, once it is known to be one.
    async fn whole(self, body: Vec<u8>) -> Result<Response, Problem> {
        let place = self.remote.place()?;
        let work = move || {
            let (_, answer) = self.remote.forward(self.service, &body)?;
            self.read(answer)
        };
        answered(place, work).await.map(whole_response)
    }

    /// A whole answer, which must be JSON without an error.
    fn read(&self, answer: Box<dyn Read + Send>) -> Result<Vec<u8>, Problem> {
        let mut bytes = Vec::new();
        let read = answer.take(MAX_ANSWER).read_to_end(&mut bytes);
        read.map_err(|error| self.broken(&error.to_string()))?;
        // DeepSeek sends empty lines while it is busy.
        let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace());
        let bytes = bytes.split_off(start.unwrap_or(bytes.len()));
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| self.broken(&format!("the answer is not JSON: {error}")))?;
        match self.remote.endpoint().failure_in(&value) {
            Some(error) => Err(Problem::of_provider(&error)),
            None if !value.is_object() => Err(self.broken("the answer is no JSON object")),
            None => {
                self.count(value.get("usage").and_then(Usage::from_json));
                Ok(bytes)
            }
        }
    }

    fn count(&self, usage: Option<Usage>) {
        self.app
            .metrics
            .chat(&self.name, &usage.unwrap_or_default());
    }

    fn broken(&self, reason: &str) -> Problem {
        let provider = self.remote.endpoint().provider();
        Problem::Provider {
            status: StatusCode::BAD_GATEWAY,
            code: None,
            reason: format!("{provider}: {reason}"),
            retry_after: None,
            should_retry: None,
            hint: None,
        }
    }

    /// The answer as it comes. The connection to the provider is closed, and the place free, as soon
    /// as the client has gone or a piece lets wait for longer than a request may.
    async fn stream(self, body: Vec<u8>) -> Result<Response, Problem> {
        let place = self.remote.place()?;
        let limit = self.app.options.request_timeout;
        let (sender, response) = streamed("text/event-stream; charset=utf-8");
        let (tell, told) = oneshot::channel();
        let silence = Arc::new(Silence::default());
        let (watched, waits) = (sender.clone(), silence.clone());
        // While `told` is awaited, who waits for it has the response, and so the sender's other end.
        let is_given_up = move || watched.is_closed() || waits.is_over(limit);
        start(is_given_up, move || {
            let begun = self.remote.forward(self.service, &body);
            let told = match begun {
                Ok((kind, answer)) if is_events(kind.as_deref()) => {
                    if tell.send(Ok(None)).is_ok() {
                        self.copy(answer, &sender, &silence, place);
                    }
                    return;
                }
                // Some answer as a whole all the same, or with an error, or with a page.
                Ok((_, answer)) => self.read(answer).map(Some),
                Err(problem) => Err(problem),
            };
            // First, so that whoever was told finds the place free.
            drop(place);
            let _ = tell.send(told);
        })?;
        match told.await {
            Ok(Ok(None)) => Ok(response),
            Ok(Ok(Some(bytes))) => Ok(whole_response(bytes)),
            Ok(Err(problem)) => Err(problem),
            Err(_) => Err(Problem::Stopping),
        }
    }

    fn copy(
        &self,
        answer: Box<dyn Read + Send>,
        sender: &Sender<Bytes>,
        silence: &Silence,
        place: OwnedSemaphorePermit,
    ) {
        let mut usage = None;
        let copied = self.copy_events(answer, sender, silence, &mut usage);
        drop(place);
        self.count(usage);
        if let Err(problem) = copied {
            let error = serde_json::to_string(&openai::error(&problem)).unwrap_or_default();
            // Begins with an end of line, for what broke off may not have had one.
            let _ = sender.blocking_send(Bytes::from(format!("\n\ndata: {error}\n\n")));
        }
    }

    /// Passes on what comes, up to the end or a failure.
    fn copy_events(
        &self,
        mut answer: Box<dyn Read + Send>,
        sender: &Sender<Bytes>,
        silence: &Silence,
        usage: &mut Option<Usage>,
    ) -> Result<(), Problem> {
        let mut buffer = vec![0; PIECE];
        let (mut events, mut has_ended) = (Events::default(), false);
        loop {
            silence.begin();
            let read = answer.read(&mut buffer);
            let was_too_long = silence.end(self.app.options.request_timeout);
            let is_last = match read {
                Ok(count) => {
                    events.push(&buffer[..count]);
                    count == 0
                }
                Err(_) if was_too_long => {
                    return Err(Problem::Deadline(self.app.options.request_timeout));
                }
                Err(error) => return Err(self.broken(&error.to_string())),
            };
            if events.is_too_long() {
                return Err(self.broken("an event of the stream has no end"));
            }
            let next = |events: &mut Events| match events.next() {
                None if is_last => events.rest(),
                event => event,
            };
            while let Some(event) = next(&mut events) {
                let said = Said::by(&event);
                if let Some(failure) = said.failure {
                    return Err(self.failed(&failure));
                }
                has_ended |= said.is_end;
                *usage = said.usage.or(*usage);
                if sender.blocking_send(event.into()).is_err() {
                    return Ok(());
                }
            }
            match (is_last, has_ended) {
                (false, _) => {}
                (true, true) => return Ok(()),
                (true, false) => return Err(self.broken("the stream ended before the answer")),
            }
        }
    }

    fn failed(&self, failure: &Value) -> Problem {
        match self.remote.endpoint().failure_in(failure) {
            Some(error) => Problem::of_provider(&error),
            None => self.broken("the stream ended with an error"),
        }
    }
}

fn whole_response(bytes: Vec<u8>) -> Response {
    let mut response = Response::new(WholeBody::from(bytes));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn is_events(kind: Option<&str>) -> bool {
    // A server that does not say is taken by its word that it streams.
    kind.is_none_or(|kind| !kind.starts_with("application/json") && !kind.starts_with("text/html"))
}

/// How long the provider has been silent; a client that is slow to take an answer is not its fault.
#[derive(Debug)]
struct Silence {
    origin: Instant,
    /// Milliseconds after `origin` at which it began; [`Self::NONE`] if it does not last.
    since: AtomicU64,
}

impl Default for Silence {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            since: AtomicU64::new(Self::NONE),
        }
    }
}

impl Silence {
    const NONE: u64 = u64::MAX;

    fn begin(&self) {
        let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(Self::NONE);
        self.since.store(now, Ordering::Relaxed);
    }

    /// Ends it; true if it lasted for longer than `limit`.
    fn end(&self, limit: Duration) -> bool {
        let is_over = self.is_over(limit);
        self.since.store(Self::NONE, Ordering::Relaxed);
        is_over
    }

    fn is_over(&self, limit: Duration) -> bool {
        match self.since.load(Ordering::Relaxed) {
            Self::NONE => false,
            since => {
                self.origin
                    .elapsed()
                    .saturating_sub(Duration::from_millis(since))
                    > limit
            }
        }
    }
}
