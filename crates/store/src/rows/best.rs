//! The best rows of a pass.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Nearest;

/// The best candidates so far; the worst of them lies on top of the heap.
pub(super) struct Best {
    top_k: usize,
    heap: BinaryHeap<Candidate>,
}

impl Best {
    pub(super) fn new(top_k: usize) -> Self {
        Self {
            top_k,
            heap: BinaryHeap::new(),
        }
    }

    #[inline]
    pub(super) fn offer(&mut self, candidate: Candidate) {
        if self.heap.len() < self.top_k {
            self.heap.push(candidate);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && candidate < *worst
        {
            *worst = candidate;
        }
    }

    /// Takes the best of both.
    pub(super) fn join(&mut self, other: Self) {
        for candidate in other.heap {
            self.offer(candidate);
        }
    }

    /// The worst score of a full heap: what a further row must reach.
    pub(super) fn worst(&self) -> Option<f32> {
        let worst = self.heap.peek()?;
        (self.heap.len() == self.top_k).then_some(worst.score)
    }

    pub(super) fn into_nearest(self) -> Nearest {
        let sorted = self.heap.into_sorted_vec();
        sorted
            .into_iter()
            .map(|candidate| (candidate.score, candidate.row))
            .collect()
    }
}

/// The best candidates so far, for more of them than are worth a heap: twice as many are kept before the
/// worse half is dropped.
pub(super) struct Many {
    count: usize,
    /// What a further row must reach: the worst of the best at the last dropping.
    threshold: f32,
    candidates: Vec<Candidate>,
}

impl Many {
    pub(super) fn new(count: usize) -> Self {
        Self {
            count,
            threshold: f32::NEG_INFINITY,
            candidates: Vec::with_capacity(2 * count),
        }
    }

    pub(super) fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Takes a candidate that reaches the threshold.
    #[inline]
    pub(super) fn offer(&mut self, candidate: Candidate) {
        self.candidates.push(candidate);
        if self.candidates.len() >= 2 * self.count {
            self.drop_worse();
        }
    }

    /// Takes those of both.
    pub(super) fn join(&mut self, other: Self) {
        self.candidates.extend(other.candidates);
    }

    /// The best rows, in no order.
    pub(super) fn into_rows(mut self) -> Vec<usize> {
        self.drop_worse();
        let candidates = self.candidates.into_iter();
        candidates.map(|candidate| candidate.row).collect()
    }

    fn drop_worse(&mut self) {
        if self.candidates.len() > self.count && self.count > 0 {
            let (_, worst, _) = self.candidates.select_nth_unstable(self.count - 1);
            self.threshold = worst.score;
        }
        self.candidates.truncate(self.count);
    }
}

/// A row with its score; the smaller is the better one.
pub(super) struct Candidate {
    pub(super) score: f32,
    pub(super) rank: u32,
    pub(super) row: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .score
            .total_cmp(&self.score)
            .then(self.rank.cmp(&other.rank))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}
