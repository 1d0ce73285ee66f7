//! One tensor, read in place.

use crate::{Error, ErrorKind, Result};

use super::Dtype;
use super::blocks::dequantize;

/// A tensor in a mapped file: nothing is copied until it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// The name in the file.
    pub name: &'a str,
    /// How the numbers are stored.
    pub dtype: Dtype,
    /// Sizes, outermost first: a linear layer's weight is `[out, in]`.
    pub shape: &'a [usize],
    /// The stored bytes, not aligned to anything.
    pub bytes: &'a [u8],
}

impl Tensor<'_> {
    /// The number of weights.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if a size is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows of the tensor read as a matrix: the product of all sizes but the last.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape
            .split_last()
            .map_or(1, |(_, outer)| outer.iter().product())
    }

    /// Length of a row: the last size.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// All weights as `f32`.
    ///
    /// # Errors
    ///
    /// If the type is not one of numbers with a fraction, or a weight is NaN or infinite.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut out = vec![0.0; self.len()];
        self.read(self.bytes, 0, &mut out)?;
        Ok(out)
    }

    /// One row as `f32`, straight from the file and without an allocation.
    ///
    /// # Errors
    ///
    /// If there is no such row, `out` is not [`Self::columns`] long, the type is not one of numbers
    /// with a fraction, or a weight is NaN or infinite.
    pub fn row_f32(&self, row: usize, out: &mut [f32]) -> Result<()> {
        let columns = self.columns();
        let row_bytes = self.dtype.size_of(columns).unwrap_or(0);
        let bytes = row.checked_mul(row_bytes).and_then(|start| {
            let end = start.checked_add(row_bytes)?;
            self.bytes.get(start..end)
        });
        let Some(bytes) = bytes.filter(|_| row < self.rows() && out.len() == columns) else {
            return Err(ErrorKind::TensorShape {
                tensor: self.name.into(),
                expected: vec![row.saturating_add(1), out.len()],
                received: self.shape.to_vec(),
            }
            .into());
        };
        self.read(bytes, row * columns, out)
    }

    /// Unpacks `bytes` into `out` and looks for NaN and infinity; `first` is the flat index of
    /// `out[0]`.
    fn read(&self, bytes: &[u8], first: usize, out: &mut [f32]) -> Result<()> {
        if !dequantize(self.dtype, bytes, out) {
            return Err(Error::unsupported(
                format!("dtype of `{}`", self.name),
                self.dtype.name(),
                "F32, F16, BF16, F64 or a block type such as Q4_0",
            ));
        }
        if out
            .iter()
            .fold(true, |finite, value| finite & value.is_finite())
        {
            return Ok(());
        }
        let bad = out.iter().position(|value| !value.is_finite()).unwrap_or(0);
        Err(ErrorKind::NotFinite {
            tensor: self.name.into(),
            index: first + bad,
            value: out[bad],
        }
        .into())
    }
}
