//! A coarse form of the mapped rows, read first: a fraction of their bytes tells which rows are worth
//! a score in f32.
//!
//! Two forms: one bit a dimension (`bits`), or the leading dimensions in int8, for models that were
//! trained so that these say most (Matryoshka, Kusupati et al. 2022). Either names some times as many
//! rows as are asked for; these are scored in f32 over all dimensions, so that scores are exact and
//! only rows that were not named can be missed. How many times as many is measured on the
//! collection's own vectors when the form is made.
//!
//! Like a graph, it lies in a file beside the packed rows and is one of them alone: rows that came
//! later are scanned exactly, rows that left are passed over.

mod bits;

use std::io;
use std::path::Path;

use self::bits::Bits;
use super::column::Column;
use super::sections::{self, Header, Mapped, bytes_of};
use super::sieve::Sieve;
use super::{Allowed, Nearest, Rows, Sample};
use crate::codes::Codes;
use crate::isa::Isa;

/// With the version of the layout.
const MAGIC: [u8; 8] = *b"WENYICO2";

/// Recalls are kept in millionths.
const MILLION: f64 = 1e6;

/// What is read first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoarseForm {
    /// One bit a dimension: on which side of the vectors' mean it lies.
    Binary,
    /// The leading dimensions in int8, at unit length.
    Leading {
        /// How many.
        dimensions: usize,
    },
}

/// What a coarse form is and how much it finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CoarseInfo {
    /// What is read first.
    pub form: CoarseForm,
    /// The rows in it.
    pub num_rows: usize,
    /// How many times as many rows as are asked for are scored in f32.
    pub oversampling: usize,
    /// Of the ten closest rows of the collection's own vectors, how many a search finds: measured
    /// on a sample when the form was made.
    pub recall_at_10: f64,
}

/// A coarse form of the first rows of a collection.
#[derive(Debug)]
pub(crate) struct Coarse {
    info: CoarseInfo,
    rows: CoarseRows,
}

#[derive(Debug)]
enum CoarseRows {
    Binary(Bits),
    Leading(Codes),
}

impl Coarse {
    /// Makes the coarse form of the mapped rows, and measures it: the smallest oversampling is taken
    /// whose recall reaches `target`, or the greatest.
    pub(crate) fn build(rows: &Rows, form: CoarseForm, target: f64) -> Self {
        let coarse_rows = match form {
            CoarseForm::Binary => CoarseRows::Binary(Bits::of(rows)),
            CoarseForm::Leading { dimensions } => {
                let mut codes = Codes::new(dimensions);
                codes.reserve(rows.base());
                for row in 0..rows.base() {
                    codes.push(&leading(rows.row(row), dimensions));
                }
                CoarseRows::Leading(codes)
            }
        };
        let mut coarse = Self {
            info: CoarseInfo {
                form,
                num_rows: rows.base(),
                oversampling: 1,
                recall_at_10: 0.0,
            },
            rows: coarse_rows,
        };
        coarse.tune(rows, target);
        coarse
    }

    fn tune(&mut self, rows: &Rows, target: f64) {
        let sample = Sample::of(rows);
        for oversampling in [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128] {
            self.info.oversampling = oversampling;
            let found = self.search(rows, 1, &sample.queries, Sample::TOP_K, &Allowed::All);
            let recall = sample.recall(&found);
            self.info.recall_at_10 = (recall * MILLION).floor() / MILLION;
            if recall >= target {
                break;
            }
        }
    }

    pub(crate) fn info(&self) -> CoarseInfo {
        self.info
    }

    /// How many rows are scored for this many results among a share of all rows: more for a smaller
    /// one, whose closest rows may be farther away and harder to tell apart.
    pub(super) fn num_candidates(&self, top_k: usize, share: f64) -> usize {
        let usual = top_k.saturating_mul(self.info.oversampling);
        (usual as f64 / share.clamp(0.25, 1.0)).ceil() as usize
    }

