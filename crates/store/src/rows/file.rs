//! Packed rows in a file beside the database, which is mapped instead of read.
//!
//! The file is derived: whoever opens it knows by a token, kept in the database, that it was made
//! of this very database, and reads from the database what came later. Without it, or if it does
//! not agree with its own header, everything is read from the database.
//!
//! It is written under another name, synced, and renamed, so it is whole or not there. It is never
//! changed in place: who has it mapped keeps the earlier one.
//!
//! Layout, little-endian: a page of [`Header`], then five sections that start at whole pages: the
//! ids of the rows, ascending (i64), their values (f32), and their codes, scales and errors as
//! [`Codes`] keeps them.

#![expect(
    unsafe_code,
    reason = "sections of a map must be told not to overlap, which the layout sees to"
)]

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use memmap2::MmapRaw;

use super::Rows;
use super::column::{self, Column, Plain, Section};
use crate::codes::{BLOCK, Codes};

const MAGIC: [u8; 8] = *b"WENYIROW";
const VERSION: u32 = 1;

/// Sections start at multiples of this: a page of memory.
const PAGE: usize = 4096;

const NUM_SECTIONS: usize = 5;

/// What the file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    token: i64,
    dimensions: usize,
    num_rows: usize,
    /// CRC-32 of each section.
    checksums: [u32; NUM_SECTIONS],
}

/// Where the sections lie: `(offset, bytes)` of each, in order.
fn layout(dimensions: usize, num_rows: usize) -> Option<[(usize, usize); NUM_SECTIONS]> {
    let codes = num_rows.checked_mul(Codes::bytes_a_row(dimensions))?;
    let sizes = [
        num_rows.checked_mul(8)?,
        num_rows.checked_mul(dimensions)?.checked_mul(4)?,
        codes,
        num_rows * 4,
        num_rows * 4,
    ];
    let mut offset = PAGE;
    let mut sections = [(0, 0); NUM_SECTIONS];
    for (section, size) in sections.iter_mut().zip(sizes) {
        *section = (offset, size);
        offset = offset.checked_add(size)?.checked_next_multiple_of(PAGE)?;
    }
    Some(sections)
}

/// Bytes of the header without its own checksum.
const HEADER_BYTES: usize = 8 + 4 + 4 + 8 + 8 + 4 * NUM_SECTIONS;

impl Header {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((self.dimensions as u32).to_le_bytes());
        bytes.extend((self.num_rows as u64).to_le_bytes());
        bytes.extend(self.token.to_le_bytes());
        for checksum in self.checksums {
            bytes.extend(checksum.to_le_bytes());
        }
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// `None` if these are not the bytes of a header of this version.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        if take::<8>(&mut rest)? != MAGIC || u32::from_le_bytes(take(&mut rest)?) != VERSION {
            return None;
        }
        let dimensions = u32::from_le_bytes(take(&mut rest)?) as usize;
        let num_rows = usize::try_from(u64::from_le_bytes(take(&mut rest)?)).ok()?;
        let token = i64::from_le_bytes(take(&mut rest)?);
        let mut checksums = [0; NUM_SECTIONS];
        for checksum in &mut checksums {
            *checksum = u32::from_le_bytes(take(&mut rest)?);
        }
        let header = Self {
            token,
            dimensions,
            num_rows,
            checksums,
        };
        let checksum = u32::from_le_bytes(take(&mut rest)?);
        (checksum == crc32fast::hash(bytes.get(..HEADER_BYTES)?)).then_some(header)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, others) = rest.split_first_chunk::<N>()?;
    *rest = others;
    Some(*first)
}

