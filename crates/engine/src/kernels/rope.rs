//! Rotary position embedding, halves of a head rotated against each other (GPT-NeoX order).

use std::sync::{Arc, RwLock};

/// Cosines and sines for positions `0..length`, `[length, rotary_dim / 2]` each.
#[derive(Debug, Default)]
pub(crate) struct Table {
    length: usize,
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Table {
    /// The factors of `position`.
    fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let range = position * self.half..(position + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }
}

/// Rotary embedding of one base; its table grows with the longest text seen.
#[derive(Debug)]
pub(crate) struct Rope {
    inverse_frequencies: Vec<f32>,
    table: RwLock<Arc<Table>>,
}

impl Rope {
    /// Frequencies `theta^(−2i / rotary_dim)`, positions divided by `linear_factor`.
    pub(crate) fn new(theta: f32, rotary_dim: usize, linear_factor: f32) -> Self {
        // In f32 throughout, as the reference computes them: positions in the thousands would show
        // the difference.
        let inverse_frequencies = (0..rotary_dim / 2)
            .map(|i| {
                #[expect(clippy::cast_precision_loss, reason = "a head's width")]
                let exponent = (2 * i) as f32 / rotary_dim as f32;
                1.0 / theta.powf(exponent) / linear_factor
            })
            .collect();
        Self {
            inverse_frequencies,
            table: RwLock::default(),
        }
    }

    /// A table for at least `length` positions.
    pub(crate) fn table(&self, length: usize) -> Arc<Table> {
        let current = Arc::clone(&self.table.read().unwrap_or_else(|error| error.into_inner()));
        if current.length >= length {
            return current;
        }
        let half = self.inverse_frequencies.len();
        let length = length.next_power_of_two().max(512);
        let angles = (0..length).flat_map(|position| {
            #[expect(clippy::cast_precision_loss, reason = "positions are far below 2²⁴")]
            self.inverse_frequencies
                .iter()
                .map(move |frequency| position as f32 * frequency)
        });
        let (sin, cos) = angles.map(f32::sin_cos).unzip();
        let table = Arc::new(Table {
            length,
            half,
            cos,
            sin,
        });
        *self
            .table
            .write()
            .unwrap_or_else(|error| error.into_inner()) = Arc::clone(&table);
        table
    }
}

impl Table {
    /// Rotates one head in place.
    pub(crate) fn rotate(&self, position: usize, head: &mut [f32]) {
        let (cos, sin) = self.at(position);
        let (first, second) = head[..2 * self.half].split_at_mut(self.half);
        for (((x, y), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_keeps_length_and_depends_on_the_distance_only() {
        let rope = Rope::new(10_000.0, 8, 1.0);
        let table = rope.table(600);
        let dot = |p: usize, q: usize| {
            let (mut a, mut b) = (
                [1.0_f32, 2., 3., 4., 5., 6., 7., 8.],
                [2.0_f32, 0., 1., 3., -1., 2., 5., 1.],
            );
            table.rotate(p, &mut a);
            table.rotate(q, &mut b);
            a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>()
        };
        assert!((dot(0, 0) - 67.0).abs() < 1e-4);
        assert!((dot(5, 9) - dot(505, 509)).abs() < 1e-3);
        assert!((dot(5, 9) - dot(5, 8)).abs() > 1e-2);
    }
}
