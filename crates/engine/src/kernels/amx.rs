//! AMX tiles: the operating system's permission, the tile registers, and one block of products.
//!
//! A core has eight tiles of at most 16 rows of 64 bytes. `tdpbusd C, A, B` adds to each 32-bit
//! `C[m][n]` the products of the four unsigned bytes of the words `A[m][k]` with the four signed
//! bytes of `B[k][n]`, for the 16 words `k` of a row; `tdpbf16ps` does so with two bf16 a word, in
//! `f32`, denormals taken as zero. `B` is thus laid out as the panels of the linear layer are.
//!
//! Linux gives a process the tiles' 8 KiB of state only after it has asked, and a thread has to say
//! how many rows and bytes of each tile it uses before it touches one.

use std::arch::asm;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::rows::PANEL;

/// Rows of a tile, and 4-byte words of one of its rows.
pub(crate) const TILE: usize = 16;

/// Bytes of a tile's row.
const ROW_BYTES: usize = 4 * TILE;

/// True if this CPU has int8 and bf16 tiles, this process may use them, and they calculate right.
/// Found out once.
pub(crate) fn usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    // SAFETY: `agrees` comes after the CPU and the system have said that there are tiles.
    *USABLE.get_or_init(|| in_cpu() && permitted() && unsafe { agrees() })
}

/// What `cpuid` says about the CPU, and `XCR0` about the system: that it keeps the tiles' state.
fn in_cpu() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    /// CPUID.7.0:EDX: amx-bf16, amx-tile, amx-int8.
    const TILES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    /// XCR0: the tiles' configuration and their data.
    const STATE: u32 = 1 << 17 | 1 << 18;
    // AVX implies OSXSAVE, without which `xgetbv` does not exist.
    if !std::arch::is_x86_feature_detected!("avx") || __cpuid(0).eax < 7 {
        return false;
    }
    let (kept, high): (u32, u32);
    // SAFETY: reads a register that exists, as just checked.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") kept, out("edx") high, options(nomem, nostack));
    }
    let _ = high;
    __cpuid_count(7, 0).edx & TILES == TILES && kept & STATE == STATE
}

/// Asks Linux (5.16 or later) for the tiles' state, for all threads of this process.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XTILEDATA: u64 = 18;
    let result: i64;
    // SAFETY: this call takes two numbers and touches no memory of ours; `syscall` itself destroys
    // rcx, r11 and the flags.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// The operand of `ldtilecfg`.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Tiles 0 to 3 are sums, 4 and 5 activations, 6 and 7 weights.
const WEIGHTS: [usize; 2] = [6, 7];

/// The tiles of this thread while they are configured; let go when dropped.
///
/// The compiler uses no tile by itself, so they keep their content from one `asm!` to the next; each
/// block below names all the same those that it changes.
#[derive(Debug)]
pub(crate) struct Tiles {
    /// Not to be sent to another thread.
    thread: PhantomData<*const ()>,
}

impl Tiles {
    /// Configures sums and activations of `rows` rows, and weights of 16.
    ///
    /// # Safety
    ///
    /// [`usable`], or a test that emulates; no other `Tiles` lives on this thread.
    ///
    /// # Panics
    ///
    /// If `rows` is not in 1..=16.
    pub(crate) unsafe fn configure(rows: usize) -> Self {
        assert!((1..=TILE).contains(&rows), "a tile has 1 to 16 rows");
        let mut configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        for tile in 0..8 {
            configuration.row_bytes[tile] = ROW_BYTES as u16;
            let weights = WEIGHTS.contains(&tile);
            configuration.rows[tile] = if weights { TILE as u8 } else { rows as u8 };
        }
        // SAFETY: palette 1 has eight tiles of 16 rows of 64 bytes; reads the 64 bytes given, which
        // are written by then, since the block may read any memory.
        unsafe {
            asm!(
                "ldtilecfg [{configuration}]",
                configuration = in(reg) &raw const configuration,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(readonly, nostack, preserves_flags),
            );
        }
        Self {
            thread: PhantomData,
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the tiles exist, since `configure` ran on this thread. Released, they cost
        // nothing at a context switch.
        unsafe {
            asm!(
                "tilerelease",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nomem, nostack, preserves_flags),
            );
        }
    }
}

