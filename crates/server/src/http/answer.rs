//! Around every request: a number, a place, a deadline; then the problem printed, the time counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{HeaderName, RETRY_AFTER};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::body::Body as _;
use tokio::time::timeout;

use super::App;
use super::body::Receiving;
use super::stream::Keeping;
use crate::dialects::Dialect;
#[cfg(feature = "otlp")]
use crate::otlp::{Context, Span};
use crate::problem::Problem;

/// A request's number, for answers and logs.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The served name of the model that answered.
pub(crate) const MODEL: HeaderName = HeaderName::from_static("x-wenyi-model");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Routes that anyone may ask: they tell nothing but that the server runs.
const OPEN: [&str; 9] = [
    "/health",
    "/ready",
    "/ping",
    "/healthz",
    "/livez",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
];

/// Counts a request as long as it is in work, however it ends.
struct InFlight(Arc<App>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.metrics.left();
    }
}

/// The outermost layer.
pub(super) async fn answer(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    app.metrics.arrived();
    let in_flight = InFlight(app.clone());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("other", |route| route.as_str()).to_owned();
    let id = RequestId(uuid::Uuid::new_v4().to_string());
    #[cfg(feature = "otlp")]
    let context = (app.exporter.as_ref()).map(|_| Context::of(request.headers()));
    let response = match within_limits(&app, &path, request, id.clone(), next).await {
        Ok(response) => held(response, in_flight),
        Err(problem) => problem.into_response(),
    };
    let (mut response, problem) = printed(response, &method, &path, &id);
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let status = response.status().as_u16();
    let took = started.elapsed();
    let model = response.headers().get(MODEL);
    let model = model.map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
    let model = model.unwrap_or_default();
    app.metrics.answered(&route, &model, status, took);
    let name = problem.as_ref().map_or("", Problem::name);
    if problem.is_some() {
        app.metrics.problem(name);
    }
    let milliseconds = milliseconds(took);
    let reason = problem
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    if status >= 500 {
        tracing::error!(%method, path, status, milliseconds, id = id.0, name, reason);
    } else if problem.is_some() {
        tracing::info!(%method, path, status, milliseconds, id = id.0, name, reason);
    } else {
        tracing::debug!(%method, path, status, milliseconds, id = id.0);
    }
    #[cfg(feature = "otlp")]
    if let Some((exporter, context)) = app.exporter.as_ref().zip(context) {
        exporter.export(Span {
            context,
            request_id: id.0,
            method: method.to_string(),
            route,
            path,
            status,
            model,
            problem: problem.map(|problem| (problem.name(), reason)),
            took,
        });
    }
    response
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}

/// Admits the request, finds it a place and gives it its time.
async fn within_limits(
    app: &Arc<App>,
    path: &str,
    mut request: Request,
    id: RequestId,
    next: Next,
) -> Result<Response, Problem> {
    let is_open = OPEN.contains(&path);
    if !is_open && request.method() != Method::OPTIONS {
        let peer = request.extensions().get::<SocketAddr>().copied();
        let peer = peer.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        let client = app.guard.admit(request.headers(), peer)?;
        request.extensions_mut().insert(client);
    }
    request.extensions_mut().insert(id);
    if is_open {
        return Ok(next.run(request).await);
    }
    let Ok(place) = app.places.clone().try_acquire_owned() else {
        let retry_after = Duration::from_secs(1);
        return Err(Problem::Busy { retry_after });
    };
    let limit = app.options.request_timeout;
    let receiving = Receiving::default();
    request.extensions_mut().insert(receiving.clone());
    let answered = timeout(limit, next.run(request)).await;
    let response = answered.map_err(|_| match receiving.is_so() {
        true => Problem::SlowClient(limit),
        false => Problem::Deadline(limit),
    })?;
    Ok(held(response, place))
}

/// Keeps `kept` until a body that grows is at its end; whole bodies are as good as sent.
fn held(response: Response, kept: impl Unpin + Send + 'static) -> Response {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| Body::new(Keeping { body, _kept: kept }))
}

/// The response with its problem, if it has one, in the words of the route's dialect.
fn printed(
    mut response: Response,
    method: &Method,
    path: &str,
    id: &RequestId,
) -> (Response, Option<Problem>) {
    let problem = response.extensions_mut().remove::<Problem>();
    let Some(problem) = problem else {
        return (response, None);
    };
    let is_head = method == Method::HEAD;
    let mut printed = Dialect::of(path).print(&problem, id);
    // Such as `allow`, which the router has set.
    for (name, value) in response.headers() {
        if !printed.headers().contains_key(name) && name != "content-length" {
            printed.headers_mut().insert(name, value.clone());
        }
    }
    let headers = printed.headers_mut();
    if let Some(time) = problem.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(time.as_secs().max(1)));
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        headers.insert(RETRY_AFTER_MS, HeaderValue::from(milliseconds));
    }
    if let Some(word) = problem.should_retry() {
        let word = if word { "true" } else { "false" };
        headers.insert(SHOULD_RETRY, HeaderValue::from_static(word));
    }
    if is_head {
        *printed.body_mut() = axum::body::Body::empty();
    }
    (printed, Some(problem))
}

/// `response` with the name of the model that gave it, for the client and for what is counted.
pub(crate) fn named(mut response: Response, model: &str) -> Response {
    // A name outside of ASCII is told in its UTF-8 bytes.
    if let Ok(model) = HeaderValue::from_bytes(model.as_bytes()) {
        response.headers_mut().insert(MODEL, model);
    }
    response
}
