//! The nonlinearity of the feed-forward block, plain or gated.

use std::ops::Range;

use super::isa::Isa;
#[cfg(target_arch = "x86_64")]
use super::math::erf_over_root_2_roughly;
use super::math::{erf_over_root_2, exp, sigmoid};
use super::rows::{Rows, padded};
use super::simd::{Kernel, Simd, run};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x · Φ(x)`, by the error function.
    Gelu,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// `x · σ(1.702 x)`.
    QuickGelu,
    /// `x · σ(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    /// By the name in `config.json`.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "gelu" | "gelu_python" => Self::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Self::GeluTanh,
            "quick_gelu" => Self::QuickGelu,
            "silu" | "swish" | "swiglu" => Self::Silu,
            "relu" => Self::Relu,
            _ => return None,
        })
    }

    /// Applies it to rows of `width` columns padded to whole panels, in place, on the calling thread.
    pub(crate) fn apply_to(self, isa: Isa, values: &mut [f32], width: usize) {
        let count = values.len() / padded(width);
        let rows = Rows::new(values, count, padded(width));
        // SAFETY: borrowed exclusively, and this is the only thread.
        unsafe { self.apply(isa, rows, 0..count, width, false) };
    }

    /// As [`Activation::apply_to`], each row two such parts, of which the first is multiplied by the
    /// second.
    pub(crate) fn apply_gated_to(self, isa: Isa, values: &mut [f32], width: usize) {
        let stride = 2 * padded(width);
        let count = values.len() / stride;
        let rows = Rows::new(values, count, stride);
        // SAFETY: borrowed exclusively, and this is the only thread.
        unsafe { self.apply(isa, rows, 0..count, width, true) };
    }

    /// Applies it to the first `width` columns of the given rows, in place. If `gated`, the result is
    /// multiplied by as many columns that begin at `padded(width)`.
    ///
    /// # Safety
    ///
    /// Nobody else uses these rows meanwhile.
    pub(crate) unsafe fn apply(
        self,
        isa: Isa,
        x: Rows<'_, f32>,
        rows: Range<usize>,
        width: usize,
        gated: bool,
    ) {
        let columns = if gated {
            2 * padded(width)
        } else {
            padded(width)
        };
        assert!(
            rows.end <= x.end() && columns <= x.stride(),
            "no such part; this is a bug"
        );
        // SAFETY: checked above, and the caller's.
        unsafe {
            run(
                isa,
                Apply {
                    function: self,
                    x,
                    rows,
                    width,
                    gated,
                },
            );
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Activation {
    /// Of `x`, for a result that is then rounded to bf16.
    ///
    /// # Safety
    ///
    /// The CPU has `S`.
    #[inline(always)]
    pub(super) unsafe fn of_rounded<S: Simd>(self, x: S::F) -> S::F {
        // SAFETY: the caller's.
        unsafe {
            match self {
                Self::Gelu => gelu_rounded::<S>(x),
                Self::GeluTanh => gelu_tanh::<S>(x),
                Self::QuickGelu => quick_gelu::<S>(x),
                Self::Silu => silu::<S>(x),
                Self::Relu => relu::<S>(x),
            }
        }
    }
}

struct Apply<'a> {
    function: Activation,
    x: Rows<'a, f32>,
    rows: Range<usize>,
    width: usize,
    gated: bool,
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's rows; columns are whole vectors.
        unsafe {
            match self.function {
                Activation::Gelu => self.each::<S>(|x| gelu::<S>(x)),
                Activation::GeluTanh => self.each::<S>(|x| gelu_tanh::<S>(x)),
                Activation::QuickGelu => self.each::<S>(|x| quick_gelu::<S>(x)),
                Activation::Silu => self.each::<S>(|x| silu::<S>(x)),
                Activation::Relu => self.each::<S>(|x| relu::<S>(x)),
            }
        }
    }
}

impl Apply<'_> {
    #[inline(always)]
    unsafe fn each<S: Simd>(&self, function: impl Fn(S::F) -> S::F) {
        for row in self.rows.clone() {
            let x = self.x.at(row, 0);
            for vector in 0..self.width.div_ceil(S::LANES) {
                // SAFETY: as `run`.
                unsafe {
                    let at = x.add(vector * S::LANES);
                    let mut value = function(S::load(at));
                    if self.gated {
                        value = S::mul(value, S::load(at.add(padded(self.width))));
                    }
                    S::store(at, value);
                }
            }
        }
    }
}

