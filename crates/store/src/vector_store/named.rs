//! Points with several vectors, each in a space of its own: dense ones of different models, and sparse
//! ones, whose numbers belong to terms.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::index::check_query;
use super::point::{Payload, Point, PointId};
use super::request::Distance;
use crate::{ErrorKind, MAX_DIMENSIONS, Result};

/// The space of a collection that has but one, and of the vector that is called by no name.
pub const UNNAMED: &str = "";

/// What the vectors of one name are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Space {
    /// A number for every dimension.
    Dense {
        /// Their width.
        dimensions: usize,
        /// How close two of them are.
        distance: Distance,
    },
    /// Numbers for some terms, compared by their dot product.
    Sparse {
        /// Whether a term counts more the fewer points have it: by ln(1 + (n - df + ½) / (df + ½)) for
        /// n points with a vector, df of which have the term.
        idf: bool,
    },
}

/// A vector in some space.
#[derive(Clone, Debug, PartialEq)]
pub enum NamedVector {
    /// As wide as its space.
    Dense(Vec<f32>),
    /// Of terms.
    Sparse(SparseVector),
}

/// Numbers for some terms, ascending by term.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SparseVector {
    indices: Vec<u32>,
    values: Vec<f32>,
}

/// The vectors of a point by the names of their spaces.
pub type Vectors = BTreeMap<String, NamedVector>;

/// A point with as many vectors as it has.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedPoint {
    /// Its name in the store.
    pub id: PointId,
    /// Its vectors; it is found in their spaces only.
    pub vectors: Vectors,
    /// As [`Point::text`].
    pub text: String,
    /// As [`Point::payload`].
    pub payload: Payload,
}

impl NamedPoint {
    /// The point of a collection whose only space is [`UNNAMED`].
    #[must_use]
    pub fn unnamed(self) -> Point {
        let mut vectors = self.vectors;
        let vector = match vectors.remove(UNNAMED) {
            Some(NamedVector::Dense(vector)) => vector,
            _ => Vec::new(),
        };
        Point {
            id: self.id,
            vector,
            text: self.text,
            payload: self.payload,
        }
    }
}

impl SparseVector {
    /// The vector with `values[i]` for the term `indices[i]`, in any order.
    ///
    /// # Errors
    ///
    /// If there are more of the one than of the other, a term comes twice, or a value is not finite.
    pub fn new(indices: Vec<u32>, values: Vec<f32>) -> Result<Self> {
        let refused = |reason: String| Err(ErrorKind::SparseVector { reason }.into());
        if indices.len() != values.len() {
            let (indices, values) = (indices.len(), values.len());
            return refused(format!("{indices} indices and {values} values"));
        }
        let mut pairs: Vec<(u32, f32)> = indices.into_iter().zip(values).collect();
        pairs.sort_unstable_by_key(|(index, _)| *index);
        if let Some(twice) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return refused(format!("the index {} twice", twice[0].0));
        }
        if let Some((index, value)) = pairs.iter().find(|(_, value)| !value.is_finite()) {
            return refused(format!("{value} at the index {index}"));
        }
        let (indices, values) = pairs.into_iter().unzip();
        Ok(Self { indices, values })
    }

    /// The terms, ascending.
    #[must_use]
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// The numbers in the order of the terms.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The terms with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, f32)> {
        self.indices
            .iter()
            .copied()
            .zip(self.values.iter().copied())
    }
}

impl Space {
    /// Refuses a space that cannot be.
    pub(super) fn check(&self) -> Result<()> {
        match *self {
            Self::Dense { dimensions, .. } if !(1..=MAX_DIMENSIONS).contains(&dimensions) => {
                let (received, max) = (dimensions, MAX_DIMENSIONS);
                Err(ErrorKind::Dimensions { received, max }.into())
            }
            _ => Ok(()),
        }
    }

    /// Refuses a vector that does not fit.
    pub(super) fn check_vector(
        &self,
        vector: &NamedVector,
        collection: &str,
        name: &str,
    ) -> Result<()> {
        match (self, vector) {
            (
                Self::Dense {
                    dimensions,
                    distance,
                },
                NamedVector::Dense(vector),
            ) => check_query(*distance, vector, Some(*dimensions), collection),
            (Self::Sparse { .. }, NamedVector::Sparse(_)) => Ok(()),
            (Self::Dense { .. } | Self::Sparse { .. }, _) => Err(ErrorKind::VectorKind {
                name: name.into(),
                is_sparse: matches!(self, Self::Sparse { .. }),
            }
            .into()),
        }
    }
}

impl NamedVector {
    /// The vector as the file has it: dense ones as little-endian `f32`, sparse ones as pairs of a
    /// little-endian `u32` and an `f32`.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Dense(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::Sparse(sparse) => sparse
                .iter()
                .flat_map(|(index, value)| [index.to_le_bytes(), value.to_le_bytes()])
                .flatten()
                .collect(),
        }
    }

    /// The vector of `space` in a blob; `None` if it is none.
    pub(super) fn from_bytes(space: &Space, bytes: &[u8]) -> Option<Self> {
        let (fours, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return None;
        }
        match space {
            Space::Dense { dimensions, .. } => {
                let values: Vec<f32> = fours.iter().map(|four| f32::from_le_bytes(*four)).collect();
                (values.len() == *dimensions).then_some(Self::Dense(values))
            }
            Space::Sparse { .. } => {
                let (pairs, rest) = fours.as_chunks::<2>();
                let pair = |[index, value]: &[[u8; 4]; 2]| {
                    (u32::from_le_bytes(*index), f32::from_le_bytes(*value))
                };
                let (indices, values) = pairs.iter().map(pair).unzip();
                let vector = SparseVector::new(indices, values).ok()?;
                rest.is_empty().then_some(Self::Sparse(vector))
            }
        }
    }
}
