//! Routes that search.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wenyi::store::vector_store::UNNAMED;

use super::read::{LIMIT, OrderByField};
use super::wire::{Record, Shown, VectorField, WithPayload, WithVectors, filter, id};
use super::{answered, parse};
use crate::collections::{Collections, Found, Fusion, Input, Lookup, Query, Strategy, What};
use crate::http::{App, Path, Payload};
use crate::problem::Problem;

/// Queries in each other: deeper than anybody writes, far from the end of the stack.
const MAX_DEPTH: usize = 16;

/// `k` of the reciprocal ranks where clients say nothing.
const RANK_CONSTANT: f32 = 2.0;

#[derive(Deserialize)]
struct QueryBody {
    #[serde(default)]
    query: Option<Value>,
    #[serde(default)]
    prefetch: Option<OneOrMany>,
    #[serde(default)]
    using: Option<String>,
    #[serde(default)]
    filter: Option<Value>,
    #[serde(default)]
    score_threshold: Option<f32>,
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    offset: Option<usize>,
    #[serde(default)]
    lookup_from: Option<LookupField>,
    #[serde(default)]
    with_payload: Option<WithPayload>,
    #[serde(default)]
    with_vector: Option<WithVectors>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    // First: an array would pass for the fields of one.
    Many(Vec<QueryBody>),
    One(Box<QueryBody>),
}

#[derive(Deserialize)]
struct LookupField {
    collection: String,
    #[serde(default)]
    vector: Option<String>,
}

impl QueryBody {
    fn shown(&self) -> Shown {
        Shown::new(self.with_payload.clone(), self.with_vector.clone(), false)
    }

    fn query(self, depth: usize) -> Result<Query, Problem> {
        if depth > MAX_DEPTH {
            return Err(Problem::field("prefetch", "is nested more than 16 times"));
        }
        let prefetch = match self.prefetch {
            None => Vec::new(),
            Some(OneOrMany::One(one)) => vec![*one],
            Some(OneOrMany::Many(many)) => many,
        };
        let prefetch = prefetch.into_iter().map(|body| body.query(depth + 1));
        let limit = self.limit.unwrap_or(LIMIT);
        if limit == 0 {
            return Err(Problem::field("limit", "is 0, expected 1 or more"));
        }
        Ok(Query {
            what: what(self.query)?,
            prefetch: prefetch.collect::<Result<_, _>>()?,
            using: self.using.unwrap_or_else(|| UNNAMED.into()),
            filter: filter(self.filter)?,
            score_threshold: self.score_threshold,
            limit,
            offset: self.offset.unwrap_or_default(),
            lookup: self.lookup_from.map(|lookup| Lookup {
                collection: lookup.collection,
                vector: lookup.vector,
            }),
        })
    }
}

const KINDS: &str = "expected a vector, an id, or an object with `nearest`, `recommend`, `discover`, \
                     `context`, `order_by`, `fusion`, `rrf` or `sample`";

/// What is sought, by the form of `query`.
fn what(query: Option<Value>) -> Result<What, Problem> {
    let query = match query {
        None | Some(Value::Null) => return Ok(What::All),
        Some(query) => query,
    };
    let is_kind = |name: &str| query.get(name).is_some();
    if !query.is_object() || is_kind("indices") {
        return Ok(What::Nearest(input(query)?));
    }
    if is_kind("nearest") {
        return nearest(query);
    }
    if is_kind("recommend") {
        return recommend(query);
    }
    if is_kind("discover") {
        #[derive(Deserialize)]
        struct Body {
            target: Value,
            #[serde(default)]
            context: Option<Pairs>,
        }
        let body: Body = read(query, "discover")?;
        return Ok(What::Discover {
            target: input(body.target)?,
            context: pairs(body.context)?,
        });
    }
    if is_kind("context") {
        return Ok(What::Context(pairs(Some(read(query, "context")?))?));
    }
    if is_kind("order_by") {
        return Ok(What::OrderBy(
            read::<OrderByField>(query, "order_by")?.into(),
        ));
    }
    if is_kind("rrf") || is_kind("fusion") {
        return fusion(query);
    }
    if query["sample"] == "random" {
        return Ok(What::Sample);
    }
    let names = query.as_object().into_iter().flatten();
    let names: Vec<String> = names.map(|(name, _)| format!("`{name}`")).collect();
    Err(Problem::field(
        "query",
        format!("has {}, {KINDS}", names.join(", ")),
    ))
}

/// The value at `name`, read.
fn read<T: for<'de> Deserialize<'de>>(mut query: Value, name: &'static str) -> Result<T, Problem> {
    serde_json::from_value(query[name].take())
        .map_err(|error| Problem::field(name, format!("cannot be read: {error}")))
}

fn nearest(mut query: Value) -> Result<What, Problem> {
    #[derive(Deserialize)]
    struct Mmr {
        #[serde(default)]
        diversity: Option<f32>,
        #[serde(default)]
        candidates_limit: Option<usize>,
    }
    let nearest = input(query["nearest"].take())?;
    let Some(mmr) = read::<Option<Mmr>>(query, "mmr")? else {
        return Ok(What::Nearest(nearest));
    };
    let diversity = mmr.diversity.unwrap_or(0.5);
    if !(0.0..=1.0).contains(&diversity) {
        return Err(Problem::field(
            "diversity",
            format!("is {diversity}, expected 0 to 1"),
        ));
    }
    Ok(What::Mmr {
        nearest,
        lambda: 1.0 - diversity,
        candidates: mmr.candidates_limit,
    })
}

