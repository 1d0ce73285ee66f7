//! The forward pass of a ragged batch.
//!
//! Between two attentions every row goes its own way, so a block of rows is taken through the
//! output projection, the feed-forward block and the next layer's queries, keys and values in one
//! go while it is in cache. One thread may run a whole batch, or a team shares it: by rows when there
//! are many, by columns of each product when there are few.

#![expect(
    unsafe_code,
    reason = "members of a team write disjoint rows of shared matrices"
)]

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::config::{BlockKind, Positions};
use super::scratch::{Local, ROW_BLOCK, Scratch};
#[cfg(target_arch = "x86_64")]
use super::tiled::Crew;
use super::{Batch, Layer, Transformer};
use crate::Result;
use crate::kernels::attention::Attention;
use crate::kernels::linear::{Input, Linear};
use crate::kernels::norm::Norm;
use crate::kernels::rope::Table;
use crate::kernels::rows::{Rows, padded};
use crate::kernels::team::Team;

/// Hidden states after the last layer.
#[derive(Debug)]
pub(crate) struct Hidden<'a> {
    values: &'a [f32],
    stride: usize,
    width: usize,
}

impl Hidden<'_> {
    /// The state of token `index`, `[hidden_size]`.
    pub(crate) fn token(&self, index: usize) -> &[f32] {
        &self.values[index * self.stride..][..self.width]
    }
}

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
    batch: &'a Batch,
    tables: &'a [Option<Arc<Table>>],
    x: Rows<'a, f32>,
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
    /// Runs `batch` on the calling thread alone.
    ///
    /// # Errors
    ///
    /// If a token table cannot be read.
    pub(crate) fn forward<'a>(
        &self,
        batch: &Batch,
        scratch: &'a mut Scratch,
    ) -> Result<Hidden<'a>> {
        #[cfg(target_arch = "x86_64")]
        if let Some(operand) = self.tile_operand() {
            return self.forward_on_tiles(operand, Crew::Alone, batch, scratch);
        }
        let longest = self.prepare(batch, scratch)?;
        let tables = self.tables(longest);
        let Scratch {
            x,
            query_key_value,
            context,
            packed,
            local,
            ..
        } = scratch;
        let pass = self.lend(batch, &tables, (x, query_key_value, context));
        let everything = 0..batch.num_tokens();
        for index in 0..self.layers.len() {
            let steps = self.steps(index);
            // SAFETY: the only thread; every matrix is its own.
            unsafe {
                self.chain(&steps, everything.clone(), pass, local);
            }
            for (first, length) in batch.sequences() {
                let attention = self.attention(index, pass, packed, first, length);
                for head in 0..self.config.num_key_value_heads {
                    // SAFETY: as above.
                    unsafe { attention.pack(head) };
                }
                for task in 0..attention.num_tasks() {
                    // SAFETY: as above, and all heads are packed.
                    unsafe { attention.attend(self.isa, task, &mut local.scores) };
                }
            }
        }
        // SAFETY: as above.
        unsafe {
            self.chain(&self.steps(self.layers.len()), everything, pass, local);
        }
        Ok(self.finish(x))
    }

    /// Runs `batch` on all members of `team`, each with its own of `scratches`; the result lies in
    /// the first.
    ///
    /// # Errors
    ///
    /// As [`Transformer::forward`].
    pub(crate) fn forward_together<'a>(
        &self,
        team: &Team,
        batch: &Batch,
        scratch: &'a mut Scratch,
        locals: &[Mutex<Scratch>],
    ) -> Result<Hidden<'a>> {
        #[cfg(target_arch = "x86_64")]
        if let Some(operand) = self.tile_operand() {
            return self.forward_on_tiles(operand, Crew::Team(team, locals), batch, scratch);
        }
        let longest = self.prepare(batch, scratch)?;
        let tables = self.tables(longest);
        let Scratch {
            x,
            query_key_value,
            context,
            packed,
            local,
            ..
        } = scratch;
        let pass = self.lend(batch, &tables, (x, query_key_value, context));
        let rows = batch.num_tokens();
        for index in 0..=self.layers.len() {
            let steps = self.steps(index);
            if rows <= ROW_BLOCK / 2 {
                self.side_by_side(team, &steps, rows, pass, local);
            } else {
                team.run(|rank| {
                    let mut own = locals[rank].lock().unwrap_or_else(PoisonError::into_inner);
                    let share = team.share(rank, rows, 12);
                    // SAFETY: shares are disjoint, and each member uses its own local memory.
                    unsafe {
                        self.chain(&steps, share, pass, &mut own.local);
                    }
                });
            }
            if index < self.layers.len() {
                for (first, length) in batch.sequences() {
                    let attention = self.attention(index, pass, packed, first, length);
                    self.attend_together(team, &attention, locals);
                }
            }
        }
        Ok(self.finish(x))
    }

    /// Attention of one sequence, heads and tiles of queries dealt out among the team.
    fn attend_together(&self, team: &Team, attention: &Attention<'_>, locals: &[Mutex<Scratch>]) {
        let heads = self.config.num_key_value_heads;
        team.run(|rank| {
            for head in team.share(rank, heads, 1) {
                // SAFETY: shares are disjoint.
                unsafe { attention.pack(head) };
            }
        });
        let next = AtomicUsize::new(0);
        let tasks = attention.num_tasks();
        let bunch = (tasks / (8 * team.size())).max(1);
        team.run(|rank| {
            let mut own = locals[rank].lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                let first = next.fetch_add(bunch, Ordering::Relaxed);
                if first >= tasks {
                    return;
                }
                for task in first..(first + bunch).min(tasks) {
                    // SAFETY: the counter gives each task to one member; all heads are packed.
                    unsafe { attention.attend(self.isa, task, &mut own.local.scores) };
                }
            }
        });
    }

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

    /// Takes blocks of `rows` through all `steps`.
    ///
    /// # Safety
    ///
    /// Nobody else uses these rows of the shared matrices meanwhile.
    pub(super) unsafe fn chain(
        &self,
        steps: &[(usize, Step)],
        rows: Range<usize>,
        pass: Pass<'_>,
        local: &mut Local,
    ) {
        let mut first = rows.start;
        while first < rows.end {
            let block = first..(first + ROW_BLOCK).min(rows.end);
            let own = local.lend(self, first);
            for (index, step) in steps {
                let layer = &self.layers[*index];
                // SAFETY: the caller's rows; local memory is this thread's.
                unsafe {
                    match self.product(layer, *step, pass, own) {
                        Some((linear, from, to)) => {
                            let input = linear.prepare(self.isa, from, block.clone(), own.input);
                            let panels = 0..linear.num_panels();
                            linear.multiply(self.isa, input, block.clone(), panels, to);
                        }
                        None => self.row_step(*index, *step, block.clone(), pass, own),
                    }
                }
            }
            first = block.end;
        }
    }

    /// Takes a few rows through all `steps`, each step shared out among the team.
    pub(super) fn side_by_side(
        &self,
        team: &Team,
        steps: &[(usize, Step)],
        rows: usize,
        pass: Pass<'_>,
        local: &mut Local,
    ) {
        let own = local.lend(self, 0);
        for (index, step) in steps {
            let layer = &self.layers[*index];
            let Some((linear, from, to)) = self.product(layer, *step, pass, own) else {
                if rows == 1 {
                    // SAFETY: the only thread at work.
                    unsafe { self.row_step(*index, *step, 0..1, pass, own) };
                    continue;
                }
                team.run(|rank| {
                    let share = team.share(rank, rows, 1);
                    // SAFETY: shares are disjoint.
                    unsafe { self.row_step(*index, *step, share, pass, own) };
                });
                continue;
            };
            // SAFETY: before the team starts, this is the only thread.
            let input = unsafe { linear.prepare(self.isa, from, 0..rows, own.input) };
            team.run(|rank| {
                let share = team.share(rank, linear.num_panels(), 1);
                // SAFETY: shares of panels are disjoint columns of `to`.
                unsafe { linear.multiply(self.isa, input, 0..rows, share, to) };
            });
        }
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

    fn attention<'a>(
        &'a self,
        index: usize,
        pass: Pass<'a>,
        packed: &'a mut [f32],
        first: usize,
        length: usize,
    ) -> Attention<'a> {
        let heads = self.layers[index].heads;
        Attention {
            heads,
            qkv: pass.query_key_value,
            first,
            length,
            packed: Rows::new(packed, 1, heads.packed_len(length)),
            bias: self.bias_table(),
            out: pass.context,
        }
    }

    /// The relative position bias, spread out: for each head `2 · span − 1` values; and the span.
    pub(super) fn bias_table(&self) -> Option<(&[f32], usize)> {
        let span = self.config.max_positions;
        let bias = self.relative_bias.as_ref()?;
        let spread = self.spread_bias.get_or_init(|| bias.spread(span));
        Some((spread, span))
    }

    pub(super) fn lend<'a>(
        &self,
        batch: &'a Batch,
        tables: &'a [Option<Arc<Table>>],
        (x, query_key_value, context): (&'a mut [f32], &'a mut [f32], &'a mut [f32]),
    ) -> Pass<'a> {
        let rows = batch.num_tokens();
        Pass {
            batch,
            tables,
            x: Rows::new(x, rows, padded(self.config.hidden_size)),
            query_key_value: Rows::new(query_key_value, rows, self.query_key_value_stride()),
            context: Rows::new(context, rows, self.context_stride()),
        }
    }

    /// The rotation of each layer, long enough for `longest` positions; one for the end.
    pub(super) fn tables(&self, longest: usize) -> Vec<Option<Arc<Table>>> {
        let table = |layer: &Layer| layer.rope.as_ref().map(|rope| rope.table(longest));
        self.layers.iter().map(table).chain([None]).collect()
    }

    /// Reserves memory and writes the first hidden states; returns the longest text's length.
    fn prepare(&self, batch: &Batch, scratch: &mut Scratch) -> Result<usize> {
        let longest = batch
            .sequences()
            .map(|(_, length)| length)
            .max()
            .unwrap_or(0);
        let packed = self
            .layers
            .first()
            .map_or(0, |layer| layer.heads.packed_len(longest));
        scratch.reserve(self, batch.num_tokens(), packed);
        let rows = batch.num_tokens();
        let x = Rows::new(&mut scratch.x, rows, padded(self.config.hidden_size));
        self.embed_tokens(batch, x)?;
        Ok(longest)
    }

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

    pub(super) fn finish<'a>(&self, x: &'a mut [f32]) -> Hidden<'a> {
        let (width, stride) = (self.config.hidden_size, padded(self.config.hidden_size));
        Hidden {
            values: x,
            stride,
            width,
        }
    }
}

/// `row += table[index]`, rows of equal stride.
fn add_row(row: &mut [f32], table: &[f32], index: usize) {
    let from = &table[index * row.len()..][..row.len()];
    row.iter_mut()
        .zip(from)
        .for_each(|(value, add)| *value += add);
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
