//! What can be asked of a store, as data.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::point::{Payload, Point, PointId};
use crate::filter::Conditions;

/// How close two vectors are. A search's scores are greater for closer ones whatever the distance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Distance {
    /// The cosine of the angle, -1 to 1. The vector of zeros has none.
    #[default]
    Cosine,
    /// The dot product.
    Dot,
    /// The length of the difference; scores are its negative.
    #[serde(rename = "Euclid")]
    Euclidean,
    /// The sum of the differences of all dimensions; scores are its negative.
    Manhattan,
}

/// What a new collection is made with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreOptions {
    /// Width of the vectors; `None` leaves it to the first one, where the store can wait for it.
    pub dimensions: Option<usize>,
    /// How close two vectors are.
    pub distance: Distance,
    /// What the caller wants to know again, such as the model's fingerprint: the store keeps it as
    /// it is.
    pub metadata: Value,
}

/// What a collection is.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreInfo {
    /// Its name.
    pub name: String,
    /// Width of the vectors; `None` before the first one.
    pub dimensions: Option<usize>,
    /// How close two vectors are.
    pub distance: Distance,
    /// As in [`StoreOptions::metadata`].
    pub metadata: Value,
    /// Points.
    pub num_points: u64,
}

impl StoreInfo {
    /// The options that make a collection like this one.
    #[must_use]
    pub fn options(&self) -> StoreOptions {
        StoreOptions {
            dimensions: self.dimensions,
            distance: self.distance,
            metadata: self.metadata.clone(),
        }
    }
}

/// What to do with a point whose id is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Refuse the call.
    Refuse,
    /// Replace the point: vector, text and payload.
    Replace,
}

/// Some of the points.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection {
    /// All of them.
    All,
    /// Those with these ids; unknown ones are passed over.
    Ids(Vec<PointId>),
    /// Those that meet the conditions.
    Filter(Conditions),
}

/// What a search looks for. The default finds the 10 closest, without vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchRequest {
    /// Points to find.
    pub top_k: usize,
    /// How many of the best to pass over.
    pub offset: usize,
    /// Only points that meet these conditions.
    pub filter: Option<Conditions>,
    /// Only points with at least this score.
    pub score_threshold: Option<f32>,
    /// Whether the points found come with their vectors.
    pub with_vector: bool,
}

impl Default for SearchRequest {
    fn default() -> Self {
        Self {
            top_k: 10,
            offset: 0,
            filter: None,
            score_threshold: None,
            with_vector: false,
        }
    }
}

/// A search for points that are close and different. The default is LangChain's: 4 of 20, half and
/// half.
#[derive(Clone, Debug, PartialEq)]
pub struct MmrRequest {
    /// Points to choose.
    pub top_k: usize,
    /// The closest points, among which is chosen.
    pub fetch_k: usize,
    /// 1 for the closest, 0 for the most different.
    pub lambda_mult: f32,
    /// Only points that meet these conditions.
    pub filter: Option<Conditions>,
    /// Whether the points found come with their vectors.
    pub with_vector: bool,
}

impl Default for MmrRequest {
    fn default() -> Self {
        Self {
            top_k: 4,
            fetch_k: 20,
            lambda_mult: 0.5,
            filter: None,
            with_vector: false,
        }
    }
}

/// One page of the points in the order of their ids. The default is the first 10, without vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Scroll {
    /// Only points that meet these conditions.
    pub filter: Option<Conditions>,
    /// The first id of the page: [`Page::next`] of the page before.
    pub from: Option<PointId>,
    /// Points of the page.
    pub limit: usize,
    /// Whether they come with their vectors.
    pub with_vector: bool,
}

impl Default for Scroll {
    fn default() -> Self {
        Self {
            filter: None,
            from: None,
            limit: 10,
            with_vector: false,
        }
    }
}

/// Some points, and where the others begin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// In the order of their ids.
    pub points: Vec<Point>,
    /// The first id of the next page; `None` after the last one.
    pub next: Option<PointId>,
}

/// What becomes of a payload. Keys are paths: `author.name`.
#[derive(Clone, Debug, PartialEq)]
pub enum PayloadChange {
    /// Sets these keys, of the object at a path if there is one, and keeps the others.
    Set {
        /// Where: the payload itself if `None`.
        key: Option<String>,
        /// What.
        payload: Payload,
    },
    /// Replaces the whole payload.
    Overwrite(Payload),
    /// Removes these keys.
    Delete(Vec<String>),
    /// Removes all keys.
    Clear,
}
