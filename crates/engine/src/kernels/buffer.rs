//! Aligned, zeroed memory for weights and activations.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

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

/// Weights of at least this size lie in a slab.
const SHARED: usize = 1 << 16;

/// Address space that the weights of several layers share: a layer is about as large as a huge page,
/// so a mapping of its own would rarely hold one. What is not used takes no memory.
const SLAB: usize = 16 << 20;

/// A cache line, the alignment of every buffer.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

enum Memory {
    Lines(Vec<Line>),
    Map(MmapMut),
    /// From the given byte of a slab on; no other buffer has these bytes.
    Part(Arc<MmapMut>, usize),
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
        let mapped = if bytes >= MAPPED { map(bytes) } else { None };
        let memory = match mapped {
            Some(map) => Memory::Map(map),
            None => Memory::Lines(vec![Line([0; 64]); bytes.div_ceil(64)]),
        };
        Self {
            memory,
            length,
            numbers: PhantomData,
        }
    }

    /// A zeroed buffer for weights, which every pass reads from end to end: in huge pages as far as
    /// there are any, since the CPU otherwise looks up a page for every few multiplications.
    pub(crate) fn for_weights(length: usize) -> Self {
        let bytes = length * size_of::<T>();
        match if bytes >= SHARED { part(bytes) } else { None } {
            None => Self::zeroed(length),
            Some(memory) => Self {
                memory,
                length,
                numbers: PhantomData,
            },
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
            Memory::Part(slab, start) => slab.as_ptr().wrapping_add(*start),
        }
    }
}

fn map(bytes: usize) -> Option<MmapMut> {
    let map = MmapMut::map_anon(bytes).ok()?;
    #[cfg(target_os = "linux")]
    // Advice only: where the kernel declines, small pages serve as well.
    let _ = map.advise(memmap2::Advice::HugePage);
    Some(map)
}

/// The next `bytes` of the slab in use, or of a new one. A slab goes when its last part goes.
fn part(bytes: usize) -> Option<Memory> {
    /// A slab and how much of it is taken.
    static SLAB_IN_USE: Mutex<Option<(Arc<MmapMut>, usize)>> = Mutex::new(None);
    let mut in_use = SLAB_IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = bytes.next_multiple_of(size_of::<Line>());
    let room = |(slab, taken): &(Arc<MmapMut>, usize)| slab.len() - taken;
    if in_use.as_ref().is_none_or(|slab| room(slab) < bytes) {
        // Whole huge pages, so that the kernel begins at the border of one.
        let size = bytes.next_multiple_of(SLAB);
        *in_use = Some((Arc::new(map(size)?), 0));
    }
    let (slab, taken) = in_use.as_mut()?;
    let start = *taken;
    *taken += bytes;
    Some(Memory::Part(Arc::clone(slab), start))
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
            Memory::Part(..) => self.base().cast_mut().cast(),
        };
        // SAFETY: as in `deref`, and `self` is borrowed exclusively; of a slab it has its bytes alone.
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

    #[test]
    fn weights_share_slabs_and_nothing_else() {
        let lengths = [1, SHARED - 1, SHARED, SHARED + 1, SLAB / 2, SLAB, SLAB + 1];
        let mut buffers: Vec<Buffer<i8>> = lengths
            .iter()
            .map(|length| Buffer::for_weights(*length))
            .collect();
        for (value, buffer) in (1..).zip(&mut buffers) {
            assert_eq!(buffer.as_ptr() as usize % 64, 0);
            assert!(buffer.iter().all(|byte| *byte == 0));
            buffer.fill(value);
        }
        drop(buffers.remove(2));
        for (length, buffer) in lengths
            .iter()
            .filter(|length| **length != SHARED)
            .zip(&buffers)
        {
            assert_eq!(buffer.len(), *length);
            assert!(buffer.iter().all(|byte| *byte == buffer[0] && *byte != 0));
        }
    }
}
