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

/// One tile of rows: its activations, what its sums start from, and where they go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowTile {
    pub(crate) a: *const u8,
    /// 32 words a row.
    pub(crate) start: *const u8,
    /// Rows of 32 words, one after the other.
    pub(crate) sums: *mut u8,
}

/// Tiles of rows times one panel of 32 columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// Bytes from one row of activations to the next.
    pub(crate) a_stride: usize,
    /// Bytes from one step of activations to the next.
    pub(crate) a_step: usize,
    /// The panel: rows of 32 words, 16 rows a step.
    pub(crate) b: *const u8,
    /// Steps of 64 bytes of a row of activations.
    pub(crate) steps: usize,
    /// Bytes from one row's start to the next: zero gives all rows the same.
    pub(crate) start_stride: usize,
}

/// Bytes of a row of a panel and of sums.
pub(crate) const PANEL_ROW: usize = PANEL * 4;

impl Tiles {
    /// Loads what the sums of two tiles of rows start from.
    ///
    /// # Safety
    ///
    /// 32 words of each start are valid, `start_stride` bytes apart.
    #[inline(always)]
    pub(crate) unsafe fn start_pair(&self, start_stride: usize, rows: [RowTile; 2]) {
        // SAFETY: the caller's.
        unsafe {
            asm!(
                "tileloadd tmm0, [{low} + {stride}*1]",
                "tileloadd tmm1, [{low} + {stride}*1 + 64]",
                "tileloadd tmm2, [{high} + {stride}*1]",
                "tileloadd tmm3, [{high} + {stride}*1 + 64]",
                low = in(reg) rows[0].start,
                high = in(reg) rows[1].start,
                stride = in(reg) start_stride,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                options(nostack, readonly, preserves_flags),
            );
        }
    }

    /// As [`Tiles::start_pair`], of one tile of rows.
    ///
    /// # Safety
    ///
    /// As there.
    #[inline(always)]
    pub(crate) unsafe fn start_one(&self, start_stride: usize, rows: RowTile) {
        // SAFETY: the caller's.
        unsafe {
            asm!(
                "tileloadd tmm0, [{low} + {stride}*1]",
                "tileloadd tmm1, [{low} + {stride}*1 + 64]",
                low = in(reg) rows.start,
                stride = in(reg) start_stride,
                out("tmm0") _, out("tmm1") _,
                options(nostack, readonly, preserves_flags),
            );
        }
    }

    /// Stores the sums of two tiles of rows.
    ///
    /// # Safety
    ///
    /// The sums of both are valid for their configured rows of 32 words.
    #[inline(always)]
    pub(crate) unsafe fn store_pair(&self, rows: [RowTile; 2]) {
        // SAFETY: the caller's.
        unsafe {
            asm!(
                "tilestored [{low} + {panel_row}*1], tmm0",
                "tilestored [{low} + {panel_row}*1 + 64], tmm1",
                "tilestored [{high} + {panel_row}*1], tmm2",
                "tilestored [{high} + {panel_row}*1 + 64], tmm3",
                low = in(reg) rows[0].sums,
                high = in(reg) rows[1].sums,
                panel_row = in(reg) PANEL_ROW,
                options(nostack, preserves_flags),
            );
        }
    }

    /// As [`Tiles::store_pair`], of one tile of rows.
    ///
    /// # Safety
    ///
    /// As there.
    #[inline(always)]
    pub(crate) unsafe fn store_one(&self, rows: RowTile) {
        // SAFETY: the caller's.
        unsafe {
            asm!(
                "tilestored [{low} + {panel_row}*1], tmm0",
                "tilestored [{low} + {panel_row}*1 + 64], tmm1",
                low = in(reg) rows.sums,
                panel_row = in(reg) PANEL_ROW,
                options(nostack, preserves_flags),
            );
        }
    }
}

// Activations are loaded with the hint that they are not needed again soon: a panel of weights, which
// is, would otherwise be pushed out of the first-level cache by them. With operands from the second-level cache that is a
// quarter more products a second (Granite Rapids, measured).

