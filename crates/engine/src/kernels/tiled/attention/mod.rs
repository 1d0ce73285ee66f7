//! Attention of one sequence on tiles, blockwise with a running softmax.
//!
//! Everything is turned on its side: keys by queries give scores, a key a row and a query a column, so the softmax
//! of 16 queries is that of 16 lanes, without a sum or a maximum across a register. Its weights, pairs
//! of keys side by side, are laid out as the second operand of values by weights, whose sums stay
//! in place from one block of keys to the next. [`panels`] packs, [`softmax`] makes weights of scores.

mod panels;
mod softmax;

use std::arch::x86_64::*;
use std::ops::Range;

use self::panels::transposed;
use self::softmax::{Running, Seen, Softmax};
use super::product::ZEROS;
use super::{HALVES, Halves, TILE_BYTES, TILE_ROW};
use crate::kernels::amx::{Block, PANEL_ROW, RowTile, TILE, Tiles};
use crate::kernels::attention::Heads;
use crate::kernels::rows::{PANEL, Rows, padded};

/// Queries of one task: a panel.
const QUERIES: usize = PANEL;

/// Keys that are scored before the softmax moves on: with 32 columns a head, their scores, weights,
/// keys and values fill a 48 KiB cache.
const KEYS: usize = 128;

/// Chunks of 32 keys in a block of keys.
const CHUNKS: usize = KEYS / PANEL;

/// Words of 32 rows of scores.
const SCORES: usize = PANEL * QUERIES;

/// Words of the weights of 32 keys, in bf16: a step of a panel.
const WEIGHTS: usize = TILE * PANEL;

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

/// Rows that must exist after the last token, for a whole tile of results.
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
    CHUNKS * Scratch::words(1, padded(heads.head_dim))
}

/// One head's memory in a task.
#[derive(Clone, Copy)]
struct Scratch {
    /// `[keys, QUERIES]`.
    scores: *mut f32,
    /// A panel of queries, a step 32 columns of the head.
    queries: *mut u8,
    /// A panel of queries, a step 32 keys.
    weights: *mut u8,
    /// `[padded(head_dim), QUERIES]`.
    output: *mut f32,
}

impl Scratch {
    /// `f32` words for `chunks` chunks of keys and heads of `width` columns.
    fn words(chunks: usize, width: usize) -> usize {
        chunks * (SCORES + WEIGHTS) + width * (QUERIES + QUERIES / 2)
    }

    fn new(base: *mut f32, chunks: usize, width: usize) -> Self {
        let output = base.wrapping_add(chunks * SCORES);
        let weights = output.wrapping_add(width * QUERIES);
        Self {
            scores: base,
            queries: weights.wrapping_add(chunks * WEIGHTS).cast(),
            weights: weights.cast(),
            output,
        }
    }
}

