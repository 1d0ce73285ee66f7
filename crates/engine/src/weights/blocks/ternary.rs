//! Super-blocks of 256 weights that are -1, 0 or 1 times a scale.

use super::half_at;

/// Five weights in a byte as digits of base 3 (48 bytes), then four in a byte (4 bytes), `d`.
pub(super) fn tq1_0(block: &[u8; 54], out: &mut [f32; 256]) {
    let d = half_at(block, 52);
    let mut rest = &mut out[..];
    for (bytes, num_digits) in [(&block[..32], 5), (&block[32..48], 5), (&block[48..52], 4)] {
        let mut power = 1_u8;
        for _ in 0..num_digits {
            let (row, tail) = rest.split_at_mut(bytes.len());
            for (value, byte) in row.iter_mut().zip(bytes) {
                // The byte is a fraction of 256: after the shift by powers of 3, three times it
                // carries the digit.
                let digit = (u16::from(byte.wrapping_mul(power)) * 3) >> 8;
                *value = (i32::from(digit) - 1) as f32 * d;
            }
            rest = tail;
            power = power.wrapping_mul(3);
        }
    }
}

/// Two bits each: byte `m` of a half of 32 bytes holds the weights `m`, `m + 32`, `m + 64`, `m + 96`.
pub(super) fn tq2_0(block: &[u8; 66], out: &mut [f32; 256]) {
    let d = half_at(block, 64);
    for (run, row) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (value, byte) in row.iter_mut().zip(&block[32 * (run / 4)..]) {
            *value = (i32::from((byte >> (2 * (run % 4))) & 3) - 1) as f32 * d;
        }
    }
}
