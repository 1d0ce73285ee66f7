//! What a graph finds, against the exact search.

use super::*;
use crate::random::Random;
use crate::rows::file;

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
    let mut graph = Graph::build(&rows, GraphOptions::default());
    graph.tune(&rows, 0.97);
    rows.set_graph(Some(graph));
    (rows, queries)
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
    let info = rows.graph.as_ref().unwrap().info();
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
    rows.graph.as_ref().unwrap().write(&path, 3).unwrap();
    let info = rows.graph.as_ref().unwrap().info();
    let read = |token| Graph::read(&path, token, &rows);
    assert!(read(4).is_none());
    let graph = read(3).unwrap();
    assert!((graph.info().recall_at_10 - info.recall_at_10).abs() < 1e-5);
    assert_eq!(graph.info().ef_search, info.ef_search);
    rows.set_graph(Some(graph));
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
        rows.set_graph(Some(graph));
        rows.search(&queries, 10, &Allowed::All);
    }
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(Graph::read(&path, 3, &rows).is_none());
}
