//! The scans against their definition.

use super::*;
use crate::random::Random;

const DIMENSIONS: usize = 5;

/// Rows with few different values, so that many scores tie; ranks in a shuffled order.
fn rows_with_ties(random: &mut Random, num_rows: usize) -> Rows {
    let mut rows = Rows::new(DIMENSIONS);
    let mut ranks: Vec<u32> = (0..num_rows as u32).collect();
    for left in (1..num_rows).rev() {
        ranks.swap(left, random.below(left + 1));
    }
    for rank in ranks {
        rows.push((0..DIMENSIONS).map(|_| random.below(3) as f32 - 1.0), rank);
    }
    rows
}

/// The definition: every score, sorted by score and rank.
fn sorted(rows: &Rows, query: &[f32], top_k: usize, allowed: &Allowed) -> Nearest {
    let mut all: Vec<(f32, u32, usize)> = (0..rows.len())
        .filter(|&row| allowed.contains(rows.ranks[row]))
        .map(|row| {
            let score = rows
                .row(row)
                .iter()
                .zip(query)
                .map(|(a, b)| a * b)
                .sum::<f32>();
            (score + 0.0, rows.ranks[row], row)
        })
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    all.into_iter()
        .take(top_k)
        .map(|(score, _, row)| (score, row))
        .collect()
}

#[test]
fn scans_agree_with_sorting_for_any_isa_threads_batch_and_filter() {
    let mut random = Random::new(11);
    for num_rows in [0, 1, 63, 64, 65, 500] {
        let rows = rows_with_ties(&mut random, num_rows);
        let half = num_rows as u32 / 2;
        let ranges = vec![3..7, 20..20, 21..half.max(21)];
        let queries: Vec<Vec<f32>> = (0..7)
            .map(|_| (0..DIMENSIONS).map(|_| random.below(3) as f32).collect())
            .collect();
        let queries: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
        for allowed in [
            Allowed::All,
            Allowed::Ranks(ranges),
            Allowed::Ranks(Vec::new()),
        ] {
            for (isa, threads, top_k) in cases() {
                let found = rows.search_sieved(isa, threads, &queries, top_k, &allowed);
                for (query, found) in queries.iter().zip(found) {
                    assert_eq!(found, sorted(&rows, query, top_k, &allowed));
                }
            }
            for (isa, threads, top_k) in cases() {
                let found = rows.search_on(isa, threads, &queries, top_k, &allowed);
                for (query, found) in queries.iter().zip(found) {
                    // Small integers: every order of summation gives the same score.
                    assert_eq!(found, sorted(&rows, query, top_k, &allowed));
                    let alone = rows.search_on(isa, threads, &[query], top_k, &allowed);
                    assert_eq!(alone, [found]);
                }
            }
        }
    }
}

fn cases() -> impl Iterator<Item = (Isa, usize, usize)> {
    let counts = [(1, 0), (1, 1), (2, 10), (3, 1000)];
    Isa::available().flat_map(move |isa| counts.map(|(threads, top_k)| (isa, threads, top_k)))
}

#[test]
fn only_vectors_off_unit_length_are_scaled() {
    let unit = |vector: &[f32]| to_unit(vector, 2, "notes", &|| "it".into());
    assert_eq!(unit(&[0.6, 0.8]).unwrap(), None);
    assert_eq!(unit(&[3.0, 4.0]).unwrap(), Some(vec![0.6, 0.8]));
    assert_eq!(unit(&[f32::MAX, 0.0]).unwrap(), Some(vec![1.0, 0.0]));
    assert_eq!(unit(&[1e-45, 0.0]).unwrap(), Some(vec![1.0, 0.0]));
}

/// Of unit length, with an exact code and scores that are exact in any order of summation.
fn sixteenths(random: &mut Random, dimensions: usize) -> Vec<f32> {
    let mut values = vec![0.0; dimensions];
    let mut left = 16;
    while left > 0 {
        let place = random.below(dimensions);
        if values[place] == 0.0 {
            values[place] = if random.below(2) == 0 { 0.25 } else { -0.25 };
            left -= 1;
        }
    }
    values
}

#[test]
fn batches_agree_with_sorting_on_every_isa() {
    const WIDE: usize = 64;
    let mut random = Random::new(17);
    // Blocks in pairs, a single one, and one that is not full.
    for num_rows in [16, 32, 53, 700] {
        let mut rows = Rows::new(WIDE);
        for rank in 0..num_rows as u32 {
            rows.push(sixteenths(&mut random, WIDE), rank);
        }
        for num_queries in [3, 4, 31, 33, 70] {
            let queries: Vec<Vec<f32>> = (0..num_queries)
                .map(|_| sixteenths(&mut random, WIDE))
                .collect();
            let queries: Vec<&[f32]> = queries.iter().map(Vec::as_slice).collect();
            for allowed in [Allowed::All, Allowed::Ranks(vec![3..9, 20..500])] {
                for isa in Isa::available() {
                    let found = rows.search_sieved(isa, 2, &queries, 10, &allowed);
                    for (query, found) in queries.iter().zip(found) {
                        assert_eq!(found, sorted(&rows, query, 10, &allowed), "{isa:?}");
                    }
                }
            }
        }
    }
}
