//! Routes about the server as a whole.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::{SPOKEN, answered};
use crate::http::App;
use crate::problem::Problem;

/// `GET /`: what clients look for before they trust a server.
pub(crate) async fn root() -> Response {
    let title = concat!(
        "wenyi ",
        env!("CARGO_PKG_VERSION"),
        ", speaking Qdrant's REST"
    );
    crate::dialects::json(
        StatusCode::OK,
        &json!({"title": title, "version": SPOKEN, "commit": null}),
    )
}

/// `GET /cluster`: this is one server.
pub(crate) async fn cluster(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    answered(&app, |_| Ok(json!({"status": "disabled"}))).await
}

/// `GET /telemetry`.
pub(crate) async fn telemetry(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    answered(&app, |collections| {
        let number = collections.names()?.len();
        Ok(json!({
            "id": "wenyi",
            "app": {"name": "wenyi", "version": SPOKEN, "startup": "1970-01-01T00:00:00Z"},
            "collections": {"number_of_collections": number},
        }))
    })
    .await
}
