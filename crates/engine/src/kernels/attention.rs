//! Attention of one sequence, blockwise with a running softmax (the FlashAttention recurrence), so
//! that memory grows with the length and not with its square.
//!
//! Keys are packed like weights, into panels of 32, so that scores come from the same register
//! tiles as the linear layers; values are packed row by row.

use std::ops::Range;

use super::isa::Isa;
use super::linear::tile::{self, ByF32, Factors, Product, for_row_tiles};
use super::math::exp;
use super::rows::{PANEL, Rows, padded};
use super::simd::{Kernel, Simd, run};

/// Keys that are scored before the softmax moves on: the scores of 12 queries then fill half of a
/// 48 KiB first-level cache.
const KEY_BLOCK: usize = 512;

/// Queries of one task: as many as a register tile takes at most.
pub(crate) const QUERY_TILE: usize = 12;

/// A score so low that its weight is zero, yet finite, so that differences stay numbers.
pub(super) const MASKED: f32 = -1.0e30;

/// Which keys a query sees: those at most `before` positions before and `after` behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) before: usize,
    pub(crate) after: usize,
}

impl Reach {
    /// Every key.
    pub(crate) const ALL: Self = Self {
        before: usize::MAX,
        after: usize::MAX,
    };

    pub(super) fn of(self, query: usize, length: usize) -> Range<usize> {
        query.saturating_sub(self.before)..query.saturating_add(self.after).min(length - 1) + 1
    }
}

/// The shape of an attention layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub(crate) num_heads: usize,
    pub(crate) num_key_value_heads: usize,
    pub(crate) head_dim: usize,
    /// Factor of the scores, usually `1 / √head_dim`.
    pub(crate) scale: f32,
    pub(crate) reach: Reach,
}

impl Heads {
    /// First column of the keys in a row of queries, keys and values.
    pub(crate) fn key_column(&self) -> usize {
        padded(self.num_heads * self.head_dim)
    }

    /// First column of the values.
    pub(crate) fn value_column(&self) -> usize {
        self.key_column() + padded(self.num_key_value_heads * self.head_dim)
    }

    /// Numbers of packed keys of one head of a sequence.
    fn keys_len(&self, length: usize) -> usize {
        padded(length) * self.head_dim
    }

    /// Numbers of packed values of one head.
    fn values_len(&self, length: usize) -> usize {
        length * padded(self.head_dim)
    }

    /// Numbers of packed keys and values of a sequence of `length` tokens, all heads.
    pub(crate) fn packed_len(&self, length: usize) -> usize {
        self.num_key_value_heads * (self.keys_len(length) + self.values_len(length))
    }

    /// Numbers of scratch memory that a task needs.
    pub(crate) fn scratch_len(&self) -> usize {
        QUERY_TILE * (KEY_BLOCK + padded(self.head_dim))
    }
}

/// One sequence in a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention<'a> {
    pub(crate) heads: Heads,
    /// Queries, keys and values of all tokens, a row each.
    pub(crate) qkv: Rows<'a, f32>,
    /// The sequence's first row and its tokens.
    pub(crate) first: usize,
    pub(crate) length: usize,
    /// Room for the packed keys and values, one row of [`Heads::packed_len`].
    pub(crate) packed: Rows<'a, f32>,
    /// Added to the scaled scores: for each head `2 · span − 1` values by `key − query + span − 1`.
    pub(crate) bias: Option<(&'a [f32], usize)>,
    /// Where the heads' results go, side by side.
    pub(crate) out: Rows<'a, f32>,
}

