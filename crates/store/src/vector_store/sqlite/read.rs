//! Reads points.

use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::Value;

use super::SqliteStore;
use crate::Result;
use crate::collection::to_floats;
use crate::filter::Conditions;
use crate::vector_store::point::{Payload, Point, PointId};
use crate::vector_store::request::{Page, Scroll, Selection};

/// What is added to a number to be an integer of SQLite's, which has a sign.
const NUMBER_OFFSET: u64 = 1 << 63;

const SELECT_POINT: &str = "SELECT id, payload, text, row FROM points";

/// The id as the file has it.
pub(super) fn id_to_sql(id: &PointId) -> Sql {
    match id {
        PointId::Number(number) => Sql::Integer(number.wrapping_sub(NUMBER_OFFSET) as i64),
        PointId::Text(text) => Sql::Text(text.clone()),
    }
}

fn id_from(row: &Row<'_>, column: usize) -> rusqlite::Result<PointId> {
    Ok(match row.get_ref(column)? {
        ValueRef::Integer(number) => PointId::Number((number as u64).wrapping_add(NUMBER_OFFSET)),
        other => PointId::Text(other.as_str()?.into()),
    })
}

/// The payload in a column.
pub(super) fn payload_from(row: &Row<'_>, column: usize) -> rusqlite::Result<Payload> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
    })
}

/// The point in a row of [`SELECT_POINT`].
fn point(state: &Connection, row: &Row<'_>, with_vector: bool) -> rusqlite::Result<Point> {
    let vector = match with_vector {
        true => vector(state, row.get(3)?)?,
        false => Vec::new(),
    };
    Ok(Point {
        id: id_from(row, 0)?,
        vector,
        payload: payload_from(row, 1)?,
        text: row.get(2)?,
    })
}

fn vector(state: &Connection, row: i64) -> rusqlite::Result<Vec<f32>> {
    state
        .prepare_cached("SELECT vector FROM vectors WHERE row = ?1")?
        .query_row([row], |row| {
            Ok(to_floats(row.get_ref(0)?.as_blob()?).collect())
        })
}

/// The point with this row.
pub(super) fn point_at(state: &Connection, row: i64, with_vector: bool) -> rusqlite::Result<Point> {
    state
        .prepare_cached(&format!("{SELECT_POINT} WHERE row = ?1"))?
        .query_row([row], |row| point(state, row, with_vector))
}

impl SqliteStore {
    pub(super) fn read_points(&self, ids: &[PointId]) -> Result<Vec<Point>> {
        self.file.read(|state| {
            self.version(state)?;
            let read = || {
                let select = format!("{SELECT_POINT} WHERE collection = ?1 AND id = ?2");
                let mut select = state.prepare_cached(&select)?;
                let mut points = Vec::with_capacity(ids.len());
                for id in ids {
                    let values = (self.id, id_to_sql(id));
                    let found = select.query_row(values, |row| point(state, row, true));
                    points.extend(found.optional()?);
                }
                Ok(points)
            };
            read().map_err(|error| self.file.at(error))
        })
    }

    pub(super) fn read_page(&self, scroll: &Scroll) -> Result<Page> {
        let from = scroll.from.clone().unwrap_or(PointId::Number(0));
        self.file.read(|state| {
            self.version(state)?;
            let read = || {
                let select =
                    format!("{SELECT_POINT} WHERE collection = ?1 AND id >= ?2 ORDER BY id");
                let mut select = state.prepare_cached(&select)?;
                let mut rows = select.query((self.id, id_to_sql(&from)))?;
                let mut page = Page::default();
                while let Some(row) = rows.next()? {
                    let id = id_from(row, 0)?;
                    if let Some(filter) = &scroll.filter
                        && !meets(filter, &id, payload_from(row, 1)?)
                    {
                        continue;
                    }
                    if page.points.len() == scroll.limit {
                        page.next = Some(id);
                        break;
                    }
                    page.points.push(point(state, row, scroll.with_vector)?);
                }
                Ok(page)
            };
            read().map_err(|error| self.file.at(error))
        })
    }

    pub(super) fn count_points(&self, selection: &Selection) -> Result<u64> {
        self.file.read(|state| {
            self.version(state)?;
            if *selection != Selection::All {
                return Ok(self.selected(state, selection)?.len() as u64);
            }
            let select = "SELECT count(*) FROM vectors WHERE collection = ?1";
            let count: i64 = state
                .prepare_cached(select)
                .and_then(|mut select| select.query_row([self.id], |row| row.get(0)))
                .map_err(|error| self.file.at(error))?;
            Ok(count as u64)
        })
    }

    /// The rows of the selected points, ascending, each once.
    pub(super) fn selected(&self, state: &Connection, selection: &Selection) -> Result<Vec<i64>> {
        let read = || match selection {
            Selection::All => {
                let select = "SELECT row FROM points WHERE collection = ?1 ORDER BY row";
                let mut select = state.prepare_cached(select)?;
                select.query_map([self.id], |row| row.get(0))?.collect()
            }
            Selection::Ids(ids) => {
                let select = "SELECT row FROM points WHERE collection = ?1 AND id = ?2";
                let mut select = state.prepare_cached(select)?;
                let mut rows: Vec<i64> = Vec::new();
                for id in ids {
                    let found =
                        select.query_row((self.id, id_to_sql(id)), |row| row.get::<_, i64>(0));
                    rows.extend(found.optional()?);
                }
                rows.sort_unstable();
                rows.dedup();
                Ok(rows)
            }
            Selection::Filter(filter) => self.meeting(state, filter),
        };
        read().map_err(|error| self.file.at(error))
    }

    /// The rows of the points that meet the conditions, ascending.
    fn meeting(&self, state: &Connection, filter: &Conditions) -> rusqlite::Result<Vec<i64>> {
        let select = "SELECT id, payload, row FROM points WHERE collection = ?1";
        let mut select = state.prepare_cached(select)?;
        let mut points = select.query([self.id])?;
        let mut rows = Vec::new();
        while let Some(row) = points.next()? {
            if meets(filter, &id_from(row, 0)?, payload_from(row, 1)?) {
                rows.push(row.get(2)?);
            }
        }
        rows.sort_unstable();
        Ok(rows)
    }
}

fn meets(filter: &Conditions, id: &PointId, payload: Payload) -> bool {
    filter.matches(&[id.to_json()], &Value::Object(payload))
}
