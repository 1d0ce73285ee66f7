//! `OpenAI`'s vector stores.

mod filter;
mod search;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::json;
use super::listed::{list, paging, parameter};
pub(crate) use search::find;

use crate::http::{App, Path, Payload};
use crate::problem::Problem;
use crate::vector_stores::{
    Attachment, Batch, Change, Chunking, Counts, Description, NewAttachment, Status,
};

/// Entries of a list if a client does not say, and at most.
const LIMITS: (usize, usize) = (20, 100);

/// Entries of an object that clients attach, and characters of a key and a value.
const MAX_PAIRS: usize = 16;
const MAX_KEY: usize = 64;
const MAX_VALUE: usize = 512;

/// Files that are attached at once.
const MAX_FILES: usize = 2000;

fn counts(counts: &Counts) -> Value {
    json!({
        "in_progress": counts.in_progress, "completed": counts.completed, "failed": counts.failed,
        "cancelled": counts.cancelled, "total": counts.total(),
    })
}

fn printed(id: &str, description: &Description) -> Value {
    let store = &description.store;
    let status = match () {
        () if store.is_expired() => "expired",
        () if description.counts.in_progress > 0 => "in_progress",
        () => "completed",
    };
    let expires_after = store
        .expires_after_days
        .map(|days| json!({"anchor": "last_active_at", "days": days}));
    json!({
        "id": id, "object": "vector_store", "created_at": store.created_at,
        "name": store.name.as_deref().unwrap_or_default(), "description": store.description,
        "usage_bytes": description.usage_bytes, "file_counts": counts(&description.counts),
        "status": status, "expires_after": expires_after, "expires_at": store.expires_at(),
        "last_active_at": store.last_active_at, "metadata": store.metadata,
    })
}

fn printed_file(attachment: &Attachment) -> Value {
    let chunking = attachment.chunking;
    json!({
        "id": attachment.file, "object": "vector_store.file", "created_at": attachment.created_at,
        "usage_bytes": attachment.usage_bytes, "vector_store_id": attachment.store,
        "status": attachment.status, "last_error": attachment.last_error,
        "attributes": attachment.attributes,
        "chunking_strategy": {"type": "static", "static": chunking},
    })
}

fn printed_batch(id: &str, batch: &Batch) -> Value {
    let status = match () {
        () if batch.is_cancelled => "cancelled",
        () if batch.counts.in_progress > 0 => "in_progress",
        () if batch.counts.total() > 0 && batch.counts.failed == batch.counts.total() => "failed",
        () => "completed",
    };
    json!({
        "id": id, "object": "vector_store.files_batch", "created_at": batch.created_at,
        "vector_store_id": batch.store, "status": status, "file_counts": counts(&batch.counts),
    })
}

/// The name and metadata of a store in a body.
fn change(fields: &Fields<'_>) -> Result<Change, Problem> {
    #[derive(Deserialize)]
    struct ExpiresAfter {
        anchor: String,
        days: u64,
    }
    let expires: Option<ExpiresAfter> = fields.optional("expires_after")?;
    if let Some(expires) = &expires
        && (expires.anchor != "last_active_at" || !(1..=365).contains(&expires.days))
    {
        let reason = "must have the anchor `last_active_at` and 1 to 365 days";
        return Err(Problem::field("expires_after", reason));
    }
    let metadata: Option<Map<String, Value>> = fields.optional("metadata")?;
    if let Some(metadata) = &metadata {
        check_pairs("metadata", metadata)?;
        if let Some((key, _)) = metadata.iter().find(|(_, value)| !value.is_string()) {
            return Err(Problem::field(
                "metadata",
                format!("has no string at `{key}`"),
            ));
        }
    }
    Ok(Change {
        name: fields.optional("name")?,
        description: fields.optional("description")?,
        metadata,
        expires_after_days: expires.map(|expires| expires.days),
    })
}

fn check_pairs(field: &'static str, pairs: &Map<String, Value>) -> Result<(), Problem> {
    if pairs.len() > MAX_PAIRS {
        let reason = format!("has {} keys, expected at most {MAX_PAIRS}", pairs.len());
        return Err(Problem::field(field, reason));
    }
    for (key, value) in pairs {
        let is_right = match value {
            Value::String(text) => text.chars().count() <= MAX_VALUE,
            Value::Number(_) | Value::Bool(_) => true,
            _ => false,
        };
        if key.is_empty() || key.chars().count() > MAX_KEY || !is_right {
            let reason = format!(
                "has `{key}`, expected keys of 1 to {MAX_KEY} characters with a number, true or false, \
                 or a string of at most {MAX_VALUE} characters"
            );
            return Err(Problem::field(field, reason));
        }
    }
    Ok(())
}

#[derive(Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Strategy {
    Auto,
    Static {
        #[serde(rename = "static")]
        chunking: Chunking,
    },
}

