//! The linear layer on AMX tiles: blocks of 32 rows by one panel of 32 outputs.
//!
//! Bytes give the sums of the VNNI kernel, bit for bit: the same panels, the same activations, the
//! same start and scales. bf16 sums start from the bias.

use super::Panels;
use super::multiply::Multiply;
use crate::kernels::amx::{Block, RowTile, TILE, Tiles};
use crate::kernels::rows::PANEL;
use crate::kernels::simd::{Kernel, Simd};

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

/// Bytes of a row of activations, and of a panel, that one product of tiles takes.
const STEP: usize = 4 * TILE;
const PANEL_STEP: usize = TILE * PANEL * 4;

/// The job on tiles; only for `Bf16` and `I8` panels, on a CPU with tiles.
pub(super) struct ByTiles<'a>(pub(super) Multiply<'a>);

/// What byte panels know of each output, as in [`Panels::I8`].
struct Facts<'a> {
    scales: &'a [f32],
    sums: &'a [f32],
    starts: &'a [i32],
}

/// The sums of two tiles of rows, on their way to the output.
#[repr(C, align(64))]
struct Sums([i32; 2 * TILE * PANEL]);

impl Kernel for ByTiles<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let job = &self.0;
        if job.rows.is_empty() {
            return;
        }
        // SAFETY: there are tiles; this is the only place that configures them but for the
        // self-check, which has ended. The rest is `Linear::multiply`'s.
        unsafe {
            let tiles = Tiles::configure(self.tile_rows());
            match &job.layer.panels {
                Panels::Bf16(weights) => {
                    self.multiply_bf16(&tiles, weights.as_ptr().cast());
                }
                Panels::I8 {
                    weights,
                    scales,
                    sums,
                    starts,
                    ..
                } => {
                    let facts = Facts {
                        scales,
                        sums,
                        starts,
                    };
                    self.multiply_i8::<S>(&tiles, weights.as_ptr().cast(), &facts);
                }
                Panels::F32(_) | Panels::I16 { .. } | Panels::Blocks(_) => {
                    unreachable!("these panels are not for tiles; this is a bug")
                }
            }
        }
    }
}

