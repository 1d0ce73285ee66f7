//! Layer norm and root-mean-square norm, with the residual sum before them.

use std::ops::Range;

use super::buffer::Buffer;
use super::isa::Isa;
use super::rows::{Rows, padded};
use super::simd::{Kernel, Simd, run};

/// Which mean is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NormKind {
    /// `(x − mean) / √(variance + eps)`.
    Layer,
    /// `x / √(mean of squares + eps)`.
    Rms,
}

/// A norm with its weights.
#[derive(Debug)]
pub(crate) struct Norm {
    kind: NormKind,
    eps: f32,
    width: usize,
    /// Padded with zeros, so that padding stays zero.
    weight: Buffer<f32>,
    bias: Buffer<f32>,
}

impl Norm {
    /// A norm over `weight.len()` columns; an empty `bias` is none.
    pub(crate) fn new(kind: NormKind, eps: f32, weight: &[f32], bias: &[f32]) -> Self {
        let width = weight.len();
        let stride = padded(width);
        let (weight, bias) = (Buffer::padded(weight, stride), Buffer::padded(bias, stride));
        Self {
            kind,
            eps,
            width,
            weight,
            bias,
        }
    }

    /// `sum = a + b` (if given), kept in `keep` (if given); `out = norm(sum)`, for the given rows.
    /// `keep` and `out` may be `a` or `b`.
    ///
    /// # Safety
    ///
    /// Nobody else uses these rows meanwhile; columns beyond the width are zero.
    pub(crate) unsafe fn apply(
        &self,
        isa: Isa,
        rows: Range<usize>,
        a: Rows<'_, f32>,
        b: Option<Rows<'_, f32>>,
        keep: Option<Rows<'_, f32>>,
        out: Rows<'_, f32>,
    ) {
        assert!(a.stride() >= padded(self.width) && out.stride() >= padded(self.width));
        // SAFETY: the caller's.
        unsafe {
            run(
                isa,
                Apply {
                    norm: self,
                    rows,
                    a,
                    b,
                    keep,
                    out,
                },
            );
        }
    }
}

impl Norm {
    /// Normalises rows padded to whole panels, in place, on the calling thread.
    pub(crate) fn apply_to(&self, isa: Isa, values: &mut [f32]) {
        let stride = padded(self.width);
        let count = values.len() / stride;
        let rows = Rows::new(values, count, stride);
        // SAFETY: borrowed exclusively, and this is the only thread.
        unsafe { self.apply(isa, 0..count, rows, None, None, rows) };
    }

    /// Root-mean-square norm of one attention head, in place.
    pub(crate) fn apply_to_head(&self, head: &mut [f32]) {
        let squares: f32 = head.iter().map(|value| value * value).sum();
        #[expect(clippy::cast_precision_loss, reason = "a head's width")]
        let factor = 1.0 / (squares / head.len() as f32 + self.eps).sqrt();
        head.iter_mut()
            .zip(&*self.weight)
            .for_each(|(value, weight)| *value *= factor * weight);
    }
}

struct Apply<'a> {
    norm: &'a Norm,
    rows: Range<usize>,
    a: Rows<'a, f32>,
    b: Option<Rows<'a, f32>>,
    keep: Option<Rows<'a, f32>>,
    out: Rows<'a, f32>,
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let vectors = self.norm.width.div_ceil(S::LANES);
        for row in self.rows.clone() {
            // SAFETY: the caller's rows, padded to whole vectors.
            unsafe {
                let out = self.out.at(row, 0);
                let sum = self.add::<S>(row, vectors);
                if let Some(keep) = self.keep {
                    let keep = keep.at(row, 0);
                    for vector in 0..vectors {
                        let at = vector * S::LANES;
                        S::store(keep.add(at), S::load(out.add(at)));
                    }
                }
                self.normalize::<S>(out, vectors, sum);
            }
        }
    }
}

