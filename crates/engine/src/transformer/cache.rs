//! Keys and values of a conversation, kept so that each token goes through the transformer once.

use super::Transformer;
use super::config::RopeScaling;
use crate::kernels::cached_attention::{Kept, KeptShape};
use crate::kernels::rows::PANEL;

/// The kept keys and values of one conversation. Its memory is set aside when it is made, and
/// touched as tokens come.
#[derive(Debug)]
pub(crate) struct KvCache {
    pub(super) layers: Vec<Kept>,
    pub(super) shape: KeptShape,
    /// Tokens kept.
    pub(super) length: usize,
    /// Rotated with the frequencies for long conversations.
    pub(super) long_rope: bool,
}

impl KvCache {
    /// Room for `capacity` tokens (rounded up to whole panels), in bf16, or in `f32` if `exact`.
    pub(crate) fn new(model: &Transformer, capacity: usize, exact: bool) -> Self {
        let shape = model.kept_shape(capacity);
        let layers = (0..model.layers.len())
            .map(|_| Kept::new(&shape, exact))
            .collect();
        Self {
            layers,
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
            num_key_value_heads: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
            value_dim: self.config.value_dim(),
            capacity: capacity.next_multiple_of(PANEL),
        }
    }

    /// Bytes of a cache with room for `capacity` tokens.
    pub(crate) fn cache_bytes(&self, capacity: usize, exact: bool) -> usize {
        let bytes = if exact { 4 } else { 2 };
        self.kept_shape(capacity).length() * self.layers.len() * bytes
    }
}
