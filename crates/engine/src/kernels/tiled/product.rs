//! Linear layers on tiles, whose sums are finished before they leave the first-level cache.

use std::arch::x86_64::*;
use std::ops::Range;

use super::pack::store_pair;
use super::{HALVES, Halves, TILE_BYTES, TILE_ROW, TileRows};
use crate::kernels::activation::Activation;
use crate::kernels::amx::{Block, PANEL_ROW, RowTile, TILE, Tiles};
use crate::kernels::linear::{Linear, TilePanels};
use crate::kernels::rows::{PANEL, Rows};
use crate::kernels::simd::Vnni;

/// Tiles of rows that share a panel of weights: with a hidden size of 384 their operands take 300
/// KiB of a 2 MiB cache, and each panel that comes from beyond it is used twelve times.
pub(crate) const GROUP: usize = 24;

/// Steps of a panel that pass at a time: 24 KiB of weights stay in a 48 KiB cache with the operand.
pub(crate) const STEPS: usize = 12;

/// Words of the sums of two tiles of rows by one panel.
const SUMS: usize = 2 * TILE * PANEL;

/// `f32` words of scratch memory that [`Product::run`] needs.
pub(crate) const SCRATCH: usize = GROUP / 2 * 2 * SUMS;

/// What becomes of a layer's outputs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// Stored, or added to what is there.
    Floats { to: Rows<'a, f32>, add: bool },
    /// Rounded to bf16, after the activation if there is one; if it is gated, the first half of the
    /// outputs is activated and multiplied by the second.
    Halves {
        to: Halves<'a>,
        activation: Option<(Activation, bool)>,
    },
}

/// A linear layer between an operand in tiles and a target. Rows that pad the last tile are
/// computed and stored as well.
#[derive(Clone, Debug)]
pub(crate) struct Product<'a> {
    pub(crate) layer: &'a Linear,
    pub(crate) from: TileRows<'a>,
    /// Scale and shift of each row of bytes.
    pub(crate) scales: Rows<'a, f32>,
    pub(crate) to: Target<'a>,
    /// Which steps of the layer's inputs the operand holds; the first ones bring the bias.
    pub(crate) steps: Range<usize>,
    /// Which [`PART`](crate::kernels::linear::PART) of the inputs these steps are, if the operand is
    /// scaled for them alone.
    pub(crate) part: Option<usize>,
    /// The panel of results that is the first of a target in bf16.
    pub(crate) origin: usize,
}

impl Product<'_> {
    /// All inputs of `layer`.
    pub(crate) fn all_steps(layer: &Linear) -> Range<usize> {
        let inputs_a_step = match layer.tile_panels() {
            Some(TilePanels::Bytes(_)) => TILE_ROW,
            _ => HALVES,
        };
        0..layer.in_features().div_ceil(inputs_a_step)
    }

    /// Panels of results, the unit in which the layer is shared out.
    pub(crate) fn num_panels(&self) -> usize {
        self.layer.num_panels() / if self.gated() { 2 } else { 1 }
    }

    fn gated(&self) -> bool {
        matches!(
            self.to,
            Target::Halves {
                activation: Some((_, true)),
                ..
            }
        )
    }

    /// Computes the given panels of results of the given tiles of rows.
    ///
    /// # Safety
    ///
    /// The CPU is [`Level::Amx`](crate::kernels::isa::Level); the layer has tile panels and the
    /// operand is in their format; the matrices have these rows, padded to whole tiles, and nobody
    /// else uses these columns of the target; `scratch` has [`SCRATCH`] words.
    pub(crate) unsafe fn run(
        &self,
        row_tiles: Range<usize>,
        panels: Range<usize>,
        scratch: &mut [f32],
    ) {
        assert!(scratch.len() >= SCRATCH && panels.end <= self.num_panels());
        let mut first = row_tiles.start;
        while first < row_tiles.end {
            let group = first..(first + GROUP).min(row_tiles.end);
            first = group.end;
            // SAFETY: the caller's.
            unsafe {
                match self.layer.tile_panels() {
                    Some(TilePanels::Halves(weights)) => {
                        let job = Job::<false>::new(self, weights);
                        job.run(group, panels.clone(), scratch);
                    }
                    Some(TilePanels::Bytes(weights)) => {
                        let job = Job::<true>::new(self, weights);
                        job.run(group, panels.clone(), scratch);
                    }
                    None => unreachable!("no panels for tiles; this is a bug"),
                }
            }
        }
    }
}

