//! The closest rows for each distance: what the stores on this machine share.

use std::borrow::Cow;

use super::point::Point;
use super::request::{Distance, SearchRequest};
use crate::rows::{Allowed, Nearest, Rows, check_vector, to_unit};
use crate::{ErrorKind, Result};

/// The vector as the distance compares it: at unit length for the cosine, else as it is.
///
/// # Errors
///
/// If it has the wrong width, holds NaN or infinity, or has no direction and needs one.
pub(super) fn prepare<'a>(
    distance: Distance,
    vector: &'a [f32],
    dimensions: usize,
    store: &str,
    subject: &dyn Fn() -> String,
) -> Result<Cow<'a, [f32]>> {
    if distance == Distance::Cosine {
        let unit = to_unit(vector, dimensions, store, subject)?;
        return Ok(unit.map_or(Cow::Borrowed(vector), Cow::Owned));
    }
    check_vector(vector, dimensions, store, subject)?;
    Ok(Cow::Borrowed(vector))
}

/// Refuses a query that cannot be compared: for stores that are not on this machine.
///
/// # Errors
///
/// If it has the wrong width, holds NaN or infinity, or has no direction and needs one.
pub fn check_query(
    distance: Distance,
    query: &[f32],
    dimensions: Option<usize>,
    store: &str,
) -> Result<()> {
    let dimensions = dimensions.unwrap_or(query.len());
    prepare(distance, query, dimensions, store, &|| "the query".into()).map(drop)
}

/// Refuses points that cannot be kept; returns the width of them all, `None` if there are none and
/// it is not known.
///
/// # Errors
///
/// If an id is empty, or a vector has the wrong width, NaN, or no direction and needs one.
pub fn check_points(
    distance: Distance,
    points: &[Point],
    dimensions: Option<usize>,
    store: &str,
) -> Result<Option<usize>> {
    let Some(first) = points.first() else {
        return Ok(dimensions);
    };
    let dimensions = dimensions.unwrap_or(first.vector.len());
    if dimensions == 0 {
        let (received, max) = (0, crate::MAX_DIMENSIONS);
        return Err(ErrorKind::Dimensions { received, max }.into());
    }
    for point in points {
        if matches!(&point.id, super::PointId::Text(text) if text.is_empty()) {
            return Err(ErrorKind::EmptyId.into());
        }
        let subject = || format!("the vector of `{}`", point.id);
        prepare(distance, &point.vector, dimensions, store, &subject)?;
    }
    Ok(Some(dimensions))
}

/// The closest of the allowed rows for each query as `request` wants them; the queries are
/// prepared.
pub(super) fn nearest(
    rows: &Rows,
    distance: Distance,
    queries: &[&[f32]],
    request: &SearchRequest,
    allowed: &Allowed,
) -> Vec<Nearest> {
    let most = request.offset.saturating_add(request.top_k);
    let mut all = match distance {
        Distance::Cosine => rows.search(queries, most, allowed),
        Distance::Dot => rows.search_by(queries, most, allowed, dot),
        Distance::Euclidean => rows.search_by(queries, most, allowed, |a, b| -euclidean(a, b)),
        Distance::Manhattan => rows.search_by(queries, most, allowed, |a, b| -manhattan(a, b)),
    };
    for nearest in &mut all {
        if let Some(threshold) = request.score_threshold {
            nearest.retain(|(score, _)| *score >= threshold);
        }
        nearest.drain(..request.offset.min(nearest.len()));
    }
    all
}

/// Lanes that the compiler keeps apart, so that it may add them side by side.
const LANES: usize = 16;

fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b| a * b)
}

fn euclidean(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b| (a - b) * (a - b)).sqrt()
}

fn manhattan(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b| (a - b).abs())
}

#[inline(always)]
fn sum(a: &[f32], b: &[f32], part: impl Fn(f32, f32) -> f32) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += part(a[lane], b[lane]);
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[lane] += part(*a, *b);
    }
    // Adding zero turns -0 into 0: equal scores must tie.
    sums.iter().sum::<f32>() + 0.0
}
