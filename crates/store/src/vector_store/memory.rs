//! A store in memory.

use std::collections::{BTreeMap, HashSet};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::Value;

use super::VectorStore;
use super::index::{check_points, nearest, prepare};
use super::point::{Point, PointId, ScoredPoint};
use super::request::{
    Existing, Page, PayloadChange, Scroll, SearchRequest, Selection, StoreInfo, StoreOptions,
};
use crate::filter::Conditions;
use crate::rows::{Allowed, Rows};
use crate::{ErrorKind, Result};

/// The name of a memory store in messages.
const NAME: &str = "memory";

/// Points in memory, found by exact search. The width is that of the first vector unless the
/// options say it.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    options: StoreOptions,
    /// As the distance compares them; a row's rank is its number.
    rows: Rows,
    /// In the order in which they came, as the rows.
    points: Vec<Kept>,
    by_id: BTreeMap<PointId, usize>,
}

#[derive(Debug)]
struct Kept {
    id: PointId,
    text: String,
    /// An object.
    payload: Value,
    /// The vector as it came, if the row is another one.
    original: Option<Vec<f32>>,
}

impl MemoryStore {
    /// An empty store for cosines.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store.
    ///
    /// # Errors
    ///
    /// If the width is none that a vector can have.
    pub fn with_options(options: StoreOptions) -> Result<Self> {
        let rows = match options.dimensions {
            Some(received) if !(1..=crate::MAX_DIMENSIONS).contains(&received) => {
                let max = crate::MAX_DIMENSIONS;
                return Err(ErrorKind::Dimensions { received, max }.into());
            }
            Some(dimensions) => Rows::new(dimensions),
            None => Rows::default(),
        };
        let inner = Inner {
            options,
            rows,
            ..Inner::default()
        };
        Ok(Self {
            inner: RwLock::new(inner),
        })
    }

    /// All points in the order in which they came.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        let inner = self.read();
        (0..inner.points.len())
            .map(|row| inner.point(row, true))
            .collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VectorStore for MemoryStore {
    fn info(&self) -> Result<StoreInfo> {
        let inner = self.read();
        Ok(StoreInfo {
            name: NAME.into(),
            dimensions: inner.dimensions(),
            distance: inner.options.distance,
            metadata: inner.options.metadata.clone(),
            num_points: inner.points.len() as u64,
        })
    }

    fn put(&self, points: &[Point], existing: Existing) -> Result<()> {
        let mut inner = self.write();
        let distance = inner.options.distance;
        let dimensions = check_points(distance, points, inner.dimensions(), NAME)?;
        if existing == Existing::Refuse {
            let mut seen = HashSet::new();
            for point in points {
                if inner.by_id.contains_key(&point.id) || !seen.insert(&point.id) {
                    let id = point.id.to_string();
                    return Err(ErrorKind::DuplicateId { id }.into());
                }
            }
        }
        if inner.rows.dimensions() == 0 {
            inner.rows = Rows::new(dimensions.unwrap_or_default());
        }
        points.iter().try_for_each(|point| inner.put(point))
    }

    fn delete(&self, selection: &Selection) -> Result<u64> {
        let mut inner = self.write();
        let rows: HashSet<usize> = inner.selected(selection).into_iter().collect();
        inner.remove(&rows);
        Ok(rows.len() as u64)
    }

    fn get_by_ids(&self, ids: &[PointId]) -> Result<Vec<Point>> {
        let inner = self.read();
        let rows = ids.iter().filter_map(|id| inner.by_id.get(id));
        Ok(rows.map(|&row| inner.point(row, true)).collect())
    }

    fn scroll(&self, scroll: &Scroll) -> Result<Page> {
        let inner = self.read();
        let from = scroll.from.clone().unwrap_or(PointId::Number(0));
        let mut page = Page::default();
        for (id, &row) in inner.by_id.range(from..) {
            if !inner.meets(row, scroll.filter.as_ref()) {
                continue;
            }
            if page.points.len() == scroll.limit {
                page.next = Some(id.clone());
                break;
            }
            page.points.push(inner.point(row, scroll.with_vector));
        }
        Ok(page)
    }

    fn count(&self, selection: &Selection) -> Result<u64> {
        Ok(self.read().selected(selection).len() as u64)
    }

    fn search_batch(
        &self,
        queries: &[&[f32]],
        request: &SearchRequest,
    ) -> Result<Vec<Vec<ScoredPoint>>> {
        let inner = self.read();
        let distance = inner.options.distance;
        let prepared = queries.iter().enumerate().map(|(index, query)| {
            let dimensions = inner.dimensions().unwrap_or(query.len());
            let subject = || format!("query {index}");
            prepare(distance, query, dimensions, NAME, &subject)
        });
        let prepared = prepared.collect::<Result<Vec<_>>>()?;
        let queries: Vec<&[f32]> = prepared.iter().map(AsRef::as_ref).collect();
        let allowed = inner.allowed(request.filter.as_ref());
        let found = nearest(&inner.rows, distance, &queries, request, &allowed);
        let scored = |(score, row)| ScoredPoint {
            score,
            point: inner.point(row, request.with_vector),
        };
        Ok(found
            .into_iter()
            .map(|rows| rows.into_iter().map(scored).collect())
            .collect())
    }

    fn change_payload(&self, selection: &Selection, change: &PayloadChange) -> Result<u64> {
        let mut inner = self.write();
        let rows = inner.selected(selection);
        for &row in &rows {
            if let Value::Object(payload) = &mut inner.points[row].payload {
                change.apply(payload);
            }
        }
        Ok(rows.len() as u64)
    }
}

impl Inner {
    fn dimensions(&self) -> Option<usize> {
        (self.rows.dimensions() > 0).then_some(self.rows.dimensions())
    }

