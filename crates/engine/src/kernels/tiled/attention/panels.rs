//! Queries as a panel of weights, keys and turned values as tiles of rows.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{PANEL_STEP, Packed, QUERIES, TileAttention};
use crate::kernels::amx::{PANEL_ROW, TILE};
use crate::kernels::rows::{PANEL, padded};
use crate::kernels::tiled::{HALVES, TILE_BYTES, TILE_ROW};

impl TileAttention<'_> {
    /// Packs keys and values of a key-value head.
    ///
    /// # Safety
    ///
    /// The CPU is [`Level::Amx`](crate::kernels::isa::Level); `to` is this head's alone, and the
    /// queries, keys and values are complete.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(crate) unsafe fn pack(&self, head: usize, to: Packed) {
        let dim = self.heads.head_dim;
        let column = |first: usize| first + head * dim;
        // SAFETY: the caller's.
        unsafe {
            self.pack_keys(column(self.heads.key_column()), to.keys);
            self.pack_values(column(self.heads.value_column()), to.values);
        }
    }

    /// 32 columns of a token's row from `column` on, those beyond `columns` and the length zero.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn columns(&self, token: usize, column: usize, columns: usize) -> __m512i {
        if token >= self.length {
            return _mm512_setzero_si512();
        }
        let mask = if columns >= HALVES {
            u32::MAX
        } else {
            (1 << columns) - 1
        };
        let from = self.qkv.at(self.first + token, column).cast_const();
        // SAFETY: masked columns are not read; the others are the row's.
        unsafe { _mm512_maskz_loadu_epi16(mask, from.cast()) }
    }

    /// A panel of 32 queries, each step 32 columns of the head: pairs of columns side by side.
    ///
    /// # Safety
    ///
    /// As [`TileAttention::attend`]; `to` has a step for each 32 columns of a head.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) unsafe fn pack_queries(&self, queries: Range<usize>, column: usize, to: *mut u8) {
        let dim = self.heads.head_dim;
        for from in (0..dim).step_by(HALVES) {
            for half in 0..QUERIES / TILE {
                // SAFETY: the caller's.
                unsafe {
                    let to = to.add(from / HALVES * PANEL_STEP + half * TILE_ROW);
                    let mut pairs = [_mm512_setzero_si512(); TILE];
                    if half * TILE < queries.len() {
                        pairs = transposed(std::array::from_fn(|row| {
                            let query = queries.start + half * TILE + row;
                            self.columns(query, column + from, dim - from)
                        }));
                    }
                    for (pair, words) in pairs.into_iter().enumerate() {
                        _mm512_storeu_si512(to.add(pair * PANEL_ROW).cast(), words);
                    }
                }
            }
        }
    }

    /// Tiles of 16 keys, a pair of them for each begun 32 keys; 32 columns of the head a tile.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn pack_keys(&self, column: usize, to: *mut u8) {
        let dim = self.heads.head_dim;
        let steps = dim.div_ceil(HALVES);
        for token in 0..padded(self.length) {
            for step in 0..steps {
                let from = step * HALVES;
                // SAFETY: the caller's.
                unsafe {
                    let tile = token / TILE * steps + step;
                    let to = to.add(tile * TILE_BYTES + token % TILE * TILE_ROW);
                    let columns = self.columns(token, column + from, dim - from);
                    _mm512_storeu_si512(to.cast(), columns);
                }
            }
        }
    }

    /// Values turned over: tiles of 16 columns of the head as rows, 32 keys a tile.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn pack_values(&self, column: usize, to: *mut u8) {
        let dim = self.heads.head_dim;
        let steps = self.length.div_ceil(PANEL);
        // Word `i` of a result: number `i` of the one row, and of the other.
        let sides: [[u16; 32]; 2] = std::array::from_fn(|half| {
            std::array::from_fn(|i| (half * 16 + i / 2 + i % 2 * 32) as u16)
        });
        // SAFETY: the caller's; the arrays are 64 bytes.
        unsafe {
            let sides = sides.map(|side| _mm512_loadu_si512(side.as_ptr().cast()));
            for from in (0..dim).step_by(HALVES) {
                for step in 0..steps {
                    let rows: [__m512i; 2 * TILE] = std::array::from_fn(|row| {
                        self.columns(step * PANEL + row, column + from, dim - from)
                    });
                    for (half, side) in sides.into_iter().enumerate() {
                        if from + half * TILE >= dim {
                            break;
                        }
                        let turned = transposed(std::array::from_fn(|pair| {
                            _mm512_permutex2var_epi16(rows[2 * pair], side, rows[2 * pair + 1])
                        }));
                        let to = to.add(((from / TILE + half) * steps + step) * TILE_BYTES);
                        for (row, words) in turned.into_iter().enumerate() {
                            _mm512_storeu_si512(to.add(row * TILE_ROW).cast(), words);
                        }
                    }
                }
            }
        }
    }
}

/// A 16 × 16 matrix of words turned over.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transposed(rows: [__m512i; TILE]) -> [__m512i; TILE] {
    let mut pairs = rows;
    for i in 0..8 {
        let (a, b) = (rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i] = _mm512_unpacklo_epi32(a, b);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(a, b);
    }
    // Of each four rows, column `c` of every quarter.
    let mut fours = pairs;
    for i in 0..4 {
        let [a, b, c, d] = [
            pairs[4 * i],
            pairs[4 * i + 1],
            pairs[4 * i + 2],
            pairs[4 * i + 3],
        ];
        fours[4 * i] = _mm512_unpacklo_epi64(a, c);
        fours[4 * i + 1] = _mm512_unpackhi_epi64(a, c);
        fours[4 * i + 2] = _mm512_unpacklo_epi64(b, d);
        fours[4 * i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    let mut turned = fours;
    for c in 0..4 {
        let [a, b, d, e] = [fours[c], fours[4 + c], fours[8 + c], fours[12 + c]];
        // Quarters 0 and 2, 1 and 3 of two rows of four.
        let even = [
            _mm512_shuffle_i32x4::<0x88>(a, b),
            _mm512_shuffle_i32x4::<0x88>(d, e),
        ];
        let odd = [
            _mm512_shuffle_i32x4::<0xdd>(a, b),
            _mm512_shuffle_i32x4::<0xdd>(d, e),
        ];
        turned[c] = _mm512_shuffle_i32x4::<0x88>(even[0], even[1]);
        turned[8 + c] = _mm512_shuffle_i32x4::<0xdd>(even[0], even[1]);
        turned[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]);
        turned[12 + c] = _mm512_shuffle_i32x4::<0xdd>(odd[0], odd[1]);
    }
    turned
}
