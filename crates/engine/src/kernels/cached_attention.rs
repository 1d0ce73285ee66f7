//! Attention of new tokens over the kept keys and values of their conversation.
//!
//! Keys are kept in panels of 32 tokens, column by column, values row by row, in bf16 or `f32`. A
//! task is a tile of queries that share one key-value head: the heads of its group, of one token or
//! of several. So each key and value is read once for the whole group, which is what counts when a
//! single token looks back over thousands.

use std::ops::Range;

use super::attention::{Heads, MASKED, Running, soften};
use super::buffer::{Buffer, Number};
use super::isa::Isa;
use super::linear::to_bf16;
use super::rows::{PANEL, Rows, padded};
use super::simd::{Kernel, Simd, run};

/// Keys that are scored before the softmax moves on, as in [`super::attention`].
const KEY_BLOCK: usize = 512;

/// Queries (tokens × heads of a group) of one task: as many as a register tile takes at most.
const QUERY_TILE: usize = 12;

/// A number as the cache keeps it.
pub(crate) trait Element: Number {
    /// Rounds to the kept format.
    fn keep(value: f32) -> Self;
    /// Reads `LANES` kept numbers.
    ///
    /// # Safety
    ///
    /// The CPU has `S`; `from` is valid for `LANES` elements.
    unsafe fn load<S: Simd>(from: *const Self) -> S::F;
}

impl Element for f32 {
    #[inline(always)]
    fn keep(value: f32) -> Self {
        value
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S::F {
        // SAFETY: the caller's.
        unsafe { S::load(from) }
    }
}

/// bf16.
impl Element for u16 {
    #[inline(always)]
    fn keep(value: f32) -> Self {
        to_bf16(value)
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S::F {
        // SAFETY: the caller's.
        unsafe { S::load_bf16(from) }
    }
}

/// Keys and values of one layer of one conversation, room for `capacity` tokens.
#[derive(Debug)]
pub(crate) enum Kept {
    /// Exact.
    F32([Buffer<f32>; 2]),
    /// Half the memory.
    Bf16([Buffer<u16>; 2]),
}

/// The shape of what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeptShape {
    pub(crate) num_key_value_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) value_dim: usize,
    /// Tokens; a multiple of [`PANEL`].
    pub(crate) capacity: usize,
}

impl KeptShape {
    fn key_length(&self) -> usize {
        self.capacity * self.head_dim
    }

    fn value_length(&self) -> usize {
        self.capacity * padded(self.value_dim)
    }

    /// Numbers kept for each layer.
    pub(crate) fn length(&self) -> usize {
        self.num_key_value_heads * (self.key_length() + self.value_length())
    }
}

impl Kept {
    /// Room in bf16, or in `f32` if `exact`.
    pub(crate) fn new(shape: &KeptShape, exact: bool) -> Self {
        let heads = shape.num_key_value_heads;
        let (keys, values) = (heads * shape.key_length(), heads * shape.value_length());
        if exact {
            Self::F32([Buffer::zeroed(keys), Buffer::zeroed(values)])
        } else {
            Self::Bf16([Buffer::zeroed(keys), Buffer::zeroed(values)])
        }
    }

    /// Lends the memory to the members of a team.
    pub(crate) fn lend(&mut self) -> Lent<'_> {
        match self {
            Self::F32(pair) => Lent::F32(lend(pair)),
            Self::Bf16(pair) => Lent::Bf16(lend(pair)),
        }
    }
}

fn lend<T: Number>([keys, values]: &mut [Buffer<T>; 2]) -> [Rows<'_, T>; 2] {
    let (num_keys, num_values) = (keys.len(), values.len());
    [
        Rows::new(keys, 1, num_keys),
        Rows::new(values, 1, num_values),
    ]
}

