//! Reads the files of stores, one after the other: text, chunks, vectors, then the record that says so.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use wenyi::embed::{Fingerprint, Overflow, Role};
use wenyi::retrieve::load::{SourceFile, decode_document};
use wenyi::retrieve::{Chunk, ChunkOptions, Kind, chunk};
use wenyi::store::vector_store::{Payload, Point, StoreOptions, VectorStore};

use super::attached::key;
use super::search::attribute_key;
use super::{Attachment, LastError, Shared, Status, of_store};
use crate::call::{Client, TextsRequest};
use crate::http::App;
use crate::models::Served;
use crate::problem::Problem;
use crate::storage::waiting;

/// Chunks that are embedded at once: requests of others run in between.
const BATCH: usize = 32;

/// How long to wait after a failure that is not the file's.
const PAUSE: Duration = Duration::from_secs(2);

/// Whose turn the work is among the clients of a model.
const CLIENT: Client = Client(0);

/// Ingests what there is, and what comes, until it is dropped.
pub(crate) async fn ingest(app: Arc<App>) {
    let Some(stores) = app.storage.vector_stores() else {
        return;
    };
    loop {
        let next = on(&stores, |stores| {
            let waiting = stores.attachments.list(Some(("status", "in_progress")))?;
            // First come, first served.
            Ok(waiting
                .into_iter()
                .min_by_key(|(_, attachment)| attachment.created_at))
        });
        match next.await {
            Ok(Some((_, attachment))) => one(&app, &stores, attachment).await,
            Ok(None) => stores.bell.notified().await,
            Err(problem) => {
                tracing::error!(%problem, "files cannot be ingested");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Ingests one file, and notes how that ended.
async fn one(app: &Arc<App>, stores: &Shared, attachment: Attachment) {
    let (store, file) = (attachment.store.clone(), attachment.file.clone());
    let failure = match read(app, stores, attachment.clone()).await {
        Ok(()) => return,
        Err(Failure::Later(problem)) => {
            tracing::warn!(store, file, %problem, "a file waits");
            return tokio::time::sleep(PAUSE).await;
        }
        Err(Failure::Final(error)) => error,
    };
    tracing::info!(
        store,
        file,
        reason = failure.message,
        "a file cannot be searched"
    );
    let noted = on(stores, move |stores| {
        let _turn = stores.turn();
        // It may have been taken out, cancelled or attached anew meanwhile.
        let Some(mut now) = current(stores, &attachment)? else {
            return Ok(());
        };
        now.status = Status::Failed;
        now.last_error = Some(failure);
        stores.attachments.put(&key(&now.store, &now.file), &now)
    });
    if let Err(problem) = noted.await {
        tracing::error!(%problem, "a failure cannot be noted");
        tokio::time::sleep(PAUSE).await;
    }
}

enum Failure {
    /// Of the server or the model, which may pass.
    Later(Problem),
    /// Of the file.
    Final(LastError),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Busy { .. }
            | Problem::Stopping
            | Problem::Deadline(_)
            | Problem::Storage { .. } => Self::Later(problem),
            problem => Self::Final(error("server_error", problem.to_string())),
        }
    }
}

fn error(code: &str, message: String) -> LastError {
    LastError {
        code: code.to_owned(),
        message,
    }
}

async fn read(app: &Arc<App>, stores: &Shared, attachment: Attachment) -> Result<(), Failure> {
    let model = model_of(stores, &attachment.store).await?;
    let served = app.models.served(model.as_deref()).await?;
    let (filename, chunks) = cut(stores, &served, &attachment).await?;
    let mut vectors = Vec::with_capacity(chunks.len());
    for batch in chunks.chunks(BATCH) {
        let texts = batch
            .iter()
            .map(|chunk| chunk.embedding_text().into_owned());
        let request = TextsRequest {
            model: Some(served.name.clone()),
            texts: texts.collect(),
            role: Some(Role::Document),
            overflow: Some(Overflow::SplitMean),
            ..TextsRequest::default()
        };
        vectors.extend(app.models.embed(CLIENT, request).await?.vectors);
    }
    let kept = on(stores, move |stores| {
        let points = chunks.iter().zip(vectors).enumerate();
        let points = points
            .map(|(number, (chunk, vector))| point(&attachment, &filename, number, chunk, &vector));
        keep(stores, &attachment, &served, &points.collect::<Vec<_>>())
    });
    Ok(kept.await?)
}

/// The model whose vectors a store has.
async fn model_of(stores: &Shared, store: &str) -> Result<Option<String>, Problem> {
    let store = store.to_owned();
    on(stores, move |stores| match stores.chunks(&store)? {
        Some(chunks) => {
            let metadata = chunks.info().map_err(of_store)?.metadata;
            Ok(metadata["model"].as_str().map(str::to_owned))
        }
        None => Ok(None),
    })
    .await
}

/// The file's name and its chunks.
async fn cut(
    stores: &Shared,
    served: &Served,
    attachment: &Attachment,
) -> Result<(String, Vec<Chunk>), Failure> {
    let id = attachment.file.clone();
    let file = on(stores, move |stores| {
        Ok((stores.file(&id)?, stores.content(&id)?))
    });
    let (file, bytes) = file.await?;
    let embedder = served.embedder.clone();
    let (chunking, filename) = (attachment.chunking, file.filename);
    let name = filename.clone();
    let cut = spawn_blocking(move || {
        let source = SourceFile {
            path: name.clone().into(),
            kind: Kind::from_path(Path::new(&name)),
            bytes: bytes.len() as u64,
            modified: 0,
        };
        let document = decode_document(&source, bytes)
            .map_err(|reason| error("unsupported_file", reason.to_string()))?;
        let options = ChunkOptions {
            chunk_size: chunking.max_chunk_size_tokens,
            overlap: chunking.chunk_overlap_tokens,
        };
        let chunks = chunk(&*embedder, &document, &options);
        chunks.map_err(|reason| error("invalid_file", reason.to_string()))
    });
    let cut = cut.await.map_err(|failure| Problem::Internal {
        reason: failure.to_string(),
    })?;
    Ok((filename, cut.map_err(Failure::Final)?))
}

fn point(
    attachment: &Attachment,
    filename: &str,
    number: usize,
    chunk: &Chunk,
    vector: &[f32],
) -> Point {
    let mut payload: Payload = (attachment.attributes.iter())
        .map(|(name, value)| (attribute_key(name), value.clone()))
        .collect();
    payload.insert("file_id".into(), attachment.file.as_str().into());
    payload.insert("filename".into(), filename.into());
    payload.insert("first_line".into(), chunk.first_line.into());
    // In the order of ids chunks are in the order of the file.
    Point::new(format!("{}/{number:08}", attachment.file), vector)
        .with_text(chunk.text.clone())
        .with_payload(payload)
}

/// Writes the chunks, then the record.
fn keep(
    stores: &super::VectorStores,
    attachment: &Attachment,
    served: &Served,
    points: &[Point],
) -> Result<(), Problem> {
    let _turn = stores.turn();
    let Some(mut now) = current(stores, attachment)? else {
        return Ok(());
    };
    let (store, file) = (now.store.clone(), now.file.clone());
    let options = StoreOptions {
        dimensions: Some(served.embedder.dimensions()),
        metadata: served.space(),
        ..StoreOptions::default()
    };
    let chunks = stores.database.collection_or_create(&store, &options);
    let chunks = chunks.map_err(of_store)?;
    served.check_space(&chunks.info().map_err(of_store)?.metadata)?;
    chunks.keep_text_index().map_err(of_store)?;
    stores.remove_chunks(&store, &file)?;
    // What was asked for since the file was read.
    let points: Vec<Point> = (points.iter().cloned())
        .map(|mut point| {
            point
                .payload
                .retain(|name, _| !name.starts_with(&attribute_key("")));
            let attributes = now.attributes.iter();
            point
                .payload
                .extend(attributes.map(|(name, value)| (attribute_key(name), value.clone())));
            point
        })
        .collect();
    chunks.upsert(&points).map_err(of_store)?;
    now.status = Status::Completed;
    now.last_error = None;
    now.usage_bytes = points.iter().map(size).sum();
    stores.attachments.put(&key(&store, &file), &now)
}

fn size(point: &Point) -> u64 {
    (point.text.len() + size_of_val(point.vector.as_slice())) as u64
}

/// The attachment as it is now, if it is still to be ingested.
fn current(
    stores: &super::VectorStores,
    attachment: &Attachment,
) -> Result<Option<Attachment>, Problem> {
    let now = stores
        .attachments
        .get(&key(&attachment.store, &attachment.file))?;
    Ok(now.filter(|now| now.status == Status::InProgress && now.batch == attachment.batch))
}

pub(super) async fn on<T: Send + 'static>(
    stores: &Shared,
    work: impl FnOnce(&super::VectorStores) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let stores = stores.clone();
    waiting(move || work(&stores)).await
}

impl Served {
    /// What is kept with vectors of this model, to know them again.
    fn space(&self) -> Value {
        json!({"model": self.name, "fingerprint": self.embedder.fingerprint()})
    }

    /// Refuses vectors of another model of this name.
    pub(super) fn check_space(&self, metadata: &Value) -> Result<(), Problem> {
        let fingerprint = serde_json::from_value::<Fingerprint>(metadata["fingerprint"].clone());
        if fingerprint.is_ok_and(|kept| kept.same_space(self.embedder.fingerprint())) {
            return Ok(());
        }
        Err(Problem::Unstorable {
            reason: format!(
                "the files of this vector store were embedded with another model than `{}`",
                self.name
            ),
            hint: Some("serve the model that it was made with, or make a new vector store".into()),
        })
    }
}
