//! AMX tiles: the sums of 32 queries with 32 rows in one go, for batches.
//!
//! A tile has 16 rows of 64 bytes. `tdpbsud C, A, B` adds to each 32-bit `C[m][n]` the products of the
//! four signed bytes of the word `A[m][k]` with the four unsigned bytes of `B[k][n]`, for 16 words
//! `k`: queries are `A`, and 16 steps of a block of rows lie in memory as `B` already.
//!
//! Linux gives a process the tiles' state only after it has asked, and a thread has to say how many
//! rows and bytes of each tile it uses. The engine asks for itself: the store does not know it, and
//! shares none of its layouts.

use std::arch::asm;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::{BLOCK, QueryCodes, STEP};

/// Queries of a tile.
const TILE: usize = 16;

/// Queries that share one reading of two blocks: two tiles.
pub(crate) const GROUP: usize = 2 * TILE;

/// Bytes of a tile's row: the dimensions that one instruction takes.
pub(super) const ROW_BYTES: usize = 64;

/// The sums of one block of rows with a group of queries.
pub(crate) type Sums = [[i32; BLOCK]; GROUP];

/// True if this CPU has int8 tiles, this process may use them, and they calculate right. Found out
/// once.
pub(crate) fn usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    // SAFETY: `agrees` comes after the CPU and the system have said that there are tiles.
    *USABLE.get_or_init(|| in_cpu() && permitted() && unsafe { agrees() })
}

