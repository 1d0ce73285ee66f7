//! The forward pass on AMX tiles: the steps of [`super::forward`], their results in the format of the
//! next product.
//!
//! All rows of a batch go through a step together, in groups as [`product`](crate::kernels::tiled)
//! takes them, so each panel of weights is fetched from memory once for many rows.

#![expect(
    unsafe_code,
    reason = "members of a team write disjoint rows of shared matrices"
)]

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::config::BlockKind;
use super::forward::Step;
use super::{Batch, Hidden, Layer, Scratch, Transformer};
use crate::Result;
use crate::kernels::attention::Heads;
use crate::kernels::buffer::Buffer;
use crate::kernels::linear::{Linear, PART, TilePanels};
use crate::kernels::norm::Norm;
use crate::kernels::rope::Table;
use crate::kernels::rows::{Rows, padded};
use crate::kernels::team::Team;
use crate::kernels::tiled::attention::{self, Context, Packed, SLACK, TileAttention};
use crate::kernels::tiled::pack::{self, Source};
use crate::kernels::tiled::product::{self, Product, Target};
use crate::kernels::tiled::{Halves, TileRows, whole_tiles};

/// Rows of a tile.
const TILE: usize = 16;

/// Batches of at least so many rows are shared out by rows, smaller ones by columns: a product of
/// few rows takes as long as its weights take to arrive.
const BY_ROWS: usize = 96;

/// Panels of a part of the feed-forward block's inner width.
const PART_PANELS: usize = PART / 32;

/// Key-value heads that are packed at a time by a thread alone.
const HEADS: usize = 8;

/// Who runs a pass: the calling thread, or a team with a scratch for each member.
#[derive(Clone, Copy)]
pub(super) enum Crew<'a> {
    Alone,
    Team(&'a Team, &'a [Mutex<Scratch>]),
}

/// What a member needs for itself.
#[derive(Debug)]
pub(super) struct TiledLocal {
    product: Buffer<f32>,
    attention: Buffer<f32>,
    /// A part of the feed-forward block of a group of rows.
    wide: Buffer<u16>,
    /// The same in bf16, before it is turned into bytes.
    halves: Buffer<u16>,
    scales: Buffer<f32>,
    /// Keys and values of some heads.
    packed: Buffer<u16>,
}

/// Matrices of all tokens, beside the hidden states.
#[derive(Debug)]
pub(super) struct TiledScratch {
    /// What the products read that have the hidden size or the heads' as inputs.
    operand: Buffer<u16>,
    /// What the last product of a block reads.
    wide: Buffer<u16>,
    /// The same in bf16, before it is turned into bytes.
    halves: Buffer<u16>,
    query_key_value: Buffer<u16>,
    /// Keys and values of all heads.
    packed: Buffer<u16>,
    scales: Buffer<f32>,
    hidden: Buffer<f32>,
    normed: Buffer<f32>,
    pub(super) local: TiledLocal,
}

impl TiledScratch {
    pub(super) fn new() -> Self {
        Self {
            operand: Buffer::zeroed(0),
            wide: Buffer::zeroed(0),
            halves: Buffer::zeroed(0),
            query_key_value: Buffer::zeroed(0),
            packed: Buffer::zeroed(0),
            scales: Buffer::zeroed(0),
            hidden: Buffer::zeroed(0),
            normed: Buffer::zeroed(0),
            local: TiledLocal {
                product: Buffer::zeroed(0),
                attention: Buffer::zeroed(0),
                wide: Buffer::zeroed(0),
                halves: Buffer::zeroed(0),
                scales: Buffer::zeroed(0),
                packed: Buffer::zeroed(0),
            },
        }
    }
}

impl TiledLocal {
    fn reserve(&mut self, heads: &Heads, longest: usize) {
        self.product.reserve(product::SCRATCH);
        let rows = product::GROUP * TILE;
        self.wide.reserve(TileRows::len(rows, PART_PANELS));
        self.halves.reserve(rows * PART);
        self.scales.reserve(rows * 2);
        self.attention.reserve(attention::scratch_len(heads));
        self.packed
            .reserve(HEADS * attention::packed_len(heads, longest));
    }
}

/// What stays the same during a pass.
#[derive(Clone, Copy)]
struct Pass<'a> {
    batch: &'a Batch,
    tables: &'a [Option<Arc<Table>>],
    x: Rows<'a, f32>,
    hidden: Rows<'a, f32>,
    normed: Rows<'a, f32>,
    /// Queries, keys and values before the rotation, if there is one, and the heads' results in front
    /// of products of bytes.
    floats: Rows<'a, f32>,
    context: Rows<'a, f32>,
    query_key_value: Rows<'a, u16>,
    operand: TileRows<'a>,
    wide: TileRows<'a>,
    halves: Rows<'a, u16>,
    scales: Rows<'a, f32>,
}

