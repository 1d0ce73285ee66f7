//! Routes of aliases, of which there are none: a collection has one name.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{answered, parse};
use crate::http::{App, Path, Payload};
use crate::problem::Problem;

/// `GET /aliases`.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    answered(&app, |_| Ok(json!({"aliases": []}))).await
}

/// `GET /collections/{name}/aliases`.
pub(crate) async fn of_collection(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    answered(&app, move |collections| {
        if !collections.has(&name)? {
            return Err(Problem::NoSuchCollection { name });
        }
        Ok(json!({"aliases": []}))
    })
    .await
}

/// `POST /collections/aliases`: nothing can be changed. The route is that of collections, so that one
/// may be called `aliases`.
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    body: Payload,
) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Changes {
        actions: Vec<Value>,
    }
    if name != "aliases" {
        return Err(Problem::NoMethod {
            method: Method::POST,
            path: format!("/collections/{name}"),
        });
    }
    answered(&app, move |_| {
        let changes: Changes = parse(body.bytes())?;
        match changes.actions.is_empty() {
            true => Ok(true),
            false => Err(Problem::field(
                "actions",
                "are not served: a collection has one name and no aliases",
            )),
        }
    })
    .await
}
