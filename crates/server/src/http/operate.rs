//! Routes for those who run the server.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::App;

/// The process answers.
pub(super) async fn health() -> StatusCode {
    StatusCode::OK
}

/// The first model is in memory, and the server does not stop yet.
pub(super) async fn ready(State(app): State<Arc<App>>) -> StatusCode {
    if app.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// Everything counted.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = app.metrics.text(&app.models.registry.queued());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], text).into_response()
}

/// What is served, for programs; `tests/openapi.rs` holds it against the routes.
pub(super) async fn openapi() -> Response {
    let kind = [(CONTENT_TYPE, "application/json")];
    (kind, include_str!("openapi.json")).into_response()
}

/// The same for people; needs nothing from elsewhere.
pub(super) async fn docs() -> Response {
    let kind = [(CONTENT_TYPE, "text/html; charset=utf-8")];
    (kind, include_str!("docs.html")).into_response()
}
