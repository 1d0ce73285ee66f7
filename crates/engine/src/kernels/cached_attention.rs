//! Attention of new tokens over the kept keys and values of their conversation.
//!
//! A task is a tile of queries that share one key-value head: the heads of its group, of one token or
//! of several. So each key and value is read once for the whole group, which is what counts when a
//! single token looks back over thousands.

use std::ops::Range;

use super::attention::{Heads, MASKED, Running, soften};
use super::buffer::Buffer;
use super::isa::Isa;
use super::kept::{Append, Element};
use super::rows::{PANEL, Rows, padded};
use super::simd::{Kernel, Simd, run};

pub(crate) use super::kept::{CacheFormat, Kept, KeptShape, Lent};

/// Keys that are scored before the softmax moves on: those that are kept next to each other.
const KEY_BLOCK: usize = super::kept::CHUNK;

/// Rows of keys or values that are asked for before they are needed.
const AHEAD: usize = 32;

/// Queries (tokens × heads of a group) of one task: as many as a register tile takes at most.
const QUERY_TILE: usize = 12;

/// The new tokens of one conversation in one layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CachedAttention<'a> {
    pub(crate) heads: Heads,
    pub(crate) shape: KeptShape,
    pub(crate) kept: Lent<'a>,
    pub(crate) layer: usize,
    /// Queries, keys and values of the new tokens of all conversations, a row each.
    pub(crate) qkv: Rows<'a, f32>,
    /// First row of this conversation, and how many.
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// Tokens kept before these.
    pub(crate) past: usize,
    /// Where the heads' results go, side by side.
    pub(crate) out: Rows<'a, f32>,
}

impl CachedAttention<'_> {
    /// Keeps the new keys and values of one key-value head.
    ///
    /// # Safety
    ///
    /// Each head by one thread at a time; the new rows are complete.
    pub(crate) unsafe fn append(&self, head: usize) {
        assert!(
            self.past + self.count <= self.shape.capacity,
            "the cache is full; this is a bug"
        );
        let append = Append {
            heads: self.heads,
            shape: self.shape,
            qkv: self.qkv,
            layer: self.layer,
            first: self.first,
            count: self.count,
            past: self.past,
        };
        // SAFETY: the caller's, and there is room.
        unsafe { append.to(head, self.kept) };
    }

    fn group(&self) -> usize {
        self.heads.num_heads / self.heads.num_key_value_heads
    }

    /// Tiles of one key-value head.
    fn tiles(&self) -> usize {
        (self.count * self.group()).div_ceil(QUERY_TILE)
    }

    /// Tasks of [`CachedAttention::attend`].
    pub(crate) fn num_tasks(&self) -> usize {
        self.heads.num_key_value_heads * self.tiles()
    }

    /// Computes one task: a tile of queries of one key-value head.
    ///
    /// # Safety
    ///
    /// All heads have been appended; each task by one thread.
    pub(crate) unsafe fn attend(&self, isa: Isa, task: usize, scratch: &mut AttendScratch) {
        let (head, tile) = (task / self.tiles(), task % self.tiles());
        let rows = self.count * self.group();
        let rows = tile * QUERY_TILE..((tile + 1) * QUERY_TILE).min(rows);
        scratch.reserve(&self.shape);
        // SAFETY: the caller's.
        unsafe {
            match self.kept {
                Lent::F32(kept) => run(isa, self.job(head, rows, (kept, None), scratch)),
                Lent::Bf16(kept) => run(isa, self.job(head, rows, (kept, None), scratch)),
                Lent::Int8(kept, scales) => {
                    run(isa, self.job(head, rows, (kept, Some(scales)), scratch));
                }
            }
        }
    }

    fn job<'b, T: Element>(
        &'b self,
        head: usize,
        rows: Range<usize>,
        ([keys, values], scales): ([Rows<'_, T>; 2], Option<[Rows<'_, f32>; 2]>),
        scratch: &'b mut AttendScratch,
    ) -> Attend<'b, T> {
        Attend {
            attention: self,
            head,
            rows,
            keys: keys.at(0, 0),
            values: values.at(0, 0),
            scales: scales.map(|scales| scales.map(|of| of.at(0, 0).cast_const())),
            scratch,
        }
    }
}

/// Memory of a thread that attends.
#[derive(Debug)]
pub(crate) struct AttendScratch {
    queries: Buffer<f32>,
    scores: Buffer<f32>,
    output: Buffer<f32>,
}

impl Default for AttendScratch {
    fn default() -> Self {
        Self {
            queries: Buffer::zeroed(0),
            scores: Buffer::zeroed(QUERY_TILE * KEY_BLOCK),
            output: Buffer::zeroed(0),
        }
    }
}

