//! Fills chunks with the atoms of a section.

use std::ops::Range;

use super::atoms::Atom;

/// Ranges of `atoms`, in order and together all of them, each within `size` tokens; the next range
/// may begin with the last atoms of the one before, at most `overlap` tokens of them.
pub(super) fn pack(atoms: &[Atom], size: usize, overlap: usize) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut remaining: usize = atoms.iter().map(|atom| atom.tokens).sum();
    let mut fresh = 0;
    while fresh < atoms.len() {
        let start = if fresh == 0 {
            0
        } else {
            repeat_from(atoms, fresh, size, overlap)
        };
        let repeated: usize = atoms[start..fresh].iter().map(|atom| atom.tokens).sum();
        // Even shares: 260 tokens make two chunks of 130, not one of 256 and one of 4.
        let room = size - repeated.min(size);
        let share = (remaining).div_ceil(remaining.div_ceil(room.max(1)).max(1));
        let end = fill(atoms, fresh, room, share);
        remaining -= atoms[fresh..end]
            .iter()
            .map(|atom| atom.tokens)
            .sum::<usize>();
        ranges.push(start..end);
        fresh = end;
    }
    ranges
}

/// Where the chunk that begins with `atoms[first]` ends.
fn fill(atoms: &[Atom], first: usize, room: usize, share: usize) -> usize {
    let mut tokens = atoms[first].tokens;
    let mut end = first + 1;
    // The last place where a block ends, if the chunk is at least half of its share by then.
    let mut seam = None;
    while end < atoms.len() {
        let next = &atoms[end];
        if next.opens_block && tokens * 2 >= share && !atoms[end - 1].is_heading {
            seam = Some(end);
        }
        if tokens + next.tokens > room {
            return seam.unwrap_or(end);
        }
        // Enough for this share: cut here, or at the block's end if that is near.
        if tokens >= share && (next.opens_block || tokens * 4 >= share * 5) {
            return end;
        }
        tokens += next.tokens;
        end += 1;
    }
    end
}

/// The first of the last atoms before `fresh` that fit into `overlap`, and with the next into `size`.
fn repeat_from(atoms: &[Atom], fresh: usize, size: usize, overlap: usize) -> usize {
    let room = overlap.min(size.saturating_sub(atoms[fresh].tokens));
    let mut start = fresh;
    let mut tokens = 0;
    while start > 0 && tokens + atoms[start - 1].tokens <= room && !atoms[start - 1].is_heading {
        tokens += atoms[start - 1].tokens;
        start -= 1;
    }
    start
}
