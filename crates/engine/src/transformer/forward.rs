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

use super::scratch::{Local, ROW_BLOCK, Scratch};
use super::steps::{Pass, Step};
#[cfg(target_arch = "x86_64")]
use super::tiled::Crew;
use super::{Batch, Layer, Transformer};
use crate::Result;
use crate::kernels::attention::Attention;
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

    pub(super) fn finish<'a>(&self, x: &'a mut [f32]) -> Hidden<'a> {
        let (width, stride) = (self.config.hidden_size, padded(self.config.hidden_size));
        Hidden {
            values: x,
            stride,
            width,
        }
    }
}