/// The format that all products of a transformer have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    Halves,
    Bytes,
}

fn operand_of(layer: &Linear) -> Option<Operand> {
    Some(match layer.tile_panels()? {
        TilePanels::Halves(_) => Operand::Halves,
        TilePanels::Bytes(_) => Operand::Bytes,
    })
}

impl Transformer {
    /// The operands of this model's passes on tiles; `None` if it cannot run on them.
    pub(super) fn tile_operand(&self) -> Option<Operand> {
        let config = &self.config;
        let heads = &self.layers.first()?.heads;
        let widths = [
            config.hidden_size,
            config.intermediate_size,
            heads.num_heads * heads.head_dim,
            heads.num_key_value_heads * heads.head_dim,
        ];
        let fits = self.isa.has_tiles()
            && widths.iter().all(|width| width % 32 == 0)
            && heads.head_dim % 16 == 0
            && config.value_dim() == heads.head_dim;
        if !fits {
            return None;
        }
        let mut found = None;
        for layer in &self.layers {
            if layer.latent.is_some() || layer.experts.is_some() {
                return None;
            }
            let products = [
                layer.query_key_value.as_ref()?,
                &layer.output,
                layer.up.as_ref()?,
                layer.down.as_ref()?,
            ];
            for product in products {
                let operand = operand_of(product)?;
                if *found.get_or_insert(operand) != operand {
                    return None;
                }
            }
        }
        found
    }

    /// Runs `batch`, as [`Transformer::forward`] does.
    ///
    /// # Errors
    ///
    /// If a token table cannot be read.
    pub(super) fn forward_on_tiles<'a>(
        &self,
        operand: Operand,
        crew: Crew<'_>,
        batch: &Batch,
        scratch: &'a mut Scratch,
    ) -> Result<Hidden<'a>> {
        let longest = self.prepare_tiles(crew, batch, scratch)?;
        let tables = self.tables(longest);
        let Scratch {
            x,
            query_key_value,
            context,
            tiled,
            ..
        } = scratch;
        let TiledScratch {
            operand: operand_memory,
            wide,
            halves,
            query_key_value: query_key_value_halves,
            packed,
            scales,
            hidden,
            normed,
            local,
        } = tiled;
        let rows = whole_tiles(batch.num_tokens());
        let width = padded(self.config.hidden_size);
        let pass = Pass {
            batch,
            tables: &tables,
            x: Rows::new(x, rows, width),
            hidden: Rows::new(hidden, rows, width),
            normed: Rows::new(normed, rows, width),
            floats: Rows::new(query_key_value, rows, self.query_key_value_stride()),
            context: Rows::new(context, rows, self.context_stride()),
            query_key_value: Rows::new(
                query_key_value_halves,
                rows + SLACK,
                self.query_key_value_stride(),
            ),
            operand: TileRows::new(operand_memory, rows, self.operand_steps()),
            wide: TileRows::new(wide, rows, self.wide_steps()),
            halves: Rows::new(halves, rows, padded(self.config.intermediate_size)),
            scales: Rows::new(scales, rows, 2),
        };
        let run = Run {
            model: self,
            operand,
            pass,
        };
        for index in 0..=self.layers.len() {
            run.steps(crew, index, local);
            if index < self.layers.len() {
                run.attention(crew, index, longest, packed, local);
            }
        }
        Ok(self.finish(x))
    }

    fn operand_steps(&self) -> usize {
        product::half_steps(self.config.hidden_size.max(self.context_stride()))
    }

    fn wide_steps(&self) -> usize {
        product::half_steps(self.config.intermediate_size)
    }

    /// Reserves memory and writes the first hidden states; returns the longest text's length.
    fn prepare_tiles(&self, crew: Crew<'_>, batch: &Batch, scratch: &mut Scratch) -> Result<usize> {
        let lengths = batch.sequences().map(|(_, length)| length);
        let longest = lengths.max().unwrap_or(0);
        let tokens = batch.num_tokens();
        let rows = whole_tiles(tokens);
        let width = padded(self.config.hidden_size);
        let stride = self.query_key_value_stride();
        scratch.x.reserve(rows * width);
        scratch.query_key_value.reserve(rows * stride);
        scratch.context.reserve(rows * self.context_stride());
        let tiled = &mut scratch.tiled;
        tiled
            .operand
            .reserve(TileRows::len(rows, self.operand_steps()));
        tiled.wide.reserve(TileRows::len(rows, self.wide_steps()));
        tiled
            .halves
            .reserve(rows * padded(self.config.intermediate_size));
        tiled.query_key_value.reserve((rows + SLACK) * stride);
        tiled.scales.reserve(rows * 2);
        tiled.hidden.reserve(rows * width);
        tiled.normed.reserve(rows * width);
        if let Some(layer) = self.layers.first() {
            let heads = &layer.heads;
            match crew {
                Crew::Alone => tiled.local.reserve(heads, longest),
                Crew::Team(_, locals) => {
                    let all = heads.num_key_value_heads * attention::packed_len(heads, longest);
                    tiled.packed.reserve(all);
                    for local in locals {
                        lock(local).tiled.local.reserve(heads, 0);
                    }
                }
            }
        }
        let x = Rows::new(&mut scratch.x, rows, width);
        self.embed_tokens(batch, x)?;
        Ok(longest)
    }
}