/// For each product: `$pair_steps` adds the products of two tiles of rows to their sums, four sums
/// for four loads, `$one_steps` those of one; `$pair` and `$one` start and store the sums as well.
macro_rules! products {
    ($pair:ident, $pair_steps:ident, $one:ident, $one_steps:ident, $product:literal) => {
        impl Tiles {
            #[doc = concat!("Two tiles of rows by `", $product, "`, added to the sums in the tiles.")]
            ///
            /// # Safety
            ///
            /// The pointers of `block` and `rows` are valid for the configured number of rows, for
            /// `steps` · 64 bytes of a row of activations, and `steps` · 16 rows of the panel.
            #[inline(always)]
            pub(crate) unsafe fn $pair_steps(&self, block: &Block, rows: [RowTile; 2]) {
                // SAFETY: the caller's; a step is taken only if there is one left.
                unsafe {
                    asm!(
                        "test {steps}, {steps}",
                        "jz 3f",
                        "2:",
                        "tileloadd tmm6, [{b} + {panel_row}*1]",
                        "tileloaddt1 tmm4, [{low} + {a_stride}*1]",
                        concat!($product, " tmm0, tmm4, tmm6"),
                        "tileloadd tmm7, [{b} + {panel_row}*1 + 64]",
                        concat!($product, " tmm1, tmm4, tmm7"),
                        "tileloaddt1 tmm5, [{high} + {a_stride}*1]",
                        concat!($product, " tmm2, tmm5, tmm6"),
                        concat!($product, " tmm3, tmm5, tmm7"),
                        "add {low}, {a_step}",
                        "add {high}, {a_step}",
                        "add {b}, {step}",
                        "dec {steps}",
                        "jnz 2b",
                        "3:",
                        steps = inout(reg) block.steps => _,
                        low = inout(reg) rows[0].a => _,
                        high = inout(reg) rows[1].a => _,
                        a_stride = in(reg) block.a_stride,
                        a_step = in(reg) block.a_step,
                        b = inout(reg) block.b => _,
                        panel_row = in(reg) PANEL_ROW,
                        step = const PANEL_ROW * TILE,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack, readonly),
                    );
                }
            }

            #[doc = concat!("One tile of rows by `", $product, "`, added to the sums in the tiles.")]
            ///
            /// # Safety
            ///
            #[doc = concat!("As [`Tiles::", stringify!($pair_steps), "`].")]
            #[inline(always)]
            pub(crate) unsafe fn $one_steps(&self, block: &Block, rows: RowTile) {
                // SAFETY: the caller's; a step is taken only if there is one left.
                unsafe {
                    asm!(
                        "test {steps}, {steps}",
                        "jz 3f",
                        "2:",
                        "tileloadd tmm6, [{b} + {panel_row}*1]",
                        "tileloaddt1 tmm4, [{a} + {a_stride}*1]",
                        concat!($product, " tmm0, tmm4, tmm6"),
                        "tileloadd tmm7, [{b} + {panel_row}*1 + 64]",
                        concat!($product, " tmm1, tmm4, tmm7"),
                        "add {a}, {a_step}",
                        "add {b}, {step}",
                        "dec {steps}",
                        "jnz 2b",
                        "3:",
                        steps = inout(reg) block.steps => _,
                        a = inout(reg) rows.a => _,
                        a_stride = in(reg) block.a_stride,
                        a_step = in(reg) block.a_step,
                        b = inout(reg) block.b => _,
                        panel_row = in(reg) PANEL_ROW,
                        step = const PANEL_ROW * TILE,
                        out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _,
                        out("tmm7") _,
                        options(nostack, readonly),
                    );
                }
            }

            #[doc = concat!("Two tiles of rows by `", $product, "`.")]
            ///
            /// # Safety
            ///
            #[doc = concat!("As [`Tiles::", stringify!($pair_steps), "`], [`Tiles::start_pair`]")]
            /// and [`Tiles::store_pair`].
            #[inline(always)]
            pub(crate) unsafe fn $pair(&self, block: &Block, rows: [RowTile; 2]) {
                // SAFETY: the caller's.
                unsafe {
                    self.start_pair(block.start_stride, rows);
                    self.$pair_steps(block, rows);
                    self.store_pair(rows);
                }
            }

            #[doc = concat!("One tile of rows by `", $product, "`.")]
            ///
            /// # Safety
            ///
            #[doc = concat!("As [`Tiles::", stringify!($pair), "`].")]
            #[inline(always)]
            pub(crate) unsafe fn $one(&self, block: &Block, rows: RowTile) {
                // SAFETY: the caller's.
                unsafe {
                    self.start_one(block.start_stride, rows);
                    self.$one_steps(block, rows);
                    self.store_one(rows);
                }
            }
        }
    };
}

products!(
    pair_of_u8,
    pair_steps_of_u8,
    one_of_u8,
    one_steps_of_u8,
    "tdpbusd"
);
products!(
    pair_of_bf16,
    pair_steps_of_bf16,
    one_of_bf16,
    one_steps_of_bf16,
    "tdpbf16ps"
);

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
        a_step: 64,
        b,
        steps: 1,
        start_stride: 0,
    };
    let [of_u8, of_bf16] = &mut sums;
    let low = RowTile {
        a: bytes.0.as_ptr().cast(),
        start: start.as_ptr().cast(),
        sums: of_u8.as_mut_ptr().cast(),
    };
    let high = RowTile {
        a: halves.0.as_ptr().cast(),
        start: start.as_ptr().cast(),
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
