//! How a tensor's numbers are stored.

use std::fmt;

/// The storage type of a tensor, plain or in blocks that share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "each variant is the name that the file formats use"
)]
pub enum Dtype {
    F32,
    F16,
    BF16,
    F64,
    F8E4M3,
    F8E5M2,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    IQ4NL,
    IQ4XS,
    TQ1_0,
    TQ2_0,
    MXFP4,
    Bool,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
}

/// One row for each type: weights in a block, bytes of a block, GGML's number, GGML's name, and
/// the name in safetensors. Sizes and numbers are those of `ggml.h` and of the safetensors format.
type Row = (
    Dtype,
    usize,
    usize,
    Option<u32>,
    &'static str,
    Option<&'static str>,
);

const TABLE: [Row; 30] = [
    (Dtype::F32, 1, 4, Some(0), "F32", Some("F32")),
    (Dtype::F16, 1, 2, Some(1), "F16", Some("F16")),
    (Dtype::BF16, 1, 2, Some(30), "BF16", Some("BF16")),
    (Dtype::F64, 1, 8, Some(28), "F64", Some("F64")),
    (Dtype::F8E4M3, 1, 1, None, "F8_E4M3", Some("F8_E4M3")),
    (Dtype::F8E5M2, 1, 1, None, "F8_E5M2", Some("F8_E5M2")),
    (Dtype::Q4_0, 32, 18, Some(2), "Q4_0", None),
    (Dtype::Q4_1, 32, 20, Some(3), "Q4_1", None),
    (Dtype::Q5_0, 32, 22, Some(6), "Q5_0", None),
    (Dtype::Q5_1, 32, 24, Some(7), "Q5_1", None),
    (Dtype::Q8_0, 32, 34, Some(8), "Q8_0", None),
    (Dtype::Q2K, 256, 84, Some(10), "Q2_K", None),
    (Dtype::Q3K, 256, 110, Some(11), "Q3_K", None),
    (Dtype::Q4K, 256, 144, Some(12), "Q4_K", None),
    (Dtype::Q5K, 256, 176, Some(13), "Q5_K", None),
    (Dtype::Q6K, 256, 210, Some(14), "Q6_K", None),
    (Dtype::IQ4NL, 32, 18, Some(20), "IQ4_NL", None),
    (Dtype::IQ4XS, 256, 136, Some(23), "IQ4_XS", None),
    (Dtype::TQ1_0, 256, 54, Some(34), "TQ1_0", None),
    (Dtype::TQ2_0, 256, 66, Some(35), "TQ2_0", None),
    (Dtype::MXFP4, 32, 17, Some(39), "MXFP4", None),
    (Dtype::Bool, 1, 1, None, "BOOL", Some("BOOL")),
    (Dtype::I8, 1, 1, Some(24), "I8", Some("I8")),
    (Dtype::U8, 1, 1, None, "U8", Some("U8")),
    (Dtype::I16, 1, 2, Some(25), "I16", Some("I16")),
    (Dtype::U16, 1, 2, None, "U16", Some("U16")),
    (Dtype::I32, 1, 4, Some(26), "I32", Some("I32")),
    (Dtype::U32, 1, 4, None, "U32", Some("U32")),
    (Dtype::I64, 1, 8, Some(27), "I64", Some("I64")),
    (Dtype::U64, 1, 8, None, "U64", Some("U64")),
];

/// GGML's types that we cannot read, so that a refusal can name them.
const REFUSED: [(u32, &str); 10] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (29, "IQ1_M"),
    (40, "NVFP4"),
];

impl Dtype {
    /// Weights that share one block; 1 for plain types.
    #[must_use]
    pub fn block_size(self) -> usize {
        self.row().1
    }

    /// Bytes of one block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        self.row().2
    }

    /// True if [`Tensor::to_f32`](super::Tensor::to_f32) can read it; integers are listed only.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::F64) || self.block_size() > 1
    }

    /// The name that the file formats use, such as `Q4_K`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().4
    }

    /// Bytes of `num_weights` weights; `None` if they do not fill whole blocks or overflow.
    #[must_use]
    pub fn size_of(self, num_weights: usize) -> Option<usize> {
        if !num_weights.is_multiple_of(self.block_size()) {
            return None;
        }
        (num_weights / self.block_size()).checked_mul(self.block_bytes())
    }

    /// GGML's number of the type, if GGUF files can hold it.
    pub(super) fn ggml_id(self) -> Option<u32> {
        self.row().3
    }

    /// The type of GGML's number, or the name of one that we do not read.
    pub(super) fn from_ggml(id: u32) -> Result<Self, String> {
        if let Some(row) = TABLE.iter().find(|row| row.3 == Some(id)) {
            return Ok(row.0);
        }
        match REFUSED.iter().find(|(refused, _)| *refused == id) {
            Some((_, name)) => Err((*name).into()),
            None => Err(format!("GGML type {id}")),
        }
    }

    /// The type that safetensors calls `name`.
    pub(super) fn from_safetensors(name: &str) -> Option<Self> {
        TABLE
            .iter()
            .find(|row| row.5 == Some(name))
            .map(|row| row.0)
    }

    fn row(self) -> &'static Row {
        let row = &TABLE[self as usize];
        debug_assert_eq!(row.0, self, "the table keeps the order of the variants");
        row
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_keeps_the_order_of_the_variants() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, index, "{}", row.4);
        }
    }

    #[test]
    fn sizes_need_whole_blocks() {
        assert_eq!(Dtype::Q4_0.size_of(384), Some(12 * 18));
        assert_eq!(Dtype::Q4_0.size_of(383), None);
        assert_eq!(Dtype::I64.size_of(usize::MAX), None);
    }
}
