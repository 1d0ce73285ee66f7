//! Weights that stay in blocks of 32 as a file stores them: 4 or 8 bits each, a scale and perhaps a
//! minimum a block. Reading them is what decoding waits for, so they are never unpacked in memory.
//!
//! A panel's block holds its 32 outputs side by side, a word of four inputs each, so that an integer
//! dot product needs no shuffles; then the 32 scales and the 32 minima in half precision.
//! Activations have a scale for each block too, so the sums of a block are exact integers. Each is
//! two bytes, a coarse and a fine one: with 8 bits alone the next token of a small model can change
//! (the states of its first tokens have numbers a thousand times their neighbours), and decoding
//! waits for the weights anyway.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::f16;

use crate::Result;
use crate::kernels::buffer::Buffer;
use crate::kernels::rows::{PANEL, Rows};
use crate::kernels::simd::Simd;
use crate::kernels::team::Team;

/// Inputs of a block.
pub(crate) const BLOCK: usize = 32;

/// Words of four inputs in a block.
const WORDS: usize = BLOCK / 4;

/// Words of a block of activations: the coarse bytes, then the fine ones.
const INPUT_WORDS: usize = 2 * WORDS;

/// Fine steps of a coarse one.
const FINE: f32 = 256.0;

/// Bytes of the scales (or minima) of a panel's block.
const SCALES: usize = 2 * PANEL;

/// Bytes that are asked for before they are needed: about what memory delivers in its latency.
const AHEAD: usize = 4096;

/// How a piece stores its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// `d · (q − 8)`, 4 bits.
    FourAroundEight,
    /// `d · q + m`, 4 bits.
    FourWithMinimum,
    /// `d · q`, 8 bits with sign.
    Eight,
}

impl Stored {
    fn weight_bytes(self) -> usize {
        match self {
            Self::Eight => PANEL * BLOCK,
            _ => PANEL * BLOCK / 2,
        }
    }

    /// Bytes of a panel's block.
    fn block_bytes(self) -> usize {
        let minima = if self == Self::FourWithMinimum {
            SCALES
        } else {
            0
        };
        self.weight_bytes() + SCALES + minima
    }

    /// The minimum as a multiple of the scale; `None` where it is stored.
    fn minimum(self, unsigned: bool) -> Option<f32> {
        match self {
            Self::FourAroundEight => Some(-8.0),
            Self::FourWithMinimum => None,
            // Where the instruction wants one factor without sign, weights are kept 128 higher.
            Self::Eight => Some(if unsigned { -128.0 } else { 0.0 }),
        }
    }
}

/// The weights of one output: integers by block, with scales and minima.
#[derive(Debug)]
pub(crate) struct BlockRow {
    /// 4-bit weights from 0 to 15, 8-bit weights as two's complement.
    pub(crate) quants: Vec<u8>,
    pub(crate) scales: Vec<f32>,
    pub(crate) minima: Vec<f32>,
}

impl BlockRow {
    fn new(inputs: usize) -> Self {
        Self {
            quants: vec![0; inputs],
            scales: vec![0.0; inputs / BLOCK],
            minima: vec![0.0; inputs / BLOCK],
        }
    }
}

/// Fills in the weights of an output by its number.
pub(crate) type RowReader<'a> = Box<dyn Fn(usize, &mut BlockRow) -> Result<()> + Sync + 'a>;

/// Some outputs that are stored alike.
pub(crate) struct BlockPart<'a> {
    pub(crate) outputs: usize,
    pub(crate) stored: Stored,
    pub(crate) row: RowReader<'a>,
}

/// Neighbouring panels that are stored alike.
#[derive(Debug)]
pub(super) struct Piece {
    panels: Range<usize>,
    stored: Stored,
    /// Minimum by scale, as [`Stored::minimum`].
    minimum: Option<f32>,
    bytes: Buffer<i8>,
}

