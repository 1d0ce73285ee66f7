//! Routes that read points.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use wenyi::store::vector_store::Scroll;

use super::wire::{Id, Shown, WithPayload, WithVectors, filter, id, ids};
use super::{answered, parse};
use crate::collections::OrderBy;
use crate::http::{App, Path, Payload};
use crate::problem::Problem;

/// Points of a page, and values of a facet, if a client does not say.
pub(super) const LIMIT: usize = 10;

/// `POST /collections/{name}/points`.
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    body: Payload,
) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Retrieve {
        ids: Vec<Id>,
        #[serde(default)]
        with_payload: Option<WithPayload>,
        #[serde(default)]
        with_vector: Option<WithVectors>,
    }
    answered(&app, move |collections| {
        let wanted: Retrieve = parse(body.bytes())?;
        let shown = Shown::new(wanted.with_payload, wanted.with_vector, true);
        let points = collections.retrieve(&name, &ids(wanted.ids))?;
        shown.records(collections, &name, points)
    })
    .await
}

/// `GET /collections/{name}/points/{id}`.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Path((name, wanted)): Path<(String, String)>,
) -> Result<Response, Problem> {
    answered(&app, move |collections| {
        let json = match wanted.parse::<u64>() {
            Ok(number) => number.into(),
            Err(_) => Value::String(wanted.clone()),
        };
        let id = id(&json).ok_or_else(|| Problem::field("id", "is empty"))?;
        let points = collections.retrieve(&name, &[id])?;
        let shown = Shown::new(None, Some(WithVectors::All(true)), true);
        let records = shown.records(collections, &name, points)?;
        let record = records.into_iter().next();
        record.ok_or(Problem::NoPoint { id: wanted })
    })
    .await
}

/// A key, or a key with a direction.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum OrderByField {
    Key(String),
    Full {
        key: String,
        #[serde(default)]
        direction: Option<Direction>,
        #[serde(default)]
        start_from: Option<Value>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Direction {
    Asc,
    Desc,
}

impl From<OrderByField> for OrderBy {
    fn from(field: OrderByField) -> Self {
        match field {
            OrderByField::Key(key) => Self {
                key,
                descending: false,
                start_from: None,
            },
            OrderByField::Full {
                key,
                direction,
                start_from,
            } => Self {
                key,
                descending: matches!(direction, Some(Direction::Desc)),
                start_from: start_from.filter(|start| !start.is_null()),
            },
        }
    }
}

/// `POST /collections/{name}/points/scroll`.
pub(crate) async fn scroll(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    body: Payload,
) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct ScrollBody {
        #[serde(default)]
        filter: Option<Value>,
        #[serde(default)]
        limit: Option<usize>,
        #[serde(default)]
        offset: Option<Id>,
        #[serde(default)]
        order_by: Option<OrderByField>,
        #[serde(default)]
        with_payload: Option<WithPayload>,
        #[serde(default)]
        with_vector: Option<WithVectors>,
    }
    answered(&app, move |collections| {
        let wanted: ScrollBody = parse(body.bytes())?;
        let shown = Shown::new(wanted.with_payload, wanted.with_vector, true);
        let (filter, limit) = (filter(wanted.filter)?, wanted.limit.unwrap_or(LIMIT));
        if limit == 0 {
            return Err(Problem::field("limit", "is 0, expected 1 or more"));
        }
        if let Some(order) = wanted.order_by {
            let page = collections.ordered(&name, &order.into(), filter.as_ref(), limit)?;
            let (points, values): (Vec<_>, Vec<_>) = page.into_iter().unzip();
            let mut records = shown.records(collections, &name, points)?;
            for (record, value) in records.iter_mut().zip(values) {
                record.order_value = value.is_number().then_some(value);
            }
            return Ok(json!({"points": records, "next_page_offset": null}));
        }
        let page = collections.scroll(
            &name,
            &Scroll {
                filter,
                from: wanted.offset.map(|id| id.0),
                limit,
                with_vector: false,
            },
        )?;
        let records = shown.records(collections, &name, page.points)?;
        Ok(json!({"points": records, "next_page_offset": page.next}))
    })
    .await
}

/// `POST /collections/{name}/points/count`: exact, whether that is asked for or not.
pub(crate) async fn count(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    body: Payload,
) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Count {
        #[serde(default)]
        filter: Option<Value>,
    }
    answered(&app, move |collections| {
        let wanted: Count = parse(body.bytes())?;
        let count = collections.count(&name, filter(wanted.filter)?)?;
        Ok(json!({"count": count}))
    })
    .await
}

/// `POST /collections/{name}/facet`.
pub(crate) async fn facet(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    body: Payload,
) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Facet {
        key: String,
        #[serde(default)]
        limit: Option<usize>,
        #[serde(default)]
        filter: Option<Value>,
    }
    answered(&app, move |collections| {
        let wanted: Facet = parse(body.bytes())?;
        let limit = wanted.limit.unwrap_or(LIMIT);
        let hits = collections.facet(&name, &wanted.key, filter(wanted.filter)?.as_ref(), limit)?;
        let hits = hits.into_iter();
        let hits: Vec<Value> = hits
            .map(|hit| json!({"value": hit.value, "count": hit.count}))
            .collect();
        Ok(json!({"hits": hits}))
    })
    .await
}
