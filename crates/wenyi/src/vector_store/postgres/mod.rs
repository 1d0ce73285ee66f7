//! A table of PostgreSQL with pgvector, on one machine or spread by Citus.
//!
//! `schema` makes the table, `filter` turns conditions into SQL; here are the calls. The search is
//! exact unless the table has a graph index.

mod filter;
mod schema;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postgres::types::ToSql;
use postgres::{Client, Config, NoTls, Row, Transaction};
use serde_json::Value;
use wenyi_store::vector_store::{
    Distance, Existing, Page, PayloadChange, Point, PointId, ScoredPoint, Scroll, SearchRequest,
    Selection, StoreInfo, VectorStore, check_points, check_query,
};
use wenyi_store::{Error, ErrorKind, Result};

use self::filter::Where;
use super::url::{Missing, without_password};

/// Points of one statement.
const BATCH: usize = 1000;

/// A collection in a table of PostgreSQL.
pub struct PostgresStore {
    client: Mutex<Client>,
    /// The address for the client, and without its password for messages.
    address: String,
    shown: String,
    name: String,
    /// The table's name, quoted.
    table: String,
    dimensions: usize,
    distance: Distance,
    metadata: Value,
}

impl PostgresStore {
    pub(super) fn open(url: &str, missing: Missing<'_>) -> Result<Self> {
        schema::open(url, missing)
    }

    fn client(&self) -> Result<MutexGuard<'_, Client>> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.is_closed() {
            *client = connect(&self.address, &self.shown)?;
        }
        Ok(client)
    }

    /// Runs `work` in one transaction: on an error nothing of it stays.
    fn transaction<T>(&self, work: impl FnOnce(&mut Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut client = self.client()?;
        let mut transaction = client.transaction().map_err(|e| self.failed(&e))?;
        let value = work(&mut transaction)?;
        transaction.commit().map_err(|e| self.failed(&e))?;
        Ok(value)
    }

    fn failed(&self, error: &postgres::Error) -> Error {
        failed(&self.shown, error)
    }

    fn rows(
        &self,
        transaction: &mut Transaction<'_>,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        transaction.query(sql, values).map_err(|e| self.failed(&e))
    }

    fn point(&self, row: &Row) -> Result<Point> {
        let id: &str = row.get("id");
        let payload: &str = row.get("payload");
        let payload = serde_json::from_str(payload);
        let damaged = || failed_with(&self.shown, format!("the row `{id}` is not a point"), false);
        Ok(Point {
            id: id_from(id).ok_or_else(damaged)?,
            vector: row.get::<_, Option<Vec<f32>>>("vector").unwrap_or_default(),
            text: row.get("text"),
            payload: payload.map_err(|_| damaged())?,
        })
    }

    fn columns(with_vector: bool) -> &'static str {
        match with_vector {
            true => "id, text, payload::text, embedding::real[] AS vector",
            false => "id, text, payload::text, NULL::real[] AS vector",
        }
    }

    fn selected(&self, selection: &Selection) -> Result<Where> {
        let condition = match selection {
            Selection::All => Ok(Where::everything()),
            Selection::Ids(ids) => Ok(Where::ids(ids.iter().map(id_to_sql).collect())),
            Selection::Filter(filter) => Where::meets(&filter.to_json()),
        };
        condition.map_err(|reason| failed_with(&self.shown, reason, true))
    }

    fn filtered(&self, filter: Option<&wenyi_store::Conditions>) -> Result<Where> {
        self.selected(&filter.map_or(Selection::All, |f| Selection::Filter(f.clone())))
    }

    /// The operator of the distance, and what turns it into a score.
    fn operator(&self) -> (&'static str, fn(f64) -> f64) {
        match self.distance {
            Distance::Cosine => ("<=>", |distance| 1.0 - distance),
            Distance::Dot => ("<#>", |distance| -distance),
            Distance::Euclidean => ("<->", |distance| -distance),
            Distance::Manhattan => ("<+>", |distance| -distance),
        }
    }

    fn nearest(
        &self,
        transaction: &mut Transaction<'_>,
        query: &[f32],
        request: &SearchRequest,
    ) -> Result<Vec<ScoredPoint>> {
        let condition = self.filtered(request.filter.as_ref())?;
        let (operator, to_score) = self.operator();
        let sql = search_sql(&self.table, operator, &condition, request.with_vector);
        let limit = i64::try_from(request.top_k).unwrap_or(i64::MAX);
        let offset = i64::try_from(request.offset).unwrap_or(i64::MAX);
        let mut values = condition.values();
        values.extend([&query as &(dyn ToSql + Sync), &limit, &offset]);
        let rows = self.rows(transaction, &sql, &values)?;
        let scored = rows.iter().map(|row| {
            let distance: f64 = row.get("distance");
            // Adding zero turns -0 into 0.
            let score = to_score(distance) as f32 + 0.0;
            Ok(ScoredPoint {
                score,
                point: self.point(row)?,
            })
        });
        let mut found = scored.collect::<Result<Vec<_>>>()?;
        if let Some(least) = request.score_threshold {
            found.retain(|found| found.score >= least);
        }
        Ok(found)
    }

    fn insert(
        &self,
        transaction: &mut Transaction<'_>,
        points: &[&Point],
        existing: Existing,
    ) -> Result<()> {
        let on_conflict = match existing {
            Existing::Refuse => "DO NOTHING",
            Existing::Replace => {
                "DO UPDATE SET embedding = excluded.embedding, text = excluded.text,
                               payload = excluded.payload"
            }
        };
        let sql = format!(
            "INSERT INTO {} (id, embedding, text, payload)
             SELECT id, embedding::vector, text, payload::jsonb
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
                  WITH ORDINALITY AS new (id, embedding, text, payload, place) ORDER BY place
             ON CONFLICT (id) {on_conflict} RETURNING id",
            self.table
        );
        let ids: Vec<String> = points.iter().map(|point| id_to_sql(&point.id)).collect();
        let vectors: Vec<String> = points
            .iter()
            .map(|point| vector_to_sql(&point.vector))
            .collect();
        let texts: Vec<&str> = points.iter().map(|point| point.text.as_str()).collect();
        let payloads: Vec<String> = points
            .iter()
            .map(|point| Value::Object(point.payload.clone()).to_string())
            .collect();
        let rows = self.rows(transaction, &sql, &[&ids, &vectors, &texts, &payloads])?;
        if rows.len() == points.len() {
            return Ok(());
        }
        let kept: HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
        let refused = ids.iter().zip(points).find(|(id, _)| !kept.contains(*id));
        let id = refused
            .map(|(_, point)| point.id.to_string())
            .unwrap_or_default();
        Err(ErrorKind::DuplicateId { id }.into())
    }
}

