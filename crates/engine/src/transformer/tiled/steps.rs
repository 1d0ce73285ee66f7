//! The products of a pass and the order of its steps.

#![expect(
    unsafe_code,
    reason = "members of a team write disjoint rows of shared matrices"
)]

use std::ops::Range;
use std::sync::Mutex;

use super::inner::{Inner, Part};
use super::scratch::TiledLocal;
use super::{BY_ROWS, Crew, Operand, Run, Step, TILE, lock};
use crate::kernels::linear::PART;
use crate::kernels::team::Team;
use crate::kernels::tiled::Halves;
use crate::kernels::tiled::product::{self, Product, Target};
use crate::transformer::Scratch;
use crate::transformer::config::BlockKind;

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
        let first_row = group.start * TILE;
        let rows = first_row..group.end * TILE;
        let inner = local.inner.lend(rows.len(), PART);
        let inner = inner.starting_at(group.start);
        for part in Part::all(self.model.config.intermediate_size) {
            let Target::Halves { activation, .. } = up.to else {
                unreachable!("this product's results are activated; this is a bug");
            };
            let up = Product {
                to: Target::Halves {
                    to: inner.halves_for(self.operand),
                    activation,
                },
                origin: part.panels().start,
                ..up.clone()
            };
            let down = self.down_part(&down, &part, inner);
            let outputs = 0..down.num_panels();
            // SAFETY: the caller's; the memory of the part is this thread's.
            unsafe {
                up.run(group.clone(), part.panels(), &mut local.product);
                if self.operand == Operand::Bytes {
                    inner.to_bytes(&part, rows.clone());
                }
                down.run(group.clone(), outputs, &mut local.product);
            }
        }
    }

    /// What a part of the inner width, which lies in `inner`, adds to the results of the feed-forward
    /// block; the first one brings the bias.
    fn down_part<'a>(&self, down: &Product<'a>, part: &Part, inner: Inner<'a>) -> Product<'a> {
        Product {
            from: inner.operand(),
            scales: inner.scales(),
            to: match (part.index(), down.to) {
                (1.., Target::Floats { to, .. }) => Target::Floats { to, add: true },
                (_, to) => to,
            },
            steps: part.steps(self.operand),
            part: (self.operand == Operand::Bytes).then_some(part.index()),
            ..down.clone()
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
        let Some(product) = self.product(index, step) else {
            return;
        };
        let products = match step {
            // As many rows are taken: by parts, so that the sums are the same.
            Step::Down => Part::all(self.model.config.intermediate_size)
                .map(|part| {
                    self.down_part(&product, &part, self.pass.inner.of(&part, self.operand))
                })
                .collect(),
            _ => vec![product],
        };
        team.run(|rank| {
            let local = &mut lock(&locals[rank]).tiled.local;
            for product in &products {
                let panels = team.share(rank, product.num_panels(), 1);
                // SAFETY: shares of panels are disjoint columns of the target.
                unsafe { product.run(0..rows.div_ceil(TILE), panels, &mut local.product) };
            }
        });
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
                let to = pass.inner.halves_for(self.operand);
                let activation = Some((config.activation, config.gated));
                let to = Target::Halves { to, activation };
                (layer.up.as_ref()?, pass.operand, to)
            }
            Step::Down => (layer.down.as_ref()?, pass.inner.operand(), residual),
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
