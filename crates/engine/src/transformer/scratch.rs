//! Memory of a forward pass, kept between passes.

use crate::kernels::attention::Heads;
use crate::kernels::buffer::Buffer;
use crate::kernels::cached_attention::{AttendScratch, PartsMemory};
use crate::kernels::linear::InputScratch;
use crate::kernels::rows::padded;

use super::Transformer;
#[cfg(target_arch = "x86_64")]
use super::tiled::TiledScratch;

/// Rows that go through a chain of layers at a time: so few that a block's feed-forward activations
/// stay in a 2 MiB second-level cache, so many that each panel of weights is used eight times.
pub(super) const ROW_BLOCK: usize = 96;

/// What a member of a team needs for itself.
#[derive(Debug)]
pub(super) struct Local {
    /// Rows that there is room for.
    pub(super) rows: usize,
    pub(super) hidden: Buffer<f32>,
    pub(super) normed: Buffer<f32>,
    pub(super) up: Buffer<f32>,
    pub(super) input: InputScratch,
    pub(super) scores: Buffer<f32>,
}

/// All memory of one pass: hidden states for every token, and the member's own.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(super) x: Buffer<f32>,
    pub(super) query_key_value: Buffer<f32>,
    pub(super) context: Buffer<f32>,
    pub(super) packed: Buffer<f32>,
    pub(super) local: Local,
    /// Room for all rows of a prompt at once, where a prompt's products want that.
    pub(super) wide: Local,
    pub(super) attend: AttendScratch,
    pub(super) parts: PartsMemory,
    #[cfg(target_arch = "x86_64")]
    pub(super) tiled: TiledScratch,
}

impl Local {
    fn new(model: &Transformer, rows: usize) -> Self {
        let config = &model.config;
        let hidden = rows * padded(config.hidden_size);
        let widest = config
            .intermediate_size
            .max(model.context_stride())
            .max(config.hidden_size);
        let scores = model
            .layers
            .first()
            .map_or(0, |layer| layer.heads.scratch_len());
        Self {
            rows,
            hidden: Buffer::zeroed(hidden),
            normed: Buffer::zeroed(hidden),
            up: Buffer::zeroed(rows * model.up_stride()),
            input: InputScratch::new(rows, widest),
            scores: Buffer::zeroed(if rows == 0 { 0 } else { scores }),
        }
    }

    /// Makes room for `rows` rows.
    pub(super) fn reserve(&mut self, model: &Transformer, rows: usize) {
        if self.rows < rows {
            *self = Self::new(model, rows);
        }
    }
}

impl Scratch {
    /// Empty memory for `model`; it grows with the first batches.
    pub(crate) fn new(model: &Transformer) -> Self {
        Self {
            x: Buffer::zeroed(0),
            query_key_value: Buffer::zeroed(0),
            context: Buffer::zeroed(0),
            packed: Buffer::zeroed(0),
            attend: AttendScratch::default(),
            parts: PartsMemory::default(),
            #[cfg(target_arch = "x86_64")]
            tiled: TiledScratch::new(),
            local: Local::new(model, ROW_BLOCK),
            wide: Local::new(model, 0),
        }
    }

    /// Makes room for `tokens` tokens in texts of at most `longest`.
    pub(super) fn reserve(&mut self, model: &Transformer, tokens: usize, packed: usize) {
        self.x.reserve(tokens * padded(model.config.hidden_size));
        self.query_key_value
            .reserve(tokens * model.query_key_value_stride());
        self.context.reserve(tokens * model.context_stride());
        self.packed.reserve(packed);
    }
}

impl Transformer {
    fn heads(&self) -> Option<&Heads> {
        self.layers.first().map(|layer| &layer.heads)
    }

    /// Numbers in a row of queries, keys and values.
    pub(super) fn query_key_value_stride(&self) -> usize {
        self.heads().map_or(0, |heads| {
            heads.value_column() + padded(heads.num_key_value_heads * self.config.value_dim())
        })
    }

    /// Numbers in a row of attention results.
    pub(super) fn context_stride(&self) -> usize {
        padded(self.config.num_attention_heads * self.config.value_dim())
    }

    /// Numbers in a row of the feed-forward block's inner layer.
    pub(super) fn up_stride(&self) -> usize {
        padded(self.config.intermediate_size) * if self.config.gated { 2 } else { 1 }
    }
}
