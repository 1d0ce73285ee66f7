//! What a graph finds, against the exact search.

use super::*;
use crate::random::Random;
use crate::rows::{Index, file};

const DIMENSIONS: usize = 32;
const NUM_ROWS: usize = 6000;

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|value| *value /= norm);
    vector
}

fn noise(random: &mut Random) -> impl Iterator<Item = f32> {
    // The sum of a few uniform numbers is close to a gaussian one.
    let number = |_| {
        (0..4)
            .map(|_| random.below(2001) as f32 - 1000.0)
            .sum::<f32>()
    };
    (0..DIMENSIONS).map(number)
}

/// Vectors around 60 centres.
fn clustered(random: &mut Random, num_rows: usize) -> Vec<Vec<f32>> {
    let centres: Vec<Vec<f32>> = (0..60).map(|_| noise(random).collect()).collect();
    let around = |_| {
        let centre = &centres[random.below(centres.len())];
        let values: Vec<f32> = noise(random)
            .zip(centre)
            .map(|(a, b)| 0.7 * a + b)
            .collect();
        unit(values)
    };
    (0..num_rows).map(around).collect()
}

/// Mapped rows with a graph over them, and queries.
fn made(folder: &Path, seed: u64) -> (Rows, Vec<Vec<f32>>) {
    let mut vectors = clustered(&mut Random::new(seed), NUM_ROWS + 50);
    let queries = vectors.split_off(NUM_ROWS);
    let mut rows = Rows::new(DIMENSIONS);
    for (vector, rank) in vectors.iter().zip(0..) {
        rows.push(vector.iter().copied(), rank);
    }
    let ids: Vec<i64> = (0..NUM_ROWS as i64).collect();
    file::write(&folder.join("rows"), 3, &ids, &rows).unwrap();
    let (_, mut rows) = file::read(&folder.join("rows"), 3, DIMENSIONS).unwrap();
    let mut graph = graph(&rows, None);
    graph.tune(&rows, 0.97);
    rows.set_index(Some(Index::Graph(graph)));
    (rows, queries)
}

fn graph(rows: &Rows, earlier: Option<&Earlier<'_>>) -> Graph {
    let work = Work {
        threads: 2,
        stop: &AtomicBool::new(false),
    };
    Graph::build(rows, GraphOptions::default(), earlier, work).unwrap()
}

fn graph_of(rows: &Rows) -> &Graph {
    match &rows.index {
        Some(Index::Graph(graph)) => graph,
        _ => panic!("no graph"),
    }
}

fn recall(rows: &Rows, queries: &[Vec<f32>], allowed: &Allowed) -> f64 {
    let queries: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
    let exact = rows.search_exact(&queries, 10, allowed);
    let found = rows.search(&queries, 10, allowed);
    let mut hits = 0;
    for (found, exact) in found.iter().zip(&exact) {
        assert_eq!(found.len(), exact.len());
        assert!(found.is_sorted_by(|a, b| a.0 >= b.0));
        hits += exact.iter().filter(|hit| found.contains(hit)).count();
    }
    hits as f64 / (10 * queries.len()) as f64
}

#[test]
fn recall_has_a_floor_with_filters_removed_rows_and_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (mut rows, queries) = made(folder.path(), 1);
    let info = graph_of(&rows).info();
    assert!(info.recall_at_10 >= 0.97, "{info:?}");
    assert!(recall(&rows, &queries, &Allowed::All) >= 0.93);
    for every in [2, 5, 100] {
        let allowed = Allowed::of((0..NUM_ROWS as u32).filter(|rank| rank % every == 0));
        let recall = recall(&rows, &queries, &allowed);
        assert!(recall >= 0.93, "one of {every}: {recall}");
    }
    rows.retain_ranks(|rank| rank % 3 != 1);
    assert!(recall(&rows, &queries, &Allowed::All) >= 0.93);
    for (vector, rank) in clustered(&mut Random::new(9), 300)
        .into_iter()
        .zip(NUM_ROWS as u32..)
    {
        rows.push(vector, rank);
    }
    let (newest, rank) = (rows.row(NUM_ROWS + 7).to_vec(), NUM_ROWS as u32 + 7);
    let found = rows.search(&[&newest], 1, &Allowed::All);
    assert_eq!(rows.rank(found[0][0].1), rank);
    assert!(recall(&rows, &queries, &Allowed::All) >= 0.93);
}

