//! The register tile: a few rows of activations times one panel of 32 packed columns.
//!
//! Everything is counted in 4-byte words: a word holds one `f32`, two `i16` or four `i8` that are
//! neighbours along the inputs. So one loop serves all three products.

use std::hint::black_box;

use crate::kernels::rows::PANEL;
use crate::kernels::simd::Simd;

/// Words of an AMX tile's row: what panels that tiles may read are padded to.
pub(crate) const TILE_WORDS: usize = 16;

/// How a word of activations meets a word of weights.
pub(crate) trait Product: Copy + 'static {
    /// A panel holds a multiple of this many words of each output; the last ones may be padding.
    const UNIT: usize;

    /// What a lane sums up in.
    type Sum<S: Simd>: Copy;

    /// The words at `from`, as the start of the sums; `None` for zero.
    ///
    /// # Safety
    ///
    /// `from` is valid for `LANES` words.
    unsafe fn start<S: Simd>(from: Option<*const i32>) -> Self::Sum<S>;

    /// `sum` plus the products of the word at `a`, in every lane, and the words at `b`.
    ///
    /// # Safety
    ///
    /// `a` is valid for one word.
    unsafe fn add<S: Simd>(sum: Self::Sum<S>, a: *const u32, b: Self::Weights<S>) -> Self::Sum<S>;

    /// Words of weights in registers.
    type Weights<S: Simd>: Copy;

    /// Loads weights.
    ///
    /// # Safety
    ///
    /// `b` is valid for `LANES` words.
    unsafe fn load<S: Simd>(b: *const u32) -> Self::Weights<S>;

    /// Reads sums that [`Product::keep`] wrote.
    ///
    /// # Safety
    ///
    /// `from` is valid for `LANES` numbers.
    unsafe fn resume<S: Simd>(from: *const f32) -> Self::Sum<S>;

    /// Writes sums as they are, to go on with later.
    ///
    /// # Safety
    ///
    /// `to` is valid for `LANES` numbers.
    unsafe fn keep<S: Simd>(sum: Self::Sum<S>, to: *mut f32);

    /// The sums as `f32`.
    ///
    /// # Safety
    ///
    /// The CPU has `S`.
    unsafe fn finish<S: Simd>(sum: Self::Sum<S>) -> S::F;
}

/// `f32` × `f32`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByF32;

impl Product for ByF32 {
    const UNIT: usize = 1;
    type Sum<S: Simd> = S::F;
    type Weights<S: Simd> = S::F;

