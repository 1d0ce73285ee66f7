//! Aligned, zeroed memory for weights and activations.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Plain numbers: every bit pattern is a value, zero included.
pub(crate) trait Number: Copy + Send + Sync + 'static {}
impl Number for f32 {}
impl Number for i32 {}
impl Number for i16 {}
impl Number for u16 {}
impl Number for i8 {}

/// Below this size a mapping of its own wastes more than huge pages save.
const MAPPED: usize = 1 << 20;

/// A cache line, the alignment of every buffer.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

enum Memory {
    Lines(Vec<Line>),
    Map(MmapMut),
}

/// `length` numbers, 64-byte aligned, zero at first; large ones ask for huge pages.
pub(crate) struct Buffer<T> {
    memory: Memory,
    length: usize,
    numbers: PhantomData<T>,
}

impl<T: Number> Buffer<T> {
    /// A zeroed buffer.
    pub(crate) fn zeroed(length: usize) -> Self {
        let bytes = length * size_of::<T>();
        let memory = if bytes >= MAPPED { map(bytes) } else { None };
        let memory =
            memory.unwrap_or_else(|| Memory::Lines(vec![Line([0; 64]); bytes.div_ceil(64)]));
        Self {
            memory,
            length,
            numbers: PhantomData,
        }
    }

    /// A copy of `values`, followed by zeros up to `length`.
    pub(crate) fn padded(values: &[T], length: usize) -> Self {
        let mut buffer = Self::zeroed(length);
        buffer[..values.len()].copy_from_slice(values);
        buffer
    }

    /// Grows (never shrinks) to `length`; the content is then unspecified.
    pub(crate) fn reserve(&mut self, length: usize) {
        if self.length < length {
            *self = Self::zeroed(length + length / 4);
        }
    }

    fn base(&self) -> *const u8 {
        match &self.memory {
            Memory::Lines(lines) => lines.as_ptr().cast(),
            Memory::Map(map) => map.as_ptr(),
        }
    }
}

fn map(bytes: usize) -> Option<Memory> {
    let map = MmapMut::map_anon(bytes).ok()?;
    #[cfg(target_os = "linux")]
    // Advice only: where the kernel declines, small pages serve as well.
    let _ = map.advise(memmap2::Advice::HugePage);
    Some(Memory::Map(map))
}

impl<T> Deref for Buffer<T>
where
    T: Number,
{
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the memory holds `length` numbers, is aligned to 64 bytes (a page for maps), was
        // zeroed, and every bit pattern of a `Number` is valid.
        unsafe { std::slice::from_raw_parts(self.base().cast(), self.length) }
    }
}

impl<T: Number> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let base = match &mut self.memory {
            Memory::Lines(lines) => lines.as_mut_ptr().cast(),
            Memory::Map(map) => map.as_mut_ptr().cast(),
        };
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(base, self.length) }
    }
}

impl<T> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({})", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_aligned_zeroed_and_writable_on_both_sides_of_the_mapping_size() {
        for length in [0, 1, 63, MAPPED / 4 - 1, MAPPED / 4, MAPPED] {
            let mut buffer = Buffer::<f32>::zeroed(length);
            assert_eq!(buffer.as_ptr() as usize % 64, 0);
            assert!(buffer.iter().all(|value| *value == 0.0));
            buffer.fill(1.5);
            assert_eq!(buffer.iter().filter(|value| **value == 1.5).count(), length);
        }
    }
}
