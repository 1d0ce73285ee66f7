//! A collection of a Qdrant server, or of one that speaks its REST.
//!
//! `convert` says how points, ids and filters look there; here are the calls. A text lies in the
//! payload under `page_content`, where LangChain looks for it; an id that is neither a number nor a
//! UUID becomes the UUID that is made of it, and lies in the payload too.

mod convert;

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;
use wenyi_store::vector_store::{
    Distance, Existing, Page, PayloadChange, Point, PointId, ScoredPoint, Scroll, SearchRequest,
    Selection, StoreInfo, StoreOptions, VectorStore, check_points, check_query,
};
use wenyi_store::{Error, ErrorKind, Result};

use self::convert::{from_qdrant, id_to_qdrant, selection_filter, to_qdrant};
use super::url::{Missing, decoded, encoded, refused, without_password};

/// Where the key of a server is looked for.
const KEY_VARIABLE: &str = "QDRANT_API_KEY";

/// How long a call may take: building an index over a large upsert is done after it is answered.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Points of one request: at 1,024 dimensions some 12 MB of JSON, a third of what a server takes.
const BATCH: usize = 1000;

/// A collection at a Qdrant server.
#[derive(Debug)]
pub struct QdrantStore {
    agent: Agent,
    key: Option<String>,
    /// The collection's address.
    address: String,
    name: String,
    dimensions: usize,
    distance: Distance,
    metadata: Value,
}

impl QdrantStore {
    pub(super) fn open(url: &str, missing: Missing<'_>) -> Result<Self> {
        let scheme = if url.starts_with("qdrants:") {
            "https"
        } else {
            "http"
        };
        let rest = url
            .split_once("://")
            .map(|(_, rest)| rest)
            .unwrap_or_default();
        let (host, name) = rest
            .trim_end_matches('/')
            .split_once('/')
            .unwrap_or((rest, ""));
        let (key, host) = match host.rsplit_once('@') {
            Some((key, host)) => (Some(decoded(key.trim_start_matches(':'))), host),
            None => (std::env::var(KEY_VARIABLE).ok(), host),
        };
        if host.is_empty() || name.is_empty() || name.contains(['/', '?']) {
            return Err(refused(url, "expected `qdrant://HOST:6333/COLLECTION`"));
        }
        let agent = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .build()
            .into();
        let name = decoded(name);
        let mut store = Self {
            agent,
            key,
            address: format!("{scheme}://{host}/collections/{}", encoded(&name)),
            name,
            dimensions: 0,
            distance: Distance::Cosine,
            metadata: Value::Null,
        };
        store.describe(missing)?;
        Ok(store)
    }

    /// Reads what the collection is; makes it first if it is to be made.
    fn describe(&mut self, missing: Missing<'_>) -> Result<()> {
        let (mut status, mut answer) = self.send("GET", "", None)?;
        if status == 404 {
            let Missing::Make(options) = missing else {
                let store = without_password(&self.address);
                let name = self.name.clone();
                return Err(ErrorKind::UnknownCollection { store, name }.into());
            };
            self.create(options)?;
            (status, answer) = self.send("GET", "", None)?;
        }
        let result = self.expect_ok(status, answer)?;
        let vectors = &result["config"]["params"]["vectors"];
        let dimensions = vectors["size"]
            .as_u64()
            .and_then(|n| usize::try_from(n).ok());
        self.dimensions = dimensions.ok_or_else(|| {
            self.failed(
                "has named vectors, expected one unnamed vector a point",
                true,
            )
        })?;
        self.distance = serde_json::from_value(vectors["distance"].clone())
            .map_err(|_| self.failed("has an unknown distance", true))?;
        self.metadata = result["config"]["metadata"].clone();
        Ok(())
    }

    fn create(&self, options: &StoreOptions) -> Result<()> {
        let size = options.dimensions.ok_or_else(|| ErrorKind::NoWidth {
            store: self.address.clone(),
        })?;
        let mut body = json!({"vectors": {"size": size, "distance": options.distance}});
        if !options.metadata.is_null() {
            body["metadata"] = options.metadata.clone();
        }
        let (status, answer) = self.send("PUT", "", Some(&body))?;
        // Somebody else may have been quicker.
        if status == 409 {
            return Ok(());
        }
        self.expect_ok(status, answer).map(drop)
    }

