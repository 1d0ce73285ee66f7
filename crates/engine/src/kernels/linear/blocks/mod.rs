//! Weights that stay in blocks of 32 as a file stores them: 4 to 8 bits each, scales and perhaps
//! minima. Reading them is what decoding waits for, so they are never unpacked in memory.
//!
//! A panel's block holds its 32 outputs side by side, a word of four inputs each, so that an integer
//! dot product needs no shuffles; then the scales and the minima in half precision.
//!
//! There are three products. [`vector`] takes a few rows, an answer's next tokens: activations have a
//! scale for each block too, so the sums of a block are exact integers. Each is two bytes, a coarse
//! and a fine one: with 8 bits alone the next token of a small model can change (the states of its
//! first tokens have numbers a thousand times their neighbours), and decoding waits for the weights
//! anyway. [`tiles`] takes the many rows of a prompt: a panel is unpacked to bf16 once for all of them; without
//! tiles and without dot products of bytes, [`floats`] does, and unpacks it to `f32`.

mod layout;
mod unpack;
mod vector;
#[cfg(target_arch = "x86_64")]
pub(super) mod tiles;
pub(super) mod floats;

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::f16;

use crate::Result;
use crate::kernels::buffer::Buffer;
use crate::kernels::rows::{PANEL, Rows};
use crate::kernels::team::Team;

pub(crate) use layout::LEVELS;
pub(super) use vector::{Job, quantize};

/// Inputs of a block.
pub(crate) const BLOCK: usize = 32;

/// Words of four inputs in a block.
const WORDS: usize = BLOCK / 4;

/// Bytes of the scales (or minima) of a panel's block.
const SCALES: usize = 2 * PANEL;

/// Numbers that say how a row's block of activations was scaled: the scale, and the scaled sums of
/// all of it, of its first half and of its second.
pub(super) const FACTS: usize = 4;

/// How many bits a weight has, and what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bits {
    /// 0 to 15.
    Four,
    /// 0 to 31.
    Five,
    /// 0 to 63.
    Six,
    /// With sign.
    Eight,
    /// One of the sixteen numbers [`LEVELS`].
    Level,
}

/// What is added to a weight's integer times its scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Minimum {
    /// A number of its own.
    Stored,
    /// The scale times this.
    Scales(i8),
}

/// How a piece stores its weights: `scale · integer + minimum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) bits: Bits,
    pub(crate) minimum: Minimum,
    /// Each half of a block has a scale (and a minimum) of its own.
    pub(crate) by_halves: bool,
}

impl Stored {
    /// One scale a block.
    pub(crate) const fn new(bits: Bits, minimum: Minimum) -> Self {
        Self {
            bits,
            minimum,
            by_halves: false,
        }
    }

    /// One scale for every half of a block.
    pub(crate) const fn by_halves(self) -> Self {
        Self {
            by_halves: true,
            ..self
        }
    }

    fn weight_bytes(self) -> usize {
        PANEL
            * match self.bits {
                Bits::Four | Bits::Level => BLOCK / 2,
                Bits::Five => BLOCK / 2 + BLOCK / 8,
                Bits::Six => BLOCK / 2 + BLOCK / 4,
                Bits::Eight => BLOCK,
            }
    }

    /// Scales of an output's block.
    fn groups(self) -> usize {
        if self.by_halves { 2 } else { 1 }
    }

    /// Bytes of a panel's block.
    fn block_bytes(self) -> usize {
        let kinds = if self.minimum == Minimum::Stored {
            2
        } else {
            1
        };
        self.weight_bytes() + kinds * self.groups() * SCALES
    }

    /// The minimum as a multiple of the scale; `None` where it is stored.
    fn factor(self, unsigned: bool) -> Option<f32> {
        // Where the instruction wants one factor without sign, weights are kept 128 higher.
        let shift = match self.bits {
            Bits::Eight | Bits::Level if unsigned => -128.0,
            _ => 0.0,
        };
        match self.minimum {
            Minimum::Stored => None,
            Minimum::Scales(factor) => Some(f32::from(factor) + shift),
        }
    }
}

/// The weights of one output: integers by block, with scales and minima.
#[derive(Debug)]
pub(crate) struct BlockRow {
    /// As [`Bits`] says; 8 bits as two's complement, levels by their number.
    pub(crate) quants: Vec<u8>,
    /// One or two a block, as [`Stored::by_halves`] says.
    pub(crate) scales: Vec<f32>,
    pub(crate) minima: Vec<f32>,
}

impl BlockRow {
    fn new(inputs: usize, groups: usize) -> Self {
        Self {
            quants: vec![0; inputs],
            scales: vec![0.0; inputs / BLOCK * groups],
            minima: vec![0.0; inputs / BLOCK * groups],
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
    /// Minimum by scale, as [`Stored::factor`].
    factor: Option<f32>,
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
            factor: part.stored.factor(unsigned),
            bytes: Buffer::for_weights(panels.len() * panel_bytes),
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
        let mut row = BlockRow::new(inputs, part.stored.groups());
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
    let groups = stored.groups();
    let blocks = panel.chunks_exact_mut(stored.block_bytes());
    for (index, (block, quants)) in blocks.zip(row.quants.chunks_exact(BLOCK)).enumerate() {
        let (weights, rest) = block.split_at_mut(stored.weight_bytes());
        layout::place(stored.bits, unsigned, quants, column, weights);
        let mut put = |at: usize, value: f32| {
            let [low, high] = f16::from_f32(value).to_le_bytes();
            rest[at] = low.cast_signed();
            rest[at + 1] = high.cast_signed();
        };
        for group in 0..groups {
            let at = index * groups + group;
            put(group * SCALES + 2 * column, row.scales[at]);
            if stored.minimum == Minimum::Stored {
                put((groups + group) * SCALES + 2 * column, row.minima[at]);
            }
        }
    }
}

/// Calls `$call::<…, Layout, HALVES>` for the layout of a piece.
macro_rules! by_layout {
    ($stored:expr, $layout:ident, $halves:ident => $call:expr) => {{
        macro_rules! with {
            ($kind:ty, $by_halves:literal) => {{
                type $layout = $kind;
                const $halves: bool = $by_halves;
                $call
            }};
        }
        use $crate::kernels::linear::blocks::{Bits, layout};
        match ($stored.bits, $stored.by_halves) {
            (Bits::Four, false) => with!(layout::Four, false),
            (Bits::Four, true) => with!(layout::Four, true),
            (Bits::Five, false) => with!(layout::Five, false),
            (Bits::Five, true) => with!(layout::Five, true),
            (Bits::Six, false) => with!(layout::Six, false),
            (Bits::Six, true) => with!(layout::Six, true),
            (Bits::Level, false) => with!(layout::Level, false),
            (Bits::Level, true) => with!(layout::Level, true),
            (Bits::Eight, false) => with!(layout::Eight, false),
            (Bits::Eight, true) => with!(layout::Eight, true),
        }
    }};
}
use by_layout;