/// What `cpuid` says about the CPU, and `XCR0` about the system: that it keeps the tiles' state.
fn in_cpu() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    /// CPUID.7.0:EDX: amx-tile, amx-int8.
    const TILES: u32 = 1 << 24 | 1 << 25;
    /// XCR0: the tiles' configuration and their data.
    const STATE: u32 = 1 << 17 | 1 << 18;
    let has_vnni = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
    // AVX implies OSXSAVE, without which `xgetbv` does not exist.
    if !has_vnni || __cpuid(0).eax < 7 {
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

/// Groups of queries as tiles, filled up with zeros.
#[derive(Debug)]
pub(crate) struct TiledQueries {
    /// Bytes of a query.
    width: usize,
    /// `[groups, GROUP, width]`
    codes: Vec<u8>,
}

impl TiledQueries {
    /// `None` if their width is not one of whole tiles.
    pub(crate) fn new(queries: &[QueryCodes]) -> Option<Self> {
        let width = queries.first()?.codes.len() * STEP;
        width.is_multiple_of(ROW_BYTES).then_some(())?;
        let mut codes = vec![0; queries.len().next_multiple_of(GROUP) * width];
        for (query, bytes) in queries.iter().zip(codes.chunks_exact_mut(width)) {
            for (word, four) in query.codes.iter().zip(bytes.chunks_exact_mut(STEP)) {
                four.copy_from_slice(&word.to_le_bytes());
            }
        }
        Some(Self { width, codes })
    }

    /// The bytes of one group.
    fn group(&self, group: usize) -> &[u8] {
        &self.codes[group * GROUP * self.width..(group + 1) * GROUP * self.width]
    }
}

/// What the bounds of a group's queries are made of, side by side.
#[derive(Debug)]
pub(crate) struct GroupTerms {
    corrections: [i32; GROUP],
    scales: [f32; GROUP],
    /// What a row's error counts.
    norms: [f32; GROUP],
    slacks: [f32; GROUP],
}

impl GroupTerms {
    /// Of at most [`GROUP`] queries; what is missing reaches nothing.
    pub(crate) fn new(queries: &[QueryCodes]) -> Self {
        let of = |term: fn(&QueryCodes) -> f32| {
            std::array::from_fn(|number| queries.get(number).map_or(0.0, term))
        };
        Self {
            corrections: std::array::from_fn(|number| {
                queries.get(number).map_or(0, |query| query.correction)
            }),
            scales: of(|query| query.scale),
            norms: of(|query| query.norm + query.error),
            slacks: of(QueryCodes::slack),
        }
    }

    /// The rows of a block whose upper bounds reach each query's threshold, one bit each.
    pub(super) fn reached(
        &self,
        sums: &Sums,
        scales: &[f32; BLOCK],
        errors: &[f32; BLOCK],
        thresholds: &[f32; GROUP],
    ) -> [u16; GROUP] {
        assert!(usable(), "tiles come with AVX-512");
        // SAFETY: as just checked.
        unsafe { self.reached_avx512(sums, scales, errors, thresholds) }
    }

    /// The upper bound of [`QueryCodes::bounds`], 16 rows an instruction.
    ///
    /// # Safety
    ///
    /// The CPU has AVX-512 F.
    #[target_feature(enable = "avx512f")]
    unsafe fn reached_avx512(
        &self,
        sums: &Sums,
        scales: &[f32; BLOCK],
        errors: &[f32; BLOCK],
        thresholds: &[f32; GROUP],
    ) -> [u16; GROUP] {
        use std::arch::x86_64::{
            __m512i, _CMP_GE_OQ, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_cvtepi32_ps,
            _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps,
            _mm512_sub_epi32,
        };
        // SAFETY: both have 16 numbers.
        let (scales, errors) = unsafe {
            (
                _mm512_loadu_ps(scales.as_ptr()),
                _mm512_loadu_ps(errors.as_ptr()),
            )
        };
        let mut reached = [0; GROUP];
        for number in 0..GROUP {
            // SAFETY: 16 sums a query.
            let sum = unsafe { _mm512_loadu_si512(sums[number].as_ptr().cast::<__m512i>()) };
            let sum = _mm512_sub_epi32(sum, _mm512_set1_epi32(self.corrections[number]));
            let scale = _mm512_mul_ps(scales, _mm512_set1_ps(self.scales[number]));
            let score = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale);
            let off = _mm512_mul_ps(errors, _mm512_set1_ps(self.norms[number]));
            let off = _mm512_add_ps(off, _mm512_set1_ps(self.slacks[number]));
            let upper = _mm512_add_ps(score, off);
            let threshold = _mm512_set1_ps(thresholds[number]);
            reached[number] = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(upper, threshold);
        }
        reached
    }
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
    /// The tiles of this thread, if there are any. Nobody else may have configured them: the engine
    /// lets its own go before it returns.
    pub(crate) fn configure() -> Option<Self> {
        // SAFETY: as just found out.
        usable().then(|| unsafe { Self::configure_all() })
    }

    /// # Safety
    ///
    /// There are tiles ([`in_cpu`], [`permitted`]).
    unsafe fn configure_all() -> Self {
        let mut configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        configuration.row_bytes[..8].fill(ROW_BYTES as u16);
        configuration.rows[..8].fill(TILE as u8);
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

    /// The sums of products of a group's codes and those of two blocks of rows.
    pub(super) fn sums(
        &self,
        queries: &TiledQueries,
        group: usize,
        blocks: [&[u8]; 2],
        sums: &mut [Sums; 2],
    ) {
        let queries_of_group = queries.group(group);
        let bytes = queries.width * BLOCK;
        assert_eq!(blocks.map(<[u8]>::len), [bytes; 2], "rows of another width");
        // SAFETY: a group has two tiles of `width` bytes a row, the blocks have as many steps, and
        // each half of the sums is two tiles; `self` says that the tiles are configured.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm6, [{first} + {line}*1]",
                "tileloadd tmm4, [{low} + {width}*1]",
                "tdpbsud tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{high} + {width}*1]",
                "tdpbsud tmm1, tmm5, tmm6",
                "tileloadd tmm7, [{second} + {line}*1]",
                "tdpbsud tmm2, tmm4, tmm7",
                "tdpbsud tmm3, tmm5, tmm7",
                "add {low}, 64",
                "add {high}, 64",
                "add {first}, 1024",
                "add {second}, 1024",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{sums} + {line}*1], tmm0",
                "tilestored [{sums} + {line}*1 + 1024], tmm1",
                "tilestored [{sums} + {line}*1 + 2048], tmm2",
                "tilestored [{sums} + {line}*1 + 3072], tmm3",
                low = inout(reg) queries_of_group.as_ptr() => _,
                high = inout(reg) queries_of_group.as_ptr().add(TILE * queries.width) => _,
                width = in(reg) queries.width,
                first = inout(reg) blocks[0].as_ptr() => _,
                second = inout(reg) blocks[1].as_ptr() => _,
                line = in(reg) ROW_BYTES,
                steps = inout(reg) queries.width / ROW_BYTES => _,
                sums = in(reg) sums.as_mut_ptr(),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the tiles exist, since they were configured on this thread. Released, they cost
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

/// Compares small sums with the plain definition: a machine (or an emulator beneath it) that says it
/// has tiles and calculates something else is not believed.
///
/// # Safety
///
/// There are tiles ([`in_cpu`], [`permitted`]).
unsafe fn agrees() -> bool {
    // SAFETY: the caller's.
    let tiles = unsafe { Tiles::configure_all() };
    let width = 2 * ROW_BYTES;
    // 7 and 5 keep rows and columns from looking alike; both signs, and bytes beyond the signed ones.
    let query = |number: usize, at: usize| ((number * 7 + at * 5) % 255) as i32 - 127;
    let row = |number: usize, at: usize| ((number * 5 + at * 7) % 256) as i32;
    let mut queries = TiledQueries {
        width,
        codes: Vec::with_capacity(GROUP * width),
    };
    for number in 0..GROUP {
        let codes = (0..width).map(|at| query(number, at) as u8);
        queries.codes.extend(codes);
    }
    let block = |first: usize| -> Vec<u8> {
        let mut block = vec![0; width * BLOCK];
        for (index, byte) in block.iter_mut().enumerate() {
            let (step, lane, at) = (index / ROW_BYTES, index / STEP % BLOCK, index % STEP);
            *byte = row(first + lane, step * STEP + at) as u8;
        }
        block
    };
    let blocks = [block(0), block(BLOCK)];
    let mut sums = [[[0; BLOCK]; GROUP]; 2];
    tiles.sums(&queries, 0, blocks.each_ref().map(Vec::as_slice), &mut sums);
    (0..2 * GROUP * BLOCK).all(|index| {
        let (half, number, lane) = (
            index / (GROUP * BLOCK),
            index / BLOCK % GROUP,
            index % BLOCK,
        );
        let products = (0..width).map(|at| query(number, at) * row(half * BLOCK + lane, at));
        sums[half][number][lane] == products.sum::<i32>()
    })
}
