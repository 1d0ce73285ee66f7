//! Times search over rows and queries in raw f32 files, for `bench/store/run`.
//!
//! `bench_search DIMENSIONS ROWS QUERIES COLLECTION`: opens the collection, which is made of the rows if
//! it is not there, then answers each line of standard input with one JSON line. `exact`, `graph`,
//! `binary` and `leading N` say how it is searched from then on; an index that was made once is kept
//! for the next time. `single` and `batch` search.

#![expect(
    clippy::print_stdout,
    reason = "its answers go to the script that runs it"
)]

use std::error::Error;
use std::fs;
use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use wenyi_store::{
    Chunk, CoarseForm, Collection, CollectionOptions, Document, Filter, GraphOptions, IndexInfo,
    NewDocument, SearchMethod, Space,
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

fn method(line: &str) -> Option<SearchMethod> {
    Some(match line.split_once(' ').unwrap_or((line, "")) {
        ("exact", _) => SearchMethod::Exact,
        ("graph", _) => SearchMethod::Graph(GraphOptions::default()),
        ("binary", _) => SearchMethod::Coarse(CoarseForm::Binary),
        ("leading", dimensions) => SearchMethod::Coarse(CoarseForm::Leading {
            dimensions: dimensions.parse().ok()?,
        }),
        _ => return None,
    })
}

/// Searches by `method` from now on; an index that was made before is put back into its place.
fn change(path: &Path, line: &str, method: SearchMethod) -> Result<Value, Box<dyn Error>> {
    let index = format!("{}-index", path.display());
    let kept = format!("{index}-{}", line.replace(' ', "-"));
    let _ = fs::remove_file(&index);
    let started = Instant::now();
    let mut built = None;
    if Path::new(&kept).exists() {
        fs::hard_link(&kept, &index)?;
    } else if method != SearchMethod::Exact {
        Collection::open(path)?.set_search_method(method)?;
        built = Some(started.elapsed().as_secs_f64());
        fs::hard_link(&index, &kept)?;
    }
    let info = Collection::open_read_only(path)?.index_info()?;
    let work = info.map(|info| match info {
        IndexInfo::Graph(info) => info.ef_search,
        IndexInfo::Coarse(info) => info.oversampling,
    });
    let bytes = fs::metadata(&index).map_or(0, |file| file.len());
    let recall = info.map(|info| info.recall_at_10());
    Ok(json!({"build": built, "recall": recall, "work": work, "bytes": bytes}))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, dimensions, rows, queries, path] = &arguments[..] else {
        return Err("expected: DIMENSIONS ROWS QUERIES COLLECTION".into());
    };
    let dimensions: usize = dimensions.parse()?;
    let queries = read(queries)?;
    let queries: Vec<&[f32]> = queries.chunks_exact(dimensions).collect();
    let path = Path::new(path);
    if !path.exists() {
        make(path, &read(rows)?, dimensions)?;
    }
    let open = || -> Result<Collection, Box<dyn Error>> {
        let collection = Collection::open_read_only(path)?;
        collection.nearest_batch(&queries[..1], TOP_K, &Filter::default())?;
        Ok(collection)
    };
    let mut collection = open()?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if let Some(method) = method(&line) {
            drop(collection);
            let mut report = change(path, &line, method)?;
            let started = Instant::now();
            collection = open()?;
            report["open"] = started.elapsed().as_secs_f64().into();
            println!("{report}");
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
