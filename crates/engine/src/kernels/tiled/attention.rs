//! Attention of one sequence on tiles, blockwise with a running softmax.
//!
//! Keys and values are packed as panels of weights are, so both products are those of a linear
//! layer: queries by keys give scores, scores made into weights and rounded to bf16 give, by values,
//! the result.

use std::arch::x86_64::*;
use std::ops::Range;

use super::product::ZEROS;
use super::{HALVES, Halves, TILE_BYTES, TILE_ROW};
use crate::kernels::amx::{Block, PANEL_ROW, RowTile, TILE, Tiles};
use crate::kernels::attention::{Heads, MASKED};
use crate::kernels::rows::{PANEL, Rows, padded};

/// Queries of one task: two tiles.
const QUERIES: usize = 2 * TILE;

/// Keys that are scored before the softmax moves on: with 32 columns a head, their scores, weights,
/// keys and values fill a 48 KiB cache.
const KEYS: usize = 128;

/// Chunks of a panel's width in a block of keys.
const CHUNKS: usize = KEYS / PANEL;

/// Words of a tile's rows of sums.
const SUMS: usize = TILE * PANEL;

/// Bytes of a step of a panel.
const PANEL_STEP: usize = TILE * PANEL_ROW;

/// Where a sequence's results go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Context<'a> {
    /// As bf16.
    Halves(Halves<'a>),
    /// As `f32`.
    Floats(Rows<'a, f32>),
}

/// One sequence in a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TileAttention<'a> {
    /// Head widths are multiples of 16.
    pub(crate) heads: Heads,
    /// Queries, keys and values of all tokens in bf16, and [`SLACK`] rows after them.
    pub(crate) qkv: Rows<'a, u16>,
    /// The sequence's first row and its tokens.
    pub(crate) first: usize,
    pub(crate) length: usize,
    /// Added to the scaled scores: for each head `2 · span − 1` values by `key − query + span − 1`.
    pub(crate) bias: Option<(&'a [f32], usize)>,
    pub(crate) out: Context<'a>,
}

/// Rows that must exist after the last token: a tile of queries is read whole.
pub(crate) const SLACK: usize = QUERIES;

/// Packed keys and values of one key-value head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packed {
    keys: *mut u8,
    values: *mut u8,
}

/// The tiles of this thread, for [`TileAttention::attend`].
///
/// # Safety
///
/// As [`Tiles::configure`].
pub(crate) unsafe fn configure() -> Tiles {
    // SAFETY: the caller's.
    unsafe { Tiles::configure(TILE) }
}

/// 16-bit numbers of the packed keys and values of one head.
pub(crate) fn packed_len(heads: &Heads, length: usize) -> usize {
    2 * padded(length) * padded(heads.head_dim)
}

/// `f32` words of scratch memory of a task.
pub(crate) fn scratch_len(heads: &Heads) -> usize {
    2 * CHUNKS * SUMS + CHUNKS * SUMS + 2 * SUMS + QUERIES * padded(heads.head_dim)
}

/// A task's memory.
struct Scratch {
    /// A tile of rows by a chunk of keys at a time: first those of the first tile of queries.
    scores: *mut f32,
    /// An operand of [`CHUNKS`] steps.
    weights: *mut u8,
    sums: *mut f32,
    /// `[QUERIES, padded(head_dim)]`.
    output: *mut f32,
    /// Chunks of keys of each tile of queries.
    chunks: usize,
}

impl Scratch {
    /// The scores of a row, a chunk every [`SUMS`] words.
    fn scores_of(&self, row: usize) -> *mut f32 {
        self.scores
            .wrapping_add(row / TILE * self.chunks * SUMS + row % TILE * PANEL)
    }

    /// The weights of a row, a chunk every [`TILE_BYTES`].
    fn weights_of(&self, row: usize) -> *mut u8 {
        self.weights
            .wrapping_add(row / TILE * self.chunks * TILE_BYTES + row % TILE * TILE_ROW)
    }
}

/// Running maximum and sum of a row's weights.
#[derive(Clone, Copy)]
struct Running {
    maximum: f32,
    sum: f32,
}