fn lock(scratch: &Mutex<Scratch>) -> std::sync::MutexGuard<'_, Scratch> {
    scratch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pass on its way.
#[derive(Clone, Copy)]
struct Run<'a> {
    model: &'a Transformer,
    operand: Operand,
    pass: Pass<'a>,
}

impl Run<'_> {
    /// The row steps up to the attention of layer `index`.
    fn steps(&self, crew: Crew<'_>, index: usize, local: &mut TiledLocal) {
        let steps = self.model.steps(index);
        let rows = self.pass.batch.num_tokens();
        match crew {
            // SAFETY: the only thread.
            Crew::Alone => unsafe { self.chain(&steps, 0..rows, local) },
            Crew::Team(team, locals) if rows >= BY_ROWS => team.run(|rank| {
                let share = team.share(rank, rows, TILE);
                let local = &mut lock(&locals[rank]).tiled.local;
                // SAFETY: shares are disjoint tiles of rows.
                unsafe { self.chain(&steps, share, local) };
            }),
            Crew::Team(team, locals) => {
                for (layer, step) in steps {
                    self.side_by_side(team, locals, (layer, step));
                }
            }
        }
    }

    /// # Safety
    ///
    /// Nobody else uses these rows meanwhile; they begin with a tile.
    unsafe fn chain(&self, steps: &[(usize, Step)], rows: Range<usize>, local: &mut TiledLocal) {
        if rows.is_empty() {
            return;
        }
        let tiles = rows.start / TILE..rows.end.div_ceil(TILE);
        for (index, step) in steps {
            // SAFETY: the caller's.
            unsafe {
                if *step == Step::Down {
                    continue;
                }
                if *step == Step::Up {
                    self.feed_forward(*index, tiles.clone(), local);
                    continue;
                }
                self.row_part(*index, *step, rows.clone());
                if let Some(product) = self.product(*index, *step) {
                    let panels = 0..product.num_panels();
                    product.run(tiles.clone(), panels, &mut local.product);
                }
            }
        }
    }

    /// Both products of the feed-forward block, a part of its inner width at a time, so that the part
    /// goes from the one to the other in the second-level cache.
    ///
    /// # Safety
    ///
    /// Nobody else uses these tiles of rows meanwhile.
    unsafe fn feed_forward(&self, index: usize, tiles: Range<usize>, local: &mut TiledLocal) {
        let (Some(up), Some(down)) = (
            self.product(index, Step::Up),
            self.product(index, Step::Down),
        ) else {
            return;
        };
        let mut first = tiles.start;
        while first < tiles.end {
            let group = first..(first + product::GROUP).min(tiles.end);
            first = group.end;
            // SAFETY: the caller's.
            unsafe { self.feed_forward_group(&up, &down, group, local) };
        }
    }

    /// # Safety
    ///
    /// As [`Run::feed_forward`].
    unsafe fn feed_forward_group(
        &self,
        up: &Product<'_>,
        down: &Product<'_>,
        group: Range<usize>,
        local: &mut TiledLocal,
    ) {
        let rows = group.len() * TILE;
        let first_row = group.start * TILE;
        let wide = TileRows::new(&mut local.wide, rows, PART_PANELS).starting_at(group.start);
        let halves = Rows::new(&mut local.halves, rows, PART).starting_at(first_row);
        let scales = Rows::new(&mut local.scales, rows, 2).starting_at(first_row);
        for part in 0..up.num_panels().div_ceil(PART_PANELS) {
            let origin = part * PART_PANELS;
            let panels = origin..(origin + PART_PANELS).min(up.num_panels());
            let (to, steps) = match self.operand {
                Operand::Halves => (Halves::Tiles(wide), panels.clone()),
                Operand::Bytes => (Halves::Rows(halves), origin / 2..panels.end.div_ceil(2)),
            };
            let activation = match up.to {
                Target::Halves { activation, .. } => activation,
                Target::Floats { .. } => None,
            };
            let up = Product {
                to: Target::Halves { to, activation },
                origin,
                ..up.clone()
            };
            let down = Product {
                from: wide,
                scales,
                to: match (part, down.to) {
                    (1.., Target::Floats { to, .. }) => Target::Floats { to, add: true },
                    (_, to) => to,
                },
                steps,
                part: (self.operand == Operand::Bytes).then_some(part),
                ..down.clone()
            };
            let outputs = 0..down.num_panels();
            // SAFETY: the caller's; the memory of the part is this thread's.
            unsafe {
                let width = panels.len() * 32;
                up.run(group.clone(), panels, &mut local.product);
                if self.operand == Operand::Bytes {
                    let rows = first_row..first_row + rows;
                    pack::to_bytes(Source::Halves(halves), rows, width, wide, scales);
                }
                down.run(group.clone(), outputs, &mut local.product);
            }
        }
    }

    /// One step of a few rows, shared out among the team by rows and by columns.
    fn side_by_side(&self, team: &Team, locals: &[Mutex<Scratch>], (index, step): (usize, Step)) {
        let rows = self.pass.batch.num_tokens();
        if self.has_row_part(index, step) {
            team.run(|rank| {
                // SAFETY: shares are disjoint.
                unsafe { self.row_part(index, step, team.share(rank, rows, 1)) };
            });
        }
        if let Some(product) = self.product(index, step) {
            team.run(|rank| {
                let panels = team.share(rank, product.num_panels(), 1);
                let local = &mut lock(&locals[rank]).tiled.local;
                // SAFETY: shares of panels are disjoint columns of the target.
                unsafe { product.run(0..rows.div_ceil(TILE), panels, &mut local.product) };
            });
        }
    }

    /// True if queries and keys are changed before attention reads them.
    fn rotates(&self, index: usize) -> bool {
        self.pass.tables[index].is_some() || self.model.layers[index].query_norm.is_some()
    }

    /// The product of a step.
    fn product(&self, index: usize, step: Step) -> Option<Product<'_>> {
        let layer = &self.model.layers[index];
        let pass = &self.pass;
        let sandwich = self.model.config.block == BlockKind::Sandwich;
        let residual = if sandwich {
            Target::Floats {
                to: pass.hidden,
                add: false,
            }
        } else {
            Target::Floats {
                to: pass.x,
                add: true,
            }
        };
        let (linear, from, to) = match step {
            Step::QueryKeyValue => {
                let to = if self.rotates(index) {
                    Target::Floats {
                        to: pass.floats,
                        add: false,
                    }
                } else {
                    Target::Halves {
                        to: Halves::Rows(pass.query_key_value),
                        activation: None,
                    }
                };
                (layer.query_key_value.as_ref()?, pass.operand, to)
            }
            Step::Output => (&layer.output, pass.operand, residual),
            Step::Up => {
                let config = &self.model.config;
                let to = match self.operand {
                    Operand::Halves => Halves::Tiles(pass.wide),
                    Operand::Bytes => Halves::Rows(pass.halves),
                };
                let activation = Some((config.activation, config.gated));
                let to = Target::Halves { to, activation };
                (layer.up.as_ref()?, pass.operand, to)
            }
            Step::Down => (layer.down.as_ref()?, pass.wide, residual),
            _ => return None,
        };
        Some(Product {
            layer: linear,
            from,
            scales: pass.scales,
            to,
            steps: Product::all_steps(linear),
            part: None,
            origin: 0,
        })
    }

    /// True if [`Run::row_part`] does something.
    fn has_row_part(&self, index: usize, step: Step) -> bool {
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
    unsafe fn row_part(&self, index: usize, step: Step, rows: Range<usize>) {
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
                    let (from, width) = (Source::Halves(pass.halves), pass.halves.stride());
                    pack::to_bytes(from, rows, width, pass.wide, pass.scales);
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

    /// The attention of layer `index`.
    fn attention(
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
    if heads.num_key_value_heads % team.size() == 0 || a_head == 1 {
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
