//! One trait for every place that keeps points: in memory, in a file, or at a server.
//!
//! A [`Point`] is an id, a vector, a text and a payload. `request` says what can be asked of a
//! [`VectorStore`], `index` finds the closest for those that search on this machine, `mmr` chooses
//! different ones among the close; [`MemoryStore`] and [`SqliteStore`] are here, the stores behind a
//! network elsewhere. A store has never heard of a model: its caller brings the vectors.
//!
//! What all of them keep: widths, numbers and ids are checked before anything changes; a call changes
//! everything it says or nothing; **greater is closer** whatever the distance; equal scores are
//! ordered by when a point first came (a remote store has its own stable order).

mod point;
mod named;
mod request;
mod payload;
mod index;
mod mmr;
mod memory;
mod dump;
mod sqlite;
mod documents;
mod integers;

use std::fmt;

use crate::Result;

pub use self::documents::DocumentPoints;
pub use self::dump::RefusedEntry;
pub use self::index::{check_points, check_query};
pub use self::integers::integer_beyond_64_bits;
pub use self::memory::MemoryStore;
pub use self::mmr::{maximal_marginal_relevance, maximal_marginal_relevance_by};
pub use self::named::{NamedPoint, NamedVector, Space, SparseVector, UNNAMED, Vectors};
pub use self::point::{Payload, Point, PointId, ScoredPoint};
pub use self::request::{
    Distance, Existing, MmrRequest, Page, PayloadChange, Scroll, SearchRequest, Selection,
    StoreInfo, StoreOptions,
};
pub(crate) use self::sqlite::APPLICATION_ID;
pub use self::sqlite::{Combine, SpaceQuery, SqliteDatabase, SqliteStore};

/// A collection of points, wherever it is kept. Handles are shared between threads.
pub trait VectorStore: Send + Sync + fmt::Debug {
    /// What the collection is and how many points it has.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached or read, as for all methods.
    fn info(&self) -> Result<StoreInfo>;

    /// Keeps points, all of them or none. One whose id is there is refused or replaced, as
    /// `existing` says; a replaced point keeps its place among equals. Of two points with one id in
    /// a call that replaces, the later one stays.
    ///
    /// # Errors
    ///
    /// If a vector has the wrong width, NaN, or no direction where the distance is the cosine; if
    /// an id is there or comes twice and is to be refused. Nothing has changed then.
    fn put(&self, points: &[Point], existing: Existing) -> Result<()>;

    /// Removes the selected points; says how many there were.
    ///
    /// # Errors
    ///
    /// As [`VectorStore::info`]; nothing is removed then.
    fn delete(&self, selection: &Selection) -> Result<u64>;

    /// The points with these ids in the order of `ids`, with their vectors; unknown ids are left
    /// out, repeated ones repeated.
    ///
    /// # Errors
    ///
    /// As [`VectorStore::info`].
    fn get_by_ids(&self, ids: &[PointId]) -> Result<Vec<Point>>;

    /// The points that meet a filter in the order of their ids, a page at a time.
    ///
    /// # Errors
    ///
    /// As [`VectorStore::info`].
    fn scroll(&self, scroll: &Scroll) -> Result<Page>;

    /// How many of the points are selected.
    ///
    /// # Errors
    ///
    /// As [`VectorStore::info`].
    fn count(&self, selection: &Selection) -> Result<u64>;

    /// The points closest to each query, best first; an empty store finds nothing.
    ///
    /// # Errors
    ///
    /// If a query has the wrong width, NaN, or no direction where the distance is the cosine.
    fn search_batch(
        &self,
        queries: &[&[f32]],
        request: &SearchRequest,
    ) -> Result<Vec<Vec<ScoredPoint>>>;

    /// Changes the payloads of the selected points; says how many there were.
    ///
    /// # Errors
    ///
    /// As [`VectorStore::info`]; nothing is changed then.
    fn change_payload(&self, selection: &Selection, change: &PayloadChange) -> Result<u64>;