    #[inline(always)]
    unsafe fn start<S: Simd>(_: Option<*const i32>) -> S::F {
        // SAFETY: the CPU has `S`.
        unsafe { S::splat(0.0) }
    }
    #[inline(always)]
    unsafe fn add<S: Simd>(sum: S::F, a: *const u32, b: S::F) -> S::F {
        // SAFETY: the caller's pointer.
        unsafe { S::fma(S::splat(a.cast::<f32>().read()), b, sum) }
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(b: *const u32) -> S::F {
        // SAFETY: the caller's pointer.
        unsafe { S::load(b.cast()) }
    }
    #[inline(always)]
    unsafe fn resume<S: Simd>(from: *const f32) -> S::F {
        // SAFETY: the caller's pointer.
        unsafe { S::load(from) }
    }
    #[inline(always)]
    unsafe fn keep<S: Simd>(sum: S::F, to: *mut f32) {
        // SAFETY: the caller's pointer.
        unsafe { S::store(to, sum) }
    }
    #[inline(always)]
    unsafe fn finish<S: Simd>(sum: S::F) -> S::F {
        sum
    }
}

/// Implements [`Product`] for a product of integers.
macro_rules! integer_product {
    ($(#[$doc:meta])* $name:ident, $dot:ident, $unit:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $name;

        impl Product for $name {
            const UNIT: usize = $unit;
            type Sum<S: Simd> = S::I;
            type Weights<S: Simd> = S::I;

            #[inline(always)]
            unsafe fn start<S: Simd>(from: Option<*const i32>) -> S::I {
                // SAFETY: the caller's pointer.
                unsafe {
                    match from {
                        Some(from) => S::load_i(from),
                        None => S::zero_i(),
                    }
                }
            }
            #[inline(always)]
            unsafe fn add<S: Simd>(sum: S::I, a: *const u32, b: S::I) -> S::I {
                // SAFETY: the caller's pointer.
                unsafe { S::$dot(sum, S::splat_i(a.cast::<i32>().read()), b) }
            }
            #[inline(always)]
            unsafe fn load<S: Simd>(b: *const u32) -> S::I {
                // SAFETY: the caller's pointer.
                unsafe { S::load_i(b.cast()) }
            }
            #[inline(always)]
            unsafe fn resume<S: Simd>(from: *const f32) -> S::I {
                // SAFETY: the caller's pointer.
                unsafe { S::load_i(from.cast()) }
            }
            #[inline(always)]
            unsafe fn keep<S: Simd>(sum: S::I, to: *mut f32) {
                // SAFETY: the caller's pointer.
                unsafe { S::store_i(to.cast(), sum) }
            }
            #[inline(always)]
            unsafe fn finish<S: Simd>(sum: S::I) -> S::F {
                // SAFETY: the CPU has `S`.
                unsafe { S::to_f32(sum) }
            }
        }
    };
}

integer_product!(
    /// Pairs of `i16`, summed in `i32`.
    ByI16,
    dot_i16,
    1
);
integer_product!(
    /// Quadruples of `i8`, summed in `i32`.
    ByI8,
    dot_i8,
    TILE_WORDS
);

/// Where the factors of a tile lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factors {
    /// First word of the first row of activations.
    pub(crate) a: *const u32,
    /// Words from one row of activations to the next.
    pub(crate) a_stride: usize,
    /// First word of the panel.
    pub(crate) b: *const u32,
    /// Words from one input of the panel to the next.
    pub(crate) b_stride: usize,
    /// Words of input.
    pub(crate) words: usize,
    /// What the sums of the panel's columns start from; `None` for zero.
    pub(crate) start: Option<*const i32>,
}

/// The sums of `ROWS` rows and two vectors of columns.
pub(crate) type Sums<S, P, const ROWS: usize> = [[<P as Product>::Sum<S>; 2]; ROWS];

/// What the sums of the columns from `column` on start from.
///
/// # Safety
///
/// The CPU has `S`; `factors.start` is valid for `column + 2·LANES` columns.
#[inline(always)]
pub(crate) unsafe fn start<S: Simd, P: Product, const ROWS: usize>(
    factors: &Factors,
    column: usize,
) -> Sums<S, P, ROWS> {
    // SAFETY: the caller's.
    unsafe {
        let start = factors.start.map(|start| start.add(column));
        let low = P::start::<S>(start);
        let high = P::start::<S>(start.map(|start| start.add(S::LANES)));
        [[low, high]; ROWS]
    }
}

/// Adds to `sums` the products of `ROWS` rows with two vectors of columns that begin at `column` of
/// the panel.
///
/// # Safety
///
/// The CPU has `S`; `factors` is valid for `ROWS` rows and for `column + 2·LANES` columns.
#[inline(always)]
pub(crate) unsafe fn multiply<S: Simd, P: Product, const ROWS: usize>(
    mut sums: Sums<S, P, ROWS>,
    factors: &Factors,
    column: usize,
) -> Sums<S, P, ROWS> {
    debug_assert!(column + 2 * S::LANES <= PANEL);
    // SAFETY: the caller's.
    unsafe {
        let mut b = factors.b.add(column);
        let mut rows = RowPointers::new::<S>(factors);
        for _ in 0..factors.words {
            let low = P::load::<S>(b);
            let high = P::load::<S>(b.add(S::LANES));
            for (row, sum) in sums.iter_mut().enumerate() {
                let a = rows.at::<S>(row);
                sum[0] = P::add::<S>(sum[0], a, low);
                sum[1] = P::add::<S>(sum[1], a, high);
            }
            b = b.add(factors.b_stride);
            rows.advance();
        }
        sums
    }
}

/// The next word of each of a tile's rows.
///
/// Where six rows fill the registers, the loop is bound by the instructions that the front end takes
/// in. A compiler that knows how the rows lie would compute the address of each from that of the one
/// before, in every step; of two pointers that it cannot relate, an address may hold one and up to
/// twice a stride for nothing. On Zen 3 that is a quarter more products of 16 bits.
#[derive(Clone, Copy)]
struct RowPointers {
    /// Of row 0 and of row 3.
    first: [*const u32; 2],
    stride: usize,
}

impl RowPointers {
    #[inline(always)]
    fn new<S: Simd>(factors: &Factors) -> Self {
        let (first, stride) = (factors.a, factors.a_stride);
        let fourth = first.wrapping_add(3 * stride);
        match Self::are_apart::<S>() {
            true => Self {
                first: [black_box(first), black_box(fourth)],
                stride: black_box(stride),
            },
            false => Self {
                first: [first, fourth],
                stride,
            },
        }
    }

    const fn are_apart<S: Simd>() -> bool {
        S::ROWS < 8
    }

    /// # Safety
    ///
    /// The tile has the row.
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, row: usize) -> *const u32 {
        let (group, row) = match Self::are_apart::<S>() && row >= 3 {
            true => (1, row - 3),
            false => (0, row),
        };
        // SAFETY: the caller's.
        unsafe { self.first[group].add(row * self.stride) }
    }

    #[inline(always)]
    fn advance(&mut self) {
        self.first = self.first.map(|first| first.wrapping_add(1));
    }
}

/// Calls `$body` with `$rows` bound to a constant number of rows, for as many rows as fit into
/// registers at a time, until `$count` rows are done; `$first` is the first row of each call.
macro_rules! for_row_tiles {
    ($simd:ident, $count:expr, |$first:ident, $rows:ident| $body:expr) => {{
        let count = $count;
        let mut $first = 0;
        while $first < count {
            let left = count - $first;
            if $simd::ROWS >= 12 && left >= 12 {
                const $rows: usize = 12;
                $body;
                $first += $rows;
            } else if $simd::ROWS >= 8 && left >= 8 {
                const $rows: usize = 8;
                $body;
                $first += $rows;
            } else if $simd::ROWS < 8 && left >= 6 {
                const $rows: usize = 6;
                $body;
                $first += $rows;
            } else if left >= 4 {
                const $rows: usize = 4;
                $body;
                $first += $rows;
            } else if left >= 2 {
                const $rows: usize = 2;
                $body;
                $first += $rows;
            } else {
                const $rows: usize = 1;
                $body;
                $first += $rows;
            }
        }
    }};
}
pub(crate) use for_row_tiles;