impl Attention<'_> {
    /// Packs keys and values of one key-value head.
    ///
    /// # Safety
    ///
    /// Each head by one thread at a time; the queries, keys and values are complete.
    pub(crate) unsafe fn pack(&self, head: usize) {
        let Heads { head_dim, .. } = self.heads;
        let (keys, values) = self.packed_head(head);
        for token in 0..self.length {
            let row = self.first + token;
            // SAFETY: the pointers stay inside the sequence's rows and the head's part of `packed`.
            unsafe {
                let key = self.qkv.at(row, self.heads.key_column() + head * head_dim);
                let panel = keys.add(token / PANEL * PANEL * head_dim + token % PANEL);
                for i in 0..head_dim {
                    panel.add(i * PANEL).write(key.add(i).read());
                }
                let value = self
                    .qkv
                    .at(row, self.heads.value_column() + head * head_dim);
                let target = values.add(token * padded(head_dim));
                target.copy_from_nonoverlapping(value, head_dim);
                target
                    .add(head_dim)
                    .write_bytes(0, padded(head_dim) - head_dim);
            }
        }
    }

    /// Where keys and values of a key-value head lie.
    fn packed_head(&self, head: usize) -> (*mut f32, *mut f32) {
        let (keys, values) = (
            self.heads.keys_len(self.length),
            self.heads.values_len(self.length),
        );
        let base = self.packed.at(0, head * (keys + values));
        (base, base.wrapping_add(keys))
    }

    /// Tasks of [`Attention::attend`] that make up a sequence.
    pub(crate) fn num_tasks(&self) -> usize {
        self.heads.num_heads * self.length.div_ceil(QUERY_TILE)
    }

    /// Computes one task: a tile of queries of one head.
    ///
    /// # Safety
    ///
    /// All heads are packed; each task by one thread; `scratch` has [`Heads::scratch_len`] numbers.
    pub(crate) unsafe fn attend(&self, isa: Isa, task: usize, scratch: &mut [f32]) {
        assert!(
            scratch.len() >= self.heads.scratch_len(),
            "scratch is too short; this is a bug"
        );
        let tiles = self.length.div_ceil(QUERY_TILE);
        let (head, query) = (task / tiles, task % tiles * QUERY_TILE);
        let queries = query..(query + QUERY_TILE).min(self.length);
        // SAFETY: the caller's.
        unsafe {
            run(
                isa,
                Attend {
                    attention: self,
                    head,
                    queries,
                    scratch,
                },
            );
        }
    }
}

struct Attend<'a> {
    attention: &'a Attention<'a>,
    head: usize,
    queries: Range<usize>,
    scratch: &'a mut [f32],
}

/// Running maximum and sum of a row's weights.
#[derive(Clone, Copy)]
pub(super) struct Running {
    pub(super) maximum: f32,
    pub(super) sum: f32,
}

impl Kernel for Attend<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let attention = self.attention;
        let heads = attention.heads;
        let width = padded(heads.head_dim);
        let (scores, output) = self.scratch.split_at_mut(QUERY_TILE * KEY_BLOCK);
        output[..QUERY_TILE * width].fill(0.0);
        let mut running = [Running {
            maximum: MASKED,
            sum: 0.0,
        }; QUERY_TILE];
        let (queries, head) = (self.queries, self.head);
        let first = heads.reach.of(queries.start, attention.length).start / PANEL * PANEL;
        let end = heads.reach.of(queries.end - 1, attention.length).end;
        let mut key = first;
        while key < end {
            let keys = key..(key + KEY_BLOCK).min(end);
            // SAFETY: the ranges lie inside the sequence; scratch is this task's alone.
            unsafe {
                attention.score::<S>(head, queries.clone(), keys.clone(), scores.as_mut_ptr());
                for (row, query) in queries.clone().enumerate() {
                    let scores = &mut scores[row * KEY_BLOCK..(row + 1) * KEY_BLOCK];
                    attention.mask_and_bias(head, query, keys.clone(), scores);
                    let output = &mut output[row * width..(row + 1) * width];
                    let scale = if attention.bias.is_some() {
                        1.0
                    } else {
                        heads.scale
                    };
                    let scores = &mut scores[..padded(keys.len())];
                    running[row] = soften::<S>(running[row], scale, scores, output);
                }
                attention.accumulate::<S>(
                    head,
                    queries.len(),
                    keys.clone(),
                    scores.as_ptr(),
                    output.as_mut_ptr(),
                );
            }
            key = keys.end;
        }
        for (row, query) in queries.enumerate() {
            let output = &output[row * width..][..heads.head_dim];
            let factor = 1.0 / running[row].sum;
            // SAFETY: this task alone writes this head of this query.
            unsafe {
                let out = attention
                    .out
                    .at(attention.first + query, head * heads.head_dim);
                for (i, value) in output.iter().enumerate() {
                    out.add(i).write(value * factor);
                }
            }
        }
    }
}