impl VectorStore for PostgresStore {
    fn info(&self) -> Result<StoreInfo> {
        Ok(StoreInfo {
            name: self.name.clone(),
            dimensions: Some(self.dimensions),
            distance: self.distance,
            metadata: self.metadata.clone(),
            num_points: self.count(&Selection::All)?,
        })
    }

    fn put(&self, points: &[Point], existing: Existing) -> Result<()> {
        check_points(self.distance, points, Some(self.dimensions), &self.name)?;
        // One statement cannot change a row twice: of equal ids the last is kept.
        let mut last: HashMap<&PointId, usize> = HashMap::new();
        for (index, point) in points.iter().enumerate() {
            if last.insert(&point.id, index).is_some() && existing == Existing::Refuse {
                let id = point.id.to_string();
                return Err(ErrorKind::DuplicateId { id }.into());
            }
        }
        let points = points.iter().enumerate();
        let points: Vec<&Point> = points
            .filter(|(index, point)| last[&point.id] == *index)
            .map(|(_, point)| point)
            .collect();
        self.transaction(|transaction| {
            let mut batches = points.chunks(BATCH);
            batches.try_for_each(|batch| self.insert(transaction, batch, existing))
        })
    }

    fn delete(&self, selection: &Selection) -> Result<u64> {
        let condition = self.selected(selection)?;
        let sql = format!("DELETE FROM {} AS p WHERE {}", self.table, condition.sql);
        self.transaction(|transaction| {
            let count = transaction.execute(&sql, &condition.values());
            count.map_err(|e| self.failed(&e))
        })
    }

