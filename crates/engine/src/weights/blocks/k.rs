//! Super-blocks of 256 weights in groups of 16 or 32 with quantised scales of their own.

use super::{IQ4_LEVELS, half_at};

/// Scales and minima (4 bits each) of 16 groups, 2-bit weights, `d`, `dmin`.
pub(super) fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (scales, quants) = (&block[..16], &block[16..80]);
    let (d, dmin) = (half_at(block, 80), half_at(block, 82));
    for (group, (row, scale)) in out
        .as_chunks_mut::<16>()
        .0
        .iter_mut()
        .zip(scales)
        .enumerate()
    {
        let scale_of = d * f32::from(scale & 15);
        let minimum = dmin * f32::from(scale >> 4);
        let (at, shift) = two_bits(group);
        for (value, q) in row.iter_mut().zip(&quants[at..]) {
            *value = scale_of * f32::from((q >> shift) & 3) - minimum;
        }
    }
}

/// Third bits (clear means minus 4), 2-bit weights, 6-bit scales of 16 groups, `d`.
pub(super) fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let (masks, quants, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half_at(block, 108);
    for (group, row) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let low = (scales[group % 8] >> (4 * (group / 8))) & 15;
        let high = (scales[8 + group % 4] >> (2 * (group / 4))) & 3;
        let scale = d * (i32::from(low | (high << 4)) - 32) as f32;
        let (at, shift) = two_bits(group);
        let masks = &masks[16 * (group % 2)..];
        for (value, (q, mask)) in row.iter_mut().zip(quants[at..].iter().zip(masks)) {
            let offset = if (mask >> (group / 2)) & 1 == 1 { 0 } else { 4 };
            *value = scale * (i32::from((q >> shift) & 3) - offset) as f32;
        }
    }
}

/// `d`, `dmin`, 6-bit scales and minima of 8 groups, nibbles.
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let quants = &block[16..];
    for (group, row) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, minimum) = scale_and_minimum(block, group);
        for (value, q) in row.iter_mut().zip(&quants[32 * (group / 2)..]) {
            *value = scale * f32::from((q >> (4 * (group % 2))) & 15) - minimum;
        }
    }
}

/// As Q4_K with a fifth bit: byte `l` of the fifth bits holds those of weight `l` of each group.
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (fifth, quants) = (&block[16..48], &block[48..]);
    for (group, row) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, minimum) = scale_and_minimum(block, group);
        let quants = &quants[32 * (group / 2)..];
        for (value, (q, bits)) in row.iter_mut().zip(quants.iter().zip(fifth)) {
            let q = ((q >> (4 * (group % 2))) & 15) | (((bits >> group) & 1) << 4);
            *value = scale * f32::from(q) - minimum;
        }
    }
}

/// Nibbles, upper 2 bits, signed scales of 16 groups, `d`.
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half_at(block, 208);
    for (group, row) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales[group].cast_signed());
        // Each half has four runs of 32 weights: two in the low nibbles of 64 bytes, two in the high.
        let (half, run) = (group / 8, (group % 8) / 2);
        let within = 16 * (group % 2);
        let low = &low[64 * half + 32 * (run % 2) + within..];
        let high = &high[32 * half + within..];
        for (value, (l, h)) in row.iter_mut().zip(low.iter().zip(high)) {
            let q = ((l >> (4 * (run / 2))) & 15) | (((h >> (2 * run)) & 3) << 4);
            *value = scale * (i32::from(q) - 32) as f32;
        }
    }
}

/// `d`, upper 2 bits and lower 4 bits of the scales of 8 groups, nibbles that choose a level.
pub(super) fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    let scales_high = u16::from_le_bytes([block[2], block[3]]);
    let (scales_low, quants) = (&block[4..8], &block[8..]);
    for (group, row) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let low = (scales_low[group / 2] >> (4 * (group % 2))) & 15;
        let high = (scales_high >> (2 * group)) as u8 & 3;
        let scale = d * (i32::from(low | (high << 4)) - 32) as f32;
        for (j, q) in quants[16 * group..16 * group + 16].iter().enumerate() {
            row[j] = scale * f32::from(IQ4_LEVELS[usize::from(q & 15)]);
            row[j + 16] = scale * f32::from(IQ4_LEVELS[usize::from(q >> 4)]);
        }
    }
}

/// Where the 2-bit weights of a group of 16 lie: first byte and shift. Each half of 128 weights
/// takes 32 bytes, and each pair of groups one bit pair of them.
fn two_bits(group: usize) -> (usize, usize) {
    (32 * (group / 8) + 16 * (group % 2), 2 * ((group % 8) / 2))
}

/// The scale and minimum of a group of 32 in Q4_K and Q5_K, times `d` and `dmin`.
///
/// Twelve bytes hold eight pairs of 6 bits: the first four pairs whole, the last four as nibbles
/// whose upper bits fill the first eight bytes.
fn scale_and_minimum<const BYTES: usize>(block: &[u8; BYTES], group: usize) -> (f32, f32) {
    let packed = &block[4..16];
    let (scale, minimum) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let nibbles = packed[group + 4];
        let scale = (nibbles & 15) | ((packed[group - 4] >> 6) << 4);
        let minimum = (nibbles >> 4) | ((packed[group] >> 6) << 4);
        (scale, minimum)
    };
    (
        half_at(block, 0) * f32::from(scale),
        half_at(block, 2) * f32::from(minimum),
    )
}
