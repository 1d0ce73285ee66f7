//! The table of everything that is served.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tower_http::cors::{Any, CorsLayer};

use super::{App, answer, operate};
use crate::dialects::{ask, chat, dashscope, ollama, ollama_chat, openai, rerank, tei};
use crate::problem::Problem;

/// All routes with everything around them.
pub(crate) fn router(app: Arc<App>) -> Router {
    let router = operating().merge(openai()).merge(others());
    let router = router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(app.clone(), answer::answer));
    match cors(&app.options.origins) {
        Some(layer) => router.layer(layer),
        None => router,
    }
    .with_state(app)
}

fn operating() -> Router<Arc<App>> {
    Router::new()
        .route("/health", get(operate::health))
        .route("/ping", get(operate::health))
        .route("/ready", get(operate::ready))
        .route("/metrics", get(operate::metrics))
        .route("/openapi.json", get(operate::openapi))
        .route("/docs", get(operate::docs))
}

fn openai() -> Router<Arc<App>> {
    let mut router = Router::new();
    for base in ["/v1", "/compatible-mode/v1"] {
        router = router
            .route(&format!("{base}/embeddings"), post(openai::embeddings))
            .route(&format!("{base}/chat/completions"), post(chat::chat))
            .route(&format!("{base}/completions"), post(chat::completions))
            .route(&format!("{base}/models"), get(openai::models))
            .route(&format!("{base}/models/{{*model}}"), get(openai::model));
    }
    router
}

fn others() -> Router<Arc<App>> {
    let embedding = "/api/v1/services/embeddings/text-embedding/text-embedding";
    let text_rerank = "/api/v1/services/rerank/text-rerank/text-rerank";
    Router::new()
        .route(embedding, post(dashscope::embeddings))
        .route(text_rerank, post(dashscope::rerank))
        .route("/compatible-api/v1/reranks", post(dashscope::flat_rerank))
        .route("/v1/ask", post(ask::ask))
        .route("/v1/rerank", post(rerank::first))
        .route("/v2/rerank", post(rerank::second))
        .route("/embed", post(tei::embed))
        .route("/embed_sparse", post(tei::embed_sparse))
        .route("/rerank", post(tei::rerank))
        .route("/similarity", post(tei::similarity))
        .route("/tokenize", post(tei::tokenize))
        .route("/decode", post(tei::decode))
        .route("/info", get(tei::info))
        .route("/api/chat", post(ollama_chat::chat))
        .route("/api/generate", post(ollama_chat::generate))
        .route("/api/embed", post(ollama::embed))
        .route("/api/embeddings", post(ollama::embeddings))
        .route("/api/tags", get(ollama::tags))
        .route("/api/ps", get(ollama::running))
        .route("/api/version", get(ollama::version))
}

async fn no_route(request: Request) -> Problem {
    Problem::NoRoute {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
    }
}

async fn no_method(request: Request) -> Problem {
    Problem::NoMethod {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
    }
}

/// Browsers may call from `origins`; from nowhere else if there are none.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let layer = CorsLayer::new().allow_methods(Any).allow_headers(Any);
    if origins.iter().any(|origin| origin == "*") {
        return Some(layer.allow_origin(Any));
    }
    let origins = origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin).ok());
    Some(layer.allow_origin(origins.collect::<Vec<_>>()))
}
