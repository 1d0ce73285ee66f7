//! A linear layer with an activation behind the pooling or in a head, always in `f32`.

use std::path::Path;

use crate::kernels::activation::Activation;
use crate::kernels::isa::Isa;
use crate::kernels::linear::{Format, Linear, WeightSource};
use crate::kernels::rows::padded;
use crate::kernels::team::Team;
use crate::transformer::load::{Fields, tensor};
use crate::weights::{Tensor, Weights};
use crate::{Error, Result};

/// What follows the products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    Tanh,
    Activation(Activation),
}

/// A small layer over vectors.
#[derive(Debug)]
pub(super) struct Dense {
    linear: Linear,
    after: After,
}

impl Dense {
    /// The dense module of sentence-transformers in `folder`.
    pub(super) fn open(team: &Team, folder: &Path, inputs: usize) -> Result<Self> {
        let fields = Fields::open(&folder.join("config.json"))?;
        let activation = fields.text("activation_function").unwrap_or("Identity");
        let after = match activation.rsplit('.').next().unwrap_or_default() {
            "Identity" => After::Nothing,
            "Tanh" => After::Tanh,
            "ReLU" => After::Activation(Activation::Relu),
            _ => {
                let expected = "Identity, Tanh or ReLU";
                return Err(Error::unsupported(
                    "activation_function",
                    activation,
                    expected,
                ));
            }
        };
        let outputs = fields.count("out_features")?;
        let weights = Weights::open(folder)?;
        Self::load(team, &weights, "linear", (outputs, inputs), after)
    }

    /// The layer `name` of `weights`, `[outputs, inputs]`.
    pub(super) fn load(
        team: &Team,
        weights: &Weights,
        name: &str,
        (outputs, inputs): (usize, usize),
        after: After,
    ) -> Result<Self> {
        let tensor = tensor(weights, &format!("{name}.weight"), &[outputs, inputs])?;
        let bias = match weights.get(&format!("{name}.bias")) {
            Some(_) => self::tensor(weights, &format!("{name}.bias"), &[outputs])?.to_f32()?,
            None => Vec::new(),
        };
        let linear = Linear::pack(team, &Matrix(tensor), &bias, Format::F32)?;
        Ok(Self { linear, after })
    }

    /// Width of the result.
    pub(super) fn outputs(&self) -> usize {
        self.linear.out_features()
    }

    /// `vectors` `[n, inputs]` to `[n, outputs]`.
    pub(super) fn apply(&self, isa: Isa, vectors: &[f32]) -> Vec<f32> {
        let (inputs, outputs) = (self.linear.in_features(), self.linear.out_features());
        let count = vectors.len() / inputs;
        let (from_stride, to_stride) = (padded(inputs), padded(outputs));
        let mut from = vec![0.0; count * from_stride];
        for (row, vector) in vectors.chunks_exact(inputs).enumerate() {
            from[row * from_stride..][..inputs].copy_from_slice(vector);
        }
        let mut to = vec![0.0; count * to_stride];
        self.linear.apply(isa, count, &mut from, &mut to);
        if let After::Activation(function) = self.after {
            function.apply_to(isa, &mut to, outputs);
        }
        let mut result: Vec<f32> = to
            .chunks_exact(to_stride)
            .flat_map(|row| &row[..outputs])
            .copied()
            .collect();
        if self.after == After::Tanh {
            result.iter_mut().for_each(|value| *value = value.tanh());
        }
        result
    }
}

struct Matrix<'a>(Tensor<'a>);

impl WeightSource for Matrix<'_> {
    fn shape(&self) -> (usize, usize) {
        (self.0.rows(), self.0.columns())
    }
    fn row(&self, row: usize, into: &mut [f32]) -> Result<()> {
        self.0.row_f32(row, into)
    }
}
