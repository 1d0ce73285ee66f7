//! Elementary functions over vectors: range reduction and polynomials, no branches, no library.

use super::simd::Simd;

/// `Σ coefficients[i] · xⁱ` by Horner's rule.
#[inline(always)]
unsafe fn polynomial<S: Simd>(coefficients: &[f32], x: S::F) -> S::F {
    // SAFETY: vector arithmetic of an instruction set that the caller vouches for.
    unsafe {
        let (last, rest) = coefficients
            .split_last()
            .expect("a constant array; this is a bug");
        rest.iter()
            .rev()
            .fold(S::splat(*last), |sum, c| S::fma(sum, x, S::splat(*c)))
    }
}

/// `eˣ` within 2 ULP on −87..=88; beyond, the value at the nearer end.
///
/// # Safety
///
/// The CPU has `S`.
#[inline(always)]
pub(super) unsafe fn exp<S: Simd>(x: S::F) -> S::F {
    /// Chebyshev fit of `eˣ` on ±ln 2 / 2, relative error 2.6e-9.
    const POLYNOMIAL: [f32; 7] = [
        1.0,
        1.0,
        0.5,
        0.166_664_15,
        0.041_666_22,
        0.008_375_13,
        0.001_394_86,
    ];
    /// ln 2 in two parts: the first has few enough bits that `n · LN2_HIGH` is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// 1.5 · 2²³: adding and subtracting it rounds to the nearest integer.
    const MAGIC: f32 = 12_582_912.0;
    // SAFETY: as `polynomial`.
    unsafe {
        let x = S::min(S::max(x, S::splat(-87.0)), S::splat(88.0));
        let n = S::fma(x, S::splat(std::f32::consts::LOG2_E), S::splat(MAGIC));
        let n = S::sub(n, S::splat(MAGIC));
        let r = S::fma(n, S::splat(-LN2_HIGH), x);
        let r = S::fma(n, S::splat(-LN2_LOW), r);
        S::scale_by_power(polynomial::<S>(&POLYNOMIAL, r), n)
    }
}

/// `1 / (1 + e⁻ˣ)`.
///
/// # Safety
///
/// The CPU has `S`.
#[inline(always)]
pub(super) unsafe fn sigmoid<S: Simd>(x: S::F) -> S::F {
    // SAFETY: as `polynomial`.
    unsafe {
        let one = S::splat(1.0);
        S::div(one, S::add(one, exp::<S>(S::sub(S::splat(0.0), x))))
    }
}

/// `erf(x / √2)`, absolute error 3.1e-7.
///
/// # Safety
///
/// The CPU has `S`.
#[inline(always)]
pub(super) unsafe fn erf_over_root_2<S: Simd>(x: S::F) -> S::F {
    /// Beyond it the result is ±1 within 2e-7.
    const END: f32 = 5.2;
    /// `erf(x / √2) / x` as a polynomial in `2x² / END² − 1`, which keeps the monomials in −1..=1;
    /// least squares at 4,000 Chebyshev points.
    const POLYNOMIAL: [f32; 14] = [
        0.271_9,
        -0.135_487_27,
        0.100_049_24,
        -0.079_861_62,
        0.063_977_62,
        -0.049_430_747,
        0.035_918_89,
        -0.025_068_175,
        0.017_103_655,
        -0.009_480_969,
        0.003_612_551_6,
        -0.002_519_799_6,
        0.002_533_864,
        -0.000_939_596_4,
    ];
    // SAFETY: as `polynomial`.
    unsafe {
        let x = S::min(S::max(x, S::splat(-END)), S::splat(END));
        let u = S::fma(S::mul(x, x), S::splat(2.0 / (END * END)), S::splat(-1.0));
        S::mul(x, polynomial::<S>(&POLYNOMIAL, u))
    }
}

/// `erf(x / √2)`, absolute error 2.7e-5: for results of 16 bits.
///
/// # Safety
///
/// The CPU has `S`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn erf_over_root_2_roughly<S: Simd>(x: S::F) -> S::F {
    /// Beyond it the result is ±1 within 2.7e-5.
    const END: f32 = 4.2;
    /// As in [`erf_over_root_2`], eight degrees.
    const POLYNOMIAL: [f32; 9] = [
        0.335_711_62,
        -0.162_969_26,
        0.111_655_45,
        -0.077_859_43,
        0.049_851_27,
        -0.027_475_07,
        0.016_504_48,
        -0.011_552_32,
        0.004_224_96,
    ];
    // SAFETY: as `polynomial`.
    unsafe {
        let x = S::min(S::max(x, S::splat(-END)), S::splat(END));
        let u = S::fma(S::mul(x, x), S::splat(2.0 / (END * END)), S::splat(-1.0));
        S::mul(x, polynomial::<S>(&POLYNOMIAL, u))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::isa::Isa;
    use crate::kernels::simd::{Kernel, run};

    struct Map<'a>(&'a mut [f32], u8);

    impl Kernel for Map<'_> {
        type Output = ();
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            for chunk in self.0.chunks_exact_mut(S::LANES) {
                // SAFETY: the chunk has LANES elements.
                unsafe {
                    let x = S::load(chunk.as_ptr());
                    let y = match self.1 {
                        0 => exp::<S>(x),
                        1 => erf_over_root_2::<S>(x),
                        _ => sigmoid::<S>(x),
                    };
                    S::store(chunk.as_mut_ptr(), y);
                }
            }
        }
    }

    fn inputs() -> Vec<f32> {
        (0..160_000)
            .map(|i| (i as f32 - 80_000.0) / 1000.0)
            .collect()
    }

    /// erf by its Taylor series for small and the continued fraction for large arguments, in f64.
    fn erf(x: f64) -> f64 {
        if x.abs() > 3.0 {
            let x2 = x * x;
            let mut f = 0.0;
            for k in (1..200).rev() {
                f = f64::from(k) / 2.0 / (x.abs() + f);
            }
            let tail = (-x2).exp() / (std::f64::consts::PI.sqrt() * (x.abs() + f));
            return (1.0 - tail).copysign(x);
        }
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn functions_agree_with_f64_on_every_isa() {
        for isa in Isa::available() {
            for which in 0..3_u8 {
                let mut values = inputs();
                // SAFETY: the kernel reads and writes its own slice.
                unsafe { run(isa, Map(&mut values, which)) };
                for (x, y) in inputs().into_iter().zip(values) {
                    let (x, y) = (f64::from(x), f64::from(y));
                    let (expected, bound) = match which {
                        0 => (x.exp(), x.exp() * 3e-7),
                        1 => (erf(x / std::f64::consts::SQRT_2), 4e-7),
                        _ => (1.0 / (1.0 + (-x).exp()), 3e-7),
                    };
                    assert!(
                        (y - expected).abs() <= bound,
                        "{isa} {which} at {x}: {y} {expected}"
                    );
                }
            }
        }
    }
}
