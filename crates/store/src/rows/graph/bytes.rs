//! Rows in int8, each in one piece: what a walk through the graph reads.
//!
//! A row is scale · code with codes in [-127, 127], kept with 128 added; so the bits of a kept code
//! are those of the signed one with the first turned. That gives both operands of the instruction
//! that multiplies unsigned by signed bytes, and rows serve as queries as they are.

#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "calls code compiled for instruction sets found at run time"
    )
)]

use super::super::Column;
use crate::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::isa::Level;

/// Rows are padded to whole registers, with codes of zero.
const REGISTER: usize = 64;

/// Added to codes.
const OFFSET: i32 = 128;

/// Rows in int8 side by side.
#[derive(Debug, Default)]
pub(super) struct ByteRows {
    /// Bytes of a row: its dimensions, padded.
    pub(super) width: usize,
    /// `[rows, width]`
    pub(super) codes: Column<u8>,
    pub(super) scales: Column<f32>,
    /// The sum of the codes of each row, without the offset.
    pub(super) sums: Column<i32>,
}

/// A row, or a query like one.
#[derive(Clone, Copy)]
pub(super) struct ByteRow<'a> {
    pub(super) codes: &'a [u8],
    pub(super) scale: f32,
    pub(super) sum: i32,
}

/// Writes the codes of `vector` to `codes`; returns its scale and the sum of its codes.
pub(super) fn quantise(vector: &[f32], codes: &mut Vec<u8>) -> (f32, i32) {
    let largest = vector
        .iter()
        .fold(0.0f32, |max, value| max.max(value.abs()));
    let scale = largest / 127.0;
    // Below 10⁻³⁵ the inverse would overflow; all codes are zero then.
    let inverse = if scale > 1e-35 { 1.0 / scale } else { 0.0 };
    codes.clear();
    let mut sum = 0;
    codes.extend(vector.iter().map(|value| {
        let code = (value * inverse).round_ties_even() as i32;
        sum += code;
        (code + OFFSET) as u8
    }));
    codes.resize(padded(vector.len()), OFFSET as u8);
    (scale, sum)
}

pub(super) fn padded(dimensions: usize) -> usize {
    dimensions.next_multiple_of(REGISTER)
}

impl ByteRows {
    /// `len` rows of zeros.
    pub(super) fn new(dimensions: usize, len: usize) -> Self {
        let width = padded(dimensions);
        Self {
            width,
            codes: Column::scattered(len * width),
            scales: Column::scattered(len),
            sums: Column::scattered(len),
        }
    }

    pub(super) fn set(&mut self, row: usize, vector: &[f32], scratch: &mut Vec<u8>) {
        let (scale, sum) = quantise(vector, scratch);
        let place = row * self.width..(row + 1) * self.width;
        self.codes.get_mut(place).copy_from_slice(scratch);
        self.scales.get_mut(row..row + 1)[0] = scale;
        self.sums.get_mut(row..row + 1)[0] = sum;
    }

    #[inline]
    pub(super) fn row(&self, row: u32) -> ByteRow<'_> {
        let row = row as usize;
        ByteRow {
            codes: self.codes.get(row * self.width..(row + 1) * self.width),
            scale: self.scales.get(row..row + 1)[0],
            sum: self.sums.get(row..row + 1)[0],
        }
    }

    /// The product of a query and each of `rows`, about.
    #[inline]
    pub(super) fn scores(&self, query: ByteRow<'_>, rows: &[u32], scores: &mut Vec<f32>) {
        scores.clear();
        for (index, &row) in rows.iter().enumerate() {
            if let Some(next) = rows.get(index + 2) {
                prefetch(self.row(*next).codes);
            }
            scores.push(product(query, self.row(row)));
        }
    }
}

/// The product of two rows, about.
#[inline]
pub(super) fn product(a: ByteRow<'_>, b: ByteRow<'_>) -> f32 {
    sum(Isa::best(), a, b) as f32 * (a.scale * b.scale)
}