impl TileAttention<'_> {
    /// The place of key-value head `index` in `memory`, which has [`packed_len`] numbers for each.
    pub(crate) fn place(&self, memory: Rows<'_, u16>, index: usize) -> Packed {
        let keys: *mut u8 = memory.at(index, 0).cast();
        Packed {
            keys,
            values: keys.wrapping_add(padded(self.length) * padded(self.heads.head_dim) * 2),
        }
    }

    /// Tasks of [`TileAttention::attend`] for each head.
    pub(crate) fn tasks_a_head(&self) -> usize {
        self.length.div_ceil(QUERIES)
    }

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

    /// Heads of queries that one call of [`TileAttention::attend`] takes together: what a tile stores
    /// cannot be read at once, so short texts do each step for several heads.
    pub(crate) fn heads_together(&self) -> usize {
        (CHUNKS / self.length.div_ceil(PANEL)).max(1)
    }

    /// Computes tasks: the same 32 queries of some heads, each with its packed key-value head.
    ///
    /// # Safety
    ///
    /// As [`TileAttention::pack`], which has been done; each task by one thread; `scratch` has
    /// [`scratch_len`] words; more heads than one only if the keys fit into one block.
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
    pub(crate) unsafe fn attend(
        &self,
        tiles: &Tiles,
        task: usize,
        heads: &[(usize, Packed)],
        scratch: &mut [f32],
    ) {
        assert!(scratch.len() >= scratch_len(&self.heads));
        let queries = task * QUERIES..((task + 1) * QUERIES).min(self.length);
        let reach = self.heads.reach;
        let first = reach.of(queries.start, self.length).start / PANEL * PANEL;
        let end = reach.of(queries.end - 1, self.length).end;
        let chunks = (end - first).div_ceil(PANEL);
        assert!(heads.len() == 1 || heads.len() * chunks <= CHUNKS);
        let base = scratch.as_mut_ptr();
        let memory = |index: usize| Scratch {
            scores: base.wrapping_add(index * chunks * 2 * SUMS),
            weights: base
                .wrapping_add(2 * CHUNKS * SUMS + index * chunks * SUMS)
                .cast(),
            sums: base.wrapping_add(3 * CHUNKS * SUMS),
            output: base.wrapping_add(3 * CHUNKS * SUMS + 2 * SUMS),
            chunks: chunks.min(CHUNKS),
        };
        let mut running = [[Running {
            maximum: MASKED,
            sum: 0.0,
        }; QUERIES]; CHUNKS];
        // SAFETY: the CPU has tiles; the rest is the caller's.
        unsafe {
            let mut key = first;
            while key < end {
                let keys = key..(key + KEYS).min(end);
                for (index, (head, packed)) in heads.iter().enumerate() {
                    let scratch = memory(index);
                    self.score(
                        tiles,
                        *head,
                        queries.clone(),
                        keys.clone(),
                        *packed,
                        &scratch,
                    );
                }
                let mut corrections = [1.0; QUERIES];
                for (index, (head, _)) in heads.iter().enumerate() {
                    let scratch = memory(index);
                    for (row, query) in queries.clone().enumerate() {
                        let scores = scratch.scores_of(row);
                        let factor = self.add_bias(*head, query, keys.clone(), scores);
                        let seen = reach.of(query, self.length);
                        let seen = seen.start.clamp(keys.start, keys.end) - keys.start
                            ..seen.end.clamp(keys.start, keys.end) - keys.start;
                        let chunks = keys.len().div_ceil(PANEL);
                        let weights = scratch.weights_of(row);
                        let running = &mut running[index][row];
                        corrections[row] = soften(running, (factor, seen), chunks, scores, weights);
                    }
                }
                for (index, (_, packed)) in heads.iter().enumerate() {
                    let scratch = memory(index);
                    self.gather(
                        tiles,
                        queries.len(),
                        keys.clone(),
                        *packed,
                        &scratch,
                        |row| (key != first).then_some(corrections[row]),
                    );
                    if keys.end == end {
                        for (row, query) in queries.clone().enumerate() {
                            let width = padded(self.heads.head_dim);
                            let output = scratch.output.add(row * width);
                            let factor = 1.0 / running[index][row].sum;
                            self.emit(heads[index].0, self.first + query, output, factor);
                        }
                    }
                }
                key = keys.end;
            }
        }
    }

    /// `scores = queries · keysᵀ` (unscaled), for whole panels of keys.
    ///
    /// # Safety
    ///
    /// As [`TileAttention::attend`].
    #[inline(always)]
    unsafe fn score(
        &self,
        tiles: &Tiles,
        head: usize,
        queries: Range<usize>,
        keys: Range<usize>,
        packed: Packed,
        scratch: &Scratch,
    ) {
        let dim = self.heads.head_dim;
        let steps = dim.div_ceil(HALVES);
        let row = self.first + queries.start;
        for (chunk, panel) in (keys.start / PANEL..keys.end.div_ceil(PANEL)).enumerate() {
            let block = Block {
                a_stride: self.qkv.stride() * 2,
                a_step: TILE_ROW,
                b: packed.keys.wrapping_add(panel * steps * PANEL_STEP),
                steps,
                start_stride: 0,
            };
            let tile = |index: usize| RowTile {
                a: self
                    .qkv
                    .at(row + index * TILE, head * dim)
                    .cast_const()
                    .cast(),
                start: ZEROS.0.as_ptr().cast(),
                sums: scratch
                    .scores
                    .wrapping_add((index * scratch.chunks + chunk) * SUMS)
                    .cast(),
            };
            // SAFETY: the caller's; there are rows after the last query.
            unsafe {
                if queries.len() > TILE {
                    tiles.pair_of_bf16(&block, [tile(0), tile(1)]);
                } else {
                    tiles.one_of_bf16(&block, tile(0));
                }
            }
        }
    }

    /// Adds the bias, if there is one; returns what the scores are to be multiplied with, in powers
    /// of two.
    ///
    /// # Safety
    ///
    /// As [`TileAttention::attend`].
    #[inline(always)]
    unsafe fn add_bias(
        &self,
        head: usize,
        query: usize,
        keys: Range<usize>,
        scores: *mut f32,
    ) -> f32 {
        use std::f32::consts::LOG2_E;
        let Some((bias, span)) = self.bias else {
            return self.heads.scale * LOG2_E;
        };
        let from = head * (2 * span - 1) + (span - 1) + keys.start - query;
        let bias = &bias[from..][..keys.len()];
        for (part, bias) in bias.chunks(16).enumerate() {
            let mask = (1_u32 << bias.len()) - 1;
            // SAFETY: keys of the block; masked numbers are not read.
            unsafe {
                let scale = _mm512_set1_ps(self.heads.scale);
                let at = scores.add(part / 2 * SUMS + part % 2 * 16);
                let bias = _mm512_maskz_loadu_ps(mask as u16, bias.as_ptr());
                _mm512_storeu_ps(at, _mm512_fmadd_ps(_mm512_loadu_ps(at), scale, bias));
            }
        }
        LOG2_E
    }

    /// `output = output · correction + weights · values`, or without the first for the first block.
    ///
    /// # Safety
    ///
    /// As [`TileAttention::attend`].
    #[inline(always)]
    unsafe fn gather(
        &self,
        tiles: &Tiles,
        queries: usize,
        keys: Range<usize>,
        packed: Packed,
        scratch: &Scratch,
        correction: impl Fn(usize) -> Option<f32>,
    ) {
        let width = padded(self.heads.head_dim);
        let all_steps = self.length.div_ceil(PANEL);
        for panel in 0..width / PANEL {
            let step = panel * all_steps + keys.start / PANEL;
            let block = Block {
                a_stride: TILE_ROW,
                a_step: TILE_BYTES,
                b: packed.values.wrapping_add(step * PANEL_STEP),
                steps: keys.len().div_ceil(PANEL),
                start_stride: 0,
            };
            let tile = |index: usize| RowTile {
                a: scratch
                    .weights
                    .wrapping_add(index * scratch.chunks * TILE_BYTES),
                start: ZEROS.0.as_ptr().cast(),
                sums: scratch.sums.wrapping_add(index * SUMS).cast(),
            };
            // SAFETY: the caller's; sums have room for two tiles of rows.
            unsafe {
                if queries > TILE {
                    tiles.pair_of_bf16(&block, [tile(0), tile(1)]);
                } else {
                    tiles.one_of_bf16(&block, tile(0));
                }
                for row in 0..queries {
                    let sums = scratch.sums.add(row * PANEL);
                    let output = scratch.output.add(row * width + panel * PANEL);
                    for half in [0, 16] {
                        let mut value = _mm512_loadu_ps(sums.add(half));
                        if let Some(correction) = correction(row) {
                            let before = _mm512_loadu_ps(output.add(half));
                            value = _mm512_fmadd_ps(before, _mm512_set1_ps(correction), value);
                        }
                        _mm512_storeu_ps(output.add(half), value);
                    }
                }
            }
        }
    }

    /// Stores a row of a head, times `factor`.
    ///
    /// # Safety
    ///
    /// As [`TileAttention::attend`].
    #[inline(always)]
    unsafe fn emit(&self, head: usize, row: usize, output: *const f32, factor: f32) {
        // SAFETY: the caller's; head widths are multiples of 16.
        unsafe {
            for column in (0..self.heads.head_dim).step_by(16) {
                let value = _mm512_loadu_ps(output.add(column));
                let value = _mm512_mul_ps(value, _mm512_set1_ps(factor));
                let column = head * self.heads.head_dim + column;
                match self.out {
                    Context::Floats(out) => _mm512_storeu_ps(out.at(row, column), value),
                    Context::Halves(out) => {
                        let halves =
                            std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(value));
                        _mm256_storeu_si256(out.at(row, column).cast(), halves);
                    }
                }
            }
        }
    }
}

