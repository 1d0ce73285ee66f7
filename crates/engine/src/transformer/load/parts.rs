//! Several tensors, or slices of one, seen as the weights of a single linear layer.

use std::ops::Range;

use super::blocks::{block_row, stored};
use crate::kernels::linear::{BlockPart, WeightSource};
use crate::kernels::rows::{PANEL, padded};
use crate::weights::{Tensor, Weights};
use crate::{Error, ErrorKind, Result};

/// Rows of a tensor, and the same rows of its bias.
#[derive(Clone, Debug)]
pub(super) struct Part<'a> {
    /// Name without `.weight`.
    name: std::borrow::Cow<'a, str>,
    /// Which rows of how many.
    rows: Range<usize>,
    of: usize,
    /// The tensor is `[in, out]`.
    transposed: bool,
    /// The tensor is this many matrices, one under the other.
    slabs: Option<usize>,
}

impl Part<'_> {
    /// All `rows` rows of a tensor.
    pub(super) fn whole(name: String, rows: usize) -> Self {
        Self::slice(name, 0..rows, rows)
    }

    /// Some rows of a tensor that has `of` rows.
    pub(super) fn slice(name: String, rows: Range<usize>, of: usize) -> Self {
        Self {
            name: name.into(),
            rows,
            of,
            transposed: false,
            slabs: None,
        }
    }

    /// Matrix `index` of the `slabs` in one tensor, each of `rows` rows.
    pub(super) fn slab(name: String, rows: usize, index: usize, slabs: usize) -> Self {
        Self {
            slabs: Some(slabs),
            ..Self::slice(name, index * rows..(index + 1) * rows, rows * slabs)
        }
    }

    /// The same rows of a tensor that may be stored `[in, out]`.
    pub(super) fn stored(self, transposed: bool) -> Self {
        Self { transposed, ..self }
    }
}

/// The rows of a part.
struct Placed<'a> {
    tensor: Tensor<'a>,
    rows: Range<usize>,
    /// The whole tensor turned over, where it is stored `[in, out]`.
    turned: Option<Vec<f32>>,
}

/// Parts one under the other, each but the last padded with zero rows to whole panels.
pub(super) struct Stacked<'a> {
    parts: Vec<Placed<'a>>,
    inputs: usize,
    bias: Vec<f32>,
}

impl<'a> Stacked<'a> {
    /// Checks names and shapes, and collects the biases that exist.
    pub(super) fn new(weights: &'a Weights, parts: &[Part<'_>], inputs: usize) -> Result<Self> {
        let mut stacked = Self {
            parts: Vec::new(),
            inputs,
            bias: Vec::new(),
        };
        for part in parts {
            let name = format!("{}.weight", part.name);
            let (tensor, turned) = if part.transposed {
                let tensor = tensor(weights, &name, &[inputs, part.of])?;
                (tensor, Some(turn_over(&tensor.to_f32()?, part.of)))
            } else {
                let shape = match part.slabs {
                    Some(slabs) => vec![slabs, part.of / slabs, inputs],
                    None => vec![part.of, inputs],
                };
                (tensor(weights, &name, &shape)?, None)
            };
            let bias_name = format!("{}.bias", part.name);
            let bias = match weights.get(&bias_name) {
                Some(_) => self::tensor(weights, &bias_name, &[part.of])?.to_f32()?
                    [part.rows.clone()]
                .to_vec(),
                None => vec![0.0; part.rows.len()],
            };
            stacked
                .bias
                .resize(stacked.bias.len().next_multiple_of(PANEL), 0.0);
            stacked.bias.extend(bias);
            let rows = part.rows.clone();
            stacked.parts.push(Placed {
                tensor,
                rows,
                turned,
            });
        }
        Ok(stacked)
    }

    /// The parts as blocks, if all are stored in blocks.
    pub(super) fn blocks(&self) -> Option<Vec<BlockPart<'_>>> {
        let part = |placed: &'_ Placed<'a>| -> Option<BlockPart<'_>> {
            let (tensor, rows) = (placed.tensor, placed.rows.clone());
            let stored = stored(tensor.dtype).filter(|_| placed.turned.is_none())?;
            Some(BlockPart {
                outputs: rows.len(),
                stored,
                row: Box::new(move |row, into| block_row(&tensor, rows.start + row, into)),
            })
        };
        self.parts.iter().map(part).collect()
    }

    /// One bias for each output.
    pub(super) fn bias(&self) -> &[f32] {
        &self.bias
    }
}

impl WeightSource for Stacked<'_> {
    fn shape(&self) -> (usize, usize) {
        (self.bias.len(), self.inputs)
    }

    fn row(&self, row: usize, into: &mut [f32]) -> Result<()> {
        let mut first = 0;
        for Placed {
            tensor,
            rows,
            turned,
        } in &self.parts
        {
            let end = first + padded(rows.len());
            if row < end {
                let offset = row - first;
                if offset >= rows.len() {
                    into.fill(0.0);
                    return Ok(());
                }
                let row = rows.start + offset;
                if let Some(turned) = turned {
                    into.copy_from_slice(&turned[row * self.inputs..][..self.inputs]);
                    return Ok(());
                }
                return finite_row(tensor, row, into);
            }
            first = end;
        }
        into.fill(0.0);
        Ok(())
    }
}

/// Rows of `width` numbers as columns.
fn turn_over(values: &[f32], width: usize) -> Vec<f32> {
    let column = |index| values.iter().skip(index).step_by(width).copied();
    (0..width).flat_map(column).collect()
}

fn finite_row(tensor: &Tensor<'_>, row: usize, into: &mut [f32]) -> Result<()> {
    tensor.row_f32(row, into)?;
    match into.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(column) => Err(ErrorKind::NotFinite {
            tensor: tensor.name.to_owned(),
            index: row * into.len() + column,
            value: into[column],
        }
        .into()),
    }
}

/// The tensor of that name and shape.
pub(crate) fn tensor<'a>(weights: &'a Weights, name: &str, shape: &[usize]) -> Result<Tensor<'a>> {
    let tensor = existing(weights, name)?;
    if tensor.shape == shape {
        Ok(tensor)
    } else {
        Err(shape_error(&tensor, shape))
    }
}

/// The tensor of that name.
pub(super) fn existing<'a>(weights: &'a Weights, name: &str) -> Result<Tensor<'a>> {
    weights.get(name).ok_or_else(|| {
        let (path, tensor) = (weights.path().to_path_buf(), name.to_owned());
        ErrorKind::MissingTensor { path, tensor }.into()
    })
}

/// What to say about a tensor of another shape.
pub(super) fn shape_error(tensor: &Tensor<'_>, expected: &[usize]) -> Error {
    ErrorKind::TensorShape {
        tensor: tensor.name.to_owned(),
        expected: expected.to_vec(),
        received: tensor.shape.to_vec(),
    }
    .into()
}

/// Rows in memory.
pub(super) struct Dense {
    pub(super) rows: Vec<f32>,
    pub(super) inputs: usize,
}

impl WeightSource for Dense {
    fn shape(&self) -> (usize, usize) {
        (self.rows.len() / self.inputs, self.inputs)
    }

    fn row(&self, row: usize, into: &mut [f32]) -> Result<()> {
        into.copy_from_slice(&self.rows[row * self.inputs..][..self.inputs]);
        Ok(())
    }
}