/// One tile of rows: its activations, and where its sums go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowTile {
    pub(crate) a: *const u8,
    pub(crate) sums: *mut u8,
}

/// Tiles of rows times one panel of 32 columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// Bytes from one row of activations to the next.
    pub(crate) a_stride: usize,
    /// The panel: rows of 32 words, 16 rows a step.
    pub(crate) b: *const u8,
    /// Steps of 64 bytes of a row of activations.
    pub(crate) steps: usize,
    /// 32 words that every row's sums start from.
    pub(crate) start: *const u8,
    /// Bytes from one row of sums to the next.
    pub(crate) sums_stride: usize,
}

/// A function for each product: `$pair` for two tiles of rows, four sums for four loads, and `$one`.
macro_rules! products {
    ($pair:ident, $one:ident, $product:literal) => {
        impl Tiles {
            #[doc = concat!("Two tiles of rows by `", $product, "`.")]
            ///
            /// # Safety
            ///
            /// The pointers of `block` and `rows` are valid for the configured number of rows, for
            /// `steps` · 64 bytes of a row of activations, `steps` · 16 rows of the panel, and 32
            /// words of each row of sums.
            #[inline(always)]
            pub(crate) unsafe fn $pair(&self, block: &Block, rows: [RowTile; 2]) {
                // SAFETY: the caller's; a step is taken only if there is one left.
                unsafe {
                    asm!(
                        // A stride of zero gives all rows the same start.
                        "tileloadd tmm0, [{start} + {zero}*1]",
                        "tileloadd tmm1, [{start} + {zero}*1 + 64]",
                        "tileloadd tmm2, [{start} + {zero}*1]",
                        "tileloadd tmm3, [{start} + {zero}*1 + 64]",
                        "test {steps}, {steps}",
                        "jz 3f",
                        "2:",
                        "tileloadd tmm6, [{b} + {b_stride}*1]",
                        "tileloadd tmm4, [{low} + {a_stride}*1]",
                        concat!($product, " tmm0, tmm4, tmm6"),
                        "tileloadd tmm7, [{b} + {b_stride}*1 + 64]",
                        concat!($product, " tmm1, tmm4, tmm7"),
                        "tileloadd tmm5, [{high} + {a_stride}*1]",
                        concat!($product, " tmm2, tmm5, tmm6"),
                        concat!($product, " tmm3, tmm5, tmm7"),
                        "add {low}, 64",
                        "add {high}, 64",
                        "add {b}, {step}",
                        "dec {steps}",
                        "jnz 2b",
                        "3:",
                        "tilestored [{low_sums} + {sums_stride}*1], tmm0",
                        "tilestored [{low_sums} + {sums_stride}*1 + 64], tmm1",
                        "tilestored [{high_sums} + {sums_stride}*1], tmm2",
                        "tilestored [{high_sums} + {sums_stride}*1 + 64], tmm3",
                        start = in(reg) block.start,
                        zero = in(reg) 0_usize,
                        steps = inout(reg) block.steps => _,
                        low = inout(reg) rows[0].a => _,
                        high = inout(reg) rows[1].a => _,
                        a_stride = in(reg) block.a_stride,
                        b = inout(reg) block.b => _,
                        b_stride = in(reg) PANEL * 4,
                        step = const PANEL * 4 * TILE,
                        low_sums = in(reg) rows[0].sums,
                        high_sums = in(reg) rows[1].sums,
                        sums_stride = in(reg) block.sums_stride,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            }

            #[doc = concat!("One tile of rows by `", $product, "`.")]
            ///
            /// # Safety
            ///
            #[doc = concat!("As [`Tiles::", stringify!($pair), "`].")]
            #[inline(always)]
            pub(crate) unsafe fn $one(&self, block: &Block, rows: RowTile) {
                // SAFETY: the caller's; a step is taken only if there is one left.
                unsafe {
                    asm!(
                        "tileloadd tmm0, [{start} + {zero}*1]",
                        "tileloadd tmm1, [{start} + {zero}*1 + 64]",
                        "test {steps}, {steps}",
                        "jz 3f",
                        "2:",
                        "tileloadd tmm6, [{b} + {b_stride}*1]",
                        "tileloadd tmm4, [{a} + {a_stride}*1]",
                        concat!($product, " tmm0, tmm4, tmm6"),
                        "tileloadd tmm7, [{b} + {b_stride}*1 + 64]",
                        concat!($product, " tmm1, tmm4, tmm7"),
                        "add {a}, 64",
                        "add {b}, {step}",
                        "dec {steps}",
                        "jnz 2b",
                        "3:",
                        "tilestored [{sums} + {sums_stride}*1], tmm0",
                        "tilestored [{sums} + {sums_stride}*1 + 64], tmm1",
                        start = in(reg) block.start,
                        zero = in(reg) 0_usize,
                        steps = inout(reg) block.steps => _,
                        a = inout(reg) rows.a => _,
                        a_stride = in(reg) block.a_stride,
                        b = inout(reg) block.b => _,
                        b_stride = in(reg) PANEL * 4,
                        step = const PANEL * 4 * TILE,
                        sums = in(reg) rows.sums,
                        sums_stride = in(reg) block.sums_stride,
                        out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _,
                        out("tmm7") _,
                        options(nostack),
                    );
                }
            }
        }
    };
}

products!(pair_of_u8, one_of_u8, "tdpbusd");
products!(pair_of_bf16, one_of_bf16, "tdpbf16ps");

/// Compares small products with the plain definition, in both formats: a machine (or an emulator
/// beneath it) that says it has tiles and calculates something else is not believed.
///
/// # Safety
///
/// As [`Tiles::configure`].
unsafe fn agrees() -> bool {
    /// Small integers, exact in bf16 too; 7 and 5 keep rows and columns from looking alike.
    fn value(row: usize, column: usize) -> i32 {
        ((row * 7 + column * 5) % 11) as i32 - 3
    }
    /// Beyond the signed bytes.
    const UNSIGNED: i32 = 200;
    let bf16 = |value: i32| ((value as f32).to_bits() >> 16) as u16;
    let mut bytes = ([[0_u8; 64]; TILE], [[0_i8; PANEL * 4]; TILE]);
    let mut halves = ([[0_u16; 32]; TILE], [[0_u16; PANEL * 2]; TILE]);
    for row in 0..TILE {
        bytes.0[row] = std::array::from_fn(|k| (value(row, k) + UNSIGNED) as u8);
        halves.0[row] = std::array::from_fn(|k| bf16(value(row, k)));
        bytes.1[row] = std::array::from_fn(|i| value(row * 4 + i % 4, i / 4) as i8);
        halves.1[row] = std::array::from_fn(|i| bf16(value(row * 2 + i % 2, i / 2)));
    }
    let start = [0_u32; PANEL];
    let mut sums = [[[0_u32; PANEL]; TILE]; 2];
    let block = |b| Block {
        a_stride: 64,
        b,
        steps: 1,
        start: start.as_ptr().cast(),
        sums_stride: PANEL * 4,
    };
    let [of_u8, of_bf16] = &mut sums;
    let low = RowTile {
        a: bytes.0.as_ptr().cast(),
        sums: of_u8.as_mut_ptr().cast(),
    };
    let high = RowTile {
        a: halves.0.as_ptr().cast(),
        sums: of_bf16.as_mut_ptr().cast(),
    };
    // SAFETY: the caller's; each array is one whole tile, or two side by side.
    unsafe {
        let tiles = Tiles::configure(TILE);
        tiles.one_of_u8(&block(bytes.1.as_ptr().cast()), low);
        tiles.one_of_bf16(&block(halves.1.as_ptr().cast()), high);
    }
    let product = |row, column, k| value(row, k) * value(k, column);
    (0..TILE * PANEL).all(|i| {
        let (row, column) = (i / PANEL, i % PANEL);
        let of_u8: i32 = (0..64)
            .map(|k| product(row, column, k) + UNSIGNED * value(k, column))
            .sum();
        let of_bf16: i32 = (0..32).map(|k| product(row, column, k)).sum();
        sums[0][row][column] as i32 == of_u8
            && f32::from_bits(sums[1][row][column]) == of_bf16 as f32
    })
}

#[cfg(test)]
#[cfg(target_os = "linux")]
pub(crate) mod emulator;