    /// [`VectorStore::put`] that refuses ids that are there.
    ///
    /// # Errors
    ///
    /// As [`VectorStore::put`].
    fn add(&self, points: &[Point]) -> Result<()> {
        self.put(points, Existing::Refuse)
    }

    /// [`VectorStore::put`] that replaces points whose ids are there.
    ///
    /// # Errors
    ///
    /// As [`VectorStore::put`].
    fn upsert(&self, points: &[Point]) -> Result<()> {
        self.put(points, Existing::Replace)
    }

    /// The points closest to `query`, best first.
    ///
    /// # Errors
    ///
    /// As [`VectorStore::search_batch`].
    fn search(&self, query: &[f32], request: &SearchRequest) -> Result<Vec<ScoredPoint>> {
        Ok(self
            .search_batch(&[query], request)?
            .pop()
            .unwrap_or_default())
    }

    /// The closest points for which `keep` is true: for conditions that are code and not data.
    ///
    /// # Errors
    ///
    /// As [`VectorStore::search_batch`].
    fn search_where(
        &self,
        query: &[f32],
        request: &SearchRequest,
        keep: &dyn Fn(&Point) -> bool,
    ) -> Result<Vec<ScoredPoint>> {
        let wanted = request.offset.saturating_add(request.top_k);
        let mut wider = SearchRequest {
            top_k: wanted.saturating_mul(4).max(64),
            offset: 0,
            ..request.clone()
        };
        loop {
            let found = self.search(query, &wider)?;
            let all = found.len() < wider.top_k;
            let mut kept = found;
            kept.retain(|scored| keep(&scored.point));
            if all || kept.len() >= wanted {
                kept.truncate(wanted);
                kept.drain(..request.offset.min(kept.len()));
                return Ok(kept);
            }
            wider.top_k = wider.top_k.saturating_mul(4);
        }
    }

    /// Close points that differ from each other, by maximal marginal relevance (Carbonell and
    /// Goldstein 1998), in the order in which they were chosen; the score is that of the search.
    ///
    /// # Errors
    ///
    /// As [`VectorStore::search_batch`].
    fn max_marginal_relevance_search(
        &self,
        query: &[f32],
        request: &MmrRequest,
    ) -> Result<Vec<ScoredPoint>> {
        mmr::search(self, query, request, None)
    }

    /// The same among points for which `keep` is true: for conditions that are code and not data.
    ///
    /// # Errors
    ///
    /// As [`VectorStore::search_batch`].
    fn max_marginal_relevance_search_where(
        &self,
        query: &[f32],
        request: &MmrRequest,
        keep: &dyn Fn(&Point) -> bool,
    ) -> Result<Vec<ScoredPoint>> {
        mmr::search(self, query, request, Some(keep))
    }
}

macro_rules! delegate {
    ($($pointer:ty),+) => {$(
        impl<T: VectorStore + ?Sized> VectorStore for $pointer {
            fn info(&self) -> Result<StoreInfo> {
                (**self).info()
            }
            fn put(&self, points: &[Point], existing: Existing) -> Result<()> {
                (**self).put(points, existing)
            }
            fn delete(&self, selection: &Selection) -> Result<u64> {
                (**self).delete(selection)
            }
            fn get_by_ids(&self, ids: &[PointId]) -> Result<Vec<Point>> {
                (**self).get_by_ids(ids)
            }
            fn scroll(&self, scroll: &Scroll) -> Result<Page> {
                (**self).scroll(scroll)
            }
            fn count(&self, selection: &Selection) -> Result<u64> {
                (**self).count(selection)
            }
            fn search_batch(
                &self,
                queries: &[&[f32]],
                request: &SearchRequest,
            ) -> Result<Vec<Vec<ScoredPoint>>> {
                (**self).search_batch(queries, request)
            }
            fn change_payload(&self, selection: &Selection, change: &PayloadChange) -> Result<u64> {
                (**self).change_payload(selection, change)
            }
        }
    )+};
}
delegate!(std::sync::Arc<T>, Box<T>);