/// Packs `parts` one under the other, each from a new panel on.
pub(super) fn pack(
    team: &Team,
    parts: &[BlockPart<'_>],
    inputs: usize,
    unsigned: bool,
) -> Result<Vec<Piece>> {
    let mut pieces: Vec<Piece> = Vec::new();
    for part in parts {
        let first = pieces.last().map_or(0, |piece| piece.panels.end);
        let panels = first..first + part.outputs.div_ceil(PANEL);
        let panel_bytes = inputs / BLOCK * part.stored.block_bytes();
        let mut piece = Piece {
            stored: part.stored,
            minimum: part.stored.minimum(unsigned),
            bytes: Buffer::zeroed(panels.len() * panel_bytes),
            panels,
        };
        pack_part(team, part, inputs, unsigned, &mut piece)?;
        pieces.push(piece);
    }
    Ok(pieces)
}

fn pack_part(
    team: &Team,
    part: &BlockPart<'_>,
    inputs: usize,
    unsigned: bool,
    piece: &mut Piece,
) -> Result<()> {
    let num_panels = piece.panels.len();
    let panel_bytes = inputs / BLOCK * part.stored.block_bytes();
    let panels = Rows::new(&mut piece.bytes, num_panels, panel_bytes);
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    team.run(|_| {
        let mut row = BlockRow::new(inputs);
        loop {
            let panel = next.fetch_add(1, Ordering::Relaxed);
            if panel >= num_panels {
                return;
            }
            // SAFETY: the counter gives each panel to one member.
            let target = unsafe { panels.row(panel) };
            for column in 0..PANEL.min(part.outputs - panel * PANEL) {
                if let Err(error) = (part.row)(panel * PANEL + column, &mut row) {
                    *failure
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                    return;
                }
                place(part.stored, unsigned, &row, column, target);
            }
        }
    });
    failure
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .map_or(Ok(()), Err)
}

/// Writes one output into its column of a panel.
fn place(stored: Stored, unsigned: bool, row: &BlockRow, column: usize, panel: &mut [i8]) {
    let blocks = panel.chunks_exact_mut(stored.block_bytes());
    for (index, (block, quants)) in blocks.zip(row.quants.chunks_exact(BLOCK)).enumerate() {
        let (weights, rest) = block.split_at_mut(stored.weight_bytes());
        match stored {
            Stored::Eight => {
                let shift = if unsigned { 128 } else { 0 };
                for (word, quants) in quants.chunks_exact(4).enumerate() {
                    let to = &mut weights[(word * PANEL + column) * 4..][..4];
                    for (to, quant) in to.iter_mut().zip(quants) {
                        *to = quant.wrapping_add(shift).cast_signed();
                    }
                }
            }
            _ => {
                for (byte, low) in quants[..BLOCK / 2].iter().enumerate() {
                    let high = quants[BLOCK / 2 + byte];
                    let to = (byte / 4 * PANEL + column) * 4 + byte % 4;
                    weights[to] = (low | high << 4).cast_signed();
                }
            }
        }
        let mut put = |at: usize, value: f32| {
            let [low, high] = f16::from_f32(value).to_le_bytes();
            rest[at] = low.cast_signed();
            rest[at + 1] = high.cast_signed();
        };
        put(2 * column, row.scales[index]);
        if stored == Stored::FourWithMinimum {
            put(SCALES + 2 * column, row.minima[index]);
        }
    }
}

/// `x ≈ scale · (256 · coarse + fine)` in each block of 32, with the block's scale and scaled sum.
///
/// # Safety
///
/// `from` is valid for `inputs` numbers, `to` for twice as many bytes, `facts` for two numbers a
/// block; the CPU has `S`.
#[inline(always)]
pub(super) unsafe fn quantize<S: Simd>(
    from: *const f32,
    inputs: usize,
    to: *mut i8,
    facts: *mut f32,
) {
    /// 1.5 · 2²³: added and taken away again, it rounds what is smaller to the nearest integer.
    const ROUNDER: f32 = 12_582_912.0;
    for block in 0..inputs / BLOCK {
        // SAFETY: the caller's.
        unsafe {
            let (from, to) = (from.add(block * BLOCK), to.add(2 * block * BLOCK));
            let mut largest = S::splat(0.0);
            for at in (0..BLOCK).step_by(S::LANES) {
                let value = S::load(from.add(at));
                largest = S::max(largest, S::max(value, S::sub(S::splat(0.0), value)));
            }
            let largest = S::maximum(largest);
            let factor = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            let mut sum = S::splat(0.0);
            for at in (0..BLOCK).step_by(S::LANES) {
                let value = S::mul(S::load(from.add(at)), S::splat(factor));
                let coarse = S::sub(S::add(value, S::splat(ROUNDER)), S::splat(ROUNDER));
                let fine = S::mul(S::sub(value, coarse), S::splat(FINE));
                let fine = S::max(S::min(fine, S::splat(127.0)), S::splat(-127.0));
                let fine = S::sub(S::add(fine, S::splat(ROUNDER)), S::splat(ROUNDER));
                S::store_i8(to.add(at), coarse, 0);
                S::store_i8(to.add(BLOCK + at), fine, 0);
                // Integers up to 32 · 127 · 256, which every order of summation has exactly.
                sum = S::add(sum, S::fma(coarse, S::splat(FINE), fine));
            }
            let scale = largest / (127.0 * FINE);
            facts.add(2 * block).write(scale);
            facts.add(2 * block + 1).write(scale * S::sum(sum));
        }
    }
}

/// What [`Piece::multiply`] reads and writes besides the weights.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    /// Bytes of activations by row, [`INPUT_WORDS`] words and two facts a block.
    pub(super) words: Rows<'a, f32>,
    pub(super) facts: Rows<'a, f32>,
    pub(super) blocks: usize,
    /// Padded to whole panels.
    pub(super) bias: &'a [f32],
    pub(super) out: Rows<'a, f32>,
}