impl Attention<'_> {
    fn key_value_head(&self, head: usize) -> usize {
        head / (self.heads.num_heads / self.heads.num_key_value_heads)
    }

    /// `scores[row, key − keys.start] = query · key` (unscaled), for whole panels of keys.
    ///
    /// # Safety
    ///
    /// As [`Attention::attend`].
    #[inline(always)]
    unsafe fn score<S: Simd>(
        &self,
        head: usize,
        queries: Range<usize>,
        keys: Range<usize>,
        scores: *mut f32,
    ) {
        let head_dim = self.heads.head_dim;
        let (packed, _) = self.packed_head(self.key_value_head(head));
        for panel in keys.start / PANEL..keys.end.div_ceil(PANEL) {
            for_row_tiles!(S, queries.len(), |row, ROWS| {
                // SAFETY: queries and panels lie inside the sequence.
                unsafe {
                    let query = self.first + queries.start + row;
                    let factors = Factors {
                        a: self.qkv.at(query, head * head_dim).cast_const().cast(),
                        a_stride: self.qkv.stride(),
                        b: packed.add(panel * PANEL * head_dim).cast_const().cast(),
                        b_stride: PANEL,
                        words: head_dim,
                        start: None,
                    };
                    let column = panel * PANEL - keys.start;
                    let target = scores.add(row * KEY_BLOCK + column);
                    store_tile::<S, ROWS>(factors, target, KEY_BLOCK, false);
                }
            });
        }
    }

    /// Scales and adds the bias, if there is one; hides the keys that the query must not see.
    #[inline(always)]
    fn mask_and_bias(&self, head: usize, query: usize, keys: Range<usize>, scores: &mut [f32]) {
        if let Some((bias, span)) = self.bias {
            let from = head * (2 * span - 1) + (span - 1) + keys.start - query;
            for (score, bias) in scores[..keys.len()].iter_mut().zip(&bias[from..]) {
                *score = *score * self.heads.scale + bias;
            }
        }
        let seen = self.heads.reach.of(query, self.length);
        let start = seen.start.clamp(keys.start, keys.end) - keys.start;
        let end = seen.end.clamp(keys.start, keys.end) - keys.start;
        scores[..start].fill(MASKED);
        let padding = padded(keys.len()).max(end);
        scores[end..padding].fill(MASKED);
    }

    /// `output[row] += Σ weight[row, key] · value[key]`.
    ///
    /// # Safety
    ///
    /// As [`Attention::attend`].
    #[inline(always)]
    unsafe fn accumulate<S: Simd>(
        &self,
        head: usize,
        queries: usize,
        keys: Range<usize>,
        weights: *const f32,
        output: *mut f32,
    ) {
        let width = padded(self.heads.head_dim);
        let (_, values) = self.packed_head(self.key_value_head(head));
        for column in (0..width).step_by(PANEL) {
            for_row_tiles!(S, queries, |row, ROWS| {
                // SAFETY: rows of the scratch and keys of the sequence.
                unsafe {
                    let factors = Factors {
                        a: weights.add(row * KEY_BLOCK).cast(),
                        a_stride: KEY_BLOCK,
                        b: values.add(keys.start * width + column).cast_const().cast(),
                        b_stride: width,
                        words: keys.len(),
                        start: None,
                    };
                    let target = output.add(row * width + column);
                    store_tile::<S, ROWS>(factors, target, width, true);
                }
            });
        }
    }
}

/// Multiplies a tile of one panel and stores it, or adds it, at `target`.
///
/// # Safety
///
/// `factors` and `target` are valid for `ROWS` rows of one panel.
#[inline(always)]
unsafe fn store_tile<S: Simd, const ROWS: usize>(
    factors: Factors,
    target: *mut f32,
    stride: usize,
    add: bool,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut column = 0;
        while column < PANEL {
            let sums = tile::start::<S, ByF32, ROWS>(&factors, column);
            let sums = tile::multiply::<S, ByF32, ROWS>(sums, &factors, column);
            for (row, sum) in sums.iter().enumerate() {
                for (half, sum) in sum.iter().enumerate() {
                    let target = target.add(row * stride + column + half * S::LANES);
                    let mut value = ByF32::finish::<S>(*sum);
                    if add {
                        value = S::add(value, S::load(target));
                    }
                    S::store(target, value);
                }
            }
            column += 2 * S::LANES;
        }
    }
}

