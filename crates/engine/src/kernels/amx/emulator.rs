//! AMX in software, so that the machine code of the kernels is tested on CPUs without tiles too.
//!
//! Such a CPU refuses each tile instruction (`#UD`, which Linux delivers as `SIGILL`). The handler
//! decodes the few forms that the kernels use, as Intel's manual (volume 2, chapter 3, "AMX") and
//! its VEX tables give them, carries them out on tiles of the thread, and steps over them. It checks
//! the manual's conditions and that memory outside the lent ranges is left alone; a breach ends the
//! process. All of it is safe in a signal handler: no allocation, no lock, no panic path taken.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::ops::Range;
use std::sync::Once;

use super::{ROW_BYTES, TILE, agrees, usable};

/// The tiles of a thread.
struct Tiles {
    rows: [u8; 8],
    row_bytes: [u16; 8],
    data: [[[u8; ROW_BYTES]; TILE]; 8],
    configured: bool,
    /// Memory that loads (and stores, if true) may touch besides the stack.
    lent: [(usize, usize, bool); 4],
    executed: usize,
}

thread_local! {
    // Constant and without a destructor, so the handler finds plain memory.
    static TILES: UnsafeCell<Tiles> = const {
        UnsafeCell::new(Tiles {
            rows: [0; 8],
            row_bytes: [0; 8],
            data: [[[0; ROW_BYTES]; TILE]; 8],
            configured: false,
            lent: [(0, 0, false); 4],
            executed: 0,
        })
    };
}

/// Makes tile instructions work in this process: true if by emulation, false if the CPU has them.
pub(crate) fn install() -> bool {
    static INSTALLED: Once = Once::new();
    if usable() {
        return false;
    }
    INSTALLED.call_once(|| {
        // SAFETY: zero is a valid `sigaction`; the handler has the signature of SA_SIGINFO. It runs
        // on the thread's own stack, for a signal that only an instruction of that thread raises.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_illegal_instruction as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGILL, &raw const action, std::ptr::null_mut())
        };
        assert_eq!(result, 0, "SIGILL has no handler");
    });
    true
}

/// Lends these ranges of addresses, true for stores too, to this thread's next tile instructions.
pub(crate) fn lend(ranges: [(Range<usize>, bool); 4]) {
    let lent = ranges.map(|(range, store)| (range.start, range.end, store));
    // SAFETY: this thread's, and no tile instruction runs meanwhile.
    TILES.with(|tiles| unsafe { (*tiles.get()).lent = lent });
}

/// Tile instructions emulated on this thread so far.
pub(crate) fn executed() -> usize {
    // SAFETY: as in `lend`.
    TILES.with(|tiles| unsafe { (*tiles.get()).executed })
}

extern "C" fn on_illegal_instruction(
    _: libc::c_int,
    _: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    // SAFETY: the kernel passes the thread's registers; nobody else holds the tiles, since the thread
    // is stopped at an instruction outside of this module.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        match decode(registers) {
            Some(instruction) => {
                TILES.with(|tiles| {
                    (*tiles.get()).executed += 1;
                    execute(&mut *tiles.get(), &instruction);
                });
                registers[libc::REG_RIP as usize] += instruction.length as i64;
            }
            None => {
                // Not ours: the instruction runs again and ends the process as it would have.
                libc::signal(libc::SIGILL, libc::SIG_DFL);
            }
        }
    }
}

/// What is encoded in an instruction of the tiles.
struct Instruction {
    /// VEX.pp (0 none, 1 = 66, 2 = F3, 3 = F2) and the opcode.
    operation: (u8, u8),
    length: usize,
    /// ModRM.reg, ModRM.rm and VEX.vvvv as tiles.
    tiles: [usize; 3],
    /// The address and the stride of a memory operand; `None` for registers.
    memory: Option<(usize, usize)>,
    stack: usize,
}