/// The 16 scores from `first` on, those outside of `seen` hidden. Hidden in the register: to store
/// single scores before vectors of them are read would hold up the reads.
///
/// # Safety
///
/// `scores` are a row's of [`Scratch`].
#[inline(always)]
unsafe fn seen_scores(scores: *const f32, first: usize, seen: &Range<usize>) -> __m512 {
    // SAFETY: the caller's.
    unsafe {
        let values = _mm512_loadu_ps(scores.add(first / PANEL * SUMS + first % PANEL));
        if seen.start <= first && first + 16 <= seen.end {
            return values;
        }
        let bits = |end: usize| (1_u32 << end.clamp(first, first + 16).wrapping_sub(first)) - 1;
        let mask = bits(seen.end) & !bits(seen.start);
        _mm512_mask_mov_ps(_mm512_set1_ps(MASKED), mask as u16, values)
    }
}

/// Turns a row of scores, `chunks` chunks of 32, into weights relative to the new running maximum,
/// rounded to bf16: `2^(factor · (score − maximum))`. Returns what earlier results are multiplied by.
///
/// # Safety
///
/// The CPU is [`Level::Amx`](crate::kernels::isa::Level); the pointers are a row's of [`Scratch`].
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn soften(
    running: &mut Running,
    (factor, seen): (f32, Range<usize>),
    chunks: usize,
    scores: *const f32,
    weights: *mut u8,
) -> f32 {
    // SAFETY: the caller's.
    unsafe {
        let mut maxima = [_mm512_set1_ps(running.maximum); 2];
        // Chunks that are seen whole, and those at the borders.
        let whole = seen.start.div_ceil(PANEL)..seen.end / PANEL;
        let borders = || (0..chunks).filter(|chunk| !whole.contains(chunk));
        for chunk in whole.clone() {
            for (half, maximum) in maxima.iter_mut().enumerate() {
                let scores = _mm512_loadu_ps(scores.add(chunk * SUMS + half * 16));
                *maximum = _mm512_max_ps(*maximum, scores);
            }
        }
        for chunk in borders() {
            for (half, maximum) in maxima.iter_mut().enumerate() {
                let scores = seen_scores(scores, chunk * PANEL + half * 16, &seen);
                *maximum = _mm512_max_ps(*maximum, scores);
            }
        }
        let maximum = _mm512_reduce_max_ps(_mm512_max_ps(maxima[0], maxima[1]));
        let (scale, shift) = (_mm512_set1_ps(factor), _mm512_set1_ps(-maximum * factor));
        let mut sums = [_mm512_setzero_ps(); 2];
        for chunk in whole.clone() {
            let mut pair = [_mm512_setzero_ps(); 2];
            for half in 0..2 {
                let scores = _mm512_loadu_ps(scores.add(chunk * SUMS + half * 16));
                pair[half] = power_of_two(_mm512_fmadd_ps(scores, scale, shift));
                sums[half] = _mm512_add_ps(sums[half], pair[half]);
            }
            super::pack::store_pair(weights.add(chunk * TILE_BYTES), pair);
        }
        for chunk in borders() {
            let mut pair = [_mm512_setzero_ps(); 2];
            for half in 0..2 {
                let scores = seen_scores(scores, chunk * PANEL + half * 16, &seen);
                pair[half] = power_of_two(_mm512_fmadd_ps(scores, scale, shift));
                sums[half] = _mm512_add_ps(sums[half], pair[half]);
            }
            super::pack::store_pair(weights.add(chunk * TILE_BYTES), pair);
        }
        let sum = _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]));
        let mut correction = 1.0;
        if running.sum > 0.0 {
            correction = ((running.maximum - maximum) * factor).exp2();
        }
        *running = Running {
            maximum,
            sum: running.sum * correction + sum,
        };
        correction
    }
}

/// `2^x` for `x ≤ 0`, relative error 8e-5, far less than the rounding to bf16 that follows.
#[inline]
#[target_feature(enable = "avx512f")]
fn power_of_two(x: __m512) -> __m512 {
    /// Least squares of `2^x` on ±1/2, relative.
    const POLYNOMIAL: [f32; 4] = [0.999_928_9, 0.693_276_3, 0.242_604_35, 0.055_088_725];
    const TO_NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    let whole = _mm512_roundscale_ps::<TO_NEAREST>(x);
    let rest = _mm512_sub_ps(x, whole);
    let mut sum = _mm512_set1_ps(POLYNOMIAL[3]);
    for coefficient in [POLYNOMIAL[2], POLYNOMIAL[1], POLYNOMIAL[0]] {
        sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(coefficient));
    }
    _mm512_scalef_ps(sum, whole)
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
