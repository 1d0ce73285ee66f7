//! What a row goes through between two attentions: products, norms, rotations, activations, each row
//! alone.

#![expect(
    unsafe_code,
    reason = "members of a team write disjoint rows of shared matrices"
)]

use std::ops::Range;
use std::sync::Arc;

use super::config::BlockKind;
use super::scratch::Local;
use super::{Batch, Layer, Transformer};
use crate::kernels::linear::{Input, Linear};
use crate::kernels::norm::Norm;
use crate::kernels::rope::Table;
use crate::kernels::rows::{Rows, padded};

/// A step that every row takes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    AttentionNorm,
    QueryKeyValue,
    Rotate,
    Output,
    AddAttention,
    Up,
    Activate,
    Down,
    AddFeedForward,
    FinalNorm,
}

/// What leads to the attention of a layer, and what follows from it.
const BEFORE_ATTENTION: [Step; 3] = [Step::AttentionNorm, Step::QueryKeyValue, Step::Rotate];
const AFTER_ATTENTION: [Step; 6] = [
    Step::Output,
    Step::AddAttention,
    Step::Up,
    Step::Activate,
    Step::Down,
    Step::AddFeedForward,
];

/// What stays the same during a pass: the batch, the rotations of each layer, and the matrices of
/// all tokens.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) batch: &'a Batch,
    pub(super) tables: &'a [Option<Arc<Table>>],
    pub(super) x: Rows<'a, f32>,
    pub(super) query_key_value: Rows<'a, f32>,
    pub(super) context: Rows<'a, f32>,
}

/// A member's own matrices; their rows stand for the rows of a block.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    hidden: Rows<'a, f32>,
    normed: Rows<'a, f32>,
    up: Rows<'a, f32>,
    pub(super) input: Input<'a>,
}

impl Local {
    /// The matrices for the rows from `first` on.
    pub(super) fn lend(&mut self, model: &Transformer, first: usize) -> Own<'_> {
        let stride = padded(model.config.hidden_size);
        let widest = model
            .config
            .intermediate_size
            .max(model.context_stride())
            .max(model.config.hidden_size);
        Own {
            hidden: Rows::new(&mut self.hidden, self.rows, stride).starting_at(first),
            normed: Rows::new(&mut self.normed, self.rows, stride).starting_at(first),
            up: Rows::new(&mut self.up, self.rows, model.up_stride()).starting_at(first),
            input: self.input.lend(self.rows, widest).starting_at(first),
        }
    }
}

impl Transformer {
    /// The row steps up to the attention of layer `index` (one past the last: up to the end), each
    /// with its layer.
    pub(super) fn steps(&self, index: usize) -> Vec<(usize, Step)> {
        let after = index.checked_sub(1).into_iter();
        let after = after.flat_map(|index| AFTER_ATTENTION.map(|step| (index, step)));
        let before = BEFORE_ATTENTION.map(|step| (index, step));
        if index == self.layers.len() {
            return after
                .chain([(index.saturating_sub(1), Step::FinalNorm)])
                .collect();
        }
        after.chain(before).collect()
    }

    /// Layer, source and target of a step that is a product.
    pub(super) fn product<'m, 'a>(
        &self,
        layer: &'m Layer,
        step: Step,
        pass: Pass<'a>,
        own: Own<'a>,
    ) -> Option<(&'m Linear, Rows<'a, f32>, Rows<'a, f32>)> {
        let pre_norm = self.config.block != BlockKind::PostNorm;
        Some(match step {
            Step::QueryKeyValue => {
                // The first layer of ModernBERT has no norm before its attention.
                let normed = pre_norm && layer.attention_norm.is_some();
                let from = if normed { own.normed } else { pass.x };
                (layer.query_key_value.as_ref()?, from, pass.query_key_value)
            }
            Step::Output => (&layer.output, pass.context, own.hidden),
            Step::Up => (
                layer.up.as_ref()?,
                if pre_norm { own.normed } else { pass.x },
                own.up,
            ),
            Step::Down => (layer.down.as_ref()?, own.up, own.hidden),
            _ => return None,
        })
    }

