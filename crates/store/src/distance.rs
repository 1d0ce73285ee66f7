//! Dot products of one packed row with one or four queries.
//!
//! The scan calls this for every row, so the queries of a batch share each row that is read. One
//! body, [`dot_many`], is compiled once for each instruction set; the sum of a pair of vectors is
//! taken in the same order however many queries share the row, so that a query's scores do not
//! depend on its company.

#![expect(
    unsafe_code,
    reason = "calls code compiled for instruction sets found at run time"
)]

use crate::isa::{Isa, Level};

/// Lanes of the accumulator: one AVX-512 register, two of AVX2, four of SSE2 or NEON.
const LANES: usize = 16;

/// Queries that share one reading of a row: their accumulators fit the registers of AVX2.
pub(crate) const GROUP: usize = 4;

impl Isa {
    /// The dot product of `row` with each of `queries`.
    pub(crate) fn dots<const N: usize>(self, row: &[f32], queries: [&[f32]; N]) -> [f32; N] {
        match self.level() {
            // `mul_add` is one instruction on every 64-bit ARM, a call into libm elsewhere.
            Level::Portable => dot_many::<N, { cfg!(target_arch = "aarch64") }>(row, queries),
            // SAFETY: an `Isa` can only be built for a level that this CPU reported.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { dot_many_avx2(row, queries) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Vnni | Level::Amx => unsafe { dot_many_avx512(row, queries) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn dot_many_avx2<const N: usize>(row: &[f32], queries: [&[f32]; N]) -> [f32; N] {
    dot_many::<N, true>(row, queries)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn dot_many_avx512<const N: usize>(row: &[f32], queries: [&[f32]; N]) -> [f32; N] {
    dot_many::<N, true>(row, queries)
}

/// The definition: lane `l` sums the products at `l`, `l + 16`, …; the lanes are added pairwise.
#[inline(always)]
fn dot_many<const N: usize, const FUSED: bool>(row: &[f32], queries: [&[f32]; N]) -> [f32; N] {
    let queries = queries.map(|query| &query[..row.len()]);
    let (blocks, rest) = row.as_chunks::<LANES>();
    let mut sums = [[0.0f32; LANES]; N];
    for (index, block) in blocks.iter().enumerate() {
        for (sum, query) in sums.iter_mut().zip(&queries) {
            let query = &query[index * LANES..(index + 1) * LANES];
            for lane in 0..LANES {
                sum[lane] = multiply_add::<FUSED>(block[lane], query[lane], sum[lane]);
            }
        }
    }
    for (sum, query) in sums.iter_mut().zip(&queries) {
        let query = &query[blocks.len() * LANES..];
        for (sum, (a, b)) in sum.iter_mut().zip(rest.iter().zip(query)) {
            *sum = multiply_add::<FUSED>(*a, *b, *sum);
        }
    }
    sums.map(add_lanes)
}

#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn add_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    // Adding zero turns -0 into 0: equal scores must tie.
    lanes[0] + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// |error| ≤ n·ε·Σ|aᵢbᵢ| is the forward bound of any summation order.
    #[test]
    fn dots_agree_with_f64_on_every_isa() {
        let mut random = Random::new(7);
        for length in 0..=515 {
            let row = values(&mut random, length);
            let queries: [_; GROUP] = std::array::from_fn(|_| values(&mut random, length));
            for isa in Isa::available() {
                let four = isa.dots(&row, queries.each_ref().map(Vec::as_slice));
                for (query, four) in queries.iter().zip(four) {
                    let products = row
                        .iter()
                        .zip(query)
                        .map(|(a, b)| f64::from(*a) * f64::from(*b));
                    let (exact, magnitude) =
                        products.fold((0.0, 0.0), |(sum, all), x| (sum + x, all + x.abs()));
                    let bound = length as f64 * f64::from(f32::EPSILON) * magnitude;
                    assert!(
                        (f64::from(four) - exact).abs() <= bound,
                        "{isa:?} length {length}"
                    );
                    let [alone] = isa.dots(&row, [query]);
                    assert_eq!(alone.to_bits(), four.to_bits(), "{isa:?} length {length}");
                }
            }
        }
    }

    /// Values in [-1, 1).
    fn values(random: &mut Random, length: usize) -> Vec<f32> {
        (0..length)
            .map(|_| random.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0)
            .collect()
    }

    #[test]
    fn a_negative_zero_ties_with_zero() {
        let [score] = Isa::best().dots(&[-1.0], [&[0.0]]);
        assert_eq!(score.to_bits(), 0);
    }
}
