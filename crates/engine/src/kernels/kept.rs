//! What is kept of a conversation: the keys and values of its tokens, layer by layer.
//!
//! Keys are kept in panels of 32 tokens, column by column, values row by row.

use super::attention::Heads;
use super::buffer::{Buffer, Number};
use super::linear::to_bf16;
use super::rows::{PANEL, Rows, padded};
use super::simd::Simd;

/// Tokens that are kept next to each other.
pub(crate) const CHUNK: usize = 512;

/// The numbers that keys and values are kept in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheFormat {
    /// 16 bits.
    #[default]
    Bf16,
    /// Exact, at twice the memory.
    F32,
    /// 8 bits, and a scale for each head's key and value of a token: about half the memory.
    Int8,
}

/// A number as the cache keeps it.
pub(crate) trait Element: Number {
    /// Rounds to the kept format; whole numbers are within ±127.
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

impl Element for i8 {
    #[inline(always)]
    fn keep(value: f32) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "scaled to ±127")]
        let rounded = value.round() as i8;
        rounded
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S::F {
        // SAFETY: the caller's.
        unsafe { S::load_i8(from) }
    }
}

/// The shape of what is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeptShape {
    pub(crate) num_layers: usize,
    /// Of each layer.
    pub(crate) num_key_value_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) value_dim: usize,
    /// Tokens; a multiple of [`PANEL`].
    pub(crate) capacity: usize,
}

impl KeptShape {
    /// The number of a layer's head among all.
    pub(super) fn place(&self, layer: usize, head: usize) -> usize {
        layer * self.num_key_value_heads + head
    }

    /// First token of the chunk that `position` is in, and the chunk's tokens.
    pub(super) fn chunk(&self, position: usize) -> (usize, usize) {
        let start = position / CHUNK * CHUNK;
        (start, CHUNK.min(self.capacity - start))
    }

    /// Where the numbers of the head at `place` begin in the chunk of `position`, given the `width` of
    /// a token's.
    pub(super) fn at(&self, place: usize, position: usize, width: usize) -> usize {
        let (start, tokens) = self.chunk(position);
        (start * self.heads() + place * tokens) * width
    }

    /// Heads of all layers.
    fn heads(&self) -> usize {
        self.num_layers * self.num_key_value_heads
    }

    /// Bytes of all that is kept.
    pub(crate) fn bytes(&self, format: CacheFormat) -> usize {
        let numbers = self.head_dim + padded(self.value_dim);
        let each = match format {
            CacheFormat::F32 => 4 * numbers,
            CacheFormat::Bf16 => 2 * numbers,
            CacheFormat::Int8 => numbers + 2 * 4,
        };
        self.heads() * self.capacity * each
    }
}

/// Keys and values of one conversation, room for `capacity` tokens: chunk by chunk of [`CHUNK`] tokens,
/// in each head by head, those of the first layer first. In one piece, so that huge pages are worth
/// their while; by chunks, so that a short conversation touches no more of it than it needs.
#[derive(Debug)]
pub(crate) enum Kept {
    F32([Buffer<f32>; 2]),
    Bf16([Buffer<u16>; 2]),
    /// Numbers, then the scales of each head's tokens.
    Int8([Buffer<i8>; 2], [Buffer<f32>; 2]),
}

impl Default for Kept {
    fn default() -> Self {
        Self::new(&KeptShape::default(), CacheFormat::default())
    }
}

impl Kept {
    /// Room for what `shape` says.
    pub(crate) fn new(shape: &KeptShape, format: CacheFormat) -> Self {
        let tokens = shape.heads() * shape.capacity;
        let keys = tokens * shape.head_dim;
        let values = tokens * padded(shape.value_dim);
        match format {
            CacheFormat::F32 => Self::F32([Buffer::zeroed(keys), Buffer::zeroed(values)]),
            CacheFormat::Bf16 => Self::Bf16([Buffer::zeroed(keys), Buffer::zeroed(values)]),
            CacheFormat::Int8 => {
                let scales = || Buffer::zeroed(tokens);
                let numbers = [Buffer::zeroed(keys), Buffer::zeroed(values)];
                Self::Int8(numbers, [scales(), scales()])
            }
        }
    }