impl AttendScratch {
    fn reserve(&mut self, shape: &KeptShape) {
        self.queries.reserve(QUERY_TILE * shape.head_dim);
        self.output.reserve(QUERY_TILE * padded(shape.value_dim));
    }
}

/// One task; a row is a head of the group of one token.
struct Attend<'a, T> {
    attention: &'a CachedAttention<'a>,
    head: usize,
    rows: Range<usize>,
    keys: *const T,
    values: *const T,
    /// Scales of keys and values by token.
    scales: Option<[*const f32; 2]>,
    scratch: &'a mut AttendScratch,
}

impl<T: Element> Kernel for Attend<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let (attention, shape) = (self.attention, self.attention.shape);
        let width = padded(shape.value_dim);
        let group = attention.group();
        let count = self.rows.len();
        // SAFETY: rows of this conversation, keys and values that were appended, scratch of this
        // thread.
        unsafe {
            self.gather_queries();
            let AttendScratch {
                queries,
                scores,
                output,
            } = self.scratch;
            output[..count * width].fill(0.0);
            let mut running = [Running {
                maximum: MASKED,
                sum: 0.0,
            }; QUERY_TILE];
            let length = attention.past + attention.count;
            let seen = |row: usize| {
                let position = attention.past + row / group;
                attention.heads.reach.of(position, length)
            };
            let end = seen(self.rows.end - 1).end;
            // Blocks begin at multiples of their size, so that a query's sums do not depend on who
            // shares its tile. What a tile does not see of the first is left out whole panels at a
            // time: it would add zeros.
            let mut key = seen(self.rows.start).start / PANEL * PANEL;
            while key < end {
                let block = key..((key / KEY_BLOCK + 1) * KEY_BLOCK).min(end);
                let panels = block.len().div_ceil(PANEL);
                let place = shape.place(attention.layer, self.head);
                let within = block.start - shape.chunk(block.start).0;
                let keys = shape.at(place, block.start, shape.head_dim);
                let keys = self.keys.add(keys + within * shape.head_dim);
                let values = shape.at(place, block.start, width) + within * width;
                for panel in 0..panels {
                    let b = keys.add(panel * PANEL * shape.head_dim);
                    let product = Product {
                        a: queries.as_ptr(),
                        a_stride: shape.head_dim,
                        b,
                        b_stride: PANEL,
                        steps: shape.head_dim,
                        out: scores.as_mut_ptr().add(panel * PANEL),
                        out_stride: KEY_BLOCK,
                        add: false,
                    };
                    product.all::<S>(count);
                }
                for (index, row) in self.rows.clone().enumerate() {
                    let scores = &mut scores[index * KEY_BLOCK..][..panels * PANEL];
                    let at = shape.at(place, block.start, 1) + within;
                    let scales = self.scales.map(|scales| scales.map(|of| of.add(at)));
                    if let Some([keys, _]) = scales {
                        multiply::<S>(scores, keys);
                    }
                    hide(scores, seen(row), &block);
                    let output = &mut output[index * width..][..width];
                    running[index] = soften::<S>(running[index], 1.0, scores, output);
                    if let Some([_, values]) = scales {
                        multiply::<S>(scores, values);
                    }
                }
                for column in (0..width).step_by(PANEL) {
                    let product = Product {
                        a: scores.as_ptr(),
                        a_stride: KEY_BLOCK,
                        b: self.values.add(values + column),
                        b_stride: width,
                        steps: block.len(),
                        out: output.as_mut_ptr().add(column),
                        out_stride: width,
                        add: true,
                    };
                    product.all::<S>(count);
                }
                key = block.end;
            }
            for (index, row) in self.rows.clone().enumerate() {
                let factor = 1.0 / running[index].sum;
                let head = self.head * group + row % group;
                let token = attention.first + row / group;
                let out = attention.out.at(token, head * shape.value_dim);
                for (i, value) in output[index * width..][..shape.value_dim]
                    .iter()
                    .enumerate()
                {
                    out.add(i).write(value * factor);
                }
            }
        }
    }
}

impl<T: Element> Attend<'_, T> {
    /// The task's queries side by side, scaled.
    ///
    /// # Safety
    ///
    /// The queries are complete.
    #[inline(always)]
    unsafe fn gather_queries(&mut self) {
        let attention = self.attention;
        let (group, head_dim) = (attention.group(), attention.shape.head_dim);
        for (index, row) in self.rows.clone().enumerate() {
            let head = self.head * group + row % group;
            let from = attention
                .qkv
                .at(attention.first + row / group, head * head_dim);
            let to = &mut self.scratch.queries[index * head_dim..][..head_dim];
            for (i, to) in to.iter_mut().enumerate() {
                // SAFETY: inside the row.
                *to = unsafe { from.add(i).read() } * attention.heads.scale;
            }
        }
    }
}