    /// Calls `path` below the collection; the result of its answer.
    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let (status, answer) = self.send(method, path, Some(body))?;
        self.expect_ok(status, answer)
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.address))
            .header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("api-key", key);
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request
            .body(body)
            .map_err(|error| self.failed(error.to_string(), true))?;
        let mut response = self.agent.run(request).map_err(|error| {
            let (store, reason) = (self.address.clone(), error.to_string());
            Error::from(ErrorKind::Unreachable { store, reason })
        })?;
        let status = response.status().as_u16();
        let text = response
            .body_mut()
            .with_config()
            .limit(1 << 30)
            .read_to_string()
            .map_err(|error| self.failed(error.to_string(), false))?;
        Ok((
            status,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
        ))
    }

    fn expect_ok(&self, status: u16, mut answer: Value) -> Result<Value> {
        if (200..300).contains(&status) {
            return Ok(answer["result"].take());
        }
        let said = answer["status"]["error"].as_str().map(str::to_owned);
        let said = said.unwrap_or_else(|| answer.to_string().chars().take(200).collect());
        Err(self.failed(
            format!("status {status}: {said}"),
            (400..500).contains(&status),
        ))
    }

    fn failed(&self, reason: impl Into<String>, is_user_error: bool) -> Error {
        ErrorKind::Remote {
            store: self.address.clone(),
            reason: reason.into(),
            is_user_error,
        }
        .into()
    }

    fn point(&self, json: &Value) -> Result<Point> {
        from_qdrant(json)
            .ok_or_else(|| self.failed(format!("answered with the point {json}"), false))
    }

    /// The points of a list in an answer.
    fn points(&self, list: &Value) -> Result<Vec<Point>> {
        let all = list.as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().map(|json| self.point(json)).collect()
    }

    /// All selected points, page by page, without vectors.
    fn each_page(
        &self,
        selection: &Selection,
        mut visit: impl FnMut(&[Point]) -> Result<()>,
    ) -> Result<u64> {
        let mut offset = Value::Null;
        let mut count = 0;
        loop {
            let body = json!({
                "filter": selection_filter(selection), "limit": BATCH, "offset": offset,
                "with_payload": true, "with_vector": false,
            });
            let mut page = self.call("POST", "/points/scroll", &body)?;
            let points = self.points(&page["points"])?;
            visit(&points)?;
            count += points.len() as u64;
            offset = page["next_page_offset"].take();
            if offset.is_null() {
                return Ok(count);
            }
        }
    }

    fn query(&self, query: &[f32], request: &SearchRequest) -> Value {
        let mut body = json!({
            "query": query, "limit": request.top_k, "offset": request.offset,
            "with_payload": true, "with_vector": request.with_vector,
        });
        if let Some(filter) = &request.filter {
            body["filter"] = selection_filter(&Selection::Filter(filter.clone()));
        }
        if let Some(least) = request.score_threshold {
            body["score_threshold"] = (self.sign() * least).into();
        }
        body
    }

    /// Qdrant's distances are smaller for closer points, its similarities greater.
    fn sign(&self) -> f32 {
        match self.distance {
            Distance::Cosine | Distance::Dot => 1.0,
            Distance::Euclidean | Distance::Manhattan => -1.0,
        }
    }

    fn scored(&self, json: &Value) -> Result<ScoredPoint> {
        let score = json["score"].as_f64().unwrap_or_default() as f32;
        Ok(ScoredPoint {
            // Adding zero turns -0 into 0.
            score: self.sign() * score + 0.0,
            point: self.point(json)?,
        })
    }

    fn change_ids(&self, ids: &[PointId], change: &PayloadChange) -> Result<()> {
        let points: Vec<Value> = ids.iter().map(id_to_qdrant).collect();
        match change {
            PayloadChange::Set { key, payload } => {
                let mut body = json!({"payload": payload, "points": points});
                if let Some(key) = key {
                    body["key"] = key.as_str().into();
                }
                self.call("POST", "/points/payload?wait=true", &body)
            }
            PayloadChange::Delete(keys) => {
                let body = json!({"keys": keys, "points": points});
                self.call("POST", "/points/payload/delete?wait=true", &body)
            }
            PayloadChange::Overwrite(_) | PayloadChange::Clear => return Ok(()),
        }
        .map(drop)
    }

    /// What the server knows as payload has the text in it, so it is overwritten point by point.
    fn overwrite(&self, points: &[Point], change: &PayloadChange) -> Result<()> {
        for point in points {
            let mut point = point.clone();
            change.apply(&mut point.payload);
            let mut as_sent = to_qdrant(&point).map_err(|reason| self.failed(reason, true))?;
            let body = json!({"payload": as_sent["payload"].take(), "points": [as_sent["id"]]});
            self.call("PUT", "/points/payload?wait=true", &body)?;
        }
        Ok(())
    }
}

impl VectorStore for QdrantStore {
    fn info(&self) -> Result<StoreInfo> {
        Ok(StoreInfo {
            name: self.name.clone(),
            dimensions: Some(self.dimensions),
            distance: self.distance,
            metadata: self.metadata.clone(),
            num_points: self.count(&Selection::All)?,
        })
    }

