//! A server that speaks as much of Qdrant's REST as a store asks for, over stores in memory.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use wenyi::store::Conditions;
use wenyi::vector_store::{
    Distance, MemoryStore, Payload, PayloadChange, Point, PointId, Scroll, SearchRequest,
    Selection, StoreOptions, VectorStore,
};

type Stores = Arc<Mutex<HashMap<String, Arc<MemoryStore>>>>;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Serves until the tests end.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stores = Stores::default();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let stores = Arc::clone(&stores);
                thread::spawn(move || serve(connection.unwrap(), &stores));
            }
        });
        Self { address }
    }
}

fn serve(mut connection: TcpStream, stores: &Stores) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    loop {
        let mut head = String::new();
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
        let (mut length, mut key) = (0, String::new());
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            match name.to_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "api-key" => key = value.trim().into(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        assert_eq!(key, "key");
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let (status, answer) = match answer(stores, method, path, &body) {
            Ok(result) => (200, json!({"result": result, "status": "ok", "time": 0.0})),
            Err((status, error)) => (status, json!({"status": {"error": error}, "time": 0.0})),
        };
        let answer = answer.to_string();
        // In one piece, or the other side waits for the second.
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        );
        let sent = connection.write_all(answer.as_bytes());
        if sent.is_err() {
            return;
        }
    }
}

fn answer(stores: &Stores, method: &str, path: &str, body: &Value) -> Result<Value, (u16, String)> {
    let path = path.strip_prefix("/collections/").unwrap();
    let path = path.strip_suffix("?wait=true").unwrap_or(path);
    let (name, path) = path.split_once('/').unwrap_or((path, ""));
    assert!(name.starts_with("c%20"));
    if (method, path) == ("PUT", "") {
        let options = StoreOptions {
            dimensions: body["vectors"]["size"].as_u64().map(|size| size as usize),
            distance: serde_json::from_value(body["vectors"]["distance"].clone()).unwrap(),
            metadata: body["metadata"].clone(),
        };
        let store = MemoryStore::with_options(options).unwrap();
        stores.lock().unwrap().insert(name.into(), Arc::new(store));
        return Ok(json!(true));
    }
    let store = stores.lock().unwrap().get(name).cloned();
    let store = store.ok_or((
        404,
        format!("Not found: Collection `{name}` doesn't exist!"),
    ))?;
    on_collection(&*store, method, path, body).map_err(|error| (400, error.to_string()))
}

fn on_collection(
    store: &dyn VectorStore,
    method: &str,
    path: &str,
    body: &Value,
) -> wenyi::store::Result<Value> {
    let info = store.info()?;
    let sign = match info.distance {
        Distance::Cosine | Distance::Dot => 1.0,
        Distance::Euclidean | Distance::Manhattan => -1.0,
    };
    let updated = json!({"operation_id": 1, "status": "completed"});
    Ok(match (method, path) {
        ("GET", "") => json!({
            "points_count": info.num_points,
            "config": {"params": {"vectors": {"size": info.dimensions, "distance": info.distance}},
                       "metadata": info.metadata},
        }),
        ("PUT", "points") => {
            store.upsert(&list(&body["points"]).map(point).collect::<Vec<_>>())?;
            updated
        }
        ("POST", "points") => {
            let mut points = store.get_by_ids(&ids(&body["ids"]))?;
            // The real server answers each point once, in an order of its own.
            points.sort_by(|a, b| b.id.cmp(&a.id));
            points.dedup_by(|a, b| a.id == b.id);
            points.iter().map(record).collect()
        }
        ("POST", "points/delete") => {
            store.delete(&selection(body))?;
            updated
        }
        ("POST", "points/count") => {
            assert_eq!(body["exact"], true);
            json!({"count": store.count(&selection(body))?})
        }
        ("POST", "points/scroll") => {
            let page = store.scroll(&Scroll {
                filter: conditions(&body["filter"]),
                from: PointId::from_json(&body["offset"]),
                limit: body["limit"].as_u64().unwrap() as usize,
                with_vector: body["with_vector"] == true,
            })?;
            let points: Value = page.points.iter().map(record).collect();
            json!({"points": points, "next_page_offset": page.next})
        }
        ("POST", "points/query/batch") => {
            let search = |search: &Value| -> wenyi::store::Result<Value> {
                let query: Vec<f32> = list(&search["query"])
                    .map(|v| v.as_f64().unwrap() as f32)
                    .collect();
                let found = store.search(
                    &query,
                    &SearchRequest {
                        top_k: search["limit"].as_u64().unwrap() as usize,
                        offset: search["offset"].as_u64().unwrap() as usize,
                        filter: conditions(&search["filter"]),
                        score_threshold: search["score_threshold"]
                            .as_f64()
                            .map(|v| sign * v as f32),
                        with_vector: search["with_vector"] == true,
                    },
                )?;
                let scored = found.iter().map(|found| {
                    let mut json = record(&found.point);
                    json["score"] = (sign * found.score).into();
                    json
                });
                Ok(json!({"points": scored.collect::<Vec<_>>()}))
            };
            list(&body["searches"])
                .map(search)
                .collect::<wenyi::store::Result<_>>()?
        }
        (method, path) if path.starts_with("points/payload") => {
            let payload = body["payload"].as_object().cloned().unwrap_or_default();
            let change = match (method, path) {
                ("POST", "points/payload") => PayloadChange::Set {
                    key: body["key"].as_str().map(Into::into),
                    payload,
                },
                ("PUT", "points/payload") => PayloadChange::Overwrite(payload),
                ("POST", "points/payload/delete") => {
                    let keys = list(&body["keys"]).map(|key| key.as_str().unwrap().into());
                    PayloadChange::Delete(keys.collect())
                }
                other => panic!("{other:?}"),
            };
            store.change_payload(&selection(body), &change)?;
            updated
        }
        other => panic!("{other:?}"),
    })
}

fn list(json: &Value) -> impl Iterator<Item = &Value> {
    json.as_array().unwrap().iter()
}

/// Only what the real server takes for an id.
fn ids(json: &Value) -> Vec<PointId> {
    let is_id = |id: &&Value| id.is_u64() || id.as_str().is_some_and(|id| id.len() == 36);
    let ids = list(json).inspect(|id| assert!(is_id(id), "{id}"));
    ids.map(|id| PointId::from_json(id).unwrap()).collect()
}

fn selection(body: &Value) -> Selection {
    match body.get("points") {
        Some(points) => Selection::Ids(ids(points)),
        None => Selection::Filter(conditions(&body["filter"]).unwrap()),
    }
}

fn conditions(json: &Value) -> Option<Conditions> {
    (!json.is_null()).then(|| Conditions::from_json(json).unwrap())
}

fn point(json: &Value) -> Point {
    Point {
        id: ids(&json!([json["id"]])).remove(0),
        vector: list(&json["vector"])
            .map(|v| v.as_f64().unwrap() as f32)
            .collect(),
        text: String::new(),
        payload: json["payload"]
            .as_object()
            .cloned()
            .unwrap_or_else(Payload::new),
    }
}

fn record(point: &Point) -> Value {
    let mut json = json!({"id": point.id, "payload": point.payload});
    if !point.vector.is_empty() {
        json["vector"] = point.vector.clone().into();
    }
    json
}
