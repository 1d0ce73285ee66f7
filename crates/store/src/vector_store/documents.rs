//! A collection of documents seen as points: a chunk is one.

use std::path::Path;

use serde_json::{Value, json};

use super::VectorStore;
use super::point::{Payload, Point, PointId, ScoredPoint};
use super::request::{
    Distance, Existing, Page, PayloadChange, Scroll, SearchRequest, Selection, StoreInfo,
};
use crate::collection::Collection;
use crate::document::{Filter, Hit};
use crate::{ErrorKind, Result};

/// The chunks of a [`Collection`] as points, to be read: ids are the chunks' numbers, payloads tell
/// the document and the place in it. Changing it is the collection's own matter.
#[derive(Debug)]
pub struct DocumentPoints {
    collection: Collection,
}

impl DocumentPoints {
    /// The chunks of the collection at `path`.
    ///
    /// # Errors
    ///
    /// As [`Collection::open_read_only`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let collection = Collection::open_read_only(path)?;
        Ok(Self { collection })
    }

    fn read_only<T>(&self) -> Result<T> {
        let path = self.collection.path().to_path_buf();
        Err(ErrorKind::ReadOnly { path }.into())
    }

    fn point(&self, chunk_id: i64, with_vector: bool) -> Result<Option<Point>> {
        let Some(hit) = self.collection.chunk(chunk_id)? else {
            return Ok(None);
        };
        let mut point = to_point(hit);
        if with_vector {
            point.vector = self.collection.vector(chunk_id)?.unwrap_or_default();
        }
        Ok(Some(point))
    }

    fn meets(point: &Point, filter: Option<&crate::Conditions>) -> bool {
        let payload = || Value::Object(point.payload.clone());
        filter.is_none_or(|filter| filter.matches(&[point.id.to_json()], &payload()))
    }

    fn selected(&self, selection: &Selection) -> Result<u64> {
        let mut count = 0;
        match selection {
            Selection::All => return Ok(self.collection.statistics()?.num_chunks),
            Selection::Ids(ids) => {
                let mut ids = ids.clone();
                ids.sort_unstable();
                ids.dedup();
                for id in &ids {
                    count += u64::from(self.by_id(id, false)?.is_some());
                }
            }
            Selection::Filter(filter) => {
                for chunk_id in self.collection.chunk_ids_from(0, None)? {
                    let point = self.point(chunk_id, false)?;
                    count += u64::from(point.is_some_and(|p| Self::meets(&p, Some(filter))));
                }
            }
        }
        Ok(count)
    }

    fn by_id(&self, id: &PointId, with_vector: bool) -> Result<Option<Point>> {
        match id {
            PointId::Number(number) => match i64::try_from(*number) {
                Ok(chunk_id) => self.point(chunk_id, with_vector),
                Err(_) => Ok(None),
            },
            PointId::Text(_) => Ok(None),
        }
    }
}

/// What is known of a chunk is its payload: the document's metadata, and where it stands.
fn to_point(hit: Hit) -> Point {
    let document = hit.document.document;
    let mut payload = match document.metadata {
        Value::Object(fields) => fields,
        _ => Payload::new(),
    };
    let places = [
        ("path", json!(document.path)),
        ("first_line", json!(hit.chunk.first_line)),
        ("last_line", json!(hit.chunk.last_line)),
        ("heading_path", json!(hit.chunk.heading_path)),
    ];
    payload.extend(places.map(|(key, value)| (key.to_owned(), value)));
    if let Some(title) = document.title {
        payload.insert("title".into(), title.into());
    }
    Point {
        id: PointId::Number(hit.chunk_id.unsigned_abs()),
        vector: Vec::new(),
        text: hit.chunk.text,
        payload,
    }
}

impl VectorStore for DocumentPoints {
    fn info(&self) -> Result<StoreInfo> {
        let info = self.collection.info();
        Ok(StoreInfo {
            name: info.name.clone(),
            dimensions: Some(info.space.dimensions),
            distance: Distance::Cosine,
            metadata: info.space.fingerprint.clone(),
            num_points: self.collection.statistics()?.num_chunks,
        })
    }

    fn put(&self, _: &[Point], _: Existing) -> Result<()> {
        self.read_only()
    }

    fn delete(&self, _: &Selection) -> Result<u64> {
        self.read_only()
    }

    fn get_by_ids(&self, ids: &[PointId]) -> Result<Vec<Point>> {
        let points = ids.iter().map(|id| self.by_id(id, true));
        points.filter_map(Result::transpose).collect()
    }

    fn scroll(&self, scroll: &Scroll) -> Result<Page> {
        let from = match &scroll.from {
            None => 0,
            Some(PointId::Number(number)) => i64::try_from(*number).unwrap_or(i64::MAX),
            Some(PointId::Text(_)) => return Ok(Page::default()),
        };
        let mut page = Page::default();
        let limit = match scroll.filter {
            None => Some(scroll.limit.saturating_add(1)),
            Some(_) => None,
        };
        for chunk_id in self.collection.chunk_ids_from(from, limit)? {
            let Some(point) = self.point(chunk_id, scroll.with_vector)? else {
                continue;
            };
            if !Self::meets(&point, scroll.filter.as_ref()) {
                continue;
            }
            if page.points.len() == scroll.limit {
                page.next = Some(point.id);
                break;
            }
            page.points.push(point);
        }
        Ok(page)
    }

    fn count(&self, selection: &Selection) -> Result<u64> {
        self.selected(selection)
    }

    fn search_batch(
        &self,
        queries: &[&[f32]],
        request: &SearchRequest,
    ) -> Result<Vec<Vec<ScoredPoint>>> {
        // A filter looks at the chunk's payload too, so it is asked of what was found.
        let most = match request.filter {
            Some(_) => usize::try_from(self.selected(&Selection::All)?).unwrap_or(usize::MAX),
            None => request.offset.saturating_add(request.top_k),
        };
        let all = self
            .collection
            .search_batch(queries, most, &Filter::default())?;
        let to_scored = |hits: Vec<Hit>| -> Result<Vec<ScoredPoint>> {
            let scored = hits.into_iter().map(|hit| ScoredPoint {
                score: hit.score,
                point: to_point(hit),
            });
            let wanted = scored
                .filter(|found| {
                    request
                        .score_threshold
                        .is_none_or(|least| found.score >= least)
                })
                .filter(|found| Self::meets(&found.point, request.filter.as_ref()));
            let mut found: Vec<ScoredPoint> =
                wanted.skip(request.offset).take(request.top_k).collect();
            if request.with_vector {
                for found in &mut found {
                    if let PointId::Number(number) = found.point.id {
                        let vector = self.collection.vector(number as i64)?;
                        found.point.vector = vector.unwrap_or_default();
                    }
                }
            }
            Ok(found)
        };
        all.into_iter().map(to_scored).collect()
    }

    fn change_payload(&self, _: &Selection, _: &PayloadChange) -> Result<u64> {
        self.read_only()
    }
}
