//! Rotary position embedding: halves of a head rotated against each other (GPT-NeoX order), or
//! neighbours.

use std::sync::{Arc, RwLock};

/// Cosines and sines for positions `0..length`, `[length, rotary_dim / 2]` each.
#[derive(Debug, Default)]
pub(crate) struct Table {
    length: usize,
    half: usize,
    interleaved: bool,
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
    /// Factor of cosines and sines.
    magnitude: f32,
    interleaved: bool,
    table: RwLock<Arc<Table>>,
}

/// Frequencies `theta^(−2i / rotary_dim)`.
pub(crate) fn inverse_frequencies(theta: f32, rotary_dim: usize) -> impl Iterator<Item = f32> {
    // In f32 throughout, as the reference computes them: positions in the thousands would show
    // the difference.
    (0..rotary_dim / 2).map(move |i| {
        #[expect(clippy::cast_precision_loss, reason = "a head's width")]
        let exponent = (2 * i) as f32 / rotary_dim as f32;
        1.0 / theta.powf(exponent)
    })
}

impl Rope {
    /// Of the given frequencies; cosines and sines are multiplied by `magnitude`.
    pub(crate) fn of(inverse_frequencies: Vec<f32>, magnitude: f32, interleaved: bool) -> Self {
        Self {
            inverse_frequencies,
            magnitude,
            interleaved,
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
        let (mut sin, mut cos): (Vec<f32>, Vec<f32>) = angles.map(f32::sin_cos).unzip();
        if self.magnitude != 1.0 {
            let scaled = sin.iter_mut().chain(&mut cos);
            scaled.for_each(|value| *value *= self.magnitude);
        }
        let table = Arc::new(Table {
            length,
            half,
            interleaved: self.interleaved,
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
        if self.interleaved {
            let (pairs, _) = head[..2 * self.half].as_chunks_mut::<2>();
            for (([x, y], cos), sin) in pairs.iter_mut().zip(cos).zip(sin) {
                (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
            }
            return;
        }
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
        for interleaved in [false, true] {
            check(&Rope::of(
                inverse_frequencies(10_000.0, 8).collect(),
                1.0,
                interleaved,
            ));
        }
    }

    fn check(rope: &Rope) {
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
