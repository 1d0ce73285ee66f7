//! Keys and values of a conversation, kept so that each token goes through the transformer once.

use super::Transformer;
use super::config::RopeScaling;
use crate::kernels::cached_attention::{CacheFormat, Kept, KeptShape};
use crate::kernels::rows::PANEL;

/// The kept keys and values of one conversation. Its memory is set aside when it is made, and
/// touched as tokens come.
#[derive(Debug, Default)]
pub(crate) struct KvCache {
    pub(super) kept: Kept,
    pub(super) shape: KeptShape,
    /// Tokens kept.
    pub(super) length: usize,
    /// Rotated with the frequencies for long conversations.
    pub(super) long_rope: bool,
}

impl KvCache {
    /// Room for `capacity` tokens (rounded up to whole panels).
    pub(crate) fn new(model: &Transformer, capacity: usize, format: CacheFormat) -> Self {
        let shape = model.kept_shape(capacity);
        Self {
            kept: Kept::new(&shape, format),
            shape,
            length: 0,
            long_rope: false,
        }
    }

    /// Tokens kept.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Tokens that fit.
    pub(crate) fn capacity(&self) -> usize {
        self.shape.capacity
    }

    /// Takes over the first `length` tokens of `other`, of the same model.
    ///
    /// # Panics
    ///
    /// If `other` has fewer, or another shape.
    pub(crate) fn copy_beginning(&mut self, other: &Self, length: usize) {
        assert!(
            self.shape == other.shape && length <= other.length,
            "no such tokens to copy; this is a bug"
        );
        self.kept.copy_beginning(&other.kept, &self.shape, length);
        self.length = length;
        self.long_rope = other.long_rope;
    }

    /// Forgets all tokens from `length` on.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Prepares for a conversation that will grow to `total` tokens: with Phi-3's two sets of
    /// frequencies, a longer one needs every token again.
    pub(crate) fn plan(&mut self, model: &Transformer, total: usize) {
        let RopeScaling::Long { original, .. } = &model.config.decoder.rope_scaling else {
            return;
        };
        let long = total > *original;
        if long != self.long_rope {
            self.long_rope = long;
            self.length = 0;
        }
    }
}

impl Transformer {
    /// The shape of a cache with room for `capacity` tokens.
    pub(super) fn kept_shape(&self, capacity: usize) -> KeptShape {
        KeptShape {
            num_layers: self.layers.len(),
            num_key_value_heads: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
            value_dim: self.config.value_dim(),
            capacity: capacity.next_multiple_of(PANEL),
        }
    }

    /// Bytes of a cache with room for `capacity` tokens.
    pub(crate) fn cache_bytes(&self, capacity: usize, format: CacheFormat) -> usize {
        self.kept_shape(capacity).bytes(format)
    }
}
