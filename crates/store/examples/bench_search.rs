//! Times search over rows and queries in raw f32 files, for `bench/store/run`.
//!
//! `bench_search DIMENSIONS ROWS QUERIES`: opens a collection made of the rows, then answers each line
//! of standard input with one JSON line: `single` and `batch` search, `graph` makes a graph first.

#![expect(
    clippy::print_stdout,
    reason = "its answers go to the script that runs it"
)]

use std::error::Error;
use std::io::BufRead;
use std::time::Instant;

use serde_json::{Value, json};
use wenyi_store::{
    Chunk, Collection, CollectionOptions, Document, Filter, GraphOptions, NewDocument, Space,
};

const TOP_K: usize = 10;
const BATCH: usize = 64;

fn read(path: &str) -> Result<Vec<f32>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    Ok(bytes
        .as_chunks()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect())
}

fn make(path: &std::path::Path, rows: &[f32], dimensions: usize) -> Result<(), Box<dyn Error>> {
    let collection = Collection::create(
        path,
        &CollectionOptions {
            name: "bench".into(),
            space: Space {
                fingerprint: Value::Null,
                dimensions,
            },
            chunking: Value::Null,
        },
    )?;
    for (index, rows) in rows.chunks(1000 * dimensions).enumerate() {
        collection.upsert_document(&NewDocument {
            document: Document {
                path: format!("{index:06}"),
                ..Document::default()
            },
            chunks: vec![Chunk::default(); rows.len() / dimensions],
            vectors: rows.to_vec(),
        })?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, dimensions, rows, queries] = &arguments[..] else {
        return Err("expected: DIMENSIONS ROWS QUERIES".into());
    };
    let dimensions: usize = dimensions.parse()?;
    let queries = read(queries)?;
    let queries: Vec<&[f32]> = queries.chunks_exact(dimensions).collect();
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("bench.db");
    make(&path, &read(rows)?, dimensions)?;

    let started = Instant::now();
    let mut collection = Collection::open_read_only(&path)?;
    collection.nearest_batch(&queries[..1], TOP_K, &Filter::default())?;
    let open = started.elapsed().as_secs_f64();
    println!("{}", json!({"open": open}));

    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if line == "graph" {
            let started = Instant::now();
            let info = Collection::open(&path)?.build_graph(GraphOptions::default())?;
            let seconds = started.elapsed().as_secs_f64();
            collection = Collection::open_read_only(&path)?;
            let (recall, ef) = (info.recall_at_10, info.ef_search);
            println!("{}", json!({"build": seconds, "recall": recall, "ef": ef}));
            continue;
        }
        let size = if line == "batch" { BATCH } else { 1 };
        let (mut times, mut found) = (Vec::new(), Vec::new());
        for queries in queries.chunks(size) {
            let started = Instant::now();
            let nearest = collection.nearest_batch(queries, TOP_K, &Filter::default())?;
            times.push(started.elapsed().as_secs_f64());
            let ids = |hits: Vec<(i64, f32)>| hits.into_iter().map(|(id, _)| id).collect();
            found.extend(nearest.into_iter().map(ids).collect::<Vec<Vec<i64>>>());
        }
        println!("{}", json!({"seconds": times, "found": found}));
    }
    Ok(())
}
