//! Answers that run in circles: small models say the same words again without an end.

/// Longest circle in tokens.
const LONGEST: usize = 64;

/// Tokens that must have come again in the same order.
const ENOUGH: usize = 128;

/// Watches an answer grow.
#[derive(Debug)]
pub(super) struct Circles {
    /// For each length of a circle, how many tokens in a row are those of so many tokens before.
    runs: [usize; LONGEST],
}

impl Default for Circles {
    fn default() -> Self {
        Self { runs: [0; LONGEST] }
    }
}

impl Circles {
    /// Sees the last of `ids`, the answer's tokens.
    pub(super) fn push(&mut self, ids: &[u32]) {
        for (length, run) in (1..).zip(&mut self.runs) {
            let last = ids.len().checked_sub(1);
            let before = last.and_then(|last| last.checked_sub(length));
            let is_again = before.is_some_and(|before| ids.last() == ids.get(before));
            *run = if is_again { *run + 1 } else { 0 };
        }
    }

    /// True if the answer does nothing but repeat itself: at least twice in full.
    pub(super) fn is_closed(&self) -> bool {
        let mut runs = (1..).zip(self.runs);
        runs.any(|(length, run)| run >= ENOUGH.max(2 * length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closes(ids: impl Iterator<Item = u32>) -> Option<usize> {
        let (mut circles, mut seen) = (Circles::default(), Vec::new());
        for id in ids {
            seen.push(id);
            circles.push(&seen);
            if circles.is_closed() {
                return Some(seen.len());
            }
        }
        None
    }

    #[test]
    fn repetitions_are_circles_and_other_texts_are_not() {
        assert_eq!(closes((0..400).map(|_| 7)), Some(1 + ENOUGH));
        assert_eq!(closes((0..400).map(|at| at % 9)), Some(9 + ENOUGH));
        assert_eq!(closes((0..400).map(|at| at % 64)), Some(64 + ENOUGH));
        // Too long a circle, and lists of numbers that go up.
        assert_eq!(closes((0..400).map(|at| at % 65)), None);
        assert_eq!(
            closes((0..4000).map(|at| if at % 2 == 0 { 1 } else { at })),
            None
        );
    }
}
