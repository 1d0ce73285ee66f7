//! The kernels against their definition, and the bounds against the scores.

use super::*;
use crate::random::Random;

fn unit(random: &mut Random, dimensions: usize) -> Vec<f32> {
    let values: Vec<f32> = (0..dimensions)
        .map(|_| random.below(2001) as f32 / 1000.0 - 1.0)
        .collect();
    let norm = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    values.iter().map(|value| value / norm.max(1e-9)).collect()
}

#[test]
fn bounds_hold_the_score_and_are_narrow_on_every_isa() {
    let mut random = Random::new(3);
    for dimensions in [1, 2, 3, 4, 5, 7, 63, 64, 384, 385] {
        let mut codes = Codes::new(dimensions);
        let rows: Vec<_> = (0..21).map(|_| unit(&mut random, dimensions)).collect();
        rows.iter().for_each(|row| codes.push(row));
        let queries: [_; 3] = std::array::from_fn(|_| unit(&mut random, dimensions));
        for isa in Isa::available() {
            let packed = queries.each_ref().map(|query| QueryCodes::new(isa, query));
            for block in 0..codes.blocks() {
                let mut all = [[Bounds::default(); 3]];
                let reached = codes.bounds(isa, block, packed.each_ref(), [-2.0; 3], &mut all);
                assert_eq!(reached, [[u16::MAX; 3]]);
                for (query, bounds) in queries.iter().zip(all[0]) {
                    for (lane, row) in codes.rows(block).enumerate() {
                        let score: f32 = rows[row].iter().zip(query).map(|(a, b)| a * b).sum();
                        let (lower, upper) = (bounds.lower[lane], bounds.upper[lane]);
                        assert!(lower <= score && score <= upper, "{isa:?} {dimensions}");
                        assert!(
                            upper - lower < 0.06,
                            "{isa:?} {dimensions}: {lower} to {upper}"
                        );
                    }
                }
            }
        }
    }
}

/// The bounds of two blocks as they are and by the definition.
fn assert_agree<const N: usize>(
    isa: Isa,
    codes: &Codes,
    block: usize,
    queries: [&QueryCodes; N],
    thresholds: [f32; N],
) {
    let (mut fast, mut plain) = ([[Bounds::default(); N]; 2], [[Bounds::default(); N]; 2]);
    let reached = codes.bounds(isa, block, queries, thresholds, &mut fast);
    let bytes = codes.steps * BLOCK * STEP;
    let blocks = [block, block + 1].map(|block| RowCodes {
        codes: codes.codes.get(block * bytes..(block + 1) * bytes),
        scales: codes.lanes(&codes.scales, block),
        errors: codes.lanes(&codes.errors, block),
    });
    let expected = bounds_plain(&blocks, queries, thresholds, &mut plain);
    assert_eq!(reached, expected, "{isa:?}");
    for (index, number) in (0..2).flat_map(|index| (0..N).map(move |number| (index, number))) {
        let (fast, plain) = (&fast[index][number], &plain[index][number]);
        let lanes = (0..BLOCK).filter(|lane| reached[index][number] >> lane & 1 == 1);
        for lane in lanes {
            assert_eq!(fast.lower[lane], plain.lower[lane], "{isa:?}");
            assert_eq!(fast.upper[lane], plain.upper[lane], "{isa:?}");
        }
    }
}

#[test]
fn bounds_agree_with_the_definition_on_every_isa() {
    let mut random = Random::new(4);
    for dimensions in [1, 4, 12, 16, 17, 63, 64, 100, 384, 1030] {
        let mut codes = Codes::new(dimensions);
        (0..64).for_each(|_| codes.push(&unit(&mut random, dimensions)));
        let queries: [_; 8] = std::array::from_fn(|_| unit(&mut random, dimensions));
        for isa in Isa::available() {
            let queries = queries.each_ref().map(|query| QueryCodes::new(isa, query));
            let [one, two, three, ..] = &queries;
            for block in [0, 2] {
                assert_agree(isa, &codes, block, [one], [0.02]);
                assert_agree(isa, &codes, block, [one, two, three], [-0.9, 0.0, 0.05]);
                assert_agree(isa, &codes, block, queries.each_ref(), [0.0; 8]);
            }
        }
    }
}