impl Apply<'_> {
    /// Writes `a + b` to `out`; returns the sum of its columns.
    #[inline(always)]
    unsafe fn add<S: Simd>(&self, row: usize, vectors: usize) -> f32 {
        // SAFETY: as `run`.
        unsafe {
            let (a, out) = (self.a.at(row, 0), self.out.at(row, 0));
            let b = self.b.map(|b| b.at(row, 0));
            let mut sum = S::splat(0.0);
            for vector in 0..vectors {
                let at = vector * S::LANES;
                let mut value = S::load(a.add(at));
                if let Some(b) = b {
                    value = S::add(value, S::load(b.add(at)));
                }
                S::store(out.add(at), value);
                sum = S::add(sum, value);
            }
            S::sum(sum)
        }
    }

    /// Normalises the row at `out` in place, given the sum of its columns.
    #[inline(always)]
    unsafe fn normalize<S: Simd>(&self, out: *mut f32, vectors: usize, sum: f32) {
        #[expect(clippy::cast_precision_loss, reason = "widths are far below 2²⁴")]
        let width = self.norm.width as f32;
        let mean = if self.norm.kind == NormKind::Layer {
            sum / width
        } else {
            0.0
        };
        // SAFETY: as `run`.
        unsafe {
            let minus_mean = S::splat(-mean);
            let mut squares = S::splat(0.0);
            for vector in 0..vectors {
                let value = S::add(S::load(out.add(vector * S::LANES)), minus_mean);
                squares = S::fma(value, value, squares);
            }
            // Padding columns are zero and have added mean² each.
            #[expect(clippy::cast_precision_loss, reason = "less than a panel")]
            let padding = (vectors * S::LANES - self.norm.width) as f32;
            let variance = (S::sum(squares) - padding * mean * mean) / width;
            let factor = S::splat(1.0 / (variance + self.norm.eps).sqrt());
            for vector in 0..vectors {
                let at = vector * S::LANES;
                let value = S::mul(S::add(S::load(out.add(at)), minus_mean), factor);
                let weight = S::load(self.norm.weight.as_ptr().add(at));
                let bias = S::load(self.norm.bias.as_ptr().add(at));
                S::store(out.add(at), S::fma(value, weight, bias));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_definition_on_every_isa_and_width() {
        for isa in Isa::available() {
            for kind in [NormKind::Layer, NormKind::Rms] {
                for width in [1, 7, 16, 31, 64, 100, 384] {
                    let stride = padded(width);
                    let number = |i: usize| ((i * 7919 + 13) % 1000) as f32 / 250.0 - 1.5;
                    let weight: Vec<_> = (0..width).map(number).collect();
                    let bias: Vec<_> = (0..width).map(|i| number(i + 5)).collect();
                    let (mut a, mut b) = (vec![0.0; stride], vec![0.0; stride]);
                    for i in 0..width {
                        (a[i], b[i]) = (number(i + 11), number(3 * i));
                    }
                    let sum: Vec<_> = (0..width)
                        .map(|i| f64::from(a[i]) + f64::from(b[i]))
                        .collect();
                    let mean = sum.iter().sum::<f64>() / width as f64;
                    let mean = if kind == NormKind::Layer { mean } else { 0.0 };
                    let variance =
                        sum.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                    let norm = Norm::new(kind, 1e-5, &weight, &bias);
                    let (mut keep, mut out) = (vec![0.0; stride], vec![9.0; stride]);
                    let lend = |memory| Rows::new(memory, 1, stride);
                    let (ra, rb) = (lend(&mut a), lend(&mut b));
                    let (rk, ro) = (lend(&mut keep), lend(&mut out));
                    // SAFETY: four separate matrices of one row.
                    unsafe { norm.apply(isa, 0..1, ra, Some(rb), Some(rk), ro) };
                    for i in 0..width {
                        let expected = (sum[i] - mean) / (variance + 1e-5).sqrt()
                            * f64::from(weight[i])
                            + f64::from(bias[i]);
                        assert!(
                            (f64::from(out[i]) - expected).abs() < 2e-5,
                            "{isa} {width} {i}"
                        );
                        assert!((f64::from(keep[i]) - sum[i]).abs() < 1e-6);
                    }
                }
            }
        }
    }
}