/// Rows of the sums of two tiles.
const ALL: usize = 2 * TILE;

/// Sums of one or two tiles of rows that wait to be finished.
#[derive(Clone, Copy)]
struct Pending {
    rows: usize,
    /// The next row to finish.
    next: usize,
    /// The first tile of rows.
    first: usize,
    panel: usize,
    sums: *const f32,
}

impl Default for Pending {
    fn default() -> Self {
        Self {
            rows: 0,
            next: 0,
            first: 0,
            panel: 0,
            sums: std::ptr::null(),
        }
    }
}

/// What sums start from that others are added to.
#[repr(align(64))]
pub(super) struct Zeros(pub(super) [f32; PANEL]);
pub(super) static ZEROS: Zeros = Zeros([0.0; PANEL]);

/// A product by bytes or by bf16.
struct Job<'a, const BYTES: bool> {
    product: &'a Product<'a>,
    weights: *const u8,
    /// Steps of 64 bytes of a row of the operand.
    steps: usize,
}

impl<'a, const BYTES: bool> Job<'a, BYTES> {
    fn new(product: &'a Product<'a>, weights: *const u8) -> Self {
        let inputs_a_step = TILE_ROW / if BYTES { 1 } else { 2 };
        Self {
            product,
            weights,
            steps: product.layer.in_features().div_ceil(inputs_a_step),
        }
    }

    /// Where a part of a panel of weights begins.
    fn panel(&self, panel: usize, step: usize) -> *const u8 {
        self.weights
            .wrapping_add((panel * self.steps + step) * TILE * PANEL_ROW)
    }

    /// # Safety
    ///
    /// As [`Product::run`], for at most [`GROUP`] tiles of rows.
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
    unsafe fn run(&self, row_tiles: Range<usize>, panels: Range<usize>, scratch: &mut [f32]) {
        // SAFETY: the CPU has tiles, and no others live on this thread.
        let tiles = unsafe { Tiles::configure(TILE) };
        let gated = self.product.gated();
        let pairs = row_tiles.len().div_ceil(2);
        let inputs = self.product.steps.clone();
        let mut pending = Pending::default();
        let mut turn = 0;
        for panel in panels {
            let mut step = inputs.start;
            while step < inputs.end {
                let part = step..(step + STEPS).min(inputs.end);
                for pair in 0..pairs {
                    let first = row_tiles.start + 2 * pair;
                    let both = first + 1 < row_tiles.end;
                    // Sums that are finished soon need no place of their own, but one that the sums
                    // before them do not have.
                    let many = inputs.len() > STEPS;
                    turn = (turn + 1) % 2;
                    let slot = if many { pair } else { turn };
                    let sums = scratch[slot * 2 * SUMS..][..2 * SUMS].as_mut_ptr();
                    // SAFETY: tiles and panels are in range; sums have room for two halves.
                    unsafe {
                        if many && pairs == 1 {
                            self.finish(&mut pending, ALL);
                        }
                        let share = if gated { ALL / 2 } else { ALL };
                        self.multiply(
                            &tiles,
                            (first, both),
                            (panel, part.clone()),
                            (pair, pairs),
                            sums,
                            (&mut pending, share),
                        );
                        if gated {
                            let up = panel + self.product.num_panels();
                            self.multiply(
                                &tiles,
                                (first, both),
                                (up, part.clone()),
                                (pair, pairs),
                                sums.add(SUMS),
                                (&mut pending, ALL),
                            );
                        }
                        self.finish(&mut pending, ALL);
                        if part.end == inputs.end {
                            pending = Pending {
                                rows: if both { 2 * TILE } else { TILE },
                                next: 0,
                                first,
                                panel,
                                sums,
                            };
                        }
                    }
                }
                step = part.end;
            }
        }
        // SAFETY: as above.
        unsafe { self.finish(&mut pending, ALL) };
    }