/// `scores[i] *= scales[i]`.
///
/// # Safety
///
/// `scales` is as long as `scores`, which are whole panels; the CPU has `S`.
#[inline(always)]
unsafe fn multiply<S: Simd>(scores: &mut [f32], scales: *const f32) {
    for at in (0..scores.len()).step_by(S::LANES) {
        // SAFETY: the caller's.
        unsafe {
            let to = scores.as_mut_ptr().add(at);
            S::store(to, S::mul(S::load(to), S::load(scales.add(at))));
        }
    }
}

/// Hides the scores of keys that are not `seen`, and of those that pad the last panel.
#[inline(always)]
fn hide(scores: &mut [f32], seen: Range<usize>, block: &Range<usize>) {
    let start = seen.start.clamp(block.start, block.end) - block.start;
    let end = seen.end.clamp(block.start, block.end) - block.start;
    scores[..start].fill(MASKED);
    scores[end.max(start)..].fill(MASKED);
}

/// `out[row, 0..32] (+)= Σ a[row, i] · b[i, 0..32]` for a few rows.
#[derive(Clone, Copy)]
struct Product<T> {
    a: *const f32,
    a_stride: usize,
    b: *const T,
    b_stride: usize,
    steps: usize,
    out: *mut f32,
    out_stride: usize,
    add: bool,
}

impl<T: Element> Product<T> {
    /// # Safety
    ///
    /// The pointers are valid for `rows` rows, `steps` steps and one panel.
    #[inline(always)]
    unsafe fn all<S: Simd>(self, rows: usize) {
        let mut first = 0;
        while first < rows {
            let left = rows - first;
            // SAFETY: the caller's.
            first += unsafe {
                let tile = self.at_row(first);
                match left {
                    6.. if S::ROWS >= 12 => tile.some::<S, 6>(),
                    4.. if S::ROWS >= 12 => tile.some::<S, 4>(),
                    3.. => tile.some::<S, 3>(),
                    2 => tile.some::<S, 2>(),
                    _ => tile.some::<S, 1>(),
                }
            };
        }
    }

    fn at_row(self, row: usize) -> Self {
        Self {
            a: self.a.wrapping_add(row * self.a_stride),
            out: self.out.wrapping_add(row * self.out_stride),
            ..self
        }
    }

    /// `ROWS` rows, in two sums each so that few rows do not wait for every addition; as many of many
    /// rows, since a row's result must not depend on the others.
    ///
    /// # Safety
    ///
    /// As [`Product::all`].
    #[inline(always)]
    unsafe fn some<S: Simd, const ROWS: usize>(self) -> usize {
        const CHAINS: usize = 2;
        // SAFETY: the caller's.
        unsafe {
            for column in (0..PANEL).step_by(2 * S::LANES) {
                let mut sums = [[[S::splat(0.0); 2]; ROWS]; CHAINS];
                let b = self.b.add(column);
                let mut step = 0;
                while step + CHAINS <= self.steps {
                    for (chain, sums) in sums.iter_mut().enumerate() {
                        self.step::<S, ROWS>(b, step + chain, sums);
                    }
                    step += CHAINS;
                }
                while step < self.steps {
                    self.step::<S, ROWS>(b, step, &mut sums[0]);
                    step += 1;
                }
                for row in 0..ROWS {
                    for half in 0..2 {
                        let to = self
                            .out
                            .add(row * self.out_stride + column + half * S::LANES);
                        let mut value = sums[0][row][half];
                        for other in &sums[1..] {
                            value = S::add(value, other[row][half]);
                        }
                        if self.add {
                            value = S::add(value, S::load(to));
                        }
                        S::store(to, value);
                    }
                }
            }
        }
        ROWS
    }

    /// # Safety
    ///
    /// As [`Product::all`].
    #[inline(always)]
    unsafe fn step<S: Simd, const ROWS: usize>(
        &self,
        b: *const T,
        step: usize,
        sums: &mut [[S::F; 2]; ROWS],
    ) {
        // SAFETY: the caller's.
        unsafe {
            let at = b.add(step * self.b_stride);
            S::prefetch(at.wrapping_add(AHEAD * self.b_stride).cast());
            let (low, high) = (T::load::<S>(at), T::load::<S>(at.add(S::LANES)));
            for (row, sum) in sums.iter_mut().enumerate() {
                let a = S::splat(self.a.add(row * self.a_stride + step).read());
                sum[0] = S::fma(a, low, sum[0]);
                sum[1] = S::fma(a, high, sum[1]);
            }
        }
    }
}
