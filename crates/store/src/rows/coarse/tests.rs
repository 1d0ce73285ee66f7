//! What coarse forms find, against the exact search.

use super::*;
use crate::random::Random;
use crate::rows::{Index, file};

const DIMENSIONS: usize = 64;
const NUM_ROWS: usize = 6000;

/// Vectors around 40 centres; of a model trained so, the leading dimensions say most.
fn vectors(random: &mut Random, num_rows: usize, leading: bool) -> Vec<Vec<f32>> {
    let mut noise = |weight: f32| -> Vec<f32> {
        let number = |index: usize| {
            let uniform = (0..4).map(|_| random.below(2001) as f32 - 1000.0);
            let fades = if leading {
                1.0 / (1.0 + index as f32)
            } else {
                1.0
            };
            uniform.sum::<f32>() * fades * weight
        };
        (0..DIMENSIONS).map(number).collect()
    };
    let centres: Vec<Vec<f32>> = (0..40).map(|_| noise(1.0)).collect();
    (0..num_rows)
        .map(|row| {
            let values = noise(0.7);
            let sum = values.iter().zip(&centres[row % 40]).map(|(a, b)| a + b);
            let sum: Vec<f32> = sum.collect();
            let norm = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
            sum.iter().map(|value| value / norm).collect()
        })
        .collect()
}

fn mapped(folder: &Path, vectors: &[Vec<f32>]) -> Rows {
    let mut rows = Rows::new(DIMENSIONS);
    for (vector, rank) in vectors.iter().zip(0..) {
        rows.push(vector.iter().copied(), rank);
    }
    let ids: Vec<i64> = (0..vectors.len() as i64).collect();
    file::write(&folder.join("rows"), 3, &ids, &rows).unwrap();
    file::read(&folder.join("rows"), 3, DIMENSIONS).unwrap().1
}

fn recall(rows: &Rows, queries: &[Vec<f32>], allowed: &Allowed) -> f64 {
    let queries: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
    let exact = rows.search_exact(&queries, 10, allowed);
    let found = rows.search(&queries, 10, allowed);
    let mut hits = 0;
    for (found, exact) in found.iter().zip(&exact) {
        assert_eq!(found.len(), exact.len());
        // Scores are those of all dimensions.
        assert!(found.iter().all(|hit| hit.0 <= exact[0].0));
        hits += exact.iter().filter(|hit| found.contains(hit)).count();
    }
    hits as f64 / (10 * queries.len()) as f64
}

#[test]
fn recall_has_a_floor_with_filters_removed_rows_and_new_ones() {
    for form in [CoarseForm::Binary, CoarseForm::Leading { dimensions: 8 }] {
        let folder = tempfile::tempdir().unwrap();
        let is_leading = form != CoarseForm::Binary;
        let mut all = vectors(&mut Random::new(1), NUM_ROWS + 50, is_leading);
        let queries = all.split_off(NUM_ROWS);
        let mut rows = mapped(folder.path(), &all);
        let coarse = Coarse::build(&rows, form, 0.99);
        let info = coarse.info();
        assert!(info.recall_at_10 >= 0.99, "{info:?}");
        assert!(info.oversampling > 1, "{info:?}: too easy to say anything");
        rows.set_index(Some(Index::Coarse(coarse)));
        let floor = |rows: &Rows, allowed: &Allowed| {
            let recall = recall(rows, &queries, allowed);
            assert!(recall >= 0.93, "{form:?}: {recall}");
        };
        floor(&rows, &Allowed::All);
        for every in [2, 5, 100] {
            let ranks = (0..NUM_ROWS as u32).filter(|rank| rank % every == 0);
            floor(&rows, &Allowed::of(ranks));
        }
        rows.retain_ranks(|rank| rank % 3 != 1);
        floor(&rows, &Allowed::All);
        for (vector, rank) in queries.iter().zip(NUM_ROWS as u32..) {
            rows.push(vector.iter().copied(), rank);
        }
        let found = rows.search(&[&queries[7]], 1, &Allowed::All);
        assert_eq!(rows.rank(found[0][0].1), NUM_ROWS as u32 + 7);
    }
}

#[test]
fn a_form_is_written_and_mapped_and_of_its_rows_only() {
    for form in [CoarseForm::Binary, CoarseForm::Leading { dimensions: 24 }] {
        let folder = tempfile::tempdir().unwrap();
        let all = vectors(&mut Random::new(2), 800, true);
        let mut rows = mapped(folder.path(), &all);
        let queries: Vec<&[f32]> = all[..20].iter().map(Vec::as_slice).collect();
        let path = folder.path().join("coarse");
        let coarse = Coarse::build(&rows, form, 0.9);
        let expected = coarse.search(&rows, 2, &queries, 5, &Allowed::All);
        coarse.write(&path, 3).unwrap();
        assert!(Coarse::read(&path, 4, &rows).is_none());
        let read = Coarse::read(&path, 3, &rows).unwrap();
        assert_eq!(read.info().form, form);
        assert_eq!(read.info().oversampling, coarse.info().oversampling);
        assert_eq!(read.search(&rows, 1, &queries, 5, &Allowed::All), expected);
        assert!(Coarse::verify(&path, 3));

        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(!Coarse::verify(&path, 3));
        std::fs::write(&path, &bytes[..last]).unwrap();
        assert!(Coarse::read(&path, 3, &rows).is_none());
        // A form of other rows.
        rows = mapped(folder.path(), &all[..160]);
        coarse.write(&path, 3).unwrap();
        assert!(Coarse::read(&path, 3, &rows).is_none());
    }
}
