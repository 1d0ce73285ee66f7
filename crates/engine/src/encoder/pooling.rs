//! Token states to one vector.

use super::description::Pooling;
use crate::transformer::Hidden;

/// The vector of the text whose tokens are `first..first + length`; `input_ids` are its ids.
pub(super) fn pool(
    pooling: Pooling,
    hidden: &Hidden<'_>,
    first: usize,
    input_ids: &[u32],
) -> Vec<f32> {
    let length = input_ids.len();
    match pooling {
        Pooling::Cls => hidden.token(first).to_vec(),
        Pooling::LastToken => hidden.token(first + length - 1).to_vec(),
        Pooling::Mean => mean(hidden, first, length),
        Pooling::FirstEos(eos) => {
            let position = input_ids
                .iter()
                .position(|id| *id == eos)
                .unwrap_or(length - 1);
            hidden.token(first + position).to_vec()
        }
    }
}

/// The mean state.
pub(super) fn mean(hidden: &Hidden<'_>, first: usize, length: usize) -> Vec<f32> {
    let mut sum = hidden.token(first).to_vec();
    for token in first + 1..first + length {
        sum.iter_mut()
            .zip(hidden.token(token))
            .for_each(|(sum, value)| *sum += value);
    }
    #[expect(clippy::cast_precision_loss, reason = "a text's tokens")]
    let factor = 1.0 / length as f32;
    sum.iter_mut().for_each(|value| *value *= factor);
    sum
}

/// Scales `vector` to unit length; a zero vector stays zero.
pub(super) fn normalize(vector: &mut [f32]) {
    let squares: f32 = vector.iter().map(|value| value * value).sum();
    let length = squares.sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
}
