//! Weights as they lie in a file, `[out_features, in_features]`, to panels.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::blocks::{self, BlockPart};
use super::quantize::to_bf16;
use super::tile::TILE_WORDS;
use super::{Format, Linear, PART, Panels};
use crate::Result;
use crate::kernels::buffer::{Buffer, Number};
use crate::kernels::isa::Isa;
use crate::kernels::rows::{PANEL, Rows};
use crate::kernels::team::Team;

/// Gives the weights of one output at a time.
pub(crate) trait WeightSource: Sync {
    /// Number of outputs and inputs.
    fn shape(&self) -> (usize, usize);
    /// Writes the weights of output `row` into `into` (`in_features` numbers).
    fn row(&self, row: usize, into: &mut [f32]) -> Result<()>;
}

/// The largest 16-bit weight of a layer: half of the bits that 32-bit sums leave, if weights are a
/// quarter of their output's largest on average; [`activation_limit`] gives the activations the rest.
fn weight_limit(in_features: usize) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "a rough share of bits")]
    let terms = in_features.max(4) as f32 / 4.0;
    (2_147_483_648.0 / terms).sqrt().floor().min(8_191.0)
}

impl Linear {
    /// Packs `weights` and `bias` (empty for none) in `format`, on all members of `team`.
    pub(crate) fn pack(
        team: &Team,
        weights: &dyn WeightSource,
        bias: &[f32],
        format: Format,
    ) -> Result<Self> {
        let (out_features, in_features) = weights.shape();
        let width = out_features.next_multiple_of(PANEL);
        let panels = match format {
            Format::F32 => {
                let mut packed = Buffer::for_weights(width * in_features);
                each_panel(team, weights, &mut packed, 1, |value, _| value, &|_, _| ())?;
                Panels::F32(packed)
            }
            Format::Bf16 => {
                let inputs = in_features.next_multiple_of(2 * TILE_WORDS);
                let mut packed = Buffer::for_weights(width * inputs);
                let convert = |value, _| to_bf16(value);
                each_panel(team, weights, &mut packed, 2, convert, &|_, _| ())?;
                Panels::Bf16(packed)
            }
            Format::I16 | Format::Blocks => pack_i16(team, weights)?,
            Format::I8 => pack_i8(team, weights)?,
        };
        Ok(Self {
            in_features,
            out_features,
            panels,
            bias: Buffer::padded(bias, width),
        })
    }
}

