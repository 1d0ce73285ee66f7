//! Tokens to the first hidden states.

#![expect(unsafe_code, reason = "rows of a shared matrix")]

use super::config::Positions;
use super::{Batch, Transformer};
use crate::Result;
use crate::kernels::rows::Rows;

impl Transformer {
    /// Token, position and type embeddings, summed and normalised.
    pub(super) fn embed_tokens(&self, batch: &Batch, x: Rows<'_, f32>) -> Result<()> {
        let width = self.config.hidden_size;
        let table = self.embeddings.table()?;
        for (sequence, (first, length)) in batch.sequences().enumerate() {
            let mut counted = 0;
            for token in first..first + length {
                // SAFETY: `x` is borrowed for this call alone.
                let row = unsafe { x.row(token) };
                let id = batch.input_ids[token];
                table.row_f32(id as usize, &mut row[..width])?;
                row[width..].fill(0.0);
                if self.config.embedding_scale != 1.0 {
                    row.iter_mut()
                        .for_each(|value| *value *= self.config.embedding_scale);
                }
                let position = match self.config.positions {
                    Positions::None => None,
                    Positions::Learned => Some(batch.first_position(sequence) + token - first),
                    Positions::FromPadding { padding_id } if id == padding_id => {
                        Some(padding_id as usize)
                    }
                    Positions::FromPadding { padding_id } => {
                        counted += 1;
                        Some(padding_id as usize + counted)
                    }
                };
                if let Some(position) = position {
                    add_row(row, &self.embeddings.positions, position);
                }
                if self.config.token_types {
                    // RoBERTa has one type, whatever a pair's template says.
                    let kinds = self.embeddings.token_types.len() / row.len();
                    let kind = batch
                        .token_type_ids
                        .get(token)
                        .map_or(0, |kind| (*kind).into());
                    add_row(row, &self.embeddings.token_types, kind.min(kinds - 1));
                }
            }
        }
        if let Some(norm) = &self.embeddings.norm {
            // SAFETY: as above.
            unsafe { norm.apply(self.isa, 0..batch.num_tokens(), x, None, None, x) };
        }
        Ok(())
    }
}

/// `row += table[index]`, rows of equal stride.
fn add_row(row: &mut [f32], table: &[f32], index: usize) {
    let from = &table[index * row.len()..][..row.len()];
    row.iter_mut()
        .zip(from)
        .for_each(|(value, add)| *value += add);
}
