//! Reading little-endian fields one after another, never past the end.

/// A position in bytes that were not checked yet.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

/// The bytes ended before the field did.
#[derive(Clone, Copy, Debug)]
pub(super) struct CutOff;

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], position: usize) -> Self {
        Self { bytes, position }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn take(&mut self, length: u64) -> Result<&'a [u8], CutOff> {
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| self.position.checked_add(length));
        let taken = end
            .and_then(|end| self.bytes.get(self.position..end))
            .ok_or(CutOff)?;
        self.position += taken.len();
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CutOff> {
        self.take(N as u64)?.try_into().map_err(|_| CutOff)
    }

    pub(super) fn u32(&mut self) -> Result<u32, CutOff> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, CutOff> {
        self.array().map(u64::from_le_bytes)
    }

    /// The bytes of a string: a length of 8 bytes, then so many bytes.
    pub(super) fn string(&mut self) -> Result<&'a [u8], CutOff> {
        let length = self.u64()?;
        self.take(length)
    }
}