/// Turns a row of scores into weights relative to the new running maximum, and brings `output` to
/// the same footing.
///
/// # Safety
///
/// The CPU has `S`; both slices are whole panels.
#[inline(always)]
pub(super) unsafe fn soften<S: Simd>(
    before: Running,
    scale: f32,
    scores: &mut [f32],
    output: &mut [f32],
) -> Running {
    // SAFETY: whole vectors inside the slices.
    unsafe {
        let mut maxima = [S::splat(before.maximum); 2];
        for (i, chunk) in scores.chunks_exact(S::LANES).enumerate() {
            maxima[i % 2] = S::max(maxima[i % 2], S::load(chunk.as_ptr()));
        }
        let maximum = S::maximum(S::max(maxima[0], maxima[1]));
        let (factor, shift) = (S::splat(scale), S::splat(-maximum * scale));
        let mut sum = S::splat(0.0);
        for chunk in scores.chunks_exact_mut(S::LANES) {
            let weight = exp::<S>(S::fma(S::load(chunk.as_ptr()), factor, shift));
            S::store(chunk.as_mut_ptr(), weight);
            sum = S::add(sum, weight);
        }
        if before.sum == 0.0 {
            return Running {
                maximum,
                sum: S::sum(sum),
            };
        }
        let correction = ((before.maximum - maximum) * scale).exp();
        for value in output.iter_mut() {
            *value *= correction;
        }
        Running {
            maximum,
            sum: before.sum * correction + S::sum(sum),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn number(seed: usize) -> f32 {
        let mixed = (seed.wrapping_mul(2_654_435_761) >> 7) % 2000;
        mixed as f32 / 1000.0 - 1.0
    }

    /// softmax(scale · q kᵀ + bias) v in f64, one query at a time.
    pub(crate) fn definition(heads: &Heads, qkv: &[f32], stride: usize, length: usize) -> Vec<f64> {
        let d = heads.head_dim;
        let mut out = vec![0.0; length * heads.num_heads * d];
        for query in 0..length {
            for head in 0..heads.num_heads {
                let kv = head / (heads.num_heads / heads.num_key_value_heads);
                let dot = |key: usize| -> f64 {
                    (0..d)
                        .map(|i| {
                            f64::from(qkv[query * stride + head * d + i])
                                * f64::from(qkv[key * stride + heads.key_column() + kv * d + i])
                        })
                        .sum::<f64>()
                        * f64::from(heads.scale)
                };
                let keys: Vec<_> = heads.reach.of(query, length).collect();
                let maximum = keys.iter().map(|key| dot(*key)).fold(f64::MIN, f64::max);
                let weights: Vec<_> = keys.iter().map(|key| (dot(*key) - maximum).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for (key, weight) in keys.iter().zip(&weights) {
                    for i in 0..d {
                        let value = qkv[key * stride + heads.value_column() + kv * d + i];
                        out[(query * heads.num_heads + head) * d + i] +=
                            weight / sum * f64::from(value);
                    }
                }
            }
        }
        out
    }

    #[test]
    fn agrees_with_the_definition_on_every_isa() {
        let reaches = [
            Reach::ALL,
            Reach {
                before: usize::MAX,
                after: 0,
            },
            Reach {
                before: 8,
                after: 8,
            },
            Reach {
                before: 15,
                after: 0,
            },
        ];
        for isa in Isa::available() {
            for (length, head_dim) in [(1, 16), (2, 24), (13, 32), (33, 64), (140, 16), (1100, 32)]
            {
                for reach in reaches {
                    let heads = Heads {
                        num_heads: 4,
                        num_key_value_heads: 2,
                        head_dim,
                        scale: 1.3,
                        reach,
                    };
                    check(isa, &heads, length);
                }
            }
        }
    }

    fn check(isa: Isa, heads: &Heads, length: usize) {
        let stride = heads.value_column() + padded(2 * heads.head_dim);
        let mut qkv: Vec<_> = (0..length * stride).map(number).collect();
        let expected = definition(heads, &qkv, stride, length);
        let width = padded(4 * heads.head_dim);
        let mut out = vec![0.0; length * width];
        let mut packed = vec![f32::NAN; heads.packed_len(length)];
        let mut scratch = vec![f32::NAN; heads.scratch_len()];
        let packed_len = packed.len();
        let attention = Attention {
            heads: *heads,
            qkv: Rows::new(&mut qkv, length, stride),
            first: 0,
            length,
            packed: Rows::new(&mut packed, 1, packed_len),
            bias: None,
            out: Rows::new(&mut out, length, width),
        };
        // SAFETY: one thread, memory of its own.
        unsafe {
            (0..2).for_each(|head| attention.pack(head));
            for task in 0..attention.num_tasks() {
                attention.attend(isa, task, &mut scratch);
            }
        }
        let row = 4 * heads.head_dim;
        for query in 0..length {
            for i in 0..row {
                let (got, want) = (f64::from(out[query * width + i]), expected[query * row + i]);
                assert!(
                    (got - want).abs() < 1e-5,
                    "{isa} {length} {:?}: {got} {want}",
                    heads.reach
                );
            }
        }
    }
}
