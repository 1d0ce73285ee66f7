//! Routes that change points.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use wenyi::store::vector_store::{NamedPoint, NamedVector, PayloadChange, PointId, Vectors};

use super::wire::{Columns, Id, VectorsField, filter, selection};
use super::{answered, parse, waits};
use crate::collections::{Collections, Mode, Upsert};
use crate::http::{App, Path, Payload};
use crate::problem::Problem;

/// What a change is answered with.
pub(super) fn done(change: u64, waits: bool) -> Value {
    let status = if waits { "completed" } else { "acknowledged" };
    json!({"operation_id": change, "status": status})
}

/// A change of points, as a route of its own has it or a batch.
trait Change: for<'de> Deserialize<'de> + Send + 'static {
    fn make(self, collections: &Collections, name: &str) -> Result<u64, Problem>;
}

async fn change<T: Change>(
    app: &Arc<App>,
    name: String,
    uri: &Uri,
    body: Payload,
) -> Result<Response, Problem> {
    let waits = waits(uri);
    answered(app, move |collections| {
        let change: T = parse(body.bytes())?;
        Ok(done(change.make(collections, &name)?, waits))
    })
    .await
}

macro_rules! routes {
    ($($(#[$docs:meta])* $route:ident: $body:ty;)+) => {$(
        $(#[$docs])*
        pub(crate) async fn $route(
            State(app): State<Arc<App>>,
            Path(name): Path<String>,
            uri: Uri,
            body: Payload,
        ) -> Result<Response, Problem> {
            change::<$body>(&app, name, &uri, body).await
        }
    )+};
}
routes! {
    /// `PUT /collections/{name}/points`.
    upsert: UpsertBody;
    /// `POST /collections/{name}/points/delete`.
    delete: PointsBody;
    /// `POST /collections/{name}/points/payload`.
    set_payload: SetPayload;
    /// `PUT /collections/{name}/points/payload`.
    overwrite_payload: OverwritePayload;
    /// `POST /collections/{name}/points/payload/delete`.
    delete_payload: DeletePayload;
    /// `POST /collections/{name}/points/payload/clear`.
    clear_payload: ClearPayload;
    /// `PUT /collections/{name}/points/vectors`.
    update_vectors: UpdateVectors;
    /// `POST /collections/{name}/points/vectors/delete`.
    delete_vectors: DeleteVectors;
}

#[derive(Deserialize)]
struct UpsertBody {
    #[serde(default)]
    points: Option<Vec<PointStruct>>,
    #[serde(default)]
    batch: Option<Columns>,
    #[serde(default)]
    update_filter: Option<Value>,
    #[serde(default)]
    update_mode: Option<String>,
}

#[derive(Deserialize)]
struct PointStruct {
    id: Id,
    vector: VectorsField,
    #[serde(default)]
    payload: Option<Map<String, Value>>,
}

impl Change for UpsertBody {
    fn make(self, collections: &Collections, name: &str) -> Result<u64, Problem> {
        let mode = match self.update_mode.as_deref() {
            None | Some("upsert") => Mode::Upsert,
            Some("insert_only") => Mode::Insert,
            Some("update_only") => Mode::Update,
            Some(other) => {
                let expected = "expected `upsert`, `insert_only` or `update_only`";
                return Err(Problem::field(
                    "update_mode",
                    format!("is `{other}`, {expected}"),
                ));
            }
        };
        let points = match (self.points, self.batch) {
            (Some(points), None) => points.into_iter().map(PointStruct::named).collect(),
            (None, Some(columns)) => rows(columns)?,
            _ => {
                return Err(Problem::field(
                    "points",
                    "or `batch` must be there, and not both",
                ));
            }
        };
        let filter = filter(self.update_filter)?;
        collections.upsert(
            name,
            Upsert {
                points,
                mode,
                filter,
            },
        )
    }
}

impl PointStruct {
    fn named(self) -> NamedPoint {
        NamedPoint {
            id: self.id.0,
            vectors: self.vector.0,
            text: String::new(),
            payload: self.payload.unwrap_or_default(),
        }
    }
}

/// Columns turned into points.
fn rows(columns: Columns) -> Result<Vec<NamedPoint>, Problem> {
    let num_points = columns.ids.len();
    let uneven = |what: &str, number: usize| {
        let reason = format!("has {number} {what} for {num_points} ids");
        Err(Problem::field("batch", reason))
    };
    let mut all: Vec<Vectors> = vec![Vectors::new(); num_points];
    for (name, column) in columns.vectors.0 {
        if column.len() != num_points {
            return uneven("vectors", column.len());
        }
        for (vectors, vector) in all.iter_mut().zip(column) {
            let _: Option<NamedVector> = vectors.insert(name.clone(), vector);
        }
    }
    let payloads = columns.payloads.unwrap_or_else(|| vec![None; num_points]);
    if payloads.len() != num_points {
        return uneven("payloads", payloads.len());
    }
    let points = columns.ids.into_iter().zip(all).zip(payloads);
    let point =
        |((id, vectors), payload): ((Id, Vectors), Option<Map<String, Value>>)| NamedPoint {
            id: id.0,
            vectors,
            text: String::new(),
            payload: payload.unwrap_or_default(),
        };
    Ok(points.map(point).collect())
}

#[derive(Deserialize)]
struct PointsBody {
    #[serde(default)]
    points: Option<Vec<Id>>,
    #[serde(default)]
    filter: Option<Value>,
}

impl Change for PointsBody {
    fn make(self, collections: &Collections, name: &str) -> Result<u64, Problem> {
        collections.delete_points(name, &selection(self.points, self.filter)?)
    }
}

#[derive(Deserialize)]
struct SetPayload {
    payload: Map<String, Value>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    points: Option<Vec<Id>>,
    #[serde(default)]
    filter: Option<Value>,
}

impl Change for SetPayload {
    fn make(self, collections: &Collections, name: &str) -> Result<u64, Problem> {
        let change = PayloadChange::Set {
            key: self.key,
            payload: self.payload,
        };
        collections.change_payload(name, &selection(self.points, self.filter)?, &change)
    }
}

/// As [`SetPayload`], but nothing of the old payload stays; with a key, nothing of what lies there.
#[derive(Deserialize)]
struct OverwritePayload(SetPayload);

impl Change for OverwritePayload {
    fn make(self, collections: &Collections, name: &str) -> Result<u64, Problem> {
        let SetPayload {
            payload,
            key,
            points,
            filter,
        } = self.0;
        let selection = selection(points, filter)?;
        if key.is_some() {
            return Err(Problem::field(
                "key",
                "is not taken where a payload is replaced",
            ));
        }
        collections.change_payload(name, &selection, &PayloadChange::Overwrite(payload))
    }
}

#[derive(Deserialize)]
struct DeletePayload {
    keys: Vec<String>,
    #[serde(default)]
    points: Option<Vec<Id>>,
    #[serde(default)]
    filter: Option<Value>,
}

impl Change for DeletePayload {
    fn make(self, collections: &Collections, name: &str) -> Result<u64, Problem> {
        let selection = selection(self.points, self.filter)?;
        collections.change_payload(name, &selection, &PayloadChange::Delete(self.keys))
    }
}

#[derive(Deserialize)]
struct ClearPayload(PointsBody);

impl Change for ClearPayload {
    fn make(self, collections: &Collections, name: &str) -> Result<u64, Problem> {
        let selection = selection(self.0.points, self.0.filter)?;
        collections.change_payload(name, &selection, &PayloadChange::Clear)
    }
}

#[derive(Deserialize)]
struct UpdateVectors {
    points: Vec<PointVectors>,
    #[serde(default)]
    update_filter: Option<Value>,
}

#[derive(Deserialize)]
struct PointVectors {
    id: Id,
    vector: VectorsField,
}

impl Change for UpdateVectors {
    fn make(self, collections: &Collections, name: &str) -> Result<u64, Problem> {
        let points = self.points.into_iter();
        let changes: Vec<(PointId, Vectors)> =
            points.map(|point| (point.id.0, point.vector.0)).collect();
        let filter = filter(self.update_filter)?;
        collections.set_vectors(name, changes, filter.as_ref())
    }
}

#[derive(Deserialize)]
struct DeleteVectors {
    vector: Vec<String>,
    #[serde(default)]
    points: Option<Vec<Id>>,
    #[serde(default)]
    filter: Option<Value>,
}

impl Change for DeleteVectors {
    fn make(self, collections: &Collections, name: &str) -> Result<u64, Problem> {
        collections.delete_vectors(name, &selection(self.points, self.filter)?, &self.vector)
    }
}

/// `POST /collections/{name}/points/batch`: one change after the other; what is wrong in any of them is
/// found before the first is made.
pub(crate) async fn batch(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    uri: Uri,
    body: Payload,
) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Operations {
        operations: Vec<BTreeMap<String, Value>>,
    }
    let waits = waits(&uri);
    answered(&app, move |collections| {
        let operations = parse::<Operations>(body.bytes())?.operations;
        let operations = operations.into_iter().map(operation);
        let operations = operations.collect::<Result<Vec<_>, _>>()?;
        let made = operations.into_iter().map(|operation| {
            let change = operation(collections, &name)?;
            Ok(done(change, waits))
        });
        made.collect::<Result<Vec<_>, Problem>>()
    })
    .await
}

type Operation = Box<dyn FnOnce(&Collections, &str) -> Result<u64, Problem>>;

fn operation(fields: BTreeMap<String, Value>) -> Result<Operation, Problem> {
    fn read<T: Change>(json: Value) -> Result<Operation, Problem> {
        let change: T = serde_json::from_value(json)?;
        Ok(Box::new(move |collections, name| {
            change.make(collections, name)
        }))
    }
    let expected = "expected one of `upsert`, `delete`, `set_payload`, `overwrite_payload`, \
                    `delete_payload`, `clear_payload`, `update_vectors`, `delete_vectors`";
    let mut fields = fields.into_iter();
    let (Some((kind, json)), None) = (fields.next(), fields.next()) else {
        return Err(Problem::field(
            "operations",
            format!("has an entry without a name: {expected}"),
        ));
    };
    match kind.as_str() {
        "upsert" => read::<UpsertBody>(json),
        "delete" => read::<PointsBody>(json),
        "set_payload" => read::<SetPayload>(json),
        "overwrite_payload" => read::<OverwritePayload>(json),
        "delete_payload" => read::<DeletePayload>(json),
        "clear_payload" => read::<ClearPayload>(json),
        "update_vectors" => read::<UpdateVectors>(json),
        "delete_vectors" => read::<DeleteVectors>(json),
        other => Err(Problem::field(
            "operations",
            format!("has `{other}`, {expected}"),
        )),
    }
}
