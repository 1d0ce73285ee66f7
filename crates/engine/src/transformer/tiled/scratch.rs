//! Memory of a pass on tiles, kept between passes.

use super::inner::InnerMemory;
use super::{Crew, TILE, lock};
use crate::Result;
use crate::kernels::attention::Heads;
use crate::kernels::buffer::Buffer;
use crate::kernels::linear::PART;
use crate::kernels::rows::{Rows, padded};
use crate::kernels::tiled::attention::{self, SLACK};
use crate::kernels::tiled::{TileRows, product, whole_tiles};
use crate::transformer::{Batch, Scratch, Transformer};

/// Key-value heads that are packed at a time by a thread alone.
pub(super) const HEADS: usize = 8;

/// What a member needs for itself.
#[derive(Debug)]
pub(in crate::transformer) struct TiledLocal {
    pub(super) product: Buffer<f32>,
    pub(super) attention: Buffer<f32>,
    /// A part of the feed-forward block of a group of rows.
    pub(super) inner: InnerMemory,
    /// Keys and values of some heads.
    pub(super) packed: Buffer<u16>,
}

/// Matrices of all tokens, beside the hidden states.
#[derive(Debug)]
pub(in crate::transformer) struct TiledScratch {
    /// What the products read that have the hidden size or the heads' as inputs.
    pub(super) operand: Buffer<u16>,
    /// What the last product of a block reads.
    pub(super) inner: InnerMemory,
    pub(super) query_key_value: Buffer<u16>,
    /// Keys and values of all heads.
    pub(super) packed: Buffer<u16>,
    pub(super) scales: Buffer<f32>,
    pub(super) hidden: Buffer<f32>,
    pub(super) normed: Buffer<f32>,
    pub(super) local: TiledLocal,
}

impl TiledScratch {
    pub(in crate::transformer) fn new() -> Self {
        Self {
            operand: Buffer::zeroed(0),
            inner: InnerMemory::new(),
            query_key_value: Buffer::zeroed(0),
            packed: Buffer::zeroed(0),
            scales: Buffer::zeroed(0),
            hidden: Buffer::zeroed(0),
            normed: Buffer::zeroed(0),
            local: TiledLocal {
                product: Buffer::zeroed(0),
                attention: Buffer::zeroed(0),
                inner: InnerMemory::new(),
                packed: Buffer::zeroed(0),
            },
        }
    }
}

impl TiledLocal {
    fn reserve(&mut self, heads: &Heads, longest: usize) {
        self.product.reserve(product::SCRATCH);
        self.inner.reserve(product::GROUP * TILE, PART);
        self.attention.reserve(attention::scratch_len(heads));
        self.packed
            .reserve(HEADS * attention::packed_len(heads, longest));
    }
}
impl Transformer {
    pub(super) fn operand_steps(&self) -> usize {
        product::half_steps(self.config.hidden_size.max(self.context_stride()))
    }

    /// Reserves memory and writes the first hidden states; returns the longest text's length.
    pub(super) fn prepare_tiles(
        &self,
        crew: Crew<'_>,
        batch: &Batch,
        scratch: &mut Scratch,
    ) -> Result<usize> {
        let lengths = batch.sequences().map(|(_, length)| length);
        let longest = lengths.max().unwrap_or(0);
        let tokens = batch.num_tokens();
        let rows = whole_tiles(tokens);
        let few = crew.rows_by_columns(tokens);
        let width = padded(self.config.hidden_size);
        let stride = self.query_key_value_stride();
        scratch.x.reserve(rows * width);
        scratch.query_key_value.reserve(rows * stride);
        scratch.context.reserve(rows * self.context_stride());
        let tiled = &mut scratch.tiled;
        tiled
            .operand
            .reserve(TileRows::len(rows, self.operand_steps()));
        tiled.inner.reserve(few, self.config.intermediate_size);
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
