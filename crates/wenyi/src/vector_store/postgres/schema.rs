//! The tables: one a collection, and one that knows them all.

use std::sync::Mutex;

use postgres::{Client, Row};
use serde_json::Value;
use wenyi_store::vector_store::{Distance, StoreOptions};
use wenyi_store::{ErrorKind, Result};

use super::{PostgresStore, connect, failed};
use crate::vector_store::url::{Missing, parameters, refused, without_password};

/// The collection of a database whose URL names none.
const DEFAULT_COLLECTION: &str = "wenyi";

/// Bytes of the longest name of a table (NAMEDATALEN - 1); the index needs a few.
const MAX_NAME: usize = 50;

/// Vectors of more dimensions have no graph index in pgvector.
const MAX_INDEXED: usize = 2000;

/// Two processes that make the same at once would make one of them fail.
const LOCK: i64 = 0x574E_5950;

struct Address {
    /// For the client.
    url: String,
    name: String,
    hnsw: bool,
}

fn address(url: &str) -> Result<Address> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mut address = Address {
        url: base.into(),
        name: DEFAULT_COLLECTION.into(),
        hnsw: false,
    };
    let mut others = Vec::new();
    for (key, value) in parameters(query) {
        match (key.as_str(), value.as_str()) {
            ("collection", _) => address.name = value,
            ("index", "hnsw") => address.hnsw = true,
            ("index", _) => return Err(refused(url, "the only `index` is `hnsw`")),
            // Whatever else the client of PostgreSQL knows: `host`, `connect_timeout`, ….
            _ => others.push(format!(
                "{key}={}",
                crate::vector_store::url::encoded(&value)
            )),
        }
    }
    if !others.is_empty() {
        address.url = format!("{base}?{}", others.join("&"));
    }
    let is_bad = |c: char| c.is_control() || c == '"';
    if address.name.is_empty() || address.name.len() > MAX_NAME || address.name.contains(is_bad) {
        return Err(refused(
            url,
            "the name of a collection has 1 to 50 bytes and no quotes",
        ));
    }
    Ok(address)
}

pub(super) fn open(url: &str, missing: Missing<'_>) -> Result<PostgresStore> {
    let Address { url, name, hnsw } = address(url)?;
    let shown = without_password(&url);
    let mut client = connect(&url, &shown)?;
    let at = |error: postgres::Error| failed(&shown, &error);
    // A filtered graph search goes on until it has found enough.
    let iterate = "SET hnsw.iterative_scan = strict_order";
    let found = describe(&mut client, &name).map_err(at)?;
    let (dimensions, distance, metadata) = match (found, missing) {
        (Some(found), _) => found,
        (None, Missing::Refuse) => {
            return Err(ErrorKind::UnknownCollection { store: shown, name }.into());
        }
        (None, Missing::Make(options)) => {
            let dimensions = options.dimensions.ok_or_else(|| ErrorKind::NoWidth {
                store: shown.clone(),
            })?;
            create(&mut client, &name, dimensions, options).map_err(at)?;
            let found = describe(&mut client, &name).map_err(at)?;
            found.ok_or_else(|| ErrorKind::UnknownCollection {
                store: shown.clone(),
                name: name.clone(),
            })?
        }
    };
    let distance: Distance = serde_json::from_value(Value::String(distance)).unwrap_or_default();
    let table = quoted(&name);
    if hnsw {
        if dimensions > MAX_INDEXED {
            return Err(refused(&url, "pgvector indexes at most 2,000 dimensions"));
        }
        let index = format!(
            "CREATE INDEX IF NOT EXISTS {} ON {table} USING hnsw (embedding {})",
            quoted(&format!("{name}_hnsw")),
            operators(distance)
        );
        client.batch_execute(&index).map_err(at)?;
    }
    // Servers before pgvector 0.8 do not know it.
    let _ = client.batch_execute(iterate);
    Ok(PostgresStore {
        client: Mutex::new(client),
        address: url,
        shown,
        table,
        name,
        dimensions,
        distance,
        metadata: serde_json::from_str(&metadata).unwrap_or_default(),
    })
}

fn describe(
    client: &mut Client,
    name: &str,
) -> Result<Option<(usize, String, String)>, postgres::Error> {
    let known = "SELECT to_regclass('wenyi_collections') IS NOT NULL";
    if !client.query_one(known, &[])?.get::<_, bool>(0) {
        return Ok(None);
    }
    let select = "SELECT dimensions, distance, metadata FROM wenyi_collections WHERE name = $1";
    let row = client.query_opt(select, &[&name])?;
    let read = |row: Row| {
        let dimensions: i32 = row.get(0);
        (dimensions.unsigned_abs() as usize, row.get(1), row.get(2))
    };
    Ok(row.map(read))
}

fn create(
    client: &mut Client,
    name: &str,
    dimensions: usize,
    options: &StoreOptions,
) -> Result<(), postgres::Error> {
    let mut transaction = client.transaction()?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])?;
    transaction.batch_execute(&format!(
        "CREATE EXTENSION IF NOT EXISTS vector;
         CREATE TABLE IF NOT EXISTS wenyi_collections (
             name text PRIMARY KEY, dimensions integer NOT NULL, distance text NOT NULL,
             metadata text NOT NULL
         );
         CREATE TABLE IF NOT EXISTS {} (
             id text COLLATE \"C\" PRIMARY KEY,
             seq bigint GENERATED BY DEFAULT AS IDENTITY,
             embedding vector({dimensions}) NOT NULL,
             text text NOT NULL,
             payload jsonb NOT NULL
         );",
        quoted(name)
    ))?;
    let distance = serde_json::to_value(options.distance).unwrap_or_default();
    let insert = "INSERT INTO wenyi_collections VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    let width = i32::try_from(dimensions).unwrap_or(i32::MAX);
    let distance = distance.as_str().unwrap_or_default();
    let metadata = options.metadata.to_string();
    transaction.execute(insert, &[&name, &width, &distance, &metadata])?;
    transaction.commit()
}

fn operators(distance: Distance) -> &'static str {
    match distance {
        Distance::Cosine => "vector_cosine_ops",
        Distance::Dot => "vector_ip_ops",
        Distance::Euclidean => "vector_l2_ops",
        Distance::Manhattan => "vector_l1_ops",
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