    fn get_by_ids(&self, ids: &[PointId]) -> Result<Vec<Point>> {
        let wanted: Vec<String> = ids.iter().map(id_to_sql).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE id = ANY($1)",
            Self::columns(true),
            self.table
        );
        self.transaction(|transaction| {
            let rows = self.rows(transaction, &sql, &[&wanted])?;
            let points = rows.iter().map(|row| self.point(row));
            let points: HashMap<PointId, Point> = points
                .map(|point| point.map(|point| (point.id.clone(), point)))
                .collect::<Result<_>>()?;
            Ok(ids
                .iter()
                .filter_map(|id| points.get(id).cloned())
                .collect())
        })
    }

    fn scroll(&self, scroll: &Scroll) -> Result<Page> {
        let condition = self.filtered(scroll.filter.as_ref())?;
        let number = condition.values.len();
        let sql = format!(
            "SELECT {} FROM {} AS p WHERE ({}) AND id >= ${} ORDER BY id LIMIT ${}",
            Self::columns(scroll.with_vector),
            self.table,
            condition.sql,
            number + 1,
            number + 2,
        );
        let from = scroll.from.as_ref().map(id_to_sql).unwrap_or_default();
        let limit = i64::try_from(scroll.limit).unwrap_or(i64::MAX - 1) + 1;
        let mut values = condition.values();
        values.extend([&from as &(dyn ToSql + Sync), &limit]);
        self.transaction(|transaction| {
            let rows = self.rows(transaction, &sql, &values)?;
            let mut points = rows
                .iter()
                .map(|row| self.point(row))
                .collect::<Result<Vec<_>>>()?;
            let next = (points.len() > scroll.limit).then(|| points.split_off(scroll.limit));
            let next = next
                .and_then(|rest| rest.into_iter().next())
                .map(|point| point.id);
            Ok(Page { points, next })
        })
    }

    fn count(&self, selection: &Selection) -> Result<u64> {
        let condition = self.selected(selection)?;
        let sql = format!(
            "SELECT count(*) FROM {} AS p WHERE {}",
            self.table, condition.sql
        );
        self.transaction(|transaction| {
            let rows = self.rows(transaction, &sql, &condition.values())?;
            Ok(rows
                .first()
                .map_or(0, |row| row.get::<_, i64>(0))
                .unsigned_abs())
        })
    }

    fn search_batch(
        &self,
        queries: &[&[f32]],
        request: &SearchRequest,
    ) -> Result<Vec<Vec<ScoredPoint>>> {
        for query in queries {
            check_query(self.distance, query, Some(self.dimensions), &self.name)?;
        }
        self.transaction(|transaction| {
            let queries = queries.iter();
            queries
                .map(|query| self.nearest(transaction, query, request))
                .collect()
        })
    }

    fn change_payload(&self, selection: &Selection, change: &PayloadChange) -> Result<u64> {
        let condition = self.selected(selection)?;
        let select = format!(
            "SELECT id, payload::text FROM {} AS p WHERE {} FOR UPDATE",
            self.table, condition.sql
        );
        let update = format!(
            "UPDATE {} SET payload = $2::text::jsonb WHERE id = $1",
            self.table
        );
        self.transaction(|transaction| {
            let rows = self.rows(transaction, &select, &condition.values())?;
            for row in &rows {
                let (id, payload): (&str, &str) = (row.get(0), row.get(1));
                let mut payload = serde_json::from_str(payload).unwrap_or_default();
                change.apply(&mut payload);
                let payload = Value::Object(payload).to_string();
                let updated = transaction.execute(&update, &[&id, &payload]);
                updated.map_err(|e| self.failed(&e))?;
            }
            Ok(rows.len() as u64)
        })
    }
}

/// The search; the query, the limit and the offset come behind the condition's own values.
fn search_sql(table: &str, operator: &str, condition: &Where, with_vector: bool) -> String {
    let number = condition.values.len();
    let query = format!("${}::real[]::vector", number + 1);
    // The order by the operator alone is what an index answers; equals are sorted after it.
    format!(
        "SELECT {}, (embedding {operator} {query}) AS distance FROM {table} AS p
         WHERE {} ORDER BY embedding {operator} {query}, seq LIMIT ${} OFFSET ${}",
        PostgresStore::columns(with_vector),
        condition.sql,
        number + 2,
        number + 3,
    )
}

/// Numbers before texts, numbers in their order: by bytes, as the table compares them.
fn id_to_sql(id: &PointId) -> String {
    match id {
        PointId::Number(number) => format!("#{number:020}"),
        PointId::Text(text) => format!("'{text}"),
    }
}

fn id_from(id: &str) -> Option<PointId> {
    match id.split_at_checked(1)? {
        ("#", number) => number.parse().ok().map(PointId::Number),
        ("'", text) => Some(text.into()),
        _ => None,
    }
}

fn vector_to_sql(vector: &[f32]) -> String {
    let numbers: Vec<String> = vector.iter().map(ToString::to_string).collect();
    format!("[{}]", numbers.join(","))
}

fn connect(address: &str, shown: &str) -> Result<Client> {
    let config = address.parse::<Config>();
    let config = config.map_err(|error| failed_with(shown, reason(&error), true))?;
    config
        .connect(NoTls)
        .map_err(|error| match error.as_db_error() {
            Some(_) => failed(shown, &error),
            None => {
                let (store, reason) = (shown.into(), reason(&error));
                ErrorKind::Unreachable { store, reason }.into()
            }
        })
}

fn failed(shown: &str, error: &postgres::Error) -> Error {
    failed_with(shown, reason(error), false)
}

fn reason(error: &postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => said.message().to_owned(),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

fn failed_with(shown: &str, reason: impl Into<String>, is_user_error: bool) -> Error {
    ErrorKind::Remote {
        store: shown.into(),
        reason: reason.into(),
        is_user_error,
    }
    .into()
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("address", &without_password(&self.shown))
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_shows_the_search_as_it_is_sent() {
        let in_one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let sent = search_sql("\"notes\"", "<=>", &Where::everything(), false);
        for guide in [
            include_str!("../../../../../docs/guide/en/cluster.md"),
            include_str!("../../../../../docs/guide/zh/cluster.md"),
        ] {
            assert!(in_one_line(guide).contains(&in_one_line(&sent)), "{sent}");
        }
    }
}