/// # Safety
///
/// The CPU has `S`.
#[inline(always)]
unsafe fn gelu<S: Simd>(x: S::F) -> S::F {
    // SAFETY: the caller's.
    unsafe {
        let half = S::mul(x, S::splat(0.5));
        S::fma(half, erf_over_root_2::<S>(x), half)
    }
}

/// GELU within 2.6e-5 · max(1, |x|), far less than the rounding to bf16 of what it is added to.
///
/// # Safety
///
/// The CPU has `S`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn gelu_rounded<S: Simd>(x: S::F) -> S::F {
    // SAFETY: the caller's.
    unsafe {
        let half = S::mul(x, S::splat(0.5));
        S::fma(half, erf_over_root_2_roughly::<S>(x), half)
    }
}

/// # Safety
///
/// The CPU has `S`.
#[inline(always)]
unsafe fn quick_gelu<S: Simd>(x: S::F) -> S::F {
    // SAFETY: the caller's.
    unsafe { S::mul(x, sigmoid::<S>(S::mul(x, S::splat(1.702)))) }
}

/// # Safety
///
/// The CPU has `S`.
#[inline(always)]
unsafe fn silu<S: Simd>(x: S::F) -> S::F {
    // SAFETY: the caller's.
    unsafe { S::mul(x, sigmoid::<S>(x)) }
}

/// # Safety
///
/// The CPU has `S`.
#[inline(always)]
unsafe fn relu<S: Simd>(x: S::F) -> S::F {
    // SAFETY: the caller's.
    unsafe { S::max(x, S::splat(0.0)) }
}

/// `x/2 · (1 + tanh z) = x · σ(2z)` with `z = √(2/π) (x + 0.044715 x³)`.
///
/// # Safety
///
/// The CPU has `S`.
#[inline(always)]
unsafe fn gelu_tanh<S: Simd>(x: S::F) -> S::F {
    const ROOT_8_OVER_PI: f32 = 1.595_769;
    // SAFETY: the caller's.
    unsafe {
        let cube = S::mul(S::mul(x, x), x);
        let z = S::mul(
            S::fma(cube, S::splat(0.044_715), x),
            S::splat(-ROOT_8_OVER_PI),
        );
        S::div(x, S::add(S::splat(1.0), exp::<S>(z)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(function: Activation, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        match function {
            // Φ by Simpson's rule, far finer than f32.
            Activation::Gelu => {
                let steps = 4000;
                let h = x / f64::from(steps);
                let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
                let sum: f64 = (0..steps)
                    .map(|i| {
                        let t = f64::from(i) * h;
                        h / 6.0 * (density(t) + 4.0 * density(t + h / 2.0) + density(t + h))
                    })
                    .sum();
                x * (0.5 + sum)
            }
            Activation::GeluTanh => {
                let z = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                x / 2.0 * (1.0 + z.tanh())
            }
            Activation::QuickGelu => x * sigmoid(1.702 * x),
            Activation::Silu => x * sigmoid(x),
            Activation::Relu => x.max(0.0),
        }
    }

    #[test]
    fn agrees_with_the_definition_on_every_isa() {
        use Activation::*;
        for isa in Isa::available() {
            for function in [Gelu, GeluTanh, QuickGelu, Silu, Relu] {
                for gated in [false, true] {
                    let width = 200;
                    let number = |i: usize| i as f32 / 10.0 - 10.0;
                    let mut x = vec![0.0; 2 * padded(width)];
                    for i in 0..width {
                        x[i] = number(i);
                        x[padded(width) + i] = 0.5 + i as f32;
                    }
                    let rows = Rows::new(&mut x, 1, 2 * padded(width));
                    // SAFETY: the only user of the row.
                    unsafe { function.apply(isa, rows, 0..1, width, gated) };
                    for (i, got) in x[..width].iter().enumerate() {
                        let factor = if gated { 0.5 + i as f64 } else { 1.0 };
                        let expected = definition(function, f64::from(number(i))) * factor;
                        let bound = 2e-6 * factor + expected.abs() * 1e-6;
                        assert!(
                            (f64::from(*got) - expected).abs() <= bound,
                            "{isa} {function:?}"
                        );
                    }
                }
            }
        }
    }
}
