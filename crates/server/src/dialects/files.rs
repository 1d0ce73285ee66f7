//! `OpenAI`'s files.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use multer::Multipart;
use serde_json::{Value, json};

use super::json;
use super::listed::{list, paging, parameter};
use crate::http::{App, Path, Payload};
use crate::problem::Problem;
use crate::vector_stores::File;

/// What files may be for.
const PURPOSES: [&str; 6] = [
    "assistants",
    "user_data",
    "batch",
    "fine-tune",
    "vision",
    "evals",
];

/// Files of a list if a client does not say.
const LIMIT: usize = 10_000;

fn printed(id: &str, file: &File) -> Value {
    json!({
        "id": id, "object": "file", "bytes": file.bytes, "created_at": file.created_at,
        "filename": file.filename, "purpose": file.purpose, "status": "processed",
        "expires_at": null, "status_details": null,
    })
}

/// `POST /v1/files`.
pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Payload,
) -> Result<Response, Problem> {
    let upload = Upload::read(&headers, body).await?;
    let (id, file) = (app.storage)
        .on_vector_stores(move |stores| {
            stores.upload(upload.filename, upload.purpose, &upload.bytes)
        })
        .await?;
    Ok(json(StatusCode::OK, &printed(&id, &file)))
}

struct Upload {
    filename: String,
    purpose: String,
    bytes: Bytes,
}

impl Upload {
    async fn read(headers: &HeaderMap, body: Payload) -> Result<Self, Problem> {
        let malformed = |reason: String| Problem::Malformed { reason };
        let kind = headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        let boundary = multer::parse_boundary(kind.unwrap_or_default()).map_err(|_| {
            malformed("expected `multipart/form-data` with `file` and `purpose`".into())
        })?;
        let bytes = body.into_bytes();
        let whole = std::future::ready(Ok::<_, std::convert::Infallible>(bytes));
        let mut parts = Multipart::new(stream::once(whole), boundary);
        let (mut file, mut purpose) = (None, None);
        while let Some(part) = parts
            .next_field()
            .await
            .map_err(|error| malformed(error.to_string()))?
        {
            let (name, filename) = (
                part.name().map(str::to_owned),
                part.file_name().map(str::to_owned),
            );
            let bytes = part
                .bytes()
                .await
                .map_err(|error| malformed(error.to_string()))?;
            match name.as_deref() {
                Some("file") => file = Some((filename, bytes)),
                Some("purpose") => purpose = Some(String::from_utf8_lossy(&bytes).into_owned()),
                // Such as `expires_after`: files stay until they are deleted.
                _ => {}
            }
        }
        let (filename, bytes) = file.ok_or_else(|| Problem::field("file", "is missing"))?;
        let purpose = purpose.ok_or_else(|| Problem::field("purpose", "is missing"))?;
        if !PURPOSES.contains(&&*purpose) {
            let expected = PURPOSES.join("`, `");
            let reason = format!("is `{purpose}`, expected one of `{expected}`");
            return Err(Problem::field("purpose", reason));
        }
        if bytes.is_empty() {
            return Err(Problem::field("file", "is empty"));
        }
        Ok(Self {
            filename: filename.unwrap_or_else(|| "file".into()),
            purpose,
            bytes,
        })
    }
}

/// `GET /v1/files`.
pub(crate) async fn list_files(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let paging = paging(&uri, LIMIT, LIMIT)?;
    let purpose = parameter(&uri, "purpose");
    let page = (app.storage)
        .on_vector_stores(move |stores| stores.list_files(purpose.as_deref(), &paging))
        .await?;
    Ok(list(&page, printed))
}

/// `GET /v1/files/{file}`.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let wanted = id.clone();
    let file = (app.storage)
        .on_vector_stores(move |stores| stores.file(&wanted))
        .await?;
    Ok(json(StatusCode::OK, &printed(&id, &file)))
}

/// `GET /v1/files/{file}/content`.
pub(crate) async fn content(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let bytes = (app.storage)
        .on_vector_stores(move |stores| stores.content(&id))
        .await?;
    let kind = HeaderValue::from_static("application/octet-stream");
    Ok(([(CONTENT_TYPE, kind)], bytes).into_response())
}

/// `DELETE /v1/files/{file}`.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let wanted = id.clone();
    (app.storage)
        .on_vector_stores(move |stores| stores.delete_file(&wanted))
        .await?;
    let answer = json!({"id": id, "object": "file", "deleted": true});
    Ok(json(StatusCode::OK, &answer))
}