impl Piece {
    /// Writes those of `panels` that are this piece's, for the given rows.
    ///
    /// # Safety
    ///
    /// As [`super::Linear::multiply`].
    #[inline(always)]
    pub(super) unsafe fn multiply<S: Simd>(
        &self,
        job: Job<'_>,
        rows: Range<usize>,
        panels: Range<usize>,
    ) {
        let start = panels.start.max(self.panels.start);
        let end = panels.end.min(self.panels.end);
        for panel in start..end {
            let mut row = rows.start;
            while row < rows.end {
                // SAFETY: the caller's.
                row += unsafe {
                    match rows.end - row {
                        6.. if S::ROWS >= 12 => self.by_kind::<S, 6>(job, row, panel),
                        4.. if S::ROWS >= 12 => self.by_kind::<S, 4>(job, row, panel),
                        2.. => self.by_kind::<S, 2>(job, row, panel),
                        _ => self.by_kind::<S, 1>(job, row, panel),
                    }
                };
            }
        }
    }

    /// # Safety
    ///
    /// As [`Piece::multiply`].
    #[inline(always)]
    unsafe fn by_kind<S: Simd, const ROWS: usize>(
        &self,
        job: Job<'_>,
        row: usize,
        panel: usize,
    ) -> usize {
        // SAFETY: the caller's.
        unsafe {
            if self.stored == Stored::Eight {
                self.tile::<S, ROWS, false>(job, row, panel);
            } else {
                self.tile::<S, ROWS, true>(job, row, panel);
            }
        }
        ROWS
    }

    /// A few rows by one panel; weights of 4 bits if `FOUR`, else of 8.
    ///
    /// # Safety
    ///
    /// As [`Piece::multiply`].
    #[inline(always)]
    unsafe fn tile<S: Simd, const ROWS: usize, const FOUR: bool>(
        &self,
        job: Job<'_>,
        row: usize,
        panel: usize,
    ) {
        let (block_bytes, weight_bytes) = (self.stored.block_bytes(), self.stored.weight_bytes());
        let first = (panel - self.panels.start) * job.blocks * block_bytes;
        let mut column = 0;
        while column < PANEL {
            // SAFETY: panels of this piece, rows of the caller.
            unsafe {
                let mut sums = [[S::splat(0.0); 2]; ROWS];
                for block in 0..job.blocks {
                    let base = self.bytes.as_ptr().add(first + block * block_bytes);
                    if column == 0 {
                        for line in (0..block_bytes).step_by(64) {
                            S::prefetch(base.wrapping_add(AHEAD + line).cast());
                        }
                    }
                    let facts = base.add(weight_bytes).cast::<u16>();
                    for half in 0..2 {
                        let column = column + half * S::LANES;
                        let weights = base.add(column * 4).cast::<i32>();
                        let weights = load_words::<S, FOUR>(weights);
                        let scale = S::load_f16(facts.add(column));
                        let minimum = match self.minimum {
                            Some(factor) => S::mul(scale, S::splat(factor)),
                            None => S::load_f16(facts.add(PANEL + column)),
                        };
                        for (offset, sums) in sums.iter_mut().enumerate() {
                            let words = job.words.at(row + offset, block * INPUT_WORDS);
                            let words = words.cast_const().cast::<i32>();
                            let mut dot = S::zero_i();
                            for (word, weights) in weights.iter().enumerate() {
                                let input = S::splat_i(words.add(word).read());
                                dot = S::dot_i8(dot, *weights, input);
                            }
                            // At most 32 · 255 · 127 · 257 in all.
                            dot = S::times_256(dot);
                            for (word, weights) in weights.iter().enumerate() {
                                let input = S::splat_i(words.add(WORDS + word).read());
                                dot = S::dot_i8(dot, *weights, input);
                            }
                            let facts = job.facts.at(row + offset, 2 * block);
                            let factor = S::mul(scale, S::splat(facts.read()));
                            let sum = S::fma(S::to_f32(dot), factor, sums[half]);
                            sums[half] = S::fma(minimum, S::splat(facts.add(1).read()), sum);
                        }
                    }
                }
                for (offset, sums) in sums.iter().enumerate() {
                    for (half, sum) in sums.iter().enumerate() {
                        let column = panel * PANEL + column + half * S::LANES;
                        let bias = S::load(job.bias.as_ptr().add(column));
                        S::store(job.out.at(row + offset, column), S::add(*sum, bias));
                    }
                }
            }
            column += 2 * S::LANES;
        }
    }
}

/// The words of a block's weights for one vector of outputs, as unsigned (or, of 8 bits, signed)
/// bytes.
///
/// # Safety
///
/// `from` is valid for the block's words of `LANES` outputs; the CPU has `S`.
#[inline(always)]
unsafe fn load_words<S: Simd, const FOUR: bool>(from: *const i32) -> [S::I; WORDS] {
    // SAFETY: the caller's.
    unsafe {
        let mut words = [S::zero_i(); WORDS];
        if FOUR {
            for word in 0..WORDS / 2 {
                let both = S::load_i(from.add(word * PANEL));
                [words[word], words[word + WORDS / 2]] = S::nibbles(both);
            }
        } else {
            for (word, to) in words.iter_mut().enumerate() {
                *to = S::load_i(from.add(word * PANEL));
            }
        }
        words
    }
}
