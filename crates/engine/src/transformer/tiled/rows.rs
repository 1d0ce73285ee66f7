//! What a pass does row by row: norms, rotations, and the operands of the products.

#![expect(
    unsafe_code,
    reason = "members of a team write disjoint rows of shared matrices"
)]

use std::ops::Range;

use super::inner::Part;
use super::{Operand, Run, Step};
use crate::kernels::norm::Norm;
use crate::kernels::tiled::pack::{self, Source};
use crate::transformer::Layer;
use crate::transformer::config::BlockKind;

impl Run<'_> {
    /// True if [`Run::row_part`] does something.
    pub(super) fn has_row_part(&self, index: usize, step: Step) -> bool {
        match step {
            Step::AttentionNorm | Step::AddAttention | Step::AddFeedForward | Step::FinalNorm => {
                true
            }
            Step::Rotate => self.rotates(index),
            Step::Output | Step::Down => self.operand == Operand::Bytes,
            Step::QueryKeyValue | Step::Up | Step::Activate => false,
        }
    }

    /// What a step does row by row: norms, rotations, and the operand of the next product.
    ///
    /// # Safety
    ///
    /// Nobody else uses these rows meanwhile.
    pub(super) unsafe fn row_part(&self, index: usize, step: Step, rows: Range<usize>) {
        let (model, pass) = (self.model, &self.pass);
        let layer = &model.layers[index];
        let isa = model.isa;
        // SAFETY: the caller's.
        unsafe {
            match step {
                Step::AttentionNorm => {
                    // The first layer of ModernBERT has no norm before its attention.
                    let norm = layer
                        .attention_norm
                        .as_ref()
                        .filter(|_| self.norms_before());
                    self.normed_operand(norm, rows);
                }
                Step::Rotate if self.rotates(index) => {
                    let table = pass.tables[index].as_deref();
                    model.rotate(layer, rows.clone(), pass.batch, pass.floats, table);
                    let columns = pass.floats.stride();
                    pack::to_bf16_rows(pass.floats, rows, columns, pass.query_key_value);
                }
                Step::Output if self.operand == Operand::Bytes => {
                    let (from, width) = (Source::Floats(pass.context), model.context_stride());
                    pack::to_bytes(from, rows, width, pass.operand, pass.scales);
                }
                Step::AddAttention => self.add_attention(layer, rows),
                Step::Down if self.operand == Operand::Bytes => {
                    for part in Part::all(model.config.intermediate_size) {
                        pass.inner
                            .of(&part, self.operand)
                            .to_bytes(&part, rows.clone());
                    }
                }
                Step::AddFeedForward => {
                    self.residual(layer.post_feed_forward_norm.as_ref(), rows);
                }
                Step::FinalNorm => {
                    if let Some(norm) = &model.final_norm {
                        norm.apply(isa, rows, pass.x, None, None, pass.x);
                    }
                }
                _ => {}
            }
        }
    }

    fn norms_before(&self) -> bool {
        self.model.config.block != BlockKind::PostNorm
    }

    /// What follows the attention of a layer: its norms, and the operand of the feed-forward block.
    ///
    /// # Safety
    ///
    /// As [`Run::row_part`].
    unsafe fn add_attention(&self, layer: &Layer, rows: Range<usize>) {
        // SAFETY: the caller's.
        unsafe {
            self.residual(layer.post_attention_norm.as_ref(), rows.clone());
            let norm = layer.feed_forward_norm.as_ref();
            self.normed_operand(norm.filter(|_| self.norms_before()), rows);
        }
    }

    /// The residual stream after a sublayer, whose result the product has added already, unless it
    /// is normalised first.
    ///
    /// # Safety
    ///
    /// As [`Run::row_part`].
    unsafe fn residual(&self, post: Option<&Norm>, rows: Range<usize>) {
        let (isa, pass) = (self.model.isa, &self.pass);
        // SAFETY: the caller's.
        unsafe {
            match (self.model.config.block, post) {
                (BlockKind::PostNorm, Some(norm)) => {
                    norm.apply(isa, rows, pass.x, None, None, pass.x);
                }
                (BlockKind::Sandwich, norm) => {
                    if let Some(norm) = norm {
                        norm.apply(isa, rows.clone(), pass.hidden, None, None, pass.hidden);
                    }
                    for row in rows {
                        let (x, y) = (pass.x.row(row), pass.hidden.row(row));
                        x.iter_mut().zip(y).for_each(|(value, add)| *value += *add);
                    }
                }
                _ => {}
            }
        }
    }

    /// The operand of the next product: the hidden states, normalised if there is a norm.
    ///
    /// # Safety
    ///
    /// As [`Run::row_part`].
    unsafe fn normed_operand(&self, norm: Option<&Norm>, rows: Range<usize>) {
        let (isa, pass) = (self.model.isa, &self.pass);
        let width = self.model.config.hidden_size;
        // SAFETY: the caller's.
        unsafe {
            let from = match norm {
                Some(norm) => {
                    norm.apply(isa, rows.clone(), pass.x, None, None, pass.normed);
                    pass.normed
                }
                None => pass.x,
            };
            match self.operand {
                Operand::Halves => pack::to_bf16(from, rows, width, pass.operand),
                Operand::Bytes => {
                    let from = Source::Floats(from);
                    pack::to_bytes(from, rows, width, pass.operand, pass.scales);
                }
            }
        }
    }
}