    /// About the `top_k` rows closest to each query among the allowed ones: those of the coarse form
    /// that it names, and those behind it.
    pub(super) fn search(
        &self,
        rows: &Rows,
        threads: usize,
        queries: &[&[f32]],
        top_k: usize,
        allowed: &Allowed,
    ) -> Vec<Nearest> {
        let count = self.num_candidates(top_k, allowed.share(rows.len()));
        let mut named = match &self.rows {
            CoarseRows::Binary(bits) => bits.nearest(rows, threads, queries, count, allowed),
            CoarseRows::Leading(codes) => {
                let CoarseForm::Leading { dimensions } = self.info.form else {
                    return Vec::new();
                };
                let short: Vec<_> = queries.iter().map(|q| leading(q, dimensions)).collect();
                let short: Vec<&[f32]> = short.iter().map(Vec::as_slice).collect();
                Sieve::new(Isa::best(), rows, codes, &short, count, allowed).run(threads)
            }
        };
        let behind = (rows.base()..rows.len()).filter(|&row| rows.allows(allowed, row));
        let behind: Vec<usize> = behind.collect();
        for named in &mut named {
            named.extend(&behind);
        }
        rows.best_of_each(threads, queries, top_k, &named)
    }

    /// Writes the coarse form of the packed rows with this token to `path`.
    pub(crate) fn write(&self, path: &Path, token: i64) -> io::Result<()> {
        let info = self.info;
        let (form, dimensions) = match info.form {
            CoarseForm::Binary => (0, 0),
            CoarseForm::Leading { dimensions } => (1, dimensions),
        };
        let recall = (info.recall_at_10 * MILLION).round() as u64;
        let header = Header {
            magic: MAGIC,
            token,
            fields: [
                form,
                dimensions as u64,
                info.num_rows as u64,
                info.oversampling as u64,
                recall,
                0,
                0,
                0,
            ],
        };
        match &self.rows {
            CoarseRows::Binary(bits) => {
                let (words, factors, middle) = bits.columns();
                let sections = [
                    words.parts().map(bytes_of),
                    factors.parts().map(bytes_of),
                    middle.parts().map(bytes_of),
                ];
                sections::write(path, &header, &sections.each_ref().map(|s| s.as_slice()))
            }
            CoarseRows::Leading(codes) => {
                let (codes, scales, errors) = codes.columns();
                let sections = [
                    codes.parts(),
                    scales.parts().map(bytes_of),
                    errors.parts().map(bytes_of),
                ];
                sections::write(path, &header, &sections.each_ref().map(|s| s.as_slice()))
            }
        }
    }

    /// The coarse form at `path`; `None` if there is none of the packed rows with this token.
    pub(crate) fn read(path: &Path, token: i64, rows: &Rows) -> Option<Self> {
        let mapped = Mapped::open(path, MAGIC, token)?;
        let mut numbers = [0; sections::NUM_FIELDS];
        for (number, field) in numbers.iter_mut().zip(mapped.header.fields) {
            *number = usize::try_from(field).ok()?;
        }
        let [form, dimensions, num_rows, oversampling, recall, ..] = numbers;
        (num_rows == rows.base() && oversampling > 0).then_some(())?;
        let (form, rows) = match form {
            0 => {
                let bits = Bits::mapped(&mapped, rows.dimensions(), num_rows)?;
                (CoarseForm::Binary, CoarseRows::Binary(bits))
            }
            1 if (1..=rows.dimensions()).contains(&dimensions) => {
                let bytes = num_rows.checked_mul(Codes::bytes_a_row(dimensions))?;
                let codes = Codes::mapped(
                    dimensions,
                    num_rows,
                    Column::mapped(mapped.section(0, bytes)?),
                    Column::mapped(mapped.section(1, num_rows)?),
                    Column::mapped(mapped.section(2, num_rows)?),
                );
                (
                    CoarseForm::Leading { dimensions },
                    CoarseRows::Leading(codes),
                )
            }
            _ => return None,
        };
        Some(Self {
            info: CoarseInfo {
                form,
                num_rows,
                oversampling,
                recall_at_10: recall as f64 / MILLION,
            },
            rows,
        })
    }

    /// Reads the whole file and says whether it is what was written; true without one of this
    /// token, for then nobody reads one.
    pub(crate) fn verify(path: &Path, token: i64) -> bool {
        Mapped::open(path, MAGIC, token).is_none_or(|mapped| mapped.is_sound())
    }
}

/// The leading dimensions of a vector at unit length; zeros if they are.
fn leading(vector: &[f32], dimensions: usize) -> Vec<f32> {
    let some = &vector[..dimensions];
    let norm = some.iter().map(|value| value * value).sum::<f32>().sqrt();
    let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
    some.iter().map(|value| value * scale).collect()
}

#[cfg(test)]
mod tests;