fn chunking(strategy: Option<Strategy>) -> Result<Chunking, Problem> {
    let Some(Strategy::Static { chunking }) = strategy else {
        return Ok(Chunking::default());
    };
    let (size, overlap) = (
        chunking.max_chunk_size_tokens,
        chunking.chunk_overlap_tokens,
    );
    if !(100..=4096).contains(&size) || overlap > size / 2 {
        let reason = format!(
            "has chunks of {size} tokens with {overlap} in common, expected 100 to 4096 and at most \
             half of them"
        );
        return Err(Problem::field("chunking_strategy", reason));
    }
    Ok(chunking)
}

fn attributes(given: Option<Map<String, Value>>) -> Result<Map<String, Value>, Problem> {
    let attributes = given.unwrap_or_default();
    check_pairs("attributes", &attributes)?;
    Ok(attributes)
}

/// The files named by `file_ids`, all treated alike.
fn files(fields: &Fields<'_>, ids: Vec<String>) -> Result<Vec<NewAttachment>, Problem> {
    if ids.len() > MAX_FILES {
        let reason = format!("has {} entries, expected at most {MAX_FILES}", ids.len());
        return Err(Problem::field("file_ids", reason));
    }
    let attributes = attributes(fields.optional("attributes")?)?;
    let chunking = chunking(fields.optional("chunking_strategy")?)?;
    let files = ids.into_iter().map(|file| NewAttachment {
        file,
        attributes: attributes.clone(),
        chunking,
    });
    Ok(files.collect())
}

/// `POST /v1/vector_stores`.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    body: Payload,
) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let change = change(&fields)?;
    let ids: Option<Vec<String>> = fields.optional("file_ids")?;
    let files = files(&fields, ids.unwrap_or_default())?;
    let made = app.storage.on_vector_stores(move |stores| {
        for new in &files {
            stores.file(&new.file)?;
        }
        let id = stores.create_store(change)?;
        for new in files {
            stores.attach(&id, new)?;
        }
        let description = stores.describe(&id)?;
        Ok(printed(&id, &description))
    });
    Ok(json(StatusCode::OK, &made.await?))
}

/// `GET /v1/vector_stores`.
pub(crate) async fn list_stores(
    State(app): State<Arc<App>>,
    uri: Uri,
) -> Result<Response, Problem> {
    let paging = paging(&uri, LIMITS.0, LIMITS.1)?;
    let page = (app.storage)
        .on_vector_stores(move |stores| stores.list_stores(&paging))
        .await?;
    Ok(list(&page, printed))
}

/// `GET /v1/vector_stores/{store}`.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Path(store): Path<String>,
) -> Result<Response, Problem> {
    let described = app.storage.on_vector_stores(move |stores| {
        let description = stores.describe(&store)?;
        Ok(printed(&store, &description))
    });
    Ok(json(StatusCode::OK, &described.await?))
}

/// `POST /v1/vector_stores/{store}`.
pub(crate) async fn modify(
    State(app): State<Arc<App>>,
    Path(store): Path<String>,
    body: Payload,
) -> Result<Response, Problem> {
    let change = change(&Fields::parse(body.bytes())?)?;
    let changed = app.storage.on_vector_stores(move |stores| {
        stores.change_store(&store, change)?;
        let description = stores.describe(&store)?;
        Ok(printed(&store, &description))
    });
    Ok(json(StatusCode::OK, &changed.await?))
}

/// `DELETE /v1/vector_stores/{store}`.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path(store): Path<String>,
) -> Result<Response, Problem> {
    let id = store.clone();
    (app.storage)
        .on_vector_stores(move |stores| stores.delete_store(&id))
        .await?;
    let answer = json!({"id": store, "object": "vector_store.deleted", "deleted": true});
    Ok(json(StatusCode::OK, &answer))
}

/// `POST /v1/vector_stores/{store}/files`.
pub(crate) async fn attach(
    State(app): State<Arc<App>>,
    Path(store): Path<String>,
    body: Payload,
) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let mut files = files(&fields, vec![fields.required("file_id")?])?;
    let attached = app.storage.on_vector_stores(move |stores| {
        let new = files.remove(0);
        Ok(printed_file(&stores.attach(&store, new)?))
    });
    Ok(json(StatusCode::OK, &attached.await?))
}

fn status(uri: &Uri) -> Result<Option<Status>, Problem> {
    let Some(filter) = parameter(uri, "filter") else {
        return Ok(None);
    };
    serde_json::from_value(filter.as_str().into()).map_err(|_| {
        let expected = "expected `in_progress`, `completed`, `failed` or `cancelled`";
        Problem::field("filter", format!("is `{filter}`, {expected}"))
    })
}

/// `GET /v1/vector_stores/{store}/files`.
pub(crate) async fn list_files(
    State(app): State<Arc<App>>,
    Path(store): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    attached(&app, store, None, &uri).await
}

/// `GET /v1/vector_stores/{store}/file_batches/{batch}/files`.
pub(crate) async fn list_batch(
    State(app): State<Arc<App>>,
    Path((store, batch)): Path<(String, String)>,
    uri: Uri,
) -> Result<Response, Problem> {
    attached(&app, store, Some(batch), &uri).await
}

