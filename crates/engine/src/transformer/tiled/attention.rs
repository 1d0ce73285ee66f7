//! The attention of a pass, shared out by heads or by tiles of queries.

#![expect(
    unsafe_code,
    reason = "members of a team write disjoint rows of shared matrices"
)]

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::scratch::{HEADS, TiledLocal};
use super::{Crew, Operand, Run, lock};
use crate::kernels::buffer::Buffer;
use crate::kernels::rows::Rows;
use crate::kernels::team::Team;
use crate::kernels::tiled::Halves;
use crate::kernels::tiled::attention::{self, Context, Packed, TileAttention};
use crate::transformer::Scratch;

impl Run<'_> {
    /// The attention of layer `index`.
    pub(super) fn attention(
        &self,
        crew: Crew<'_>,
        index: usize,
        longest: usize,
        packed: &mut Buffer<u16>,
        local: &mut TiledLocal,
    ) {
        let heads = self.model.layers[index].heads;
        let len = attention::packed_len(&heads, longest);
        match crew {
            Crew::Alone => {
                let memory = Rows::new(&mut local.packed, HEADS, len);
                for (first, length) in self.pass.batch.sequences() {
                    let attention = self.sequence(index, first, length);
                    let together = attention.heads_together().min(HEADS);
                    let mut head = 0;
                    while head < heads.num_key_value_heads {
                        let some = head..(head + together).min(heads.num_key_value_heads);
                        let place = |head: usize| attention.place(memory, head - some.start);
                        let scratch = &mut local.attention;
                        // SAFETY: the only thread; queries, keys and values are complete.
                        unsafe {
                            some.clone()
                                .for_each(|head| attention.pack(head, place(head)));
                            attend_heads(&attention, some.clone(), place, scratch);
                        }
                        head = some.end;
                    }
                }
            }
            Crew::Team(team, locals) => {
                let memory = Rows::new(packed, heads.num_key_value_heads, len);
                for (first, length) in self.pass.batch.sequences() {
                    let attention = self.sequence(index, first, length);
                    attend_together(team, locals, &attention, memory);
                }
            }
        }
    }

    fn sequence(&self, index: usize, first: usize, length: usize) -> TileAttention<'_> {
        let pass = &self.pass;
        TileAttention {
            heads: self.model.layers[index].heads,
            qkv: pass.query_key_value,
            first,
            length,
            bias: self.model.bias_table(),
            out: match self.operand {
                Operand::Halves => Context::Halves(Halves::Tiles(pass.operand)),
                Operand::Bytes => Context::Floats(pass.context),
            },
        }
    }
}

/// All queries of a sequence that read some key-value heads, packed at `place`.
///
/// # Safety
///
/// As [`TileAttention::attend`].
unsafe fn attend_heads(
    attention: &TileAttention<'_>,
    heads: Range<usize>,
    place: impl Fn(usize) -> Packed,
    scratch: &mut [f32],
) {
    let group = attention.heads.num_heads / attention.heads.num_key_value_heads;
    let queries: Vec<_> = heads
        .flat_map(|head| (head * group..(head + 1) * group).map(move |query| (query, head)))
        .map(|(query, head)| (query, place(head)))
        .collect();
    // SAFETY: the caller's; no other tiles live on this thread.
    unsafe {
        let tiles = attention::configure();
        for heads in queries.chunks(attention.heads_together()) {
            for task in 0..attention.tasks_a_head() {
                attention.attend(&tiles, task, heads, scratch);
            }
        }
    }
}

/// Attention of one sequence, heads and tiles of queries dealt out among the team.
fn attend_together(
    team: &Team,
    locals: &[Mutex<Scratch>],
    attention: &TileAttention<'_>,
    memory: Rows<'_, u16>,
) {
    let heads = &attention.heads;
    let group = heads.num_heads / heads.num_key_value_heads;
    let a_head = attention.tasks_a_head();
    if heads.num_key_value_heads.is_multiple_of(team.size()) || a_head == 1 {
        // Whole heads: what a member packs it reads itself, from its own cache.
        team.run(|rank| {
            let local = &mut lock(&locals[rank]).tiled.local;
            let share = team.share(rank, heads.num_key_value_heads, 1);
            let place = |head| attention.place(memory, head);
            // SAFETY: shares are disjoint.
            unsafe {
                share
                    .clone()
                    .for_each(|head| attention.pack(head, place(head)));
                attend_heads(attention, share, place, &mut local.attention);
            }
        });
        return;
    }
    team.run(|rank| {
        for head in team.share(rank, heads.num_key_value_heads, 1) {
            // SAFETY: shares are disjoint.
            unsafe { attention.pack(head, attention.place(memory, head)) };
        }
    });
    let next = AtomicUsize::new(0);
    let tasks = heads.num_heads * a_head;
    team.run(|rank| {
        let local = &mut lock(&locals[rank]).tiled.local;
        // SAFETY: no other tiles live on this thread.
        let tiles = unsafe { attention::configure() };
        loop {
            let task = next.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                return;
            }
            let (head, task) = (task / a_head, task % a_head);
            let place = attention.place(memory, head / group);
            // SAFETY: the counter gives each task to one member; all heads are packed.
            unsafe { attention.attend(&tiles, task, &[(head, place)], &mut local.attention) };
        }
    });
}
