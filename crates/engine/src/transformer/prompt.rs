//! The row steps of a prompt whose weights are unpacked as they are used: every product takes all rows
//! by shares of its panels, so that each panel is unpacked once.

#![expect(
    unsafe_code,
    reason = "members of a team write disjoint parts of shared matrices"
)]

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Transformer;
use super::scratch::Local;
use super::steps::{Pass, Step};
use crate::kernels::linear::{Input, Linear};
use crate::kernels::rows::Rows;
use crate::kernels::team::Team;

impl Transformer {
    /// True if prompts go through [`Transformer::whole_panels`].
    pub(super) fn unpacks(&self) -> bool {
        let mut layers = self.layers.iter();
        layers.any(|layer| layer.output.unpacks(self.isa))
    }

    /// Takes all `rows`, for which `wide` has room, through all `steps`, one step after the other.
    pub(super) fn whole_panels(
        &self,
        team: &Team,
        steps: &[(usize, Step)],
        rows: usize,
        pass: Pass<'_>,
        wide: &mut Local,
    ) {
        let own = wide.lend(self, 0);
        let mut rest = steps;
        while let Some((index, step)) = rest.first() {
            let layer = &self.layers[*index];
            if let Some((linear, from, to)) = self.product(layer, *step, pass, own) {
                self.product_of_all(team, linear, rows, (from, to), own.input);
                rest = &rest[1..];
                continue;
            }
            let is_product = |(index, step): &(usize, Step)| {
                self.product(&self.layers[*index], *step, pass, own)
                    .is_some()
            };
            let some = rest.iter().position(is_product).unwrap_or(rest.len());
            let (now, later) = rest.split_at(some);
            team.run(|rank| {
                let share = team.share(rank, rows, 1);
                for (index, step) in now {
                    // SAFETY: shares of rows are disjoint.
                    unsafe { self.row_step(*index, *step, share.clone(), pass, own) };
                }
            });
            rest = later;
        }
    }

    fn product_of_all(
        &self,
        team: &Team,
        linear: &Linear,
        rows: usize,
        (from, to): (Rows<'_, f32>, Rows<'_, f32>),
        scratch: Input<'_>,
    ) {
        // SAFETY: no rows yet: this says only where they will be.
        let input = unsafe { linear.prepare_prompt(self.isa, from, 0..0, scratch) };
        team.run(|rank| {
            let share = team.share(rank, rows, 1);
            // SAFETY: shares of rows are disjoint.
            unsafe { linear.prepare_prompt(self.isa, from, share, scratch) };
        });
        let panels = linear.num_panels();
        // One member may be held up by another program, so each takes more than one share; a share
        // has several panels, so that the rows are read once for all of them.
        let bunch = (panels / (4 * team.size())).max(1);
        let next = AtomicUsize::new(0);
        team.run(|_| {
            loop {
                let first = next.fetch_add(bunch, Ordering::Relaxed);
                if first >= panels {
                    return;
                }
                let share = first..(first + bunch).min(panels);
                // SAFETY: the counter gives each panel to one member, and all rows are prepared.
                unsafe { linear.multiply_prompt(self.isa, input, 0..rows, share, to) };
            }
        });
    }
}