/// Rows and queries that make the greatest sums there are: all of one sign, or each the other's.
#[test]
fn sums_of_the_greatest_codes_hold_on_every_isa() {
    const DIMENSIONS: usize = 72;
    let shapes: [fn(usize) -> f32; 7] = [
        |_| 1.0,
        |_| -1.0,
        |index| if index % 2 == 0 { 1.0 } else { -1.0 },
        |index| if index % 4 < 2 { 1.0 } else { -1.0 },
        |index| if index % 4 < 2 { 1.0 } else { 0.0 },
        |index| if index == DIMENSIONS - 1 { -1.0 } else { 0.0 },
        |index| if index / 16 == 1 { f32::MAX } else { 1.0 },
    ];
    let mut codes = Codes::new(DIMENSIONS);
    for shape in shapes.iter().cycle().take(2 * BLOCK) {
        let row: Vec<f32> = (0..DIMENSIONS).map(|index| shape(index).min(1.0)).collect();
        codes.push(&row);
    }
    for (isa, shape) in Isa::available().flat_map(|isa| shapes.map(|shape| (isa, shape))) {
        let query: Vec<f32> = (0..DIMENSIONS).map(shape).collect();
        let query = QueryCodes::new(isa, &query);
        assert!(query.scale.is_finite(), "{isa:?}");
        let bytes: Vec<i8> = query
            .codes
            .iter()
            .flat_map(|four| four.to_le_bytes())
            .map(|b| b as i8)
            .collect();
        assert!(bytes.iter().any(|&code| code != 0), "{isa:?}");
        assert_agree(isa, &codes, 0, [&query], [f32::NEG_INFINITY]);
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn tiles_agree_with_the_definition() {
    use super::tiles::{GROUP, GroupTerms, TiledQueries, Tiles};
    let Some(tiles) = Tiles::configure() else {
        println!("no tiles on this machine");
        return;
    };
    let isa = Isa::available().next_back().unwrap();
    let mut random = Random::new(5);
    for dimensions in [64, 128, 384] {
        let mut codes = Codes::new(dimensions);
        (0..48).for_each(|_| codes.push(&unit(&mut random, dimensions)));
        let queries: Vec<_> = (0..GROUP + 5)
            .map(|_| QueryCodes::new(isa, &unit(&mut random, dimensions)))
            .collect();
        let tiled = TiledQueries::new(&queries).unwrap();
        let thresholds = std::array::from_fn(|number| number as f32 / 200.0 - 0.05);
        for (group, queries) in queries.chunks(GROUP).enumerate() {
            let terms = GroupTerms::new(queries);
            let mut sums = [[[0; BLOCK]; GROUP]; 2];
            codes.tile_sums(&tiles, &tiled, group, [2, 0], &mut sums);
            for (sums, block) in sums.iter().zip([2, 0]) {
                let reached = codes.reached_by_sums(block, sums, &terms, &thresholds);
                for (number, query) in queries.iter().enumerate() {
                    let mut plain = [[Bounds::default()]];
                    let limit = thresholds[number];
                    let expected = codes.bounds(isa, block, [query], [limit], &mut plain);
                    assert_eq!(reached[number], expected[0][0], "{dimensions} {number}");
                    for lane in (0..BLOCK).filter(|lane| reached[number] >> lane & 1 == 1) {
                        let row = block * BLOCK + lane;
                        let (lower, upper) = codes.row_bounds(row, sums[number][lane], query);
                        let plain = plain[0][0];
                        assert_eq!((lower, upper), (plain.lower[lane], plain.upper[lane]));
                    }
                }
            }
        }
    }
    let narrow = [QueryCodes::new(isa, &unit(&mut random, 60))];
    assert!(TiledQueries::new(&narrow).is_none());
}
