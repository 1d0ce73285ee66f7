//! Routes of collections.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use wenyi::store::vector_store::{Distance, Space, UNNAMED};

use super::{answered, parse, waits};
use crate::collections::{CollectionConfig, Description};
use crate::http::{App, Path, Payload};
use crate::problem::Problem;

/// `GET /collections`.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    answered(&app, |collections| {
        let names = collections.names()?.into_iter();
        let names: Vec<Value> = names.map(|name| json!({"name": name})).collect();
        Ok(json!({"collections": names}))
    })
    .await
}

/// `GET /collections/{name}/exists`.
pub(crate) async fn exists(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    answered(&app, move |collections| {
        Ok(json!({"exists": collections.has(&name)?}))
    })
    .await
}

#[derive(Deserialize)]
struct Create {
    #[serde(default)]
    vectors: Option<Map<String, Value>>,
    #[serde(default)]
    sparse_vectors: Option<BTreeMap<String, SparseParams>>,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

/// What else there may be (indexes, quantisation, where things lie) changes no answer here.
#[derive(Deserialize)]
struct DenseParams {
    size: usize,
    distance: Distance,
    #[serde(default)]
    multivector_config: Option<Value>,
}

#[derive(Deserialize)]
struct SparseParams {
    #[serde(default)]
    modifier: Option<String>,
}

impl Create {
    fn config(self) -> Result<CollectionConfig, Problem> {
        let mut config = CollectionConfig {
            metadata: self.metadata.unwrap_or_default(),
            ..CollectionConfig::default()
        };
        let vectors = self.vectors.unwrap_or_default();
        // The parameters of the only vector, or those of several by their names.
        let named = match vectors.get("size").is_some_and(|size| !size.is_object()) {
            true => Map::from_iter([(UNNAMED.into(), vectors.into())]),
            false => vectors,
        };
        for (name, params) in named {
            let params: DenseParams = serde_json::from_value(params).map_err(|error| {
                Problem::field("vectors", format!("cannot be read at `{name}`: {error}"))
            })?;
            config.spaces.insert(name, params.space()?);
        }
        for (name, params) in self.sparse_vectors.unwrap_or_default() {
            let idf = match params.modifier.as_deref() {
                None | Some("none") => false,
                Some("idf") => true,
                Some(other) => {
                    let reason = format!("has the modifier `{other}`, expected `none` or `idf`");
                    return Err(Problem::field("sparse_vectors", reason));
                }
            };
            if config.spaces.insert(name, Space::Sparse { idf }).is_some() {
                return Err(Problem::field(
                    "sparse_vectors",
                    "has the name of a dense vector",
                ));
            }
        }
        if config.spaces.is_empty() {
            return Err(Problem::field(
                "vectors",
                "is missing, and so is `sparse_vectors`",
            ));
        }
        Ok(config)
    }
}

impl DenseParams {
    fn space(self) -> Result<Space, Problem> {
        if self
            .multivector_config
            .is_some_and(|config| !config.is_null())
        {
            return Err(Problem::field(
                "multivector_config",
                "is not served: a point has one vector of each name",
            ));
        }
        Ok(Space::Dense {
            dimensions: self.size,
            distance: self.distance,
        })
    }
}

/// `PUT /collections/{name}`.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    body: Payload,
) -> Result<Response, Problem> {
    answered(&app, move |collections| {
        let config = parse::<Create>(body.bytes())?.config()?;
        collections.create(&name, &config)?;
        Ok(true)
    })
    .await
}

/// `PATCH /collections/{name}`: the metadata; what else can be asked for changes nothing here.
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    body: Payload,
) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Update {
        #[serde(default)]
        metadata: Option<Map<String, Value>>,
    }
    answered(&app, move |collections| {
        let update: Update = parse(body.bytes())?;
        collections.change_metadata(&name, update.metadata.unwrap_or_default())?;
        Ok(true)
    })
    .await
}

