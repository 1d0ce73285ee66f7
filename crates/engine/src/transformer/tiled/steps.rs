//! The products of a pass and the order of its steps.

#![expect(
    unsafe_code,
    reason = "members of a team write disjoint rows of shared matrices"
)]

use std::ops::Range;
use std::sync::Mutex;

use super::scratch::TiledLocal;
use super::{BY_ROWS, Crew, Operand, Run, Step, TILE, lock};
use crate::kernels::linear::PART;
use crate::kernels::rows::Rows;
use crate::kernels::team::Team;
use crate::kernels::tiled::pack::{self, Source};
use crate::kernels::tiled::product::{self, Product, Target};
use crate::kernels::tiled::{Halves, TileRows};
use crate::transformer::Scratch;
use crate::transformer::config::BlockKind;

/// Panels of a part of the feed-forward block's inner width.
pub(super) const PART_PANELS: usize = PART / 32;

impl Run<'_> {
    /// The row steps up to the attention of layer `index`.
    pub(super) fn steps(&self, crew: Crew<'_>, index: usize, local: &mut TiledLocal) {
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

    /// Takes `rows` through all `steps`, a group at a time, whose matrices then stay in the
    /// second-level cache from step to step.
    ///
    /// # Safety
    ///
    /// Nobody else uses these rows meanwhile; they begin with a tile.
    unsafe fn chain(&self, steps: &[(usize, Step)], rows: Range<usize>, local: &mut TiledLocal) {
        let mut first = rows.start;
        while first < rows.end {
            let group = first..(first + product::GROUP * TILE).min(rows.end);
            first = group.end;
            for (index, step) in steps {
                // SAFETY: the caller's.
                unsafe { self.step(*index, *step, group.clone(), local) };
            }
        }
    }

    /// One step of a group of rows; `Up` brings `Down` with it.
    ///
    /// # Safety
    ///
    /// As [`Run::chain`].
    unsafe fn step(&self, index: usize, step: Step, rows: Range<usize>, local: &mut TiledLocal) {
        let tiles = rows.start / TILE..rows.end.div_ceil(TILE);
        // SAFETY: the caller's.
        unsafe {
            match step {
                Step::Down => {}
                Step::Up => self.feed_forward(index, tiles, local),
                _ => {
                    self.row_part(index, step, rows);
                    if let Some(product) = self.product(index, step) {
                        product.run(tiles, 0..product.num_panels(), &mut local.product);
                    }
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
    unsafe fn feed_forward(&self, index: usize, group: Range<usize>, local: &mut TiledLocal) {
        let (Some(up), Some(down)) = (
            self.product(index, Step::Up),
            self.product(index, Step::Down),
        ) else {
            return;
        };
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
    pub(super) fn rotates(&self, index: usize) -> bool {
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
}