fn recommend(query: Value) -> Result<What, Problem> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        positive: Option<Vec<Value>>,
        #[serde(default)]
        negative: Option<Vec<Value>>,
        #[serde(default)]
        strategy: Option<StrategyField>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum StrategyField {
        AverageVector,
        BestScore,
        SumScores,
    }
    let body: Body = read(query, "recommend")?;
    let inputs = |all: Option<Vec<Value>>| {
        let all = all.unwrap_or_default().into_iter().map(input);
        all.collect::<Result<Vec<_>, _>>()
    };
    Ok(What::Recommend {
        positive: inputs(body.positive)?,
        negative: inputs(body.negative)?,
        strategy: match body.strategy {
            None | Some(StrategyField::AverageVector) => Strategy::AverageVector,
            Some(StrategyField::BestScore) => Strategy::BestScore,
            Some(StrategyField::SumScores) => Strategy::SumScores,
        },
    })
}

fn fusion(query: Value) -> Result<What, Problem> {
    #[derive(Deserialize)]
    struct Rrf {
        #[serde(default)]
        k: Option<u32>,
        #[serde(default)]
        weights: Option<Vec<f32>>,
    }
    let fusion = match query["fusion"].as_str() {
        Some("dbsf") => Fusion::Distribution,
        Some("rrf") => Fusion::ReciprocalRank {
            k: RANK_CONSTANT,
            weights: None,
        },
        Some(other) => {
            let reason = format!("is `{other}`, expected `rrf` or `dbsf`");
            return Err(Problem::field("fusion", reason));
        }
        None => {
            let rrf: Rrf = read(query, "rrf")?;
            let k = rrf.k.map_or(RANK_CONSTANT, |k| k as f32);
            if k < 1.0 {
                return Err(Problem::field("k", "is 0, expected 1 or more"));
            }
            let weights = rrf.weights;
            Fusion::ReciprocalRank { k, weights }
        }
    };
    Ok(What::Fuse(fusion))
}

#[derive(Deserialize)]
struct Pair {
    positive: Value,
    negative: Value,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Pairs {
    // First: an array would pass for the fields of one.
    Many(Vec<Pair>),
    One(Pair),
}

fn pairs(pairs: Option<Pairs>) -> Result<Vec<(Input, Input)>, Problem> {
    let pairs = match pairs {
        None => Vec::new(),
        Some(Pairs::One(pair)) => vec![pair],
        Some(Pairs::Many(pairs)) => pairs,
    };
    let pairs = pairs.into_iter();
    pairs
        .map(|pair| Ok((input(pair.positive)?, input(pair.negative)?)))
        .collect()
}

/// A vector or an id.
fn input(json: Value) -> Result<Input, Problem> {
    if let Some(id) = id(&json) {
        return Ok(Input::Id(id));
    }
    match serde_json::from_value::<VectorField>(json) {
        Ok(VectorField(vector)) => Ok(Input::Vector(vector)),
        Err(error) => Err(Problem::field(
            "query",
            format!("cannot be read: {error}; {KINDS}"),
        )),
    }
}

#[derive(Serialize)]
struct Scored {
    #[serde(flatten)]
    record: Record,
    version: u64,
    score: f32,
}

/// What was found, as clients read it.
fn printed(
    collections: &Collections,
    name: &str,
    shown: &Shown,
    found: Vec<Found>,
) -> Result<Vec<Scored>, Problem> {
    let version = collections.last_change(name)?;
    let (points, rest): (Vec<_>, Vec<_>) = (found.into_iter())
        .map(|found| (found.point, (found.score, found.order_value)))
        .unzip();
    let records = shown.records(collections, name, points)?;
    let scored = records
        .into_iter()
        .zip(rest)
        .map(|(mut record, (score, value))| {
            record.order_value = value.filter(Value::is_number);
            Scored {
                record,
                version,
                score,
            }
        });
    Ok(scored.collect())
}

fn answer(collections: &Collections, name: &str, body: QueryBody) -> Result<Value, Problem> {
    let shown = body.shown();
    let found = collections.query(name, &body.query(0)?)?;
    Ok(json!({"points": printed(collections, name, &shown, found)?}))
}

/// `POST /collections/{name}/points/query`.
pub(crate) async fn query(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    body: Payload,
) -> Result<Response, Problem> {
    answered(&app, move |collections| {
        answer(collections, &name, parse(body.bytes())?)
    })
    .await
}

/// `POST /collections/{name}/points/query/batch`.
pub(crate) async fn batch(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    body: Payload,
) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Batch {
        searches: Vec<QueryBody>,
    }
    answered(&app, move |collections| {
        let searches = parse::<Batch>(body.bytes())?.searches.into_iter();
        let answers = searches.map(|body| answer(collections, &name, body));
        answers.collect::<Result<Vec<_>, _>>()
    })
    .await
}

/// `POST /collections/{name}/points/query/groups`.
pub(crate) async fn groups(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    body: Payload,
) -> Result<Response, Problem> {
    #[derive(Deserialize)]
    struct Groups {
        group_by: String,
        #[serde(default)]
        group_size: Option<usize>,
        #[serde(flatten)]
        body: QueryBody,
    }
    /// Points of a group if a client does not say.
    const SIZE: usize = 3;
    answered(&app, move |collections| {
        let Groups {
            group_by,
            group_size,
            body,
        } = parse(body.bytes())?;
        let (shown, size) = (body.shown(), group_size.unwrap_or(SIZE));
        let groups = collections.query_groups(&name, body.query(0)?, &group_by, size)?;
        let groups = groups.into_iter().map(|group| {
            let hits = printed(collections, &name, &shown, group.hits)?;
            Ok(json!({"id": group.id, "hits": hits}))
        });
        let groups = groups.collect::<Result<Vec<_>, Problem>>()?;
        Ok(json!({"groups": groups}))
    })
    .await
}
