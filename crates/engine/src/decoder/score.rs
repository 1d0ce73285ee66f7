//! How well the model foresees a given text.

use super::Decoder;
use crate::Result;

impl Decoder {
    /// The natural logarithm of the probability that the model gives to each of `ids[1..]` after
    /// those before it.
    ///
    /// # Errors
    ///
    /// If `ids` has more tokens than the context, or one is not in the vocabulary.
    pub fn token_logprobs(&self, ids: &[u32]) -> Result<Vec<f32>> {
        if ids.len() < 2 {
            return Ok(Vec::new());
        }
        let mut session = self.session(ids.len())?;
        self.resume(&mut session, ids, ids.len())?;
        let logits = self.read_all(&mut session, &ids[..ids.len() - 1])?;
        let rows = logits.chunks_exact(self.vocab_size());
        Ok(rows
            .zip(&ids[1..])
            .map(|(row, id)| row[*id as usize] - log_sum_exp(row))
            .collect())
    }
}

/// `ln Σ eˣ`.
#[expect(clippy::cast_possible_truncation, reason = "a logarithm")]
pub(super) fn log_sum_exp(values: &[f32]) -> f32 {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = values
        .iter()
        .map(|value| f64::from(value - largest).exp())
        .sum();
    largest + sum.ln() as f32
}
