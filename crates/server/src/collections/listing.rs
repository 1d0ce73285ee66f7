//! What goes through all points of a collection: pages, counts, values.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value};
use wenyi::store::Conditions;
use wenyi::store::vector_store::{
    Page, Payload, Point, PointId, Scroll, Selection, SqliteStore, VectorStore, Vectors,
};

use super::Collections;
use crate::problem::Problem;

/// Points read at a time.
const PAGE: usize = 1000;

/// Points in the order of a value of theirs.
#[derive(Debug)]
pub(crate) struct OrderBy {
    pub(crate) key: String,
    pub(crate) descending: bool,
    pub(crate) start_from: Option<Value>,
}

/// Points with the value that put each in its place.
pub(crate) type OrderedPage = Vec<(Point, Value)>;

/// A value and how many points have it.
#[derive(Debug)]
pub(crate) struct FacetHit {
    pub(crate) value: Value,
    pub(crate) count: u64,
}

impl Collections {
    pub(crate) fn scroll(&self, name: &str, scroll: &Scroll) -> Result<Page, Problem> {
        let page = self.collection(name)?.scroll(scroll);
        page.map_err(|error| Problem::of_store(&error))
    }

    /// Points by the values at a key, smallest first or greatest first; those without one are not among
    /// them, those with several are there several times.
    pub(crate) fn ordered(
        &self,
        name: &str,
        order: &OrderBy,
        filter: Option<&Conditions>,
        limit: usize,
    ) -> Result<OrderedPage, Problem> {
        let mut all = OrderedPage::new();
        self.each(name, filter, |point| {
            let mut seen = HashSet::new();
            let values = values_at(&point.payload, &order.key);
            for value in values.into_iter().filter(|value| is_ordered(value)) {
                let is_before = order.start_from.as_ref().is_some_and(|start| {
                    let before = match order.descending {
                        true => Ordering::Greater,
                        false => Ordering::Less,
                    };
                    compare(value, start) == before
                });
                if !is_before && seen.insert(value.to_string()) {
                    all.push((point.clone(), value.clone()));
                }
            }
        })?;
        // Stable: equal ones stay in the order of their ids.
        all.sort_by(|(_, a), (_, b)| match order.descending {
            true => compare(b, a),
            false => compare(a, b),
        });
        all.truncate(limit);
        Ok(all)
    }

    pub(crate) fn count(&self, name: &str, filter: Option<Conditions>) -> Result<u64, Problem> {
        let selection = filter.map_or(Selection::All, Selection::Filter);
        let count = self.collection(name)?.count(&selection);
        count.map_err(|error| Problem::of_store(&error))
    }

    /// The points with these ids, each once.
    pub(crate) fn retrieve(&self, name: &str, ids: &[PointId]) -> Result<Vec<Point>, Problem> {
        let mut seen = HashSet::new();
        let ids: Vec<PointId> = ids.iter().filter(|id| seen.insert(*id)).cloned().collect();
        let points = self.collection(name)?.get_by_ids(&ids);
        points.map_err(|error| Problem::of_store(&error))
    }

    /// The vectors of these points, by the names of their spaces.
    pub(crate) fn vectors_of(&self, name: &str, ids: &[PointId]) -> Result<Vec<Vectors>, Problem> {
        let vectors = self.collection(name)?.vectors_of(ids);
        vectors.map_err(|error| Problem::of_store(&error))
    }

    /// The values at a key with the number of points that have each, most first.
    pub(crate) fn facet(
        &self,
        name: &str,
        key: &str,
        filter: Option<&Conditions>,
        limit: usize,
    ) -> Result<Vec<FacetHit>, Problem> {
        let mut counts: HashMap<String, FacetHit> = HashMap::new();
        self.each(name, filter, |point| {
            let values = values_at(&point.payload, key).into_iter();
            let counted =
                |value: &&Value| value.is_string() || value.is_boolean() || value.is_i64();
            let distinct: BTreeMap<String, &Value> = (values.filter(counted))
                .map(|value| (value.to_string(), value))
                .collect();
            for (written, value) in distinct {
                let value = value.clone();
                let hit = counts
                    .entry(written)
                    .or_insert(FacetHit { value, count: 0 });
                hit.count += 1;
            }
        })?;
        let mut hits: Vec<FacetHit> = counts.into_values().collect();
        hits.sort_by(|a, b| (b.count.cmp(&a.count)).then_with(|| compare(&a.value, &b.value)));
        hits.truncate(limit);
        Ok(hits)
    }

    /// Every point that meets the filter, in the order of ids, without vectors.
    fn each(
        &self,
        name: &str,
        filter: Option<&Conditions>,
        mut visit: impl FnMut(&Point),
    ) -> Result<(), Problem> {
        let store = self.collection(name)?;
        let mut scroll = Scroll {
            filter: filter.cloned(),
            from: None,
            limit: PAGE,
            with_vector: false,
        };
        loop {
            let page = store.scroll(&scroll);
            let page = page.map_err(|error| Problem::of_store(&error))?;
            page.points.iter().for_each(&mut visit);
            match page.next {
                Some(next) => scroll.from = Some(next),
                None => return Ok(()),
            }
        }
    }
}

/// The ids of all points that meet the filter.
pub(super) fn ids(
    store: &SqliteStore,
    filter: Option<&Conditions>,
) -> Result<Vec<PointId>, Problem> {
    let scroll = Scroll {
        filter: filter.cloned(),
        limit: usize::MAX,
        ..Scroll::default()
    };
    let page = store.scroll(&scroll);
    let page = page.map_err(|error| Problem::of_store(&error))?;
    Ok(page.points.into_iter().map(|point| point.id).collect())
}

/// The values at a path, those of arrays one by one.
pub(super) fn values_at<'a>(payload: &'a Payload, key: &str) -> Vec<&'a Value> {
    let flat = |value: &'a Value| match value {
        Value::Array(all) => all.iter().collect(),
        other => vec![other],
    };
    // A key with a dot in its name comes before a path, as in filters.
    if let Some(value) = payload.get(key) {
        return flat(value);
    }
    let mut names = key.split('.');
    let first = names.next().unwrap_or_default();
    let first = payload.get(first.strip_suffix("[]").unwrap_or(first));
    let mut here: Vec<&Value> = first.into_iter().collect();
    for name in names {
        let name = name.strip_suffix("[]").unwrap_or(name);
        let below = here.into_iter().flat_map(flat);
        let objects = below.filter_map(Value::as_object);
        here = objects
            .filter_map(|object: &Map<_, _>| object.get(name))
            .collect();
    }
    here.into_iter().flat_map(flat).collect()
}

fn is_ordered(value: &Value) -> bool {
    value.is_number() || value.is_string()
}

/// Numbers by size, before texts, which are ordered by their characters (dates are, so, by time).
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => {
                let of = |number: &serde_json::Number| number.as_f64().unwrap_or_default();
                of(a).total_cmp(&of(b))
            }
        },
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Bool(_) => 0,
        Value::Number(_) => 1,
        _ => 2,
    }
}