    /// A step that is not a product.
    ///
    /// # Safety
    ///
    /// Nobody else uses these rows meanwhile.
    pub(super) unsafe fn row_step(
        &self,
        index: usize,
        step: Step,
        rows: Range<usize>,
        pass: Pass<'_>,
        own: Own<'_>,
    ) {
        let (layer, table) = (&self.layers[index], pass.tables[index].as_deref());
        // SAFETY: the caller's.
        unsafe {
            match step {
                Step::AttentionNorm => {
                    if let Some(norm) = &layer.attention_norm {
                        norm.apply(self.isa, rows, pass.x, None, None, own.normed);
                    }
                }
                Step::Rotate => {
                    self.rotate(layer, rows, pass.batch, pass.query_key_value, table);
                }
                Step::AddAttention => {
                    let (post, next) = (&layer.post_attention_norm, &layer.feed_forward_norm);
                    self.add(post.as_ref(), next.as_ref(), rows, pass.x, own);
                }
                Step::Activate if layer.experts.is_some() => {}
                Step::Activate => {
                    let (width, gated) = (self.config.intermediate_size, self.config.gated);
                    self.config
                        .activation
                        .apply(self.isa, own.up, rows, width, gated);
                }
                Step::AddFeedForward => {
                    self.add(
                        layer.post_feed_forward_norm.as_ref(),
                        None,
                        rows,
                        pass.x,
                        own,
                    );
                }
                Step::FinalNorm => {
                    if let Some(norm) = &self.final_norm {
                        norm.apply(self.isa, rows, pass.x, None, None, pass.x);
                    }
                }
                Step::QueryKeyValue => {
                    if let Some(latent) = &layer.latent {
                        let columns = [
                            layer.heads.key_column(),
                            layer.heads.value_column(),
                            pass.query_key_value.stride(),
                        ];
                        let from = own.normed.span(rows.clone());
                        let to = latent.apply(self.isa, rows.len(), from, columns);
                        pass.query_key_value.span(rows).copy_from_slice(&to);
                    }
                }
                Step::Up => {
                    if let Some(experts) = &layer.experts {
                        let from = own.normed.span(rows.clone());
                        let to = experts.apply(self.isa, rows.len(), from);
                        own.hidden.span(rows).copy_from_slice(&to);
                    }
                }
                Step::Output | Step::Down => {}
            }
        }
    }

    /// Adds a sublayer's result to the residual stream, with the norms of the block's kind.
    ///
    /// # Safety
    ///
    /// As [`Transformer::row_step`].
    unsafe fn add(
        &self,
        post: Option<&Norm>,
        next: Option<&Norm>,
        rows: Range<usize>,
        x: Rows<'_, f32>,
        own: Own<'_>,
    ) {
        // SAFETY: the caller's.
        unsafe {
            match (self.config.block, post) {
                (BlockKind::PostNorm, Some(norm)) => {
                    return norm.apply(self.isa, rows, x, Some(own.hidden), None, x);
                }
                (BlockKind::Sandwich, Some(norm)) => {
                    norm.apply(self.isa, rows.clone(), own.hidden, None, None, own.hidden);
                }
                _ => {}
            }
            match next {
                Some(norm) => norm.apply(self.isa, rows, x, Some(own.hidden), Some(x), own.normed),
                None => add_rows(rows, x, own.hidden),
            }
        }
    }

    /// Normalises and rotates queries and keys, head by head.
    ///
    /// # Safety
    ///
    /// As [`Transformer::row_step`].
    pub(super) unsafe fn rotate(
        &self,
        layer: &Layer,
        rows: Range<usize>,
        batch: &Batch,
        query_key_value: Rows<'_, f32>,
        table: Option<&Table>,
    ) {
        let heads = &layer.heads;
        if table.is_none() && layer.query_norm.is_none() {
            return;
        }
        let dim = heads.head_dim;
        // Latent attention rotates the last part of a head, the others the first.
        let latent = self.config.decoder.latent.as_ref();
        let unrotated = latent.map_or(0, |latent| latent.qk_nope_head_dim);
        let borders = &batch.cumulative_seq_lengths;
        for row in rows {
            let sequence = borders.partition_point(|border| *border <= row) - 1;
            let position = batch.first_position(sequence) + row - borders[sequence];
            // SAFETY: the caller's row.
            let numbers = unsafe { query_key_value.row(row) };
            let (queries, keys) = numbers.split_at_mut(heads.key_column());
            let queries = queries[..heads.num_heads * dim].chunks_exact_mut(dim);
            let keys = keys[..heads.num_key_value_heads * dim].chunks_exact_mut(dim);
            let queries = queries.map(|head| (head, &layer.query_norm));
            for (head, norm) in queries.chain(keys.map(|head| (head, &layer.key_norm))) {
                if let Some(norm) = norm {
                    norm.apply_to_head(head);
                }
                if let Some(table) = table {
                    table.rotate(position, &mut head[unrotated..]);
                }
            }
        }
    }
}

/// `x += y` for the given rows.
///
/// # Safety
///
/// Nobody else uses these rows meanwhile.
unsafe fn add_rows(rows: Range<usize>, x: Rows<'_, f32>, y: Rows<'_, f32>) {
    for row in rows {
        // SAFETY: the caller's.
        let (x, y) = unsafe { (x.row(row), y.row(row)) };
        x.iter_mut().zip(y).for_each(|(value, add)| *value += *add);
    }
}