/// `DELETE /collections/{name}`.
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    answered(&app, move |collections| collections.delete(&name)).await
}

/// `GET /collections/{name}`.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    answered(&app, move |collections| {
        Ok(printed(&collections.describe(&name)?))
    })
    .await
}

fn printed(description: &Description) -> Value {
    let (mut dense, mut sparse) = (Map::new(), Map::new());
    for (name, space) in &description.spaces {
        match space {
            Space::Dense {
                dimensions,
                distance,
            } => dense.insert(
                name.clone(),
                json!({"size": dimensions, "distance": distance}),
            ),
            Space::Sparse { idf: true } => sparse.insert(name.clone(), json!({"modifier": "idf"})),
            Space::Sparse { idf: false } => sparse.insert(name.clone(), json!({})),
        };
    }
    let vectors = match (dense.len(), dense.get(UNNAMED)) {
        (1, Some(unnamed)) => unnamed.clone(),
        _ => dense.into(),
    };
    let mut params = json!({
        "vectors": vectors, "shard_number": 1, "replication_factor": 1,
        "write_consistency_factor": 1, "on_disk_payload": true,
    });
    if !sparse.is_empty() {
        params["sparse_vectors"] = sparse.into();
    }
    let mut config = json!({
        "params": params,
        // No graph: searches are exact.
        "hnsw_config": {"m": 0, "ef_construct": 100, "full_scan_threshold": 10000},
        "optimizer_config": {"default_segment_number": 1, "flush_interval_sec": 0},
    });
    if !description.metadata.is_empty() {
        config["metadata"] = description.metadata.clone().into();
    }
    let indexes = description.indexes.iter().map(|(key, index)| {
        let kind = match &index.schema {
            Value::Object(params) => params.get("type").cloned().unwrap_or_default(),
            kind => kind.clone(),
        };
        let mut printed = json!({"data_type": kind, "points": index.num_points});
        if index.schema.is_object() {
            printed["params"] = index.schema.clone();
        }
        (key.clone(), printed)
    });
    json!({
        "status": "green", "optimizer_status": "ok", "segments_count": 1,
        "indexed_vectors_count": description.num_points, "points_count": description.num_points,
        "config": config, "payload_schema": indexes.collect::<Map<_, _>>(),
    })
}

/// `PUT /collections/{name}/index`: noted, and shown again; filters need none.
pub(crate) async fn create_index(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    uri: axum::http::Uri,
    body: Payload,
) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct CreateIndex {
        field_name: String,
        #[serde(default)]
        field_schema: Option<Value>,
    }
    let waits = waits(&uri);
    answered(&app, move |collections| {
        let index: CreateIndex = parse(body.bytes())?;
        let schema = index.field_schema.filter(|schema| !schema.is_null());
        let schema = schema.unwrap_or_else(|| "keyword".into());
        let is_type = |schema: &Value| schema.as_str().is_some_and(|name| TYPES.contains(&name));
        if !is_type(&schema) && !is_type(&schema["type"]) {
            let reason = format!("is {schema}, expected one of `{}`", TYPES.join("`, `"));
            return Err(Problem::field("field_schema", reason));
        }
        collections.set_index(&name, index.field_name, Some(schema))?;
        let change = collections.last_change(&name)?;
        Ok(super::points::done(change, waits))
    })
    .await
}

/// Types of values that a key can be indexed by.
const TYPES: [&str; 8] = [
    "keyword", "integer", "float", "geo", "text", "bool", "datetime", "uuid",
];

/// `DELETE /collections/{name}/index/{key}`.
pub(crate) async fn delete_index(
    State(app): State<Arc<App>>,
    Path((name, key)): Path<(String, String)>,
    uri: axum::http::Uri,
) -> Result<Response, Problem> {
    let waits = waits(&uri);
    answered(&app, move |collections| {
        collections.set_index(&name, key, None)?;
        let change = collections.last_change(&name)?;
        Ok(super::points::done(change, waits))
    })
    .await
}
