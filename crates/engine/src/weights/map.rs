//! The bytes of a weights file: mapped from disk, or held in memory.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use crate::{Error, Result};

/// Bytes that stay where they are for as long as the value lives.
#[derive(Debug)]
pub(super) enum Map {
    File(Mmap),
    Memory(Vec<u8>),
}

impl Map {
    /// Maps the file at `path` read-only; an empty file is an error, since it cannot be mapped.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::io(path, source))?;
        let length = file
            .metadata()
            .map_err(|source| Error::io(path, source))?
            .len();
        if length == 0 {
            return Err(Error::invalid(path, "the file is empty"));
        }
        map_file(&file)
            .map(Self::File)
            .map_err(|source| Error::io(path, source))
    }

    /// Lets go of the pages that were read; they are read again when they are asked for.
    #[cfg(unix)]
    #[expect(unsafe_code, reason = "advice that would lose what was written")]
    pub(super) fn release(&self) {
        if let Self::File(map) = self {
            // SAFETY: the map is of a file and read-only, so its pages come back as they were.
            // Advice only: where the system declines, memory is used a little longer.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }

    #[cfg(not(unix))]
    pub(super) fn release(&self) {}
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::File(map) => map,
            Self::Memory(bytes) => bytes,
        }
    }
}

#[expect(
    unsafe_code,
    reason = "a map of a file is as stable as the file, which no type can say"
)]
fn map_file(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is private to this process's reading and never written through. The hub
    // makes files appear by rename and never changes one in place, so nobody shortens a file
    // under a map; a user who does so with a file of their own ends the process by SIGBUS, as
    // with every program that maps its input.
    unsafe { Mmap::map(file) }
}
