//! NumPy's format, version 1.0 (numpy.lib.format): a text header, then the rows as they are.

use std::io::{self, Write};

/// Data begins at a multiple of 64 bytes, as NumPy aligns it; two blocks leave room for any shape.
pub(super) const HEADER_LENGTH: usize = 128;

/// Magic, version and the length of the header's text.
const PREAMBLE: usize = 10;

/// The header of a little-endian `f32` array of shape `(rows, dimensions)`.
pub(super) fn header(rows: u64, dimensions: usize) -> [u8; HEADER_LENGTH] {
    let text =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimensions}), }}");
    let mut header = [b' '; HEADER_LENGTH];
    header[..8].copy_from_slice(b"\x93NUMPY\x01\x00");
    header[8] = (HEADER_LENGTH - PREAMBLE) as u8;
    header[9] = 0;
    header[PREAMBLE..PREAMBLE + text.len()].copy_from_slice(text.as_bytes());
    header[HEADER_LENGTH - 1] = b'\n';
    header
}

/// Writes `values`, whole rows, in little-endian order.
pub(super) fn write_rows(writer: &mut impl Write, values: &[f32]) -> io::Result<()> {
    values
        .iter()
        .try_for_each(|value| writer.write_all(&value.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_shape_fits() {
        let header = header(u64::MAX, usize::MAX);
        assert_eq!(header[HEADER_LENGTH - 1], b'\n');
        let text = String::from_utf8_lossy(&header[PREAMBLE..]);
        assert!(
            text.contains(&format!("({}, {}), }}", u64::MAX, usize::MAX)),
            "{text}"
        );
    }
}