    /// Lends the memory to the members of a team.
    pub(crate) fn lend(&mut self) -> Lent<'_> {
        match self {
            Self::F32(pair) => Lent::F32(lend(pair)),
            Self::Bf16(pair) => Lent::Bf16(lend(pair)),
            Self::Int8(pair, scales) => Lent::Int8(lend(pair), lend(scales)),
        }
    }

    /// Copies the first `length` tokens of `other`, kept in the same shape and format.
    ///
    /// # Panics
    ///
    /// If they are not.
    pub(crate) fn copy_beginning(&mut self, other: &Self, shape: &KeptShape, length: usize) {
        match (self, other) {
            (Self::F32(to), Self::F32(from)) => copy(to, from, shape, length),
            (Self::Bf16(to), Self::Bf16(from)) => copy(to, from, shape, length),
            (Self::Int8(to, to_scales), Self::Int8(from, from_scales)) => {
                copy(to, from, shape, length);
                for (to, from) in to_scales.iter_mut().zip(from_scales) {
                    copy_heads(to, from, shape, length, 1);
                }
            }
            _ => panic!("caches of one model have one format; this is a bug"),
        }
    }
}

fn copy<T: Number>(
    [to_keys, to_values]: &mut [Buffer<T>; 2],
    [keys, values]: &[Buffer<T>; 2],
    shape: &KeptShape,
    length: usize,
) {
    // Panels of keys are copied whole.
    let whole = length.next_multiple_of(PANEL);
    copy_heads(to_keys, keys, shape, whole, shape.head_dim);
    copy_heads(to_values, values, shape, length, padded(shape.value_dim));
}

/// Copies the first `length` tokens of every head, `width` numbers each.
fn copy_heads<T: Number>(to: &mut [T], from: &[T], shape: &KeptShape, length: usize, width: usize) {
    for start in (0..length).step_by(CHUNK) {
        let tokens = CHUNK.min(length - start);
        for place in 0..shape.heads() {
            let at = shape.at(place, start, width);
            let range = at..at + tokens * width;
            to[range.clone()].copy_from_slice(&from[range]);
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
    Int8([Rows<'a, i8>; 2], [Rows<'a, f32>; 2]),
}

/// New keys and values of one conversation, rows `first..first + count`, on their way to what is kept.
#[derive(Clone, Copy)]
pub(super) struct Append<'a> {
    pub(super) heads: Heads,
    pub(super) shape: KeptShape,
    pub(super) qkv: Rows<'a, f32>,
    pub(super) layer: usize,
    pub(super) first: usize,
    pub(super) count: usize,
    /// Tokens kept before.
    pub(super) past: usize,
}

impl Append<'_> {
    /// Keeps one head's.
    ///
    /// # Safety
    ///
    /// Each head by one thread at a time; the new rows are complete, and there is room for them.
    pub(super) unsafe fn to(&self, head: usize, kept: Lent<'_>) {
        // SAFETY: the caller's.
        unsafe {
            match kept {
                Lent::F32(kept) => self.rounded(head, kept, None),
                Lent::Bf16(kept) => self.rounded(head, kept, None),
                Lent::Int8(kept, scales) => self.rounded(head, kept, Some(scales)),
            }
        }
    }

    /// # Safety
    ///
    /// As [`Append::to`].
    unsafe fn rounded<T: Element>(
        &self,
        head: usize,
        [keys, values]: [Rows<'_, T>; 2],
        scales: Option<[Rows<'_, f32>; 2]>,
    ) {
        let KeptShape {
            head_dim,
            value_dim,
            ..
        } = self.shape;
        let place = self.shape.place(self.layer, head);
        for token in 0..self.count {
            let (row, position) = (self.first + token, self.past + token);
            let within = position - self.shape.chunk(position).0;
            let at = |width: usize| self.shape.at(place, position, width);
            // SAFETY: the pointers stay inside the conversation's rows and the head's part of what
            // is kept, where there is room.
            unsafe {
                let scaled = |which: usize, numbers: *const f32, count: usize| match scales {
                    None => 1.0,
                    Some(scales) => {
                        let numbers = std::slice::from_raw_parts(numbers, count);
                        let largest = numbers.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                        let scale = scales[which].at(0, at(1) + within);
                        scale.write(largest / 127.0);
                        if largest > 0.0 { 127.0 / largest } else { 0.0 }
                    }
                };
                let key = self.qkv.at(row, self.heads.key_column() + head * head_dim);
                let factor = scaled(0, key, head_dim);
                let panel = within / PANEL * PANEL * head_dim + within % PANEL;
                let panel = keys.at(0, at(head_dim) + panel);
                for i in 0..head_dim {
                    panel
                        .add(i * PANEL)
                        .write(T::keep(key.add(i).read() * factor));
                }
                let column = self.heads.value_column() + head * value_dim;
                let value = self.qkv.at(row, column);
                let factor = scaled(1, value, value_dim);
                let width = padded(value_dim);
                let target = values.at(0, at(width) + within * width);
                for i in 0..value_dim {
                    target.add(i).write(T::keep(value.add(i).read() * factor));
                }
            }
        }
    }
}