/// Writes the live rows to `path`, of which there are `ids`; says how many. They are a multiple of
/// a block of codes: the last few stay with the database.
pub(crate) fn write(path: &Path, token: i64, ids: &[i64], rows: &Rows) -> io::Result<usize> {
    let compact;
    let rows = match rows.num_live() == rows.len() {
        true => rows,
        false => {
            compact = rows.compacted();
            &compact
        }
    };
    debug_assert_eq!(ids.len(), rows.len());
    let num_rows = rows.len() / BLOCK * BLOCK;
    let too_large = || io::Error::from(io::ErrorKind::FileTooLarge);
    let sections = layout(rows.dimensions, num_rows).ok_or_else(too_large)?;
    let mut checksums = [0; NUM_SECTIONS];
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let (codes, scales, errors) = rows.codes.columns();
    let mut write = |section: usize, parts: &[&[u8]]| -> io::Result<()> {
        let (offset, mut left) = sections[section];
        file.seek(io::SeekFrom::Start(offset as u64))?;
        let mut checksum = crc32fast::Hasher::new();
        for part in parts {
            let part = &part[..left.min(part.len())];
            checksum.update(part);
            file.write_all(part)?;
            left -= part.len();
        }
        checksums[section] = checksum.finalize();
        Ok(())
    };
    let ids: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    write(0, &[&ids])?;
    write(1, &rows.values.parts().map(to_bytes))?;
    write(2, &codes.parts())?;
    write(3, &scales.parts().map(to_bytes))?;
    write(4, &errors.parts().map(to_bytes))?;
    let header = Header {
        token,
        dimensions: rows.dimensions,
        num_rows,
        checksums,
    };
    file.rewind()?;
    file.write_all(&header.to_bytes())?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    let (last, bytes) = sections[NUM_SECTIONS - 1];
    file.set_len((last + bytes) as u64)?;
    file.sync_all()?;
    Ok(num_rows)
}

