//! The forward pass of conversations: new tokens, with the keys and values of the earlier ones kept.

#![expect(
    unsafe_code,
    reason = "members of a team write disjoint rows of shared matrices"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::cache::KvCache;
use super::forward::Hidden;
use super::scratch::{ROW_BLOCK, Scratch};
use super::steps::Pass;
use super::{Batch, Layer, Transformer};
use crate::Result;
use crate::kernels::cached_attention::{CachedAttention, PartsMemory};
use crate::kernels::rope::Table;
use crate::kernels::rows::{Rows, padded};
use crate::kernels::team::Team;

/// What the new tokens of a pass are. The two may round differently, so that each has the products
/// that suit it; within either, a token's result does not depend on how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Given texts, of which many tokens come at once.
    Prompt,
    /// The next tokens of answers.
    Answer,
}

impl Transformer {
    /// Runs the new tokens of `batch`, whose texts continue the conversations of `caches` one by
    /// one, on all members of `team`; their keys and values are kept.
    ///
    /// # Errors
    ///
    /// If the token table cannot be read.
    ///
    /// # Panics
    ///
    /// If a cache has no room for its tokens.
    pub(crate) fn forward_cached<'a>(
        &self,
        team: &Team,
        (batch, reading): (&Batch, Reading),
        caches: &mut [&mut KvCache],
        scratch: &'a mut Scratch,
        locals: &[Mutex<Scratch>],
    ) -> Result<Hidden<'a>> {
        scratch.reserve(self, batch.num_tokens(), 0);
        let rows = batch.num_tokens();
        let x = Rows::new(&mut scratch.x, rows, padded(self.config.hidden_size));
        self.embed_tokens(batch, x)?;
        let tables = self.cached_tables(batch, caches);
        let whole_panels = reading == Reading::Prompt && self.unpacks();
        if whole_panels {
            scratch.wide.reserve(self, rows);
        }
        let Scratch {
            x,
            query_key_value,
            context,
            local,
            wide,
            parts,
            ..
        } = scratch;
        let pass = self.lend(batch, &tables, (x, query_key_value, context));
        for index in 0..=self.layers.len() {
            let steps = self.steps(index);
            if whole_panels {
                self.whole_panels(team, &steps, rows, pass, wide);
            } else if rows <= ROW_BLOCK / 2 {
                self.side_by_side(team, &steps, rows, pass, local);
            } else {
                team.run(|rank| {
                    let mut own = locals[rank].lock().unwrap_or_else(PoisonError::into_inner);
                    let share = team.share(rank, rows, 12);
                    // SAFETY: shares are disjoint, and each member uses its own local memory.
                    unsafe { self.chain(&steps, share, pass, &mut own.local) };
                });
            }
            if index < self.layers.len() {
                let attentions = self.cached_attentions(index, (batch, reading), pass, caches);
                self.attend_cached(team, &attentions, parts, locals);
            }
        }
        for (sequence, (_, length)) in batch.sequences().enumerate() {
            caches[sequence].length += length;
        }
        Ok(self.finish(x))
    }

    /// The attention of each conversation in layer `index`.
    fn cached_attentions<'a>(
        &self,
        index: usize,
        (batch, reading): (&Batch, Reading),
        pass: Pass<'a>,
        caches: &'a mut [&mut KvCache],
    ) -> Vec<CachedAttention<'a>> {
        let sequences = batch.sequences().zip(caches);
        sequences
            .map(|((first, count), cache)| CachedAttention {
                heads: self.layers[index].heads,
                shape: cache.shape,
                past: cache.length,
                // The queries of a prompt are tasks enough.
                parts: match reading {
                    Reading::Prompt => 1,
                    Reading::Answer => CachedAttention::parts_of(cache.length + count),
                },
                kept: cache.kept.lend(),
                layer: index,
                qkv: pass.query_key_value,
                first,
                count,
                out: pass.context,
            })
            .collect()
    }

    /// Keeps the new keys and values, then attends, tasks dealt out among the team.
    fn attend_cached(
        &self,
        team: &Team,
        attentions: &[CachedAttention<'_>],
        parts: &mut PartsMemory,
        locals: &[Mutex<Scratch>],
    ) {
        /// Below so many new tokens, keeping them costs less than starting the team.
        const FEW: usize = 8;
        let heads = self.config.num_key_value_heads;
        let tokens: usize = attentions.iter().map(|attention| attention.count).sum();
        let append = |which: usize| {
            // SAFETY: each head of each conversation is given to one thread.
            unsafe { attentions[which / heads].append(which % heads) };
        };
        let all = attentions.len() * heads;
        if tokens < FEW {
            (0..all).for_each(append);
        } else {
            team.run(|rank| team.share(rank, all, 1).for_each(append));
        }
        let starts: Vec<usize> = attentions
            .iter()
            .scan(0, |next, attention| {
                *next += attention.num_tasks();
                Some(*next - attention.num_tasks())
            })
            .collect();
        let tasks: usize = attentions.iter().map(CachedAttention::num_tasks).sum();
        let in_parts = attentions.iter().any(|attention| attention.parts > 1);
        let parts = parts.lend(if in_parts { tasks } else { 0 }, self.config.value_dim());
        let next = AtomicUsize::new(0);
        team.run(|rank| {
            let mut own = locals[rank].lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    return;
                }
                let which = starts.partition_point(|start| *start <= task) - 1;
                // SAFETY: the counter gives each task to one member; all heads are kept.
                unsafe {
                    let (first, scratch) = (starts[which], &mut own.attend);
                    attentions[which].attend(self.isa, task - first, (parts, first), scratch);
                }
            }
        });
    }

    /// The rotation of each layer, long enough for every position of the batch; one for the end.
    fn cached_tables(&self, batch: &Batch, caches: &[&mut KvCache]) -> Vec<Option<Arc<Table>>> {
        let ends = batch.sequences().enumerate();
        let ends = ends.map(|(sequence, (_, length))| batch.first_position(sequence) + length);
        let longest = ends.max().unwrap_or(0);
        let long = self.long_rope.as_ref();
        let long = long.filter(|_| caches.iter().any(|cache| cache.long_rope));
        let table = |layer: &Layer| {
            let rope = layer.rope.as_ref()?;
            Some(long.unwrap_or(rope).table(longest))
        };
        self.layers.iter().map(table).chain([None]).collect()
    }
}
