//! The arithmetic, and the only home of unsafe code besides the memory map of the weights.
//!
//! Read in order: which instruction set ([`isa`]), its operations ([`simd`], tiles apart), memory and threads
//! ([`buffer`], [`team`]), then the kernels in the order a layer uses them. Every kernel is written
//! once over [`simd::Simd`] and agrees with a plain definition in its tests, on every instruction
//! set that the machine has.

#![expect(
    unsafe_code,
    reason = "vector kernels; every block says why it is sound"
)]

pub(crate) mod isa;
mod simd;
#[cfg(target_arch = "x86_64")]
mod amx;
pub(crate) mod buffer;
pub(crate) mod team;
pub(crate) mod rows;
pub(crate) mod linear;
pub(crate) mod math;
pub(crate) mod norm;
pub(crate) mod activation;
pub(crate) mod rope;
pub(crate) mod attention;
#[cfg(target_arch = "x86_64")]
pub(crate) mod tiled;
pub(crate) mod cached_attention;
pub(crate) mod kept;
