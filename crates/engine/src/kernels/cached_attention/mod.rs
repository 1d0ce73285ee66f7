//! Attention of new tokens over the kept keys and values of their conversation.
//!
//! A task is a tile of queries that share one key-value head: the heads of its group, of one token or
//! of several. So each key and value is read once for the whole group, which is what counts when a
//! single token looks back over thousands. For such, a task is only a part of the keys, so that all
//! threads have work however few key-value heads there are; whoever ends last puts the parts
//! together.

mod parts;
mod product;
#[cfg(test)]
mod tests;

use std::ops::Range;

use self::parts::PART;
use self::product::Product;
use super::attention::{Heads, MASKED, Running, soften};
use super::buffer::Buffer;
use super::isa::Isa;
use super::kept::{Append, Element};
use super::rows::{PANEL, Rows, padded};
use super::simd::{Kernel, Simd, run};

pub(crate) use self::parts::{Parts, PartsMemory};
pub(crate) use super::kept::{CacheFormat, Kept, KeptShape, Lent};

/// Keys that are scored before the softmax moves on: those that are kept next to each other.
const KEY_BLOCK: usize = super::kept::CHUNK;

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
    /// Tasks that a tile's keys are shared out to.
    pub(crate) parts: usize,
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

    /// The parts of the keys of so many tokens.
    pub(crate) fn parts_of(tokens: usize) -> usize {
        tokens.div_ceil(PART)
    }

    /// Tasks of [`CachedAttention::attend`].
    pub(crate) fn num_tasks(&self) -> usize {
        self.heads.num_key_value_heads * self.tiles() * self.parts
    }

    /// Computes one task: a tile of queries of one key-value head, or a part of its keys, whose
    /// results are kept in `parts` as those of task `first + task`.
    ///
    /// # Safety
    ///
    /// All heads have been appended; each task by one thread.
    pub(crate) unsafe fn attend(
        &self,
        isa: Isa,
        task: usize,
        (parts, first): (Parts<'_>, usize),
        scratch: &mut AttendScratch,
    ) {
        let place = self.place(task);
        scratch.reserve(&self.shape);
        // SAFETY: the caller's.
        let running = unsafe {
            match self.kept {
                Lent::F32(kept) => run(isa, self.job(&place, (kept, None), scratch)),
                Lent::Bf16(kept) => run(isa, self.job(&place, (kept, None), scratch)),
                Lent::Int8(kept, scales) => {
                    run(isa, self.job(&place, (kept, Some(scales)), scratch))
                }
            }
        };
        let width = padded(self.shape.value_dim);
        let mut own = scratch.output.chunks_exact_mut(width).zip(running);
        let (task, first) = (first + task, first + task - place.part);
        // SAFETY: the task and its rows are this thread's, and those of the whole tile if it is the
        // last.
        unsafe {
            if self.parts == 1 {
                for (row, (values, running)) in place.rows.zip(&mut own) {
                    self.write(place.head, row, values, 1.0 / running.sum);
                }
                return;
            }
            for (row, (values, running)) in own.by_ref().take(place.rows.len()).enumerate() {
                parts.keep(task, row, running, values);
            }
            if parts.is_last(first, self.parts) {
                let values = &mut scratch.output[..width];
                for (index, row) in place.rows.enumerate() {
                    parts.merge(first, self.parts, index, values);
                    self.write(place.head, row, values, 1.0);
                }
            }
        }
    }

    /// What a task computes.
    fn place(&self, task: usize) -> Place {
        let (tile, part) = (task / self.parts, task % self.parts);
        let (head, tile) = (tile / self.tiles(), tile % self.tiles());
        let rows = self.count * self.group();
        Place {
            head,
            rows: tile * QUERY_TILE..((tile + 1) * QUERY_TILE).min(rows),
            part,
            keys: match self.parts {
                1 => 0..usize::MAX,
                _ => part * PART..(part + 1) * PART,
            },
        }
    }

    /// Writes the results of a row of a key-value head, times `factor`.
    ///
    /// # Safety
    ///
    /// The row is the calling thread's.
    unsafe fn write(&self, head: usize, row: usize, values: &[f32], factor: f32) {
        let head = head * self.group() + row % self.group();
        let token = self.first + row / self.group();
        let out = self.out.at(token, head * self.shape.value_dim);
        for (i, value) in values[..self.shape.value_dim].iter().enumerate() {
            // SAFETY: inside of the token's row.
            unsafe { out.add(i).write(value * factor) };
        }
    }

    fn job<'b, T: Element>(
        &'b self,
        place: &Place,
        ([keys, values], scales): ([Rows<'_, T>; 2], Option<[Rows<'_, f32>; 2]>),
        scratch: &'b mut AttendScratch,
    ) -> Attend<'b, T> {
        Attend {
            attention: self,
            head: place.head,
            rows: place.rows.clone(),
            part: place.keys.clone(),
            keys: keys.at(0, 0),
            values: values.at(0, 0),
            scales: scales.map(|scales| scales.map(|of| of.at(0, 0).cast_const())),
            scratch,
        }
    }
}

/// What a task computes: some queries of a head, and the keys that it looks at.
struct Place {
    head: usize,
    rows: Range<usize>,
    part: usize,
    keys: Range<usize>,
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
    /// The keys of this task.
    part: Range<usize>,
    keys: *const T,
    values: *const T,
    /// Scales of keys and values by token.
    scales: Option<[*const f32; 2]>,
    scratch: &'a mut AttendScratch,
}

impl<T: Element> Kernel for Attend<'_, T> {
    /// Of each query; its sum of weighted values is left in the scratch.
    type Output = [Running; QUERY_TILE];

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) -> Self::Output {
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
            let end = seen(self.rows.end - 1).end.min(self.part.end);
            // Blocks begin at multiples of their size, so that a query's sums do not depend on who
            // shares its tile. What a tile does not see of the first is left out whole panels at a
            // time: it would add zeros.
            let mut key = (seen(self.rows.start).start / PANEL * PANEL).max(self.part.start);
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
            running
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
