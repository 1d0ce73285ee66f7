//! Numbers side by side: the first of them mapped from a file, the later ones in memory.

#![expect(
    unsafe_code,
    reason = "a map of a file has no type: sections of numbers are cut from it here alone"
)]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

/// A file in memory, page by page as it is read. Changes stay in this process.
pub(super) fn map(file: &File) -> io::Result<Arc<MmapRaw>> {
    // SAFETY: files of packed rows are replaced whole by renaming and never changed in place
    // (`file`), so the pages below stay as they are while the map lives.
    let map = unsafe { MmapOptions::new().no_reserve_swap().map_copy(file)? };
    Ok(Arc::new(map.into()))
}

/// Zeros in pages of 2 MiB, where the system has them: what is read here and there over hundreds of
/// megabytes would look up the place of most small pages anew.
fn huge_pages(bytes: usize) -> io::Result<Arc<MmapRaw>> {
    let map = MmapRaw::from(MmapOptions::new().len(bytes).map_anon()?);
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(Arc::new(map))
}

/// Numbers for which every pattern of bits stands for one.
pub(crate) trait Plain: Copy + Default + 'static {}
impl Plain for u8 {}
impl Plain for f32 {}
impl Plain for i32 {}
impl Plain for i64 {}
impl Plain for u32 {}
impl Plain for u64 {}

/// Numbers that lie in a map. Each is in one section only.
pub(super) struct Section<T> {
    start: NonNull<T>,
    len: usize,
    /// Keeps the pages where they are.
    _map: Option<Arc<MmapRaw>>,
}

// SAFETY: a section owns its numbers as a vector does: no other section has them (`Section::new`).
unsafe impl<T: Send> Send for Section<T> {}
// SAFETY: as above; shared references only read.
unsafe impl<T: Sync> Sync for Section<T> {}

impl<T: Plain> Section<T> {
    /// `len` numbers from byte `offset` on; `None` if they are not all there or not aligned.
    ///
    /// # Safety
    ///
    /// No two sections of one map may overlap.
    pub(super) unsafe fn new(map: &Arc<MmapRaw>, offset: usize, len: usize) -> Option<Self> {
        let end = len.checked_mul(size_of::<T>())?.checked_add(offset)?;
        if end > map.len() || !offset.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: `offset` lies in the map, which starts at a page.
        let start = unsafe { map.as_mut_ptr().add(offset) }.cast();
        Some(Self {
            start: NonNull::new(start)?,
            len,
            _map: Some(Arc::clone(map)),
        })
    }
}

impl<T> Default for Section<T> {
    fn default() -> Self {
        Self {
            start: NonNull::dangling(),
            len: 0,
            _map: None,
        }
    }
}

impl<T> Deref for Section<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` numbers from `start` on lie in the map, which `self` keeps, and any bits
        // are a number (`Plain`); without a map there are none.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Section<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`; the map is private and writable, and nobody else has this part.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// Numbers that grow at the end. A range that is asked for lies either in the mapped part or
/// behind it.
#[derive(Default)]
pub(crate) struct Column<T> {
    base: Section<T>,
    tail: Vec<T>,
}

impl<T: Plain> Column<T> {
    pub(super) fn mapped(base: Section<T>) -> Self {
        let tail = Vec::new();
        Self { base, tail }
    }

    /// Zeros that are to be read here and there.
    pub(super) fn scattered(len: usize) -> Self {
        let map = huge_pages(len.saturating_mul(size_of::<T>()).max(1));
        // SAFETY: the map is new, and this is its only section.
        let base = map
            .ok()
            .and_then(|map| unsafe { Section::new(&map, 0, len) });
        base.map_or_else(
            || Self {
                base: Section::default(),
                tail: vec![T::default(); len],
            },
            Self::mapped,
        )
    }

    pub(crate) fn len(&self) -> usize {
        self.base.len() + self.tail.len()
    }

    #[inline]
    pub(crate) fn get(&self, range: Range<usize>) -> &[T] {
        let base = self.base.len();
        if range.start < base {
            &self.base[range]
        } else {
            &self.tail[range.start - base..range.end - base]
        }
    }

    pub(crate) fn get_mut(&mut self, range: Range<usize>) -> &mut [T] {
        let base = self.base.len();
        if range.start < base {
            &mut self.base[range]
        } else {
            &mut self.tail[range.start - base..range.end - base]
        }
    }

    /// The mapped part and what lies behind it.
    pub(super) fn parts(&self) -> [&[T]; 2] {
        [&self.base, &self.tail]
    }

    pub(crate) fn reserve_exact(&mut self, additional: usize) {
        self.tail.reserve_exact(additional);
    }

    pub(crate) fn extend(&mut self, values: impl IntoIterator<Item = T>) {
        self.tail.extend(values);
    }

    /// Makes it `len` long, which is no less than the mapped part; what is new is `value`.
    pub(crate) fn resize(&mut self, len: usize, value: T) {
        self.tail.resize(len - self.base.len(), value);
    }

    /// Copies within the part behind the map.
    pub(crate) fn copy_within(&mut self, from: Range<usize>, to: usize) {
        let base = self.base.len();
        self.tail
            .copy_within(from.start - base..from.end - base, to - base);
    }
}

impl<T> fmt::Debug for Column<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (base, tail) = (self.base.len, self.tail.len());
        write!(f, "Column({base} mapped, {tail} more)")
    }
}