/// A task's part of the sequence: some queries, and the keys of the block at hand.
#[derive(Clone)]
struct Part {
    queries: Range<usize>,
    keys: Range<usize>,
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
        let chunks = (end - first).div_ceil(PANEL).min(CHUNKS);
        assert!(heads.len() == 1 || heads.len() * (end - first).div_ceil(PANEL) <= CHUNKS);
        let width = padded(self.heads.head_dim);
        let base = scratch.as_mut_ptr();
        let memory = |index: usize| {
            let before = index * Scratch::words(chunks, width);
            Scratch::new(base.wrapping_add(before), chunks, width)
        };
        let mut running = [Running::start(); CHUNKS];
        let seen = Seen::new(queries.clone(), |query| reach.of(query, self.length));
        // SAFETY: the CPU has tiles; the rest is the caller's.
        unsafe {
            for (index, (head, _)) in heads.iter().enumerate() {
                let column = head * self.heads.head_dim;
                self.pack_queries(queries.clone(), column, memory(index).queries);
            }
            let mut key = first;
            while key < end {
                let part = Part {
                    queries: queries.clone(),
                    keys: key..(key + KEYS).min(end),
                };
                for (index, (_, packed)) in heads.iter().enumerate() {
                    self.score(tiles, &part.keys, *packed, &memory(index));
                }
                for (index, (head, _)) in heads.iter().enumerate() {
                    let scratch = memory(index);
                    let softmax = Softmax {
                        factor: self.add_bias(*head, &part, scratch.scores),
                        keys: part.keys.clone(),
                        scores: scratch.scores,
                        weights: scratch.weights,
                    };
                    let output = (key != first).then_some((scratch.output, self.heads.head_dim));
                    softmax.soften(&mut running[index], &seen, output);
                }
                for (index, (_, packed)) in heads.iter().enumerate() {
                    self.gather(tiles, &part.keys, key == first, *packed, &memory(index));
                }
                key = part.keys.end;
            }
            for (index, (head, _)) in heads.iter().enumerate() {
                self.emit(*head, &queries, memory(index).output, &running[index]);
            }
        }
    }

    /// `scores = keys · queriesᵀ` (unscaled), for whole tiles of keys.
    ///
    /// # Safety
    ///
    /// As [`TileAttention::attend`].
    #[inline(always)]
    unsafe fn score(&self, tiles: &Tiles, keys: &Range<usize>, packed: Packed, scratch: &Scratch) {
        let steps = self.heads.head_dim.div_ceil(HALVES);
        let first = keys.start / TILE;
        let block = Block {
            a_stride: TILE_ROW,
            a_step: TILE_BYTES,
            b: scratch.queries,
            steps,
            start_stride: 0,
        };
        let tile = |index: usize| RowTile {
            a: packed
                .keys
                .wrapping_add((first + index) * steps * TILE_BYTES),
            start: ZEROS.0.as_ptr().cast(),
            sums: scratch.scores.wrapping_add(index * TILE * QUERIES).cast(),
        };
        // SAFETY: the caller's; tiles of keys are packed by pairs.
        unsafe { products(tiles, &block, keys.len().div_ceil(TILE), tile) };
    }

    /// Adds the bias, if there is one; returns what the scores are to be multiplied with, in powers
    /// of two.
    ///
    /// # Safety
    ///
    /// As [`TileAttention::attend`].
    #[inline(always)]
    unsafe fn add_bias(&self, head: usize, part: &Part, scores: *mut f32) -> f32 {
        use std::f32::consts::LOG2_E;
        let Some((bias, span)) = self.bias else {
            return self.heads.scale * LOG2_E;
        };
        let bias = &bias[head * (2 * span - 1)..][..2 * span - 1];
        // SAFETY: rows of the block; numbers outside of the bias are masked.
        unsafe {
            let scale = _mm512_set1_ps(self.heads.scale);
            // From one query to the next the bias is read backwards.
            let backwards = _mm512_set_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            for (row, key) in part.keys.clone().enumerate() {
                for half in 0..QUERIES / 16 {
                    let first = part.queries.start + half * 16;
                    if first >= part.queries.end {
                        break;
                    }
                    let queries = (part.queries.end - first).min(16);
                    let last = key + span - 1 - (first + queries - 1);
                    let mask = u16::MAX >> (16 - queries);
                    let values = _mm512_maskz_loadu_ps(mask, bias[last..][..queries].as_ptr());
                    // Lane `queries − 1` belongs to the first query.
                    let from = _mm512_sub_epi32(backwards, _mm512_set1_epi32(16 - queries as i32));
                    let values = _mm512_permutexvar_ps(from, values);
                    let at = scores.add(row * QUERIES + half * 16);
                    _mm512_storeu_ps(at, _mm512_fmadd_ps(_mm512_loadu_ps(at), scale, values));
                }
            }
        }
        LOG2_E
    }

    /// `output = output + valuesᵀ · weights`, or without the first for the first block.
    ///
    /// # Safety
    ///
    /// As [`TileAttention::attend`].
    #[inline(always)]
    unsafe fn gather(
        &self,
        tiles: &Tiles,
        keys: &Range<usize>,
        first: bool,
        packed: Packed,
        scratch: &Scratch,
    ) {
        let all_steps = self.length.div_ceil(PANEL);
        let block = Block {
            a_stride: TILE_ROW,
            a_step: TILE_BYTES,
            b: scratch.weights,
            steps: keys.len().div_ceil(PANEL),
            start_stride: if first { 0 } else { PANEL_ROW },
        };
        let tile = |index: usize| {
            let sums = scratch.output.wrapping_add(index * TILE * QUERIES);
            RowTile {
                a: packed
                    .values
                    .wrapping_add((index * all_steps + keys.start / PANEL) * TILE_BYTES),
                start: if first {
                    ZEROS.0.as_ptr().cast()
                } else {
                    sums.cast_const().cast()
                },
                sums: sums.cast(),
            }
        };
        // SAFETY: the caller's; head widths are multiples of 16.
        unsafe { products(tiles, &block, self.heads.head_dim / TILE, tile) };
    }

    /// Stores the results of a head, divided by their weights' sums.
    ///
    /// # Safety
    ///
    /// As [`TileAttention::attend`].
    #[inline(always)]
    unsafe fn emit(
        &self,
        head: usize,
        queries: &Range<usize>,
        output: *const f32,
        running: &Running,
    ) {
        // SAFETY: the caller's; head widths are multiples of 16.
        unsafe {
            for half in 0..queries.len().div_ceil(16) {
                let factor = _mm512_div_ps(_mm512_set1_ps(1.0), running.sums[half]);
                for column in (0..self.heads.head_dim).step_by(16) {
                    let rows = transposed(std::array::from_fn(|row| {
                        let at = output.add((column + row) * QUERIES + half * 16);
                        _mm512_castps_si512(_mm512_mul_ps(_mm512_loadu_ps(at), factor))
                    }));
                    let column = head * self.heads.head_dim + column;
                    let queries =
                        queries.start + half * 16..queries.end.min(queries.start + half * 16 + 16);
                    for (query, value) in queries.zip(rows) {
                        let value = _mm512_castsi512_ps(value);
                        let row = self.first + query;
                        match self.out {
                            Context::Floats(out) => _mm512_storeu_ps(out.at(row, column), value),
                            Context::Halves(out) => {
                                let halves = _mm512_cvtneps_pbh(value);
                                let halves = std::mem::transmute::<__m256bh, __m256i>(halves);
                                _mm256_storeu_si256(out.at(row, column).cast(), halves);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The products of `count` tiles of rows, two at a time.
///
/// # Safety
///
/// As [`Tiles::pair_of_bf16`].
#[inline(always)]
unsafe fn products(tiles: &Tiles, block: &Block, count: usize, tile: impl Fn(usize) -> RowTile) {
    // SAFETY: the caller's.
    unsafe {
        for pair in 0..count / 2 {
            tiles.pair_of_bf16(block, [tile(2 * pair), tile(2 * pair + 1)]);
        }
        if count % 2 == 1 {
            tiles.one_of_bf16(block, tile(count - 1));
        }
    }
}