impl ByTiles<'_> {
    /// Rows of a tile of activations: 16, or all of them.
    fn tile_rows(&self) -> usize {
        self.0.rows.len().min(TILE)
    }

    /// First rows of the tiles, by twos. The last tile ends with the last row, and so may repeat
    /// some rows of the one before: that costs less than to configure the tiles anew for each panel.
    fn tiles(&self) -> impl Iterator<Item = (usize, Option<usize>)> + use<> {
        let (rows, last) = (self.0.rows.clone(), self.0.rows.end - self.tile_rows());
        let end = rows.end;
        rows.step_by(2 * TILE).map(move |row| {
            let second = row + TILE;
            (row.min(last), (second < end).then(|| second.min(last)))
        })
    }

    /// A panel's block.
    fn block(&self, weights: *const u8, inputs_a_step: usize, panel: usize) -> Block {
        let steps = self.0.layer.in_features.div_ceil(inputs_a_step);
        let a_stride = self.0.input.words.stride() * 4;
        assert!(steps * STEP <= a_stride, "rows are padded to tiles");
        Block {
            a_stride,
            // Panels of whole steps lie one after the other, so the offset cannot wrap.
            b: weights.wrapping_add(panel * steps * PANEL_STEP),
            steps,
            a_step: STEP,
            start_stride: 0,
        }
    }

    /// The activations of the tile that begins at `row`.
    fn activations(&self, row: usize) -> *const u8 {
        self.0.input.words.at(row, 0).cast_const().cast()
    }

    /// # Safety
    ///
    /// As [`Kernel::run`]; `weights` are bf16 panels of this layer.
    #[inline(always)]
    unsafe fn multiply_bf16(&self, tiles: &Tiles, weights: *const u8) {
        let mut sums = Sums([0; 2 * TILE * PANEL]);
        for panel in self.0.panels.clone() {
            let block = self.block(weights, 2 * TILE, panel);
            let start = self.0.layer.bias[panel * PANEL..][..PANEL].as_ptr().cast();
            for (first, second) in self.tiles() {
                let low = RowTile {
                    a: self.activations(first),
                    start,
                    sums: sums.0.as_mut_ptr().cast(),
                };
                // SAFETY: rows and panels are in range, rows of activations hold whole tiles, and
                // `sums` has room for both.
                unsafe {
                    match second {
                        Some(second) => {
                            let high = RowTile {
                                a: self.activations(second),
                                sums: low.sums.add(TILE * PANEL * 4),
                                ..low
                            };
                            tiles.pair_of_bf16(&block, [low, high]);
                            self.copy(&sums.0[TILE * PANEL..], second, panel);
                        }
                        None => tiles.one_of_bf16(&block, low),
                    }
                    self.copy(&sums.0, first, panel);
                }
            }
        }
    }

    /// Stores the sums of the tile that begins at `row`, which are bits of `f32`.
    ///
    /// # Safety
    ///
    /// As [`Kernel::run`]; `sums` holds a tile's rows of 32 columns.
    #[inline(always)]
    unsafe fn copy(&self, sums: &[i32], row: usize, panel: usize) {
        for (offset, sums) in sums.chunks_exact(PANEL).take(self.tile_rows()).enumerate() {
            let to = self.0.out.at(row + offset, panel * PANEL);
            // SAFETY: the rows are this job's, and have whole panels.
            unsafe { to.copy_from_nonoverlapping(sums.as_ptr().cast(), PANEL) };
        }
    }

    /// # Safety
    ///
    /// As [`Kernel::run`]; `weights` are byte panels of this layer, and `facts` theirs.
    #[inline(always)]
    unsafe fn multiply_i8<S: Simd>(&self, tiles: &Tiles, weights: *const u8, facts: &Facts<'_>) {
        let mut sums = Sums([0; 2 * TILE * PANEL]);
        for panel in self.0.panels.clone() {
            let block = self.block(weights, 4 * TILE, panel);
            let start = facts.starts[panel * PANEL..][..PANEL].as_ptr().cast();
            for (first, second) in self.tiles() {
                let low = RowTile {
                    a: self.activations(first),
                    start,
                    sums: sums.0.as_mut_ptr().cast(),
                };
                // SAFETY: rows and panels are in range, rows of activations hold whole tiles, and
                // `sums` has room for both.
                unsafe {
                    match second {
                        Some(second) => {
                            let high = RowTile {
                                a: self.activations(second),
                                sums: low.sums.add(TILE * PANEL * 4),
                                ..low
                            };
                            tiles.pair_of_u8(&block, [low, high]);
                            self.store::<S>(&sums.0[TILE * PANEL..], second, panel, facts);
                        }
                        None => tiles.one_of_u8(&block, low),
                    }
                    self.store::<S>(&sums.0, first, panel, facts);
                }
            }
        }
    }

    /// Scales the sums of the tile that begins at `row`, adds the bias and stores them.
    ///
    /// # Safety
    ///
    /// As [`Kernel::run`]; `sums` holds a tile's rows of 32 columns.
    #[inline(always)]
    unsafe fn store<S: Simd>(&self, sums: &[i32], row: usize, panel: usize, facts: &Facts<'_>) {
        let job = &self.0;
        let of_panel = |numbers: &[f32]| numbers[panel * PANEL..][..PANEL].as_ptr();
        let (bias, scales) = (of_panel(&job.layer.bias), of_panel(facts.scales));
        let totals = of_panel(facts.sums);
        for column in (0..PANEL).step_by(S::LANES) {
            // SAFETY: vectors divide a panel; the rows are this job's.
            unsafe {
                let bias = S::load(bias.add(column));
                let scale = S::load(scales.add(column));
                let total = S::load(totals.add(column));
                for offset in 0..self.tile_rows() {
                    let sum = S::load_i(sums.as_ptr().add(offset * PANEL + column));
                    let own = job.input.scales.at(row + offset, 0);
                    let bias = S::fma(S::splat(own.add(1).read()), total, bias);
                    let own = S::mul(scale, S::splat(own.read()));
                    let value = S::fma(S::to_f32(sum), own, bias);
                    S::store(job.out.at(row + offset, panel * PANEL + column), value);
                }
            }
        }
    }
}