    /// The products of one or two tiles of rows with a part of a panel, added to those of the parts
    /// before it. Between the steps, `share` rows of the sums before these are finished: the vector
    /// units have time while the tiles multiply.
    ///
    /// # Safety
    ///
    /// As [`Product::run`].
    #[inline(always)]
    unsafe fn multiply(
        &self,
        tiles: &Tiles,
        (first, both): (usize, bool),
        (panel, part): (usize, Range<usize>),
        turn: (usize, usize),
        sums: *mut f32,
        (pending, share): (&mut Pending, usize),
    ) {
        let layer = self.product.layer;
        let inputs = &self.product.steps;
        let start: *const u8 = if BYTES {
            layer.tile_starts(self.product.part)[panel * PANEL..]
                .as_ptr()
                .cast()
        } else if inputs.start > 0 {
            ZEROS.0.as_ptr().cast()
        } else {
            layer.bias()[panel * PANEL..].as_ptr().cast()
        };
        let again = part.start > inputs.start;
        let tile = |index: usize, step: usize| {
            let sums: *mut u8 = sums.wrapping_add(index * TILE * PANEL).cast();
            RowTile {
                // A lone tile has no neighbour, which is not read then.
                a: self
                    .product
                    .from
                    .tile(first, step - inputs.start)
                    .wrapping_add(index * self.product.from.steps * TILE_BYTES),
                start: if again { sums } else { start },
                sums,
            }
        };
        let pair = |step| [tile(0, step), tile(1, step)];
        let start_stride = if again { PANEL_ROW } else { 0 };
        let finished = pending.next;
        // SAFETY: the caller's.
        unsafe {
            if both {
                tiles.start_pair(start_stride, pair(part.start));
            } else {
                tiles.start_one(start_stride, tile(0, part.start));
            }
            let pieces = part.len();
            for (piece, step) in part.clone().enumerate() {
                let block = Block {
                    a_stride: TILE_ROW,
                    a_step: TILE_BYTES,
                    b: self.panel(panel, step),
                    steps: 1,
                    start_stride,
                };
                match (BYTES, both) {
                    (true, true) => tiles.pair_steps_of_u8(&block, pair(step)),
                    (true, false) => tiles.one_steps_of_u8(&block, tile(0, step)),
                    (false, true) => tiles.pair_steps_of_bf16(&block, pair(step)),
                    (false, false) => tiles.one_steps_of_bf16(&block, tile(0, step)),
                }
                let until = finished + (share - finished) * (piece + 1) / pieces;
                self.finish(pending, until);
                self.prefetch(
                    panel,
                    part.clone(),
                    turn.0 * pieces + piece,
                    turn.1 * pieces,
                );
            }
            if both {
                tiles.store_pair(pair(part.start));
            } else {
                tiles.store_one(tile(0, part.start));
            }
        }
    }

    /// Asks for a share of the part of the weights that follows, which comes from the third-level
    /// cache; a few lines at a time, since a core waits for no more than sixteen.
    #[inline(always)]
    fn prefetch(&self, panel: usize, part: Range<usize>, share: usize, shares: usize) {
        const LINE: usize = 64;
        let lines = part.len() * TILE * PANEL_ROW / LINE;
        let next = self.panel(panel, part.end);
        for line in lines * share / shares..lines * (share + 1) / shares {
            // SAFETY: a prefetch reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(next.wrapping_add(line * LINE).cast()) };
        }
    }

    /// Finishes the rows of `pending` up to `until`.
    ///
    /// # Safety
    ///
    /// As [`Product::run`].
    #[inline(always)]
    unsafe fn finish(&self, pending: &mut Pending, until: usize) {
        let rows = pending.next..until.min(pending.rows);
        if rows.is_empty() {
            return;
        }
        pending.next = rows.end;
        // SAFETY: the caller's.
        unsafe { self.finish_rows(*pending, rows) };
    }