async fn attached(
    app: &Arc<App>,
    store: String,
    batch: Option<String>,
    uri: &Uri,
) -> Result<Response, Problem> {
    let (paging, status) = (paging(uri, LIMITS.0, LIMITS.1)?, status(uri)?);
    let page = app.storage.on_vector_stores(move |stores| {
        if let Some(batch) = &batch {
            stores.batch(&store, batch)?;
        }
        stores.list_attached(&store, batch.as_deref(), status, &paging)
    });
    Ok(list(&page.await?, |_, attachment| printed_file(attachment)))
}

/// `GET /v1/vector_stores/{store}/files/{file}`.
pub(crate) async fn get_file(
    State(app): State<Arc<App>>,
    Path((store, file)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let found = (app.storage)
        .on_vector_stores(move |stores| Ok(printed_file(&stores.attachment(&store, &file)?)))
        .await?;
    Ok(json(StatusCode::OK, &found))
}

/// `POST /v1/vector_stores/{store}/files/{file}`.
pub(crate) async fn modify_file(
    State(app): State<Arc<App>>,
    Path((store, file)): Path<(String, String)>,
    body: Payload,
) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let attributes = attributes(Some(fields.required("attributes")?))?;
    let changed = app.storage.on_vector_stores(move |stores| {
        let attachment = stores.set_attributes(&store, &file, attributes)?;
        Ok(printed_file(&attachment))
    });
    Ok(json(StatusCode::OK, &changed.await?))
}

/// `DELETE /v1/vector_stores/{store}/files/{file}`.
pub(crate) async fn detach(
    State(app): State<Arc<App>>,
    Path((store, file)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let id = file.clone();
    (app.storage)
        .on_vector_stores(move |stores| stores.detach(&store, &id))
        .await?;
    let answer = json!({"id": file, "object": "vector_store.file.deleted", "deleted": true});
    Ok(json(StatusCode::OK, &answer))
}

/// `GET /v1/vector_stores/{store}/files/{file}/content`.
pub(crate) async fn content(
    State(app): State<Arc<App>>,
    Path((store, file)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let texts = (app.storage)
        .on_vector_stores(move |stores| stores.attached_text(&store, &file))
        .await?;
    let data: Vec<Value> = (texts.into_iter())
        .map(|text| json!({"type": "text", "text": text}))
        .collect();
    let answer = json!({
        "object": "vector_store.file_content.page", "data": data, "has_more": false, "next_page": null,
    });
    Ok(json(StatusCode::OK, &answer))
}

/// `POST /v1/vector_stores/{store}/file_batches`.
pub(crate) async fn attach_batch(
    State(app): State<Arc<App>>,
    Path(store): Path<String>,
    body: Payload,
) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct One {
        file_id: String,
        #[serde(default)]
        attributes: Option<Map<String, Value>>,
        #[serde(default)]
        chunking_strategy: Option<Strategy>,
    }
    let fields = Fields::parse(body.bytes())?;
    let (ids, each) = (
        fields.optional("file_ids")?,
        fields.optional::<Vec<One>>("files")?,
    );
    let all = match (ids, each) {
        (Some(ids), None) => files(&fields, ids)?,
        (None, Some(each)) => {
            let new = |one: One| {
                Ok(NewAttachment {
                    file: one.file_id,
                    attributes: attributes(one.attributes)?,
                    chunking: chunking(one.chunking_strategy)?,
                })
            };
            each.into_iter()
                .map(new)
                .collect::<Result<Vec<_>, Problem>>()?
        }
        _ => {
            return Err(Problem::field(
                "file_ids",
                "or `files` must be there, and not both",
            ));
        }
    };
    if all.is_empty() || all.len() > MAX_FILES {
        let reason = format!("has {} entries, expected 1 to {MAX_FILES}", all.len());
        return Err(Problem::field("file_ids", reason));
    }
    let made = app.storage.on_vector_stores(move |stores| {
        let id = stores.attach_batch(&store, all)?;
        Ok(printed_batch(&id, &stores.batch(&store, &id)?))
    });
    Ok(json(StatusCode::OK, &made.await?))
}

/// `GET /v1/vector_stores/{store}/file_batches/{batch}`.
pub(crate) async fn get_batch(
    State(app): State<Arc<App>>,
    Path((store, batch)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let found = (app.storage)
        .on_vector_stores(move |stores| Ok(printed_batch(&batch, &stores.batch(&store, &batch)?)))
        .await?;
    Ok(json(StatusCode::OK, &found))
}

/// `POST /v1/vector_stores/{store}/file_batches/{batch}/cancel`.
pub(crate) async fn cancel_batch(
    State(app): State<Arc<App>>,
    Path((store, batch)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let cancelled = app.storage.on_vector_stores(move |stores| {
        let cancelled = stores.cancel_batch(&store, &batch)?;
        Ok(printed_batch(&batch, &cancelled))
    });
    Ok(json(StatusCode::OK, &cancelled.await?))
}
