//! Packed rows in a file beside the database, marked by a token of the database (`sections`).
//!
//! Who opens it reads from the database what came later. Without it, or if it does not agree with
//! itself, everything is read from the database.
//!
//! Sections: the ids of the rows, ascending (i64), their values (f32), and their codes, scales and
//! errors as [`Codes`] keeps them.

use std::io;
use std::path::Path;

use super::Rows;
use super::column::Column;
use super::sections::{self, Header, Mapped, NUM_FIELDS, bytes_of};
use crate::codes::{BLOCK, Codes};

/// With the version of the layout.
const MAGIC: [u8; 8] = *b"WENYIRW1";

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
    let mut fields = [0; NUM_FIELDS];
    fields[..2].copy_from_slice(&[rows.dimensions as u64, num_rows as u64]);
    let header = Header {
        magic: MAGIC,
        token,
        fields,
    };
    let (codes, scales, errors) = rows.codes.columns();
    let bytes_a_row = Codes::bytes_a_row(rows.dimensions);
    let values = first(rows.values.parts(), num_rows * rows.dimensions);
    let codes = first(codes.parts(), num_rows * bytes_a_row);
    let scales = first(scales.parts(), num_rows);
    let errors = first(errors.parts(), num_rows);
    sections::write(
        path,
        &header,
        &[
            &[bytes_of(&ids[..num_rows])],
            &values.map(bytes_of),
            &codes,
            &scales.map(bytes_of),
            &errors.map(bytes_of),
        ],
    )?;
    Ok(num_rows)
}

/// The first `len` numbers of two parts.
fn first<T>([base, tail]: [&[T]; 2], len: usize) -> [&[T]; 2] {
    let in_base = len.min(base.len());
    [&base[..in_base], &tail[..len - in_base]]
}

fn open(path: &Path, token: i64, dimensions: usize) -> Option<(Mapped, usize)> {
    let mapped = Mapped::open(path, MAGIC, token)?;
    let [width, num_rows, ..] = mapped.header.fields;
    let num_rows = usize::try_from(num_rows).ok()?;
    let fits = u32::try_from(num_rows).is_ok() && num_rows.is_multiple_of(BLOCK);
    (fits && width == dimensions as u64).then_some((mapped, num_rows))
}

/// The ids and rows of the file at `path`; `None` if there is none with this token, or it is torn.
/// The ids are verified at once, the rest by [`verify`].
pub(crate) fn read(path: &Path, token: i64, dimensions: usize) -> Option<(Vec<i64>, Rows)> {
    let (mapped, num_rows) = open(path, token, dimensions)?;
    mapped.is_section_sound(0).then_some(())?;
    let ids = mapped.section::<i64>(0, num_rows)?;
    ids.windows(2).all(|pair| pair[0] < pair[1]).then_some(())?;
    let num_codes = num_rows.checked_mul(Codes::bytes_a_row(dimensions))?;
    let codes = Codes::mapped(
        dimensions,
        num_rows,
        Column::mapped(mapped.section(2, num_codes)?),
        Column::mapped(mapped.section(3, num_rows)?),
        Column::mapped(mapped.section(4, num_rows)?),
    );
    let num_values = num_rows.checked_mul(dimensions)?;
    let rows = Rows {
        dimensions,
        base: num_rows,
        values: Column::mapped(mapped.section(1, num_values)?),
        ranks: (0..num_rows as u32).collect(),
        removed: vec![false; num_rows],
        codes,
        index: None,
    };
    Some((ids.to_vec(), rows))
}

/// The number of rows in the file at `path`; `None` if there is none with this token.
pub(crate) fn num_rows(path: &Path, token: i64, dimensions: usize) -> Option<usize> {
    open(path, token, dimensions).map(|(_, num_rows)| num_rows)
}

/// Reads the whole file and says whether it is what was written; true without a file of this
/// token, for then nobody reads one.
pub(crate) fn verify(path: &Path, token: i64, dimensions: usize) -> bool {
    open(path, token, dimensions).is_none_or(|(mapped, _)| mapped.is_sound())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::random::Random;
    use crate::rows::Allowed;
    use crate::rows::sections::PAGE;

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
            let sieved = rows.search_sieved(Isa::best(), 2, &queries, 20, &Allowed::All);
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