    /// # Safety
    ///
    /// As [`Product::run`]; the sums of `pending` are complete, and, `SUMS` further, those of its
    /// gates' factors.
    #[inline]
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
    unsafe fn finish_rows(&self, pending: Pending, rows: Range<usize>) {
        let Pending {
            first, panel, sums, ..
        } = pending;
        let first_row = first * TILE;
        // SAFETY: the caller's.
        unsafe {
            let facts = self.facts(panel);
            match self.product.to {
                Target::Floats { to, add } => {
                    for row in rows {
                        let [mut low, mut high] = self.values(first_row, row, sums, &facts);
                        let to = to.at(first_row + row, panel * PANEL);
                        if add {
                            low = _mm512_add_ps(low, _mm512_loadu_ps(to));
                            high = _mm512_add_ps(high, _mm512_loadu_ps(to.add(16)));
                        }
                        _mm512_storeu_ps(to, low);
                        _mm512_storeu_ps(to.add(16), high);
                    }
                }
                Target::Halves { to, activation } => {
                    let gates = self.product.gated().then(|| {
                        let up = panel + self.product.num_panels();
                        (sums.add(SUMS), self.facts(up))
                    });
                    let (base, stride) = to.block(first, panel - self.product.origin);
                    let next = to.below(base);
                    for row in rows {
                        let mut values = self.values(first_row, row, sums, &facts);
                        if let Some((activation, _)) = activation {
                            let [low, high] = values;
                            values = [
                                activation.of_rounded::<Vnni>(low),
                                activation.of_rounded::<Vnni>(high),
                            ];
                        }
                        if let Some((sums, facts)) = &gates {
                            let [low, high] = self.values(first_row, row, *sums, facts);
                            values = [
                                _mm512_mul_ps(values[0], low),
                                _mm512_mul_ps(values[1], high),
                            ];
                        }
                        let base = if row < TILE { base } else { next };
                        store_pair(base.add(row % TILE * stride), values);
                    }
                }
            }
        }
    }

    /// What byte panels know of each output: scales, sums of weights and biases.
    ///
    /// # Safety
    ///
    /// The CPU has AVX-512.
    #[inline(always)]
    unsafe fn facts(&self, panel: usize) -> [[__m512; 2]; 3] {
        // SAFETY: whole panels.
        unsafe {
            let load = |numbers: &[f32]| {
                let numbers = numbers[panel * PANEL..][..PANEL].as_ptr();
                [_mm512_loadu_ps(numbers), _mm512_loadu_ps(numbers.add(16))]
            };
            if BYTES {
                let (scales, sums) = self.product.layer.tile_scales(self.product.part);
                let bias = match self.product.part {
                    None | Some(0) => load(self.product.layer.bias()),
                    Some(_) => [_mm512_setzero_ps(); 2],
                };
                [load(scales), load(sums), bias]
            } else {
                [[_mm512_setzero_ps(); 2]; 3]
            }
        }
    }

    /// The outputs of one row.
    ///
    /// # Safety
    ///
    /// As [`Job::finish_rows`].
    #[inline(always)]
    unsafe fn values(
        &self,
        first_row: usize,
        row: usize,
        sums: *const f32,
        [scales, totals, bias]: &[[__m512; 2]; 3],
    ) -> [__m512; 2] {
        // SAFETY: the caller's.
        unsafe {
            let sums = sums.add(row * PANEL);
            if !BYTES {
                // The sums started from the bias.
                return [_mm512_loadu_ps(sums), _mm512_loadu_ps(sums.add(16))];
            }
            let own = self.product.scales.at(first_row + row, 0);
            let (scale, shift) = (_mm512_set1_ps(*own), _mm512_set1_ps(*own.add(1)));
            let value = |half: usize| {
                let sum = _mm512_loadu_si512(sums.add(half * 16).cast());
                let rest = _mm512_fmadd_ps(shift, totals[half], bias[half]);
                let scale = _mm512_mul_ps(scales[half], scale);
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, rest)
            };
            [value(0), value(1)]
        }
    }
}

/// Steps that hold `features` 16-bit numbers.
pub(crate) fn half_steps(features: usize) -> usize {
    features.div_ceil(HALVES)
}