/// Keys and values shared by a team.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lent<'a> {
    F32([Rows<'a, f32>; 2]),
    Bf16([Rows<'a, u16>; 2]),
}

/// The new tokens of one conversation in one layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CachedAttention<'a> {
    pub(crate) heads: Heads,
    pub(crate) shape: KeptShape,
    pub(crate) kept: Lent<'a>,
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
        // SAFETY: the caller's.
        unsafe {
            match self.kept {
                Lent::F32(kept) => self.append_to(head, kept),
                Lent::Bf16(kept) => self.append_to(head, kept),
            }
        }
    }

    /// # Safety
    ///
    /// As [`CachedAttention::append`].
    unsafe fn append_to<T: Element>(&self, head: usize, [keys, values]: [Rows<'_, T>; 2]) {
        let KeptShape {
            head_dim,
            value_dim,
            ..
        } = self.shape;
        let keys = keys.at(0, head * self.shape.key_length());
        let values = values.at(0, head * self.shape.value_length());
        for token in 0..self.count {
            let (row, position) = (self.first + token, self.past + token);
            // SAFETY: the pointers stay inside the conversation's rows and the head's part of what
            // is kept; see the assertion in `append`.
            unsafe {
                let key = self.qkv.at(row, self.heads.key_column() + head * head_dim);
                let panel = keys.add(position / PANEL * PANEL * head_dim + position % PANEL);
                for i in 0..head_dim {
                    panel.add(i * PANEL).write(T::keep(key.add(i).read()));
                }
                let column = self.heads.value_column() + head * value_dim;
                let value = self.qkv.at(row, column);
                let target = values.add(position * padded(value_dim));
                for i in 0..value_dim {
                    target.add(i).write(T::keep(value.add(i).read()));
                }
            }
        }
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
                Lent::F32(kept) => run(isa, self.job(head, rows, kept, scratch)),
                Lent::Bf16(kept) => run(isa, self.job(head, rows, kept, scratch)),
            }
        }
    }

    fn job<'b, T: Element>(
        &'b self,
        head: usize,
        rows: Range<usize>,
        [keys, values]: [Rows<'_, T>; 2],
        scratch: &'b mut AttendScratch,
    ) -> Attend<'b, T> {
        Attend {
            attention: self,
            head,
            rows,
            keys: keys.at(0, head * self.shape.key_length()),
            values: values.at(0, head * self.shape.value_length()),
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
            let mut key = seen(self.rows.start).start / PANEL * PANEL;
            while key < end {
                let block = key..(key + KEY_BLOCK).min(end);
                let panels = block.len().div_ceil(PANEL);
                for panel in 0..panels {
                    let b = self
                        .keys
                        .add((block.start / PANEL + panel) * PANEL * shape.head_dim);
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
                    hide(scores, seen(row), &block);
                    let output = &mut output[index * width..][..width];
                    running[index] = soften::<S>(running[index], 1.0, scores, output);
                }
                for column in (0..width).step_by(PANEL) {
                    let product = Product {
                        a: scores.as_ptr(),
                        a_stride: KEY_BLOCK,
                        b: self.values.add(block.start * width + column),
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
                    12.. if S::ROWS >= 12 => tile.some::<S, 12, 1>(),
                    8.. if S::ROWS >= 12 => tile.some::<S, 8, 1>(),
                    6.. => tile.some::<S, 6, 1>(),
                    5 => tile.some::<S, 5, 1>(),
                    4 => tile.some::<S, 4, 1>(),
                    3 => tile.some::<S, 3, 2>(),
                    2 => tile.some::<S, 2, 2>(),
                    _ => tile.some::<S, 1, 4>(),
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

    /// `ROWS` rows, in `CHAINS` sums each so that no addition waits for the one before it.
    ///
    /// # Safety
    ///
    /// As [`Product::all`].
    #[inline(always)]
    unsafe fn some<S: Simd, const ROWS: usize, const CHAINS: usize>(self) -> usize {
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
            let (low, high) = (T::load::<S>(at), T::load::<S>(at.add(S::LANES)));
            for (row, sum) in sums.iter_mut().enumerate() {
                let a = S::splat(self.a.add(row * self.a_stride + step).read());
                sum[0] = S::fma(a, low, sum[0]);
                sum[1] = S::fma(a, high, sum[1]);
            }
        }
    }
}
