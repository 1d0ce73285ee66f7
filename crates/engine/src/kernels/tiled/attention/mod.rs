//! Attention of one sequence on tiles, blockwise with a running softmax.
//!
//! Keys and values are packed as panels of weights are, so both products are those of a linear
//! layer: queries by keys give scores, scores made into weights and rounded to bf16 give, by values,
//! the result. [`panels`] packs, [`softmax`] makes weights of scores.

mod panels;
mod softmax;

use std::arch::x86_64::*;
use std::ops::Range;

use self::softmax::{Running, soften};
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
