//! Points from one store to another, whatever both are; to a file of JSON lines, and back.
//!
//! Going on after an interruption is the same command again: a point that is there, equal in text and
//! payload, is not sent again.

use std::collections::HashMap;
use std::io::{BufRead, Write};

use wenyi_store::Result;
use wenyi_store::vector_store::{Point, PointId, Scroll, VectorStore, integer_beyond_64_bits};

use crate::progress::{Progress, Unit};

/// Points of one step: at 1,024 dimensions 2 MB of vectors.
const BATCH: usize = 500;

/// What a transfer did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferReport {
    /// Points written.
    pub written: u64,
    /// Points that were there already.
    pub unchanged: u64,
}

/// Copies all points of `from` into `to`; replaces those with the same ids.
///
/// # Errors
///
/// If a store fails; what was copied until then stays, and the same call goes on from it. Also if
/// `progress` was asked to stop.
pub fn copy(
    from: &dyn VectorStore,
    to: &dyn VectorStore,
    progress: &dyn Progress,
) -> Result<TransferReport> {
    let mut report = TransferReport::default();
    progress.start("copying", Some(from.info()?.num_points), Unit::Items);
    let mut scroll = Scroll {
        limit: BATCH,
        with_vector: true,
        ..Scroll::default()
    };
    loop {
        let page = from.scroll(&scroll)?;
        write_changed(to, page.points, &mut report, progress)?;
        match page.next {
            Some(next) if !progress.is_cancelled() => scroll.from = Some(next),
            _ => break,
        }
    }
    progress.finish();
    Ok(report)
}

/// Writes all points of a store as JSON lines; says how many.
///
/// # Errors
///
/// If the store or the writer fails.
pub fn export(
    from: &dyn VectorStore,
    to: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<u64, ExportError> {
    progress.start("exporting", Some(from.info()?.num_points), Unit::Items);
    let mut scroll = Scroll {
        limit: BATCH,
        with_vector: true,
        ..Scroll::default()
    };
    let mut count = 0;
    loop {
        let page = from.scroll(&scroll)?;
        for point in &page.points {
            serde_json::to_writer(&mut *to, point).map_err(std::io::Error::from)?;
            to.write_all(b"\n")?;
        }
        count += page.points.len() as u64;
        progress.advance(page.points.len() as u64);
        match page.next {
            Some(next) if !progress.is_cancelled() => scroll.from = Some(next),
            _ => break,
        }
    }
    to.flush()?;
    progress.finish();
    Ok(count)
}

/// Why an export or an import failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The store.
    #[error(transparent)]
    Store(#[from] wenyi_store::Error),
    /// The file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A line that is no point.
    #[error("line {line} is not a point: {reason}")]
    Line {
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Reads the point of a line; `None` for an empty one.
fn point_of(line: &str, number: u64) -> Result<Option<Point>, ExportError> {
    if line.trim().is_empty() {
        return Ok(None);
    }
    let refused = |reason| ExportError::Line {
        line: number,
        reason,
    };
    if let Some(integer) = integer_beyond_64_bits(line) {
        let reason = format!("the integer {integer} does not fit into 64 bits");
        return Err(refused(reason));
    }
    let point = serde_json::from_str(line).map_err(|error| refused(error.to_string()));
    let point: Point = point?;
    if point.vector.is_empty() {
        return Err(refused("it has no vector".into()));
    }
    Ok(Some(point))
}

/// Reads points from JSON lines into the store that `open` gives for the width of the first one;
/// replaces those with the same ids.
///
/// # Errors
///
/// If a line is no point or the store fails; what was written until then stays, and the same call
/// goes on from it.
pub fn import<S: VectorStore>(
    from: &mut dyn BufRead,
    open: impl FnOnce(usize) -> Result<S>,
    progress: &dyn Progress,
) -> Result<TransferReport, ExportError> {
    progress.start("importing", None, Unit::Items);
    let mut report = TransferReport::default();
    let (mut open, mut store) = (Some(open), None);
    let mut batch = Vec::new();
    let mut line = String::new();
    let mut number = 0;
    loop {
        line.clear();
        let is_end = from.read_line(&mut line)? == 0;
        number += 1;
        batch.extend(point_of(&line, number)?);
        if batch.len() < BATCH && !is_end {
            continue;
        }
        if let (Some(first), Some(open)) = (batch.first(), open.take_if(|_| !batch.is_empty())) {
            store = Some(open(first.vector.len())?);
        }
        if let Some(store) = &store {
            write_changed(store, std::mem::take(&mut batch), &mut report, progress)?;
        }
        if is_end || progress.is_cancelled() {
            break;
        }
    }
    progress.finish();
    Ok(report)
}

/// Writes those of `points` that are not there as they are.
fn write_changed(
    to: &dyn VectorStore,
    points: Vec<Point>,
    report: &mut TransferReport,
    progress: &dyn Progress,
) -> Result<()> {
    if points.is_empty() {
        return Ok(());
    }
    let ids: Vec<PointId> = points.iter().map(|point| point.id.clone()).collect();
    let there = to.get_by_ids(&ids)?;
    let there: HashMap<&PointId, &Point> = there.iter().map(|point| (&point.id, point)).collect();
    let is_same = |point: &Point| {
        there.get(&point.id).is_some_and(|other| {
            (&point.text, &point.payload) == (&other.text, &other.payload)
                && is_close(&point.vector, &other.vector)
        })
    };
    let num_points = points.len() as u64;
    let changed: Vec<Point> = points.into_iter().filter(|point| !is_same(point)).collect();
    to.upsert(&changed)?;
    report.written += changed.len() as u64;
    report.unchanged += num_points - changed.len() as u64;
    progress.advance(num_points);
    Ok(())
}

/// True for vectors of one direction: a store may have brought one of them to unit length.
fn is_close(a: &[f32], b: &[f32]) -> bool {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum()
    };
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    a == b || a.len() == b.len() && (dot(a, b) - lengths).abs() <= 1e-6 * lengths
}

impl ExportError {
    /// What the user can do about it, where we know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Io(_) => None,
            Self::Line { .. } => Some(
                "a line is `{\"id\": 1, \"vector\": [0.1, 0.2], \"text\": \"…\", \"payload\": {}}`"
                    .into(),
            ),
        }
    }

    /// True if the caller can cure it by other input.
    #[must_use]
    pub fn is_user_error(&self) -> bool {
        match self {
            Self::Store(error) => error.is_user_error(),
            Self::Io(_) => false,
            Self::Line { .. } => true,
        }
    }
}
