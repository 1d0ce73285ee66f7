//! The forward pass on AMX tiles: the steps of [`super::forward`], their results in the format of the
//! next product.
//!
//! All rows of a batch go through a step together, in groups as
//! [`product`](crate::kernels::tiled::product) takes them, so each panel of weights is fetched from
//! memory once for many rows. In reading order: what a pass holds (here and in [`scratch`]), its steps
//! ([`steps`]: products, with the [`inner`] width of the feed-forward block between two of them;
//! [`rows`]: what lies between the others), [`attention`].

mod scratch;
mod inner;
mod steps;
mod rows;
mod attention;

use std::sync::{Arc, Mutex, PoisonError};

use self::inner::Inner;
use super::steps::Step;
use super::{Batch, Hidden, Scratch, Transformer};
use crate::Result;
use crate::kernels::linear::{Linear, TilePanels};
use crate::kernels::rope::Table;
use crate::kernels::rows::{Rows, padded};
use crate::kernels::team::Team;
use crate::kernels::tiled::attention::SLACK;
use crate::kernels::tiled::{TileRows, whole_tiles};

pub(super) use scratch::TiledScratch;

/// Rows of a tile.
const TILE: usize = 16;

/// Who runs a pass: the calling thread, or a team with a scratch for each member.
#[derive(Clone, Copy)]
pub(super) enum Crew<'a> {
    Alone,
    Team(&'a Team, &'a [Mutex<Scratch>]),
}

/// Batches of at least so many rows are shared out by rows, smaller ones by columns: a product of
/// few rows takes as long as its weights take to arrive.
const BY_ROWS: usize = 96;

impl Crew<'_> {
    /// Of a batch of `tokens` that is shared out by columns, its rows; else none. Only there does the
    /// feed-forward block's inner width have to exist as a whole.
    fn rows_by_columns(self, tokens: usize) -> usize {
        match self {
            Self::Team(..) if tokens < BY_ROWS => whole_tiles(tokens),
            _ => 0,
        }
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
    /// The feed-forward block's inner width, for [`Crew::rows_by_columns`].
    inner: Inner<'a>,
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
            inner,
            query_key_value: query_key_value_halves,
            packed,
            scales,
            hidden,
            normed,
            local,
        } = tiled;
        let rows = whole_tiles(batch.num_tokens());
        let few = crew.rows_by_columns(batch.num_tokens());
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
            inner: inner.lend(few, self.config.intermediate_size),
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