    /// Keeps a point that was checked.
    fn put(&mut self, point: &Point) -> Result<()> {
        let (distance, dimensions) = (self.options.distance, self.rows.dimensions());
        let vector = prepare(distance, &point.vector, dimensions, NAME, &|| {
            point.id.to_string()
        })?;
        let is_other = vector.as_ref() != point.vector.as_slice();
        let kept = Kept {
            id: point.id.clone(),
            text: point.text.clone(),
            payload: point.payload.clone().into(),
            original: is_other.then(|| point.vector.clone()),
        };
        if let Some(&row) = self.by_id.get(&point.id) {
            self.rows.set(row, &vector);
            self.points[row] = kept;
            return Ok(());
        }
        let row = self.points.len();
        let rank = u32::try_from(row).expect("2^32 points do not fit memory; this is a bug");
        self.rows.push(vector.iter().copied(), rank);
        self.points.push(kept);
        self.by_id.insert(point.id.clone(), row);
        Ok(())
    }

    fn remove(&mut self, removed: &HashSet<usize>) {
        if removed.is_empty() {
            return;
        }
        let mut num_kept = 0;
        self.rows.retain(|row| {
            let rank = (!removed.contains(&row)).then_some(num_kept);
            num_kept += u32::from(rank.is_some());
            rank
        });
        let mut rows = 0..;
        self.points
            .retain(|_| rows.next().is_some_and(|row| !removed.contains(&row)));
        let ids = self.points.iter().enumerate();
        self.by_id = ids.map(|(row, point)| (point.id.clone(), row)).collect();
    }

    fn point(&self, row: usize, with_vector: bool) -> Point {
        let kept = &self.points[row];
        let vector = match with_vector {
            true => kept.original.as_deref().unwrap_or(self.rows.row(row)),
            false => &[],
        };
        Point {
            id: kept.id.clone(),
            vector: vector.to_vec(),
            text: kept.text.clone(),
            payload: kept.payload.as_object().cloned().unwrap_or_default(),
        }
    }

    fn meets(&self, row: usize, filter: Option<&Conditions>) -> bool {
        let point = &self.points[row];
        filter.is_none_or(|filter| filter.matches(&[point.id.to_json()], &point.payload))
    }

    /// The selected rows, each once.
    fn selected(&self, selection: &Selection) -> Vec<usize> {
        match selection {
            Selection::All => (0..self.points.len()).collect(),
            Selection::Ids(ids) => {
                let mut rows: Vec<usize> = ids
                    .iter()
                    .filter_map(|id| self.by_id.get(id).copied())
                    .collect();
                rows.sort_unstable();
                rows.dedup();
                rows
            }
            Selection::Filter(filter) => (0..self.points.len())
                .filter(|&row| self.meets(row, Some(filter)))
                .collect(),
        }
    }

    fn allowed(&self, filter: Option<&Conditions>) -> Allowed {
        let Some(filter) = filter else {
            return Allowed::All;
        };
        let rows = (0..self.points.len()).filter(|&row| self.meets(row, Some(filter)));
        Allowed::of(rows.map(|row| row as u32))
    }
}