/// The number of a general register to its place in `gregs`.
const REGISTERS: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// The instruction at `RIP`, if it is one of a tile.
///
/// # Safety
///
/// `RIP` points to an instruction.
unsafe fn decode(registers: &[i64; 23]) -> Option<Instruction> {
    let value = |number: usize| registers[REGISTERS[number] as usize] as usize;
    let code = registers[libc::REG_RIP as usize] as *const u8;
    // SAFETY: each byte is read only after those before it said that it belongs to the instruction.
    let byte = |at: usize| unsafe { code.add(at).read() };
    // Three-byte VEX, map 0F38, W0, 128 bits, destination among the first eight.
    if byte(0) != 0xC4 || byte(1) & 0x9F != 0x82 || byte(2) & 0x84 != 0 {
        return None;
    }
    let (extend_index, extend_base) = (byte(1) & 0x40 == 0, byte(1) & 0x20 == 0);
    let (vvvv, prefix, opcode, modrm) = (!byte(2) >> 3 & 15, byte(2) & 3, byte(3), byte(4));
    if !matches!(opcode, 0x49 | 0x4B | 0x5C | 0x5E) || vvvv > 7 {
        return None;
    }
    let (mode, rm) = (modrm >> 6, usize::from(modrm & 7));
    let tiles = [usize::from(modrm >> 3 & 7), rm, usize::from(vvvv)];
    let (mut length, mut memory) = (5, None);
    if mode != 3 {
        let (mut base, mut stride) = (rm, 0);
        if rm == 4 {
            let sib = byte(5);
            length += 1;
            base = usize::from(sib & 7);
            let index = usize::from(sib >> 3 & 7) + 8 * usize::from(extend_index);
            if index != 4 {
                stride = value(index) << (sib >> 6);
            }
        }
        if mode == 0 && base == 5 {
            return None; // Relative to RIP or without a base: not what our code says.
        }
        let mut address = value(base + 8 * usize::from(extend_base));
        if mode == 1 {
            address = address.wrapping_add(byte(length) as i8 as usize);
            length += 1;
        } else if mode == 2 {
            let bytes = std::array::from_fn(|i| byte(length + i));
            address = address.wrapping_add(i32::from_le_bytes(bytes) as usize);
            length += 4;
        }
        memory = Some((address, stride));
    }
    Some(Instruction {
        operation: (prefix, opcode),
        length,
        tiles,
        memory,
        stack: value(4),
    })
}

/// # Safety
///
/// Memory operands lie in live memory, which the checks ensure for rows of tiles.
unsafe fn execute(tiles: &mut Tiles, instruction: &Instruction) {
    let [first, second, third] = instruction.tiles;
    let needs = |yes: bool, what| {
        if !yes {
            end(what);
        }
    };
    // SAFETY: the caller's.
    unsafe {
        match (instruction.operation, instruction.memory) {
            ((0, 0x49), Some((address, _))) => load_configuration(tiles, address),
            ((0, 0x49), None) => {
                tiles.configured = false;
                (tiles.rows, tiles.row_bytes) = ([0; 8], [0; 8]);
            }
            ((3, 0x49), None) => {
                needs(tiles.configured, "tilezero of no tile");
                tiles.data[first] = [[0; ROW_BYTES]; TILE];
            }
            ((1 | 3, 0x4B), Some(_)) => each_row(tiles, instruction, false),
            ((2, 0x4B), Some(_)) => each_row(tiles, instruction, true),
            ((pp @ 1, 0x5E) | (pp @ 2, 0x5C), None) => {
                let same = first == second || first == third || second == third;
                needs(tiles.configured && !same, "product of no or equal tiles");
                let shape = |tile: usize| (tiles.rows[tile], tiles.row_bytes[tile]);
                let (c, a, b) = (shape(first), shape(second), shape(third));
                let fits = c.0 == a.0 && c.1 == b.1 && u16::from(b.0) == a.1 / 4;
                needs(
                    fits && c.0 > 0 && c.1 > 0 && a.1 > 0,
                    "product of unlike tiles",
                );
                if pp == 1 {
                    products_of_bytes(tiles, [first, second, third]);
                } else {
                    products_of_bf16(tiles, [first, second, third]);
                }
            }
            _ => end("a form of instruction that the emulator does not know"),
        }
    }
}

/// # Safety
///
/// 64 bytes may be read at `address`.
unsafe fn load_configuration(tiles: &mut Tiles, address: usize) {
    // SAFETY: the caller's.
    let bytes = unsafe { (address as *const [u8; 64]).read_unaligned() };
    let reserved = bytes[2..16]
        .iter()
        .chain(&bytes[32..48])
        .chain(&bytes[56..]);
    let mut valid = bytes[0] == 1 && reserved.copied().all(|byte| byte == 0);
    for tile in 0..8 {
        tiles.rows[tile] = bytes[48 + tile];
        tiles.row_bytes[tile] = u16::from_le_bytes([bytes[16 + 2 * tile], bytes[17 + 2 * tile]]);
        valid &= tiles.rows[tile] <= 16 && tiles.row_bytes[tile] <= 64;
        valid &= (tiles.rows[tile] == 0) == (tiles.row_bytes[tile] == 0);
    }
    if !valid || bytes[1] != 0 {
        end("a configuration that the CPU refuses");
    }
    tiles.data = [[[0; ROW_BYTES]; TILE]; 8];
    tiles.configured = true;
}

