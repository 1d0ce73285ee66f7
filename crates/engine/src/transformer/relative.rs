//! The relative position bias of MPNet and T5: a learned value for each head and distance bucket.

/// Distances beyond this share the last bucket, as in the reference.
const MAX_DISTANCE: f64 = 128.0;

/// Learned biases, `[num_buckets, num_heads]`.
#[derive(Debug)]
pub(crate) struct RelativeBias {
    pub(crate) num_buckets: usize,
    pub(crate) num_heads: usize,
    pub(crate) values: Vec<f32>,
}

impl RelativeBias {
    /// For each head the biases by `key − query + span − 1`, `[num_heads, 2 · span − 1]`.
    pub(crate) fn spread(&self, span: usize) -> Vec<f32> {
        let distances = 2 * span - 1;
        let mut spread = vec![0.0; self.num_heads * distances];
        for index in 0..distances {
            let bucket = self.bucket(index.cast_signed() - (span - 1).cast_signed());
            for head in 0..self.num_heads {
                spread[head * distances + index] = self.values[bucket * self.num_heads + head];
            }
        }
        spread
    }

    /// The bucket of `key − query`: exact for small distances, logarithmic beyond; one half of the
    /// buckets for each direction.
    fn bucket(&self, distance: isize) -> usize {
        let half = self.num_buckets / 2;
        let side = if distance > 0 { half } else { 0 };
        let distance = distance.unsigned_abs();
        let exact = half / 2;
        if distance < exact {
            return side + distance;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small positive number of buckets"
        )]
        let beyond = {
            // In f32 as the reference does, so that distances on a border fall alike.
            let ratio =
                (distance as f32 / exact as f32).ln() / (MAX_DISTANCE / exact as f64).ln() as f32;
            (ratio * (half - exact) as f32) as usize
        };
        side + (exact + beyond).min(half - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_the_reference() {
        let bias = RelativeBias {
            num_buckets: 32,
            num_heads: 1,
            values: vec![0.0; 32],
        };
        let buckets: Vec<_> = [
            -200, -128, -127, -20, -8, -7, -1, 0, 1, 7, 8, 20, 127, 128, 200,
        ]
        .map(|d| bias.bucket(d))
        .into();
        assert_eq!(
            buckets,
            [15, 15, 15, 10, 8, 7, 1, 0, 17, 23, 24, 26, 31, 31, 31]
        );
    }
}