#[test]
fn a_graph_is_written_and_mapped_and_of_its_rows_only() {
    let folder = tempfile::tempdir().unwrap();
    let (mut rows, queries) = made(folder.path(), 2);
    let queries: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
    let expected = rows.search(&queries, 10, &Allowed::All);
    let path = folder.path().join("graph");
    graph_of(&rows).write(&path, 3).unwrap();
    let info = graph_of(&rows).info();
    let read = |token| Graph::read(&path, token, &rows);
    assert!(read(4).is_none());
    let graph = read(3).unwrap();
    assert!((graph.info().recall_at_10 - info.recall_at_10).abs() < 1e-5);
    assert_eq!(graph.info().ef_search, info.ef_search);
    rows.set_index(Some(Index::Graph(graph)));
    assert_eq!(rows.search(&queries, 10, &Allowed::All), expected);
    assert!(Graph::verify(&path, 3));

    // Links that lead anywhere: worse answers, but answers.
    let whole = std::fs::read(&path).unwrap();
    let mut random = Random::new(5);
    let mut changed = whole.clone();
    for byte in &mut changed[4096..] {
        if random.below(20) == 0 {
            *byte = random.below(256) as u8;
        }
    }
    std::fs::write(&path, &changed).unwrap();
    assert!(!Graph::verify(&path, 3));
    if let Some(graph) = Graph::read(&path, 3, &rows) {
        rows.set_index(Some(Index::Graph(graph)));
        rows.search(&queries, 10, &Allowed::All);
    }
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(Graph::read(&path, 3, &rows).is_none());
}

#[test]
fn a_graph_is_brought_up_to_date_and_finds_as_much() {
    let folder = tempfile::tempdir().unwrap();
    let vectors = clustered(&mut Random::new(4), NUM_ROWS);
    let file = folder.path().join("rows");
    let mapped = |ids: &[i64]| {
        let mut rows = Rows::new(DIMENSIONS);
        for (&id, rank) in ids.iter().zip(0..) {
            rows.push(vectors[id as usize].iter().copied(), rank);
        }
        let num_rows = file::write(&file, 3, ids, &rows).unwrap();
        let (ids, rows) = file::read(&file, 3, DIMENSIONS).unwrap();
        assert_eq!(ids.len(), num_rows);
        (ids, rows)
    };
    // A fifth leaves, a quarter of the rest comes.
    let before: Vec<i64> = (0..4800).collect();
    let now: Vec<i64> = (0..6000).filter(|id| id % 5 != 2).collect();
    let (old_ids, old_rows) = mapped(&before);
    let old = graph(&old_rows, None);
    let (ids, mut rows) = mapped(&now);
    let earlier = Earlier::new(&old, &old_ids, &ids);
    assert!(earlier.is_worth(GraphOptions::default(), ids.len()));
    let mut updated = graph(&rows, Some(&earlier));
    updated.tune(&rows, 0.97);
    let mut anew = graph(&rows, None);
    anew.tune(&rows, 0.97);
    let (updated_info, anew_info) = (updated.info(), anew.info());
    assert!(updated_info.recall_at_10 >= 0.97, "{updated_info:?}");
    assert!(
        updated_info.ef_search <= 2 * anew_info.ef_search,
        "{updated_info:?}"
    );
    // Every row is found by itself: none has lost the way to it.
    rows.set_index(Some(Index::Graph(updated)));
    let lost = (0..rows.len()).filter(|&row| {
        let found = rows.search(&[rows.row(row)], 10, &Allowed::All);
        !found[0].iter().any(|hit| hit.1 == row)
    });
    assert!(lost.count() <= rows.len() / 500);

    // Too much has changed, or it is to be made otherwise.
    let few: Vec<i64> = (0..2000).collect();
    assert!(!Earlier::new(&old, &old_ids, &few).is_worth(GraphOptions::default(), 2000));
    let other = GraphOptions {
        m: 8,
        ..GraphOptions::default()
    };
    assert!(!earlier.is_worth(other, ids.len()));
    // Stopped, there is none.
    let work = Work {
        threads: 2,
        stop: &AtomicBool::new(true),
    };
    assert!(Graph::build(&rows, GraphOptions::default(), None, work).is_none());
}
