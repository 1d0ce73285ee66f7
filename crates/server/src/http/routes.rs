//! The table of everything that is served.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post, put};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use super::{App, answer, operate};
use crate::dialects::{
    ask, chat, dashscope, files, ollama, ollama_chat, openai, qdrant, rerank, tei, vector_stores,
};
use crate::problem::Problem;

/// What pages of other origins may read beside the body.
const EXPOSED: [HeaderName; 7] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("retry-after"),
    HeaderName::from_static("retry-after-ms"),
    HeaderName::from_static("x-should-retry"),
    HeaderName::from_static("x-wenyi-model"),
    HeaderName::from_static("x-wenyi-split"),
    HeaderName::from_static("x-wenyi-truncated"),
];

/// All routes with everything around them.
pub(crate) fn router(app: Arc<App>) -> Router {
    let router = (operating().merge(openai()).merge(others()))
        .merge(vector_stores())
        .merge(qdrant());
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
    for (base, embeddings) in [
        ("/v1", post(openai::embeddings)),
        ("/compatible-mode/v1", post(openai::compatible_embeddings)),
    ] {
        router = router
            .route(&format!("{base}/embeddings"), embeddings)
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
        .route("/predict", post(tei::predict))
        .route("/info", get(tei::info))
        .route("/api/chat", post(ollama_chat::chat))
        .route("/api/generate", post(ollama_chat::generate))
        .route("/api/embed", post(ollama::embed))
        .route("/api/embeddings", post(ollama::embeddings))
        .route("/api/show", post(ollama::show))
        .route("/api/tags", get(ollama::tags))
        .route("/api/ps", get(ollama::running))
        .route("/api/version", get(ollama::version))
}

fn vector_stores() -> Router<Arc<App>> {
    use vector_stores as stores;
    let store = get(stores::get).post(stores::modify).delete(stores::delete);
    let file = get(stores::get_file)
        .post(stores::modify_file)
        .delete(stores::detach);
    let batch = "/v1/vector_stores/{store}/file_batches/{batch}";
    let batch_files = "/v1/vector_stores/{store}/file_batches/{batch}/files";
    let cancel = "/v1/vector_stores/{store}/file_batches/{batch}/cancel";
    let content = "/v1/vector_stores/{store}/files/{file}/content";
    let attached = post(stores::attach).get(stores::list_files);
    Router::new()
        .route("/v1/files", post(files::upload).get(files::list_files))
        .route("/v1/files/{file}", get(files::get).delete(files::delete))
        .route("/v1/files/{file}/content", get(files::content))
        .route(
            "/v1/vector_stores",
            post(stores::create).get(stores::list_stores),
        )
        .route("/v1/vector_stores/{store}", store)
        .route("/v1/vector_stores/{store}/search", post(stores::find))
        .route("/v1/vector_stores/{store}/files", attached)
        .route("/v1/vector_stores/{store}/files/{file}", file)
        .route(content, get(stores::content))
        .route(
            "/v1/vector_stores/{store}/file_batches",
            post(stores::attach_batch),
        )
        .route(batch, get(stores::get_batch))
        .route(batch_files, get(stores::list_batch))
        .route(cancel, post(stores::cancel_batch))
}

fn qdrant() -> Router<Arc<App>> {
    use qdrant::{aliases, collections, points, query, read, service};
    let collection = get(collections::get)
        .put(collections::create)
        .patch(collections::update)
        .post(aliases::change)
        .delete(collections::delete);
    let payload = post(points::set_payload).put(points::overwrite_payload);
    let clear = "/collections/{collection}/points/payload/clear";
    Router::new()
        .route("/", get(service::root))
        .route("/healthz", get(operate::health))
        .route("/livez", get(operate::health))
        .route("/readyz", get(operate::ready))
        .route("/cluster", get(service::cluster))
        .route("/telemetry", get(service::telemetry))
        .route("/collections", get(collections::list))
        .route("/aliases", get(aliases::list))
        .route(
            "/collections/{collection}/aliases",
            get(aliases::of_collection),
        )
        .route("/collections/{collection}", collection)
        .route("/collections/{collection}/exists", get(collections::exists))
        .route(
            "/collections/{collection}/index",
            put(collections::create_index),
        )
        .route(
            "/collections/{collection}/index/{field}",
            delete(collections::delete_index),
        )
        .route("/collections/{collection}/facet", post(read::facet))
        .route(
            "/collections/{collection}/points",
            put(points::upsert).post(read::retrieve),
        )
        .route("/collections/{collection}/points/{id}", get(read::get))
        .route(
            "/collections/{collection}/points/delete",
            post(points::delete),
        )
        .route(
            "/collections/{collection}/points/batch",
            post(points::batch),
        )
        .route("/collections/{collection}/points/payload", payload)
        .route(
            "/collections/{collection}/points/payload/delete",
            post(points::delete_payload),
        )
        .route(clear, post(points::clear_payload))
        .route(
            "/collections/{collection}/points/vectors",
            put(points::update_vectors),
        )
        .route(
            "/collections/{collection}/points/vectors/delete",
            post(points::delete_vectors),
        )
        .route(
            "/collections/{collection}/points/scroll",
            post(read::scroll),
        )
        .route("/collections/{collection}/points/count", post(read::count))
        .route("/collections/{collection}/points/query", post(query::query))
        .route(
            "/collections/{collection}/points/query/batch",
            post(query::batch),
        )
        .route(
            "/collections/{collection}/points/query/groups",
            post(query::groups),
        )
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
    let layer = CorsLayer::new()
        .allow_methods(Any)
        // `*` would not cover `Authorization`.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED);
    if origins.iter().any(|origin| origin == "*") {
        return Some(layer.allow_origin(Any));
    }
    let origins = origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin).ok());
    Some(layer.allow_origin(origins.collect::<Vec<_>>()))
}