impl Linear {
    /// Packs weights that stay in blocks of [`super::BLOCK`] inputs; `isa` is the one that will
    /// multiply.
    pub(crate) fn pack_blocks(
        team: &Team,
        isa: Isa,
        parts: &[BlockPart<'_>],
        in_features: usize,
        bias: &[f32],
    ) -> Result<Self> {
        let pieces = blocks::pack(team, parts, in_features, isa.unsigned_activations())?;
        let width = bias.len().next_multiple_of(PANEL);
        Ok(Self {
            in_features,
            out_features: bias.len(),
            panels: Panels::Blocks(pieces),
            bias: Buffer::padded(bias, width),
        })
    }
}

fn pack_i16(team: &Team, weights: &dyn WeightSource) -> Result<Panels> {
    let (out_features, in_features) = weights.shape();
    let width = out_features.next_multiple_of(PANEL);
    let mut packed = Buffer::for_weights(width * in_features.next_multiple_of(2));
    let most = weight_limit(in_features);
    let mut facts = Buffer::zeroed(width * 2);
    let shared = Rows::new(&mut facts, width, 2);
    each_panel(
        team,
        weights,
        &mut packed,
        2,
        #[expect(clippy::cast_possible_truncation, reason = "at most weight_limit")]
        |value, largest| to_integer(value, largest, most) as i16,
        &|output, row| {
            let largest = largest(row);
            let magnitude: f32 = row
                .iter()
                .map(|value| to_integer(*value, largest, most).abs())
                .sum();
            // SAFETY: each output is packed by one member.
            unsafe { shared.row(output) }.copy_from_slice(&[largest / most, magnitude]);
        },
    )?;
    let scales = (0..width)
        .map(|output| facts[output * 2])
        .collect::<Vec<_>>();
    let magnitudes = (0..width).map(|output| facts[output * 2 + 1]);
    let limit = activation_limit(magnitudes.fold(0.0, f32::max));
    Ok(Panels::I16 {
        weights: packed,
        scales: Buffer::padded(&scales, width),
        limit,
    })
}

/// The largest activation `x` such that `x · Σ|weights|` of every output stays below 2³¹. The sum of
/// magnitudes is rounded by less than one in 2¹² (f32 sums of up to 2¹² terms), hence the margin.
fn activation_limit(magnitude: f32) -> f32 {
    (2_146_000_000.0 / magnitude.max(1.0)).floor().min(32_767.0)
}

fn pack_i8(team: &Team, weights: &dyn WeightSource) -> Result<Panels> {
    let (out_features, in_features) = weights.shape();
    let width = out_features.next_multiple_of(PANEL);
    let mut packed = Buffer::for_weights(width * in_features.next_multiple_of(4 * TILE_WORDS));
    let mut scales = Buffer::zeroed(width);
    let mut sums = Buffer::zeroed(width);
    let mut starts = Buffer::zeroed(width);
    let num_parts = in_features.div_ceil(PART);
    let mut parts = (
        Buffer::zeroed(width * num_parts),
        Buffer::zeroed(width * num_parts),
    );
    let part_sums = Rows::new(&mut parts.0, width * num_parts, 1);
    let part_starts = Rows::new(&mut parts.1, width * num_parts, 1);
    let shared_scales = Rows::new(&mut scales, width, 1);
    let shared_sums = Rows::new(&mut sums, width, 1);
    let shared_starts = Rows::new(&mut starts, width, 1);
    each_panel(
        team,
        weights,
        &mut packed,
        4,
        #[expect(clippy::cast_possible_truncation, reason = "at most 127")]
        |value, largest| to_integer(value, largest, 127.0) as i8,
        &|output, row| {
            let largest = largest(row);
            #[expect(clippy::cast_possible_truncation, reason = "a sum of bytes")]
            let sum = |row: &[f32]| -> i32 {
                row.iter()
                    .map(|value| to_integer(*value, largest, 127.0) as i32)
                    .sum()
            };
            let mut total = 0;
            for (part, inputs) in row.chunks(PART).enumerate() {
                let sum = sum(inputs);
                total += sum;
                // SAFETY: each output is packed by one member.
                unsafe {
                    part_sums.row(part * width + output)[0] = largest / 127.0 * sum as f32;
                    part_starts.row(part * width + output)[0] = -128 * sum;
                }
            }
            let sum = total;
            // SAFETY: each output is packed by one member.
            unsafe {
                shared_scales.row(output)[0] = largest / 127.0;
                shared_sums.row(output)[0] = largest / 127.0 * sum as f32;
                shared_starts.row(output)[0] = -128 * sum;
            }
        },
    )?;
    Ok(Panels::I8 {
        weights: packed,
        scales,
        sums,
        starts,
        parts,
    })
}

fn largest(row: &[f32]) -> f32 {
    row.iter()
        .fold(0.0, |largest, value| value.abs().max(largest))
}

/// `value` on a scale where `largest` is `limit`, to the nearest integer.
fn to_integer(value: f32, largest: f32, limit: f32) -> f32 {
    /// Adding and subtracting 1.5 · 2²³ rounds to the nearest integer without a library call.
    const MAGIC: f32 = 12_582_912.0;
    if largest > 0.0 {
        (value * (limit / largest) + MAGIC) - MAGIC
    } else {
        0.0
    }
}

/// Packs panel by panel: `convert(value, largest of its output)` goes where a tile of words of
/// `group` inputs reads it, the panels sharing `packed` evenly; `inspect(output, row)` sees every row of weights once.
fn each_panel<T: Number>(
    team: &Team,
    weights: &dyn WeightSource,
    packed: &mut Buffer<T>,
    group: usize,
    convert: impl Fn(f32, f32) -> T + Sync,
    inspect: &(dyn Fn(usize, &[f32]) + Sync),
) -> Result<()> {
    let (out_features, in_features) = weights.shape();
    let num_panels = out_features.div_ceil(PANEL);
    let panel_length = packed.len() / num_panels.max(1);
    let panels = Rows::new(packed, num_panels, panel_length);
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    team.run(|_| {
        let mut row = vec![0.0; in_features];
        loop {
            let panel = next.fetch_add(1, Ordering::Relaxed);
            if panel >= panels.end() {
                return;
            }
            // SAFETY: the counter gives each panel to one member.
            let target = unsafe { panels.row(panel) };
            for column in 0..PANEL.min(out_features - panel * PANEL) {
                let output = panel * PANEL + column;
                if let Err(error) = weights.row(output, &mut row) {
                    *failure
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                    return;
                }
                inspect(output, &row);
                let largest = largest(&row);
                for (word, inputs) in row.chunks(group).enumerate() {
                    let at = (word * PANEL + column) * group;
                    for (offset, value) in inputs.iter().enumerate() {
                        target[at + offset] = convert(*value, largest);
                    }
                }
            }
        }
    });
    failure
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .map_or(Ok(()), Err)
}