    /// The server takes a batch whole, so up to 1,000 points are kept together; it has no way to
    /// refuse ids that are there, so they are looked for first.
    fn put(&self, points: &[Point], existing: Existing) -> Result<()> {
        check_points(self.distance, points, Some(self.dimensions), &self.name)?;
        if existing == Existing::Refuse {
            let mut seen = HashSet::new();
            let twice = points.iter().find(|point| !seen.insert(&point.id));
            let ids: Vec<PointId> = points.iter().map(|point| point.id.clone()).collect();
            let there = self.get_by_ids(&ids)?;
            if let Some(point) = twice.or(there.first()) {
                let id = point.id.to_string();
                return Err(ErrorKind::DuplicateId { id }.into());
            }
        }
        let all = points.iter().map(to_qdrant).collect::<Result<Vec<_>, _>>();
        let all = all.map_err(|reason| self.failed(reason, true))?;
        for batch in all.chunks(BATCH) {
            self.call("PUT", "/points?wait=true", &json!({"points": batch}))?;
        }
        Ok(())
    }

    fn delete(&self, selection: &Selection) -> Result<u64> {
        let count = self.count(selection)?;
        let body = match selection {
            Selection::Ids(ids) => {
                let ids: Vec<Value> = ids.iter().map(id_to_qdrant).collect();
                json!({"points": ids})
            }
            other => json!({"filter": selection_filter(other)}),
        };
        if count > 0 {
            self.call("POST", "/points/delete?wait=true", &body)?;
        }
        Ok(count)
    }

    fn get_by_ids(&self, ids: &[PointId]) -> Result<Vec<Point>> {
        let mut points = Vec::new();
        for ids in ids.chunks(BATCH) {
            let wanted: Vec<Value> = ids.iter().map(id_to_qdrant).collect();
            let body = json!({"ids": wanted, "with_payload": true, "with_vector": true});
            let found = self.call("POST", "/points", &body)?;
            let found = self.points(&found)?;
            let in_order = ids.iter().filter_map(|id| {
                let is = |point: &&Point| point.id == *id;
                found.iter().find(is).cloned()
            });
            points.extend(in_order);
        }
        Ok(points)
    }

    fn scroll(&self, scroll: &Scroll) -> Result<Page> {
        let mut body = json!({
            "limit": scroll.limit, "with_payload": true, "with_vector": scroll.with_vector,
        });
        if let Some(filter) = &scroll.filter {
            body["filter"] = selection_filter(&Selection::Filter(filter.clone()));
        }
        if let Some(from) = &scroll.from {
            body["offset"] = id_to_qdrant(from);
        }
        let page = self.call("POST", "/points/scroll", &body)?;
        Ok(Page {
            points: self.points(&page["points"])?,
            next: PointId::from_json(&page["next_page_offset"]),
        })
    }

    fn count(&self, selection: &Selection) -> Result<u64> {
        if matches!(selection, Selection::Ids(ids) if ids.is_empty()) {
            return Ok(0);
        }
        let body = json!({"filter": selection_filter(selection), "exact": true});
        let answer = self.call("POST", "/points/count", &body)?;
        let count = answer["count"].as_u64();
        count.ok_or_else(|| self.failed("answered without a count", false))
    }

    fn search_batch(
        &self,
        queries: &[&[f32]],
        request: &SearchRequest,
    ) -> Result<Vec<Vec<ScoredPoint>>> {
        for query in queries {
            check_query(self.distance, query, Some(self.dimensions), &self.name)?;
        }
        if queries.is_empty() || request.top_k == 0 {
            return Ok(vec![Vec::new(); queries.len()]);
        }
        let searches: Vec<Value> = queries
            .iter()
            .map(|query| self.query(query, request))
            .collect();
        let answer = self.call(
            "POST",
            "/points/query/batch",
            &json!({"searches": searches}),
        )?;
        let results = answer.as_array().map(Vec::as_slice).unwrap_or_default();
        if results.len() != queries.len() {
            let (got, asked) = (results.len(), queries.len());
            return Err(self.failed(format!("answered {got} of {asked} queries"), false));
        }
        let points = |result: &Value| -> Result<Vec<ScoredPoint>> {
            let points = result["points"].as_array().map(Vec::as_slice);
            let points = points.unwrap_or_default().iter();
            points.map(|json| self.scored(json)).collect()
        };
        results.iter().map(points).collect()
    }

    fn change_payload(&self, selection: &Selection, change: &PayloadChange) -> Result<u64> {
        // The changed payload may no longer meet the filter, so the ids are read first.
        let mut ids = Vec::new();
        let mut points = Vec::new();
        if matches!(selection, Selection::Ids(ids) if ids.is_empty()) {
            return Ok(0);
        }
        let count = self.each_page(selection, |page| {
            ids.extend(page.iter().map(|point| point.id.clone()));
            points.extend_from_slice(page);
            Ok(())
        })?;
        match change {
            PayloadChange::Overwrite(_) | PayloadChange::Clear => {
                self.overwrite(&points, change)?;
            }
            _ => {
                for ids in ids.chunks(BATCH) {
                    self.change_ids(ids, change)?;
                }
            }
        }
        Ok(count)
    }
}
