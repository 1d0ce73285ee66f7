//! Multi-head latent attention: queries, keys and values out of narrow latent vectors.

use super::config::LatentConfig;
use crate::kernels::isa::Isa;
use crate::kernels::linear::Linear;
use crate::kernels::norm::Norm;
use crate::kernels::rows::padded;

/// The projections of a layer. Each key's rotated part is the same in all heads; it is spread out to
/// them here, so that attention is the ordinary one.
#[derive(Debug)]
pub(super) struct Latent {
    pub(super) config: LatentConfig,
    pub(super) num_heads: usize,
    pub(super) value_dim: usize,
    /// Hidden state to the queries' latent vector, where there is one, and its norm.
    pub(super) query_down: Option<(Linear, Norm)>,
    /// To the queries, `[heads, nope + rope]`.
    pub(super) query_up: Linear,
    /// Hidden state to the latent vector of keys and values, and the keys' rotated part.
    pub(super) key_value_down: Linear,
    pub(super) key_value_norm: Norm,
    /// Latent vector to `[heads, nope + value]`.
    pub(super) key_value_up: Linear,
}

impl Latent {
    /// Writes queries, keys and values of `rows` rows, each `to_stride` numbers with the keys at
    /// `key_column` and the values at `value_column`.
    pub(super) fn apply(
        &self,
        isa: Isa,
        rows: usize,
        from: &mut [f32],
        [key_column, value_column, to_stride]: [usize; 3],
    ) -> Vec<f32> {
        let LatentConfig {
            kv_lora_rank,
            qk_nope_head_dim: nope,
            qk_rope_head_dim: rope,
            ..
        } = self.config;
        let mut queries = match &self.query_down {
            Some((down, norm)) => {
                let mut narrow = product(isa, down, rows, from);
                norm.apply_to(isa, &mut narrow);
                product(isa, &self.query_up, rows, &mut narrow)
            }
            None => product(isa, &self.query_up, rows, from),
        };
        let down = product(isa, &self.key_value_down, rows, from);
        let down_stride = padded(kv_lora_rank + rope);
        let mut narrow = vec![0.0; rows * padded(kv_lora_rank)];
        for (narrow, down) in narrow
            .chunks_exact_mut(padded(kv_lora_rank))
            .zip(down.chunks_exact(down_stride))
        {
            narrow[..kv_lora_rank].copy_from_slice(&down[..kv_lora_rank]);
        }
        self.key_value_norm.apply_to(isa, &mut narrow);
        let wide = product(isa, &self.key_value_up, rows, &mut narrow);
        let wide_stride = padded(self.key_value_up.out_features());
        let query_stride = padded(self.query_up.out_features());
        let mut to = vec![0.0; rows * to_stride];
        for (row, to) in to.chunks_exact_mut(to_stride).enumerate() {
            let width = self.num_heads * (nope + rope);
            let queries = &mut queries[row * query_stride..][..width];
            to[..width].copy_from_slice(queries);
            let rotated = &down[row * down_stride + kv_lora_rank..][..rope];
            let wide = &wide[row * wide_stride..];
            for head in 0..self.num_heads {
                let wide = &wide[head * (nope + self.value_dim)..];
                let key = &mut to[key_column + head * (nope + rope)..][..nope + rope];
                key[..nope].copy_from_slice(&wide[..nope]);
                key[nope..].copy_from_slice(rotated);
                to[value_column + head * self.value_dim..][..self.value_dim]
                    .copy_from_slice(&wide[nope..nope + self.value_dim]);
            }
        }
        to
    }
}

fn product(isa: Isa, linear: &Linear, rows: usize, from: &mut [f32]) -> Vec<f32> {
    let mut to = vec![0.0; rows * padded(linear.out_features())];
    linear.apply(isa, rows, from, &mut to);
    to
}