/// The numbers as they lie in memory, which is little-endian wherever files are written.
fn to_bytes(values: &[f32]) -> &[u8] {
    // SAFETY: an f32 is four bytes, and every byte may be looked at.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// A file that agrees with its header.
struct Mapped {
    header: Header,
    sections: [(usize, usize); NUM_SECTIONS],
    map: Arc<MmapRaw>,
}

impl Mapped {
    /// `None` if there is no file of this token and width.
    fn open(path: &Path, token: i64, dimensions: usize) -> Option<Self> {
        if cfg!(target_endian = "big") {
            return None;
        }
        let mut file = File::open(path).ok()?;
        let mut bytes = [0; HEADER_BYTES + 4];
        file.read_exact(&mut bytes).ok()?;
        let header = Header::from_bytes(&bytes)?;
        let sections = layout(dimensions, header.num_rows)?;
        let (last, bytes) = sections[NUM_SECTIONS - 1];
        let is_whole = file.metadata().ok()?.len() == (last + bytes) as u64;
        let is_ours = (header.token, header.dimensions) == (token, dimensions);
        let fits = u32::try_from(header.num_rows).is_ok() && header.num_rows.is_multiple_of(BLOCK);
        (is_whole && is_ours && fits).then_some(())?;
        let map = column::map(&file).ok()?;
        Some(Self {
            header,
            sections,
            map,
        })
    }

    fn section<T: Plain>(&self, section: usize) -> Option<Section<T>> {
        let (offset, bytes) = self.sections[section];
        // SAFETY: the layout's sections do not overlap, and each is asked for once.
        unsafe { Section::new(&self.map, offset, bytes / size_of::<T>()) }
    }
}

/// The ids and rows of the file at `path`; `None` if there is none with this token, or it is torn.
/// The ids are verified at once, the rest by [`verify`].
pub(crate) fn read(path: &Path, token: i64, dimensions: usize) -> Option<(Vec<i64>, Rows)> {
    let mapped = Mapped::open(path, token, dimensions)?;
    let ids = mapped.section::<i64>(0)?;
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let ascend = ids.windows(2).all(|pair| pair[0] < pair[1]);
    (ascend && crc32fast::hash(&bytes) == mapped.header.checksums[0]).then_some(())?;
    let num_rows = mapped.header.num_rows;
    let codes = Codes::mapped(
        dimensions,
        num_rows,
        Column::mapped(mapped.section(2)?),
        Column::mapped(mapped.section(3)?),
        Column::mapped(mapped.section(4)?),
    );
    let rows = Rows {
        dimensions,
        base: num_rows,
        values: Column::mapped(mapped.section(1)?),
        ranks: (0..num_rows as u32).collect(),
        removed: vec![false; num_rows],
        codes,
    };
    Some((ids.to_vec(), rows))
}

/// The number of rows in the file at `path`; `None` if there is none with this token.
pub(crate) fn num_rows(path: &Path, token: i64, dimensions: usize) -> Option<usize> {
    Mapped::open(path, token, dimensions).map(|mapped| mapped.header.num_rows)
}

/// Reads the whole file and says whether it is what was written; true without a file of this
/// token, for then nobody reads one.
pub(crate) fn verify(path: &Path, token: i64, dimensions: usize) -> bool {
    let Some(mapped) = Mapped::open(path, token, dimensions) else {
        return true;
    };
    (0..NUM_SECTIONS).all(|section| {
        let bytes = mapped.section::<u8>(section);
        bytes.is_some_and(|bytes| crc32fast::hash(&bytes) == mapped.header.checksums[section])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::rows::Allowed;

    const DIMENSIONS: usize = 7;

    fn rows(random: &mut Random, num_rows: usize) -> (Vec<i64>, Rows) {
        let mut rows = Rows::new(DIMENSIONS);
        for rank in 0..num_rows as u32 {
            let values: Vec<f32> = (0..DIMENSIONS)
                .map(|_| random.below(9) as f32 / 4.0 - 1.0)
                .collect();
            rows.push(values, rank);
        }
        ((0..num_rows as i64).map(|row| 3 * row + 1).collect(), rows)
    }

    #[test]
    fn mapped_rows_and_more_behind_them_are_searched_as_those_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        let mut random = Random::new(8);
        let (ids, mut all) = rows(&mut random, 90);
        assert_eq!(write(&path, 5, &ids, &all).unwrap(), 80);
        let (read_ids, mut mapped) = read(&path, 5, DIMENSIONS).unwrap();
        assert_eq!(read_ids, ids[..80]);
        for row in 80..90 {
            mapped.push(all.row(row).to_vec(), row as u32);
        }
        let queries = [all.row(3).to_vec(), all.row(85).to_vec()];
        let queries = queries.each_ref().map(Vec::as_slice);
        let find = |rows: &Rows| {
            let ranks = |found: Vec<(f32, usize)>| -> Vec<_> {
                let ranked = found.into_iter();
                ranked.map(|(score, row)| (score, rows.rank(row))).collect()
            };
            let sieved = rows.search_sieved(2, &queries, 20, &Allowed::All);
            let scanned = rows.search(&queries, 20, &Allowed::All);
            let sieved: Vec<_> = sieved.into_iter().map(ranks).collect();
            assert_eq!(sieved, scanned.into_iter().map(ranks).collect::<Vec<_>>());
            sieved
        };
        assert_eq!(find(&mapped), find(&all));
        let keep = |rank: u32| !rank.is_multiple_of(3);
        mapped.retain_ranks(keep);
        all.retain_ranks(keep);
        assert_eq!(mapped.num_live(), all.len());
        assert_eq!(find(&mapped), find(&all));
        // A mapped row that is replaced is so for this process only.
        let vector = [0.5; DIMENSIONS];
        mapped.set(1, &vector);
        all.set(0, &vector);
        assert_eq!(find(&mapped), find(&all));
        let (ids, again) = read(&path, 5, DIMENSIONS).unwrap();
        assert_ne!(again.row(1), vector);
        // Written again, the removed rows are gone.
        let live: Vec<i64> = ids.into_iter().filter(|id| (id / 3) % 3 != 0).collect();
        let live = [&live[..], &[241, 244, 250, 253, 259, 262, 268]].concat();
        assert_eq!(write(&path, 6, &live[..all.len()], &mapped).unwrap(), 48);
        let (_, third) = read(&path, 6, DIMENSIONS).unwrap();
        for row in 0..48 {
            assert_eq!(third.row(row), all.row(row));
        }
    }

    #[test]
    fn torn_stale_and_changed_files_are_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        let (ids, rows) = rows(&mut Random::new(1), 32);
        write(&path, 5, &ids, &rows).unwrap();
        assert!(read(&path, 5, DIMENSIONS).is_some() && verify(&path, 5, DIMENSIONS));
        assert!(read(&path, 6, DIMENSIONS).is_none());
        assert!(read(&path, 5, DIMENSIONS + 1).is_none());
        let whole = std::fs::read(&path).unwrap();
        for cut in [0, 10, PAGE, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(read(&path, 5, DIMENSIONS).is_none(), "{cut}");
        }
        for byte in [0, 9, 12, 17, 25, 33, PAGE + 3] {
            let mut changed = whole.clone();
            changed[byte] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            assert!(read(&path, 5, DIMENSIONS).is_none(), "{byte}");
        }
        // What is not read at opening is seen by the whole reading.
        let mut changed = whole;
        changed[2 * PAGE + 1] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        assert!(read(&path, 5, DIMENSIONS).is_some() && !verify(&path, 5, DIMENSIONS));
    }
}