/// The sum of the products of two rows' codes.
#[inline]
fn sum(isa: Isa, a: ByteRow<'_>, b: ByteRow<'_>) -> i32 {
    assert_eq!(a.codes.len(), b.codes.len(), "rows of different widths");
    #[cfg(target_arch = "x86_64")]
    match isa.level() {
        Level::Vnni | Level::Amx => {
            // SAFETY: an `Isa` can only be built for a level that this CPU reported; both rows are
            // as long, in whole registers.
            return unsafe { sum_vnni(a.codes, b.codes) } - OFFSET * a.sum;
        }
        // SAFETY: as above.
        Level::Avx2 | Level::Avx512 => return unsafe { sum_avx2(a.codes, b.codes) },
        Level::Portable => {}
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = isa;
    sum_plain(a.codes, b.codes)
}

/// The definition.
fn sum_plain(a: &[u8], b: &[u8]) -> i32 {
    let products = a.iter().zip(b);
    products
        .map(|(&a, &b)| (i32::from(a) - OFFSET) * (i32::from(b) - OFFSET))
        .sum()
}

/// [`sum_plain`], 32 products an instruction: `vpmaddubsw` of the absolute values of one and the other
/// with the signs of the first. Codes lie in [-127, 127], so a sum of two products is at most
/// 2 · 127 · 127 = 32 258 and holds in 16 bits.
///
/// # Safety
///
/// The CPU has AVX2; both are as long, in whole registers of 64 bytes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn sum_avx2(a: &[u8], b: &[u8]) -> i32 {
    use std::arch::x86_64::{
        __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_shuffle_epi32, _mm256_abs_epi8,
        _mm256_add_epi32, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256,
        _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16,
        _mm256_setzero_si256, _mm256_sign_epi8, _mm256_xor_si256,
    };
    const HALF: usize = REGISTER / 2;
    let turn = _mm256_set1_epi8(i8::MIN);
    let ones = _mm256_set1_epi16(1);
    // SAFETY: the caller's slices have the 32 bytes of a register wherever this is called.
    let signed = |bytes: &[u8]| unsafe {
        let bytes = _mm256_loadu_si256(bytes.as_ptr().cast::<__m256i>());
        _mm256_xor_si256(bytes, turn)
    };
    let mut sums = [_mm256_setzero_si256(); 2];
    for (a, b) in a.chunks_exact(REGISTER).zip(b.chunks_exact(REGISTER)) {
        for (half, sum) in sums.iter_mut().enumerate() {
            let (a, b) = (signed(&a[half * HALF..]), signed(&b[half * HALF..]));
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(b, a));
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
        }
    }
    let sum = _mm256_add_epi32(sums[0], sums[1]);
    let sum = _mm_add_epi32(
        _mm256_castsi256_si128(sum),
        _mm256_extracti128_si256::<1>(sum),
    );
    let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b01_00_11_10>(sum));
    _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32::<0b10_11_00_01>(sum)))
}

/// The sum of signed `a` times unsigned `b`, 64 products an instruction.
///
/// # Safety
///
/// The CPU has AVX-512 F and VNNI; both are as long, in whole registers of 64 bytes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn sum_vnni(a: &[u8], b: &[u8]) -> i32 {
    use std::arch::x86_64::{
        __m512i, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_reduce_add_epi32,
        _mm512_set1_epi32, _mm512_setzero_si512, _mm512_xor_si512,
    };
    let turn = _mm512_set1_epi32(0x8080_8080_u32.cast_signed());
    let mut sums = [_mm512_setzero_si512(); 2];
    for (step, (a, b)) in a
        .chunks_exact(REGISTER)
        .zip(b.chunks_exact(REGISTER))
        .enumerate()
    {
        // SAFETY: both chunks have the 64 bytes of a register.
        let (a, b) = unsafe {
            (
                _mm512_loadu_si512(a.as_ptr().cast::<__m512i>()),
                _mm512_loadu_si512(b.as_ptr().cast::<__m512i>()),
            )
        };
        // Two sums, so that one instruction need not wait for the one before.
        let sum = &mut sums[step % 2];
        *sum = _mm512_dpbusd_epi32(*sum, b, _mm512_xor_si512(a, turn));
    }
    _mm512_reduce_add_epi32(sums[0]) + _mm512_reduce_add_epi32(sums[1])
}

/// Asks for a row before it is needed.
#[inline]
fn prefetch(codes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in codes.chunks(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing, and the address is of a slice.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = codes;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn products_are_those_of_the_vectors_and_of_the_definition() {
        let mut random = Random::new(6);
        for dimensions in [1, 3, 63, 64, 65, 384] {
            let mut rows = ByteRows::new(dimensions, 9);
            let vectors: Vec<Vec<f32>> = (0..9)
                .map(|_| {
                    let values = (0..dimensions).map(|_| random.below(2001) as f32 - 1000.0);
                    let values: Vec<f32> = values.collect();
                    let norm = values.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-9);
                    values.iter().map(|value| value / norm).collect()
                })
                .collect();
            for (row, vector) in vectors.iter().enumerate() {
                rows.set(row, vector, &mut Vec::new());
            }
            let mut scores = Vec::new();
            rows.scores(rows.row(2), &[0, 1, 2, 3, 8, 2], &mut scores);
            for (score, row) in scores.iter().zip([0, 1, 2, 3, 8, 2]) {
                let pairs = vectors[2].iter().zip(&vectors[row]);
                let exact: f32 = pairs.map(|(a, b)| a * b).sum();
                assert!(
                    (score - exact).abs() < 0.02,
                    "{dimensions}: {score} {exact}"
                );
                let (a, b) = (rows.row(2), rows.row(row as u32));
                let plain = sum_plain(a.codes, b.codes);
                assert_eq!(*score, plain as f32 * (a.scale * b.scale));
                for isa in Isa::available() {
                    assert_eq!(sum(isa, a, b), plain, "{isa:?} {dimensions}");
                }
            }
        }
    }

    #[test]
    fn sums_of_the_greatest_codes_hold_on_every_isa() {
        let rows = [1, 255].map(|code: u8| [code; 2 * REGISTER]);
        let row = |codes| ByteRow {
            codes,
            scale: 1.0,
            sum: codes.iter().map(|&code| i32::from(code) - OFFSET).sum(),
        };
        for isa in Isa::available() {
            for (a, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let (a, b) = (&rows[a], &rows[b]);
                assert_eq!(sum(isa, row(a), row(b)), sum_plain(a, b), "{isa:?}");
            }
        }
    }
}
