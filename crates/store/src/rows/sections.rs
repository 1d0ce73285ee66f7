//! Files of numbers side by side, which are mapped instead of read.
//!
//! Such a file is derived: whoever opens it knows by a token, kept in the database, what it was made
//! of. It is written under another name, synced, and renamed, so it is whole or not there. It is
//! never changed in place: who has it mapped keeps the earlier one.
//!
//! Layout, little-endian: a page that says what the file is, then sections that start at whole
//! pages.

#![expect(
    unsafe_code,
    reason = "sections of a map must be told not to overlap, which the layout sees to"
)]

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use memmap2::MmapRaw;

use super::column::{self, Plain, Section};

/// Sections start at multiples of this: a page of memory.
pub(super) const PAGE: usize = 4096;

/// Most sections of a file: their places fit the first page.
const MAX_SECTIONS: usize = 8;

/// Numbers beside the sections, whose meaning is the file's own.
pub(super) const NUM_FIELDS: usize = 8;

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// What kind of file it is, and in which version of its layout.
    pub(super) magic: [u8; 8],
    /// What it was made of.
    pub(super) token: i64,
    pub(super) fields: [u64; NUM_FIELDS],
}

/// A section's place and CRC-32; none is at offset 0.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    offset: u64,
    bytes: u64,
    checksum: u32,
}

/// Bytes of the first page that are used, without its own checksum.
const HEADER_BYTES: usize = 8 + 8 + 8 * NUM_FIELDS + 20 * MAX_SECTIONS;

fn to_page(header: &Header, places: &[Place; MAX_SECTIONS]) -> Vec<u8> {
    let mut page = header.magic.to_vec();
    page.extend(header.token.to_le_bytes());
    for field in header.fields {
        page.extend(field.to_le_bytes());
    }
    for place in places {
        page.extend(place.offset.to_le_bytes());
        page.extend(place.bytes.to_le_bytes());
        page.extend(place.checksum.to_le_bytes());
    }
    page.extend(crc32fast::hash(&page).to_le_bytes());
    page
}

/// `None` if these are not the bytes of a first page.
fn from_page(page: &[u8; HEADER_BYTES + 4]) -> Option<(Header, [Place; MAX_SECTIONS])> {
    let (head, checksum) = page.split_last_chunk::<4>()?;
    (u32::from_le_bytes(*checksum) == crc32fast::hash(head)).then_some(())?;
    let mut rest = head;
    let magic = take(&mut rest)?;
    let token = i64::from_le_bytes(take(&mut rest)?);
    let mut fields = [0; NUM_FIELDS];
    for field in &mut fields {
        *field = u64::from_le_bytes(take(&mut rest)?);
    }
    let mut places = [Place::default(); MAX_SECTIONS];
    for place in &mut places {
        *place = Place {
            offset: u64::from_le_bytes(take(&mut rest)?),
            bytes: u64::from_le_bytes(take(&mut rest)?),
            checksum: u32::from_le_bytes(take(&mut rest)?),
        };
    }
    let header = Header {
        magic,
        token,
        fields,
    };
    Some((header, places))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, others) = rest.split_first_chunk::<N>()?;
    *rest = others;
    Some(*first)
}

/// Writes a file and syncs it. A section comes in parts.
pub(super) fn write(path: &Path, header: &Header, sections: &[&[&[u8]]]) -> io::Result<()> {
    assert!(sections.len() <= MAX_SECTIONS, "too many sections");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut places = [Place::default(); MAX_SECTIONS];
    let mut end = PAGE as u64;
    for (parts, place) in sections.iter().zip(&mut places) {
        place.offset = end.next_multiple_of(PAGE as u64);
        file.seek(SeekFrom::Start(place.offset))?;
        let mut checksum = crc32fast::Hasher::new();
        for part in *parts {
            checksum.update(part);
            file.write_all(part)?;
            place.bytes += part.len() as u64;
        }
        place.checksum = checksum.finalize();
        end = place.offset + place.bytes;
    }
    file.rewind()?;
    file.write_all(&to_page(header, &places))?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.set_len(end)?;
    file.sync_all()
}

/// The numbers as they lie in memory, which is little-endian wherever files are written.
pub(super) fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: a plain number is nothing but its bytes, and every byte may be looked at.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// A file whose first page is sound and that is as long as it says.
pub(super) struct Mapped {
    pub(super) header: Header,
    places: [Place; MAX_SECTIONS],
    /// Which sections have been given away.
    given: [Cell<bool>; MAX_SECTIONS],
    map: Arc<MmapRaw>,
}

impl Mapped {
    /// `None` if there is no such file of this token.
    pub(super) fn open(path: &Path, magic: [u8; 8], token: i64) -> Option<Self> {
        if cfg!(target_endian = "big") {
            return None;
        }
        let mut file = File::open(path).ok()?;
        let mut page = [0; HEADER_BYTES + 4];
        file.read_exact(&mut page).ok()?;
        let (header, places) = from_page(&page)?;
        let is_ours = (header.magic, header.token) == (magic, token);
        let ends = places.iter().map(|place| place.offset + place.bytes);
        let end = ends.max().unwrap_or(0).max(PAGE as u64);
        (is_ours && file.metadata().ok()?.len() == end).then_some(())?;
        let map = column::map(&file).ok()?;
        Some(Self {
            header,
            places,
            given: Default::default(),
            map,
        })
    }

    /// A section of `len` numbers; `None` if it is not so long, or was asked for before.
    pub(super) fn section<T: Plain>(&self, section: usize, len: usize) -> Option<Section<T>> {
        let place = self.places[section];
        let fits = place.bytes == len.checked_mul(size_of::<T>())? as u64;
        (fits && !self.given[section].replace(true)).then_some(())?;
        // SAFETY: `write` lets no two sections overlap, the page that says so has a checksum, and
        // each is given away once.
        unsafe { Section::new(&self.map, place.offset as usize, len) }
    }

    /// Reads the whole file and says whether it is what was written.
    pub(super) fn is_sound(&self) -> bool {
        (0..MAX_SECTIONS).all(|section| self.is_section_sound(section))
    }

    /// Reads a section, which must not have been asked for, and says whether it is what was written.
    pub(super) fn is_section_sound(&self, section: usize) -> bool {
        let Place {
            offset,
            bytes,
            checksum,
        } = self.places[section];
        // SAFETY: read only, before the section is given to anybody.
        let bytes = unsafe { Section::<u8>::new(&self.map, offset as usize, bytes as usize) };
        bytes.is_some_and(|bytes| crc32fast::hash(&bytes) == checksum)
    }
}