/// Loads a tile's rows, or stores them.
///
/// # Safety
///
/// The lent ranges are live memory.
unsafe fn each_row(tiles: &mut Tiles, instruction: &Instruction, store: bool) {
    let (Some((address, stride)), tile) = (instruction.memory, instruction.tiles[0]) else {
        return;
    };
    let (rows, bytes) = (
        usize::from(tiles.rows[tile]),
        usize::from(tiles.row_bytes[tile]),
    );
    if !tiles.configured || rows == 0 {
        end("load or store of no tile");
    }
    if !store {
        tiles.data[tile] = [[0; ROW_BYTES]; TILE];
    }
    for row in 0..rows {
        let at = address.wrapping_add(row.wrapping_mul(stride));
        // What the caller keeps on the stack is its own; its frame is smaller than this.
        let on_stack = (instruction.stack..instruction.stack + (64 << 10)).contains(&at);
        let lent = tiles.lent.iter().any(|(start, end, writable)| {
            *start <= at && at + bytes <= *end && (*writable || !store)
        });
        if !on_stack && !lent {
            end("a tile beyond the memory given");
        }
        let data = tiles.data[tile][row].as_mut_ptr();
        // SAFETY: lent memory, or the stack's; a tile's row holds 64 bytes.
        unsafe {
            if store {
                (at as *mut u8).copy_from_nonoverlapping(data, bytes);
            } else {
                data.copy_from_nonoverlapping(at as *const u8, bytes);
            }
        }
    }
}

fn word(row: &[u8; ROW_BYTES], index: usize) -> [u8; 4] {
    std::array::from_fn(|byte| row[index * 4 + byte])
}

/// `TDPBUSD`.
fn products_of_bytes(tiles: &mut Tiles, [c, a, b]: [usize; 3]) {
    let words = |tile: usize| usize::from(tiles.row_bytes[tile]) / 4;
    let (depth, columns) = (words(a), words(c));
    for m in 0..usize::from(tiles.rows[c]) {
        for n in 0..columns {
            let mut sum = i32::from_le_bytes(word(&tiles.data[c][m], n));
            for k in 0..depth {
                let (left, right) = (word(&tiles.data[a][m], k), word(&tiles.data[b][k], n));
                for (left, right) in left.into_iter().zip(right) {
                    sum = sum.wrapping_add(i32::from(left) * i32::from(right as i8));
                }
            }
            tiles.data[c][m][n * 4..][..4].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

/// `TDPBF16PS`: even and odd inputs are summed apart, then added to the tile.
fn products_of_bf16(tiles: &mut Tiles, [c, a, b]: [usize; 3]) {
    let flush = |value: f32| if value.is_subnormal() { 0.0 } else { value };
    let half = |word: [u8; 4], odd: usize| {
        flush(f32::from_le_bytes([0, 0, word[odd * 2], word[odd * 2 + 1]]))
    };
    let words = |tile: usize| usize::from(tiles.row_bytes[tile]) / 4;
    let (depth, columns) = (words(a), words(c));
    for m in 0..usize::from(tiles.rows[c]) {
        for n in 0..columns {
            let mut sums = [0.0_f32; 2];
            for k in 0..depth {
                let (left, right) = (word(&tiles.data[a][m], k), word(&tiles.data[b][k], n));
                for (odd, sum) in sums.iter_mut().enumerate() {
                    *sum = flush(half(left, odd).mul_add(half(right, odd), *sum));
                }
            }
            let own = flush(f32::from_le_bytes(word(&tiles.data[c][m], n)));
            let sum = flush(own + flush(sums[0] + sums[1]));
            tiles.data[c][m][n * 4..][..4].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

/// Says what is wrong and ends the process: a panic could not leave the handler.
fn end(what: &str) -> ! {
    // SAFETY: both calls are allowed in a handler; the pointer and length are a string's.
    unsafe {
        for text in ["AMX emulator: ", what, "\n"] {
            libc::write(2, text.as_ptr().cast(), text.len());
        }
        libc::abort()
    }
}

#[test]
fn the_self_check_agrees() {
    install();
    let before = executed();
    // SAFETY: the instructions work, by hardware or by emulation.
    assert!(unsafe { agrees() });
    assert_eq!(executed() > before, !usable());
}
