//! Keys and values of a head as panels of weights.

use std::arch::x86_64::*;

use super::{PANEL_STEP, Packed, TileAttention};
use crate::kernels::amx::{PANEL_ROW, TILE};
use crate::kernels::rows::PANEL;
use crate::kernels::tiled::{HALVES, TILE_ROW};

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

    /// Panels of 32 keys, each step 32 columns of the head: pairs of columns side by side.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn pack_keys(&self, column: usize, to: *mut u8) {
        let dim = self.heads.head_dim;
        let steps = dim.div_ceil(HALVES);
        for panel in 0..self.length.div_ceil(PANEL) {
            for step in 0..steps {
                for half in 0..2 {
                    let from = step * HALVES;
                    // SAFETY: the caller's.
                    unsafe {
                        let rows = std::array::from_fn(|key| {
                            let token = panel * PANEL + half * TILE + key;
                            self.columns(token, column + from, dim - from)
                        });
                        let to = to.add((panel * steps + step) * PANEL_STEP + half * TILE_ROW);
                        for (pair, words) in transposed(rows).into_iter().enumerate() {
                            _mm512_storeu_si512(to.add(pair * PANEL_ROW).cast(), words);
                        }
                    }
                }
            }
        }
    }

    /// Panels of 32 columns, each step 32 keys: pairs of keys side by side.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn pack_values(&self, column: usize, to: *mut u8) {
        let dim = self.heads.head_dim;
        let steps = self.length.div_ceil(PANEL);
        // Word `i` of the first result: number `i` of the one row, and of the other.
        let first: [u16; 32] = std::array::from_fn(|i| (i / 2 + i % 2 * 32) as u16);
        let second: [u16; 32] = std::array::from_fn(|i| (16 + i / 2 + i % 2 * 32) as u16);
        // SAFETY: the caller's; the arrays are 64 bytes.
        unsafe {
            let first = _mm512_loadu_si512(first.as_ptr().cast());
            let second = _mm512_loadu_si512(second.as_ptr().cast());
            for panel in 0..dim.div_ceil(HALVES) {
                let from = panel * HALVES;
                for pair in 0..steps * TILE {
                    let one = self.columns(2 * pair, column + from, dim - from);
                    let other = self.columns(2 * pair + 1, column + from, dim - from);
                    let (step, row) = (pair / TILE, pair % TILE);
                    let to = to.add((panel * steps + step) * PANEL_STEP + row * PANEL_ROW);
                    let words = _mm512_permutex2var_epi16(one, first, other);
                    _mm512_storeu_si512(to.cast(), words);
                    let words = _mm512_permutex2var_epi16(one, second, other);
                    _mm512_storeu_si512(to.add(TILE_ROW).cast(), words);
                }
            }
        }
    }
}

/// A 16 × 16 matrix of words turned over.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; TILE]) -> [__m512i; TILE] {
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
