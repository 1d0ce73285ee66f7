//! Panels of 32 keys or values times the queries or weights of a tile.

use crate::kernels::kept::Element;
use crate::kernels::rows::PANEL;
use crate::kernels::simd::Simd;

/// Rows of keys or values that are asked for before they are needed.
const AHEAD: usize = 32;

/// `out[row, 0..32] (+)= Σ a[row, i] · b[i, 0..32]` for a few rows.
#[derive(Clone, Copy)]
pub(super) struct Product<T> {
    pub(super) a: *const f32,
    pub(super) a_stride: usize,
    pub(super) b: *const T,
    pub(super) b_stride: usize,
    pub(super) steps: usize,
    pub(super) out: *mut f32,
    pub(super) out_stride: usize,
    pub(super) add: bool,
}

impl<T: Element> Product<T> {
    /// # Safety
    ///
    /// The pointers are valid for `rows` rows, `steps` steps and one panel.
    #[inline(always)]
    pub(super) unsafe fn all<S: Simd>(self, rows: usize) {
        let mut first = 0;
        while first < rows {
            let left = rows - first;
            // SAFETY: the caller's.
            first += unsafe {
                let tile = self.at_row(first);
                match left {
                    6.. if S::ROWS >= 12 => tile.some::<S, 6>(),
                    4.. if S::ROWS >= 12 => tile.some::<S, 4>(),
                    3.. => tile.some::<S, 3>(),
                    2 => tile.some::<S, 2>(),
                    _ => tile.some::<S, 1>(),
                }
            };
        }
    }

    fn at_row(self, row: usize) -> Self {
        Self {
            a: self.a.wrapping_add(row * self.a_stride),
            out: self.out.wrapping_add(row * self.out_stride),
            ..self
        }
    }

    /// `ROWS` rows, in two sums each so that few rows do not wait for every addition; as many of many
    /// rows, since a row's result must not depend on the others.
    ///
    /// # Safety
    ///
    /// As [`Product::all`].
    #[inline(always)]
    unsafe fn some<S: Simd, const ROWS: usize>(self) -> usize {
        const CHAINS: usize = 2;
        // SAFETY: the caller's.
        unsafe {
            for column in (0..PANEL).step_by(2 * S::LANES) {
                let mut sums = [[[S::splat(0.0); 2]; ROWS]; CHAINS];
                let b = self.b.add(column);
                let mut step = 0;
                while step + CHAINS <= self.steps {
                    for (chain, sums) in sums.iter_mut().enumerate() {
                        self.step::<S, ROWS>(b, step + chain, sums);
                    }
                    step += CHAINS;
                }
                while step < self.steps {
                    self.step::<S, ROWS>(b, step, &mut sums[0]);
                    step += 1;
                }
                for row in 0..ROWS {
                    for half in 0..2 {
                        let to = self
                            .out
                            .add(row * self.out_stride + column + half * S::LANES);
                        let mut value = sums[0][row][half];
                        for other in &sums[1..] {
                            value = S::add(value, other[row][half]);
                        }
                        if self.add {
                            value = S::add(value, S::load(to));
                        }
                        S::store(to, value);
                    }
                }
            }
        }
        ROWS
    }

    /// # Safety
    ///
    /// As [`Product::all`].
    #[inline(always)]
    unsafe fn step<S: Simd, const ROWS: usize>(
        &self,
        b: *const T,
        step: usize,
        sums: &mut [[S::F; 2]; ROWS],
    ) {
        // SAFETY: the caller's.
        unsafe {
            let at = b.add(step * self.b_stride);
            S::prefetch(at.wrapping_add(AHEAD * self.b_stride).cast());
            let (low, high) = (T::load::<S>(at), T::load::<S>(at.add(S::LANES)));
            for (row, sum) in sums.iter_mut().enumerate() {
                let a = S::splat(self.a.add(row * self.a_stride + step).read());
                sum[0] = S::fma(a, low, sum[0]);
                sum[1] = S::fma(a, high, sum[1]);
            }
        }
    }
}
